// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestOutermost has children with the label that their selector matches, which common labels in Helm and kustomize
// cause. The children are siblings, and none is inside another.
func TestOutermost(t *testing.T) {
	t.Run("siblings", func(t *testing.T) {
		e := in(t)
		e.root("t", "10.42.0.0/24", harness.Labelled("pool", "b"))
		for i, bits := range []int32{28, 29, 30, 32} {
			name := fmt.Sprintf("k%d", i+1)
			e.create(name, harness.Length(bits), harness.Selecting("pool", "b"), harness.Labelled("pool", "b"))
			if p := e.allocated(name); p.Spec.ParentRef.Name != "t" {
				t.Errorf("%s is allocated from %s", name, p.Spec.ParentRef.Name)
			}
		}
		e.AtRest()
	})
	t.Run("only the middle matches", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		e.create("middle", harness.Length(24), harness.From("root"), harness.Labelled("pool", "b"))
		e.allocated("middle")
		e.create("leaf", harness.Length(28), harness.Selecting("pool", "b"), harness.Labelled("pool", "b"))
		e.allocated("leaf")
		e.create("other", harness.Length(32), harness.Selecting("pool", "b"))
		if p := e.allocated("other"); p.Spec.ParentRef.Name != "middle" {
			t.Errorf("allocated from %s", p.Spec.ParentRef.Name)
		}
		// The Prefix in the middle is not the outermost one any more.
		e.patch("root", `{"metadata":{"labels":{"pool":"b"}}}`, types.MergePatchType)
		e.create("third", harness.Length(28), harness.Selecting("pool", "b"))
		if p := e.allocated("third"); p.Spec.ParentRef.Name != "root" {
			t.Errorf("allocated from %s", p.Spec.ParentRef.Name)
		}
	})
	t.Run("the outermost is full", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/28", harness.Labelled("pool", "b"))
		for _, name := range []string{"one", "two"} {
			e.create(name, harness.Length(29), harness.Selecting("pool", "b"), harness.Labelled("pool", "b"))
			e.allocated(name)
		}
		e.create("waits", harness.Length(32), harness.Selecting("pool", "b"), harness.Labelled("pool", "b"))
		message := e.pending("waits", v1alpha1.ReasonParentExhausted, "root (10.0.0.0/28) has no room for a /32")
		if strings.Contains(message, "one") {
			t.Errorf("names what is no candidate: %s", message)
		}
		// Prefixes below count once no Prefix above them matches.
		e.wakes("waits", func() { e.patch("root", `{"metadata":{"labels":null}}`, types.MergePatchType) })
	})
}

// TestSelectsItself has a child with a selector that matches only the child itself.
func TestSelectsItself(t *testing.T) {
	e := in(t)
	e.create("self", harness.Length(28), harness.Selecting("pool", "own"), harness.Labelled("pool", "own"))
	e.pending("self", v1alpha1.ReasonNoMatchingParent, "pool=own")
	e.wakes("self", func() { e.create("root", harness.Exactly("10.0.0.0/24"), harness.Labelled("pool", "own")) })
}

// TestNoRoomTellsWhatIsFree has a parent whose free space is fragmented.
func TestNoRoomTellsWhatIsFree(t *testing.T) {
	e := in(t)
	e.root("pool", "10.0.0.0/28", harness.Labelled("pool", "b"))
	for i := range 16 {
		e.create(fmt.Sprintf("c%d", i), harness.Exactly(fmt.Sprintf("10.0.0.%d/32", i)), harness.From("pool"))
	}
	for i := range 16 {
		e.allocated(fmt.Sprintf("c%d", i))
	}
	e.create("waits", harness.Length(30), harness.Selecting("pool", "b"))
	e.pending("waits", v1alpha1.ReasonParentExhausted, "pool (10.0.0.0/28) has no room for a /30: no address is free")
	for i := 0; i < 16; i += 4 {
		e.Delete(fmt.Sprintf("c%d", i))
	}
	e.pending("waits", v1alpha1.ReasonParentExhausted, "pool (10.0.0.0/28) has no room for a /30: 4 addresses are free, the largest free block is a /32")
}

// TestHolderIsNamed requests a prefix that a Prefix holds, and one that a PrefixAllocation without a child holds.
func TestHolderIsNamed(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/24")
	e.create("c1", harness.Exactly("10.0.0.0/28"), harness.From("root"))
	e.allocated("c1")
	e.bare("bare", "root", 28)
	e.allocatedBare("bare")
	e.create("waits", harness.Exactly("10.0.0.0/28"), harness.From("root"))
	e.pending("waits", v1alpha1.ReasonPrefixInUse, "has 10.0.0.0/28 in use by Prefix c1")
	e.create("inside", harness.Exactly("10.0.0.17/32"), harness.From("root"))
	e.pending("inside", v1alpha1.ReasonPrefixInUse, "has 10.0.0.16/28 in use by PrefixAllocation bare, which overlaps 10.0.0.17/32")
}

// bare creates a PrefixAllocation without a child.
func (e *env) bare(name, parent string, bits int32, change ...func(*v1alpha1.PrefixAllocation)) {
	e.Helper()
	a := &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PrefixAllocationSpec{PrefixLength: bits, PrefixRef: &v1alpha1.LocalObjectReference{Name: parent}},
	}
	for _, f := range change {
		f(a)
	}
	if _, err := e.Allocations.Create(e.Context(), a, metav1.CreateOptions{}); err != nil {
		e.Fatal(err)
	}
}

func (e *env) allocatedBare(name string) {
	e.Helper()
	e.Eventually(name+" Allocated", func() error {
		if a := e.GetAllocation(name); a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
			return fmt.Errorf("%s", harness.DescribeAllocation(a))
		}
		return nil
	})
}

func (e *env) pendingBare(name, reason string, words ...string) {
	e.Helper()
	e.Eventually(fmt.Sprintf("%s Pending for %s %q", name, reason, words), func() error {
		a := e.GetAllocation(name)
		condition := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated)
		if a.Status.Phase != v1alpha1.PrefixAllocationPhasePending || condition == nil {
			return fmt.Errorf("%s", harness.DescribeAllocation(a))
		}
		return checkCondition(condition, reason, words...)
	})
}

// TestDeletionWritesLittle has a hundred children that wait for a full parent and carry its label. The deletion of
// one child serves one of them, and causes no write to the others.
func TestDeletionWritesLittle(t *testing.T) {
	e := in(t)
	const waiting = 100
	e.root("root", "10.0.0.0/29", harness.Labelled("pool", "b"))
	e.createAll(8+waiting, 8, func(i int) *v1alpha1.Prefix {
		return harness.NewPrefix(fmt.Sprintf("c-%03d", i), harness.Length(32), harness.Selecting("pool", "b"), harness.Labelled("pool", "b"))
	})
	var allocated []string
	e.Eventually("8 Allocated, and the others tell why not", func() error {
		allocated = nil
		told := 0
		for _, p := range e.List() {
			switch {
			case p.Spec.ParentRef != nil && p.Status.Phase == v1alpha1.PrefixPhaseAllocated:
				allocated = append(allocated, p.Name)
			case meta.IsStatusConditionFalse(p.Status.Conditions, v1alpha1.ConditionAllocated):
				told++
			}
		}
		if len(allocated) != 8 || told != waiting {
			return fmt.Errorf("%d Allocated, %d told", len(allocated), told)
		}
		return nil
	})
	e.atRest()
	before := e.versions()
	e.Delete(allocated[0])
	e.Eventually("one more Allocated", func() error {
		count := 0
		for _, p := range e.List() {
			if p.Spec.ParentRef != nil && p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				count++
			}
		}
		if count != 8 {
			return fmt.Errorf("%d", count)
		}
		return nil
	})
	e.atRest()
	changed := 0
	for name, version := range e.versions() {
		if before[name] != version {
			changed++
		}
	}
	t.Logf("%d objects were written", changed)
	// Three objects change: the parent, and the served child with its allocation.
	if changed > 3+10 {
		t.Errorf("%d objects were written because of one deletion", changed)
	}
}

// versions returns the resource versions of all objects.
func (e *env) versions() map[string]string {
	e.Helper()
	versions := map[string]string{}
	for _, p := range e.List() {
		versions["Prefix "+p.Name] = p.ResourceVersion
	}
	for _, a := range e.ListAllocations() {
		versions["PrefixAllocation "+a.Name] = a.ResourceVersion
	}
	return versions
}

// atRest waits until there has been no write for some time.
func (e *env) atRest() {
	e.Helper()
	last, since := e.versions(), time.Now()
	e.Eventually("nothing is written", func() error {
		if now := e.versions(); fmt.Sprint(now) != fmt.Sprint(last) {
			last, since = now, time.Now()
		}
		if time.Since(since) < 3*time.Second {
			return fmt.Errorf("written %v ago", time.Since(since))
		}
		return nil
	})
}

// TestOldestFirst frees space for one of several waiting children at a time.
func TestOldestFirst(t *testing.T) {
	e := in(t)
	const count = 8
	e.root("root", "10.0.0.0/29", harness.Labelled("pool", "b"))
	for i := range count {
		e.create(fmt.Sprintf("held-%d", i), harness.Length(32), harness.From("root"))
	}
	for i := range count {
		e.allocated(fmt.Sprintf("held-%d", i))
	}
	var names []string
	for range count {
		// The order of the names is not that of the ages.
		name := fmt.Sprintf("w-%08x", rand.Uint32())
		how := harness.From("root")
		if len(names)%2 == 0 {
			how = harness.Selecting("pool", "b")
		}
		e.create(name, harness.Length(32), how)
		e.pending(name, v1alpha1.ReasonParentExhausted)
		names = append(names, name)
	}
	for i, name := range names {
		e.Delete(fmt.Sprintf("held-%d", i))
		e.allocated(name)
		for _, later := range names[i+1:] {
			if p := e.Get(later); p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				t.Fatalf("%s, the %dth that waits, is served before %v", later, slices.Index(names, later)+1, names[i+1:])
			}
		}
	}
	e.AtRest()
}

// TestMadeForNobody has allocations that were created for a Prefix that does not exist. They get nothing, even if
// everything else exists.
func TestMadeForNobody(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/24")
	gone := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Prefix", Name: "gone", UID: "00000000-0000-0000-0000-000000000000", Controller: new(true)}
	e.bare("of-gone", "root", 28, func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = []metav1.OwnerReference{gone} })
	e.bare("lost", "root", 28, func(a *v1alpha1.PrefixAllocation) {
		a.Labels = map[string]string{v1alpha1.RequesterUIDLabel: "00000000-0000-0000-0000-000000000000"}
	})
	e.never("an allocation for nobody gets space", func() error {
		for _, a := range e.ListAllocations() {
			if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
				return fmt.Errorf("%s", harness.DescribeAllocation(&a))
			}
		}
		return nil
	})
	e.create("child", harness.Exactly("10.0.0.0/28"), harness.From("root"))
	e.allocated("child")
	e.AtRest()
}

// TestMessageIsOfTheNewParent deletes a parent that is too small, and creates it again.
func TestMessageIsOfTheNewParent(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/28", harness.Labelled("pool", "b"))
	e.create("waits", harness.Length(24), harness.Selecting("pool", "b"))
	e.pending("waits", v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/28) is too small")
	e.Delete("root")
	e.Gone("root")
	e.pending("waits", v1alpha1.ReasonNoMatchingParent)
	e.root("root", "10.0.0.0/26", harness.Labelled("pool", "b"))
	e.pending("waits", v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/26) is too small")
}

// TestMappedAddressesAreNotOffered has a root in which the best fit is the block of the IPv4-mapped addresses,
// which the API server refuses.
func TestMappedAddressesAreNotOffered(t *testing.T) {
	e := in(t)
	e.root("root", "::/79")
	mapped := netip.MustParsePrefix("::ffff:0:0/96")
	var names []string
	for bits := 81; bits <= 96; bits++ {
		// Return the sibling with the same length: the last bit differs.
		bytes := netip.PrefixFrom(mapped.Addr(), bits).Masked().Addr().As16()
		bytes[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8)
		name := fmt.Sprintf("sibling-%d", bits)
		e.create(name, harness.Exactly(netip.PrefixFrom(netip.AddrFrom16(bytes), bits).String()), harness.From("root"))
		names = append(names, name)
	}
	for _, name := range names {
		e.allocated(name)
	}
	e.create("child", harness.Length(96), harness.From("root"))
	if p := e.allocated("child"); netip.MustParsePrefix(p.Spec.Prefix).Overlaps(mapped) {
		t.Errorf("got %s", p.Spec.Prefix)
	}
	e.AtRest()
}

// TestTooFarBelow requests the last address of ::/0, which cannot be checked in one transaction.
func TestTooFarBelow(t *testing.T) {
	const last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
	e := in(t)
	e.root("all", "::/0", harness.Labelled("pool", "b"))
	began := time.Now()
	e.create("by-name", harness.Exactly(last), harness.From("all"))
	e.pending("by-name", v1alpha1.ReasonNoSuitableParent, "too far below")
	if took := time.Since(began); took > 2*time.Second {
		t.Logf("told after %v", took)
	}
	e.create("by-label", harness.Exactly(last), harness.Selecting("pool", "b"))
	e.pending("by-label", v1alpha1.ReasonNoSuitableParent, "too far below")
	e.wakes("by-label", func() { e.create("near", harness.Exactly("ffff::/16"), harness.Labelled("pool", "b")) })
	// The maximum that can be checked is allocated: for a child, 124 lengths that begin at different addresses.
	e.create("most", harness.Exactly("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/126"), harness.From("all"))
	e.allocated("most")
}

// TestRefusedForGood has an allocation with a reference to a root, which needs none. The server refuses every place
// for it, and the condition of the allocation says so.
func TestRefusedForGood(t *testing.T) {
	e := in(t)
	root := e.root("root", "10.0.0.0/24")
	e.bare("for-root", "root", 28, func(a *v1alpha1.PrefixAllocation) {
		a.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Prefix", Name: "other", UID: e.root("other", "11.0.0.0/24").UID, Controller: new(true)}}
	})
	e.pendingBare("for-root", v1alpha1.ReasonRefused, "root (10.0.0.0/24)", "other")
	// It keeps no space from others.
	e.create("child", harness.Exactly("10.0.0.0/28"), harness.From(root.Name))
	e.allocated("child")
}
