// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixallocation

import (
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var tableConvertor = resource.Convertor{
	Columns: []metav1.TableColumnDefinition{
		resource.Name(),
		{Name: "Parent", Type: "string", Description: "The Prefix that it is allocated from"},
		{Name: "Request", Type: "string", Description: "The requested prefix or length"},
		{Name: "Phase", Type: "string", Description: "Pending, Allocated, Failed, Cooling if it is kept for a child of the same name after its child was deleted, or Terminating while it is being deleted"},
		{Name: "Prefix", Type: "string", Description: "The allocated range of addresses"},
		resource.Age(),
		{Name: "Cooling Until", Type: "string", Priority: 1, Description: "The time from which on others can get the range"},
	},
	Row: func(obj runtime.Object, name, age string) ([]any, error) {
		allocation, ok := obj.(*ipam.PrefixAllocation)
		if !ok {
			return nil, fmt.Errorf("not a PrefixAllocation: %T", obj)
		}
		parent := ""
		if ref := allocation.Spec.PrefixRef; ref != nil {
			parent = resource.ParentName(allocation.Namespace, allocation.NamespaceOfParent(), ref.Name)
		}
		request := allocation.Spec.Prefix
		if request == "" {
			request = fmt.Sprintf("/%d", allocation.Spec.PrefixLength)
		}
		phase, until := string(allocation.Status.Phase), ""
		if allocation.Status.CoolingUntil != nil {
			phase, until = v1alpha1.ReasonCooling, allocation.Status.CoolingUntil.UTC().Format(time.RFC3339)
		}
		return []any{name, resource.OrNone(parent), request, resource.PhaseCell(allocation, phase), resource.OrNone(allocation.Status.Prefix), age, resource.OrNone(until)}, nil
	},
}
