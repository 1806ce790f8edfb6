// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"time"
)

// progressPause is the time between two updates of the progress.
const progressPause = time.Second

// progress shows on the terminal how much of long work is done. Without a terminal it shows nothing.
type progress struct {
	*session
	what        string
	done, total int
	last        time.Time
	shown       bool
}

// newProgress returns the progress of work. total is 0 if it is not known.
func (s *session) newProgress(what string, total int) *progress {
	return &progress{session: s, what: what, total: total, last: s.Now()}
}

// step counts one more.
func (p *progress) step() {
	if p.done++; p.done%100 != 0 || p.quiet || p.Now().Sub(p.last) < progressPause || !p.IsTerminal(p.ErrOut) {
		return
	}
	p.last, p.shown = p.Now(), true
	of := ""
	if p.total > 0 {
		of = fmt.Sprintf(" of %d", p.total)
	}
	fmt.Fprintf(p.ErrOut, "\r%s: %d%s", p.what, p.done, of)
}

// end ends the line of the progress.
func (p *progress) end() {
	if p.shown {
		fmt.Fprintln(p.ErrOut)
	}
}
