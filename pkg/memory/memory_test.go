// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// TestReserveHeeds has the environment decide.
func TestReserveHeeds(t *testing.T) {
	const usual = 100
	debug.SetGCPercent(usual)
	t.Setenv("GOGC", "100")
	t.Setenv("GODEBUG", "http2debug=0,adaptivestackstart=0,disablethp=1")
	defer begun.Store(begun.Swap(false))
	before := runtime.NumGoroutine()
	Reserve(200<<20, 50)
	runtime.GC()
	if percent := debug.SetGCPercent(usual); percent != usual {
		t.Errorf("%d %% although GOGC says otherwise", percent)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines instead of at most %d although GODEBUG says that there are to be none", after, before)
	}
}

// TestAfterCollections waits for some collections, and for none when it has been stopped.
func TestAfterCollections(t *testing.T) {
	called := make(chan struct{}, 100)
	stop := afterCollections(func() { called <- struct{}{} })
	for range 3 {
		runtime.GC()
		select {
		case <-called:
		case <-time.After(10 * time.Second):
			t.Fatal("not called after a collection")
		}
	}
	stop()
	for len(called) > 0 {
		<-called
	}
	// What has been called after the second collection from now on comes after all that the first one calls.
	for range 2 {
		after := make(chan struct{})
		defer afterCollections(sync.OnceFunc(func() { close(after) }))()
		runtime.GC()
		<-after
	}
	if len(called) > 0 {
		t.Error("called after it has been stopped")
	}
}
