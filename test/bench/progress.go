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

// interval is how often a line is written where there is no terminal.
const interval = 10 * time.Second

// progress tells how far a run is: with a bar on a terminal, and with a line now and then elsewhere.
type progress struct {
	out  io.Writer
	stop chan struct{}

	mu sync.Mutex
	// name is that of the measurement, and what is what it does.
	name, what string
	count, all int64
	// bar is that of what it does, if there is a terminal.
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

// tell writes a line.
func (p *progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.name + ": " + p.what
	if p.all > 0 {
		line += fmt.Sprintf(", %d of %d", p.count, p.all)
	}
	fmt.Fprintln(p.out, line)
}

// begin begins a measurement.
func (p *progress) begin(name string) {
	p.mu.Lock()
	p.name = name
	p.mu.Unlock()
	p.phase("begins", 0)
	if !p.terminal {
		p.tell()
	}
}

// phase begins something that has so many steps, or nobody knows how many if that is 0.
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

// clear ends the bar.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
}

// step is one more.
func (p *progress) step() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	if p.bar != nil {
		_ = p.bar.Add64(1)
	}
}

// print writes a line of its own.
func (p *progress) print(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(p.out, strings.TrimSpace(line))
}

// done ends it.
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
