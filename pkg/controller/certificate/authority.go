// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	corev1 "k8s.io/api/core/v1"
	certutil "k8s.io/client-go/util/cert"
)

const (
	// caKey is the key of the Secret with the serving certificate that has all authorities to trust.
	caKey = "ca.crt"
	// oldKey is the key of the Secret with the authority that has the certificates of earlier ones.
	oldKey = "old.crt"
)

// authority signs certificates.
type authority struct {
	*pki.Pair
	// old are earlier authorities that still have to be trusted. Their keys are gone.
	old []*x509.Certificate
}

// parseAuthority returns the authority in a Secret, or why there is none, but in any case the old
// ones.
func parseAuthority(secret *corev1.Secret, now time.Time) (*authority, error) {
	if secret == nil {
		return &authority{}, errMissing
	}
	// What cannot be read cannot be trusted either.
	old, _ := certutil.ParseCertsPEM(secret.Data[oldKey])
	a := &authority{old: old}
	pair, err := parsePair(secret)
	if err != nil {
		return a, err
	}
	if err := pki.CheckCA(pair.Cert); err != nil {
		return a, err
	}
	if err := pki.Verify(pair.Cert, pair.Cert, now); err != nil {
		return a, err
	}
	a.Pair = pair
	return a, nil
}

func parsePair(secret *corev1.Secret) (*pki.Pair, error) {
	if secret == nil {
		return nil, errMissing
	}
	return pki.ParsePair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
}

// bundle returns all authorities that have to be trusted, the one that signs first.
func (a *authority) bundle() ([]byte, error) {
	return certutil.EncodeCertificates(append([]*x509.Certificate{a.Cert}, a.old...)...)
}

// prune forgets old authorities that nobody needs any more: those that have expired, and those that
// did not sign the serving certificate once that has been there for long enough to be in use
// everywhere. A new one has to be within the last third of the time of the one before, so a third of
// its own time is long enough. serving is nil if there is no good one.
func (a *authority) prune(serving *pki.Pair, now time.Time) {
	slices.SortFunc(a.old, func(x, y *x509.Certificate) int { return y.NotAfter.Compare(x.NotAfter) })
	a.old = slices.CompactFunc(a.old, (*x509.Certificate).Equal)
	a.old = slices.DeleteFunc(a.old, func(old *x509.Certificate) bool {
		if old.Equal(a.Cert) || !now.Before(old.NotAfter) {
			return true
		}
		return serving != nil && !now.Before(inUse(serving.Cert)) && verify(serving.Cert, old, now) != nil
	})
}

// verify tells why a serving certificate is not one that an authority signed, or no longer valid.
func verify(serving, ca *x509.Certificate, now time.Time) error {
	return pki.Verify(serving, ca, now, x509.ExtKeyUsageServerAuth)
}

// signed tells whether the authority signed a serving certificate itself, or else whether an old one
// did, or else why it is of no use.
func (a *authority) signed(serving *x509.Certificate, now time.Time) (current bool, err error) {
	if err = verify(serving, a.Cert, now); err == nil {
		return true, nil
	}
	if slices.ContainsFunc(a.old, func(old *x509.Certificate) bool { return verify(serving, old, now) == nil }) {
		return false, nil
	}
	return false, err
}

// issue signs a new serving certificate.
func (a *authority) issue(config Config, now time.Time) (*pki.Pair, error) {
	return a.Issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: config.Service},
		NotAfter:    now.Add(config.Lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    config.dnsNames(),
	}, now)
}

// parseServing returns the serving certificate in a Secret, or why it is of no use, whoever signed it.
func parseServing(secret *corev1.Secret, config Config, now time.Time) (*pki.Pair, error) {
	pair, err := parsePair(secret)
	if err != nil {
		return nil, err
	}
	if names := config.dnsNames(); !sameNames(pair.Cert.DNSNames, names) {
		return nil, fmt.Errorf("is for %q, not for %q", pair.Cert.DNSNames, names)
	}
	if now.Before(pair.Cert.NotBefore) || !now.Before(pair.Cert.NotAfter) {
		return nil, fmt.Errorf("is valid from %s to %s only", pair.Cert.NotBefore, pair.Cert.NotAfter)
	}
	return pair, nil
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// thirds returns when so many thirds of the time of a certificate have passed since it was issued.
func thirds(cert *x509.Certificate, n int) time.Time {
	issued := cert.NotBefore.Add(pki.ClockSkew)
	return issued.Add(cert.NotAfter.Sub(issued) * time.Duration(n) / 3)
}

// due returns when a certificate or an authority is to be replaced.
func due(cert *x509.Certificate) time.Time { return thirds(cert, 2) }

// inUse returns when a serving certificate is in use wherever it is wanted.
func inUse(cert *x509.Certificate) time.Time { return thirds(cert, 1) }
