// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
)

// volume is a directory whose files are replaced atomically, as the kubelet does for a Secret. Each file is a link
// to a file of the same name in ..data, and ..data is a link to a directory that never changes.
type volume struct {
	testing.TB
	dir string
}

func newVolume(t testing.TB, files map[string][]byte) *volume {
	t.Helper()
	v := &volume{t, t.TempDir()}
	v.replace(files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), v.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func (v *volume) path(name string) string { return filepath.Join(v.dir, name) }

// replace replaces all files.
func (v *volume) replace(files map[string][]byte) {
	v.Helper()
	before, _ := os.Readlink(v.path("..data"))
	after, err := os.MkdirTemp(v.dir, "..")
	if err != nil {
		v.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(after, name), data, 0o600); err != nil {
			v.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Base(after), v.path("..data_tmp")); err != nil {
		v.Fatal(err)
	}
	if err := os.Rename(v.path("..data_tmp"), v.path("..data")); err != nil {
		v.Fatal(err)
	}
	if before != "" {
		if err := os.RemoveAll(v.path(before)); err != nil {
			v.Fatal(err)
		}
	}
}

// newCA returns a CA.
func newCA(t testing.TB) *pki.Pair {
	t.Helper()
	ca, err := pki.NewCA("test-ca", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue returns a certificate for this machine, and for a client with all permissions.
func issue(t testing.TB, ca *pki.Pair) *pki.Pair {
	t.Helper()
	pair, err := ca.Issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "test", Organization: []string{"system:masters"}},
		NotAfter:    time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:    []string{"localhost"},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// files returns the files of a Secret of type kubernetes.io/tls.
func files(pair *pki.Pair) map[string][]byte {
	return map[string][]byte{"tls.crt": pair.CertPEM, "tls.key": pair.KeyPEM}
}

// bundle returns a file with the certificates of CAs.
func bundle(cas ...*pki.Pair) map[string][]byte {
	var all []byte
	for _, ca := range cas {
		all = append(all, ca.CertPEM...)
	}
	return map[string][]byte{"ca.crt": all}
}

// pool returns a pool that trusts CAs.
func pool(cas ...*pki.Pair) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca.Cert)
	}
	return pool
}

func tlsPair(pair *pki.Pair) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}
}
