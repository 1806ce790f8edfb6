// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// interval is the interval of progress lines without a terminal.
const interval = 10 * time.Second

// progress reports the progress of a run: with a bar on a terminal, and otherwise with lines.
type progress struct {
	out  io.Writer
	stop chan struct{}

	mu sync.Mutex
	// name is the name of the measurement, and what describes the current phase.
	name, what string
	count, all int64
	// bar is the progress bar of the phase if there is a terminal.
	terminal bool
	bar      *progressbar.ProgressBar
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, stop: make(chan struct{})}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.terminal = true
		return p
	}
	go func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-ticker.C:
				p.tell()
			}
		}
	}()
	return p
}

// tell prints a progress line.
func (p *progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.name + ": " + p.what
	if p.all > 0 {
		line += fmt.Sprintf(", %d of %d", p.count, p.all)
	}
	fmt.Fprintln(p.out, line)
}

// begin starts a measurement.
func (p *progress) begin(name string) {
	p.mu.Lock()
	p.name = name
	p.mu.Unlock()
	p.phase("begins", 0)
	if !p.terminal {
		p.tell()
	}
}

// phase starts a phase with the given number of steps, or an unknown number if it is 0.
func (p *progress) phase(what string, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what, p.count, p.all = what, 0, int64(all)
	if !p.terminal {
		return
	}
	p.clear()
	options := []progressbar.Option{
		progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(p.name + ": " + what), progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionSetRenderBlankState(true), progressbar.OptionClearOnFinish(),
	}
	if all > 0 {
		options = append(options, progressbar.OptionShowCount(), progressbar.OptionShowIts())
	} else {
		all = -1
	}
	p.bar = progressbar.NewOptions(all, options...)
}

// clear removes the bar.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
}

// step counts one step.
func (p *progress) step() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	if p.bar != nil {
		_ = p.bar.Add64(1)
	}
}

// print prints a separate line.
func (p *progress) print(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(p.out, strings.TrimSpace(line))
}

// done ends the progress report.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.stop:
		return
	default:
		close(p.stop)
	}
	p.clear()
}
