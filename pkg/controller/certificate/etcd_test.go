// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var etcdSecrets = []string{"ipam-etcd-ca", "ipam-etcd-tls", "ipam-etcd-client-tls"}

// newEtcdCluster returns a cluster with an etcd whose certificates the controller maintains.
func newEtcdCluster(t testing.TB) *cluster {
	c := newCluster(t)
	c.config.EtcdService = "ipam-etcd"
	return c
}

// etcdState is the data of the Secrets of etcd, by name.
type etcdState map[string]map[string][]byte

func (c *cluster) etcdState() etcdState {
	c.Helper()
	s := etcdState{}
	for _, name := range etcdSecrets {
		secret, err := c.kube.CoreV1().Secrets(c.config.Namespace).Get(c.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			c.Fatal(err)
		}
		s[name] = secret.DeepCopy().Data
	}
	return s
}

// changed describes the differences between two states.
func (s etcdState) changed(after etcdState) string {
	var parts []string
	for _, part := range []struct{ name, secret, key string }{
		{"ca", "ipam-etcd-ca", "tls.crt"}, {"old", "ipam-etcd-ca", "old.crt"},
		{"member", "ipam-etcd-tls", "tls.crt"}, {"client", "ipam-etcd-client-tls", "tls.crt"},
		{"bundle", "ipam-etcd-tls", "ca.crt"}, {"bundle of the client", "ipam-etcd-client-tls", "ca.crt"},
	} {
		if !bytes.Equal(s[part.secret][part.key], after[part.secret][part.key]) {
			parts = append(parts, part.name)
		}
	}
	return strings.Join(parts, ", ")
}

// trusts returns an error if a process that trusts the bundle of s does not trust the presented certificates.
func (s etcdState) trusts(t testing.TB, presented etcdState, now time.Time) error {
	t.Helper()
	var errs []error
	for _, by := range etcdSecrets[1:] {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(s[by]["ca.crt"])
		verify := func(secret, name string, usage x509.ExtKeyUsage) {
			_, err := certs(t, presented[secret]["tls.crt"])[0].Verify(x509.VerifyOptions{
				Roots: roots, CurrentTime: now, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage},
			})
			if err != nil {
				errs = append(errs, fmt.Errorf("%s of %s: %w", name, secret, err))
			}
		}
		for _, name := range []string{"ipam-etcd-0.ipam-etcd.ipam-system.svc", "ipam-etcd-2.ipam-etcd.ipam-system.svc", "localhost", "127.0.0.1"} {
			verify("ipam-etcd-tls", name, x509.ExtKeyUsageServerAuth)
		}
		verify("ipam-etcd-tls", "", x509.ExtKeyUsageClientAuth)
		verify("ipam-etcd-client-tls", "", x509.ExtKeyUsageClientAuth)
	}
	return errors.Join(errs...)
}

// TestEtcdStates changes a correct state and checks the immediate reaction of the controller.
func TestEtcdStates(t *testing.T) {
	remove := func(names ...string) func(*cluster) {
		return func(c *cluster) {
			for _, name := range names {
				c.deleteSecret(name)
			}
		}
	}
	set := func(secret, key, value string) func(*cluster) {
		return func(c *cluster) {
			c.changeSecret(secret, func(s *corev1.Secret) { s.Data[key] = []byte(value) })
		}
	}
	swap := func(c *cluster) {
		client := c.etcdState()["ipam-etcd-client-tls"]
		c.changeSecret("ipam-etcd-tls", func(s *corev1.Secret) { s.Data = client })
	}
	const all = "ca, member, client, bundle, bundle of the client"
	for _, tt := range []struct {
		name   string
		change func(*cluster)
		after  time.Duration
		want   string
	}{
		{"nothing", func(*cluster) {}, 0, ""},
		{"certificates due", func(*cluster) {}, 60 * day, "member, client"},
		{"everything expired", func(*cluster) {}, 3651 * day, all},
		{"member missing", remove("ipam-etcd-tls"), 0, "member, bundle"},
		{"client missing", remove("ipam-etcd-client-tls"), 0, "client, bundle of the client"},
		{"authority missing", remove("ipam-etcd-ca"), 0, "ca, old, bundle, bundle of the client"},
		{"authority missing, certificates due", remove("ipam-etcd-ca"), 60 * day, "ca, old, bundle, bundle of the client"},
		{"all missing", remove(etcdSecrets...), 0, all},
		{"bundle is garbage", set("ipam-etcd-tls", "ca.crt", "garbage"), 0, "bundle"},
		{"key is garbage", set("ipam-etcd-client-tls", "tls.key", "garbage"), 0, "client"},
		{"that of a client for a member", swap, 0, "member"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newEtcdCluster(t)
			c.sync(c.controller())
			tt.change(c)
			before, serving := c.etcdState(), c.state()
			c.clock.Step(tt.after)
			controller := c.controller()
			c.sync(controller)
			after := c.etcdState()
			if got := before.changed(after); got != tt.want {
				t.Errorf("changed %q, want %q", got, tt.want)
			}
			if err := after.trusts(t, after, c.clock.Now()); err != nil {
				t.Error(err)
			}
			if tt.after == 0 && differences(serving, c.state()) != "" {
				t.Error("what is not of etcd has changed too")
			}
			c.sync(controller)
			if again := after.changed(c.etcdState()); again != "" {
				t.Errorf("the look after that changed %q", again)
			}
		})
	}
}

// TestEtcdOverlap replaces a CA whose bundle processes read only when they start. A process that has read the
// bundle in the last 60 days must trust all current certificates.
func TestEtcdOverlap(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%t", restart), func(t *testing.T) {
			c := newEtcdCluster(t)
			c.config.CALifetime = 300 * day
			began := c.clock.Now()
			controller := c.controller()
			c.sync(controller)
			type seen struct {
				at time.Time
				s  etcdState
			}
			states := []seen{{began, c.etcdState()}}
			var got []string
			for c.clock.Since(began) < 400*day {
				next := c.sync(controller)
				now, s := c.clock.Now(), c.etcdState()
				if what := states[len(states)-1].s.changed(s); what != "" {
					got = append(got, fmt.Sprintf("%s %s", now.Sub(began), what))
					states = append(states, seen{now, s})
				}
				for i, old := range states {
					// This bundle was the current one until the next state.
					if i+1 == len(states) || now.Sub(states[i+1].at) < 60*day-time.Second {
						if err := old.s.trusts(t, s, now); err != nil {
							t.Errorf("after %s, who started after %s: %v", now.Sub(began), old.at.Sub(began), err)
						}
					}
				}
				wait := min(day, next.Sub(now))
				if restart && wait > time.Hour {
					controller = c.controller()
				}
				c.clock.Step(wait)
			}
			minutes := "0m0s"
			if restart {
				// A new controller waits again before the new CA signs certificates.
				minutes = "10m0s"
			}
			want := []string{
				"1440h0m0s member, client",
				"2880h0m0s member, client",
				"4320h0m0s member, client",
				"4800h0m0s member, client", // two thirds of 300 days
				"4800h0m1s ca, old, bundle, bundle of the client",
				"6240h" + minutes + " member, client", // when they are due
				"6960h" + minutes + " old, bundle, bundle of the client",
				"7680h" + minutes + " member, client",
				"9120h" + minutes + " member, client",
			}
			if !slices.Equal(got, want) {
				t.Errorf("did\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestEtcdOfOthers shows that the Secrets of etcd are not touched unless that is configured.
func TestEtcdOfOthers(t *testing.T) {
	c := newCluster(t)
	if _, err := c.kube.CoreV1().Secrets(c.config.Namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.config.Namespace, Name: "ipam-etcd-client-tls"},
		Data:       map[string][]byte{"tls.crt": []byte("of somebody else")},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.sync(c.controller())
	if s := c.etcdState(); len(s) != 1 || string(s["ipam-etcd-client-tls"]["tls.crt"]) != "of somebody else" {
		t.Errorf("there is now %v", s)
	}
}

// TestOneChainFails refuses the objects of the API server. That does not block those of etcd, and vice versa.
func TestOneChainFails(t *testing.T) {
	failure := errors.New("refused")
	for _, name := range []string{"ipam-apiserver-ca", "ipam-etcd-ca"} {
		c := newEtcdCluster(t)
		c.refuse = func(_, written string) error {
			if written == name {
				return failure
			}
			return nil
		}
		if _, err := c.controller().sync(t.Context()); !errors.Is(err, failure) || isConflict(err) {
			t.Errorf("got %v", err)
		}
		serving, etcd := c.state().secret != nil, len(c.etcdState()) == len(etcdSecrets)
		if serving == etcd {
			t.Errorf("%s was refused: serving: %t, etcd: %t", name, serving, etcd)
		}
	}
}
