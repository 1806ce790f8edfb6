// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package watchbuffer keeps the watches of slow clients alive, and delivers frequent events in groups.
//
// The watch cache of k8s.io/apiserver at first buffers only ten events for each watch. It ends a watch whose client
// does not take them within some tens of milliseconds, or at once if the server has just started. A client on a busy
// machine or behind a proxy can be slower than that when a thousand children are created at once. A client that has to
// start a new watch waits for a second or more before it does. So this package restarts such a watch in the server,
// after its last event. The watch cache still has the events that follow.
//
// Most of the cost of an event is that of sending it: a frame, encryption, a system call, and four goroutines that wake
// up. The watch handler flushes its response when no further event is ready. So this package delays an event that
// closely follows other events, and delivers it together with those that arrive meanwhile.
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
	// gap is the minimum time between the end of a group of events and the start of the next one.
	gap = 5 * time.Millisecond
	// group is the maximum number of events that wait for delivery. The result channel buffers as many again. Each
	// event may hold its own copy of an object.
	group = 64
)

// maxFruitless is how often a watch is restarted in a row without an event in between. Then the watch ends.
const maxFruitless = 3

// WatchFunc starts a watch.
type WatchFunc func(context.Context, *metainternalversion.ListOptions) (watch.Interface, error)

// New returns a watch that delivers the events of a watch started by begin. It buffers up to group events for a slow
// client. Beyond that the other watch has to wait, and may end. If the other watch ends, New's watch restarts it after
// the last event, if that is possible. Otherwise the returned watch ends too, after it has delivered all buffered
// events. It also ends with ctx. The error is that of begin.
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
	// options are the options for a restart. They start after the last event. resumable is set once a restart is
	// possible: the initial events of a watch are not ordered by resource version, so a watch cannot be restarted in
	// the middle of them.
	options   metainternalversion.ListOptions
	resumable bool
	// fruitless is the number of restarts since the last event.
	fruitless int
	from      watch.Interface
	result    chan watch.Event
}

// ResultChan implements watch.Interface.
func (b *buffered) ResultChan() <-chan watch.Event { return b.result }

// Stop implements watch.Interface.
func (b *buffered) Stop() { b.cancel() }

// run delivers events until the watch is stopped, or until the other watch has ended, cannot be restarted, and all
// events are delivered.
func (b *buffered) run() {
	defer close(b.result)
	defer func() { b.from.Stop() }()
	defer b.cancel()
	// waiting holds the events to deliver.
	var waiting []watch.Event
	open := true
	// delivered is the time at which the last event of a group was delivered. pause, unless nil, fires when the next
	// group may start.
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

// note records the event after which to restart the watch.
func (b *buffered) note(event watch.Event) {
	b.fruitless = 0
	object, err := meta.Accessor(event.Object)
	if event.Type == watch.Error || err != nil {
		// The error event tells the client to start a new watch.
		b.resumable = false
		return
	}
	if event.Type == watch.Bookmark && object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
		b.options.SendInitialEvents, b.options.ResourceVersionMatch = nil, ""
		b.resumable = true
	}
	b.options.ResourceVersion = object.GetResourceVersion()
}

// resume restarts the other watch after the last event. It reports whether that succeeded.
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
