// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// expiration is the expiry time of the current certificates and CAs.
var expiration = registered(metrics.NewGaugeVec(&metrics.GaugeOpts{
	Namespace:      "ipam",
	Subsystem:      "certificate",
	Name:           "expiration_timestamp_seconds",
	Help:           "Expiration time of certificates and CAs, in seconds since 1970-01-01 UTC, by certificate: serving, ca, etcd, etcd-client or etcd-ca.",
	StabilityLevel: metrics.ALPHA,
}, []string{"certificate"}))

func registered(gauge *metrics.GaugeVec) *metrics.GaugeVec {
	legacyregistry.MustRegister(gauge)
	return gauge
}
