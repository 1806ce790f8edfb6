// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// of returns a string of its own.
func of(s string) string { return strings.Clone(s) }

// object returns the metadata of an object, with strings and fields of its own.
func object(name string) *metav1.ObjectMeta {
	yes, now := true, metav1.Unix(1700000000, 0)
	return &metav1.ObjectMeta{
		Name: of(name), Namespace: of("team"), UID: "1-2-3", ResourceVersion: of("7"), Finalizers: []string{of("example.com/f")},
		Labels: map[string]string{of("owner"): of("4-5-6"), of("name"): of(name)},
		OwnerReferences: []metav1.OwnerReference{
			{APIVersion: of("v1"), Kind: of("Owner"), Name: of(name), UID: "4-5-6", Controller: &yes},
		},
		ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: of("kubectl"), Operation: "Update", APIVersion: of("v1"), FieldsType: of("FieldsV1"), FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`), Time: &now},
			{Manager: of("kubectl")},
		},
	}
}

func conditions(message string) []metav1.Condition {
	return []metav1.Condition{{Type: of("Ready"), Status: "True", Reason: "Done", Message: of(message)}}
}

func TestObject(t *testing.T) {
	a, b := object("a"), object("b")
	first, second := conditions("one"), conditions("two")
	own := of("a")
	wantA, wantB := a.DeepCopy(), b.DeepCopy()
	Object(a, first, &own)
	Object(b, second)
	if !reflect.DeepEqual(a, wantA) || !reflect.DeepEqual(b, wantB) {
		t.Fatalf("got %v and %v instead of %v and %v", a, b, wantA, wantB)
	}
	if want := conditions("one"); !slices.Equal(first, want) || second[0].Message != "two" || own != "a" {
		t.Errorf("got %v, %v and %q", first, second, own)
	}
	for what, pair := range map[string][2]*string{
		"namespace": {&a.Namespace, &b.Namespace},
		"finalizer": {&a.Finalizers[0], &b.Finalizers[0]},
		"kind":      {&a.OwnerReferences[0].Kind, &b.OwnerReferences[0].Kind},
		"manager":   {&a.ManagedFields[0].Manager, &b.ManagedFields[1].Manager},
		"condition": {&first[0].Type, &second[0].Type},
		"name":      {&a.Name, &own},
		"owner":     {&a.Name, &a.OwnerReferences[0].Name},
	} {
		if unsafe.StringData(*pair[0]) != unsafe.StringData(*pair[1]) {
			t.Errorf("the %s is not shared", what)
		}
	}
	switch {
	case a.ManagedFields[0].FieldsV1 != b.ManagedFields[0].FieldsV1:
		t.Error("the fields are not shared")
	case a.ManagedFields[0].Time != b.ManagedFields[0].Time:
		t.Error("the time is not shared")
	case a.OwnerReferences[0].Controller != b.OwnerReferences[0].Controller:
		t.Error("that it is the controller is not shared")
	}
	// Who gets a copy may change it.
	c := a.DeepCopy()
	c.ManagedFields[0].FieldsV1.SetRawString(`{}`)
	c.ManagedFields[0].Time.Time = time.Unix(0, 0)
	*c.OwnerReferences[0].Controller = false
	c.Finalizers[0] = "example.com/g"
	if !reflect.DeepEqual(a, wantA) || !reflect.DeepEqual(b, wantB) {
		t.Error("a change of a copy is seen")
	}
	// Who appends, too.
	if _ = append(a.Finalizers, "one"); !reflect.DeepEqual(append(b.Finalizers, "two"), []string{"example.com/f", "two"}) {
		t.Error("what is appended to one is seen in another")
	}
}

// TestCopy has a copy share what its original does, and have its own strings where that has them.
func TestCopy(t *testing.T) {
	a, first := object("a"), conditions("one")
	Object(a, first)
	b, second := a.DeepCopy(), slices.Clone(first)
	Copy(b, second)
	if !reflect.DeepEqual(a, b) || !slices.Equal(first, second) {
		t.Errorf("got %v and %v instead of %v and %v", b, second, a, first)
	}
	for what, same := range map[string]bool{
		"name":       unsafe.StringData(a.Name) == unsafe.StringData(b.Name),
		"finalizers": unsafe.SliceData(a.Finalizers) == unsafe.SliceData(b.Finalizers),
		"fields":     a.ManagedFields[0].FieldsV1 == b.ManagedFields[0].FieldsV1,
		"controller": a.OwnerReferences[0].Controller == b.OwnerReferences[0].Controller,
	} {
		if !same {
			t.Errorf("the %s is not shared", what)
		}
	}
}

// TestSharedStays has objects that share already shared again, several at a time: it is a race if anything is written where
// others read it, even if it is the same.
func TestSharedStays(t *testing.T) {
	shared := object("a")
	shared.ManagedFields, shared.OwnerReferences, shared.Labels = shared.ManagedFields[:1], nil, nil
	Object(shared, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				again := *shared
				if Object(&again, nil); !reflect.DeepEqual(again, *shared) {
					t.Errorf("got %v", again)
				}
			}
		})
	}
	wg.Wait()
}

// TestOwnFields has objects with an owner, whose fields name it.
func TestOwnFields(t *testing.T) {
	of := func(uid string) *metav1.ObjectMeta {
		raw := fmt.Sprintf(`{"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"%s\"}":{}}}}`, uid)
		return &metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(raw)}}}
	}
	before := len(fields.values)
	for i := range 10 {
		m := of(fmt.Sprint(i))
		Object(m, nil)
		if want := of(fmt.Sprint(i)); !reflect.DeepEqual(m, want) {
			t.Errorf("got %v instead of %v", m, want)
		}
	}
	if after := len(fields.values); after != before {
		t.Errorf("%d are kept", after-before)
	}
}

// TestManyStrings has more strings than are put next to each other, some of them twice, and none.
func TestManyStrings(t *testing.T) {
	for n := range 40 {
		m := &metav1.ObjectMeta{}
		for i := range n {
			m.OwnerReferences = append(m.OwnerReferences, metav1.OwnerReference{Name: of(fmt.Sprint(i / 2)), UID: "u"})
		}
		for i := range n {
			if m.Labels == nil {
				m.Labels = map[string]string{}
			}
			m.Labels[fmt.Sprint(i)] = strings.Repeat("x", i%3)
		}
		want := m.DeepCopy()
		if Object(m, nil); !reflect.DeepEqual(m, want) {
			t.Fatalf("got %v instead of %v", m, want)
		}
	}
}

// TestLabels has labels that are the same in one map, and others in another.
func TestLabels(t *testing.T) {
	same := func(a, b map[string]string) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	all := []map[string]string{
		{"a": "b"}, {"a": "b", "c": "d"}, {"a": ""}, {"": "a"}, {"ab": ""}, {"a": "b", "cd": ""}, {"a": "bc", "d": ""}, {"b": "a"},
	}
	for i, l := range all {
		got, again := Labels(maps.Clone(l)), Labels(maps.Clone(l))
		if !maps.Equal(got, l) || !same(got, again) {
			t.Errorf("got %v and %v", got, again)
		}
		for _, other := range all[:i] {
			if same(got, Labels(other)) {
				t.Errorf("%v is also %v", l, other)
			}
		}
	}
	if Labels(nil) != nil || Labels(map[string]string{}) == nil {
		t.Error("no labels are not left as they are")
	}
}

func TestStrings(t *testing.T) {
	for _, want := range [][]string{nil, {""}, {"a"}, {"a", "", "bc", "a"}} {
		got := slices.Clone(want)
		for i := range got {
			got[i] = of(got[i])
		}
		if Strings(got); !slices.Equal(got, want) {
			t.Errorf("got %q instead of %q", got, want)
		}
		if n := len(got); n == 4 && unsafe.StringData(got[3]) != (*byte)(unsafe.Add(unsafe.Pointer(unsafe.StringData(got[0])), 3)) {
			t.Errorf("%q are not next to each other", got)
		}
	}
}

func TestPointer(t *testing.T) {
	type ref struct{ name string }
	type other struct{ name string }
	a, b, c, none := &ref{of("root")}, &ref{of("root")}, &ref{"other"}, (*ref)(nil)
	d := &other{"root"}
	for _, p := range []**ref{&a, &b, &c, &none} {
		Pointer(p)
	}
	Pointer(&d)
	if a != b || a.name != "root" || c.name != "other" || none != nil || d.name != "root" {
		t.Errorf("got %v, %v, %v, %v and %v", a, b, c, none, d)
	}
}

// TestBound has more values come than are kept, from several at a time, and none be mistaken for another.
func TestBound(t *testing.T) {
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 3 * maxKnown {
				want := fmt.Sprintf("%d-%d", worker%2, i)
				got, p := of(want), &want
				if String(&got); got != want {
					t.Errorf("%q became %q", want, got)
				}
				if Pointer(&p); *p != got {
					t.Errorf("%q became %q", got, *p)
				}
			}
		})
	}
	wg.Wait()
	if n, m := len(words.values), len(pointers.values); n > maxKnown || m > maxKnown {
		t.Errorf("%d and %d are kept", n, m)
	}
}
