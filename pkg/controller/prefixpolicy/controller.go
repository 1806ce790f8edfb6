// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixpolicy contains the controller of PrefixPolicies. It maintains their status: how many Prefixes a policy
// selects, and which reserved space is in use. It does not apply the rules.
package prefixpolicy

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	informers "github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions/ipam/v1alpha1"
	listers "github.com/ironcore-dev/ipam-apiserver/generated/listers/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/policy"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
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
	allocations listers.PrefixAllocationLister

	// index is for events. It tells which policies an object concerns.
	index  policy.Index
	queue  queue.Queue
	synced []cache.InformerSynced
}

// New returns a controller. It fails if it cannot add its handlers to the informers.
func New(client versioned.Interface, policies informers.PrefixPolicyInformer, prefixes informers.PrefixInformer,
	allocations informers.PrefixAllocationInformer) (*Controller, error) {
	c := &Controller{
		client:      client,
		policies:    policies.Lister(),
		prefixes:    prefixes.Lister(),
		allocations: allocations.Lister(),
		queue:       queue.New("prefixpolicy"),
	}
	for _, handled := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{policies.Informer(), observe.Handler(func(_, policy *v1alpha1.PrefixPolicy) {
			if len(c.index.Set(policy)) > 0 {
				c.queueOthers(policy)
			}
			c.queue.Add(observe.NameOf(policy))
		}, func(policy *v1alpha1.PrefixPolicy) {
			c.index.Delete(policy)
			c.queueOthers(policy)
		})},
		{prefixes.Informer(), observe.Handler(c.prefixSeen, func(prefix *v1alpha1.Prefix) {
			c.queueSelecting(prefix.Namespace, prefix.Labels)
		})},
		{allocations.Informer(), observe.Handler(func(_, allocation *v1alpha1.PrefixAllocation) {
			c.queueReserving(allocation)
		}, c.queueReserving)},
	} {
		events, err := handled.informer.AddEventHandler(handled.handler)
		if err != nil {
			return nil, err
		}
		c.synced = append(c.synced, events.HasSynced)
	}
	return c, nil
}

func (c *Controller) prefixSeen(before, prefix *v1alpha1.Prefix) {
	if before == nil {
		c.queueSelecting(prefix.Namespace, prefix.Labels)
		return
	}
	if labels.Equals(before.Labels, prefix.Labels) && before.Spec.Prefix == prefix.Spec.Prefix {
		return
	}
	c.queueSelecting(prefix.Namespace, before.Labels)
	c.queueSelecting(prefix.Namespace, prefix.Labels)
}

// statusDelay is how long changes of what a policy selects are collected before they are written to its status in one
// request.
const statusDelay = time.Second

// queueOthers queues the other policies of the namespace that have a strategy. That of the given one may have come into
// conflict with theirs, or no longer be.
func (c *Controller) queueOthers(than *v1alpha1.PrefixPolicy) {
	// The error is always nil: the lister reads from a cache.
	policies, _ := c.policies.PrefixPolicies(than.Namespace).List(labels.Everything())
	for _, policy := range policies {
		if policy.Spec.Strategy != "" && policy.Name != than.Name {
			c.queue.AddAfter(observe.NameOf(policy), statusDelay)
		}
	}
}

// queueSelecting queues the policies that select a Prefix with the given labels.
func (c *Controller) queueSelecting(namespace string, set labels.Set) {
	c.index.Selecting(namespace, set, func(name types.NamespacedName, _ *policy.Rules) {
		c.queue.AddAfter(name, statusDelay)
	})
}

// queueReserving queues the policies that reserve space which an allocation holds. There are few such allocations: the
// scheduler does not choose reserved space.
func (c *Controller) queueReserving(allocation *v1alpha1.PrefixAllocation) {
	held, ok := heldBy(allocation)
	if !ok {
		return
	}
	parent, err := c.prefixes.Prefixes(allocation.Namespace).Get(allocation.Spec.PrefixRef.Name)
	if err != nil {
		return
	}
	c.index.Selecting(parent.Namespace, parent.Labels, func(name types.NamespacedName, rules *policy.Rules) {
		if of, err := cidr.ParseStored(parent.Spec.Prefix); err == nil && rules.Reserved().Overlaps(held, of) {
			c.queue.AddAfter(name, statusDelay)
		}
	})
}

// heldBy returns the prefix that an allocation holds.
func heldBy(allocation *v1alpha1.PrefixAllocation) (netip.Prefix, bool) {
	if allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || allocation.Spec.PrefixRef == nil {
		return netip.Prefix{}, false
	}
	held, err := cidr.ParseStored(allocation.Status.Prefix)
	return held, err == nil
}

// workers is the number of policies whose status is computed at the same time.
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

// sync writes the status of a policy. After an error it has to be retried.
func (c *Controller) sync(ctx context.Context, name types.NamespacedName) error {
	policy, err := c.policies.PrefixPolicies(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	updated := policy.DeepCopy()
	if updated.Status, err = c.statusOf(policy); err != nil {
		return err
	}
	if reflect.DeepEqual(policy.Status, updated.Status) {
		return nil
	}
	_, err = c.client.IpamV1alpha1().PrefixPolicies(name.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// statusOf returns the current status of a policy.
func (c *Controller) statusOf(of *v1alpha1.PrefixPolicy) (v1alpha1.PrefixPolicyStatus, error) {
	status := *of.Status.DeepCopy()
	selector, err := metav1.LabelSelectorAsSelector(of.Spec.PrefixSelector)
	if err != nil {
		return status, err
	}
	selected, err := c.prefixes.Prefixes(of.Namespace).List(selector)
	if err != nil {
		return status, err
	}
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonApplied, ObservedGeneration: of.Generation,
		Message: "The rules apply to the Prefixes that prefixSelector selects",
	}
	if of.Spec.Strategy != "" {
		if conflict := c.conflict(selected); conflict != "" {
			condition.Reason, condition.Message = v1alpha1.ReasonStrategyConflict, conflict
		}
	}
	if reserved := policy.RulesOf(of).Reserved(); reserved != nil {
		inUse, err := c.inUse(of.Namespace, selected, reserved)
		if err != nil {
			return status, err
		}
		if len(inUse) > 0 {
			words := message(inUse)
			if condition.Reason == v1alpha1.ReasonStrategyConflict {
				words += ". " + condition.Message
			}
			condition.Reason, condition.Message = v1alpha1.ReasonReservedInUse, words
		}
	}
	status.ObservedGeneration, status.Prefixes = of.Generation, int64(len(selected))
	meta.SetStatusCondition(&status.Conditions, condition)
	return status, nil
}

// conflict says which policies of the selected Prefixes have different strategies. It returns "" if they all agree.
func (c *Controller) conflict(selected []*v1alpha1.Prefix) (first string) {
	for _, prefix := range selected {
		if conflict := c.index.For(prefix).Conflict(); conflict != "" && (first == "" || conflict < first) {
			first = conflict
		}
	}
	return first
}

// holding is an allocation that holds reserved space.
type holding struct {
	parent     string
	prefix     netip.Prefix
	allocation *v1alpha1.PrefixAllocation
}

// inUse returns the allocations from the selected Prefixes that hold reserved space.
func (c *Controller) inUse(namespace string, selected []*v1alpha1.Prefix, reserved *allocator.Reserved) ([]holding, error) {
	parents := make(map[string]netip.Prefix, len(selected))
	for _, prefix := range selected {
		if parsed, err := cidr.ParseStored(prefix.Spec.Prefix); err == nil {
			parents[prefix.Name] = parsed
		}
	}
	allocations, err := c.allocations.PrefixAllocations(namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var inUse []holding
	for _, allocation := range allocations {
		held, ok := heldBy(allocation)
		if !ok {
			continue
		}
		parent := allocation.Spec.PrefixRef.Name
		if of, ok := parents[parent]; ok && reserved.Overlaps(held, of) {
			inUse = append(inUse, holding{parent, held, allocation})
		}
	}
	slices.SortFunc(inUse, func(a, b holding) int { return cmp.Or(strings.Compare(a.parent, b.parent), a.prefix.Compare(b.prefix)) })
	return inUse, nil
}

// maxNamed is the maximum number of allocations that a message names.
const maxNamed = 5

// message returns the message of the condition of a policy whose reserved space is in use.
func message(inUse []holding) string {
	var words []string
	for _, held := range inUse[:min(len(inUse), maxNamed)] {
		words = append(words, fmt.Sprintf("%s of %s by %s", held.prefix, held.parent, requester.Describe(held.allocation)))
	}
	if len(inUse) > maxNamed {
		words = append(words, "and others")
	}
	return "Reserved space is in use, and stays so: " + strings.Join(words, "; ")
}
