// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/lru"
)

// Planner plans the checks and the changes of claims that a write of a Prefix or PrefixAllocation needs, and answers
// questions about claims. It is made in three steps, because the storages plan their writes with it and it reads from them:
//
//	planner := NewPlanner(...)
//	make the storage of each kind, which plans with it
//	planner.ReadFrom(Sources{...})
//
// After that it is safe for concurrent use. Before, a write panics.
type Planner struct {
	*Etcd
	// sources are nil until ReadFrom is called.
	sources *Sources
	// namespaceLabels returns the labels of a namespace. It is nil if there are no namespaces.
	namespaceLabels NamespaceLabels
	// createdAt caches the etcd create revision of allocated Prefixes by uid. It never changes, and only etcd has
	// it: objects in the watch cache do not carry it.
	createdAt *lru.Cache
	// claimsMade caches the claims that this server wrote, by key.
	claimsMade *lru.Cache
	// disjointRoots forbids a new root that overlaps another root of its namespace.
	disjointRoots bool
	// rootLocks has a lock for each namespace. It is held while a root is created there.
	rootLocks keyLocks
	// now is the clock.
	now func() time.Time
}

const (
	// maxCreated is the capacity of createdAt, in parents.
	maxCreated = 100_000
	// maxMade is the capacity of claimsMade, in claims. A claim is needed only until its child is Allocated, which
	// is soon.
	maxMade = 10_000
)

// made is a claim that this server wrote, and the etcd revision of that write.
type made struct {
	revision int64
	claim    Claim
}

// NewPlanner returns the planner for what is stored in etcd. disjointRoots forbids a new root that overlaps another root of its
// namespace. namespaceLabels is nil if there are no namespaces.
func NewPlanner(etcd *Etcd, disjointRoots bool, namespaceLabels NamespaceLabels) *Planner {
	return &Planner{
		Etcd: etcd, disjointRoots: disjointRoots, namespaceLabels: namespaceLabels,
		createdAt: lru.New(maxCreated), claimsMade: lru.New(maxMade), now: time.Now,
	}
}

// Sources are what a planner reads from besides etcd. All of them must be set.
type Sources struct {
	// Prefixes is the storage of Prefixes, with its watch cache if that is enabled. It may be stale.
	Prefixes storage.Interface
	// Attributes returns the labels and selectable fields of a Prefix.
	Attributes storage.AttrFunc
	// Policies is the storage of PrefixPolicies, with its watch cache if that is enabled.
	Policies storage.Interface
	// CoolDown finds the coolDown of a parent.
	CoolDown CoolDown
}

// ReadFrom sets the sources. It is called once, before the first write. It panics if one of them is missing.
func (pl *Planner) ReadFrom(sources Sources) {
	if sources.Prefixes == nil || sources.Attributes == nil || sources.Policies == nil || sources.CoolDown == nil {
		panic("claims: Planner.ReadFrom needs all of the Sources")
	}
	pl.sources = &sources
}

// readFrom returns the sources. It panics if there are none yet, which is a mistake in the construction of the server.
func (pl *Planner) readFrom() *Sources {
	if pl.sources == nil {
		panic("claims: Planner.ReadFrom must be called before the first write")
	}
	return pl.sources
}

// parent is the part of a parent Prefix that a plan needs.
type parent struct {
	uid                         types.UID
	labels                      labels.Set
	createRevision, modRevision int64
	prefix                      netip.Prefix
	allocated                   bool
	deleting                    bool
}

func parentOf(prefix *ipam.Prefix, createRevision, modRevision int64) *parent {
	parsed, err := cidr.ParseStored(prefix.Spec.Prefix)
	return &parent{
		uid:            prefix.UID,
		labels:         prefix.Labels,
		createRevision: createRevision,
		modRevision:    modRevision,
		prefix:         parsed,
		allocated:      err == nil && prefix.Status.Phase == ipam.PrefixPhaseAllocated,
		deleting:       prefix.DeletionTimestamp != nil,
	}
}

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
		committed: func(revision int64) { pl.claimsMade.Add(key, made{revision, held}) },
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

// guardPendingChild checks the child in the controller reference of an allocation. The child must exist, be Pending, and
// request what the allocation is about to get from the parent. The claim then records this child, so later changes of the
// reference do not matter. It returns a guard against changes of the child until the commit, or none if the allocation
// refers to no child. Its error is a refusal if the child is the reason.
func (pl *Planner) guardPendingChild(ctx context.Context, r reader, allocation *ipam.PrefixAllocation, prefix netip.Prefix, parentName string) ([]Guard, error) {
	ref := childOf(allocation)
	if ref == nil {
		return nil, nil
	}
	child, revision, err := r.prefix(ctx, allocation.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case revision == 0 || !ref.is(child):
		return nil, refused(allocation, "it was created for Prefix %s with uid %s, which does not exist", ref.Name, ref.UID)
	case child.DeletionTimestamp != nil:
		return nil, refused(allocation, "it was created for Prefix %s, which is being deleted", child.Name)
	case child.Spec.IsRoot():
		return nil, refused(allocation, "it was created for Prefix %s, which is a root and needs no PrefixAllocation", child.Name)
	case child.Status.Phase == ipam.PrefixPhaseAllocated:
		return nil, refused(allocation, "it was created for Prefix %s, which is Allocated already", child.Name)
	case child.NamespaceOfParent() != allocation.NamespaceOfParent() || !requests(child, prefix, allocation.Spec.PrefixRef.Name):
		return nil, refused(allocation, "it was created for Prefix %s, which does not ask for %s of Prefix %s", child.Name, prefix, parentName)
	}
	return []Guard{IsUnchanged(pl.Prefixes.Key(allocation.Namespace, child.Name), revision)}, nil
}

// requests reports whether a Pending child can become Allocated with a prefix of a parent. It ignores the child's
// parent selector, which only the scheduler evaluates.
func requests(child *ipam.Prefix, prefix netip.Prefix, parentName string) bool {
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
	shown, who := pl.tell(ctx, allocation.Namespace, allocation.NamespaceOfParent(), wanted, held, h)
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

// keepChild checks a change of the controller reference of an allocation that holds space. The claim of the
// allocation records permanently which child the space is for, and the reference must agree with it:
//
//   - Setting the reference to another Prefix than the claim's is refused.
//   - Removing it is refused while the child exists and is not being deleted.
//   - Once the child is being deleted or gone, a removed reference is restored without an error. A deletion that
//     orphans its dependents removes the reference, but the space must be released all the same.
func (pl *Planner) keepChild(ctx context.Context, allocation, old *ipam.PrefixAllocation) error {
	was, is := childOf(old), childOf(allocation)
	if is.same(was) {
		return nil
	}
	claimed, err := pl.claimedFor(ctx, old)
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
		return refuse("%s is already allocated to it, but not for Prefix %s: create that Prefix without this PrefixAllocation", old.Status.Prefix, is.Name)
	case is != nil:
		return refuse("%s is allocated to it for Prefix %s, not for Prefix %s", old.Status.Prefix, claimed.Name, is.Name)
	case !was.same(claimed):
		return nil
	}
	child, revision, err := live{pl}.prefix(ctx, old.Namespace, claimed.Name)
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

// claimedFor returns the child that the space of an allocation was claimed for. It is nil if there is no claim, or
// if the claim was not made for a child.
func (pl *Planner) claimedFor(ctx context.Context, allocation *ipam.PrefixAllocation) (*ChildRef, error) {
	name, prefix, ok := Allocated(allocation)
	if !ok {
		return nil, nil
	}
	p, err := live{pl}.parent(ctx, allocation.NamespaceOfParent(), name)
	if err != nil || p == nil {
		return nil, err
	}
	_, value, err := live{pl}.claim(ctx, pl.Keys.Claim(p.uid, prefix))
	if err != nil {
		return nil, err
	}
	if h := value.Find(allocation.UID); h != nil {
		return h.Child, nil
	}
	return nil, nil
}

// planBindChild plans the change of a child to Allocated. There must be a claim to its prefix that was made for this
// child.
func (pl *Planner) planBindChild(ctx context.Context, r reader, child *ipam.Prefix) (Plan, error) {
	refuse := func(format string, args ...any) (Plan, error) {
		return Plan{}, conflict("prefixes", child.Name, fmt.Errorf(format, args...))
	}
	prefix, err := cidr.ParseStored(child.Spec.Prefix)
	if err != nil || child.Spec.ParentRef == nil {
		return refuse("it cannot be Allocated without a valid prefix and parentRef")
	}
	name, namespace := child.Spec.ParentRef.Name, child.NamespaceOfParent()
	p, err := r.parent(ctx, namespace, name)
	if err != nil {
		return Plan{}, err
	}
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	unclaimed := func() (Plan, error) {
		refusal := conflict("prefixes", child.Name, fmt.Errorf("none of its PrefixAllocations holds %s of Prefix %s", prefix, name))
		refusal.ErrStatus.Details.Causes = []metav1.StatusCause{{
			Type: v1alpha1.CauseTypeNotAllocatedFor, Field: "spec.prefix", Message: fmt.Sprintf("%s of Prefix %s is not allocated for it", prefix, name),
		}}
		return Plan{}, refusal
	}
	switch {
	case namespace != child.Namespace && (p == nil || demanded && wanted != p.uid):
		// Whether the parent exists is not told. A parent from which it has nothing looks the same.
		name = namespace + "/" + name
		return unclaimed()
	case p == nil:
		return refuse("it cannot get %s from Prefix %s, which does not exist", prefix, name)
	case demanded && wanted != p.uid:
		return refuse("it cannot get %s from Prefix %s with uid %s: the Prefix of that name has uid %s", prefix, name, wanted, p.uid)
	}
	key := pl.Keys.Claim(p.uid, prefix)
	if m, ok := r.made(key); ok && m.claim.isOf(child) {
		return Plan{Guards: []Guard{IsUnchanged(key, m.revision)}}, nil
	}
	kv, value, err := r.claim(ctx, key)
	if err != nil {
		return Plan{}, err
	}
	if value.isOf(child) {
		return Plan{Guards: []Guard{IsUnchanged(key, kv.ModRevision)}}, nil
	}
	if !r.isLive() {
		// The cache may be stale, so check again with the current parent.
		return pl.planBindChild(ctx, live{pl}, child)
	}
	if namespace != child.Namespace {
		name = namespace + "/" + name
	}
	return unclaimed()
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
