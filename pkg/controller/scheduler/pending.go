// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
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
	// parentNamespace is the namespace of the parents.
	parentNamespace string
	// ref is the name of the requested parent. If it is empty, selector selects the parents. key is the selector as a
	// string.
	ref, key string
	selector labels.Selector
}

// isForeign reports whether the parents are in another namespace.
func (c *candidate) isForeign() bool { return c.parentNamespace != c.name.Namespace }

type requesterRef struct {
	name string
	uid  types.UID
}

// pending is an allocation that is not allocated yet. It waits, or a prefix is assumed for it, or a worker processes it.
type pending struct {
	candidate
	tenant *tenant
	// number is the position in the order in which the scheduler first saw the allocations.
	number uint64
	// assumedParent is the parent of the assumed prefix, if there is one, until the informer shows the binding.
	assumedParent *parent
	// target is set while the allocation waits. size is also set then, unless it requests a specific prefix.
	target *target
	size   *sizeCount
	// reason is the reason of the message while the allocation waits, and explainedBy has the parents that the message names.
	reason      string
	explainedBy []*parent
	// stale is set when the message must be rebuilt.
	stale bool
	// refusedBindings holds the bindings that the server refused although the prefix was free.
	refusedBindings []refusedBinding
	// waitsForRequester is set while the Prefix that the allocation was created for is unknown. missed is the time
	// since when it is.
	waitsForRequester bool
	missed            time.Time
}

// refusedBinding is a binding that the server refused. Without a valid prefix it stands for all prefixes of the parent.
type refusedBinding struct {
	parentName string
	parent     types.UID
	prefix     netip.Prefix
	words      string
}

// maxRefusedBindings is the maximum number of refused bindings that are kept for an allocation. When it is reached, the list is
// cleared and all prefixes are tried again.
const maxRefusedBindings = 64

// matches reports whether the target names the parent, or its selector selects it.
func (t *target) matches(p *parent) bool {
	if t.scope.Selector == nil {
		return t.ref == p.name && t.scope.sees(&p.prefixState)
	}
	return t.scope.matches(&p.prefixState) && !p.isCovered(t.scope)
}

// isFor reports whether the allocation was created for p. A Prefix cannot be its own parent.
func (c *candidate) isFor(p *parent) bool {
	return c.requester != nil && c.requester.name == p.name && c.requester.uid == p.uid
}

// before orders allocations by age. Creation timestamps are in whole seconds, so the number breaks ties.
func before(a, b *pending) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.number, b.number))
}

// beginAttempt returns the entry of an allocation and updates its candidate. It creates the entry if there is none. The
// allocation no longer waits afterwards.
func (ns *namespace) beginAttempt(c candidate) *pending {
	w := ns.pending[c.name]
	if w != nil {
		// Call this before the candidate changes: the old values are needed to find the entries in the summaries.
		ns.stopWaiting(w)
	}
	if w == nil || w.uid != c.uid {
		ns.removePending(w)
		ns.lastNumber++
		w = &pending{number: ns.lastNumber, tenant: ns.tenant(c.name.Namespace)}
		w.tenant.pending++
		ns.pending[c.name] = w
		if c.isForeign() {
			ns.index.mu.Lock()
			ns.index.parentNamespaces[c.name] = ns.name
			ns.index.mu.Unlock()
		}
	}
	w.candidate = c
	return w
}

// removePending removes an entry that does not wait, if it is not nil.
func (ns *namespace) removePending(w *pending) {
	if w == nil {
		return
	}
	delete(ns.pending, w.name)
	if w.isForeign() {
		ns.index.mu.Lock()
		if ns.index.parentNamespaces[w.name] == ns.name {
			delete(ns.index.parentNamespaces, w.name)
		}
		ns.index.mu.Unlock()
	}
	if w.tenant.pending--; w.tenant.pending == 0 {
		delete(ns.tenants, w.tenant.namespace)
	}
}

// wait adds an allocation to the waiting ones. If it is one of another namespace with too many selectors, it is tried again
// later instead: each change of a Prefix costs time for each selector.
func (ns *namespace) wait(w *pending, why *verdict) {
	t := w.tenant
	targets, key := t.byName, w.ref
	if w.ref == "" {
		targets, key = t.bySelector, w.key
	}
	if targets[key] == nil {
		if t.foreign && w.ref == "" && len(t.bySelector) >= maxSelectors {
			ns.index.refresh(w.name, max(retryDelay, t.retries.Reserve().Delay()))
			return
		}
		targets[key] = &target{ref: w.ref, scope: scope{w.selector, t.viewer}}
	}
	w.target = targets[key]
	w.target.count++

	if w.request.Prefix.IsValid() {
		i, _ := slices.BinarySearchFunc(t.exact, w.request.Prefix, netip.Prefix.Compare)
		t.exact = slices.Insert(t.exact, i, w.request.Prefix)
	} else {
		of := size{w.request.Family, w.request.Bits}
		if w.size = t.sizes[of]; w.size == nil {
			w.size = &sizeCount{size: of}
			t.sizes[of] = w.size
		}
		w.size.count++
	}

	w.reason = why.reason
	for _, r := range why.misfits {
		w.explainedBy = append(w.explainedBy, r.parent)
		r.parent.messages++
		r.parent.currentMessages++
	}
	i, _ := slices.BinarySearchFunc(t.waiting, w, before)
	t.waiting = slices.Insert(t.waiting, i, w)
}

// stopWaiting removes allocations from the waiting ones and from those that wait for a requester. It does nothing for those
// that do not wait.
func (ns *namespace) stopWaiting(of ...*pending) {
	left := map[*tenant][]*pending{}
	for _, w := range of {
		if ns.leave(w) {
			left[w.tenant] = append(left[w.tenant], w)
		}
	}
	for t, gone := range left {
		if len(gone) == 1 {
			if i, found := slices.BinarySearchFunc(t.waiting, gone[0], before); found {
				t.waiting = slices.Delete(t.waiting, i, i+1)
			}
			continue
		}
		t.waiting = slices.DeleteFunc(t.waiting, func(w *pending) bool { return w.target == nil })
	}
}

// leave removes an allocation from the summaries of the waiting ones, and from those that wait for a requester. It reports
// whether it was waiting.
func (ns *namespace) leave(w *pending) bool {
	if w.waitsForRequester {
		w.waitsForRequester = false
		delete(ns.waitingForRequester[w.requester.name], w)
		if len(ns.waitingForRequester[w.requester.name]) == 0 {
			delete(ns.waitingForRequester, w.requester.name)
		}
	}
	if w.target == nil {
		return false
	}
	t := w.tenant
	if w.target.count--; w.target.count == 0 {
		if w.ref != "" {
			delete(t.byName, w.ref)
		} else {
			delete(t.bySelector, w.key)
		}
	}
	if w.size == nil {
		if i, found := slices.BinarySearchFunc(t.exact, w.request.Prefix, netip.Prefix.Compare); found {
			t.exact = slices.Delete(t.exact, i, i+1)
		}
	} else if w.size.count--; w.size.count == 0 {
		delete(t.sizes, w.size.size)
	}
	for _, p := range w.explainedBy {
		if p.messages--; !w.stale {
			p.currentMessages--
		}
		ns.tidy(p)
	}
	w.target, w.size, w.explainedBy = nil, nil, nil
	return true
}

// waitForRequester makes an allocation wait for an event of the Prefix that it was created for.
func (ns *namespace) waitForRequester(w *pending) {
	w.waitsForRequester = true
	if ns.waitingForRequester[w.requester.name] == nil {
		ns.waitingForRequester[w.requester.name] = map[*pending]struct{}{}
	}
	ns.waitingForRequester[w.requester.name][w] = struct{}{}
}

// prefixFor returns the prefix that an allocation would get from the parent now. It reports false if there is none.
func (p *parent) prefixFor(w *pending) (netip.Prefix, bool) {
	r := w.request
	if !p.usable() || !w.tenant.sees(&p.prefixState) || !r.Fits(p.prefix) || !p.rules.Allow(r.Bits) || w.isFor(p) {
		return netip.Prefix{}, false
	}
	var except []netip.Prefix
	for _, refused := range w.refusedBindings {
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

// assume makes an allocation hold a prefix of a parent in the index, before the API does.
func (ns *namespace) assume(w *pending, p *parent, prefix netip.Prefix) {
	p.ledger.Hold(w.uid, prefix)
	ns.holders[w.uid] = holder{parent: p, name: w.name.Name}
	w.assumedParent = p
}
