// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fixture is an object in a certain state.
type fixture struct {
	kind     harness.Kind
	manifest string
	// status is a merge patch for the status, and binding a binding. Both can be empty.
	status, binding string
}

const (
	bySelector = "parentSelector: {matchLabels: {net: blue}}"
	fromAny    = "prefixSelector: {matchLabels: {net: blue}}"
)

// fixtures contains the fixtures by name, which is also the name of the object. Fixtures that are not roots belong
// to the allocated root "parent", which setUp creates in every namespace.
var fixtures = map[string]fixture{
	"parent":          {harness.PrefixKind, "{metadata: {name: parent, labels: {net: blue}}, spec: {prefix: 10.0.0.0/16}}", "{status: {phase: Allocated}}", ""},
	"root":            {harness.PrefixKind, "{metadata: {name: root}, spec: {prefix: 10.9.0.0/16}}", "", ""},
	"child":           {harness.PrefixKind, "{metadata: {name: child}, spec: {ipFamily: IPv4, prefixLength: 24, " + bySelector + "}}", "", ""},
	"child-by-ref":    {harness.PrefixKind, "{metadata: {name: child-by-ref}, spec: {prefixLength: 24, parentRef: {name: parent}}}", "", ""},
	"child-static":    {harness.PrefixKind, "{metadata: {name: child-static}, spec: {prefix: 10.0.3.0/24, " + bySelector + "}}", "", ""},
	"child-open":      {harness.PrefixKind, "{metadata: {name: child-open}, spec: {prefixLength: 24, parentRef: {name: later}}}", "", ""},
	"child-allocated": {harness.PrefixKind, "{metadata: {name: child-allocated}, spec: {ipFamily: IPv4, prefixLength: 24, " + bySelector + "}}", "", "{prefix: 10.0.1.0/24, parentRef: {name: parent}}"},

	"request":           {harness.AllocationKind, "{metadata: {name: request}, spec: {ipFamily: IPv4, prefixLength: 24, " + fromAny + "}}", "", ""},
	"request-by-ref":    {harness.AllocationKind, "{metadata: {name: request-by-ref}, spec: {prefixLength: 24, prefixRef: {name: parent}}}", "", ""},
	"request-static":    {harness.AllocationKind, "{metadata: {name: request-static}, spec: {prefix: 10.0.3.0/24, " + fromAny + "}}", "", ""},
	"request-open":      {harness.AllocationKind, "{metadata: {name: request-open}, spec: {prefixLength: 24, prefixRef: {name: later}}}", "", ""},
	"request-allocated": {harness.AllocationKind, "{metadata: {name: request-allocated}, spec: {ipFamily: IPv4, prefixLength: 24, " + fromAny + "}}", "", "{prefix: 10.0.2.0/24, prefixRef: {name: parent}}"},
	"request-failed":    {harness.AllocationKind, "{metadata: {name: request-failed}, spec: {ipFamily: IPv4, prefixLength: 24, " + fromAny + "}}", "{status: {phase: Failed}}", ""},
}

// setUp creates a namespace with the parent and the named fixtures. It returns the last one.
func (s server) setUp(t *testing.T, names ...string) (namespace string, last *unstructured.Unstructured) {
	t.Helper()
	namespace = harness.NewNamespace()
	for _, name := range append([]string{"parent"}, names...) {
		f, ok := fixtures[name]
		if !ok {
			t.Fatalf("no fixture %q", name)
		}
		last = s.Create(t, namespace, f.kind, f.manifest)
		if f.status != "" {
			last = s.write(t, last, harness.MergePatch, f.status, "status").Must(t)
		}
		if f.binding != "" {
			if f.kind == harness.PrefixKind {
				s.hold(t, last, "parent", harness.ParseObject(t, f.binding)["prefix"].(string))
			}
			last = s.bind(t, namespace, f.kind, name, f.binding).Must(t)
		}
	}
	return namespace, last
}

// hold allocates a prefix of a parent for a child. The child can then be bound. The PrefixAllocation has the name
// of the child.
func (s server) hold(t *testing.T, child *unstructured.Unstructured, parent, prefix string) *unstructured.Unstructured {
	t.Helper()
	manifest := fmt.Sprintf("{metadata: {name: %[1]s, labels: {%[2]s: %[3]s}, "+
		"ownerReferences: [{apiVersion: %[4]s, kind: Prefix, name: %[1]s, uid: %[3]s, controller: true}]}, "+
		"spec: {prefix: %[5]q, prefixRef: {name: %[6]s}}}",
		child.GetName(), v1alpha1.RequesterUIDLabel, child.GetUID(), harness.GroupVersion, prefix, parent)
	s.Create(t, child.GetNamespace(), harness.AllocationKind, manifest)
	return s.bind(t, child.GetNamespace(), harness.AllocationKind, child.GetName(), fmt.Sprintf("{prefix: %q, prefixRef: {name: %s}}", prefix, parent)).Must(t)
}

// bind posts a binding.
func (s server) bind(t *testing.T, namespace string, k harness.Kind, name, binding string) harness.Answer {
	t.Helper()
	return s.Do(t, http.MethodPost, harness.Path(namespace, k, name, "binding"), harness.JSON, binding)
}
