// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

func TestTheFamilyIsInferred(t *testing.T) {
	namespace, _ := shared.setUp(t)
	shared.Create(t, namespace, harness.PrefixKind, "{metadata: {name: six}, spec: {prefix: '2001:db8::/32'}}")
	shared.Create(t, namespace, harness.PrefixKind, "{metadata: {name: undecided}, spec: {prefixLength: 24, parentRef: {name: later}}}")
	for i, test := range []struct {
		kind harness.Kind
		spec string
		want any
	}{
		{harness.PrefixKind, "prefix: 10.0.0.0/8", "IPv4"},
		{harness.PrefixKind, "prefix: '2001:db8::/32'", "IPv6"},
		{harness.PrefixKind, "prefix: '::/0'", "IPv6"},
		{harness.PrefixKind, "prefix: 0.0.0.0/0", "IPv4"},
		{harness.PrefixKind, "prefix: 10.0.0.0/24, " + bySelector, "IPv4"},
		{harness.PrefixKind, "prefix: '2001:db8::/64', parentRef: {name: parent}", "IPv6"},
		{harness.PrefixKind, "prefixLength: 24, parentRef: {name: parent}", "IPv4"},
		{harness.PrefixKind, "prefixLength: 24, parentRef: {name: parent}, " + bySelector, "IPv4"},
		{harness.PrefixKind, "prefixLength: 64, parentRef: {name: six}", "IPv6"},
		{harness.PrefixKind, "prefixLength: 24, parentRef: {name: later}", nil},
		{harness.PrefixKind, "prefixLength: 24, parentRef: {name: undecided}", nil},
		{harness.PrefixKind, "ipFamily: IPv6, prefixLength: 24, parentRef: {name: parent}", "IPv6"},
		{harness.AllocationKind, "prefix: 10.0.0.0/24, prefixRef: {name: later}", "IPv4"},
		{harness.AllocationKind, "prefix: '2001:db8::/64', " + fromAny, "IPv6"},
		{harness.AllocationKind, "prefixLength: 24, prefixRef: {name: parent}", "IPv4"},
		{harness.AllocationKind, "prefixLength: 64, prefixRef: {name: six}", "IPv6"},
		{harness.AllocationKind, "prefixLength: 24, prefixRef: {name: later}", nil},
		{harness.AllocationKind, "prefixLength: 24, prefixRef: {name: undecided}", nil},
	} {
		name := fmt.Sprintf("new-%d", i)
		shared.Create(t, namespace, test.kind, fmt.Sprintf("{metadata: {name: %s}, spec: {%s}}", name, test.spec))
		if got := harness.At(shared.Get(t, namespace, test.kind, name), "spec.ipFamily"); got != test.want {
			t.Errorf("%s %s: got %v, not %v", test.kind.Name, test.spec, got, test.want)
		}
	}
}

// TestTheFamilyOfAParentOfAnotherNamespaceDoesNotCount names a parent that exists only in another namespace.
func TestTheFamilyOfAParentOfAnotherNamespaceDoesNotCount(t *testing.T) {
	shared.setUp(t)
	for k, ref := range map[harness.Kind]string{harness.PrefixKind: "parentRef", harness.AllocationKind: "prefixRef"} {
		obj := shared.Create(t, harness.NewNamespace(), k, "{metadata: {name: new}, spec: {prefixLength: 24, "+ref+": {name: parent}}}")
		if got := harness.At(obj, "spec.ipFamily"); got != nil {
			t.Errorf("%s: got %v", k.Name, got)
		}
	}
}

// TestAnOpenFamilyIsSetByTheBinding creates the parent after the child.
func TestAnOpenFamilyIsSetByTheBinding(t *testing.T) {
	for family, prefixes := range map[string][2]string{"IPv4": {"10.0.0.0/16", "10.0.4.0/24"}, "IPv6": {"2001::/16", "2001:d00::/24"}} {
		namespace, child := shared.setUp(t, "child-open")
		request := shared.Create(t, namespace, harness.AllocationKind, fixtures["request-open"].manifest)
		if harness.At(child, "spec.ipFamily") != nil || harness.At(request, "spec.ipFamily") != nil {
			t.Fatalf("it is not open: %v %v", child, request)
		}
		later := shared.Create(t, namespace, harness.PrefixKind, fmt.Sprintf("{metadata: {name: later}, spec: {prefix: %q}}", prefixes[0]))
		shared.write(t, later, harness.MergePatch, "{status: {phase: Allocated}}", "status").Must(t)

		// A length that is too large for the family is an error at this point.
		wide := shared.Create(t, namespace, harness.AllocationKind, "{metadata: {name: wide}, spec: {prefixLength: 64, prefixRef: {name: even-later}}}")
		if family == "IPv4" {
			status := shared.bind(t, namespace, harness.AllocationKind, wide.GetName(), fmt.Sprintf("{prefix: %q, prefixRef: {name: even-later}}", prefixes[1])).Refused(t, http.StatusUnprocessableEntity)
			if !slices.Equal(harness.Causes(status), []string{"spec.prefixLength"}) {
				t.Errorf("refused for %q: %s", harness.Causes(status), status.Message)
			}
		}

		request = shared.bind(t, namespace, harness.AllocationKind, "request-open", fmt.Sprintf("{prefix: %q, prefixRef: {name: later}}", prefixes[1])).Must(t)
		if got := harness.At(request, "spec.ipFamily"); got != family {
			t.Errorf("the request has family %v, not %s", got, family)
		}
		shared.delete(t, request, "").Must(t)
		shared.hold(t, child, "later", prefixes[1])
		child = shared.bind(t, namespace, harness.PrefixKind, "child-open", fmt.Sprintf("{prefix: %q, parentRef: {name: later}}", prefixes[1])).Must(t)
		if got := harness.At(child, "spec.ipFamily"); got != family {
			t.Errorf("the child has family %v, not %s", got, family)
		}
	}
}

// TestAnOpenFamilyIsSetWithThePrefix does the same with patches instead of a binding.
func TestAnOpenFamilyIsSetWithThePrefix(t *testing.T) {
	for _, way := range []string{harness.MergePatch, harness.JSON, harness.Strategic, harness.ApplyPatch} {
		_, child := shared.setUp(t, "child-open")
		if got := harness.At(shared.write(t, child, way, "{spec: {prefix: 10.0.4.0/24}}").Must(t), "spec.ipFamily"); got != "IPv4" {
			t.Errorf("%s: got %v", way, got)
		}
	}
}
