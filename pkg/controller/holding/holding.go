// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package holding tells which space a PrefixAllocation holds, finds the allocations from a parent in an informer, and gives
// space that is kept for a child to that child.
package holding

import (
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// Of returns the prefix that an allocation holds and its parent. ok is false if it holds none, or is nil.
func Of(allocation *v1alpha1.PrefixAllocation) (parent types.NamespacedName, prefix netip.Prefix, ok bool) {
	if allocation == nil || allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || allocation.Spec.PrefixRef == nil {
		return types.NamespacedName{}, netip.Prefix{}, false
	}
	prefix, err := cidr.ParseStored(allocation.Status.Prefix)
	if err != nil {
		return types.NamespacedName{}, netip.Prefix{}, false
	}
	return types.NamespacedName{Namespace: allocation.NamespaceOfParent(), Name: allocation.Spec.PrefixRef.Name}, prefix, true
}

// byParent is the name of the index of the allocations that hold space. The key is the namespace/name of the parent.
const byParent = "byParent"

// AddIndex adds the index that From needs to an informer of PrefixAllocations, unless it has it. It fails if the informer
// has stopped.
func AddIndex(indexer cache.Indexer) error {
	if indexer.GetIndexers()[byParent] != nil {
		return nil
	}
	return indexer.AddIndexers(cache.Indexers{byParent: func(obj any) ([]string, error) {
		if parent, _, ok := Of(obj.(*v1alpha1.PrefixAllocation)); ok {
			return []string{parent.String()}, nil
		}
		return nil, nil
	}})
}

// From returns the allocations that hold space of a parent, in any order.
func From(indexer cache.Indexer, parent types.NamespacedName) []*v1alpha1.PrefixAllocation {
	return observe.ByIndex[*v1alpha1.PrefixAllocation](indexer, byParent, parent.String())
}
