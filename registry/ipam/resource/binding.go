// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"cmp"
	"context"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

var (
	_ rest.NamedCreater    = &BindingREST[runtime.Object, runtime.Object]{}
	_ rest.StorageMetadata = &BindingREST[runtime.Object, runtime.Object]{}
)

// Binder defines how objects of type T are bound by bindings of type B.
type Binder[B, T runtime.Object] struct {
	// BindingKind is the kind of the binding. Kind is the kind of the object.
	BindingKind, Kind string
	// New returns an empty binding.
	New func() B
	// Answer is a value of the external type of the object, for the OpenAPI description of the response.
	Answer any
	// Meta returns the metadata of a binding and the UID that the parent must have. The UID is empty if any parent with
	// the name is accepted.
	Meta func(binding B) (ipam.BindingMeta, types.UID)
	// Validate returns the errors in a binding that is posted for the named object.
	Validate func(binding B, name string) field.ErrorList
	// Bind applies a binding to the object. It returns an error if the binding contradicts the current state of the
	// object.
	Bind func(binding B, object T) error
}

// BindingREST implements the binding subresource of a kind. It writes spec and status in one update.
type BindingREST[B, T runtime.Object] struct {
	binder  Binder[B, T]
	store   *genericregistry.Store
	planner *claims.Planner
	// allow is Strategies.Allow.
	allow rest.ValidateObjectUpdateFunc
}

// New implements rest.Storage.
func (r *BindingREST[B, T]) New() runtime.Object { return r.binder.New() }

// Destroy implements rest.Storage. The main resource owns the store.
func (r *BindingREST[B, T]) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (r *BindingREST[B, T]) ProducesMIMETypes(string) []string { return nil }

// ProducesObject implements rest.StorageMetadata. The response to a binding is the bound object.
func (r *BindingREST[B, T]) ProducesObject(string) any { return r.binder.Answer }

// Create implements rest.NamedCreater. It is idempotent: a binding that repeats the current state succeeds, so a client
// can retry if it received no response. A binding that contradicts the current state fails with a Conflict.
func (r *BindingREST[B, T]) Create(ctx context.Context, name string, obj runtime.Object, createValidation rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	binding, ok := obj.(B)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a %s: %T", r.binder.BindingKind, obj))
	}
	bindingMeta, parentUID := r.binder.Meta(binding)
	if err := validation.CheckBindingMeta(bindingMeta, genericapirequest.NamespaceValue(ctx), name); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := r.binder.Validate(binding, name); len(errs) > 0 {
		return nil, apierrors.NewInvalid(ipam.Kind(r.binder.BindingKind), name, errs)
	}
	if createValidation != nil {
		if err := createValidation(ctx, binding.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	bind := func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		object := old.DeepCopyObject().(T)
		if err := r.bind(binding, bindingMeta.UID, object); err != nil {
			return nil, apierrors.NewConflict(r.store.DefaultQualifiedResource, name, err)
		}
		return object, nil
	}
	result, _, err := r.store.Update(claims.WithParentUID(ctx, parentUID), name, rest.DefaultUpdatedObjectInfo(nil, bind),
		rest.ValidateAllObjectFunc, r.planner.OnDryRun(options.DryRun, and(rest.ValidateAllObjectUpdateFunc, r.allow)), false,
		&metav1.UpdateOptions{DryRun: options.DryRun, FieldManager: options.FieldManager})
	return result, err
}

// CheckNamespace returns an error if a binding names a parent of another namespace than the object asks for. bound is the
// namespace in the binding; if it is empty, the binding means a parent in the namespace of the object.
func CheckNamespace(own, wanted, bound string) error {
	if bound = cmp.Or(bound, own); bound != wanted {
		return fmt.Errorf("it asks for a parent in namespace %s, not in %s", wanted, bound)
	}
	return nil
}

// bind applies a binding to an object. It fails if the binding has a UID that is not that of the object.
func (r *BindingREST[B, T]) bind(binding B, uid types.UID, object T) error {
	objectMeta, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	if uid != "" && uid != objectMeta.GetUID() {
		return fmt.Errorf("the binding is for uid %s, but this %s has uid %s", uid, r.binder.Kind, objectMeta.GetUID())
	}
	return r.binder.Bind(binding, object)
}
