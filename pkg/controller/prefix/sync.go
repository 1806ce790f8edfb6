// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/holding"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	"github.com/ironcore-dev/ipam-apiserver/pkg/request"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// syncPrefix reconciles one Prefix. After an error it has to be retried.
func (c *Controller) syncPrefix(ctx context.Context, name types.NamespacedName) error {
	ctx, span := queue.Span(ctx, "Sync Prefix", name)
	defer span.End()
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

// syncRoot sets the phase of a root Prefix to Allocated. A root has no parent, so no allocation is needed.
func (c *Controller) syncRoot(ctx context.Context, prefix *v1alpha1.Prefix) error {
	if prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated {
		return nil
	}
	updated := prefix.DeepCopy()
	updated.Status.Phase = v1alpha1.PrefixPhaseAllocated
	if _, err := c.client.IpamV1alpha1().Prefixes(prefix.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return ignoreStaleWrite(err)
	}
	c.recorder.Eventf(prefix, nil, corev1.EventTypeNormal, v1alpha1.ReasonRoot, "Allocate", "A root Prefix is allocated without a parent")
	return nil
}

// ignoreStaleWrite returns nil instead of a Conflict or NotFound error. Such a write was based on a stale object. The
// informer delivers the new state, which triggers the next sync.
func ignoreStaleWrite(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// syncChild creates the PrefixAllocation of a child, binds the child when the PrefixAllocation is Allocated, and
// deletes the PrefixAllocations that the child does not need.
func (c *Controller) syncChild(ctx context.Context, prefix *v1alpha1.Prefix) error {
	if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		// The event of the allocation triggers the next sync of the child.
		if taken, err := c.takeBack(ctx, prefix); taken || err != nil {
			return err
		}
	}
	own := slices.DeleteFunc(c.allocationsOf(prefix), func(allocation *v1alpha1.PrefixAllocation) bool {
		_, claimedByOthers := c.claimedByOthers.Load(allocation.UID)
		return claimedByOthers
	})
	sorted := classify(prefix, own)
	for _, allocation := range sorted.leftovers {
		// If the child is bound to it after all, the server refuses the deletion.
		if err := ignoreStaleWrite(c.deleteAllocation(ctx, allocation)); err != nil {
			return err
		}
	}
	if prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated {
		for _, allocation := range sorted.outdated {
			if err := ignoreStaleWrite(c.deleteAsSeen(ctx, allocation)); err != nil {
				return err
			}
		}
		return nil
	}

	if len(sorted.outdated) > 0 {
		switch {
		case c.mayReplace(observe.NameOf(prefix)):
			for _, allocation := range sorted.outdated {
				if err := c.deleteAsSeen(ctx, allocation); err != nil {
					// After a conflict the allocation may be Allocated, and the child may need it.
					return ignoreStaleWrite(err)
				}
			}
		case sorted.active == nil:
			return c.explain(ctx, prefix, sorted.outdated[0])
		}
	}
	active := sorted.active
	if active == nil {
		return c.createAllocation(ctx, prefix)
	}
	switch active.Status.Phase {
	case v1alpha1.PrefixAllocationPhaseAllocated:
		return c.bindChild(ctx, prefix, active)
	case v1alpha1.PrefixAllocationPhaseFailed:
		if c.shouldRetryFailed(prefix, active) && c.mayReplace(observe.NameOf(prefix)) {
			// The deletion event triggers the next sync of the child.
			return ignoreStaleWrite(c.deleteAsSeen(ctx, active))
		}
	}
	return c.explain(ctx, prefix, active)
}

// mayReplace reports whether allocations of a child may be deleted now, so that the child gets a new one. If not, the
// child is looked at again later.
func (c *Controller) mayReplace(child types.NamespacedName) bool {
	return !c.postpone(child, c.retries.untilReplacement(child))
}

// postpone queues a child for a sync after the delay. It reports false if there is no delay.
func (c *Controller) postpone(child types.NamespacedName, delay time.Duration) bool {
	if delay > 0 {
		c.children.AddAfter(child, delay)
	}
	return delay > 0
}

// allocationsOfChild holds the allocations that refer to a child, sorted by what to do with them.
type allocationsOfChild struct {
	// active is the allocation that the child uses, or nil.
	active *v1alpha1.PrefixAllocation
	// outdated holds the allocations that have no space and are not the active one: they do not match the spec of the child,
	// or it has another one.
	outdated []*v1alpha1.PrefixAllocation
	// leftovers holds the allocations that have space, but that the child is not bound to and never will be.
	leftovers []*v1alpha1.PrefixAllocation
}

// classify sorts the allocations of a child. A Pending child prefers Allocated to Pending allocations, and then the
// oldest. If it can be bound to several Allocated ones, it keeps all of them until it is bound to one, because
// another controller manager may choose a different one.
func classify(prefix *v1alpha1.Prefix, own []*v1alpha1.PrefixAllocation) allocationsOfChild {
	own = slices.DeleteFunc(own, func(allocation *v1alpha1.PrefixAllocation) bool {
		return allocation.DeletionTimestamp != nil || isCooling(allocation)
	})
	order := []v1alpha1.PrefixAllocationPhase{v1alpha1.PrefixAllocationPhaseAllocated, v1alpha1.PrefixAllocationPhasePending, v1alpha1.PrefixAllocationPhaseFailed}
	slices.SortFunc(own, func(a, b *v1alpha1.PrefixAllocation) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Status.Phase), slices.Index(order, b.Status.Phase)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			strings.Compare(a.Name, b.Name))
	})
	var sorted allocationsOfChild
	done := prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated
	for _, allocation := range own {
		holds := allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated
		switch suits := matches(prefix, allocation); {
		case sorted.active == nil && suits && (holds || !done):
			sorted.active = allocation
		case !holds:
			sorted.outdated = append(sorted.outdated, allocation)
		case done || !suits:
			sorted.leftovers = append(sorted.leftovers, allocation)
		}
	}
	if done && sorted.active == nil {
		// It is not known which allocation the child is bound to, so none can be called a leftover.
		sorted.leftovers = nil
	}
	return sorted
}

// matches reports whether the allocation requests the same as the spec of the child.
func matches(prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) bool {
	want, have := &prefix.Spec, &allocation.Spec
	if prefix.NamespaceOfParent() != allocation.NamespaceOfParent() {
		return false
	}
	// A prefix determines the IP family. Another server may have stored the prefix in a different notation.
	if want.Prefix == "" && want.IPFamily != "" && have.IPFamily != "" && want.IPFamily != have.IPFamily {
		return false
	}
	if want.ParentRef != nil && (have.PrefixRef == nil || have.PrefixRef.Name != want.ParentRef.Name) {
		return false
	}
	if allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
		if want.Prefix != "" {
			return cidr.Equal(want.Prefix, allocation.Status.Prefix)
		}
		return cidr.HasLength(allocation.Status.Prefix, int(want.PrefixLength))
	}
	if !equality.Semantic.DeepEqual(want.ParentSelector, have.PrefixSelector) {
		return false
	}
	if want.ParentRef == nil && have.PrefixRef != nil && meta.IsStatusConditionFalse(allocation.Status.Conditions, v1alpha1.ConditionAllocated) {
		// Another scheduler chose a parent that does not work. A new allocation may get a different parent.
		return false
	}
	if want.Prefix != "" {
		return cidr.Equal(want.Prefix, have.Prefix)
	}
	return have.Prefix == "" && want.PrefixLength == have.PrefixLength
}

// shouldRetryFailed reports whether a child whose allocation failed should get a new one. It should if it names no parent,
// or if the parent that it names could hold the request.
func (c *Controller) shouldRetryFailed(prefix *v1alpha1.Prefix, failed *v1alpha1.PrefixAllocation) bool {
	if prefix.Spec.ParentRef == nil {
		return true
	}
	parent, err := c.prefixes.Prefixes(prefix.NamespaceOfParent()).Get(prefix.Spec.ParentRef.Name)
	if err != nil {
		return false
	}
	parentPrefix, err := cidr.ParseStored(parent.Spec.Prefix)
	if err != nil {
		return false
	}
	r, err := request.Of(&failed.Spec)
	return err == nil && r.Fits(parentPrefix)
}

// maxAttempts is the number of names that are tried for an allocation. The first name is taken only if somebody
// else creates objects with these names.
const maxAttempts = 10

func (c *Controller) createAllocation(ctx context.Context, prefix *v1alpha1.Prefix) error {
	child := observe.NameOf(prefix)
	if c.postpone(child, c.retries.untilRequest(child)) {
		return nil
	}
	allocations := c.client.IpamV1alpha1().PrefixAllocations(prefix.Namespace)
	for attempt := range maxAttempts {
		allocation := newAllocation(prefix, attempt)
		_, err := allocations.Create(ctx, allocation, metav1.CreateOptions{})
		switch {
		case err == nil:
			c.retries.accepted(child)
			return nil
		case queue.IsRefusal(err):
			return c.recordRefusal(ctx, prefix, "The API server refused the PrefixAllocation", err)
		case !apierrors.IsAlreadyExists(err):
			return err
		}
		// Most likely the object belongs to this child and is not in the cache yet. Otherwise try the next name:
		// without an allocation the child would stay Pending forever.
		existing, err := allocations.Get(ctx, allocation.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return fmt.Errorf("PrefixAllocation %s was deleted meanwhile", allocation.Name)
		case err != nil:
			return err
		}
		if _, claimedByOthers := c.claimedByOthers.Load(existing.UID); !claimedByOthers && requester.IsOf(existing, prefix) && existing.DeletionTimestamp == nil {
			return nil
		}
	}
	why := fmt.Sprintf("The names that the controller tries for the PrefixAllocation of this Prefix, such as %s, are all taken by "+
		"PrefixAllocations of others. Delete those, and remove the finalizers of those that remain", requester.Name(prefix, 0))
	if err := c.setCondition(ctx, prefix, metav1.ConditionFalse, v1alpha1.ConditionAllocated, v1alpha1.ReasonInvalidRequest, why); err != nil {
		return err
	}
	c.children.AddAfter(child, maxRefusedDelay)
	return nil
}

// maxRefusalMessageBytes is the maximum length of the server's error message in a condition, in bytes.
const maxRefusalMessageBytes = 1024

// recordRefusal records in the condition of a child that the server refused a request for it, and schedules a retry.
func (c *Controller) recordRefusal(ctx context.Context, prefix *v1alpha1.Prefix, what string, err error) error {
	child := observe.NameOf(prefix)
	c.children.AddAfter(child, c.retries.afterRefusal(child))
	message := what + ": " + text.Cut(err.Error(), maxRefusalMessageBytes)
	return c.setCondition(ctx, prefix, metav1.ConditionFalse, v1alpha1.ConditionAllocated, v1alpha1.ReasonRefused, message)
}

// newAllocation returns the PrefixAllocation to create for a child. attempt selects the name.
func newAllocation(prefix *v1alpha1.Prefix, attempt int) *v1alpha1.PrefixAllocation {
	spec := v1alpha1.PrefixAllocationSpec{
		IPFamily:       prefix.Spec.IPFamily,
		Prefix:         prefix.Spec.Prefix,
		PrefixRef:      prefix.Spec.ParentRef.DeepCopy(),
		PrefixSelector: prefix.Spec.ParentSelector.DeepCopy(),

		PrefixNamespace: prefix.Spec.ParentNamespace,
	}
	if spec.Prefix == "" {
		spec.PrefixLength = prefix.Spec.PrefixLength
	}
	if asked, err := cidr.ParseStored(spec.Prefix); err == nil {
		// Another server may have stored the prefix in a notation that is not accepted for new objects.
		spec.Prefix, spec.IPFamily = asked.String(), v1alpha1.IPFamily(cidr.FamilyOf(asked))
	}
	return &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: prefix.Namespace,
			Name:      requester.Name(prefix, attempt),
			Labels:    map[string]string{v1alpha1.RequesterUIDLabel: string(prefix.UID)},
			// blockOwnerDeletion is not set: the allocation is deleted after its owner, not before.
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

// bindChild binds a child to its allocation, which makes the child Allocated. The status of the parent is updated
// separately.
func (c *Controller) bindChild(ctx context.Context, prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) error {
	ctx, span := queue.Span(ctx, "Bind Prefix", observe.NameOf(prefix))
	defer span.End()
	parent, prefixHeld, ok := holding.Of(allocation)
	if !ok {
		return fmt.Errorf("PrefixAllocation %s is Allocated, but has no prefixRef or no valid prefix", allocation.Name)
	}
	parentObj, err := c.prefixes.Prefixes(parent.Namespace).Get(parent.Name)
	if apierrors.IsNotFound(err) {
		return c.abandon(ctx, prefix, allocation)
	}
	if err != nil {
		return err
	}
	child := observe.NameOf(prefix)
	if c.postpone(child, c.retries.untilRequest(child)) {
		return nil
	}
	ref, from := v1alpha1.BindingReference{Name: parent.Name, UID: parentObj.UID}, parent.Name
	if parent.Namespace != prefix.Namespace {
		ref.Namespace, from = parent.Namespace, parent.String()
	}
	_, err = c.client.IpamV1alpha1().Prefixes(prefix.Namespace).Bind(ctx, prefix.Name, &v1alpha1.PrefixBinding{
		Metadata:  v1alpha1.BindingMeta{Name: prefix.Name, Namespace: prefix.Namespace, UID: prefix.UID},
		Prefix:    prefixHeld.String(),
		ParentRef: ref,
	}, metav1.CreateOptions{})
	queue.CountRefusedBinding("prefixes", err)
	if apierrors.HasStatusCause(err, v1alpha1.CauseTypeNotAllocatedFor) {
		// The claim belongs to somebody else, whatever the allocation refers to. The child needs another
		// allocation.
		c.claimedByOthers.Store(allocation.UID, struct{}{})
	}
	switch {
	case queue.IsRefusal(err):
		return c.recordRefusal(ctx, prefix, fmt.Sprintf("The API server refused the binding to %s from %s", allocation.Status.Prefix, from), err)
	case err != nil:
		return fmt.Errorf("binding to %s from %s: %w", allocation.Status.Prefix, from, err)
	}
	c.retries.accepted(child)
	allocationDuration.Observe(c.arrivals.took(prefix).Seconds())
	c.recorder.Eventf(prefix, nil, corev1.EventTypeNormal, v1alpha1.ReasonAllocated, "Allocate", "Allocated %s from %s", allocation.Status.Prefix, from)
	return nil
}

// abandon deletes an allocation whose parent was deleted before the child was bound. That happens only if somebody
// removed the finalizer of the parent.
func (c *Controller) abandon(ctx context.Context, prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) error {
	parent := allocation.Spec.PrefixRef.Name
	_, err := c.client.IpamV1alpha1().Prefixes(allocation.NamespaceOfParent()).Get(ctx, parent, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return c.deleteAllocation(ctx, allocation)
	case err != nil:
		return err
	}
	return fmt.Errorf("parent %s is not in the cache yet", parent)
}

// explain copies the reason why a child is Pending from its allocation to the conditions of the child.
func (c *Controller) explain(ctx context.Context, prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) error {
	condition := meta.FindStatusCondition(allocation.Status.Conditions, v1alpha1.ConditionAllocated)
	switch {
	case condition != nil && condition.Status != metav1.ConditionTrue:
		return c.setCondition(ctx, prefix, metav1.ConditionFalse, v1alpha1.ConditionAllocated, condition.Reason, condition.Message)
	case condition == nil && allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseFailed:
		// A scheduler that does not set conditions failed the allocation.
		reason, message := c.whyFailed(allocation)
		return c.setCondition(ctx, prefix, metav1.ConditionFalse, v1alpha1.ConditionAllocated, reason, message)
	}
	return nil
}

// whyFailed determines why an allocation without a condition failed. If the parent shows no reason, it returns
// ReasonNoSuitableParent.
func (c *Controller) whyFailed(allocation *v1alpha1.PrefixAllocation) (reason, message string) {
	failed := fmt.Sprintf("PrefixAllocation %s has failed", allocation.Name)
	r, err := request.Of(&allocation.Spec)
	if err != nil {
		return v1alpha1.ReasonInvalidRequest, fmt.Sprintf("%s: %v", failed, err)
	}
	if ref := allocation.Spec.PrefixRef; ref != nil && allocation.NamespaceOfParent() != allocation.Namespace {
		// The parent may not be shared with the child, and then nothing of it is told.
		return v1alpha1.ReasonNoSuitableParent, fmt.Sprintf("%s: Prefix %s/%s cannot hold it, or is not shared with namespace %s",
			failed, allocation.NamespaceOfParent(), ref.Name, allocation.Namespace)
	} else if ref != nil {
		parent, err := c.prefixes.Prefixes(allocation.Namespace).Get(ref.Name)
		if err != nil {
			return v1alpha1.ReasonParentNotFound, fmt.Sprintf("%s: Prefix %s does not exist", failed, ref.Name)
		}
		parentPrefix, err := cidr.ParseStored(parent.Spec.Prefix)
		if err == nil {
			if why := r.Misfit(parentPrefix); why != "" {
				return v1alpha1.ReasonNoSuitableParent, fmt.Sprintf("%s (%s) %s", ref.Name, parentPrefix, why)
			}
		}
		switch {
		case parent.DeletionTimestamp != nil:
			return v1alpha1.ReasonParentNotReady, fmt.Sprintf("%s: %s is being deleted", failed, ref.Name)
		case parent.Status.Phase != v1alpha1.PrefixPhaseAllocated:
			return v1alpha1.ReasonParentNotReady, fmt.Sprintf("%s: %s is not allocated yet", failed, ref.Name)
		}
	}
	return v1alpha1.ReasonNoSuitableParent, failed + " and has no condition that says why"
}

// setCondition sets a condition in the status of a Prefix. If the condition is False and its reason has changed,
// it records an event.
func (c *Controller) setCondition(ctx context.Context, prefix *v1alpha1.Prefix, status metav1.ConditionStatus, conditionType, reason, message string) error {
	updated := prefix.DeepCopy()
	before := meta.FindStatusCondition(prefix.Status.Conditions, conditionType)
	if !meta.SetStatusCondition(&updated.Status.Conditions, metav1.Condition{
		Type:               conditionType,
		Status:             status,
		Reason:             reason,
		Message:            message,
		ObservedGeneration: prefix.Generation,
	}) {
		return nil
	}
	updated.Status.ObservedGeneration = prefix.Generation
	if _, err := c.client.IpamV1alpha1().Prefixes(prefix.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return ignoreStaleWrite(err)
	}
	if status == metav1.ConditionFalse && (before == nil || before.Reason != reason) {
		c.recorder.Eventf(prefix, nil, corev1.EventTypeWarning, reason, "Sync", "%s", message)
	}
	return nil
}

// maxChildrenNamed is the maximum number of children that a message lists.
const maxChildrenNamed = 5

// syncDeletion removes the finalizer of a Prefix when nothing is allocated from it. Space that cools down does not keep it:
// nobody can get that back any more.
func (c *Controller) syncDeletion(ctx context.Context, prefix *v1alpha1.Prefix) error {
	if !slices.Contains(prefix.Finalizers, v1alpha1.PrefixFinalizer) {
		if len(prefix.Finalizers) == 0 {
			return nil
		}
		return c.setCondition(ctx, prefix, metav1.ConditionTrue, v1alpha1.ConditionDeletable, v1alpha1.ReasonNoChildren,
			"Nothing is allocated from this Prefix; it waits for its other finalizers")
	}
	holders := holding.From(c.allocationIndex, observe.NameOf(prefix))
	for _, allocation := range holders {
		if isCooling(allocation) {
			c.cooling.Add(observe.NameOf(allocation))
		}
	}
	if len(holders) > 0 {
		holders = slices.DeleteFunc(holders, isCooling)
		if len(holders) == 0 {
			// The end of the last one triggers the next sync.
			return nil
		}
		message := "Still in use by " + describe(holders, prefix.Namespace)
		return c.setCondition(ctx, prefix, metav1.ConditionFalse, v1alpha1.ConditionDeletable, v1alpha1.ReasonHasChildren, message)
	}
	updated := prefix.DeepCopy()
	updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(s string) bool { return s == v1alpha1.PrefixFinalizer })
	_, err := c.client.IpamV1alpha1().Prefixes(prefix.Namespace).Update(ctx, updated, metav1.UpdateOptions{})
	if apierrors.HasStatusCause(err, v1alpha1.CauseTypeHolderPrefix) {
		// The server knows of a child that is not in the cache yet, or that has no object any more. Report it in
		// the condition and retry.
		return errors.Join(err, c.setCondition(ctx, prefix, metav1.ConditionFalse, v1alpha1.ConditionDeletable, v1alpha1.ReasonHasChildren, err.Error()))
	}
	return ignoreStaleWrite(err)
}

// describe returns words for the allocations that hold something of a parent. Those of other namespaces are not named:
// who may read the parent may not be allowed to read them.
func describe(holders []*v1alpha1.PrefixAllocation, namespace string) string {
	own := slices.DeleteFunc(slices.Clone(holders), func(allocation *v1alpha1.PrefixAllocation) bool { return allocation.Namespace != namespace })
	others := ""
	switch count := len(holders) - len(own); count {
	case 0:
	case 1:
		others = "a child of another namespace"
	default:
		others = "children of other namespaces"
	}
	var names []string
	for _, allocation := range firstByName(own, maxChildrenNamed) {
		names = append(names, requester.Describe(allocation))
	}
	message := strings.Join(names, ", ")
	if len(own) > maxChildrenNamed {
		message += " and more"
	}
	if message != "" && others != "" {
		message += ", and by "
	}
	return message + others
}

// firstByName returns the first n allocations by name. There can be very many, so it does not sort them all.
func firstByName(allocations []*v1alpha1.PrefixAllocation, n int) []*v1alpha1.PrefixAllocation {
	byName := func(a, b *v1alpha1.PrefixAllocation) int { return strings.Compare(a.Name, b.Name) }
	var first []*v1alpha1.PrefixAllocation
	for _, allocation := range allocations {
		if i, _ := slices.BinarySearchFunc(first, allocation, byName); i < n {
			first = slices.Insert(first[:min(len(first), n-1)], i, allocation)
		}
	}
	return first
}

// syncOrphan deletes an allocation whose Prefix is gone, which frees its space or makes it cool down. It does not depend on
// the garbage collector. It also deletes an allocation that has no space and has lost the reference to its Prefix.
func (c *Controller) syncOrphan(ctx context.Context, name types.NamespacedName) error {
	allocation, err := c.allocations.PrefixAllocations(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	child := requester.Of(allocation)
	switch {
	case allocation.DeletionTimestamp != nil, isCooling(allocation):
		return nil
	case child == nil && requester.IsLost(allocation) && allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated:
		return ignoreStaleWrite(c.deleteAsSeen(ctx, allocation))
	case child == nil:
		return nil
	}
	if prefix, err := c.prefixes.Prefixes(name.Namespace).Get(child.Name); err == nil && prefix.UID == child.UID {
		return nil
	}
	// The cache may be stale. Only the server knows whether the Prefix exists.
	prefix, err := c.client.IpamV1alpha1().Prefixes(name.Namespace).Get(ctx, child.Name, metav1.GetOptions{})
	switch {
	case err == nil && prefix.UID == child.UID:
		return nil
	case err != nil && !apierrors.IsNotFound(err):
		return err
	}
	// Another child of this name may have taken its space back.
	return c.deleteAsSeen(ctx, allocation)
}

// deleteAsSeen deletes an allocation. It returns a Conflict error if the allocation has changed, because it may have been
// allocated since, or to another child.
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
