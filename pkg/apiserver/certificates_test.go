// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	clocktesting "k8s.io/utils/clock/testing"
)

// TestRememberCertificates counts how often certificates are verified.
func TestRememberCertificates(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	verified := 0
	verify := func(r *http.Request) (*authenticator.Response, bool, error) {
		verified++
		if r.TLS == nil {
			return nil, false, nil
		}
		switch name := string(r.TLS.PeerCertificates[0].Raw); name {
		case "broken":
			return nil, false, errors.New("broken")
		case "unknown":
			return nil, false, nil
		default:
			return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, true, nil
		}
	}
	c := &certificates{authenticator.RequestFunc(verify), cache.NewLRUExpireCacheWithClock(10, clock), clock.Now}
	forever := clock.Now().Add(time.Hour)
	ask := func(chain ...*x509.Certificate) (string, bool, error) {
		r := &http.Request{}
		if len(chain) > 0 {
			r.TLS = &tls.ConnectionState{PeerCertificates: chain}
		}
		response, ok, err := c.AuthenticateRequest(r)
		if response == nil {
			return "", ok, err
		}
		name := response.User.GetName()
		// What somebody does with the answer is not remembered.
		response.User = nil
		return name, ok, err
	}
	expect := func(what string, times int, name string, chain ...*x509.Certificate) {
		t.Helper()
		before := verified
		got, ok, err := ask(chain...)
		if got != name || ok != (name != "") || err != nil || verified-before != times {
			t.Errorf("%s: got %q, %t, %v, verified %d times, want %q, %d times", what, got, ok, err, verified-before, name, times)
		}
	}

	alice := &x509.Certificate{Raw: []byte("alice"), NotAfter: forever}
	expect("the first time", 1, "alice", alice)
	expect("the second time", 0, "alice", alice)
	expect("somebody else", 1, "bob", &x509.Certificate{Raw: []byte("bob"), NotAfter: forever})
	expect("with another chain", 1, "alice", alice, &x509.Certificate{Raw: []byte("authority")})
	expect("without a certificate", 1, "")
	clock.Step(certificateTTL + time.Millisecond)
	expect("after a while", 1, "alice", alice)

	brief := &x509.Certificate{Raw: []byte("brief"), NotAfter: clock.Now().Add(time.Second)}
	expect("one that expires soon", 1, "brief", brief)
	expect("one that expires soon, again", 0, "brief", brief)
	clock.Step(time.Second + time.Millisecond)
	expect("one that has expired", 1, "brief", brief)
	expect("one that has expired, again", 1, "brief", brief)

	unknown := &x509.Certificate{Raw: []byte("unknown"), NotAfter: forever}
	expect("nobody", 1, "", unknown)
	expect("nobody, again", 1, "", unknown)
	broken := &x509.Certificate{Raw: []byte("broken"), NotAfter: forever}
	for range 2 {
		before := verified
		if _, ok, err := ask(broken); ok || err == nil || verified != before+1 {
			t.Errorf("a broken one: %t, %v, verified %d times", ok, err, verified-before)
		}
	}
}
