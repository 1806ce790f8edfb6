// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/lru"
)

// Claims plans what writes mean for the claims.
type Claims struct {
	kv       clientv3.KV
	keyspace keyspace
	// prefixes and allocations are where the objects are read.
	prefixes, allocations objects
	// createdAt is the create revision of Prefixes by uid, which cannot change. Only etcd knows it.
	createdAt *lru.Cache
	// claimsMade are the claims that this server has made, by key.
	claimsMade *lru.Cache
	// orphaned are the allocations whose parent did not exist when objects and claims were compared last.
	orphaned orphans
	// disjointRoots is whether no new root may overlap another one of its namespace.
	disjointRoots bool
	// rootLocks are held by namespace while a root is created.
	rootLocks keyLocks
}

const (
	// maxCreated is how many parents are remembered.
	maxCreated = 100_000
	// maxMade is how many claims are: the child is completed soon.
	maxMade = 10_000
)

// made is a claim that this server has made, and at what revision of etcd.
type made struct {
	revision int64
	claim    claim
}

// newClaims returns claims that have no etcd yet.
func newClaims(config Config) *Claims {
	return &Claims{disjointRoots: config.DisjointRoots, createdAt: lru.New(maxCreated), claimsMade: lru.New(maxMade)}
}

// parent is what a plan has to know of a parent.
type parent struct {
	uid            types.UID
	createRevision int64
	prefix         netip.Prefix
	allocated      bool
	deleting       bool
}

func parentOf(prefix *ipam.Prefix, createRevision int64) *parent {
	parsed, err := cidr.ParseStored(prefix.Spec.Prefix)
	return &parent{
		uid:            prefix.UID,
		createRevision: createRevision,
		prefix:         parsed,
		allocated:      err == nil && prefix.Status.Phase == ipam.PrefixPhaseAllocated,
		deleting:       prefix.DeletionTimestamp != nil,
	}
}

// manyBits is how many bits a prefix leaves for hosts that can have so many claims inside that etcd
// should not load them all to see that it is not free: it does so while every other write waits.
const manyBits = 10

// planAllocate plans that an allocation becomes Allocated: its parent has to be the one that was
// looked at, and nobody may hold what overlaps its prefix.
func (c *Claims) planAllocate(ctx context.Context, r reader, allocation *ipam.PrefixAllocation) (plan, error) {
	refused := func(err error) (plan, error) {
		if !r.isLive() {
			// The parent may be another one than the cache thinks, and have nothing against it.
			return c.planAllocate(ctx, live{c}, allocation)
		}
		return plan{}, err
	}
	refuse := func(format string, args ...any) (plan, error) {
		return refused(conflict("prefixallocations", allocation.Name, fmt.Errorf(format, args...)))
	}
	name, prefix, ok := allocated(allocation)
	if !ok {
		return refuse("it cannot be Allocated without prefixRef and a valid prefix")
	}
	p, err := r.parent(ctx, allocation.Namespace, name)
	if err != nil {
		return plan{}, err
	}
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	switch {
	case p == nil:
		return refuse("%s cannot be allocated from Prefix %s, which does not exist", prefix, name)
	case demanded && wanted != p.uid:
		return refuse("%s cannot be allocated from Prefix %s with uid %s: the Prefix of that name has uid %s", prefix, name, wanted, p.uid)
	case !p.allocated:
		return refuse("%s cannot be allocated from Prefix %s, which is not allocated itself", prefix, name)
	case p.deleting:
		return refuse("%s cannot be allocated from Prefix %s, which is being deleted", prefix, name)
	case !cidr.StrictlyInside(prefix, p.prefix):
		return refused(apierrors.NewInvalid(ipam.Kind("PrefixAllocation"), allocation.Name, field.ErrorList{
			field.Invalid(field.NewPath("status", "prefix"), allocation.Status.Prefix, fmt.Sprintf("must be strictly inside %s of Prefix %s", p.prefix, name)),
		}))
	}

	key := c.keyspace.claim(p.uid, prefix)
	inside := c.keyspace.inside(p.uid, prefix)
	if prefix.Addr().BitLen()-prefix.Bits() >= manyBits {
		// The range can have more than a few claims, so look before etcd loads them all.
		if err := c.refuseInUse(ctx, allocation, prefix, name, inside); err != nil {
			return plan{}, err
		}
	}
	held := claim{Holders: []holder{holderOf(allocation)}}
	value, err := held.encode()
	if err != nil {
		return plan{}, err
	}
	child, why, err := c.guardRequester(ctx, r, allocation, prefix, name)
	switch {
	case err != nil:
		return plan{}, err
	case why != nil:
		return refused(why)
	}

	around := c.keyspace.around(p.uid, p.prefix, prefix)
	guards := append(make([]guard, 0, 3+len(around)),
		isSame(c.prefixes.etcdKey(allocation.Namespace, name), p.createRevision),
		isEmpty(inside),
	)
	for _, r := range around {
		guards = append(guards, isEmpty(r))
	}
	ranges := len(guards)
	guards = append(guards, child...)
	if len(guards)+1 > maxTxnOps {
		return refused(apierrors.NewInvalid(ipam.Kind("PrefixAllocation"), allocation.Name, field.ErrorList{
			field.Invalid(field.NewPath("status", "prefix"), allocation.Status.Prefix,
				fmt.Sprintf("is too far below %s of Prefix %s to be checked in one transaction: allocate a Prefix in between", p.prefix, name)),
		}))
	}
	return plan{
		guards:    guards,
		then:      []clientv3.Op{clientv3.OpPut(key, value)},
		committed: func(revision int64) { c.claimsMade.Add(key, made{revision, held}) },
		explain: func(answers []*pb.RangeResponse) error {
			if kv := first(answers[0]); kv == nil || kv.CreateRevision != p.createRevision {
				c.createdAt.Remove(p.uid)
				return errStale
			}
			for _, answer := range answers[1:ranges] {
				if kv := first(answer); kv != nil {
					return c.inUse(ctx, allocation, prefix, name, kv)
				}
			}
			return errStale
		},
	}, nil
}

// guardRequester checks that the Prefix to which an allocation refers exists, is Pending, and asks for the
// prefix that the allocation is about to get from the parent. From then on the claim says whom the space is
// for, whatever anybody writes into the allocation. It returns the guard that the Prefix has not changed
// meanwhile, or why the allocation cannot be made for it. If the allocation refers to none, there is neither.
func (c *Claims) guardRequester(ctx context.Context, r reader, allocation *ipam.PrefixAllocation, prefix netip.Prefix, parentName string) ([]guard, error, error) {
	requester := requesterOf(allocation)
	if requester == nil {
		return nil, nil, nil
	}
	child, revision, err := r.prefix(ctx, allocation.Namespace, requester.Name)
	if err != nil {
		return nil, nil, err
	}
	refuse := func(format string, args ...any) ([]guard, error, error) {
		return nil, conflict("prefixallocations", allocation.Name, fmt.Errorf(format, args...)), nil
	}
	switch {
	case revision == 0 || !requester.is(child):
		return refuse("it is for Prefix %s with uid %s, which does not exist", requester.Name, requester.UID)
	case child.DeletionTimestamp != nil:
		return refuse("it is for Prefix %s, which is being deleted", child.Name)
	case child.Spec.IsRoot():
		return refuse("it is for Prefix %s, which is a root and needs no PrefixAllocation", child.Name)
	case child.Status.Phase == ipam.PrefixPhaseAllocated:
		return refuse("it is for Prefix %s, which is Allocated already", child.Name)
	case !asksFor(child, prefix, parentName):
		return refuse("it is for Prefix %s, which does not ask for %s of Prefix %s", child.Name, prefix, parentName)
	}
	return []guard{isUnchanged(c.prefixes.etcdKey(allocation.Namespace, child.Name), revision)}, nil, nil
}

// asksFor reports whether a Pending child can become Allocated with a prefix of a parent. What the child
// selects its parent by does not matter: that is up to the scheduler.
func asksFor(child *ipam.Prefix, prefix netip.Prefix, parentName string) bool {
	spec := &child.Spec
	switch {
	case spec.ParentRef != nil && spec.ParentRef.Name != parentName:
		return false
	case spec.Prefix != "":
		return cidr.Equal(spec.Prefix, prefix.String())
	case spec.IPFamily != "" && string(spec.IPFamily) != cidr.FamilyOf(prefix):
		return false
	}
	return spec.PrefixLength == 0 || int(spec.PrefixLength) == prefix.Bits()
}

// refuseInUse looks for one claim in a range.
func (c *Claims) refuseInUse(ctx context.Context, allocation *ipam.PrefixAllocation, prefix netip.Prefix, parentName string, r keyRange) error {
	kv, err := c.firstOf(ctx, r)
	if err != nil || kv == nil {
		return err
	}
	return c.inUse(ctx, allocation, prefix, parentName, kv)
}

// inUse is the answer to who asks for what overlaps a claim.
func (c *Claims) inUse(ctx context.Context, allocation *ipam.PrefixAllocation, wanted netip.Prefix, parentName string, kv *mvccpb.KeyValue) error {
	held, h, err := c.holderIn(kv)
	if err != nil {
		return err
	}
	who := c.describe(ctx, h)
	refusal := conflict("prefixallocations", allocation.Name, fmt.Errorf("%s of Prefix %s overlaps %s, which %s holds", wanted, parentName, held, who))
	refusal.ErrStatus.Details.Causes = append([]metav1.StatusCause{
		{Type: ipam.CauseTypePrefixInUse, Field: "status.prefix", Message: fmt.Sprintf("%s overlaps %s, which %s holds", wanted, held, who)},
	}, holderCauses(held, h)...)
	return refusal
}

// holderCauses tell a program who holds what.
func holderCauses(held netip.Prefix, h holder) []metav1.StatusCause {
	return []metav1.StatusCause{
		{Type: ipam.CauseTypeHolderPrefix, Message: held.String()},
		{Type: ipam.CauseTypeHolderName, Message: h.Name},
		{Type: ipam.CauseTypeHolderUID, Message: string(h.UID)},
	}
}

// planRelease plans that an allocation goes, and its claim with it. No live Prefix may stand on it.
func (c *Claims) planRelease(ctx context.Context, r reader, allocation *ipam.PrefixAllocation) (plan, error) {
	name, prefix, ok := allocated(allocation)
	if !ok {
		return plan{}, nil
	}
	p, err := r.parent(ctx, allocation.Namespace, name)
	if err != nil {
		return plan{}, err
	}
	if p == nil {
		return c.guardChild(ctx, requesterOf(allocation), allocation, plan{})
	}
	key := c.keyspace.claim(p.uid, prefix)
	kv, value, err := r.claim(ctx, key)
	if err != nil {
		return plan{}, err
	}
	h := value.find(allocation.UID)
	if h == nil && !r.isLive() {
		// The parent may be another one than the cache thinks, and the claim be there.
		return c.planRelease(ctx, live{c}, allocation)
	}
	switch {
	case kv == nil:
		return c.guardChild(ctx, requesterOf(allocation), allocation, plan{guards: []guard{isUnchanged(key, 0)}})
	case h == nil:
		return c.guardChild(ctx, requesterOf(allocation), allocation, plan{guards: []guard{isUnchanged(key, kv.ModRevision)}})
	}

	released := plan{guards: []guard{isUnchanged(key, kv.ModRevision)}}
	if rest := value.without(allocation.UID); len(rest.Holders) > 0 {
		encoded, err := rest.encode()
		if err != nil {
			return plan{}, err
		}
		released.then = []clientv3.Op{clientv3.OpPut(key, encoded)}
	} else {
		released.then = []clientv3.Op{clientv3.OpDelete(key)}
	}
	return c.guardChild(ctx, h.Owner, allocation, released)
}

// guardChild adds to the plan for the removal of an allocation that no child stands on it. The child is the
// one that the claim names; an allocation without claim, of another server, has none but the one to which
// it refers.
func (c *Claims) guardChild(ctx context.Context, child *owner, allocation *ipam.PrefixAllocation, removal plan) (plan, error) {
	if child == nil {
		return removal, nil
	}
	found, revision, err := live{c}.prefix(ctx, allocation.Namespace, child.Name)
	if err != nil {
		return plan{}, err
	}
	parentName, prefix, _ := allocated(allocation)
	if revision != 0 && child.is(found) && standsOn(found, prefix, parentName) {
		return plan{}, conflict("prefixallocations", allocation.Name,
			fmt.Errorf("%s is what Prefix %s stands on: delete that Prefix instead", prefix, found.Name))
	}
	key := c.prefixes.etcdKey(allocation.Namespace, child.Name)
	removal.guards = append(removal.guards, isUnchanged(key, revision))
	if revision == 0 {
		at := len(removal.guards)
		removal.guards = append(removal.guards, isUnchanged(c.lost(key), 0))
		removal.explain = func(answers []*pb.RangeResponse) error {
			if first(answers[at]) == nil {
				return errStale
			}
			return conflict("prefixallocations", allocation.Name,
				fmt.Errorf("%s may be what Prefix %s stands on, which is in lost+found in etcd", prefix, child.Name))
		}
	}
	return removal, nil
}

// standsOn reports whether a child is Allocated with a prefix of a parent.
func standsOn(child *ipam.Prefix, prefix netip.Prefix, parentName string) bool {
	return child.Status.Phase == ipam.PrefixPhaseAllocated && cidr.Equal(child.Spec.Prefix, prefix.String()) &&
		child.Spec.ParentRef != nil && child.Spec.ParentRef.Name == parentName
}

// keepRequester keeps the controller reference of an allocation that holds space in line with its claim,
// which says for good whom the space is for. It is refused to remove the reference while that child lives.
// While the child is being deleted, and afterwards, the reference stays silently: whoever orphans the
// dependents of the child removes it, and the space has to be freed all the same. It is also refused to
// make the allocation that of another Prefix.
func (c *Claims) keepRequester(ctx context.Context, allocation, old *ipam.PrefixAllocation) error {
	was, is := requesterOf(old), requesterOf(allocation)
	if is.same(was) {
		return nil
	}
	claimed, err := c.claimedFor(ctx, old)
	if err != nil {
		return err
	}
	refuse := func(format string, args ...any) error {
		return apierrors.NewInvalid(ipam.Kind("PrefixAllocation"), allocation.Name, field.ErrorList{
			field.Forbidden(field.NewPath("metadata", "ownerReferences"), fmt.Sprintf(format, args...)),
		})
	}
	switch {
	case is != nil && is.same(claimed):
		return nil
	case is != nil && claimed == nil:
		return refuse("%s is allocated to it already, and not for Prefix %s: create that Prefix without this PrefixAllocation", old.Status.Prefix, is.Name)
	case is != nil:
		return refuse("%s is allocated to it for Prefix %s, not for Prefix %s", old.Status.Prefix, claimed.Name, is.Name)
	case !was.same(claimed):
		return nil
	}
	child, revision, err := live{c}.prefix(ctx, old.Namespace, claimed.Name)
	if err != nil {
		return err
	}
	if revision != 0 && claimed.is(child) && child.DeletionTimestamp == nil {
		return refuse("%s is allocated to it for Prefix %s, so the controller reference to that Prefix cannot be removed", old.Status.Prefix, claimed.Name)
	}
	if other := metav1.GetControllerOfNoCopy(allocation); other != nil {
		return refuse("%s is allocated to it for Prefix %s, not for %s %s", old.Status.Prefix, claimed.Name, other.Kind, other.Name)
	}
	allocation.OwnerReferences = append(slices.Clone(allocation.OwnerReferences), *metav1.GetControllerOf(old))
	return nil
}

// claimedFor returns the child that the space of an allocation was claimed for, or nil if the allocation
// stands for itself or has no claim.
func (c *Claims) claimedFor(ctx context.Context, allocation *ipam.PrefixAllocation) (*owner, error) {
	name, prefix, ok := allocated(allocation)
	if !ok {
		return nil, nil
	}
	p, err := live{c}.parent(ctx, allocation.Namespace, name)
	if err != nil || p == nil {
		return nil, err
	}
	_, value, err := live{c}.claim(ctx, c.keyspace.claim(p.uid, prefix))
	if err != nil {
		return nil, err
	}
	if h := value.find(allocation.UID); h != nil {
		return h.Owner, nil
	}
	return nil, nil
}

// planComplete plans that a child becomes Allocated: an allocation that was made for it has to hold
// what it gets.
func (c *Claims) planComplete(ctx context.Context, r reader, child *ipam.Prefix) (plan, error) {
	refuse := func(format string, args ...any) (plan, error) {
		return plan{}, conflict("prefixes", child.Name, fmt.Errorf(format, args...))
	}
	prefix, err := cidr.ParseStored(child.Spec.Prefix)
	if err != nil || child.Spec.ParentRef == nil {
		return refuse("it cannot be Allocated without a valid prefix and parentRef")
	}
	name := child.Spec.ParentRef.Name
	p, err := r.parent(ctx, child.Namespace, name)
	if err != nil {
		return plan{}, err
	}
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	switch {
	case p == nil:
		return refuse("it cannot get %s from Prefix %s, which does not exist", prefix, name)
	case demanded && wanted != p.uid:
		return refuse("it cannot get %s from Prefix %s with uid %s: the Prefix of that name has uid %s", prefix, name, wanted, p.uid)
	}
	key := c.keyspace.claim(p.uid, prefix)
	if m, ok := r.made(key); ok && m.claim.isOf(child) {
		return plan{guards: []guard{isUnchanged(key, m.revision)}}, nil
	}
	kv, value, err := r.claim(ctx, key)
	if err != nil {
		return plan{}, err
	}
	if value.isOf(child) {
		return plan{guards: []guard{isUnchanged(key, kv.ModRevision)}}, nil
	}
	if !r.isLive() {
		// The parent may be another one than the cache thinks.
		return c.planComplete(ctx, live{c}, child)
	}
	refusal := conflict("prefixes", child.Name, fmt.Errorf("no PrefixAllocation of it holds %s of Prefix %s", prefix, name))
	refusal.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: ipam.CauseTypeNotAllocatedFor, Field: "spec.prefix", Message: fmt.Sprintf("%s of Prefix %s is not allocated for it", prefix, name),
	}}
	return plan{}, refusal
}

// planVanish plans that a Prefix goes for good: nothing may be allocated from it.
func (c *Claims) planVanish(ctx context.Context, prefix *ipam.Prefix) (plan, error) {
	held := c.keyspace.of(prefix.UID)
	refuse := func(kv *mvccpb.KeyValue) error {
		part, h, err := c.holderIn(kv)
		if err != nil {
			return err
		}
		refusal := conflict("prefixes", prefix.Name, fmt.Errorf("%s is allocated from it, which %s holds", part, c.describe(ctx, h)))
		refusal.ErrStatus.Details.Causes = holderCauses(part, h)
		return refusal
	}
	// There may be many: look before etcd loads them all.
	switch kv, err := c.firstOf(ctx, held); {
	case err != nil:
		return plan{}, err
	case kv != nil:
		return plan{}, refuse(kv)
	}
	return plan{
		guards: []guard{isEmpty(held)},
		explain: func(answers []*pb.RangeResponse) error {
			if kv := first(answers[0]); kv != nil {
				return refuse(kv)
			}
			return errStale
		},
	}, nil
}
