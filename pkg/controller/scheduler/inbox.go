// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// inbox queues the events of the informers by namespace. An informer delivers the events of all namespaces one by one,
// so its handlers must not do the work of any: each namespace that has events has a goroutine that handles them in
// order. Of several events of an object only the newest is kept, in the place of the first. So a queue has no more
// events than there are objects, and objects that were deleted since.
type inbox struct {
	mu sync.Mutex
	// started is set when the initial lists are in. Until then the caller of put handles the event itself.
	started, stopped bool
	// queues has the namespaces that have a goroutine.
	queues  map[string]*eventQueue
	workers sync.WaitGroup
}

type eventQueue struct {
	order  []eventKey
	newest map[eventKey]func()
}

// eventKey identifies an object. The uid is part of it: the deletion of an object must not be replaced by an event of
// a later object of the same name.
type eventKey struct {
	kind, name string
	uid        types.UID
}

func newInbox() *inbox { return &inbox{queues: map[string]*eventQueue{}} }

// put takes an event, which is handled by calling the function.
func (b *inbox) put(namespace string, key eventKey, handle func()) {
	b.mu.Lock()
	if !b.started && !b.stopped {
		b.mu.Unlock()
		handle()
		return
	}
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	q := b.queues[namespace]
	if q == nil {
		q = &eventQueue{newest: map[eventKey]func(){}}
		b.queues[namespace] = q
		b.workers.Go(func() {
			for handle := b.next(namespace, q); handle != nil; handle = b.next(namespace, q) {
				handle()
			}
		})
	}
	if q.newest[key] == nil {
		q.order = append(q.order, key)
	}
	q.newest[key] = handle
}

// next takes the next event out of a queue. It returns nil, and the namespace has no queue any more, if there is none.
func (b *inbox) next(namespace string, q *eventQueue) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(q.order) == 0 || b.stopped {
		delete(b.queues, namespace)
		return nil
	}
	key := q.order[0]
	// The array behind the slice must not keep the strings.
	q.order[0] = eventKey{}
	q.order = q.order[1:]
	handle := q.newest[key]
	delete(q.newest, key)
	return handle
}

// start makes the events that follow be handled by the goroutines of their namespaces.
func (b *inbox) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started = true
}

// hasStarted reports whether start was called.
func (b *inbox) hasStarted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.started
}

// stop drops all events from now on. It returns when no goroutine is left.
func (b *inbox) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.workers.Wait()
}
