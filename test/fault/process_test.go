// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// process is a program that runs, or has run.
type process struct {
	cmd *exec.Cmd
	log string
	// ended is closed when the process has ended.
	ended chan struct{}
}

// logs numbers the logs of a test run.
var logs atomic.Int64

// startProcess starts one of the programs. It is killed at the end of the test at the latest. The
// end of its log is shown if the test fails.
func startProcess(t testing.TB, dir, program string, args ...string) *process {
	t.Helper()
	logFile, err := os.CreateTemp(dir, program+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	p := &process{cmd: exec.Command(filepath.Join(programs, program), args...), log: logFile.Name(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	number := logs.Add(1)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("The last of log %d, of %s %s:\n%s", number, program, strings.Join(args, " "), p.lastOfLog(2000))
		}
	})
	return p
}

// kill ends the process as kill -9 does, and returns when it has ended.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// signal sends a signal, unless the process has ended.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// hasEnded reports whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// lastOfLog returns the last bytes that the process wrote.
func (p *process) lastOfLog(limit int) string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-limit):])
}

// reservePort returns a port of 127.0.0.1 that nobody else gets until the test ends, but a server
// that asks for this very port: a socket that is bound to it and does not listen keeps it.
func reservePort(t testing.TB) int {
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
