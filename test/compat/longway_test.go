// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/utils/ptr"
)

// controller is a controller that knows only IronCore's API. It reads objects into the types of a client, changes
// them, and writes them back as a merge patch or as a whole. Our controllers do not run.
type controller struct {
	*testing.T
	namespace string
	whole     bool
}

// write changes an object and returns the response. change modifies the object in the type of a client.
func (c *controller) write(k harness.Kind, name string, change func(*clientPrefix, *clientAllocation), below ...string) harness.Answer {
	c.Helper()
	p := harness.Path(c.namespace, k, append([]string{name}, below...)...)
	read := shared.Raw(c, http.MethodGet, harness.Path(c.namespace, k, name), "", "")
	prefix, allocation := &clientPrefix{}, &clientAllocation{}
	var object any = prefix
	if k == harness.AllocationKind {
		object = allocation
	}
	read.Into(c, object)
	before := []byte(harness.Encode(c, object))
	change(prefix, allocation)
	after := harness.Encode(c, object)
	if c.whole {
		return shared.Raw(c, http.MethodPut, p, harness.JSON, after)
	}
	patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(before, []byte(after), before)
	if err != nil {
		c.Fatal(err)
	}
	return shared.Raw(c, http.MethodPatch, p, harness.MergePatch, string(patch))
}

// prefix modifies a Prefix.
func (c *controller) prefix(name string, change func(*clientPrefix), below ...string) *unstructured.Unstructured {
	c.Helper()
	return c.write(harness.PrefixKind, name, func(p *clientPrefix, _ *clientAllocation) { change(p) }, below...).Must(c)
}

// allocation modifies a PrefixAllocation.
func (c *controller) allocation(name string, change func(*clientAllocation), below ...string) harness.Answer {
	c.Helper()
	return c.write(harness.AllocationKind, name, func(_ *clientPrefix, a *clientAllocation) { change(a) }, below...)
}

// allocated sets the phase of a Prefix and its transition time, as IronCore's controller does.
func (c *controller) allocated(name string) *unstructured.Unstructured {
	c.Helper()
	return c.prefix(name, func(p *clientPrefix) {
		p.Status.Phase, p.Status.LastPhaseTransitionTime = "Allocated", ptr.To(metav1.Now())
	}, "status")
}

// has fails the test unless the object has the given values at the paths.
func has(t testing.TB, obj *unstructured.Unstructured, values map[string]any) {
	t.Helper()
	for path, want := range values {
		if got := harness.At(obj, path); !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: %s is %v, not %v", obj.GetKind(), obj.GetName(), path, got, want)
		}
	}
}

// TestTheLongWay allocates a child, counts it and deletes it, step by step, without our controllers and without
// bindings. test/behaviour runs such a controller beside ours.
func TestTheLongWay(t *testing.T) {
	for _, whole := range []bool{false, true} {
		t.Run(map[bool]string{false: "merge patches", true: "updates"}[whole], func(t *testing.T) {
			t.Parallel()
			c := &controller{t, harness.NewNamespace(), whole}
			prefix := netip.MustParsePrefix("10.0.4.0/24")

			root := shared.Create(t, c.namespace, harness.PrefixKind, "{metadata: {name: root, labels: {net: blue}}, spec: {prefix: 10.0.0.0/16}}")
			// The controller adds the finalizer that the server has already added.
			finalized := c.prefix("root", func(p *clientPrefix) { p.Finalizers = []string{"ipam.ironcore.dev/prefix"} })
			harness.Unwritten(t, root, finalized)
			has(t, c.allocated("root"), map[string]any{"status.phase": "Allocated", "metadata.generation": int64(1)})

			child := shared.Create(t, c.namespace, harness.PrefixKind, "{metadata: {name: child}, spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {net: blue}}}}")
			request := &clientAllocation{}
			request.GenerateName = "child-"
			request.Labels = map[string]string{"ipam.ironcore.dev/requester-uid": string(child.GetUID())}
			request.OwnerReferences = []metav1.OwnerReference{{APIVersion: harness.GroupVersion, Kind: "Prefix", Name: "child", UID: child.GetUID(),
				Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)}}
			request.Spec.IPFamily, request.Spec.PrefixLength = corev1.IPv4Protocol, 24
			request.Spec.PrefixSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"net": "blue"}}
			created := shared.Raw(t, http.MethodPost, harness.Path(c.namespace, harness.AllocationKind), harness.JSON, harness.Encode(t, request)).Must(t)
			name := created.GetName()
			if got := shared.Names(t, harness.Path(c.namespace, harness.AllocationKind)+"?labelSelector=ipam.ironcore.dev/requester-uid%3D"+string(child.GetUID())); len(got) != 1 || got[0] != name {
				t.Errorf("by its label, the child has %q", got)
			}

			// The controller sets the phase Pending, which the child already has.
			pending := c.prefix("child", func(p *clientPrefix) { p.Status.Phase = "Pending" }, "status")
			harness.Unwritten(t, child, pending)
			// The status of an allocation can only be written after its reference, and that of a child after its
			// allocation.
			refused := c.allocation(name, func(a *clientAllocation) { a.Status.Phase, a.Status.Prefix = "Allocated", &prefix }, "status")
			refused.Refused(t, http.StatusUnprocessableEntity)
			scheduled := c.allocation(name, func(a *clientAllocation) { a.Spec.PrefixRef = &corev1.LocalObjectReference{Name: "root"} }).Must(t)
			has(t, scheduled, map[string]any{"spec.prefixRef.name": "root", "metadata.generation": int64(2), "status.phase": "Pending", "status.prefix": nil})
			allocated := c.allocation(name, func(a *clientAllocation) {
				a.Status.Phase, a.Status.Prefix, a.Status.LastPhaseTransitionTime = "Allocated", &prefix, ptr.To(metav1.Now())
			}, "status").Must(t)
			has(t, allocated, map[string]any{"status.phase": "Allocated", "status.prefix": "10.0.4.0/24", "metadata.generation": int64(2)})

			assigned := c.prefix("child", func(p *clientPrefix) {
				p.Spec.Prefix, p.Spec.ParentRef = &prefix, &corev1.LocalObjectReference{Name: "root"}
			})
			has(t, assigned, map[string]any{"spec.prefix": "10.0.4.0/24", "spec.parentRef.name": "root", "status.phase": "Pending", "metadata.generation": int64(2)})
			has(t, c.allocated("child"), map[string]any{"status.phase": "Allocated", "spec.prefix": "10.0.4.0/24", "metadata.generation": int64(2)})
			counted := c.prefix("root", func(p *clientPrefix) { p.Status.Used = []netip.Prefix{prefix} }, "status")
			has(t, counted, map[string]any{"status.phase": "Allocated", "status.used": []any{"10.0.4.0/24"}})

			// Of the fields that the client does not know, the server keeps the condition. A write of the whole
			// status removes the usage.
			if conditions, _ := harness.StoredStatus(counted)["conditions"].([]any); len(conditions) != 1 || harness.At(counted, "status.observedGeneration") != int64(1) {
				t.Errorf("the status is %v", harness.At(counted, "status"))
			}
			if kept := harness.At(counted, "status.usage") != nil; kept == whole {
				t.Errorf("the usage is kept: %v", kept)
			}
			// None of this can change any more.
			c.allocation(name, func(a *clientAllocation) { a.Status.Phase, a.Status.Prefix = "Failed", nil }, "status").Refused(t, http.StatusUnprocessableEntity)

			// At the end, delete the child, then its allocation, then the root.
			remove := func(k harness.Kind, name string) harness.Answer {
				return shared.Raw(t, http.MethodDelete, harness.Path(c.namespace, k, name), harness.JSON, "")
			}
			remove(harness.AllocationKind, name).Refused(t, http.StatusConflict)
			for _, name := range []string{"child", "root"} {
				remove(harness.PrefixKind, name).Must(t)
			}
			c.write(harness.PrefixKind, "root", func(p *clientPrefix, _ *clientAllocation) { p.Finalizers = nil }).Refused(t, http.StatusConflict)
			c.prefix("child", func(p *clientPrefix) { p.Finalizers = nil })
			remove(harness.AllocationKind, name).Must(t)
			c.prefix("root", func(p *clientPrefix) { p.Finalizers = nil })
			for _, k := range harness.Kinds {
				if left := shared.Names(t, harness.Path(c.namespace, k)); len(left) > 0 {
					t.Errorf("%q is left", left)
				}
			}
		})
	}
}

// TestAnUpdateOfWhatHasChangedConflicts shows that controllers cannot overwrite each other's changes.
func TestAnUpdateOfWhatHasChangedConflicts(t *testing.T) {
	for _, subject := range subjects {
		namespace := harness.NewNamespace()
		old := shared.Create(t, namespace, subject.Kind, subject.manifest)
		shared.Patch(t, old, harness.MergePatch, "{metadata: {labels: {a: x}}}").Must(t)
		for _, below := range [][]string{nil, {"status"}} {
			if status := shared.Put(t, old, below...).Refused(t, http.StatusConflict); status.Reason != metav1.StatusReasonConflict {
				t.Errorf("%s: refused for %s", subject.Name, status.Reason)
			}
		}
	}
}

// TestAStatusThatLostOurFieldsIsMended has a client that writes a whole status without the fields that it does not
// know. The server or our controllers restore them.
func TestAStatusThatLostOurFieldsIsMended(t *testing.T) {
	t.Parallel()
	k := &kubectl{t, harness.NewNamespace(), false}
	for _, m := range manifests {
		live.Create(t, k.namespace, harness.PrefixKind, m.manifest)
	}
	k.settle()
	for _, name := range []string{"parent", "named", "pending"} {
		before := live.Get(t, k.namespace, harness.PrefixKind, name)
		live.Put(t, asClient(t, []byte(harness.Encode(t, before.Object)), false), "status").Must(t)
		harness.Eventually(t, name+" is mended", func() error {
			now := live.Get(t, k.namespace, harness.PrefixKind, name)
			for _, field := range []string{"status.phase", "status.used", "status.usage", "status.observedGeneration"} {
				if was, is := harness.At(before, field), harness.At(now, field); !reflect.DeepEqual(was, is) {
					return fmt.Errorf("%s is %v, not %v", field, is, was)
				}
			}
			if conditions, _ := harness.StoredStatus(now)["conditions"].([]any); len(conditions) != 1 {
				return fmt.Errorf("the conditions are %v", conditions)
			}
			return nil
		})
	}
}

// TestClientsKeepTheNamespaceOfTheParent has a client that knows no parents of other namespaces read objects that have one,
// and write them back, unchanged and changed.
func TestClientsKeepTheNamespaceOfTheParent(t *testing.T) {
	for _, whole := range []bool{false, true} {
		t.Run(map[bool]string{false: "merge patches", true: "updates"}[whole], func(t *testing.T) {
			t.Parallel()
			c := &controller{t, harness.NewNamespace(), whole}
			for k, test := range map[harness.Kind]struct{ manifest, field string }{
				harness.PrefixKind:     {"{metadata: {name: shared}, spec: {ipFamily: IPv4, prefixLength: 24, parentNamespace: network, parentRef: {name: pool}}}", "spec.parentNamespace"},
				harness.AllocationKind: {"{metadata: {name: shared}, spec: {ipFamily: IPv4, prefixLength: 24, prefixNamespace: network, prefixRef: {name: pool}}}", "spec.prefixNamespace"},
			} {
				created := shared.Create(t, c.namespace, k, test.manifest)
				has(t, created, map[string]any{test.field: "network"})
				// The first write without the field may change who owns it in metadata.managedFields, and nothing else.
				unchanged := func(*clientPrefix, *clientAllocation) {}
				written := c.write(k, "shared", unchanged).Must(t)
				for _, field := range []string{"spec", "status", "metadata.generation", "metadata.uid", "metadata.finalizers"} {
					harness.Same(t, created, written, field)
				}
				harness.Unwritten(t, written, c.write(k, "shared", unchanged).Must(t))
				labelled := c.write(k, "shared", func(p *clientPrefix, a *clientAllocation) {
					p.Labels, a.Labels = map[string]string{"team": "red"}, map[string]string{"team": "red"}
				}).Must(t)
				has(t, labelled, map[string]any{test.field: "network", "metadata.labels": map[string]any{"team": "red"}, "metadata.generation": int64(1)})
				moved := ptr.To(metav1.Now())
				status := c.write(k, "shared", func(p *clientPrefix, a *clientAllocation) {
					p.Status.LastPhaseTransitionTime, a.Status.LastPhaseTransitionTime = moved, moved
				}, "status").Must(t)
				has(t, status, map[string]any{test.field: "network", "metadata.generation": int64(1)})
			}
		})
	}
}
