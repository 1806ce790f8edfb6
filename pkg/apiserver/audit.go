// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/rest"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// differencesGauge is what was found last.
var differencesGauge = registered(metrics.NewGaugeVec(&metrics.GaugeOpts{
	Namespace:      "ipam",
	Subsystem:      "claims",
	Name:           "differences",
	Help:           "Differences between objects and claims that were found last, by kind. Anything but 0 is wrong.",
	StabilityLevel: metrics.ALPHA,
}, []string{"kind"}))

// comparedGauge is when that was.
var comparedGauge = registered(metrics.NewGauge(&metrics.GaugeOpts{
	Namespace:      "ipam",
	Subsystem:      "claims",
	Name:           "compared_timestamp_seconds",
	Help:           "When all objects and claims had last been compared, in seconds since 1970.",
	StabilityLevel: metrics.ALPHA,
}))

func registered[G metrics.Registerable](gauge G) G {
	legacyregistry.MustRegister(gauge)
	return gauge
}

// report tells what was found, in the metric and in the log.
func report(ctx context.Context, differences []claims.Difference) {
	count := map[claims.DifferenceKind]int{}
	for _, d := range differences {
		count[d.Kind]++
	}
	for _, kind := range claims.DifferenceKinds {
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

// auditPeriodically looks for differences until the context ends, for the first time after one interval: those that there were
// at the start have been reported then.
func (s *Server) auditPeriodically(ctx context.Context, interval time.Duration) {
	select {
	case <-time.After(wait.Jitter(interval, 0.1)):
	case <-ctx.Done():
		return
	}
	wait.JitterUntilWithContext(ctx, func(ctx context.Context) {
		differences, err := s.claims.AuditSlowly(ctx)
		if err != nil {
			if ctx.Err() == nil {
				klog.FromContext(ctx).Error(err, "Cannot compare objects and claims")
			}
			return
		}
		report(ctx, differences)
	}, interval, 0.1, true)
}

// maxFreedLogged is how many claims that adoption removes are logged one by one.
const maxFreedLogged = 1000

// adopt makes the store fit to be served, and reports what it cannot mend.
func (s *Server) adopt(ctx context.Context) error {
	logger, freed := klog.FromContext(ctx), 0
	differences, err := s.claims.Adopt(ctx, func(d claims.Difference) {
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

// Store is access to the store without a server.
type Store struct {
	*claims.Claims
	close func()
}

// OpenStore returns access to the store that the options tell.
func OpenStore(etcd *genericoptions.EtcdOptions) (*Store, error) {
	config := genericapiserver.NewRecommendedConfig(Codecs)
	if err := setCodec(etcd); err != nil {
		return nil, err
	}
	etcd.EnableWatchCache = false
	etcd.SkipHealthEndpoints = true
	// To compact is up to a server.
	etcd.StorageConfig.CompactionInterval = 0
	if err := etcd.ApplyTo(&config.Config); err != nil {
		return nil, err
	}
	getter := claims.NewRESTOptionsGetter(config.RESTOptionsGetter, claims.Config{})
	group, err := rest.NewAPIGroupInfo(Scheme, Codecs, getter)
	if err != nil {
		return nil, err
	}
	return &Store{Claims: getter.Claims(), close: func() {
		for _, resources := range group.VersionedResourcesStorageMap {
			for _, storage := range resources {
				storage.Destroy()
			}
		}
	}}, nil
}

// Close ends the access.
func (s *Store) Close() { s.close() }
