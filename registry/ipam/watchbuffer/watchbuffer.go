// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package watchbuffer keeps watches alive whose clients are slow for a moment.
//
// The watch cache of k8s.io/apiserver has room for ten events of each watch at first, and ends a watch
// that does not take them within some tens of milliseconds. A client on a busy machine, behind a proxy,
// is not always as fast as that when a thousand children are made at once, and one that has to watch
// anew waits a second or more before it does.
package watchbuffer

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/buffer"
)

// Size is how many events wait for a client. Each is a reference to an object that the watch cache
// shares among all watches.
const Size = 8192

// New returns a watch with the events of another one, of which size may wait. When there are more, those
// of the other watch wait there. The other watch is stopped with it.
func New(from watch.Interface, size int) watch.Interface {
	b := &buffered{from: from, size: size, result: make(chan watch.Event), stopped: make(chan struct{})}
	go b.run()
	return b
}

type buffered struct {
	from    watch.Interface
	size    int
	result  chan watch.Event
	once    sync.Once
	stopped chan struct{}
}

// ResultChan implements watch.Interface.
func (b *buffered) ResultChan() <-chan watch.Event { return b.result }

// Stop implements watch.Interface.
func (b *buffered) Stop() {
	b.once.Do(func() { close(b.stopped) })
	b.from.Stop()
}

// run passes events on until it is stopped, or the other watch has ended and everything is delivered.
func (b *buffered) run() {
	defer close(b.result)
	defer b.from.Stop()
	waiting := buffer.NewRing[watch.Event](buffer.RingOptions{InitialSize: 16, NormalSize: 256})
	open := true
	// next is the event that is to be delivered, if there is one.
	var next watch.Event
	var to chan<- watch.Event
	for open || to != nil {
		in := b.from.ResultChan()
		if !open || waiting.Len() >= b.size {
			in = nil
		}
		select {
		case event, ok := <-in:
			switch {
			case !ok:
				open = false
			case to == nil:
				next, to = event, b.result
			default:
				waiting.WriteOne(event)
			}
		case to <- next:
			var ok bool
			if next, ok = waiting.ReadOne(); !ok {
				to = nil
			}
		case <-b.stopped:
			return
		}
	}
}
