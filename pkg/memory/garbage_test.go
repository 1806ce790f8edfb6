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

// TestReserve allocates what there is room for.
func TestReserve(t *testing.T) {
	const usual = 100
	debug.SetGCPercent(usual)
	runtime.GC()
	// Without room what is allocated below would be collected again and again, unless the machine is too busy to.
	if goal := read("/gc/heap/goal:bytes"); goal > 50<<20 {
		t.Fatalf("collects at %d bytes only, without room", goal)
	}
	stop := reserve(200<<20, 50)
	t.Cleanup(func() {
		stop()
		debug.SetGCPercent(usual)
	})
	runtime.GC()
	if goal := read("/gc/heap/goal:bytes"); goal < 200<<20 {
		t.Errorf("collects at %d bytes already", goal)
	}
	if with := collections(150 << 20); with > 1 {
		t.Errorf("%d collections", with)
	}
}

func TestTune(t *testing.T) {
	const mebibyte = 1 << 20
	var set []int
	g := &garbage{room: 200 * mebibyte, percent: 50, set: func(percent int) { set = append(set, percent) }}
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

// TestTuneWithin has more and more in use of a memory that is limited.
func TestTuneWithin(t *testing.T) {
	const mebibyte = 1 << 20
	for _, tt := range []struct {
		inUse uint64
		want  int
	}{
		{10 * mebibyte, 2200}, {100 * mebibyte, 400}, {500 * mebibyte, 240}, {1000 * mebibyte, 100}, {1300 * mebibyte, 53},
		{1500 * mebibyte, 50}, {2500 * mebibyte, 50},
	} {
		var got int
		g := &garbage{room: 200 * mebibyte, percent: 200, limit: 2000 * mebibyte, set: func(percent int) { got = percent }}
		if g.tune(tt.inUse); got != tt.want {
			t.Errorf("%d %% with %d MiB in use, not %d", got, tt.inUse/mebibyte, tt.want)
		}
	}
}
