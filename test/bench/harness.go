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

// runner runs measurements one after the other, and keeps what they find.
type runner struct {
	options
	ctx      context.Context
	progress *progress
	// dir has everything that is written, and is removed at the end.
	dir string
	// tree is the checkout whose programs are measured.
	tree *tree
	// all are all measurements that there are, and figures what was measured, by row.
	all     []measurement
	figures map[*row]figure
	// points are children a second by children that exist, for the plot.
	points []point
}

// figure is what was measured.
type figure struct {
	value float64
	// of are the values that it is the median of.
	of []float64
}

// point is how many children a second were allocated when there were so many.
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

// bench is the run of one measurement. The helpers of tests take it for a test.
type bench struct {
	// TB is nil, and only there because nothing else than a test can have all of its methods.
	testing.TB
	*runner
	measurement measurement
	ctx         context.Context
	cancel      context.CancelFunc

	mu       sync.Mutex
	cleanups []func()
	failures []error
}

// end undoes, last first, what was started.
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

// fail remembers what went wrong. Nothing that is measured from then on would be worth anything, so it ends
// what waits for the context.
func (b *bench) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// One of thousands of children is enough to be told of.
	if len(b.failures) < 3 {
		b.failures = append(b.failures, err)
	}
	b.cancel()
}

// Helper does nothing: there are no lines to be told of.
func (b *bench) Helper() {}

// Name returns the name of the measurement.
func (b *bench) Name() string { return b.measurement.name }

// Context returns a context that ends with the measurement, or when it has failed.
func (b *bench) Context() context.Context { return b.ctx }

// Cleanup has a function called at the end, after those that are given later.
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

// Failed reports whether something went wrong.
func (b *bench) Failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.failures) > 0
}

// Log tells what helps to understand a failure.
func (b *bench) Log(args ...any) { b.progress.print(fmt.Sprintln(args...)) }

// Logf is Log with a format.
func (b *bench) Logf(format string, args ...any) {
	// That it was interrupted needs no explanation.
	if b.runner.ctx.Err() == nil {
		b.progress.print(fmt.Sprintf(format, args...))
	}
}

// Error says that something went wrong.
func (b *bench) Error(args ...any) { b.fail(errors.New(fmt.Sprint(args...))) }

// Errorf is Error with a format.
func (b *bench) Errorf(format string, args ...any) { b.fail(fmt.Errorf(format, args...)) }

// Fatal is Error, and ends the goroutine.
func (b *bench) Fatal(args ...any) {
	b.fail(errors.New(fmt.Sprint(args...)))
	runtime.Goexit()
}

// Fatalf is Fatal with a format.
func (b *bench) Fatalf(format string, args ...any) {
	b.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

// FailNow ends the goroutine.
func (b *bench) FailNow() { b.Fatal("failed") }

// count returns how many of something there are to be in a run of this scale.
func (b *bench) count(full int) int { return max(1, int(float64(full)*b.scale)) }

// set says what a row of the measurement is.
func (b *bench) set(id string, value float64, of ...float64) {
	for _, row := range b.measurement.rows {
		if row.id == id {
			b.figures[row] = figure{value, of}
			return
		}
	}
	b.Fatalf("there is no row %q", id)
}

// median says that a row is the median of some values.
func (b *bench) median(id string, values []float64) { b.set(id, median(values), values...) }

// figureOf returns what a row of any measurement is, which is measured now if it was not before.
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
	// root is its directory.
	root string
	// build builds its programs, once, and returns the directory with them.
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

// program returns the path of a program of the checkout that is measured.
func (b *bench) program(name string) string {
	b.progress.phase("build the programs", 0)
	programs, err := b.tree.build()
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(programs, name)
}

// settle has on the disk what was written before. Linux begins with that half a minute later, in the midst of some round, and
// the log of etcd waits meanwhile.
func settle() { syscall.Sync() }

// turns calls functions so many times, one after the other, and lets another one begin each time, so that
// what the machine does meanwhile concerns all of them. It returns what each has returned.
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

// ratios divides value by value.
func ratios(values, by []float64) []float64 {
	out := make([]float64, len(values))
	for i := range values {
		out[i] = values[i] / by[i]
	}
	return out
}

// median returns the middle one.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}
