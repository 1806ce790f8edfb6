// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/holding"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/pkg/request"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// The API server decides whether the space of a child that is gone cools down: then a deletion of its allocation only sets
// status.coolingUntil. The controller deletes the allocation again after that time, or when the parent is being deleted, and
// lets a child of the same name take the space back before.

const (
	// coolingWorkers is the number of allocations that are deleted at the same time after their space has cooled down. Very
	// many may have at once, and others must not wait for that. So there is one worker, and it pauses after each deletion.
	coolingWorkers = 1
	// maxCoolingPause is the longest pause.
	maxCoolingPause = time.Second
	// coolingResync is the longest time between two looks at an allocation whose space cools down.
	coolingResync = 10 * time.Minute
	// coolingRetry is the delay before the next try if the API server did not delete an allocation because its clock is
	// behind.
	coolingRetry = 2 * time.Second
)

// isCooling reports whether the space of an allocation cools down. The allocation may be nil.
func isCooling(allocation *v1alpha1.PrefixAllocation) bool {
	return allocation != nil && allocation.Status.CoolingUntil != nil
}

// syncCooling deletes an allocation whose space has cooled down, or whose parent is being deleted. If it is too early, it
// looks at the allocation again later.
func (c *Controller) syncCooling(ctx context.Context, name types.NamespacedName) error {
	allocation, err := c.allocations.PrefixAllocations(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !isCooling(allocation) || allocation.DeletionTimestamp != nil {
		return nil
	}
	parentEnds := c.parentEnds(allocation)
	if wait := time.Until(allocation.Status.CoolingUntil.Time); wait > 0 && !parentEnds {
		// A timer does not follow corrections of the clock, and cannot be cancelled.
		c.cooling.AddAfter(name, min(wait, coolingResync))
		return nil
	}
	began := time.Now()
	err = ignoreStaleWrite(c.deleteAsSeen(ctx, allocation))
	if !parentEnds {
		// Who deletes a parent waits for this.
		pause(ctx, time.Since(began))
	}
	if err != nil {
		return err
	}
	c.cooling.AddAfter(name, coolingRetry)
	return nil
}

// pause waits as long as a deletion took, so that releases take no more than half of the time of one client, and the less
// of the API server the busier it is. It ends with the context.
func pause(ctx context.Context, took time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(min(took, maxCoolingPause)):
	}
}

// parentEnds reports whether the parent of an allocation is being deleted or gone.
func (c *Controller) parentEnds(allocation *v1alpha1.PrefixAllocation) bool {
	parent, _, ok := holding.Of(allocation)
	if !ok {
		return false
	}
	prefix, err := c.prefixes.Prefixes(parent.Namespace).Get(parent.Name)
	return err != nil || prefix.DeletionTimestamp != nil
}

// wakeHeir queues the child of the name for which the space of an allocation is kept, if it exists and has no space yet.
func (c *Controller) wakeHeir(allocation *v1alpha1.PrefixAllocation) {
	ref := requester.Of(allocation)
	if ref == nil {
		return
	}
	if heir, err := c.prefixes.Prefixes(allocation.Namespace).Get(ref.Name); err == nil && heir.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		c.children.Add(observe.NameOf(heir))
	}
}

// heirs holds the children that cannot take back what is kept for them only because of the rules of the parent.
type heirs struct {
	mu sync.Mutex
	// names holds them by the namespace of the parent.
	names map[string]sets.Set[types.NamespacedName]
}

// add adds a child whose parent is in a namespace.
func (h *heirs) add(namespace string, child types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names == nil {
		h.names = map[string]sets.Set[types.NamespacedName]{}
	}
	if h.names[namespace] == nil {
		h.names[namespace] = sets.Set[types.NamespacedName]{}
	}
	h.names[namespace].Insert(child)
}

// take returns the names of the children whose parents are in a namespace, and removes them.
func (h *heirs) take(namespace string) sets.Set[types.NamespacedName] {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer delete(h.names, namespace)
	return h.names[namespace]
}

// maxTakeBacks is how often in a row a child tries to take space back although the API server refuses, because the cache
// may be behind. After that the child gets other space.
const maxTakeBacks = 5

// takeBack gives a Pending child the space that an earlier child of the same name had, if the child asks for the same.
// It reports whether it did. Then the child has an allocation that holds space. What a later change allows, such as one of
// labels or of consent, the scheduler takes back.
func (c *Controller) takeBack(ctx context.Context, prefix *v1alpha1.Prefix) (bool, error) {
	requested, err := request.OfPrefix(&prefix.Spec)
	if err != nil {
		// createAllocation reports it.
		return false, nil
	}
	var forbidden func() bool
	kept := slices.DeleteFunc(holding.KeptFor(c.allocationIndex, observe.NameOf(prefix), prefix.UID, requested, prefix.NamespaceOfParent()), func(k holding.Kept) bool {
		parent := c.requestedParent(prefix, k.Parent)
		if parent == nil {
			return true
		}
		rules := c.policies.For(parent)
		if !rules.Allow(k.Prefix.Bits()) {
			forbidden = func() bool { return !c.policies.For(parent).Allow(k.Prefix.Bits()) }
			return true
		}
		return !k.IsCooling() && rules.CoolDown() == 0
	})
	last := holding.Last(kept)
	if last == nil {
		if forbidden != nil {
			c.heirs.add(prefix.NamespaceOfParent(), observe.NameOf(prefix))
			if !forbidden() {
				// The rules have changed meanwhile.
				c.children.Add(observe.NameOf(prefix))
			}
		}
		return false, nil
	}
	err = last.GiveTo(ctx, c.client, prefix.UID)
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsNotFound(err), queue.IsRefusal(err),
		apierrors.IsConflict(err) && c.children.NumRequeues(observe.NameOf(prefix)) >= maxTakeBacks:
		return false, nil
	}
	return false, err
}

// requestedParent returns a parent if it exists, is not being deleted, and a child names or selects it. Otherwise it returns nil.
func (c *Controller) requestedParent(child *v1alpha1.Prefix, name types.NamespacedName) *v1alpha1.Prefix {
	parent, err := c.prefixes.Prefixes(name.Namespace).Get(name.Name)
	if err != nil || parent.DeletionTimestamp != nil {
		return nil
	}
	if ref := child.Spec.ParentRef; ref != nil {
		if ref.Name != name.Name {
			return nil
		}
		return parent
	}
	selector, err := metav1.LabelSelectorAsSelector(child.Spec.ParentSelector)
	if err != nil || !selector.Matches(labels.Set(parent.Labels)) {
		return nil
	}
	return parent
}
