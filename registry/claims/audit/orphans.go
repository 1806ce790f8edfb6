// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"slices"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// orphans are the allocations that hold space of a parent that does not exist, by the name of the parent. A server
// without claims may have left them, or their parent could not be decoded and was moved to lost+found. If a Prefix
// of that name is created later, they have no claims to its space until it becomes Allocated: see ClaimOrphans.
type orphans struct {
	mu sync.Mutex
	of map[types.NamespacedName][]types.NamespacedName
}

// replace replaces all orphans.
func (o *orphans) replace(all []unclaimed) {
	of := map[types.NamespacedName][]types.NamespacedName{}
	for _, a := range all {
		parent := types.NamespacedName{Namespace: a.parentNamespace, Name: a.parent}
		of[parent] = append(of[parent], types.NamespacedName{Namespace: a.Namespace, Name: a.Name})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of = of
}

func (o *orphans) get(parent types.NamespacedName) []types.NamespacedName {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.of[parent])
}

// ClaimOrphans must be called before each update of an object. Before a Prefix becomes Allocated, it makes the claims of
// all orphans that name this Prefix as their parent. Only an Allocated Prefix can have new allocations, so these cannot
// overlap the orphans.
func (a *Auditor) ClaimOrphans(ctx context.Context, oldObj, newObj runtime.Object) error {
	prefix, ok := newObj.(*ipam.Prefix)
	if !ok || prefix.Status.Phase != ipam.PrefixPhaseAllocated {
		return nil
	}
	if old, ok := oldObj.(*ipam.Prefix); ok && old.Status.Phase == ipam.PrefixPhaseAllocated {
		return nil
	}
	for _, name := range a.orphaned.get(types.NamespacedName{Namespace: prefix.Namespace, Name: prefix.Name}) {
		p := &pass{Auditor: a, grace: -1}
		p.fix = func(ctx context.Context, v *view, d Difference) (outcome, error) {
			if d.Kind != AllocationWithoutClaim {
				return leave, nil
			}
			return p.makeClaim(ctx, v, d, true)
		}
		key := a.Allocations.Key(name.Namespace, name.Name)
		if err := p.settle(ctx, nil, func(ctx context.Context, v *view) []Difference { return p.judgeAllocation(ctx, v, key) }); err != nil {
			return err
		}
		if slices.ContainsFunc(p.differences, func(d Difference) bool { return d.Kind == AllocationWithoutClaim }) {
			return apierrors.NewServerTimeout(ipam.Resource("prefixes"), "write", 1)
		}
	}
	return nil
}
