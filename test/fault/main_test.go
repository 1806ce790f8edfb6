// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package fault tests that no address is handed out twice and none is taken away, whatever fails:
// API servers and controller managers run as processes of their own, are killed and stopped at bad
// moments, and lose answers, and clients that know nothing of each other write at the same time.
//
// The tests are short. With IPAM_TEST_LONG=1 they do many times as much.
package fault

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

const (
	module = "github.com/ironcore-dev/ipam-apiserver"
	// patience is how long a test waits for what has to happen. It is generous, for a machine that
	// is busy with something else.
	patience = 60 * time.Second
)

// programs is the directory with the programs under test.
var programs string

// long is set if the tests may take long.
var long = os.Getenv("IPAM_TEST_LONG") != ""

func TestMain(m *testing.M) {
	quietLogs()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fault")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programs = dir
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
			module+"/cmd/ipam-apiserver", module+"/cmd/ipam-controller-manager")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n%s", build, err, out)
			return 1
		}
		return m.Run()
	}())
}

// quietLogs drops what the clients in this process log: that a server is gone is what the tests are
// about.
func quietLogs() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
}

// times returns how much of something a test does.
func times(inShort, inLong int) int {
	if long {
		return inLong
	}
	return inShort
}

// newRand returns a random source that is the same in every run.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }
