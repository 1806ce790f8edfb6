// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package queue holds the names of the objects that a controller has to look at.
package queue

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

// Queue has each name at most once, and gives a name to one worker at a time.
type Queue = workqueue.TypedRateLimitingInterface[types.NamespacedName]

// The first retry of a name waits for minDelay, each one after it for twice as long as the last, up to maxDelay: so long at most
// does a name still wait when what kept it from being done is over. Less would be much work where very many fail for good.
const (
	minDelay = 5 * time.Millisecond
	maxDelay = 2 * time.Minute
)

// New returns a queue whose metrics have that name. What is tried again waits by its own backoff alone: with client-go's default
// limiter all names share ten retries a second as well, so that many that fail once would wait for each other.
func New(name string) Queue {
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](minDelay, maxDelay),
		workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Name: name})
}
