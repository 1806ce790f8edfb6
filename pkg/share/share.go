// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package share has objects that are kept in memory share what they have in common. Each object that is decoded has its
// own copy of the same few words otherwise.
//
// What is shared must not be changed in place, as nothing must be that is in a cache.
package share

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxKnown bounds how many different values are known. Once there are more, all are forgotten: those that are common
// come back at once.
const maxKnown = 4096

// known has one of each value that was seen.
type known[V any] struct {
	mu     sync.RWMutex
	values map[string]V
}

func (k *known[V]) put(key string, value V) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.values == nil || len(k.values) >= maxKnown {
		k.values = map[string]V{}
	}
	k.values[key] = value
}

var (
	words  known[string]
	fields known[*metav1.FieldsV1]
)

// String replaces a string that many objects have by one that they share.
func String[S ~string](s *S) {
	if *s == "" {
		return
	}
	words.mu.RLock()
	common, ok := words.values[string(*s)]
	words.mu.RUnlock()
	if ok {
		*s = S(common)
		return
	}
	words.put(string(*s), string(*s))
}

// managedFields replaces fields that many objects have by those that they share.
func managedFields(f **metav1.FieldsV1) {
	raw := (*f).GetRawBytes()
	if len(raw) == 0 {
		return
	}
	fields.mu.RLock()
	// The compiler makes no string for that.
	common, ok := fields.values[string(raw)]
	fields.mu.RUnlock()
	if ok {
		*f = common
		return
	}
	fields.put(string(raw), *f)
}

// Meta has the metadata of an object share its namespace, finalizers, and kinds of owners, and who manages which fields.
func Meta(m *metav1.ObjectMeta) {
	String(&m.Namespace)
	for i := range m.Finalizers {
		String(&m.Finalizers[i])
	}
	for i := range m.OwnerReferences {
		String(&m.OwnerReferences[i].APIVersion)
		String(&m.OwnerReferences[i].Kind)
	}
	for i := range m.ManagedFields {
		entry := &m.ManagedFields[i]
		String(&entry.Manager)
		String(&entry.Operation)
		String(&entry.APIVersion)
		String(&entry.FieldsType)
		String(&entry.Subresource)
		if entry.FieldsV1 != nil {
			managedFields(&entry.FieldsV1)
		}
	}
}

// Conditions has conditions share all but their messages, which tell of one object.
func Conditions(conditions []metav1.Condition) {
	for i := range conditions {
		String(&conditions[i].Type)
		String(&conditions[i].Status)
		String(&conditions[i].Reason)
	}
}
