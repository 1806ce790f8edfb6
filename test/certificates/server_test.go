// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package certificates tests that certificates can be replaced while the programs run.
package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/etcd"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/spf13/pflag"
	"k8s.io/client-go/transport"
)

func TestMain(m *testing.M) {
	harness.Main(m, func(string) (func(), error) {
		// The default interval of clients is five minutes.
		transport.CertCallbackRefreshDuration = 100 * time.Millisecond
		return func() {}, nil
	})
}

// startEtcd starts an etcd on a unix socket, without TLS.
func startEtcd(t testing.TB) (endpoint string) {
	t.Helper()
	// Paths below t.TempDir are too long for a socket.
	dir, err := os.MkdirTemp("", "certificates")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	database, err := etcd.Start(context.Background(), dir, "error")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	return database.Endpoints()[0]
}

// server is an API server without a cluster, in this process.
type server struct {
	url  string
	stop func()
}

// startServer starts a server with flags of ipam-apiserver on a port of 127.0.0.1. It runs until it is stopped or
// the test ends.
func startServer(t testing.TB, flags ...string) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	options := apiserver.NewOptions()
	fs := pflag.NewFlagSet("ipam-apiserver", pflag.ContinueOnError)
	options.AddFlags(fs)
	if err := fs.Parse(append(flags, "--without-cluster")); err != nil {
		t.Fatal(err)
	}
	serving := options.Recommended.SecureServing
	serving.Listener, serving.BindPort = listener, listener.Addr().(*net.TCPAddr).Port
	if err := options.Complete(); err != nil {
		t.Fatal(err)
	}
	if err := options.Validate(); err != nil {
		t.Fatal(err)
	}
	config, err := options.Config()
	if err != nil {
		t.Fatal(err)
	}
	program, err := config.Complete().New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := program.Run(ctx); err != nil {
			t.Errorf("The server ended: %v", err)
		}
	})
	s := &server{url: "https://" + listener.Addr().String(), stop: func() {
		cancel()
		running.Wait()
	}}
	t.Cleanup(s.stop)
	return s
}

// get lists all prefixes on a new connection, and returns the certificate of the server.
func (s *server) get(client *pki.Pair, trusts *x509.CertPool) (*x509.Certificate, error) {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{tlsPair(client)}, RootCAs: trusts,
	}}
	return s.getBy(&http.Client{Transport: transport, Timeout: 30 * time.Second})
}

func (s *server) getBy(client *http.Client) (*x509.Certificate, error) {
	response, err := client.Get(s.url + "/apis/ipam.ironcore.dev/v1alpha1/prefixes")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return response.TLS.PeerCertificates[0], err
}

// keepAsking repeatedly lists all prefixes, each time on a new connection. The returned function stops this after
// some more requests, and fails the test if any request failed.
func (s *server) keepAsking(t testing.TB, client *pki.Pair, trusts *x509.CertPool) (stop func()) {
	stopped := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		count := 0
		for more := 10; more > 0; count++ {
			if _, err := s.get(client, trusts); err != nil {
				t.Errorf("After %d requests one failed: %v", count, err)
				return
			}
			select {
			case <-stopped:
				more--
			default:
			}
		}
		t.Logf("%d requests", count)
	})
	return func() {
		close(stopped)
		asking.Wait()
	}
}
