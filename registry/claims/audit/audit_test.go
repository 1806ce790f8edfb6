// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/install"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/storage/storagebackend"
)

// randomPrefix returns a prefix in a space that is so small that prefixes often overlap.
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
		var all []unclaimed
		for i := range random.IntN(12) {
			prefix := randomPrefix(random)
			all = append(all, unclaimed{claims.NewKeyspace("").Claim("parent", prefix), &allocationInfo{
				Holder: claims.Holder{UID: types.UID(fmt.Sprint(i))}, prefix: prefix, created: randomTime(random).Unix(),
			}})
		}
		want := map[types.UID]bool{}
		for _, p := range all {
			for _, q := range all {
				want[p.UID] = want[p.UID] || p.UID != q.UID && inTheRight(q.allocationInfo, p.allocationInfo)
			}
		}
		got := map[types.UID]bool{}
		slices.SortFunc(all, compareUnclaimed)
		var chain chain
		for _, a := range all {
			other := chain.overlapping(a.allocationInfo)
			if other == nil {
				continue
			}
			if !inTheRight(other, a.allocationInfo) {
				t.Errorf("seed %d: %s of %s is not in the right against %s of %s", seed, other.prefix, other.UID, a.prefix, a.UID)
			}
			got[a.UID] = true
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

// inTheRight reports whether p overlaps q and has priority: it is larger, or as large and older. A fixed order
// decides between two of the same age.
func inTheRight(p, q *allocationInfo) bool {
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

// snapshot is the content of a store.
type snapshot struct {
	prefixes    []ipam.Prefix
	allocations []ipam.PrefixAllocation
	claims      []storedEntry
	// garbage contains the keys whose values cannot be decoded, whatever the other fields contain.
	garbage map[string]bool
	// lost contains the keys in lost+found, without that prefix.
	lost map[string]bool
}

// storedEntry is a claim and its key.
type storedEntry struct {
	claims.Claim
	key    string
	parent types.UID
	prefix netip.Prefix
}

// infoOf returns the information about an allocation that holds a prefix.
func infoOf(a *ipam.PrefixAllocation) *allocationInfo {
	return &allocationInfo{Holder: claims.HolderOf(a), prefix: netip.MustParsePrefix(a.Status.Prefix).Masked(), created: a.CreationTimestamp.Unix()}
}

// ground is a store whose content can be replaced by a snapshot.
type ground struct {
	*Auditor
	codec runtime.Codec
}

func newGround(t *testing.T) *ground {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	etcd := &claims.Etcd{KV: claimstest.RunEtcd(t).KV, Keys: claims.NewKeyspace("/registry/test")}
	g := &ground{New(etcd), serializer.NewCodecFactory(scheme).LegacyCodec(schema.GroupVersion(v1alpha1.GroupVersion))}
	for resource, of := range map[string]*claims.Objects{"prefixes": &g.Prefixes, "prefixallocations": &g.Allocations} {
		config := storagebackend.NewDefaultConfig("/registry/test", g.codec)
		*of = claims.NewObjects(config.ForResource(ipam.Resource(resource)), "/ipam.ironcore.dev/"+resource)
	}
	return g
}

func (g *ground) prefixKey(p *ipam.Prefix) string { return g.Prefixes.Key(p.Namespace, p.Name) }

func (g *ground) allocationKey(a *ipam.PrefixAllocation) string {
	return g.Allocations.Key(a.Namespace, a.Name)
}

// put replaces the content of the store.
func (g *ground) put(t *testing.T, s *snapshot) {
	t.Helper()
	ops := []clientv3.Op{}
	put := func(key string, value []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if s.garbage[key] {
			value = []byte("nonsense")
		}
		ops = append(ops, clientv3.OpPut(key, string(value)))
	}
	for i := range s.prefixes {
		p := s.prefixes[i].DeepCopy()
		p.ResourceVersion = ""
		value, err := runtime.Encode(g.codec, p)
		put(g.prefixKey(p), value, err)
	}
	for i := range s.allocations {
		a := s.allocations[i].DeepCopy()
		a.ResourceVersion = ""
		value, err := runtime.Encode(g.codec, a)
		put(g.allocationKey(a), value, err)
	}
	for _, c := range s.claims {
		value, err := c.Encode()
		put(c.key, []byte(value), err)
	}
	for key := range s.lost {
		put(g.Lost(key), []byte("nonsense"), nil)
	}
	if _, err := g.KV.Delete(t.Context(), "/registry/test/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.KV.Txn(t.Context()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
}

// stored returns the decodable content of the store, by key.
func (g *ground) stored(t *testing.T) map[string]string {
	t.Helper()
	response, err := g.KV.Get(t.Context(), "/registry/test/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range response.Kvs {
		all[string(kv.Key)] = string(kv.Value)
	}
	return all
}

// after returns the snapshot with the claims that are in etcd now.
func (g *ground) after(t *testing.T, s *snapshot) *snapshot {
	t.Helper()
	stored := g.stored(t)
	is := &snapshot{garbage: map[string]bool{}, lost: map[string]bool{}}
	for _, p := range s.prefixes {
		if _, ok := stored[g.prefixKey(&p)]; ok {
			is.prefixes = append(is.prefixes, p)
		}
	}
	for _, a := range s.allocations {
		if _, ok := stored[g.allocationKey(&a)]; ok {
			is.allocations = append(is.allocations, a)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(stored)) {
		if stored[key] == "nonsense" && !strings.Contains(key, "/lost+found/") {
			is.garbage[key] = true
		}
		if rest, ok := strings.CutPrefix(key, "/registry/test/lost+found"); ok {
			is.lost["/registry/test"+rest] = true
		} else if strings.HasPrefix(key, g.Keys.All().Start) {
			is.claims = append(is.claims, g.entryOf(t, key, stored[key]))
		}
	}
	return is
}

func (g *ground) entryOf(t *testing.T, key, value string) storedEntry {
	t.Helper()
	parent, prefix, err := g.Keys.Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := claims.DecodeClaim([]byte(value))
	return storedEntry{Claim: c, key: key, parent: parent, prefix: prefix}
}

// controlledBy returns owner references with a reference to a Prefix.
func controlledBy(child *ipam.Prefix, isController bool) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: ipam.PrefixKind, Name: child.Name, UID: child.UID, Controller: &isController,
	}}
}

// randomSnapshot returns a snapshot that is mostly correct, and contains every kind of mistake.
func (g *ground) randomSnapshot(random *rand.Rand) *snapshot {
	keys := g.Keys
	s := &snapshot{garbage: map[string]bool{}, lost: map[string]bool{}}
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
			// It is for a child, and mostly the child uses it.
			child := s.prefixes[pick(n)]
			a.OwnerReferences = controlledBy(&child, !chance(8))
			if child.Spec.ParentRef != nil && !chance(4) && child.Spec.Prefix != "" {
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

	values := map[string]claims.Claim{}
	for i := range s.allocations {
		a := &s.allocations[i]
		name, prefix, ok := claims.Allocated(a)
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
		key := keys.Claim(uid, prefix)
		h := claims.HolderOf(a)
		if chance(10) {
			h.UID = "ghost"
		}
		if n := len(s.prefixes); n > 0 && chance(8) {
			// The owner reference of the object differs from the claim.
			child := s.prefixes[pick(n)]
			h.Child = &claims.ChildRef{Name: child.Name, UID: child.UID}
		}
		values[key] = claims.Claim{Holders: append(values[key].Holders, h)}
	}
	if chance(3) {
		values[keys.Claim("uid-a0", randomPrefix(random))] = claims.Claim{}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		parent, prefix, err := keys.Parse(key)
		if err != nil {
			panic(err)
		}
		s.claims = append(s.claims, storedEntry{Claim: values[key], key: key, parent: parent, prefix: prefix})
	}
	if chance(4) {
		for i := range s.prefixes {
			s.garbage[g.prefixKey(&s.prefixes[i])] = chance(12)
		}
		for i := range s.allocations {
			s.garbage[g.allocationKey(&s.allocations[i])] = chance(12)
		}
		for i := range s.claims {
			s.garbage[s.claims[i].key] = chance(12)
		}
	}
	return s
}

// differ formats a difference.
func differ(kind DifferenceKind, namespace, name string, uid types.UID, parent, prefix string) string {
	return fmt.Sprintf("%s %s/%s (%s): %s of %s", kind, namespace, name, uid, prefix, parent)
}

func differs(differences []Difference) (all []string) {
	for _, d := range differences {
		if d.Kind == Undecodable {
			all = append(all, "Undecodable "+d.Key)
		} else {
			all = append(all, differ(d.Kind, d.Namespace, d.Name, d.uid, d.Parent, d.Prefix))
		}
	}
	slices.Sort(all)
	return all
}

// model compares all objects and claims with each other, without any index.
type model struct {
	*ground
	*snapshot
}

// prefixAt returns a Prefix, and whether it is known if the Prefix exists.
func (m model) prefixAt(namespace, name string) (p *ipam.Prefix, known bool) {
	for i := range m.snapshot.prefixes {
		if p := &m.snapshot.prefixes[i]; p.Namespace == namespace && p.Name == name {
			return p, !m.garbage[m.prefixKey(p)]
		}
	}
	return nil, true
}

func (m model) claimAt(key string) (c *storedEntry, known bool) {
	for i := range m.claims {
		if m.claims[i].key == key {
			return &m.claims[i], !m.garbage[key]
		}
	}
	return nil, true
}

// holding returns the allocations that hold a prefix.
func (m model) holding() (all []*ipam.PrefixAllocation) {
	for i := range m.snapshot.allocations {
		a := &m.snapshot.allocations[i]
		if _, _, ok := claims.Allocated(a); ok && !m.garbage[m.allocationKey(a)] {
			all = append(all, a)
		}
	}
	return all
}

// holderIn returns the holder of the claim that is for an allocation.
func (m model) holderIn(a *ipam.PrefixAllocation) (parent *ipam.Prefix, h *claims.Holder, known bool) {
	parent, known = m.prefixAt(a.Namespace, a.Spec.PrefixRef.Name)
	if parent == nil || !known {
		return parent, nil, known
	}
	c, known := m.claimAt(m.Keys.Claim(parent.UID, netip.MustParsePrefix(a.Status.Prefix)))
	if c == nil || !known {
		return parent, nil, known
	}
	for i := range c.Holders {
		if h := &c.Holders[i]; h.UID == a.UID && h.Namespace == a.Namespace && h.Name == a.Name {
			return parent, h, true
		}
	}
	return parent, nil, true
}

// holds reports whether a holder of a claim holds the prefix, or may hold it.
func (m model) holds(h claims.Holder, c storedEntry) bool {
	for i := range m.snapshot.allocations {
		if a := &m.snapshot.allocations[i]; a.Namespace == h.Namespace && a.Name == h.Name && m.garbage[m.allocationKey(a)] {
			return true
		}
	}
	return slices.ContainsFunc(m.holding(), func(a *ipam.PrefixAllocation) bool {
		if a.UID != h.UID || a.Namespace != h.Namespace || a.Name != h.Name || netip.MustParsePrefix(a.Status.Prefix) != c.prefix {
			return false
		}
		parent, known := m.prefixAt(a.Namespace, a.Spec.PrefixRef.Name)
		return parent == nil || !known || parent.UID == c.parent
	})
}

func (m model) differences() (found []string) {
	for key := range m.garbage {
		if m.garbage[key] {
			found = append(found, "Undecodable "+key)
		}
	}
	var comparable, unclaimed []*ipam.PrefixAllocation
	for _, a := range m.holding() {
		prefix := netip.MustParsePrefix(a.Status.Prefix)
		tell := func(kind DifferenceKind) {
			found = append(found, differ(kind, a.Namespace, a.Name, a.UID, a.Spec.PrefixRef.Name, a.Status.Prefix))
		}
		parent, h, known := m.holderIn(a)
		if known {
			comparable = append(comparable, a)
		}
		switch {
		case parent == nil:
			tell(ParentMissing)
			unclaimed = append(unclaimed, a)
			continue
		case m.garbage[m.prefixKey(parent)]:
			continue
		}
		whole, err := netip.ParsePrefix(parent.Spec.Prefix)
		if err != nil || whole == prefix || !whole.Contains(prefix.Addr()) || !whole.Contains(cidr.Last(prefix)) {
			tell(OutsideParent)
		}
		switch {
		case known && h == nil:
			tell(AllocationWithoutClaim)
			unclaimed = append(unclaimed, a)
		case known && h.Child != nil:
			child, known := m.prefixAt(a.Namespace, h.Child.Name)
			if !known {
				continue
			}
			if child == nil || child.UID != h.Child.UID || child.Status.Phase == ipam.PrefixPhaseAllocated &&
				(child.Spec.Prefix != a.Status.Prefix || child.Spec.ParentRef == nil || *child.Spec.ParentRef != *a.Spec.PrefixRef) {
				tell(Leftover)
			}
		}
	}
	for _, a := range comparable {
		if slices.ContainsFunc(comparable, func(b *ipam.PrefixAllocation) bool {
			return a != b && a.Namespace == b.Namespace && *a.Spec.PrefixRef == *b.Spec.PrefixRef && inTheRight(infoOf(b), infoOf(a))
		}) {
			found = append(found, differ(Overlap, a.Namespace, a.Name, a.UID, a.Spec.PrefixRef.Name, a.Status.Prefix))
		}
	}

	for _, c := range m.claims {
		if m.garbage[c.key] {
			continue
		}
		if len(c.Holders) == 0 {
			found = append(found, differ(ClaimWithoutAllocation, "", "", "", string(c.parent), c.prefix.String()))
		}
		for _, h := range c.Holders {
			if !m.holds(h, c) {
				found = append(found, differ(ClaimWithoutAllocation, h.Namespace, h.Name, h.UID, string(c.parent), c.prefix.String()))
			}
		}
	}

	for i := range m.snapshot.prefixes {
		child := &m.snapshot.prefixes[i]
		if m.garbage[m.prefixKey(child)] || child.Status.Phase != ipam.PrefixPhaseAllocated || child.Spec.IsRoot() {
			continue
		}
		name := ""
		if child.Spec.ParentRef != nil {
			name = child.Spec.ParentRef.Name
			parent, known := m.prefixAt(child.Namespace, name)
			if !known {
				continue
			}
			if prefix, err := netip.ParsePrefix(child.Spec.Prefix); err == nil && parent != nil {
				c, known := m.claimAt(m.Keys.Claim(parent.UID, prefix))
				if !known || c != nil && slices.ContainsFunc(c.Holders, func(h claims.Holder) bool {
					return h.Namespace == child.Namespace && h.Child != nil && h.Child.Name == child.Name && h.Child.UID == child.UID
				}) {
					continue
				}
			}
		}
		if !slices.ContainsFunc(unclaimed, func(a *ipam.PrefixAllocation) bool {
			return metav1.IsControlledBy(a, child) && a.Namespace == child.Namespace && a.Spec.PrefixRef.Name == name && a.Status.Prefix == child.Spec.Prefix
		}) {
			found = append(found, differ(ChildDiffers, child.Namespace, child.Name, child.UID, name, child.Spec.Prefix))
		}
	}
	slices.Sort(found)
	return found
}

// family returns a snapshot with a parent and an allocated child.
func (g *ground) family() *snapshot {
	root := ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "root", UID: "uid-root"},
		Spec:       ipam.PrefixSpec{Prefix: "10.0.0.0/8"},
		Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated},
	}
	child := *root.DeepCopy()
	child.Name, child.UID = "child", "uid-child"
	child.Spec = ipam.PrefixSpec{Prefix: "10.1.0.0/16", ParentRef: &ipam.LocalObjectReference{Name: root.Name}}
	a := ipam.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "child", UID: "uid-allocation", OwnerReferences: controlledBy(&child, true)},
		Spec:       ipam.PrefixAllocationSpec{PrefixRef: &ipam.LocalObjectReference{Name: root.Name}},
		Status:     ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: child.Spec.Prefix},
	}
	prefix := netip.MustParsePrefix(child.Spec.Prefix)
	c := storedEntry{Claim: claims.Claim{Holders: []claims.Holder{claims.HolderOf(&a)}}, key: g.Keys.Claim(root.UID, prefix), parent: root.UID, prefix: prefix}
	return &snapshot{prefixes: []ipam.Prefix{root, child}, allocations: []ipam.PrefixAllocation{a}, claims: []storedEntry{c}}
}

// broken returns snapshots that each differ from s in one thing.
func (g *ground) broken(s *snapshot) map[string]*snapshot {
	if len(s.claims) == 0 {
		return nil
	}
	// Prefer one that a child may use.
	n := max(0, slices.IndexFunc(s.claims, func(c storedEntry) bool { return c.Holders[0].Child != nil }))
	c, rest := s.claims[n], slices.Delete(slices.Clone(s.claims), n, n+1)
	at := slices.IndexFunc(s.allocations, func(a ipam.PrefixAllocation) bool { return a.UID == c.Holders[0].UID })
	held := s.allocations[at]
	twin := *held.DeepCopy()
	twin.Name, twin.UID = "twin", "twin"
	shared := c
	shared.Holders = append(slices.Clone(c.Holders), claims.HolderOf(&twin))
	ownerless := slices.Clone(s.allocations)
	ownerless[at].OwnerReferences = nil
	forNobody := c
	forNobody.Holders = []claims.Holder{{Namespace: held.Namespace, Name: held.Name, UID: held.UID}}
	claimed := func(parent types.UID, prefix netip.Prefix) []storedEntry {
		return append(slices.Clone(s.claims), storedEntry{Claim: c.Claim, key: g.Keys.Claim(parent, prefix), parent: parent, prefix: prefix})
	}
	broken := map[string]*snapshot{
		"claim gone":                  {s.prefixes, s.allocations, rest, nil, nil},
		"claim for nobody":            {s.prefixes, s.allocations, append(slices.Clone(rest), forNobody), nil, nil},
		"allocation gone":             {s.prefixes, slices.Delete(slices.Clone(s.allocations), at, at+1), s.claims, nil, nil},
		"twin":                        {s.prefixes, append(slices.Clone(s.allocations), twin), s.claims, nil, nil},
		"twin with claim":             {s.prefixes, append(slices.Clone(s.allocations), twin), append(slices.Clone(rest), shared), nil, nil},
		"reference gone":              {s.prefixes, ownerless, s.claims, nil, nil},
		"reference and claim gone":    {s.prefixes, ownerless, rest, nil, nil},
		"claim to something besides":  {s.prefixes, s.allocations, claimed(c.parent, netip.MustParsePrefix("192.0.2.0/24")), nil, nil},
		"claim to the same elsewhere": {s.prefixes, s.allocations, claimed("uid-elsewhere", c.prefix), nil, nil},
		"claim is garbage":            {s.prefixes, s.allocations, s.claims, map[string]bool{c.key: true}, nil},
		"allocation is garbage":       {s.prefixes, s.allocations, s.claims, map[string]bool{g.allocationKey(&held): true}, nil},
	}
	if at := slices.IndexFunc(s.prefixes, func(p ipam.Prefix) bool { return metav1.IsControlledBy(&held, &p) }); at >= 0 {
		broken["child gone"] = &snapshot{slices.Delete(slices.Clone(s.prefixes), at, at+1), s.allocations, s.claims, nil, nil}
		broken["child is garbage"] = &snapshot{s.prefixes, s.allocations, s.claims, map[string]bool{g.prefixKey(&s.prefixes[at]): true}, nil}
	}
	return broken
}

// eachKindOfStore calls check with snapshots that have every combination of kinds of differences, and with
// snapshots that have only one difference.
func (g *ground) eachKindOfStore(t *testing.T, enough int, check func(*snapshot, []string)) {
	classes, wrongs := map[string]int{}, map[string]int{}
	checkBroken := func(s *snapshot) {
		for what, s := range g.broken(s) {
			if wrongs[what]++; wrongs[what] <= enough {
				check(s, model{g, s}.differences())
			}
		}
	}
	checkBroken(g.family())
	for seed := range uint64(5000) {
		s := g.randomSnapshot(rand.New(rand.NewPCG(seed, 3)))
		found := model{g, s}.differences()
		var kinds []string
		for _, d := range found {
			kinds = append(kinds, strings.Fields(d)[0])
		}
		class := fmt.Sprint(slices.Compact(kinds))
		if classes[class]++; classes[class] <= enough {
			check(s, found)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if len(found) == 0 {
			checkBroken(s)
		}
	}
	if classes["[]"] < enough || len(classes) < 60 {
		t.Errorf("%d classes: %v", len(classes), classes)
	}
	if len(wrongs) != 13 {
		t.Errorf("got %v", wrongs)
	}
}

// TestAuditAgainstModel compares the findings of an audit with those of a naive model.
func TestAuditAgainstModel(t *testing.T) {
	g := newGround(t)
	seen := map[DifferenceKind]int{}
	stores := 0
	g.eachKindOfStore(t, 5, func(s *snapshot, want []string) {
		g.put(t, s)
		before := g.stored(t)
		stores++
		for _, pageSize := range []int{1, 3, 1000} {
			found, err := g.Audit(t.Context(), Rate{Read: 2 * pageSize, Page: pageSize}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := differs(found); !slices.Equal(got, want) {
				t.Fatalf("by pages of %d:\n got %q\nwant %q\nof %v", pageSize, got, want, before)
			}
			for i, d := range found {
				seen[d.Kind]++
				if i > 0 && d.Kind < found[i-1].Kind {
					t.Errorf("%s after %s", d.Kind, found[i-1].Kind)
				}
				if d.Message == "" {
					t.Errorf("%v says nothing", d)
				}
			}
		}
		if !maps.Equal(before, g.stored(t)) {
			t.Error("the audit has written")
		}
	})
	for _, kind := range DifferenceKinds {
		if seen[kind] < 50 {
			t.Errorf("%s was found %d times only", kind, seen[kind])
		}
	}
	t.Logf("found %v in %d stores", seen, stores)
}

// TestRepairAgainstModel repairs and adopts stores. Everything that an allocation or a child may need remains, the
// remaining differences are those of the model, and none of them can be repaired.
func TestRepairAgainstModel(t *testing.T) {
	g := newGround(t)
	changed := map[string]int{}
	g.eachKindOfStore(t, 5, func(s *snapshot, _ []string) {
		for _, what := range []string{"repair", "adopt"} {
			g.put(t, s)
			before := g.stored(t)
			run := func() []Difference {
				var left []Difference
				var err error
				if what == "repair" {
					_, left, err = g.repair(t.Context(), Rate{Read: 7, Page: 3}, 0)
				} else {
					left, err = g.Adopt(t.Context(), nil)
				}
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				return left
			}
			left := run()
			is := g.after(t, s)
			want := model{g, is}.differences()
			if what == "adopt" {
				want = slices.DeleteFunc(want, func(d string) bool { return strings.HasPrefix(d, string(Leftover)) })
			}
			if got := differs(left); !slices.Equal(got, want) {
				t.Errorf("%s leaves %q, not %q, of %v, which is %v", what, got, want, before, g.stored(t))
			}
			g.checkNothingLost(t, s, is)
			g.checkNobodyUnderChild(t, is)
			after := g.stored(t)
			if run(); what == "adopt" && !maps.Equal(after, g.stored(t)) {
				t.Errorf("adopting %v twice is not the same as once: %v", after, g.stored(t))
			}
			if !maps.Equal(before, after) {
				changed[what]++
			}
			for key, value := range before {
				isClaim := strings.HasPrefix(key, g.Keys.All().Start)
				now, ok := after[key]
				switch moved := after[g.Lost(key)]; {
				case now == value:
				case value == "nonsense" && what == "repair":
					if moved != value || ok != isClaim {
						t.Errorf("%s was not moved: it is %q, and in lost+found %q", key, now, moved)
					}
				case !isClaim || value == "nonsense":
					t.Errorf("%s: %s became %s", what, key, now)
				}
			}
		}
	})
	t.Logf("changed %v", changed)
}

// checkNobodyUnderChild checks that no child uses a prefix that is claimed without a child: it could be released
// under the child. If the allocation of the child has no claim, an administrator must decide.
func (g *ground) checkNobodyUnderChild(t *testing.T, is *snapshot) {
	t.Helper()
	m := model{g, is}
	differences := m.differences()
	for _, child := range is.prefixes {
		if child.Spec.ParentRef == nil {
			continue
		}
		differs := differ(ChildDiffers, child.Namespace, child.Name, child.UID, child.Spec.ParentRef.Name, child.Spec.Prefix)
		parent, known := m.prefixAt(child.Namespace, child.Spec.ParentRef.Name)
		prefix, err := netip.ParsePrefix(child.Spec.Prefix)
		if !known || parent == nil || err != nil || !slices.Contains(differences, differs) {
			continue
		}
		if c, known := m.claimAt(g.Keys.Claim(parent.UID, prefix)); known && c != nil && len(c.Holders) == 1 {
			if h := c.Holders[0]; h.Namespace == child.Namespace && h.Child == nil {
				t.Errorf("Prefix %s/%s has %s, which is claimed for nobody", child.Namespace, child.Name, prefix)
			}
		}
	}
}

// checkNothingLost checks that every prefix that may be needed is still claimed for the same holder.
func (g *ground) checkNothingLost(t *testing.T, was, is *snapshot) {
	t.Helper()
	before, after := model{g, was}, model{g, is}
	for _, c := range was.claims {
		now, _ := after.claimAt(c.key)
		if now == nil {
			now = &storedEntry{}
		}
		if was.garbage[c.key] {
			if now.key == "" {
				t.Errorf("%s cannot be decoded, and is free now", c.key)
			}
			continue
		}
		for _, h := range c.Holders {
			needed := before.holds(h, c)
			if h.Child != nil {
				child, known := before.prefixAt(h.Namespace, h.Child.Name)
				stands := child != nil && child.UID == h.Child.UID && child.Status.Phase == ipam.PrefixPhaseAllocated && child.Spec.Prefix == c.prefix.String()
				if known && stands && child.Spec.ParentRef != nil {
					if parent, known := before.prefixAt(h.Namespace, child.Spec.ParentRef.Name); known && parent != nil {
						stands = parent.UID == c.parent
					}
				}
				needed = needed || !known || stands
			}
			if needed && now.Find(h.UID) == nil {
				t.Errorf("%s was taken from %v", c.key, h)
			}
		}
	}
}

// TestAuditTellsWhatItCannotRead has values that are not objects or claims.
func TestAuditTellsWhatItCannotRead(t *testing.T) {
	g := newGround(t)
	for _, key := range []string{
		g.Prefixes.Key("ns", "a"), g.Allocations.Key("ns", "a"), g.Keys.All().Start + "a", g.Keys.Claim("a", netip.MustParsePrefix("10.0.0.0/32")),
	} {
		g.put(t, &snapshot{claims: []storedEntry{{key: key}}, garbage: map[string]bool{key: true}})
		found, err := g.Audit(t.Context(), Rate{Read: 1, Page: 1}, 0)
		if err != nil || len(found) != 1 || found[0].Kind != Undecodable || found[0].Key != key || !strings.Contains(found[0].Message, key) {
			t.Errorf("%s: got %v, %v", key, found, err)
		}
		repaired, left, err := g.Repair(t.Context())
		want, wantLeft := map[string]string{g.Lost(key): "nonsense"}, 0
		if _, _, err := g.Keys.Parse(key); err == nil {
			// It is not known whether this claim is needed.
			want[key], wantLeft = `{"holders":null}`, 1
		}
		if err != nil || len(repaired) != 1 || len(left) != wantLeft {
			t.Errorf("%s: repaired %v, left %v, %v", key, repaired, left, err)
		}
		if got := g.stored(t); !maps.Equal(got, want) {
			t.Errorf("%s: got %v", key, got)
		}
	}
}

// TestRepairKeepsWhatMayBeRead has objects that another configuration or version can decode, and a key in
// lost+found that exists already.
func TestRepairKeepsWhatMayBeRead(t *testing.T) {
	g := newGround(t)
	for name, value := range map[string]string{
		"encrypted":       "k8s:enc:secretbox:v1:key:something",
		"a newer version": `{"apiVersion":"ipam.ironcore.dev/v7","kind":"Prefix","metadata":{"name":"a","namespace":"ns"}}`,
		"taken":           "nonsense",
	} {
		key := g.Prefixes.Key("ns", "a")
		g.put(t, &snapshot{lost: map[string]bool{g.Prefixes.Key("ns", "other"): true, key: name == "taken"}})
		if name != "taken" {
			if _, err := g.KV.Delete(t.Context(), g.Lost(key)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.KV.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		before := g.stored(t)
		repaired, left, err := g.Repair(t.Context())
		if err != nil || len(repaired) > 0 || len(left) != 1 || left[0].Kind != Undecodable {
			t.Errorf("%s: repaired %v, left %v, %v", name, repaired, left, err)
		}
		if !maps.Equal(before, g.stored(t)) {
			t.Errorf("%s: it was changed", name)
		}
	}
}

// TestLeftoversGetTime deletes an apparent Leftover while an audit waits for that, or does not delete it.
func TestLeftoversGetTime(t *testing.T) {
	g := newGround(t)
	s := g.family()
	s.prefixes = s.prefixes[:1]
	for _, deleted := range []bool{true, false} {
		g.put(t, s)
		timer := time.AfterFunc(100*time.Millisecond, func() {
			if deleted {
				_, _ = g.KV.Txn(context.Background()).Then(clientv3.OpDelete(s.claims[0].key), clientv3.OpDelete(g.allocationKey(&s.allocations[0]))).Commit()
			}
		})
		defer timer.Stop()
		grace := 20 * time.Second
		if !deleted {
			grace = time.Second
		}
		began := time.Now()
		found, err := g.Audit(t.Context(), FullSpeed, grace)
		if took := time.Since(began); err != nil || len(found) > 0 == deleted || deleted && took >= grace || !deleted && took < grace {
			t.Errorf("deleted: %t: found %v after %s, %v", deleted, found, took, err)
		}
	}
}

// TestRate has ten pieces of a second each, then some that fail.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := Rate{PauseFactor: 9, Retry: wait.Backoff{Duration: time.Minute, Factor: 2, Steps: 3}}
		began, pieces, failing := time.Now(), 0, map[int]bool{}
		away := errors.New("away")
		piece := func() (bool, error) {
			time.Sleep(time.Second)
			if pieces++; failing[pieces] {
				return false, away
			}
			return pieces == 10, nil
		}
		run := func(ctx context.Context, wantPieces int, want error, wantTime time.Duration) {
			t.Helper()
			began, pieces = time.Now(), 0
			if err := rate.do(ctx, piece); !errors.Is(err, want) || pieces != wantPieces || time.Since(began) != wantTime {
				t.Errorf("%d pieces in %s: %v", pieces, time.Since(began), err)
			}
		}
		run(t.Context(), 10, nil, (10+9*9)*time.Second)
		// A failed step is retried up to three times.
		failing = map[int]bool{2: true, 3: true, 4: true, 6: true}
		run(t.Context(), 10, nil, (10+9*9)*time.Second+(1+2+4+1)*time.Minute)
		failing = map[int]bool{2: true, 3: true, 4: true, 5: true}
		run(t.Context(), 5, away, (5+4*9)*time.Second+(1+2+4)*time.Minute)
		// It ends at once when the context ends.
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		run(ctx, 1, context.DeadlineExceeded, 1500*time.Millisecond)
		run(ctx, 1, context.DeadlineExceeded, time.Second)
	})
}
