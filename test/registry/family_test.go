// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
)

func TestTheFamilyIsInferred(t *testing.T) {
	namespace, _ := shared.setUp(t)
	shared.create(t, namespace, prefixKind, "{metadata: {name: six}, spec: {prefix: '2001:db8::/32'}}")
	shared.create(t, namespace, prefixKind, "{metadata: {name: undecided}, spec: {prefixLength: 24, parentRef: {name: later}}}")
	for i, test := range []struct {
		kind kind
		spec string
		want any
	}{
		{prefixKind, "prefix: 10.0.0.0/8", "IPv4"},
		{prefixKind, "prefix: '2001:db8::/32'", "IPv6"},
		{prefixKind, "prefix: '::/0'", "IPv6"},
		{prefixKind, "prefix: 0.0.0.0/0", "IPv4"},
		{prefixKind, "prefix: 10.0.0.0/24, " + bySelector, "IPv4"},
		{prefixKind, "prefix: '2001:db8::/64', parentRef: {name: parent}", "IPv6"},
		{prefixKind, "prefixLength: 24, parentRef: {name: parent}", "IPv4"},
		{prefixKind, "prefixLength: 24, parentRef: {name: parent}, " + bySelector, "IPv4"},
		{prefixKind, "prefixLength: 64, parentRef: {name: six}", "IPv6"},
		{prefixKind, "prefixLength: 24, parentRef: {name: later}", nil},
		{prefixKind, "prefixLength: 24, parentRef: {name: undecided}", nil},
		{prefixKind, "ipFamily: IPv6, prefixLength: 24, parentRef: {name: parent}", "IPv6"},
		{allocationKind, "prefix: 10.0.0.0/24, prefixRef: {name: later}", "IPv4"},
		{allocationKind, "prefix: '2001:db8::/64', " + fromAny, "IPv6"},
		{allocationKind, "prefixLength: 24, prefixRef: {name: parent}", "IPv4"},
		{allocationKind, "prefixLength: 64, prefixRef: {name: six}", "IPv6"},
		{allocationKind, "prefixLength: 24, prefixRef: {name: later}", nil},
		{allocationKind, "prefixLength: 24, prefixRef: {name: undecided}", nil},
	} {
		name := fmt.Sprintf("new-%d", i)
		shared.create(t, namespace, test.kind, fmt.Sprintf("{metadata: {name: %s}, spec: {%s}}", name, test.spec))
		if got := at(shared.get(t, namespace, test.kind, name), "spec.ipFamily"); got != test.want {
			t.Errorf("%s %s: got %v, not %v", test.kind.name, test.spec, got, test.want)
		}
	}
}

// TestTheFamilyOfAParentOfAnotherNamespaceDoesNotCount has the name only elsewhere.
func TestTheFamilyOfAParentOfAnotherNamespaceDoesNotCount(t *testing.T) {
	shared.setUp(t)
	for k, ref := range map[kind]string{prefixKind: "parentRef", allocationKind: "prefixRef"} {
		obj := shared.create(t, newNamespace(), k, "{metadata: {name: new}, spec: {prefixLength: 24, "+ref+": {name: parent}}}")
		if got := at(obj, "spec.ipFamily"); got != nil {
			t.Errorf("%s: got %v", k.name, got)
		}
	}
}

// TestAnOpenFamilyIsSetByTheBinding has the parent come after the child.
func TestAnOpenFamilyIsSetByTheBinding(t *testing.T) {
	for family, prefixes := range map[string][2]string{"IPv4": {"10.0.0.0/16", "10.0.4.0/24"}, "IPv6": {"2001::/16", "2001:d00::/24"}} {
		namespace, child := shared.setUp(t, "child-open")
		request := shared.create(t, namespace, allocationKind, fixtures["request-open"].manifest)
		if at(child, "spec.ipFamily") != nil || at(request, "spec.ipFamily") != nil {
			t.Fatalf("it is not open: %v %v", child, request)
		}
		later := shared.create(t, namespace, prefixKind, fmt.Sprintf("{metadata: {name: later}, spec: {prefix: %q}}", prefixes[0]))
		shared.write(t, later, mergePatch, "{status: {phase: Allocated}}", "status").must(t)

		// A length that the family does not have is noticed now at the latest.
		wide := shared.create(t, namespace, allocationKind, "{metadata: {name: wide}, spec: {prefixLength: 64, prefixRef: {name: even-later}}}")
		if family == "IPv4" {
			status := shared.bind(t, namespace, allocationKind, wide.GetName(), fmt.Sprintf("{prefix: %q, prefixRef: {name: even-later}}", prefixes[1])).refused(t, http.StatusUnprocessableEntity)
			if !slices.Equal(causes(status), []string{"spec.prefixLength"}) {
				t.Errorf("refused for %q: %s", causes(status), status.Message)
			}
		}

		request = shared.bind(t, namespace, allocationKind, "request-open", fmt.Sprintf("{prefix: %q, prefixRef: {name: later}}", prefixes[1])).must(t)
		if got := at(request, "spec.ipFamily"); got != family {
			t.Errorf("the request has family %v, not %s", got, family)
		}
		shared.delete(t, request, "").must(t)
		shared.hold(t, child, "later", prefixes[1])
		child = shared.bind(t, namespace, prefixKind, "child-open", fmt.Sprintf("{prefix: %q, parentRef: {name: later}}", prefixes[1])).must(t)
		if got := at(child, "spec.ipFamily"); got != family {
			t.Errorf("the child has family %v, not %s", got, family)
		}
	}
}

// TestAnOpenFamilyIsSetWithThePrefix is the long way of the same.
func TestAnOpenFamilyIsSetWithThePrefix(t *testing.T) {
	for _, way := range []string{mergePatch, jsonType, strategic, applyPatch} {
		_, child := shared.setUp(t, "child-open")
		if got := at(shared.write(t, child, way, "{spec: {prefix: 10.0.4.0/24}}").must(t), "spec.ipFamily"); got != "IPv4" {
			t.Errorf("%s: got %v", way, got)
		}
	}
}
