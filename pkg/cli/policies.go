// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/rules"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// policy is what the commands keep of a PrefixPolicy.
type policy struct {
	name     string
	selector labels.Selector
	// rules are the reservations.
	rules   []rule
	spec    *v1alpha1.PrefixPolicySpec
	created metav1.Time
}

// rule is a reservation of a policy.
type rule struct {
	policy, reason string
	// text is the range as it is written.
	text     string
	reserved *allocator.Reserved
}

// policiesIn returns the policies of a namespace. A server that does not know the kind has none.
func (s *session) policiesIn(ctx context.Context, namespace string) ([]policy, error) {
	var found []policy
	err := eachPage(ctx, metav1.ListOptions{}, func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return s.clients.ipam.PrefixPolicies(namespace).List(ctx, opts)
	}, func(obj runtime.Object) error {
		p := obj.(*v1alpha1.PrefixPolicy)
		selector, err := metav1.LabelSelectorAsSelector(p.Spec.PrefixSelector)
		if err != nil {
			// The server does not accept it either, so no such rule is in force.
			return nil
		}
		of := policy{name: p.Name, selector: selector, spec: p.Spec.DeepCopy(), created: p.CreationTimestamp}
		for _, r := range p.Spec.Reserved {
			if prefixes, err := rangeOf(r); err == nil {
				of.rules = append(of.rules, rule{p.Name, r.Reason, rules.RangeOf(r), allocator.NewReserved(prefixes, r.Edges)})
			}
		}
		found = append(found, of)
		return nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case apierrors.IsForbidden(err):
		s.denied = true
		s.say("You may not read prefixpolicies in namespace %q, so reserved space is shown as free.", namespace)
		return nil, nil
	}
	return found, err
}

// rangeOf returns the range of a reservation as prefixes. It is empty for the edges.
func rangeOf(r v1alpha1.PrefixReservation) ([]netip.Prefix, error) {
	switch {
	case r.CIDR != "":
		prefix, err := cidr.Parse(r.CIDR)
		return []netip.Prefix{prefix}, err
	case r.From != "" || r.To != "":
		return cidr.ParseRange(r.From, r.To)
	}
	return nil, nil
}

// rulesFor returns the rules for a Prefix with these labels.
func rulesFor(policies []policy, set map[string]string) []rule {
	var rules []rule
	for _, p := range policies {
		if p.selector.Matches(labels.Set(set)) {
			rules = append(rules, p.rules...)
		}
	}
	return rules
}

// strategyFor returns how a part of a Prefix with these labels is chosen. Of policies that differ, the oldest one counts.
func strategyFor(policies []policy, set map[string]string) v1alpha1.PrefixStrategy {
	var oldest *policy
	for i := range policies {
		p := &policies[i]
		if p.spec.Strategy != "" && p.selector.Matches(labels.Set(set)) && (oldest == nil || p.created.Before(&oldest.created)) {
			oldest = p
		}
	}
	if oldest == nil {
		return v1alpha1.PrefixStrategyPack
	}
	return oldest.spec.Strategy
}

// forbids returns why policies do not let a request be allocated from a Prefix with these labels: a reason of the condition
// Allocated, and the end of a sentence whose subject is the Prefix. The reason is empty if they do. bits is 0 if any length
// will do.
func forbids(policies []policy, set map[string]string, bits int) (reason, why string) {
	for _, p := range policies {
		if !p.selector.Matches(labels.Set(set)) {
			continue
		}
		if p.spec.Closed {
			return v1alpha1.ReasonParentClosed, fmt.Sprintf("is closed by the PrefixPolicy %s", p.name)
		}
		if l := p.spec.ChildLengths; l != nil && bits != 0 && !(cidr.Lengths{Min: int(l.Min), Max: int(l.Max)}).Allow(bits) {
			return v1alpha1.ReasonLengthNotAllowed, fmt.Sprintf("does not allow a /%d by the PrefixPolicy %s", bits, p.name)
		}
	}
	return "", ""
}

// reservedBy returns all that rules reserve.
func reservedBy(rules []rule) *allocator.Reserved {
	var sets []*allocator.Reserved
	for _, r := range rules {
		sets = append(sets, r.reserved)
	}
	return allocator.Union(sets)
}

// inWordsOf returns which rules reserve a part of a prefix, such as "office: routers".
func inWordsOf(rules []rule, prefix, of netip.Prefix) string {
	var words []string
	for _, r := range rules {
		if !r.reserved.Overlaps(prefix, of) {
			continue
		}
		text := r.policy
		if r.reason != "" {
			text += ": " + r.reason
		}
		if !slices.Contains(words, text) {
			words = append(words, text)
		}
	}
	return strings.Join(words, ", ")
}
