// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixpolicy

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Rules are the rules for a parent that the server enforces: what all policies that select it say together. Controllers and
// kubectl ipam read the same policies with pkg/policy, to choose and to explain; only these Rules are enforced. They are apart
// because the registry imports nothing of pkg but cidr, and works with the hub types.
type Rules struct {
	// Closed is set if nothing new may be allocated.
	Closed bool
	// Lengths are the prefix lengths that may be allocated.
	Lengths cidr.Lengths
	// Default is the length of children that request none. It is 0 if there is none.
	Default int32
	// CoolDown is for how long the space of a child that is gone is kept.
	CoolDown time.Duration
}

// Finder finds the rules for parents in the namespace of a context. It reads from the watch cache, so a rule holds within
// milliseconds after it has changed.
type Finder struct{ policies rest.Lister }

// Policies are the policies of a namespace, oldest first, with their selectors, so that each is parsed only once for a
// request.
type Policies []selecting

type selecting struct {
	spec     *ipam.PrefixPolicySpec
	selector labels.Selector
}

// Policies returns the policies of the namespace.
func (f Finder) Policies(ctx context.Context) (Policies, error) {
	list, err := f.policies.List(ctx, &metainternalversion.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	// The list may share its items with the watch cache.
	items := slices.Clone(list.(*ipam.PrefixPolicyList).Items)
	slices.SortFunc(items, func(a, b ipam.PrefixPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	policies := make(Policies, 0, len(items))
	for i := range items {
		// The server refuses a selector that cannot be parsed.
		if selector, err := metav1.LabelSelectorAsSelector(items[i].Spec.PrefixSelector); err == nil {
			policies = append(policies, selecting{&items[i].Spec, selector})
		}
	}
	return policies, nil
}

// RulesOf returns the rules that the policies have for a parent with the given labels.
func (p Policies) RulesOf(set labels.Set) (rules Rules) {
	for _, policy := range p {
		if !policy.selector.Matches(set) {
			continue
		}
		rules.Closed = rules.Closed || policy.spec.Closed
		if policy.spec.CoolDown != nil {
			rules.CoolDown = max(rules.CoolDown, policy.spec.CoolDown.Duration)
		}
		if lengths := policy.spec.ChildLengths; lengths != nil {
			rules.Lengths = rules.Lengths.And(cidr.Lengths{Min: int(lengths.Min), Max: int(lengths.Max)})
			if rules.Default == 0 {
				rules.Default = lengths.Default
			}
		}
	}
	return rules
}

// HaveDefault reports whether any policy has a default length of children.
func (p Policies) HaveDefault() bool {
	return slices.ContainsFunc(p, func(policy selecting) bool {
		return policy.spec.ChildLengths != nil && policy.spec.ChildLengths.Default != 0
	})
}

// ShareAny reports whether any policy shares with another namespace, whatever the policy selects.
func (p Policies) ShareAny(planner *claims.Planner, namespace string) bool {
	return slices.ContainsFunc(p, func(policy selecting) bool { return planner.Includes(policy.spec.SharedWith, namespace) })
}

// Share reports whether any of the policies shares a parent with the given labels with another namespace.
func (p Policies) Share(planner *claims.Planner, set labels.Set, namespace string) bool {
	return slices.ContainsFunc(p, func(policy selecting) bool {
		return planner.Includes(policy.spec.SharedWith, namespace) && policy.selector.Matches(set)
	})
}
