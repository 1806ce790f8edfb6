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

// TestWait has a worker wait, for the time and for the end of the context.
func TestWait(t *testing.T) {
	s, clock := newStandby()
	s.Wait(t.Context())
	begin := func(ctx context.Context) chan struct{} {
		returned := make(chan struct{})
		go func() {
			s.Wait(ctx)
			close(returned)
		}()
		for !clock.HasWaiters() {
			time.Sleep(time.Millisecond)
		}
		return returned
	}
	expectReturn := func(returned chan struct{}) {
		t.Helper()
		select {
		case <-returned:
		case <-time.After(10 * time.Second):
			t.Fatal("it does not return")
		}
	}

	s.until = clock.Now().Add(time.Second)
	returned := begin(t.Context())
	select {
	case <-returned:
		t.Fatal("it does not stand by")
	case <-time.After(10 * time.Millisecond):
	}
	clock.Step(time.Second)
	expectReturn(returned)

	s.until = clock.Now().Add(time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	returned = begin(ctx)
	cancel()
	expectReturn(returned)
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
