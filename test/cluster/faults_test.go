// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// load creates children at a constant rate, with normal retries, until it is stopped.
type load struct {
	*user
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[string]bool
	created      atomic.Int64
}

// newLoad creates a namespace with a root, and starts the load.
func (i *installation) newLoad(namespace string) *load {
	i.Helper()
	u := i.newUser(namespace, "edit")
	ctx, cancel := context.WithCancel(i.Context())
	l := &load{user: u, cancel: cancel, acknowledged: map[string]bool{}}
	if err := retried(ctx, func() error {
		_, err := u.client.Prefixes(namespace).Create(ctx, root("root", "10.0.0.0/8"), metav1.CreateOptions{})
		return err
	}); err != nil {
		i.Fatal(err)
	}
	for worker := range 4 {
		l.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("child-%d-%d", worker, n)
				err := retried(ctx, func() error {
					_, err := u.client.Prefixes(namespace).Create(ctx, child(name, "root", 28), metav1.CreateOptions{})
					if apierrors.IsAlreadyExists(err) {
						// An attempt with a lost response created it.
						return nil
					}
					return err
				})
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					i.Errorf("a client with ordinary retries failed: %v", err)
					return
				}
				l.mu.Lock()
				l.acknowledged[name] = true
				l.mu.Unlock()
				l.created.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return l
}

// more waits until count more children have been created.
func (l *load) more(count int64) {
	l.Helper()
	until := l.created.Load() + count
	l.Eventually("more children are created", func() error {
		if n := l.created.Load(); n < until && !l.Failed() {
			return fmt.Errorf("%d of %d", n, until)
		}
		return nil
	})
}

// end stops the load. It checks that every acknowledged child exists and is Allocated, and that nothing overlaps.
func (l *load) end() {
	l.Helper()
	l.cancel()
	l.done.Wait()
	var there int
	if err := retried(l.Context(), func() error {
		list, err := l.client.Prefixes(l.namespace).List(l.Context(), metav1.ListOptions{})
		if err == nil {
			there = len(list.Items)
		}
		return err
	}); err != nil {
		l.Fatal(err)
	}
	items := l.waitAllocated(there)
	names := map[string]bool{}
	for _, p := range items {
		names[p.Name] = true
	}
	for name := range l.acknowledged {
		if !names[name] {
			l.Errorf("%s was acknowledged, and is not there", name)
		}
	}
	disjoint(l, items)
	l.Audited()
	l.Logf("%d children were created", len(l.acknowledged))
}

// testRollingRestart gracefully stops and restarts one program after another, as a rollout of a Deployment does.
func testRollingRestart(t *testing.T, i *installation) {
	l := i.newLoad("team-rolling")
	l.more(20)
	for _, s := range slices.Clone(i.Servers) {
		// The new one is ready before the old one is stopped.
		i.StartServer()
		s.Signal(syscall.SIGTERM)
		i.Eventually("the API server has ended", func() error {
			if !s.HasEnded() {
				return fmt.Errorf("it has not")
			}
			return nil
		})
		if !s.Cmd.ProcessState.Success() {
			t.Errorf("the API server ended with %v: %s", s.Cmd.ProcessState, s.LastOfLog(2000))
		}
		i.Servers = slices.DeleteFunc(i.Servers, func(other *product.Server) bool { return other == s })
		l.more(20)
	}
	for _, m := range slices.Clone(i.Managers) {
		i.StartManager()
		start := time.Now()
		m.Signal(syscall.SIGTERM)
		select {
		case <-m.Ended:
			t.Logf("a controller manager ended after %v: %v", time.Since(start).Round(time.Millisecond), m.Cmd.ProcessState)
			if !m.Cmd.ProcessState.Success() {
				t.Errorf("the controller manager ended with %v: %s", m.Cmd.ProcessState, m.LastOfLog(2000))
			}
		case <-time.After(time.Minute):
			t.Error("the controller manager does not end")
		}
		i.Managers = slices.DeleteFunc(i.Managers, func(other *process.Process) bool { return other == m })
		l.more(20)
	}
	l.end()
}

func testKilledServer(t *testing.T, i *installation) {
	l := i.newLoad("team-killed")
	l.more(20)
	i.Servers[0].Kill()
	i.Servers = i.Servers[1:]
	l.more(40)
	i.StartServer()
	l.more(20)
	l.end()
}

// testKilledLeader kills the leading controller manager. Another one takes over when the lease has expired.
func testKilledLeader(t *testing.T, i *installation) {
	l := i.newLoad("team-leader")
	l.more(20)
	lease := func() string {
		lease, err := i.Client.CoordinationV1().Leases(product.Namespace).Get(t.Context(), "ipam-controller-manager", metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity == nil {
			t.Fatalf("lease: %v, %v", lease, err)
		}
		return *lease.Spec.HolderIdentity
	}
	before := lease()
	// Its log shows that it leads.
	leader := slices.IndexFunc(i.Managers, func(m *process.Process) bool {
		return strings.Contains(m.LastOfLog(1_000_000), "uccessfully acquired lease")
	})
	if leader < 0 {
		t.Fatal("no controller manager leads")
	}
	start := time.Now()
	i.Managers[leader].Kill()
	i.Managers = slices.Delete(i.Managers, leader, leader+1)
	i.Eventually("another one leads", func() error {
		if holder := lease(); holder == before || holder == "" {
			return fmt.Errorf("%s does", holder)
		}
		return nil
	})
	t.Logf("another controller manager leads after %v", time.Since(start).Round(time.Millisecond))
	l.more(20)
	l.end()
	i.StartManager()
}

// TestMembers has an etcd with as many members as in the manifests. It kills one after another and restarts it.
func TestMembers(t *testing.T) {
	i := install(t, 3, 1, 1)
	l := i.newLoad("team-etcd")
	l.more(20)
	for n := range i.Etcd {
		i.wantsCertificates(i.Etcd[n])
		i.knowsMembers(i.Etcd[n])
		i.Etcd[n].Kill()
		l.more(20)
		i.Etcd[n] = i.StartMember(n)
		l.more(20)
	}
	l.end()
	i.isProbed()
}

// isProbed kills all members. The API server is not ready then, but alive: a restart would not bring etcd back.
func (i *installation) isProbed() {
	i.Helper()
	d, err := i.Client.AppsV1().Deployments(product.Namespace).Get(i.Context(), "ipam-apiserver", metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	probe := func(p *corev1.Probe) error {
		response, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", i.Servers[0].Port, p.HTTPGet.Path))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s", p.HTTPGet.Path, response.Status, body)
		}
		return nil
	}
	container := d.Spec.Template.Spec.Containers[0]
	for _, p := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		if err := probe(p); err != nil {
			i.Errorf("with etcd: %v", err)
		}
	}
	for _, member := range i.Etcd {
		member.Kill()
	}
	i.Eventually("the server is not ready", func() error {
		if probe(container.ReadinessProbe) == nil {
			return errors.New("it is")
		}
		return nil
	})
	if err := probe(container.LivenessProbe); err != nil {
		i.Errorf("without etcd: %v", err)
	}
}

// wantsCertificates fails the test unless an etcd member requires a client certificate on each port with access to
// data.
func (i *installation) wantsCertificates(member *process.Process) {
	i.Helper()
	own := i.certificate(argument(member, "--cert-file"), argument(member, "--key-file"))
	for _, flag := range []string{"--listen-client-urls", "--listen-client-http-urls", "--listen-peer-urls"} {
		for _, certificates := range [][]tls.Certificate{nil, own} {
			if err := connect(argument(member, flag), certificates); (err == nil) != (certificates != nil) {
				i.Errorf("%s, %d certificates: %v", flag, len(certificates), err)
			}
		}
	}
}

// knowsMembers fails the test unless an etcd member accepts the certificate of its client as that of a client, and
// not as that of another member.
func (i *installation) knowsMembers(member *process.Process) {
	i.Helper()
	client := i.certificate(argument(i.Servers[0].Process, "--etcd-certfile"), argument(i.Servers[0].Process, "--etcd-keyfile"))
	if err := connect(argument(member, "--listen-client-urls"), client); err != nil {
		i.Errorf("a client is refused: %v", err)
	}
	if err := connect(argument(member, "--listen-peer-urls"), client); err == nil {
		i.Error("a client is taken for a member")
	}
}

// certificate reads a certificate and its key.
func (i *installation) certificate(certFile, keyFile string) []tls.Certificate {
	i.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		i.Fatal(err)
	}
	return []tls.Certificate{pair}
}

// connect returns an error if a server rejects a client with those certificates.
func connect(url string, certificates []tls.Certificate) error {
	// With TLS 1.3 a client learns of a rejection only after the handshake.
	conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{
		InsecureSkipVerify: true, Certificates: certificates, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
	})
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// testCertificates replaces the certificate of the API servers, and then also its CA. No request fails.
func testCertificates(t *testing.T, i *installation) {
	l := i.newLoad("team-certificates")
	l.more(20)
	secrets := i.Client.CoreV1().Secrets(product.Namespace)
	// replaced deletes Secrets, and waits until the servers have loaded the new ones.
	replaced := func(names ...string) {
		before := i.presented()
		for _, name := range names {
			if err := secrets.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			// The CA must be trusted before it signs.
			i.Eventually("there is a new "+name, func() error {
				_, err := secrets.Get(t.Context(), name, metav1.GetOptions{})
				return err
			})
			l.more(20)
		}
		i.Refresh("ipam-apiserver-tls")
		i.Eventually("all servers have the new certificate", func() error {
			for server, serial := range i.presented() {
				if serial == before[server] {
					return fmt.Errorf("the server on port %d has not", server)
				}
			}
			return nil
		})
		l.more(40)
	}
	replaced("ipam-apiserver-tls")
	replaced("ipam-apiserver-ca", "ipam-apiserver-tls")
	l.end()
}

// presented returns the serial numbers of the certificates of the API servers, by port.
func (i *installation) presented() map[int]string {
	i.Helper()
	serials := map[int]string{}
	for _, s := range i.Servers {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			i.Fatal(err)
		}
		serials[s.Port] = conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
		_ = conn.Close()
	}
	return serials
}
