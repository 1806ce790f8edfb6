// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// model is a naive implementation of the index: lists of facts, and searches through all of them.
type model struct {
	parents map[string]modelParent
	// held contains the allocated and the assumed prefixes, by uid of the allocation.
	held    map[types.UID]modelHeld
	assumed map[types.UID]bool
	// refused contains the places that the server refused, by uid of the allocation.
	refused map[types.UID][]modelHeld
	// waiting contains the waiting allocations and their reasons. lost contains those that wait for the Prefix that
	// they are for.
	waiting map[string]string
	lost    map[string]bool
	// number is the order of the pending allocations.
	number  map[types.UID]int
	numbers int
}

type modelParent struct {
	uid               types.UID
	label, up         string
	prefix            netip.Prefix
	ready, isDeleting bool
}

type modelHeld struct {
	parent string
	prefix netip.Prefix
}

// free returns the largest free blocks of the prefix, sorted by address, without those that overlap the prefixes in
// except.
func (m *model) free(parent string, prefix netip.Prefix, except []netip.Prefix) []netip.Prefix {
	overlaps := false
	for _, held := range m.held {
		if held.parent != parent || !held.prefix.Overlaps(prefix) {
			continue
		}
		if held.prefix.Bits() <= prefix.Bits() {
			return nil
		}
		overlaps = true
	}
	for _, other := range except {
		if other.Overlaps(prefix) {
			if other.Bits() <= prefix.Bits() {
				return nil
			}
			overlaps = true
		}
	}
	if !overlaps {
		return []netip.Prefix{prefix}
	}
	lower := netip.PrefixFrom(prefix.Addr(), prefix.Bits()+1)
	bytes := prefix.Addr().AsSlice()
	bytes[prefix.Bits()/8] |= 0x80 >> (prefix.Bits() % 8)
	addr, _ := netip.AddrFromSlice(bytes)
	return append(m.free(parent, lower, except), m.free(parent, netip.PrefixFrom(addr, prefix.Bits()+1), except)...)
}

// suits reports whether an empty parent could hold the candidate.
func (p modelParent) suits(c candidate) bool {
	fam := cidr.IPv4
	if p.prefix.Addr().Is6() {
		fam = cidr.IPv6
	}
	return (c.request.Family == "" || c.request.Family == fam) && c.request.Bits > p.prefix.Bits() && c.request.Bits <= p.prefix.Addr().BitLen() &&
		(!c.request.Prefix.IsValid() || p.prefix.Contains(c.request.Prefix.Addr()))
}

func (m *model) isFor(c candidate, name string) bool {
	return c.requester != nil && c.requester.name == name && m.parents[name].uid == c.requester.uid
}

// fit returns the block of a parent that is best for a candidate, and the length of the free block around it. ok is
// false if the parent cannot hold the candidate now.
func (m *model) fit(name string, c candidate) (prefix netip.Prefix, bits int, ok bool) {
	p := m.parents[name]
	if !p.ready || p.isDeleting || !p.suits(c) || m.isFor(c, name) {
		return prefix, 0, false
	}
	var except []netip.Prefix
	for _, r := range m.refused[c.uid] {
		switch {
		case r.parent != string(p.uid):
		case !r.prefix.IsValid(), r.prefix == c.request.Prefix:
			return prefix, 0, false
		default:
			except = append(except, r.prefix)
		}
	}
	for _, block := range m.free(name, p.prefix, except) {
		switch {
		case block.Bits() > c.request.Bits:
		case c.request.Prefix.IsValid() && !block.Contains(c.request.Prefix.Addr()):
		case c.request.Prefix.IsValid():
			return c.request.Prefix, block.Bits(), true
		case block.Bits() > bits || !ok:
			prefix, bits, ok = netip.PrefixFrom(block.Addr(), c.request.Bits), block.Bits(), true
		}
	}
	return prefix, bits, ok
}

func (m *model) matches(name string, c candidate) bool {
	p, exists := m.parents[name]
	set := labels.Set{}
	if p.label != "" {
		set["net"] = p.label
	}
	return exists && c.selector.Matches(set)
}

// eligible returns the names of the possible parents of a candidate: the one that it names, or the outermost ones
// that it selects.
func (m *model) eligible(c candidate) []string {
	if c.ref != "" {
		if _, exists := m.parents[c.ref]; exists {
			return []string{c.ref}
		}
		return nil
	}
	var names []string
	for name, p := range m.parents {
		outermost, seen := m.matches(name, c), map[string]bool{name: true}
		for up := p.up; up != "" && outermost; up = m.parents[up].up {
			outermost = !seen[up] && !m.matches(up, c)
			seen[up] = true
		}
		if outermost {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// feasible returns the parents that can hold the candidate now.
func (m *model) feasible(c candidate) []string {
	return slices.DeleteFunc(m.eligible(c), func(name string) bool {
		_, _, ok := m.fit(name, c)
		return !ok
	})
}

// best returns the place for a candidate: the one that the server refused least often, then the best fit, then the
// first by name.
func (m *model) best(c candidate) (place modelHeld, ok bool) {
	bits, refused := -1, 0
	for _, name := range m.feasible(c) {
		prefix, around, _ := m.fit(name, c)
		if c.request.Prefix.IsValid() || len(m.refused[c.uid]) > 0 {
			// Compare by the block that a request of this length would be cut from.
			around = 0
			for _, block := range m.free(name, m.parents[name].prefix, nil) {
				if block.Bits() <= c.request.Bits {
					around = max(around, block.Bits())
				}
			}
		}
		times := 0
		for _, r := range m.refused[c.uid] {
			if r.parent == string(m.parents[name].uid) {
				times++
			}
		}
		if !ok || times < refused || times == refused && around > bits {
			place, bits, refused, ok = modelHeld{name, prefix}, around, times, true
		}
	}
	return place, ok
}

// reason returns why no parent can hold a candidate.
func (m *model) reason(c candidate) string {
	names := m.eligible(c)
	if c.ref != "" && len(names) == 0 {
		return v1alpha1.ReasonParentNotFound
	}
	reason := v1alpha1.ReasonNoMatchingParent
	for _, name := range names {
		is := v1alpha1.ReasonParentExhausted
		p := m.parents[name]
		if c.ref == "" && c.requester != nil {
			below := false
			for at, n := name, 0; at != "" && n < 20; at, n = m.parents[at].up, n+1 {
				below = below || m.isFor(c, at)
			}
			if below {
				continue
			}
		}
		switch {
		case m.isFor(c, name):
			is = v1alpha1.ReasonNoSuitableParent
		case p.isDeleting:
			is = v1alpha1.ReasonParentNotReady
		case !p.suits(c):
			is = v1alpha1.ReasonNoSuitableParent
		case !p.ready:
			is = v1alpha1.ReasonParentNotReady
		default:
			saved := m.refused[c.uid]
			delete(m.refused, c.uid)
			if _, _, ok := m.fit(name, c); ok {
				is = v1alpha1.ReasonRefused
			} else if c.request.Prefix.IsValid() {
				is = v1alpha1.ReasonPrefixInUse
			}
			if saved != nil {
				m.refused[c.uid] = saved
			}
		}
		if v1alpha1.HopeOf(is) > v1alpha1.HopeOf(reason) {
			reason = is
		}
	}
	return reason
}

// holdsBy reports whether any prefix is held from a parent with that name.
func (m *model) holdsBy(name string) bool {
	for _, held := range m.held {
		if held.parent == name {
			return true
		}
	}
	return false
}

// drop removes an allocation that requests nothing any more.
func (m *model) drop(c candidate) {
	delete(m.number, c.uid)
	delete(m.refused, c.uid)
	delete(m.assumed, c.uid)
	delete(m.waiting, c.name.Name)
	delete(m.lost, c.name.Name)
}

// TestIndexAgainstModel applies random events in random order, and compares the index with the model. Above all: no
// assumption overlaps a held prefix, no request waits although there is a place for it, only requests that an
// event helps are woken, and the oldest one is woken first.
func TestIndexAgainstModel(t *testing.T) {
	runs := 400
	if testing.Short() {
		runs = 80
	}
	for seed := range runs {
		if !againstModel(t, uint64(seed), 400) {
			t.Fatalf("with seed %d", seed)
		}
	}
}

func againstModel(t *testing.T, seed uint64, steps int) bool {
	random := rand.New(rand.NewPCG(seed, 1))
	f := newFixture(Pack)
	m := &model{
		parents: map[string]modelParent{}, held: map[types.UID]modelHeld{}, assumed: map[types.UID]bool{}, refused: map[types.UID][]modelHeld{},
		waiting: map[string]string{}, lost: map[string]bool{}, number: map[types.UID]int{},
	}
	pick := func(s []string) string { return s[random.IntN(len(s))] }

	parentNames := []string{"p0", "p1", "p2", "p3", "p4"}
	// The ranges are small and overlap, so that most events affect others.
	parentPrefixes := []string{"10.0.0.0/28", "10.0.0.0/29", "10.0.0.8/29", "10.0.1.0/27", "2001:db8::/124", "2001:db8::/126"}
	parentLabels := []string{"", "a", "b", "c"}
	candidates := map[string]candidate{}
	var names []string
	for i := range 24 {
		name := fmt.Sprintf("c%d", i)
		from := pick([]string{"p0", "p1", "p2", "p3", "net=a", "net=b", "net=a"})
		what := pick([]string{"/28", "/29", "/30", "/31", "/32", "IPv6/126", "IPv6/127", "IPv6/128", "10.0.0.0/30", "10.0.0.9/32", "10.0.0.8/29", "10.0.1.16/28", "2001:db8::4/126"})
		if from[0] == 'n' && what[0] == '/' {
			what = "IPv4" + what
		}
		c := want(t, name, what, from)
		c.created = time.Unix(int64(random.IntN(3)), 0)
		if random.IntN(4) == 0 {
			// The uids of Prefixes are numbers in the order of creation.
			c.requester = &requesterRef{pick(parentNames), types.UID(fmt.Sprint(1 + random.IntN(12)))}
		}
		names = append(names, name)
		candidates[name] = c
	}
	uids := 0
	ok := true
	fail := func(step int, format string, args ...any) {
		t.Errorf("step %d: %s", step, fmt.Sprintf(format, args...))
		ok = false
	}
	older := func(a, b string) int {
		ca, cb := candidates[a], candidates[b]
		return cmp.Or(ca.created.Compare(cb.created), cmp.Compare(m.number[ca.uid], m.number[cb.uid]))
	}
	stale := map[string]bool{}

	for step := 0; step < steps && ok; step++ {
		c := candidates[pick(names)]
		// single is true if at most one parent can have become able to hold more.
		single := true
		switch random.IntN(11) {
		case 0, 1: // A Prefix is created or changes.
			name := pick(parentNames)
			p, exists := m.parents[name]
			if !exists {
				if m.holdsBy(name) {
					// The API does not remove a parent from which prefixes are held.
					break
				}
				uids++
				p = modelParent{uid: types.UID(fmt.Sprint(uids)), prefix: netip.MustParsePrefix(pick(parentPrefixes))}
				if random.IntN(2) == 0 {
					p.up = pick(parentNames)
				}
			}
			switch random.IntN(5) {
			case 0, 1:
				p.label = pick(parentLabels)
			case 2:
				p.isDeleting = random.IntN(4) == 0
			case 3:
				if p.up == "" && random.IntN(4) == 0 {
					p.up = pick(parentNames)
				}
			default:
				p.ready = true
			}
			m.parents[name] = p
			single = false
			obj := prefix(name, p.prefix.String(), uid(p.uid))
			if p.label != "" {
				labelled("net", p.label)(obj)
			}
			if p.up != "" {
				below(p.up)(obj)
			}
			if p.isDeleting {
				isDeleting(obj)
			}
			if !p.ready {
				isPending(obj)
			}
			f.set(obj)

		case 2: // A Prefix is deleted.
			name := pick(parentNames)
			if p, exists := m.parents[name]; exists && !m.holdsBy(name) {
				delete(m.parents, name)
				single = false
				f.deletePrefix(key(name), p.uid)
			}

		case 3: // An allocation is deleted.
			delete(m.held, c.uid)
			m.drop(c)
			f.gone(c.name.Name)

		case 4: // The server refuses a bind for a temporary reason.
			if m.assumed[c.uid] {
				delete(m.held, c.uid)
				delete(m.assumed, c.uid)
			}
			f.forgetAssumed(c.name)

		case 5: // The server refuses a place permanently.
			if !m.assumed[c.uid] {
				break
			}
			held := m.held[c.uid]
			place := assumption{key(held.parent), m.parents[held.parent].uid, held.prefix}
			whole := random.IntN(3) == 0
			refused := modelHeld{string(place.parentUID), held.prefix}
			if whole {
				refused.prefix = netip.Prefix{}
			}
			m.refused[c.uid] = append(m.refused[c.uid], refused)
			delete(m.held, c.uid)
			delete(m.assumed, c.uid)
			f.recordRefusal(c.name, place, whole, "no")

		case 6: // The informer confirms a bind.
			if m.assumed[c.uid] {
				held := m.held[c.uid]
				m.drop(c)
				f.hold(c.name, c.uid, key(held.parent), held.prefix)
			}

		case 7: // The informer delivers a bind by another scheduler, perhaps of an assumed allocation.
			if _, held := m.held[c.uid]; held && !m.assumed[c.uid] {
				break
			}
			before, assumed := m.held[c.uid]
			delete(m.held, c.uid)
			feasible := m.feasible(c)
			if len(feasible) == 0 {
				if assumed {
					m.held[c.uid] = before
				}
				break
			}
			name := pick(feasible)
			// Another scheduler may choose another place: the last free block.
			blocks := slices.DeleteFunc(m.free(name, m.parents[name].prefix, nil), func(p netip.Prefix) bool { return p.Bits() > c.request.Bits })
			place := c.request.Prefix
			if !place.IsValid() {
				place = netip.PrefixFrom(blocks[len(blocks)-1].Addr(), c.request.Bits)
			}
			m.held[c.uid] = modelHeld{name, place}
			m.drop(c)
			// The assumed place is released before the index learns of the other one.
			single = false
			f.hold(c.name, c.uid, key(name), place)

		default: // A worker schedules a request.
			if random.IntN(4) == 0 {
				// Its controller reference has changed since the index saw it last.
				c.requester = nil
				if random.IntN(3) > 0 {
					c.requester = &requesterRef{pick(parentNames), types.UID(fmt.Sprint(1 + random.IntN(12)))}
				}
				candidates[c.name.Name] = c
			}
			if _, pending := m.number[c.uid]; !pending {
				m.numbers++
				m.number[c.uid] = m.numbers
			}
			delete(m.waiting, c.name.Name)
			delete(m.lost, c.name.Name)
			delete(stale, c.name.Name)
			before, held := m.held[c.uid]
			if len(m.refused[c.uid]) > 0 && random.IntN(2) == 0 {
				f.forgetRefusals(c)
				if _, able := m.best(c); !able && !held {
					delete(m.refused, c.uid)
				}
			}
			place, why := f.assume(c)
			best, able := m.best(c)
			known := c.requester == nil || m.parents[c.requester.name].uid == c.requester.uid
			switch {
			case held:
				if why != nil || place.parent.Name != before.parent || place.prefix != before.prefix {
					fail(step, "%s holds %+v, but got %+v, %+v", c.name.Name, before, place, why)
				}
			case !known:
				if why == nil || why.reason != v1alpha1.ReasonRequesterNotFound {
					fail(step, "%s got %+v, %+v, but is for nobody", c.name.Name, place, why)
				}
				m.lost[c.name.Name] = true
			case !able:
				reason := m.reason(c)
				if why == nil || why.reason != reason {
					fail(step, "%s got %+v, %+v, want %s", c.name.Name, place, why, reason)
					break
				}
				if final := c.ref != "" && reason == v1alpha1.ReasonNoSuitableParent; why.final != final {
					fail(step, "%s: %+v", c.name.Name, why)
				}
				if len(why.message()) == 0 || len(why.message()) > maxMessage {
					fail(step, "%s: %s", c.name.Name, why.message())
				}
				if !why.final {
					m.waiting[c.name.Name] = reason
				}
			case why != nil:
				fail(step, "%s got %+v, but %v can hold it", c.name.Name, *why, m.feasible(c))
			case place.parent.Name != best.parent || place.prefix != best.prefix || place.parentUID != m.parents[best.parent].uid:
				fail(step, "%s got %+v, want %+v", c.name.Name, place, best)
			default:
				m.held[c.uid], m.assumed[c.uid] = best, true
			}
		}

		// All requests that can be scheduled now have been, the oldest first, and no others were woken.
		woken := f.woken
		f.woken = nil
		for _, name := range f.takeRefreshed() {
			stale[name] = true
		}
		for _, name := range woken {
			c := candidates[name]
			if m.lost[name] {
				delete(m.lost, name)
				if m.parents[c.requester.name].uid != c.requester.uid {
					fail(step, "%s was woken, but is for nobody", name)
				}
				continue
			}
			parent, prefix := f.assumedFor(name)
			if _, waits := m.waiting[name]; !waits || !slices.Contains(m.feasible(c), parent) {
				fail(step, "%s was woken for %s of %q, waiting %v, feasible %v", name, prefix, parent, waits, m.feasible(c))
				break
			}
			if want, _, _ := m.fit(parent, c); want != prefix {
				fail(step, "%s got %s of %s, want %s", name, prefix, parent, want)
			}
			for other := range m.waiting {
				like := candidates[other]
				first := single || like.ref == c.ref && like.key == c.key && like.request == c.request && like.requester == nil && len(m.refused[like.uid]) == 0
				if first && older(other, name) < 0 && slices.Contains(m.feasible(like), parent) {
					fail(step, "%s got %s of %s before %s, which is older", name, prefix, parent, other)
				}
			}
			delete(m.waiting, name)
			delete(stale, name)
			m.held[c.uid], m.assumed[c.uid] = modelHeld{parent, prefix}, true
		}
		want := slices.Sorted(maps.Keys(m.waiting))
		for _, name := range want {
			c := candidates[name]
			if feasible := m.feasible(c); len(feasible) > 0 {
				fail(step, "%s waits, but %v can hold it", name, feasible)
			}
			// A refused place is retried after some time in any case. Rules exclude the places below the requesting
			// Prefix, but only when the request is scheduled.
			if c.requester != nil {
				continue
			}
			if reason := m.reason(c); reason != m.waiting[name] && !stale[name] && m.waiting[name] != v1alpha1.ReasonRefused {
				fail(step, "%s says %s, but it is %s now", name, m.waiting[name], reason)
			}
		}
		for name := range m.lost {
			c := candidates[name]
			if m.parents[c.requester.name].uid == c.requester.uid {
				fail(step, "%s waits for Prefix %s, which is there", name, c.requester.name)
			}
			want = append(want, name)
		}
		slices.Sort(want)
		if got := f.waitingIn(ns); !slices.Equal(got, want) {
			fail(step, "%v wait, want %v", got, want)
		}
		if wrong := f.strayRequesters(); len(wrong) > 0 {
			fail(step, "%v wait for a Prefix that they are not for", wrong)
		}
	}
	// Nothing of it remains.
	for name, p := range m.parents {
		f.deletePrefix(key(name), p.uid)
	}
	for _, name := range names {
		f.gone(name)
	}
	if len(f.namespaces) > 0 {
		left := f.namespaces[ns]
		t.Errorf("left over: parents %v, holders %v, pending %v", left.parents, left.holders, left.pending)
		return false
	}
	return ok
}

// strayRequesters returns the requests that the index lists as waiting for a Prefix that they are not for.
func (f *fixture) strayRequesters() []string {
	ns := f.lock(ns)
	defer f.unlock(ns)
	var stray []string
	for name, waiting := range ns.waitingForRequester {
		for w := range waiting {
			if w.requester == nil || w.requester.name != name || ns.pending[w.name] != w {
				stray = append(stray, w.name.Name)
			}
		}
	}
	return stray
}

// assumedFor returns the place that is assumed for an allocation.
func (f *fixture) assumedFor(name string) (parent string, prefix netip.Prefix) {
	ns := f.lock(ns)
	defer f.unlock(ns)
	w := ns.pending[key(name)]
	if w == nil || w.assumedParent == nil {
		return "", netip.Prefix{}
	}
	prefix, _ = w.assumedParent.ledger.Get(w.uid)
	return w.assumedParent.name, prefix
}
