// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
)

// init disables feature gates by default. It runs before the flags are parsed, so --feature-gates can enable them
// again.
func init() {
	for _, feature := range []featuregate.Feature{
		// It keeps the key and the size of each object in memory, to estimate the cost of lists.
		features.SizeBasedListCostEstimate,
		// Every five minutes, it reads all objects from etcd and compares them with the watch cache. It exports the
		// result as a metric, and disables snapshots of the cache if there is a difference. A million children cannot
		// be read within five minutes alongside other work.
		features.DetectCacheInconsistency,
		// It compresses a watch that starts with a list for its whole lifetime, each event separately.
		features.WatchListCompression,
	} {
		utilruntime.Must(utilfeature.DefaultMutableFeatureGate.OverrideDefault(feature, false))
	}
}
