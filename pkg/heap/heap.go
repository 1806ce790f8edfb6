// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package heap sizes the heap of a program that allocates much and keeps little, or much.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// step is by how much the percentage has to change to be worth stopping the world for, in percent of it.
const step = 10

var begun atomic.Bool

// Reserve has garbage collected when there is a percentage of what is in use of it, and room bytes more. Left alone, the
// runtime collects the garbage of a server with a small store many times a second, which takes a tenth of its time,
// and lets that of a large one take as much memory as all objects.
//
// It does nothing if the environment variable GOGC says something else, or if it has been called before.
func Reserve(room uint64, percent int) {
	if os.Getenv("GOGC") != "" || begun.Swap(true) {
		return
	}
	reserve(room, percent)
}

func reserve(room uint64, percent int) *tuner {
	t := &tuner{room: room, least: percent, set: func(percent int) { debug.SetGCPercent(percent) }}
	t.tune(inUse())
	t.watch()
	return t
}

// tuner sets how much garbage there may be, after each collection.
type tuner struct {
	room uint64
	// least is the percentage in a heap without end, percent the one that is set.
	least, percent int
	set            func(percent int)
	stopped        atomic.Bool
}

// watch tunes after the next collection, and all that follow.
func (t *tuner) watch() {
	// The finalizer of something that nobody refers to runs once, after a collection. What is smaller than 16 bytes may
	// share its place with others and never be collected.
	runtime.SetFinalizer(&struct{ _ [16]byte }{}, func(any) {
		if t.stopped.Load() {
			return
		}
		t.tune(inUse())
		t.watch()
	})
}

// tune sets the percentage for so many bytes in use.
func (t *tuner) tune(inUse uint64) {
	percent := t.least + int(t.room*100/max(inUse, 1<<20))
	if difference := percent - t.percent; difference*100 > t.percent*step || -difference*100 > t.percent*step {
		t.percent = percent
		t.set(percent)
	}
}

// inUse returns how many bytes the last collection has found in use.
func inUse() uint64 {
	const live = "/gc/heap/live:bytes"
	sample := []metrics.Sample{{Name: live}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
