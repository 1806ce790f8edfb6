// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Space whose child is gone cools down if a PrefixPolicy of the parent has a coolDown. Its allocation and its claim stay
// as they are, so nobody else can get it, and status.coolingUntil of the allocation says until when. The way of the
// space of a child:
//
//	child is deleted
//	allocation is deleted        the deletion is turned into an update that sets coolingUntil     planCool
//	a child of the same name
//	asks for the same            becomes the controller reference and the child in the claim      planTakeBack
//	allocation is deleted again  does nothing before coolingUntil, then removes both              planRelease
//
// A child that takes space back may get other space all the same, if two controller managers serve it at once. Then the
// space goes on cooling down, because the claim says until when it is kept.
//
// The time is stored, and each server compares it with its own clock. So it survives restarts, and a clock that goes back
// only makes it longer.

// CoolDown returns for how long the space of a Prefix with the given labels that is given back cools down. It is 0 if it
// does not. The answer may be stale.
type CoolDown func(ctx context.Context, namespace string, set labels.Set) (time.Duration, error)

// CoolingError means that an allocation cannot be removed yet, because its space cools down.
type CoolingError struct {
	// Until is when the space has cooled down. It is zero if the allocation does not say so yet. Then it must be set to a
	// time that is For later than now.
	Until time.Time
	For   time.Duration

	allocation *ipam.PrefixAllocation
}

// IsOf reports whether the error is about an allocation, in a version that holds space.
func (e *CoolingError) IsOf(allocation *ipam.PrefixAllocation) bool {
	_, _, holds := Allocated(allocation)
	return holds && e.allocation.UID == allocation.UID
}

// Error implements error.
func (e *CoolingError) Error() string {
	if e.Until.IsZero() {
		return fmt.Sprintf("the space of PrefixAllocation %s must cool down for %s", e.allocation.Name, e.For)
	}
	return fmt.Sprintf("the space of PrefixAllocation %s cools down until %s", e.allocation.Name, e.Until.UTC().Format(time.RFC3339))
}

type earlyKey struct{}

// WithEarlyRelease returns a context for removing allocations although their space cools down.
func WithEarlyRelease(ctx context.Context) context.Context {
	return context.WithValue(ctx, earlyKey{}, true)
}

// checkCoolDown returns a CoolingError if the space of an allocation has to cool down before it is released. h is the holder
// in the claim. gone tells whether the child that the space was claimed for does not exist any more. The parent is the one
// that exists.
func (pl *Planner) checkCoolDown(ctx context.Context, p *parent, allocation *ipam.PrefixAllocation, h Holder, gone bool) error {
	early, _ := ctx.Value(earlyKey{}).(bool)
	switch until := allocation.Status.CoolingUntil; {
	case early, p.deleting, allocation.DeletionTimestamp != nil:
		// An allocation with a deletionTimestamp only waits for its finalizers. Its deletion was checked when it was
		// requested.
		return nil
	case until != nil:
		if pl.now().Before(until.Time) {
			return &CoolingError{Until: until.Time, allocation: allocation}
		}
		return nil
	}
	d := h.KeptUntil.Sub(pl.now())
	if gone {
		of, err := pl.coolDownOf(ctx, p, allocation.NamespaceOfParent())
		if err != nil {
			return err
		}
		d = max(d, of)
	}
	if d <= 0 {
		return nil
	}
	return &CoolingError{For: d, allocation: allocation}
}

// coolDownOf returns for how long the space of a parent cools down. It is 0 if it does not.
func (pl *Planner) coolDownOf(ctx context.Context, p *parent, namespace string) (time.Duration, error) {
	return pl.mustSources().CoolDown(ctx, namespace, p.labels)
}

// isCoolingError reports whether an error is a CoolingError.
func isCoolingError(err error) bool { return errors.As(err, new(*CoolingError)) }

// CoolUntil returns the time until which the space of an allocation cools down, if that takes d from now on. It is in whole
// seconds, rounded up. If the clock is behind the time at which the allocation was allocated, it has gone back, and d
// counts from that time on.
func (pl *Planner) CoolUntil(allocation *ipam.PrefixAllocation, d time.Duration) time.Time {
	now := pl.now()
	if since := allocation.Status.LastPhaseTransitionTime; since != nil && now.Before(since.Time) {
		now = since.Time
	}
	until := now.Add(d)
	if rounded := until.Truncate(time.Second); rounded.Before(until) {
		until = rounded.Add(time.Second)
	}
	return until
}

// planCool plans the update that makes the space of an allocation cool down. The claim must be for a child that is gone, or
// that has other space. It needs no guards: what is gone stays so, and what a child has. A child of the same name that takes
// the space back writes the allocation.
func (pl *Planner) planCool(ctx context.Context, allocation *ipam.PrefixAllocation) (Plan, error) {
	refuse := func(why string) (Plan, error) {
		return Plan{}, conflict("prefixallocations", allocation.Name, errors.New(why))
	}
	name, prefix, _ := Allocated(allocation)
	p, err := live{pl}.parent(ctx, allocation.NamespaceOfParent(), name)
	if err != nil {
		return Plan{}, err
	}
	if p == nil {
		return refuse("its parent does not exist")
	}
	_, value, err := live{pl}.claim(ctx, pl.Keys.Claim(p.uid, prefix))
	if err != nil {
		return Plan{}, err
	}
	h := value.Find(allocation.UID)
	if h == nil || h.Child == nil {
		return refuse("its space is not claimed for a Prefix")
	}
	child, revision, err := live{pl}.prefix(ctx, allocation.Namespace, h.Child.Name)
	if err != nil {
		return Plan{}, err
	}
	if revision != 0 && h.Child.is(child) && (child.Status.Phase != ipam.PrefixPhaseAllocated || standsOn(child, allocation)) {
		return refuse(fmt.Sprintf("its space is claimed for Prefix %s, which exists", child.Name))
	}
	return Plan{}, nil
}

// TakesBack reports whether an update of an allocation that holds space changes its controller reference to another Prefix
// of the same name. If the storage accepts that, the Prefix gets the space.
func TakesBack(allocation, old *ipam.PrefixAllocation) bool {
	if old.Status.Phase != ipam.PrefixAllocationPhaseAllocated {
		return false
	}
	was, is := childOf(old), childOf(allocation)
	return was != nil && is != nil && was.Name == is.Name && was.UID != is.UID
}

// planUpdateAllocated plans an update of an allocation that holds space, and goes on doing so.
func (pl *Planner) planUpdateAllocated(ctx context.Context, allocation, old *ipam.PrefixAllocation) (Plan, error) {
	if TakesBack(allocation, old) {
		claimed, err := pl.claimedFor(ctx, old)
		if err != nil {
			return Plan{}, err
		}
		if is := childOf(allocation); claimed != nil && claimed.Name == is.Name && claimed.UID != is.UID {
			return pl.planTakeBack(ctx, allocation, old, claimed)
		}
	}
	if old.DeletionTimestamp == nil && allocation.DeletionTimestamp != nil {
		// It is deleted, and only waits for its finalizers.
		if _, err := pl.planRelease(ctx, live{pl}, old); err != nil {
			return Plan{}, err
		}
	}
	if err := pl.keepChild(ctx, allocation, old); err != nil {
		return Plan{}, err
	}
	was, is := old.Status.CoolingUntil, allocation.Status.CoolingUntil
	switch {
	case was.Equal(is):
		return Plan{}, nil
	case was == nil:
		return pl.planCool(ctx, allocation)
	}
	return Plan{}, conflict("prefixallocations", allocation.Name, fmt.Errorf("its space cools down until %s", was.UTC().Format(time.RFC3339)))
}

// planTakeBack plans the update that makes an allocation the one of another child with the same name as the one that it
// was claimed for. That child must exist, be Pending, and ask for what the allocation holds. So the first one is gone.
func (pl *Planner) planTakeBack(ctx context.Context, allocation, old *ipam.PrefixAllocation, claimed *ChildRef) (Plan, error) {
	refuse := func(format string, args ...any) (Plan, error) {
		return Plan{}, conflict("prefixallocations", allocation.Name, fmt.Errorf(format, args...))
	}
	name, prefix, _ := Allocated(old)
	p, err := live{pl}.parent(ctx, old.NamespaceOfParent(), name)
	switch {
	case err != nil:
		return Plan{}, err
	case p == nil || p.deleting:
		return refuse("%s cannot be taken back from Prefix %s, which does not exist or is being deleted", prefix, name)
	case old.DeletionTimestamp != nil:
		return refuse("it is being deleted")
	}
	until, err := pl.keptUntil(ctx, p, old, claimed)
	if err != nil {
		return Plan{}, err
	}
	consent, err := pl.guardStillShared(ctx, p, old)
	if err != nil {
		return Plan{}, err
	}
	child, err := pl.guardPendingChild(ctx, live{pl}, allocation, prefix, name)
	if err != nil {
		return Plan{}, reasonOf(err)
	}
	key := pl.Keys.Claim(p.uid, prefix)
	kv, value, err := live{pl}.claim(ctx, key)
	if err != nil {
		return Plan{}, err
	}
	h := value.Find(allocation.UID)
	if h == nil || !h.Child.same(claimed) {
		return Plan{}, errStale
	}
	h.Child = childOf(allocation)
	if until.After(h.KeptUntil) {
		// It is not earlier than what an earlier child was promised.
		h.KeptUntil = until.UTC()
	}
	encoded, err := value.Encode()
	if err != nil {
		return Plan{}, err
	}
	lost := pl.Lost(pl.Prefixes.Key(old.Namespace, claimed.Name))
	if kv, err := pl.revisions(ctx, lost); err != nil {
		return Plan{}, err
	} else if kv.ModRevision != 0 {
		return refuse("%s may be in use by an earlier Prefix %s, which is in lost+found in etcd", prefix, claimed.Name)
	}
	return Plan{
		// The parent cannot end while there is the claim.
		Guards: slices.Concat(child, consent, []Guard{IsUnchanged(key, kv.ModRevision)}),
		then:   []clientv3.Op{clientv3.OpPut(key, encoded)},
	}, nil
}

// keptUntil returns until when nobody but a child of its name gets the space of an allocation. It is an Invalid error if the
// space does not cool down.
func (pl *Planner) keptUntil(ctx context.Context, p *parent, allocation *ipam.PrefixAllocation, claimed *ChildRef) (time.Time, error) {
	if until := allocation.Status.CoolingUntil; until != nil {
		return until.Time, nil
	}
	// Its controller has not deleted it yet. Without a coolDown the space is released then.
	name, prefix, _ := Allocated(allocation)
	d, err := pl.coolDownOf(ctx, p, allocation.NamespaceOfParent())
	if err != nil {
		return time.Time{}, err
	}
	if d <= 0 {
		return time.Time{}, apierrors.NewInvalid(ipam.Kind(ipam.PrefixAllocationKind), allocation.Name, field.ErrorList{
			field.Forbidden(field.NewPath("metadata", "ownerReferences"), fmt.Sprintf(
				"%s is allocated to it for Prefix %s, not for another one of that name. It does not cool down, since no PrefixPolicy of Prefix %s has a coolDown",
				prefix, claimed.Name, name)),
		})
	}
	return pl.CoolUntil(allocation, d), nil
}

// guardStillShared returns guards that the parent of an allocation is shared with its namespace until the commit. There are
// none if the parent is in the same namespace. The error is Forbidden if the parent is not shared any more.
func (pl *Planner) guardStillShared(ctx context.Context, p *parent, allocation *ipam.PrefixAllocation) ([]Guard, error) {
	namespace := allocation.NamespaceOfParent()
	if namespace == allocation.Namespace {
		return nil, nil
	}
	name, prefix, _ := Allocated(allocation)
	consent, err := pl.guardConsent(ctx, live{pl}, p, namespace, allocation.Namespace)
	if err != nil {
		return nil, err
	}
	if consent == nil {
		return nil, apierrors.NewForbidden(ipam.Resource("prefixallocations"), allocation.Name,
			fmt.Errorf("%s cannot be taken back from Prefix %s/%s, which is not shared with namespace %s any more", prefix, namespace, name, allocation.Namespace))
	}
	return []Guard{IsUnchanged(pl.Prefixes.Key(namespace, name), p.modRevision), *consent}, nil
}
