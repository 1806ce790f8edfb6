// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standby

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// never is what is not done by anybody else.
func never() bool { return false }

// after is what another one does after a time.
func after(d time.Duration) func() bool {
	begun := time.Now()
	return func() bool { return time.Since(begun) >= d }
}

// wait waits and returns how long that took.
func wait(ctx context.Context, s *Standby, nothingToDo func() bool) time.Duration {
	begun := time.Now()
	s.Wait(ctx, nothingToDo)
	return time.Since(begun)
}

// isWithin fails unless something took that long, with what it takes to look.
func isWithin(t *testing.T, what string, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most+interval {
		t.Errorf("%s: waits for %v instead of %v to %v", what, got, least, most)
	}
}

// TestAlone has nobody else at work, at first and at last.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		isWithin(t, "at first", wait(t.Context(), s, never), 0, 0)
		s.Done()
		s.Refused()
		isWithin(t, "after a refusal", wait(t.Context(), s, never), patience, patience+spread)
		// What it does until it has done something is one at a time for each worker.
		isWithin(t, "before it has done something", wait(t.Context(), s, never), patience, patience+spread)
		s.Done()
		isWithin(t, "when it has done something", wait(t.Context(), s, never), 0, 0)
	})
}

// TestOthers has another one do what there is to do, and end.
func TestOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		s.Refused()
		// Writes that were under way go through or are refused.
		s.Done()
		s.Refused()
		s.Done()
		for range 1000 {
			isWithin(t, "another one does it", wait(t.Context(), s, after(interval)), interval, interval)
		}
		isWithin(t, "there is nothing to do", wait(t.Context(), s, after(0)), 0, 0)

		// As long as others do something, what they do not do waits for long.
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil {
				s.Wait(ctx, after(interval))
			}
		}()
		isWithin(t, "they do not do this", wait(t.Context(), s, never), longest, longest)
		s.Done()
		isWithin(t, "they are still there", wait(t.Context(), s, never), longest, longest)
		cancel()
		synctest.Wait()
		isWithin(t, "they are gone", wait(t.Context(), s, never), patience, patience+spread)
		s.Done()
		isWithin(t, "it works", wait(t.Context(), s, never), 0, 0)
	})
}

// TestSeveral has several of them do the same, each of which is at work at first.
func TestSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const managers, workers, things = 3, 8, 2000
		// Each thing is done by the first one that writes it, which others see a bit later.
		var done [things]atomic.Int64
		var refused, stalls atomic.Int64
		var last atomic.Int64
		begun := time.Now()
		last.Store(int64(begun.UnixNano()))
		finished := make(chan struct{})
		for range managers {
			s := New()
			var next atomic.Int64
			for range workers {
				go func() {
					for n := next.Add(1) - 1; n < things; n = next.Add(1) - 1 {
						isDone := func() bool {
							at := done[n].Load()
							return at > 0 && time.Now().UnixNano()-at > int64(5*time.Millisecond)
						}
						s.Wait(t.Context(), isDone)
						if isDone() {
							continue
						}
						time.Sleep(10 * time.Millisecond)
						now := time.Now().UnixNano()
						if !done[n].CompareAndSwap(0, now) {
							refused.Add(1)
							s.Refused()
							continue
						}
						s.Done()
						if time.Duration(now-last.Swap(now)) > patience+spread+interval {
							stalls.Add(1)
						}
					}
					finished <- struct{}{}
				}()
			}
		}
		for range managers * workers {
			<-finished
		}
		took, alone := time.Since(begun), time.Duration(things/workers)*10*time.Millisecond
		t.Logf("%d of %d refused, %v instead of %v, %d times nobody was at work for long", refused.Load(), things, took, alone, stalls.Load())
		if refused.Load() > things/10 || took > alone*3/2 || stalls.Load() > 0 {
			t.Errorf("%d of %d refused, %v instead of %v, %d times nobody was at work for long", refused.Load(), things, took, alone, stalls.Load())
		}
	})
}

// TestRandom has many stand by, of which no two should do so for the same time.
func TestRandom(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		s := New()
		s.Refused()
		seen[s.quiet] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 stand by for only %d different times", len(seen))
	}
}

// TestContext has the end of a context end the wait.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		s.Refused()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		isWithin(t, "the context ends", wait(ctx, s, never), time.Millisecond, time.Millisecond)
	})
}

// TestNil has nobody to leave the work to.
func TestNil(t *testing.T) {
	var s *Standby
	for range 100 {
		s.Refused()
		s.Wait(t.Context(), never)
	}
	s.Done()
}
