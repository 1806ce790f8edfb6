// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func newPrefix(spec ipam.PrefixSpec, status ipam.PrefixStatus) *ipam.Prefix {
	return &ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "self", ResourceVersion: "1"},
		Spec:       spec,
		Status:     status,
	}
}

func ref(name string) *ipam.LocalObjectReference { return &ipam.LocalObjectReference{Name: name} }

func selector(value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"subnet-type": value}}
}

func TestValidatePrefix(t *testing.T) {
	tests := []struct {
		name string
		spec ipam.PrefixSpec
		want []mistake
	}{
		{"root, v4", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8"}, nil},
		{"root, v6", ipam.PrefixSpec{IPFamily: ipam.IPv6, Prefix: "2000::/8"}, nil},
		{"root, everything", ipam.PrefixSpec{IPFamily: ipam.IPv6, Prefix: "::/0"}, nil},
		{"root, one address", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.1/32"}, nil},
		{"root without anything", ipam.PrefixSpec{}, []mistake{required("spec.prefix", "root Prefix")}},
		{"root without prefix", ipam.PrefixSpec{IPFamily: ipam.IPv4}, []mistake{required("spec.prefix")}},
		{"root with length", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8", PrefixLength: 8},
			[]mistake{forbidden("spec.prefixLength", "root Prefix")}},
		{"root with length out of range", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8", PrefixLength: -1},
			[]mistake{forbidden("spec.prefixLength")}},
		{"root with length, without prefix", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 8},
			[]mistake{forbidden("spec.prefixLength"), required("spec.prefix")}},

		{"child by reference and length", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref("parent")}, nil},
		{"child by reference and prefix", ipam.PrefixSpec{IPFamily: ipam.IPv6, Prefix: "2001:db8::/32", ParentRef: ref("parent")}, nil},
		{"child by selector and length", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentSelector: selector("public")}, nil},
		{"child by selector and prefix", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", ParentSelector: selector("public")}, nil},
		{"child by reference and selector", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref("parent"), ParentSelector: selector("public")}, nil},
		{"child of any parent", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentSelector: &metav1.LabelSelector{}}, nil},
		{"child by dotted name", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref("a.b")}, nil},
		{"child by all operators", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "a", Operator: metav1.LabelSelectorOpIn, Values: []string{"b"}}, {Key: "a", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"c"}},
			{Key: "example.org/d", Operator: metav1.LabelSelectorOpExists}, {Key: "e", Operator: metav1.LabelSelectorOpDoesNotExist}}}}, nil},
		{"child with prefix and length that agree", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: 9, ParentRef: ref("parent")}, nil},
		{"child with prefix and length that disagree", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: 10, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefixLength", "must agree with prefix 10.0.0.0/9")}},
		{"child with prefix and length out of range", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: 33, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefixLength", "must agree")}},
		{"child with prefix and negative length", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: -9, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefixLength", "must agree")}},
		{"child with bad prefix and good length", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.1/9", PrefixLength: 10, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefix", "10.0.0.0/9")}},
		{"child with bad prefix and bad length", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.1/9", PrefixLength: 33, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefix", "10.0.0.0/9"), invalid("spec.prefixLength", "between 1 and 32")}},
		{"child with neither prefix nor length", ipam.PrefixSpec{IPFamily: ipam.IPv4, ParentRef: ref("parent")},
			[]mistake{required("spec.prefixLength", "prefix or prefixLength")}},

		{"length 1", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 1, ParentRef: ref("parent")}, nil},
		{"length 32, v4", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 32, ParentRef: ref("parent")}, nil},
		{"length 33, v4", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 33, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefixLength", "must be between 1 and 32")}},
		{"length 128, v6", ipam.PrefixSpec{IPFamily: ipam.IPv6, PrefixLength: 128, ParentRef: ref("parent")}, nil},
		{"length 129, v6", ipam.PrefixSpec{IPFamily: ipam.IPv6, PrefixLength: 129, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefixLength", "must be between 1 and 128")}},
		{"negative length", ipam.PrefixSpec{IPFamily: ipam.IPv6, PrefixLength: -1, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefixLength", "must be between 1 and 128")}},
		{"length 128 of a family to be told", ipam.PrefixSpec{PrefixLength: 128, ParentRef: ref("parent")}, nil},
		{"length 129 of a family to be told", ipam.PrefixSpec{PrefixLength: 129, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefixLength", "must be between 1 and 128")}},

		{"family told by the parent later", ipam.PrefixSpec{PrefixLength: 9, ParentRef: ref("parent")}, nil},
		{"family told by the parent later, in spite of the selector", ipam.PrefixSpec{PrefixLength: 9, ParentRef: ref("parent"), ParentSelector: selector("public")}, nil},
		{"family told by nothing", ipam.PrefixSpec{PrefixLength: 9, ParentSelector: selector("public")}, []mistake{required("spec.ipFamily")}},
		{"unknown family", ipam.PrefixSpec{IPFamily: "IPv5", PrefixLength: 9, ParentRef: ref("parent")}, []mistake{notSupported("spec.ipFamily", `"IPv4", "IPv6"`)}},
		{"family in lower case", ipam.PrefixSpec{IPFamily: "ipv4", PrefixLength: 9, ParentRef: ref("parent")}, []mistake{notSupported("spec.ipFamily")}},
		{"unknown family with prefix", ipam.PrefixSpec{IPFamily: "IPv5", Prefix: "10.0.0.0/8"}, []mistake{notSupported("spec.ipFamily")}},
		{"unknown family with bad prefix", ipam.PrefixSpec{IPFamily: "IPv5", Prefix: "10.0.0.0"}, []mistake{notSupported("spec.ipFamily"), invalid("spec.prefix", notCIDR)}},
		{"v4 prefix of family IPv6", ipam.PrefixSpec{IPFamily: ipam.IPv6, Prefix: "10.0.0.0/8"}, []mistake{invalid("spec.prefix", "must be an IPv6 prefix")}},
		{"v6 prefix of family IPv4", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "2000::/8"}, []mistake{invalid("spec.prefix", "must be an IPv4 prefix")}},
		{"v6 prefix and length of family IPv4", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "2000::/48", PrefixLength: 48, ParentRef: ref("parent")},
			[]mistake{invalid("spec.prefix", "must be an IPv4 prefix")}},

		{"reference without name", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref("")}, []mistake{required("spec.parentRef.name")}},
		{"reference to itself", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref("self")}, []mistake{invalid("spec.parentRef.name", "itself")}},
		{"everything wrong", ipam.PrefixSpec{IPFamily: "IPv5", Prefix: "10.0.0.1/8", PrefixLength: -1, ParentRef: ref(""), ParentSelector: &badSelectors[0].selector},
			[]mistake{notSupported("spec.ipFamily"), invalid("spec.prefix"), invalid("spec.prefixLength"), required("spec.parentRef.name"), badSelectors[0].want("spec.parentSelector")}},
	}
	for _, tt := range badPrefixes {
		tests = append(tests, []struct {
			name string
			spec ipam.PrefixSpec
			want []mistake
		}{
			{"root: " + tt.name, ipam.PrefixSpec{Prefix: tt.prefix}, []mistake{invalid("spec.prefix", tt.detail)}},
			{"child: " + tt.name, ipam.PrefixSpec{Prefix: tt.prefix, ParentRef: ref("parent")}, []mistake{invalid("spec.prefix", tt.detail)}},
			{"child by selector: " + tt.name, ipam.PrefixSpec{Prefix: tt.prefix, ParentSelector: selector("public")}, []mistake{invalid("spec.prefix", tt.detail)}},
		}...)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			prefix := newPrefix(tt.spec, ipam.PrefixStatus{})
			check(t, ValidatePrefix(prefix), tt.want...)
			// An update that does not change the spec is valid, so that an invalid object can still be deleted.
			check(t, ValidatePrefixUpdate(prefix, prefix.DeepCopy()))
		})
	}

	for _, tt := range badNames {
		t.Run("reference: "+tt.name, func(t *testing.T) {
			prefix := newPrefix(ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref(tt.value)}, ipam.PrefixStatus{})
			check(t, ValidatePrefix(prefix), invalid("spec.parentRef.name", tt.detail))
		})
		t.Run("name: "+tt.name, func(t *testing.T) {
			prefix := newPrefix(ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8"}, ipam.PrefixStatus{})
			prefix.Name = tt.value
			check(t, ValidatePrefix(prefix), invalid("metadata.name", tt.detail))
		})
	}
	for _, tt := range badSelectors {
		t.Run("selector: "+tt.name, func(t *testing.T) {
			prefix := newPrefix(ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentSelector: &tt.selector}, ipam.PrefixStatus{})
			check(t, ValidatePrefix(prefix), tt.want("spec.parentSelector"))
		})
	}
	t.Run("no name and no namespace", func(t *testing.T) {
		prefix := newPrefix(ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8"}, ipam.PrefixStatus{})
		prefix.ObjectMeta = metav1.ObjectMeta{}
		check(t, ValidatePrefix(prefix), required("metadata.name"), required("metadata.namespace"))
	})
}

// TestValidatePrefixSpecPath tests types that embed a request. Paths begin with that of the field, and without a
// name no reference is to the Prefix itself.
func TestValidatePrefixSpecPath(t *testing.T) {
	spec := ipam.PrefixSpec{PrefixLength: 9, ParentRef: ref("self"), ParentSelector: &badSelectors[0].selector}
	check(t, ValidatePrefixSpec(&spec, "", field.NewPath("spec", "template").Index(2)),
		badSelectors[0].want("spec.template[2].parentSelector"))
}

func TestValidatePrefixUpdate(t *testing.T) {
	root := ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8"}
	byRef := ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref("parent")}
	bySelector := ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentSelector: selector("public")}
	byBoth := ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: 9, ParentRef: ref("parent"), ParentSelector: selector("public")}
	exact := ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", ParentRef: ref("parent")}
	noFamily := ipam.PrefixSpec{PrefixLength: 9, ParentRef: ref("parent")}

	for _, tt := range []struct {
		name   string
		old    ipam.PrefixSpec
		mutate func(s *ipam.PrefixSpec)
		want   []mistake
	}{
		{"root: nothing", root, func(s *ipam.PrefixSpec) {}, nil},
		{"child: nothing", byBoth, func(s *ipam.PrefixSpec) {}, nil},

		{"family changed", byRef, func(s *ipam.PrefixSpec) { s.IPFamily = ipam.IPv6 }, []mistake{invalid("spec.ipFamily", "immutable once it is set (to IPv4)")}},
		{"family changed to an unknown one", byRef, func(s *ipam.PrefixSpec) { s.IPFamily = "IPv5" }, []mistake{invalid("spec.ipFamily")}},
		{"family unset", byRef, func(s *ipam.PrefixSpec) { s.IPFamily = "" }, []mistake{invalid("spec.ipFamily")}},
		{"family set", noFamily, func(s *ipam.PrefixSpec) { s.IPFamily = ipam.IPv6 }, nil},
		{"family set to an unknown one", noFamily, func(s *ipam.PrefixSpec) { s.IPFamily = "IPv5" }, []mistake{notSupported("spec.ipFamily")}},

		{"root: prefix changed", root, func(s *ipam.PrefixSpec) { s.Prefix = "11.0.0.0/8" }, []mistake{invalid("spec.prefix", "immutable once it is set (to 10.0.0.0/8)")}},
		{"root: prefix unset", root, func(s *ipam.PrefixSpec) { s.Prefix = "" }, []mistake{invalid("spec.prefix", "immutable")}},
		{"root: prefix changed to a bad one", root, func(s *ipam.PrefixSpec) { s.Prefix = "11.0.0.0" }, []mistake{invalid("spec.prefix", "immutable")}},
		{"child: prefix changed", exact, func(s *ipam.PrefixSpec) { s.Prefix = "10.128.0.0/9" }, []mistake{invalid("spec.prefix", "immutable")}},
		{"child: prefix unset", byBoth, func(s *ipam.PrefixSpec) { s.Prefix = "" }, []mistake{invalid("spec.prefix", "immutable")}},
		{"child: prefix set", byRef, func(s *ipam.PrefixSpec) { s.Prefix = "10.0.0.0/9" }, nil},
		{"child: prefix set to a bad one", byRef, func(s *ipam.PrefixSpec) { s.Prefix = "10.0.0.1/9" }, []mistake{invalid("spec.prefix", "did you mean 10.0.0.0/9?")}},
		{"child: prefix set to one of another family", byRef, func(s *ipam.PrefixSpec) { s.Prefix = "2000::/9" }, []mistake{invalid("spec.prefix", "must be an IPv4 prefix")}},
		{"child: prefix set to one of another length", byRef, func(s *ipam.PrefixSpec) { s.Prefix = "10.0.0.0/10" }, []mistake{invalid("spec.prefixLength", "must agree")}},

		{"child: length changed", byRef, func(s *ipam.PrefixSpec) { s.PrefixLength = 10 }, []mistake{invalid("spec.prefixLength", "immutable once it is set (to 9)")}},
		{"child: length unset", byBoth, func(s *ipam.PrefixSpec) { s.PrefixLength = 0 }, []mistake{invalid("spec.prefixLength", "immutable")}},
		{"child: length unset, and nothing else is left", byRef, func(s *ipam.PrefixSpec) { s.PrefixLength = 0 }, []mistake{invalid("spec.prefixLength", "immutable")}},
		{"child: length set", exact, func(s *ipam.PrefixSpec) { s.PrefixLength = 9 }, nil},
		{"child: length set to one that disagrees", exact, func(s *ipam.PrefixSpec) { s.PrefixLength = 10 }, []mistake{invalid("spec.prefixLength", "must agree")}},
		{"root: length set", root, func(s *ipam.PrefixSpec) { s.PrefixLength = 8 }, []mistake{forbidden("spec.prefixLength")}},

		{"child: parent changed", byRef, func(s *ipam.PrefixSpec) { s.ParentRef = ref("other") }, []mistake{invalid("spec.parentRef", "immutable once it is set (to parent)")}},
		{"child: parent changed to no name", byRef, func(s *ipam.PrefixSpec) { s.ParentRef = ref("") }, []mistake{invalid("spec.parentRef", "immutable")}},
		{"child: parent unset", byBoth, func(s *ipam.PrefixSpec) { s.ParentRef = nil }, []mistake{invalid("spec.parentRef", "immutable")}},
		{"child: parent unset, which would make it a root", byRef, func(s *ipam.PrefixSpec) { s.ParentRef = nil }, []mistake{invalid("spec.parentRef", "immutable")}},
		{"child: parent set", bySelector, func(s *ipam.PrefixSpec) { s.ParentRef = ref("parent") }, nil},
		{"child: parent set to no name", bySelector, func(s *ipam.PrefixSpec) { s.ParentRef = ref("") }, []mistake{required("spec.parentRef.name")}},
		{"child: parent set to itself", bySelector, func(s *ipam.PrefixSpec) { s.ParentRef = ref("self") }, []mistake{invalid("spec.parentRef.name", "itself")}},
		{"root: parent set", root, func(s *ipam.PrefixSpec) { s.ParentRef = ref("parent") }, []mistake{forbidden("spec.parentRef", "a root Prefix cannot become a child")}},

		{"child: selector changed", bySelector, func(s *ipam.PrefixSpec) { s.ParentSelector = selector("private") }, []mistake{invalid("spec.parentSelector", "immutable")}},
		{"child: selector widened", bySelector, func(s *ipam.PrefixSpec) { s.ParentSelector = &metav1.LabelSelector{} }, []mistake{invalid("spec.parentSelector", "immutable")}},
		{"child: selector unset", byBoth, func(s *ipam.PrefixSpec) { s.ParentSelector = nil }, []mistake{invalid("spec.parentSelector", "immutable")}},
		{"child: selector unset, which would make it a root", bySelector, func(s *ipam.PrefixSpec) { s.ParentSelector = nil }, []mistake{invalid("spec.parentSelector", "immutable")}},
		{"child: selector set", byRef, func(s *ipam.PrefixSpec) { s.ParentSelector = selector("public") }, []mistake{invalid("spec.parentSelector", "immutable")}},
		{"root: selector set", root, func(s *ipam.PrefixSpec) { s.ParentSelector = selector("public") }, []mistake{invalid("spec.parentSelector", "immutable")}},

		{"completed", bySelector, func(s *ipam.PrefixSpec) { s.Prefix, s.ParentRef = "10.0.0.0/9", ref("parent") }, nil},
		{"completed, with the family", noFamily, func(s *ipam.PrefixSpec) { s.IPFamily, s.Prefix = ipam.IPv6, "2000::/9" }, nil},
		{"everything changed", byBoth, func(s *ipam.PrefixSpec) {
			*s = ipam.PrefixSpec{IPFamily: ipam.IPv6, Prefix: "2000::/9", PrefixLength: 10, ParentRef: ref("other"), ParentSelector: selector("private")}
		}, []mistake{invalid("spec.ipFamily"), invalid("spec.prefix"), invalid("spec.prefixLength"), invalid("spec.parentRef"), invalid("spec.parentSelector")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oldPrefix := newPrefix(tt.old, ipam.PrefixStatus{})
			changed := oldPrefix.DeepCopy()
			tt.mutate(&changed.Spec)
			check(t, ValidatePrefixUpdate(changed, oldPrefix), tt.want...)
		})
	}

	t.Run("metadata", func(t *testing.T) {
		checkMetadata(t, func(mutate func(*metav1.ObjectMeta)) field.ErrorList {
			oldPrefix := newPrefix(root, ipam.PrefixStatus{})
			changed := oldPrefix.DeepCopy()
			mutate(&changed.ObjectMeta)
			return ValidatePrefixUpdate(changed, oldPrefix)
		})
	})
}

// checkMetadata calls validate, which validates an update, with some invalid metadata.
func checkMetadata(t *testing.T, validate func(mutate func(*metav1.ObjectMeta)) field.ErrorList) {
	for _, tt := range []struct {
		name   string
		mutate func(m *metav1.ObjectMeta)
		want   []mistake
	}{
		{"label", func(m *metav1.ObjectMeta) { m.Labels = map[string]string{"subnet-type": "public"} }, nil},
		{"bad label", func(m *metav1.ObjectMeta) { m.Labels = map[string]string{"bad key": "public"} }, []mistake{invalid("metadata.labels")}},
		{"name", func(m *metav1.ObjectMeta) { m.Name = "other" }, []mistake{invalid("metadata.name")}},
		{"uid", func(m *metav1.ObjectMeta) { m.UID = "other" }, []mistake{invalid("metadata.uid")}},
		{"no resourceVersion", func(m *metav1.ObjectMeta) { m.ResourceVersion = "" }, []mistake{invalid("metadata.resourceVersion")}},
	} {
		t.Run(tt.name, func(t *testing.T) { check(t, validate(tt.mutate), tt.want...) })
	}
}

func TestValidatePrefixStatusUpdate(t *testing.T) {
	root := ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8"}
	root6 := ipam.PrefixSpec{IPFamily: ipam.IPv6, Prefix: "2001:db8::/32"}
	child := ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", PrefixLength: 9, ParentRef: ref("parent"), ParentSelector: selector("public")}
	noPrefix := ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentRef: ref("parent")}
	noParent := ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/9", ParentSelector: selector("public")}
	neither := ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 9, ParentSelector: selector("public")}

	pending, allocated := ipam.PrefixPhasePending, ipam.PrefixPhaseAllocated
	allocatedWith := func(used ...string) ipam.PrefixStatus { return ipam.PrefixStatus{Phase: allocated, Used: used} }
	const used0 = "status.used[0]"

	type test struct {
		name string
		spec ipam.PrefixSpec
		old  ipam.PrefixPhase
		new  ipam.PrefixStatus
		want []mistake
	}
	tests := []test{
		{"Pending stays", noPrefix, pending, ipam.PrefixStatus{Phase: pending}, nil},
		{"Allocated stays", child, allocated, ipam.PrefixStatus{Phase: allocated}, nil},
		{"root is allocated", root, pending, ipam.PrefixStatus{Phase: allocated}, nil},
		{"child is allocated", child, pending, ipam.PrefixStatus{Phase: allocated}, nil},
		{"first phase", noPrefix, "", ipam.PrefixStatus{Phase: pending}, nil},
		{"no phase", noPrefix, pending, ipam.PrefixStatus{}, []mistake{notSupported("status.phase")}},
		{"unknown phase", noPrefix, pending, ipam.PrefixStatus{Phase: "Unknown"}, []mistake{notSupported("status.phase", `"Pending", "Allocated"`)}},
		{"a Prefix never fails", noPrefix, pending, ipam.PrefixStatus{Phase: "Failed"}, []mistake{notSupported("status.phase")}},
		{"Allocated is final", child, allocated, ipam.PrefixStatus{Phase: pending}, []mistake{forbidden("status.phase", "Allocated is final")}},
		{"Allocated is final, no phase", child, allocated, ipam.PrefixStatus{}, []mistake{forbidden("status.phase")}},
		{"Allocated is final, unknown phase", child, allocated, ipam.PrefixStatus{Phase: "Unknown"}, []mistake{forbidden("status.phase")}},
		{"Allocated is final, with used", child, allocated, ipam.PrefixStatus{Phase: pending, Used: []string{"10.0.0.0/10"}}, []mistake{forbidden("status.phase")}},
		{"Allocated without prefix", noPrefix, pending, ipam.PrefixStatus{Phase: allocated}, []mistake{invalid("status.phase", "without spec.prefix")}},
		{"Allocated without parent", noParent, pending, ipam.PrefixStatus{Phase: allocated}, []mistake{invalid("status.phase", "without spec.parentRef")}},
		{"Allocated without prefix and parent", neither, pending, ipam.PrefixStatus{Phase: allocated},
			[]mistake{invalid("status.phase", "without spec.prefix"), invalid("status.phase", "without spec.parentRef")}},

		{"used, v4", root, allocated, allocatedWith("10.0.0.0/9", "10.128.0.0/10", "10.255.255.255/32"), nil},
		{"used, v6", root6, allocated, allocatedWith("2001:db8::/33", "2001:db8:8000::/48"), nil},
		{"used in any order", root, allocated, allocatedWith("10.255.0.0/16", "10.0.0.0/24", "10.1.0.0/16"), nil},
		{"used less than before", root, allocated, allocatedWith(), nil},
		// Many prefixes are listed as the fewest CIDRs. The fewest can be the parent itself.
		{"used is the parent itself", root, allocated, allocatedWith("10.0.0.0/8"), nil},
		{"used while Pending", child, pending, ipam.PrefixStatus{Phase: pending, Used: []string{"10.0.0.0/10"}}, []mistake{forbidden("status.used", "Pending")}},
		{"used outside", root, allocated, allocatedWith("11.0.0.0/9"), []mistake{invalid(used0, "must be inside 10.0.0.0/8")}},
		{"used outside, just before", root, allocated, allocatedWith("9.255.255.255/32"), []mistake{invalid(used0)}},
		{"used outside, v6", root6, allocated, allocatedWith("2001:db9::/48"), []mistake{invalid(used0, "must be inside 2001:db8::/32")}},
		{"used around", root, allocated, allocatedWith("10.0.0.0/7"), []mistake{invalid(used0, "must be inside 10.0.0.0/8")}},
		{"used of the other family", root, allocated, allocatedWith("2001:db8::/48"), []mistake{invalid(used0, "must be an IPv4 prefix")}},
		{"used of the other family, v6", root6, allocated, allocatedWith("10.0.0.0/8"), []mistake{invalid(used0, "must be an IPv6 prefix")}},
		{"used empty", root, allocated, allocatedWith(""), []mistake{invalid(used0, notCIDR)}},
		{"used twice", root, allocated, allocatedWith("10.1.0.0/16", "10.0.0.0/16", "10.1.0.0/16"), []mistake{invalid("status.used[2]", "overlaps 10.1.0.0/16")}},
		{"used inside another", root, allocated, allocatedWith("10.0.1.0/24", "10.0.0.0/16"), []mistake{invalid(used0, "overlaps 10.0.0.0/16")}},
		{"used inside another, not a neighbour", root, allocated, allocatedWith("10.0.0.0/9", "10.0.0.0/16", "10.1.0.0/16", "10.128.0.0/16"),
			[]mistake{invalid("status.used[1]", "overlaps 10.0.0.0/9"), invalid("status.used[2]", "overlaps 10.0.0.0/9")}},
		{"used inside the parent itself", root, allocated, allocatedWith("10.0.0.0/8", "10.255.0.0/16"), []mistake{invalid("status.used[1]", "overlaps 10.0.0.0/8")}},
		{"used wrong in every way", root, allocated, allocatedWith("10.0.0.0/9", "10.0.0.1/16", "11.0.0.0/16", "2000::/16", "10.1.0.0/16"),
			[]mistake{invalid("status.used[1]", "10.0.0.0/16"), invalid("status.used[2]", "inside"), invalid("status.used[3]", "IPv4"), invalid("status.used[4]", "overlaps")}},
		{"used 1000", root, allocated, allocatedWith(manyPrefixes(1000)...), nil},
		{"used 1001", root, allocated, allocatedWith(manyPrefixes(1001)...), []mistake{{field.ErrorTypeTooMany, "status.used", ""}}},
		{"used 1001, one of them bad", root, allocated, allocatedWith(append(manyPrefixes(1000), "bad")...), []mistake{{field.ErrorTypeTooMany, "status.used", ""}}},

		{"usage", root, allocated, ipam.PrefixStatus{Phase: allocated, Usage: &ipam.PrefixUsage{Total: "1", Used: "0", Free: "1", Percent: 0, Allocations: 0}}, nil},
		{"usage, full", root, allocated, ipam.PrefixStatus{Phase: allocated, Usage: &ipam.PrefixUsage{Percent: 100, Allocations: 1}}, nil},
		{"usage over 100 percent", root, allocated, ipam.PrefixStatus{Phase: allocated, Usage: &ipam.PrefixUsage{Percent: 101}}, []mistake{invalid("status.usage.percent")}},
		{"usage below nothing", root, allocated, ipam.PrefixStatus{Phase: allocated, Usage: &ipam.PrefixUsage{Percent: -1, Allocations: -1}},
			[]mistake{invalid("status.usage.percent"), invalid("status.usage.allocations")}},
		{"usage of IPv6", root, allocated, ipam.PrefixStatus{Phase: allocated, Usage: &ipam.PrefixUsage{
			Total: "340282366920938463463374607431768211456", Used: "0", Free: "10", Reserved: "5", Cooling: "3", LargestFree: "/128"}}, nil},
		{"usage that is no number", root, allocated, ipam.PrefixStatus{Phase: allocated, Usage: &ipam.PrefixUsage{
			Total: "Inf", Used: "-1", Free: strings.Repeat("9", 100), Reserved: "1e9", Cooling: "0x1", LargestFree: "26"}},
			[]mistake{invalid("status.usage.total", "decimal"), invalid("status.usage.used", "decimal"), invalid("status.usage.free", "decimal"),
				invalid("status.usage.reserved", "decimal"), invalid("status.usage.cooling", "decimal"), invalid("status.usage.largestFree", "/26")}},
		{"usage with markup", root, allocated, ipam.PrefixStatus{Phase: allocated, Usage: &ipam.PrefixUsage{Total: "01", Used: "1 ", Free: "\x1b[31m1", LargestFree: "/26\n"}},
			[]mistake{invalid("status.usage.total"), invalid("status.usage.used"), invalid("status.usage.free"), invalid("status.usage.largestFree")}},
	}
	for _, tt := range badPrefixes {
		tests = append(tests, test{"used: " + tt.name, root, allocated, allocatedWith("10.0.0.0/16", tt.prefix), []mistake{invalid("status.used[1]", tt.detail)}})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			oldPrefix := newPrefix(tt.spec, ipam.PrefixStatus{Phase: tt.old})
			check(t, ValidatePrefixStatusUpdate(newPrefix(tt.spec, tt.new), oldPrefix), tt.want...)
		})
	}

	checkConditions(t, func(conditions ...metav1.Condition) field.ErrorList {
		return ValidatePrefixStatusUpdate(newPrefix(noPrefix, ipam.PrefixStatus{Phase: pending, Conditions: conditions}), newPrefix(noPrefix, ipam.PrefixStatus{Phase: pending}))
	})
	checkMetadata(t, func(mutate func(*metav1.ObjectMeta)) field.ErrorList {
		oldPrefix := newPrefix(root, ipam.PrefixStatus{Phase: allocated})
		changed := oldPrefix.DeepCopy()
		mutate(&changed.ObjectMeta)
		return ValidatePrefixStatusUpdate(changed, oldPrefix)
	})
}

func manyPrefixes(n int) []string {
	prefixes := make([]string, n)
	for i := range prefixes {
		prefixes[i] = fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)
	}
	return prefixes
}

// TestUsedAgainstPairs compares validateUsed with a comparison of all pairs. Comparing only neighbours would miss a
// prefix that contains another one further ahead.
func TestUsedAgainstPairs(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for range 2000 {
		prefixes := make([]netip.Prefix, random.Intn(12))
		used := make([]string, len(prefixes))
		for i := range prefixes {
			prefixes[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(random.Intn(256)), 0, 0}), 9+random.Intn(8)).Masked()
			used[i] = prefixes[i].String()
		}
		var want, got []string
		for i, p := range prefixes {
			for j, q := range prefixes {
				if p.Overlaps(q) && (q.Bits() < p.Bits() || q.Bits() == p.Bits() && j < i) {
					want = append(want, fmt.Sprintf("used[%d]", i))
					break
				}
			}
		}
		for _, err := range validateUsed(used, nil, "10.0.0.0/8", field.NewPath("used")) {
			got = append(got, err.Field)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("of %v got %v, want %v", used, got, want)
		}
	}
}

func TestValidatePrefixBinding(t *testing.T) {
	type test struct {
		name, prefix, parent string
		want                 []mistake
	}
	tests := []test{
		{"v4", "10.0.0.0/9", "parent", nil},
		{"v6", "2001:db8::/48", "parent", nil},
		{"nothing", "", "", []mistake{invalid("prefix", notCIDR), required("parentRef.name")}},
		{"itself", "10.0.0.0/9", "self", []mistake{invalid("parentRef.name", "itself")}},
	}
	for _, tt := range badPrefixes {
		tests = append(tests, test{tt.name, tt.prefix, "parent", []mistake{invalid("prefix", tt.detail)}})
	}
	for _, tt := range badNames {
		tests = append(tests, test{tt.name, "10.0.0.0/9", tt.value, []mistake{invalid("parentRef.name", tt.detail)}})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			binding := &ipam.PrefixBinding{Prefix: tt.prefix, ParentRef: ipam.BindingReference{Name: tt.parent}}
			check(t, ValidatePrefixBinding(binding, "self"), tt.want...)
		})
	}
}

// TestStoredUsage keeps what is no number if it is stored already, but lets nobody write it anew.
func TestStoredUsage(t *testing.T) {
	stored := &ipam.PrefixUsage{Total: "Inf", LargestFree: "none"}
	if errs := validateUsage(&ipam.PrefixUsage{Total: "Inf", Used: "1", LargestFree: "none"}, stored, field.NewPath("usage")); len(errs) > 0 {
		t.Error(errs)
	}
	if errs := validateUsage(&ipam.PrefixUsage{Free: "Inf", LargestFree: "no"}, stored, field.NewPath("usage")); len(errs) != 2 {
		t.Error(errs)
	}
}
