// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package process starts and stops programs for tests.
package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Process is a program that a test has started.
type Process struct {
	Cmd *exec.Cmd
	// LogFile is the path of the file with its output.
	LogFile string
	// Ended is closed when the process has ended.
	Ended chan struct{}
}

// logs is the number of log files in this test run.
var logs atomic.Int64

// Start starts a program. Its output goes to a file in dir. The program is killed at the end of the test at the
// latest. If the test fails, it prints the end of the output.
func Start(t testing.TB, dir, program string, args ...string) *Process {
	t.Helper()
	return StartWith(t, nil, dir, program, args...)
}

// StartWith is like Start, with additional environment variables in the form NAME=value.
func StartWith(t testing.TB, environment []string, dir, program string, args ...string) *Process {
	t.Helper()
	return StartIn(t, "", environment, dir, program, args...)
}

// StartIn is like StartWith. If root is not empty, it is the root directory of the process, in which program is a path.
func StartIn(t testing.TB, root string, environment []string, dir, program string, args ...string) *Process {
	t.Helper()
	logFile, err := os.CreateTemp(dir, filepath.Base(program)+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	p := &Process{Cmd: exec.Command(program, args...), LogFile: logFile.Name(), Ended: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = logFile, logFile
	p.Cmd.Env = append(p.Cmd.Environ(), environment...)
	p.Cmd.SysProcAttr = dieWithParent()
	if root != "" {
		if err := chroot(p.Cmd, root); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Cmd.Wait()
		close(p.Ended)
	}()
	number := logs.Add(1)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("The last of log %d, of %s %s:\n%s", number, filepath.Base(program), strings.Join(args, " "), p.LastOfLog(2000))
		}
	})
	return p
}

// Kill kills the process, and returns when it has ended.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.Ended
}

// Signal sends a signal, unless the process has ended.
func (p *Process) Signal(s syscall.Signal) { _ = p.Cmd.Process.Signal(s) }

// HasEnded reports whether the process has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// LastOfLog returns the last bytes that the process wrote.
func (p *Process) LastOfLog(limit int) string {
	data, err := os.ReadFile(p.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-limit):])
}

// ReservePort returns a port of 127.0.0.1 that is reserved until the test ends. A socket that is bound to it and
// does not listen reserves it: only a server that requests this very port gets it.
func ReservePort(t testing.TB) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return address.(*syscall.SockaddrInet4).Port
}
