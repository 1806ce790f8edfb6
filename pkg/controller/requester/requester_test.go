// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package requester

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

func child(name string, uid types.UID) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: uid}, Spec: v1alpha1.PrefixSpec{PrefixLength: 24}}
}

func TestOf(t *testing.T) {
	ours := metav1.OwnerReference{APIVersion: "ipam.ironcore.dev/v1alpha1", Kind: "Prefix", Name: "child", UID: "1", Controller: new(true)}
	for _, tt := range []struct {
		name   string
		change func(*metav1.OwnerReference)
		of     bool
	}{
		{"ours", func(*metav1.OwnerReference) {}, true},
		{"another version", func(r *metav1.OwnerReference) { r.APIVersion = "ipam.ironcore.dev/v1" }, true},
		{"another group", func(r *metav1.OwnerReference) { r.APIVersion = "x/v1" }, false},
		{"no group", func(r *metav1.OwnerReference) { r.APIVersion = "v1" }, false},
		{"invalid group", func(r *metav1.OwnerReference) { r.APIVersion = "ipam.ironcore.dev/v1/v1" }, false},
		{"another kind", func(r *metav1.OwnerReference) { r.Kind = "PrefixAllocation" }, false},
		{"no controller", func(r *metav1.OwnerReference) { r.Controller = nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := ours
			tt.change(&ref)
			allocation := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "a", OwnerReferences: []metav1.OwnerReference{ref}}}
			if got := Of(allocation); (got != nil) != tt.of {
				t.Errorf("refers to %v", got)
			}
			if got := IsOf(allocation, child("child", "1")); got != tt.of {
				t.Errorf("IsOf = %t", got)
			}
			if got, want := Describe(allocation), map[bool]string{true: "Prefix child", false: "PrefixAllocation a"}[tt.of]; got != want {
				t.Errorf("described as %s, want %s", got, want)
			}
			if IsOf(allocation, child("other", "1")) || IsOf(allocation, child("child", "2")) {
				t.Error("is of a Prefix with another name or uid")
			}
		})
	}
}

func TestIsLost(t *testing.T) {
	made := Name(child("child", "1"), 0)
	for _, tt := range []struct {
		name       string
		allocation string
		labels     map[string]string
		owned      bool
		want       bool
	}{
		{"of a user", "mine", nil, false, false},
		{"of a user, with a hash of his own", "mine-0123456789", nil, false, false},
		{"of a child", made, map[string]string{v1alpha1.RequesterUIDLabel: "1"}, true, false},
		{"without reference", made, map[string]string{v1alpha1.RequesterUIDLabel: "1"}, false, true},
		{"without reference and label", made, nil, false, true},
		{"without reference, with the name of another version", "child-0123456789", map[string]string{v1alpha1.RequesterUIDLabel: "1"}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			allocation := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: tt.allocation, Labels: tt.labels}}
			if tt.owned {
				allocation.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(child("child", "1"), schema.GroupVersionKind{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Kind: v1alpha1.PrefixKind})}
			}
			if got := IsLost(allocation); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// TestName checks that names are valid, that each request and attempt has its own name, and that no other name is
// recognized as one of them.
func TestName(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]string{}
	for i := range 2000 {
		name := strings.Repeat("a.b-", random.IntN(62)) + "c"
		if i%10 == 0 {
			name = strings.Repeat("a", 200+random.IntN(54))
		}
		prefix := child(name, types.UID(fmt.Sprint(i)))
		for attempt := range 3 {
			got := Name(prefix, attempt)
			if errs := validation.IsDNS1123Subdomain(got); len(errs) > 0 {
				t.Fatalf("%q: %v", got, errs)
			}
			if got != Name(prefix.DeepCopy(), attempt) {
				t.Fatalf("%q is not always the same", got)
			}
			if before, ok := seen[got]; ok {
				t.Fatalf("%q is of %s and %s", got, before, name)
			}
			seen[got] = name
			if !isDerived(got) {
				t.Fatalf("%q is not recognized", got)
			}
			for at := range got {
				if other := got[:at] + "x" + got[at+1:]; other != got && isDerived(other) {
					t.Fatalf("%q is taken for a name that was derived", other)
				}
			}
		}
	}
	first := Name(child("child", "1"), 0)
	asks := child("child", "1")
	asks.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: "parent"}
	if Name(asks, 0) == first {
		t.Error("another request has the same name")
	}
	for _, name := range []string{"", "-", "a", "0123456789abcdef", "-0123456789abcdef", "child-0123456789", "child-0123456789abcdef"} {
		if isDerived(name) {
			t.Errorf("%q is taken for a name that was derived", name)
		}
	}
}
