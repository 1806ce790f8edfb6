// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	"github.com/ironcore-dev/ipam-apiserver/pkg/policy"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

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
	// lastNumber is the last number given to a pending allocation.
	lastNumber uint64
	// tenants holds the namespaces of the pending allocations.
	tenants map[string]*tenant
	// lastServe is the number of calls of serve, and lastTurn that of the assumptions that they made.
	lastServe, lastTurn uint64
	// waitingForRequester holds the allocations that wait for the Prefix they were created for, by the name of that Prefix.
	waitingForRequester map[string]map[*pending]struct{}
	// awaited is the same for allocations of this namespace that ask for parents of another one, by the name of the
	// allocation.
	awaited map[string]requesterRef
	// shared holds the parents that are shared with any other namespace.
	shared map[*parent]struct{}
	// selections caches the parents that each selector selects, by selector. lastUse counts the lookups and orders the
	// selections by last use.
	selections map[string]*selection
	lastUse    uint64
}

// holder is an allocation that holds space in a parent.
type holder struct {
	parent *parent
	name   string
	// learned is set if it is known only from a refusal of the server, and not from the informer.
	learned bool
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
func (ns *namespace) update(p *parent, now prefixState, up *parent) (below revealed) {
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

	for w := range ns.waitingForRequester[p.name] {
		if w.requester.uid == p.uid {
			ns.stopWaiting(w)
			ns.index.wake(w.name)
		}
	}
	for name, requester := range ns.awaited {
		if requester.name == p.name && requester.uid == p.uid {
			delete(ns.awaited, name)
			ns.index.wake(types.NamespacedName{Namespace: ns.name, Name: name})
		}
	}
	ns.serve(p, netip.Prefix{}, nil)
	if below.targets = ns.refreshWords(p, &before, beforeUp); len(below.targets) > 0 {
		below.children = p.children(nil)
	}
	ns.tidy(beforeUp)
	return below
}

// drop removes an allocation from the pending ones.
func (ns *namespace) drop(name types.NamespacedName, uid types.UID) {
	if w := ns.pending[name]; w != nil && w.uid == uid {
		ns.stopWaiting(w)
		ns.removePending(w)
	}
}

// release frees the space of an allocation and serves the allocations that wait for it.
func (ns *namespace) release(uid types.UID) {
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
	ns.serve(p, freed, nil)
	// If a waiting allocation took exactly the freed space, the counts in the messages are still correct. Freed space that
	// is reserved does not change the counts, but may change the reason.
	if hi, lo := p.pool().FreeAddresses128(); hi != freeHi || lo != freeLo || p.pool().Reserved() != nil {
		ns.refreshCounts(p)
	}
	ns.refreshHolders(p, freed)
}

func (ns *namespace) assumptionOf(p *parent, prefix netip.Prefix) assumption {
	return assumption{types.NamespacedName{Namespace: ns.name, Name: p.name}, p.uid, prefix}
}

// misses reports whether the Prefix that an allocation was created for is not known.
func (ns *namespace) misses(r *requesterRef) bool {
	p := ns.parents[r.name]
	return p == nil || p.uid != r.uid
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
func (ns *namespace) choose(w *pending) (best *parent, prefix netip.Prefix, ok bool) {
	var bestScore Score
	var bestRefused int
	r := w.request
	parents := ns.parentsFor(w)
	// Scores of different strategies cannot be compared. The strategy of the oldest policy counts for all parents.
	var oldest *policy.Rules
	for _, p := range parents {
		oldest = policy.Older(oldest, p.rules)
	}
	scoreOf := scoreOf(oldest.Strategy(), ns.index.score)
	for _, p := range parents {
		if !p.usable() || !r.Fits(p.prefix) || !p.rules.Allow(r.Bits) || w.isFor(p) {
			continue
		}
		times := 0
		switch {
		case len(w.refusedBindings) > 0:
			if _, ok := p.prefixFor(w); !ok {
				continue
			}
			for _, refused := range w.refusedBindings {
				if refused.parent == p.uid {
					times++
				}
			}
		case r.Prefix.IsValid():
			if _, ok := p.prefixFor(w); !ok {
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
	prefix, ok = best.prefixFor(w)
	return best, prefix, ok
}

// explain returns why there is no free prefix for an allocation.
func (ns *namespace) explain(w *pending) *verdict {
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
		return ns.conclude(w, parents)
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
