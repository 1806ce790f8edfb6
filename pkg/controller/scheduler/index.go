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
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/holding"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	"github.com/ironcore-dev/ipam-apiserver/pkg/policy"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// index is the in-memory state of the scheduler: every Prefix that can be a parent, the allocations that hold space in
// it, and the allocations that wait for space. It is safe for concurrent use.
type index struct {
	// wake queues an allocation that must be scheduled, for example because space was reserved for it. refresh queues,
	// after a delay, an allocation whose message must be rebuilt. Both are called with a namespace locked.
	wake    func(types.NamespacedName)
	refresh func(types.NamespacedName, time.Duration)
	// score ranks the parents that have space for a request. The highest score wins.
	score Strategy

	// mu protects what follows. To avoid deadlocks, nobody locks a namespace while holding mu, or two namespaces at once.
	mu         sync.Mutex
	namespaces map[string]*namespace
	// homes has the namespace of the parents of each pending allocation for which that is another one than its own.
	homes map[types.NamespacedName]string
	// labels are the labels of the namespaces, if they are known.
	labels map[string]labels.Set
}

// namespace is the index of the parents of one namespace, and of the allocations of any namespace that ask for them. Each
// has its own lock, so work in one namespace does not block the others.
type namespace struct {
	index *index
	mu    sync.Mutex
	name  string
	// dropped is set when the namespace is empty and was removed from the index.
	dropped bool

	// top is the root of the tree of parents. It does not stand for a Prefix.
	top *parent
	// parents is keyed by name. A Prefix that does not exist has an entry while allocations hold space in it, a
	// Prefix refers to it as its parent, or a message names it.
	parents map[string]*parent
	// policies are the PrefixPolicies of the namespace.
	policies policy.Policies
	// excess limits the memory for reserved space.
	excess excess
	// holders maps the allocations that hold space to their parents.
	holders map[types.UID]holder
	// pending holds the allocations that are not allocated yet according to the API.
	pending map[types.NamespacedName]*pending
	// numbers is the last number given to a pending allocation.
	numbers uint64
	// tenants holds the namespaces of the pending allocations.
	tenants map[string]*tenant
	// serving numbers the calls of serve. turns numbers the reservations of serve.
	serving, turns uint64
	// requesters holds the allocations that wait for the Prefix they were created for, by the name of that Prefix.
	requesters map[string]map[*pending]struct{}
	// awaited is the same for allocations of this namespace that ask for parents of another one, by the name of the
	// allocation.
	awaited map[string]requesterRef
	// shared holds the parents that are shared with any other namespace.
	shared map[*parent]struct{}
	// selections caches the parents that each selector selects, by selector. uses counts the lookups and orders the
	// selections by last use.
	selections map[string]*selection
	uses       uint64
}

// holder is an allocation that holds space in a parent.
type holder struct {
	parent *parent
	name   string
	// learned is set if it is known only from a refusal of the server, and not from the informer.
	learned bool
}

// assumption is a prefix that is reserved for a candidate in the index, but not yet bound in the API.
type assumption struct {
	parent    types.NamespacedName
	parentUID types.UID
	prefix    netip.Prefix
}

// requesterPatience is how long the Prefix that an allocation was created for may be missing before the status reports
// it. Prefixes come from another informer, which may be behind.
const requesterPatience = time.Second

func newIndex(score Strategy, wake func(types.NamespacedName), refresh func(types.NamespacedName, time.Duration)) *index {
	return &index{
		wake: wake, refresh: refresh, score: score, namespaces: map[string]*namespace{},
		homes: map[types.NamespacedName]string{}, labels: map[string]labels.Set{},
	}
}

// lock returns a locked namespace. The caller must release it with unlock.
func (x *index) lock(name string) *namespace {
	for {
		x.mu.Lock()
		ns := x.namespaces[name]
		if ns == nil {
			ns = &namespace{
				index: x, name: name, top: &parent{}, awaited: map[string]requesterRef{}, shared: map[*parent]struct{}{},
				parents: map[string]*parent{}, holders: map[types.UID]holder{}, pending: map[types.NamespacedName]*pending{},
				tenants: map[string]*tenant{}, requesters: map[string]map[*pending]struct{}{}, selections: map[string]*selection{},
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

// unlock unlocks a namespace. It removes the namespace from the index if it is empty.
func (x *index) unlock(ns *namespace) {
	if len(ns.parents) == 0 && len(ns.holders) == 0 && len(ns.pending) == 0 && len(ns.awaited) == 0 && ns.policies.Len() == 0 {
		ns.dropped = true
		x.mu.Lock()
		delete(x.namespaces, ns.name)
		x.mu.Unlock()
	}
	ns.mu.Unlock()
}

// parent returns the entry of a parent. It creates the entry if there is none.
func (ns *namespace) parent(name string) *parent {
	p := ns.parents[name]
	if p == nil {
		p = &parent{name: name, excess: &ns.excess, policies: &ns.policies}
		p.moveBelow(ns.top)
		ns.parents[name] = p
	}
	return p
}

// tidy removes the entry of a parent that does not exist and that nothing refers to.
func (ns *namespace) tidy(p *parent) {
	if p.uid == "" && p.ledger.Len() == 0 && p.child == nil && p.messages == 0 && p.up != nil {
		p.leave()
		p.excess.set(p, 0)
		delete(ns.parents, p.name)
		delete(ns.shared, p)
	}
}

// setPrefix records the current state of a Prefix.
func (x *index) setPrefix(obj *v1alpha1.Prefix) {
	now := prefixState{uid: obj.UID, labels: obj.Labels, deleting: obj.DeletionTimestamp != nil}
	if obj.Spec.Prefix != "" {
		prefix, err := cidr.ParseStored(obj.Spec.Prefix)
		if err == nil {
			now.prefix = prefix
			now.ready = obj.Status.Phase == v1alpha1.PrefixPhaseAllocated
		}
	} else {
		now.asks = int(obj.Spec.PrefixLength)
	}
	ns := x.lock(obj.Namespace)
	now.rules = ns.policies.For(now.labels)
	p := ns.parent(obj.Name)
	up := ns.top
	if ref := obj.Spec.ParentRef; ref != nil && obj.NamespaceOfParent() == obj.Namespace {
		up = ns.parent(ref.Name)
	}
	// A substring keeps the memory of its whole object alive. Use the name from the newest version, so that older
	// versions can be freed.
	p.name = obj.Name
	below := x.update(ns, p, now, up)
	x.unlock(ns)
	x.serveBelow(obj.Namespace, below)
}

// deletePrefix records that a Prefix was deleted.
func (x *index) deletePrefix(name types.NamespacedName, uid types.UID) {
	ns := x.lock(name.Namespace)
	var below revealed
	if p := ns.parents[name.Name]; p != nil && p.uid == uid {
		below = x.update(ns, p, prefixState{}, ns.top)
	}
	x.unlock(ns)
	x.serveBelow(name.Namespace, below)
}

// setPolicy records the current state of a PrefixPolicy.
func (x *index) setPolicy(obj *v1alpha1.PrefixPolicy) {
	x.changePolicies(obj.Namespace, func(policies *policy.Policies) []labels.Selector { return policies.Set(obj) })
}

// deletePolicy records that a PrefixPolicy was deleted.
func (x *index) deletePolicy(name types.NamespacedName, uid types.UID) {
	x.changePolicies(name.Namespace, func(policies *policy.Policies) []labels.Selector { return policies.Delete(name.Name, uid) })
}

// changePolicies changes the policies of a namespace, and then the rules of the affected Prefixes. There may be very many
// of these, so it locks the namespace for one Prefix at a time.
func (x *index) changePolicies(namespace string, change func(*policy.Policies) (affected []labels.Selector)) {
	ns := x.lock(namespace)
	var names []string
	if affected := change(&ns.policies); len(affected) > 0 {
		for name, p := range ns.parents {
			if slices.ContainsFunc(affected, p.matches) {
				names = append(names, name)
			}
		}
	}
	x.unlock(ns)
	for _, name := range names {
		ns := x.lock(namespace)
		if p := ns.parents[name]; p != nil {
			now := p.prefixState
			now.rules = ns.policies.For(p.labels)
			below := x.update(ns, p, now, p.up)
			x.unlock(ns)
			x.serveBelow(namespace, below)
			continue
		}
		x.unlock(ns)
	}
}

// setNamespace records the labels of a namespace. set is nil if it does not exist.
func (x *index) setNamespace(name string, set labels.Set) {
	x.mu.Lock()
	was, known := x.labels[name]
	if set == nil {
		delete(x.labels, name)
	} else {
		x.labels[name] = set
	}
	homes := slices.Collect(maps.Keys(x.namespaces))
	x.mu.Unlock()
	if known == (set != nil) && labels.Equals(was, set) {
		return
	}
	for _, home := range homes {
		ns := x.lock(home)
		maps.DeleteFunc(ns.selections, func(_ string, s *selection) bool { return s.foreign && s.namespace == name })
		if t := ns.tenants[name]; t != nil && t.foreign {
			t.labels = set
			waiting := slices.Clone(t.waiting)
			ns.stopWaiting(waiting...)
			for _, w := range waiting {
				x.wake(w.name)
			}
		}
		x.unlock(ns)
	}
}

// labelsOf returns the labels of a namespace, or nil if they are not known.
func (x *index) labelsOf(namespace string) labels.Set {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.labels[namespace]
}

// inHomes calls f for each namespace whose index may have a pending allocation, with the namespace locked.
func (x *index) inHomes(name types.NamespacedName, f func(*namespace)) {
	x.mu.Lock()
	home, foreign := x.homes[name]
	x.mu.Unlock()
	homes := []string{name.Namespace}
	if foreign {
		homes = append(homes, home)
	}
	for _, home := range homes {
		ns := x.lock(home)
		f(ns)
		x.unlock(ns)
	}
}

// stopAwaiting records that an allocation, which asks for a parent of another namespace, does not wait for its requester.
func (x *index) stopAwaiting(name types.NamespacedName, home string) {
	if home != name.Namespace {
		ns := x.lock(name.Namespace)
		delete(ns.awaited, name.Name)
		x.unlock(ns)
	}
}

// revealed describes the Prefixes that a change of their ancestor made selectable. A selector selects only the outermost
// Prefixes that it matches. When an ancestor no longer matches, its descendants may become the outermost ones.
type revealed struct {
	// targets holds the targets that such descendants may be.
	targets map[*target]bool
	// children holds the names of the direct children of the changed Prefix.
	children []string
}

// update records the state of a Prefix in the API, and its parent. It then updates everything that depends on them,
// except for the revealed Prefixes, which it returns. The caller passes them to serveBelow.
func (x *index) update(ns *namespace, p *parent, now prefixState, up *parent) (below revealed) {
	defer ns.tidy(p)
	before, beforeUp := p.prefixState, p.up
	p.prefixState = now
	if before.uid == now.uid && before.prefix == now.prefix && before.asks == now.asks && before.ready == now.ready &&
		before.deleting == now.deleting && before.rules == now.rules && beforeUp == up && labels.Equals(before.labels, now.labels) {
		return below
	}
	if p.rules.IsShared() {
		ns.shared[p] = struct{}{}
	} else {
		delete(ns.shared, p)
	}
	p.moveBelow(up)
	if before.uid != now.uid || before.prefix != now.prefix {
		// The ledger builds a new pool from the prefixes that are held under this name.
		p.dropPool()
	}
	p.applyReserved()
	ns.changed(p, &before, beforeUp)

	for w := range ns.requesters[p.name] {
		if w.requester.uid == p.uid {
			ns.stopWaiting(w)
			x.wake(w.name)
		}
	}
	for name, requester := range ns.awaited {
		if requester.name == p.name && requester.uid == p.uid {
			delete(ns.awaited, name)
			x.wake(types.NamespacedName{Namespace: ns.name, Name: name})
		}
	}
	x.serve(ns, p, netip.Prefix{}, nil)
	if below.targets = x.refreshWords(ns, p, &before, beforeUp); len(below.targets) > 0 {
		below.children = p.children(nil)
	}
	ns.tidy(beforeUp)
	return below
}

// serveBelow serves the waiting allocations from the revealed Prefixes. There may be very many of these, so it locks the
// namespace for one Prefix at a time.
func (x *index) serveBelow(namespace string, below revealed) {
	if len(below.targets) == 0 {
		return
	}
	known := map[string]bool{}
	for names := below.children; len(names) > 0; {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		if known[name] {
			// The references form a cycle.
			continue
		}
		known[name] = true
		ns := x.lock(namespace)
		if p := ns.parents[name]; p != nil {
			x.serve(ns, p, netip.Prefix{}, below.targets)
			for of := range below.targets {
				if !of.scope.matches(&p.prefixState) {
					// A match hides its descendants. Descend if at least one selector does not match this Prefix.
					names = p.children(names)
					break
				}
			}
		}
		x.unlock(ns)
	}
	ns := x.lock(namespace)
	defer x.unlock(ns)
	for w := range ns.waiting() {
		if below.targets[w.target] {
			x.refreshLater(w, wordsDelay)
		}
	}
}

// hold records that, according to the API, an allocation holds a prefix of a parent. It reports whether the index
// changed.
func (x *index) hold(name types.NamespacedName, uid types.UID, parent types.NamespacedName, prefix netip.Prefix) bool {
	x.stopAwaiting(name, parent.Namespace)
	return x.holdAs(holder{name: name.Name}, name, uid, parent, prefix)
}

// learn is like hold, but the holder is known only from a refusal of the server. If it is in another namespace, it has no
// name.
func (x *index) learn(name types.NamespacedName, uid types.UID, parent types.NamespacedName, prefix netip.Prefix) bool {
	return x.holdAs(holder{name: name.Name, learned: true}, name, uid, parent, prefix)
}

// forgetLearned releases the space of a learned holder, unless the informer has confirmed it.
func (x *index) forgetLearned(parent types.NamespacedName, uid types.UID) {
	ns := x.lock(parent.Namespace)
	defer x.unlock(ns)
	if ns.holders[uid].learned {
		x.release(ns, uid)
	}
}

func (x *index) holdAs(h holder, name types.NamespacedName, uid types.UID, parent types.NamespacedName, prefix netip.Prefix) bool {
	ns := x.lock(parent.Namespace)
	defer x.unlock(ns)
	if held, ok := ns.holders[uid]; ok {
		if h.learned && !held.learned {
			h = held
		}
		if reserved, _ := held.parent.ledger.Get(uid); held.parent.name != parent.Name || reserved != prefix {
			// Another prefix was reserved for it. Others may wait for that one.
			x.release(ns, uid)
		}
	}
	ns.drop(name, uid)
	p := ns.parent(parent.Name)
	h.parent = p
	ns.holders[uid] = h
	if !p.ledger.Hold(uid, prefix) {
		return false
	}
	x.refreshCounts(ns, p)
	return true
}

// drop removes an allocation from the pending ones.
func (ns *namespace) drop(name types.NamespacedName, uid types.UID) {
	if w := ns.pending[name]; w != nil && w.uid == uid {
		ns.stopWaiting(w)
		ns.removePending(w)
	}
}

// forget records that an allocation was deleted or has failed. It releases the space of the allocation. home is the
// namespace of its parents.
func (x *index) forget(name types.NamespacedName, uid types.UID, home string) {
	x.stopAwaiting(name, home)
	ns := x.lock(home)
	defer x.unlock(ns)
	ns.drop(name, uid)
	x.release(ns, uid)
}

// settle records that an allocation no longer needs to be scheduled. If givesUp is set, it was not bound and never will
// be: its reservation is released. Otherwise the reservation stays until the event of the informer confirms it.
func (x *index) settle(name types.NamespacedName, givesUp bool) {
	x.inHomes(name, func(ns *namespace) {
		delete(ns.awaited, name.Name)
		x.settleIn(ns, name, givesUp)
	})
}

func (x *index) settleIn(ns *namespace, name types.NamespacedName, givesUp bool) {
	w := ns.pending[name]
	if w == nil {
		return
	}
	ns.stopWaiting(w)
	if w.reserved != nil && !givesUp {
		return
	}
	ns.removePending(w)
	if w.reserved != nil {
		x.release(ns, w.uid)
	}
}

// forgetAssumed releases the reservation of an allocation whose binding failed.
func (x *index) forgetAssumed(name types.NamespacedName) {
	x.inHomes(name, func(ns *namespace) {
		if w := ns.pending[name]; w != nil && w.reserved != nil {
			w.reserved = nil
			x.release(ns, w.uid)
		}
	})
}

// refuse records that the server refused a binding although the prefix is free. The prefix is released for other
// allocations, and this allocation does not get it again. If whole is set, it does not get any prefix of this parent.
func (x *index) refuse(name types.NamespacedName, place assumption, whole bool, words string) {
	ns := x.lock(place.parent.Namespace)
	defer x.unlock(ns)
	w := ns.pending[name]
	if w == nil || w.reserved == nil {
		return
	}
	r := refusedPlace{place.parent.Name, place.parentUID, place.prefix, text.Cut(words, maxWords)}
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

// retry clears the refusals of an allocation if no other prefix is left for it, so that all are tried again.
func (x *index) retry(c candidate) {
	ns := x.lock(c.home)
	defer x.unlock(ns)
	w := ns.pending[c.name]
	if w == nil || w.uid != c.uid || len(w.refusals) == 0 || w.reserved != nil {
		return
	}
	w = ns.pendingOf(c)
	if _, _, ok := x.choose(ns, w); !ok {
		w.refusals = nil
	}
}

// giveUp returns the verdict for an allocation that the server refused too often in one attempt. Other prefixes may be
// left; they are tried later.
func (x *index) giveUp(c candidate) *verdict {
	ns := x.lock(c.home)
	defer x.unlock(ns)
	w := ns.pendingOf(c)
	v := &verdict{reason: v1alpha1.ReasonRefused, request: c.request}
	// Report the latest refusal of each parent, newest first.
	for _, r := range slices.Backward(w.refusals) {
		if p := ns.parents[r.parentName]; p != nil && p.uid == r.parent && len(v.refusals) < maxNamed &&
			!slices.ContainsFunc(v.refusals, func(other refusal) bool { return other.parent == p }) {
			v.refusals = append(v.refusals, refusal{parent: p, kind: refused, name: w.tenant.nameOf(ns, p), prefix: p.prefix, words: r.words})
		}
	}
	if len(v.refusals) == 0 {
		v.words = "The API server refused the binding"
	}
	return v
}

// release frees the space of an allocation and serves the allocations that wait for it.
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
	x.serve(ns, p, freed, nil)
	// If a waiting allocation took exactly the freed space, the counts in the messages are still correct. Freed space that
	// is reserved does not change the counts, but may change the reason.
	if hi, lo := p.pool().FreeAddresses128(); hi != freeHi || lo != freeLo || p.pool().Reserved() != nil {
		x.refreshCounts(ns, p)
	}
	x.refreshHolders(ns, p, freed)
}

// reserve finds a free prefix for a candidate and reserves it. If there is none, it returns the reason, and the candidate
// waits for an event that may free space, unless the verdict is final. A candidate that already has a reservation gets
// the same prefix again, because an earlier binding may have succeeded without an answer.
func (x *index) reserve(c candidate) (assumption, *verdict) {
	missing := c.isForeign() && x.awaitRequester(&c)
	ns := x.lock(c.home)
	defer x.unlock(ns)
	w := ns.pendingOf(c)
	fresh := w.stale
	w.stale = false

	if held, ok := ns.holders[c.uid]; ok {
		p := held.parent
		prefix, _ := p.ledger.Get(c.uid)
		return ns.assumption(p, prefix), nil
	}
	if r := c.requester; r != nil {
		if !c.isForeign() && ns.misses(r) {
			missing = true
			ns.waitForRequester(w)
		}
		if missing {
			if w.missed.IsZero() {
				w.missed = time.Now()
			}
			return assumption{}, &verdict{reason: v1alpha1.ReasonRequesterNotFound, early: time.Since(w.missed) < requesterPatience,
				words: fmt.Sprintf("This PrefixAllocation was created for Prefix %s with uid %s, which does not exist", r.name, r.uid)}
		}
	}
	w.missed = time.Time{}
	p, prefix, ok := x.choose(ns, w)
	if ok {
		ns.reserve(w, p, prefix)
		x.refreshCounts(ns, p)
		return ns.assumption(p, prefix), nil
	}
	why := x.explain(ns, w)
	why.fresh = fresh
	if !why.final {
		ns.wait(w, why)
	}
	return assumption{}, why
}

// givesBack returns the kept space that the requester of a candidate may take back: the candidate names or selects the
// parent, and its rules allow it.
func (x *index) givesBack(c candidate, kept []holding.Kept) []holding.Kept {
	v := viewer{namespace: c.name.Namespace, foreign: c.isForeign()}
	if v.foreign {
		v.labels = x.labelsOf(v.namespace)
	}
	ns := x.lock(c.home)
	defer x.unlock(ns)
	return slices.DeleteFunc(kept, func(k holding.Kept) bool {
		p := ns.parents[k.Parent.Name]
		if p == nil || !p.usable() || !v.sees(&p.prefixState) || !p.rules.Allow(k.Prefix.Bits()) {
			return true
		}
		if c.ref != "" && c.ref != p.name || c.ref == "" && !p.matches(c.selector) {
			return true
		}
		return !k.IsCooling() && p.rules.CoolDown() == 0
	})
}

func (ns *namespace) assumption(p *parent, prefix netip.Prefix) assumption {
	return assumption{types.NamespacedName{Namespace: ns.name, Name: p.name}, p.uid, prefix}
}

// misses reports whether the Prefix that an allocation was created for is not known.
func (ns *namespace) misses(r *requesterRef) bool {
	p := ns.parents[r.name]
	return p == nil || p.uid != r.uid
}

// awaitRequester reports whether the Prefix that a candidate was created for is not known. The candidate then waits for an
// event of it.
func (x *index) awaitRequester(c *candidate) bool {
	if c.requester == nil {
		return false
	}
	ns := x.lock(c.name.Namespace)
	defer x.unlock(ns)
	if ns.misses(c.requester) {
		ns.awaited[c.name.Name] = *c.requester
		return true
	}
	delete(ns.awaited, c.name.Name)
	return false
}

// parentsFor returns the parents that an allocation names or selects, sorted by name. The caller must not modify the
// slice.
func (ns *namespace) parentsFor(w *pending) []*parent {
	if w.ref == "" {
		return ns.selection(w.key, scope{w.selector, w.tenant.viewer}).parents
	}
	if p := ns.parents[w.ref]; p != nil && p.uid != "" && w.tenant.sees(&p.prefixState) {
		return []*parent{p}
	}
	return nil
}

// choose returns the best parent with a free prefix for an allocation, and that prefix. It prefers parents where the
// server refused fewer bindings of this allocation, then those with the higher score.
func (x *index) choose(ns *namespace, w *pending) (best *parent, prefix netip.Prefix, ok bool) {
	var bestScore Score
	var bestRefused int
	r := w.request
	parents := ns.parentsFor(w)
	// Scores of different strategies cannot be compared. The strategy of the oldest policy counts for all parents.
	var oldest *policy.Rules
	for _, p := range parents {
		oldest = policy.Older(oldest, p.rules)
	}
	scoreOf := scoreOf(oldest.Strategy(), x.score)
	for _, p := range parents {
		if !p.usable() || !r.Fits(p.prefix) || !p.rules.Allow(r.Bits) || w.isFor(p) {
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
		score := scoreOf(p.pool(), r.Bits)
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

// explain returns why there is no free prefix for an allocation.
func (x *index) explain(ns *namespace, w *pending) *verdict {
	parents, no := ns.parentsFor(w), "No Prefix"
	if r := w.requester; r != nil && w.ref == "" {
		// The requester and its descendants cannot be its parent.
		if self := ns.parents[r.name]; self != nil && self.uid == r.uid {
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
	if w.tenant.foreign {
		// Whether a parent exists that is not shared is not told.
		words := fmt.Sprintf("Prefix %s/%s does not exist or is not shared with namespace %s", ns.name, w.ref, w.tenant.namespace)
		if w.ref == "" {
			words = fmt.Sprintf("No Prefix of namespace %s that is shared with namespace %s matches the selector %q", ns.name, w.tenant.namespace, text.Cut(w.key, maxWords))
		}
		return &verdict{reason: v1alpha1.ReasonNotShared, words: words}
	}
	if w.ref != "" {
		return &verdict{reason: v1alpha1.ReasonParentNotFound, words: fmt.Sprintf("Prefix %s does not exist", w.ref)}
	}
	return &verdict{reason: v1alpha1.ReasonNoMatchingParent, words: fmt.Sprintf("%s matches the selector %q", no, text.Cut(w.key, maxWords))}
}

// waitingIn returns the sorted names of the allocations that wait in a namespace.
func (x *index) waitingIn(nsName string) []string {
	ns := x.lock(nsName)
	defer x.unlock(ns)
	var names []string
	for w := range ns.waiting() {
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
