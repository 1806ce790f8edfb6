// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package storage serves Prefixes from etcd.
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
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefix"
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

// Storage is what is served of Prefixes.
type Storage struct {
	Prefix  *REST
	Status  *status.REST
	Binding *BindingREST
}

// New returns the storage of Prefixes and of their subresources.
func New(scheme *runtime.Scheme, optsGetter generic.RESTOptionsGetter) (*Storage, error) {
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return &ipam.Prefix{} },
		NewListFunc:               func() runtime.Object { return &ipam.PrefixList{} },
		PredicateFunc:             prefix.Match,
		DefaultQualifiedResource:  ipam.Resource("prefixes"),
		SingularQualifiedResource: ipam.Resource("prefix"),
		TableConvertor:            tableConvertor,
	}
	strategy := prefix.NewStrategy(scheme, func(ctx context.Context, name string) ipam.IPFamily {
		return familyOf(ctx, store, name)
	})
	store.CreateStrategy, store.UpdateStrategy, store.DeleteStrategy = strategy, strategy, strategy
	store.ResetFieldsStrategy = strategy
	if err := store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: optsGetter, AttrFunc: prefix.GetAttrs, Indexers: prefix.Indexers()}); err != nil {
		return nil, fmt.Errorf("prefixes: %w", err)
	}

	if !store.EnableGarbageCollection {
		garbagecollection.Disable(store)
	}

	bindingStore := *store
	bindingStore.UpdateStrategy = prefix.BindingStrategy{Strategy: strategy}

	return &Storage{
		Prefix:  &REST{mainresource.REST{Store: store, Getter: optsGetter}},
		Status:  status.NewREST(store, optsGetter, prefix.StatusStrategy{Strategy: strategy}),
		Binding: &BindingREST{&bindingStore, optsGetter},
	}, nil
}

// REST serves the main resource.
type REST struct{ mainresource.REST }

// ShortNames implements rest.ShortNamesProvider.
func (*REST) ShortNames() []string { return []string{"pfx"} }

// Categories implements rest.CategoriesProvider.
func (*REST) Categories() []string { return []string{"ipam"} }

// FamilyOf tells the family of the Prefix of a name, or "" if there is no such Prefix.
func (r *REST) FamilyOf(ctx context.Context, name string) ipam.IPFamily {
	return familyOf(ctx, r.Store, name)
}

// familyOf may answer from the watch cache: a family does not change, and a Prefix that the cache
// does not have yet is one that does not exist yet.
func familyOf(ctx context.Context, store *genericregistry.Store, name string) ipam.IPFamily {
	obj, err := store.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return ""
	}
	spec := &obj.(*ipam.Prefix).Spec
	if prefix, err := cidr.ParseStored(spec.Prefix); err == nil {
		// A stored prefix may mean another family than it is written in.
		return ipam.IPFamily(cidr.FamilyOf(prefix))
	}
	return spec.IPFamily
}

// BindingREST serves the binding subresource: one write that completes a child.
type BindingREST struct {
	store      *genericregistry.Store
	optsGetter generic.RESTOptionsGetter
}

// New implements rest.Storage.
func (r *BindingREST) New() runtime.Object { return &ipam.PrefixBinding{} }

// Destroy implements rest.Storage. The main resource owns the store.
func (r *BindingREST) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (r *BindingREST) ProducesMIMETypes(string) []string { return nil }

// ProducesObject implements rest.StorageMetadata: a binding answers with the Prefix.
func (r *BindingREST) ProducesObject(string) any { return v1alpha1.Prefix{} }

// Create implements rest.NamedCreater. A binding that repeats what already holds succeeds, so that
// a lost answer can be asked for again; one that contradicts it is a conflict.
func (r *BindingREST) Create(ctx context.Context, name string, obj runtime.Object, createValidation rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	binding, ok := obj.(*ipam.PrefixBinding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a PrefixBinding: %T", obj))
	}
	if err := validation.CheckBindingMeta(binding.Metadata, genericapirequest.NamespaceValue(ctx), name); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := validation.ValidatePrefixBinding(binding, name); len(errs) > 0 {
		return nil, apierrors.NewInvalid(ipam.Kind("PrefixBinding"), name, errs)
	}
	if createValidation != nil {
		if err := createValidation(ctx, binding.DeepCopyObject()); err != nil {
			return nil, err
		}
	}

	bind := func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		target := old.DeepCopyObject().(*ipam.Prefix)
		if err := checkBindable(target, binding); err != nil {
			return nil, apierrors.NewConflict(ipam.Resource("prefixes"), name, err)
		}
		target.Spec.Prefix = binding.Prefix
		target.Spec.ParentRef = &ipam.LocalObjectReference{Name: binding.ParentRef.Name}
		if parsed, err := cidr.ParseStored(binding.Prefix); err == nil && target.Spec.IPFamily == "" {
			target.Spec.IPFamily = ipam.IPFamily(cidr.FamilyOf(parsed))
		}
		target.Status.Phase = ipam.PrefixPhaseAllocated
		return target, nil
	}
	result, _, err := r.store.Update(claims.WithParentUID(ctx, binding.ParentRef.UID), name, rest.DefaultUpdatedObjectInfo(nil, bind),
		rest.ValidateAllObjectFunc, claims.OnDryRun(r.optsGetter, options.DryRun, rest.ValidateAllObjectUpdateFunc), false,
		&metav1.UpdateOptions{DryRun: options.DryRun, FieldManager: options.FieldManager})
	return result, err
}

// checkBindable tells why the binding contradicts the Prefix as it is.
func checkBindable(target *ipam.Prefix, binding *ipam.PrefixBinding) error {
	same := cidr.Equal(target.Spec.Prefix, binding.Prefix) &&
		target.Spec.ParentRef != nil && target.Spec.ParentRef.Name == binding.ParentRef.Name
	switch {
	case binding.Metadata.UID != "" && binding.Metadata.UID != target.UID:
		return fmt.Errorf("the binding is for uid %s, but this Prefix has uid %s", binding.Metadata.UID, target.UID)
	case target.Spec.IsRoot():
		return fmt.Errorf("a root Prefix is not allocated from a parent")
	case target.Status.Phase == ipam.PrefixPhaseAllocated && !same:
		return fmt.Errorf("the Prefix is already allocated, %s from %s", target.Spec.Prefix, target.Spec.ParentRef.Name)
	case target.Status.Phase != ipam.PrefixPhaseAllocated && target.DeletionTimestamp != nil:
		return fmt.Errorf("the Prefix is being deleted")
	}
	return nil
}
