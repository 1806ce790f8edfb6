// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package provider implements the contract of IPAM providers of Cluster API, ipam.cluster.x-k8s.io/v1beta2. An
// IPAddressClaim gets a Prefix of its own, the child, and an IPAddress with the address of the child.
//
// What happens to a claim, and in which order. A crash between two steps loses nothing, because each step finds what the
// steps before it have written:
//
//	serve                                        release
//	1 finalizer on the claim, name of the child  1 take the finalizer off the IPAddress, delete it, wait until it is gone
//	2 create the child                           2 take the finalizer off the child, delete it, wait until it is gone
//	3 wait until the child is allocated          3 remove the finalizer of the claim
//	4 address on the claim, as an annotation
//	5 create the IPAddress
//	6 status.addressRef and Ready of the claim
//
// The controllers run in parallel and keep no state: the API server of Prefixes decides who gets an address.
package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/util/annotations"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Options are the options of the controllers.
type Options struct {
	// WatchFilter is the value of the label cluster.x-k8s.io/watch-filter that claims and PrefixPools must have. If it is
	// empty, they need no such label.
	WatchFilter string
	// Concurrency is the number of claims that are processed concurrently.
	Concurrency int
}

// NewScheme returns a scheme with the types that the controllers read and write.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, clusterv1.AddToScheme, ipamv1.AddToScheme, v1alpha1.Install, capiv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	// The clients of a manager use Protocol Buffers for the kinds that are known to have them.
	return scheme, apiutil.AddToProtobufScheme(v1alpha1.Install)
}

// CacheOptions returns the options of the cache. It keeps only what the controllers need, because there may be many
// Prefixes and large Clusters.
func CacheOptions() cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.Prefix{}: {Transform: func(o any) (any, error) {
				if prefix, ok := o.(*v1alpha1.Prefix); ok {
					prefix.ManagedFields, prefix.Status.Used = nil, nil
				}
				return o, nil
			}},
			&clusterv1.Cluster{}: {Transform: func(o any) (any, error) {
				if cluster, ok := o.(*clusterv1.Cluster); ok {
					cluster.ManagedFields, cluster.Status = nil, clusterv1.ClusterStatus{}
					cluster.Spec = clusterv1.ClusterSpec{Paused: cluster.Spec.Paused}
				}
				return o, nil
			}},
		},
	}
}

// The names of the indexes of the cache.
const (
	// indexPool finds claims by their pool, as kind/name.
	indexPool = "pool"
	// indexCluster finds claims by their cluster.
	indexCluster = "cluster"
	// indexChild finds claims by the names that their child may have.
	indexChild = "child"
	// indexTree finds Prefixes that this provider has not created. They all have the value indexedTree.
	indexTree, indexedTree = "tree", "yes"
	// indexHeldFor finds Prefixes that hold an address for a pool, as kind/name.
	indexHeldFor = "held-for"
)

// Add adds the controllers to a manager.
func Add(ctx context.Context, mgr ctrl.Manager, options Options) error {
	for _, index := range []struct {
		object client.Object
		name   string
		values func(client.Object) []string
	}{
		{&ipamv1.IPAddressClaim{}, indexPool, func(o client.Object) []string {
			ref := o.(*ipamv1.IPAddressClaim).Spec.PoolRef
			if !isOurs(ref) {
				return nil
			}
			return []string{poolKey(ref.Kind, ref.Name)}
		}},
		{&ipamv1.IPAddressClaim{}, indexCluster, func(o client.Object) []string {
			if name := clusterName(o.(*ipamv1.IPAddressClaim)); name != "" {
				return []string{name}
			}
			return nil
		}},
		{&ipamv1.IPAddressClaim{}, indexChild, func(o client.Object) []string { return childNames(o.(*ipamv1.IPAddressClaim)) }},
		{&v1alpha1.Prefix{}, indexTree, func(o client.Object) []string {
			if isCreatedHere(o.(*v1alpha1.Prefix)) {
				return nil
			}
			return []string{indexedTree}
		}},
		{&v1alpha1.Prefix{}, indexHeldFor, heldFor},
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, index.object, index.name, index.values); err != nil {
			return err
		}
	}
	c := common{Client: mgr.GetClient(), live: mgr.GetAPIReader(), watchFilter: options.WatchFilter}
	if err := (&claims{c}).addTo(mgr, options.Concurrency); err != nil {
		return err
	}
	for _, kind := range []string{capiv1alpha1.PrefixPoolKind, v1alpha1.PrefixKind} {
		if err := (&pools{c, kind}).addTo(mgr); err != nil {
			return err
		}
	}
	return nil
}

// heldFor returns the pool, as kind/name, for which a Prefix holds an address. Somebody may have copied only the annotation.
func heldFor(o client.Object) []string {
	if key := o.GetAnnotations()[capiv1alpha1.AnnotationPool]; key != "" && o.GetLabels()[capiv1alpha1.LabelHeldAs] != "" {
		return []string{key}
	}
	return nil
}

// common is what the controllers share.
type common struct {
	client.Client
	// live reads from the server, and not from the cache.
	live        client.Reader
	watchFilter string
}

// isWatched reports whether an object has the label of this provider.
func (c *common) isWatched(o client.Object) bool {
	return c.watchFilter == "" || o.GetLabels()[clusterv1.WatchLabel] == c.watchFilter
}

// isPaused reports whether an object is left alone: its owner has paused it, or clusterctl deletes it because it has moved
// to another cluster, where the address is still in use.
func isPaused(o client.Object) bool {
	_, moved := o.GetAnnotations()[clusterctlv1.DeleteForMoveAnnotation]
	return moved || annotations.HasPaused(o)
}

// requests returns the requests for claims.
func requests(claims []ipamv1.IPAddressClaim) []reconcile.Request {
	result := make([]reconcile.Request, 0, len(claims))
	for i := range claims {
		result = append(result, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&claims[i])})
	}
	return result
}

// claimsOf returns the claims of a namespace that have a value in an index.
func (c *common) claimsOf(ctx context.Context, namespace, index, value string) ([]ipamv1.IPAddressClaim, error) {
	list := &ipamv1.IPAddressClaimList{}
	err := c.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{index: value})
	return list.Items, err
}

// poolsWith returns the PrefixPools that may allocate from a Prefix.
func (c *common) poolsWith(ctx context.Context, prefix *v1alpha1.Prefix) ([]*pool, error) {
	list := &capiv1alpha1.PrefixPoolList{}
	if err := c.List(ctx, list, client.InNamespace(prefix.Namespace)); err != nil {
		return nil, err
	}
	var found []*pool
	for i := range list.Items {
		if p := poolOfPrefixPool(&list.Items[i]); p.selects(prefix) {
			found = append(found, p)
		}
	}
	return found, nil
}

// releasePrefix lets a Prefix go that this provider has created, and deletes it. It reports whether it is gone.
func (c *common) releasePrefix(ctx context.Context, prefix *v1alpha1.Prefix) (gone bool, err error) {
	if err := c.releaseObject(ctx, prefix, capiv1alpha1.ClaimFinalizer); err != nil {
		return false, err
	}
	err = c.live.Get(ctx, client.ObjectKeyFromObject(prefix), &v1alpha1.Prefix{})
	return err != nil, client.IgnoreNotFound(err)
}

// releaseObject removes a finalizer of this provider from an object, and deletes the object.
func (c *common) releaseObject(ctx context.Context, o client.Object, finalizer string) error {
	if err := c.removeFinalizer(ctx, o, finalizer); err != nil || o.GetDeletionTimestamp() != nil {
		return err
	}
	uid := o.GetUID()
	return client.IgnoreNotFound(c.Delete(ctx, o, client.Preconditions{UID: &uid}))
}

// labelValue returns a name as the value of a label, which has at most 63 bytes.
func labelValue(name string) string {
	const limit, sum = 63, 10
	if len(name) <= limit {
		return name
	}
	hash := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%s", name[:limit-sum-1], hex.EncodeToString(hash[:])[:sum])
}

// limiter delays what failed: from 10 ms up to 30 s.
func limiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](10*time.Millisecond, 30*time.Second)
}

// clusterName returns the name of the cluster of a claim, or nothing.
func clusterName(claim *ipamv1.IPAddressClaim) string {
	if claim.Spec.ClusterName != "" {
		return claim.Spec.ClusterName
	}
	return claim.Labels[clusterv1.ClusterNameLabel]
}

// childNames returns the names that the child of a claim may have. The first one is that of a child of an earlier claim
// with this name, if the claim was moved or restored.
func childNames(claim *ipamv1.IPAddressClaim) []string {
	own := string(claim.UID)
	if earlier := claim.Annotations[capiv1alpha1.AnnotationChild]; earlier != "" && earlier != own {
		return []string{earlier, own}
	}
	return []string{own}
}

// key returns the key of an object.
func key(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}
