// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standby

import (
	"context"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func newStandby() (*Standby, *clocktesting.FakeClock) {
	clock := clocktesting.NewFakeClock(time.Now())
	s := New()
	s.clock = clock
	return s, clock
}

// refuse refuses a write after the time that it stood by, and returns how long it stands by now.
func refuse(t *testing.T, s *Standby, clock *clocktesting.FakeClock) time.Duration {
	t.Helper()
	clock.SetTime(later(s.until, clock.Now()))
	s.Refused()
	left := s.until.Sub(clock.Now())
	if left < s.window/2 || left >= s.window {
		t.Errorf("it stands by for %v of at most %v", left, s.window)
	}
	return left
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestWindow follows how long it stands by at most.
func TestWindow(t *testing.T) {
	s, clock := newStandby()
	expect := func(want time.Duration) {
		t.Helper()
		if s.window != want {
			t.Errorf("it stands by for at most %v, want %v", s.window, want)
		}
	}
	expect(0)
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000} {
		refuse(t, s, clock)
		expect(want * time.Millisecond)
	}
	// What was under way when it was refused does not count.
	s.until = clock.Now().Add(time.Second)
	s.Refused()
	expect(longest)

	for range calm - 1 {
		s.Done()
	}
	expect(longest)
	s.Done()
	expect(longest / 2)
	for range calm - 1 {
		s.Done()
	}
	refuse(t, s, clock)
	expect(longest)
	for range 10 * calm {
		s.Done()
	}
	expect(0)

	refuse(t, s, clock)
	refuse(t, s, clock)
	expect(2 * shortest)
	clock.Step(forgotten + longest)
	refuse(t, s, clock)
	expect(shortest)
}

// TestRandom has many stand by, of which no two should do so for the same time.
func TestRandom(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		s, clock := newStandby()
		seen[refuse(t, s, clock)] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 stand by for only %d different times", len(seen))
	}
}

// worker waits, and tells when it is back.
func worker(ctx context.Context, s *Standby) <-chan struct{} {
	back := make(chan struct{})
	go func() {
		s.Wait(ctx)
		close(back)
	}()
	return back
}

func isBack(t *testing.T, back <-chan struct{}) {
	t.Helper()
	select {
	case <-back:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not return")
	}
}

func standsBy(t *testing.T, back <-chan struct{}) {
	t.Helper()
	select {
	case <-back:
		t.Fatal("it does not stand by")
	case <-time.After(10 * time.Millisecond):
	}
}

// waiting starts workers, one after the other, so that each has its turn after the one before.
func waiting(t *testing.T, s *Standby, clock *clocktesting.FakeClock, count int) []<-chan struct{} {
	t.Helper()
	var workers []<-chan struct{}
	for range count {
		before := clock.Waiters()
		workers = append(workers, worker(t.Context(), s))
		for clock.Waiters() == before {
			time.Sleep(time.Millisecond)
		}
	}
	return workers
}

// TestWait has workers wait for the time, and come back one by one.
func TestWait(t *testing.T) {
	s, clock := newStandby()
	s.Wait(t.Context())
	left := refuse(t, s, clock)
	workers := waiting(t, s, clock, 3)
	standsBy(t, workers[0])
	clock.Step(left)
	isBack(t, workers[0])
	standsBy(t, workers[1])
	clock.Step(pace)
	isBack(t, workers[1])
	standsBy(t, workers[2])

	// What the first ones do is refused.
	left = refuse(t, s, clock)
	clock.Step(pace)
	standsBy(t, workers[2])
	clock.Step(left)
	isBack(t, workers[2])
}

// TestSuccess has all workers come back when one has succeeded.
func TestSuccess(t *testing.T) {
	s, clock := newStandby()
	left := refuse(t, s, clock)
	workers := waiting(t, s, clock, 5)
	// That was under way when another one was refused.
	s.Done()
	standsBy(t, workers[0])
	clock.Step(left)
	isBack(t, workers[0])
	s.Done()
	for _, w := range workers {
		isBack(t, w)
	}
	s.Wait(t.Context())
	if clock.HasWaiters() {
		t.Error("somebody still waits")
	}
}

// TestProbation has all workers come back when nothing is refused, and nothing written.
func TestProbation(t *testing.T) {
	s, clock := newStandby()
	left := refuse(t, s, clock)
	workers := waiting(t, s, clock, 2)
	clock.Step(left + probation + 1)
	for range 10 {
		isBack(t, worker(t.Context(), s))
	}
	for _, w := range workers {
		isBack(t, w)
	}
}

// TestContext has the end of a context end the wait.
func TestContext(t *testing.T) {
	s, clock := newStandby()
	refuse(t, s, clock)
	ctx, cancel := context.WithCancel(t.Context())
	w := worker(ctx, s)
	standsBy(t, w)
	cancel()
	isBack(t, w)
}

// TestNil has nobody to leave the work to.
func TestNil(t *testing.T) {
	var s *Standby
	for range 100 {
		s.Refused()
		s.Wait(t.Context())
	}
	s.Done()
}
