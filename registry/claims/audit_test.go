// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// randomPrefix returns a prefix in a space that is so small that prefixes meet often.
func randomPrefix(random *rand.Rand) netip.Prefix {
	addr, most := netip.MustParseAddr("10.0.0.0").AsSlice(), 4
	if random.IntN(3) == 0 {
		addr = netip.MustParseAddr("2001:db8::").AsSlice()
	}
	free := random.IntN(most + 1)
	addr[len(addr)-1] = byte(random.IntN(1 << most))
	first, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(first, len(addr)*8-free).Masked()
}

func randomTime(random *rand.Rand) metav1.Time {
	return metav1.NewTime(time.Unix(int64(random.IntN(3)), 0))
}

func TestOverlapsAgainstModel(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		var parts []part
		for i := range random.IntN(12) {
			parts = append(parts, part{holder: holder{UID: types.UID(fmt.Sprint(i))}, prefix: randomPrefix(random), created: randomTime(random).Unix()})
		}
		want := map[types.UID]bool{}
		for _, p := range parts {
			for _, q := range parts {
				want[p.UID] = want[p.UID] || p.UID != q.UID && inTheRight(&q, &p)
			}
		}
		got := map[types.UID]bool{}
		for _, pair := range overlaps(parts) {
			if !inTheRight(pair[0], pair[1]) {
				t.Errorf("seed %d: %s of %s is not in the right against %s of %s",
					seed, pair[0].prefix, pair[0].UID, pair[1].prefix, pair[1].UID)
			}
			if got[pair[1].UID] {
				t.Errorf("seed %d: %s of %s is told twice", seed, pair[1].prefix, pair[1].UID)
			}
			got[pair[1].UID] = true
		}
		for uid, overlaps := range want {
			if overlaps != got[uid] {
				t.Errorf("seed %d: %s overlaps: %t, not %t", seed, uid, got[uid], overlaps)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// inTheRight tells whether p overlaps q and has the better right: it is larger, or as large and
// older. Of two of the same age, somebody has to have it.
func inTheRight(p, q *part) bool {
	contains := p.prefix.Contains(q.prefix.Addr())
	switch {
	case !contains || p.prefix.Bits() > q.prefix.Bits():
		return false
	case p.prefix != q.prefix:
		return true
	case p.created != q.created:
		return p.created < q.created
	}
	return p.UID < q.UID
}

// snapshot is everything there is.
type snapshot struct {
	prefixes    []ipam.Prefix
	allocations []ipam.PrefixAllocation
	claims      []claimEntry
}

// survey returns what an audit has to know of it.
func (s *snapshot) survey(t *testing.T, keys keyspace) *survey {
	t.Helper()
	y := newSurvey(keys)
	for i := range s.prefixes {
		y.takePrefix(&s.prefixes[i])
	}
	for i := range s.allocations {
		if err := y.takeAllocation(&s.allocations[i]); err != nil {
			t.Fatal(err)
		}
	}
	y.resolve()
	for _, entry := range s.claims {
		y.takeClaim(entry)
	}
	return y
}

// mustPartOf returns what has to be known of an allocation that holds something.
func mustPartOf(a *ipam.PrefixAllocation) *part {
	p, ok, err := partOf(a)
	if !ok || err != nil {
		panic(fmt.Sprint(a.Name, ok, err))
	}
	return &p
}

// randomSnapshot returns a store in which most is right and every mistake happens.
func randomSnapshot(random *rand.Rand, keys keyspace) *snapshot {
	s := &snapshot{}
	chance := func(of int) bool { return random.IntN(of) == 0 }
	pick := func(of int) int { return random.IntN(of) }
	ref := func() *ipam.LocalObjectReference { return &ipam.LocalObjectReference{Name: fmt.Sprint("p", pick(5))} }
	namespace := func() string { return []string{"a", "a", "a", "b"}[pick(4)] }

	for _, ns := range []string{"a", "b"} {
		for i := range 4 {
			if chance(5) {
				continue
			}
			p := ipam.Prefix{
				ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("uid-", ns, i))},
				Spec:       ipam.PrefixSpec{Prefix: []string{"10.0.0.0/28", "10.0.0.0/29", "2001:db8::/124", "", "10.0.0.0/8"}[pick(5)]},
				Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated},
			}
			if chance(2) {
				p.Spec.Prefix = randomPrefix(random).String()
				switch pick(3) {
				case 0:
					p.Spec.ParentRef = ref()
				case 1:
					p.Spec.ParentSelector = &metav1.LabelSelector{}
				case 2:
					p.Spec.ParentRef, p.Status.Phase = ref(), ipam.PrefixPhasePending
				}
			}
			s.prefixes = append(s.prefixes, p)
		}
	}
	for i := range pick(10) {
		a := ipam.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace(), Name: fmt.Sprint("a", i), UID: types.UID(fmt.Sprint("allocation-", i)), CreationTimestamp: randomTime(random),
			},
			Spec:   ipam.PrefixAllocationSpec{PrefixRef: ref()},
			Status: ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: randomPrefix(random).String()},
		}
		if n := len(s.prefixes); n > 0 && !chance(4) {
			// It is of a child, and mostly what that stands on.
			child := s.prefixes[pick(n)]
			a.OwnerReferences = []metav1.OwnerReference{{APIVersion: "ipam.ironcore.dev/v1alpha1", Kind: "Prefix", Name: child.Name, UID: child.UID, Controller: new(!chance(8))}}
			if child.Spec.ParentRef != nil && !chance(4) {
				a.Namespace, a.Spec.PrefixRef.Name, a.Status.Prefix = child.Namespace, child.Spec.ParentRef.Name, child.Spec.Prefix
			}
		}
		switch pick(16) {
		case 0:
			a.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhasePending}
		case 1:
			a.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseFailed}
		case 2:
			a.Spec.PrefixRef = nil
		}
		s.allocations = append(s.allocations, a)
	}

	values := map[string]claim{}
	for i := range s.allocations {
		a := &s.allocations[i]
		name, prefix, ok := allocated(a)
		if !ok || chance(8) {
			continue
		}
		uid := types.UID(fmt.Sprint("uid-", a.Namespace, name[1:]))
		switch pick(12) {
		case 0:
			uid = types.UID(fmt.Sprint("uid-", namespace(), pick(6)))
		case 1:
			prefix = randomPrefix(random)
		}
		key := keys.claim(uid, prefix)
		h := holderOf(a)
		if chance(10) {
			h.UID = "ghost"
		}
		values[key] = claim{append(values[key].Holders, h)}
	}
	if chance(3) {
		values[keys.claim("uid-a0", randomPrefix(random))] = claim{}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		parent, prefix, err := keys.parse(key)
		if err != nil {
			panic(err)
		}
		s.claims = append(s.claims, claimEntry{claim: values[key], key: key, parent: parent, prefix: prefix})
	}
	random.Shuffle(len(s.prefixes), func(i, j int) { s.prefixes[i], s.prefixes[j] = s.prefixes[j], s.prefixes[i] })
	random.Shuffle(len(s.allocations), func(i, j int) { s.allocations[i], s.allocations[j] = s.allocations[j], s.allocations[i] })
	return s
}

// differ is how the tests write a difference.
func differ(kind DifferenceKind, namespace, name string, uid types.UID, parent, prefix string) string {
	return fmt.Sprintf("%s %s/%s (%s): %s of %s", kind, namespace, name, uid, prefix, parent)
}

// modelOf tells the differences without any index: for each thing it looks at all others.
func modelOf(s *snapshot) (found []string) {
	parentOf := func(a *ipam.PrefixAllocation) *ipam.Prefix {
		for i := range s.prefixes {
			if p := &s.prefixes[i]; p.Namespace == a.Namespace && p.Name == a.Spec.PrefixRef.Name {
				return p
			}
		}
		return nil
	}
	var holding []*ipam.PrefixAllocation
	for i := range s.allocations {
		if a := &s.allocations[i]; a.Status.Phase == ipam.PrefixAllocationPhaseAllocated && a.Spec.PrefixRef != nil {
			if _, err := netip.ParsePrefix(a.Status.Prefix); err == nil {
				holding = append(holding, a)
			}
		}
	}

	for _, a := range holding {
		prefix := netip.MustParsePrefix(a.Status.Prefix)
		tell := func(kind DifferenceKind) {
			found = append(found, differ(kind, a.Namespace, a.Name, a.UID, a.Spec.PrefixRef.Name, a.Status.Prefix))
		}
		if parent := parentOf(a); parent == nil {
			tell(ParentMissing)
		} else {
			whole, err := netip.ParsePrefix(parent.Spec.Prefix)
			if err != nil || whole == prefix || !whole.Contains(prefix.Addr()) || !whole.Contains(cidr.Last(prefix)) {
				tell(OutsideParent)
			}
			if !slices.ContainsFunc(s.claims, func(c claimEntry) bool {
				return c.parent == parent.UID && c.prefix == prefix && slices.ContainsFunc(c.Holders, func(h holder) bool { return h.UID == a.UID })
			}) {
				tell(AllocationWithoutClaim)
			}
		}
		if slices.ContainsFunc(holding, func(b *ipam.PrefixAllocation) bool {
			return a != b && a.Namespace == b.Namespace && *a.Spec.PrefixRef == *b.Spec.PrefixRef &&
				inTheRight(mustPartOf(b), mustPartOf(a))
		}) {
			tell(Overlap)
		}
	}

	for _, c := range s.claims {
		if len(c.Holders) == 0 {
			found = append(found, differ(ClaimWithoutAllocation, "", "", "", string(c.parent), c.prefix.String()))
		}
		for _, h := range c.Holders {
			if slices.ContainsFunc(holding, func(a *ipam.PrefixAllocation) bool {
				if a.UID != h.UID || netip.MustParsePrefix(a.Status.Prefix) != c.prefix {
					return false
				}
				if parent := parentOf(a); parent != nil {
					return parent.UID == c.parent
				}
				// What it is of is gone; it says so once.
				return !slices.ContainsFunc(s.prefixes, func(p ipam.Prefix) bool { return p.UID == c.parent })
			}) {
				continue
			}
			found = append(found, differ(ClaimWithoutAllocation, h.Namespace, h.Name, h.UID, string(c.parent), c.prefix.String()))
		}
	}

	for i := range s.prefixes {
		child := &s.prefixes[i]
		if child.Status.Phase != ipam.PrefixPhaseAllocated || child.Spec.ParentRef == nil && child.Spec.ParentSelector == nil {
			continue
		}
		name := ""
		if child.Spec.ParentRef != nil {
			name = child.Spec.ParentRef.Name
		}
		if !slices.ContainsFunc(holding, func(a *ipam.PrefixAllocation) bool {
			return metav1.IsControlledBy(a, child) && a.Namespace == child.Namespace && a.Spec.PrefixRef.Name == name && a.Status.Prefix == child.Spec.Prefix
		}) {
			found = append(found, differ(ChildDiffers, child.Namespace, child.Name, child.UID, name, child.Spec.Prefix))
		}
	}
	slices.Sort(found)
	return found
}

func TestDifferencesAgainstModel(t *testing.T) {
	keys := newKeyspace("/registry/test")
	seen := map[DifferenceKind]int{}
	clean := 0
	for seed := range uint64(5000) {
		s := randomSnapshot(rand.New(rand.NewPCG(seed, 2)), keys)
		want := modelOf(s)
		differences := s.survey(t, keys).differences()
		var got []string
		for i, d := range differences {
			got = append(got, differ(d.Kind, d.Namespace, d.Name, d.uid, d.Parent, d.Prefix))
			seen[d.Kind]++
			if i > 0 && d.Kind < differences[i-1].Kind {
				t.Errorf("seed %d: %s after %s", seed, d.Kind, differences[i-1].Kind)
			}
			if (d.claimKey != "") != (d.Kind == ClaimWithoutAllocation) {
				t.Errorf("seed %d: the claim of %s is %q", seed, d.Kind, d.claimKey)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d:\n got %q\nwant %q", seed, got, want)
		}
		if len(got) == 0 {
			clean++
		}
	}
	for _, kind := range DifferenceKinds {
		if seen[kind] < 100 {
			t.Errorf("%s was found %d times only", kind, seen[kind])
		}
	}
	t.Logf("found %v; nothing in %d", seen, clean)
}
