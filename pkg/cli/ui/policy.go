// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/rules"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// policy is what the model knows of a PrefixPolicy.
type policy struct {
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
	prefixes []netip.Prefix
	edges    bool
	reason   string
}

// of returns the prefixes that a reservation means in a range. They may reach beyond it.
func (r *reservation) of(whole netip.Prefix) []netip.Prefix {
	if !r.edges {
		return r.prefixes
	}
	edges := slices.Clone(r.prefixes)
	if width := whole.Addr().BitLen(); width-whole.Bits() >= 2 {
		edges = append(edges, netip.PrefixFrom(whole.Addr(), width))
		if whole.Addr().Is4() {
			edges = append(edges, netip.PrefixFrom(cidr.Last(whole), width))
		}
	}
	return edges
}

// putPolicy stores what a PrefixPolicy says. It ignores what the API server refuses.
func (m *model) putPolicy(obj *v1alpha1.PrefixPolicy) {
	selector, err := metav1.LabelSelectorAsSelector(obj.Spec.PrefixSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	p := &policy{selector: selector, closed: obj.Spec.Closed}
	if l := obj.Spec.ChildLengths; l != nil {
		p.lengths = cidr.Lengths{Min: int(l.Min), Max: int(l.Max)}
	}
	for _, rule := range rules.Of(&obj.Spec) {
		p.rules = append(p.rules, plaintext.Escape(obj.Name+": "+rule.String()))
	}
	for _, r := range obj.Spec.Reserved {
		is := reservation{edges: r.Edges, reason: plaintext.Escape(r.Reason)}
		if prefix, err := cidr.ParseStored(r.CIDR); err == nil {
			is.prefixes = append(is.prefixes, prefix)
		}
		if prefixes, err := cidr.ParseRange(r.From, r.To); err == nil {
			is.prefixes = append(is.prefixes, prefixes...)
		}
		p.reservations = append(p.reservations, is)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.round = m.round
	if m.policies[obj.Namespace] == nil {
		m.policies[obj.Namespace] = map[string]*policy{}
	}
	m.policies[obj.Namespace][obj.Name] = p
	m.revision++
}

// reserved returns what policies reserve of the range of a node, as the fewest prefixes, by address.
func (m *model) reserved(n *node) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range m.policies[n.key.namespace] {
		if !p.selector.Matches(n.labels) {
			continue
		}
		for i := range p.reservations {
			for _, prefix := range p.reservations[i].of(n.prefix) {
				if prefix.Overlaps(n.prefix) {
					all = append(all, prefix)
				}
			}
		}
	}
	return fewest(all)
}

// fewest returns the same addresses as the fewest prefixes, by address. It changes the order of the prefixes.
func fewest(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, netip.Prefix.Compare)
	// In this order, a prefix follows those that contain it, and the half of a wider one its other half.
	kept := all[:0]
	for _, prefix := range all {
		if n := len(kept); n > 0 && kept[n-1].Overlaps(prefix) {
			continue
		}
		for n := len(kept); n > 0 && prefix.Bits() > 0 && kept[n-1].Bits() == prefix.Bits(); n = len(kept) {
			wider := netip.PrefixFrom(prefix.Addr(), prefix.Bits()-1).Masked()
			if !wider.Contains(kept[n-1].Addr()) {
				break
			}
			prefix, kept = wider, kept[:n-1]
		}
		kept = append(kept, prefix)
	}
	return kept
}

// policiesFor returns the policies that select a node, by name.
func (m *model) policiesFor(n *node) []*policy {
	of := m.policies[n.key.namespace]
	if len(of) == 0 || n.key.kind != prefixKind {
		return nil
	}
	var found []*policy
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name].selector.Matches(n.labels) {
			found = append(found, of[name])
		}
	}
	return found
}

// closed reports whether a policy lets nothing new be allocated from a node.
func (m *model) closed(n *node) bool {
	return slices.ContainsFunc(m.policiesFor(n), func(p *policy) bool { return p.closed })
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
		for i := range policies[name].reservations {
			r := &policies[name].reservations[i]
			if slices.ContainsFunc(r.of(n.prefix), block.Overlaps) {
				found = append(found, reserver{plaintext.Escape(name), r.reason})
			}
		}
	}
	return found
}
