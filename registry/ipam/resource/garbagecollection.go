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

// withoutGarbageCollector makes a store remove the finalizers of the garbage collector, "orphan" and
// "foregroundDeletion", from objects that are deleted, and ignore the propagation policy of requests. Without a garbage
// collector nobody else removes these finalizers, and the objects would never go away.
//
// Call it after the store is completed and before its strategies are copied to subresources.
func withoutGarbageCollector(store *genericregistry.Store) {
	// The generic store handles these finalizers only if garbage collection is enabled.
	store.EnableGarbageCollection = true
	store.DeleteStrategy = deleteStrategy{store.DeleteStrategy}
	store.UpdateStrategy = updateStrategy{store.UpdateStrategy}
}

// deleteStrategy makes the store remove the finalizers when an object is deleted.
type deleteStrategy struct{ rest.RESTDeleteStrategy }

// DefaultGarbageCollectionPolicy implements rest.GarbageCollectionDeleteStrategy.
func (deleteStrategy) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	return rest.Unsupported
}

// updateStrategy removes the finalizers from objects that were already being deleted, for example before their data was
// moved here from a cluster.
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
