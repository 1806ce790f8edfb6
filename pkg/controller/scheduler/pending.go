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
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// candidate is an allocation that wants to be scheduled.
type candidate struct {
	name    types.NamespacedName
	uid     types.UID
	created time.Time
	request request.Request
	// requester is the Prefix that the allocation was made for, if any.
	requester *requesterRef
	// ref is the parent that is named. Without one, selector selects parents; key is the selector as a string.
	ref, key string
	selector labels.Selector
}

type requesterRef struct {
	name string
	uid  types.UID
}

// pending is an allocation that is not allocated yet.
type pending struct {
	candidate
	// number tells in which order the allocations were seen.
	number uint64
	// reserved is the parent that a place is reserved of, until the API says so too.
	reserved *parent
	// group and shape are set while the allocation waits.
	group *group
	shape *shape
	// reason and named are those of the message that it has while it waits.
	reason string
	named  []*parent
	// stale tells that the message is to be made anew.
	stale bool
	// refusals are what the server refused, for another reason than that it is in use.
	refusals []refusedPlace
	// waitsForRequester tells that the Prefix that it was made for is not known, and missed since when.
	waitsForRequester bool
	missed            time.Time
}

// refusedPlace is what the server refused. Without a prefix it is the whole parent.
type refusedPlace struct {
	parentName string
	parent     types.UID
	prefix     netip.Prefix
	words      string
}

// maxRefusals is how many refused places of an allocation are remembered. After that many all are tried anew.
const maxRefusals = 64

// group is what the allocations that wait have in common that have the same parent, or the same selector.
type group struct {
	key      string
	ref      string
	selector labels.Selector
	count    int
	// round is the last one of serving in which the parent concerned the group.
	round uint64
	// concerned is whether the parent at hand concerns the group, and upset whether others do that are below it.
	concerned, upset bool
}

// shapeKey is what requests for any prefix of a length differ in.
type shapeKey struct {
	family v1alpha1.IPFamily
	bits   int
}

// shape counts those that wait with the same request for any prefix of a length.
type shape struct {
	shapeKey
	count int
	// unfit is whether the parent at hand cannot hold it.
	unfit bool
}

// concerns reports whether the allocations of a group may be allocated from a parent.
func (g *group) concerns(p *parent) bool {
	if g.selector == nil {
		return g.ref == p.name
	}
	return p.matches(g.selector) && !p.isCovered(g.selector)
}

// isFor reports whether the allocation was made for a parent itself, which cannot be its own parent.
func (c *candidate) isFor(p *parent) bool {
	return c.requester != nil && c.requester.name == p.name && c.requester.uid == p.uid
}

// before orders allocations by age. Creation timestamps have whole seconds.
func before(a, b *pending) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.number, b.number))
}

// pendingOf returns the entry of an allocation, which does not wait then, and makes it if there is none.
func (ns *namespace) pendingOf(c candidate) *pending {
	w := ns.pending[c.name.Name]
	if w != nil {
		// What it waits for is found by what it was, which may differ from what it is now.
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

// wait takes an allocation in among those that wait.
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

// stopWaiting takes an allocation out of those that wait.
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

// waitForRequester has an allocation wait until the Prefix is known that it was made for.
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

// place returns what an allocation would get of a parent now.
func (x *index) place(p *parent, w *pending) (netip.Prefix, bool) {
	r := w.request
	if !p.usable() || !r.Fits(p.prefix) || w.isFor(p) {
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
	return p.pool().FindExcept(r.Bits, except)
}

// reserve takes a place for an allocation.
func (ns *namespace) reserve(w *pending, p *parent, prefix netip.Prefix) {
	p.ledger.Hold(w.uid, prefix)
	ns.holders[w.uid] = holder{p, w.name.Name}
	w.reserved = p
}

// waitsWithin reports whether an allocation waits for exactly a prefix that lies in this one.
func (ns *namespace) waitsWithin(prefix netip.Prefix) bool {
	// What begins where the prefix does, but is shorter, comes before it, and all that lies in it follows it.
	i, _ := slices.BinarySearchFunc(ns.exact, prefix, netip.Prefix.Compare)
	return i < len(ns.exact) && prefix.Contains(ns.exact[i].Addr())
}

// serve reserves what is free of a parent for those that wait: for the oldest one that it has a place for, then
// for the next. That keeps what the index lives by: nothing waits for what is there. freed is what is
// free now and was not before; if it is not valid, that may be anything. Only those of the groups are served.
func (x *index) serve(ns *namespace, p *parent, freed netip.Prefix, groups iter.Seq[*group]) {
	if len(ns.waiting) == 0 || !p.usable() {
		return
	}
	// Most often, nothing fits. That shows without a look at all of them, and without a pool.
	exact := ns.waitsWithin(p.prefix)
	some := exact
	for _, s := range ns.shapes {
		s.unfit = !request.Request{Family: s.family, Bits: s.bits}.Fits(p.prefix)
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

// Messages that have become stale are made anew at a limited rate in each namespace, so that an event that
// concerns ten thousand requests, but helps none, does not write ten thousand times. Counts of free addresses
// change more often than anybody reads them, so they are brought up to date after a while.
const (
	refreshRate  = 5
	refreshBurst = 10
	wordsDelay   = 100 * time.Millisecond
	countsDelay  = 2 * time.Second
)

// refreshLater has the message of an allocation that waits made anew.
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

// refreshCounts has messages made anew that tell how much is free of a parent.
func (x *index) refreshCounts(ns *namespace, p *parent) {
	x.refreshNaming(ns, p, countsDelay, func(w *pending) bool { return w.reason == v1alpha1.ReasonParentExhausted })
}

// refreshHolders has messages made anew that name as a holder who holds nothing of what is freed any more.
func (x *index) refreshHolders(ns *namespace, p *parent, freed netip.Prefix) {
	x.refreshNaming(ns, p, wordsDelay, func(w *pending) bool {
		return w.reason == v1alpha1.ReasonPrefixInUse && freed.Overlaps(w.request.Prefix)
	})
}

// refreshNaming has messages made anew that name a parent, and for which a function returns true.
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

// refreshWords has messages made anew that a change of a parent made untrue: those that name it, those that
// say that there is none, and those of requests that have more hope now. It returns the groups for which the change
// revealed what is below the parent, and whose messages are to be made anew when that has been served.
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
