// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package watchbuffer keeps watches alive that are slow for a moment, and has events of a busy one go together.
//
// The watch cache of k8s.io/apiserver has room for ten events of each watch at first, and ends a watch
// that does not take them within some tens of milliseconds, or at once if the server has started only
// just now. A client on a busy machine, behind a proxy, is not always as fast as that when a thousand
// children are made at once, and one that has to watch anew waits a second or more before it does.
// So a watch that the cache has ended is taken up again after its last event, which the cache still knows.
//
// What an event costs both sides is mostly that it is sent: a frame, encrypted, a system call, and four goroutines that
// wake up. The handler of a watch sends what it has when there is no other event for it. So those that come within some
// milliseconds after others wait for each other.
package watchbuffer

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// gap is how much time there is between two groups of events.
	gap = 5 * time.Millisecond
	// group is how many events there are in one at most. As many may wait for a client that is slow, and as many more are on
	// their way to it. Each can have a copy of an object of its own.
	group = 64
)

// maxFruitless is how often a watch is taken up again in a row without getting an event.
const maxFruitless = 3

// WatchFunc begins a watch.
type WatchFunc func(context.Context, *metainternalversion.ListOptions) (watch.Interface, error)

// New returns a watch with the events of one that the function begins. A group of them may wait; when there are more, the other
// watch waits, or ends. If the other watch ends, it is begun again
// after the last event, unless that is not possible any more. The watch ends with the context at the latest.
func New(ctx context.Context, options *metainternalversion.ListOptions, begin WatchFunc) (watch.Interface, error) {
	from, err := begin(ctx, options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &buffered{ctx: ctx, cancel: cancel, begin: begin, from: from, result: make(chan watch.Event, group)}
	if options != nil {
		b.options = *options.DeepCopy()
	}
	initial := b.options.SendInitialEvents
	b.resumable = (initial == nil || !*initial) && b.options.ResourceVersion != "" && b.options.ResourceVersion != "0"
	go b.run()
	return b, nil
}

type buffered struct {
	ctx    context.Context
	cancel context.CancelFunc
	begin  WatchFunc
	// options are those to begin again with, after the last event, once that is resumable: what there
	// was at the beginning comes in any order.
	options   metainternalversion.ListOptions
	resumable bool
	// fruitless is how often the watch was begun again since the last event.
	fruitless int
	from      watch.Interface
	result    chan watch.Event
}

// ResultChan implements watch.Interface.
func (b *buffered) ResultChan() <-chan watch.Event { return b.result }

// Stop implements watch.Interface.
func (b *buffered) Stop() { b.cancel() }

// run passes events on until it is stopped, or the other watch has ended for good and everything is
// delivered.
func (b *buffered) run() {
	defer close(b.result)
	defer func() { b.from.Stop() }()
	defer b.cancel()
	// waiting are the events that are to be delivered.
	var waiting []watch.Event
	open := true
	// delivered is when the last event of a group was delivered, and pause ends when the next group may be.
	var delivered time.Time
	var pause <-chan time.Time
	for open || len(waiting) > 0 {
		var in <-chan watch.Event
		if open && len(waiting) < group {
			in = b.from.ResultChan()
		}
		var out chan<- watch.Event
		var next watch.Event
		if len(waiting) > 0 && pause == nil {
			out, next = b.result, waiting[0]
		}
		select {
		case event, ok := <-in:
			if !ok {
				open = b.resume()
				continue
			}
			b.note(event)
			if left := gap - time.Since(delivered); len(waiting) == 0 && left > 0 {
				pause = time.After(left)
			}
			waiting = append(waiting, event)
		case out <- next:
			waiting[0] = watch.Event{}
			if waiting = waiting[1:]; len(waiting) == 0 {
				delivered = time.Now()
			}
		case <-pause:
			pause = nil
		case <-b.ctx.Done():
			return
		}
	}
}

// note keeps in mind after what event the watch is to be taken up again.
func (b *buffered) note(event watch.Event) {
	b.fruitless = 0
	object, err := meta.Accessor(event.Object)
	if event.Type == watch.Error || err != nil {
		// The client is told to begin anew.
		b.resumable = false
		return
	}
	if event.Type == watch.Bookmark && object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
		b.options.SendInitialEvents, b.options.ResourceVersionMatch = nil, ""
		b.resumable = true
	}
	b.options.ResourceVersion = object.GetResourceVersion()
}

// resume begins the other watch again after the last event, and reports whether that was possible.
func (b *buffered) resume() bool {
	if !b.resumable || b.fruitless == maxFruitless || b.ctx.Err() != nil {
		return false
	}
	b.fruitless++
	from, err := b.begin(b.ctx, &b.options)
	if err != nil {
		return false
	}
	b.from.Stop()
	b.from = from
	return true
}
