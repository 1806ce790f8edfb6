// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/etcd"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/pki"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// namespace is the namespace of the tests, unless they have several. The server has no API for namespaces.
const namespace = "default"

// cluster is an etcd in the test process, with API servers and controller managers as processes.
type cluster struct {
	testing.TB
	dir     string
	pki     *pki.Certificates
	etcd    *clientv3.Client
	store   *apiserver.Store
	proxy   *proxy
	servers []*server
}

// server is an API server that can be restarted.
type server struct {
	cluster    *cluster
	port       int
	kubeconfig string
	config     *rest.Config
	client     versioned.Interface
	*process.Process
}

// newCluster starts an etcd and API servers. If proxied is set, they connect to etcd through a proxy.
func newCluster(t testing.TB, servers int, proxied bool) *cluster {
	t.Helper()
	// Paths below t.TempDir are too long for a socket.
	dir, err := os.MkdirTemp(programs, "cluster")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{TB: t, dir: dir}
	if c.pki, err = pki.Ensure(filepath.Join(dir, "pki"), time.Now()); err != nil {
		t.Fatal(err)
	}
	database, err := etcd.Start(context.Background(), dir, "error")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	if c.etcd, err = clientv3.New(clientv3.Config{Endpoints: database.Endpoints(), Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.etcd.Close() })
	options := apiserver.NewOptions().Recommended.Etcd
	options.StorageConfig.Transport.ServerList = database.Endpoints()
	if c.store, err = apiserver.OpenStore(options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.store.Close)
	endpoint := database.Endpoints()[0]
	if proxied {
		c.proxy = startProxy(t, dir, endpoint)
		endpoint = c.proxy.endpoint
	}

	for range servers {
		s := &server{cluster: c, port: process.ReservePort(t)}
		url := fmt.Sprintf("https://127.0.0.1:%d", s.port)
		s.kubeconfig = c.writeKubeconfig(url)
		if s.config, err = clientcmd.BuildConfigFromFlags("", s.kubeconfig); err != nil {
			t.Fatal(err)
		}
		s.config.QPS = -1
		s.config.Timeout = 30 * time.Second
		if s.client, err = versioned.NewForConfig(s.config); err != nil {
			t.Fatal(err)
		}
		s.start(endpoint)
		c.servers = append(c.servers, s)
	}
	for _, s := range c.servers {
		s.waitReady()
	}
	return c
}

// writeKubeconfig writes a kubeconfig for the administrator of the server at a URL.
func (c *cluster) writeKubeconfig(url string) string {
	c.Helper()
	file, err := os.CreateTemp(c.dir, "kubeconfig-*")
	if err != nil {
		c.Fatal(err)
	}
	defer file.Close()
	if err := pki.WriteKubeconfig(file.Name(), url, c.pki); err != nil {
		c.Fatal(err)
	}
	return file.Name()
}

// start starts the process. It always uses the same port.
func (s *server) start(etcdEndpoint string) {
	s.cluster.Helper()
	s.Process = process.Start(s.cluster, s.cluster.dir, filepath.Join(programs, "ipam-apiserver"),
		"--without-cluster",
		"--client-ca-file", s.cluster.pki.CACertFile,
		"--tls-cert-file", s.cluster.pki.ServingCertFile,
		"--tls-private-key-file", s.cluster.pki.ServingKeyFile,
		"--bind-address", "127.0.0.1",
		"--secure-port", strconv.Itoa(s.port),
		"--etcd-servers", etcdEndpoint)
}

// restart starts the process again after it was killed, and returns when it is ready.
func (s *server) restart() {
	s.cluster.Helper()
	s.start(s.cluster.proxy.endpoint)
	s.waitReady()
}

// waitReady waits until the server is ready.
func (s *server) waitReady() {
	s.cluster.Helper()
	harness.Eventually(s.cluster, "server ready", func() error {
		if s.HasEnded() {
			s.cluster.Fatalf("The server ended:\n%s", s.LastOfLog(2000))
		}
		var code int
		s.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(s.cluster.Context()).StatusCode(&code)
		if code != http.StatusOK {
			return fmt.Errorf("readyz says %d", code)
		}
		return nil
	})
}

func (s *server) prefixes() ipamclient.PrefixInterface {
	return s.client.IpamV1alpha1().Prefixes(namespace)
}

func (s *server) allocations() ipamclient.PrefixAllocationInterface {
	return s.client.IpamV1alpha1().PrefixAllocations(namespace)
}

// startManager starts a controller manager without leader election.
func (s *server) startManager() *process.Process {
	s.cluster.Helper()
	return process.Start(s.cluster, s.cluster.dir, filepath.Join(programs, "ipam-controller-manager"),
		"--kubeconfig", s.kubeconfig, "--leader-elect=false", "--bind-address", "0")
}

// create creates Prefixes.
func (s *server) create(prefixes ...*v1alpha1.Prefix) {
	s.cluster.Helper()
	for _, p := range prefixes {
		if _, err := s.prefixes().Create(s.cluster.Context(), p, metav1.CreateOptions{}); err != nil {
			s.cluster.Fatal(err)
		}
	}
}

// everything contains all objects.
type everything struct {
	prefixes    []v1alpha1.Prefix
	allocations []v1alpha1.PrefixAllocation
}

// list returns all objects. The list of allocations is newer than that of Prefixes.
func (s *server) list() (everything, error) {
	prefixes, err := s.client.IpamV1alpha1().Prefixes(metav1.NamespaceAll).List(s.cluster.Context(), metav1.ListOptions{})
	if err != nil {
		return everything{}, err
	}
	allocations, err := s.client.IpamV1alpha1().PrefixAllocations(metav1.NamespaceAll).List(s.cluster.Context(), metav1.ListOptions{})
	if err != nil {
		return everything{}, err
	}
	return everything{prefixes.Items, allocations.Items}, nil
}

// settled waits until every Prefix is Allocated, except the given ones, and returns all objects.
func (s *server) settled(except ...string) everything {
	s.cluster.Helper()
	var all everything
	harness.Eventually(s.cluster, "everything is Allocated", func() (err error) {
		if all, err = s.list(); err != nil {
			return err
		}
		for _, p := range all.prefixes {
			if slices.Contains(except, p.Name) {
				continue
			}
			if p.DeletionTimestamp != nil || p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				return fmt.Errorf("%s is %s, deleted at %v: %v", p.Name, p.Status.Phase, p.DeletionTimestamp, p.Status.Conditions)
			}
		}
		return nil
	})
	return all
}

// check returns an error if the objects contradict each other.
func (e everything) check() error { return harness.CheckAllocations(e.prefixes, e.allocations) }

func strictlyInside(part, whole netip.Prefix) bool {
	return part.Bits() > whole.Bits() && whole.Contains(part.Addr())
}

// audited fails the test if an audit finds differences between objects and claims.
func (c *cluster) audited() {
	c.Helper()
	differences, err := c.store.Audit(context.Background(), audit.FullSpeed, audit.LeftoverGrace)
	if err != nil {
		c.Fatal(err)
	}
	for i, d := range differences {
		if i == 5 {
			c.Errorf("Audit: and %d more", len(differences)-i)
			break
		}
		c.Errorf("Audit: %s %s/%s: %s", d.Kind, d.Namespace, d.Name, d.Message)
	}
}

// count returns the number of keys in etcd with a prefix.
func (c *cluster) count(prefix string) int {
	c.Helper()
	response, err := c.etcd.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		c.Fatal(err)
	}
	return int(response.Count)
}
