// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestOwned compares with what is plain and slow.
func TestOwned(t *testing.T) {
	type entry struct {
		of   owner
		name string
	}
	random := rand.New(rand.NewPCG(1, 2))
	o := newOwned()
	var model []entry
	for range 10_000 {
		e := entry{owner{fmt.Sprint("ns-", random.IntN(2)), types.UID(fmt.Sprint("uid-", random.IntN(3)))}, fmt.Sprint("a-", random.IntN(5))}
		if random.IntN(2) == 0 {
			if o.add(e.of, e.name); !slices.Contains(model, e) {
				model = append(model, e)
			}
		} else {
			o.remove(e.of, e.name)
			model = slices.DeleteFunc(model, func(other entry) bool { return other == e })
		}
		var want []string
		for _, other := range model {
			if other.of == e.of {
				want = append(want, other.name)
			}
		}
		got := o.names(e.of)
		slices.Sort(want)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("%v has %v instead of %v", e.of, got, want)
		}
	}
	for _, e := range model {
		o.remove(e.of, e.name)
	}
	if len(o.one) != 0 || len(o.more) != 0 {
		t.Errorf("left: %v, %v", o.one, o.more)
	}
}

// TestAllocationsOf has allocations of a Prefix come, change their owner, and go.
func TestAllocationsOf(t *testing.T) {
	c, factory := newTestController(t)
	indexer := factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer()
	p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
	var before *v1alpha1.PrefixAllocation
	seen := func(change func(*v1alpha1.PrefixAllocation)) {
		t.Helper()
		a := newAllocation(p)
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
	// Both are looked at: the one that has lost it, and the other one.
	if n := c.children.Len(); n != 2 {
		t.Errorf("%d children are looked at instead of 2", n)
	}
	seen(func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = nil })
	expect(0)
	seen(func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = []metav1.OwnerReference{owner} })
	expect(1)

	// The same name and owner in another namespace is nothing to this one.
	other := before.DeepCopy()
	other.Namespace = "other"
	c.allocationSeen(nil, other)
	c.allocationGone(other)
	expect(1)

	c.allocationGone(before)
	expect(0)
	if len(c.owned.one) != 0 {
		t.Errorf("left: %v", c.owned.one)
	}
}
