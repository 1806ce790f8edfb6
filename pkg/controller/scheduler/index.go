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
	// wake queues an allocation that must be scheduled, for example because a prefix was assumed for it. refresh queues,
	// after a delay, an allocation whose message must be rebuilt. Both are called with a namespace locked.
	wake    func(types.NamespacedName)
	refresh func(types.NamespacedName, time.Duration)
	// score ranks the parents that have space for a request. The highest score wins.
	score ScoreFunc

	// mu protects what follows. To avoid deadlocks, nobody locks a namespace while holding mu, or two namespaces at once.
	mu         sync.Mutex
	namespaces map[string]*namespace
	// parentNamespaces has the namespace of the parents of each pending allocation whose parents are in another one.
	parentNamespaces map[types.NamespacedName]string
	// labels are the labels of the namespaces, if they are known.
	labels map[string]labels.Set
}

// assumption is a prefix that the index holds for a candidate although it is not yet bound in the API. Others do not get
// it. As in kube-scheduler, the scheduler assumes before it binds, so that many bindings can be under way.
type assumption struct {
	parent    types.NamespacedName
	parentUID types.UID
	prefix    netip.Prefix
}

// requesterGracePeriod is how long the Prefix that an allocation was created for may be missing before the status reports
// it. Prefixes come from another informer, which may be behind.
const requesterGracePeriod = time.Second

func newIndex(score ScoreFunc, wake func(types.NamespacedName), refresh func(types.NamespacedName, time.Duration)) *index {
	return &index{
		wake: wake, refresh: refresh, score: score, namespaces: map[string]*namespace{},
		parentNamespaces: map[types.NamespacedName]string{}, labels: map[string]labels.Set{},
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
				tenants: map[string]*tenant{}, waitingForRequester: map[string]map[*pending]struct{}{}, selections: map[string]*selection{},
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
	below := ns.update(p, now, up)
	x.unlock(ns)
	x.serveBelow(obj.Namespace, below)
}

// deletePrefix records that a Prefix was deleted.
func (x *index) deletePrefix(name types.NamespacedName, uid types.UID) {
	ns := x.lock(name.Namespace)
	var below revealed
	if p := ns.parents[name.Name]; p != nil && p.uid == uid {
		below = ns.update(p, prefixState{}, ns.top)
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
			below := ns.update(p, now, p.up)
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
	all := slices.Collect(maps.Keys(x.namespaces))
	x.mu.Unlock()
	if known == (set != nil) && labels.Equals(was, set) {
		return
	}
	for _, other := range all {
		ns := x.lock(other)
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

// inNamespacesOf calls f for each namespace whose index may have a pending allocation, with the namespace locked.
func (x *index) inNamespacesOf(name types.NamespacedName, f func(*namespace)) {
	x.mu.Lock()
	parentNamespace, foreign := x.parentNamespaces[name]
	x.mu.Unlock()
	namespaces := []string{name.Namespace}
	if foreign {
		namespaces = append(namespaces, parentNamespace)
	}
	for _, namespace := range namespaces {
		ns := x.lock(namespace)
		f(ns)
		x.unlock(ns)
	}
}

// stopAwaiting records that an allocation, which asks for a parent of another namespace, does not wait for its requester.
func (x *index) stopAwaiting(name types.NamespacedName, parentNamespace string) {
	if parentNamespace != name.Namespace {
		ns := x.lock(name.Namespace)
		delete(ns.awaited, name.Name)
		x.unlock(ns)
	}
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
			ns.serve(p, netip.Prefix{}, below.targets)
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
			ns.refreshLater(w, wordsDelay)
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
		ns.release(uid)
	}
}

func (x *index) holdAs(h holder, name types.NamespacedName, uid types.UID, parent types.NamespacedName, prefix netip.Prefix) bool {
	ns := x.lock(parent.Namespace)
	defer x.unlock(ns)
	if held, ok := ns.holders[uid]; ok {
		if h.learned && !held.learned {
			h = held
		}
		if recorded, _ := held.parent.ledger.Get(uid); held.parent.name != parent.Name || recorded != prefix {
			// Another prefix was assumed for it. Others may wait for that one.
			ns.release(uid)
		}
	}
	ns.drop(name, uid)
	p := ns.parent(parent.Name)
	h.parent = p
	ns.holders[uid] = h
	if !p.ledger.Hold(uid, prefix) {
		return false
	}
	ns.refreshCounts(p)
	return true
}

// forget records that an allocation was deleted or has failed. It releases the space of the allocation. parentNamespace is the
// namespace of its parents.
func (x *index) forget(name types.NamespacedName, uid types.UID, parentNamespace string) {
	x.stopAwaiting(name, parentNamespace)
	ns := x.lock(parentNamespace)
	defer x.unlock(ns)
	ns.drop(name, uid)
	ns.release(uid)
}

// markBound records that an allocation is bound. Its assumption stays until the event of the informer confirms it.
func (x *index) markBound(name types.NamespacedName) {
	x.endAttempt(name, func(ns *namespace, w *pending) {
		if w.assumedParent == nil {
			ns.removePending(w)
		}
	})
}

// abandon records that an allocation was not bound and never will be. It releases its assumption.
func (x *index) abandon(name types.NamespacedName) {
	x.endAttempt(name, func(ns *namespace, w *pending) {
		ns.removePending(w)
		if w.assumedParent != nil {
			ns.release(w.uid)
		}
	})
}

// endAttempt makes an allocation no longer wait for anything, and calls f for its entry.
func (x *index) endAttempt(name types.NamespacedName, f func(*namespace, *pending)) {
	x.inNamespacesOf(name, func(ns *namespace) {
		delete(ns.awaited, name.Name)
		if w := ns.pending[name]; w != nil {
			ns.stopWaiting(w)
			f(ns, w)
		}
	})
}

// forgetAssumed releases the assumed prefix of an allocation whose binding failed.
func (x *index) forgetAssumed(name types.NamespacedName) {
	x.inNamespacesOf(name, func(ns *namespace) {
		if w := ns.pending[name]; w != nil && w.assumedParent != nil {
			w.assumedParent = nil
			ns.release(w.uid)
		}
	})
}

// recordRefusal records that the server refused a binding although the prefix is free. The prefix is released for other
// allocations, and this allocation does not get it again. If whole is set, it does not get any prefix of this parent.
func (x *index) recordRefusal(name types.NamespacedName, assumed assumption, whole bool, words string) {
	ns := x.lock(assumed.parent.Namespace)
	defer x.unlock(ns)
	w := ns.pending[name]
	if w == nil || w.assumedParent == nil {
		return
	}
	r := refusedBinding{assumed.parent.Name, assumed.parentUID, assumed.prefix, text.Cut(words, maxWords)}
	if whole {
		r.prefix = netip.Prefix{}
	}
	if len(w.refusedBindings) >= maxRefusedBindings {
		w.refusedBindings = nil
	}
	w.refusedBindings = append(w.refusedBindings, r)
	w.assumedParent = nil
	ns.release(w.uid)
}

// forgetRefusals clears the refusals of an allocation if no other prefix is left for it, so that all are tried again.
func (x *index) forgetRefusals(c candidate) {
	ns := x.lock(c.parentNamespace)
	defer x.unlock(ns)
	w := ns.pending[c.name]
	if w == nil || w.uid != c.uid || len(w.refusedBindings) == 0 || w.assumedParent != nil {
		return
	}
	w = ns.beginAttempt(c)
	if _, _, ok := ns.choose(w); !ok {
		w.refusedBindings = nil
	}
}

// refusedVerdict returns the verdict for an allocation that the server refused too often in one attempt. Other prefixes may be
// left; they are tried later.
func (x *index) refusedVerdict(c candidate) *verdict {
	ns := x.lock(c.parentNamespace)
	defer x.unlock(ns)
	w := ns.beginAttempt(c)
	v := &verdict{reason: v1alpha1.ReasonRefused, request: c.request}
	// Report the latest refusal of each parent, newest first.
	for _, r := range slices.Backward(w.refusedBindings) {
		if p := ns.parents[r.parentName]; p != nil && p.uid == r.parent && len(v.misfits) < maxNamed &&
			!slices.ContainsFunc(v.misfits, func(other misfit) bool { return other.parent == p }) {
			v.misfits = append(v.misfits, misfit{parent: p, kind: refused, name: w.tenant.nameOf(ns, p), prefix: p.prefix, words: r.words})
		}
	}
	if len(v.misfits) == 0 {
		v.words = "The API server refused the binding"
	}
	return v
}

// assume finds a free prefix for a candidate and assumes it. If there is none, it returns the reason, and the candidate
// waits for an event that may free space, unless the verdict is final. A candidate that already has an assumption gets
// the same prefix again, because an earlier binding may have succeeded without an answer.
func (x *index) assume(c candidate) (assumption, *verdict) {
	missing := c.isForeign() && x.awaitRequester(&c)
	ns := x.lock(c.parentNamespace)
	defer x.unlock(ns)
	w := ns.beginAttempt(c)
	rewrite := w.stale
	w.stale = false

	if held, ok := ns.holders[c.uid]; ok {
		p := held.parent
		prefix, _ := p.ledger.Get(c.uid)
		return ns.assumptionOf(p, prefix), nil
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
			return assumption{}, &verdict{reason: v1alpha1.ReasonRequesterNotFound, early: time.Since(w.missed) < requesterGracePeriod,
				words: fmt.Sprintf("This PrefixAllocation was created for Prefix %s with uid %s, which does not exist", r.name, r.uid)}
		}
	}
	w.missed = time.Time{}
	p, prefix, ok := ns.choose(w)
	if ok {
		ns.assume(w, p, prefix)
		ns.refreshCounts(p)
		return ns.assumptionOf(p, prefix), nil
	}
	why := ns.explain(w)
	why.rewrite = rewrite
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
	ns := x.lock(c.parentNamespace)
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
