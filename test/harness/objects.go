// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"maps"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PrefixOption sets fields of a new Prefix.
type PrefixOption func(*v1alpha1.Prefix)

// NewPrefix returns a Prefix with the given name and options.
func NewPrefix(name string, options ...PrefixOption) *v1alpha1.Prefix {
	p := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, option := range options {
		option(p)
	}
	return p
}

// Root returns a root Prefix.
func Root(name, prefix string, options ...PrefixOption) *v1alpha1.Prefix {
	return NewPrefix(name, append([]PrefixOption{Exactly(prefix)}, options...)...)
}

// Child returns a child Prefix that names its parent. The options must include Length or Exactly.
func Child(name, parent string, options ...PrefixOption) *v1alpha1.Prefix {
	return NewPrefix(name, append([]PrefixOption{From(parent)}, options...)...)
}

// Exactly sets spec.prefix.
func Exactly(prefix string) PrefixOption {
	return func(p *v1alpha1.Prefix) { p.Spec.Prefix = prefix }
}

// Length sets spec.prefixLength.
func Length(bits int32) PrefixOption {
	return func(p *v1alpha1.Prefix) { p.Spec.PrefixLength = bits }
}

// Family sets spec.ipFamily.
func Family(family v1alpha1.IPFamily) PrefixOption {
	return func(p *v1alpha1.Prefix) { p.Spec.IPFamily = family }
}

// From sets spec.parentRef.
func From(parent string) PrefixOption {
	return func(p *v1alpha1.Prefix) { p.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: parent} }
}

// InNamespace sets the namespace of the parent.
func InNamespace(name string) PrefixOption {
	return func(p *v1alpha1.Prefix) { p.Spec.ParentNamespace = name }
}

// Selecting sets spec.parentSelector to match labels, given as alternating keys and values. It sets the family to IPv4
// if the Prefix has neither a family nor a prefix yet.
func Selecting(pairs ...string) PrefixOption {
	return func(p *v1alpha1.Prefix) {
		p.Spec.ParentSelector = &metav1.LabelSelector{MatchLabels: setOf(pairs)}
		if p.Spec.IPFamily == "" && p.Spec.Prefix == "" {
			p.Spec.IPFamily = v1alpha1.IPv4
		}
	}
}

// Labelled adds labels, given as alternating keys and values.
func Labelled(pairs ...string) PrefixOption {
	return func(p *v1alpha1.Prefix) {
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		maps.Copy(p.Labels, setOf(pairs))
	}
}

// Finalizer adds a finalizer.
func Finalizer(name string) PrefixOption {
	return func(p *v1alpha1.Prefix) { p.Finalizers = append(p.Finalizers, name) }
}

// Allocation returns a PrefixAllocation that requests a specific prefix from a parent.
func Allocation(name, parent, prefix string) *v1alpha1.PrefixAllocation {
	return &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixAllocationSpec{
		Prefix: prefix, PrefixRef: &v1alpha1.LocalObjectReference{Name: parent}}}
}

// Policy returns a PrefixPolicy with reservations for the Prefixes with some labels, given as alternating keys and
// values. Without labels it is for all Prefixes.
func Policy(name string, reserved []v1alpha1.PrefixReservation, pairs ...string) *v1alpha1.PrefixPolicy {
	return &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixPolicySpec{
		PrefixSelector: &metav1.LabelSelector{MatchLabels: setOf(pairs)}, Reserved: reserved}}
}

func setOf(pairs []string) map[string]string {
	set := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		set[pairs[i]] = pairs[i+1]
	}
	return set
}
