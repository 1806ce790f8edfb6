// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// start returns how large the stack of a new goroutine is, in bytes, according to two collections: in the first one
// there may be some that are about to end or to begin.
func start() uint64 {
	runtime.GC()
	runtime.GC()
	return read("/gc/stack/starting-size:bytes")
}

// TestStacks looks at what the runtime makes of it, with few and many goroutines that use little.
func TestStacks(t *testing.T) {
	for _, test := range []struct {
		goroutines  int
		least, most uint64
	}{
		{60, 16 << 10, 16 << 10}, {200, 16 << 10, 16 << 10}, {1000, 16 << 10, 16 << 10}, {1500, 16 << 10, 16 << 10},
		{20000, 2 << 10, 4 << 10},
	} {
		end := make(chan struct{})
		var begun, ended sync.WaitGroup
		for range test.goroutines {
			begun.Add(1)
			ended.Go(func() {
				begun.Done()
				<-end
			})
		}
		begun.Wait()
		without := start()
		s := &stacks{}
		s.tune(runtime.NumGoroutine())
		// Those that are held have begun.
		time.Sleep(10 * time.Millisecond)
		with := start()
		held := len(s.held)
		s.tune(runtime.NumGoroutine())
		if len(s.held) != held {
			t.Errorf("%d goroutines: holds %d and then %d", test.goroutines, held, len(s.held))
		}
		s.tune(0)
		close(end)
		ended.Wait()
		t.Logf("%d goroutines begin with %d bytes; %d with %d held", test.goroutines, without, with, held)
		if without >= 16<<10 || with < test.least || with > test.most || held > most {
			t.Errorf("%d goroutines begin with %d bytes, with %d held, instead of %d to %d",
				test.goroutines, with, held, test.least, test.most)
		}
	}
}

// TestHold has it done by collections.
func TestHold(t *testing.T) {
	before := runtime.NumGoroutine()
	stop := hold()
	for range 100 {
		runtime.GC()
		time.Sleep(time.Millisecond)
		if runtime.NumGoroutine() > before {
			break
		}
	}
	if runtime.NumGoroutine() <= before {
		t.Error("nothing is held")
	}
	stop()
	for range 10000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines at the end, %d before", runtime.NumGoroutine(), before)
}
