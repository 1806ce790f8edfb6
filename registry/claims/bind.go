// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// manyBits is the number of host bits from which on a prefix is checked for claims before the transaction. So large
// a prefix can contain many claims. If it is not free, the compare in the transaction makes etcd load all of them,
// and every other write waits meanwhile.
const manyBits = 10

// planBindAllocation plans the change of an allocation to Allocated. The transaction fails if the parent is not the Prefix
// that the plan was made for, or if a claim overlaps the prefix.
func (pl *Planner) planBindAllocation(ctx context.Context, r reader, allocation *ipam.PrefixAllocation) (Plan, error) {
	plan, err := pl.planBindAllocationFrom(ctx, r, allocation)
	if !r.isLive() && isRefusal(err) {
		// The cache may be stale, and the current parent may accept the allocation.
		plan, err = pl.planBindAllocationFrom(ctx, live{pl}, allocation)
	}
	return plan, reasonOf(err)
}

// planBindAllocationFrom implements planBindAllocation for one reader. Its error is a refusal if the reader may be the reason.
func (pl *Planner) planBindAllocationFrom(ctx context.Context, r reader, allocation *ipam.PrefixAllocation) (Plan, error) {
	name, prefix, ok := Allocated(allocation)
	if !ok {
		return Plan{}, refused(allocation, "it cannot be Allocated without prefixRef and a valid prefix")
	}
	p, err := r.parent(ctx, allocation.NamespaceOfParent(), name)
	if err != nil {
		return Plan{}, err
	}
	parentGuards, err := pl.guardParent(ctx, r, p, allocation, prefix)
	if err != nil {
		return Plan{}, err
	}
	if err := checkParent(ctx, p, allocation, prefix); err != nil {
		return Plan{}, err
	}
	if prefix.Addr().BitLen()-prefix.Bits() >= manyBits {
		// Check here first: see manyBits.
		if err := pl.refuseInUse(ctx, allocation, prefix, pl.Keys.Inside(p.uid, prefix)); err != nil {
			return Plan{}, err
		}
	}
	held := Claim{Holders: []Holder{HolderOf(allocation)}}
	value, err := held.Encode()
	if err != nil {
		return Plan{}, err
	}
	childGuards, err := pl.guardPendingChild(ctx, r, allocation, prefix, parentName(allocation))
	if err != nil {
		return Plan{}, err
	}
	if !cidr.Checkable(p.prefix, prefix, len(childGuards) > 0, allocation.NamespaceOfParent() != allocation.Namespace) {
		return Plan{}, refusedPrefix(allocation, "is too far below %s of Prefix %s to be checked in one transaction: create a Prefix in between",
			p.prefix, parentName(allocation))
	}
	key := pl.Keys.Claim(p.uid, prefix)
	return Plan{
		Guards:    slices.Concat(parentGuards, pl.guardFree(ctx, p, allocation, prefix), childGuards),
		then:      []clientv3.Op{clientv3.OpPut(key, value)},
		committed: func(revision int64) { pl.writtenClaims.Add(key, writtenClaim{revision, held}) },
	}, nil
}

// parentName returns the name of the parent of an allocation for messages: with its namespace if that is another one.
func parentName(allocation *ipam.PrefixAllocation) string {
	name, namespace := allocation.Spec.PrefixRef.Name, allocation.NamespaceOfParent()
	if namespace == allocation.Namespace {
		return name
	}
	return namespace + "/" + name
}

// guardParent returns guards that the parent of an allocation is the same until the commit, and is still shared with the
// namespace of the allocation if it is in another one. It refuses the allocation if the parent does not exist or is not
// shared.
func (pl *Planner) guardParent(ctx context.Context, r reader, p *parent, allocation *ipam.PrefixAllocation, prefix netip.Prefix) ([]Guard, error) {
	name, namespace := allocation.Spec.PrefixRef.Name, allocation.NamespaceOfParent()
	key := pl.Prefixes.Key(namespace, name)
	// A parent that has been deleted, or created again, also ends what is remembered of it.
	gone := func(kv *mvccpb.KeyValue) error {
		if kv == nil || kv.CreateRevision != p.createRevision {
			pl.createdAt.Remove(p.uid)
			return errStale
		}
		return nil
	}
	if namespace == allocation.Namespace {
		if p == nil {
			return nil, refused(allocation, "%s cannot be allocated from Prefix %s, which does not exist", prefix, name)
		}
		return []Guard{IsSame(key, p.createRevision).orFail(gone)}, nil
	}
	consent, err := pl.guardConsent(ctx, r, p, namespace, allocation.Namespace)
	if err != nil {
		return nil, err
	}
	if consent == nil {
		// Whether the parent exists is not told.
		return nil, refused(allocation, "%s cannot be allocated from Prefix %s, which does not exist or is not shared with namespace %s",
			prefix, parentName(allocation), allocation.Namespace)
	}
	// The consent depends on the labels of the parent, so the parent must be unchanged.
	return []Guard{IsUnchanged(key, p.modRevision).orFail(gone), *consent}, nil
}

// checkParent refuses an allocation that its parent cannot have.
func checkParent(ctx context.Context, p *parent, allocation *ipam.PrefixAllocation, prefix netip.Prefix) error {
	name := parentName(allocation)
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	switch {
	case demanded && wanted != p.uid:
		return refused(allocation, "%s cannot be allocated from Prefix %s with uid %s: the Prefix of that name has uid %s", prefix, name, wanted, p.uid)
	case !p.allocated:
		return refused(allocation, "%s cannot be allocated from Prefix %s, which is not allocated", prefix, name)
	case p.deleting:
		return refused(allocation, "%s cannot be allocated from Prefix %s, which is being deleted", prefix, name)
	case !cidr.StrictlyInside(prefix, p.prefix):
		return refusedPrefix(allocation, "must be strictly inside %s of Prefix %s", p.prefix, name)
	}
	return nil
}

// guardFree returns guards that no claim overlaps the prefix of an allocation.
func (pl *Planner) guardFree(ctx context.Context, p *parent, allocation *ipam.PrefixAllocation, prefix netip.Prefix) []Guard {
	inUse := func(kv *mvccpb.KeyValue) error {
		if kv == nil {
			return nil
		}
		return pl.inUse(ctx, allocation, prefix, kv)
	}
	around := pl.Keys.Around(p.uid, p.prefix, prefix)
	guards := append(make([]Guard, 0, 1+len(around)), IsEmpty(pl.Keys.Inside(p.uid, prefix)).orFail(inUse))
	for _, r := range around {
		guards = append(guards, IsEmpty(r).orFail(inUse))
	}
	return guards
}

// refuseInUse returns the error of inUse if there is a claim in a range.
func (pl *Planner) refuseInUse(ctx context.Context, allocation *ipam.PrefixAllocation, prefix netip.Prefix, r Range) error {
	kv, err := pl.FirstOf(ctx, r)
	if err != nil || kv == nil {
		return err
	}
	return pl.inUse(ctx, allocation, prefix, kv)
}

// inUse returns the Conflict error for an allocation that overlaps an existing claim. Its causes identify the claim
// and the holder.
func (pl *Planner) inUse(ctx context.Context, allocation *ipam.PrefixAllocation, wanted netip.Prefix, kv *mvccpb.KeyValue) error {
	held, h, err := pl.holderIn(kv)
	if err != nil {
		return err
	}
	shown, who := pl.shownTo(ctx, allocation.Namespace, allocation.NamespaceOfParent(), wanted, held, h)
	refusal := conflict("prefixallocations", allocation.Name, fmt.Errorf("%s of Prefix %s overlaps %s, which %s holds", wanted, parentName(allocation), shown, who))
	refusal.ErrStatus.Details.Causes = append([]metav1.StatusCause{
		{Type: v1alpha1.CauseTypePrefixInUse, Field: "status.prefix", Message: fmt.Sprintf("%s overlaps %s, which %s holds", wanted, shown, who)},
	}, holderCauses(shown, h, allocation.Namespace)...)
	return refusal
}

// holderCauses returns the machine-readable causes that identify a held prefix and its holder, for a reader of a
// namespace. A holder of another namespace is not named.
func holderCauses(held netip.Prefix, h Holder, namespace string) []metav1.StatusCause {
	causes := []metav1.StatusCause{
		{Type: v1alpha1.CauseTypeHolderPrefix, Message: held.String()},
		{Type: v1alpha1.CauseTypeHolderUID, Message: string(h.UID)},
	}
	if h.Namespace == namespace {
		causes = append(causes, metav1.StatusCause{Type: v1alpha1.CauseTypeHolderName, Message: h.Name})
	}
	return causes
}
