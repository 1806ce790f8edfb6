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
	// namespaces are those of which a request was refused last time.
	namespaces map[string]*refusedIn
}

// refusedIn are the refused requests of a namespace.
type refusedIn struct {
	// children are those whose request was refused, by name.
	children map[string]struct{}
	// limit is for all of them, and nil once the server accepted one.
	limit *rate.Limiter
}

func newRefusals() *refusals {
	return &refusals{backoff: flowcontrol.NewBackOff(minRefused, maxRefused), namespaces: map[string]*refusedIn{}}
}

// wait returns how long the request of a child has to wait, which is 0 unless it was refused.
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

// refused takes in that the server refused the request of a child, and returns when to make it again.
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

// accepted takes in that the server accepted the request of a child: the others may be made at once.
func (r *refusals) accepted(child types.NamespacedName) {
	r.forget(child)
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.namespaces[child.Namespace]; in != nil {
		in.limit = nil
	}
}

// forget drops what is known of a child.
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
