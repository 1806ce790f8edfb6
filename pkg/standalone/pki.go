// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

const (
	caValidity   = 10 * 365 * 24 * time.Hour
	leafValidity = 365 * 24 * time.Hour
	// minValidity is what a certificate must have left at start to be kept. As
	// certificates are only looked at then, it also is how long a process can
	// run without its certificates expiring under it.
	minValidity = 30 * 24 * time.Hour
	// clockSkew is how far certificates are dated back, for a client whose clock
	// is behind.
	clockSkew = time.Hour
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

// keyPair is a certificate with its private key, parsed and in PEM.
type keyPair struct {
	cert            *x509.Certificate
	key             crypto.Signer
	certPEM, keyPEM []byte
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
	// The name has the time in it, because some clients mix up two authorities
	// of the same name.
	ca, err := ensurePair(dir, "ca", nil, now, &x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("ipam-standalone-ca@%d", now.Unix())},
		NotAfter:              now.Add(caValidity),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}, checkCA)
	if err != nil {
		return nil, err
	}

	ips, names := splitSANs(append([]string{"localhost", "127.0.0.1", "::1"}, extraSANs...))
	serving, err := ensurePair(dir, "serving", ca, now, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "ipam-standalone"},
		NotAfter:    now.Add(leafValidity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: ips,
		DNSNames:    names,
	}, func(cert *x509.Certificate) error { return checkSANs(cert, ips, names) })
	if err != nil {
		return nil, err
	}

	subject := pkix.Name{CommonName: "ipam-admin", Organization: []string{"system:masters"}}
	admin, err := ensurePair(dir, "admin", ca, now, &x509.Certificate{
		Subject:     subject,
		NotAfter:    now.Add(leafValidity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, func(cert *x509.Certificate) error {
		if cert.Subject.String() != subject.String() {
			return fmt.Errorf("it is for %q", cert.Subject)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	pki := &PKI{
		CACertPEM:      ca.certPEM,
		ServingCertPEM: serving.certPEM,
		ServingKeyPEM:  serving.keyPEM,
		AdminCertPEM:   admin.certPEM,
		AdminKeyPEM:    admin.keyPEM,
	}
	pki.CACertFile, _ = pairFiles(dir, "ca")
	pki.ServingCertFile, pki.ServingKeyFile = pairFiles(dir, "serving")
	pki.AdminCertFile, pki.AdminKeyFile = pairFiles(dir, "admin")
	return pki, nil
}

// ensurePair returns the pair called name in dir if it is good, or else issues
// it from template, signed by ca, or by itself if ca is nil. check is asked what
// the template wants beyond a valid signature and time.
func ensurePair(dir, name string, ca *keyPair, now time.Time, template *x509.Certificate, check func(*x509.Certificate) error) (*keyPair, error) {
	certFile, keyFile := pairFiles(dir, name)
	pair, err := loadPair(certFile, keyFile)
	if err == nil {
		signer := ca
		if signer == nil {
			signer = pair
		}
		if err = errors.Join(checkValid(pair.cert, signer.cert, now, template.ExtKeyUsage), check(pair.cert)); err == nil {
			if err := os.Chmod(keyFile, 0o600); err != nil {
				return nil, fmt.Errorf("make key private: %w", err)
			}
			return pair, nil
		}
	}

	if pair, err = issuePair(template, ca, now); err != nil {
		return nil, fmt.Errorf("issue certificate %q: %w", name, err)
	}
	// A crash between the two leaves a key and a certificate that do not belong
	// together, which the next start sees and repairs by issuing both again.
	if err := writeFileAtomic(keyFile, pair.keyPEM, 0o600); err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	if err := writeFileAtomic(certFile, pair.certPEM, 0o644); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	return pair, nil
}

func pairFiles(dir, name string) (certFile, keyFile string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

// loadPair fails if one of the files cannot be read or parsed, or if the key is
// not that of the certificate.
func loadPair(certFile, keyFile string) (*keyPair, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", pair.PrivateKey)
	}
	return &keyPair{cert: cert, key: key, certPEM: certPEM, keyPEM: keyPEM}, nil
}

// checkValid tells why cert is not one that ca signed, for usages, and that
// still has minValidity left.
func checkValid(cert, ca *x509.Certificate, now time.Time, usages []x509.ExtKeyUsage) error {
	if cert.NotAfter.Before(now.Add(minValidity)) {
		return fmt.Errorf("it ends at %s", cert.NotAfter)
	}
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: usages})
	return err
}

// checkCA tells why cert cannot be an authority; a chain of one certificate that
// is its own root passes Verify without being one.
func checkCA(cert *x509.Certificate) error {
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("it is not for an authority")
	}
	return cert.CheckSignatureFrom(cert)
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

// issuePair makes a new P-256 key and a certificate of template for it.
func issuePair(template *x509.Certificate, ca *keyPair, now time.Time) (*keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	parent, signer := template, crypto.Signer(key)
	if ca != nil {
		parent, signer = ca.cert, ca.key
		// A certificate that outlives its authority says more than is true.
		if template.NotAfter.After(ca.cert.NotAfter) {
			template.NotAfter = ca.cert.NotAfter
		}
	}
	template.NotBefore = now.Add(-clockSkew)
	// Without a serial number in the template a random one is made.
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: der})
	return &keyPair{cert: cert, key: key, certPEM: certPEM, keyPEM: keyPEM}, nil
}
