// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package pki creates and checks certificate authorities (CAs) and certificates. It does not store them.
package pki

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
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// ClockSkew is how far notBefore of a certificate is in the past, for clients whose clock is behind.
const ClockSkew = time.Hour

// Pair is a certificate with its private key, both parsed and in PEM.
type Pair struct {
	Cert            *x509.Certificate
	Key             crypto.Signer
	CertPEM, KeyPEM []byte
}

// ParsePair parses a certificate and its key. It returns an error if one of them cannot be parsed, or if they do
// not match.
func ParsePair(certPEM, keyPEM []byte) (*Pair, error) {
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
	return &Pair{Cert: cert, Key: key, CertPEM: certPEM, KeyPEM: keyPEM}, nil
}

// NewCA creates a self-signed CA that is valid for lifetime. Its common name is name, "@" and the Unix time now,
// because some clients confuse two CAs with the same name.
func NewCA(name string, now time.Time, lifetime time.Duration) (*Pair, error) {
	return issue(&x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s@%d", name, now.Unix())},
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}, nil, now)
}

// Issue creates a new key and a certificate for it from template, signed by the CA. The certificate expires no
// later than the CA.
func (ca *Pair) Issue(template *x509.Certificate, now time.Time) (*Pair, error) {
	return issue(template, ca, now)
}

// issue creates a new P-256 key and a certificate for it from template. ca signs the certificate. If ca is nil, it
// is self-signed.
func issue(template *x509.Certificate, ca *Pair, now time.Time) (*Pair, error) {
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
		parent, signer = ca.Cert, ca.Key
		// A certificate is valid only as long as its CA.
		if template.NotAfter.After(ca.Cert.NotAfter) {
			template.NotAfter = ca.Cert.NotAfter
		}
	}
	template.NotBefore = now.Add(-ClockSkew)
	// CreateCertificate generates a random serial number if the template has none.
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: der})
	return &Pair{Cert: cert, Key: key, CertPEM: certPEM, KeyPEM: keyPEM}, nil
}

// Verify returns an error if ca did not sign cert, if cert is not valid at now, or if it is not valid for usages.
// Without usages, any usage is accepted.
func Verify(cert, ca *x509.Certificate, now time.Time, usages ...x509.ExtKeyUsage) error {
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: usages})
	return err
}

// CheckCA returns an error if cert cannot be used as a CA. Verify does not check this for a certificate that is
// its own root.
func CheckCA(cert *x509.Certificate) error {
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("it is not a CA certificate")
	}
	return cert.CheckSignatureFrom(cert)
}
