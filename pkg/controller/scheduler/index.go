// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// index is what the scheduler knows: every Prefix that can be a parent, who holds what of it, and
// which allocations wait for what. It is safe for concurrent use.
type index struct {
	// wake is called with an allocation that there is something to do for, such as to bind what was reserved
	// for it. refresh is called with one whose message is to be made anew, and after how long. Both are
	// called with a lock held.
	wake    func(types.NamespacedName)
	refresh func(types.NamespacedName, time.Duration)
	// score is how good a parent is, more is better, of those that can hold the request.
	score Strategy

	// mu is for namespaces. It is never held while a lock of a namespace is waited for.
	mu         sync.Mutex
	namespaces map[string]*namespace
}

// namespace is the index of one namespace: nothing reaches across. Namespaces do not wait for each other.
type namespace struct {
	mu   sync.Mutex
	name string
	// dropped is set when there is nothing in it, and the index has forgotten it.
	dropped bool

	// top is above all parents that are below no other one. It is no Prefix.
	top *parent
	// parents is by name. There is an entry for a Prefix that does not exist as long as something
	// is held by its name, or it is named as a parent.
	parents map[string]*parent
	// holders are the allocations that hold space.
	holders map[types.UID]holder
	// pending are the allocations that have no space yet according to the API, by name.
	pending map[string]*pending
	numbers uint64
	// waiting are those of them that could not be scheduled, the oldest one first. groups, shapes and exact, the
	// prefixes that those ask for that have no shape, sorted, sum them up.
	waiting []*pending
	groups  map[string]*group
	shapes  map[shapeKey]*shape
	exact   []netip.Prefix
	// round counts how often those that wait were served.
	round uint64
	// requesters are those that wait for the Prefix that they were made for, by its name.
	requesters map[string]map[*pending]struct{}
	refreshes  *rate.Limiter
	// selections are what selectors mean, by selector, and uses counts their uses.
	selections map[string]*selection
	uses       uint64
}

// holder is an allocation that holds space of a parent.
type holder struct {
	parent *parent
	name   string
}

// assumption is a place for a candidate that is taken in the index, but not yet in the API.
type assumption struct {
	parent    string
	parentUID types.UID
	prefix    netip.Prefix
}

// requesterPatience is how long the Prefix that an allocation was made for may be missing before that is said:
// it comes with another informer.
const requesterPatience = time.Second

func newIndex(score Strategy, wake func(types.NamespacedName), refresh func(types.NamespacedName, time.Duration)) *index {
	return &index{wake: wake, refresh: refresh, score: score, namespaces: map[string]*namespace{}}
}

// lock returns a namespace, locked. It has to be unlocked by unlock.
func (x *index) lock(name string) *namespace {
	for {
		x.mu.Lock()
		ns := x.namespaces[name]
		if ns == nil {
			ns = &namespace{
				name: name, top: &parent{},
				parents: map[string]*parent{}, holders: map[types.UID]holder{}, pending: map[string]*pending{},
				groups: map[string]*group{}, shapes: map[shapeKey]*shape{}, requesters: map[string]map[*pending]struct{}{},
				selections: map[string]*selection{},
			}
			x.namespaces[name] = ns
		}
		x.mu.Unlock()
		ns.mu.Lock()
		if !ns.dropped {
			return ns
		}
		ns.mu.Unlock()
	}
}

// unlock unlocks a namespace, and forgets it if there is nothing in it.
func (x *index) unlock(ns *namespace) {
	if len(ns.parents) == 0 && len(ns.holders) == 0 && len(ns.pending) == 0 {
		ns.dropped = true
		x.mu.Lock()
		delete(x.namespaces, ns.name)
		x.mu.Unlock()
	}
	ns.mu.Unlock()
}

// parent returns the entry of a parent, and makes it if there is none.
func (ns *namespace) parent(name string) *parent {
	p := ns.parents[name]
	if p == nil {
		p = &parent{name: name}
		p.moveBelow(ns.top)
		ns.parents[name] = p
	}
	return p
}

// tidy drops a parent that says nothing any more.
func (ns *namespace) tidy(p *parent) {
	if p.uid == "" && p.ledger.Len() == 0 && p.child == nil && p.named == 0 && p.up != nil {
		p.leave()
		delete(ns.parents, p.name)
	}
}

// setPrefix takes in a Prefix as it is now.
func (x *index) setPrefix(obj *v1alpha1.Prefix) {
	now := prefixState{uid: obj.UID, labels: obj.Labels, deleting: obj.DeletionTimestamp != nil}
	if obj.Spec.Prefix != "" {
		prefix, err := request.ParsePrefix(obj.Spec.Prefix)
		if err == nil {
			now.prefix = prefix
			now.ready = obj.Status.Phase == v1alpha1.PrefixPhaseAllocated
		}
	} else {
		now.asks = int(obj.Spec.PrefixLength)
	}
	ns := x.lock(obj.Namespace)
	p := ns.parent(obj.Name)
	up := ns.top
	if ref := obj.Spec.ParentRef; ref != nil {
		up = ns.parent(ref.Name)
	}
	// The strings of the newest version of the object are kept, so that older ones are not.
	p.name = obj.Name
	below := x.update(ns, p, now, up)
	x.unlock(ns)
	x.serveBelow(obj.Namespace, below)
}

// deletePrefix takes in that a Prefix is gone.
func (x *index) deletePrefix(name types.NamespacedName, uid types.UID) {
	ns := x.lock(name.Namespace)
	var below revealed
	if p := ns.parents[name.Name]; p != nil && p.uid == uid {
		below = x.update(ns, p, prefixState{}, ns.top)
	}
	x.unlock(ns)
	x.serveBelow(name.Namespace, below)
}

// revealed is what a change of a Prefix revealed: what is below it may have come to be the outermost that the
// selectors of these groups match.
type revealed struct {
	groups map[*group]bool
	// children are the names of those directly below.
	children []string
}

// update takes in what the API says of a Prefix, and below which it is. It brings everything up to date that
// follows from that, but for what is revealed.
func (x *index) update(ns *namespace, p *parent, now prefixState, up *parent) (below revealed) {
	defer ns.tidy(p)
	before, beforeUp := p.prefixState, p.up
	p.prefixState = now
	if before.uid == now.uid && before.prefix == now.prefix && before.asks == now.asks && before.ready == now.ready &&
		before.deleting == now.deleting && beforeUp == up && labels.Equals(before.labels, now.labels) {
		return below
	}
	p.moveBelow(up)
	if before.uid != now.uid || before.prefix != now.prefix {
		// The pool is made anew, from what is held by this name.
		p.ledger.UnsetPrefix()
	}
	ns.changed(p, &before, beforeUp)

	for w := range ns.requesters[p.name] {
		if w.requester.uid == p.uid {
			ns.stopWaiting(w)
			x.wake(w.name)
		}
	}
	x.serve(ns, p, netip.Prefix{}, maps.Values(ns.groups))
	if below.groups = x.refreshWords(ns, p, &before, beforeUp); len(below.groups) > 0 {
		below.children = p.children(nil)
	}
	ns.tidy(beforeUp)
	return below
}

// serveBelow serves those that wait from what was revealed. That may be very many Prefixes, so the namespace is
// locked for one at a time.
func (x *index) serveBelow(namespace string, below revealed) {
	if len(below.groups) == 0 {
		return
	}
	known := map[string]bool{}
	for names := below.children; len(names) > 0; {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		if known[name] {
			// A circle of references.
			continue
		}
		known[name] = true
		ns := x.lock(namespace)
		if p := ns.parents[name]; p != nil {
			x.serve(ns, p, netip.Prefix{}, maps.Keys(below.groups))
			for g := range below.groups {
				if !p.matches(g.selector) {
					// What matches hides what is below it.
					names = p.children(names)
					break
				}
			}
		}
		x.unlock(ns)
	}
	ns := x.lock(namespace)
	defer x.unlock(ns)
	for _, w := range ns.waiting {
		if below.groups[w.group] {
			x.refreshLater(ns, w, wordsDelay)
		}
	}
}

// hold takes in that an allocation holds a prefix of a parent, according to the API. It reports
// whether this was news.
func (x *index) hold(name types.NamespacedName, uid types.UID, parentName string, prefix netip.Prefix) bool {
	ns := x.lock(name.Namespace)
	defer x.unlock(ns)
	if held, ok := ns.holders[uid]; ok {
		if reserved, _ := held.parent.ledger.Get(uid); held.parent.name != parentName || reserved != prefix {
			// Something else was reserved for it, which others may wait for.
			x.release(ns, uid)
		}
	}
	ns.drop(name.Name, uid)
	p := ns.parent(parentName)
	ns.holders[uid] = holder{p, name.Name}
	if !p.ledger.Hold(uid, prefix) {
		return false
	}
	x.refreshCounts(ns, p)
	return true
}

// drop forgets an allocation as one that wants to be scheduled.
func (ns *namespace) drop(name string, uid types.UID) {
	if w := ns.pending[name]; w != nil && w.uid == uid {
		ns.stopWaiting(w)
		delete(ns.pending, name)
	}
}

// forget takes in that an allocation is gone.
func (x *index) forget(name types.NamespacedName, uid types.UID) {
	ns := x.lock(name.Namespace)
	defer x.unlock(ns)
	ns.drop(name.Name, uid)
	x.release(ns, uid)
}

// settle takes in that an allocation does not want to be scheduled any more. If gives up, what was reserved for
// it is free again: it did not come true. Otherwise it did, or that is not known.
func (x *index) settle(name types.NamespacedName, givesUp bool) {
	ns := x.lock(name.Namespace)
	defer x.unlock(ns)
	w := ns.pending[name.Name]
	if w == nil {
		return
	}
	ns.stopWaiting(w)
	if w.reserved != nil && !givesUp {
		return
	}
	delete(ns.pending, name.Name)
	if w.reserved != nil {
		x.release(ns, w.uid)
	}
}

// forgetAssumed takes in that what was reserved for an allocation did not come true.
func (x *index) forgetAssumed(name types.NamespacedName) {
	ns := x.lock(name.Namespace)
	defer x.unlock(ns)
	if w := ns.pending[name.Name]; w != nil && w.reserved != nil {
		w.reserved = nil
		x.release(ns, w.uid)
	}
}

// refuse takes in that the server refused a place, for another reason than that it is in use: it is free, but not
// for this allocation. If whole, the server would refuse every place of the parent.
func (x *index) refuse(name types.NamespacedName, place assumption, whole bool, words string) {
	ns := x.lock(name.Namespace)
	defer x.unlock(ns)
	w := ns.pending[name.Name]
	if w == nil || w.reserved == nil {
		return
	}
	r := refusedPlace{place.parent, place.parentUID, place.prefix, text.Cut(words, maxWords)}
	if whole {
		r.prefix = netip.Prefix{}
	}
	if len(w.refusals) >= maxRefusals {
		w.refusals = nil
	}
	w.refusals = append(w.refusals, r)
	w.reserved = nil
	x.release(ns, w.uid)
}

// retry forgets what the server refused for an allocation, if there is no other place for it.
func (x *index) retry(c candidate) {
	ns := x.lock(c.name.Namespace)
	defer x.unlock(ns)
	w := ns.pending[c.name.Name]
	if w == nil || w.uid != c.uid || len(w.refusals) == 0 || w.reserved != nil {
		return
	}
	w = ns.pendingOf(c)
	if _, _, ok := x.choose(ns, w); !ok {
		w.refusals = nil
	}
}

// giveUp has an allocation wait whose places the server refused, even if there are others.
func (x *index) giveUp(c candidate) *verdict {
	ns := x.lock(c.name.Namespace)
	defer x.unlock(ns)
	w := ns.pendingOf(c)
	v := &verdict{reason: v1alpha1.ReasonRefused, request: c.request}
	// The last one of each parent, the last parent first.
	for _, r := range slices.Backward(w.refusals) {
		if p := ns.parents[r.parentName]; p != nil && p.uid == r.parent && len(v.refusals) < maxNamed &&
			!slices.ContainsFunc(v.refusals, func(other refusal) bool { return other.parent == p }) {
			v.refusals = append(v.refusals, refusal{parent: p, kind: refused, name: p.name, prefix: p.prefix, words: r.words})
		}
	}
	if len(v.refusals) == 0 {
		v.words = "The API server refused the binding"
	}
	return v
}

// release frees what an allocation holds, and serves those who waited for it.
func (x *index) release(ns *namespace, uid types.UID) {
	held, ok := ns.holders[uid]
	if !ok {
		return
	}
	p := held.parent
	delete(ns.holders, uid)
	defer ns.tidy(p)
	freed, _ := p.ledger.Get(uid)
	if !p.usable() {
		p.ledger.Release(uid)
		return
	}
	freeHi, freeLo := p.pool().FreeAddresses128()
	if !p.ledger.Release(uid) {
		return
	}
	x.serve(ns, p, freed, maps.Values(ns.groups))
	// Whoever waited for exactly this much has it now, and the others need no other message.
	if hi, lo := p.pool().FreeAddresses128(); hi != freeHi || lo != freeLo {
		x.refreshCounts(ns, p)
	}
	x.refreshHolders(ns, p, freed)
}

// reserve finds a place for a candidate and takes it. Otherwise the candidate waits until something
// happens that may make room for it. A candidate that a place was reserved for before gets the same
// one again: whether the binding to it went through may not be known.
func (x *index) reserve(c candidate) (assumption, *verdict) {
	ns := x.lock(c.name.Namespace)
	defer x.unlock(ns)
	w := ns.pendingOf(c)
	fresh := w.stale
	w.stale = false

	if held, ok := ns.holders[c.uid]; ok {
		p := held.parent
		prefix, _ := p.ledger.Get(c.uid)
		return assumption{p.name, p.uid, prefix}, nil
	}
	if r := c.requester; r != nil {
		if p := ns.parents[r.name]; p == nil || p.uid != r.uid {
			ns.waitForRequester(w)
			return assumption{}, &verdict{reason: v1alpha1.ReasonRequesterNotFound, early: time.Since(w.missed) < requesterPatience,
				words: fmt.Sprintf("Prefix %s with uid %s, for which this was made, does not exist", r.name, r.uid)}
		}
	}
	w.missed = time.Time{}
	p, prefix, ok := x.choose(ns, w)
	if ok {
		ns.reserve(w, p, prefix)
		x.refreshCounts(ns, p)
		return assumption{p.name, p.uid, prefix}, nil
	}
	why := x.explain(ns, w)
	why.fresh = fresh
	if !why.final {
		ns.wait(w, why)
	}
	return assumption{}, why
}

// parentsFor returns the parents that an allocation may be allocated from, sorted by name. The caller must not
// change the slice.
func (ns *namespace) parentsFor(w *pending) []*parent {
	if w.ref == "" {
		return ns.selection(w.key, w.selector).parents
	}
	if p := ns.parents[w.ref]; p != nil && p.uid != "" {
		return []*parent{p}
	}
	return nil
}

// choose returns the best parent that has a place for an allocation, and the place. Parents where the server
// refused places of this allocation come last. It calls the strategy only where more than one is left.
func (x *index) choose(ns *namespace, w *pending) (best *parent, prefix netip.Prefix, ok bool) {
	var bestScore Score
	var bestRefused int
	r := w.request
	for _, p := range ns.parentsFor(w) {
		if !p.usable() || !r.Fits(p.prefix) || w.isFor(p) {
			continue
		}
		times := 0
		switch {
		case len(w.refusals) > 0:
			if _, ok := x.place(p, w); !ok {
				continue
			}
			for _, refused := range w.refusals {
				if refused.parent == p.uid {
					times++
				}
			}
		case r.Prefix.IsValid():
			if _, ok := x.place(p, w); !ok {
				continue
			}
		case !fits(p, r.Bits):
			continue
		}
		score := x.score(p.pool(), r.Bits)
		if best == nil || times < bestRefused || times == bestRefused && score.above(bestScore) {
			best, bestScore, bestRefused = p, score, times
		}
	}
	if best == nil {
		return nil, netip.Prefix{}, false
	}
	prefix, ok = x.place(best, w)
	return best, prefix, ok
}

// explain tells why there is no place for an allocation.
func (x *index) explain(ns *namespace, w *pending) *verdict {
	parents, no := ns.parentsFor(w), "No Prefix"
	if r := w.requester; r != nil && w.ref == "" {
		// Neither the Prefix that asks nor anything below it can be the parent.
		if self := ns.parents[r.name]; self != nil {
			others := slices.DeleteFunc(slices.Clone(parents), func(p *parent) bool {
				return p == self || self.child != nil && p.isBelow(self)
			})
			if len(others) < len(parents) {
				parents, no = others, "No other Prefix"
			}
		}
	}
	if len(parents) > 0 {
		return x.conclude(ns, w, parents)
	}
	if w.ref != "" {
		return &verdict{reason: v1alpha1.ReasonParentNotFound, words: fmt.Sprintf("Prefix %s does not exist", w.ref)}
	}
	return &verdict{reason: v1alpha1.ReasonNoMatchingParent, words: fmt.Sprintf("%s matches the selector %q", no, text.Cut(w.key, maxWords))}
}

// waitingIn returns the names of what waits in a namespace, sorted.
func (x *index) waitingIn(nsName string) []string {
	ns := x.lock(nsName)
	defer x.unlock(ns)
	var names []string
	for _, w := range ns.waiting {
		names = append(names, w.name.Name)
	}
	for _, waiting := range ns.requesters {
		for w := range waiting {
			names = append(names, w.name.Name)
		}
	}
	slices.Sort(names)
	return names
}
