// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
)

var sink []byte

// collections returns how often garbage is collected while so many bytes are allocated.
func collections(bytes int) uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range bytes >> 16 {
		sink = make([]byte, 1<<16)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

// TestReserve allocates the same with and without room for it.
func TestReserve(t *testing.T) {
	const usual = 100
	debug.SetGCPercent(usual)
	runtime.GC()
	without := collections(150 << 20)
	stop := reserve(200<<20, 50)
	t.Cleanup(func() {
		stop()
		debug.SetGCPercent(usual)
	})
	runtime.GC()
	with := collections(150 << 20)
	t.Logf("%d collections without room, %d with", without, with)
	// On a busy machine a collection takes so long that there are few of them.
	if without < 2 || with > 1 {
		t.Errorf("%d collections without room, %d with", without, with)
	}
}

func TestTune(t *testing.T) {
	const mebibyte = 1 << 20
	var set []int
	g := &garbage{room: 200 * mebibyte, least: 50, set: func(percent int) { set = append(set, percent) }}
	for _, inUse := range []uint64{
		0, 10 * mebibyte,
		// Not enough of a change.
		11 * mebibyte, 9*mebibyte + mebibyte/2,
		100 * mebibyte, 400 * mebibyte, 4000 * mebibyte, 400000 * mebibyte,
		50 * mebibyte,
	} {
		g.tune(inUse)
	}
	if want := []int{20050, 2050, 250, 100, 55, 450}; !slices.Equal(set, want) {
		t.Errorf("set %v instead of %v", set, want)
	}
}
