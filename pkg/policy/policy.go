// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package policy finds the rules that PrefixPolicies set for a Prefix. The controllers choose by them, and kubectl ipam explains
// them. The API server enforces them: see Rules in registry/ipam/prefixpolicy.
package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Rules are what all policies that select a Prefix say together. They are immutable. Prefixes that the same policies
// select mostly share one Rules until one of these policies changes, so equal pointers mean equal rules. A nil Rules has
// no rules.
type Rules struct {
	// reserved is the reserved space of the one policy that the rules come from. Those of several policies are in
	// Policies.Reserved, because they could take much memory: there may be as many combinations of policies as Prefixes.
	reserved    *allocator.Reserved
	hasReserved bool
	// combination tells which policies the rules come from, if there are several.
	combination combination
	lengths     cidr.Lengths
	closed      bool
	coolDown    time.Duration
	// shared has what each policy shares the Prefix with.
	shared []*sharing
	// strategy is empty if no policy has one.
	strategy v1alpha1.PrefixStrategy
	// by is the policy that has the strategy.
	by origin
	// differing is the oldest policy that has another strategy, which is other. It has no name if all agree.
	differing origin
	other     v1alpha1.PrefixStrategy
}

// origin is the name of a policy and when it was created.
type origin struct {
	created time.Time
	name    string
}

func (o origin) compare(other origin) int {
	return cmp.Or(o.created.Compare(other.created), strings.Compare(o.name, other.name))
}

// sharing is what one policy shares Prefixes with.
type sharing struct {
	all        bool
	namespaces map[string]bool
	// selector is nil if there is none.
	selector labels.Selector
}

func sharingOf(spec *v1alpha1.PrefixSharing) *sharing {
	s := &sharing{all: spec.All, namespaces: make(map[string]bool, len(spec.Namespaces))}
	for _, name := range spec.Namespaces {
		s.namespaces[name] = true
	}
	if spec.NamespaceSelector != nil {
		// The API server refuses a selector that cannot be parsed.
		s.selector, _ = metav1.LabelSelectorAsSelector(spec.NamespaceSelector)
	}
	return s
}

// IsShared reports whether children of any other namespaces may be allocated.
func (r *Rules) IsShared() bool { return r != nil && len(r.shared) > 0 }

// SharedWith reports whether children of another namespace may be allocated. set has the labels of that namespace. It is
// nil if they are not known; then no selector matches.
func (r *Rules) SharedWith(namespace string, set labels.Set) bool {
	return r != nil && slices.ContainsFunc(r.shared, func(s *sharing) bool {
		return s.all || s.namespaces[namespace] || s.selector != nil && set != nil && s.selector.Matches(set)
	})
}

// Closed reports whether nothing new may be allocated.
func (r *Rules) Closed() bool { return r != nil && r.closed }

// CoolDown returns for how long the space of a child that is gone is kept for one of the same name. It is 0 if it is not.
func (r *Rules) CoolDown() time.Duration {
	if r == nil {
		return 0
	}
	return r.coolDown
}

// Lengths returns the prefix lengths that may be allocated.
func (r *Rules) Lengths() cidr.Lengths {
	if r == nil {
		return cidr.Lengths{}
	}
	return r.lengths
}

// Allow reports whether a prefix of a length may be allocated.
func (r *Rules) Allow(bits int) bool { return r == nil || !r.closed && r.lengths.Allow(bits) }

// Strategy returns the strategy, or "" if no policy has one.
func (r *Rules) Strategy() v1alpha1.PrefixStrategy {
	if r == nil {
		return ""
	}
	return r.strategy
}

// Conflict says which policies have different strategies. It returns "" if they agree.
func (r *Rules) Conflict() string {
	if r == nil || r.differing.name == "" {
		return ""
	}
	return fmt.Sprintf("PrefixPolicy %s has strategy %s, but PrefixPolicy %s has %s. The oldest counts, %s",
		r.by.name, r.strategy, r.differing.name, r.other, r.by.name)
}

// Older returns the rules whose strategy comes from the older policy. Rules without a strategy are never older.
func Older(a, b *Rules) *Rules {
	if b.Strategy() == "" || a.Strategy() != "" && a.by.compare(b.by) <= 0 {
		return a
	}
	return b
}

// HasReserved reports whether there is space that is not chosen automatically.
func (r *Rules) HasReserved() bool { return r != nil && r.hasReserved }

// ReservedOf returns the space that reservations mean, or nil if there is none. It ignores what the API server would refuse.
func ReservedOf(reservations ...v1alpha1.PrefixReservation) *allocator.Reserved {
	var prefixes []netip.Prefix
	edges := false
	for i := range reservations {
		reservation := &reservations[i]
		if prefix, err := cidr.ParseStored(reservation.CIDR); err == nil {
			prefixes = append(prefixes, prefix)
		}
		if covered, err := cidr.ParseRange(reservation.From, reservation.To); err == nil {
			prefixes = append(prefixes, covered...)
		}
		edges = edges || reservation.Edges
	}
	return allocator.NewReserved(prefixes, edges)
}

// RulesOf returns the rules of one policy. It ignores what the API server would refuse.
func RulesOf(policy *v1alpha1.PrefixPolicy) *Rules {
	spec := &policy.Spec
	reserved := ReservedOf(spec.Reserved...)
	rules := &Rules{
		reserved: reserved, hasReserved: reserved != nil, closed: spec.Closed,
		strategy: spec.Strategy, by: origin{policy.CreationTimestamp.Time, policy.Name},
	}
	if spec.CoolDown != nil {
		rules.coolDown = spec.CoolDown.Duration
	}
	if spec.SharedWith != nil {
		rules.shared = []*sharing{sharingOf(spec.SharedWith)}
	}
	if lengths := spec.ChildLengths; lengths != nil {
		rules.lengths = cidr.Lengths{Min: int(lengths.Min), Max: int(lengths.Max)}
	}
	return rules
}

// together returns the rules of several policies, oldest first.
func together(all []*policy) *Rules {
	result := &Rules{combination: combinationOf(all)}
	for _, one := range all {
		rules := one.rules
		result.hasReserved = result.hasReserved || rules.hasReserved
		result.lengths = result.lengths.And(rules.lengths)
		result.closed = result.closed || rules.closed
		result.coolDown = max(result.coolDown, rules.coolDown)
		switch {
		case len(result.shared) == 1 && result.shared[0].all:
		case len(rules.shared) == 1 && rules.shared[0].all:
			result.shared = rules.shared
		default:
			result.shared = append(result.shared, rules.shared...)
		}
		switch {
		case rules.strategy == "":
		case result.strategy == "":
			result.strategy, result.by = rules.strategy, rules.by
		case result.strategy != rules.strategy && result.differing.name == "":
			result.differing, result.other = rules.by, rules.strategy
		}
	}
	return result
}

// combination is a set of policies of one namespace: a string of bits, one for each slot. It takes an eighth of a byte for
// each policy that there is.
type combination string

func combinationOf(policies []*policy) combination {
	highest := 0
	for _, one := range policies {
		highest = max(highest, one.slot)
	}
	bits := make([]byte, highest/8+1)
	for _, one := range policies {
		bits[one.slot/8] |= 1 << (one.slot % 8)
	}
	return combination(bits)
}

// has reports whether the policy with the given slot is in the combination.
func (c combination) has(slot int) bool { return slot/8 < len(c) && c[slot/8]&(1<<(slot%8)) != 0 }

// Policies holds the policies of one namespace. The zero value has none. It is not safe for concurrent use.
type Policies struct {
	byName map[string]*policy
	// byLabel holds the policies whose selectors require one value of a label, by one such label. others holds the other
	// policies. So For does not try the policies for other labels.
	byLabel map[label]map[string]*policy
	others  map[string]*policy
	// slots numbers the policies. A slot that is nil is free.
	slots []*policy
	// combined caches the rules of several policies, at most maxCombined of them.
	combined map[combination]*Rules
}

// maxCombined is the maximum number of combinations of policies whose rules are kept. Of more, Prefixes with the same
// policies may have several Rules that are the same.
const maxCombined = 1024

type label struct{ key, value string }

type policy struct {
	origin
	// slot is the index of the policy in Policies.slots.
	slot       int
	uid        types.UID
	generation int64
	selector   labels.Selector
	// required is a label that the selector requires. It is nil if there is none.
	required *label
	rules    *Rules
}

// Len returns the number of policies.
func (p *Policies) Len() int { return len(p.byName) }

// Set records the current state of a policy. It returns the selectors of the Prefixes whose rules may have changed, and
// none if nothing changed.
func (p *Policies) Set(obj *v1alpha1.PrefixPolicy) (affected []labels.Selector) {
	was := p.byName[obj.Name]
	if was != nil && was.uid == obj.UID && was.generation == obj.Generation {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(obj.Spec.PrefixSelector)
	if err != nil {
		// The API server refuses such selectors.
		selector = labels.Nothing()
	}
	is := &policy{
		origin: origin{obj.CreationTimestamp.Time, obj.Name}, uid: obj.UID, generation: obj.Generation,
		selector: selector, rules: RulesOf(obj),
	}
	if obj.Spec.PrefixSelector != nil {
		for _, key := range slices.Sorted(maps.Keys(obj.Spec.PrefixSelector.MatchLabels)) {
			is.required = &label{key, obj.Spec.PrefixSelector.MatchLabels[key]}
			break
		}
	}
	if was != nil {
		p.remove(was)
		affected = append(affected, was.selector)
	}
	p.add(is)
	return append(affected, is.selector)
}

// Delete records that a policy was deleted. It returns the selectors of the Prefixes whose rules may have changed.
func (p *Policies) Delete(name string, uid types.UID) (affected []labels.Selector) {
	was := p.byName[name]
	if was == nil || was.uid != uid {
		return nil
	}
	p.remove(was)
	return []labels.Selector{was.selector}
}

func (p *Policies) add(one *policy) {
	if p.byName == nil {
		p.byName, p.byLabel, p.others = map[string]*policy{}, map[label]map[string]*policy{}, map[string]*policy{}
	}
	p.byName[one.name] = one
	if one.slot = slices.Index(p.slots, nil); one.slot < 0 {
		one.slot, p.slots = len(p.slots), append(p.slots, nil)
	}
	p.slots[one.slot] = one
	if one.required == nil {
		p.others[one.name] = one
		return
	}
	if p.byLabel[*one.required] == nil {
		p.byLabel[*one.required] = map[string]*policy{}
	}
	p.byLabel[*one.required][one.name] = one
}

func (p *Policies) remove(one *policy) {
	delete(p.byName, one.name)
	p.slots[one.slot] = nil
	maps.DeleteFunc(p.combined, func(policies combination, _ *Rules) bool { return policies.has(one.slot) })
	if one.required == nil {
		delete(p.others, one.name)
		return
	}
	if delete(p.byLabel[*one.required], one.name); len(p.byLabel[*one.required]) == 0 {
		delete(p.byLabel, *one.required)
	}
}

// selecting returns the policies that select a Prefix with the given labels.
func (p *Policies) selecting(set labels.Set) (selecting []*policy) {
	try := func(policies map[string]*policy) {
		for _, one := range policies {
			if one.selector.Matches(set) {
				selecting = append(selecting, one)
			}
		}
	}
	try(p.others)
	for key, value := range set {
		try(p.byLabel[label{key, value}])
	}
	return selecting
}

// For returns the rules for a Prefix with the given labels. It returns nil if no policy selects it.
func (p *Policies) For(set labels.Set) *Rules {
	if len(p.byName) == 0 {
		return nil
	}
	selecting := p.selecting(set)
	switch len(selecting) {
	case 0:
		return nil
	case 1:
		return selecting[0].rules
	}
	policies := combinationOf(selecting)
	if rules := p.combined[policies]; rules != nil {
		return rules
	}
	slices.SortFunc(selecting, func(a, b *policy) int { return a.compare(b.origin) })
	rules := together(selecting)
	if p.combined == nil || len(p.combined) >= maxCombined {
		// Labels that are changed again and again would make ever more.
		p.combined = map[combination]*Rules{}
	}
	p.combined[policies] = rules
	return rules
}

// Reserved returns the space that is not chosen automatically, according to rules that For returned. It returns nil if
// there is none. Policies that were deleted since then reserve nothing.
func (p *Policies) Reserved(rules *Rules) *allocator.Reserved {
	switch {
	case rules == nil:
		return nil
	case rules.combination == "":
		return rules.reserved
	}
	var all []*allocator.Reserved
	for _, one := range p.slots {
		if one != nil && rules.combination.has(one.slot) {
			all = append(all, one.rules.reserved)
		}
	}
	return allocator.Union(all)
}

// Index holds the policies of all namespaces. The zero value has none. It is safe for concurrent use. Each namespace has
// a lock of its own, so one with very many policies does not delay the others.
type Index struct {
	mu         sync.Mutex
	namespaces map[string]*locked
}

// locked is the policies of one namespace. When the last policy is deleted, it is removed from the index, and gone is set.
type locked struct {
	mu sync.Mutex
	Policies
	gone bool
}

// with calls f with the policies of a namespace. If there are none, it calls f only if create is set.
func (x *Index) with(namespace string, create bool, f func(*Policies)) {
	for {
		x.mu.Lock()
		policies := x.namespaces[namespace]
		if policies == nil {
			if !create {
				x.mu.Unlock()
				return
			}
			if x.namespaces == nil {
				x.namespaces = map[string]*locked{}
			}
			policies = &locked{}
			x.namespaces[namespace] = policies
		}
		x.mu.Unlock()
		if x.try(namespace, policies, f) {
			return
		}
	}
}

// try calls f unless the policies were removed from the index meanwhile.
func (x *Index) try(namespace string, policies *locked, f func(*Policies)) bool {
	policies.mu.Lock()
	defer policies.mu.Unlock()
	if policies.gone {
		return false
	}
	f(&policies.Policies)
	if policies.Len() == 0 {
		policies.gone = true
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.namespaces, namespace)
	}
	return true
}

// Set is like Policies.Set.
func (x *Index) Set(obj *v1alpha1.PrefixPolicy) (affected []labels.Selector) {
	x.with(obj.Namespace, true, func(p *Policies) { affected = p.Set(obj) })
	return affected
}

// Delete is like Policies.Delete.
func (x *Index) Delete(obj *v1alpha1.PrefixPolicy) (affected []labels.Selector) {
	x.with(obj.Namespace, false, func(p *Policies) { affected = p.Delete(obj.Name, obj.UID) })
	return affected
}

// For is like Policies.For.
func (x *Index) For(prefix *v1alpha1.Prefix) (rules *Rules) {
	x.with(prefix.Namespace, false, func(p *Policies) { rules = p.For(prefix.Labels) })
	return rules
}

// Reserved returns the space of a Prefix that is not chosen automatically, or nil if there is none.
func (x *Index) Reserved(prefix *v1alpha1.Prefix) (reserved *allocator.Reserved) {
	x.with(prefix.Namespace, false, func(p *Policies) { reserved = p.Reserved(p.For(prefix.Labels)) })
	return reserved
}

// Selecting calls f for each policy that selects a Prefix of the namespace with the given labels, with the space that this
// policy alone reserves. f must not use the index.
func (x *Index) Selecting(namespace string, set labels.Set, f func(policy string, reserved *allocator.Reserved)) {
	x.with(namespace, false, func(p *Policies) {
		for _, one := range p.selecting(set) {
			f(one.name, one.rules.reserved)
		}
	})
}
