// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
)

// runner runs measurements one after the other, and keeps their results.
type runner struct {
	options
	ctx      context.Context
	progress *progress
	// dir contains all files of the run, and is removed at the end.
	dir string
	// tree is the checkout whose programs are measured.
	tree *tree
	// all contains all measurements, and figures the results by row.
	all     []measurement
	figures map[*row]figure
	// points contains the rate of children by the number of existing children, for the plot.
	points []point
}

// figure is the result of a row.
type figure struct {
	value float64
	// of contains the values that it is the median of.
	of []float64
}

// point is the rate of children per second at a number of existing children.
type point struct{ children, rate float64 }

func newRunner(ctx context.Context, o options, all []measurement, out io.Writer) (*runner, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	return &runner{
		options: o, ctx: ctx, progress: newProgress(out), dir: dir, tree: newTree(ctx, kube.Root(), filepath.Join(dir, "programs")),
		all: all, figures: map[*row]figure{},
	}, nil
}

func (r *runner) close() error {
	r.progress.done()
	return os.RemoveAll(r.dir)
}

// measure runs one measurement, and returns when everything that it started has ended.
func (r *runner) measure(m measurement) error {
	b := &bench{runner: r, measurement: m}
	b.ctx, b.cancel = context.WithCancel(r.ctx)
	r.progress.begin(m.name)
	settle()
	done := make(chan struct{})
	// FailNow ends the goroutine, as in a test.
	go func() {
		defer close(done)
		defer b.end()
		m.measure(b)
	}()
	<-done
	return errors.Join(b.failures...)
}

// bench is the run of one measurement. It implements testing.TB for the helpers of tests.
type bench struct {
	// TB is nil. It is embedded because testing.TB has an unexported method.
	testing.TB
	*runner
	measurement measurement
	ctx         context.Context
	cancel      context.CancelFunc

	mu       sync.Mutex
	cleanups []func()
	failures []error
}

// end runs the cleanup functions, last first.
func (b *bench) end() {
	if p := recover(); p != nil {
		b.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}
	b.cancel()
	for {
		b.mu.Lock()
		last := len(b.cleanups) - 1
		if last < 0 {
			b.mu.Unlock()
			return
		}
		cleanup := b.cleanups[last]
		b.cleanups = b.cleanups[:last]
		b.mu.Unlock()
		cleanup()
	}
}

// fail records an error. It cancels the context, because all further results would be useless.
func (b *bench) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Report only a few of possibly thousands of errors.
	if len(b.failures) < 3 {
		b.failures = append(b.failures, err)
	}
	b.cancel()
}

// Helper does nothing, because errors are reported without line numbers.
func (b *bench) Helper() {}

// Name returns the name of the measurement.
func (b *bench) Name() string { return b.measurement.name }

// Context returns a context that ends with the measurement, or when it has failed.
func (b *bench) Context() context.Context { return b.ctx }

// Cleanup registers a function to be called at the end, in reverse order.
func (b *bench) Cleanup(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleanups = append(b.cleanups, f)
}

// TempDir returns a new directory, which is removed at the end.
func (b *bench) TempDir() string {
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Failed reports whether there was an error.
func (b *bench) Failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.failures) > 0
}

// Log prints details about a failure.
func (b *bench) Log(args ...any) { b.progress.print(fmt.Sprintln(args...)) }

// Logf is like Log with a format.
func (b *bench) Logf(format string, args ...any) {
	// An interrupt needs no explanation.
	if b.runner.ctx.Err() == nil {
		b.progress.print(fmt.Sprintf(format, args...))
	}
}

// Error records an error.
func (b *bench) Error(args ...any) { b.fail(errors.New(fmt.Sprint(args...))) }

// Errorf is like Error with a format.
func (b *bench) Errorf(format string, args ...any) { b.fail(fmt.Errorf(format, args...)) }

// Fatal is like Error, and ends the goroutine.
func (b *bench) Fatal(args ...any) {
	b.fail(errors.New(fmt.Sprint(args...)))
	runtime.Goexit()
}

// Fatalf is like Fatal with a format.
func (b *bench) Fatalf(format string, args ...any) {
	b.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

// FailNow ends the goroutine.
func (b *bench) FailNow() { b.Fatal("failed") }

// count scales a count to the scale of the run.
func (b *bench) count(full int) int { return max(1, int(float64(full)*b.scale)) }

// set sets the figure of a row of the measurement.
func (b *bench) set(id string, value float64, of ...float64) {
	for _, row := range b.measurement.rows {
		if row.id == id {
			b.figures[row] = figure{value, of}
			return
		}
	}
	b.Fatalf("there is no row %q", id)
}

// median sets the figure of a row to the median of some values.
func (b *bench) median(id string, values []float64) { b.set(id, median(values), values...) }

// figureOf returns the figure of a row of any measurement. It runs that measurement if necessary.
func (b *bench) figureOf(id string) float64 {
	for _, m := range b.all {
		for _, row := range m.rows {
			if row.id != id {
				continue
			}
			if _, ok := b.figures[row]; !ok {
				if err := b.runner.measure(m); err != nil {
					b.Fatalf("%s: %v", m.name, err)
				}
				b.progress.begin(b.measurement.name)
			}
			return b.figures[row].value
		}
	}
	b.Fatalf("there is no row %q", id)
	return 0
}

// tree is a checkout of this repository.
type tree struct {
	// root is its root directory.
	root string
	// build builds its programs once, and returns the directory of the programs.
	build func() (programs string, err error)
}

func newTree(ctx context.Context, root, programs string) *tree {
	return &tree{root, sync.OnceValues(func() (string, error) {
		build := exec.CommandContext(ctx, "go", "build", "-o", programs+string(filepath.Separator), "./cmd/...")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w\n%s", build, err, out)
		}
		settle()
		return programs, nil
	})}
}

// program returns the path of a program of the measured checkout.
func (b *bench) program(name string) string {
	b.progress.phase("build the programs", 0)
	programs, err := b.tree.build()
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(programs, name)
}

// settle writes all dirty pages to the disk. Otherwise Linux would do that half a minute later, in the middle of a
// round, and delay the log of etcd.
func settle() { syscall.Sync() }

// turns calls functions in turn for the given number of rounds, beginning with another one each time, so that
// disturbances affect all of them. It returns the results of each function.
func turns(rounds int, sides ...func(round int) float64) [][]float64 {
	values := make([][]float64, len(sides))
	for round := range rounds {
		for n := range sides {
			side := (round + n) % len(sides)
			values[side] = append(values[side], sides[side](round))
		}
	}
	return values
}

// ratios divides each value by the corresponding one.
func ratios(values, by []float64) []float64 {
	out := make([]float64, len(values))
	for i := range values {
		out[i] = values[i] / by[i]
	}
	return out
}

// median returns the median.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}
