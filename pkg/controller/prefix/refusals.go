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
	// minRefused and maxRefused are the minimum and maximum delay before a refused request is retried. The cause,
	// such as a quota, may end without an event.
	minRefused = 500 * time.Millisecond
	maxRefused = 10 * time.Second
	// refusedPerSecond is the maximum number of refused requests of one namespace that are retried per second. So
	// a namespace with many of them does not slow down the others.
	refusedPerSecond = 10
)

// refusals tracks when a refused request may be retried. It is safe for concurrent use.
type refusals struct {
	backoff *flowcontrol.Backoff

	mu sync.Mutex
	// namespaces holds the namespaces that have refused requests.
	namespaces map[string]*refusedIn
}

// refusedIn holds the refused requests of one namespace.
type refusedIn struct {
	// children holds the names of the children whose request was refused.
	children map[string]struct{}
	// limit is the rate limit for all of them. It is nil after the server has accepted a request.
	limit *rate.Limiter
}

func newRefusals() *refusals {
	return &refusals{backoff: flowcontrol.NewBackOff(minRefused, maxRefused), namespaces: map[string]*refusedIn{}}
}

// wait returns how long to wait before the request of a child. It is 0 if the last request was not refused, or if
// the rate limit of the namespace admits a retry now. That call counts against the limit.
func (r *refusals) wait(child types.NamespacedName) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.namespaces[child.Namespace]
	if in == nil || in.limit == nil {
		return 0
	}
	if _, refused := in.children[child.Name]; refused && !in.limit.Allow() {
		return time.Second
	}
	return 0
}

// refused records that the server refused the request of a child. It returns the delay before the retry.
func (r *refusals) refused(child types.NamespacedName) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.namespaces[child.Namespace]
	if in == nil {
		in = &refusedIn{children: map[string]struct{}{}}
		r.namespaces[child.Namespace] = in
	}
	if in.limit == nil {
		in.limit = rate.NewLimiter(refusedPerSecond, refusedPerSecond)
	}
	in.children[child.Name] = struct{}{}
	r.backoff.Next(child.String(), r.backoff.Clock.Now())
	return r.backoff.Get(child.String())
}

// accepted records that the server accepted the request of a child, and removes the rate limit of its namespace.
func (r *refusals) accepted(child types.NamespacedName) {
	r.forget(child)
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.namespaces[child.Namespace]; in != nil {
		in.limit = nil
	}
}

// forget removes the state of a child.
func (r *refusals) forget(child types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backoff.DeleteEntry(child.String())
	if in := r.namespaces[child.Namespace]; in != nil {
		if delete(in.children, child.Name); len(in.children) == 0 {
			delete(r.namespaces, child.Namespace)
		}
	}
}
