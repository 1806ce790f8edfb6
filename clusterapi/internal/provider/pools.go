// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// pools is the controller of one kind of pool. It holds the addresses that no machine may get, and writes the status of
// PrefixPools.
type pools struct {
	common
	kind string
}

// How long a pool waits after a change, so that many changes make one write.
const (
	// afterClaims is the time after a change of its claims. They only change what its status counts.
	afterClaims = time.Second
	// afterPrefixes is the time after a change of its parents, or of a Prefix that holds an address. Claims may wait for the
	// addresses that the pool has to hold.
	afterPrefixes = 200 * time.Millisecond
)

func (r *pools) addTo(mgr ctrl.Manager) error {
	ours := func(claim *ipamv1.IPAddressClaim) bool {
		return isOurs(claim.Spec.PoolRef) && claim.Spec.PoolRef.Kind == r.kind
	}
	b := ctrl.NewControllerManagedBy(mgr).Named("pool-"+strings.ToLower(r.kind)).
		Watches(&ipamv1.IPAddressClaim{}, later(func(_ context.Context, o client.Object) []reconcile.Request {
			if claim := o.(*ipamv1.IPAddressClaim); ours(claim) {
				return []reconcile.Request{{NamespacedName: key(claim.Namespace, claim.Spec.PoolRef.Name)}}
			}
			return nil
		}, afterClaims, r.kind == v1alpha1.PrefixKind)).
		Watches(&v1alpha1.Prefix{}, later(r.ofPrefix, afterPrefixes, true)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4, RateLimiter: limiter()})
	if r.kind == capiv1alpha1.PrefixPoolKind {
		b = b.Watches(&capiv1alpha1.PrefixPool{}, &handler.EnqueueRequestForObject{})
	}
	return b.Complete(r)
}

// later adds requests after a delay. If createNow is set, it adds those of new objects at once.
func later(requests handler.MapFunc, delay time.Duration, createNow bool) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	add := func(ctx context.Context, q queue, o client.Object, after time.Duration) {
		for _, request := range requests(ctx, o) {
			q.AddAfter(request, after)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if createNow {
				add(ctx, q, e.Object, 0)
			} else {
				add(ctx, q, e.Object, delay)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			add(ctx, q, e.ObjectOld, delay)
			add(ctx, q, e.ObjectNew, delay)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { add(ctx, q, e.Object, delay) },
	}
}

// ofPrefix returns the pools that a change of a Prefix may concern.
func (r *pools) ofPrefix(ctx context.Context, o client.Object) []reconcile.Request {
	prefix := o.(*v1alpha1.Prefix)
	request := func(name string) reconcile.Request {
		return reconcile.Request{NamespacedName: key(prefix.Namespace, name)}
	}
	if held := prefix.Annotations[capiv1alpha1.AnnotationPool]; held != "" {
		if name, ok := strings.CutPrefix(held, r.kind+"/"); ok {
			return []reconcile.Request{request(name)}
		}
		return nil
	}
	if isCreatedHere(prefix) {
		return nil
	}
	if r.kind == v1alpha1.PrefixKind {
		// Almost no Prefix is a pool.
		claims, err := r.claimsOf(ctx, prefix.Namespace, indexPool, poolKey(r.kind, prefix.Name))
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "List the claims of a Prefix")
		}
		if len(claims) == 0 {
			// Its last claim may have gone while it was paused.
			held := &v1alpha1.PrefixList{}
			if err := r.List(ctx, held, client.InNamespace(prefix.Namespace), client.MatchingFields{indexHeldFor: poolKey(r.kind, prefix.Name)}); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "List what is held for a Prefix")
			}
			if len(held.Items) == 0 {
				return nil
			}
		}
		return []reconcile.Request{request(prefix.Name)}
	}
	found, err := r.poolsWith(ctx, prefix)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List the pools of a Prefix")
	}
	var all []reconcile.Request
	for _, p := range found {
		all = append(all, request(p.GetName()))
	}
	return all
}

// Reconcile implements reconcile.Reconciler.
func (r *pools) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	p, err := getPool(ctx, r, request.Namespace, r.kind, request.Name)
	if p == nil || err != nil {
		return reconcile.Result{}, err
	}
	claims, err := r.claimsOf(ctx, p.GetNamespace(), indexPool, p.key())
	if err != nil {
		return reconcile.Result{}, err
	}
	if p.kind == v1alpha1.PrefixKind {
		if isPaused(p) {
			return reconcile.Result{}, nil
		}
		// A Prefix is nobody's pool unless a claim names it. So it can be deleted as soon as the last claim is gone.
		_, err := r.hold(ctx, p, len(claims) > 0)
		return reconcile.Result{}, err
	}
	if !r.isWatched(p) || isPaused(p) {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, r.keep(ctx, p, claims)
}

// keep reconciles a PrefixPool.
func (r *pools) keep(ctx context.Context, p *pool, claims []ipamv1.IPAddressClaim) error {
	o := p.Object.(*capiv1alpha1.PrefixPool)
	if o.DeletionTimestamp != nil && len(claims) == 0 {
		if !controllerutil.ContainsFinalizer(o, capiv1alpha1.PoolFinalizer) {
			return nil
		}
		// A claim may be newer than the cache. It waits for a pool of this name, and has nothing of this one.
		if gone, err := r.letGo(ctx, p); !gone || err != nil {
			return err
		}
		return r.removeFinalizer(ctx, o, capiv1alpha1.PoolFinalizer)
	}
	if o.DeletionTimestamp == nil {
		if err := r.patch(ctx, o, func() { controllerutil.AddFinalizer(o, capiv1alpha1.PoolFinalizer) }); err != nil {
			return err
		}
	}
	pool, refusal := r.hold(ctx, p, true)
	if refusal != nil && pool.why == nil {
		return refusal
	}

	before := o.DeepCopy()
	used := int64(0)
	for i := range claims {
		if claims[i].Status.AddressRef.Name != "" {
			used++
		}
	}
	o.Status.ObservedGeneration, o.Status.Used, o.Status.Free = o.Generation, &used, ""
	condition := metav1.Condition{Type: capiv1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: capiv1alpha1.ReasonReady, ObservedGeneration: o.Generation}
	why := pool.why
	if pool.resolved != nil {
		o.Status.Free = pool.free()
	}
	if o.DeletionTimestamp != nil {
		why = &notReady{capiv1alpha1.ReasonDeleting, "the pool is being deleted, and waits until its claims are gone"}
	}
	if why != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, why.reason, why.message
	}
	meta.SetStatusCondition(&o.Status.Conditions, condition)
	if equality.Semantic.DeepEqual(before.Status, o.Status) {
		return refusal
	}
	return errors.Join(refusal, client.IgnoreNotFound(r.Status().Patch(ctx, o, client.MergeFrom(before))))
}

// state is a pool with its parents, or the reason why it is not ready.
type state struct {
	*resolved
	why *notReady
}

// hold creates the Prefixes that hold the addresses that no machine may get, and deletes those that are held no longer. If
// the server refuses some, it holds the others, and the state says why the first one was refused.
func (r *pools) hold(ctx context.Context, p *pool, wanted bool) (state, error) {
	var s state
	var err error
	if wanted {
		if s.resolved, s.why, err = p.resolve(ctx, r); err != nil || s.resolved == nil {
			// What is held stays held until it is known what has to be.
			return s, err
		}
	}
	held := &v1alpha1.PrefixList{}
	if err := r.List(ctx, held, client.InNamespace(p.GetNamespace()), client.MatchingFields{indexHeldFor: p.key()}); err != nil {
		return s, err
	}
	exists := map[string]*v1alpha1.Prefix{}
	for i := range held.Items {
		exists[held.Items[i].Name] = &held.Items[i]
	}
	var refused *notReady
	var refusals []error
	if s.resolved != nil {
		for _, h := range s.holds {
			name := h.name(p)
			switch existing := exists[name]; {
			case existing == nil:
				if err := r.Create(ctx, h.prefix(p)); apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
					return s, nil
				} else if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
					refused, refusals = cmp.Or(refused, h.unheld(err.Error())), append(refusals, err)
				} else if err != nil && !apierrors.IsAlreadyExists(err) {
					return s, err
				}
			case !h.isHeldBy(p, existing):
				// It holds the address in another parent. When it is gone, there is a new one.
				continue
			}
			delete(exists, name)
		}
	}
	for _, prefix := range exists {
		// Those of an earlier pool with this name go, too.
		if _, err := r.releasePrefix(ctx, prefix); err != nil {
			return s, err
		}
	}
	switch {
	case refused != nil:
		s.why = refused
		return s, errors.Join(refusals...)
	case s.resolved != nil:
		s.why, err = s.unheld(ctx, r)
	}
	return s, err
}

// letGo deletes everything that is held for a pool, and reports whether it is gone. It asks the server: what the cache does
// not show yet would stay for ever.
func (r *pools) letGo(ctx context.Context, p *pool) (bool, error) {
	held := &v1alpha1.PrefixList{}
	if err := r.live.List(ctx, held, client.InNamespace(p.GetNamespace()), client.MatchingLabels{capiv1alpha1.LabelPoolName: labelValue(p.GetName())}, client.HasLabels{capiv1alpha1.LabelHeldAs}); err != nil {
		return false, err
	}
	all := true
	for i := range held.Items {
		prefix := &held.Items[i]
		if prefix.Annotations[capiv1alpha1.AnnotationPool] != p.key() {
			continue
		}
		gone, err := r.releasePrefix(ctx, prefix)
		if err != nil {
			return false, err
		}
		all = all && gone
	}
	return all, nil
}
