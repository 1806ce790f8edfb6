// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
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

// Binder tells how objects of type T are bound by bindings of type B.
type Binder[B, T runtime.Object] struct {
	// BindingKind is the kind of the binding, and Kind that of the object.
	BindingKind, Kind string
	// New returns an empty binding.
	New func() B
	// Answer is a value of the wire type of the object.
	Answer any
	// Meta returns the metadata of a binding, and the uid that the parent must have, which is empty if any will do.
	Meta func(binding B) (ipam.BindingMeta, types.UID)
	// Validate returns what is wrong with a binding that is posted to the object with a name.
	Validate func(binding B, name string) field.ErrorList
	// Bind writes a binding into the object. An error says why the binding contradicts the object as it is.
	Bind func(binding B, object T) error
}

// BindingREST serves the binding subresource of a kind: one write that sets spec and status.
type BindingREST[B, T runtime.Object] struct {
	binder Binder[B, T]
	store  *genericregistry.Store
	claims *claims.Claims
}

// New implements rest.Storage.
func (r *BindingREST[B, T]) New() runtime.Object { return r.binder.New() }

// Destroy implements rest.Storage. The main resource owns the store.
func (r *BindingREST[B, T]) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (r *BindingREST[B, T]) ProducesMIMETypes(string) []string { return nil }

// ProducesObject implements rest.StorageMetadata: the answer to a binding is the object that is bound.
func (r *BindingREST[B, T]) ProducesObject(string) any { return r.binder.Answer }

// Create implements rest.NamedCreater. A binding that repeats what is true succeeds, so that a client whose answer was
// lost can send it again. One that contradicts what is true is a conflict.
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
		rest.ValidateAllObjectFunc, r.claims.OnDryRun(options.DryRun, rest.ValidateAllObjectUpdateFunc), false,
		&metav1.UpdateOptions{DryRun: options.DryRun, FieldManager: options.FieldManager})
	return result, err
}

// bind writes a binding into an object, which must have the uid that the binding says, if it says one.
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
