// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func newAllocation(spec ipam.PrefixAllocationSpec, status ipam.PrefixAllocationStatus) *ipam.PrefixAllocation {
	return &ipam.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "self", ResourceVersion: "1"},
		Spec:       spec,
		Status:     status,
	}
}

func TestValidatePrefixAllocation(t *testing.T) {
	type test struct {
		name string
		spec ipam.PrefixAllocationSpec
		want []mistake
	}
	tests := []test{
		{"by reference and length", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("parent")}, nil},
		{"by reference and prefix", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv6, Prefix: "2001:db8::/32", PrefixRef: ref("parent")}, nil},
		{"by selector and length", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixSelector: selector("public")}, nil},
		{"by selector and prefix", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixSelector: selector("public")}, nil},
		{"by reference and selector", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("parent"), PrefixSelector: selector("public")}, nil},
		{"from any prefix", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixSelector: &metav1.LabelSelector{}}, nil},
		// A PrefixAllocation is not a Prefix, so a Prefix of the same name is another object.
		{"reference to a prefix of its own name", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("self")}, nil},
		{"neither prefix nor length", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixRef: ref("parent")}, []mistake{required("spec.prefixLength", "prefix or prefixLength must be set")}},
		{"prefix and length", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: 9, PrefixRef: ref("parent")},
			[]mistake{forbidden("spec.prefixLength", "only one")}},
		{"prefix and length out of range", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: 33, PrefixRef: ref("parent")},
			[]mistake{forbidden("spec.prefixLength")}},
		{"neither reference nor selector", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9}, []mistake{required("spec.prefixRef")}},
		{"nothing", ipam.PrefixAllocationSpec{}, []mistake{required("spec.ipFamily"), required("spec.prefixLength"), required("spec.prefixRef")}},

		{"length 1", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 1, PrefixRef: ref("parent")}, nil},
		{"length 32, v4", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 32, PrefixRef: ref("parent")}, nil},
		{"length 33, v4", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 33, PrefixRef: ref("parent")}, []mistake{invalid("spec.prefixLength", "between 1 and 32")}},
		{"length 128, v6", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv6, PrefixLength: 128, PrefixRef: ref("parent")}, nil},
		{"length 129, v6", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv6, PrefixLength: 129, PrefixRef: ref("parent")}, []mistake{invalid("spec.prefixLength", "between 1 and 128")}},
		{"negative length", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: -1, PrefixRef: ref("parent")}, []mistake{invalid("spec.prefixLength")}},
		{"length 129 of a family to be told", ipam.PrefixAllocationSpec{PrefixLength: 129, PrefixRef: ref("parent")}, []mistake{invalid("spec.prefixLength", "between 1 and 128")}},

		{"family told by the parent later", ipam.PrefixAllocationSpec{PrefixLength: 9, PrefixRef: ref("parent")}, nil},
		{"family told by nothing", ipam.PrefixAllocationSpec{PrefixLength: 9, PrefixSelector: selector("public")}, []mistake{required("spec.ipFamily")}},
		{"unknown family", ipam.PrefixAllocationSpec{IPFamily: "IPv5", PrefixLength: 9, PrefixRef: ref("parent")}, []mistake{notSupported("spec.ipFamily")}},
		{"unknown family with prefix", ipam.PrefixAllocationSpec{IPFamily: "IPv5", Prefix: "10.0.0.0/9", PrefixRef: ref("parent")}, []mistake{notSupported("spec.ipFamily")}},
		{"v4 prefix of family IPv6", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv6, Prefix: "10.0.0.0/9", PrefixRef: ref("parent")}, []mistake{invalid("spec.prefix", "must be an IPv6 prefix")}},
		{"v6 prefix of family IPv4", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: "2000::/9", PrefixRef: ref("parent")}, []mistake{invalid("spec.prefix", "must be an IPv4 prefix")}},
		{"reference without name", ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("")}, []mistake{required("spec.prefixRef.name")}},
		{"everything wrong", ipam.PrefixAllocationSpec{IPFamily: "IPv5", Prefix: "10.0.0.1/8", PrefixLength: -1, PrefixRef: ref(""), PrefixSelector: &badSelectors[0].selector},
			[]mistake{notSupported("spec.ipFamily"), invalid("spec.prefix"), forbidden("spec.prefixLength"), required("spec.prefixRef.name"), badSelectors[0].want("spec.prefixSelector")}},
	}
	for _, tt := range badPrefixes {
		tests = append(tests, test{tt.name, ipam.PrefixAllocationSpec{Prefix: tt.prefix, PrefixRef: ref("parent")}, []mistake{invalid("spec.prefix", tt.detail)}})
	}
	for _, tt := range badNames {
		tests = append(tests, test{"reference: " + tt.name, ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref(tt.value)},
			[]mistake{invalid("spec.prefixRef.name", tt.detail)}})
	}
	for _, tt := range badSelectors {
		tests = append(tests, test{"selector: " + tt.name, ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixSelector: &tt.selector},
			[]mistake{tt.want("spec.prefixSelector")}})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			allocation := newAllocation(tt.spec, ipam.PrefixAllocationStatus{})
			check(t, ValidatePrefixAllocation(allocation), tt.want...)
			// An update that does not change the spec is valid, so that an invalid object can still be deleted.
			check(t, ValidatePrefixAllocationUpdate(allocation, allocation.DeepCopy()))
		})
	}

	for _, tt := range badNames {
		t.Run("name: "+tt.name, func(t *testing.T) {
			allocation := newAllocation(ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("parent")}, ipam.PrefixAllocationStatus{})
			allocation.Name = tt.value
			check(t, ValidatePrefixAllocation(allocation), invalid("metadata.name", tt.detail))
		})
	}
	t.Run("no name and no namespace", func(t *testing.T) {
		allocation := newAllocation(ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("parent")}, ipam.PrefixAllocationStatus{})
		allocation.ObjectMeta = metav1.ObjectMeta{}
		check(t, ValidatePrefixAllocation(allocation), required("metadata.name"), required("metadata.namespace"))
	})
}

func TestValidatePrefixAllocationUpdate(t *testing.T) {
	byRef := ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("parent")}
	bySelector := ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixSelector: selector("public")}
	byBoth := ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("parent"), PrefixSelector: selector("public")}
	exact := ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixRef: ref("parent")}
	noFamily := ipam.PrefixAllocationSpec{PrefixLength: 9, PrefixRef: ref("parent")}

	for _, tt := range []struct {
		name   string
		old    ipam.PrefixAllocationSpec
		mutate func(s *ipam.PrefixAllocationSpec)
		want   []mistake
	}{
		{"nothing", byBoth, func(s *ipam.PrefixAllocationSpec) {}, nil},

		{"family changed", byRef, func(s *ipam.PrefixAllocationSpec) { s.IPFamily = ipam.IPv6 }, []mistake{invalid("spec.ipFamily", "immutable once it is set (to IPv4)")}},
		{"family unset", byRef, func(s *ipam.PrefixAllocationSpec) { s.IPFamily = "" }, []mistake{invalid("spec.ipFamily", "immutable")}},
		{"family set", noFamily, func(s *ipam.PrefixAllocationSpec) { s.IPFamily = ipam.IPv6 }, nil},
		{"family set to an unknown one", noFamily, func(s *ipam.PrefixAllocationSpec) { s.IPFamily = "IPv5" }, []mistake{notSupported("spec.ipFamily")}},

		{"prefix changed", exact, func(s *ipam.PrefixAllocationSpec) { s.Prefix = "10.128.0.0/9" }, []mistake{invalid("spec.prefix", "immutable")}},
		{"prefix unset", exact, func(s *ipam.PrefixAllocationSpec) { s.Prefix = "" }, []mistake{invalid("spec.prefix", "immutable")}},
		{"prefix set", byRef, func(s *ipam.PrefixAllocationSpec) { s.Prefix = "10.0.0.0/9" }, []mistake{invalid("spec.prefix", "immutable")}},

		{"length changed", byRef, func(s *ipam.PrefixAllocationSpec) { s.PrefixLength = 10 }, []mistake{invalid("spec.prefixLength", "immutable")}},
		{"length unset", byRef, func(s *ipam.PrefixAllocationSpec) { s.PrefixLength = 0 }, []mistake{invalid("spec.prefixLength", "immutable")}},
		{"length set", exact, func(s *ipam.PrefixAllocationSpec) { s.PrefixLength = 9 }, []mistake{invalid("spec.prefixLength", "immutable")}},
		{"length replaced by prefix", byRef, func(s *ipam.PrefixAllocationSpec) { s.PrefixLength, s.Prefix = 0, "10.0.0.0/9" },
			[]mistake{invalid("spec.prefix"), invalid("spec.prefixLength")}},

		{"reference changed", byRef, func(s *ipam.PrefixAllocationSpec) { s.PrefixRef = ref("other") }, []mistake{invalid("spec.prefixRef", "immutable once it is set (to parent)")}},
		{"reference unset", byBoth, func(s *ipam.PrefixAllocationSpec) { s.PrefixRef = nil }, []mistake{invalid("spec.prefixRef", "immutable")}},
		{"reference unset, and nothing else is left", byRef, func(s *ipam.PrefixAllocationSpec) { s.PrefixRef = nil }, []mistake{invalid("spec.prefixRef", "immutable")}},
		{"reference set", bySelector, func(s *ipam.PrefixAllocationSpec) { s.PrefixRef = ref("parent") }, nil},
		{"reference set to no name", bySelector, func(s *ipam.PrefixAllocationSpec) { s.PrefixRef = ref("") }, []mistake{required("spec.prefixRef.name")}},

		{"selector changed", bySelector, func(s *ipam.PrefixAllocationSpec) { s.PrefixSelector = selector("private") }, []mistake{invalid("spec.prefixSelector", "immutable")}},
		{"selector unset", byBoth, func(s *ipam.PrefixAllocationSpec) { s.PrefixSelector = nil }, []mistake{invalid("spec.prefixSelector", "immutable")}},
		{"selector set", byRef, func(s *ipam.PrefixAllocationSpec) { s.PrefixSelector = selector("public") }, []mistake{invalid("spec.prefixSelector", "immutable")}},
		{"selector replaced by reference", bySelector, func(s *ipam.PrefixAllocationSpec) { s.PrefixSelector, s.PrefixRef = nil, ref("parent") },
			[]mistake{invalid("spec.prefixSelector", "immutable")}},

		{"everything changed", byBoth, func(s *ipam.PrefixAllocationSpec) {
			*s = ipam.PrefixAllocationSpec{IPFamily: ipam.IPv6, Prefix: "2000::/9", PrefixLength: 10, PrefixRef: ref("other"), PrefixSelector: selector("private")}
		}, []mistake{invalid("spec.ipFamily"), invalid("spec.prefix"), invalid("spec.prefixLength"), invalid("spec.prefixRef"), invalid("spec.prefixSelector")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oldAllocation := newAllocation(tt.old, ipam.PrefixAllocationStatus{})
			changed := oldAllocation.DeepCopy()
			tt.mutate(&changed.Spec)
			check(t, ValidatePrefixAllocationUpdate(changed, oldAllocation), tt.want...)
		})
	}

	for _, tt := range []struct {
		name   string
		family ipam.IPFamily
		want   []mistake
	}{
		{"family set after the allocation", ipam.IPv4, nil},
		{"family set after the allocation, to the other one", ipam.IPv6, []mistake{invalid("spec.ipFamily", "must be IPv4: 10.0.0.0/9 has been allocated")}},
		{"family set after the allocation, to an unknown one", "IPv5", []mistake{invalid("spec.ipFamily")}},
		{"family left open after the allocation", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oldAllocation := newAllocation(noFamily, ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/9"})
			changed := oldAllocation.DeepCopy()
			changed.Spec.IPFamily = tt.family
			check(t, ValidatePrefixAllocationUpdate(changed, oldAllocation), tt.want...)
		})
	}

	checkMetadata(t, func(mutate func(*metav1.ObjectMeta)) field.ErrorList {
		oldAllocation := newAllocation(byRef, ipam.PrefixAllocationStatus{})
		changed := oldAllocation.DeepCopy()
		mutate(&changed.ObjectMeta)
		return ValidatePrefixAllocationUpdate(changed, oldAllocation)
	})
}

func TestValidatePrefixAllocationStatusUpdate(t *testing.T) {
	byLength := ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixRef: ref("parent")}
	exact := ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixRef: ref("parent")}
	noFamily := ipam.PrefixAllocationSpec{PrefixLength: 9, PrefixRef: ref("parent")}
	noRef := ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 9, PrefixSelector: selector("public")}

	const p, a, f = ipam.PrefixAllocationPhasePending, ipam.PrefixAllocationPhaseAllocated, ipam.PrefixAllocationPhaseFailed
	status := func(phase ipam.PrefixAllocationPhase, prefix string) ipam.PrefixAllocationStatus {
		return ipam.PrefixAllocationStatus{Phase: phase, Prefix: prefix}
	}

	type test struct {
		name     string
		spec     ipam.PrefixAllocationSpec
		old, new ipam.PrefixAllocationStatus
		want     []mistake
	}
	tests := []test{
		{"Pending stays", byLength, status(p, ""), status(p, ""), nil},
		{"Allocated stays", byLength, status(a, "10.0.0.0/9"), status(a, "10.0.0.0/9"), nil},
		{"Failed stays", byLength, status(f, ""), status(f, ""), nil},
		{"first phase", byLength, status("", ""), status(p, ""), nil},
		{"allocated by length", byLength, status(p, ""), status(a, "10.0.0.0/9"), nil},
		{"allocated exactly", exact, status(p, ""), status(a, "10.0.0.0/9"), nil},
		{"allocated of any family", noFamily, status(p, ""), status(a, "2000::/9"), nil},
		{"failed", byLength, status(p, ""), status(f, ""), nil},
		{"failed without reference", noRef, status(p, ""), status(f, ""), nil},

		{"no phase", byLength, status(p, ""), status("", ""), []mistake{notSupported("status.phase", `"Pending", "Allocated", "Failed"`)}},
		{"unknown phase", byLength, status(p, ""), status("Unknown", ""), []mistake{notSupported("status.phase")}},
		{"Allocated is final, Pending", byLength, status(a, "10.0.0.0/9"), status(p, "10.0.0.0/9"), []mistake{forbidden("status.phase", "Allocated is final")}},
		{"Allocated is final, Pending and prefix unset", byLength, status(a, "10.0.0.0/9"), status(p, ""), []mistake{forbidden("status.phase", "Allocated is final")}},
		{"Allocated is final, Failed", byLength, status(a, "10.0.0.0/9"), status(f, ""), []mistake{forbidden("status.phase", "Allocated is final")}},
		{"Allocated is final, no phase", byLength, status(a, "10.0.0.0/9"), status("", ""), []mistake{forbidden("status.phase", "Allocated is final")}},
		{"Failed is final, Pending", byLength, status(f, ""), status(p, ""), []mistake{forbidden("status.phase", "Failed is final")}},
		{"Failed is final, Allocated", byLength, status(f, ""), status(a, "10.0.0.0/9"), []mistake{forbidden("status.phase", "Failed is final")}},
		{"Failed is final, unknown phase", byLength, status(f, ""), status("Unknown", ""), []mistake{forbidden("status.phase", "Failed is final")}},
		{"allocated prefix is final", byLength, status(a, "10.0.0.0/9"), status(a, "10.128.0.0/9"), []mistake{forbidden("status.prefix", "10.0.0.0/9 has been allocated")}},
		{"allocated prefix is final, unset", byLength, status(a, "10.0.0.0/9"), status(a, ""), []mistake{forbidden("status.prefix", "final")}},
		{"allocated prefix is final, bad", byLength, status(a, "10.0.0.0/9"), status(a, "bad"), []mistake{forbidden("status.prefix", "final")}},
		{"allocated prefix in another notation", byLength, status(a, "10.0.0.0/9"), status(a, "10.0.0.1/9"), nil},

		{"Allocated without prefix", byLength, status(p, ""), status(a, ""), []mistake{required("status.prefix")}},
		{"Allocated without reference", noRef, status(p, ""), status(a, "10.0.0.0/9"), []mistake{invalid("status.phase", "without spec.prefixRef")}},
		{"Allocated without prefix and reference", noRef, status(p, ""), status(a, ""), []mistake{invalid("status.phase"), required("status.prefix")}},
		{"shorter than asked for", byLength, status(p, ""), status(a, "10.0.0.0/8"), []mistake{invalid("status.prefix", "must have the requested length, /9")}},
		{"longer than asked for", byLength, status(p, ""), status(a, "10.0.0.0/10"), []mistake{invalid("status.prefix", "/9")}},
		{"other family than asked for", byLength, status(p, ""), status(a, "2000::/9"), []mistake{invalid("status.prefix", "must be an IPv4 prefix")}},
		{"other than asked for", exact, status(p, ""), status(a, "10.128.0.0/9"), []mistake{invalid("status.prefix", "must be the requested prefix, 10.0.0.0/9")}},
		{"part of what was asked for", exact, status(p, ""), status(a, "10.0.0.0/10"), []mistake{invalid("status.prefix", "must be the requested prefix")}},
		{"prefix while Pending", byLength, status(p, ""), status(p, "10.0.0.0/9"), []mistake{forbidden("status.prefix", "phase Pending")}},
		{"bad prefix while Pending", byLength, status(p, ""), status(p, "bad"), []mistake{forbidden("status.prefix", "phase Pending")}},
		{"prefix while Failed", byLength, status(p, ""), status(f, "10.0.0.0/9"), []mistake{forbidden("status.prefix", "phase Failed")}},
	}
	for _, tt := range badPrefixes {
		tests = append(tests, test{tt.name, noFamily, status(p, ""), status(a, tt.prefix), []mistake{invalid("status.prefix", tt.detail)}})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, ValidatePrefixAllocationStatusUpdate(newAllocation(tt.spec, tt.new), newAllocation(tt.spec, tt.old)), tt.want...)
		})
	}

	checkConditions(t, func(conditions ...metav1.Condition) field.ErrorList {
		newStatus := ipam.PrefixAllocationStatus{Phase: p, Conditions: conditions}
		return ValidatePrefixAllocationStatusUpdate(newAllocation(byLength, newStatus), newAllocation(byLength, status(p, "")))
	})
	checkMetadata(t, func(mutate func(*metav1.ObjectMeta)) field.ErrorList {
		oldAllocation := newAllocation(byLength, status(p, ""))
		changed := oldAllocation.DeepCopy()
		mutate(&changed.ObjectMeta)
		return ValidatePrefixAllocationStatusUpdate(changed, oldAllocation)
	})
}

func TestValidatePrefixAllocationBinding(t *testing.T) {
	type test struct {
		name, prefix, parent string
		want                 []mistake
	}
	tests := []test{
		{"v4", "10.0.0.0/9", "parent", nil},
		{"v6", "2001:db8::/48", "parent", nil},
		{"nothing", "", "", []mistake{invalid("prefix", notCIDR), required("prefixRef.name")}},
	}
	for _, tt := range badPrefixes {
		tests = append(tests, test{tt.name, tt.prefix, "parent", []mistake{invalid("prefix", tt.detail)}})
	}
	for _, tt := range badNames {
		tests = append(tests, test{tt.name, "10.0.0.0/9", tt.value, []mistake{invalid("prefixRef.name", tt.detail)}})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			binding := &ipam.PrefixAllocationBinding{Prefix: tt.prefix, PrefixRef: ipam.BindingReference{Name: tt.parent}}
			check(t, ValidatePrefixAllocationBinding(binding), tt.want...)
		})
	}
}
