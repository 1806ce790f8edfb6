// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests ipam-standalone as users run it: the built program, as a process.
package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// atOnce is the maximum time for a start that fails, or for the end of the program.
	atOnce = 15 * time.Second

	samples = "../../config/samples"
)

// binary is the path of the program. IPAM_STANDALONE_BIN can name an existing one.
var binary string

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		if binary = os.Getenv("IPAM_STANDALONE_BIN"); binary != "" {
			return func() {}, nil
		}
		binary = filepath.Join(dir, "ipam-standalone")
		return func() {}, harness.Build(dir, "ipam-standalone")
	})
}

// process is a running ipam-standalone.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	// url and kubeconfig are from the line that it printed when it was ready.
	url, kubeconfig string
	// lines contains the lines of its standard output that line has not returned yet.
	lines  chan string
	stderr syncBuffer
	ended  chan struct{}
	err    error
}

type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// launch starts the program. It is killed at the end of the test, unless it has ended.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), lines: make(chan string, 1000), ended: make(chan struct{})}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		close(p.lines)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.ended
		if t.Failed() {
			t.Logf("standard error of %q:\n%.3000s", args, p.stderr.String())
		}
	})
	return p
}

// serve starts the program with a data directory and a free port, and waits until it is ready.
func serve(t *testing.T, dataDir string, args ...string) *process {
	t.Helper()
	p := launch(t, append([]string{"--data-dir", dataDir, "--secure-port", "0"}, args...)...)
	line := p.line()
	match := regexp.MustCompile(`^ipam-standalone is ready on (https://127\.0\.0\.1:\d+), log in with --kubeconfig (\S+)$`).FindStringSubmatch(line)
	if match == nil {
		t.Fatalf("first line is %q", line)
	}
	p.url, p.kubeconfig = match[1], match[2]
	return p
}

// line returns the next line of standard output.
func (p *process) line() string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.ended
			p.t.Fatalf("ended (%v): %.3000s", p.err, p.stderr.String())
		}
		return line
	case <-time.After(harness.Patience):
		p.t.Fatalf("said nothing for %v", harness.Patience)
	}
	return ""
}

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

// wait waits until the program has ended, and returns its exit code and how long that took.
func (p *process) wait(limit time.Duration) (int, time.Duration) {
	p.t.Helper()
	began := time.Now()
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.t.Fatalf("still running after %v", limit)
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(began)
}

// config returns a client configuration that uses only the kubeconfig, like kubectl. It has no rate limit.
func (p *process) config() *rest.Config {
	p.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", p.kubeconfig)
	if err != nil {
		p.t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func (p *process) client() versioned.Interface {
	p.t.Helper()
	client, err := versioned.NewForConfig(p.config())
	if err != nil {
		p.t.Fatal(err)
	}
	return client
}

// in returns a namespace with the clients of the program.
func (p *process) in(t *testing.T, namespace string) *harness.Namespace {
	t.Helper()
	return harness.In(t, p.client().IpamV1alpha1(), namespace)
}

// complaints returns the output on stderr, except warnings that a busy machine causes: that etcd is slow, for a
// part of a request, a whole one ("request stats") or the disk, or that the start takes long.
func (p *process) complaints() string {
	return slow.ReplaceAllString(p.stderr.String(), "")
}

var slow = regexp.MustCompile(`(?m)^.*\twarn\tetcd\t.*\t(.* took too long|request stats|slow fdatasync).*\n|^W.* Still starting: .*\n`)

// oneLine checks that the output on stderr is one line that contains the words.
func oneLine(t *testing.T, stderr string, words ...string) {
	t.Helper()
	if strings.Count(strings.TrimSpace(stderr), "\n") != 0 || strings.TrimSpace(stderr) == "" {
		t.Errorf("not one line: %.3000s", stderr)
	}
	for _, word := range words {
		if !strings.Contains(stderr, word) {
			t.Errorf("lacks %q: %.3000s", word, stderr)
		}
	}
}
