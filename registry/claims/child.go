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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

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
	if m, ok := r.written(key); ok && m.claim.isOf(child) {
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
