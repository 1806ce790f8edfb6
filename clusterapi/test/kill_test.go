// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
)

// crasher is a proxy between the provider and kube-apiserver. It kills the provider at one of its writes.
type crasher struct {
	proxy *httputil.ReverseProxy

	mu sync.Mutex
	// writes is the number of writes since the last call of arm. The provider is killed at the write number at: before it
	// reaches the server, or, if after is set, before the provider gets the answer.
	writes, at int
	after      bool
	victim     *process.Process
	killed     chan struct{}
}

// newCrasher starts a proxy, and returns the kubeconfig that leads there.
func newCrasher(t testing.TB, m *management) (c *crasher, kubeconfig string) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(m.account())
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(m.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(m.Admin))
	if err != nil {
		t.Fatal(err)
	}
	c = &crasher{proxy: httputil.NewSingleHostReverseProxy(target)}
	c.proxy.Transport, c.proxy.FlushInterval = transport, -1
	c.proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	// With TLS, because clients send no tokens without it.
	server := httptest.NewUnstartedServer(c)
	// Connections of a provider that was killed.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for _, cluster := range config.Clusters {
		cluster.Server, cluster.CertificateAuthorityData = server.URL, ca
	}
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	return c, kubeconfig
}

// arm makes the proxy kill a process at a write. The channel is closed when it has done that.
func (c *crasher) arm(victim *process.Process, at int, after bool) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes, c.at, c.after, c.victim, c.killed = 0, at, after, victim, make(chan struct{})
	return c.killed
}

// disarm makes the proxy kill nothing from now on. It reports whether the proxy has killed a process since the last call of
// arm, or is about to: then the channel of arm will be closed.
func (c *crasher) disarm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fatal := c.at > 0 && c.writes >= c.at
	c.at = 0
	return fatal
}

// count returns the number of writes since the last call of arm.
func (c *crasher) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// ServeHTTP implements http.Handler.
func (c *crasher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		c.proxy.ServeHTTP(w, r)
		return
	}
	c.mu.Lock()
	c.writes++
	fatal, after, victim, killed := c.writes == c.at, c.after, c.victim, c.killed
	c.mu.Unlock()
	if !fatal {
		c.proxy.ServeHTTP(w, r)
		return
	}
	// The proxy panics with http.ErrAbortHandler if it cannot copy an answer to its end.
	defer func() {
		victim.Kill()
		close(killed)
	}()
	if after {
		c.proxy.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// TestCrasherAborted has the server break off the answer to the fatal write. The victim is killed nevertheless.
func TestCrasherAborted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "1")
	}))
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &crasher{proxy: httputil.NewSingleHostReverseProxy(target)}
	c.proxy.ErrorLog = log.New(io.Discard, "", 0)
	front := httptest.NewUnstartedServer(c)
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	t.Cleanup(front.Close)
	victim := process.Start(t, t.TempDir(), "sleep", "600")
	killed := c.arm(victim, 1, true)
	if response, err := http.Post(front.URL, "", nil); err == nil {
		_ = response.Body.Close()
	}
	if !c.disarm() {
		t.Fatal("the write did not come")
	}
	harness.Eventually(t, "the victim is killed", func() error {
		select {
		case <-killed:
			return nil
		default:
			return fmt.Errorf("the channel is open, and the victim has ended: %v", victim.HasEnded())
		}
	})
	if !victim.HasEnded() {
		t.Error("the victim runs")
	}
}

// TestKill kills the provider with SIGKILL at every write of the life of a pool and a claim. In each round there is a new
// pool with a claim, and those of the round before are deleted.
func TestKill(t *testing.T) {
	m := install(t)
	n := m.in(t)
	proxy, kubeconfig := newCrasher(t, m)
	n.root("nodes", "10.0.0.0/28")
	start := func() *process.Process { return m.startWith(t, kubeconfig) }

	var provider *process.Process
	round, kills := 0, 0
	name := func(kind string, round int) string { return fmt.Sprint(kind, "-", round) }
	change := func() {
		round++
		p := pool(name("pool", round), "nodes", gateway("10.0.0.1"))
		n.create(p, claim(name("claim", round), p.Name))
		if round > 1 {
			old := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: name("pool", round-1)}}
			n.delete(claimIn(n, name("claim", round-1)), old)
		}
	}
	settled := func() {
		t.Helper()
		n.needs = provider
		defer func() { n.needs = nil }()
		n.served(name("claim", round))
		if round > 1 {
			n.gone(claimIn(n, name("claim", round-1)))
			n.gone(&capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Name: name("pool", round-1)}})
		}
		n.consistent()
		// The root, what the pool holds, and the claim's.
		n.eventually("no Prefix is left over", func() error {
			prefixes := n.prefixes().List()
			return harness.Unless(len(prefixes) == 1+3+1, "there are %d", len(prefixes))
		})
	}

	// Two rounds without a kill show how many writes there are.
	provider = start()
	change()
	settled()
	proxy.arm(provider, 0, false)
	change()
	settled()
	writes := proxy.count()
	t.Logf("%d writes", writes)
	rounds := writes
	if long {
		rounds = 200
	}
	for i := range rounds {
		at, after := i%writes+1, (i/writes+i)%2 == 0
		killed := proxy.arm(provider, at, after)
		change()
		// Writes depend on the order of events, so that there may be one less.
		_, _ = harness.Wait(func() error {
			select {
			case <-killed:
				return nil
			default:
			}
			c := &ipamv1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Name: name("claim", round)}}
			if err := n.get(c); err != nil || c.Status.AddressRef.Name == "" {
				return fmt.Errorf("it is not served")
			}
			old := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Name: name("pool", round-1)}}
			return harness.Unless(n.get(old) != nil, "the old pool is there")
		})
		if proxy.disarm() {
			<-killed
			kills++
			provider = start()
		}
		settled()
	}
	t.Logf("killed %d times in %d rounds", kills, rounds)
	if kills < rounds*3/4 {
		t.Errorf("killed only %d times", kills)
	}
	proxy.arm(provider, 0, false)
	n.delete(claimIn(n, name("claim", round)))
	n.delete(&capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: name("pool", round)}})
	n.gone(claimIn(n, name("claim", round)))
	n.prefixes().Delete("nodes")
	n.prefixes().Empty()
	m.Audited()
}
