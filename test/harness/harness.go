// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package harness provides helpers for tests of the served API: in-process servers, HTTP requests, sample objects,
// checks and waiting.
package harness

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

// Patience is how long tests wait for an expected event. It is generous, for busy machines.
const Patience = 2 * time.Minute

// Main runs the tests of a package and exits the process. It calls setUp first, with a temporary directory for all
// tests, and tearDown after the tests. The servers and clients in the process do not log.
func Main(m *testing.M, setUp func(dir string) (tearDown func(), err error)) {
	quiet()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ipam-test-")
		if err == nil {
			defer func() { _ = os.RemoveAll(dir) }()
			var tearDown func()
			if tearDown, err = setUp(dir); err == nil {
				defer tearDown()
				return m.Run()
			}
		}
		fmt.Fprintln(os.Stderr, "set up the tests:", err)
		return 1
	}())
}

// quiet disables the log of this process. klog still writes errors to standard error, unless the threshold is FATAL.
func quiet() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
}

// RunInParallel sets the number of tests that run in parallel, unless the flag -parallel is set. It is for tests that
// wait most of the time.
func RunInParallel(n int) {
	if flag.Parse(); flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", strconv.Itoa(n))
	}
}

// Build builds the named programs of cmd into a directory.
func Build(dir string, programs ...string) error {
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, program := range programs {
		args = append(args, "github.com/ironcore-dev/ipam-apiserver/cmd/"+program)
	}
	cmd := exec.Command("go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return nil
}

var namespaces atomic.Int64

// NewNamespace returns a namespace name that no other test of the process uses. The names have the same length, so that
// tables look the same in each run.
func NewNamespace() string { return fmt.Sprintf("namespace-%04d", namespaces.Add(1)) }

// Eventually waits until check returns nil, and returns how long that took. The test fails if it takes longer than
// Patience.
func Eventually(t testing.TB, what string, check func() error) time.Duration {
	t.Helper()
	took, err := Wait(check)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return took
}

// Wait is like Eventually, but returns an error instead of failing the test. Use it in other goroutines than that of
// the test.
func Wait(check func() error) (time.Duration, error) {
	began := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := check()
		switch took := time.Since(began); {
		case err == nil:
			return took, nil
		case took > Patience:
			return took, fmt.Errorf("not after %v: %w", Patience, err)
		}
		time.Sleep(pause)
	}
}

// Unless returns nil if ok is set, and otherwise an error with the formatted message.
func Unless(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// Each calls f for all numbers from 0 to n-1, with at most the given number of parallel calls. It returns when all
// calls have returned.
func Each(n, parallel int, f func(int)) {
	todo := make(chan int)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			for i := range todo {
				f(i)
			}
		})
	}
	for i := range n {
		todo <- i
	}
	close(todo)
	group.Wait()
}
