// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Config tells where the certificates are kept, for whom, and for how long they are good.
type Config struct {
	// Namespace is that of the Secrets and of the Service.
	Namespace string
	// Secret has the serving certificate.
	Secret string
	// CASecret has the authority, with its private key.
	CASecret string
	// Service is that of the API server.
	Service string
	// EtcdService is the headless Service of the members of an etcd whose certificates are kept too, in
	// Secrets that are named after it: with -ca the authority, with -tls that of the members, with
	// -client-tls that of the API server as a client. If it is empty, etcd is somebody else's.
	EtcdService string
	// Lifetime is that of a certificate, CALifetime that of an authority. Each is replaced when
	// a third of it is left.
	Lifetime, CALifetime time.Duration
}

// minLifetime leaves 20 minutes to bring a new certificate to the API server, of which the kubelet
// takes a few.
const minLifetime = time.Hour

// NewConfig returns the defaults.
func NewConfig() Config {
	return Config{
		Namespace:  "ipam-system",
		Secret:     "ipam-apiserver-tls",
		CASecret:   "ipam-apiserver-ca",
		Service:    "ipam-apiserver",
		Lifetime:   90 * 24 * time.Hour,
		CALifetime: 10 * 365 * 24 * time.Hour,
	}
}

// Validate tells every mistake in the configuration.
func (c Config) Validate() error {
	var errs []error
	name := func(what, value string, check func(string) []string) {
		for _, message := range check(value) {
			errs = append(errs, fmt.Errorf("%s %q of certificates: %s", what, value, message))
		}
	}
	name("namespace", c.Namespace, validation.IsDNS1123Label)
	name("secret", c.Secret, validation.IsDNS1123Subdomain)
	name("CA secret", c.CASecret, validation.IsDNS1123Subdomain)
	name("service", c.Service, validation.IsDNS1035Label)
	if c.EtcdService != "" {
		name("service of etcd", c.EtcdService, validation.IsDNS1035Label)
	}
	seen := map[string]bool{}
	for _, chain := range c.chains() {
		for _, secret := range chain.secrets() {
			if seen[secret] {
				errs = append(errs, fmt.Errorf("two of the certificates and authorities cannot both be in secret %q", secret))
			}
			seen[secret] = true
		}
	}
	if c.Lifetime < minLifetime {
		errs = append(errs, fmt.Errorf("certificates have to be good for %s at least, not %s", minLifetime, c.Lifetime))
	}
	if c.CALifetime < 3*c.Lifetime {
		errs = append(errs, fmt.Errorf("the authority has to be good for three times as long as its certificates (%s) at least, not %s",
			c.Lifetime, c.CALifetime))
	}
	return errors.Join(errs...)
}

// dnsNames are the names by which the Service is reached. Kubernetes uses the first one.
func (c Config) dnsNames() []string {
	name := c.Service + "." + c.Namespace
	return []string{name + ".svc", name + ".svc.cluster.local", name, c.Service}
}

// settleTime is how long a new authority has to be published before it signs. It gives those that
// watch the APIService, every kube-apiserver, the time to see it.
func (c Config) settleTime() time.Duration {
	return min(10*time.Minute, c.Lifetime/10)
}
