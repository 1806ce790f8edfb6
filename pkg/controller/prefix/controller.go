// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefix contains the controller of Prefixes. The controller makes root Prefixes Allocated. It creates a
// PrefixAllocation for each child and binds the child when the PrefixAllocation is Allocated. It maintains the
// usage in the status of parents, and it removes the finalizer of a deleted Prefix when nothing is allocated from
// it.
package prefix

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	informers "github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions/ipam/v1alpha1"
	listers "github.com/ironcore-dev/ipam-apiserver/generated/listers/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/policy"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
)

// byParentName is the name of an index of the Prefixes that are not Allocated yet. The key is the namespace/name
// of the parent in the spec.
const byParentName = "parent"

// minKept and maxKept limit the backoff for replacing failed allocations of a child. The first one is replaced at
// once, the second one after minKept. The delay doubles each time, up to maxKept.
const (
	minKept = time.Second
	maxKept = 2 * time.Minute
)

// Controller is the controller of Prefixes. Create it with New.
type Controller struct {
	client      versioned.Interface
	prefixes    listers.PrefixLister
	allocations listers.PrefixAllocationLister
	byParent    cache.Indexer
	recorder    events.EventRecorder
	workers     int

	accounts *accounts
	owned    *owned
	policies policy.Index
	// children is the queue of Prefixes to reconcile. parents is the queue of Prefixes whose usage changed.
	// orphans is the queue of PrefixAllocations whose Prefix may be gone.
	children, parents, orphans queue.Queue
	// gone holds the UIDs of Prefixes whose deletion the informer has seen and that left allocations behind.
	gone sync.Map
	// givenUp holds the backoff for deleting and replacing the allocations of a child, by the name of the child.
	givenUp *flowcontrol.Backoff
	// notOurs holds the UIDs of allocations that refer to a child, but whose claim belongs to somebody else
	// according to the server.
	notOurs sync.Map
	// refusals limits how often a refused request is retried.
	refusals *refusals
	synced   []cache.InformerSynced
}

// New returns a controller that reconciles up to workers Prefixes at a time.
func New(client versioned.Interface, prefixes informers.PrefixInformer, allocations informers.PrefixAllocationInformer,
	policies informers.PrefixPolicyInformer, recorder events.EventRecorder, workers int) (*Controller, error) {
	c := &Controller{
		client:      client,
		prefixes:    prefixes.Lister(),
		allocations: allocations.Lister(),
		byParent:    prefixes.Informer().GetIndexer(),
		recorder:    recorder,
		workers:     workers,
		accounts:    newAccounts(),
		owned:       newOwned(),
		givenUp:     flowcontrol.NewBackOff(minKept, maxKept),
		refusals:    newRefusals(),
		children:    queue.New("prefix"),
		parents:     queue.New("prefix_usage"),
		orphans:     queue.New("prefix_orphans"),
	}

	if err := c.byParent.AddIndexers(cache.Indexers{byParentName: func(obj any) ([]string, error) {
		prefix := obj.(*v1alpha1.Prefix)
		if ref := prefix.Spec.ParentRef; ref != nil && prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			return []string{prefix.Namespace + "/" + ref.Name}, nil
		}
		return nil, nil
	}}); err != nil {
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
		c.countSelected(policy.Namespace, c.policies.Set(policy))
	}, func(policy *v1alpha1.PrefixPolicy) {
		c.countSelected(policy.Namespace, c.policies.Delete(policy))
	}))
	if err != nil {
		return nil, err
	}
	c.synced = []cache.InformerSynced{prefixEvents.HasSynced, allocationEvents.HasSynced, policyEvents.HasSynced}
	return c, nil
}

func (c *Controller) prefixSeen(before, prefix *v1alpha1.Prefix) {
	name := observe.NameOf(prefix)
	if !c.isSettled(prefix) {
		c.children.Add(name)
	}
	if !c.isCounted(prefix) || before != nil && !equality.Semantic.DeepEqual(before.Status.Usage, prefix.Status.Usage) {
		c.count(name)
	}
	if before != nil && before.Spec.Prefix == prefix.Spec.Prefix {
		return
	}
	// Children that wait for this parent, or whose requests failed for an earlier parent of this name, may succeed
	// now.
	if waiting, err := c.byParent.ByIndex(byParentName, name.String()); err == nil {
		for _, obj := range waiting {
			c.children.Add(observe.NameOf(obj.(*v1alpha1.Prefix)))
		}
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

// isCounted reports whether the number of allocations in the status of a Prefix matches the cache. A Prefix
// without allocations and without usage in its status needs no write. Another server of the API group leaves many
// of those. It reports false if the Prefix has or had reserved space, because only a full count shows how much.
func (c *Controller) isCounted(prefix *v1alpha1.Prefix) bool {
	if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		return true
	}
	count := c.accounts.count(observe.NameOf(prefix))
	if c.policies.For(prefix).Reserved() != nil || prefix.Status.Usage != nil && prefix.Status.Usage.Reserved != "" {
		return false
	}
	if prefix.Status.Usage == nil {
		return count == 0 && len(prefix.Status.Used) == 0
	}
	return int(prefix.Status.Usage.Allocations) == count
}

// usageDelay is how long changes of the allocations from a parent are collected before they are written to its
// status in one request. The status is up to date within about a second.
const usageDelay = 200 * time.Millisecond

// count queues a parent to update the usage in its status.
func (c *Controller) count(parent types.NamespacedName) { c.parents.AddAfter(parent, usageDelay) }

// countSelected queues the Prefixes that any of the selectors selects, because their rules may have changed.
func (c *Controller) countSelected(namespace string, selectors []labels.Selector) {
	for _, selector := range selectors {
		// The error is always nil: the lister reads from a cache.
		selected, _ := c.prefixes.Prefixes(namespace).List(selector)
		for _, prefix := range selected {
			c.count(observe.NameOf(prefix))
		}
	}
}

func (c *Controller) prefixGone(prefix *v1alpha1.Prefix) {
	c.refusals.forget(observe.NameOf(prefix))
	c.givenUp.Reset(observe.NameOf(prefix).String())
	for _, allocation := range c.allocationsOf(prefix) {
		c.gone.Store(prefix.UID, struct{}{})
		c.orphans.Add(observe.NameOf(allocation))
	}
}

func (c *Controller) allocationSeen(before, allocation *v1alpha1.PrefixAllocation) {
	ref := requester.Of(allocation)
	if before != nil {
		if was := requester.Of(before); was != nil && (ref == nil || was.UID != ref.UID || was.Name != ref.Name) {
			c.owned.remove(owner{before.Namespace, was.UID}, before.Name)
			c.gone.Delete(was.UID)
			// The child needs a new allocation.
			c.children.Add(types.NamespacedName{Namespace: before.Namespace, Name: was.Name})
		}
		was, _, ok := held(before)
		if is, _, still := held(allocation); ok && (!still || was != is) {
			// An allocation gives up space without being deleted, or changes its parent, only if etcd was restored
			// from a backup.
			c.released(was, allocation.UID)
		}
	}
	if ref != nil {
		c.owned.add(owner{allocation.Namespace, ref.UID}, allocation.Name)
		// If the Prefix is not in the cache yet, its own event handles this allocation later.
		switch prefix, err := c.prefixes.Prefixes(allocation.Namespace).Get(ref.Name); {
		case err != nil || prefix.UID != ref.UID:
			c.orphans.Add(observe.NameOf(allocation))
		case !c.isSettled(prefix):
			c.children.Add(observe.NameOf(prefix))
		}
	}
	if requester.IsLost(allocation) && allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
		c.orphans.Add(observe.NameOf(allocation))
	}
	if parent, prefix, ok := held(allocation); ok && c.accounts.hold(parent, allocation.UID, allocation.Name, prefix) {
		c.count(parent)
	}
}

func (c *Controller) allocationGone(allocation *v1alpha1.PrefixAllocation) {
	c.notOurs.Delete(allocation.UID)
	if ref := requester.Of(allocation); ref != nil {
		c.owned.remove(owner{allocation.Namespace, ref.UID}, allocation.Name)
		c.gone.Delete(ref.UID)
		c.children.Add(types.NamespacedName{Namespace: allocation.Namespace, Name: ref.Name})
	}
	if parent, _, ok := held(allocation); ok {
		c.released(parent, allocation.UID)
	}
}

// released records that an allocation holds no space of a parent any more.
func (c *Controller) released(parent types.NamespacedName, uid types.UID) {
	if !c.accounts.release(parent, uid) {
		return
	}
	c.count(parent)
	if c.accounts.count(parent) == 0 {
		// A parent that is being deleted waits for this.
		c.children.Add(parent)
	} else {
		// The condition of the parent may list the allocation that is gone.
		c.children.AddAfter(parent, usageDelay)
	}
}

// allocationsOf returns the allocations of a Prefix from the cache.
func (c *Controller) allocationsOf(prefix *v1alpha1.Prefix) []*v1alpha1.PrefixAllocation {
	var allocations []*v1alpha1.PrefixAllocation
	for _, name := range c.owned.names(owner{prefix.Namespace, prefix.UID}) {
		allocation, err := c.allocations.PrefixAllocations(prefix.Namespace).Get(name)
		if err != nil {
			continue
		}
		if requester.IsOf(allocation, prefix) {
			allocations = append(allocations, allocation)
		}
	}
	return allocations
}

// held returns the prefix that an allocation holds and its parent. ok is false if it holds none.
func held(allocation *v1alpha1.PrefixAllocation) (parent types.NamespacedName, prefix netip.Prefix, ok bool) {
	if allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || allocation.Spec.PrefixRef == nil {
		return parent, prefix, false
	}
	prefix, err := request.ParsePrefix(allocation.Status.Prefix)
	return types.NamespacedName{Namespace: allocation.Namespace, Name: allocation.Spec.PrefixRef.Name}, prefix, err == nil
}

// parentWorkers is the maximum number of parents whose status is written at the same time.
const parentWorkers = 2

// Run runs the controller until the context ends. The caller must start the informers.
func (c *Controller) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithName("prefix")
	ctx = klog.NewContext(ctx, logger)
	queues := []struct {
		queue.Queue
		workers int
		sync    func(context.Context, types.NamespacedName) error
	}{
		{c.children, c.workers, c.syncPrefix},
		{c.parents, min(c.workers, parentWorkers), c.syncUsage},
		{c.orphans, c.workers, c.syncOrphan},
	}
	shutDown := func() {
		for _, q := range queues {
			q.ShutDown()
		}
	}
	defer shutDown()
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return nil
	}
	logger.Info("Started", "workers", c.workers)

	var wg sync.WaitGroup
	for _, q := range queues {
		for range q.workers {
			wg.Go(func() {
				for c.next(ctx, q.Queue, q.sync) {
				}
			})
		}
	}
	<-ctx.Done()
	shutDown()
	wg.Wait()
	return nil
}

func (c *Controller) next(ctx context.Context, q queue.Queue, sync func(context.Context, types.NamespacedName) error) bool {
	name, shutdown := q.Get()
	if shutdown {
		return false
	}
	defer q.Done(name)
	err := sync(ctx, name)
	switch {
	case err == nil:
		q.Forget(name)
	case ctx.Err() != nil:
	default:
		level := 0
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			level = 2
		}
		klog.FromContext(ctx).V(level).Info("Trying again", "name", name, "reason", err.Error())
		q.AddRateLimited(name)
	}
	return true
}
