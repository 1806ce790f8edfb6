// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// TestNoColor shows that a real terminal has colors unless NO_COLOR is set, and that other files have none.
func TestNoColor(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	t.Setenv("TERM", "xterm")
	// It is set to restore it.
	t.Setenv("NO_COLOR", "")
	for _, tt := range []struct {
		out     *os.File
		noColor bool
		want    bool
	}{{terminal, false, true}, {terminal, true, false}, {file, false, false}} {
		if err := os.Unsetenv("NO_COLOR"); err != nil {
			t.Fatal(err)
		}
		if tt.noColor {
			t.Setenv("NO_COLOR", "1")
		}
		s := newSession(Options{IOStreams: genericiooptions.IOStreams{In: os.Stdin, Out: tt.out, ErrOut: tt.out}})
		if got := s.AllowsColor(s.Out); got != tt.want || s.IsTerminal(s.Out) != (tt.out == terminal) {
			t.Errorf("%s, NO_COLOR %v: colors %v", tt.out.Name(), tt.noColor, got)
		}
	}
}

// TestProgress shows that the progress of long work is shown on a terminal, at most once a second, and nowhere else.
func TestProgress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		terminal, quiet bool
		total           int
		want            string
	}{
		{true, false, 0, "\rReading: 1000\rReading: 2000\n"},
		{true, false, 2500, "\rReading: 1000 of 2500\rReading: 2000 of 2500\n"},
		{true, true, 0, ""},
		{false, false, 0, ""},
	} {
		var out strings.Builder
		now := time.Unix(0, 0)
		s := newSession(Options{IOStreams: genericiooptions.IOStreams{ErrOut: &out}, Now: func() time.Time { return now }, IsTerminal: func(any) bool { return tt.terminal }})
		s.quiet = tt.quiet
		p := s.newProgress("Reading", tt.total)
		for range 2500 {
			now = now.Add(time.Millisecond)
			p.step()
		}
		p.end()
		if out.String() != tt.want {
			t.Errorf("%+v: %q", tt, out.String())
		}
	}
}
