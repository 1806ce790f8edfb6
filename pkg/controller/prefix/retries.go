// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/lru"
)

const (
	// minRefusedDelay and maxRefusedDelay are the minimum and maximum delay before a refused request is retried. The cause,
	// such as a quota, may end without an event.
	minRefusedDelay = 500 * time.Millisecond
	maxRefusedDelay = 10 * time.Second
	// refusedPerSecond is the maximum number of refused requests of one namespace that are retried per second. So
	// a namespace with many of them does not slow down the others.
	refusedPerSecond = 10
	// maxLimits is the maximum number of namespaces whose limits are kept. A namespace that was evicted is limited
	// again from the next refusal on.
	maxLimits = 4096
	// minReplaceDelay and maxReplaceDelay limit the delay before allocations of a child are replaced again. The first ones
	// are replaced at once, the next ones after minReplaceDelay. The delay doubles each time, up to maxReplaceDelay.
	minReplaceDelay = time.Second
	maxReplaceDelay = 2 * time.Minute
)

// retries limits how often the controller tries the same again for a child. It is safe for concurrent use.
type retries struct {
	// refused and replaced hold the current delays, by child.
	refused, replaced *flowcontrol.Backoff
	// limits holds a *rate.Limiter for each namespace of refused requests. It is removed when the server accepts a
	// request.
	limits *lru.Cache
}

func newRetries() *retries {
	return &retries{
		refused:  flowcontrol.NewBackOff(minRefusedDelay, maxRefusedDelay),
		replaced: flowcontrol.NewBackOff(minReplaceDelay, maxReplaceDelay),
		limits:   lru.New(maxLimits),
	}
}

// afterRefusal records that the server refused the request of a child. It returns the delay before the retry.
func (r *retries) afterRefusal(child types.NamespacedName) time.Duration {
	if _, ok := r.limits.Get(child.Namespace); !ok {
		r.limits.Add(child.Namespace, rate.NewLimiter(refusedPerSecond, refusedPerSecond))
	}
	r.refused.Next(child.String(), time.Now())
	return r.refused.Get(child.String())
}

// untilRequest returns how long to wait before the request of a child. It is 0 if the last request was not refused, or
// if the limit of the namespace admits a retry now. That call counts against the limit.
func (r *retries) untilRequest(child types.NamespacedName) time.Duration {
	limit, limited := r.limits.Get(child.Namespace)
	if limited && r.refused.Get(child.String()) > 0 && !limit.(*rate.Limiter).Allow() {
		return time.Second
	}
	return 0
}

// accepted records that the server accepted the request of a child. The others of the namespace may retry freely.
func (r *retries) accepted(child types.NamespacedName) {
	r.refused.DeleteEntry(child.String())
	r.limits.Remove(child.Namespace)
}

// untilReplacement returns how long to wait before allocations of a child are replaced. If it is 0, the caller replaces
// them now. Otherwise, if another scheduler fails every allocation, the controller would replace them without end.
func (r *retries) untilReplacement(child types.NamespacedName) time.Duration {
	now := time.Now()
	if r.replaced.IsInBackOffSinceUpdate(child.String(), now) {
		return r.replaced.Get(child.String())
	}
	r.replaced.Next(child.String(), now)
	return 0
}

// forget removes the delays of a child that is gone.
func (r *retries) forget(child types.NamespacedName) {
	r.refused.DeleteEntry(child.String())
	r.replaced.DeleteEntry(child.String())
}
