// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// droppedEvents counts what was not recorded.
var droppedEvents = metrics.NewCounterVec(&metrics.CounterOpts{
	Namespace:      "ipam",
	Subsystem:      "controller",
	Name:           "events_dropped_total",
	Help:           "Events that were not recorded since there were too many of their type, Normal or Warning, at the time.",
	StabilityLevel: metrics.ALPHA,
}, []string{"type"})

func init() { legacyregistry.MustRegister(droppedEvents) }

// noEvents is for where there is no API for events.
type noEvents struct{}

// Eventf implements events.EventRecorder.
func (noEvents) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) {}

// limitedEvents records no more events of a type than a limit allows.
type limitedEvents struct {
	events.EventRecorder
	normal, warning flowcontrol.RateLimiter
}

// LimitEvents returns a recorder that passes on so many events a second of each type, Normal and Warning, and
// a burst of others first. What is more is dropped and counted. Events are objects of the cluster, each of which
// costs its API server as much as a child costs ours, and what they tell is in conditions too.
func LimitEvents(recorder events.EventRecorder, qps float32, burst int) events.EventRecorder {
	return &limitedEvents{recorder, flowcontrol.NewTokenBucketRateLimiter(qps, burst), flowcontrol.NewTokenBucketRateLimiter(qps, burst)}
}

// Eventf implements events.EventRecorder.
func (l *limitedEvents) Eventf(regarding, related runtime.Object, eventType, reason, action, note string, args ...any) {
	limit := l.normal
	if eventType == corev1.EventTypeWarning {
		limit = l.warning
	}
	if !limit.TryAccept() {
		droppedEvents.WithLabelValues(eventType).Inc()
		return
	}
	// A longer note would be refused, so that nothing was told.
	l.EventRecorder.Eventf(regarding, related, eventType, reason, action, "%s", text.Cut(fmt.Sprintf(note, args...), text.MaxNote))
}
