// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	clientv3 "go.etcd.io/etcd/client/v3"
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
	// ReadAhead is how many objects of a paged list the watch cache reads at a time. 0 means 10,000.
	ReadAhead int64
	// AdaptClient, if set, is called with each etcd client before a store uses it.
	AdaptClient func(*clientv3.Client)
}

// RESTOptionsGetter wraps another getter. The storage that it returns checks and writes the claims with each object.
type RESTOptionsGetter struct {
	generic.RESTOptionsGetter
	// BeforeUpdate, if set, is called before each update of an object from old to obj. What it does stays even if the
	// update fails. Set it before the storages are created.
	BeforeUpdate func(ctx context.Context, old, obj runtime.Object) error

	config Config
	etcd   *claims.Etcd
	claims *claims.Claims

	mu        sync.Mutex
	transport *storagebackend.TransportConfig
	compactor sharedCompactor
}

var _ generic.RESTOptionsGetter = &RESTOptionsGetter{}

// NewRESTOptionsGetter returns a RESTOptionsGetter that takes everything but the storage from getter.
func NewRESTOptionsGetter(getter generic.RESTOptionsGetter, config Config) *RESTOptionsGetter {
	etcd := &claims.Etcd{}
	return &RESTOptionsGetter{RESTOptionsGetter: getter, config: config, etcd: etcd, claims: claims.New(etcd, config.DisjointRoots)}
}

// Etcd returns what reads objects and claims directly from etcd. It is usable once the storages exist.
func (g *RESTOptionsGetter) Etcd() *claims.Etcd { return g.etcd }

// Claims returns the Claims that the storages of all kinds share. It is usable once the storages exist.
func (g *RESTOptionsGetter) Claims() *claims.Claims { return g.claims }

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g *RESTOptionsGetter) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	options, err := g.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil {
		return options, err
	}
	options.Decorator = func(
		config *storagebackend.ConfigForResource, resourcePrefix string,
		keyFunc func(obj runtime.Object) (string, error), newFunc, newListFunc func() runtime.Object,
		getAttrs storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
	) (storage.Interface, factory.DestroyFunc, error) {
		return g.newStorage(config, resourcePrefix, keyFunc, newFunc, newListFunc, getAttrs, triggers, indexers)
	}
	return options, nil
}

// newStorage returns the storage of one kind. From top to bottom it is a watch cache, a Store, and the etcd store.
// All kinds must be in the same etcd, because one transaction writes an allocation and checks its parent.
func (g *RESTOptionsGetter) newStorage(
	config *storagebackend.ConfigForResource, resourcePrefix string,
	keyFunc func(obj runtime.Object) (string, error), newFunc, newListFunc func() runtime.Object,
	getAttrs storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.transport != nil && !reflect.DeepEqual(g.transport.ServerList, config.Transport.ServerList) {
		return nil, nil, fmt.Errorf("%s must be in the same etcd as the other resources: one transaction writes both", config.GroupResource)
	}
	g.transport = &config.Transport

	client, err := newClient(config.Transport)
	if err != nil {
		return nil, nil, err
	}
	compactor, stopCompactor, err := g.compactor.use(config)
	if err != nil {
		_ = client.Close()
		return nil, nil, err
	}
	if g.config.AdaptClient != nil {
		g.config.AdaptClient(client.Client)
	}
	client.KV = etcd3.NewETCDLatencyTracker(client.KV)
	client.Kubernetes = claims.NewTransactor(client)

	transformer := config.Transformer
	if transformer == nil {
		transformer = identity.NewEncryptCheckTransformer()
	}
	versioner := storage.APIObjectVersioner{}
	decoder := etcd3.NewDefaultDecoder(config.Codec, versioner)
	raw, err := etcd3.New(client, compactor, tolerantCodec{config.Codec, newFunc}, newFunc, newListFunc, config.Prefix, resourcePrefix,
		config.GroupResource, tolerantTransformer{transformer}, config.LeaseManagerConfig, tolerantDecoder{decoder}, versioner)
	if err != nil {
		stopCompactor()
		_ = client.Close()
		return nil, nil, err
	}
	if g.etcd.KV == nil {
		g.etcd.KV, g.etcd.Keys = client.KV, claims.NewKeyspace(config.Prefix)
	}
	store := &Store{Interface: tolerantStore{raw, config.GroupResource}, planner: g.claims, beforeUpdate: g.BeforeUpdate}
	var result storage.Interface = store
	var once sync.Once
	destroy := func() {
		once.Do(func() {
			stopCompactor()
			raw.Close()
			_ = client.Close()
		})
	}

	if g.config.WatchCache {
		c, err := cacher.NewCacherFromConfig(cacher.Config{
			Storage:             unpaged{store},
			Versioner:           versioner,
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
		if err != nil {
			destroy()
			return nil, nil, err
		}
		delegator := cacher.NewCacheDelegator(c, store)
		result = &cachedLists{Interface: delegator, cache: c, resourcePrefix: resourcePrefix, keyOf: keyFunc, readAhead: cmp.Or(g.config.ReadAhead, readAhead)}
		if !utilfeature.DefaultFeatureGate.Enabled(features.SizeBasedListCostEstimate) {
			store.count = func(ctx context.Context) (int64, error) {
				return countCached(ctx, result, resourcePrefix, newListFunc())
			}
		}
		destroyStore := destroy
		var once sync.Once
		destroy = func() {
			once.Do(func() {
				delegator.Stop()
				c.Stop()
				destroyStore()
			})
		}
	}

	switch objects := claims.NewObjects(config, resourcePrefix); config.GroupResource {
	case ipam.Resource("prefixes"):
		g.etcd.Prefixes = objects
		g.claims.ReadPrefixesFrom(result, getAttrs)
	case ipam.Resource("prefixallocations"):
		g.etcd.Allocations = objects
	case ipam.Resource("prefixpolicies"):
		// Policies hold no space.
	default:
		destroy()
		return nil, nil, fmt.Errorf("%s has no claims", config.GroupResource)
	}
	return result, destroy, nil
}
