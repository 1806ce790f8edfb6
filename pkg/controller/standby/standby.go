// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standby has one of several controller managers that are at work at the same time leave the
// work to another.
//
// That several are is right, as the store refuses what would be wrong, but each does what the others do
// as well, in vain. They do not know of each other. But one whose writes are refused has company, and
// stands by for a random time, up to twice as long each time, as stations of an Ethernet do that hear a
// collision (IEEE 802.3, truncated binary exponential backoff). One that is left alone soon has to wait no
// more than a little, while the other one waits for long, and takes over if the first has gone. When it has waited, its
// workers come back one by one, until one of them succeeds: most of what they would do has been done.
package standby

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// shortest is how long one stands by at most after the first refusal, longest after many.
	shortest = 100 * time.Millisecond
	longest  = 10 * time.Second
	// pace is how much time there is between two workers that come back.
	pace = 10 * time.Millisecond
	// probation is for how long they come back like that if none succeeds, and none is refused.
	probation = 2 * time.Second
	// calm is how many writes have to go through, without a refusal, for that to become half as long.
	calm = 100
	// forgotten is how long after a refusal the next one counts as the first.
	forgotten = time.Minute
)

// Standby tells the workers of a controller manager when to stand by. It is safe for concurrent use. A nil
// one never has them stand by.
type Standby struct {
	clock clock.Clock

	mu sync.Mutex
	// window is how long it stands by at most.
	window time.Duration
	// until is when it works again, and refused when it was refused last.
	until, refused time.Time
	// next is when the next worker may come back, and free is closed when all may. It is nil when all do.
	next time.Time
	free chan struct{}
	// done is how many writes have gone through since the last refusal, or since window became less.
	done int
}

// New returns one that does not stand by.
func New() *Standby { return &Standby{clock: clock.RealClock{}} }

// Wait returns when there is work to do, or the context has ended.
func (s *Standby) Wait(ctx context.Context) {
	if s == nil {
		return
	}
	for {
		turn, free := s.turn()
		if free == nil {
			return
		}
		if !s.sleep(ctx, turn, free) {
			return
		}
		if s.mayWork() {
			return
		}
	}
}

// turn returns when a worker may come back, and what is closed when all may, which is nil if they do.
func (s *Standby) turn() (at time.Time, free <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if s.free != nil && now.Sub(s.until) > probation {
		s.release()
	}
	if s.free == nil {
		return time.Time{}, nil
	}
	for _, t := range []time.Time{now, s.until} {
		if s.next.Before(t) {
			s.next = t
		}
	}
	at = s.next
	s.next = at.Add(pace)
	return at, s.free
}

// release has all workers come back.
func (s *Standby) release() {
	close(s.free)
	s.free = nil
}

// mayWork tells whether a worker whose turn it was may work: another one may have been refused while it slept.
func (s *Standby) mayWork() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.clock.Now().Before(s.until)
}

// sleep returns at a time or when all workers may come back, and false if the context has ended.
func (s *Standby) sleep(ctx context.Context, until time.Time, free <-chan struct{}) bool {
	left := until.Sub(s.clock.Now())
	if left <= 0 {
		return true
	}
	timer := s.clock.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-free:
	case <-ctx.Done():
		return false
	}
	return true
}

// Refused takes in that a write was refused, because another one had been faster.
func (s *Standby) Refused() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if now.Before(s.until) {
		// It was under way already.
		return
	}
	if now.Sub(s.refused) > forgotten {
		s.window = 0
	}
	s.window = min(max(2*s.window, shortest), longest)
	s.until = now.Add(s.window/2 + rand.N(s.window/2))
	s.refused, s.done = now, 0
	s.next = s.until
	if s.free == nil {
		s.free = make(chan struct{})
	}
}

// Done takes in that a write went through.
func (s *Standby) Done() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free != nil && !s.clock.Now().Before(s.until) {
		s.release()
	}
	if s.done++; s.done < calm {
		return
	}
	s.done = 0
	if s.window /= 2; s.window < shortest {
		s.window = 0
	}
}
