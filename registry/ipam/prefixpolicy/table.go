// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixpolicy

import (
	"fmt"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

var tableConvertor = resource.Convertor{
	Columns: []metav1.TableColumnDefinition{
		resource.Name(),
		{Name: "Selects", Type: "string", Description: "The labels of the Prefixes that the rules apply to, <none> if they apply to all"},
		{Name: "Prefixes", Type: "integer", Description: "The number of Prefixes that the rules apply to"},
		{Name: "Reserved", Type: "integer", Description: "The number of reservations"},
		{Name: "CoolDown", Type: "string", Description: "For how long the space of a deleted child is kept for one of the same name"},
		{Name: "Shared", Type: "string", Description: "The other namespaces whose children may be allocated from the Prefixes"},
		{Name: "Closed", Type: "boolean", Description: "Whether nothing new is allocated from the Prefixes"},
		{Name: "Ready", Type: "string", Description: "Whether the rules apply"},
		resource.Age(),
		{Name: "Lengths", Type: "string", Priority: 1, Description: "The prefix lengths that may be allocated, and the default"},
		{Name: "Strategy", Type: "string", Priority: 1, Description: "How a part of the Prefixes is chosen"},
	},
	Row: func(obj runtime.Object, name, age string) ([]any, error) {
		policy, ok := obj.(*ipam.PrefixPolicy)
		if !ok {
			return nil, fmt.Errorf("not a PrefixPolicy: %T", obj)
		}
		ready := string(metav1.ConditionUnknown)
		if condition := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
			ready = string(condition.Status)
		}
		return []any{name, metav1.FormatLabelSelector(policy.Spec.PrefixSelector), policy.Status.Prefixes, len(policy.Spec.Reserved), coolDown(policy.Spec.CoolDown), shared(policy.Spec.SharedWith), policy.Spec.Closed, ready, age,
			lengths(policy.Spec.ChildLengths), resource.OrNone(string(policy.Spec.Strategy))}, nil
	},
}

// coolDown returns the cell with a coolDown, such as "24h".
func coolDown(d *metav1.Duration) string {
	if d == nil || d.Duration == 0 {
		return resource.OrNone("")
	}
	return duration.HumanDuration(d.Duration)
}

// maxSharedShown is the greatest number of namespaces that a cell names.
const maxSharedShown = 3

// shared returns the cell with the namespaces that the Prefixes are shared with, such as "team-a,team-b", "env=prod" or
// "<all>".
func shared(with *ipam.PrefixSharing) string {
	switch {
	case with == nil:
		return resource.OrNone("")
	case with.All:
		return "<all>"
	case with.NamespaceSelector != nil:
		if selector := metav1.FormatLabelSelector(with.NamespaceSelector); selector != "<none>" {
			return selector
		}
		return "<all>"
	case len(with.Namespaces) > maxSharedShown:
		return fmt.Sprintf("%s + %d more", strings.Join(with.Namespaces[:maxSharedShown], ","), len(with.Namespaces)-maxSharedShown)
	}
	return strings.Join(with.Namespaces, ",")
}

// lengths returns the cell with the lengths that may be allocated, such as "/24-/28 (/26)".
func lengths(of *ipam.PrefixChildLengths) string {
	if of == nil {
		return resource.OrNone("")
	}
	bound := func(bits int32) string {
		if bits == 0 {
			return ""
		}
		return fmt.Sprintf("/%d", bits)
	}
	cell := bound(of.Min) + "-" + bound(of.Max)
	if of.Default != 0 {
		cell += fmt.Sprintf(" (/%d)", of.Default)
	}
	return cell
}
