// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standalonetest has what the tests of the parts of pkg/standalone share.
package standalonetest

import (
	"bufio"
	"bytes"
	"fmt"
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

// Main is the TestMain of a package. In a process that StartChild started, it calls child with the name and the directory
// instead of running tests.
func Main(m *testing.M, child func(name, dir string) error) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := child(name, os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// StartChild runs the test binary in another process, in which Main calls child with the name and the directory.
func StartChild(t *testing.T, name, dir string) *Child {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
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
