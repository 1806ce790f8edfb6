// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/clock"
)

// run runs controllers of a cluster with the real clock. The returned function stops them and waits for their end.
func (c *cluster) run(controllers int) (stop func()) {
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	var group sync.WaitGroup
	for range controllers {
		group.Go(func() {
			controller := c.controller()
			controller.clock = clock.RealClock{}
			if err := controller.Run(ctx); err != nil {
				c.Errorf("The controller ended: %v", err)
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// eventually waits until the function returns nil.
func (c *cluster) eventually(what string, f func() error) {
	c.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("Not in time: %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestRunLeavesNothing checks that the controller leaves no goroutine.
func TestRunLeavesNothing(t *testing.T) {
	c := newCluster(t)
	before := runtime.NumGoroutine()
	stop := c.run(1)
	c.eventually("a certificate", func() error {
		if c.state().secret == nil {
			return errMissing
		}
		return nil
	})
	stop()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > before {
		var stacks bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		t.Errorf("%d goroutines before, %d after:\n%s", before, now, &stacks)
	}
}

// TestPrivileges makes the controller do everything that it can do, and compares its requests with the permissions
// in docs/operating/certificates.md.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	c := newEtcdCluster(t)
	c.aggregator.ClearActions()
	stop := c.run(1)
	secrets := corev1.SchemeGroupVersion.WithResource("secrets")
	all := append([]string{"ipam-apiserver-tls", "ipam-apiserver-ca"}, etcdSecrets...)
	// keys returns an error unless all Secrets exist. keys and breakKeys do not use the client of the controller.
	keys := func() error {
		for _, name := range all {
			object, err := c.kube.Tracker().Get(secrets, c.config.Namespace, name)
			if err != nil {
				return err
			}
			if len(object.(*corev1.Secret).Data["tls.key"]) == 0 {
				return fmt.Errorf("%s has no key", name)
			}
		}
		return nil
	}
	breakKeys := func() {
		for _, name := range all {
			object, err := c.kube.Tracker().Get(secrets, c.config.Namespace, name)
			if err != nil {
				t.Fatal(err)
			}
			broken := object.(*corev1.Secret).DeepCopy()
			broken.Data["tls.key"] = nil
			if err := c.kube.Tracker().Update(secrets, broken, broken.Namespace); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.eventually("all certificates", keys)
	breakKeys()
	c.eventually("all keys again", keys)
	c.eventually("an authority that is published", func() error {
		if s := c.state(); !bytes.Equal(s.service.Spec.CABundle, s.secret.Data["ca.crt"]) {
			return errMissing
		}
		return nil
	})
	stop()
	got := map[string]bool{}
	for _, action := range append(c.kube.Actions(), c.aggregator.Actions()...) {
		name := ""
		switch a := action.(type) {
		case clienttesting.ListActionImpl:
			name, _ = a.ListRestrictions.Fields.RequiresExactMatch("metadata.name")
		case clienttesting.WatchActionImpl:
			name, _ = a.WatchRestrictions.Fields.RequiresExactMatch("metadata.name")
		case clienttesting.GetActionImpl:
			name = a.Name
		case clienttesting.PatchActionImpl:
			name = a.Name
		case clienttesting.UpdateActionImpl:
			name = a.Object.(metav1.Object).GetName()
		case clienttesting.CreateActionImpl:
			// A permission for a create cannot be restricted to a name.
		}
		got[fmt.Sprintf("%s %s %s/%s", action.GetVerb(), action.GetResource().Resource, action.GetNamespace(), name)] = true
	}
	want := []string{"create secrets ipam-system/", "patch apiservices /" + APIService}
	for _, verb := range []string{"get", "list", "watch"} {
		want = append(want, verb+" apiservices /"+APIService)
	}
	for _, name := range all {
		for _, verb := range []string{"get", "list", "watch", "update"} {
			want = append(want, verb+" secrets ipam-system/"+name)
		}
	}
	if got, want := slices.Sorted(maps.Keys(got)), slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("asked to\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRunWakes changes objects that the controller maintains. The controller reacts at once.
func TestRunWakes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	defer c.run(1)()
	good := func() error {
		s := c.state()
		if s.secret == nil || s.caSecret == nil || !bytes.Equal(s.service.Spec.CABundle, s.secret.Data["ca.crt"]) {
			return errors.New("something is missing")
		}
		return nil
	}
	c.eventually("first issue", good)
	c.changeService(func(s *apiregistrationv1.APIService) { s.Spec.CABundle = nil })
	c.eventually("bundle restored", good)
	c.deleteSecret(c.config.Secret)
	c.eventually("certificate restored", good)
	c.deleteSecret(c.config.CASecret)
	c.eventually("authority restored", good)
}

// TestRotation rotates certificates with a lifetime of seconds. It runs two controllers, a server that loads the
// Secret with a delay, and clients that trust the published bundle, one of them with a delay. No handshake may
// fail.
func TestRotation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	// A certificate is replaced after six seconds. The server then has three seconds to load the new one. A CA is
	// replaced after 18 seconds.
	c.config.Lifetime, c.config.CALifetime = 9*time.Second, 27*time.Second
	const delay = time.Second
	lag := c.config.settleTime() / 3
	defer c.run(2)()
	c.eventually("first issue", func() error {
		if s := c.state(); s.secret == nil || len(s.service.Spec.CABundle) == 0 {
			return errMissing
		}
		return nil
	})

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	var certificate atomic.Pointer[tls.Certificate]
	read := func() (*tls.Certificate, error) {
		data := c.state().secret.Data
		pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
		return &pair, err
	}
	first, err := read()
	if err != nil {
		t.Fatal(err)
	}
	certificate.Store(first)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}

	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		<-ctx.Done()
		_ = listener.Close()
	})
	// The server.
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = conn.Write([]byte("hello"))
				_ = conn.Close()
			})
		}
	})
	// This updates the Secret of the server as the kubelet does.
	group.Go(func() {
		for ctx.Err() == nil {
			pair, err := read()
			if err != nil {
				t.Errorf("What is in the Secret is no pair: %v", err)
				return
			}
			time.Sleep(delay)
			certificate.Store(pair)
		}
	})
	authorities, servings := map[string]bool{}, map[string]bool{}
	var handshakes atomic.Int64
	// The clients. One of them gets the published bundle with a delay.
	for _, lag := range []time.Duration{0, lag} {
		group.Go(func() {
			for ctx.Err() == nil {
				bundle := c.state().service.Spec.CABundle
				time.Sleep(lag + 5*time.Millisecond)
				roots := x509.NewCertPool()
				roots.AppendCertsFromPEM(bundle)
				peer, err := handshake(ctx, listener.Addr(), &tls.Config{RootCAs: roots, ServerName: "ipam-apiserver.ipam-system.svc"})
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Errorf("Handshake with a lag of %s: %v", lag, err)
					cancel()
					return
				}
				handshakes.Add(1)
				if lag == 0 {
					servings[peer.SerialNumber.String()] = true
					authorities[string(peer.AuthorityKeyId)] = true
					if len(authorities) > 2 && len(certs(t, bundle)) == 1 {
						// The CA has been replaced twice.
						cancel()
					}
				}
			}
		})
	}
	<-ctx.Done()
	group.Wait()
	t.Logf("%d handshakes with %d certificates of %d authorities", handshakes.Load(), len(servings), len(authorities))
	if len(authorities) < 3 || len(servings) < 6 {
		t.Errorf("%d certificates of %d authorities have been in use, want more", len(servings), len(authorities))
	}
}

// handshake returns the certificate of a server.
func handshake(ctx context.Context, address net.Addr, config *tls.Config) (*x509.Certificate, error) {
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, address.Network(), address.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}
