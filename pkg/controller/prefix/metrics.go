// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// allocationDuration is how long children take from their creation until they are Allocated.
var allocationDuration = metrics.NewHistogram(&metrics.HistogramOpts{
	Namespace: "ipam",
	Name:      "child_allocation_duration_seconds",
	Help:      "Time from the creation of a child Prefix until it is Allocated, in seconds. For children that take more than 10 s it is exact to one second.",
	// From 5 ms to 82 s, and then minutes and hours for those that wait for space.
	Buckets:        append(metrics.ExponentialBuckets(0.005, 2, 15), 300, 900, 3600, 14400, 86400),
	StabilityLevel: metrics.ALPHA,
})

// registerMetrics registers the metrics once. It must not happen before the feature gates are applied: whether a histogram
// is a native one, too, is decided when it is registered.
var registerMetrics = sync.OnceFunc(func() { legacyregistry.MustRegister(allocationDuration) })

// arrivals knows when children were created. Creation timestamps are in whole seconds, so it remembers when the informer
// delivered those that were just created. It is safe for concurrent use.
type arrivals struct {
	now func() time.Time

	mu sync.Mutex
	// began is when recent replaced older. Both hold the children that arrived, by UID.
	began         time.Time
	recent, older map[types.UID]time.Time
}

// arrivalTTL is how long an arrival is remembered at least, and half of how long it is at most. After that, a second more
// or less does not matter.
const arrivalTTL = 10 * time.Second

func newArrivals() *arrivals { return &arrivals{now: time.Now} }

// rotate drops the arrivals that are too old.
func (a *arrivals) rotate(now time.Time) {
	switch age := now.Sub(a.began); {
	case age > 2*arrivalTTL:
		a.older, a.recent, a.began = nil, nil, now
	case age > arrivalTTL:
		a.older, a.recent, a.began = a.recent, nil, now
	}
}

// saw records that the informer delivered a new child. It ignores those that exist for longer, as all do after a start.
func (a *arrivals) saw(child *v1alpha1.Prefix) {
	now := a.now()
	// The timestamp is rounded down to a second, and the clock of the server may differ.
	if now.Sub(child.CreationTimestamp.Time) > 2*time.Second {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rotate(now)
	if a.recent == nil {
		a.recent = map[types.UID]time.Time{}
	}
	a.recent[child.UID] = now
}

// took forgets a child and returns how long ago it was created.
func (a *arrivals) took(child *v1alpha1.Prefix) time.Duration {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rotate(now)
	for _, known := range []map[types.UID]time.Time{a.recent, a.older} {
		if arrived, ok := known[child.UID]; ok {
			delete(known, child.UID)
			return now.Sub(arrived)
		}
	}
	return max(0, now.Sub(child.CreationTimestamp.Time))
}
