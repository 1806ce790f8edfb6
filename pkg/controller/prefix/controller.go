// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefix is the controller of Prefixes. It makes roots Allocated, makes a PrefixAllocation
// for each child and completes the child once that is allocated, keeps what the status of a parent
// says about its children true, and lets a Prefix go when nothing is allocated from it any more.
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
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
)

// byParentName indexes the Prefixes that are not allocated yet by namespace/name of the parent
// that they name.
const byParentName = "parent"

// A child whose allocations fail again and again keeps the second one for minKept, and each one after it for twice as long as
// the last, up to maxKept.
const (
	minKept = time.Second
	maxKept = 2 * time.Minute
)

// Controller is the controller of Prefixes.
type Controller struct {
	client      versioned.Interface
	prefixes    listers.PrefixLister
	allocations listers.PrefixAllocationLister
	byParent    cache.Indexer
	recorder    events.EventRecorder
	workers     int

	accounts *accounts
	owned    *owned
	// children is the queue of Prefixes by themselves, parents that of Prefixes whose children
	// changed, orphans that of PrefixAllocations whose Prefix may be gone.
	children, parents, orphans queue.Queue
	// gone are the uids of Prefixes that the informer has seen go, and that left allocations.
	gone sync.Map
	// givenUp are the children, by name, that had allocations deleted in favour of others, and for how long they keep the next ones.
	givenUp *flowcontrol.Backoff
	// notOurs are the uids of allocations that refer to a child, but hold their space for somebody else:
	// the server said so.
	notOurs sync.Map
	// refusals limit how often a request that the server refused is made again.
	refusals *refusals
	synced   []cache.InformerSynced
}

// New returns a controller that does so many Prefixes at a time.
func New(client versioned.Interface, prefixes informers.PrefixInformer, allocations informers.PrefixAllocationInformer,
	recorder events.EventRecorder, workers int) (*Controller, error) {
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
	c.synced = []cache.InformerSynced{prefixEvents.HasSynced, allocationEvents.HasSynced}
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
	// What failed for a parent that was here before may be possible now.
	if waiting, err := c.byParent.ByIndex(byParentName, name.String()); err == nil {
		for _, obj := range waiting {
			c.children.Add(observe.NameOf(obj.(*v1alpha1.Prefix)))
		}
	}
}

// isSettled reports whether there is nothing to do for a Prefix itself: it is Allocated, is not being
// deleted, and has no allocation besides the one that it stands on. At a start this is true of nearly all
// Prefixes.
func (c *Controller) isSettled(prefix *v1alpha1.Prefix) bool {
	if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated || prefix.DeletionTimestamp != nil {
		return false
	}
	own := c.allocationsOf(prefix)
	return len(own) == 0 || len(own) == 1 && own[0].Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated
}

// isCounted reports whether the status of a Prefix has as many allocations as the informer knows. A Prefix
// that nothing is allocated from, and whose status says nothing of usage, needs no write: another server of
// the API group leaves many of those.
func (c *Controller) isCounted(prefix *v1alpha1.Prefix) bool {
	if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		return true
	}
	count := c.accounts.count(observe.NameOf(prefix))
	if prefix.Status.Usage == nil {
		return count == 0 && len(prefix.Status.Used) == 0
	}
	return int(prefix.Status.Usage.Allocations) == count
}

// usageDelay is how long changes of what is allocated from a parent are gathered, to be written at once. The
// status of a parent follows within a second.
const usageDelay = 200 * time.Millisecond

// count queues a parent whose allocations changed.
func (c *Controller) count(parent types.NamespacedName) { c.parents.AddAfter(parent, usageDelay) }

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
			// It needs another one now.
			c.children.Add(types.NamespacedName{Namespace: before.Namespace, Name: was.Name})
		}
		was, _, ok := held(before)
		if is, _, still := held(allocation); ok && (!still || was != is) {
			// That cannot be, unless etcd was restored from a backup.
			c.released(was, allocation.UID)
		}
	}
	if ref != nil {
		c.owned.add(owner{allocation.Namespace, ref.UID}, allocation.Name)
		// Of a Prefix that is seen later, allocations that were seen before are known then.
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

// released takes in that an allocation holds nothing of a parent any more.
func (c *Controller) released(parent types.NamespacedName, uid types.UID) {
	if !c.accounts.release(parent, uid) {
		return
	}
	c.count(parent)
	if c.accounts.count(parent) == 0 {
		// A parent that is being deleted waits for this.
		c.children.Add(parent)
	} else {
		// Its condition may name what is gone.
		c.children.AddAfter(parent, usageDelay)
	}
}

// allocationsOf returns the allocations of a Prefix.
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

// held returns what an allocation holds of which parent.
func held(allocation *v1alpha1.PrefixAllocation) (parent types.NamespacedName, prefix netip.Prefix, ok bool) {
	if allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || allocation.Spec.PrefixRef == nil {
		return parent, prefix, false
	}
	prefix, err := request.ParsePrefix(allocation.Status.Prefix)
	return types.NamespacedName{Namespace: allocation.Namespace, Name: allocation.Spec.PrefixRef.Name}, prefix, err == nil
}

// parentWorkers is how many statuses of parents are written at a time at most.
const parentWorkers = 2

// Run works until the context ends. The informers have to be started.
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
