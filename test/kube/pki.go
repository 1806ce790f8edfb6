// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// CA is a certificate authority, with its files.
type CA struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// CertFile is the certificate, and CertPEM its content.
	CertFile string
	CertPEM  []byte
}

// Pair are the files of a certificate and its key, and their content.
type Pair struct {
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte
}

// NewCA makes a certificate authority in a directory.
func NewCA(t testing.TB, dir, name string) *CA {
	t.Helper()
	ca := &CA{t: t, dir: dir, key: newKey(t)}
	var err error
	if ca.cert, err = certutil.NewSelfSignedCACert(certutil.Config{CommonName: name}, ca.key); err != nil {
		t.Fatal(err)
	}
	ca.CertPEM = encodeCert(ca.cert.Raw)
	ca.CertFile = filepath.Join(dir, name+".crt")
	writeFile(t, ca.CertFile, ca.CertPEM)
	return ca
}

// Serving makes a certificate for a server on loopback and under those names.
func (ca *CA) Serving(name string, dnsNames ...string) Pair {
	ca.t.Helper()
	return ca.sign(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    append([]string{"localhost"}, dnsNames...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
	})
}

// Client makes a certificate for a user in groups.
func (ca *CA) Client(user string, groups ...string) Pair {
	ca.t.Helper()
	return ca.sign(user, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (ca *CA) sign(name string, template *x509.Certificate) Pair {
	ca.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		ca.t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	key := newKey(ca.t)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	p := Pair{
		CertFile: filepath.Join(ca.dir, name+".crt"), KeyFile: filepath.Join(ca.dir, name+".key"),
		CertPEM: encodeCert(der), KeyPEM: keyPEM,
	}
	writeFile(ca.t, p.CertFile, p.CertPEM)
	writeFile(ca.t, p.KeyFile, p.KeyPEM)
	return p
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encodeCert(der []byte) []byte {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	encoded, _ := certutil.EncodeCertificates(cert)
	return encoded
}

func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
