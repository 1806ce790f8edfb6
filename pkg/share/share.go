// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package share has objects that are kept in memory share what they have in common, and keeps what is their own in one
// piece. Each object that is decoded has its own copy of the same few words otherwise, and each word a place of its own,
// which the garbage collector looks at again and again.
//
// What is shared must not be changed in place, as nothing must be that is in a cache.
package share

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxKnown bounds how many different values are known. Once there are more, all are forgotten: those that are common
// come back at once.
const maxKnown = 4096

// known has one of each value that was seen.
type known[K comparable, V any] struct {
	mu     sync.RWMutex
	values map[K]V
}

func (k *known[K, V]) get(key K) (V, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	value, ok := k.values[key]
	return value, ok
}

func (k *known[K, V]) put(key K, value V) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.values == nil || len(k.values) >= maxKnown {
		k.values = map[K]V{}
	}
	k.values[key] = value
}

var (
	words  known[string, string]
	fields known[string, *metav1.FieldsV1]
	// pointers are to the value that is their key, and lists consist of it.
	pointers, lists known[any, any]
	// labelMaps are by what is in them.
	labelMaps known[string, map[string]string]
)

// String replaces a string that many objects have by one that they share.
func String[S ~string](s *S) {
	if *s == "" {
		return
	}
	if common, ok := words.get(string(*s)); ok {
		*s = S(common)
		return
	}
	// It may be a part of something larger.
	own := strings.Clone(string(*s))
	words.put(own, own)
	*s = S(own)
}

// Pointer replaces a pointer to a value that many objects have by one that they share.
func Pointer[T comparable](p **T) {
	if *p == nil {
		return
	}
	if common, ok := pointers.get(**p); ok {
		*p = common.(*T)
		return
	}
	pointers.put(**p, *p)
}

// list has the values of a list share what they have in common, which the function does and tells whether the value may be
// shared as a whole, and replaces a list of one by one that is shared. Such a list is not written to, not even what is
// there already: others read it.
func list[T comparable](l *[]T, common func(*T) bool) {
	if len(*l) != 1 {
		for i := range *l {
			common(&(*l)[i])
		}
		return
	}
	value := (*l)[0]
	if !common(&value) {
		(*l)[0] = value
		return
	}
	known, ok := lists.get(value)
	if !ok {
		// Who appends to it gets another one.
		known = slices.Clip([]T{value})
		lists.put(value, known)
	}
	*l = known.([]T)
}

// Labels returns one map for all labels that are the same: a map takes 336 bytes, however little is in it. It is for objects
// that nobody writes to any more, such as those of a cache, and what it gets it may return for others.
func Labels(l map[string]string) map[string]string {
	if len(l) == 0 {
		return l
	}
	names := slices.Sorted(maps.Keys(l))
	var key []byte
	for _, name := range names {
		for _, s := range []string{name, l[name]} {
			key = append(binary.AppendUvarint(key, uint64(len(s))), s...)
		}
	}
	labelMaps.mu.RLock()
	// The compiler makes no string for that.
	common, ok := labelMaps.values[string(key)]
	labelMaps.mu.RUnlock()
	if ok {
		return common
	}
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = l[name]
	}
	// Only so are the names replaced, too.
	clear(l)
	for i, name := range names {
		String(&name)
		l[name] = values[i]
	}
	labelMaps.put(string(key), l)
	return l
}

// Strings puts the strings of a list, which are its own, next to each other.
func Strings(list []string) {
	rest := strings.Join(list, "")
	for i, s := range list {
		list[i], rest = rest[:len(s)], rest[len(s):]
	}
}

// uid is part of the fields of an object that has an owner. They are its own.
var uid = []byte(`{\"uid\":`)

// managedFields replaces fields that many objects have by those that they share, and tells whether they are such.
func managedFields(f **metav1.FieldsV1) bool {
	if *f == nil {
		return true
	}
	raw := (*f).GetRawBytes()
	if bytes.Contains(raw, uid) {
		return false
	}
	fields.mu.RLock()
	// The compiler makes no string for that.
	common, ok := fields.values[string(raw)]
	fields.mu.RUnlock()
	if ok {
		*f = common
	} else {
		fields.put(string(raw), *f)
	}
	return true
}

// Object has an object share its namespace, finalizers, kinds of owners, who manages which fields, and what its
// conditions are called. Its own strings, which are those of its metadata, the messages of its conditions and those that
// are named, are put next to each other.
func Object(m *metav1.ObjectMeta, conditions []metav1.Condition, own ...*string) {
	shareAll(m, conditions, &pack{}, own)
}

// Copy has a copy of such an object share the same. Its own strings stay where they are, since a copy has them in common with
// what it is a copy of.
func Copy(m *metav1.ObjectMeta, conditions []metav1.Condition) { shareAll(m, conditions, nil, nil) }

// shareAll has an object share what many have, and puts its own strings into the pack, if there is one.
func shareAll(m *metav1.ObjectMeta, conditions []metav1.Condition, p *pack, own []*string) {
	p.add(&m.Name)
	p.add((*string)(&m.UID))
	p.add(&m.ResourceVersion)
	var labels [4]struct{ key, value string }
	few := p != nil && len(m.Labels) <= len(labels)
	if few {
		i := 0
		for key, value := range m.Labels {
			labels[i].key, labels[i].value = key, value
			String(&labels[i].key)
			p.add(&labels[i].value)
			i++
		}
	}
	String(&m.Namespace)
	list(&m.Finalizers, func(finalizer *string) bool {
		String(finalizer)
		return true
	})
	for i := range m.OwnerReferences {
		owner := &m.OwnerReferences[i]
		String(&owner.APIVersion)
		String(&owner.Kind)
		Pointer(&owner.Controller)
		Pointer(&owner.BlockOwnerDeletion)
		p.add(&owner.Name)
		p.add((*string)(&owner.UID))
	}
	list(&m.ManagedFields, func(entry *metav1.ManagedFieldsEntry) bool {
		String(&entry.Manager)
		String(&entry.Operation)
		String(&entry.APIVersion)
		String(&entry.FieldsType)
		String(&entry.Subresource)
		Pointer(&entry.Time)
		return managedFields(&entry.FieldsV1)
	})
	for i := range conditions {
		String(&conditions[i].Type)
		String(&conditions[i].Status)
		String(&conditions[i].Reason)
		p.add(&conditions[i].Message)
	}
	for _, s := range own {
		p.add(s)
	}
	p.close()
	if few {
		// Only so are the keys replaced, too.
		clear(m.Labels)
		for _, label := range labels[:] {
			if label.key != "" {
				m.Labels[label.key] = label.value
			}
		}
	}
}

// pack puts strings next to each other. Those that are too many stay where they are, and without a pack all do.
type pack struct {
	strings [16]*string
	n       int
}

func (p *pack) add(s *string) {
	if p != nil && *s != "" && p.n < len(p.strings) {
		p.strings[p.n] = s
		p.n++
	}
}

// close gives the strings that were added their places. What occurs twice has one.
func (p *pack) close() {
	if p == nil {
		return
	}
	var (
		twice [len(p.strings)]*string
		size  int
	)
	for i, s := range p.strings[:p.n] {
		for _, before := range p.strings[:i] {
			if *before == *s {
				twice[i] = before
				break
			}
		}
		if twice[i] == nil {
			size += len(*s)
		}
	}
	var b strings.Builder
	b.Grow(size)
	for i, s := range p.strings[:p.n] {
		if twice[i] == nil {
			b.WriteString(*s)
		}
	}
	rest := b.String()
	for i, s := range p.strings[:p.n] {
		if twice[i] != nil {
			*s = *twice[i]
			continue
		}
		*s, rest = rest[:len(*s)], rest[len(*s):]
	}
}
