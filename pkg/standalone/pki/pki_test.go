// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/standalonetest"
)

const day = 24 * time.Hour

func ensure(t *testing.T, dir string, now time.Time, extraSANs ...string) *Certificates {
	t.Helper()
	pki, err := Ensure(dir, now, extraSANs...)
	if err != nil {
		t.Fatal(err)
	}
	return pki
}

func parse(t *testing.T, certPEM []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(certPEM)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %q", certPEM)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestPKIFirstIssue(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "pki"), time.Now()
	pki := ensure(t, dir, now, "ipam.example.org", "192.0.2.1", "", "localhost", "::1")

	ca, serving, admin := parse(t, pki.CACertPEM), parse(t, pki.ServingCertPEM), parse(t, pki.AdminCertPEM)
	for _, c := range []struct {
		cert  *x509.Certificate
		valid time.Duration
		usage []x509.ExtKeyUsage
	}{
		{ca, 10 * 365 * day, nil},
		{serving, 365 * day, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		{admin, 365 * day, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	} {
		if got := c.cert.NotAfter.Sub(now); got < c.valid-time.Second || got > c.valid {
			t.Errorf("%s is valid for %s, want %s", c.cert.Subject, got, c.valid)
		}
		if !slices.Equal(c.cert.ExtKeyUsage, c.usage) {
			t.Errorf("%s is for %v, want %v", c.cert.Subject, c.cert.ExtKeyUsage, c.usage)
		}
	}
	if want := []string{"localhost", "ipam.example.org"}; !slices.Equal(serving.DNSNames, want) {
		t.Errorf("DNS names are %v, want %v", serving.DNSNames, want)
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(192, 0, 2, 1)}
	if !slices.EqualFunc(serving.IPAddresses, ips, net.IP.Equal) {
		t.Errorf("addresses are %v, want %v", serving.IPAddresses, ips)
	}
	if admin.Subject.CommonName != "ipam-admin" || !slices.Equal(admin.Subject.Organization, []string{"system:masters"}) {
		t.Errorf("the administrator is %s", admin.Subject)
	}

	standalonetest.WantMode(t, dir, 0o700)
	for path, content := range map[string][]byte{
		pki.CACertFile: pki.CACertPEM, pki.ServingCertFile: pki.ServingCertPEM, pki.AdminCertFile: pki.AdminCertPEM,
		pki.ServingKeyFile: pki.ServingKeyPEM, pki.AdminKeyFile: pki.AdminKeyPEM,
	} {
		if got, err := os.ReadFile(path); err != nil || string(got) != string(content) {
			t.Errorf("%s does not have the content of the PKI (%v)", path, err)
		}
	}
	for _, name := range []string{"ca.key", "serving.key", "admin.key"} {
		standalonetest.WantMode(t, filepath.Join(dir, name), 0o600)
	}
}

// TestPKIReissue changes a valid PKI and checks which certificates the next start reissues.
func TestPKIReissue(t *testing.T) {
	now := time.Now()
	path := func(dir, name string) string { return filepath.Join(dir, name) }
	truncate := func(name string, size int64) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Truncate(path(dir, name), size); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(path(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// replace copies files from another PKI. A crash between two renames has this result.
	replace := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			other := t.TempDir()
			ensure(t, other, now, "extra.example.org")
			for _, name := range names {
				data, err := os.ReadFile(path(other, name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// issue replaces a certificate and its key with a pair that the CA in dir has signed.
	issue := func(name string, template x509.Certificate) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			ca, err := loadPair(pairFiles(dir, "ca"))
			if err != nil {
				t.Fatal(err)
			}
			pair, err := ca.Issue(&template, now)
			if err != nil {
				t.Fatal(err)
			}
			certFile, keyFile := pairFiles(dir, name)
			for file, data := range map[string][]byte{certFile: pair.CertPEM, keyFile: pair.KeyPEM} {
				if err := os.WriteFile(file, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	nothing := func(*testing.T, string) {}
	adminName := pkix.Name{CommonName: "ipam-admin", Organization: []string{"system:masters"}}
	client, server := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	year := now.Add(365 * day)

	const all, servingOnly, adminOnly, leaves = "ca serving admin", "serving", "admin", "serving admin"
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		after  time.Duration
		sans   []string
		want   string // the reissued certificates
	}{
		{"nothing", nothing, 0, []string{"extra.example.org"}, ""},
		{"31 days left", nothing, (365 - 31) * day, []string{"extra.example.org"}, ""},
		{"less than 30 days left", nothing, (365-30)*day + time.Minute, nil, leaves},
		{"leaves expired", nothing, 400 * day, nil, leaves},
		{"authority with less than 30 days left", nothing, (3650-30)*day + time.Minute, nil, all},
		{"authority expired", nothing, 4000 * day, nil, all},
		{"clock before the first issue", nothing, -2 * day, nil, all},
		{"fewer names wanted", nothing, 0, nil, ""},
		{"another DNS name wanted", nothing, 0, []string{"other.example.org"}, servingOnly},
		{"another address wanted", nothing, 0, []string{"192.0.2.2"}, servingOnly},
		{"ca.crt missing", remove("ca.crt"), 0, nil, all},
		{"ca.key missing", remove("ca.key"), 0, nil, all},
		{"serving.crt missing", remove("serving.crt"), 0, nil, servingOnly},
		{"serving.key missing", remove("serving.key"), 0, nil, servingOnly},
		{"admin.crt missing", remove("admin.crt"), 0, nil, adminOnly},
		{"admin.key missing", remove("admin.key"), 0, nil, adminOnly},
		{"ca.crt empty", truncate("ca.crt", 0), 0, nil, all},
		{"ca.key truncated", truncate("ca.key", 100), 0, nil, all},
		{"serving.crt truncated", truncate("serving.crt", 300), 0, nil, servingOnly},
		{"serving.key empty", truncate("serving.key", 0), 0, nil, servingOnly},
		{"admin.crt truncated", truncate("admin.crt", 10), 0, nil, adminOnly},
		{"crash between the authority's files", replace("ca.key"), 0, nil, all},
		{"crash after the authority", replace("ca.key", "ca.crt"), 0, nil, leaves},
		{"crash between the serving files", replace("serving.key"), 0, nil, servingOnly},
		{"crash between the administrator's files", replace("admin.key"), 0, nil, adminOnly},
		{"administrator of another authority", replace("admin.key", "admin.crt"), 0, nil, adminOnly},
		{"authority that is none", issue("ca", x509.Certificate{NotAfter: year}), 0, nil, all},
		{"administrator of another name", issue("admin", x509.Certificate{NotAfter: year, ExtKeyUsage: client}), 0, nil, adminOnly},
		{"administrator for servers", issue("admin", x509.Certificate{Subject: adminName, NotAfter: year, ExtKeyUsage: server}), 0, nil, adminOnly},
		{"serving without names", issue("serving", x509.Certificate{NotAfter: year, ExtKeyUsage: server}), 0, nil, servingOnly},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			ensure(t, dir, now, "extra.example.org")
			c.change(t, dir)
			found := map[string]string{}
			for _, name := range []string{"ca", "serving", "admin"} {
				// Here a missing file is equivalent to an empty one.
				data, _ := os.ReadFile(path(dir, name+".crt"))
				found[name] = string(data)
			}
			later := now.Add(c.after)
			second := ensure(t, dir, later, c.sans...)

			got := ""
			for _, pair := range []struct {
				name string
				cert []byte
			}{{"ca", second.CACertPEM}, {"serving", second.ServingCertPEM}, {"admin", second.AdminCertPEM}} {
				if found[pair.name] != string(pair.cert) {
					got += " " + pair.name
				}
			}
			got = strings.TrimPrefix(got, " ")
			if got != c.want {
				t.Errorf("issued anew: %q, want %q", got, c.want)
			}

			roots := x509.NewCertPool()
			roots.AddCert(parse(t, second.CACertPEM))
			for _, leaf := range []struct {
				cert  []byte
				usage []x509.ExtKeyUsage
			}{{second.ServingCertPEM, server}, {second.AdminCertPEM, client}} {
				opts := x509.VerifyOptions{Roots: roots, CurrentTime: later.Add(30 * day), KeyUsages: leaf.usage}
				if _, err := parse(t, leaf.cert).Verify(opts); err != nil {
					t.Errorf("not good for 30 days: %v", err)
				}
			}
			third := ensure(t, dir, later, c.sans...)
			if string(third.CACertPEM)+string(third.ServingCertPEM)+string(third.AdminCertPEM) !=
				string(second.CACertPEM)+string(second.ServingCertPEM)+string(second.AdminCertPEM) {
				t.Error("the start after that issued again")
			}
		})
	}
}

// TestPKILeafNeverOutlivesCA issues a certificate in the last year of the CA.
func TestPKILeafNeverOutlivesCA(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	ensure(t, dir, now)
	pki := ensure(t, dir, now.Add(3600*day))
	if ca, leaf := parse(t, pki.CACertPEM), parse(t, pki.ServingCertPEM); !leaf.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("the leaf ends at %s, the authority at %s", leaf.NotAfter, ca.NotAfter)
	}
}

func TestPKITightensModes(t *testing.T) {
	dir := t.TempDir()
	pki := ensure(t, dir, time.Now())
	for _, path := range []string{dir, pki.ServingKeyFile, filepath.Join(dir, "ca.key")} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ensure(t, dir, time.Now())
	standalonetest.WantMode(t, dir, 0o700)
	standalonetest.WantMode(t, pki.ServingKeyFile, 0o600)
	standalonetest.WantMode(t, filepath.Join(dir, "ca.key"), 0o600)
}

func TestPKIErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "ca.crt", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir, time.Now()); err == nil {
		t.Error("no error for a directory in the place of a file")
	}
	if _, err := Ensure(t.TempDir(), time.Now(), "ünicode.example.org"); err == nil {
		t.Error("no error for a name that is not ASCII")
	}
}

// TestPKIHandshake serves with the certificates in the same way as the API server, and checks which clients can
// connect.
func TestPKIHandshake(t *testing.T) {
	pki := ensure(t, t.TempDir(), time.Now())
	other := ensure(t, t.TempDir(), time.Now())
	pair := func(certPEM, keyPEM []byte) []tls.Certificate {
		cert, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{cert}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pki.CACertPEM)

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].Subject.String()))
	}))
	server.TLS = &tls.Config{
		Certificates: pair(pki.ServingCertPEM, pki.ServingKeyPEM),
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // do not log refused clients
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name, host string
		certs      []tls.Certificate
		ok         bool
	}{
		{"administrator", "127.0.0.1", pair(pki.AdminCertPEM, pki.AdminKeyPEM), true},
		{"administrator by name", "localhost", pair(pki.AdminCertPEM, pki.AdminKeyPEM), true},
		{"by a name of no certificate", "127.0.0.2", pair(pki.AdminCertPEM, pki.AdminKeyPEM), false},
		{"nobody", "127.0.0.1", nil, false},
		{"the server as a client", "127.0.0.1", pair(pki.ServingCertPEM, pki.ServingKeyPEM), false},
		{"administrator of another authority", "127.0.0.1", pair(other.AdminCertPEM, other.AdminKeyPEM), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := &tls.Config{Certificates: c.certs, RootCAs: roots, ServerName: c.host}
			conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", port), config)
			if err == nil {
				// With TLS 1.3, a client notices that it was refused only when it reads.
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				_, err = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
				if err == nil {
					_, err = conn.Read(make([]byte, 1))
				}
				_ = conn.Close()
			}
			if (err == nil) != c.ok {
				t.Errorf("the error is %v, want success: %v", err, c.ok)
			}
		})
	}
}
