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
	// caKey is the data key for the CA bundle in the Secret of a leaf.
	caKey = "ca.crt"
	// oldKey is the data key for the certificates of earlier CAs in the Secret of the CA.
	oldKey = "old.crt"
)

// authority is a certificate authority (CA) that signs leaves.
type authority struct {
	*pki.Pair
	// old holds the certificates of earlier CAs that must still be trusted. Their keys are deleted.
	old []*x509.Certificate
}

// parseAuthority returns the CA in a Secret, or an error that says why there is none. The old CAs are returned in
// both cases.
func parseAuthority(secret *corev1.Secret, now time.Time) (*authority, error) {
	if secret == nil {
		return &authority{}, errMissing
	}
	// Ignore certificates that cannot be parsed: they cannot be trusted either.
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

// bundle returns the certificates of all CAs that must be trusted, in PEM, the current CA first.
func (a *authority) bundle() ([]byte, error) {
	return certutil.EncodeCertificates(append([]*x509.Certificate{a.Cert}, a.old...)...)
}

// prune removes old CAs that are not needed any more. These are the expired ones, and those that signed none of
// the leaves once every leaf is old enough to be in use everywhere. Renewed certificates must be in use within the
// last third of the lifetime of the previous ones, so a third of their own lifetime is enough. A leaf without a
// pair is unknown, and any CA may have signed it.
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

// signed returns true if the current CA signed a leaf, and false if an old CA signed it. It returns an error if
// neither did, or if the leaf is not valid.
func (a *authority) signed(l *kept, now time.Time) (current bool, err error) {
	if err = l.verify(a.Cert, now); err == nil {
		return true, nil
	}
	if slices.ContainsFunc(a.old, func(old *x509.Certificate) bool { return l.verify(old, now) == nil }) {
		return false, nil
	}
	return false, err
}

// thirds returns the time when n thirds of the lifetime of a certificate have passed.
func thirds(cert *x509.Certificate, n int) time.Time {
	return issued(cert).Add(cert.NotAfter.Sub(issued(cert)) * time.Duration(n) / 3)
}

func issued(cert *x509.Certificate) time.Time { return cert.NotBefore.Add(pki.ClockSkew) }

// due returns when a certificate or a CA must be replaced.
func due(cert *x509.Certificate) time.Time { return thirds(cert, 2) }

// inUse returns when a certificate can be assumed to be in use everywhere.
func inUse(cert *x509.Certificate) time.Time { return thirds(cert, 1) }
