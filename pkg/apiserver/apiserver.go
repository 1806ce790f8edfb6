// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package apiserver is the API server of the group ipam.ironcore.dev.
package apiserver

import (
	"context"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/install"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/rest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

var (
	// Scheme knows every type that the server serves.
	Scheme = newScheme()
	// Codecs encode and decode the types of Scheme.
	Codecs = serializer.NewCodecFactory(Scheme)
)

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	// The generic server expects its own types in v1 of the empty group.
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

// Config is the configuration of the server.
type Config struct {
	GenericConfig *genericapiserver.RecommendedConfig
	// WithoutCluster is for a server that clients reach directly, with no kube-apiserver that serves the core group.
	WithoutCluster bool
	// WatchCache is whether the objects are in watch caches.
	WatchCache bool
	// AuditInterval is the time between two comparisons of objects with claims; 0 is never.
	AuditInterval time.Duration
	// Reader, if set, is what admission reads with. It is ready once there is a server.
	Reader *initializer.Deferred
	// Enforced is what admission wants the storage to enforce.
	Enforced initializer.Enforced
}

type completedConfig struct {
	config        *Config
	genericConfig genericapiserver.CompletedConfig
}

// CompletedConfig is a Config with everything filled in. Only Complete makes one.
type CompletedConfig struct{ *completedConfig }

// Complete fills in what is not set.
func (c *Config) Complete() CompletedConfig {
	return CompletedConfig{&completedConfig{c, c.GenericConfig.Complete()}}
}

// Server is the API server.
type Server struct {
	GenericAPIServer *genericapiserver.GenericAPIServer
	claims           *claims.Claims
}

// New returns the server with the API group installed.
func (c completedConfig) New() (*Server, error) {
	generic, err := c.genericConfig.New("ipam-apiserver", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, err
	}
	getter := claims.NewRESTOptionsGetter(c.genericConfig.RESTOptionsGetter,
		claims.Config{WatchCache: c.config.WatchCache, DisjointRoots: c.config.Enforced.DisjointRoots})
	group, err := rest.NewAPIGroupInfo(Scheme, Codecs, getter)
	if err != nil {
		return nil, err
	}
	if c.config.Reader != nil {
		reader, err := readerOf(&group, getter.Claims())
		if err != nil {
			return nil, err
		}
		c.config.Reader.Set(reader)
	}
	if err := generic.InstallAPIGroup(&group); err != nil {
		return nil, err
	}
	if c.config.WithoutCluster {
		installCore(generic, c.genericConfig.DiscoveryAddresses)
	}
	s := &Server{GenericAPIServer: generic, claims: getter.Claims()}
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

// Run serves until the context ends. Before that it makes the store fit to be served, whoever wrote it.
func (s *Server) Run(ctx context.Context) error {
	if err := s.adopt(ctx); err != nil {
		return err
	}
	return s.GenericAPIServer.PrepareRun().RunWithContext(ctx)
}
