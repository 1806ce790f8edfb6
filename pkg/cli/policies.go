// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/rules"
	"github.com/ironcore-dev/ipam-apiserver/pkg/policy"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// policySet is the PrefixPolicies of a namespace.
type policySet struct {
	policies []namedPolicy
	// rules says what the policies mean together for a Prefix.
	rules policy.Policies
}

// namedPolicy is what the commands show of a PrefixPolicy.
type namedPolicy struct {
	name         string
	selector     labels.Selector
	reservations []reservation
	spec         *v1alpha1.PrefixPolicySpec
	// rules are those of this policy alone.
	rules *policy.Rules
}

// reservation is a range that a policy reserves.
type reservation struct {
	policy, reason string
	// text is the range as it is written.
	text     string
	reserved *allocator.Reserved
}

// policiesIn returns the policies of a namespace. A server that does not know the kind has none.
func (s *session) policiesIn(ctx context.Context, namespace string) (*policySet, error) {
	found := &policySet{}
	err := eachPage(ctx, metav1.ListOptions{}, func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return s.clients.ipam.PrefixPolicies(namespace).List(ctx, opts)
	}, func(obj runtime.Object) error {
		found.add(obj.(*v1alpha1.PrefixPolicy))
		return nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return &policySet{}, nil
	case apierrors.IsForbidden(err):
		s.denied = true
		s.say("You may not read prefixpolicies in namespace %q, so reserved space is shown as free.", namespace)
		return &policySet{}, nil
	case err != nil:
		return nil, err
	}
	return found, nil
}

// add adds a policy. It does not keep the object.
func (s *policySet) add(p *v1alpha1.PrefixPolicy) {
	selector, err := metav1.LabelSelectorAsSelector(p.Spec.PrefixSelector)
	if err != nil {
		// The server does not accept it either, so no such rule is in force.
		return
	}
	of := namedPolicy{name: p.Name, selector: selector, spec: p.Spec.DeepCopy(), rules: policy.RulesOf(p)}
	for _, r := range p.Spec.Reserved {
		of.reservations = append(of.reservations, reservation{p.Name, r.Reason, rules.RangeOf(r), policy.ReservedOf(r)})
	}
	s.policies = append(s.policies, of)
	s.rules.Set(p)
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

// selecting returns the policies that select a Prefix with these labels.
func (s *policySet) selecting(set map[string]string) []*namedPolicy {
	var found []*namedPolicy
	for i := range s.policies {
		if s.policies[i].selector.Matches(labels.Set(set)) {
			found = append(found, &s.policies[i])
		}
	}
	return found
}

// reservationsFor returns what is reserved of a Prefix with these labels, by the policy that does.
func (s *policySet) reservationsFor(set map[string]string) []reservation {
	var reservations []reservation
	for _, p := range s.selecting(set) {
		reservations = append(reservations, p.reservations...)
	}
	return reservations
}

// reservedFor returns all that is reserved of a Prefix with these labels. It is nil if nothing is.
func (s *policySet) reservedFor(set map[string]string) *allocator.Reserved {
	return s.rules.Reserved(s.rules.For(set))
}

// strategyFor returns how a part of a Prefix with these labels is chosen.
func (s *policySet) strategyFor(set map[string]string) v1alpha1.PrefixStrategy {
	return cmp.Or(s.rules.For(set).Strategy(), v1alpha1.PrefixStrategyPack)
}

// forbids returns why policies do not let a request be allocated from a Prefix with these labels: a reason of the condition
// Allocated, and the end of a sentence whose subject is the Prefix. The reason is empty if they do. bits is 0 if any length
// will do.
func (s *policySet) forbids(set map[string]string, bits int) (reason, why string) {
	for _, p := range s.selecting(set) {
		if p.rules.Closed() {
			return v1alpha1.ReasonParentClosed, fmt.Sprintf("is closed by the PrefixPolicy %s", p.name)
		}
		if bits != 0 && !p.rules.Lengths().Allow(bits) {
			return v1alpha1.ReasonLengthNotAllowed, fmt.Sprintf("does not allow a /%d by the PrefixPolicy %s", bits, p.name)
		}
	}
	return "", ""
}

// inWordsOf returns which reservations have a part of a prefix, such as "office: routers".
func inWordsOf(reservations []reservation, prefix, of netip.Prefix) string {
	var words []string
	for _, r := range reservations {
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
