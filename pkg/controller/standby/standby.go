// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standby has one of several controller managers that are at work at the same time leave the
// work to another.
//
// That several are is right, as the store refuses what would be wrong, but each does what the others do
// as well, in vain. They do not know of each other. But one whose writes are refused, because they have been
// done, has company, and stands by: before it does something, it waits whether somebody else does. As long as
// what it has waited for is done, it goes on to stand by. When nothing has been done for a while that is a
// random one, as with stations of an Ethernet that have heard a collision (IEEE 802.3), it goes to work, and if
// that is not refused, stands by no more.
package standby

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// patience is for how long nothing is done at least before one that stands by does it, and up to how much
	// longer: of several, one is the first, and the others see what it does.
	patience, spread = 200 * time.Millisecond, 400 * time.Millisecond
	// longest is how long a worker waits for something that is not done although other things are.
	longest = 10 * time.Second
	// interval is how often a worker looks.
	interval = 50 * time.Millisecond
)

// Standby tells the workers of a controller manager when to stand by. It is safe for concurrent use. A nil
// one never has them stand by.
type Standby struct {
	mu sync.Mutex
	// standing is whether it stands by, since it was refused, until nothing is done for a time of quiet.
	standing bool
	refused  time.Time
	quiet    time.Duration
	// others is when something was seen that another one had done.
	others time.Time
}

// New returns one that does not stand by.
func New() *Standby { return &Standby{} }

// Wait returns when a worker may do something, or has nothing to do any more, or the context has ended.
func (s *Standby) Wait(ctx context.Context, nothingToDo func() bool) {
	if s == nil {
		return
	}
	begun := time.Now()
	for waited := false; s.mustWait(begun); waited = true {
		if nothingToDo() {
			if waited {
				s.seen()
			}
			return
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return
		}
	}
}

// mustWait tells whether to wait for others with what has begun to wait at a time.
func (s *Standby) mustWait(begun time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standing && time.Since(begun) < longest && (time.Since(begun) < s.quiet || !s.isQuiet())
}

// isQuiet tells whether nothing has been done by others for long enough.
func (s *Standby) isQuiet() bool {
	return time.Since(s.refused) >= s.quiet && time.Since(s.others) >= s.quiet
}

// seen takes in that another one has done something.
func (s *Standby) seen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others = time.Now()
}

// Refused takes in that a write was refused, because another one had been faster.
func (s *Standby) Refused() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.standing, s.refused, s.quiet = true, time.Now(), patience+rand.N(spread)
}

// Done takes in that a write went through.
func (s *Standby) Done() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// If it is not quiet, the write was under way already, or one that the others do not get done.
	if s.isQuiet() {
		s.standing = false
	}
}
