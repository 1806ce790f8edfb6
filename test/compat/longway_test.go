// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/utils/ptr"
)

// controller is one that knows the API of IronCore and nothing of ours: it reads objects into the
// types of a client, changes these, and writes them back as a merge patch or as a whole. Ours are off.
type controller struct {
	*testing.T
	namespace string
	whole     bool
}

// write changes an object, by its name, and returns the answer. The change is to a client's type.
func (c *controller) write(k kind, name string, change func(*clientPrefix, *clientAllocation), below ...string) answer {
	c.Helper()
	p := path(c.namespace, k, append([]string{name}, below...)...)
	read := shared.raw(c, http.MethodGet, path(c.namespace, k, name), "", nil)
	prefix, allocation := &clientPrefix{}, &clientAllocation{}
	var object any = prefix
	if k == allocationKind {
		object = allocation
	}
	read.into(c, object)
	before := encode(c, object)
	change(prefix, allocation)
	after := encode(c, object)
	if c.whole {
		return shared.raw(c, http.MethodPut, p, jsonType, after)
	}
	patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(before, after, before)
	if err != nil {
		c.Fatal(err)
	}
	return shared.raw(c, http.MethodPatch, p, mergePatch, patch)
}

// prefix changes a Prefix.
func (c *controller) prefix(name string, change func(*clientPrefix), below ...string) *unstructured.Unstructured {
	c.Helper()
	return c.write(prefixKind, name, func(p *clientPrefix, _ *clientAllocation) { change(p) }, below...).must(c)
}

// allocation changes a PrefixAllocation.
func (c *controller) allocation(name string, change func(*clientAllocation), below ...string) answer {
	c.Helper()
	return c.write(allocationKind, name, func(_ *clientPrefix, a *clientAllocation) { change(a) }, below...)
}

// allocated sets the phase of a Prefix, and the time of it, as its controller does.
func (c *controller) allocated(name string) *unstructured.Unstructured {
	c.Helper()
	return c.prefix(name, func(p *clientPrefix) {
		p.Status.Phase, p.Status.LastPhaseTransitionTime = "Allocated", ptr.To(metav1.Now())
	}, "status")
}

// has fails the test unless the object has, at the paths, the values.
func has(t testing.TB, obj *unstructured.Unstructured, values map[string]any) {
	t.Helper()
	for path, want := range values {
		if got := at(obj, path); !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: %s is %v, not %v", obj.GetKind(), obj.GetName(), path, got, want)
		}
	}
}

// TestTheLongWay allocates a child, counts it and deletes it, step by step, without any of our
// controllers and with none of our bindings. test/behaviour has such a controller beside ours.
func TestTheLongWay(t *testing.T) {
	for _, whole := range []bool{false, true} {
		t.Run(map[bool]string{false: "merge patches", true: "updates"}[whole], func(t *testing.T) {
			t.Parallel()
			c := &controller{t, newNamespace(), whole}
			prefix := netip.MustParsePrefix("10.0.4.0/24")

			root := shared.create(t, c.namespace, prefixKind, "{metadata: {name: root, labels: {net: blue}}, spec: {prefix: 10.0.0.0/16}}")
			// A controller adds the finalizer that the server has added already.
			finalized := c.prefix("root", func(p *clientPrefix) { p.Finalizers = []string{"ipam.ironcore.dev/prefix"} })
			unwritten(t, root, finalized)
			has(t, c.allocated("root"), map[string]any{"status.phase": "Allocated", "metadata.generation": int64(1)})

			child := shared.create(t, c.namespace, prefixKind, "{metadata: {name: child}, spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {net: blue}}}}")
			request := &clientAllocation{}
			request.GenerateName = "child-"
			request.Labels = map[string]string{"ipam.ironcore.dev/requester-uid": string(child.GetUID())}
			request.OwnerReferences = []metav1.OwnerReference{{APIVersion: groupVersion, Kind: "Prefix", Name: "child", UID: child.GetUID(),
				Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)}}
			request.Spec.IPFamily, request.Spec.PrefixLength = corev1.IPv4Protocol, 24
			request.Spec.PrefixSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"net": "blue"}}
			created := shared.raw(t, http.MethodPost, path(c.namespace, allocationKind), jsonType, encode(t, request)).must(t)
			name := created.GetName()
			if got := shared.list(t, path(c.namespace, allocationKind)+"?labelSelector=ipam.ironcore.dev/requester-uid%3D"+string(child.GetUID())).names(); len(got) != 1 || got[0] != name {
				t.Errorf("by its label, the child has %q", got)
			}

			// The child says that it is Pending, which it is.
			pending := c.prefix("child", func(p *clientPrefix) { p.Status.Phase = "Pending" }, "status")
			unwritten(t, child, pending)
			// The status of an allocation comes after its reference, and of a child after its allocation.
			refused := c.allocation(name, func(a *clientAllocation) { a.Status.Phase, a.Status.Prefix = "Allocated", &prefix }, "status")
			refused.refused(t, http.StatusUnprocessableEntity)
			scheduled := c.allocation(name, func(a *clientAllocation) { a.Spec.PrefixRef = &corev1.LocalObjectReference{Name: "root"} }).must(t)
			has(t, scheduled, map[string]any{"spec.prefixRef.name": "root", "metadata.generation": int64(2), "status": map[string]any{"phase": "Pending"}})
			allocated := c.allocation(name, func(a *clientAllocation) {
				a.Status.Phase, a.Status.Prefix, a.Status.LastPhaseTransitionTime = "Allocated", &prefix, ptr.To(metav1.Now())
			}, "status").must(t)
			has(t, allocated, map[string]any{"status.phase": "Allocated", "status.prefix": "10.0.4.0/24", "metadata.generation": int64(2)})

			assigned := c.prefix("child", func(p *clientPrefix) {
				p.Spec.Prefix, p.Spec.ParentRef = &prefix, &corev1.LocalObjectReference{Name: "root"}
			})
			has(t, assigned, map[string]any{"spec.prefix": "10.0.4.0/24", "spec.parentRef.name": "root", "status.phase": "Pending", "metadata.generation": int64(2)})
			has(t, c.allocated("child"), map[string]any{"status.phase": "Allocated", "spec.prefix": "10.0.4.0/24", "metadata.generation": int64(2)})
			counted := c.prefix("root", func(p *clientPrefix) { p.Status.Used = []netip.Prefix{prefix} }, "status")
			has(t, counted, map[string]any{"status.phase": "Allocated", "status.used": []any{"10.0.4.0/24"}})

			// Of what the client does not know, the condition to wait for survives; the usage does not
			// survive a write of the whole.
			if conditions, _ := at(counted, "status.conditions").([]any); len(conditions) != 1 || at(counted, "status.observedGeneration") != int64(1) {
				t.Errorf("the status is %v", at(counted, "status"))
			}
			if kept := at(counted, "status.usage") != nil; kept == whole {
				t.Errorf("the usage is kept: %v", kept)
			}
			// None of it moves any more.
			c.allocation(name, func(a *clientAllocation) { a.Status.Phase, a.Status.Prefix = "Failed", nil }, "status").refused(t, http.StatusUnprocessableEntity)

			// The end: the child goes, then its allocation, then the root.
			remove := func(k kind, name string) answer {
				return shared.raw(t, http.MethodDelete, path(c.namespace, k, name), jsonType, nil)
			}
			remove(allocationKind, name).refused(t, http.StatusConflict)
			for _, name := range []string{"child", "root"} {
				remove(prefixKind, name).must(t)
			}
			c.write(prefixKind, "root", func(p *clientPrefix, _ *clientAllocation) { p.Finalizers = nil }).refused(t, http.StatusConflict)
			c.prefix("child", func(p *clientPrefix) { p.Finalizers = nil })
			remove(allocationKind, name).must(t)
			c.prefix("root", func(p *clientPrefix) { p.Finalizers = nil })
			for _, k := range kinds {
				if left := shared.list(t, path(c.namespace, k)).names(); len(left) > 0 {
					t.Errorf("%q is left", left)
				}
			}
		})
	}
}

// TestAnUpdateOfWhatHasChangedConflicts is how controllers keep from writing over one another.
func TestAnUpdateOfWhatHasChangedConflicts(t *testing.T) {
	for _, subject := range subjects {
		namespace := newNamespace()
		old := shared.create(t, namespace, subject.kind, subject.manifest)
		shared.patch(t, old, mergePatch, "{metadata: {labels: {a: x}}}").must(t)
		for _, below := range [][]string{nil, {"status"}} {
			if status := shared.put(t, old, below...).refused(t, http.StatusConflict); status.Reason != metav1.StatusReasonConflict {
				t.Errorf("%s: refused for %s", subject.name, status.Reason)
			}
		}
	}
}

// TestAStatusThatLostOurFieldsIsMended has a client put a whole status without what it does not know:
// it is there again, by the server or by our controllers.
func TestAStatusThatLostOurFieldsIsMended(t *testing.T) {
	t.Parallel()
	k := &kubectl{t, newNamespace(), false}
	for _, m := range manifests {
		live.create(t, k.namespace, prefixKind, m.manifest)
	}
	k.settle()
	for _, name := range []string{"parent", "named", "pending"} {
		before := live.get(t, k.namespace, prefixKind, name)
		live.put(t, asClient(t, encode(t, before.Object), false), "status").must(t)
		eventually(t, name+" is mended", func() error {
			now := live.get(t, k.namespace, prefixKind, name)
			for _, field := range []string{"status.phase", "status.used", "status.usage", "status.observedGeneration"} {
				if was, is := at(before, field), at(now, field); !reflect.DeepEqual(was, is) {
					return fmt.Errorf("%s is %v, not %v", field, is, was)
				}
			}
			if conditions, _ := at(now, "status.conditions").([]any); len(conditions) != 1 {
				return fmt.Errorf("the conditions are %v", conditions)
			}
			return nil
		})
	}
}
