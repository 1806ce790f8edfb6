// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package rules puts the rules of a PrefixPolicy into words, for the terminal and for the browser.
package rules

import (
	"fmt"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Rule is a rule of a policy. Text and reason may have any characters that the policy has.
type Rule struct{ Text, Reason string }

// String returns the rule as text, with its reason in parentheses.
func (r Rule) String() string {
	if r.Reason == "" {
		return r.Text
	}
	return r.Text + " (" + r.Reason + ")"
}

// Of returns the rules of a policy, in the order of its fields.
func Of(spec *v1alpha1.PrefixPolicySpec) []Rule {
	var all []Rule
	add := func(format string, args ...any) {
		all = append(all, Rule{Text: fmt.Sprintf(format, args...)})
	}
	for _, r := range spec.Reserved {
		all = append(all, Rule{"reserved " + RangeOf(r), r.Reason})
	}
	if l := spec.ChildLengths; l != nil {
		if l.Min != 0 || l.Max != 0 {
			add("%s", cidr.Lengths{Min: int(l.Min), Max: int(l.Max)})
		}
		if l.Default != 0 {
			add("default length /%d", l.Default)
		}
	}
	if spec.Closed {
		add("closed")
	}
	if spec.CoolDown != nil {
		add("cool-down %s", duration.HumanDuration(spec.CoolDown.Duration))
	}
	if spec.Strategy != "" {
		add("strategy %s", spec.Strategy)
	}
	if spec.SharedWith != nil {
		add("shared with %s", SharedWith(spec.SharedWith))
	}
	return all
}

// SharedWith returns with which namespaces a Prefix is shared.
func SharedWith(sharing *v1alpha1.PrefixSharing) string {
	switch {
	case sharing.All:
		return "all namespaces"
	case sharing.NamespaceSelector != nil:
		return "namespaces " + metav1.FormatLabelSelector(sharing.NamespaceSelector)
	}
	return strings.Join(sharing.Namespaces, ", ")
}

// RangeOf returns the range of a reservation as it is written.
func RangeOf(r v1alpha1.PrefixReservation) string {
	switch {
	case r.Edges:
		return "edges"
	case r.CIDR != "":
		return r.CIDR
	}
	return r.From + "-" + r.To
}
