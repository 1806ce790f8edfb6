// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Cost is what a command has needed.
type Cost struct {
	Time time.Duration
	// Processor is the time of all processors.
	Processor time.Duration
	// MiB is the most resident memory. It is 0 if the system does not tell it.
	MiB int
}

// String returns the cost as text.
func (c Cost) String() string {
	return fmt.Sprintf("%.2f s, %.2f s of a processor, %d MiB", c.Time.Seconds(), c.Processor.Seconds(), c.MiB)
}

// Run runs a command and returns what it has needed.
func Run(cmd *exec.Cmd) (Cost, error) {
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return Cost{}, err
	}
	memory := make(chan int)
	go func() { memory <- mostMemory(cmd.Process.Pid) }()
	err := cmd.Wait()
	return Cost{time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), <-memory}, err
}

// mostMemory returns the most memory that a process has used when it ends, in MiB. The number that the system gives for a
// process that has ended is not less than that of this one, so it is read while the process runs.
func mostMemory(pid int) (mib int) {
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, after, ok := strings.Cut(string(status), "VmHWM:")
		if err != nil || !ok {
			return mib
		}
		kib := 0
		if _, err := fmt.Sscan(after, &kib); err == nil {
			mib = kib >> 10
		}
		time.Sleep(2 * time.Millisecond)
	}
}
