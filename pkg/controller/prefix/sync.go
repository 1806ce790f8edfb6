// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation"
)

// syncPrefix brings one Prefix forward. An error means that it has to be tried again.
func (c *Controller) syncPrefix(ctx context.Context, name types.NamespacedName) error {
	prefix, err := c.prefixes.Prefixes(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case prefix.DeletionTimestamp != nil:
		return c.syncDeletion(ctx, prefix)
	case prefix.Spec.IsRoot():
		return c.syncRoot(ctx, prefix)
	default:
		return c.syncChild(ctx, prefix)
	}
}

// syncRoot makes a root Allocated: it brings its prefix along.
func (c *Controller) syncRoot(ctx context.Context, prefix *v1alpha1.Prefix) error {
	if prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated {
		return nil
	}
	updated := prefix.DeepCopy()
	updated.Status.Phase = v1alpha1.PrefixPhaseAllocated
	if _, err := c.client.IpamV1alpha1().Prefixes(prefix.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return newerIsComing(err)
	}
	c.recorder.Eventf(prefix, nil, corev1.EventTypeNormal, v1alpha1.ReasonRoot, "Allocate", "A root Prefix holds its own prefix")
	return nil
}

// newerIsComing drops the error of a write that was based on an old state: the informer brings the
// new one, which is then looked at.
func newerIsComing(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// syncChild makes the PrefixAllocation of a child, and completes the child once it is allocated.
func (c *Controller) syncChild(ctx context.Context, prefix *v1alpha1.Prefix) error {
	active, outdated := sortOut(prefix, c.allocationsOf(prefix))
	if len(outdated) > 0 {
		switch {
		case c.mayGiveUp(prefix):
			for _, allocation := range outdated {
				if err := c.deleteAsSeen(ctx, allocation); err != nil {
					// If it has been allocated since, it may be what the child goes by.
					return newerIsComing(err)
				}
			}
		case active == nil && prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated:
			return c.explain(ctx, prefix, outdated[0])
		}
	}
	if prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated {
		return nil
	}
	if active == nil {
		return c.createAllocation(ctx, prefix)
	}

	switch active.Status.Phase {
	case v1alpha1.PrefixAllocationPhaseAllocated:
		return c.complete(ctx, prefix, active)
	case v1alpha1.PrefixAllocationPhaseFailed:
		if c.mayFitNow(prefix, active) && c.mayGiveUp(prefix) {
			// Its end brings the child here again.
			return newerIsComing(c.deleteAsSeen(ctx, active))
		}
	}
	return c.explain(ctx, prefix, active)
}

// mayGiveUp tells whether allocations of a child may be deleted now, so that it gets another one. If some were a short while ago,
// the child is looked at again later, and later each time: another scheduler may let all of them fail, for reasons of its own.
func (c *Controller) mayGiveUp(prefix *v1alpha1.Prefix) bool {
	name, now := observe.NameOf(prefix), time.Now()
	if !c.givenUp.IsInBackOffSinceUpdate(name.String(), now) {
		c.givenUp.Next(name.String(), now)
		return true
	}
	c.children.AddAfter(name, c.givenUp.Get(name.String()))
	return false
}

// sortOut picks, of its allocations, the one that the child goes by, and tells which others are
// outdated. What holds space is never outdated.
func sortOut(prefix *v1alpha1.Prefix, own []*v1alpha1.PrefixAllocation) (active *v1alpha1.PrefixAllocation, outdated []*v1alpha1.PrefixAllocation) {
	own = slices.DeleteFunc(own, func(allocation *v1alpha1.PrefixAllocation) bool { return allocation.DeletionTimestamp != nil })
	order := []v1alpha1.PrefixAllocationPhase{v1alpha1.PrefixAllocationPhaseAllocated, v1alpha1.PrefixAllocationPhasePending, v1alpha1.PrefixAllocationPhaseFailed}
	slices.SortFunc(own, func(a, b *v1alpha1.PrefixAllocation) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Status.Phase), slices.Index(order, b.Status.Phase)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			strings.Compare(a.Name, b.Name))
	})
	for _, allocation := range own {
		switch {
		case active == nil && matches(prefix, allocation):
			active = allocation
		case allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated:
			outdated = append(outdated, allocation)
		}
	}
	return active, outdated
}

// matches reports whether the allocation is what the child asks for.
func matches(prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) bool {
	want, have := &prefix.Spec, &allocation.Spec
	if want.IPFamily != "" && have.IPFamily != "" && want.IPFamily != have.IPFamily {
		return false
	}
	if want.ParentRef != nil && (have.PrefixRef == nil || have.PrefixRef.Name != want.ParentRef.Name) {
		return false
	}
	if allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
		if want.Prefix != "" {
			return want.Prefix == allocation.Status.Prefix
		}
		got, err := request.ParsePrefix(allocation.Status.Prefix)
		return err == nil && got.Bits() == int(want.PrefixLength)
	}
	if !equality.Semantic.DeepEqual(want.ParentSelector, have.PrefixSelector) {
		return false
	}
	if want.ParentRef == nil && have.PrefixRef != nil && meta.IsStatusConditionFalse(allocation.Status.Conditions, v1alpha1.ConditionAllocated) {
		// Another scheduler chose a parent that does not work out; others may.
		return false
	}
	if want.Prefix != "" {
		return want.Prefix == have.Prefix
	}
	return have.Prefix == "" && want.PrefixLength == have.PrefixLength
}

// mayFitNow reports whether a child whose allocation failed should have another one: the parent
// that it names could hold it, or it does not name one.
func (c *Controller) mayFitNow(prefix *v1alpha1.Prefix, failed *v1alpha1.PrefixAllocation) bool {
	if prefix.Spec.ParentRef == nil {
		return true
	}
	parent, err := c.prefixes.Prefixes(prefix.Namespace).Get(prefix.Spec.ParentRef.Name)
	if err != nil {
		return false
	}
	parentPrefix, err := request.ParsePrefix(parent.Spec.Prefix)
	if err != nil {
		return false
	}
	r, err := request.Of(&failed.Spec)
	if err != nil {
		return false
	}
	_, fits := r.FitsIn(parentPrefix)
	return fits
}

func (c *Controller) createAllocation(ctx context.Context, prefix *v1alpha1.Prefix) error {
	allocation := newAllocation(prefix)
	_, err := c.client.IpamV1alpha1().PrefixAllocations(prefix.Namespace).Create(ctx, allocation, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// Most likely it is our own, and the informer will bring it. If somebody else has the name, say
	// so: without an allocation the child would wait for nothing.
	existing, err := c.client.IpamV1alpha1().PrefixAllocations(prefix.Namespace).Get(ctx, allocation.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("PrefixAllocation %s vanished", allocation.Name)
	case err != nil:
		return err
	case metav1.IsControlledBy(existing, prefix) && existing.DeletionTimestamp == nil:
		return nil
	case metav1.IsControlledBy(existing, prefix):
		return fmt.Errorf("PrefixAllocation %s is being deleted", allocation.Name)
	}
	why := fmt.Sprintf("PrefixAllocation %s exists already and is not of this Prefix", allocation.Name)
	if err := c.setCondition(ctx, prefix, v1alpha1.ConditionAllocated, v1alpha1.ReasonInvalidRequest, why); err != nil {
		return err
	}
	return fmt.Errorf("%s", why)
}

// newAllocation returns the PrefixAllocation of a child. The name is made of what it asks for and
// on whose behalf, so that trying again does not make a second one.
func newAllocation(prefix *v1alpha1.Prefix) *v1alpha1.PrefixAllocation {
	spec := v1alpha1.PrefixAllocationSpec{
		IPFamily:       prefix.Spec.IPFamily,
		Prefix:         prefix.Spec.Prefix,
		PrefixRef:      prefix.Spec.ParentRef.DeepCopy(),
		PrefixSelector: prefix.Spec.ParentSelector.DeepCopy(),
	}
	if spec.Prefix == "" {
		spec.PrefixLength = prefix.Spec.PrefixLength
	}
	return &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: prefix.Namespace,
			Name:      allocationName(prefix),
			Labels:    map[string]string{v1alpha1.RequesterUIDLabel: string(prefix.UID)},
			// It does not block the deletion of its owner: it goes after it, not before.
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(),
				Kind:       v1alpha1.PrefixKind,
				Name:       prefix.Name,
				UID:        prefix.UID,
				Controller: new(true),
			}},
		},
		Spec: spec,
	}
}

func allocationName(prefix *v1alpha1.Prefix) string {
	ref := ""
	if prefix.Spec.ParentRef != nil {
		ref = prefix.Spec.ParentRef.Name
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%s", prefix.UID, prefix.Spec.Prefix, prefix.Spec.PrefixLength, ref))
	suffix := "-" + hex.EncodeToString(sum[:])[:10]
	name := prefix.Name
	if most := validation.DNS1123SubdomainMaxLength - len(suffix); len(name) > most {
		name = name[:most]
	}
	return strings.TrimRight(name, "-.") + suffix
}

// complete makes a child Allocated once the status of its parent counts what it is about to get.
func (c *Controller) complete(ctx context.Context, prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) error {
	parent, prefixHeld, ok := held(allocation)
	if !ok {
		return fmt.Errorf("PrefixAllocation %s is Allocated, but does not say what", allocation.Name)
	}
	parentObj, err := c.prefixes.Prefixes(parent.Namespace).Get(parent.Name)
	if apierrors.IsNotFound(err) {
		return c.abandon(ctx, prefix, allocation)
	}
	if err != nil {
		return err
	}
	if !c.accounts.await(parent, allocation.UID, observe.NameOf(prefix)) {
		c.parents.Add(parent)
		return nil
	}
	_, err = c.client.IpamV1alpha1().Prefixes(prefix.Namespace).Bind(ctx, prefix.Name, &v1alpha1.PrefixBinding{
		Metadata:  v1alpha1.BindingMeta{Name: prefix.Name, Namespace: prefix.Namespace, UID: prefix.UID},
		Prefix:    prefixHeld.String(),
		ParentRef: v1alpha1.BindingReference{Name: parent.Name, UID: parentObj.UID},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("completing with %s from %s: %w", allocation.Status.Prefix, parent.Name, err)
	}
	c.accounts.done(parent, allocation.UID)
	c.recorder.Eventf(prefix, nil, corev1.EventTypeNormal, v1alpha1.ReasonAllocated, "Allocate", "Allocated %s from %s", allocation.Status.Prefix, parent.Name)
	return nil
}

// abandon gives up an allocation whose parent is gone before the child stood on it. That cannot
// happen, unless somebody took the finalizer off the parent.
func (c *Controller) abandon(ctx context.Context, prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) error {
	parent := allocation.Spec.PrefixRef.Name
	_, err := c.client.IpamV1alpha1().Prefixes(prefix.Namespace).Get(ctx, parent, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return c.deleteAllocation(ctx, allocation)
	case err != nil:
		return err
	}
	return fmt.Errorf("parent %s is not in the cache yet", parent)
}

// explain tells in the status of a child why it is Pending: what its allocation says.
func (c *Controller) explain(ctx context.Context, prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) error {
	condition := meta.FindStatusCondition(allocation.Status.Conditions, v1alpha1.ConditionAllocated)
	if condition == nil || condition.Status == metav1.ConditionTrue {
		return nil
	}
	return c.setCondition(ctx, prefix, v1alpha1.ConditionAllocated, condition.Reason, condition.Message)
}

// setCondition sets a condition to False, and tells in an event why when the reason is another one.
func (c *Controller) setCondition(ctx context.Context, prefix *v1alpha1.Prefix, conditionType, reason, message string) error {
	updated := prefix.DeepCopy()
	before := meta.FindStatusCondition(prefix.Status.Conditions, conditionType)
	if !meta.SetStatusCondition(&updated.Status.Conditions, metav1.Condition{
		Type:               conditionType,
		Status:             metav1.ConditionFalse,
		Reason:             reason,
		Message:            message,
		ObservedGeneration: prefix.Generation,
	}) {
		return nil
	}
	updated.Status.ObservedGeneration = prefix.Generation
	if _, err := c.client.IpamV1alpha1().Prefixes(prefix.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return newerIsComing(err)
	}
	if before == nil || before.Reason != reason {
		c.recorder.Eventf(prefix, nil, corev1.EventTypeWarning, reason, "Sync", "%s", message)
	}
	return nil
}

// maxChildrenNamed is how many children a message names.
const maxChildrenNamed = 5

// syncDeletion lets a Prefix go once nothing is allocated from it.
func (c *Controller) syncDeletion(ctx context.Context, prefix *v1alpha1.Prefix) error {
	if !slices.Contains(prefix.Finalizers, v1alpha1.PrefixFinalizer) {
		return nil
	}
	if count := c.accounts.count(observe.NameOf(prefix)); count > 0 {
		names := c.accounts.holders(observe.NameOf(prefix), maxChildrenNamed)
		plural := "s"
		if count == 1 {
			plural = ""
		}
		message := fmt.Sprintf("Still allocated from by %d PrefixAllocation%s: %s", count, plural, strings.Join(names, ", "))
		if count > len(names) {
			message += " and more"
		}
		return c.setCondition(ctx, prefix, v1alpha1.ConditionDeletable, v1alpha1.ReasonHasChildren, message)
	}
	updated := prefix.DeepCopy()
	updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(s string) bool { return s == v1alpha1.PrefixFinalizer })
	_, err := c.client.IpamV1alpha1().Prefixes(prefix.Namespace).Update(ctx, updated, metav1.UpdateOptions{})
	if apierrors.HasStatusCause(err, v1alpha1.CauseTypeHolderPrefix) {
		// The server knows of a child that the informer has not shown, or that has no object any
		// more. Either way it has to be said, and tried again.
		return errors.Join(err, c.setCondition(ctx, prefix, v1alpha1.ConditionDeletable, v1alpha1.ReasonHasChildren, err.Error()))
	}
	return newerIsComing(err)
}

// syncOrphan deletes an allocation whose Prefix is gone, and frees its space by that. No garbage
// collector is needed for it.
func (c *Controller) syncOrphan(ctx context.Context, name types.NamespacedName) error {
	allocation, err := c.allocations.PrefixAllocations(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	owner := ownerOf(allocation)
	if owner == nil || allocation.DeletionTimestamp != nil {
		return nil
	}
	if prefix, err := c.prefixes.Prefixes(name.Namespace).Get(owner.Name); err == nil && prefix.UID == owner.UID {
		return nil
	}
	if _, gone := c.gone.Load(owner.UID); gone {
		return c.deleteAllocation(ctx, allocation)
	}
	// The cache may be behind: only the server can tell that there never was such a Prefix.
	prefix, err := c.client.IpamV1alpha1().Prefixes(name.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	switch {
	case err == nil && prefix.UID == owner.UID:
		return nil
	case err != nil && !apierrors.IsNotFound(err):
		return err
	}
	return c.deleteAllocation(ctx, allocation)
}

// deleteAsSeen deletes an allocation that holds nothing. It is a conflict if the allocation has changed: it may have been
// allocated since.
func (c *Controller) deleteAsSeen(ctx context.Context, allocation *v1alpha1.PrefixAllocation) error {
	return c.deleteIf(ctx, allocation, metav1.Preconditions{UID: &allocation.UID, ResourceVersion: &allocation.ResourceVersion})
}

func (c *Controller) deleteAllocation(ctx context.Context, allocation *v1alpha1.PrefixAllocation) error {
	return c.deleteIf(ctx, allocation, metav1.Preconditions{UID: &allocation.UID})
}

func (c *Controller) deleteIf(ctx context.Context, allocation *v1alpha1.PrefixAllocation, conditions metav1.Preconditions) error {
	err := c.client.IpamV1alpha1().PrefixAllocations(allocation.Namespace).Delete(ctx, allocation.Name, metav1.DeleteOptions{Preconditions: &conditions})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// syncUsage writes to the status of a parent what is allocated from it. All that has been allocated
// while a write is under way goes into the next one; the children are completed after the write
// that counts them.
func (c *Controller) syncUsage(ctx context.Context, name types.NamespacedName) error {
	parent, err := c.prefixes.Prefixes(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if written, ok := c.written.Load(parent.UID); ok {
		if written := written.(*v1alpha1.Prefix); newer(written, parent) {
			parent = written
		} else {
			c.written.Delete(parent.UID)
		}
	}
	if parent.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		return nil
	}
	prefix, err := request.ParsePrefix(parent.Spec.Prefix)
	if err != nil {
		return err
	}
	r, err := c.accounts.report(name, prefix)
	if err != nil {
		return err
	}
	if !slices.Equal(parent.Status.Used, r.used) || !reflect.DeepEqual(parent.Status.Usage, &r.usage) {
		updated := parent.DeepCopy()
		updated.Status.Used, updated.Status.Usage = r.used, &r.usage
		result, err := c.client.IpamV1alpha1().Prefixes(name.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
		if err != nil {
			c.written.Delete(parent.UID)
			return err
		}
		c.written.Store(parent.UID, result)
	}
	for _, child := range c.accounts.settle(name, r) {
		c.children.Add(child)
	}
	return nil
}

// newer reports whether a is a later version of the same object than b.
func newer(a, b *v1alpha1.Prefix) bool {
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && order > 0
}
