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
)

// viewer is a namespace that asks for parents of a namespace, which may be another one.
type viewer struct {
	namespace string
	// foreign is set if the parents are in another namespace. labels are the labels of the viewer then, or nil if they are
	// not known.
	foreign bool
	labels  labels.Set
}

// sees reports whether a parent is in the namespace of the viewer or shared with it. To others it looks as if it did not
// exist.
func (v *viewer) sees(p *prefixState) bool {
	return !v.foreign || p.rules.SharedWith(v.namespace, v.labels)
}

// nameOf returns the name of a parent for a message to the viewer.
func (v *viewer) nameOf(ns *namespace, p *parent) string {
	if v.foreign {
		return ns.name + "/" + p.name
	}
	return p.name
}

// tenant holds the waiting allocations of one namespace. A tenant with very many of them does not delay those of
// another: each has its own queue, summaries, and limit for the update of messages.
type tenant struct {
	viewer
	// pending is the number of its pending allocations. A tenant without any is removed.
	pending int
	// waiting holds the pending allocations that could not be scheduled, oldest first. What follows summarizes them.
	waiting []*pending
	// byName has the targets of the requests that name their parent, by that name, and bySelector those of the others, by
	// their selector.
	byName, bySelector map[string]*target
	// exact holds the prefixes of the requests for one specific prefix, sorted. The other requests are counted in sizes.
	exact []netip.Prefix
	sizes map[size]*sizeCount
	// served is the value of namespace.lastTurn at the last assumption for a waiting allocation.
	served uint64
	// refreshes limits the updates of messages, and retries what is not in waiting because there are maxSelectors.
	refreshes, retries *rate.Limiter
}

const (
	// maxSelectors is the maximum number of selectors of a tenant from another namespace that are compared with each Prefix
	// that changes, while the whole namespace waits.
	maxSelectors = 512
	// retryRate is how often in a second a request with a further selector is tried again, and retryDelay its delay at
	// least.
	retryRate  = 50
	retryDelay = time.Second
)

// tenant returns the tenant with a name. It creates the tenant if there is none.
func (ns *namespace) tenant(name string) *tenant {
	t := ns.tenants[name]
	if t == nil {
		t = &tenant{
			viewer: viewer{namespace: name, foreign: name != ns.name},
			byName: map[string]*target{}, bySelector: map[string]*target{}, sizes: map[size]*sizeCount{},
			refreshes: rate.NewLimiter(refreshRate, refreshBurst), retries: rate.NewLimiter(retryRate, retryRate),
		}
		if t.foreign {
			t.labels = ns.index.labelsOf(name)
		}
		ns.tenants[name] = t
	}
	return t
}

// waiting yields the waiting allocations of all tenants.
func (ns *namespace) waiting() iter.Seq[*pending] {
	return func(yield func(*pending) bool) {
		for _, t := range ns.tenants {
			for _, w := range t.waiting {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// target is what waiting allocations ask for: a parent with a name, or those that a selector matches.
type target struct {
	ref string
	// scope has no selector if ref is set.
	scope scope
	// count is the number of the waiting allocations.
	count int
	// serving is the value of namespace.lastServe when serve last found that the parent is the target.
	serving uint64
	// affected and descendantsChanged are used only within refreshTenant. affected is set if the changed parent is or was the target, or
	// a descendant of it is. descendantsChanged is set if the change shows or hides descendants. Then all messages are stale.
	affected, descendantsChanged bool
}

// targets yields the targets of the waiting allocations that a Prefix with a name may be.
func (t *tenant) targets(name string) iter.Seq[*target] {
	return func(yield func(*target) bool) {
		if of := t.byName[name]; of != nil && !yield(of) {
			return
		}
		for _, of := range t.bySelector {
			if !yield(of) {
				return
			}
		}
	}
}

// size is the size of a request for any prefix of a length: its family and number of bits.
type size struct {
	family string
	bits   int
}

// sizeCount counts the waiting allocations of a size.
type sizeCount struct {
	size
	count int
	// unfit is used only within serve. It is set if the parent has no space for the request.
	unfit bool
}

// waitsWithin reports whether a waiting allocation requests a specific prefix that lies within the given one.
func (t *tenant) waitsWithin(prefix netip.Prefix) bool {
	// In this order, the prefixes within a prefix follow it directly. Shorter ones with the same address precede it.
	i, _ := slices.BinarySearchFunc(t.exact, prefix, netip.Prefix.Compare)
	return i < len(t.exact) && prefix.Contains(t.exact[i].Addr())
}

// serve assumes free space of a parent for the waiting allocations. The tenants take turns, and of each tenant the
// oldest comes first. This maintains the invariant of the index: no allocation waits while there is space for it. freed
// is the prefix that became free. If it is not valid, any space of the parent may have become free. If only is not nil,
// only allocations with these targets are served.
func (ns *namespace) serve(p *parent, freed netip.Prefix, only map[*target]bool) {
	if !p.usable() || p.rules.Closed() {
		return
	}
	ns.lastServe++
	var turns []*turn
	for _, t := range ns.tenants {
		if t.mayFit(p, ns.lastServe, only) {
			turns = append(turns, &turn{tenant: t, rest: t.waiting})
		}
	}
	slices.SortFunc(turns, func(a, b *turn) int {
		return cmp.Or(cmp.Compare(a.tenant.served, b.tenant.served), before(a.rest[0], b.rest[0]))
	})
	var served []*pending
	for len(turns) > 0 {
		turns = slices.DeleteFunc(turns, func(t *turn) bool {
			w := ns.serveNext(p, freed, t)
			if w != nil {
				ns.lastTurn++
				t.tenant.served = ns.lastTurn
				served = append(served, w)
			}
			return w == nil
		})
	}
	ns.stopWaiting(served...)
	for _, w := range served {
		ns.index.wake(w.name)
	}
}

// turn holds the allocations of a tenant that serve has not visited yet.
type turn struct {
	tenant *tenant
	rest   []*pending
}

// mayFit reports whether the parent may have space for a waiting allocation of the tenant. It marks the targets that the
// parent is with the number of the call of serve, and the sizes that do not fit. If only is not nil, the parent is none of
// the other targets.
func (t *tenant) mayFit(p *parent, serving uint64, only map[*target]bool) bool {
	if len(t.waiting) == 0 || !t.sees(&p.prefixState) {
		return false
	}
	// Usually nothing fits. The summaries show this without the waiting allocations and without a pool.
	exact := t.waitsWithin(p.prefix)
	some := exact
	for _, s := range t.sizes {
		s.unfit = !cidr.Request{Family: s.family, Bits: s.bits}.Fits(p.prefix) || !p.rules.Allow(s.bits)
		some = some || !s.unfit
	}
	if !some {
		return false
	}
	some = false
	for of := range t.targets(p.name) {
		if (only == nil || only[of]) && of.matches(p) {
			of.serving, some = serving, true
		}
	}
	if !some {
		return false
	}
	some = exact
	for _, s := range t.sizes {
		s.unfit = s.unfit || !fits(p, s.bits)
		some = some || !s.unfit
	}
	return some
}

// serveNext assumes space of a parent for the first allocation of a turn that fits, and returns that. It returns nil if
// none fits.
func (ns *namespace) serveNext(p *parent, freed netip.Prefix, t *turn) *pending {
	for len(t.rest) > 0 {
		w := t.rest[0]
		t.rest = t.rest[1:]
		switch {
		case w.target.serving != ns.lastServe, w.size != nil && w.size.unfit:
			continue
		case w.request.Prefix.IsValid() && freed.IsValid() && !freed.Overlaps(w.request.Prefix):
			continue
		}
		prefix, ok := p.prefixFor(w)
		if ok {
			ns.assume(w, p, prefix)
		}
		if w.size != nil {
			w.size.unfit = !fits(p, w.size.bits)
		}
		if ok {
			return w
		}
	}
	return nil
}

func fits(p *parent, bits int) bool {
	_, ok := p.pool().FitBits(bits)
	return ok
}

// Stale messages are rebuilt at a limited rate for each tenant. Otherwise an event that concerns ten thousand
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
func (ns *namespace) refreshLater(w *pending, delay time.Duration) {
	if w.stale {
		return
	}
	w.stale = true
	for _, p := range w.explainedBy {
		p.currentMessages--
	}
	ns.index.refresh(w.name, max(delay, w.tenant.refreshes.Reserve().Delay()))
}

// refreshCounts updates the messages that report how much of a parent is free. Messages for other
// namespaces have no counts.
func (ns *namespace) refreshCounts(p *parent) {
	if t := ns.tenants[ns.name]; t != nil {
		ns.refreshNaming(t, p, countsDelay, func(w *pending) bool {
			return w.reason == v1alpha1.ReasonParentExhausted || w.reason == v1alpha1.ReasonReserved
		})
	}
}

// refreshHolders updates the messages that name the previous holder of the freed prefix.
func (ns *namespace) refreshHolders(p *parent, freed netip.Prefix) {
	for _, t := range ns.tenants {
		ns.refreshNaming(t, p, wordsDelay, func(w *pending) bool {
			return w.reason == v1alpha1.ReasonPrefixInUse && freed.Overlaps(w.request.Prefix)
		})
	}
}

// refreshNaming updates the messages for a tenant that name the parent and for which stale returns true.
func (ns *namespace) refreshNaming(t *tenant, p *parent, delay time.Duration, stale func(*pending) bool) {
	if p.currentMessages == 0 {
		return
	}
	for _, w := range t.waiting {
		if !w.stale && stale(w) && slices.Contains(w.explainedBy, p) {
			ns.refreshLater(w, delay)
		}
	}
}

// refreshWords updates the messages that a change of a parent made wrong: those that name the parent, those that say
// that there is no parent, and those for which this parent now gives a more hopeful reason (see misfitKind).
// It returns the targets that descendants of the parent may be now. The caller updates the messages of the allocations with
// these targets after it has served those descendants.
func (ns *namespace) refreshWords(p *parent, before *prefixState, beforeUp *parent) (revealed map[*target]bool) {
	for _, t := range ns.tenants {
		if len(t.waiting) == 0 || beforeUp == p.up && !t.sees(before) && !t.sees(&p.prefixState) {
			continue
		}
		for of := range ns.refreshTenant(t, p, before, beforeUp) {
			if revealed == nil {
				revealed = map[*target]bool{}
			}
			revealed[of] = true
		}
	}
	return revealed
}

// refreshTenant does refreshWords for one tenant.
func (ns *namespace) refreshTenant(t *tenant, p *parent, before *prefixState, beforeUp *parent) (revealed map[*target]bool) {
	some := false
	for of := range t.targets(p.name) {
		if of.scope.Selector == nil {
			of.affected, of.descendantsChanged, some = true, true, true
			continue
		}
		shift := shiftOf(of.scope, p, before, beforeUp)
		of.affected, of.descendantsChanged = shift.was || shift.is || shift.below, shift.below
		if shift.below && shift.came {
			of.affected = false
			if revealed == nil {
				revealed = map[*target]bool{}
			}
			revealed[of] = true
		}
		some = some || of.affected
	}
	if !some {
		return revealed
	}
	for _, w := range t.waiting {
		if !w.target.affected || w.stale {
			continue
		}
		hope := v1alpha1.HopeOf(w.reason)
		stale := hope == 0 || w.target.descendantsChanged || slices.Contains(w.explainedBy, p)
		if !stale && p.uid != "" {
			kind, _ := p.misfitOf(w)
			stale = kind.hope() > hope
		}
		if stale {
			ns.refreshLater(w, wordsDelay)
		}
	}
	for of := range t.targets(p.name) {
		of.affected = false
	}
	return revealed
}
