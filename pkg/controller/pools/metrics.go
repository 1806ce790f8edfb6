// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	infoDesc = metrics.NewDesc("ipam_pool_info",
		"The value is 1. The labels describe a pool, that is, a root Prefix or a Prefix that has children: its CIDR, its family, and the name of its parent if it has one.",
		[]string{"namespace", "prefix", "cidr", "ip_family", "parent"}, nil, metrics.ALPHA, "")
	addressesDesc = metrics.NewDesc("ipam_pool_addresses",
		"Number of addresses of a pool, by state: used; free; reserved by a PrefixPolicy and not in use; or cooling, after their child was deleted.",
		[]string{"namespace", "prefix", "state"}, nil, metrics.ALPHA, "")
	largestDesc = metrics.NewDesc("ipam_pool_largest_free_block_addresses",
		"Number of addresses in the largest free block of a pool. It is 0 if nothing is free.",
		[]string{"namespace", "prefix"}, nil, metrics.ALPHA, "")
	childrenDesc = metrics.NewDesc("ipam_pool_children",
		"Number of prefixes that are allocated from a pool.",
		[]string{"namespace", "prefix"}, nil, metrics.ALPHA, "")
	waitingDesc = metrics.NewDesc("ipam_pool_waiting_children",
		"Number of requests that wait for a pool, by reason. A request counts for the pools that its message names, which are at most 5. There is no series if none wait.",
		[]string{"namespace", "prefix", "reason"}, nil, metrics.ALPHA, "")
	omittedDesc = metrics.NewDesc("ipam_pools_omitted",
		"Number of pools without metrics of their own, because there are more than --pool-metrics-limit.",
		nil, nil, metrics.ALPHA, "")
	pendingDesc = metrics.NewDesc("ipam_children_pending",
		"Number of child Prefixes that are Pending, by reason. There is no series if there are none. Namespaces beyond --pool-metrics-limit are counted as (others).",
		[]string{"namespace", "reason"}, nil, metrics.ALPHA, "")
	oldestDesc = metrics.NewDesc("ipam_children_pending_oldest_creation_timestamp_seconds",
		"Creation time of the oldest child Prefix that is Pending, by reason, in seconds since 1970-01-01 UTC. There is no series if there is none.",
		[]string{"namespace", "reason"}, nil, metrics.ALPHA, "")
)

// exposed is the collector that is registered. It serves the metrics of the current Collector.
type exposed struct{ metrics.BaseStableCollector }

var _ metrics.StableCollector = &exposed{}

func init() { legacyregistry.CustomMustRegister(&exposed{}) }

// DescribeWithStability implements metrics.StableCollector.
func (*exposed) DescribeWithStability(descriptions chan<- *metrics.Desc) {
	for _, desc := range []*metrics.Desc{
		infoDesc, addressesDesc, largestDesc, childrenDesc, waitingDesc, omittedDesc, pendingDesc, oldestDesc,
	} {
		descriptions <- desc
	}
}

// CollectWithStability implements metrics.StableCollector.
func (*exposed) CollectWithStability(collected chan<- metrics.Metric) {
	if c := current.Load(); c != nil {
		c.collect(collected)
	}
}

func (c *Collector) collect(collected chan<- metrics.Metric) {
	gauge := func(desc *metrics.Desc, value float64, labels ...string) {
		collected <- metrics.NewLazyConstMetric(desc, metrics.GaugeValue, value, labels...)
	}
	pools, omitted := c.pools()
	gauge(omittedDesc, float64(omitted))
	for _, p := range pools {
		gauge(infoDesc, 1, p.namespace, p.name, p.cidr, p.family, p.parent)
		gauge(addressesDesc, p.used, p.namespace, p.name, "used")
		gauge(addressesDesc, p.free, p.namespace, p.name, "free")
		gauge(addressesDesc, p.reserved, p.namespace, p.name, "reserved")
		gauge(addressesDesc, p.cooling, p.namespace, p.name, "cooling")
		gauge(largestDesc, p.largest, p.namespace, p.name)
		gauge(childrenDesc, float64(p.children), p.namespace, p.name)
		for reason, count := range p.waiting {
			gauge(waitingDesc, float64(count), p.namespace, p.name, reason)
		}
	}
	for namespace, byReason := range c.pending() {
		for reason, p := range byReason {
			gauge(pendingDesc, float64(p.count), namespace, reason)
			gauge(oldestDesc, float64(p.oldest.Unix()), namespace, reason)
		}
	}
}
