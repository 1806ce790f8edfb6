// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package heap

import (
	"runtime"
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
	runtime.GC()
	without := collections(200 << 20)
	Reserve(Room)
	runtime.GC()
	with := collections(200 << 20)
	t.Logf("%d collections without room, %d with", without, with)
	if without < 10 || with > 1 {
		t.Errorf("%d collections without room, %d with", without, with)
	}
}
