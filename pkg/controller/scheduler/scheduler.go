// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package scheduler finds a parent and a free prefix for every PrefixAllocation that is Pending, and binds the
// allocation to them.
//
// The design follows kube-scheduler. Informers feed an index of free space. For each candidate the scheduler finds the
// parents with enough space (filter), chooses the best one (score), and holds a prefix in the index (assume). Then it
// writes the prefix to the API (bind). Many workers do this in parallel. An allocation that cannot be scheduled waits.
// When an event frees space, the index assumes it at once for the oldest waiting allocations that fit, and wakes only
// those.
package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	"github.com/ironcore-dev/ipam-apiserver/pkg/request"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// Scheduler is the controller that schedules PrefixAllocations.
type Scheduler struct {
	client          versioned.Interface
	allocations     listers.PrefixAllocationLister
	allocationIndex cache.Indexer
	recorder        events.EventRecorder
	workers         int

	index  *index
	inbox  *inbox
	queue  queue.Queue
	synced []cache.InformerSynced
}

// New returns a scheduler. namespaces is nil if there are no namespaces. score ranks the parents, and workers is the
// number of allocations that are scheduled concurrently. New fails if it cannot add its handlers to the informers.
func New(client versioned.Interface, prefixes informers.PrefixInformer, allocations informers.PrefixAllocationInformer,
	policies informers.PrefixPolicyInformer, namespaces coreinformers.NamespaceInformer, recorder events.EventRecorder, score ScoreFunc, workers int) (*Scheduler, error) {
	s := &Scheduler{
		client:          client,
		allocations:     allocations.Lister(),
		allocationIndex: allocations.Informer().GetIndexer(),
		recorder:        recorder,
		workers:         workers,
		inbox:           newInbox(),
		queue:           queue.New("scheduler"),
	}
	s.index = newIndex(score, s.queue.Add, s.queue.AddAfter)

	if err := requester.AddIndex(s.allocationIndex); err != nil {
		return nil, err
	}
	prefixEvents, err := prefixes.Informer().AddEventHandler(s.prefixHandler())
	if err != nil {
		return nil, err
	}
	allocationEvents, err := allocations.Informer().AddEventHandler(s.allocationHandler())
	if err != nil {
		return nil, err
	}
	policyEvents, err := policies.Informer().AddEventHandler(s.policyHandler())
	if err != nil {
		return nil, err
	}
	if namespaces != nil {
		// The scheduler does not wait for namespaces: only policies that select namespaces by label need them.
		if _, err := namespaces.Informer().AddEventHandler(s.namespaceHandler()); err != nil {
			return nil, err
		}
	}
	s.synced = []cache.InformerSynced{prefixEvents.HasSynced, allocationEvents.HasSynced, policyEvents.HasSynced}
	return s, nil
}

// prefixHandler returns a handler that puts the events of Prefixes into the inbox.
func (s *Scheduler) prefixHandler() cache.ResourceEventHandler {
	put := func(prefix *v1alpha1.Prefix, handle func()) {
		s.inbox.put(prefix.Namespace, eventKey{v1alpha1.PrefixKind, prefix.Name, prefix.UID}, handle)
	}
	return observe.Handler(func(_, prefix *v1alpha1.Prefix) {
		put(prefix, func() { s.index.setPrefix(prefix) })
	}, func(prefix *v1alpha1.Prefix) {
		name, uid := observe.NameOf(prefix), prefix.UID
		put(prefix, func() { s.index.deletePrefix(name, uid) })
	})
}

// allocationHandler returns a handler that puts the events of PrefixAllocations into the inbox.
func (s *Scheduler) allocationHandler() cache.ResourceEventHandler {
	put := func(allocation *v1alpha1.PrefixAllocation, handle func()) {
		s.inbox.put(allocation.Namespace, eventKey{v1alpha1.PrefixAllocationKind, allocation.Name, allocation.UID}, handle)
	}
	return observe.Handler(func(_, allocation *v1alpha1.PrefixAllocation) {
		put(allocation, func() { s.observe(allocation) })
	}, func(allocation *v1alpha1.PrefixAllocation) {
		name, uid, parentNamespace := observe.NameOf(allocation), allocation.UID, allocation.NamespaceOfParent()
		put(allocation, func() { s.index.forget(name, uid, parentNamespace) })
	})
}

// policyHandler returns a handler that puts the events of PrefixPolicies into the inbox.
func (s *Scheduler) policyHandler() cache.ResourceEventHandler {
	put := func(policy *v1alpha1.PrefixPolicy, handle func()) {
		s.inbox.put(policy.Namespace, eventKey{v1alpha1.PrefixPolicyKind, policy.Name, policy.UID}, handle)
	}
	return observe.Handler(func(_, policy *v1alpha1.PrefixPolicy) {
		put(policy, func() { s.index.setPolicy(policy) })
	}, func(policy *v1alpha1.PrefixPolicy) {
		name, uid := observe.NameOf(policy), policy.UID
		put(policy, func() { s.index.deletePolicy(name, uid) })
	})
}

// namespaceHandler returns a handler that puts the events of namespaces into the inbox.
func (s *Scheduler) namespaceHandler() cache.ResourceEventHandler {
	put := func(namespace *corev1.Namespace, handle func()) {
		s.inbox.put(namespace.Name, eventKey{kind: "Namespace", name: namespace.Name}, handle)
	}
	return observe.Handler(func(_, namespace *corev1.Namespace) {
		put(namespace, func() { s.index.setNamespace(namespace.Name, labels.Merge(namespace.Labels, nil)) })
	}, func(namespace *corev1.Namespace) {
		put(namespace, func() { s.index.setNamespace(namespace.Name, nil) })
	})
}

// observe records the current state of an allocation in the API.
func (s *Scheduler) observe(allocation *v1alpha1.PrefixAllocation) {
	switch allocation.Status.Phase {
	case v1alpha1.PrefixAllocationPhaseAllocated:
		if parent, prefix, ok := holding.Of(allocation); ok {
			s.index.hold(observe.NameOf(allocation), allocation.UID, parent, prefix)
		}
	case v1alpha1.PrefixAllocationPhaseFailed:
		s.index.forget(observe.NameOf(allocation), allocation.UID, allocation.NamespaceOfParent())
	default:
		// addByAge queues the allocations that exist at the start, after the initial lists are complete.
		if s.inbox.hasStarted() {
			s.queue.Add(observe.NameOf(allocation))
		}
	}
}

// Run schedules until the context ends, and then returns nil. It waits for the informers, which the caller must start.
func (s *Scheduler) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithName("scheduler")
	ctx = klog.NewContext(ctx, logger)
	defer s.inbox.stop()
	defer s.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return nil
	}
	s.inbox.start()
	if err := s.addByAge(); err != nil {
		return err
	}
	s.index.expose(ctx)
	logger.Info("Started", "workers", s.workers)

	queue.Run(ctx, s.queue, s.workers, s.schedule)
	return nil
}

// addByAge queues all allocations that are not in a terminal phase, oldest first.
func (s *Scheduler) addByAge() error {
	all, err := s.allocations.List(labels.Everything())
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(allocation *v1alpha1.PrefixAllocation) bool { return allocation.Status.Phase.IsTerminal() })
	slices.SortFunc(all, func(a, b *v1alpha1.PrefixAllocation) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, allocation := range all {
		s.queue.Add(observe.NameOf(allocation))
	}
	return nil
}

// maxTries is the maximum number of bindings in one attempt to schedule an allocation. If the server refuses them all,
// the allocation is retried later.
const maxTries = 4

// schedule schedules one allocation. If it returns an error, the caller must retry later.
func (s *Scheduler) schedule(ctx context.Context, name types.NamespacedName) error {
	ctx, span := queue.Span(ctx, "Schedule", name)
	defer span.End()
	allocation, err := s.allocations.PrefixAllocations(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		s.index.abandon(name)
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated:
		// The binding succeeded. The event of the informer updates the index.
		s.index.markBound(name)
		return nil
	case allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseFailed, allocation.DeletionTimestamp != nil:
		// It will never be bound.
		s.index.abandon(name)
		return nil
	case requester.IsLost(allocation):
		s.index.abandon(name)
		return s.report(ctx, allocation, &verdict{reason: v1alpha1.ReasonRequesterNotFound,
			words: "This PrefixAllocation was created for a Prefix, but has no controller reference to one"})
	}

	c, err := candidateOf(allocation)
	if err != nil {
		s.index.abandon(name)
		return s.report(ctx, allocation, &verdict{reason: v1alpha1.ReasonInvalidRequest, words: err.Error()})
	}
	if done, err := s.takeBack(ctx, c); done || err != nil {
		return err
	}
	return s.assumeAndBind(ctx, allocation, c)
}

// assumeAndBind finds a prefix for an allocation and binds it. If the server refuses it, it tries others. If there is none, it
// reports that. If it returns an error, the caller must retry later.
func (s *Scheduler) assumeAndBind(ctx context.Context, allocation *v1alpha1.PrefixAllocation, c candidate) (err error) {
	s.index.forgetRefusals(c)
	var refused error
	for range maxTries {
		assumed, why := s.index.assume(c)
		switch {
		case why == nil:
		case why.early:
			s.queue.AddAfter(c.name, requesterGracePeriod)
			return nil
		case s.isGone(allocation):
			// The index may have handled its deletion before it began to wait.
			s.index.forget(c.name, c.uid, c.parentNamespace)
			return nil
		default:
			// An event wakes the allocation when there may be space for it. If the server refused a binding, retry
			// later, because no event may come.
			if err := s.report(ctx, allocation, why); err != nil {
				return err
			}
			return refused
		}
		if refused, err = s.bind(ctx, allocation, assumed); refused == nil {
			return err
		}
	}
	if err := s.report(ctx, allocation, s.index.refusedVerdict(c)); err != nil {
		return err
	}
	return refused
}

// isGone reports whether an allocation is no longer in the informer. The informer knows of a deletion before the index does.
func (s *Scheduler) isGone(allocation *v1alpha1.PrefixAllocation) bool {
	now, err := s.allocations.PrefixAllocations(allocation.Namespace).Get(allocation.Name)
	return err != nil || now.UID != allocation.UID
}

// heldTries is how often in a row an allocation is put off whose requester has space from another one, which is about a
// second. If the requester does not get Allocated meanwhile, it cannot use that space, for instance because another server
// stored the reference to it.
const heldTries = 8

// takeBack gives the requester of a candidate the space that an earlier Prefix of that name had, if that is kept for it and
// the rules allow it. It reports whether it did: then nobody needs the candidate, and the controller of Prefixes deletes it.
//
// That controller does the same before it creates an allocation. The scheduler does it for those that could not be scheduled
// when they were created, because it hears of everything that may change that.
func (s *Scheduler) takeBack(ctx context.Context, c candidate) (bool, error) {
	if c.requester == nil {
		return false, nil
	}
	child := types.NamespacedName{Namespace: c.name.Namespace, Name: c.requester.name}
	if s.queue.NumRequeues(c.name) < heldTries && holding.Has(s.allocationIndex, child, c.requester.uid, c.request, c.parentNamespace, c.ref) {
		// Another controller manager may have taken it back.
		return false, fmt.Errorf("another PrefixAllocation holds space for %s", child)
	}
	kept := holding.KeptFor(s.allocationIndex, child, c.requester.uid, c.request, c.parentNamespace)
	if len(kept) == 0 {
		return false, nil
	}
	last := holding.Last(s.index.givesBack(c, kept))
	if last == nil {
		return false, nil
	}
	err := last.GiveTo(ctx, s.client, c.requester.uid)
	switch {
	case err == nil:
		s.index.abandon(c.name)
		return true, nil
	case apierrors.IsNotFound(err), (queue.IsRefusal(err) || apierrors.IsConflict(err)) && s.queue.NumRequeues(c.name) >= quietConflicts:
		// It gets other space. A single refusal may be of a moment, such as that of a consent that is given again at once.
		return false, nil
	}
	return false, fmt.Errorf("taking back %s from %s: %w", last.Prefix, last.Parent, err)
}

// candidateOf returns the candidate for an allocation. It fails if the spec is invalid.
func candidateOf(allocation *v1alpha1.PrefixAllocation) (candidate, error) {
	r, err := request.Of(&allocation.Spec)
	if err != nil {
		return candidate{}, err
	}
	c := candidate{
		name: observe.NameOf(allocation), uid: allocation.UID, created: allocation.CreationTimestamp.Time, request: r,
		parentNamespace: allocation.NamespaceOfParent(),
	}
	if owner := requester.Of(allocation); owner != nil {
		c.requester = &requesterRef{owner.Name, owner.UID}
	}
	if ref := allocation.Spec.PrefixRef; ref != nil {
		c.ref = ref.Name
		return c, nil
	}
	if c.selector, err = metav1.LabelSelectorAsSelector(allocation.Spec.PrefixSelector); err != nil {
		return c, err
	}
	c.key = c.selector.String()
	return c, nil
}

// quietConflicts is the number of consecutive conflicts that are normal, because informers are behind. After that many, a
// conflict without a known cause counts as a refusal.
const quietConflicts = 4

// bind writes an assumption to the API. It returns refused if the server refuses this prefix for this allocation. The
// prefix is then released, and the caller may try another one. If it returns err, the caller must retry later. It returns
// neither if the prefix is bound, and also if it has learned who holds it: then it has queued the allocation again.
func (s *Scheduler) bind(ctx context.Context, allocation *v1alpha1.PrefixAllocation, assumed assumption) (refused, err error) {
	ctx, span := queue.Span(ctx, "Bind PrefixAllocation", observe.NameOf(allocation))
	defer span.End()
	ref, from := v1alpha1.BindingReference{Name: assumed.parent.Name, UID: assumed.parentUID}, assumed.parent.Name
	if assumed.parent.Namespace != allocation.Namespace {
		ref.Namespace, from = assumed.parent.Namespace, assumed.parent.String()
	}
	_, err = s.client.IpamV1alpha1().PrefixAllocations(allocation.Namespace).Bind(ctx, allocation.Name, &v1alpha1.PrefixAllocationBinding{
		Metadata:  v1alpha1.BindingMeta{Name: allocation.Name, Namespace: allocation.Namespace, UID: allocation.UID},
		Prefix:    assumed.prefix.String(),
		PrefixRef: ref,
	}, metav1.CreateOptions{})
	queue.CountRefusedBinding("prefixallocations", err)
	name := observe.NameOf(allocation)
	wrapped := fmt.Errorf("binding to %s from %s: %w", assumed.prefix, from, err)
	switch {
	case err == nil:
		// For a child Prefix, the prefix controller records an event on the Prefix. One event is enough.
		if metav1.GetControllerOf(allocation) == nil {
			s.recorder.Eventf(allocation, nil, corev1.EventTypeNormal, v1alpha1.ReasonAllocated, "Bind", "Allocated %s from %s", assumed.prefix, from)
		}
		return nil, nil
	case apierrors.IsNotFound(err):
		s.index.forgetAssumed(name)
		return nil, wrapped
	case apierrors.IsConflict(err):
		// The informer may not have shown the holder of the prefix yet. Record the holder before the assumption is
		// released. Otherwise the index would assume the same prefix for the next waiting allocation.
		learned := s.learn(name.Namespace, assumed.parent, err)
		if !learned && s.queue.NumRequeues(name) >= quietConflicts {
			s.index.recordRefusal(name, assumed, true, err.Error())
			return wrapped, nil
		}
		s.index.forgetAssumed(name)
		if learned {
			s.queue.Add(name)
			return nil, nil
		}
		return nil, wrapped
	case queue.IsRefusal(err):
		// Forbidden applies to the whole parent. Other refusals may apply to this prefix only.
		s.index.recordRefusal(name, assumed, apierrors.IsForbidden(err), err.Error())
		return wrapped, nil
	}
	// The binding may have succeeded. Keep the assumption and retry with the same prefix.
	return nil, wrapped
}

// learnedTTL is how long the index keeps a holder that it knows only from a conflict and not from the informer.
const learnedTTL = 10 * time.Second

// learn records the holder that the details of a conflict describe. It reports whether the index changed. namespace is
// that of the allocation. A holder of another one has no name.
func (s *Scheduler) learn(namespace string, parent types.NamespacedName, refusal error) bool {
	var status apierrors.APIStatus
	if !errors.As(refusal, &status) || status.Status().Details == nil {
		return false
	}
	causes := map[metav1.CauseType]string{}
	for _, cause := range status.Status().Details.Causes {
		causes[cause.Type] = cause.Message
	}
	prefix, err := cidr.ParseStored(causes[v1alpha1.CauseTypeHolderPrefix])
	uid := types.UID(causes[v1alpha1.CauseTypeHolderUID])
	if err != nil || uid == "" {
		return false
	}
	holder := types.NamespacedName{Namespace: namespace, Name: causes[v1alpha1.CauseTypeHolderName]}
	if !s.index.learn(holder, uid, parent, prefix) {
		return false
	}
	// The holder may already be deleted, and then the informer sends no event for it.
	time.AfterFunc(learnedTTL, func() { s.index.forgetLearned(parent, uid) })
	return true
}

// report writes to the status why the allocation cannot be scheduled. If only the counts in the message changed, it
// writes them only if why.rewrite is set. Counts change with each allocation of the parent.
func (s *Scheduler) report(ctx context.Context, allocation *v1alpha1.PrefixAllocation, why *verdict) error {
	phase := v1alpha1.PrefixAllocationPhasePending
	if why.final {
		phase = v1alpha1.PrefixAllocationPhaseFailed
	}
	s.nameHolders(allocation.Namespace, why)
	message := why.message()
	if told := meta.FindStatusCondition(allocation.Status.Conditions, v1alpha1.ConditionAllocated); told != nil &&
		told.Reason == why.reason && !why.rewrite && withoutCounts(told.Message) == withoutCounts(message) {
		message = told.Message
	}
	updated := allocation.DeepCopy()
	updated.Status.Phase = phase
	changed := meta.SetStatusCondition(&updated.Status.Conditions, metav1.Condition{
		Type:               v1alpha1.ConditionAllocated,
		Status:             metav1.ConditionFalse,
		Reason:             why.reason,
		Message:            message,
		ObservedGeneration: allocation.Generation,
	})
	if !changed && allocation.Status.Phase == phase {
		return nil
	}
	_, err := s.client.IpamV1alpha1().PrefixAllocations(allocation.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	switch {
	case err == nil:
		s.recorder.Eventf(allocation, nil, corev1.EventTypeWarning, why.reason, "Schedule", "%s", message)
		return nil
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		// The informer delivers the newer version, which is then scheduled again.
		return nil
	}
	return err
}

// nameHolders adds the holders of the prefixes in use to the misfits.
func (s *Scheduler) nameHolders(namespace string, why *verdict) {
	for i := range why.misfits {
		r := &why.misfits[i]
		if r.holderUID == "" {
			continue
		}
		allocation, err := s.allocations.PrefixAllocations(namespace).Get(r.holderName)
		if err != nil || allocation.UID != r.holderUID {
			continue
		}
		r.holdsIt = " by " + requester.Describe(allocation)
		if until := allocation.Status.CoolingUntil; until != nil {
			r.holdsIt = fmt.Sprintf(" until %s, for %s, which was deleted", until.UTC().Format(time.RFC3339), requester.Describe(allocation))
		}
	}
}
