// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"sync/atomic"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var objectsDesc = metrics.NewDesc("ipam_scheduler_objects",
	"Number of objects in memory of the scheduler, by type: namespaces; prefixes; holders, which are allocations that hold space or for which it is assumed; pending allocations; and waiting ones, which are pending and for which there is no space.",
	[]string{"type"}, nil, metrics.ALPHA, "")

// exposed is the collector that is registered. It serves the metrics of the current scheduler.
type exposed struct{ metrics.BaseStableCollector }

var _ metrics.StableCollector = &exposed{}

func init() { legacyregistry.CustomMustRegister(&exposed{}) }

// current is the index whose metrics are served. Several schedulers can run in one process, one after the other.
var current atomic.Pointer[index]

// expose serves the metrics of the index until the context ends.
func (x *index) expose(ctx context.Context) {
	current.Store(x)
	context.AfterFunc(ctx, func() { current.CompareAndSwap(x, nil) })
}

// DescribeWithStability implements metrics.StableCollector.
func (*exposed) DescribeWithStability(descriptions chan<- *metrics.Desc) { descriptions <- objectsDesc }

// CollectWithStability implements metrics.StableCollector.
func (*exposed) CollectWithStability(collected chan<- metrics.Metric) {
	x := current.Load()
	if x == nil {
		return
	}
	for kind, count := range x.objectCounts() {
		collected <- metrics.NewLazyConstMetric(objectsDesc, metrics.GaugeValue, float64(count), kind)
	}
}

// objectCounts returns the numbers of objects in the index, by type.
func (x *index) objectCounts() map[string]int {
	x.mu.Lock()
	namespaces := make([]*namespace, 0, len(x.namespaces))
	for _, ns := range x.namespaces {
		namespaces = append(namespaces, ns)
	}
	x.mu.Unlock()
	sizes := map[string]int{"namespaces": len(namespaces), "prefixes": 0, "holders": 0, "pending": 0, "waiting": 0}
	for _, ns := range namespaces {
		ns.mu.Lock()
		sizes["prefixes"] += len(ns.parents)
		sizes["holders"] += len(ns.holders)
		sizes["pending"] += len(ns.pending)
		for _, t := range ns.tenants {
			sizes["waiting"] += len(t.waiting)
		}
		ns.mu.Unlock()
	}
	return sizes
}

// Waiting returns the number of allocations that wait for each Prefix of a namespace, by its name and by reason. An
// allocation waits for the Prefixes that its message names.
func (s *Scheduler) Waiting(namespace string) map[string]map[string]int {
	ns := s.index.lock(namespace)
	defer s.index.unlock(ns)
	count := map[string]map[string]int{}
	for w := range ns.waiting() {
		for _, p := range w.explainedBy {
			if count[p.name] == nil {
				count[p.name] = map[string]int{}
			}
			count[p.name][w.reason]++
		}
	}
	return count
}
