// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"
	"net"
	"path"
	"reflect"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-base/tracing"
)

const (
	// k8s.io/apiserver uses the same values for its own etcd clients.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	dialTimeout      = 20 * time.Second
)

// Config configures the storage of this API group.
type Config struct {
	// WatchCache enables the watch cache of each kind.
	WatchCache bool
	// DisjointRoots forbids a new root that overlaps another root of its namespace.
	DisjointRoots bool
	// AdaptClient, if set, is called with each etcd client before a store uses it.
	AdaptClient func(*clientv3.Client)
}

// RESTOptionsGetter wraps another getter. The storage that it returns checks and writes the claims with each object.
type RESTOptionsGetter struct {
	generic.RESTOptionsGetter
	config Config
	claims *Claims

	mu        sync.Mutex
	transport *storagebackend.TransportConfig
	compactor sharedCompactor
}

var _ generic.RESTOptionsGetter = &RESTOptionsGetter{}

// NewRESTOptionsGetter returns a RESTOptionsGetter that takes everything but the storage from getter.
func NewRESTOptionsGetter(getter generic.RESTOptionsGetter, config Config) *RESTOptionsGetter {
	return &RESTOptionsGetter{RESTOptionsGetter: getter, config: config, claims: newClaims(config)}
}

// Claims returns the Claims that the storages of all kinds share. It is usable once the storages exist.
func (g *RESTOptionsGetter) Claims() *Claims { return g.claims }

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
		return nil, nil, fmt.Errorf("%s has to be in the same etcd as the other resources: one transaction writes both", config.GroupResource)
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
	client.Kubernetes = &transactor{Interface: client.Kubernetes, kv: client.KV}

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
	if g.claims.kv == nil {
		g.claims.kv, g.claims.keyspace = client.KV, newKeyspace(config.Prefix)
	}
	store := &Store{Interface: tolerantStore{raw, config.GroupResource}, planner: g.claims}
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
		result = &cachedLists{Interface: delegator, cache: c, resourcePrefix: resourcePrefix, keyOf: keyFunc}
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

	read := objects{
		cached: result, resourcePrefix: resourcePrefix, etcdPrefix: path.Join("/", config.Prefix),
		transformer: transformer, decoder: decoder, attributes: getAttrs,
	}
	switch config.GroupResource {
	case ipam.Resource("prefixes"):
		g.claims.prefixes = read
	case ipam.Resource("prefixallocations"):
		g.claims.allocations = read
	case ipam.Resource("prefixpolicies"):
		// Policies hold no space.
	default:
		destroy()
		return nil, nil, fmt.Errorf("%s has no claims", config.GroupResource)
	}
	return result, destroy, nil
}

// sharedCompactor compacts etcd while at least one resource uses it.
type sharedCompactor struct {
	mu        sync.Mutex
	compactor etcd3.Compactor
	stop      func()
	users     int
}

// use starts the compactor unless it is running. The returned function ends the use, and the last one stops the
// compactor. If compaction is disabled, the compactor is nil.
func (s *sharedCompactor) use(config *storagebackend.ConfigForResource) (etcd3.Compactor, func(), error) {
	if config.CompactionInterval == 0 {
		return nil, func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		client, err := newClient(config.Transport)
		if err != nil {
			return nil, nil, err
		}
		compactor := etcd3.StartCompactorPerEndpoint(client.Client, config.CompactionInterval)
		s.compactor = compactor
		s.stop = func() {
			compactor.Stop()
			_ = client.Close()
		}
	}
	s.users++
	return s.compactor, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users == 0 {
			s.stop()
		}
	}, nil
}

// newClient returns an etcd client that is configured like those of k8s.io/apiserver, which exports no function for
// it. It waits at most dialTimeout for the connection.
func newClient(c storagebackend.TransportConfig) (*kubernetes.Client, error) {
	config := clientv3.Config{
		Endpoints:            c.ServerList,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithStatsHandler(otelgrpc.NewClientHandler(
				otelgrpc.WithPropagators(tracing.Propagators()),
				otelgrpc.WithTracerProvider(c.TracerProvider))),
		},
	}
	if c.CertFile != "" || c.KeyFile != "" || c.TrustedCAFile != "" {
		tlsInfo := transport.TLSInfo{CertFile: c.CertFile, KeyFile: c.KeyFile, TrustedCAFile: c.TrustedCAFile}
		var err error
		if config.TLS, err = tlsInfo.ClientConfig(); err != nil {
			return nil, err
		}
	}
	if c.EgressLookup != nil {
		dial, err := c.EgressLookup(egressselector.Etcd.AsNetworkContext())
		if err != nil {
			return nil, err
		}
		if dial != nil {
			config.DialOptions = append(config.DialOptions, grpc.WithContextDialer(dialer(dial)))
		}
	}
	client, err := kubernetes.New(config)
	if err != nil {
		return nil, err
	}
	if err := waitConnected(client); err != nil {
		_ = client.Close()
		return nil, err
	}
	return client, nil
}

func dialer(dial utilnet.DialFunc) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }
}

func waitConnected(client *kubernetes.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn := client.ActiveConnection()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("no connection to etcd at %v: %w", client.Endpoints(), ctx.Err())
		}
	}
}
