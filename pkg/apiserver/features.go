// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
)

// This is before flags are added, and --feature-gates has the last word.
func init() {
	for _, feature := range []featuregate.Feature{
		// To estimate what a list costs, the size of each object would be kept, with its key.
		features.SizeBasedListCostEstimate,
		// All objects would be read from etcd every five minutes and compared with the watch cache, for a metric, and to do
		// without snapshots of it when they differ. A million children are more than can be read in that time beside other
		// work.
		features.DetectCacheInconsistency,
		// A watch that begins with a list would be compressed as long as it lasts, event by event.
		features.WatchListCompression,
	} {
		utilruntime.Must(utilfeature.DefaultMutableFeatureGate.OverrideDefault(feature, false))
	}
}
