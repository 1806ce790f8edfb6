// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"net/http"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Server is a standalone instance in the test process, with clients that have the rights of its administrator.
type Server struct {
	*standalone.Instance
	// AdminConfig is the client configuration from the kubeconfig, without rate limit.
	AdminConfig *rest.Config
	HTTP        *http.Client
	Client      ipamclient.IpamV1alpha1Interface
	// Etcd is a client of the etcd in the instance.
	Etcd *clientv3.Client
}

// Option sets options of an instance.
type Option func(*standalone.Options)

// DataDir sets the data directory.
func DataDir(dir string) Option { return func(o *standalone.Options) { o.DataDir = dir } }

// Controllers sets the controllers to run. "*" stands for all of them.
func Controllers(names ...string) Option {
	return func(o *standalone.Options) { o.Controllers = names }
}

// Customize sets a function that changes the options of the API server.
func Customize(customize func(*apiserver.Options)) Option {
	return func(o *standalone.Options) { o.Customize = customize }
}

// StartServer starts an instance with its data in dir, on a free port. By default it runs no controllers. The caller
// must close it.
func StartServer(dir string, options ...Option) (*Server, error) {
	o := standalone.NewOptions()
	o.DataDir, o.Port, o.Controllers = dir, 0, nil
	for _, option := range options {
		option(o)
	}
	instance, err := standalone.Start(context.Background(), o)
	if err != nil {
		return nil, err
	}
	s := &Server{Instance: instance}
	if err := s.connect(); err != nil {
		instance.Close()
		return nil, err
	}
	return s, nil
}

// Start starts an instance for a test and closes it at the end of the test. By default its data is in a temporary
// directory. The test fails if the instance does not start.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s, err := StartServer(t.TempDir(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// connect creates the clients.
func (s *Server) connect() (err error) {
	if s.AdminConfig, err = clientcmd.BuildConfigFromFlags("", s.Kubeconfig); err != nil {
		return err
	}
	s.AdminConfig.QPS = -1
	if s.HTTP, err = rest.HTTPClientFor(s.AdminConfig); err != nil {
		return err
	}
	clientset, err := versioned.NewForConfigAndClient(s.AdminConfig, s.HTTP)
	if err != nil {
		return err
	}
	s.Client = clientset.IpamV1alpha1()
	s.Etcd, err = clientv3.New(clientv3.Config{Endpoints: s.EtcdEndpoints, Logger: zap.NewNop()})
	return err
}

// Close stops the instance and its clients. It may be called more than once.
func (s *Server) Close() {
	s.HTTP.CloseIdleConnections()
	_ = s.Etcd.Close()
	s.Instance.Close()
}
