// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	corev1 "k8s.io/api/core/v1"
	certutil "k8s.io/client-go/util/cert"
)

const (
	// caKey is the key of the Secret of a leaf that has all authorities to trust.
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
// signed none of the leaves once all of these have been there for long enough to be in use everywhere.
// A new one has to be within the last third of the time of the one before, so a third of its own time
// is long enough. A leaf without a pair is not known, and so may be signed by anybody.
func (a *authority) prune(leaves []*kept, now time.Time) {
	slices.SortFunc(a.old, func(x, y *x509.Certificate) int { return y.NotAfter.Compare(x.NotAfter) })
	a.old = slices.CompactFunc(a.old, (*x509.Certificate).Equal)
	inDoubt := slices.ContainsFunc(leaves, func(l *kept) bool {
		if l.Pair == nil || now.Before(inUse(l.Cert)) {
			return true
		}
		_, err := a.signed(l, now)
		return err != nil
	})
	a.old = slices.DeleteFunc(a.old, func(old *x509.Certificate) bool {
		if old.Equal(a.Cert) || !now.Before(old.NotAfter) {
			return true
		}
		return !inDoubt && !slices.ContainsFunc(leaves, func(l *kept) bool { return l.verify(old, now) == nil })
	})
}

// signed tells whether the authority signed a leaf itself, or else whether an old one did, or else why
// it is of no use.
func (a *authority) signed(l *kept, now time.Time) (current bool, err error) {
	if err = l.verify(a.Cert, now); err == nil {
		return true, nil
	}
	if slices.ContainsFunc(a.old, func(old *x509.Certificate) bool { return l.verify(old, now) == nil }) {
		return false, nil
	}
	return false, err
}

// thirds returns when so many thirds of the time of a certificate have passed since it was issued.
func thirds(cert *x509.Certificate, n int) time.Time {
	return issued(cert).Add(cert.NotAfter.Sub(issued(cert)) * time.Duration(n) / 3)
}

func issued(cert *x509.Certificate) time.Time { return cert.NotBefore.Add(pki.ClockSkew) }

// due returns when a certificate or an authority is to be replaced.
func due(cert *x509.Certificate) time.Time { return thirds(cert, 2) }

// inUse returns when a certificate is in use wherever it is wanted.
func inUse(cert *x509.Certificate) time.Time { return thirds(cert, 1) }
