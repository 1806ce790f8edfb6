// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package scheduler allocates: it finds a parent and a free prefix for every PrefixAllocation that
// is Pending, and binds the one to the other.
//
// It is shaped like kube-scheduler. An index of free space is fed by informers. A candidate is
// matched with parents (filter), the best of them is chosen (score), the prefix is taken in the
// index (reserve), and only then written to the API (bind), by many workers at a time. What cannot
// be scheduled waits until an event makes room for it.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	informers "github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions/ipam/v1alpha1"
	listers "github.com/ironcore-dev/ipam-apiserver/generated/listers/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// Scheduler is the controller of PrefixAllocations.
type Scheduler struct {
	client      versioned.Interface
	allocations listers.PrefixAllocationLister
	recorder    events.EventRecorder
	workers     int

	index  *index
	queue  queue.Queue
	synced []cache.InformerSynced
}

// New returns a scheduler that binds with so many workers at a time.
func New(client versioned.Interface, prefixes informers.PrefixInformer, allocations informers.PrefixAllocationInformer,
	recorder events.EventRecorder, strategy Strategy, workers int) (*Scheduler, error) {
	s := &Scheduler{
		client:      client,
		allocations: allocations.Lister(),
		recorder:    recorder,
		workers:     workers,
		queue:       queue.New("scheduler"),
	}
	s.index = newIndex(strategy, s.queue.Add)

	prefixEvents, err := prefixes.Informer().AddEventHandler(observe.Handler(s.index.setPrefix, func(prefix *v1alpha1.Prefix) {
		s.index.deletePrefix(observe.NameOf(prefix), prefix.UID)
	}))
	if err != nil {
		return nil, err
	}
	allocationEvents, err := allocations.Informer().AddEventHandler(observe.Handler(s.observe, func(allocation *v1alpha1.PrefixAllocation) {
		s.index.stopWaiting(observe.NameOf(allocation))
		s.index.forget(observe.NameOf(allocation), allocation.UID)
	}))
	if err != nil {
		return nil, err
	}
	s.synced = []cache.InformerSynced{prefixEvents.HasSynced, allocationEvents.HasSynced}
	return s, nil
}

// observe takes in an allocation as the API has it.
func (s *Scheduler) observe(_, allocation *v1alpha1.PrefixAllocation) {
	switch allocation.Status.Phase {
	case v1alpha1.PrefixAllocationPhaseAllocated:
		prefix, err := request.ParsePrefix(allocation.Status.Prefix)
		if err == nil && allocation.Spec.PrefixRef != nil {
			s.index.hold(observe.NameOf(allocation), allocation.UID, allocation.Spec.PrefixRef.Name, prefix)
		}
	case v1alpha1.PrefixAllocationPhaseFailed:
	default:
		s.queue.Add(observe.NameOf(allocation))
	}
}

// Run schedules until the context ends. The informers have to be started.
func (s *Scheduler) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithName("scheduler")
	ctx = klog.NewContext(ctx, logger)
	defer s.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return nil
	}
	logger.Info("Started", "workers", s.workers)

	var wg sync.WaitGroup
	for range s.workers {
		wg.Go(func() {
			for s.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	s.queue.ShutDown()
	wg.Wait()
	return nil
}

func (s *Scheduler) next(ctx context.Context) bool {
	name, shutdown := s.queue.Get()
	if shutdown {
		return false
	}
	defer s.queue.Done(name)
	if err := s.schedule(ctx, name); err != nil {
		if ctx.Err() == nil {
			klog.FromContext(ctx).V(2).Info("Trying again", "prefixAllocation", name, "reason", err.Error())
			s.queue.AddRateLimited(name)
		}
		return true
	}
	s.queue.Forget(name)
	return true
}

// schedule does one allocation. An error means that it has to be tried again.
func (s *Scheduler) schedule(ctx context.Context, name types.NamespacedName) error {
	allocation, err := s.allocations.PrefixAllocations(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		s.index.stopWaiting(name)
		s.index.forgetAssumed(name)
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated:
		// What was assumed came true; the index is told by the event.
		s.index.stopWaiting(name)
		return nil
	case allocation.Status.Phase == v1alpha1.PrefixAllocationPhaseFailed, allocation.DeletionTimestamp != nil:
		// It will never be bound.
		s.index.stopWaiting(name)
		s.index.forgetAssumed(name)
		return nil
	}

	c, err := candidateOf(allocation)
	if err != nil {
		return s.report(ctx, allocation, &verdict{reason: v1alpha1.ReasonInvalidRequest, message: err.Error()})
	}
	place, why := s.index.reserve(c)
	if why != nil {
		return s.report(ctx, allocation, why)
	}
	return s.bind(ctx, allocation, place)
}

func candidateOf(allocation *v1alpha1.PrefixAllocation) (candidate, error) {
	r, err := request.Of(&allocation.Spec)
	if err != nil {
		return candidate{}, err
	}
	c := candidate{name: observe.NameOf(allocation), uid: allocation.UID, request: r}
	if ref := allocation.Spec.PrefixRef; ref != nil {
		c.ref = ref.Name
		return c, nil
	}
	c.selector, err = metav1.LabelSelectorAsSelector(allocation.Spec.PrefixSelector)
	return c, err
}

// bind makes an assumption true.
func (s *Scheduler) bind(ctx context.Context, allocation *v1alpha1.PrefixAllocation, place assumption) error {
	_, err := s.client.IpamV1alpha1().PrefixAllocations(allocation.Namespace).Bind(ctx, allocation.Name, &v1alpha1.PrefixAllocationBinding{
		Metadata:  v1alpha1.BindingMeta{Name: allocation.Name, Namespace: allocation.Namespace, UID: allocation.UID},
		Prefix:    place.prefix.String(),
		PrefixRef: v1alpha1.BindingReference{Name: place.parent, UID: place.parentUID},
	}, metav1.CreateOptions{})
	switch {
	case err == nil:
		// Of a child there is an event of the Prefix, and one is enough.
		if metav1.GetControllerOf(allocation) == nil {
			s.recorder.Eventf(allocation, nil, corev1.EventTypeNormal, v1alpha1.ReasonAllocated, "Bind", "Allocated %s from %s", place.prefix, place.parent)
		}
		return nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
		// The server refused, so the place is free again. If somebody holds it whom the informer has
		// not shown yet, there is another place to try at once.
		name := observe.NameOf(allocation)
		s.index.forgetAssumed(name)
		if s.learn(name.Namespace, place.parent, err) {
			s.queue.Add(name)
			return nil
		}
	default:
		// Whether it went through is not known: the place stays taken, and is asked for again.
	}
	return fmt.Errorf("binding to %s from %s: %w", place.prefix, place.parent, err)
}

// learnedTTL is how long what a refusal tells is believed without the informer confirming it.
const learnedTTL = 10 * time.Second

// learn takes in from a refusal who holds what of a parent. It reports whether there was such news.
func (s *Scheduler) learn(namespace, parent string, refusal error) bool {
	var status apierrors.APIStatus
	if !errors.As(refusal, &status) || status.Status().Details == nil {
		return false
	}
	causes := map[metav1.CauseType]string{}
	for _, cause := range status.Status().Details.Causes {
		causes[cause.Type] = cause.Message
	}
	prefix, err := request.ParsePrefix(causes[v1alpha1.CauseTypeHolderPrefix])
	uid := types.UID(causes[v1alpha1.CauseTypeHolderUID])
	if err != nil || uid == "" {
		return false
	}
	holder := types.NamespacedName{Namespace: namespace, Name: causes[v1alpha1.CauseTypeHolderName]}
	if !s.index.hold(holder, uid, parent, prefix) {
		return false
	}
	// It may be gone already, and the informer have no more to say of it.
	time.AfterFunc(learnedTTL, func() {
		if allocation, err := s.allocations.PrefixAllocations(holder.Namespace).Get(holder.Name); err != nil || allocation.UID != uid {
			s.index.forget(holder, uid)
		}
	})
	return true
}

// report tells in the status why the allocation cannot be scheduled.
func (s *Scheduler) report(ctx context.Context, allocation *v1alpha1.PrefixAllocation, why *verdict) error {
	phase := v1alpha1.PrefixAllocationPhasePending
	if why.final {
		phase = v1alpha1.PrefixAllocationPhaseFailed
	}
	updated := allocation.DeepCopy()
	updated.Status.Phase = phase
	changed := meta.SetStatusCondition(&updated.Status.Conditions, metav1.Condition{
		Type:               v1alpha1.ConditionAllocated,
		Status:             metav1.ConditionFalse,
		Reason:             why.reason,
		Message:            why.message,
		ObservedGeneration: allocation.Generation,
	})
	if !changed && allocation.Status.Phase == phase {
		return nil
	}
	_, err := s.client.IpamV1alpha1().PrefixAllocations(allocation.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	switch {
	case err == nil:
		s.recorder.Eventf(allocation, nil, corev1.EventTypeWarning, why.reason, "Schedule", "%s", why.message)
		return nil
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		// The informer brings the newer one, which is then looked at anew.
		return nil
	}
	return err
}
