// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"slices"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// authority signs the certificates of clients.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

// sign returns a certificate for that name. Without an authority it signs itself, and others.
func sign(t *testing.T, by *authority, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		by = &authority{key, template}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, certificate}
}

// proxyCA is the authority of proxies. It counts how often it is asked for.
type proxyCA struct {
	dynamiccertificates.CAContentProvider
	pool  *x509.CertPool
	asked int
}

// VerifyOptions implements dynamiccertificates.CAContentProvider.
func (c *proxyCA) VerifyOptions() (x509.VerifyOptions, bool) {
	c.asked++
	return x509.VerifyOptions{Roots: c.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, true
}

func TestRememberProxies(t *testing.T) {
	proxyAuthority, userAuthority := sign(t, nil, "front-proxy-ca"), sign(t, nil, "ca")
	ca := &proxyCA{pool: x509.NewCertPool()}
	ca.pool.AddCert(proxyAuthority.certificate)
	others := authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: &user.DefaultInfo{Name: "somebody else"}}, true, nil
	})
	a := rememberProxies(others, &authenticatorfactory.RequestHeaderConfig{
		UsernameHeaders:     headerrequest.StaticStringSlice{"X-Remote-User"},
		UIDHeaders:          headerrequest.StaticStringSlice{"X-Remote-Uid"},
		GroupHeaders:        headerrequest.StaticStringSlice{"X-Remote-Group"},
		ExtraHeaderPrefixes: headerrequest.StaticStringSlice{"X-Remote-Extra-"},
		CAContentProvider:   ca,
		AllowedClientNames:  headerrequest.StaticStringSlice{"front-proxy-client"},
	})
	expect := func(what string, by *authority, vouchesFor, name string, asked int) {
		t.Helper()
		r := &http.Request{Header: http.Header{}}
		if by != nil {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{by.certificate}}
		}
		if vouchesFor != "" {
			r.Header.Set("X-Remote-User", vouchesFor)
			r.Header.Set("X-Remote-Group", "team")
			r.Header.Set("X-Remote-Extra-Scopes", "all")
		}
		before := ca.asked
		response, ok, err := a.AuthenticateRequest(r)
		if err != nil || !ok {
			t.Fatalf("%s: %t, %v", what, ok, err)
		}
		if got := response.User.GetName(); got != name {
			t.Errorf("%s: it is %s instead of %s", what, got, name)
		}
		if n := ca.asked - before; n != asked {
			t.Errorf("%s: verified %d times instead of %d", what, n, asked)
		}
		if name != vouchesFor {
			return
		}
		if got := response.User.GetGroups(); !slices.Equal(got, []string{"team", user.AllAuthenticated}) {
			t.Errorf("%s: groups %q", what, got)
		}
		if got := response.User.GetExtra()["scopes"]; !slices.Equal(got, []string{"all"}) {
			t.Errorf("%s: extra %q", what, got)
		}
		if len(r.Header) != 0 {
			t.Errorf("%s: headers are passed on: %v", what, r.Header)
		}
	}

	proxy := sign(t, proxyAuthority, "front-proxy-client")
	expect("a proxy", proxy, "alice", "alice", 1)
	expect("a proxy, again", proxy, "alice", "alice", 0)
	expect("a proxy, for somebody else", proxy, "bob", "bob", 0)
	expect("a proxy, for nobody", proxy, "", "somebody else", 0)
	expect("a proxy with another name", sign(t, proxyAuthority, "another"), "alice", "somebody else", 1)
	liar := sign(t, userAuthority, "front-proxy-client")
	for range 2 {
		expect("a user who says to be a proxy", liar, "alice", "somebody else", 1)
	}
	expect("a user", liar, "", "somebody else", 0)
	expect("without a certificate", nil, "alice", "somebody else", 0)
}
