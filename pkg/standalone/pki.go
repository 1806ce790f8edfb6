// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

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
)

const (
	caValidity   = 10 * 365 * 24 * time.Hour
	leafValidity = 365 * 24 * time.Hour
	// minValidity is what a certificate must have left at start to be kept. As
	// certificates are only looked at then, it also is how long a process can
	// run without its certificates expiring under it.
	minValidity = 30 * 24 * time.Hour
)

// PKI is a certificate authority of ipam-standalone's own and the two
// certificates it signed. The private key of the authority is not part of it:
// nothing but EnsurePKI needs it.
type PKI struct {
	// CACertFile is the certificate of the authority. Clients trust it to verify
	// the server, and the server to verify clients.
	CACertFile string
	// ServingCertFile and ServingKeyFile are what the server presents.
	ServingCertFile, ServingKeyFile string
	// AdminCertFile and AdminKeyFile are what the administrator (user ipam-admin,
	// group system:masters) presents.
	AdminCertFile, AdminKeyFile string

	// The content of the files above, in PEM.
	CACertPEM                     []byte
	ServingCertPEM, ServingKeyPEM []byte
	AdminCertPEM, AdminKeyPEM     []byte
}

// EnsurePKI returns the certificates in the directory dir, after it issued those
// that are missing or no longer good. The authority (ca.crt, ca.key) is valid for
// ten years, the serving (serving.crt, serving.key) and the administrator's
// client certificate (admin.crt, admin.key) for one.
//
// A certificate is issued anew if it or its key cannot be read, if the two do
// not belong together, if it is not signed by the authority or not for its use,
// or if at now it has less than 30 days left. The serving certificate is for
// localhost, 127.0.0.1, ::1 and extraSANs, each an IP address or a DNS name; it
// is issued anew if one of these is missing in it, and may keep more. With a new
// authority everything is new.
//
// The directory is created if missing and gets mode 0700, keys have mode 0600.
// Only one process at a time may call it for a directory. An error is one of
// writing the files, or a name in extraSANs that no certificate can hold.
func EnsurePKI(dir string, now time.Time, extraSANs ...string) (*PKI, error) {
	if err := ensurePrivateDir(dir); err != nil {
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
			return fmt.Errorf("it is for %q", pair.Cert.Subject)
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

	p := &PKI{
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

// ensurePair returns the pair called name in dir if check finds nothing wrong with it, or else a new
// one that issue makes.
func ensurePair(dir, name string, check func(*pki.Pair) error, issue func() (*pki.Pair, error)) (*pki.Pair, error) {
	certFile, keyFile := pairFiles(dir, name)
	pair, err := loadPair(certFile, keyFile)
	if err == nil {
		if err = check(pair); err == nil {
			if err := os.Chmod(keyFile, 0o600); err != nil {
				return nil, fmt.Errorf("make key private: %w", err)
			}
			return pair, nil
		}
	}

	if pair, err = issue(); err != nil {
		return nil, fmt.Errorf("issue certificate %q: %w", name, err)
	}
	// A crash between the two leaves a key and a certificate that do not belong
	// together, which the next start sees and repairs by issuing both again.
	if err := writeFileAtomic(keyFile, pair.KeyPEM, 0o600); err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	if err := writeFileAtomic(certFile, pair.CertPEM, 0o644); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	return pair, nil
}

func pairFiles(dir, name string) (certFile, keyFile string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

// loadPair fails if one of the files cannot be read or parsed, or if the key is
// not that of the certificate.
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

// checkValid tells why cert is not one that ca signed, for usages, and that
// still has minValidity left.
func checkValid(cert, ca *x509.Certificate, now time.Time, usages ...x509.ExtKeyUsage) error {
	if cert.NotAfter.Before(now.Add(minValidity)) {
		return fmt.Errorf("it ends at %s", cert.NotAfter)
	}
	return pki.Verify(cert, ca, now, usages...)
}

func checkSANs(cert *x509.Certificate, ips []net.IP, names []string) error {
	for _, ip := range ips {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return fmt.Errorf("it is not for %s", ip)
		}
	}
	for _, name := range names {
		if !slices.Contains(cert.DNSNames, name) {
			return fmt.Errorf("it is not for %s", name)
		}
	}
	return nil
}

// splitSANs sorts names into addresses and DNS names, each once, without empty
// ones.
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
