// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

const (
	// minDelay is how long the first retry of a name waits. Each later one waits twice as long as the one
	// before, up to maxDelay. So a name is done at most maxDelay after its obstacle is gone.
	minDelay = 5 * time.Millisecond
	maxDelay = 10 * time.Second
	// spacing limits the retries of a namespace where very many names fail for good: with n of them, the
	// longest delay is at least n times spacing, so that there are no more than 50 retries a second.
	spacing = 20 * time.Millisecond
)

// backoff tells how long a name waits until it is tried again. Names do not wait for each other: with the
// default limiter of client-go all names share ten retries a second.
type backoff struct {
	mu sync.Mutex
	// failures are how often a name failed in a row, by namespace and name.
	failures map[string]map[string]int
}

var _ workqueue.TypedRateLimiter[types.NamespacedName] = &backoff{}

func newBackoff() *backoff { return &backoff{failures: map[string]map[string]int{}} }

// When implements workqueue.TypedRateLimiter.
func (b *backoff) When(name types.NamespacedName) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := b.failures[name.Namespace]
	if names == nil {
		names = map[string]int{}
		b.failures[name.Namespace] = names
	}
	failures := names[name.Name]
	names[name.Name]++
	longest := max(maxDelay, time.Duration(len(names))*spacing)
	// Shifting by more would overflow.
	return min(minDelay<<min(failures, 30), longest)
}

// NumRequeues implements workqueue.TypedRateLimiter.
func (b *backoff) NumRequeues(name types.NamespacedName) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures[name.Namespace][name.Name]
}

// Forget implements workqueue.TypedRateLimiter.
func (b *backoff) Forget(name types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := b.failures[name.Namespace]
	delete(names, name.Name)
	if len(names) == 0 {
		delete(b.failures, name.Namespace)
	}
}
