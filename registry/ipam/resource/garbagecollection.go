// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

var (
	_ rest.GarbageCollectionDeleteStrategy = deleteStrategy{}
	_ rest.RESTUpdateStrategy              = updateStrategy{}
)

// withoutGarbageCollector makes a store take the finalizers of the garbage collector, "orphan" and "foregroundDeletion", off an object
// that is deleted, whoever set them, and ignore the propagation policy of the request. Without a garbage collector
// nobody else would, and the object would wait for ever.
//
// It is for a store that is complete, and before its strategies are copied to subresources.
func withoutGarbageCollector(store *genericregistry.Store) {
	// Only a store with garbage collection looks at these finalizers at all.
	store.EnableGarbageCollection = true
	store.DeleteStrategy = deleteStrategy{store.DeleteStrategy}
	store.UpdateStrategy = updateStrategy{store.UpdateStrategy}
}

// deleteStrategy makes the store take the finalizers off on deletion.
type deleteStrategy struct{ rest.RESTDeleteStrategy }

// DefaultGarbageCollectionPolicy implements rest.GarbageCollectionDeleteStrategy.
func (deleteStrategy) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	return rest.Unsupported
}

// updateStrategy takes the finalizers off an object that was being deleted before: in a cluster, say, whose data was
// moved here.
type updateStrategy struct{ rest.RESTUpdateStrategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (s updateStrategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	s.RESTUpdateStrategy.PrepareForUpdate(ctx, obj, old)
	object, err := meta.Accessor(obj)
	if err != nil || object.GetDeletionTimestamp() == nil {
		return
	}
	object.SetFinalizers(slices.DeleteFunc(object.GetFinalizers(), func(finalizer string) bool {
		return finalizer == metav1.FinalizerOrphanDependents || finalizer == metav1.FinalizerDeleteDependents
	}))
}
