// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func policyOf(change func(*ipam.PrefixPolicySpec)) *ipam.PrefixPolicy {
	policy := &ipam.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "rules", ResourceVersion: "1"}}
	policy.Spec.PrefixSelector = &metav1.LabelSelector{}
	change(&policy.Spec)
	return policy
}

func reserving(reserved ...ipam.PrefixReservation) *ipam.PrefixPolicy {
	return policyOf(func(spec *ipam.PrefixPolicySpec) { spec.Reserved = reserved })
}

func having(lengths ipam.PrefixChildLengths) *ipam.PrefixPolicy {
	return policyOf(func(spec *ipam.PrefixPolicySpec) { spec.ChildLengths = &lengths })
}

func TestValidatePrefixPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		policy *ipam.PrefixPolicy
		// want has "field: part of the message" of each error.
		want []string
	}{
		"all kinds of reservations": {reserving(
			ipam.PrefixReservation{CIDR: "10.0.0.0/28", Reason: "routers"},
			ipam.PrefixReservation{From: "10.0.1.10", To: "10.0.1.10"},
			ipam.PrefixReservation{From: "2001:db8::1", To: "2001:db8::ff"},
			ipam.PrefixReservation{Edges: true}), nil},
		"no selector":  {policyOf(func(spec *ipam.PrefixPolicySpec) { spec.PrefixSelector = nil }), []string{"spec.prefixSelector: must select Prefixes"}},
		"bad selector": {policyOf(func(spec *ipam.PrefixPolicySpec) { spec.PrefixSelector.MatchLabels = map[string]string{"a b": ""} }), []string{"spec.prefixSelector.matchLabels: "}},
		"empty":        {reserving(ipam.PrefixReservation{Reason: "?"}), []string{"spec.reserved[0]: must have cidr"}},
		"cidr and range": {reserving(ipam.PrefixReservation{CIDR: "10.0.0.0/28", From: "10.0.0.1"}),
			[]string{"spec.reserved[0]: must have only one"}},
		"cidr and edges":  {reserving(ipam.PrefixReservation{CIDR: "10.0.0.0/28", Edges: true}), []string{"spec.reserved[0]: must have only one"}},
		"range and edges": {reserving(ipam.PrefixReservation{To: "10.0.0.1", Edges: true}), []string{"spec.reserved[0]: must have only one"}},
		"host bits":       {reserving(ipam.PrefixReservation{CIDR: "10.0.0.1/28"}), []string{"spec.reserved[0].cidr: must not have host bits set, did you mean 10.0.0.0/28?"}},
		"no from":         {reserving(ipam.PrefixReservation{Edges: true}, ipam.PrefixReservation{To: "10.0.0.1"}), []string{"spec.reserved[1].from: must be set together with to"}},
		"no to":           {reserving(ipam.PrefixReservation{From: "10.0.0.1"}), []string{"spec.reserved[0].to: must be set together with from"}},
		"both bad": {reserving(ipam.PrefixReservation{From: "10.0.0.01", To: "fe80::1%eth0"}),
			[]string{"spec.reserved[0].from: must be an IP address, such as", "spec.reserved[0].to: must be an IP address without a zone"}},
		"mapped":        {reserving(ipam.PrefixReservation{From: "::ffff:10.0.0.1", To: "10.0.0.2"}), []string{"spec.reserved[0].from: must not be an IPv4-mapped IPv6 address, did you mean 10.0.0.1?"}},
		"not canonical": {reserving(ipam.PrefixReservation{From: "2001:db8::0", To: "2001:db8::1"}), []string{"spec.reserved[0].from: must be in canonical form, 2001:db8::"}},
		"two families":  {reserving(ipam.PrefixReservation{From: "10.0.0.1", To: "2001:db8::1"}), []string{"spec.reserved[0].to: must be of the same IP family"}},
		"backwards":     {reserving(ipam.PrefixReservation{From: "10.0.0.2", To: "10.0.0.1"}), []string{"spec.reserved[0].to: must not be before from, 10.0.0.2"}},
		"long reason":   {reserving(ipam.PrefixReservation{Edges: true, Reason: strings.Repeat("a", MaxReservationReason+1)}), []string{"spec.reserved[0].reason: may not be more than 256 bytes"}},
		"most entries":  {reserving(slices.Repeat([]ipam.PrefixReservation{{CIDR: "10.0.0.0/28"}}, MaxReservations)...), nil},
		"too many entries": {reserving(slices.Repeat([]ipam.PrefixReservation{{CIDR: "bad"}}, MaxReservations+1)...),
			[]string{"spec.reserved: must have at most 10000 items"}},
		"too many CIDRs": {reserving(slices.Repeat([]ipam.PrefixReservation{{From: "::1", To: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"}}, 79)...),
			[]string{"spec.reserved: needs more than 20000 CIDRs"}},
		"lengths":        {having(ipam.PrefixChildLengths{Min: 24, Max: 28, Default: 26}), nil},
		"one length":     {having(ipam.PrefixChildLengths{Min: 24, Max: 24, Default: 24}), nil},
		"a default only": {having(ipam.PrefixChildLengths{Default: 128}), nil},
		"no length":      {having(ipam.PrefixChildLengths{}), []string{"spec.childLengths: must have min, max or default"}},
		"lengths out of range": {having(ipam.PrefixChildLengths{Min: -1, Max: 129, Default: 200}), []string{
			"spec.childLengths.min: must be between 1 and 128", "spec.childLengths.max: must be between 1 and 128", "spec.childLengths.default: must be between 1 and 128"}},
		"max below min":     {having(ipam.PrefixChildLengths{Min: 28, Max: 24}), []string{"spec.childLengths.max: must not be less than min, 28"}},
		"default below min": {having(ipam.PrefixChildLengths{Min: 28, Default: 24}), []string{"spec.childLengths.default: must be allowed: only prefixes of length /28 or longer"}},
		"default above max": {having(ipam.PrefixChildLengths{Max: 24, Default: 28}), []string{"spec.childLengths.default: must be allowed: only prefixes of length /24 or shorter"}},
		"strategy":          {policyOf(func(spec *ipam.PrefixPolicySpec) { spec.Strategy, spec.Closed = ipam.PrefixStrategyRandom, true }), nil},
		"another strategy":  {policyOf(func(spec *ipam.PrefixPolicySpec) { spec.Strategy = "Best" }), []string{"spec.strategy: supported values: "}},
		"most CIDRs":        {reserving(slices.Repeat([]ipam.PrefixReservation{{From: "::1", To: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"}}, 78)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for what, errs := range map[string][]string{
				"create": messages(ValidatePrefixPolicy(test.policy)),
				"update": messages(ValidatePrefixPolicyUpdate(test.policy, policyOf(func(*ipam.PrefixPolicySpec) {}))),
			} {
				if len(errs) != len(test.want) {
					t.Fatalf("%s: got %q, want %q", what, errs, test.want)
				}
				for i, want := range test.want {
					path, words, _ := strings.Cut(want, ": ")
					if !strings.HasPrefix(errs[i], path+": ") || !strings.Contains(errs[i], words) {
						t.Errorf("%s: got %q, want %q", what, errs[i], want)
					}
				}
			}
		})
	}
}

func TestValidatePrefixPolicyStatusUpdate(t *testing.T) {
	old := reserving()
	changed := old.DeepCopy()
	changed.Status.Prefixes = -1
	changed.Status.Conditions = []metav1.Condition{{Type: "not a type"}}
	errs := messages(ValidatePrefixPolicyStatusUpdate(changed, old))
	if len(errs) < 2 || !strings.HasPrefix(errs[0], "status.prefixes: ") || !strings.HasPrefix(errs[1], "status.conditions[0].") {
		t.Errorf("got %q", errs)
	}
	changed = old.DeepCopy()
	changed.Status.Prefixes = 3
	if errs := ValidatePrefixPolicyStatusUpdate(changed, old); len(errs) > 0 {
		t.Error(errs)
	}
}

func messages(errs field.ErrorList) (messages []string) {
	for _, err := range errs {
		messages = append(messages, err.Error())
	}
	return messages
}
