// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// inbox queues the events of the informers by namespace. An informer delivers the events of all namespaces one by one, so
// a slow handler would delay all namespaces. Therefore each namespace with queued events has its own goroutine, which
// handles them in order. A newer event of an object replaces the queued one and keeps its position. So the length of a
// queue is limited to the number of objects in the namespace, plus those deleted meanwhile.
type inbox struct {
	mu sync.Mutex
	// started is set when the initial lists are complete. Before that, put handles each event synchronously. After
	// stopped is set, put drops all events.
	started, stopped bool
	// queues has an entry for each namespace that has a goroutine.
	queues  map[string]*eventQueue
	workers sync.WaitGroup
}

// eventQueue holds the events of one namespace: order has the objects, and newest the event of each.
type eventQueue struct {
	order  []eventKey
	newest map[eventKey]func()
}

// eventKey identifies an object. It includes the UID, so that an event of a new object does not replace the deletion of
// an older object with the same name.
type eventKey struct {
	kind, name string
	uid        types.UID
}

func newInbox() *inbox { return &inbox{queues: map[string]*eventQueue{}} }

// put queues an event. handle processes it.
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

// next removes the next event from a queue and returns it. If the queue is empty or the inbox is stopped, it removes the
// queue and returns nil.
func (b *inbox) next(namespace string, q *eventQueue) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(q.order) == 0 || b.stopped {
		delete(b.queues, namespace)
		return nil
	}
	key := q.order[0]
	// Clear the element. Otherwise the backing array keeps its strings in memory.
	q.order[0] = eventKey{}
	q.order = q.order[1:]
	handle := q.newest[key]
	delete(q.newest, key)
	return handle
}

// start makes put queue all later events for the goroutine of their namespace.
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

// stop drops all queued and later events. It returns when all goroutines have ended.
func (b *inbox) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.workers.Wait()
}
