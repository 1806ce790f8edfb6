// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestDefaultFamily(t *testing.T) {
	scheme := newScheme(t)
	for _, tt := range []struct {
		name   string
		family IPFamily
		prefix string
		want   IPFamily
	}{
		{"v4", "", "10.0.0.0/8", IPv4},
		{"v6", "", "2001:db8::/32", IPv6},
		{"everything, v4", "", "0.0.0.0/0", IPv4},
		{"everything, v6", "", "::/0", IPv6},
		// The family is set even if the prefix is invalid in another way, so that validation does not also report a
		// missing family.
		{"host bits", "", "10.0.0.1/8", IPv4},
		{"not canonical", "", "2001:DB8::/32", IPv6},
		{"4in6", "", "::ffff:10.0.0.0/104", IPv4},
		{"no prefix", "", "", ""},
		{"malformed", "", "10.0.0.0", ""},
		{"leading zero", "", "010.0.0.0/8", ""},
		{"set", IPv4, "10.0.0.0/8", IPv4},
		{"set, without prefix", IPv6, "", IPv6},
		{"set, contradicts the prefix", IPv6, "10.0.0.0/8", IPv6},
		{"set, unknown", "IPv5", "10.0.0.0/8", "IPv5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			selector := &metav1.LabelSelector{MatchLabels: map[string]string{"subnet-type": "public"}}
			prefix := Prefix{Spec: PrefixSpec{IPFamily: tt.family, Prefix: tt.prefix, PrefixLength: 9,
				ParentRef: &LocalObjectReference{Name: "parent"}, ParentSelector: selector}}
			allocation := PrefixAllocation{Spec: PrefixAllocationSpec{IPFamily: tt.family, Prefix: tt.prefix, PrefixLength: 9,
				PrefixRef: &LocalObjectReference{Name: "parent"}, PrefixSelector: selector}}
			wantPrefix, wantAllocation := prefix.DeepCopy(), allocation.DeepCopy()
			wantPrefix.Spec.IPFamily, wantAllocation.Spec.IPFamily = tt.want, tt.want

			// Lists are defaulted, too. Only the family changes, and a second time nothing does.
			prefixes := PrefixList{Items: []Prefix{prefix, prefix}}
			allocations := PrefixAllocationList{Items: []PrefixAllocation{allocation, allocation}}
			for range 2 {
				expectDefault(t, scheme, &prefix, wantPrefix)
				expectDefault(t, scheme, &allocation, wantAllocation)
				expectDefault(t, scheme, &prefixes, &PrefixList{Items: []Prefix{*wantPrefix, *wantPrefix}})
				expectDefault(t, scheme, &allocations, &PrefixAllocationList{Items: []PrefixAllocation{*wantAllocation, *wantAllocation}})
			}
		})
	}
}

// TestDefaultStatus shows that the status has no defaults: the server sets it.
func TestDefaultStatus(t *testing.T) {
	scheme := newScheme(t)
	expectDefault(t, scheme, &Prefix{}, &Prefix{})
	expectDefault(t, scheme, &PrefixAllocation{}, &PrefixAllocation{})
}

func expectDefault(t *testing.T, scheme *runtime.Scheme, obj, want runtime.Object) {
	t.Helper()
	scheme.Default(obj)
	if !equality.Semantic.DeepEqual(obj, want) {
		t.Errorf("got %+v, want %+v", obj, want)
	}
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}
