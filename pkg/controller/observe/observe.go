// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package observe turns the events of informers into what a controller wants to know.
package observe

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// Handler calls seen for an object as it was before, if it is not new, and as it is now, and gone
// for one that does not exist any more, as it was last known. An object that was created anew under
// the same name is another one: the old one is gone, also when the informer missed its deletion.
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

// NameOf returns namespace and name of an object.
func NameOf(obj metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}
