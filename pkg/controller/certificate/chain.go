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

// chain is an authority and the certificates that it signs, its leaves.
type chain struct {
	// caName is what the name of the authority begins with, caSecret its Secret.
	caName, caSecret string
	// metric is the label of the authority in metrics.
	metric string
	leaves []leaf
	// published tells whether the bundle is also in the APIService.
	published bool
	// atRestart tells whether those who trust the authority read it when they start only. They have then
	// until their certificate is due to do so.
	atRestart bool

	// bundle is what has been in place since placed.
	bundle []byte
	placed time.Time
}

// leaf is a certificate.
type leaf struct {
	secret string
	// metric is its label in metrics.
	metric     string
	commonName string
	dnsNames   []string
	ips        []net.IP
	usages     []x509.ExtKeyUsage
}

// chains returns those that are to be kept.
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
		// The members look up the names of one another, which they cannot do with a wildcard alone.
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
				// Members are clients of one another.
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

// etcdMembers is how many members of etcd are named in their certificate, more than there need to be.
const etcdMembers = 5

// secrets are those of the chain.
func (c *chain) secrets() []string {
	names := []string{c.caSecret}
	for _, l := range c.leaves {
		names = append(names, l.secret)
	}
	return names
}

// kept is a leaf and what there is of it.
type kept struct {
	leaf
	// object is its Secret, nil if there is none.
	object *corev1.Secret
	// Pair is nil if there is none that is of use, whoever signed it; reason is why.
	*pki.Pair
	reason error
}

// keep looks at what there is of a leaf.
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
		k.reason = fmt.Errorf("is for %q, not for %q", cert.DNSNames, l.dnsNames)
	case !slices.EqualFunc(cert.IPAddresses, l.ips, net.IP.Equal):
		k.reason = fmt.Errorf("is for %v, not for %v", cert.IPAddresses, l.ips)
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

// verify tells why the leaf is not one that an authority signed, or not for what it has to be.
func (k *kept) verify(ca *x509.Certificate, now time.Time) error {
	for _, usage := range k.usages {
		if err := pki.Verify(k.Cert, ca, now, usage); err != nil {
			return err
		}
	}
	return nil
}

// renewFirst tells whether the authority is due, but the leaf is to be renewed before it is replaced.
func (k *kept) renewFirst(chain *chain, a *authority, now time.Time) bool {
	t := due(a.Cert)
	return chain.atRestart && !now.Before(t) && k.Pair != nil && k.verify(a.Cert, now) == nil && issued(k.Cert).Before(t)
}

// issue has a new certificate signed.
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
