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
	// minDelay is the delay before the first retry of a name. The delay doubles with each further retry, up to maxDelay.
	// So a name is retried at most maxDelay after the cause of its failures is gone, unless spacing applies.
	minDelay = 5 * time.Millisecond
	maxDelay = 10 * time.Second
	// spacing limits the retries of a namespace in which very many names fail permanently. With n failing names, the
	// longest delay is at least n times spacing, so there are about 50 retries per second at most.
	spacing = 20 * time.Millisecond
)

// backoff is a rate limiter with an exponential delay for each name. It has no limit that all names share: the default
// limiter of client-go allows ten retries per second in total.
type backoff struct {
	mu sync.Mutex
	// failures is the number of consecutive failures, by namespace and name.
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
	// A larger shift would overflow.
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
