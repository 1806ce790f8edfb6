// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	v1beta1conditions "sigs.k8s.io/cluster-api/util/conditions/deprecated/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// claims is the controller of IPAddressClaims.
type claims struct{ common }

func (r *claims) addTo(mgr ctrl.Manager, concurrency int) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("ipaddressclaim").
		For(&ipamv1.IPAddressClaim{}, builder.WithPredicates(
			predicate.NewPredicateFuncs(func(o client.Object) bool { return isOurs(o.(*ipamv1.IPAddressClaim).Spec.PoolRef) }),
			// The status is what this controller writes.
			predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}),
		)).
		// Only what happens to an IPAddress matters that others do. It has the name of the claim, and perhaps another owner.
		Watches(&ipamv1.IPAddress{}, &handler.EnqueueRequestForObject{}).
		Watches(&v1alpha1.Prefix{}, handler.EnqueueRequestsFromMapFunc(r.ofPrefix), builder.WithPredicates(predicate.Funcs{UpdateFunc: concernsClaims})).
		Watches(&capiv1alpha1.PrefixPool{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.waitingFor(ctx, poolOfPrefixPool(o.(*capiv1alpha1.PrefixPool)))
		}), builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			found, err := r.claimsOf(ctx, o.GetNamespace(), indexCluster, o.GetName())
			if err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "List the claims of a cluster")
			}
			return requests(found)
		}), builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			return isClusterPaused(e.ObjectOld.(*clusterv1.Cluster)) != isClusterPaused(e.ObjectNew.(*clusterv1.Cluster))
		}})).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency, RateLimiter: limiter()}).
		Complete(r)
}

func isClusterPaused(cluster *clusterv1.Cluster) bool {
	return (cluster.Spec.Paused != nil && *cluster.Spec.Paused) || isPaused(cluster)
}

// concernsClaims reports whether a change of a Prefix may be what a claim waits for. The usage of a parent is not.
func concernsClaims(e event.UpdateEvent) bool {
	before, after := e.ObjectOld.(*v1alpha1.Prefix), e.ObjectNew.(*v1alpha1.Prefix)
	if before.Labels[capiv1alpha1.LabelClaimName] != "" && after.Status.Phase == v1alpha1.PrefixPhaseAllocated && before.Status.Phase == after.Status.Phase && after.DeletionTimestamp == nil {
		return false
	}
	return before.Status.Phase != after.Status.Phase || before.Spec.Prefix != after.Spec.Prefix ||
		!before.DeletionTimestamp.Equal(after.DeletionTimestamp) ||
		!reflect.DeepEqual(before.Labels, after.Labels) || !reflect.DeepEqual(before.Annotations, after.Annotations) ||
		!slices.Equal(before.Finalizers, after.Finalizers) ||
		!equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions)
}

// ofPrefix returns the claims that may wait for a change of a Prefix.
func (r *claims) ofPrefix(ctx context.Context, o client.Object) []reconcile.Request {
	prefix := o.(*v1alpha1.Prefix)
	if prefix.Labels[capiv1alpha1.LabelClaimName] != "" {
		found, err := r.claimsOf(ctx, prefix.Namespace, indexChild, prefix.Name)
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "List the claims of a child")
		}
		return requests(found)
	}
	var waiting []reconcile.Request
	if held := prefix.Annotations[capiv1alpha1.AnnotationPool]; held != "" {
		return r.waitingIn(ctx, prefix.Namespace, held)
	}
	// It may have the name of a child of a claim, which waits until it is gone.
	named, err := r.claimsOf(ctx, prefix.Namespace, indexChild, prefix.Name)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List the claims of a child")
	}
	waiting = append(waiting, requests(named)...)
	found, err := r.poolsWith(ctx, prefix)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List the pools of a Prefix")
	}
	for _, p := range append(found, poolOfPrefix(prefix)) {
		waiting = append(waiting, r.waitingFor(ctx, p)...)
	}
	return waiting
}

// waitingFor returns the claims that a change of a pool may concern.
func (r *claims) waitingFor(ctx context.Context, p *pool) []reconcile.Request {
	return r.waitingIn(ctx, p.GetNamespace(), p.key())
}

func (r *claims) waitingIn(ctx context.Context, namespace, pool string) []reconcile.Request {
	found, err := r.claimsOf(ctx, namespace, indexPool, pool)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List the claims of a pool")
	}
	return requests(slices.DeleteFunc(found, func(claim ipamv1.IPAddressClaim) bool {
		return claim.Status.AddressRef.Name != "" && claim.DeletionTimestamp == nil
	}))
}

// Reconcile implements reconcile.Reconciler.
func (r *claims) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	claim := &ipamv1.IPAddressClaim{}
	if err := r.Get(ctx, request.NamespacedName, claim); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !isOurs(claim.Spec.PoolRef) || !r.isWatched(claim) {
		return reconcile.Result{}, nil
	}
	p, err := getPool(ctx, r, claim.Namespace, claim.Spec.PoolRef.Kind, claim.Spec.PoolRef.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if skip, err := r.isPaused(ctx, claim, p); skip || err != nil {
		return reconcile.Result{}, err
	}
	if claim.DeletionTimestamp != nil {
		err = r.release(ctx, claim)
	} else {
		err = r.serve(ctx, claim, p)
	}
	if apierrors.IsConflict(err) || errors.Is(err, errAlreadyExists) {
		// The cache is behind. That is no reason to log an error.
		return reconcile.Result{RequeueAfter: behind}, nil
	}
	return reconcile.Result{}, err
}

// behind is how long a claim waits for the cache.
const behind = 20 * time.Millisecond

// isPaused reports whether a claim is left alone, because it, its pool or its cluster is paused. A cluster that is named
// and does not exist counts as paused, unless the claim is being deleted: what a cluster leaves behind must not stay.
func (r *claims) isPaused(ctx context.Context, claim *ipamv1.IPAddressClaim, p *pool) (bool, error) {
	if isPaused(claim) || p != nil && isPaused(p) {
		return true, nil
	}
	name := clusterName(claim)
	if name == "" {
		return false, nil
	}
	cluster := &clusterv1.Cluster{}
	if err := r.Get(ctx, key(claim.Namespace, name), cluster); err != nil {
		return apierrors.IsNotFound(err) && claim.DeletionTimestamp == nil, client.IgnoreNotFound(err)
	}
	return isClusterPaused(cluster), nil
}

// outcome is what a claim waits for, as the condition Ready says it. Without a reason it is not worth a write, because it
// will be over soon.
type outcome struct{ reason, message string }

var soon = &outcome{}

var errAlreadyExists = errors.New("the cache does not show yet what exists")

// serve gives a claim an address. It returns when it has to wait for an event.
func (r *claims) serve(ctx context.Context, claim *ipamv1.IPAddressClaim, p *pool) error {
	waiting, err := r.advance(ctx, claim, p)
	if apierrors.IsConflict(err) || errors.Is(err, errAlreadyExists) {
		return err
	}
	if err != nil && (waiting == nil || waiting == soon) {
		// It is not about the claim. It is tried again.
		return err
	}
	return errors.Join(err, r.report(ctx, claim, waiting))
}

// advance takes the steps that can be taken. It returns what the claim waits for, or nil if it has its address.
func (r *claims) advance(ctx context.Context, claim *ipamv1.IPAddressClaim, p *pool) (*outcome, error) {
	poolNotReady := func(format string, args ...any) (*outcome, error) {
		return &outcome{ipamv1.IPAddressClaimReadyPoolNotReadyReason, fmt.Sprintf(format, args...)}, nil
	}
	if p == nil {
		return poolNotReady("%s %q does not exist", claim.Spec.PoolRef.Kind, claim.Spec.PoolRef.Name)
	}
	child, err := r.child(ctx, claim)
	if err != nil {
		return nil, err
	}
	address, err := r.existing(ctx, claim, child == nil)
	if err != nil {
		return nil, err
	}
	pool, why, err := p.resolve(ctx, r)
	if why == nil && err == nil && address == nil {
		why, err = pool.unheld(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	if why != nil {
		// A claim with an address keeps it, whatever happens to its pool.
		if address != nil && claim.Status.AddressRef.Name != "" {
			return nil, nil
		}
		return poolNotReady("%s", why.message)
	}
	if child == nil && p.GetDeletionTimestamp() != nil && address == nil {
		return poolNotReady("%s %q is being deleted", p.kind, p.GetName())
	}

	if address != nil && (address.Spec.ClaimRef.Name != claim.Name || address.Spec.PoolRef != claim.Spec.PoolRef) {
		return &outcome{ipamv1.IPAddressClaimReadyAllocationFailedReason, fmt.Sprintf("IPAddress %s exists, and is of claim %q and %s %q",
			address.Name, address.Spec.ClaimRef.Name, address.Spec.PoolRef.Kind, address.Spec.PoolRef.Name)}, nil
	}
	if address != nil && child != nil && child.Status.Phase == v1alpha1.PrefixPhaseAllocated {
		// Fields of the pool may have changed since.
		if allocated, err := cidr.ParseStored(child.Spec.Prefix); err == nil && allocated.Addr().String() == address.Spec.Address {
			// It has its address, whatever becomes of this write.
			return nil, r.publish(ctx, claim, pool, address, child, allocated)
		}
	}
	wanted, mistake := wantedBy(claim, address, pool)
	if mistake != nil {
		return mistake, nil
	}
	if child == nil {
		if err := r.prepare(ctx, claim); err != nil {
			return nil, err
		}
		return r.create(ctx, claim, pool, wanted)
	}
	if child.DeletionTimestamp != nil && child.Status.Phase != v1alpha1.PrefixPhaseAllocated ||
		wanted.IsValid() && child.Spec.Prefix != "" && child.Spec.Prefix != wanted.String() {
		// Somebody has deleted it before it held anything, or it is not what the claim had before.
		_, err := r.releasePrefix(ctx, child)
		return soon, err
	}
	if child.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		return outcomeOf(child), nil
	}
	allocated, err := cidr.ParseStored(child.Spec.Prefix)
	if err != nil {
		return nil, err
	}
	if address == nil && slices.ContainsFunc(pool.holds, func(h hold) bool { return allocated.Contains(h.address) }) {
		// It was free for a moment, because somebody else had held it.
		_, err := r.releasePrefix(ctx, child)
		return &outcome{ipamv1.IPAddressClaimReadyPoolNotReadyReason, allocated.Addr().String() + " is an address that no machine may get"}, err
	}
	return published(r.publish(ctx, claim, pool, address, child, allocated))
}

// published returns the outcome of publish.
func published(err error) (*outcome, error) {
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return soon, nil
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err):
		return refused(err)
	}
	return nil, err
}

// refused returns the outcome of a write that a quota or an admission plugin refuses. It is tried again.
func refused(err error) (*outcome, error) {
	return &outcome{ipamv1.IPAddressClaimReadyAllocationFailedReason, err.Error()}, err
}

// existing returns the IPAddress of a claim, or nil. If the cache does not have it, and sure is set, it asks the server:
// whether there is one decides if the claim gets a new address.
func (r *claims) existing(ctx context.Context, claim *ipamv1.IPAddressClaim, sure bool) (*ipamv1.IPAddress, error) {
	address := &ipamv1.IPAddress{}
	err := r.Get(ctx, client.ObjectKeyFromObject(claim), address)
	if apierrors.IsNotFound(err) && sure {
		err = r.live.Get(ctx, client.ObjectKeyFromObject(claim), address)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return address, err
}

// child returns the child of a claim, or nil.
func (r *claims) child(ctx context.Context, claim *ipamv1.IPAddressClaim) (*v1alpha1.Prefix, error) {
	for _, name := range childNames(claim) {
		child := &v1alpha1.Prefix{}
		err := r.Get(ctx, key(claim.Namespace, name), child)
		if apierrors.IsNotFound(err) && name != string(claim.UID) {
			// If the cache is behind, creating a child of the claim's own would be the wrong thing to do.
			err = r.live.Get(ctx, key(claim.Namespace, name), child)
		}
		if err == nil && isChildOf(child, claim) {
			return child, nil
		}
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
	}
	return nil, nil
}

// isChildOf reports whether a Prefix was created for a claim of this name.
func isChildOf(prefix *v1alpha1.Prefix, claim *ipamv1.IPAddressClaim) bool {
	return prefix.Labels[capiv1alpha1.LabelClaimName] == labelValue(claim.Name)
}

// wantedBy returns the prefix that a claim had before or asks for, or the zero Prefix if any will do.
func wantedBy(claim *ipamv1.IPAddressClaim, address *ipamv1.IPAddress, pool *resolved) (netip.Prefix, *outcome) {
	failed := func(format string, args ...any) (netip.Prefix, *outcome) {
		return netip.Prefix{}, &outcome{ipamv1.IPAddressClaimReadyAllocationFailedReason, fmt.Sprintf(format, args...)}
	}
	value, source := claim.Annotations[capiv1alpha1.AnnotationAddress], "annotation "+capiv1alpha1.AnnotationAddress
	if address != nil {
		value, source = address.Spec.Address, "IPAddress "+address.Name
	}
	if value == "" {
		return netip.Prefix{}, nil
	}
	parsed, err := cidr.ParseAddr(value)
	if err != nil {
		return failed("%s: %v", source, err)
	}
	if int(pool.length) > parsed.BitLen() {
		return failed("%s: %s is not an address of %s", source, value, pool.family)
	}
	prefix := netip.PrefixFrom(parsed, int(pool.length))
	if prefix.Masked() != prefix {
		return failed("%s: %s is not the first address of a prefix of length %d", source, value, pool.length)
	}
	return prefix, nil
}

// prepare puts the finalizer on a claim, and the name of its child.
func (r *claims) prepare(ctx context.Context, claim *ipamv1.IPAddressClaim) error {
	return r.patch(ctx, claim, func() {
		controllerutil.AddFinalizer(claim, capiv1alpha1.ClaimFinalizer)
		setAnnotation(claim, capiv1alpha1.AnnotationChild, string(claim.UID))
	})
}

// patch changes the metadata of an object, unless somebody else has changed it in the meantime.
func (c *common) patch(ctx context.Context, o client.Object, change func()) error {
	before := o.DeepCopyObject().(client.Object)
	change()
	if equality.Semantic.DeepEqual(before, o) {
		return nil
	}
	return c.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

func (c *common) removeFinalizer(ctx context.Context, o client.Object, finalizer string) error {
	return client.IgnoreNotFound(c.patch(ctx, o, func() { controllerutil.RemoveFinalizer(o, finalizer) }))
}

func setAnnotation(o client.Object, name, value string) {
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[name] = value
	o.SetAnnotations(annotations)
}

// create creates the child of a claim.
func (r *claims) create(ctx context.Context, claim *ipamv1.IPAddressClaim, pool *resolved, wanted netip.Prefix) (*outcome, error) {
	child := &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: claim.Namespace, Name: string(claim.UID),
			Labels:     map[string]string{capiv1alpha1.LabelClaimName: labelValue(claim.Name), capiv1alpha1.LabelPoolName: labelValue(pool.GetName())},
			Finalizers: []string{capiv1alpha1.ClaimFinalizer},
		},
		Spec: pool.specOf(v1alpha1.PrefixSpec{IPFamily: pool.family, PrefixLength: pool.length}, ""),
	}
	if name := clusterName(claim); name != "" {
		child.Labels[clusterv1.ClusterNameLabel] = labelValue(name)
	}
	if wanted.IsValid() {
		child.Spec.Prefix = wanted.String()
	}
	err := r.Create(ctx, child)
	switch {
	case apierrors.IsAlreadyExists(err):
		existing := &v1alpha1.Prefix{}
		if err := r.live.Get(ctx, client.ObjectKeyFromObject(child), existing); apierrors.IsNotFound(err) {
			return nil, errAlreadyExists
		} else if err != nil {
			return nil, err
		}
		if !isChildOf(existing, claim) {
			return refused(fmt.Errorf("the Prefix %s exists, and is not of this claim", existing.Name))
		}
		return nil, errAlreadyExists
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return soon, nil
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err):
		return refused(err)
	}
	return soon, err
}

// outcomeOf returns what a claim waits for whose child is not allocated.
func outcomeOf(child *v1alpha1.Prefix) *outcome {
	condition := meta.FindStatusCondition(child.Status.Conditions, v1alpha1.ConditionAllocated)
	if condition == nil || condition.Status == metav1.ConditionTrue {
		return soon
	}
	reason := ipamv1.IPAddressClaimReadyAllocationFailedReason
	switch condition.Reason {
	case v1alpha1.ReasonParentExhausted, v1alpha1.ReasonReserved:
		reason = ipamv1.IPAddressClaimReadyPoolExhaustedReason
	case v1alpha1.ReasonParentNotFound, v1alpha1.ReasonParentNotReady, v1alpha1.ReasonNoMatchingParent, v1alpha1.ReasonParentClosed, v1alpha1.ReasonNotShared:
		reason = ipamv1.IPAddressClaimReadyPoolNotReadyReason
	}
	return &outcome{reason, condition.Message}
}

// publish creates the IPAddress of a claim, or completes the metadata of an existing one.
func (r *claims) publish(ctx context.Context, claim *ipamv1.IPAddressClaim, pool *resolved, address *ipamv1.IPAddress, child *v1alpha1.Prefix, allocated netip.Prefix) error {
	if err := r.patch(ctx, claim, func() {
		controllerutil.AddFinalizer(claim, capiv1alpha1.ClaimFinalizer)
		if address == nil {
			setAnnotation(claim, capiv1alpha1.AnnotationChild, child.Name)
			setAnnotation(claim, capiv1alpha1.AnnotationAddress, allocated.Addr().String())
		}
	}); err != nil {
		return err
	}
	complete := func(address *ipamv1.IPAddress) {
		yes := true
		if pool.kind == capiv1alpha1.PrefixPoolKind {
			setOwner(address, pool.ownerReference())
		}
		setOwner(address, metav1.OwnerReference{
			APIVersion: ipamv1.GroupVersion.String(), Kind: "IPAddressClaim", Name: claim.Name, UID: claim.UID, Controller: &yes, BlockOwnerDeletion: &yes,
		})
		if address.DeletionTimestamp == nil {
			controllerutil.AddFinalizer(address, capiv1alpha1.AddressFinalizer)
		}
		if name := clusterName(claim); name != "" {
			if address.Labels == nil {
				address.Labels = map[string]string{}
			}
			address.Labels[clusterv1.ClusterNameLabel] = labelValue(name)
		}
	}
	if address != nil {
		return r.patch(ctx, address, func() { complete(address) })
	}
	address = &ipamv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace, Name: claim.Name},
		Spec: ipamv1.IPAddressSpec{
			ClaimRef: ipamv1.IPAddressClaimReference{Name: claim.Name}, PoolRef: pool.reference(), Address: allocated.Addr().String(),
		},
	}
	mask := pool.maskFor(child)
	address.Spec.Prefix = &mask
	if pool.gateway.IsValid() {
		address.Spec.Gateway = pool.gateway.String()
	}
	complete(address)
	err := r.Create(ctx, address)
	if apierrors.IsAlreadyExists(err) {
		return errAlreadyExists
	}
	return err
}

// setOwner adds an owner reference, or replaces that to an earlier object with the same name.
func setOwner(o client.Object, owner metav1.OwnerReference) {
	owners := o.GetOwnerReferences()
	i := slices.IndexFunc(owners, func(other metav1.OwnerReference) bool {
		return other.Kind == owner.Kind && other.Name == owner.Name && groupOf(other) == groupOf(owner)
	})
	if i < 0 {
		owners = append(owners, owner)
	} else {
		owners[i] = owner
	}
	o.SetOwnerReferences(owners)
}

func groupOf(owner metav1.OwnerReference) string {
	for i, c := range owner.APIVersion {
		if c == '/' {
			return owner.APIVersion[:i]
		}
	}
	return ""
}

// report writes the status of a claim. waiting is what it waits for, or nil if it has its address.
func (r *claims) report(ctx context.Context, claim *ipamv1.IPAddressClaim, waiting *outcome) error {
	if waiting == soon {
		return nil
	}
	before := claim.DeepCopy()
	condition := metav1.Condition{Type: ipamv1.IPAddressClaimReadyCondition, Status: metav1.ConditionTrue, Reason: clusterv1.ReadyReason, ObservedGeneration: claim.Generation}
	if waiting != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, waiting.reason, waiting.message
		v1beta1conditions.MarkFalse(claim, clusterv1.ReadyV1Beta1Condition, waiting.reason, clusterv1.ConditionSeverityInfo, "%s", waiting.message)
	} else {
		claim.Status.AddressRef = ipamv1.IPAddressReference{Name: claim.Name}
		v1beta1conditions.MarkTrue(claim, clusterv1.ReadyV1Beta1Condition)
	}
	meta.SetStatusCondition(&claim.Status.Conditions, condition)
	if equality.Semantic.DeepEqual(before.Status, claim.Status) {
		return nil
	}
	return client.IgnoreNotFound(r.Status().Patch(ctx, claim, client.MergeFrom(before)))
}

// release takes back the address of a claim that is being deleted.
func (r *claims) release(ctx context.Context, claim *ipamv1.IPAddressClaim) error {
	if !controllerutil.ContainsFinalizer(claim, capiv1alpha1.ClaimFinalizer) {
		return nil
	}
	address, err := r.existing(ctx, claim, true)
	if err != nil {
		return err
	}
	if address != nil && address.Spec.ClaimRef.Name == claim.Name && address.Spec.PoolRef == claim.Spec.PoolRef {
		if err := r.releaseObject(ctx, address, capiv1alpha1.AddressFinalizer); err != nil {
			return err
		}
		if err := r.live.Get(ctx, client.ObjectKeyFromObject(claim), address); !apierrors.IsNotFound(err) {
			// It waits for finalizers of others. The event of its end comes here.
			return err
		}
	}
	for _, name := range childNames(claim) {
		child := &v1alpha1.Prefix{}
		if err := r.live.Get(ctx, key(claim.Namespace, name), child); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		if !isChildOf(child, claim) {
			continue
		}
		if gone, err := r.releasePrefix(ctx, child); !gone || err != nil {
			return err
		}
	}
	return r.removeFinalizer(ctx, claim, capiv1alpha1.ClaimFinalizer)
}
