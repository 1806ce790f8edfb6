// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// badAddresses are not canonical prefixes. message is a part of the error.
var badAddresses = []struct{ prefix, message string }{
	{"nonsense", "CIDR notation"},
	{"10.0.0.0", "CIDR notation with a length"},
	{"10.0.0/8", "CIDR notation"},
	{"10.0.0.0/", "CIDR notation with a length"},
	{"10.0.0.0/33", "CIDR notation with a length between 0 and 32"},
	{"10.0.0.0/-1", "CIDR notation"},
	{"10.0.0.0/08", "CIDR notation without leading zeros in the length"},
	{"010.0.0.0/8", "CIDR notation without leading zeros in the address"},
	{"10.0.0.00/8", "CIDR notation without leading zeros in the address"},
	{" 10.0.0.0/8", "CIDR notation without white space"},
	{"10.0.0.0/8 ", "CIDR notation without white space"},
	{"10.0.0.0/8\n", "CIDR notation without white space"},
	{"2001:db8::/129", "CIDR notation with a length between 0 and 128"},
	{"fe80::%eth0/64", "CIDR notation without a zone"},
	{"::ffff:10.0.0.0/104", "IPv4-mapped"},
	{"10.0.0.1/24", "10.0.0.0/24"},
	{"2001:db8::1/64", "2001:db8::/64"},
	{"2001:DB8::/32", "2001:db8::/32"},
	{"2001:0db8::/32", "2001:db8::/32"},
	{"2001:db8:0:0::/64", "2001:db8::/64"},
}

// badRow is a request that must be rejected.
type badRow struct {
	name string
	// of is the fixture to write to. If it is empty, an object of the kind is created.
	of   string
	kind harness.Kind
	// below is the subresource: "", "status" or "binding".
	below string
	// body is the object to create, the changes, or the binding.
	body string
	// fields are the fields in the causes of the error. message is a part of it. code is 422 if unset.
	fields  []string
	message string
	code    int
	// way limits the row to one kind of request. If empty, all are tried.
	way string
}

// ways returns the kinds of requests for a row: all that can send it.
func (r badRow) ways() []string {
	switch {
	case r.way != "":
		return []string{r.way}
	case r.below == "binding":
		return []string{harness.JSON}
	case r.of != "":
		return []string{harness.JSON, harness.MergePatch}
	case strings.Contains(r.body, "metadata"):
		return []string{harness.JSON}
	default:
		return []string{harness.JSON, harness.ApplyPatch}
	}
}

// send sends the row with one kind of request.
func (r badRow) send(t *testing.T, namespace, way string) harness.Answer {
	t.Helper()
	if r.of == "" {
		if way == harness.ApplyPatch {
			return shared.Apply(t, namespace, r.kind, "applier", r.body, "new")
		}
		whole := map[string]any{"metadata": map[string]any{"name": "new"}}
		harness.Merge(whole, harness.ParseObject(t, r.body))
		return shared.Do(t, http.MethodPost, harness.Path(namespace, r.kind), harness.JSON, harness.Encode(t, whole))
	}
	if r.below == "binding" {
		return shared.bind(t, namespace, fixtures[r.of].kind, r.of, r.body)
	}
	var below []string
	if r.below != "" {
		below = []string{r.below}
	}
	return shared.write(t, shared.Get(t, namespace, fixtures[r.of].kind, r.of), way, r.body, below...)
}

// TestBadInputIsRefusedAndChangesNothing sends every mistake to the server, with every kind of request that can
// contain it.
func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	for _, row := range badRows() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var names []string
			if row.of != "" && row.of != "parent" {
				names = append(names, row.of)
			}
			namespace, _ := shared.setUp(t, names...)
			before := shared.snapshot(t, namespace)
			for _, way := range row.ways() {
				code := row.code
				if code == 0 {
					code = http.StatusUnprocessableEntity
				}
				status := row.send(t, namespace, way).Refused(t, code)
				if goName.MatchString(status.Message) {
					t.Errorf("%s shows the names of Go: %s", way, status.Message)
				}
				if got := harness.Causes(status); !slices.Equal(got, row.fields) && len(got)+len(row.fields) > 0 {
					t.Errorf("%s: refused for %q, not for %q: %s", way, got, row.fields, status.Message)
				}
				if !strings.Contains(status.Message, row.message) {
					t.Errorf("%s: %q does not say %q", way, status.Message, row.message)
				}
				if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
					t.Errorf("%s: it was refused, but the namespace changed\nfrom %v\nto   %v", way, before, after)
				}
			}
		})
	}
}

func badRows() []badRow {
	rows := []badRow{
		// Roots.
		{name: "root without prefix", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPv4}}", fields: []string{"spec.prefix"}},
		{name: "root without anything", kind: harness.PrefixKind, body: "{spec: {}}", fields: []string{"spec.prefix"}},
		{name: "root with prefixLength", kind: harness.PrefixKind, body: "{spec: {prefix: 10.0.0.0/8, prefixLength: 8}}", fields: []string{"spec.prefixLength"}},
		{name: "root with prefixLength only", kind: harness.PrefixKind, body: "{spec: {prefixLength: 8}}", fields: []string{"spec.prefix", "spec.prefixLength"}},
		{name: "root of the wrong family", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPv6, prefix: 10.0.0.0/8}}", fields: []string{"spec.prefix"}, message: "IPv6"},
		{name: "root of an unknown family", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPX, prefix: 10.0.0.0/8}}", fields: []string{"spec.ipFamily"}, message: `"IPv4", "IPv6"`},
		{name: "root of a family in lower case", kind: harness.PrefixKind, body: "{spec: {ipFamily: ipv4, prefix: 10.0.0.0/8}}", fields: []string{"spec.ipFamily"}},

		// Children.
		{name: "child of neither prefix nor length", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPv4, parentRef: {name: parent}}}", fields: []string{"spec.prefixLength"}},
		{name: "child by selector of neither prefix nor length", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPv4, " + bySelector + "}}", fields: []string{"spec.prefixLength"}},
		{name: "child of unset length 0", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPv4, prefixLength: 0, parentRef: {name: parent}}}", fields: []string{"spec.prefixLength"}},
		{name: "child by selector without family", kind: harness.PrefixKind, body: "{spec: {prefixLength: 24, " + bySelector + "}}", fields: []string{"spec.ipFamily"}},
		{name: "child that is its own parent", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPv4, prefixLength: 24, parentRef: {name: new}}}", fields: []string{"spec.parentRef.name"}, message: "itself"},
		{name: "child of prefix and length that disagree", kind: harness.PrefixKind, body: "{spec: {prefix: 10.0.3.0/24, prefixLength: 25, parentRef: {name: parent}}}", fields: []string{"spec.prefixLength"}, message: "10.0.3.0/24"},
		{name: "child of several mistakes, each reported once", kind: harness.PrefixKind, body: "{spec: {ipFamily: IPX, prefixLength: 200, parentRef: {name: A}, parentSelector: {matchLabels: {'-': x}}}}",
			fields: []string{"spec.ipFamily", "spec.parentRef.name", "spec.parentSelector.matchLabels", "spec.prefixLength"}},

		// PrefixAllocations.
		{name: "request of both prefix and length", kind: harness.AllocationKind, body: "{spec: {prefix: 10.0.3.0/24, prefixLength: 24, prefixRef: {name: parent}}}", fields: []string{"spec.prefixLength"}},
		{name: "request of neither prefix nor length", kind: harness.AllocationKind, body: "{spec: {ipFamily: IPv4, prefixRef: {name: parent}}}", fields: []string{"spec.prefixLength"}},
		{name: "request from nowhere", kind: harness.AllocationKind, body: "{spec: {ipFamily: IPv4, prefixLength: 24}}", fields: []string{"spec.prefixRef"}},
		{name: "request by selector without family", kind: harness.AllocationKind, body: "{spec: {prefixLength: 24, " + fromAny + "}}", fields: []string{"spec.ipFamily"}},
		{name: "request of nothing", kind: harness.AllocationKind, body: "{spec: {}}", fields: []string{"spec.ipFamily", "spec.prefixLength", "spec.prefixRef"}},

		// The status of a Prefix.
		{name: "status of an unknown phase", of: "root", below: "status", body: "{status: {phase: Failed}}", fields: []string{"status.phase"}},
		{name: "status without phase", of: "root", below: "status", body: "{status: {phase: null}}", fields: []string{"status.phase"}},
		{name: "status Allocated of a child without prefix", of: "child-by-ref", below: "status", body: "{status: {phase: Allocated}}", fields: []string{"status.phase"}},
		{name: "status Allocated of a child without parent", of: "child-static", below: "status", body: "{status: {phase: Allocated}}", fields: []string{"status.phase"}},
		{name: "status Allocated of a child without either", of: "child", below: "status", body: "{status: {phase: Allocated}}", fields: []string{"status.phase", "status.phase"}},
		{name: "status Pending with used", of: "root", below: "status", body: "{status: {used: [10.9.0.0/24]}}", fields: []string{"status.used"}},
		{name: "status used outside the prefix", of: "parent", below: "status", body: "{status: {used: [10.0.0.0/24, 10.1.0.0/24]}}", fields: []string{"status.used[1]"}},
		{name: "status used wider than the prefix", of: "parent", below: "status", body: "{status: {used: [10.0.0.0/8]}}", fields: []string{"status.used[0]"}},
		{name: "status used that overlaps", of: "parent", below: "status", body: "{status: {used: [10.0.2.0/24, 10.0.2.128/25]}}", fields: []string{"status.used[1]"}, message: "10.0.2.0/24"},
		{name: "status used of the wrong family", of: "parent", below: "status", body: "{status: {used: ['2001:db8::/64']}}", fields: []string{"status.used[0]"}},
		{name: "status used too long", of: "parent", below: "status", body: "{status: {used: [" + strings.Repeat("10.0.0.0/24,", 1001) + "]}}", fields: []string{"status.used"}},
		{name: "status usage out of range", of: "parent", below: "status", body: "{status: {usage: {total: '1', used: '1', free: '0', percent: 101, allocations: -1}}}", fields: []string{"status.usage.allocations", "status.usage.percent"}},
		{name: "phase of a root goes back", of: "parent", below: "status", body: "{status: {phase: Pending}}", fields: []string{"status.phase"}, message: "final"},
		{name: "phase of a root is unset", of: "parent", below: "status", body: "{status: {phase: null}}", fields: []string{"status.phase"}},
		{name: "phase of a child goes back", of: "child-allocated", below: "status", body: "{status: {phase: Pending}}", fields: []string{"status.phase"}},

		// The status of a PrefixAllocation.
		{name: "status of an unknown phase of a request", of: "request", below: "status", body: "{status: {phase: Done}}", fields: []string{"status.phase"}},
		{name: "status of a request without phase", of: "request", below: "status", body: "{status: {phase: null}}", fields: []string{"status.phase"}},
		{name: "status Allocated of a request without prefix", of: "request-by-ref", below: "status", body: "{status: {phase: Allocated}}", fields: []string{"status.prefix"}},
		{name: "status Allocated of a request without parent", of: "request", below: "status", body: "{status: {phase: Allocated, prefix: 10.0.1.0/24}}", fields: []string{"status.phase"}},
		{name: "status Allocated of the wrong length", of: "request-by-ref", below: "status", body: "{status: {phase: Allocated, prefix: 10.0.0.0/25}}", fields: []string{"status.prefix"}, message: "/24"},
		{name: "status Allocated of the wrong family", of: "request-by-ref", below: "status", body: "{status: {phase: Allocated, prefix: '2001:d00::/24'}}", fields: []string{"status.prefix"}, message: "IPv4"},
		{name: "status Pending with prefix", of: "request", below: "status", body: "{status: {prefix: 10.0.1.0/24}}", fields: []string{"status.prefix"}},
		{name: "status Failed with prefix", of: "request", below: "status", body: "{status: {phase: Failed, prefix: 10.0.1.0/24}}", fields: []string{"status.prefix"}},
		{name: "phase Allocated of a request goes back", of: "request-allocated", below: "status", body: "{status: {phase: Pending, prefix: null}}", fields: []string{"status.phase"}, message: "final"},
		{name: "phase Allocated of a request fails", of: "request-allocated", below: "status", body: "{status: {phase: Failed, prefix: null}}", fields: []string{"status.phase"}},
		{name: "phase of an allocated request is unset", of: "request-allocated", below: "status", body: "{status: {phase: null}}", fields: []string{"status.phase"}},
		{name: "phase Failed goes back", of: "request-failed", below: "status", body: "{status: {phase: Pending}}", fields: []string{"status.phase"}},
		{name: "phase Failed is allocated", of: "request-failed", below: "status", body: "{status: {phase: Allocated, prefix: 10.0.1.0/24}}", fields: []string{"status.phase"}},
		{name: "allocated prefix changes", of: "request-allocated", below: "status", body: "{status: {prefix: 10.0.3.0/24}}", fields: []string{"status.prefix"}, message: "10.0.2.0/24"},
		{name: "allocated prefix is unset", of: "request-allocated", below: "status", body: "{status: {prefix: null}}", fields: []string{"status.prefix"}},

		// Immutable fields of a root.
		{name: "prefix of a root changes", of: "root", body: "{spec: {prefix: 10.8.0.0/16}}", fields: []string{"spec.prefix"}, message: "10.9.0.0/16"},
		{name: "prefix of an allocated root changes", of: "parent", body: "{spec: {prefix: 10.0.0.0/8}}", fields: []string{"spec.prefix"}},
		{name: "family of a root changes", of: "root", body: "{spec: {ipFamily: IPv6}}", fields: []string{"spec.ipFamily"}},
		{name: "root gets a length", of: "root", body: "{spec: {prefixLength: 16}}", fields: []string{"spec.prefixLength"}},
		{name: "root gets a parent", of: "root", body: "{spec: {parentRef: {name: parent}}}", fields: []string{"spec.parentRef"}},
		{name: "root gets a selector", of: "root", body: "{spec: {" + bySelector + "}}", fields: []string{"spec.parentSelector"}},
		// Immutable fields of a child.
		{name: "family of a child changes", of: "child", body: "{spec: {ipFamily: IPv6}}", fields: []string{"spec.ipFamily"}},
		{name: "length of a child changes", of: "child", body: "{spec: {prefixLength: 25}}", fields: []string{"spec.prefixLength"}},
		{name: "selector of a child changes", of: "child", body: "{spec: {parentSelector: {matchLabels: {net: red}}}}", fields: []string{"spec.parentSelector"}},
		{name: "length of a child is unset", of: "child", body: "{spec: {prefixLength: null}}", fields: []string{"spec.prefixLength"}},
		{name: "selector of a child is unset", of: "child", body: "{spec: {parentSelector: null}}", fields: []string{"spec.parentSelector"}},
		{name: "child by reference gets a selector", of: "child-by-ref", body: "{spec: {" + bySelector + "}}", fields: []string{"spec.parentSelector"}},
		{name: "parent of a child changes", of: "child-by-ref", body: "{spec: {parentRef: {name: other}}}", fields: []string{"spec.parentRef"}, message: "parent"},
		{name: "prefix of a static child changes", of: "child-static", body: "{spec: {prefix: 10.0.4.0/24}}", fields: []string{"spec.prefix"}},
		{name: "prefix of an allocated child changes", of: "child-allocated", body: "{spec: {prefix: 10.0.4.0/24}}", fields: []string{"spec.prefix"}},
		{name: "everything of an allocated child changes", of: "child-allocated",
			body:   "{spec: {ipFamily: IPv6, prefix: '2001:db8::/64', prefixLength: 64, parentRef: {name: other}, parentSelector: {matchLabels: {net: red}}}}",
			fields: []string{"spec.ipFamily", "spec.parentRef", "spec.parentSelector", "spec.prefix", "spec.prefixLength"}},
		// A field that is set later is validated like a field of a new object.
		{name: "prefix that is set disagrees with the length", of: "child", body: "{spec: {prefix: 10.0.3.0/25}}", fields: []string{"spec.prefixLength"}},
		{name: "prefix that is set is of the wrong family", of: "child", body: "{spec: {prefix: '2001:d00::/24'}}", fields: []string{"spec.prefix"}, message: "IPv4"},
		{name: "prefix that is set has host bits", of: "child", body: "{spec: {prefix: 10.0.3.1/24}}", fields: []string{"spec.prefix"}, message: "10.0.3.0/24"},
		{name: "length that is set disagrees with the prefix", of: "child-static", body: "{spec: {prefixLength: 25}}", fields: []string{"spec.prefixLength"}},
		{name: "parent that is set is itself", of: "child", body: "{spec: {parentRef: {name: child}}}", fields: []string{"spec.parentRef.name"}},
		{name: "parent that is set has no name", of: "child", body: "{spec: {parentRef: {name: ''}}}", fields: []string{"spec.parentRef.name"}},
		// Immutable fields of a PrefixAllocation.
		{name: "family of a request changes", of: "request", body: "{spec: {ipFamily: IPv6}}", fields: []string{"spec.ipFamily"}},
		{name: "length of a request changes", of: "request", body: "{spec: {prefixLength: 25}}", fields: []string{"spec.prefixLength"}},
		{name: "length of a request becomes a prefix", of: "request", body: "{spec: {prefix: 10.0.3.0/24, prefixLength: null}}", fields: []string{"spec.prefix", "spec.prefixLength"}},
		{name: "request gets a prefix", of: "request", body: "{spec: {prefix: 10.0.3.0/24}}", fields: []string{"spec.prefix"}},
		{name: "request gets a length", of: "request-static", body: "{spec: {prefixLength: 24}}", fields: []string{"spec.prefixLength"}},
		{name: "prefix of a request changes", of: "request-static", body: "{spec: {prefix: 10.0.4.0/24}}", fields: []string{"spec.prefix"}},
		{name: "selector of a request changes", of: "request", body: "{spec: {prefixSelector: {matchLabels: {net: red}}}}", fields: []string{"spec.prefixSelector"}},
		{name: "selector of a request is unset", of: "request-allocated", body: "{spec: {prefixSelector: null}}", fields: []string{"spec.prefixSelector"}},
		{name: "request by reference gets a selector", of: "request-by-ref", body: "{spec: {" + fromAny + "}}", fields: []string{"spec.prefixSelector"}},
		{name: "parent of a request changes", of: "request-by-ref", body: "{spec: {prefixRef: {name: other}}}", fields: []string{"spec.prefixRef"}},
		{name: "parent of an allocated request changes", of: "request-allocated", body: "{spec: {prefixRef: {name: other}}}", fields: []string{"spec.prefixRef"}},

		// Bindings. The tests of bindings have those that contradict the state of the object.
		{name: "binding without anything", of: "child", below: "binding", body: "{}", fields: []string{"parentRef.name", "prefix"}},
		{name: "binding to itself", of: "child", below: "binding", body: "{prefix: 10.0.3.0/24, parentRef: {name: child}}", fields: []string{"parentRef.name"}},
		{name: "binding to no name", of: "child", below: "binding", body: "{prefix: 10.0.3.0/24, parentRef: {name: ''}}", fields: []string{"parentRef.name"}},
		{name: "binding to a name that is none", of: "child", below: "binding", body: "{prefix: 10.0.3.0/24, parentRef: {name: A_b}}", fields: []string{"parentRef.name"}},
		{name: "binding of a request without anything", of: "request", below: "binding", body: "{}", fields: []string{"prefix", "prefixRef.name"}},
		{name: "binding of a request to a name that is none", of: "request", below: "binding", body: "{prefix: 10.0.3.0/24, prefixRef: {name: A_b}}", fields: []string{"prefixRef.name"}},
	}

	// Addresses, in every field that has one.
	for _, bad := range badAddresses {
		places := []badRow{
			{name: "root", kind: harness.PrefixKind, body: "{spec: {prefix: %q}}", fields: []string{"spec.prefix"}},
			{name: "child", kind: harness.PrefixKind, body: "{spec: {prefix: %q, parentRef: {name: parent}}}", fields: []string{"spec.prefix"}},
			{name: "child by selector", kind: harness.PrefixKind, body: "{spec: {prefix: %q, " + bySelector + "}}", fields: []string{"spec.prefix"}},
			{name: "request", kind: harness.AllocationKind, body: "{spec: {prefix: %q, " + fromAny + "}}", fields: []string{"spec.prefix"}},
			{name: "binding", of: "child", below: "binding", body: "{prefix: %q, parentRef: {name: parent}}", fields: []string{"prefix"}},
			{name: "binding of a request", of: "request", below: "binding", body: "{prefix: %q, prefixRef: {name: parent}}", fields: []string{"prefix"}},
			{name: "status", of: "parent", below: "status", body: "{status: {used: [%q]}}", fields: []string{"status.used[0]"}},
			{name: "status of a request", of: "request-by-ref", below: "status", body: "{status: {phase: Allocated, prefix: %q}}", fields: []string{"status.prefix"}},
		}
		for _, row := range places {
			row.name = fmt.Sprintf("%s of prefix %q", row.name, bad.prefix)
			row.body, row.message = fmt.Sprintf(row.body, bad.prefix), bad.message
			rows = append(rows, row)
		}
	}

	// Fields that both kinds have under different names.
	for _, k := range []struct {
		harness.Kind
		ref, selector, child, none string
	}{
		{harness.PrefixKind, "parentRef", "parentSelector", "child", "Prefix"},
		{harness.AllocationKind, "prefixRef", "prefixSelector", "request", "PrefixAllocation"},
	} {
		add := func(name string, body string, code int, fields ...string) {
			rows = append(rows, badRow{name: k.Name + " " + name, kind: k.Kind, body: body, fields: fields, code: code})
		}
		for length, family := range map[int]string{-1: "IPv4", 33: "IPv4", -128: "IPv6", 129: "IPv6", 1 << 30: "IPv4"} {
			add(fmt.Sprintf("of length %d", length), fmt.Sprintf("{spec: {ipFamily: %s, prefixLength: %d, %s: {name: parent}}}", family, length, k.ref), 0, "spec.prefixLength")
		}
		add("longer than the family of its parent", fmt.Sprintf("{spec: {prefixLength: 33, %s: {name: parent}}}", k.ref), 0, "spec.prefixLength")
		add("longer than any family", fmt.Sprintf("{spec: {prefixLength: 129, %s: {name: later}}}", k.ref), 0, "spec.prefixLength")
		add("of the wrong family", fmt.Sprintf("{spec: {ipFamily: IPv4, prefix: '2001:db8::/32', %s: {name: parent}}}", k.ref), 0, "spec.prefix")
		add("of an unknown family", fmt.Sprintf("{spec: {ipFamily: IPv5, prefixLength: 24, %s: {name: parent}}}", k.ref), 0, "spec.ipFamily")
		for _, name := range []string{"", "A", "a_b", "-a", "a/b", "a..b", strings.Repeat("a", 254)} {
			add(fmt.Sprintf("of a parent named %.10q", name), fmt.Sprintf("{spec: {ipFamily: IPv4, prefixLength: 24, %s: {name: %q}}}", k.ref, name), 0, "spec."+k.ref+".name")
		}
		add("of a parent without name", fmt.Sprintf("{spec: {ipFamily: IPv4, prefixLength: 24, %s: {}}}", k.ref), 0, "spec."+k.ref+".name")
		for name, bad := range map[string]struct{ selector, field string }{
			"operator":    {"{matchExpressions: [{key: a, operator: Near, values: [b]}]}", "matchExpressions[0].operator"},
			"no values":   {"{matchExpressions: [{key: a, operator: In}]}", "matchExpressions[0].values"},
			"values":      {"{matchExpressions: [{key: a, operator: Exists, values: [b]}]}", "matchExpressions[0].values"},
			"key":         {"{matchLabels: {a b: c}}", "matchLabels"},
			"label value": {"{matchLabels: {a: b c}}", "matchLabels"},
		} {
			add("of a selector with a bad "+name, fmt.Sprintf("{spec: {ipFamily: IPv4, prefixLength: 24, %s: %s}}", k.selector, bad.selector), 0, "spec."+k.selector+"."+bad.field)
		}

		spec := fmt.Sprintf("spec: {ipFamily: IPv4, prefixLength: 24, %s: {name: parent}}", k.ref)
		for _, name := range []string{"A", "a_b", "-a", "a.", strings.Repeat("a", 254)} {
			add(fmt.Sprintf("named %.10q", name), fmt.Sprintf("{metadata: {name: %q}, %s}", name, spec), 0, "metadata.name")
		}
		add("without name", fmt.Sprintf("{metadata: {name: ''}, %s}", spec), 0, "metadata.name")
		add("of a bad generateName", fmt.Sprintf("{metadata: {name: null, generateName: A_}, %s}", spec), 0, "metadata.generateName", "metadata.name")
		add("of a bad label", fmt.Sprintf("{metadata: {labels: {a: b c}}, %s}", spec), 0, "metadata.labels")
		add("of a bad finalizer", fmt.Sprintf("{metadata: {finalizers: [a b]}, %s}", spec), 0, "metadata.finalizers")

		// Decoding. Server-side apply has other messages for these, and responds with 500 to some of them. That is
		// upstream's behaviour.
		for name, body := range map[string]string{
			"a prefix that is a number":       "{metadata: {}, spec: {prefix: 10}}",
			"a length that is a string":       "{metadata: {}, spec: {prefixLength: '24'}}",
			"a length that is a fraction":     "{metadata: {}, spec: {prefixLength: 24.5}}",
			"a length that overflows":         "{metadata: {}, spec: {prefixLength: 4294967320}}",
			"a reference that is a string":    "{metadata: {}, spec: {" + k.ref + ": parent}}",
			"a selector that is a list":       "{metadata: {}, spec: {" + k.selector + ": []}}",
			"a spec that is a list":           "{metadata: {}, spec: []}",
			"conditions that are no list":     "{metadata: {}, status: {conditions: {}}}",
			"a time that is none":             "{metadata: {}, status: {lastPhaseTransitionTime: yesterday}}",
			"the kind of something else":      "{metadata: {}, apiVersion: " + harness.GroupVersion + ", kind: Subnet}",
			"the version of something else":   "{metadata: {}, apiVersion: " + harness.GroupVersion + "beta1, kind: " + k.Name + "}",
			"the namespace of something else": "{metadata: {namespace: elsewhere}, " + spec + "}",
		} {
			add("with "+name, body, http.StatusBadRequest)
		}
		conditions := "{status: {conditions: [{type: Mine, status: Maybe, reason: '', message: x, lastTransitionTime: '2026-01-01T00:00:00Z'}]}}"
		rows = append(rows,
			badRow{name: k.Name + " of a bad condition", of: k.child, below: "status", body: conditions, fields: []string{"status.conditions[0].reason", "status.conditions[0].status"}},
			badRow{name: k.Name + " put with another uid", of: k.child, way: harness.JSON, body: "{metadata: {uid: 7d4cdfb4-0000-0000-0000-000000000000, labels: {a: b}}}", code: http.StatusConflict},
			badRow{name: k.Name + " patched with another uid", of: k.child, way: harness.MergePatch, body: "{metadata: {uid: 7d4cdfb4-0000-0000-0000-000000000000, labels: {a: b}}}", fields: []string{"metadata.uid"}},
			badRow{name: k.Name + " put with a wrong type", of: k.child, way: harness.JSON, body: "{spec: {prefixLength: '24'}}", code: http.StatusBadRequest},
			badRow{name: k.Name + " patched with a wrong type", of: k.child, way: harness.MergePatch, body: "{spec: {prefixLength: '24'}}", fields: []string{"patch"}, message: "spec.prefixLength"},
			// The generic server responds with this code to an apply that does not match the schema.
			badRow{name: k.Name + " applied with a wrong type", of: k.child, way: harness.ApplyPatch, body: "{spec: {prefixLength: '24'}}", message: ".spec.prefixLength", code: http.StatusInternalServerError},
			badRow{name: k.Name + " put with a status of a wrong type", of: k.child, below: "status", way: harness.JSON, body: "{status: {phase: 1}}", code: http.StatusBadRequest},
			badRow{name: k.Name + " of an old resourceVersion", of: k.child, body: "{metadata: {resourceVersion: '1', labels: {a: b}}}", code: http.StatusConflict},
			badRow{name: k.Name + " status of an old resourceVersion", of: k.child, below: "status", body: "{metadata: {resourceVersion: '1'}, status: {conditions: []}}", code: http.StatusConflict},
			badRow{name: k.Name + " of a changed name", of: k.child, body: "{metadata: {name: other}}", code: http.StatusBadRequest},
			badRow{name: k.Name + " of an invalid label", of: k.child, body: "{metadata: {labels: {a: b c}}}", fields: []string{"metadata.labels"}},
		)
	}
	return rows
}

// TestUnknownFieldsAreRefusedWhenStrictAndWarnedOfOtherwise tests fieldValidation in every kind of request, for
// unknown and for duplicate fields. The status codes are those of the generic server for all resources.
func TestUnknownFieldsAreRefusedWhenStrictAndWarnedOfOtherwise(t *testing.T) {
	for _, test := range []struct {
		name, method, contentType, body string
		kind                            harness.Kind
		below                           []string
		field                           string
	}{
		{"create", http.MethodPost, harness.JSON, `{"metadata":{"name":"new"},"spec":{"prefix":"10.7.0.0/16","prefixlen":1}}`, harness.PrefixKind, nil, "spec.prefixlen"},
		{"create of a request", http.MethodPost, harness.JSON, `{"metadata":{"name":"new"},"spec":{"prefix":"10.0.7.0/24","prefixRef":{"name":"parent"},"prefixlen":1}}`, harness.AllocationKind, nil, "spec.prefixlen"},
		{"create with a field twice", http.MethodPost, harness.JSON, `{"metadata":{"name":"new"},"spec":{"prefix":"10.7.0.0/16","prefix":"10.8.0.0/16"}}`, harness.PrefixKind, nil, "spec.prefix"},
		{"merge patch", http.MethodPatch, harness.MergePatch, `{"spec":{"colour":"red"}}`, harness.PrefixKind, []string{"child"}, "spec.colour"},
		{"merge patch of a status", http.MethodPatch, harness.MergePatch, `{"status":{"colour":"red"}}`, harness.PrefixKind, []string{"child", "status"}, "status.colour"},
		{"JSON patch", http.MethodPatch, harness.JSONPatch, `[{"op":"add","path":"/spec/colour","value":"red"}]`, harness.AllocationKind, []string{"request"}, "spec.colour"},
		{"strategic merge patch", http.MethodPatch, harness.Strategic, `{"spec":{"colour":"red"}}`, harness.AllocationKind, []string{"request"}, "spec.colour"},
		{"apply", http.MethodPatch, harness.ApplyPatch, `{"apiVersion":"` + harness.GroupVersion + `","kind":"Prefix","metadata":{"name":"child"},"spec":{"colour":"red"}}`, harness.PrefixKind, []string{"child"}, "spec.colour"},
		{"binding", http.MethodPost, harness.JSON, `{"prefix":"10.0.5.0/24","prefixRef":{"name":"parent"},"colour":"red"}`, harness.AllocationKind, []string{"request", "binding"}, "colour"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			namespace, _ := shared.setUp(t, "child", "request")
			before := shared.snapshot(t, namespace)
			send := func(validation string) harness.Answer {
				return shared.Raw(t, test.method, harness.Path(namespace, test.kind, test.below...)+"?fieldManager=me&fieldValidation="+validation, test.contentType, test.body)
			}
			code, ok := map[string]int{harness.JSON: http.StatusBadRequest, harness.ApplyPatch: http.StatusInternalServerError}[test.contentType]
			if !ok {
				code = http.StatusUnprocessableEntity
			}
			if status := send("Strict").Refused(t, code); !strings.Contains(status.Message, test.field) {
				t.Errorf("%q does not name %s", status.Message, test.field)
			}
			if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
				t.Errorf("it was refused, but the namespace changed\nfrom %v\nto   %v", before, after)
			}
			if test.contentType == harness.ApplyPatch {
				// Server-side apply supports only Strict.
				return
			}
			warned := send("Warn")
			warned.Must(t)
			if warning := warned.Header.Get("Warning"); !strings.Contains(warning, test.field) {
				t.Errorf("the warning %q does not name %s", warning, test.field)
			}
		})
	}
}
