// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"
)

// Config configures the storage of this API group.
type Config struct {
	// WatchCache enables the watch cache of each kind.
	WatchCache bool
	// DisjointRoots forbids a new root that overlaps another root of its namespace.
	DisjointRoots bool
	// ReadAhead is how many objects of a paged list the watch cache reads at a time, at least. 0 means 10,000.
	ReadAhead int64
	// NamespaceLabels returns the labels of a namespace. It is nil if there are no namespaces.
	NamespaceLabels claims.NamespaceLabels
	// AdaptClient, if set, is called with each etcd client before a store uses it.
	AdaptClient func(*clientv3.Client)
}

// RESTOptionsGetter wraps another getter. The storage that it returns checks and writes the claims with each object. New
// connects to etcd; then each kind creates its storage; then the planner gets some of them as its sources. Nothing may be
// written before that.
type RESTOptionsGetter struct {
	generic.RESTOptionsGetter
	// Etcd reads the objects and claims of all kinds directly from etcd.
	Etcd *claims.Etcd
	// Planner plans the writes of all storages. It is usable once its SetSources was called.
	Planner *claims.Planner
	// BeforeUpdate, if set, is called before each update of an object from old to obj. What it does stays even if the
	// update fails. Set it before the storages are created.
	BeforeUpdate func(ctx context.Context, old, obj runtime.Object) error

	config Config
	// compactor is nil if compaction is disabled.
	compactor etcd3.Compactor
	close     func()
}

var _ generic.RESTOptionsGetter = &RESTOptionsGetter{}

// New returns a RESTOptionsGetter that takes everything but the storage from getter. The caller must close it. All kinds
// must be in the same etcd, because one transaction writes an allocation and checks its parent and a policy of that.
func New(getter generic.RESTOptionsGetter, config Config) (*RESTOptionsGetter, error) {
	prefixes, err := getter.GetRESTOptions(ipam.Resource("prefixes"), &ipam.Prefix{})
	if err != nil {
		return nil, err
	}
	allocations, err := getter.GetRESTOptions(ipam.Resource("prefixallocations"), &ipam.PrefixAllocation{})
	if err != nil {
		return nil, err
	}
	etcd := prefixes.StorageConfig
	if other := allocations.StorageConfig; !slices.Equal(etcd.Transport.ServerList, other.Transport.ServerList) || etcd.Prefix != other.Prefix {
		return nil, errors.New("prefixallocations must be in the same etcd as prefixes: one transaction writes both")
	}
	policies, err := getter.GetRESTOptions(ipam.Resource("prefixpolicies"), &ipam.PrefixPolicy{})
	if err != nil {
		return nil, err
	}
	if other := policies.StorageConfig; !slices.Equal(etcd.Transport.ServerList, other.Transport.ServerList) || etcd.Prefix != other.Prefix {
		return nil, errors.New("prefixpolicies must be in the same etcd as prefixes: one transaction checks both")
	}
	g := &RESTOptionsGetter{RESTOptionsGetter: getter, config: config}
	client, err := g.connect(etcd.Transport)
	if err != nil {
		return nil, err
	}
	stop := func() {}
	if etcd.CompactionInterval > 0 {
		compactor := etcd3.StartCompactorPerEndpoint(client.Client, etcd.CompactionInterval)
		g.compactor, stop = compactor, compactor.Stop
	}
	g.close = sync.OnceFunc(func() {
		stop()
		_ = client.Close()
	})
	g.Etcd = &claims.Etcd{
		KV: client.KV, Keys: claims.NewKeyspace(etcd.Prefix),
		Prefixes:    claims.NewObjects(etcd, prefixes.ResourcePrefix),
		Allocations: claims.NewObjects(allocations.StorageConfig, allocations.ResourcePrefix),
		Policies:    claims.NewObjects(policies.StorageConfig, policies.ResourcePrefix),
	}
	g.Planner = claims.NewPlanner(g.Etcd, config.DisjointRoots, config.NamespaceLabels)
	return g, nil
}

// Close stops the compaction and closes the connection to etcd. The storages have connections of their own, and must be
// destroyed before.
func (g *RESTOptionsGetter) Close() { g.close() }

// connect returns an etcd client whose writes are performed together with their plans.
func (g *RESTOptionsGetter) connect(config storagebackend.TransportConfig) (*kubernetes.Client, error) {
	client, err := newClient(config)
	if err != nil {
		return nil, err
	}
	if g.config.AdaptClient != nil {
		g.config.AdaptClient(client.Client)
	}
	client.KV = etcd3.NewETCDLatencyTracker(client.KV)
	client.Kubernetes = claims.NewTransactor(client)
	return client, nil
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g *RESTOptionsGetter) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	options, err := g.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil {
		return options, err
	}
	// Kubernetes prescribes the parameters. All but the first are what the watch cache has to know of a kind.
	options.Decorator = func(
		config *storagebackend.ConfigForResource, resourcePrefix string,
		keyFunc func(obj runtime.Object) (string, error), newFunc, newListFunc func() runtime.Object,
		getAttrs storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
	) (storage.Interface, factory.DestroyFunc, error) {
		return g.newStorage(config, cacher.Config{
			Versioner:           storage.APIObjectVersioner{},
			GroupResource:       config.GroupResource,
			EventsHistoryWindow: config.EventsHistoryWindow,
			ResourcePrefix:      resourcePrefix,
			KeyFunc:             keyFunc,
			NewFunc:             newFunc,
			NewListFunc:         newListFunc,
			GetAttrsFunc:        getAttrs,
			IndexerFuncs:        triggers,
			Indexers:            indexers,
			Codec:               config.Codec,
		})
	}
	return options, nil
}

// newStorage returns the storage of a kind, and a function that closes it.
func (g *RESTOptionsGetter) newStorage(config *storagebackend.ConfigForResource, kind cacher.Config) (storage.Interface, factory.DestroyFunc, error) {
	client, err := g.connect(config.Transport)
	if err != nil {
		return nil, nil, err
	}
	transformer := config.Transformer
	if transformer == nil {
		transformer = identity.NewEncryptCheckTransformer()
	}
	raw, err := etcd3.New(client, g.compactor, tolerantCodec{config.Codec, kind.NewFunc}, kind.NewFunc, kind.NewListFunc,
		config.Prefix, kind.ResourcePrefix, config.GroupResource, tolerantTransformer{transformer}, config.LeaseManagerConfig,
		tolerantDecoder{etcd3.NewDefaultDecoder(config.Codec, kind.Versioner)}, kind.Versioner)
	if err != nil {
		_ = client.Close()
		return nil, nil, err
	}
	store := &Store{Interface: tolerantStore{raw, config.GroupResource}, planner: g.Planner, beforeUpdate: g.BeforeUpdate}
	var result storage.Interface = store
	destroy := sync.OnceFunc(func() {
		raw.Close()
		_ = client.Close()
	})
	if g.config.WatchCache {
		if result, destroy, err = g.withCache(store, kind, destroy); err != nil {
			return nil, nil, err
		}
	}
	return result, destroy, nil
}

// withCache returns a storage with a watch cache above a Store, and a function that closes both. If it fails, it calls
// destroyStore.
func (g *RESTOptionsGetter) withCache(store *Store, kind cacher.Config, destroyStore func()) (storage.Interface, func(), error) {
	kind.Storage = unpaged{store}
	c, err := cacher.NewCacherFromConfig(kind)
	if err != nil {
		destroyStore()
		return nil, nil, err
	}
	delegator := cacher.NewCacheDelegator(c, store)
	lists := &cachedLists{
		Interface: delegator, cache: c, resourcePrefix: kind.ResourcePrefix, keyOf: kind.KeyFunc,
		readAhead: cmp.Or(g.config.ReadAhead, readAhead),
	}
	if !utilfeature.DefaultFeatureGate.Enabled(features.SizeBasedListCostEstimate) {
		store.count = func(ctx context.Context) (int64, error) {
			return countCached(ctx, lists, kind.ResourcePrefix, kind.NewListFunc())
		}
	}
	return lists, sync.OnceFunc(func() {
		delegator.Stop()
		c.Stop()
		destroyStore()
	}), nil
}
