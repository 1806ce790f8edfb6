// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// object returns the metadata of an object, with strings and fields of its own.
func object(name string) *metav1.ObjectMeta {
	of := func(s string) string { return string([]byte(s)) }
	return &metav1.ObjectMeta{
		Name: of(name), Namespace: of("team"), Finalizers: []string{of("example.com/f")},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: of("v1"), Kind: of("Owner"), Name: of(name)}},
		ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: of("kubectl"), Operation: "Update", APIVersion: of("v1"), FieldsType: of("FieldsV1"), FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)},
			{Manager: of("kubectl")},
		},
	}
}

func TestMeta(t *testing.T) {
	a, b := object("a"), object("b")
	wantA, wantB := a.DeepCopy(), b.DeepCopy()
	Meta(a)
	Meta(b)
	if !reflect.DeepEqual(a, wantA) || !reflect.DeepEqual(b, wantB) {
		t.Fatalf("got %v and %v instead of %v and %v", a, b, wantA, wantB)
	}
	for what, pair := range map[string][2]*string{
		"namespace": {&a.Namespace, &b.Namespace},
		"finalizer": {&a.Finalizers[0], &b.Finalizers[0]},
		"kind":      {&a.OwnerReferences[0].Kind, &b.OwnerReferences[0].Kind},
		"manager":   {&a.ManagedFields[0].Manager, &b.ManagedFields[1].Manager},
	} {
		if unsafe.StringData(*pair[0]) != unsafe.StringData(*pair[1]) {
			t.Errorf("the %s is not shared", what)
		}
	}
	if a.ManagedFields[0].FieldsV1 != b.ManagedFields[0].FieldsV1 {
		t.Error("the fields are not shared")
	}
	// Who gets a copy may change it.
	c := a.DeepCopy()
	c.ManagedFields[0].FieldsV1.SetRawString(`{}`)
	if !reflect.DeepEqual(a, wantA) {
		t.Error("a change of a copy is seen")
	}
}

func TestConditions(t *testing.T) {
	of := func(message string) []metav1.Condition {
		return []metav1.Condition{{Type: string([]byte("Ready")), Status: "True", Reason: "Done", Message: message}}
	}
	a, b := of("one"), of("two")
	Conditions(a)
	Conditions(b)
	if unsafe.StringData(a[0].Type) != unsafe.StringData(b[0].Type) {
		t.Error("the type is not shared")
	}
	if a[0].Message != "one" || b[0].Message != "two" || b[0].Reason != "Done" || b[0].Status != metav1.ConditionTrue {
		t.Errorf("got %v and %v", a, b)
	}
}

// TestBound has more values come than are kept, from several at a time, and none be mistaken for another.
func TestBound(t *testing.T) {
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 3 * maxKnown {
				want := fmt.Sprintf("%d-%d", worker%2, i)
				got := string([]byte(want))
				if String(&got); got != want {
					t.Errorf("%q became %q", want, got)
				}
			}
		})
	}
	wg.Wait()
	if n := len(words.values); n > maxKnown {
		t.Errorf("%d are kept", n)
	}
}
