// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixpolicy contains the controller of PrefixPolicies. It maintains their status: how many Prefixes a policy
// selects, and which reserved space is in use. It does not apply the rules.
package prefixpolicy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	informers "github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions/ipam/v1alpha1"
	listers "github.com/ironcore-dev/ipam-apiserver/generated/listers/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/holding"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/pkg/policy"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Controller is the controller of PrefixPolicies. Create it with New.
type Controller struct {
	client      versioned.Interface
	policies    listers.PrefixPolicyLister
	prefixes    listers.PrefixLister
	allocations cache.Indexer

	// index tells which policies select a Prefix.
	index policy.Index
	// queue holds namespaces. The status of all policies of a namespace is computed in one pass over its Prefixes.
	queue queue.Queue
	// pauses holds, by namespace, how long to wait from a change to the next pass.
	pauses sync.Map
	synced []cache.InformerSynced
}

// New returns a controller. It fails if it cannot add its handlers to the informers.
func New(client versioned.Interface, policies informers.PrefixPolicyInformer, prefixes informers.PrefixInformer,
	allocations informers.PrefixAllocationInformer) (*Controller, error) {
	c := &Controller{
		client:      client,
		policies:    policies.Lister(),
		prefixes:    prefixes.Lister(),
		allocations: allocations.Informer().GetIndexer(),
		queue:       queue.New("prefixpolicy"),
	}
	if err := holding.AddIndex(c.allocations); err != nil {
		return nil, err
	}
	for _, handled := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{policies.Informer(), observe.Handler(func(_, policy *v1alpha1.PrefixPolicy) {
			c.index.Set(policy)
			c.changed(policy.Namespace, policyDelay)
		}, func(policy *v1alpha1.PrefixPolicy) {
			c.index.Delete(policy)
			c.changed(policy.Namespace, policyDelay)
		})},
		{prefixes.Informer(), observe.Handler(c.prefixSeen, func(prefix *v1alpha1.Prefix) {
			c.labelsChanged(prefix.Namespace, prefix.Labels)
		})},
		{allocations.Informer(), observe.Handler(func(_, allocation *v1alpha1.PrefixAllocation) {
			c.allocationChanged(allocation)
		}, c.allocationChanged)},
	} {
		events, err := handled.informer.AddEventHandler(handled.handler)
		if err != nil {
			return nil, err
		}
		c.synced = append(c.synced, events.HasSynced)
	}
	return c, nil
}

const (
	// policyDelay and statusDelay are how long changes of policies, and changes of what they select, are collected before
	// the status is written.
	policyDelay = 50 * time.Millisecond
	statusDelay = time.Second
	// restFactor limits the work for a namespace with very many objects: after a pass that took a time t, the next one
	// starts at least restFactor times t after a change.
	restFactor = 10
)

// changed queues a namespace.
func (c *Controller) changed(namespace string, delay time.Duration) {
	if pause, ok := c.pauses.Load(namespace); ok {
		delay = max(delay, pause.(time.Duration))
	}
	c.queue.AddAfter(types.NamespacedName{Namespace: namespace}, delay)
}

func (c *Controller) prefixSeen(before, prefix *v1alpha1.Prefix) {
	if before == nil {
		c.labelsChanged(prefix.Namespace, prefix.Labels)
		return
	}
	if labels.Equals(before.Labels, prefix.Labels) && before.Spec.Prefix == prefix.Spec.Prefix {
		return
	}
	c.labelsChanged(prefix.Namespace, before.Labels)
	c.labelsChanged(prefix.Namespace, prefix.Labels)
}

// labelsChanged queues a namespace if any of its policies selects a Prefix with the given labels.
func (c *Controller) labelsChanged(namespace string, set labels.Set) {
	selected := false
	c.index.Selecting(namespace, set, func(string, *allocator.Reserved) { selected = true })
	if selected {
		c.changed(namespace, statusDelay)
	}
}

// allocationChanged queues the namespace of the parent if a policy reserves space that the allocation holds. There are few
// such allocations: the scheduler does not choose reserved space.
func (c *Controller) allocationChanged(allocation *v1alpha1.PrefixAllocation) {
	name, held, ok := holding.Of(allocation)
	if !ok {
		return
	}
	parent, err := c.prefixes.Prefixes(name.Namespace).Get(name.Name)
	if err != nil {
		return
	}
	of, err := cidr.ParseStored(parent.Spec.Prefix)
	if err != nil {
		return
	}
	inUse := false
	c.index.Selecting(parent.Namespace, parent.Labels, func(_ string, reserved *allocator.Reserved) {
		inUse = inUse || reserved.Overlaps(held, of)
	})
	if inUse {
		c.changed(parent.Namespace, statusDelay)
	}
}

// workers is the number of namespaces whose policies are processed at the same time.
const workers = 2

// Run runs the controller until the context ends. The caller must start the informers.
func (c *Controller) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithName("prefixpolicy")
	ctx = klog.NewContext(ctx, logger)
	defer c.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return nil
	}
	logger.Info("Started", "workers", workers)

	queue.Run(ctx, c.queue, workers, c.sync)
	return nil
}

// sync writes the status of the policies of a namespace. After an error it has to be retried.
func (c *Controller) sync(ctx context.Context, name types.NamespacedName) error {
	policies, err := c.policies.PrefixPolicies(name.Namespace).List(labels.Everything())
	if err != nil || len(policies) == 0 {
		c.pauses.Delete(name.Namespace)
		return err
	}
	start := time.Now()
	defer func() { c.pauses.Store(name.Namespace, restFactor*time.Since(start)) }()
	found, err := c.find(name.Namespace)
	if err != nil {
		return err
	}
	var errs []error
	for _, policy := range policies {
		updated := policy.DeepCopy()
		updated.Status = statusOf(policy, found[policy.Name])
		if reflect.DeepEqual(policy.Status, updated.Status) {
			continue
		}
		_, err := c.client.IpamV1alpha1().PrefixPolicies(name.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// selection is what a policy selects.
type selection struct {
	prefixes int64
	// inUse are the first allocations that hold space which the policy reserves, by parent and prefix: as many as a
	// message names, and one more.
	inUse []held
	// conflict says which policies of the selected Prefixes have different strategies.
	conflict string
}

// held is an allocation that holds reserved space.
type held struct {
	// namespace and parent name the Prefix that it is allocated from.
	namespace  string
	parent     string
	prefix     netip.Prefix
	allocation *v1alpha1.PrefixAllocation
}

func (h held) compare(other held) int {
	return cmp.Or(strings.Compare(h.parent, other.parent), h.prefix.Compare(other.prefix))
}

// holder names who holds the space. Readers of the policy may not read other namespaces.
func (h held) holder() string {
	if h.allocation.Namespace != h.namespace {
		return "another namespace"
	}
	return requester.Describe(h.allocation)
}

// maxNamed is the maximum number of allocations that a message names.
const maxNamed = 5

// find returns what the policies of a namespace select, by the name of the policy.
func (c *Controller) find(namespace string) (map[string]*selection, error) {
	prefixes, err := c.prefixes.Prefixes(namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	found := map[string]*selection{}
	for _, prefix := range prefixes {
		var selecting []*selection
		reserving := map[*selection]*allocator.Reserved{}
		c.index.Selecting(namespace, prefix.Labels, func(name string, reserved *allocator.Reserved) {
			if found[name] == nil {
				found[name] = &selection{}
			}
			selecting = append(selecting, found[name])
			if reserved != nil {
				reserving[found[name]] = reserved
			}
		})
		if len(selecting) == 0 {
			continue
		}
		conflict := c.index.For(prefix).Conflict()
		for _, by := range selecting {
			by.prefixes++
			if conflict != "" && (by.conflict == "" || conflict < by.conflict) {
				by.conflict = conflict
			}
		}
		of, err := cidr.ParseStored(prefix.Spec.Prefix)
		if err != nil || len(reserving) == 0 {
			continue
		}
		for _, allocation := range holding.From(c.allocations, observe.NameOf(prefix)) {
			_, space, ok := holding.Of(allocation)
			for by, reserved := range reserving {
				if ok && reserved.Overlaps(space, of) {
					by.insert(held{namespace, prefix.Name, space, allocation})
				}
			}
		}
	}
	return found, nil
}

// insert adds an allocation to inUse if it is one of the first.
func (s *selection) insert(h held) {
	if i, _ := slices.BinarySearchFunc(s.inUse, h, held.compare); i <= maxNamed {
		s.inUse = slices.Insert(s.inUse[:min(len(s.inUse), maxNamed)], i, h)
	}
}

// statusOf returns the current status of a policy. found is nil if it selects nothing.
func statusOf(of *v1alpha1.PrefixPolicy, found *selection) v1alpha1.PrefixPolicyStatus {
	status := *of.Status.DeepCopy()
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonApplied, ObservedGeneration: of.Generation,
		Message: "The rules apply to the Prefixes that prefixSelector selects",
	}
	status.ObservedGeneration, status.Prefixes = of.Generation, 0
	if found != nil {
		status.Prefixes = found.prefixes
		if of.Spec.Strategy != "" && found.conflict != "" {
			condition.Reason, condition.Message = v1alpha1.ReasonStrategyConflict, found.conflict
		}
		if len(found.inUse) > 0 {
			words := message(found.inUse)
			if condition.Reason == v1alpha1.ReasonStrategyConflict {
				words += ". " + condition.Message
			}
			condition.Reason, condition.Message = v1alpha1.ReasonReservedInUse, words
		}
	}
	meta.SetStatusCondition(&status.Conditions, condition)
	return status
}

// message returns the message of the condition of a policy whose reserved space is in use.
func message(inUse []held) string {
	var words []string
	for _, h := range inUse[:min(len(inUse), maxNamed)] {
		words = append(words, fmt.Sprintf("%s of %s by %s", h.prefix, h.parent, h.holder()))
	}
	if len(inUse) > maxNamed {
		words = append(words, "and others")
	}
	return "Reserved space is in use, and stays so: " + strings.Join(words, "; ")
}
