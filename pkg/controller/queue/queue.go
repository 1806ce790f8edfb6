// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package queue holds the names of the objects that a controller has to look at. Namespaces take turns, so
// that a namespace with very many names does not delay the others.
package queue

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

// Queue has each name at most once, and gives a name to one worker at a time.
type Queue = workqueue.TypedRateLimitingInterface[types.NamespacedName]

// New returns a queue whose metrics have that name.
func New(name string) Queue {
	// Each layer would make the one below it with the default order, so they are made one by one.
	fair := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[types.NamespacedName]{Name: name, Queue: newTurns()})
	delaying := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[types.NamespacedName]{Name: name, Queue: fair})
	return workqueue.NewTypedRateLimitingQueueWithConfig(newBackoff(),
		workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Name: name, DelayingQueue: delaying})
}

// turns is a queue in which namespaces take turns. The names of a namespace are first in, first out.
type turns struct {
	names map[string][]types.NamespacedName
	// order has each namespace that has names once.
	order []string
	len   int
}

var _ workqueue.Queue[types.NamespacedName] = &turns{}

func newTurns() *turns { return &turns{names: map[string][]types.NamespacedName{}} }

// Touch implements workqueue.Queue. A name that is added again keeps its place.
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
	// The array behind the slice must not keep the strings.
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
