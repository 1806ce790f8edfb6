// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The two namespaces of the healthy world contain Prefixes with the same names and ranges.
const (
	here  = "here"
	there = "there"
)

// healthyOnce caches the world that healthy returns copies of.
var healthyOnce struct {
	sync.Once
	world world
}

// healthy returns a world that the servers have written: in two namespaces, roots of both families, their children,
// and grandchildren of one child each. It is created once.
func healthy(t testing.TB) world {
	t.Helper()
	healthyOnce.Do(func() {
		dir := filepath.Join(scratch, "healthy")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		instance := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"))
		client := instance.Client
		for _, namespace := range []string{here, there} {
			prefixes := client.Prefixes(namespace)
			create(t, prefixes,
				harness.Root("v4", "10.0.0.0/8"), harness.Root("v6", "2001:db8::/32"),
				harness.Root("empty", "172.16.0.0/16"), harness.Child("middle4", "v4", harness.Exactly("10.255.0.0/16")),
				harness.Child("middle6", "v6", harness.Exactly("2001:db8:ffff::/48")))
			var children []*v1alpha1.Prefix
			for i := range 50 {
				children = append(children, harness.Child(fmt.Sprintf("v4-%d", i), "v4", harness.Length(int32(20+i%6))))
			}
			for i := range 50 {
				children = append(children, harness.Child(fmt.Sprintf("v6-%d", i), "v6", harness.Length(int32(48+i%17))))
			}
			for i := range 25 {
				children = append(children, harness.Child(fmt.Sprintf("deep4-%d", i), "middle4", harness.Length(int32(24+i%9))),
					harness.Child(fmt.Sprintf("deep6-%d", i), "middle6", harness.Length(int32(60+i%69))))
			}
			create(t, prefixes, children...)
			waitAllocated(t, prefixes)
		}
		healthyOnce.world = connect(t, instance.EtcdEndpoints).world(t)
		instance.Close()
	})
	if healthyOnce.world == nil {
		t.Fatal("there is no healthy world")
	}
	return maps.Clone(healthyOnce.world)
}

// corruption damages a world and returns the findings that an audit must report. All corruptions can be applied to
// the healthy world together.
type corruption struct {
	name    string
	corrupt func(world) []finding
	// repaired is true if --repair repairs all of the findings.
	repaired bool
}

// nowhere is a uid that no Prefix has.
const nowhere = "11111111-1111-4111-8111-111111111111"

var corruptions = []corruption{
	{"overlap: inside another", func(w world) []finding {
		victim := w.prefix(here, "v4-0")
		prefix := nth(victim.Spec.Prefix, 29, 3)
		a := w.addAllocation(w.prefix(here, "v4"), "inside", prefix, nil)
		return []finding{{audit.Overlap, here, a.Name, "v4", prefix}}
	}, false},
	{"overlap: at the beginning of another, IPv6", func(w world) []finding {
		victim := w.prefix(here, "v6-0")
		prefix := nth(victim.Spec.Prefix, 128, 0)
		a := w.addAllocation(w.prefix(here, "v6"), "begin", prefix, nil)
		return []finding{{audit.Overlap, here, a.Name, "v6", prefix}}
	}, false},
	{"overlap: the same", func(w world) []finding {
		victim := w.prefix(here, "v4-1")
		twin, a := w.addChild(w.prefix(here, "v4"), "twin", victim.Spec.Prefix)
		// The finding is about the younger one.
		a.CreationTimestamp = metav1.NewTime(time.Now().Add(time.Hour))
		w.setAllocation(a)
		return []finding{{audit.Overlap, here, a.Name, "v4", twin.Spec.Prefix}}
	}, false},
	{"overlap: inside one that has children", func(w world) []finding {
		a := w.addAllocation(w.prefix(there, "v4"), "below", "10.255.0.0/17", nil)
		return []finding{{audit.Overlap, there, a.Name, "v4", "10.255.0.0/17"}}
	}, false},
	{"overlap: around others", func(w world) (found []finding) {
		w.addAllocation(w.prefix(there, "middle4"), "several", "10.255.0.0/17", nil)
		for _, child := range w.children(there, "middle4") {
			found = append(found, finding{audit.Overlap, there, w.allocationOf(child).Name, "middle4", child.Spec.Prefix})
		}
		return found
	}, false},
	{"outside parent", func(w world) []finding {
		a := w.addAllocation(w.prefix(here, "v4"), "outside", "192.0.2.0/24", nil)
		return []finding{{audit.OutsideParent, here, a.Name, "v4", "192.0.2.0/24"}}
	}, false},
	{"outside parent: as large as it", func(w world) []finding {
		a := w.addAllocation(w.prefix(here, "empty"), "whole", "172.16.0.0/16", nil)
		return []finding{{audit.OutsideParent, here, a.Name, "empty", "172.16.0.0/16"}}
	}, false},
	{"outside parent: around it", func(w world) []finding {
		a := w.addAllocation(w.prefix(there, "empty"), "larger", "172.0.0.0/8", nil)
		return []finding{{audit.OutsideParent, there, a.Name, "empty", "172.0.0.0/8"}}
	}, false},
	{"outside parent: of the other family", func(w world) []finding {
		a := w.addAllocation(w.prefix(here, "v4"), "other-family", "2001:db8::/64", nil)
		return []finding{{audit.OutsideParent, here, a.Name, "v4", "2001:db8::/64"}}
	}, false},
	{"parent missing", func(w world) []finding {
		parent := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: here, Name: "nowhere"}}
		child, a := w.addChild(parent, "lost", "10.1.0.0/16")
		return []finding{{audit.ParentMissing, here, a.Name, "nowhere", child.Spec.Prefix}}
	}, false},
	{"parent missing: in this namespace", func(w world) []finding {
		w.addRoot(there, "only-there", "198.51.100.0/24")
		parent := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: here, Name: "only-there"}}
		a := w.addAllocation(parent, "stray", "198.51.100.0/25", nil)
		return []finding{{audit.ParentMissing, here, a.Name, "only-there", "198.51.100.0/25"}}
	}, false},
	{"parent missing: it was deleted, the claims were not", func(w world) (found []finding) {
		for _, child := range w.children(here, "middle6") {
			found = append(found, finding{audit.ParentMissing, here, w.allocationOf(child).Name, "middle6", child.Spec.Prefix})
		}
		middle := w.prefix(here, "middle6")
		delete(w, prefixKey(here, "middle6"))
		return append(found, finding{audit.Leftover, here, w.allocationOf(middle).Name, "v6", middle.Spec.Prefix})
	}, false},
	{"claim without allocation", func(w world) []finding {
		w.addHolder(w.prefix(here, "v4").UID, "10.100.0.0/24", holder{Namespace: here, Name: "ghost", UID: "ghost"})
		return []finding{{audit.ClaimWithoutAllocation, here, "ghost", string(w.prefix(here, "v4").UID), "10.100.0.0/24"}}
	}, true},
	{"claim without allocation: to no Prefix", func(w world) []finding {
		w.addHolder(nowhere, "2001:db8::/64", holder{Namespace: here, Name: "ghost", UID: "ghost"})
		return []finding{{audit.ClaimWithoutAllocation, here, "ghost", nowhere, "2001:db8::/64"}}
	}, true},
	{"claim without allocation: beside one with", func(w world) []finding {
		victim := w.prefix(here, "v6-1")
		parent := w.prefix(here, "v6").UID
		w.addHolder(parent, victim.Spec.Prefix, holder{Namespace: here, Name: "ghost", UID: "ghost"})
		return []finding{{audit.ClaimWithoutAllocation, here, "ghost", string(parent), victim.Spec.Prefix}}
	}, true},
	{"claim without allocation: two at one place", func(w world) []finding {
		parent := w.prefix(here, "v4").UID
		w.addHolder(parent, "10.100.1.0/24", holder{Namespace: here, Name: "ghost-1", UID: "ghost-1"})
		w.addHolder(parent, "10.100.1.0/24", holder{Namespace: here, Name: "ghost-2", UID: "ghost-2"})
		return []finding{
			{audit.ClaimWithoutAllocation, here, "ghost-1", string(parent), "10.100.1.0/24"},
			{audit.ClaimWithoutAllocation, here, "ghost-2", string(parent), "10.100.1.0/24"},
		}
	}, true},
	{"claim without allocation: of nobody", func(w world) []finding {
		parent := w.prefix(here, "v4").UID
		w[claimKey(parent, "10.100.2.0/24")] = `{"holders":[]}`
		return []finding{{audit.ClaimWithoutAllocation, "", "", string(parent), "10.100.2.0/24"}}
	}, true},
	{"claim without allocation: of one that holds something else", func(w world) []finding {
		child := w.prefix(here, "v4-2")
		parent := w.prefix(here, "v4").UID
		w.addHolder(parent, "10.100.3.0/24", holderOf(w.allocationOf(child)))
		return []finding{{audit.ClaimWithoutAllocation, here, w.allocationOf(child).Name, string(parent), "10.100.3.0/24"}}
	}, true},
	{"claim without allocation: of one that is pending", func(w world) []finding {
		parent := w.prefix(here, "v4")
		a := w.addAllocation(parent, "pending", "10.100.4.0/24", nil)
		a.Status = v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending}
		w.setAllocation(a)
		return []finding{{audit.ClaimWithoutAllocation, here, "pending", string(parent.UID), "10.100.4.0/24"}}
	}, true},
	{"allocation without claim", func(w world) []finding {
		child := w.prefix(here, "v4-3")
		delete(w, claimKey(w.prefix(here, "v4").UID, child.Spec.Prefix))
		return []finding{{audit.AllocationWithoutClaim, here, w.allocationOf(child).Name, "v4", child.Spec.Prefix}}
	}, true},
	{"allocation without claim: of nobody, IPv6", func(w world) []finding {
		a := w.addAllocation(w.prefix(here, "v6"), "unclaimed", "2001:db8:eeee::1/128", nil)
		delete(w, claimKey(w.prefix(here, "v6").UID, a.Status.Prefix))
		return []finding{{audit.AllocationWithoutClaim, here, "unclaimed", "v6", a.Status.Prefix}}
	}, true},
	{"allocation without claim: three levels down", func(w world) []finding {
		child := w.prefix(there, "deep6-7")
		delete(w, claimKey(w.prefix(there, "middle6").UID, child.Spec.Prefix))
		return []finding{{audit.AllocationWithoutClaim, there, w.allocationOf(child).Name, "middle6", child.Spec.Prefix}}
	}, true},
	{"allocation without claim: claimed by another one", func(w world) []finding {
		child, parent := w.prefix(here, "v4-4"), w.prefix(here, "v4").UID
		delete(w, claimKey(parent, child.Spec.Prefix))
		w.addHolder(parent, child.Spec.Prefix, holder{Namespace: here, Name: "thief", UID: "thief"})
		return []finding{
			{audit.AllocationWithoutClaim, here, w.allocationOf(child).Name, "v4", child.Spec.Prefix},
			{audit.ClaimWithoutAllocation, here, "thief", string(parent), child.Spec.Prefix},
		}
	}, true},
	{"allocation without claim: claimed of the parent that was before", func(w world) (found []finding) {
		before := w.addRoot(here, "recreated", "203.0.113.0/24")
		child, a := w.addChild(before, "of-recreated", "203.0.113.0/25")
		w.addRoot(here, "recreated", "203.0.113.0/24")
		return []finding{
			{audit.AllocationWithoutClaim, here, a.Name, "recreated", child.Spec.Prefix},
			{audit.ClaimWithoutAllocation, here, a.Name, string(before.UID), child.Spec.Prefix},
		}
	}, true},
	{"child differs", func(w world) []finding {
		child := w.prefix(here, "v4-5")
		held := child.Spec.Prefix
		child.Spec.Prefix = nth(held, 30, 0)
		w.setPrefix(child)
		return []finding{
			{audit.ChildDiffers, here, child.Name, "v4", child.Spec.Prefix},
			{audit.Leftover, here, w.allocationOf(child).Name, "v4", held},
		}
	}, false},
	{"child differs: in the parent", func(w world) []finding {
		child := w.prefix(here, "v4-6")
		child.Spec.ParentRef.Name = "empty"
		w.setPrefix(child)
		return []finding{
			{audit.ChildDiffers, here, child.Name, "empty", child.Spec.Prefix},
			{audit.Leftover, here, w.allocationOf(child).Name, "v4", child.Spec.Prefix},
		}
	}, false},
	{"child differs: its claim is for another one", func(w world) []finding {
		child, other, parent := w.prefix(here, "v6-5"), w.prefix(here, "v6-6"), w.prefix(here, "v6").UID
		h := holderOf(w.allocationOf(child))
		h.Owner = &owner{other.Name, other.UID}
		delete(w, claimKey(parent, child.Spec.Prefix))
		w.addHolder(parent, child.Spec.Prefix, h)
		return []finding{
			{audit.ChildDiffers, here, child.Name, "v6", child.Spec.Prefix},
			{audit.Leftover, here, h.Name, "v6", child.Spec.Prefix},
		}
	}, false},
	{"leftover: a second allocation of a child", func(w world) []finding {
		a := w.addAllocation(w.prefix(here, "v4"), "second", "10.100.5.0/24", w.prefix(here, "v4-9"))
		return []finding{{audit.Leftover, here, a.Name, "v4", "10.100.5.0/24"}}
	}, false},
	{"leftover: an allocation of a child that is gone", func(w world) []finding {
		child, a := w.addChild(w.prefix(here, "v4"), "gone", "10.100.6.0/24")
		delete(w, prefixKey(here, child.Name))
		return []finding{{audit.Leftover, here, a.Name, "v4", "10.100.6.0/24"}}
	}, false},
	{"no difference: the reference to the child is gone", func(w world) []finding {
		a := w.allocationOf(w.prefix(here, "v4-10"))
		a.OwnerReferences = nil
		w.setAllocation(a)
		return nil
	}, false},
	{"child differs: it has no allocation", func(w world) []finding {
		child, a := w.addChild(w.prefix(here, "empty"), "alone", "172.16.7.0/24")
		delete(w, allocationKey(here, a.Name))
		delete(w, claimKey(w.prefix(here, "empty").UID, a.Status.Prefix))
		return []finding{{audit.ChildDiffers, here, child.Name, "empty", child.Spec.Prefix}}
	}, false},
	{"child differs: the allocation is of the one that was before", func(w world) []finding {
		child := w.prefix(here, "v6-2")
		a := w.allocationOf(child)
		child.UID = "another"
		w.setPrefix(child)
		return []finding{
			{audit.ChildDiffers, here, child.Name, "v6", child.Spec.Prefix},
			{audit.Leftover, here, a.Name, "v6", child.Spec.Prefix},
		}
	}, false},
	{"child differs: by selector, it does not say from where", func(w world) []finding {
		child := w.prefix(here, "v6-3")
		child.Spec.ParentRef, child.Spec.ParentSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		w.setPrefix(child)
		return []finding{
			{audit.ChildDiffers, here, child.Name, "", child.Spec.Prefix},
			{audit.Leftover, here, w.allocationOf(child).Name, "v6", child.Spec.Prefix},
		}
	}, false},
	{"claim without allocation: a child stands on it", func(w world) []finding {
		child := w.prefix(here, "v6-4")
		a := w.allocationOf(child)
		delete(w, allocationKey(here, a.Name))
		return []finding{{audit.ClaimWithoutAllocation, here, a.Name, string(w.prefix(here, "v6").UID), child.Spec.Prefix}}
	}, false},
}

func TestAuditFindsEachCorruption(t *testing.T) {
	t.Parallel()
	whole := healthy(t)
	s := newEtcd(t, whole)
	opened := s.open(t)
	if got := len(whole.allocations()); got != 304 {
		t.Fatalf("%d allocations in the healthy world, not 304", got)
	}
	expect(t, auditOf(t, opened))
	seen := map[audit.DifferenceKind]bool{}
	for _, c := range corruptions {
		t.Run(c.name, func(t *testing.T) {
			w := maps.Clone(whole)
			want := c.corrupt(w)
			s.replace(t, w)
			before := s.revisions(t)
			expect(t, auditOf(t, opened), want...)
			if !maps.Equal(before, s.revisions(t)) {
				t.Error("the audit has written")
			}
			for _, f := range want {
				seen[f.kind] = true
			}
		})
	}
	for _, kind := range audit.DifferenceKinds {
		if !seen[kind] && kind != audit.Undecodable {
			t.Errorf("no test of %s", kind)
		}
	}
	s.replace(t, whole)
	expect(t, auditOf(t, opened))
}

// corruptAll returns a world with all corruptions, all findings, and those that a repair leaves.
func corruptAll(t testing.TB) (w world, all, left []finding) {
	t.Helper()
	w = healthy(t)
	for _, c := range corruptions {
		found := c.corrupt(w)
		all = append(all, found...)
		for _, f := range found {
			if !c.repaired {
				left = append(left, f)
			}
		}
	}
	return w, all, left
}

func TestAuditFindsAllCorruptionsTogether(t *testing.T) {
	t.Parallel()
	w, all, _ := corruptAll(t)
	s := newEtcd(t, w)
	before := s.revisions(t)
	expect(t, auditOf(t, s.open(t)), all...)
	// The order of the findings is deterministic, and follows the order of the kinds.
	first := findingsOf(auditOf(t, s.open(t)))
	for i, f := range findingsOf(auditOf(t, s.open(t))) {
		if f != first[i] || i > 0 && f.kind < first[i-1].kind {
			t.Errorf("at %d: %+v after %+v", i, f, first[max(i-1, 0)])
		}
	}
	if !maps.Equal(before, s.revisions(t)) {
		t.Error("the audit has written")
	}
}

func TestAuditOfNothing(t *testing.T) {
	t.Parallel()
	s := newEtcd(t, world{})
	opened := s.open(t)
	before := s.revisions(t)
	expect(t, auditOf(t, opened))
	repaired, left, err := opened.Repair(t.Context())
	if err != nil || len(repaired) != 0 || len(left) != 0 {
		t.Errorf("repair of nothing: %v, %v, %v", repaired, left, err)
	}
	if differences, err := opened.Adopt(t.Context(), nil); err != nil || len(differences) != 0 {
		t.Errorf("adoption of nothing: %v, %v", differences, err)
	}
	if after := s.revisions(t); !maps.Equal(before, after) {
		t.Errorf("something has been written: %v", after)
	}
}

// TestAuditReadsAllPages has more objects and claims than one page, with a difference at the beginning and the end
// of each page.
func TestAuditReadsAllPages(t *testing.T) {
	t.Parallel()
	w := world{}
	root := w.addRoot(here, "root", "10.0.0.0/8")
	var children []*v1alpha1.Prefix
	for i := range 2100 {
		child, _ := w.addChild(root, fmt.Sprintf("child-%05d", i), nth("10.0.0.0/8", 24, i))
		children = append(children, child)
	}
	s := newEtcd(t, w)
	opened := s.open(t)
	expect(t, auditOf(t, opened))

	var want []finding
	for _, i := range []int{0, 998, 999, 1000, 1001, 1998, 1999, 2000, 2001, 2099} {
		child := children[i]
		want = append(want, finding{audit.Leftover, here, child.Name + "-allocation", "root", child.Spec.Prefix})
		child.Spec.Prefix = nth(child.Spec.Prefix, 25, 0)
		w.setPrefix(child)
		want = append(want, finding{audit.ChildDiffers, here, child.Name, "root", child.Spec.Prefix})
	}
	for _, i := range []int{3, 995, 996, 1003, 1004, 2050} {
		name := children[i].Name + "-allocation"
		delete(w, claimKey(root.UID, children[i].Spec.Prefix))
		want = append(want, finding{audit.AllocationWithoutClaim, here, name, "root", children[i].Spec.Prefix})
	}
	for _, i := range []int{2100, 2101} {
		prefix := nth("10.0.0.0/8", 24, i)
		w.addHolder(root.UID, prefix, holder{Namespace: here, Name: "ghost", UID: "ghost"})
		want = append(want, finding{audit.ClaimWithoutAllocation, here, "ghost", string(root.UID), prefix})
	}
	s.replace(t, w)
	expect(t, auditOf(t, opened), want...)
}

// TestAuditIsConsistent audits a store that changes all the time. The store is correct at every revision.
func TestAuditIsConsistent(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t, harness.Controllers("*"))
	prefixes := instance.Client.Prefixes(here)
	create(t, prefixes, harness.Root("v4", "10.0.0.0/16"), harness.Root("v6", "2001:db8::/48"))
	waitAllocated(t, prefixes)

	end := time.Now().Add(8 * time.Second)
	var writes atomic.Int64
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			parent, length := "v4", 24
			if worker%2 == 1 {
				parent, length = "v6", 64
			}
			for i := 0; time.Now().Before(end); i++ {
				name := fmt.Sprintf("child-%d-%d", worker, i)
				if _, err := prefixes.Create(t.Context(), harness.Child(name, parent, harness.Length(int32(length+i%5))), metav1.CreateOptions{}); err != nil {
					t.Errorf("create: %v", err)
					return
				}
				// A few exist at a time. Some are deleted before they are allocated.
				old := fmt.Sprintf("child-%d-%d", worker, i-worker*2)
				if i >= worker*2 {
					if err := prefixes.Delete(t.Context(), old, metav1.DeleteOptions{}); err != nil {
						t.Errorf("delete: %v", err)
						return
					}
				}
				writes.Add(1)
			}
		})
	}
	s := connect(t, instance.EtcdEndpoints)
	opened := s.open(t)
	audits, most := 0, 0
	for time.Now().Before(end) {
		most = max(most, s.countClaims(t))
		expect(t, auditOf(t, opened))
		if t.Failed() {
			break
		}
		audits++
	}
	group.Wait()
	t.Logf("%d audits while %d children came and went, %d claims at most", audits, writes.Load(), most)
	if audits < 5 || writes.Load() < 50 || most < 5 {
		t.Errorf("%d audits while %d children came and went, %d claims at most", audits, writes.Load(), most)
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	w, all, left := corruptAll(t)
	// Neither of these can get a claim, because it would overlap a correct one.
	for name, prefix := range map[string]string{
		"blocked-inside": nth(w.prefix(here, "v4-7").Spec.Prefix, 31, 1),
		"blocked-same":   w.prefix(here, "v4-8").Spec.Prefix,
	} {
		key := claimKey(w.prefix(here, "v4").UID, prefix)
		was, claimed := w[key]
		a := w.addAllocation(w.prefix(here, "v4"), name, prefix, nil)
		a.CreationTimestamp = metav1.NewTime(time.Now().Add(time.Hour))
		w.setAllocation(a)
		delete(w, key)
		if claimed {
			w[key] = was
		}
		found := []finding{{audit.Overlap, here, name, "v4", prefix}, {audit.AllocationWithoutClaim, here, name, "v4", prefix}}
		all, left = append(all, found...), append(left, found...)
	}
	s := newEtcd(t, w)
	opened := s.open(t)
	expect(t, auditOf(t, opened), all...)

	repaired, rest, err := opened.Repair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, rest, left...)
	if len(repaired)+len(rest) != len(all) {
		t.Errorf("%d repaired and %d left, of %d", len(repaired), len(rest), len(all))
	}
	for _, d := range repaired {
		if d.Kind != audit.AllocationWithoutClaim && d.Kind != audit.ClaimWithoutAllocation {
			t.Errorf("repaired: %+v", d)
		}
	}
	expect(t, auditOf(t, opened), left...)
	after := s.world(t)
	if !maps.Equal(after.withoutClaims(), w.withoutClaims()) {
		t.Error("the repair has changed an object")
	}

	before := s.revisions(t)
	repaired, rest, err = opened.Repair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, repaired)
	expect(t, rest, left...)
	if !maps.Equal(before, s.revisions(t)) {
		t.Error("the second repair has written")
	}
}

// TestRepairMakesTheSameClaims removes all claims. The repair creates the same claims again.
func TestRepairMakesTheSameClaims(t *testing.T) {
	t.Parallel()
	whole := healthy(t)
	// The keys of namespaces with roots are only created together with the next root.
	maps.DeleteFunc(whole, func(key, _ string) bool { return strings.HasPrefix(key, rootsPrefix) })
	s := newEtcd(t, whole.withoutClaims())
	opened := s.open(t)
	if got := len(auditOf(t, opened)); got != 304 {
		t.Errorf("%d differences without claims, not 304", got)
	}
	repaired, left, err := opened.Repair(t.Context())
	if err != nil || len(repaired) != 304 || len(left) != 0 {
		t.Errorf("%d repaired, %d left, %v", len(repaired), len(left), err)
	}
	after := s.world(t)
	for key, value := range whole {
		if !same(value, after[key]) {
			t.Errorf("%s: was %s, is %s", key, value, after[key])
		}
	}
	if len(after) != len(whole) {
		t.Errorf("%d keys, not %d", len(after), len(whole))
	}
}

// same reports whether two values are equal, as strings or as JSON.
func same(a, b string) bool {
	var x, y any
	return a == b || json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}
