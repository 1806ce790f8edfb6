// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/rules"
	"github.com/ironcore-dev/ipam-apiserver/pkg/policy"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// policyView is what the model knows of a PrefixPolicy.
type policyView struct {
	// round is the last round of reading in which the policy was seen.
	round        uint64
	selector     labels.Selector
	reservations []reservation
	// rules are all rules in words.
	rules   []string
	closed  bool
	lengths cidr.Lengths
}

// reservation is a part of a PrefixPolicy.
type reservation struct {
	space  *allocator.Reserved
	reason string
}

// putPolicy stores what a PrefixPolicy says. It ignores what the API server refuses.
func (m *model) putPolicy(obj *v1alpha1.PrefixPolicy) {
	selector, err := metav1.LabelSelectorAsSelector(obj.Spec.PrefixSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	p := &policyView{selector: selector, closed: obj.Spec.Closed}
	if l := obj.Spec.ChildLengths; l != nil {
		p.lengths = cidr.Lengths{Min: int(l.Min), Max: int(l.Max)}
	}
	for _, rule := range rules.Of(&obj.Spec) {
		p.rules = append(p.rules, plaintext.Escape(obj.Name+": "+rule.String()))
	}
	for _, r := range obj.Spec.Reserved {
		p.reservations = append(p.reservations, reservation{policy.ReservedOf(r), plaintext.Escape(r.Reason)})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.round = m.round
	if m.policies[obj.Namespace] == nil {
		m.policies[obj.Namespace] = map[string]*policyView{}
	}
	m.policies[obj.Namespace][obj.Name] = p
	m.revision++
}

// reserved returns what policies reserve of the range of a node, as the fewest prefixes, by address.
func (m *model) reserved(n *node) []netip.Prefix {
	var all []*allocator.Reserved
	for _, p := range m.policies[n.key.namespace] {
		if p.selector.Matches(n.labels) {
			for _, r := range p.reservations {
				all = append(all, r.space)
			}
		}
	}
	return allocator.Union(all).In(n.prefix)
}

// policiesFor returns the policies that select a node, by name.
func (m *model) policiesFor(n *node) []*policyView {
	of := m.policies[n.key.namespace]
	if len(of) == 0 || n.key.kind != prefixKind {
		return nil
	}
	var found []*policyView
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name].selector.Matches(n.labels) {
			found = append(found, of[name])
		}
	}
	return found
}

// closed reports whether a policy lets nothing new be allocated from a node.
func (m *model) closed(n *node) bool {
	return slices.ContainsFunc(m.policiesFor(n), func(p *policyView) bool { return p.closed })
}

// reserver is a policy that reserves a part of a block, for the page.
type reserver struct {
	Policy string `json:"policy"`
	Reason string `json:"reason"`
}

// reservers returns the policies that reserve a part of a block of a node, by name.
func (m *model) reservers(n *node, block netip.Prefix) []reserver {
	found := []reserver{}
	policies := m.policies[n.key.namespace]
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		if !policies[name].selector.Matches(n.labels) {
			continue
		}
		for _, r := range policies[name].reservations {
			if r.space.Overlaps(block, n.prefix) {
				found = append(found, reserver{plaintext.Escape(name), r.reason})
			}
		}
	}
	return found
}
