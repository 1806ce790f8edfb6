// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standalonetest has what the tests of the parts of pkg/standalone share.
package standalonetest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// childEnv is the environment variable that selects what the test binary does as a child process.
const childEnv = "IPAM_STANDALONE_TEST_CHILD"

// Child is another process of the same test binary, which a test kills.
type Child struct {
	cmd *exec.Cmd
	// Out is what the process writes to standard output.
	Out *bufio.Scanner
	// Stderr can be read after Kill.
	Stderr bytes.Buffer
}

// StartChild runs TestChild of the test binary in another process. In it, Name and Dir return the given values.
func StartChild(t *testing.T, name, dir string) *Child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "--", dir)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	c := &Child{cmd: cmd}
	cmd.Stderr = &c.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.Out = bufio.NewScanner(stdout)
	t.Cleanup(func() {
		c.Kill()
		if t.Failed() {
			t.Logf("standard error of %s: %.3000s", name, c.Stderr.String())
		}
	})
	return c
}

// PID returns the ID of the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Signal sends a signal to the process, and does not wait.
func (c *Child) Signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Kill sends SIGKILL and waits for the end of the process.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// Name returns what a child process has to do, or "" if this process is no child.
func Name() string { return os.Getenv(childEnv) }

// Dir returns the directory of a child process.
func Dir() string { return os.Args[len(os.Args)-1] }

// WantMode checks the mode of a file or directory.
func WantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s has mode %04o, want %04o", path, got, want)
	}
}
