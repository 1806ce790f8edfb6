// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestAllocationsOf has allocations of a Prefix come, change their owner, and go.
func TestAllocationsOf(t *testing.T) {
	c, factory := newTestController(t)
	indexer := factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer()
	p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
	var before *v1alpha1.PrefixAllocation
	seen := func(change func(*v1alpha1.PrefixAllocation)) {
		t.Helper()
		a := newAllocation(p, 0)
		if before != nil {
			a = before.DeepCopy()
		}
		change(a)
		if err := indexer.Update(a); err != nil {
			t.Fatal(err)
		}
		c.allocationSeen(before, a)
		before = a
	}
	expect := func(n int) {
		t.Helper()
		if got := c.allocationsOf(p); len(got) != n || n > 0 && got[0] != before {
			t.Errorf("%d allocations instead of %d: %v", len(got), n, got)
		}
	}

	expect(0)
	seen(func(*v1alpha1.PrefixAllocation) {})
	expect(1)
	seen(func(a *v1alpha1.PrefixAllocation) { a.ResourceVersion = "2" })
	expect(1)
	owner := before.OwnerReferences[0]
	seen(func(a *v1alpha1.PrefixAllocation) {
		a.OwnerReferences[0].UID, a.OwnerReferences[0].Name = "another", "other"
	})
	expect(0)
	// The Prefix that has lost the allocation is queued.
	if n := c.children.Len(); n != 1 {
		t.Errorf("%d children are looked at instead of one", n)
	}
	seen(func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = nil })
	expect(0)
	seen(func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = []metav1.OwnerReference{owner} })
	expect(1)

	// An allocation in another namespace with the same name and owner has no effect.
	other := before.DeepCopy()
	other.Namespace = "other"
	if err := indexer.Add(other); err != nil {
		t.Fatal(err)
	}
	expect(1)

	if err := indexer.Delete(before); err != nil {
		t.Fatal(err)
	}
	expect(0)
}

// TestSettled shows that only Prefixes that need work are queued, in whatever order they and their allocations are
// seen.
func TestSettled(t *testing.T) {
	pending := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
	allocated := pending.DeepCopy()
	allocated.Status.Phase, allocated.Spec.Prefix = v1alpha1.PrefixPhaseAllocated, "10.0.1.0/24"
	deleted := allocated.DeepCopy()
	deleted.DeletionTimestamp = new(metav1.Now())
	root := child(v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"})
	rootAllocated := root.DeepCopy()
	rootAllocated.Status.Phase = v1alpha1.PrefixPhaseAllocated
	of := func(p *v1alpha1.Prefix, name string, phase v1alpha1.PrefixAllocationPhase) *v1alpha1.PrefixAllocation {
		a := newAllocation(p, 0)
		a.Name, a.UID, a.Status.Phase = name, types.UID(name), phase
		if phase == v1alpha1.PrefixAllocationPhaseAllocated {
			a.Status.Prefix = map[string]string{"a": "10.0.1.0/24", "b": "10.0.2.0/24"}[name]
		}
		return a
	}
	held, left := v1alpha1.PrefixAllocationPhaseAllocated, v1alpha1.PrefixAllocationPhasePending
	another := allocated.DeepCopy()
	another.UID = "another"
	for name, tt := range map[string]struct {
		prefix      *v1alpha1.Prefix
		allocations []*v1alpha1.PrefixAllocation
		want        bool
	}{
		"pending":                  {pending, nil, true},
		"pending, allocation held": {pending, []*v1alpha1.PrefixAllocation{of(pending, "a", held)}, true},
		"allocated":                {allocated, []*v1alpha1.PrefixAllocation{of(allocated, "a", held)}, false},
		"allocated, two of them":   {allocated, []*v1alpha1.PrefixAllocation{of(allocated, "a", held), of(allocated, "b", held)}, true},
		"allocated, one left over": {allocated, []*v1alpha1.PrefixAllocation{of(allocated, "a", held), of(allocated, "b", left)}, true},
		"allocated, only one left": {allocated, []*v1alpha1.PrefixAllocation{of(allocated, "b", left)}, true},
		"allocated, of another":    {allocated, []*v1alpha1.PrefixAllocation{of(another, "b", left)}, false},
		"deleted":                  {deleted, []*v1alpha1.PrefixAllocation{of(deleted, "a", held)}, true},
		"root":                     {root, nil, true},
		"allocated root":           {rootAllocated, nil, false},
	} {
		for at := range len(tt.allocations) + 1 {
			c, factory := newTestController(t)
			prefixes, allocations := factory.Ipam().V1alpha1().Prefixes().Informer().GetIndexer(), factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer()
			for i := range len(tt.allocations) + 1 {
				if i == at {
					if err := prefixes.Add(tt.prefix); err != nil {
						t.Fatal(err)
					}
					c.prefixSeen(nil, tt.prefix)
				}
				if i < len(tt.allocations) {
					if err := allocations.Add(tt.allocations[i]); err != nil {
						t.Fatal(err)
					}
					c.allocationSeen(nil, tt.allocations[i])
				}
			}
			if got := c.children.Len() > 0; got != tt.want {
				t.Errorf("%s, seen after %d: it is looked at: %v", name, at, got)
			}
		}
	}
}
