// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package policy finds the rules that PrefixPolicies set for a Prefix.
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
// select share one Rules until one of these policies changes, so pointers can be compared. A nil Rules has no rules.
type Rules struct {
	reserved *allocator.Reserved
	lengths  cidr.Lengths
	closed   bool
	// strategy is empty if no policy has one.
	strategy v1alpha1.PrefixStrategy
	// by is the policy that has the strategy.
	by origin
	// conflict says which policies have different strategies. It is empty if they agree.
	conflict string
}

// origin is the name of a policy and when it was created.
type origin struct {
	created time.Time
	name    string
}

func (o origin) compare(other origin) int {
	return cmp.Or(o.created.Compare(other.created), strings.Compare(o.name, other.name))
}

// Closed reports whether nothing new may be allocated.
func (r *Rules) Closed() bool { return r != nil && r.closed }

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
	if r == nil {
		return ""
	}
	return r.conflict
}

// Older returns the rules whose strategy comes from the older policy. Rules without a strategy are never older.
func Older(a, b *Rules) *Rules {
	if b.Strategy() == "" || a.Strategy() != "" && a.by.compare(b.by) <= 0 {
		return a
	}
	return b
}

// Reserved returns the space that is not chosen automatically, or nil if there is none.
func (r *Rules) Reserved() *allocator.Reserved {
	if r == nil {
		return nil
	}
	return r.reserved
}

// RulesOf returns the rules of one policy. It ignores what the API server would refuse.
func RulesOf(policy *v1alpha1.PrefixPolicy) *Rules {
	spec := &policy.Spec
	var prefixes []netip.Prefix
	edges := false
	for i := range spec.Reserved {
		reservation := &spec.Reserved[i]
		if prefix, err := cidr.ParseStored(reservation.CIDR); err == nil {
			prefixes = append(prefixes, prefix)
		}
		first, errFirst := cidr.ParseAddr(reservation.From)
		last, errLast := cidr.ParseAddr(reservation.To)
		if errFirst == nil && errLast == nil && first.BitLen() == last.BitLen() && !last.Less(first) {
			prefixes = slices.AppendSeq(prefixes, cidr.Cover(first, last))
		}
		edges = edges || reservation.Edges
	}
	rules := &Rules{
		reserved: allocator.NewReserved(prefixes, edges), closed: spec.Closed,
		strategy: spec.Strategy, by: origin{policy.CreationTimestamp.Time, policy.Name},
	}
	if lengths := spec.ChildLengths; lengths != nil {
		rules.lengths = cidr.Lengths{Min: int(lengths.Min), Max: int(lengths.Max)}
	}
	return rules
}

// together returns the rules of several policies, oldest first.
func together(all []*Rules) *Rules {
	var reserved []*allocator.Reserved
	result := &Rules{}
	for _, rules := range all {
		reserved = append(reserved, rules.reserved)
		result.lengths = result.lengths.And(rules.lengths)
		result.closed = result.closed || rules.closed
		switch {
		case rules.strategy == "":
		case result.strategy == "":
			result.strategy, result.by = rules.strategy, rules.by
		case result.strategy != rules.strategy && result.conflict == "":
			result.conflict = fmt.Sprintf("PrefixPolicy %s has strategy %s, but PrefixPolicy %s has %s. The oldest counts, %s",
				result.by.name, result.strategy, rules.by.name, rules.strategy, result.by.name)
		}
	}
	result.reserved = allocator.Union(reserved)
	return result
}

// Policies holds the policies of one namespace. The zero value has none. It is not safe for concurrent use.
type Policies struct {
	byName map[string]*policy
	// byLabel holds the policies whose selectors require one value of a label, by one such label. others holds the other
	// policies. So For does not try the policies for other labels.
	byLabel map[label]map[string]*policy
	others  map[string]*policy
	// combined caches the rules of several policies, by their UIDs.
	combined map[string]*Rules
}

type label struct{ key, value string }

type policy struct {
	origin
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
	maps.DeleteFunc(p.combined, func(key string, _ *Rules) bool { return strings.Contains(key, string(one.uid)) })
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
	slices.SortFunc(selecting, func(a, b *policy) int { return a.compare(b.origin) })
	var key strings.Builder
	for _, one := range selecting {
		key.WriteString(string(one.uid))
		key.WriteByte(' ')
	}
	if rules := p.combined[key.String()]; rules != nil {
		return rules
	}
	var all []*Rules
	for _, one := range selecting {
		all = append(all, one.rules)
	}
	rules := together(all)
	if p.combined == nil {
		p.combined = map[string]*Rules{}
	}
	p.combined[key.String()] = rules
	return rules
}

// Index holds the policies of all namespaces. The zero value has none. It is safe for concurrent use.
type Index struct {
	mu         sync.Mutex
	namespaces map[string]*Policies
}

// Set is like Policies.Set.
func (x *Index) Set(obj *v1alpha1.PrefixPolicy) (affected []labels.Selector) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.namespaces == nil {
		x.namespaces = map[string]*Policies{}
	}
	if x.namespaces[obj.Namespace] == nil {
		x.namespaces[obj.Namespace] = &Policies{}
	}
	return x.namespaces[obj.Namespace].Set(obj)
}

// Delete is like Policies.Delete.
func (x *Index) Delete(obj *v1alpha1.PrefixPolicy) (affected []labels.Selector) {
	x.mu.Lock()
	defer x.mu.Unlock()
	policies := x.namespaces[obj.Namespace]
	if policies == nil {
		return nil
	}
	if affected = policies.Delete(obj.Name, obj.UID); policies.Len() == 0 {
		delete(x.namespaces, obj.Namespace)
	}
	return affected
}

// For is like Policies.For.
func (x *Index) For(prefix *v1alpha1.Prefix) *Rules {
	x.mu.Lock()
	defer x.mu.Unlock()
	policies := x.namespaces[prefix.Namespace]
	if policies == nil {
		return nil
	}
	return policies.For(prefix.Labels)
}

// Selecting calls f for each policy that selects a Prefix of the namespace with the given labels, with the rules of that
// policy alone.
func (x *Index) Selecting(namespace string, set labels.Set, f func(policy types.NamespacedName, rules *Rules)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if policies := x.namespaces[namespace]; policies != nil {
		for _, one := range policies.selecting(set) {
			f(types.NamespacedName{Namespace: namespace, Name: one.name}, one.rules)
		}
	}
}
