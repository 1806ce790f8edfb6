// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package mainresource serves the main resource of a kind.
package mainresource

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/watchbuffer"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

var _ rest.StandardStorage = REST{}

// REST is a generic store whose dry runs are refused what the transaction of the write would be refused.
type REST struct {
	*genericregistry.Store
	// Getter is the getter of REST options that the store was made with.
	Getter generic.RESTOptionsGetter
}

// List implements rest.Lister.
//
// A field selector that names one namespace narrows the list to it. The generic store does that, too, but for the first page
// only. The continue token of a page is relative to what that page covers, so the second page would begin at the wrong place,
// and the list would end early without an error.
func (r REST) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	if options != nil && options.FieldSelector != nil && genericapirequest.NamespaceValue(ctx) == "" {
		if namespace, ok := options.FieldSelector.RequiresExactMatch("metadata.namespace"); ok {
			ctx = genericapirequest.WithNamespace(ctx, namespace)
		}
	}
	return r.Store.List(ctx, options)
}

// Watch implements rest.Watcher.
func (r REST) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return watchbuffer.New(ctx, options, r.Store.Watch)
}

// Update implements rest.Updater.
func (r REST) Update(ctx context.Context, name string, objInfo rest.UpdatedObjectInfo, createValidation rest.ValidateObjectFunc,
	updateValidation rest.ValidateObjectUpdateFunc, forceAllowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	updateValidation = claims.OnDryRun(r.Getter, options.DryRun, updateValidation)
	return r.Store.Update(ctx, name, objInfo, createValidation, updateValidation, forceAllowCreate, options)
}

// Delete implements rest.GracefulDeleter.
func (r REST) Delete(ctx context.Context, name string, deleteValidation rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	return r.Store.Delete(ctx, name, r.onDryRun(deleteValidation, options), options)
}

// DeleteCollection implements rest.CollectionDeleter.
func (r REST) DeleteCollection(ctx context.Context, deleteValidation rest.ValidateObjectFunc, options *metav1.DeleteOptions, listOptions *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.Store.DeleteCollection(ctx, r.onDryRun(deleteValidation, options), options, listOptions)
}

func (r REST) onDryRun(validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) rest.ValidateObjectFunc {
	if options == nil {
		return validate
	}
	return claims.OnDryRunDelete(r.Getter, options.DryRun, validate)
}
