// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/watchbuffer"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

var (
	_ rest.StandardStorage    = &MainREST{}
	_ rest.ShortNamesProvider = &MainREST{}
	_ rest.CategoriesProvider = &MainREST{}
)

// MainREST implements the main resource of a kind. It is a generic store, with two additions: a dry run also reports
// the errors of the storage transaction, and watches are buffered (see package watchbuffer).
type MainREST struct {
	*genericregistry.Store
	planner    *claims.Planner
	shortNames []string
	// allow is Strategies.Allow.
	allow rest.ValidateObjectUpdateFunc
	// cooler makes the space of deleted objects cool down. It is nil for kinds that hold none.
	cooler *cooler
}

// ShortNames implements rest.ShortNamesProvider.
func (r *MainREST) ShortNames() []string { return r.shortNames }

// Categories implements rest.CategoriesProvider.
func (*MainREST) Categories() []string { return []string{"ipam"} }

// List implements rest.Lister.
//
// If a field selector requires one namespace, List limits the request to that namespace. The generic store does the
// same, but only for the first page. The continue token of a page is relative to the range of keys that the page
// covers, so the second page would start at the wrong key, and the list would end early without an error.
func (r *MainREST) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	if options != nil && options.FieldSelector != nil && genericapirequest.NamespaceValue(ctx) == "" {
		if namespace, ok := options.FieldSelector.RequiresExactMatch("metadata.namespace"); ok {
			ctx = genericapirequest.WithNamespace(ctx, namespace)
		}
	}
	return r.Store.List(ctx, options)
}

// Watch implements rest.Watcher.
func (r *MainREST) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return watchbuffer.New(ctx, options, r.Store.Watch)
}

// Update implements rest.Updater.
func (r *MainREST) Update(ctx context.Context, name string, objInfo rest.UpdatedObjectInfo, createValidation rest.ValidateObjectFunc,
	updateValidation rest.ValidateObjectUpdateFunc, forceAllowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	updateValidation = r.planner.OnDryRun(options.DryRun, and(updateValidation, r.allow))
	return r.Store.Update(ctx, name, objInfo, createValidation, updateValidation, forceAllowCreate, options)
}

// Delete implements rest.GracefulDeleter.
func (r *MainREST) Delete(ctx context.Context, name string, deleteValidation rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	validate := r.onDryRun(deleteValidation, options)
	if r.cooler == nil {
		return r.Store.Delete(ctx, name, validate, options)
	}
	return r.cooler.delete(ctx, name, validate, options)
}

// DeleteCollection implements rest.CollectionDeleter. It does not make space cool down: it is how the cluster empties a
// namespace that is being deleted, which would have to wait for it.
func (r *MainREST) DeleteCollection(ctx context.Context, deleteValidation rest.ValidateObjectFunc, options *metav1.DeleteOptions, listOptions *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.Store.DeleteCollection(claims.WithEarlyRelease(ctx), r.onDryRun(deleteValidation, options), options, listOptions)
}

func (r *MainREST) onDryRun(validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) rest.ValidateObjectFunc {
	if options == nil {
		return validate
	}
	return r.planner.OnDryRunDelete(options.DryRun, validate)
}
