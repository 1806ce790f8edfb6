// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/store"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/rest"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// differencesGauge is the number of differences that the last comparison found, by kind.
var differencesGauge = registered(metrics.NewGaugeVec(&metrics.GaugeOpts{
	Namespace:      "ipam",
	Subsystem:      "claims",
	Name:           "differences",
	Help:           "Number of differences between objects and claims in the last audit, by kind. It must be 0.",
	StabilityLevel: metrics.ALPHA,
}, []string{"kind"}))

// comparedGauge is the time of the last comparison.
var comparedGauge = registered(metrics.NewGauge(&metrics.GaugeOpts{
	Namespace:      "ipam",
	Subsystem:      "claims",
	Name:           "compared_timestamp_seconds",
	Help:           "Time of the last complete audit of objects and claims, in seconds since 1970-01-01 UTC.",
	StabilityLevel: metrics.ALPHA,
}))

// intervalGauge is the interval between two comparisons.
var intervalGauge = registered(metrics.NewGauge(&metrics.GaugeOpts{
	Namespace:      "ipam",
	Subsystem:      "claims",
	Name:           "audit_interval_seconds",
	Help:           "Interval between two audits of objects and claims (--claims-audit-interval), in seconds. It is 0 if there is only the audit at start.",
	StabilityLevel: metrics.ALPHA,
}))

func registered[G metrics.Registerable](gauge G) G {
	legacyregistry.MustRegister(gauge)
	return gauge
}

// report publishes the result of a comparison in the metrics and the log. It logs at most ten differences, and the
// number of the others.
func report(ctx context.Context, differences []audit.Difference) {
	count := map[audit.DifferenceKind]int{}
	for _, d := range differences {
		count[d.Kind]++
	}
	for _, kind := range audit.DifferenceKinds {
		differencesGauge.WithLabelValues(string(kind)).Set(float64(count[kind]))
	}
	comparedGauge.SetToCurrentTime()
	for i, d := range differences {
		if i == 10 {
			klog.FromContext(ctx).Error(nil, "More differences between objects and claims", "count", len(differences)-i)
			break
		}
		klog.FromContext(ctx).Error(nil, "Difference between objects and claims", "kind", d.Kind,
			"object", klog.KRef(d.Namespace, d.Name), "parent", d.Parent, "prefix", d.Prefix, "message", d.Message, "key", d.Key)
	}
}

// auditPeriodically compares objects with claims until ctx ends. It waits for one interval before the first comparison,
// because adopt reports the differences at the start.
func (s *Server) auditPeriodically(ctx context.Context, interval time.Duration) {
	intervalGauge.Set(interval.Seconds())
	select {
	case <-time.After(wait.Jitter(interval, 0.1)):
	case <-ctx.Done():
		return
	}
	wait.JitterUntilWithContext(ctx, func(ctx context.Context) {
		differences, err := s.auditor.Audit(ctx, audit.Slowly, audit.LeftoverGrace)
		if err != nil {
			if ctx.Err() == nil {
				klog.FromContext(ctx).Error(err, "Cannot compare objects and claims")
			}
			return
		}
		report(ctx, differences)
	}, interval, 0.1, true)
}

// maxFreedLogged is the maximum number of removed claims that adopt logs individually.
const maxFreedLogged = 1000

// adopt repairs the stored data before it is served, and reports the differences that it cannot repair. See
// audit.Auditor.Adopt.
func (s *Server) adopt(ctx context.Context) error {
	logger, freed := klog.FromContext(ctx), 0
	differences, err := s.auditor.Adopt(ctx, func(d audit.Difference) {
		if freed++; freed <= maxFreedLogged {
			logger.Info("Removed the claim of a PrefixAllocation that is gone", "prefix", d.Prefix, "parentUID", d.Parent,
				"allocation", klog.KRef(d.Namespace, d.Name), "key", d.Key)
		}
	})
	if freed > 0 {
		logger.Info("Removed claims of PrefixAllocations that are gone", "count", freed)
	}
	if err != nil {
		return fmt.Errorf("adopting the store: %w", err)
	}
	report(ctx, differences)
	return nil
}

// Store provides access to the stored data without a server.
type Store struct {
	*audit.Auditor
	registry *rest.Registry
}

// OpenStore connects to the etcd in the options. The caller must close the Store. OpenStore changes the options: it
// disables the watch cache, health endpoints and compaction.
func OpenStore(etcd *genericoptions.EtcdOptions) (*Store, error) {
	config := genericapiserver.NewRecommendedConfig(Codecs)
	if err := setCodec(etcd); err != nil {
		return nil, err
	}
	etcd.EnableWatchCache = false
	etcd.SkipHealthEndpoints = true
	// Compaction is left to the servers.
	etcd.StorageConfig.CompactionInterval = 0
	if err := etcd.ApplyTo(&config.Config); err != nil {
		return nil, err
	}
	registry, err := rest.New(Scheme, Codecs, config.RESTOptionsGetter, store.Config{})
	if err != nil {
		return nil, err
	}
	return &Store{Auditor: registry.Auditor, registry: registry}, nil
}

// Close closes the connections to etcd.
func (s *Store) Close() { s.registry.Destroy() }
