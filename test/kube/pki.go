// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
)

const lifetime = 24 * time.Hour

// CA is a certificate authority and its files.
type CA struct {
	*pki.Pair
	t   testing.TB
	dir string
	// CertFile is the path of the certificate.
	CertFile string
}

// Pair is a certificate and its key, with their files.
type Pair struct {
	*pki.Pair
	CertFile, KeyFile string
}

// NewCA creates a CA in a directory.
func NewCA(t testing.TB, dir, name string) *CA {
	t.Helper()
	pair, err := pki.NewCA(name, time.Now(), lifetime)
	if err != nil {
		t.Fatal(err)
	}
	ca := &CA{pair, t, dir, filepath.Join(dir, name+".crt")}
	writeFile(t, ca.CertFile, ca.CertPEM)
	return ca
}

// Serving issues a certificate for a server with these names and loopback addresses.
func (ca *CA) Serving(name string, dnsNames ...string) Pair {
	ca.t.Helper()
	return ca.sign(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    append([]string{"localhost"}, dnsNames...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
	})
}

// Client issues a certificate for a user in groups.
func (ca *CA) Client(user string, groups ...string) Pair {
	ca.t.Helper()
	return ca.sign(user, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (ca *CA) sign(name string, template *x509.Certificate) Pair {
	ca.t.Helper()
	now := time.Now()
	template.NotAfter, template.KeyUsage = now.Add(lifetime), x509.KeyUsageDigitalSignature
	pair, err := ca.Issue(template, now)
	if err != nil {
		ca.t.Fatal(err)
	}
	p := Pair{pair, filepath.Join(ca.dir, name+".crt"), filepath.Join(ca.dir, name+".key")}
	writeFile(ca.t, p.CertFile, p.CertPEM)
	writeFile(ca.t, p.KeyFile, p.KeyPEM)
	return p
}

func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
