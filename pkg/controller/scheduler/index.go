// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// index is what the scheduler knows: every Prefix that can be a parent, who holds what of it, and
// which allocations wait for what. It is safe for concurrent use.
type index struct {
	// wake is called for an allocation that may have become schedulable, with the lock held.
	wake func(types.NamespacedName)
	// score is how good a parent is, more is better, of those that can hold the request.
	score Strategy

	mu         sync.Mutex
	namespaces map[string]*namespace
}

// namespace is the index of one namespace: nothing reaches across.
type namespace struct {
	// parents is by name. There is an entry for a Prefix that does not exist as long as something
	// is held by its name.
	parents map[string]*parent
	// holders tells from which parent an allocation holds space.
	holders map[types.UID]string
	// assumed is what a place was reserved for, by name, until the API says so too.
	assumed map[string]types.UID
	// waiting is what could not be scheduled.
	waiting waiting
	// selections are what the selectors of candidates select, by selector, and uses counts their uses.
	selections map[string]*selection
	uses       uint64
}

// parent is a Prefix that prefixes can be allocated from.
type parent struct {
	// uid is empty while there is no such Prefix.
	uid      types.UID
	labels   labels.Set
	prefix   netip.Prefix
	ready    bool
	deleting bool
	// ledger has what is allocated from it, and what is assumed to be.
	ledger *allocator.Ledger[types.UID]
}

// candidate is an allocation that wants to be scheduled.
type candidate struct {
	name     types.NamespacedName
	uid      types.UID
	request  request.Request
	ref      string
	selector labels.Selector
}

// assumption is a place for a candidate that is taken in the index, but not yet in the API.
type assumption struct {
	parent    string
	parentUID types.UID
	prefix    netip.Prefix
}

// verdict tells why a candidate cannot be scheduled.
type verdict struct {
	reason, message string
	// final is set if it never can.
	final bool
}

func newIndex(score Strategy, wake func(types.NamespacedName)) *index {
	return &index{wake: wake, score: score, namespaces: map[string]*namespace{}}
}

func (x *index) namespace(name string) *namespace {
	ns := x.namespaces[name]
	if ns == nil {
		ns = &namespace{
			parents:    map[string]*parent{},
			holders:    map[types.UID]string{},
			assumed:    map[string]types.UID{},
			waiting:    newWaiting(),
			selections: map[string]*selection{},
		}
		x.namespaces[name] = ns
	}
	return ns
}

func (ns *namespace) parent(name string) *parent {
	p := ns.parents[name]
	if p == nil {
		p = &parent{ledger: allocator.NewLedger[types.UID]()}
		ns.parents[name] = p
	}
	return p
}

// tidy drops what says nothing any more.
func (x *index) tidy(nsName, parentName string) {
	ns := x.namespaces[nsName]
	if p := ns.parents[parentName]; p != nil && p.uid == "" && p.ledger.Len() == 0 {
		delete(ns.parents, parentName)
	}
	if len(ns.parents) == 0 && len(ns.holders) == 0 && len(ns.waiting.byName) == 0 {
		delete(x.namespaces, nsName)
	}
}

// setPrefix takes in a Prefix as it is now.
func (x *index) setPrefix(_, obj *v1alpha1.Prefix) {
	prefix, err := request.ParsePrefix(obj.Spec.Prefix)
	now := parent{
		uid:      obj.UID,
		labels:   obj.Labels,
		prefix:   prefix,
		ready:    err == nil && obj.Status.Phase == v1alpha1.PrefixPhaseAllocated,
		deleting: obj.DeletionTimestamp != nil,
	}

	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(obj.Namespace)
	p := ns.parent(obj.Name)
	// What the name is a part of is there for it only, unless it is that of the newest version of the object.
	ns.parents[obj.Name] = p
	before := *p
	if before.uid == now.uid && before.prefix == now.prefix && before.ready == now.ready &&
		before.deleting == now.deleting && labels.Equals(before.labels, now.labels) {
		// What they are a part of stays in memory with them: it should be the newest version of the object, which does anyway.
		p.uid, p.labels = now.uid, now.labels
		return
	}
	p.uid, p.labels, p.prefix, p.ready, p.deleting = now.uid, now.labels, now.prefix, now.ready, now.deleting
	if before.uid != now.uid || before.prefix != now.prefix {
		// The pool is made anew, from what is held by this name.
		p.ledger.UnsetPrefix()
	}
	ns.changed(obj.Name)
	ns.waiting.leave(x.wake, obj.Name, nil, before.labels, now.labels)
}

// deletePrefix takes in that a Prefix is gone.
func (x *index) deletePrefix(name types.NamespacedName, uid types.UID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(name.Namespace)
	defer x.tidy(name.Namespace, name.Name)
	p := ns.parents[name.Name]
	if p == nil || p.uid != uid {
		return
	}
	before := p.labels
	*p = parent{ledger: p.ledger}
	p.ledger.UnsetPrefix()
	ns.changed(name.Name)
	ns.waiting.leave(x.wake, name.Name, nil, before)
}

// hold takes in that an allocation holds a prefix of a parent, according to the API. It reports
// whether this was news.
func (x *index) hold(name types.NamespacedName, uid types.UID, parentName string, prefix netip.Prefix) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(name.Namespace)
	if held, ok := ns.holders[uid]; ok {
		if assumed, _ := ns.parent(held).ledger.Get(uid); held != parentName || assumed != prefix {
			// It was assumed to hold something else, which others may wait for.
			x.release(name.Namespace, ns, uid)
			ns = x.namespace(name.Namespace)
		}
	}
	if ns.assumed[name.Name] == uid {
		delete(ns.assumed, name.Name)
	}
	ns.holders[uid] = parentName
	if !ns.parent(parentName).ledger.Hold(uid, prefix) {
		return false
	}
	ns.changed(parentName)
	return true
}

// forget takes in that an allocation is gone.
func (x *index) forget(name types.NamespacedName, uid types.UID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(name.Namespace)
	if ns.assumed[name.Name] == uid {
		delete(ns.assumed, name.Name)
	}
	x.release(name.Namespace, ns, uid)
}

// forgetAssumed takes in that what was assumed of an allocation did not come true.
func (x *index) forgetAssumed(name types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(name.Namespace)
	uid, ok := ns.assumed[name.Name]
	if ok {
		delete(ns.assumed, name.Name)
		x.release(name.Namespace, ns, uid)
	}
	x.tidy(name.Namespace, "")
}

func (x *index) release(nsName string, ns *namespace, uid types.UID) {
	name, ok := ns.holders[uid]
	defer x.tidy(nsName, name)
	if !ok {
		return
	}
	delete(ns.holders, uid)
	p := ns.parents[name]
	if p == nil || !p.ledger.Release(uid) {
		return
	}
	ns.changed(name)
	if p.usable() {
		ns.waiting.leave(x.wake, name, func(c candidate) bool { return p.room(c.request) }, p.labels)
	}
}

// stopWaiting takes in that an allocation does not want to be scheduled any more.
func (x *index) stopWaiting(name types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ns := x.namespaces[name.Namespace]; ns != nil {
		ns.waiting.remove(name.Name)
		x.tidy(name.Namespace, "")
	}
}

// reserve finds a place for a candidate and takes it. Otherwise the candidate waits until something
// happens that may make room for it. A candidate that a place was reserved for before gets the same
// one again: whether the binding to it went through may not be known.
func (x *index) reserve(c candidate) (assumption, *verdict) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(c.name.Namespace)
	ns.waiting.remove(c.name.Name)

	if name, ok := ns.holders[c.uid]; ok {
		p := ns.parents[name]
		prefix, _ := p.ledger.Get(c.uid)
		return assumption{name, p.uid, prefix}, nil
	}

	name, why := x.choose(ns, c)
	if why != nil {
		if !why.final {
			ns.waiting.add(c)
		}
		x.tidy(c.name.Namespace, c.ref)
		return assumption{}, why
	}
	p := ns.parents[name]
	prefix := c.request.Prefix
	if !prefix.IsValid() {
		prefix, _ = p.pool().Find(c.request.Bits)
	}
	p.ledger.Hold(c.uid, prefix)
	ns.changed(name)
	ns.holders[c.uid] = name
	ns.assumed[c.name.Name] = c.uid
	return assumption{name, p.uid, prefix}, nil
}

// choose filters the parents that the candidate may be allocated from, and returns the best of
// those that are left.
func (x *index) choose(ns *namespace, c candidate) (string, *verdict) {
	var names []string
	if c.ref != "" {
		if p := ns.parents[c.ref]; p == nil || p.uid == "" {
			return "", &verdict{reason: v1alpha1.ReasonParentNotFound, message: fmt.Sprintf("Prefix %s does not exist", c.ref)}
		}
		names = []string{c.ref}
	} else {
		selected := ns.selection(c.selector)
		if len(selected.parents) == 0 {
			return "", &verdict{reason: v1alpha1.ReasonNoMatchingParent, message: fmt.Sprintf("No Prefix matches the selector %q", c.selector)}
		}
		if !c.request.Prefix.IsValid() {
			if best, ok := selected.best(x.score, c.request); ok {
				return best, nil
			}
		}
		// By name, so that equals are chosen from, and complained about, in a stable order.
		names = slices.Sorted(maps.Keys(selected.parents))
	}

	var best string
	var refusals []refusal
	for _, name := range names {
		p := ns.parents[name]
		if r := p.filter(name, c.request); r != nil {
			refusals = append(refusals, *r)
			continue
		}
		if best == "" || x.score(p.pool(), c.request).Cmp(x.score(ns.parents[best].pool(), c.request)) > 0 {
			best = name
		}
	}
	if best != "" {
		return best, nil
	}
	return "", conclude(refusals, c.ref != "")
}

// refusal tells why one parent cannot hold a request.
type refusal struct{ reason, message string }

// filters are asked in this order; the first that refuses decides.
var filters = []func(p *parent, r request.Request) (reason, why string){
	func(p *parent, _ request.Request) (string, string) {
		if p.deleting {
			return v1alpha1.ReasonParentNotReady, "is being deleted"
		}
		return "", ""
	},
	func(p *parent, r request.Request) (string, string) {
		// A parent that is Pending may know its prefix already.
		if !p.prefix.IsValid() {
			return "", ""
		}
		if why, ok := r.FitsIn(p.prefix); !ok {
			return v1alpha1.ReasonNoSuitableParent, why
		}
		return "", ""
	},
	func(p *parent, _ request.Request) (string, string) {
		if !p.ready {
			return v1alpha1.ReasonParentNotReady, "is not allocated itself yet"
		}
		return "", ""
	},
	func(p *parent, r request.Request) (string, string) {
		if !r.Prefix.IsValid() {
			return "", ""
		}
		if holder, ok := p.pool().Overlapping(r.Prefix); ok {
			return v1alpha1.ReasonPrefixInUse, fmt.Sprintf("has %s in use, which overlaps %s", holder, r.Prefix)
		}
		return "", ""
	},
	func(p *parent, r request.Request) (string, string) {
		if !p.room(r) {
			return v1alpha1.ReasonParentExhausted, fmt.Sprintf("has no room for %s", r)
		}
		return "", ""
	},
}

func (p *parent) filter(name string, r request.Request) *refusal {
	for _, f := range filters {
		if reason, why := f(p, r); reason != "" {
			if p.prefix.IsValid() {
				name = fmt.Sprintf("%s (%s)", name, p.prefix)
			}
			return &refusal{reason, fmt.Sprintf("%s %s", name, why)}
		}
	}
	return nil
}

// maxRefusals is how many parents a message names.
const maxRefusals = 5

// conclude makes one verdict of what the parents said: the one that leaves most hope, and the
// messages of all.
func conclude(refusals []refusal, named bool) *verdict {
	hope := []string{v1alpha1.ReasonNoSuitableParent, v1alpha1.ReasonParentNotReady, v1alpha1.ReasonPrefixInUse, v1alpha1.ReasonParentExhausted}
	v := &verdict{}
	var messages []string
	for i, r := range refusals {
		if slices.Index(hope, r.reason) > slices.Index(hope, v.reason) {
			v.reason = r.reason
		}
		if i < maxRefusals {
			messages = append(messages, r.message)
		}
	}
	v.message = strings.Join(messages, "; ")
	if more := len(refusals) - maxRefusals; more > 0 {
		v.message += fmt.Sprintf("; and %d more", more)
	}
	// A parent that was named is the only one there ever will be, and its prefix does not change.
	v.final = named && v.reason == v1alpha1.ReasonNoSuitableParent
	return v
}

// usable reports whether anything can be allocated from the parent at all.
func (p *parent) usable() bool { return p.uid != "" && p.ready && !p.deleting }

// room reports whether the request fits into what is free. The parent must be usable.
func (p *parent) room(r request.Request) bool {
	if _, ok := r.FitsIn(p.prefix); !ok {
		return false
	}
	if r.Prefix.IsValid() {
		_, overlaps := p.pool().Overlapping(r.Prefix)
		return !overlaps
	}
	_, ok := p.pool().Find(r.Bits)
	return ok
}

// pool returns the free space of a parent whose prefix is known. Most Prefixes never are a parent,
// so it is made when it is first asked for.
func (p *parent) pool() *allocator.Pool {
	if p.ledger.Pool() == nil {
		if err := p.ledger.SetPrefix(p.prefix); err != nil {
			// The API server lets no such prefix pass. Nothing can be allocated from it.
			return &allocator.Pool{}
		}
	}
	return p.ledger.Pool()
}

// waitingIn returns the names of what waits in a namespace, sorted.
func (x *index) waitingIn(nsName string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ns := x.namespaces[nsName]; ns != nil {
		return slices.Sorted(maps.Keys(ns.waiting.byName))
	}
	return nil
}
