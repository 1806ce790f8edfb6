// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package pki issues the certificates of ipam-standalone, and writes the kubeconfig of its administrator.
package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/datadir"
)

const (
	caValidity   = 10 * 365 * 24 * time.Hour
	leafValidity = 365 * 24 * time.Hour
	// minValidity is the minimum remaining validity of a certificate at start. A certificate with less is
	// replaced. Certificates are checked only at start, so this is also how long a process can run before its
	// certificates expire.
	minValidity = 30 * 24 * time.Hour
)

// Certificates holds the certificate authority of ipam-standalone and the two certificates that it signed. It does not hold
// the private key of the authority, which only Ensure needs.
type Certificates struct {
	// CACertFile is the path of the CA certificate. Clients use it to verify the server, and the server uses it to
	// verify clients.
	CACertFile string
	// ServingCertFile and ServingKeyFile are the paths of the serving certificate and its key.
	ServingCertFile, ServingKeyFile string
	// AdminCertFile and AdminKeyFile are the paths of the client certificate and the key of the administrator
	// (user ipam-admin, group system:masters).
	AdminCertFile, AdminKeyFile string

	// The contents of the files above, in PEM.
	CACertPEM                     []byte
	ServingCertPEM, ServingKeyPEM []byte
	AdminCertPEM, AdminKeyPEM     []byte
}

// Ensure returns the certificates in the directory dir. It issues those that are missing or no longer valid.
// The CA certificate (ca.crt, ca.key) is valid for ten years. The serving certificate (serving.crt, serving.key)
// and the client certificate of the administrator (admin.crt, admin.key) are valid for one year.
//
// Ensure replaces a certificate if it or its key cannot be read, if they do not match, if the CA did not sign
// it, if its key usage is wrong, or if it has less than 30 days left at now. The serving certificate is valid for
// localhost, 127.0.0.1, ::1 and extraSANs, which are IP addresses or DNS names. It is replaced if it lacks one of
// them, and may have additional names. A new CA replaces all certificates.
//
// Ensure creates the directory if it is missing and sets its mode to 0700. Keys have mode 0600. Only one
// process at a time may call it for a directory. It returns an error if a file cannot be written, or if a name in
// extraSANs is not valid in a certificate.
func Ensure(dir string, now time.Time, extraSANs ...string) (*Certificates, error) {
	if err := datadir.EnsurePrivate(dir); err != nil {
		return nil, fmt.Errorf("PKI directory %q: %w", dir, err)
	}
	ca, err := ensurePair(dir, "ca", func(pair *pki.Pair) error {
		return errors.Join(checkValid(pair.Cert, pair.Cert, now), pki.CheckCA(pair.Cert))
	}, func() (*pki.Pair, error) {
		return pki.NewCA("ipam-standalone-ca", now, caValidity)
	})
	if err != nil {
		return nil, err
	}

	ips, names := splitSANs(append([]string{"localhost", "127.0.0.1", "::1"}, extraSANs...))
	serving, err := ensurePair(dir, "serving", func(pair *pki.Pair) error {
		return errors.Join(checkValid(pair.Cert, ca.Cert, now, x509.ExtKeyUsageServerAuth), checkSANs(pair.Cert, ips, names))
	}, func() (*pki.Pair, error) {
		return ca.Issue(&x509.Certificate{
			Subject:     pkix.Name{CommonName: "ipam-standalone"},
			NotAfter:    now.Add(leafValidity),
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			IPAddresses: ips,
			DNSNames:    names,
		}, now)
	})
	if err != nil {
		return nil, err
	}

	subject := pkix.Name{CommonName: "ipam-admin", Organization: []string{"system:masters"}}
	admin, err := ensurePair(dir, "admin", func(pair *pki.Pair) error {
		if pair.Cert.Subject.String() != subject.String() {
			return fmt.Errorf("its subject is %q", pair.Cert.Subject)
		}
		return checkValid(pair.Cert, ca.Cert, now, x509.ExtKeyUsageClientAuth)
	}, func() (*pki.Pair, error) {
		return ca.Issue(&x509.Certificate{
			Subject:     subject,
			NotAfter:    now.Add(leafValidity),
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, now)
	})
	if err != nil {
		return nil, err
	}

	p := &Certificates{
		CACertPEM:      ca.CertPEM,
		ServingCertPEM: serving.CertPEM,
		ServingKeyPEM:  serving.KeyPEM,
		AdminCertPEM:   admin.CertPEM,
		AdminKeyPEM:    admin.KeyPEM,
	}
	p.CACertFile, _ = pairFiles(dir, "ca")
	p.ServingCertFile, p.ServingKeyFile = pairFiles(dir, "serving")
	p.AdminCertFile, p.AdminKeyFile = pairFiles(dir, "admin")
	return p, nil
}

// ensurePair returns the certificate and key called name in dir if check accepts them. Otherwise it calls issue
// and writes the result.
func ensurePair(dir, name string, check func(*pki.Pair) error, issue func() (*pki.Pair, error)) (*pki.Pair, error) {
	certFile, keyFile := pairFiles(dir, name)
	pair, err := loadPair(certFile, keyFile)
	if err == nil {
		if err = check(pair); err == nil {
			if err := os.Chmod(keyFile, 0o600); err != nil {
				return nil, fmt.Errorf("restrict the permissions of the key: %w", err)
			}
			return pair, nil
		}
	}

	if pair, err = issue(); err != nil {
		return nil, fmt.Errorf("issue certificate %q: %w", name, err)
	}
	// After a crash between the two writes, the key and the certificate do not match. The next start detects this
	// and issues both again.
	if err := datadir.WriteFile(keyFile, pair.KeyPEM, 0o600); err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	if err := datadir.WriteFile(certFile, pair.CertPEM, 0o644); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	return pair, nil
}

func pairFiles(dir, name string) (certFile, keyFile string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

// loadPair reads a certificate and its key. It returns an error if a file cannot be read or parsed, or if the two
// do not match.
func loadPair(certFile, keyFile string) (*pki.Pair, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	return pki.ParsePair(certPEM, keyPEM)
}

// checkValid returns an error if ca did not sign cert, if cert is not valid for usages, or if less than
// minValidity is left.
func checkValid(cert, ca *x509.Certificate, now time.Time, usages ...x509.ExtKeyUsage) error {
	if cert.NotAfter.Before(now.Add(minValidity)) {
		return fmt.Errorf("it expires at %s", cert.NotAfter)
	}
	return pki.Verify(cert, ca, now, usages...)
}

func checkSANs(cert *x509.Certificate, ips []net.IP, names []string) error {
	for _, ip := range ips {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return fmt.Errorf("it is not valid for %s", ip)
		}
	}
	for _, name := range names {
		if !slices.Contains(cert.DNSNames, name) {
			return fmt.Errorf("it is not valid for %s", name)
		}
	}
	return nil
}

// splitSANs splits sans into IP addresses and DNS names. It drops duplicates and empty strings.
func splitSANs(sans []string) (ips []net.IP, names []string) {
	for _, san := range sans {
		if ip := net.ParseIP(san); ip != nil {
			if !slices.ContainsFunc(ips, ip.Equal) {
				ips = append(ips, ip)
			}
		} else if san != "" && !slices.Contains(names, san) {
			names = append(names, san)
		}
	}
	return ips, names
}
