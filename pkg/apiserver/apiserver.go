// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package apiserver implements the API server of the API group ipam.ironcore.dev.
package apiserver

import (
	"context"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/install"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/store"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/ready"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/rest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

var (
	// Scheme has all types that the server serves. Its conversions derive the conditions Ready and Stalled.
	Scheme = newScheme(ready.AddToScheme)
	// Codecs encode and decode the types of Scheme.
	Codecs = serializer.NewCodecFactory(Scheme)
	// storageCodecs encode and decode objects in etcd, without the conditions that are derived.
	storageCodecs = serializer.NewCodecFactory(newScheme())
)

func newScheme(more ...func(*runtime.Scheme) error) *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	for _, add := range more {
		utilruntime.Must(add(scheme))
	}
	// The generic API server needs its own types in version v1 of the core group.
	v1 := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(scheme, v1)
	scheme.AddUnversionedTypes(v1,
		&metav1.Status{},
		&metav1.APIVersions{},
		&metav1.APIGroupList{},
		&metav1.APIGroup{},
		&metav1.APIResourceList{},
	)
	return scheme
}

// Config is the configuration of a Server.
type Config struct {
	// GenericConfig is the configuration of the generic API server.
	GenericConfig *genericapiserver.RecommendedConfig
	// WithoutCluster is set if clients connect to the server directly, without a kube-apiserver that serves the core
	// group.
	WithoutCluster bool
	// WatchCache is set if the server caches objects in watch caches.
	WatchCache bool
	// AuditInterval is the time between two comparisons of objects with claims. 0 disables the periodic comparison.
	AuditInterval time.Duration
	// Reader is what the admission plugins read from. New sets its target. It may be nil.
	Reader *initializer.Deferred
	// Enforced is what the admission plugins want the storage to enforce.
	Enforced initializer.Enforced
}

type completedConfig struct {
	config        *Config
	genericConfig genericapiserver.CompletedConfig
}

// CompletedConfig is a Config with all defaults set. Only Complete returns one.
type CompletedConfig struct{ *completedConfig }

// Complete sets the defaults of the generic API server.
func (c *Config) Complete() CompletedConfig {
	return CompletedConfig{&completedConfig{c, c.GenericConfig.Complete()}}
}

// namespaceLabels returns what reads the labels of namespaces from the cluster, or nil without a cluster.
func (c *Config) namespaceLabels() claims.NamespaceLabels {
	if c.WithoutCluster || c.GenericConfig.SharedInformerFactory == nil {
		return nil
	}
	lister := c.GenericConfig.SharedInformerFactory.Core().V1().Namespaces().Lister()
	return func(name string) (labels.Set, bool) {
		namespace, err := lister.Get(name)
		if err != nil {
			return nil, false
		}
		return namespace.Labels, true
	}
}

// Server is the API server.
type Server struct {
	// GenericAPIServer is the underlying server. Its API group is installed.
	GenericAPIServer *genericapiserver.GenericAPIServer
	auditor          *audit.Auditor
}

// New returns a server with the API group installed. It does not serve before Run is called.
func (c completedConfig) New() (*Server, error) {
	generic, err := c.genericConfig.New("ipam-apiserver", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, err
	}
	registry, err := rest.New(Scheme, Codecs, c.genericConfig.RESTOptionsGetter, store.Config{
		WatchCache: c.config.WatchCache, DisjointRoots: c.config.Enforced.DisjointRoots, NamespaceLabels: c.config.namespaceLabels(),
	})
	if err != nil {
		return nil, err
	}
	if c.config.Reader != nil {
		reader, err := readerOf(registry)
		if err != nil {
			return nil, err
		}
		c.config.Reader.Set(reader)
	}
	if err := generic.InstallAPIGroup(&registry.Group); err != nil {
		return nil, err
	}
	generic.RegisterDestroyFunc(registry.Destroy)
	if c.config.WithoutCluster {
		installCore(generic, c.genericConfig.DiscoveryAddresses)
	}
	s := &Server{GenericAPIServer: generic, auditor: registry.Auditor}
	if c.config.AuditInterval > 0 {
		err := generic.AddPostStartHook("ipam-claims-audit", func(hook genericapiserver.PostStartHookContext) error {
			go s.auditPeriodically(hook, c.config.AuditInterval)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Run first adopts the data in etcd, which may come from another server of the API group. Then it serves until ctx
// ends. It returns an error if either fails.
func (s *Server) Run(ctx context.Context) error {
	if err := s.adopt(ctx); err != nil {
		return err
	}
	return s.GenericAPIServer.PrepareRun().RunWithContext(ctx)
}
