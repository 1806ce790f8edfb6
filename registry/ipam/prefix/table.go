// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var tableConvertor = resource.Convertor{
	Columns: []metav1.TableColumnDefinition{
		resource.Name(),
		{Name: "Prefix", Type: "string", Description: "The range of addresses"},
		{Name: "Parent", Type: "string", Description: "The Prefix that it is allocated from"},
		{Name: "Phase", Type: "string", Description: "Pending, Allocated, or Terminating while it is being deleted"},
		resource.Age(),
		{Name: "Family", Type: "string", Priority: 1, Description: "IPv4 or IPv6"},
		{Name: "Used", Type: "string", Priority: 1, Description: "The number of allocated addresses"},
		{Name: "Free", Type: "string", Priority: 1, Description: "The number of free addresses"},
		{Name: "Use%", Type: "string", Priority: 1, Description: "The percentage of allocated addresses"},
	},
	Row: func(obj runtime.Object, name, age string) ([]any, error) {
		p, ok := obj.(*ipam.Prefix)
		if !ok {
			return nil, fmt.Errorf("not a Prefix: %T", obj)
		}
		parent := ""
		if ref := p.Spec.ParentRef; ref != nil {
			parent = resource.ParentName(p.Namespace, p.NamespaceOfParent(), ref.Name)
		}
		used, free, percent := "", "", ""
		usage := p.Status.Usage
		if usage == nil && p.Status.Phase == ipam.PrefixPhaseAllocated && len(p.Status.Used) == 0 {
			// Other servers of the API group do not write the usage. While a Prefix has no children, it is known
			// without a write.
			usage = Unused(p.Spec.Prefix)
		}
		if usage != nil {
			used, free, percent = usage.Used, usage.Free, fmt.Sprintf("%d%%", usage.Percent)
		}
		return []any{name, resource.OrNone(p.Spec.Prefix), resource.OrNone(parent), resource.PhaseCell(p, string(p.Status.Phase)), age,
			resource.OrNone(string(p.Spec.IPFamily)), resource.OrNone(used), resource.OrNone(free), resource.OrNone(percent)}, nil
	},
}
