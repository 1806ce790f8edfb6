// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	// minRefused and maxRefused are how long a request that the server refused waits at least and at most
	// before it is made again. What made the server refuse, such as a quota, may end without an event.
	minRefused = 500 * time.Millisecond
	maxRefused = 10 * time.Second
	// refusedPerSecond is how many refused requests of one namespace are made again in a second, so that a
	// namespace with many of them costs the others nothing.
	refusedPerSecond = 10
)

// refusals tell when a request that the server refused may be made again. They are safe for concurrent use.
type refusals struct {
	backoff *flowcontrol.Backoff

	mu sync.Mutex
	// limits are by namespace, as long as the last request of the namespace was refused.
	limits map[string]*rate.Limiter
}

func newRefusals() *refusals {
	return &refusals{backoff: flowcontrol.NewBackOff(minRefused, maxRefused), limits: map[string]*rate.Limiter{}}
}

// wait returns how long the request of a child has to wait, which is 0 unless it was refused.
func (r *refusals) wait(child types.NamespacedName) time.Duration {
	if r.backoff.Get(child.String()) == 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit := r.limits[child.Namespace]; limit != nil && !limit.Allow() {
		return time.Second
	}
	return 0
}

// refused takes in that the server refused the request of a child, and returns when to make it again.
func (r *refusals) refused(child types.NamespacedName) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limits[child.Namespace] == nil {
		r.limits[child.Namespace] = rate.NewLimiter(refusedPerSecond, refusedPerSecond)
	}
	r.backoff.Next(child.String(), r.backoff.Clock.Now())
	return r.backoff.Get(child.String())
}

// accepted takes in that the server accepted the request of a child: the others may be made at once.
func (r *refusals) accepted(child types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.limits, child.Namespace)
	r.backoff.DeleteEntry(child.String())
}

// forget drops what is known of a child that is gone.
func (r *refusals) forget(child types.NamespacedName) { r.backoff.DeleteEntry(child.String()) }
