// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
)

const (
	serviceName = "v1.example.com"
	serverName  = "api.system.svc"
)

// services is a client of APIServices. There is one APIService, or none.
type services struct {
	aggregator.APIServiceInterface
	mu      sync.Mutex
	service *apiregistrationv1.APIService
}

// Get implements aggregator.APIServiceInterface.
func (s *services) Get(_ context.Context, name string, _ metav1.GetOptions) (*apiregistrationv1.APIService, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != serviceName || s.service == nil {
		return nil, errors.New("there is no such APIService")
	}
	return s.service.DeepCopy(), nil
}

// change modifies the spec of the APIService.
func (s *services) change(change func(*apiregistrationv1.APIServiceSpec)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.service.Spec)
}

// environment is an API server with its APIService.
type environment struct {
	*testing.T
	services *services
	server   *httptest.Server
	ca       *pki.Pair
	// seen is the last request that the server received.
	seen *http.Request
}

func newCA(t *testing.T) *pki.Pair {
	t.Helper()
	ca, err := pki.NewCA("test", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue returns a certificate that the CA has signed.
func issue(t *testing.T, ca *pki.Pair, template *x509.Certificate) *pki.Pair {
	t.Helper()
	template.NotAfter = time.Now().Add(time.Hour)
	pair, err := ca.Issue(template, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func newEnvironment(t *testing.T) *environment {
	t.Helper()
	e := &environment{T: t, ca: newCA(t)}
	e.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.seen = r
		_, _ = io.WriteString(w, "hello")
	}))
	serving := issue(t, e.ca, &x509.Certificate{DNSNames: []string{serverName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	certificate, err := tls.X509KeyPair(serving.CertPEM, serving.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	e.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert}
	e.server.EnableHTTP2 = true
	// The server logs an error for each client that does not trust it.
	e.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	e.server.StartTLS()
	t.Cleanup(e.server.Close)
	e.services = &services{service: &apiregistrationv1.APIService{Spec: apiregistrationv1.APIServiceSpec{
		Service:  &apiregistrationv1.ServiceReference{Namespace: "system", Name: "api"},
		CABundle: e.ca.CertPEM,
	}}}
	return e
}

// client returns a client with the credentials that it would use for the cluster.
func (e *environment) client(login *rest.Config) *http.Client {
	e.Helper()
	login.Host = "https://cluster.example.com:6443"
	config, err := Config(login, e.services, serviceName, e.server.Listener.Addr().String())
	if err != nil {
		e.Fatal(err)
	}
	if want := "https://" + e.server.Listener.Addr().String(); config.Host != want || login.Host == want {
		e.Errorf("host %s, and of the cluster %s", config.Host, login.Host)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(client.CloseIdleConnections)
	return client
}

// get sends a request to the server.
func (e *environment) get(client *http.Client) error {
	e.Helper()
	response, err := client.Get(e.server.URL + "/apis")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && string(data) != "hello" {
		e.Errorf("it says %q", data)
	}
	return err
}

func TestToken(t *testing.T) {
	e := newEnvironment(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The CA of the cluster has no effect.
	client := e.client(&rest.Config{BearerTokenFile: file, TLSClientConfig: rest.TLSClientConfig{CAData: newCA(t).CertPEM}})
	if err := e.get(client); err != nil {
		t.Fatal(err)
	}
	if got := e.seen.Header.Get("Authorization"); got != "Bearer secret" || e.seen.ProtoMajor != 2 {
		t.Errorf("logged in with %q, by %s", got, e.seen.Proto)
	}
}

// TestWithToken shows that the server receives the token in the file, also after it was replaced, and no other
// credentials of the cluster.
func TestWithToken(t *testing.T) {
	e := newEnvironment(t)
	dir := t.TempDir()
	write := func(name, token string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pair := issue(t, newCA(t), &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	cluster := &rest.Config{
		BearerToken: "of the cluster", BearerTokenFile: write("cluster", "of the cluster"), UserAgent: "a manager", QPS: -1,
		Impersonate:     rest.ImpersonationConfig{UserName: "somebody"},
		TLSClientConfig: rest.TLSClientConfig{CertData: pair.CertPEM, KeyData: pair.KeyPEM},
	}
	file := write("own", "of its own")
	config := WithToken(cluster, file)
	if config.QPS != -1 {
		t.Errorf("QPS is %v", config.QPS)
	}
	if err := e.get(e.client(config)); err != nil {
		t.Fatal(err)
	}
	if got := e.seen.Header.Get("Authorization"); got != "Bearer of its own" {
		t.Errorf("logged in with %q", got)
	}
	if n := len(e.seen.TLS.PeerCertificates); n != 0 {
		t.Errorf("logged in with %d certificates, too", n)
	}
	if got := e.seen.Header.Get("Impersonate-User"); got != "" {
		t.Errorf("impersonates %q", got)
	}
	if got := e.seen.UserAgent(); got != "a manager" {
		t.Errorf("user agent %q", got)
	}
	write("own", "another one")
	if err := e.get(e.client(WithToken(cluster, file))); err != nil {
		t.Fatal(err)
	}
	if got := e.seen.Header.Get("Authorization"); got != "Bearer another one" {
		t.Errorf("after it was replaced: logged in with %q", got)
	}
	if WithToken(cluster, "") != cluster {
		t.Error("without a file, it is not the same configuration")
	}
}

func TestClientCertificate(t *testing.T) {
	e := newEnvironment(t)
	pair := issue(t, newCA(t), &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err := e.get(e.client(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CertData: pair.CertPEM, KeyData: pair.KeyPEM}})); err != nil {
		t.Fatal(err)
	}
	if got := e.seen.TLS.PeerCertificates; len(got) != 1 || !bytes.Equal(got[0].Raw, pair.Cert.Raw) {
		t.Errorf("logged in with %v", got)
	}
}

// TestTrust shows that each connection is verified by the current APIService.
func TestTrust(t *testing.T) {
	e := newEnvironment(t)
	other := newCA(t)
	for _, test := range []struct {
		name   string
		change func(*apiregistrationv1.APIServiceSpec)
		// refused is a part of the error. It is empty if the connection succeeds.
		refused string
	}{
		{"its CA", func(*apiregistrationv1.APIServiceSpec) {}, ""},
		{"another CA", func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = other.CertPEM }, "unknown authority"},
		{"both", func(s *apiregistrationv1.APIServiceSpec) {
			s.CABundle = append(append([]byte{}, other.CertPEM...), e.ca.CertPEM...)
		}, ""},
		{"another Service", func(s *apiregistrationv1.APIServiceSpec) { s.Service.Name = "other" }, "other.system.svc"},
		{"its Service again", func(s *apiregistrationv1.APIServiceSpec) { s.Service.Name = "api" }, ""},
		{"no CA that can be read", func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = []byte("none") }, "spec.caBundle"},
		{"those of the system", func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = nil }, "unknown authority"},
		{"anybody", func(s *apiregistrationv1.APIServiceSpec) { s.InsecureSkipTLSVerify = true }, "spec.insecureSkipTLSVerify"},
		{"no Service", func(s *apiregistrationv1.APIServiceSpec) { s.Service = nil }, "kube-apiserver itself serves the API"},
	} {
		e.services.change(test.change)
		client := e.client(&rest.Config{})
		switch err := e.get(client); {
		case test.refused == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
			t.Errorf("%s: got %v instead of an error with %q", test.name, err, test.refused)
		}
	}
	e.services.service = nil
	if err := e.get(e.client(&rest.Config{})); err == nil || !strings.Contains(err.Error(), "no such APIService") {
		t.Errorf("without an APIService: got %v", err)
	}
}

// TestReplaced shows that a client accepts a new CA when its connection has ended.
func TestReplaced(t *testing.T) {
	e := newEnvironment(t)
	client := e.client(&rest.Config{})
	if err := e.get(client); err != nil {
		t.Fatal(err)
	}
	e.services.change(func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = newCA(t).CertPEM })
	if err := e.get(client); err != nil {
		t.Errorf("a connection that there is ends: %v", err)
	}
	e.server.CloseClientConnections()
	if err := e.get(client); err == nil {
		t.Error("it is trusted by another CA")
	}
	e.services.change(func(s *apiregistrationv1.APIServiceSpec) { s.CABundle = e.ca.CertPEM })
	if err := e.get(client); err != nil {
		t.Error(err)
	}
}

func TestBadConfig(t *testing.T) {
	if _, err := Config(&rest.Config{}, &services{}, serviceName, "no-port"); err == nil || !strings.Contains(err.Error(), "no-port") {
		t.Errorf("got %v", err)
	}
	if _, err := Config(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CertFile: "/does/not/exist", KeyFile: "/does/not/exist"}}, &services{}, serviceName, "a:1"); err == nil {
		t.Error("a certificate that is not there is taken")
	}
}
