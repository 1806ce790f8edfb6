// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefix contains the controller of Prefixes. The controller makes root Prefixes Allocated. It creates a
// PrefixAllocation for each child and binds the child when the PrefixAllocation is Allocated. It maintains the
// usage in the status of parents, and it removes the finalizer of a deleted Prefix when nothing is allocated from
// it.
//
// Event handlers put names into queues (controller.go). Workers compare the objects with those names, in the caches of
// the informers, with what should be, and write the difference to the API (sync.go, usage.go).
package prefix

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	informers "github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions/ipam/v1alpha1"
	listers "github.com/ironcore-dev/ipam-apiserver/generated/listers/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/holding"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/pkg/policy"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// pendingByRef is the name of an index of the Prefixes that name their parent and are not Allocated yet. The key is the
// namespace/name of the parent. Prefixes that only select parents are not in it: what they wait for, the scheduler knows.
const pendingByRef = "pendingByRef"

// Controller is the controller of Prefixes. Create it with New.
type Controller struct {
	client          versioned.Interface
	prefixes        listers.PrefixLister
	prefixIndex     cache.Indexer
	allocations     listers.PrefixAllocationLister
	allocationIndex cache.Indexer
	recorder        events.EventRecorder
	workers         int

	// tracker is what the usage in the status of parents is computed from.
	tracker  *usageTracker
	policies policy.Index
	// heirs are the children that a change of policies may give back what was theirs.
	heirs heirs
	// affected tells which Prefixes have to be counted because of changed policies.
	affected affected
	// children is the queue of Prefixes to reconcile. usage is the queue of parents whose usage changed.
	// orphans is the queue of PrefixAllocations whose Prefix may be gone, and cooling that of those whose space cools down.
	// rules is the queue of namespaces in affected.
	children, usage, orphans, cooling, rules queue.Queue
	// claimedByOthers holds the UIDs of allocations that refer to a child, but whose claim belongs to somebody else
	// according to the server. Objects do not show this, since whoever writes an allocation can write its references.
	claimedByOthers sync.Map
	retries         *retries
	// arrivals measures how long children take.
	arrivals *arrivals
	synced   []cache.InformerSynced
}

// New returns a controller that reconciles up to workers Prefixes at a time.
func New(client versioned.Interface, prefixes informers.PrefixInformer, allocations informers.PrefixAllocationInformer,
	policies informers.PrefixPolicyInformer, recorder events.EventRecorder, workers int) (*Controller, error) {
	registerMetrics()
	c := &Controller{
		client:          client,
		prefixes:        prefixes.Lister(),
		prefixIndex:     prefixes.Informer().GetIndexer(),
		allocations:     allocations.Lister(),
		allocationIndex: allocations.Informer().GetIndexer(),
		recorder:        recorder,
		workers:         workers,
		tracker:         newUsageTracker(),
		retries:         newRetries(),
		arrivals:        newArrivals(),
		children:        queue.New("prefix"),
		usage:           queue.New("prefix_usage"),
		orphans:         queue.New("prefix_orphans"),
		rules:           queue.New("prefix_rules"),
		cooling:         queue.New("prefix_cooling"),
	}

	if err := c.prefixIndex.AddIndexers(cache.Indexers{pendingByRef: func(obj any) ([]string, error) {
		prefix := obj.(*v1alpha1.Prefix)
		if ref := prefix.Spec.ParentRef; ref != nil && prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			return []string{prefix.NamespaceOfParent() + "/" + ref.Name}, nil
		}
		return nil, nil
	}}); err != nil {
		return nil, err
	}
	if err := requester.AddIndex(c.allocationIndex); err != nil {
		return nil, err
	}
	if err := holding.AddIndex(c.allocationIndex); err != nil {
		return nil, err
	}

	prefixEvents, err := prefixes.Informer().AddEventHandler(observe.Handler(c.prefixSeen, c.prefixGone))
	if err != nil {
		return nil, err
	}
	allocationEvents, err := allocations.Informer().AddEventHandler(observe.Handler(c.allocationSeen, c.allocationGone))
	if err != nil {
		return nil, err
	}
	policyEvents, err := policies.Informer().AddEventHandler(observe.Handler(func(_, policy *v1alpha1.PrefixPolicy) {
		c.rulesChanged(policy.Namespace, c.policies.Set(policy))
	}, func(policy *v1alpha1.PrefixPolicy) {
		c.rulesChanged(policy.Namespace, c.policies.Delete(policy))
	}))
	if err != nil {
		return nil, err
	}
	c.synced = []cache.InformerSynced{prefixEvents.HasSynced, allocationEvents.HasSynced, policyEvents.HasSynced}
	return c, nil
}

func (c *Controller) prefixSeen(before, prefix *v1alpha1.Prefix) {
	name := observe.NameOf(prefix)
	if before == nil && !prefix.Spec.IsRoot() && prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		c.arrivals.saw(prefix)
	}
	if !c.isSettled(prefix) {
		c.children.Add(name)
	}
	if !c.isCounted(prefix) || before != nil && (!equality.Semantic.DeepEqual(before.Status.Usage, prefix.Status.Usage) ||
		!slices.Equal(before.Status.Used, prefix.Status.Used)) {
		c.queueUsage(name)
	}
	if before != nil && before.Spec.Prefix == prefix.Spec.Prefix {
		return
	}
	// Children that wait for this parent, or whose requests failed for an earlier parent of this name, may succeed
	// now.
	for _, child := range observe.ByIndex[*v1alpha1.Prefix](c.prefixIndex, pendingByRef, name.String()) {
		c.children.Add(observe.NameOf(child))
	}
}

// isSettled reports whether a Prefix needs no reconciliation: it is Allocated, is not being deleted, and has no
// allocation except the one that it is bound to. At startup this is true of nearly all Prefixes.
func (c *Controller) isSettled(prefix *v1alpha1.Prefix) bool {
	if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated || prefix.DeletionTimestamp != nil {
		return false
	}
	own := c.allocationsOf(prefix)
	return len(own) == 0 || len(own) == 1 && own[0].Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated
}

// isBoundTo reports whether a Prefix is Allocated, is not being deleted, and has what an allocation holds. It looks at no
// other allocation: anybody may create very many for a Prefix, and all namespaces share the event handler.
func isBoundTo(prefix *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation) bool {
	parent, space, holds := holding.Of(allocation)
	return holds && prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated && prefix.DeletionTimestamp == nil &&
		prefix.Spec.ParentRef != nil && prefix.Spec.ParentRef.Name == parent.Name && prefix.NamespaceOfParent() == parent.Namespace &&
		cidr.Equal(prefix.Spec.Prefix, space.String())
}

// isCounted reports whether the number of allocations in the status of a Prefix matches the cache. A Prefix
// without allocations and without usage in its status needs no write. Another server of the API group leaves many
// of those. It reports false if the Prefix has or had reserved or cooling space, because only a full count
// shows how much.
func (c *Controller) isCounted(prefix *v1alpha1.Prefix) bool {
	if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		return true
	}
	usage := prefix.Status.Usage
	if c.policies.For(prefix).HasReserved() || usage != nil && (usage.Reserved != "" || usage.Cooling != "") {
		return false
	}
	if c.tracker.cools(observe.NameOf(prefix)) {
		return false
	}
	count := c.tracker.count(observe.NameOf(prefix))
	if usage == nil {
		return count == 0 && len(prefix.Status.Used) == 0
	}
	return int(usage.Allocations) == count
}

// usageDelay is how long changes of the allocations from a parent are collected before they are written to its
// status in one request. The status is up to date within about a second.
const usageDelay = 200 * time.Millisecond

// deletableDelay is how long changes of the allocations from a parent that is being deleted are collected before its
// condition lists those that are left.
const deletableDelay = time.Second

// queueUsage queues a parent to update the usage in its status.
func (c *Controller) queueUsage(parent types.NamespacedName) { c.usage.AddAfter(parent, usageDelay) }

func (c *Controller) prefixGone(prefix *v1alpha1.Prefix) {
	c.retries.forget(observe.NameOf(prefix))
	for _, allocation := range c.allocationsOf(prefix) {
		c.orphans.Add(observe.NameOf(allocation))
	}
}

func (c *Controller) allocationSeen(before, allocation *v1alpha1.PrefixAllocation) {
	ref := requester.Of(allocation)
	if before != nil {
		if was := requester.Of(before); was != nil && (ref == nil || was.UID != ref.UID || was.Name != ref.Name) {
			// The child needs a new allocation.
			c.children.Add(types.NamespacedName{Namespace: before.Namespace, Name: was.Name})
		}
	}
	switch {
	case isCooling(allocation):
		c.cooling.Add(observe.NameOf(allocation))
		c.wakeHeir(allocation)
	case ref != nil:
		// If the Prefix is not in the cache yet, its own event handles this allocation later.
		switch prefix, err := c.prefixes.Prefixes(allocation.Namespace).Get(ref.Name); {
		case err != nil || prefix.UID != ref.UID:
			c.orphans.Add(observe.NameOf(allocation))
		case !isBoundTo(prefix, allocation):
			c.children.Add(observe.NameOf(prefix))
		}
	}
	if requester.IsLost(allocation) && allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
		c.orphans.Add(observe.NameOf(allocation))
	}
	oldParent, oldPrefix, didHold := holding.Of(before)
	parent, prefix, holds := holding.Of(allocation)
	if didHold == holds && oldParent == parent && oldPrefix == prefix && isCooling(before) == isCooling(allocation) {
		return
	}
	if didHold && (!holds || oldParent != parent) {
		// An allocation gives up space without being deleted, or changes its parent, only if etcd was restored from a
		// backup.
		c.released(oldParent, allocation.UID)
	}
	if holds {
		c.tracker.hold(parent, allocation.UID, prefix, isCooling(allocation))
		c.queueUsage(parent)
	}
}

func (c *Controller) allocationGone(allocation *v1alpha1.PrefixAllocation) {
	c.claimedByOthers.Delete(allocation.UID)
	if ref := requester.Of(allocation); ref != nil {
		c.children.Add(types.NamespacedName{Namespace: allocation.Namespace, Name: ref.Name})
	}
	if parent, _, ok := holding.Of(allocation); ok {
		c.released(parent, allocation.UID)
	}
}

// released records that an allocation holds no space of a parent any more.
func (c *Controller) released(parent types.NamespacedName, uid types.UID) {
	c.queueUsage(parent)
	if c.tracker.release(parent, uid) == 0 {
		// A parent that is being deleted waits for this.
		c.children.Add(parent)
	} else {
		// The condition of a parent that is being deleted may list the allocation that is gone.
		c.children.AddAfter(parent, deletableDelay)
	}
}

// allocationsOf returns the allocations of a Prefix from the cache.
func (c *Controller) allocationsOf(prefix *v1alpha1.Prefix) []*v1alpha1.PrefixAllocation {
	own := requester.AllocationsFor(c.allocationIndex, observe.NameOf(prefix))
	return slices.DeleteFunc(own, func(allocation *v1alpha1.PrefixAllocation) bool { return !requester.IsOf(allocation, prefix) })
}

// parentWorkers is the maximum number of parents whose status is written at the same time.
const parentWorkers = 2

// Run runs the controller until the context ends. The caller must start the informers.
func (c *Controller) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithName("prefix")
	ctx = klog.NewContext(ctx, logger)
	defer c.children.ShutDown()
	defer c.usage.ShutDown()
	defer c.orphans.ShutDown()
	defer c.rules.ShutDown()
	defer c.cooling.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return nil
	}
	logger.Info("Started", "workers", c.workers)

	var wg sync.WaitGroup
	wg.Go(func() { queue.Run(ctx, c.children, c.workers, c.syncPrefix) })
	wg.Go(func() { queue.Run(ctx, c.usage, min(c.workers, parentWorkers), c.syncUsage) })
	wg.Go(func() { queue.Run(ctx, c.orphans, c.workers, c.syncOrphan) })
	wg.Go(func() { queue.Run(ctx, c.rules, 1, c.syncRules) })
	wg.Go(func() { queue.Run(ctx, c.cooling, coolingWorkers, c.syncCooling) })
	wg.Wait()
	return nil
}
