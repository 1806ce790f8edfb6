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

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/component-base/metrics/testutil"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const day = 24 * time.Hour

// sync runs one check of a controller and returns the time of the next one.
func (c *cluster) sync(controller *Controller) time.Time {
	c.Helper()
	next, err := controller.sync(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	if !next.After(c.clock.Now()) {
		c.Fatalf("it is %s and the controller wants to look again at %s", c.clock.Now(), next)
	}
	return next
}

// differences describes the differences between two states: the CA, the old CAs, the published bundle, the serving
// certificate, and the bundle in its Secret.
func differences(before, after state) string {
	data := func(s *corev1.Secret, key string) []byte {
		if s == nil {
			return nil
		}
		return s.Data[key]
	}
	published := func(s *apiregistrationv1.APIService) []byte {
		if s == nil {
			return nil
		}
		return s.Spec.CABundle
	}
	var changed []string
	for _, part := range []struct {
		name          string
		before, after []byte
	}{
		{"ca", data(before.caSecret, "tls.crt"), data(after.caSecret, "tls.crt")},
		{"old", data(before.caSecret, "old.crt"), data(after.caSecret, "old.crt")},
		{"published", published(before.service), published(after.service)},
		{"serving", data(before.secret, "tls.crt"), data(after.secret, "tls.crt")},
		{"bundle", data(before.secret, "ca.crt"), data(after.secret, "ca.crt")},
	} {
		if !bytes.Equal(part.before, part.after) {
			changed = append(changed, part.name)
		}
	}
	return strings.Join(changed, " ")
}

// certs parses certificates. There may be none.
func certs(t testing.TB, pem []byte) []*x509.Certificate {
	t.Helper()
	if len(pem) == 0 {
		return nil
	}
	certs, err := certutil.ParseCertsPEM(pem)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// trusted returns an error if a client that trusts the bundle does not trust the serving certificate.
func trusted(t testing.TB, serving, bundle []byte, now time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err := certs(t, serving)[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: "ipam-apiserver.ipam-system.svc"})
	return err
}

// checkGood fails the test if the state after a check is not correct.
func (c *cluster) checkGood(s state) {
	c.Helper()
	if s.secret == nil || s.caSecret == nil {
		c.Fatal("a Secret is missing")
	}
	bundle := s.secret.Data["ca.crt"]
	if s.service != nil && s.service.Spec.Service != nil && !s.service.Spec.InsecureSkipTLSVerify && !bytes.Equal(s.service.Spec.CABundle, bundle) {
		c.Error("what is published is not what is beside the certificate")
	}
	if err := trusted(c, s.secret.Data["tls.crt"], bundle, c.clock.Now()); err != nil {
		c.Errorf("the certificate is not trusted: %v", err)
	}
	for _, secret := range []*corev1.Secret{s.secret, s.caSecret} {
		if _, err := parsePair(secret); err != nil {
			c.Errorf("%s: %v", secret.Name, err)
		}
	}
	if !bytes.HasPrefix(bundle, s.caSecret.Data["tls.crt"]) {
		c.Error("the bundle does not begin with the authority")
	}
}

// TestStates changes a correct state and checks the immediate reaction of the controller.
func TestStates(t *testing.T) {
	config := NewConfig()
	const all = "ca published serving bundle"
	nothing := func(*cluster) {}
	set := func(secret, key, value string) func(*cluster) {
		return func(c *cluster) {
			c.changeSecret(secret, func(s *corev1.Secret) { s.Data[key] = []byte(value) })
		}
	}
	// put replaces the certificate and the key in a Secret.
	put := func(secret string, pair *pki.Pair, err error) func(*cluster) {
		return func(c *cluster) {
			if err != nil {
				c.Fatal(err)
			}
			c.changeSecret(secret, func(s *corev1.Secret) { s.Data["tls.crt"], s.Data["tls.key"] = pair.CertPEM, pair.KeyPEM })
		}
	}
	now := newCluster(t).clock.Now()
	stranger, err := pki.NewCA("stranger", now, config.CALifetime)
	if err != nil {
		t.Fatal(err)
	}
	// issue replaces the serving certificate by another one that the same CA has signed.
	issue := func(change func(*x509.Certificate)) func(*cluster) {
		return func(c *cluster) {
			ca, err := parsePair(c.state().caSecret)
			if err != nil {
				c.Fatal(err)
			}
			template := &x509.Certificate{NotAfter: now.Add(90 * day), DNSNames: config.dnsNames(), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
			change(template)
			pair, err := ca.Issue(template, now)
			put(config.Secret, pair, err)(c)
		}
	}
	foreignServing, err := stranger.Issue(&x509.Certificate{NotAfter: now.Add(90 * day), DNSNames: config.dnsNames()}, now)
	if err != nil {
		t.Fatal(err)
	}
	notCA, err := stranger.Issue(&x509.Certificate{NotAfter: now.Add(900 * day)}, now)
	if err != nil {
		t.Fatal(err)
	}
	key := func(pair *pki.Pair) string { return string(pair.KeyPEM) }
	both := func(changes ...func(*cluster)) func(*cluster) {
		return func(c *cluster) {
			for _, change := range changes {
				change(c)
			}
		}
	}
	deleteServing := func(c *cluster) { c.deleteSecret(config.Secret) }
	deleteCA := func(c *cluster) { c.deleteSecret(config.CASecret) }
	service := func(change func(*apiregistrationv1.APIServiceSpec)) func(*cluster) {
		return func(c *cluster) {
			c.changeService(func(s *apiregistrationv1.APIService) { change(&s.Spec) })
		}
	}

	for _, tt := range []struct {
		name   string
		change func(*cluster)
		after  time.Duration
		want   string
	}{
		{"nothing", nothing, 0, ""},
		{"a clock that is behind", nothing, -30 * time.Minute, ""},
		{"shortly before the serving certificate is due", nothing, 60*day - time.Second, ""},
		{"serving certificate due", nothing, 60 * day, "serving"},
		{"serving certificate expired", nothing, 91 * day, "serving"},
		{"authority due, long after", nothing, 2434 * day, "ca old published serving bundle"},
		{"authority expired", nothing, 3651 * day, all},
		{"clock before the first issue", nothing, -2 * day, all},

		{"serving Secret missing", deleteServing, 0, "serving bundle"},
		{"certificate missing", func(c *cluster) {
			c.changeSecret(config.Secret, func(s *corev1.Secret) { delete(s.Data, "tls.crt") })
		}, 0, "serving"},
		{"no data", func(c *cluster) { c.changeSecret(config.Secret, func(s *corev1.Secret) { s.Data = nil }) }, 0, "serving bundle"},
		{"certificate empty", set(config.Secret, "tls.crt", ""), 0, "serving"},
		{"certificate is garbage", set(config.Secret, "tls.crt", "garbage"), 0, "serving"},
		{"key is garbage", set(config.Secret, "tls.key", "garbage"), 0, "serving"},
		{"key of another", set(config.Secret, "tls.key", key(stranger)), 0, "serving"},
		{"bundle is garbage", set(config.Secret, "ca.crt", "garbage"), 0, "bundle"},
		{"of a strange authority", put(config.Secret, foreignServing, nil), 0, "serving"},
		{"a name is missing", issue(func(c *x509.Certificate) { c.DNSNames = c.DNSNames[1:] }), 0, "serving"},
		{"a name too much", issue(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "example.org") }), 0, "serving"},
		{"names in another order", issue(func(c *x509.Certificate) { slices.Sort(c.DNSNames) }), 0, ""},
		{"for clients", issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), 0, "serving"},

		{"authority missing", deleteCA, 0, "ca old published bundle"},
		{"authority is garbage", set(config.CASecret, "tls.crt", "garbage"), 0, "ca old published bundle"},
		{"key of the authority lost", set(config.CASecret, "tls.key", ""), 0, "ca old published bundle"},
		{"key of another authority", set(config.CASecret, "tls.key", key(stranger)), 0, "ca old published bundle"},
		{"authority that is none", put(config.CASecret, notCA, nil), 0, "ca old published bundle"},
		{"old authorities are garbage", set(config.CASecret, "old.crt", "garbage"), 0, "old"},
		{"another authority instead", put(config.CASecret, stranger, nil), 0, "old published bundle"},
		{"both missing", both(deleteCA, deleteServing), 0, all},
		{"authority missing, serving certificate due", deleteCA, 60 * day, "ca old published bundle"},
		{"authority missing, and not published", both(deleteCA, service(func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = nil })), 0, all},

		{"APIService without bundle", service(func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = nil }), 0, "published"},
		{"APIService with garbage", service(func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = []byte("x") }), 0, "published"},
		{"APIService with one more authority", service(func(s *apiregistrationv1.APIServiceSpec) {
			s.CABundle = append(slices.Clone(s.CABundle), stranger.CertPEM...)
		}), 0, "published"},
		{"APIService missing", (*cluster).deleteService, 0, ""},
		{"APIService missing, and the authority", both((*cluster).deleteService, deleteCA), 0, "ca serving bundle"},
		{"APIService that does not verify", service(func(s *apiregistrationv1.APIServiceSpec) { s.CABundle, s.InsecureSkipTLSVerify = nil, true }), 0, ""},
		{"APIService of the kube-apiserver itself", service(func(s *apiregistrationv1.APIServiceSpec) { s.CABundle, s.Service = nil, nil }), 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			c.sync(c.controller())
			tt.change(c)
			before := c.state()
			c.clock.SetTime(c.clock.Now().Add(tt.after))
			// The next check is by a controller without any state.
			controller := c.controller()
			c.sync(controller)
			after := c.state()

			if got := differences(before, after); got != tt.want {
				t.Errorf("changed %q, want %q", got, tt.want)
			}
			c.checkGood(after)
			// No other part of the APIService is changed.
			if before.service != nil {
				before, now := before.service.Spec.DeepCopy(), after.service.Spec.DeepCopy()
				before.CABundle, now.CABundle = nil, nil
				if fmt.Sprint(before) != fmt.Sprint(now) {
					t.Errorf("the APIService was %v and is %v", before, now)
				}
			}
			c.sync(controller)
			if again := differences(after, c.state()); again != "" {
				t.Errorf("the look after that changed %q", again)
			}
		})
	}
}

// TestOverlap replaces a CA. Checks happen only when the controller wants them, each by the same controller or by a
// new one.
func TestOverlap(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%t", restart), func(t *testing.T) {
			c := newCluster(t)
			c.config.CALifetime = 270 * day
			began := c.clock.Now()
			controller := c.controller()
			c.sync(controller)
			c.clock.Step(30 * day)
			// Make the CA due in the middle of the lifetime of the certificate.
			c.deleteSecret(c.config.Secret)

			var got []string
			for c.clock.Since(began) < 400*day {
				before := c.state()
				next := c.sync(controller)
				after := c.state()
				c.checkGood(after)
				if before.secret != nil {
					// A client with the bundle from before the check must trust the certificate from after it.
					if err := trusted(t, after.secret.Data["tls.crt"], before.service.Spec.CABundle, c.clock.Now()); err != nil {
						t.Errorf("after %s: %v", c.clock.Since(began), err)
					}
				}
				if what := differences(before, after); what != "" {
					got = append(got, fmt.Sprintf("%s %s", c.clock.Since(began), what))
				}
				wait := next.Sub(c.clock.Now())
				if restart && wait > time.Hour {
					controller = c.controller()
				}
				c.clock.Step(wait)
			}
			want := []string{
				"720h0m0s serving bundle",
				"2160h0m0s serving", // 60 days later, and so on
				"3600h0m0s serving",
				"4320h0m0s ca old published bundle", // two thirds of 270 days
				"4320h10m0s serving",
				"5040h10m0s old published bundle", // a third of 90 days later the old one is of no use
				"5760h10m0s serving",
				"7200h10m0s serving",
				"8640h0m0s ca old published bundle",
				"8640h10m0s serving",
				"9360h10m0s old published bundle",
			}
			if !slices.Equal(got, want) {
				t.Errorf("did\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestSettle removes the new CA from the bundle before it signs. It must then be published for the full settle time
// again.
func TestSettle(t *testing.T) {
	c := newCluster(t)
	controller := c.controller()
	c.sync(controller)
	c.deleteSecret(c.config.CASecret)
	c.sync(controller)
	c.clock.Step(9 * time.Minute)
	c.changeService(func(s *apiregistrationv1.APIService) {
		s.Spec.CABundle = pemOf(t, certs(t, s.Spec.CABundle)[1])
	})
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{0, "published"}, {2 * time.Minute, ""}, {7 * time.Minute, ""}, {2 * time.Minute, "serving"}} {
		c.clock.Step(step.wait)
		before := c.state()
		c.sync(controller)
		if got := differences(before, c.state()); got != step.want {
			t.Errorf("after %s more changed %q, want %q", step.wait, got, step.want)
		}
	}
}

func pemOf(t *testing.T, cert *x509.Certificate) []byte {
	t.Helper()
	pem, err := certutil.EncodeCertificates(cert)
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

// TestStops makes each write fail in turn, during the first issue and during changes. Clients with the published
// bundle must still trust the server, and the next check completes the change.
func TestStops(t *testing.T) {
	failure := errors.New("the server is gone")
	for _, start := range []struct {
		name   string
		change func(*cluster)
	}{
		{"first issue", func(c *cluster) { c.deleteSecret(c.config.Secret); c.deleteSecret(c.config.CASecret) }},
		{"authority lost", func(c *cluster) { c.deleteSecret(c.config.CASecret) }},
		{"certificate lost", func(c *cluster) { c.deleteSecret(c.config.Secret) }},
		{"certificate due", func(c *cluster) { c.clock.Step(60 * day) }},
	} {
		for fail := range 4 {
			t.Run(fmt.Sprintf("%s/%d", start.name, fail), func(t *testing.T) {
				c := newCluster(t)
				c.sync(c.controller())
				start.change(c)
				before, written := c.state(), 0
				c.refuse = func(string, string) error {
					if written++; written > fail {
						return failure
					}
					return nil
				}
				_, err := c.controller().sync(t.Context())
				if (err != nil) != (written > fail) || err != nil && !errors.Is(err, failure) {
					t.Errorf("%d writes, and the error is %v", written, err)
				}
				c.refuse = nil
				if after := c.state(); after.secret != nil && len(after.service.Spec.CABundle) > 0 {
					if err := trusted(t, after.secret.Data["tls.crt"], after.service.Spec.CABundle, c.clock.Now()); err != nil {
						t.Error(err)
					}
					if before.secret != nil {
						if err := trusted(t, before.secret.Data["tls.crt"], after.service.Spec.CABundle, c.clock.Now()); err != nil {
							t.Errorf("what the server still presents: %v", err)
						}
					}
				}
				c.sync(c.controller())
				c.checkGood(c.state())
			})
		}
	}
}

// TestTwoWriters changes an object just before the controller writes it. The controller must not overwrite the
// change.
func TestTwoWriters(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*cluster)
		touch  func(*cluster)
	}{
		{"authority", func(c *cluster) {
			c.changeSecret(c.config.CASecret, func(s *corev1.Secret) { s.Data["tls.key"] = nil })
		}, func(c *cluster) {
			c.changeSecret(c.config.CASecret, func(s *corev1.Secret) { s.Labels = map[string]string{"touched": "yes"} })
		}},
		{"new authority", func(c *cluster) { c.deleteSecret(c.config.CASecret) }, func(c *cluster) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.config.Namespace, Name: c.config.CASecret}}
			if _, err := c.kube.CoreV1().Secrets(c.config.Namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}},
		{"APIService", func(c *cluster) { c.changeService(func(s *apiregistrationv1.APIService) { s.Spec.CABundle = nil }) }, func(c *cluster) {
			c.changeService(func(s *apiregistrationv1.APIService) { s.Labels = map[string]string{"touched": "yes"} })
		}},
		{"certificate", func(c *cluster) { c.clock.Step(60 * day) }, func(c *cluster) {
			c.changeSecret(c.config.Secret, func(s *corev1.Secret) { s.Labels = map[string]string{"touched": "yes"} })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			c.sync(c.controller())
			tt.change(c)
			// The controller reads the clock between its reads and its writes.
			controller := c.controller()
			var before state
			controller.clock = askedClock{controller.clock, func() { tt.touch(c); before = c.state() }}
			_, err := controller.sync(t.Context())
			if err == nil || !isConflict(err) {
				t.Errorf("got %v, want a conflict", err)
			}
			if got := differences(before, c.state()); got != "" {
				t.Errorf("changed %q all the same", got)
			}
			c.sync(c.controller())
			c.checkGood(c.state())
		})
	}
}

// TestKeepsTheRest shows that labels and other data of a Secret remain.
func TestKeepsTheRest(t *testing.T) {
	c := newCluster(t)
	controller := c.controller()
	c.sync(controller)
	for _, name := range []string{c.config.Secret, c.config.CASecret} {
		c.changeSecret(name, func(s *corev1.Secret) {
			s.Labels = map[string]string{"a": "b"}
			s.Data["other"], s.Data["tls.crt"] = []byte("data"), nil
		})
	}
	c.sync(controller)
	s := c.state()
	for _, secret := range []*corev1.Secret{s.secret, s.caSecret} {
		if secret.Labels["a"] != "b" || string(secret.Data["other"]) != "data" || secret.Type != corev1.SecretTypeTLS {
			t.Errorf("%s is now %v of type %s with %q", secret.Name, secret.Labels, secret.Type, secret.Data["other"])
		}
	}
}

func TestMetric(t *testing.T) {
	c := newCluster(t)
	c.sync(c.controller())
	now := c.clock.Now()
	for name, want := range map[string]time.Time{"serving": now.Add(90 * day), "ca": now.Add(3650 * day)} {
		got, err := testutil.GetGaugeMetricValue(expiration.WithLabelValues(name))
		if err != nil || int64(got) != want.Unix() {
			t.Errorf("%s: got %v (%v), want %d", name, got, err, want.Unix())
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"defaults", func(*Config) {}, ""},
		{"shortest", func(c *Config) { c.Lifetime, c.CALifetime = time.Hour, 3*time.Hour }, ""},
		{"no namespace", func(c *Config) { c.Namespace = "" }, "namespace"},
		{"no secret", func(c *Config) { c.Secret = "" }, "secret"},
		{"bad secret", func(c *Config) { c.CASecret = "a_b" }, "CA secret"},
		{"one secret", func(c *Config) { c.CASecret = c.Secret }, "cannot hold two"},
		{"etcd", func(c *Config) { c.EtcdService = "ipam-etcd" }, ""},
		{"bad service of etcd", func(c *Config) { c.EtcdService = "a/b" }, "service of etcd"},
		{"one secret with etcd", func(c *Config) { c.Secret, c.EtcdService = "e-tls", "e" }, "cannot hold two"},
		{"bad service", func(c *Config) { c.Service = "1a" }, "service"},
		{"too short", func(c *Config) { c.Lifetime = 59 * time.Minute }, "at least 1h0m0s"},
		{"authority too short", func(c *Config) { c.CALifetime = 269 * day }, "three times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewConfig()
			tt.change(&c)
			err := c.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
