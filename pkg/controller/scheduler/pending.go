// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// candidate is an allocation to schedule.
type candidate struct {
	name    types.NamespacedName
	uid     types.UID
	created time.Time
	request cidr.Request
	// requester is the Prefix that the allocation was created for, or nil.
	requester *requesterRef
	// ref is the name of the requested parent. If it is empty, selector selects the parents. key is the selector as a
	// string.
	ref, key string
	selector labels.Selector
}

type requesterRef struct {
	name string
	uid  types.UID
}

// pending is an allocation that is not allocated yet. It waits, or it has a reservation, or a worker processes it.
type pending struct {
	candidate
	// number is the position in the order in which the scheduler first saw the allocations.
	number uint64
	// reserved is the parent in which a prefix is reserved, until the informer shows the binding.
	reserved *parent
	// group is set while the allocation waits. shape is also set then, unless it requests a specific prefix.
	group *group
	shape *shape
	// reason is the reason of the message while the allocation waits, and named the parents that the message names.
	reason string
	named  []*parent
	// stale is set when the message must be rebuilt.
	stale bool
	// refusals holds the bindings that the server refused although the prefix was free.
	refusals []refusedPlace
	// waitsForRequester is set while the Prefix that the allocation was created for is unknown. missed is the time
	// since when it is.
	waitsForRequester bool
	missed            time.Time
}

// refusedPlace is a binding that the server refused. Without a valid prefix it stands for all prefixes of the parent.
type refusedPlace struct {
	parentName string
	parent     types.UID
	prefix     netip.Prefix
	words      string
}

// maxRefusals is the maximum number of refused bindings that are kept for an allocation. When it is reached, the list is
// cleared and all prefixes are tried again.
const maxRefusals = 64

// group stands for the waiting allocations that name the same parent or have the same selector.
type group struct {
	key      string
	ref      string
	selector labels.Selector
	count    int
	// round is the last round of serve in which the parent concerned the group.
	round uint64
	// concerned and upset are used only within refreshWords. concerned is set if the changed parent may make messages
	// of the group stale, and upset if it makes all of them stale.
	concerned, upset bool
}

// shapeKey identifies requests for any prefix of a length: the same family and number of bits.
type shapeKey struct {
	family string
	bits   int
}

// shape counts the waiting allocations with the same shapeKey.
type shape struct {
	shapeKey
	count int
	// unfit is used only within serve. It is set if the parent has no space for the request.
	unfit bool
}

// concerns reports whether the group names the parent, or its selector selects it.
func (g *group) concerns(p *parent) bool {
	if g.selector == nil {
		return g.ref == p.name
	}
	return p.matches(g.selector) && !p.isCovered(g.selector)
}

// isFor reports whether the allocation was created for p. A Prefix cannot be its own parent.
func (c *candidate) isFor(p *parent) bool {
	return c.requester != nil && c.requester.name == p.name && c.requester.uid == p.uid
}

// before orders allocations by age. Creation timestamps are in whole seconds, so the number breaks ties.
func before(a, b *pending) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.number, b.number))
}

// pendingOf returns the entry of an allocation and updates its candidate. It creates the entry if there is none. The
// allocation no longer waits afterwards.
func (ns *namespace) pendingOf(c candidate) *pending {
	w := ns.pending[c.name.Name]
	if w != nil {
		// Call this before the candidate changes: the old values are needed to find the entries in the summaries.
		ns.stopWaiting(w)
	}
	if w == nil || w.uid != c.uid {
		ns.numbers++
		w = &pending{number: ns.numbers}
		ns.pending[c.name.Name] = w
	}
	w.candidate = c
	return w
}

// wait adds an allocation to the waiting ones.
func (ns *namespace) wait(w *pending, why *verdict) {
	key := "ref " + w.ref
	if w.ref == "" {
		key = "selector " + w.key
	}
	w.group = ns.groups[key]
	if w.group == nil {
		w.group = &group{key: key, ref: w.ref}
		if w.ref == "" {
			w.group.selector = w.selector
		}
		ns.groups[key] = w.group
	}
	w.group.count++

	if w.request.Prefix.IsValid() {
		i, _ := slices.BinarySearchFunc(ns.exact, w.request.Prefix, netip.Prefix.Compare)
		ns.exact = slices.Insert(ns.exact, i, w.request.Prefix)
	} else {
		of := shapeKey{w.request.Family, w.request.Bits}
		if w.shape = ns.shapes[of]; w.shape == nil {
			w.shape = &shape{shapeKey: of}
			ns.shapes[of] = w.shape
		}
		w.shape.count++
	}

	w.reason = why.reason
	for _, r := range why.refusals {
		w.named = append(w.named, r.parent)
		r.parent.named++
		r.parent.current++
	}
	i, _ := slices.BinarySearchFunc(ns.waiting, w, before)
	ns.waiting = slices.Insert(ns.waiting, i, w)
}

// stopWaiting removes an allocation from the waiting ones and from those that wait for a requester. It does nothing if
// the allocation does not wait.
func (ns *namespace) stopWaiting(w *pending) {
	if w.waitsForRequester {
		w.waitsForRequester = false
		delete(ns.requesters[w.requester.name], w)
		if len(ns.requesters[w.requester.name]) == 0 {
			delete(ns.requesters, w.requester.name)
		}
	}
	if w.group == nil {
		return
	}
	if w.group.count--; w.group.count == 0 {
		delete(ns.groups, w.group.key)
	}
	if w.shape == nil {
		if i, found := slices.BinarySearchFunc(ns.exact, w.request.Prefix, netip.Prefix.Compare); found {
			ns.exact = slices.Delete(ns.exact, i, i+1)
		}
	} else if w.shape.count--; w.shape.count == 0 {
		delete(ns.shapes, w.shape.shapeKey)
	}
	for _, p := range w.named {
		if p.named--; !w.stale {
			p.current--
		}
		ns.tidy(p)
	}
	w.group, w.shape, w.named = nil, nil, nil
	if i, found := slices.BinarySearchFunc(ns.waiting, w, before); found {
		ns.waiting = slices.Delete(ns.waiting, i, i+1)
	}
}

// waitForRequester makes an allocation wait for an event of the Prefix that it was created for.
func (ns *namespace) waitForRequester(w *pending) {
	w.waitsForRequester = true
	if w.missed.IsZero() {
		w.missed = time.Now()
	}
	if ns.requesters[w.requester.name] == nil {
		ns.requesters[w.requester.name] = map[*pending]struct{}{}
	}
	ns.requesters[w.requester.name][w] = struct{}{}
}

// place returns the prefix that an allocation would get from a parent now. It reports false if there is none.
func (x *index) place(p *parent, w *pending) (netip.Prefix, bool) {
	r := w.request
	if !p.usable() || !r.Fits(p.prefix) || !p.rules.Allow(r.Bits) || w.isFor(p) {
		return netip.Prefix{}, false
	}
	var except []netip.Prefix
	for _, refused := range w.refusals {
		switch {
		case refused.parent != p.uid:
		case !refused.prefix.IsValid(), refused.prefix == r.Prefix:
			return netip.Prefix{}, false
		default:
			except = append(except, refused.prefix)
		}
	}
	if r.Prefix.IsValid() {
		_, overlaps := p.pool().Overlapping(r.Prefix)
		return r.Prefix, !overlaps && !w.isTooFar(p.prefix)
	}
	return p.find(r.Bits, except)
}

// reserve reserves a prefix of a parent for an allocation.
func (ns *namespace) reserve(w *pending, p *parent, prefix netip.Prefix) {
	p.ledger.Hold(w.uid, prefix)
	ns.holders[w.uid] = holder{p, w.name.Name}
	w.reserved = p
}

// waitsWithin reports whether a waiting allocation requests a specific prefix that lies within the given one.
func (ns *namespace) waitsWithin(prefix netip.Prefix) bool {
	// In this order, the prefixes within a prefix follow it directly. Shorter ones with the same address precede it.
	i, _ := slices.BinarySearchFunc(ns.exact, prefix, netip.Prefix.Compare)
	return i < len(ns.exact) && prefix.Contains(ns.exact[i].Addr())
}

// serve reserves free space of a parent for the waiting allocations of the groups, oldest first. This maintains the
// invariant of the index: no allocation waits while there is space for it. freed is the prefix that became free. If it
// is not valid, any space of the parent may have become free.
func (x *index) serve(ns *namespace, p *parent, freed netip.Prefix, groups iter.Seq[*group]) {
	if len(ns.waiting) == 0 || !p.usable() || p.rules.Closed() {
		return
	}
	// Usually nothing fits. The summaries show this without the waiting allocations and without a pool.
	exact := ns.waitsWithin(p.prefix)
	some := exact
	for _, s := range ns.shapes {
		s.unfit = !cidr.Request{Family: s.family, Bits: s.bits}.Fits(p.prefix) || !p.rules.Allow(s.bits)
		some = some || !s.unfit
	}
	if !some {
		return
	}
	some = false
	ns.round++
	for g := range groups {
		if g.concerns(p) {
			g.round, some = ns.round, true
		}
	}
	if !some {
		return
	}
	some = exact
	for _, s := range ns.shapes {
		s.unfit = s.unfit || !fits(p, s.bits)
		some = some || !s.unfit
	}
	if !some {
		return
	}
	var served []*pending
	for _, w := range ns.waiting {
		switch {
		case w.group.round != ns.round, w.shape != nil && w.shape.unfit:
			continue
		case w.request.Prefix.IsValid() && freed.IsValid() && !freed.Overlaps(w.request.Prefix):
			continue
		}
		prefix, ok := x.place(p, w)
		if ok {
			ns.reserve(w, p, prefix)
			served = append(served, w)
		}
		if w.shape != nil {
			w.shape.unfit = !fits(p, w.shape.bits)
		}
	}
	for _, w := range served {
		ns.stopWaiting(w)
		x.wake(w.name)
	}
}

func fits(p *parent, bits int) bool {
	_, ok := p.pool().FitBits(bits)
	return ok
}

// Stale messages are rebuilt at a limited rate for each namespace. Otherwise an event that concerns ten thousand
// requests, but gives space to none, would cause ten thousand writes. refreshRate is in messages per second.
// Counts of free addresses change with every allocation, so they are updated after the longer countsDelay. Other changes
// are written after wordsDelay.
const (
	refreshRate  = 5
	refreshBurst = 10
	wordsDelay   = 100 * time.Millisecond
	countsDelay  = 2 * time.Second
)

// refreshLater marks the message of a waiting allocation as stale and schedules its update, after delay at the earliest.
func (x *index) refreshLater(ns *namespace, w *pending, delay time.Duration) {
	if w.stale {
		return
	}
	w.stale = true
	for _, p := range w.named {
		p.current--
	}
	if ns.refreshes == nil {
		ns.refreshes = rate.NewLimiter(refreshRate, refreshBurst)
	}
	x.refresh(w.name, max(delay, ns.refreshes.Reserve().Delay()))
}

// refreshCounts updates the messages that report how much of a parent is free.
func (x *index) refreshCounts(ns *namespace, p *parent) {
	x.refreshNaming(ns, p, countsDelay, func(w *pending) bool {
		return w.reason == v1alpha1.ReasonParentExhausted || w.reason == v1alpha1.ReasonReserved
	})
}

// refreshHolders updates the messages that name the previous holder of the freed prefix.
func (x *index) refreshHolders(ns *namespace, p *parent, freed netip.Prefix) {
	x.refreshNaming(ns, p, wordsDelay, func(w *pending) bool {
		return w.reason == v1alpha1.ReasonPrefixInUse && freed.Overlaps(w.request.Prefix)
	})
}

// refreshNaming updates the messages that name the parent and for which stale returns true.
func (x *index) refreshNaming(ns *namespace, p *parent, delay time.Duration, stale func(*pending) bool) {
	if p.current == 0 {
		return
	}
	for _, w := range ns.waiting {
		if !w.stale && stale(w) && slices.Contains(w.named, p) {
			x.refreshLater(ns, w, delay)
		}
	}
}

// refreshWords updates the messages that a change of a parent made wrong: those that name the parent, those that say
// that there is no parent, and those for which this parent now gives a more hopeful reason (see refusalKind).
// It returns the groups whose selectors may now select descendants of the parent. The caller updates the messages
// of these groups after it has served those descendants.
func (x *index) refreshWords(ns *namespace, p *parent, before *prefixState, beforeUp *parent) (revealed map[*group]bool) {
	if len(ns.waiting) == 0 {
		return nil
	}
	for _, g := range ns.groups {
		if g.selector == nil {
			g.concerned, g.upset = g.ref == p.name, g.ref == p.name
			continue
		}
		shift := shiftOf(g.selector, p, before, beforeUp)
		g.concerned, g.upset = shift.was || shift.is || shift.below, shift.below
		if shift.below && shift.came {
			g.concerned = false
			if revealed == nil {
				revealed = map[*group]bool{}
			}
			revealed[g] = true
		}
	}
	for _, w := range ns.waiting {
		if !w.group.concerned || w.stale {
			continue
		}
		hope := hopeOf(w.reason)
		stale := hope == 0 || w.group.upset || slices.Contains(w.named, p)
		if !stale && p.uid != "" {
			kind, _ := x.refuses(p, w)
			stale = kind.hope() > hope
		}
		if stale {
			x.refreshLater(ns, w, wordsDelay)
		}
	}
	return revealed
}
