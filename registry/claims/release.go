// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// planRelease plans the removal of an allocation and its claim. It is refused while an allocated Prefix depends on
// the allocation, and with a CoolingError while its space has to cool down.
func (pl *Planner) planRelease(ctx context.Context, r reader, allocation *ipam.PrefixAllocation) (Plan, error) {
	plan, err := pl.planReleaseFrom(ctx, r, allocation)
	if !r.isLive() && isCoolingError(err) {
		// The cache may be stale, and the current parent may be about to end.
		return pl.planReleaseFrom(ctx, live{pl}, allocation)
	}
	return plan, err
}

func (pl *Planner) planReleaseFrom(ctx context.Context, r reader, allocation *ipam.PrefixAllocation) (Plan, error) {
	name, prefix, ok := Allocated(allocation)
	if !ok {
		return Plan{}, nil
	}
	p, err := r.parent(ctx, allocation.NamespaceOfParent(), name)
	if err != nil {
		return Plan{}, err
	}
	if p == nil {
		return pl.guardUnused(ctx, nil, HolderOf(allocation), allocation, Plan{})
	}
	// The holder is not read yet. This asks only whether the allocation already cools down.
	if err := pl.checkCoolDown(ctx, p, allocation, Holder{}, false); err != nil {
		return Plan{}, err
	}
	key := pl.Keys.Claim(p.uid, prefix)
	kv, value, err := r.claim(ctx, key)
	if err != nil {
		return Plan{}, err
	}
	h := value.Find(allocation.UID)
	if h == nil && !r.isLive() {
		// The cache may be stale. The current parent may have another uid, and the claim may be stored under that.
		return pl.planReleaseFrom(ctx, live{pl}, allocation)
	}
	switch {
	case kv == nil:
		return pl.guardUnused(ctx, nil, HolderOf(allocation), allocation, Plan{Guards: []Guard{IsUnchanged(key, 0)}})
	case h == nil:
		return pl.guardUnused(ctx, nil, HolderOf(allocation), allocation, Plan{Guards: []Guard{IsUnchanged(key, kv.ModRevision)}})
	}

	released := Plan{Guards: []Guard{IsUnchanged(key, kv.ModRevision)}}
	if rest := value.Without(allocation.UID); len(rest.Holders) > 0 {
		encoded, err := rest.Encode()
		if err != nil {
			return Plan{}, err
		}
		// Others hold the space, so there is nothing to keep for the child.
		p, released.then = nil, []clientv3.Op{clientv3.OpPut(key, encoded)}
	} else {
		released.then = []clientv3.Op{clientv3.OpDelete(key)}
	}
	return pl.guardUnused(ctx, p, *h, allocation, released)
}

// guardUnused adds a check to the plan for the removal of an allocation: no allocated child uses its space. h is the
// holder in the claim. An allocation without a claim was written by another server; then h is made of its controller
// reference. If the child does not exist, or another one has its name, it must not be in lost+found either. The space may
// have to cool down, if p, the parent from which it was claimed for the child, is set.
func (pl *Planner) guardUnused(ctx context.Context, p *parent, h Holder, allocation *ipam.PrefixAllocation, removal Plan) (Plan, error) {
	ref := h.Child
	if ref == nil {
		return removal, nil
	}
	child, revision, err := live{pl}.prefix(ctx, allocation.Namespace, ref.Name)
	if err != nil {
		return Plan{}, err
	}
	_, prefix, _ := Allocated(allocation)
	gone := revision == 0 || !ref.is(child)
	if !gone && standsOn(child, allocation) {
		return Plan{}, conflict("prefixallocations", allocation.Name,
			fmt.Errorf("%s is in use by Prefix %s: delete that Prefix instead", prefix, child.Name))
	}
	if p != nil {
		err := pl.checkCoolDown(ctx, p, allocation, h, gone)
		if isCoolingError(err) && !gone && child.Status.Phase != ipam.PrefixPhaseAllocated {
			err = conflict("prefixallocations", allocation.Name,
				fmt.Errorf("%s was given back to Prefix %s, which is about to use it: delete that Prefix instead", prefix, child.Name))
		}
		if err != nil {
			return Plan{}, err
		}
	}
	key := pl.Prefixes.Key(allocation.Namespace, ref.Name)
	removal.Guards = append(removal.Guards, IsUnchanged(key, revision))
	if gone {
		removal.Guards = append(removal.Guards, IsUnchanged(pl.Lost(key), 0).orFail(func(kv *mvccpb.KeyValue) error {
			if kv == nil {
				return nil
			}
			return conflict("prefixallocations", allocation.Name,
				fmt.Errorf("%s may be in use by Prefix %s, which is in lost+found in etcd", prefix, ref.Name))
		}))
	}
	return removal, nil
}

// standsOn reports whether a child is Allocated with what an allocation holds.
func standsOn(child *ipam.Prefix, allocation *ipam.PrefixAllocation) bool {
	parent, prefix, ok := Allocated(allocation)
	return ok && child.Status.Phase == ipam.PrefixPhaseAllocated && cidr.Equal(child.Spec.Prefix, prefix.String()) &&
		child.NamespaceOfParent() == allocation.NamespaceOfParent() && child.Spec.ParentRef != nil && child.Spec.ParentRef.Name == parent
}

// planDeletePrefix plans the final removal of a Prefix. It is refused while anything is allocated from the Prefix.
func (pl *Planner) planDeletePrefix(ctx context.Context, prefix *ipam.Prefix) (Plan, error) {
	held := pl.Keys.Of(prefix.UID)
	refuse := func(kv *mvccpb.KeyValue) error {
		part, h, err := pl.holderIn(kv)
		if err != nil {
			return err
		}
		refusal := conflict("prefixes", prefix.Name, fmt.Errorf("%s is still allocated from it: %s holds it", part, pl.describeTo(ctx, prefix.Namespace, h)))
		refusal.ErrStatus.Details.Causes = holderCauses(part, h, prefix.Namespace)
		return refusal
	}
	// A Prefix can have many claims, and the compare in the transaction makes etcd load all of them. Check here
	// first.
	switch kv, err := pl.FirstOf(ctx, held); {
	case err != nil:
		return Plan{}, err
	case kv != nil:
		return Plan{}, refuse(kv)
	}
	return Plan{Guards: []Guard{IsEmpty(held).orFail(func(kv *mvccpb.KeyValue) error {
		if kv == nil {
			return nil
		}
		return refuse(kv)
	})}}, nil
}
