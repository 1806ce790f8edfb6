// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package storage serves PrefixAllocations from etcd.
package storage

import (
	"context"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/garbagecollection"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/mainresource"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixallocation"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

var (
	_ rest.StandardStorage    = &REST{}
	_ rest.ShortNamesProvider = &REST{}
	_ rest.CategoriesProvider = &REST{}
	_ rest.NamedCreater       = &BindingREST{}
	_ rest.StorageMetadata    = &BindingREST{}
)

// Storage is what is served of PrefixAllocations.
type Storage struct {
	PrefixAllocation *REST
	Status           *status.REST
	Binding          *BindingREST
}

// New returns the storage of PrefixAllocations and of their subresources. familyOf is asked for the
// family of the Prefix that an allocation refers to.
func New(scheme *runtime.Scheme, optsGetter generic.RESTOptionsGetter, familyOf prefixallocation.FamilyFunc) (*Storage, error) {
	strategy := prefixallocation.NewStrategy(scheme, familyOf)
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return &ipam.PrefixAllocation{} },
		NewListFunc:               func() runtime.Object { return &ipam.PrefixAllocationList{} },
		PredicateFunc:             prefixallocation.Match,
		DefaultQualifiedResource:  ipam.Resource("prefixallocations"),
		SingularQualifiedResource: ipam.Resource("prefixallocation"),
		CreateStrategy:            strategy,
		UpdateStrategy:            strategy,
		DeleteStrategy:            strategy,
		ResetFieldsStrategy:       strategy,
		TableConvertor:            tableConvertor,
	}
	if err := store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: optsGetter, AttrFunc: prefixallocation.GetAttrs}); err != nil {
		return nil, fmt.Errorf("prefixallocations: %w", err)
	}

	if !store.EnableGarbageCollection {
		garbagecollection.Disable(store)
	}

	bindingStore := *store
	bindingStore.UpdateStrategy = prefixallocation.BindingStrategy{Strategy: strategy}

	return &Storage{
		PrefixAllocation: &REST{mainresource.REST{Store: store, Getter: optsGetter}},
		Status:           status.NewREST(store, optsGetter, prefixallocation.StatusStrategy{Strategy: strategy}),
		Binding:          &BindingREST{&bindingStore, optsGetter},
	}, nil
}

// REST serves the main resource.
type REST struct{ mainresource.REST }

// ShortNames implements rest.ShortNamesProvider.
func (*REST) ShortNames() []string { return []string{"pfxa"} }

// Categories implements rest.CategoriesProvider.
func (*REST) Categories() []string { return []string{"ipam"} }

// BindingREST serves the binding subresource: one write that allocates.
type BindingREST struct {
	store      *genericregistry.Store
	optsGetter generic.RESTOptionsGetter
}

// New implements rest.Storage.
func (r *BindingREST) New() runtime.Object { return &ipam.PrefixAllocationBinding{} }

// Destroy implements rest.Storage. The main resource owns the store.
func (r *BindingREST) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (r *BindingREST) ProducesMIMETypes(string) []string { return nil }

// ProducesObject implements rest.StorageMetadata: a binding answers with the PrefixAllocation.
func (r *BindingREST) ProducesObject(string) any { return v1alpha1.PrefixAllocation{} }

// Create implements rest.NamedCreater. A binding that repeats what already holds succeeds, so that
// a lost answer can be asked for again; one that contradicts it is a conflict.
func (r *BindingREST) Create(ctx context.Context, name string, obj runtime.Object, createValidation rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	binding, ok := obj.(*ipam.PrefixAllocationBinding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a PrefixAllocationBinding: %T", obj))
	}
	if err := validation.CheckBindingMeta(binding.Metadata, genericapirequest.NamespaceValue(ctx), name); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := validation.ValidatePrefixAllocationBinding(binding); len(errs) > 0 {
		return nil, apierrors.NewInvalid(ipam.Kind("PrefixAllocationBinding"), name, errs)
	}
	if createValidation != nil {
		if err := createValidation(ctx, binding.DeepCopyObject()); err != nil {
			return nil, err
		}
	}

	bind := func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		allocation := old.DeepCopyObject().(*ipam.PrefixAllocation)
		if err := checkBindable(allocation, binding); err != nil {
			return nil, apierrors.NewConflict(ipam.Resource("prefixallocations"), name, err)
		}
		allocation.Spec.PrefixRef = &ipam.LocalObjectReference{Name: binding.PrefixRef.Name}
		if parsed, err := cidr.ParseStored(binding.Prefix); err == nil && allocation.Spec.IPFamily == "" {
			allocation.Spec.IPFamily = ipam.IPFamily(cidr.FamilyOf(parsed))
		}
		allocation.Status.Prefix = binding.Prefix
		allocation.Status.Phase = ipam.PrefixAllocationPhaseAllocated
		return allocation, nil
	}
	result, _, err := r.store.Update(claims.WithParentUID(ctx, binding.PrefixRef.UID), name, rest.DefaultUpdatedObjectInfo(nil, bind),
		rest.ValidateAllObjectFunc, claims.OnDryRun(r.optsGetter, options.DryRun, rest.ValidateAllObjectUpdateFunc), false,
		&metav1.UpdateOptions{DryRun: options.DryRun, FieldManager: options.FieldManager})
	return result, err
}

// checkBindable tells why the binding contradicts the PrefixAllocation as it is.
func checkBindable(allocation *ipam.PrefixAllocation, binding *ipam.PrefixAllocationBinding) error {
	ref := allocation.Spec.PrefixRef
	switch {
	case binding.Metadata.UID != "" && binding.Metadata.UID != allocation.UID:
		return fmt.Errorf("the binding is for uid %s, but this PrefixAllocation has uid %s", binding.Metadata.UID, allocation.UID)
	case allocation.Status.Phase == ipam.PrefixAllocationPhaseFailed:
		return fmt.Errorf("the PrefixAllocation has failed")
	case allocation.Status.Phase == ipam.PrefixAllocationPhaseAllocated &&
		(!cidr.Equal(allocation.Status.Prefix, binding.Prefix) || ref == nil || ref.Name != binding.PrefixRef.Name):
		return fmt.Errorf("%s is already allocated to it", allocation.Status.Prefix)
	case allocation.Status.Phase == ipam.PrefixAllocationPhasePending && allocation.DeletionTimestamp != nil:
		return fmt.Errorf("the PrefixAllocation is being deleted")
	}
	return nil
}
