// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Config says where the certificates are stored, which names they are for, and how long they are valid.
type Config struct {
	// Namespace is the namespace of the Secrets and of the Service.
	Namespace string
	// Secret is the name of the Secret with the serving certificate.
	Secret string
	// CASecret is the name of the Secret with the CA certificate and its private key.
	CASecret string
	// Service is the name of the Service of the API server.
	Service string
	// EtcdService is the name of the headless Service of the etcd members. If it is set, the certificates of etcd
	// are maintained too, in Secrets named after it: suffix -ca for the CA, -tls for the members, -client-tls for
	// the API server as a client. If it is empty, etcd is not managed.
	EtcdService string
	// Lifetime is the validity of a certificate, CALifetime that of a CA. Each is replaced when a third of it is
	// left.
	Lifetime, CALifetime time.Duration
}

// minLifetime is the minimum Lifetime. A third of it, 20 minutes, is left to deliver a renewed certificate to the
// API server. The kubelet needs a few minutes of that to update the mounted Secret.
const minLifetime = time.Hour

// NewConfig returns the default configuration.
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

// Validate returns all errors in the configuration, or nil.
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
				errs = append(errs, fmt.Errorf("the Secret %q cannot hold two certificates or CAs", secret))
			}
			seen[secret] = true
		}
	}
	if c.Lifetime < minLifetime {
		errs = append(errs, fmt.Errorf("the lifetime of certificates must be at least %s, not %s", minLifetime, c.Lifetime))
	}
	if c.CALifetime < 3*c.Lifetime {
		errs = append(errs, fmt.Errorf("the lifetime of a CA must be at least three times that of its certificates (%s), not %s",
			c.Lifetime, c.CALifetime))
	}
	return errors.Join(errs...)
}

// dnsNames returns the DNS names of the Service. Kubernetes connects by the first one.
func (c Config) dnsNames() []string {
	name := c.Service + "." + c.Namespace
	return []string{name + ".svc", name + ".svc.cluster.local", name, c.Service}
}

// settleTime is how long a new CA is published before it signs certificates. This gives every kube-apiserver time
// to receive the changed APIService.
func (c Config) settleTime() time.Duration {
	return min(10*time.Minute, c.Lifetime/10)
}
