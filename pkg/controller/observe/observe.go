// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package observe reduces the events of informers to two typed callbacks: an object exists, or it is gone. It also reads
// their indexes.
package observe

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/tools/cache"
)

// Handler returns an event handler. It calls seen when an object is added or updated, with its previous version (nil for
// a new object) and its current version. It calls gone with the last known version of an object that was deleted.
//
// If an object was deleted and created again with the same name, the informer may deliver this as one update. The
// UIDs differ then, and Handler calls gone for the old object and seen for the new one.
func Handler[T interface {
	*O
	metav1.Object
}, O any](seen func(before, now T), gone func(T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { seen(nil, obj.(T)) },
		UpdateFunc: func(oldObj, newObj any) {
			before, now := oldObj.(T), newObj.(T)
			if before.GetUID() != now.GetUID() {
				gone(before)
				before = nil
			}
			seen(before, now)
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if t, ok := obj.(T); ok {
				gone(t)
			}
		},
	}
}

// NameOf returns the namespace and name of an object.
func NameOf(obj metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// ByIndex returns the objects with a key in an index of an informer, in any order. It panics if there is no such index.
func ByIndex[T any](indexer cache.Indexer, index, key string) []T {
	objs, err := indexer.ByIndex(index, key)
	utilruntime.Must(err)
	typed := make([]T, 0, len(objs))
	for _, obj := range objs {
		typed = append(typed, obj.(T))
	}
	return typed
}
