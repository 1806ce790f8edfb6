// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	now := time.Now()
	ca, err := NewCA("ca", now, 10*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCA(ca.Cert); err != nil {
		t.Error(err)
	}
	server := &x509.Certificate{NotAfter: now.Add(20 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leaf, err := ca.Issue(server, now)
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.Cert.NotAfter.Equal(ca.Cert.NotAfter) {
		t.Errorf("outlives its authority: %s is after %s", leaf.Cert.NotAfter, ca.Cert.NotAfter)
	}
	if CheckCA(leaf.Cert) == nil {
		t.Error("is an authority")
	}
	other, err := NewCA("ca", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		ca    *Pair
		now   time.Time
		usage []x509.ExtKeyUsage
		ok    bool
	}{
		{"any use", ca, now, nil, true},
		{"for servers", ca, now, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, true},
		{"for clients", ca, now, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, false},
		{"a clock that is behind", ca, now.Add(-ClockSkew), nil, true},
		{"not yet", ca, now.Add(-ClockSkew - time.Minute), nil, false},
		{"no more", ca, now.Add(11 * time.Hour), nil, false},
		{"another authority of the same name", other, now, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Verify(leaf.Cert, tt.ca.Cert, tt.now, tt.usage...); (err == nil) != tt.ok {
				t.Errorf("got %v, want success: %t", err, tt.ok)
			}
		})
	}
}

func TestParsePair(t *testing.T) {
	now := time.Now()
	a, err := NewCA("a", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewCA("b", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParsePair(a.CertPEM, a.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := parsed.Key.(*ecdsa.PrivateKey); !ok || !key.Equal(a.Key) || !parsed.Cert.Equal(a.Cert) {
		t.Error("is not what was written")
	}
	for name, pair := range map[string][2][]byte{
		"nothing":            {nil, nil},
		"no key":             {a.CertPEM, nil},
		"garbage":            {[]byte("x"), []byte("y")},
		"truncated":          {a.CertPEM[:100], a.KeyPEM},
		"key of another":     {a.CertPEM, b.KeyPEM},
		"the wrong way":      {a.KeyPEM, a.CertPEM},
		"a certificate only": {a.CertPEM, a.CertPEM},
	} {
		if _, err := ParsePair(pair[0], pair[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
