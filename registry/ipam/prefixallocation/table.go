// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixallocation

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
		{Name: "Parent", Type: "string", Description: "The Prefix that it is allocated from"},
		{Name: "Request", Type: "string", Description: "The requested prefix or length"},
		{Name: "Phase", Type: "string", Description: "Pending, Allocated, Failed, or Terminating while it is being deleted"},
		{Name: "Prefix", Type: "string", Description: "The allocated range of addresses"},
		resource.Age(),
	},
	Row: func(obj runtime.Object, name, age string) ([]any, error) {
		allocation, ok := obj.(*ipam.PrefixAllocation)
		if !ok {
			return nil, fmt.Errorf("not a PrefixAllocation: %T", obj)
		}
		parent := ""
		if ref := allocation.Spec.PrefixRef; ref != nil {
			parent = ref.Name
		}
		request := allocation.Spec.Prefix
		if request == "" {
			request = fmt.Sprintf("/%d", allocation.Spec.PrefixLength)
		}
		return []any{name, resource.OrNone(parent), request, resource.PhaseCell(allocation, string(allocation.Status.Phase)), resource.OrNone(allocation.Status.Prefix), age}, nil
	},
}
