// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package queue provides the work queue of the controllers, and their workers. The queue holds the names of the objects to
// process. Namespaces are served round-robin, so a namespace with very many names does not delay the others.
package queue

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

// Queue is a rate-limited work queue of object names. It holds each name at most once, and no two workers process the
// same name concurrently.
type Queue = workqueue.TypedRateLimitingInterface[types.NamespacedName]

// New returns an empty queue. Its metrics carry the given name.
func New(name string) Queue {
	// By default each layer creates the layer below it, in first-in, first-out order. Create them one by one to set the
	// order.
	fair := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[types.NamespacedName]{Name: name, Queue: newTurns()})
	delaying := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[types.NamespacedName]{Name: name, Queue: fair})
	return workqueue.NewTypedRateLimitingQueueWithConfig(newBackoff(),
		workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Name: name, DelayingQueue: delaying})
}

// turns is the order of the queue: round-robin over the namespaces, and first in, first out within a namespace.
type turns struct {
	names map[string][]types.NamespacedName
	// order holds each namespace that has names exactly once. The next one to serve comes first.
	order []string
	len   int
}

var _ workqueue.Queue[types.NamespacedName] = &turns{}

func newTurns() *turns { return &turns{names: map[string][]types.NamespacedName{}} }

// Touch implements workqueue.Queue. A name that is added again keeps its position.
func (t *turns) Touch(types.NamespacedName) {}

// Push implements workqueue.Queue.
func (t *turns) Push(name types.NamespacedName) {
	names, ok := t.names[name.Namespace]
	if !ok {
		t.order = append(t.order, name.Namespace)
	}
	t.names[name.Namespace] = append(names, name)
	t.len++
}

// Len implements workqueue.Queue.
func (t *turns) Len() int { return t.len }

// Pop implements workqueue.Queue.
func (t *turns) Pop() types.NamespacedName {
	namespace := t.order[0]
	t.order[0] = ""
	t.order = t.order[1:]
	names := t.names[namespace]
	name := names[0]
	// Clear the element. Otherwise the backing array keeps its strings in memory.
	names[0] = types.NamespacedName{}
	if names = names[1:]; len(names) == 0 {
		delete(t.names, namespace)
	} else {
		t.names[namespace] = names
		t.order = append(t.order, namespace)
	}
	t.len--
	return name
}
