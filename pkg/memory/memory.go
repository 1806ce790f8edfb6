// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package memory tells the Go runtime about the memory of a server, of which it knows too little: how much garbage may
// lie around, how much stack a request takes, and in what pages it is.
package memory

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// glances is how much time there is between two looks at the pages.
const glances = time.Second

var begun atomic.Bool

// Reserve has garbage collected when there is a percentage of what is in use of it, and room bytes more; or sooner, when
// half of the memory is taken that the process may have at most, by its control group or the machine, but not before
// there is half of what is in use. Left alone, the runtime collects the garbage of a server with a small store many
// times a second, which takes a tenth of its time.
//
// It has goroutines begin with a stack of 16 KiB, as long as there are not very many of them. A goroutine of a request
// that begins with less has its stack copied three times, with a call in each of many frames to be mended, which takes
// another tenth.
//
// It has the heap in huge pages, where Linux gives them to who asks. A store of some gigabytes has more pages of the usual
// size than the processor can find at once, and to look for garbage is to visit all of them.
//
// What the environment says with GOGC, or with adaptivestackstart=0 or disablethp=1 in GODEBUG, is heeded. Reserve does
// nothing if it has been called before.
func Reserve(room, percent uint64) {
	if begun.Swap(true) {
		return
	}
	if os.Getenv("GOGC") == "" {
		reserve(room, percent)
	}
	if !strings.Contains(os.Getenv("GODEBUG"), "adaptivestackstart=0") {
		hold()
	}
	if !strings.Contains(os.Getenv("GODEBUG"), "disablethp=1") {
		adviseHugePages(glances)
	}
}

func reserve(room, percent uint64) (stop func()) {
	g := &garbage{room: room, percent: percent, set: func(percent int) { debug.SetGCPercent(percent) }}
	// Where nobody knows, there is enough.
	if limit, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)(); err == nil {
		g.limit = limit / 2
	}
	g.tune(inUse())
	return afterCollections(func() { g.tune(inUse()) })
}

func hold() (stop func()) {
	s := &stacks{}
	end := afterCollections(func() { s.tune(runtime.NumGoroutine()) })
	return func() {
		end()
		s.tune(0)
	}
}

// afterCollections calls a function after each collection of garbage, until it is stopped.
func afterCollections(call func()) (stop func()) {
	var (
		lock    sync.Mutex
		stopped bool
		watch   func()
	)
	watch = func() {
		// The finalizer of something that nobody refers to runs once, after a collection. What is smaller than 16 bytes may
		// share its place with others and never be collected.
		runtime.SetFinalizer(&struct{ _ [16]byte }{}, func(any) {
			lock.Lock()
			defer lock.Unlock()
			if !stopped {
				call()
				watch()
			}
		})
	}
	watch()
	return func() {
		lock.Lock()
		defer lock.Unlock()
		stopped = true
	}
}

// read returns a figure of the runtime.
func read(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
