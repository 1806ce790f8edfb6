// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"fmt"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/utils/lru"
)

// droppedEvents counts the events that were not recorded.
var droppedEvents = metrics.NewCounterVec(&metrics.CounterOpts{
	Namespace:      "ipam",
	Subsystem:      "controller",
	Name:           "events_dropped_total",
	Help:           "Number of events that the rate limit dropped, by type: Normal or Warning.",
	StabilityLevel: metrics.ALPHA,
}, []string{"type"})

func init() { legacyregistry.MustRegister(droppedEvents) }

// noEvents is an event recorder that does nothing, for clusters without an API for events.
type noEvents struct{}

// Eventf implements events.EventRecorder.
func (noEvents) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) {}

// limitedEvents is an event recorder with rate limits. limits has one entry for each event type.
type limitedEvents struct {
	events.EventRecorder
	limits map[string]*eventLimit
}

// eventLimit is the rate limit for the events of one type.
type eventLimit struct {
	qps   float32
	burst int
	total flowcontrol.RateLimiter
	// ofNamespaces holds the limits of the namespaces that had events most recently.
	ofNamespaces *lru.Cache
	mu           sync.Mutex
}

const (
	// namespaceShare is the divisor of the limit of one namespace: each may use a quarter of the total. So one
	// namespace does not suppress the events of the others.
	namespaceShare = 4
	// maxNamespaces is the maximum number of namespaces whose limits are kept. A namespace that was evicted starts
	// again with a full burst.
	maxNamespaces = 4096
)

// LimitEvents returns a recorder with a rate limit. For each type, Normal and Warning, it records at most qps
// events per second, with bursts of up to burst. One namespace may use a quarter of that. Other events are dropped
// and counted. Events are objects in the cluster. Each costs the Kubernetes API server as much as a child costs
// the IPAM API server, and conditions carry the same information.
func LimitEvents(recorder events.EventRecorder, qps float32, burst int) events.EventRecorder {
	l := &limitedEvents{recorder, map[string]*eventLimit{}}
	for _, eventType := range []string{corev1.EventTypeNormal, corev1.EventTypeWarning} {
		// The series is there before anything is dropped.
		droppedEvents.WithLabelValues(eventType)
		l.limits[eventType] = &eventLimit{
			qps: qps / namespaceShare, burst: max(1, burst/namespaceShare),
			total: flowcontrol.NewTokenBucketRateLimiter(qps, burst), ofNamespaces: lru.New(maxNamespaces),
		}
	}
	return l
}

// accept reports whether an event of a namespace is within the limits. If so, it counts against them.
func (l *eventLimit) accept(namespace string) bool {
	return l.ofNamespace(namespace).TryAccept() && l.total.TryAccept()
}

func (l *eventLimit) ofNamespace(namespace string) flowcontrol.RateLimiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limiter, ok := l.ofNamespaces.Get(namespace); ok {
		return limiter.(flowcontrol.RateLimiter)
	}
	limiter := flowcontrol.NewTokenBucketRateLimiter(l.qps, l.burst)
	l.ofNamespaces.Add(namespace, limiter)
	return limiter
}

// Eventf implements events.EventRecorder.
func (l *limitedEvents) Eventf(regarding, related runtime.Object, eventType, reason, action, note string, args ...any) {
	namespace := ""
	if object, err := meta.Accessor(regarding); err == nil {
		namespace = object.GetNamespace()
	}
	limit, ok := l.limits[eventType]
	if !ok {
		limit = l.limits[corev1.EventTypeNormal]
	}
	if !limit.accept(namespace) {
		droppedEvents.WithLabelValues(eventType).Inc()
		return
	}
	// The API server rejects longer notes, and the event would be lost.
	l.EventRecorder.Eventf(regarding, related, eventType, reason, action, "%s", text.Cut(fmt.Sprintf(note, args...), text.MaxNote))
}
