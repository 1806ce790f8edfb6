// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package pki makes certificate authorities and certificates, and tells what is wrong with those
// that there are. It knows nothing of where they are kept.
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

// ClockSkew is how far certificates are dated back, for a client whose clock is behind.
const ClockSkew = time.Hour

// Pair is a certificate with its private key, parsed and in PEM.
type Pair struct {
	Cert            *x509.Certificate
	Key             crypto.Signer
	CertPEM, KeyPEM []byte
}

// ParsePair fails if one of the two cannot be parsed, or if the key is not that of the certificate.
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

// NewCA makes an authority. Its name ends with the time, because some clients mix up two
// authorities of the same name.
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

// Issue makes a new key and a certificate of template for it, which the authority signs. The
// certificate does not outlive the authority.
func (ca *Pair) Issue(template *x509.Certificate, now time.Time) (*Pair, error) {
	return issue(template, ca, now)
}

// issue makes a new P-256 key and a certificate of template for it, signed by ca, or by itself if
// ca is nil.
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
		// A certificate that outlives its authority says more than is true.
		if template.NotAfter.After(ca.Cert.NotAfter) {
			template.NotAfter = ca.Cert.NotAfter
		}
	}
	template.NotBefore = now.Add(-ClockSkew)
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
	return &Pair{Cert: cert, Key: key, CertPEM: certPEM, KeyPEM: keyPEM}, nil
}

// Verify tells why cert is not one that ca signed, for usages, or not valid at now. Without usages
// any will do.
func Verify(cert, ca *x509.Certificate, now time.Time, usages ...x509.ExtKeyUsage) error {
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: usages})
	return err
}

// CheckCA tells why cert cannot be an authority; a chain of one certificate that is its own root
// passes Verify without being one.
func CheckCA(cert *x509.Certificate) error {
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("it is not for an authority")
	}
	return cert.CheckSignatureFrom(cert)
}
