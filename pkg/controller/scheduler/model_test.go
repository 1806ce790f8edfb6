// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// model is the index written down as naively as possible: facts, and searches through all of them.
type model struct {
	parents map[string]modelParent
	// held is what is held by whom, assumed or not.
	held    map[types.UID]modelHeld
	assumed map[types.UID]bool
}

type modelParent struct {
	uid             types.UID
	label           string
	prefix          netip.Prefix
	ready, deleting bool
}

type modelHeld struct {
	parent string
	prefix netip.Prefix
}

// free returns the largest blocks of the prefix that are free, in the order of their addresses.
func (m *model) free(parent string, prefix netip.Prefix) []netip.Prefix {
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
	if !overlaps {
		return []netip.Prefix{prefix}
	}
	lower := netip.PrefixFrom(prefix.Addr(), prefix.Bits()+1)
	bytes := prefix.Addr().AsSlice()
	bytes[prefix.Bits()/8] |= 0x80 >> (prefix.Bits() % 8)
	addr, _ := netip.AddrFromSlice(bytes)
	return append(m.free(parent, lower), m.free(parent, netip.PrefixFrom(addr, prefix.Bits()+1))...)
}

// fit returns the block of a parent that a candidate should be cut from, and the length of the free
// block around it. It is not ok if the parent cannot hold the candidate now.
func (m *model) fit(name string, c candidate) (prefix netip.Prefix, bits int, ok bool) {
	p := m.parents[name]
	fam := v1alpha1.IPv4
	if p.prefix.Addr().Is6() {
		fam = v1alpha1.IPv6
	}
	if !p.ready || p.deleting || c.request.Family != "" && c.request.Family != fam ||
		c.request.Bits <= p.prefix.Bits() || c.request.Bits > p.prefix.Addr().BitLen() {
		return prefix, 0, false
	}
	for _, block := range m.free(name, p.prefix) {
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

// eligible returns the names of the parents that may be asked for the candidate.
func (m *model) eligible(c candidate) []string {
	var names []string
	for name, p := range m.parents {
		set := labels.Set{}
		if p.label != "" {
			set["net"] = p.label
		}
		if c.ref == name || c.ref == "" && c.selector.Matches(set) {
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

// holdsBy reports whether anything is held by the name of a parent.
func (m *model) holdsBy(name string) bool {
	for _, held := range m.held {
		if held.parent == name {
			return true
		}
	}
	return false
}

// TestIndexAgainstModel lets random events happen in any order, and compares what the index says
// with the model. Above all: nothing that is reserved overlaps what is held, and nothing waits for
// what is there.
func TestIndexAgainstModel(t *testing.T) {
	runs := 300
	if testing.Short() {
		runs = 60
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
	m := &model{parents: map[string]modelParent{}, held: map[types.UID]modelHeld{}, assumed: map[types.UID]bool{}}
	pick := func(s []string) string { return s[random.IntN(len(s))] }

	parentNames := []string{"p0", "p1", "p2", "p3"}
	// Small and overlapping, so that events matter to each other.
	parentPrefixes := []string{"10.0.0.0/28", "10.0.0.0/29", "10.0.0.8/29", "10.0.1.0/27", "2001:db8::/124", "2001:db8::/126"}
	parentLabels := []string{"", "a", "b"}
	var candidates []candidate
	for i := range 24 {
		name := fmt.Sprintf("c%d", i)
		from := pick([]string{"p0", "p1", "p2", "p3", "net=a", "net=b"})
		what := pick([]string{"/28", "/29", "/30", "/31", "/32", "IPv6/126", "IPv6/127", "IPv6/128", "10.0.0.0/30", "10.0.0.9/32", "10.0.0.8/29", "10.0.1.16/28", "2001:db8::4/126"})
		if from[0] == 'n' && what[0] == '/' {
			what = "IPv4" + what
		}
		candidates = append(candidates, want(t, name, what, from))
	}
	queued := map[string]bool{}
	uids := 0
	fail := func(step int, format string, args ...any) bool {
		t.Errorf("step %d: %s", step, fmt.Sprintf(format, args...))
		return false
	}

	for step := range steps {
		c := candidates[random.IntN(len(candidates))]
		switch random.IntN(10) {
		case 0, 1: // A Prefix appears or changes.
			name := pick(parentNames)
			p, exists := m.parents[name]
			if !exists {
				if m.holdsBy(name) {
					// The API lets no parent go that something is held of.
					break
				}
				uids++
				p = modelParent{uid: types.UID(fmt.Sprint(uids)), prefix: netip.MustParsePrefix(pick(parentPrefixes))}
			}
			switch random.IntN(4) {
			case 0:
				p.label = pick(parentLabels)
			case 1:
				p.deleting = random.IntN(4) == 0
			default:
				p.ready = true
			}
			m.parents[name] = p
			obj := prefix(name, p.prefix.String(), uid(p.uid))
			if p.label != "" {
				labelled("net", p.label)(obj)
			}
			if p.deleting {
				deleting(obj)
			}
			if !p.ready {
				pending(obj)
			}
			f.set(obj)

		case 2: // A Prefix is gone.
			name := pick(parentNames)
			if p, exists := m.parents[name]; exists && !m.holdsBy(name) {
				f.deletePrefix(key(name), p.uid)
				delete(m.parents, name)
			}

		case 3: // An allocation is gone.
			f.gone(c.name.Name)
			delete(m.held, c.uid)
			delete(m.assumed, c.uid)

		case 4: // The server refused a bind.
			f.forgetAssumed(c.name)
			if m.assumed[c.uid] {
				delete(m.held, c.uid)
				delete(m.assumed, c.uid)
			}

		case 5: // The informer confirms a bind.
			if m.assumed[c.uid] {
				f.hold(c.name, c.uid, m.held[c.uid].parent, m.held[c.uid].prefix)
				delete(m.assumed, c.uid)
			}

		case 6: // The informer shows a bind of somebody else, perhaps instead of what was assumed.
			if _, held := m.held[c.uid]; held && !m.assumed[c.uid] {
				break
			}
			before, assumed := m.held[c.uid]
			delete(m.held, c.uid)
			names := m.feasible(c)
			if len(names) == 0 {
				if assumed {
					m.held[c.uid] = before
				}
				break
			}
			name := pick(names)
			// Another scheduler may choose differently: the last block that is free.
			blocks := slices.DeleteFunc(m.free(name, m.parents[name].prefix), func(p netip.Prefix) bool { return p.Bits() > c.request.Bits })
			place := c.request.Prefix
			if !place.IsValid() {
				place = netip.PrefixFrom(blocks[len(blocks)-1].Addr(), c.request.Bits)
			}
			m.held[c.uid] = modelHeld{name, place}
			delete(m.assumed, c.uid)
			f.hold(c.name, c.uid, name, place)
			f.stopWaiting(c.name)

		default: // A worker takes it on.
			delete(queued, c.name.Name)
			place, why := f.reserve(c)
			before, held := m.held[c.uid]
			feasible := m.feasible(c)
			switch {
			case held:
				if why != nil || place.parent != before.parent || place.prefix != before.prefix {
					return fail(step, "%s holds %+v, but got %+v, %+v", c.name.Name, before, place, why)
				}
			case len(feasible) == 0:
				if why == nil {
					return fail(step, "%s got %+v, but nobody can hold it", c.name.Name, place)
				}
				if final := c.ref != "" && why.reason == v1alpha1.ReasonNoSuitableParent; why.final != final {
					return fail(step, "%s: %+v", c.name.Name, why)
				}
			case why != nil:
				return fail(step, "%s got %+v, but %v can hold it", c.name.Name, *why, feasible)
			default:
				// The best fit, and of equals the first by name.
				best, want, bits := "", netip.Prefix{}, -1
				for _, name := range feasible {
					prefix, around, _ := m.fit(name, c)
					if c.request.Prefix.IsValid() {
						// By what a request of the length would be cut from.
						like := c
						like.request.Prefix = netip.Prefix{}
						_, around, _ = m.fit(name, like)
					}
					if around > bits {
						best, want, bits = name, prefix, around
					}
				}
				if place.parent != best || place.prefix != want || place.parentUID != m.parents[best].uid {
					return fail(step, "%s got %+v, want %s from %s", c.name.Name, place, want, best)
				}
				for _, other := range m.held {
					if other.parent == place.parent && other.prefix.Overlaps(place.prefix) {
						return fail(step, "%s got %s, which overlaps %s", c.name.Name, place.prefix, other.prefix)
					}
				}
				m.held[c.uid] = modelHeld{place.parent, place.prefix}
				m.assumed[c.uid] = true
			}
		}

		for _, name := range f.takeWoken() {
			queued[name] = true
		}
		waiting := f.waitingIn(ns)
		for _, c := range candidates {
			if slices.Contains(waiting, c.name.Name) {
				if feasible := m.feasible(c); len(feasible) > 0 {
					return fail(step, "%s waits, but %v can hold it", c.name.Name, feasible)
				}
			}
		}
	}
	return true
}
