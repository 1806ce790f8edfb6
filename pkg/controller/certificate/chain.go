// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	corev1 "k8s.io/api/core/v1"
)

// chain is a certificate authority (CA) and the certificates that it signs, its leaves.
type chain struct {
	// caName is the prefix of the common name of the CA. caSecret is the name of its Secret.
	caName, caSecret string
	// metric is the label of the CA in metrics.
	metric string
	leaves []leaf
	// published is true if the bundle is also written to the APIService.
	published bool
	// atRestart is true if processes read the bundle only when they start. They must then be restarted before
	// their certificate is due.
	atRestart bool

	// bundle is the published bundle. It has been in place since placed.
	bundle []byte
	placed time.Time
}

// leaf describes a certificate that a CA signs.
type leaf struct {
	secret string
	// metric is the label of the certificate in metrics.
	metric     string
	commonName string
	dnsNames   []string
	ips        []net.IP
	usages     []x509.ExtKeyUsage
}

// chains returns the chains that the configuration requests.
func (c Config) chains() []*chain {
	chains := []*chain{{
		caName:    c.Service + "-ca",
		caSecret:  c.CASecret,
		metric:    "ca",
		published: true,
		leaves: []leaf{{
			secret:     c.Secret,
			metric:     "serving",
			commonName: c.Service,
			dnsNames:   c.dnsNames(),
			usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}},
	}}
	if c.EtcdService != "" {
		name := c.EtcdService + "." + c.Namespace + ".svc"
		members := []string{"localhost"}
		// Each member name is listed in addition to the wildcard: etcd members look up each other's names, which
		// is not possible with a wildcard.
		for i := range etcdMembers {
			members = append(members, fmt.Sprintf("%s-%d.%s", c.EtcdService, i, name))
		}
		chains = append(chains, &chain{
			caName:    c.EtcdService + "-ca",
			caSecret:  c.EtcdService + "-ca",
			metric:    "etcd-ca",
			atRestart: true,
			leaves: []leaf{{
				secret:     c.EtcdService + "-tls",
				metric:     "etcd",
				commonName: c.EtcdService,
				dnsNames:   append(members, "*."+name, "*."+name+".cluster.local"),
				ips:        []net.IP{net.IPv4(127, 0, 0, 1).To4()},
				// etcd members are also clients of each other.
				usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			}, {
				secret:     c.EtcdService + "-client-tls",
				metric:     "etcd-client",
				commonName: c.Service,
				usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}},
		})
	}
	return chains
}

// etcdMembers is the number of etcd members that the certificate names. The cluster may have fewer.
const etcdMembers = 5

// secrets returns the names of all Secrets of the chain.
func (c *chain) secrets() []string {
	names := []string{c.caSecret}
	for _, l := range c.leaves {
		names = append(names, l.secret)
	}
	return names
}

// kept is a leaf and its current state.
type kept struct {
	leaf
	// object is the Secret of the leaf, or nil if there is none.
	object *corev1.Secret
	// Pair is nil if there is no usable certificate, whichever CA signed it. reason says why.
	*pki.Pair
	reason error
}

// keep returns the current state of a leaf, given its Secret.
func (l leaf) keep(object *corev1.Secret, now time.Time) *kept {
	k := &kept{leaf: l, object: object}
	pair, err := parsePair(object)
	if err != nil {
		k.reason = err
		return k
	}
	cert := pair.Cert
	switch {
	case !sameNames(cert.DNSNames, l.dnsNames):
		k.reason = fmt.Errorf("is valid for %q, not for %q", cert.DNSNames, l.dnsNames)
	case !slices.EqualFunc(cert.IPAddresses, l.ips, net.IP.Equal):
		k.reason = fmt.Errorf("is valid for %v, not for %v", cert.IPAddresses, l.ips)
	case now.Before(cert.NotBefore) || !now.Before(cert.NotAfter):
		k.reason = fmt.Errorf("is valid from %s to %s only", cert.NotBefore, cert.NotAfter)
	default:
		k.Pair = pair
	}
	return k
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// verify returns an error if ca did not sign the leaf, or if the leaf is not valid for all its usages.
func (k *kept) verify(ca *x509.Certificate, now time.Time) error {
	for _, usage := range k.usages {
		if err := pki.Verify(k.Cert, ca, now, usage); err != nil {
			return err
		}
	}
	return nil
}

// renewFirst reports whether the CA is due, but the leaf must be renewed before the CA is replaced.
func (k *kept) renewFirst(chain *chain, a *authority, now time.Time) bool {
	t := due(a.Cert)
	return chain.atRestart && !now.Before(t) && k.Pair != nil && k.verify(a.Cert, now) == nil && issued(k.Cert).Before(t)
}

// issue replaces the certificate with a new one that the CA signs.
func (k *kept) issue(a *authority, lifetime time.Duration, now time.Time) error {
	pair, err := a.Issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: k.commonName},
		NotAfter:    now.Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: k.usages,
		DNSNames:    k.dnsNames,
		IPAddresses: k.ips,
	}, now)
	if err == nil {
		k.Pair = pair
	}
	return err
}
