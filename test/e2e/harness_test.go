// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests ipam-standalone as the program that is shipped: built, and run as a process of
// its own.
package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// patience is how long a test waits for what has to happen, also on a busy machine.
	patience = 60 * time.Second
	// atOnce is how long what fails, or ends, may take.
	atOnce = 15 * time.Second

	samples = "../../config/samples"
)

// binary is the path of the program. IPAM_STANDALONE_BIN names one that is built already.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if binary = os.Getenv("IPAM_STANDALONE_BIN"); binary != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "ipam-standalone")
		if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/ipam-standalone").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// process is a running ipam-standalone.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	// url and kubeconfig are what it said when it was ready.
	url, kubeconfig string
	// lines are those of its standard output that nobody took yet.
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

// serve starts the program on a data directory and any port, and waits until it is ready.
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
	case <-time.After(patience):
		p.t.Fatalf("said nothing for %v", patience)
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

// config is that of a client like kubectl: it knows the kubeconfig and nothing else. Its rate is not
// limited.
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

// eventually waits until the check has no complaint.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		}
	}
}

// checkNamespace checks that every child in a namespace is Allocated, inside of its parent and of
// nobody else, by exactly one allocation, and that the parent counts it.
func checkNamespace(t *testing.T, client versioned.Interface, namespace string) error {
	t.Helper()
	prefixes, err := client.IpamV1alpha1().Prefixes(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	allocations, err := client.IpamV1alpha1().PrefixAllocations(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	owned := map[types.UID][]v1alpha1.PrefixAllocation{}
	for _, a := range allocations.Items {
		for _, owner := range a.OwnerReferences {
			owned[owner.UID] = append(owned[owner.UID], a)
		}
	}
	parents := map[string]*v1alpha1.Prefix{}
	given := map[string][]netip.Prefix{}
	for i := range prefixes.Items {
		p := &prefixes.Items[i]
		parents[p.Name] = p
		if p.Spec.IsRoot() {
			continue
		}
		own := owned[p.UID]
		switch {
		case p.Status.Phase != v1alpha1.PrefixPhaseAllocated:
			return fmt.Errorf("%s is %s: %+v", p.Name, p.Status.Phase, p.Status.Conditions)
		case len(own) != 1:
			return fmt.Errorf("%s has %d allocations", p.Name, len(own))
		case own[0].Status.Prefix != p.Spec.Prefix || own[0].Spec.PrefixRef.Name != p.Spec.ParentRef.Name:
			return fmt.Errorf("%s is %s from %s, its allocation holds %s from %s", p.Name,
				p.Spec.Prefix, p.Spec.ParentRef.Name, own[0].Status.Prefix, own[0].Spec.PrefixRef.Name)
		}
		given[p.Spec.ParentRef.Name] = append(given[p.Spec.ParentRef.Name], netip.MustParsePrefix(p.Spec.Prefix))
		delete(owned, p.UID)
	}
	if len(owned) > 0 {
		return fmt.Errorf("%d allocations of nobody", len(owned))
	}
	for name, children := range given {
		parent := parents[name]
		if parent == nil {
			return fmt.Errorf("there is no parent %s", name)
		}
		outer := netip.MustParsePrefix(parent.Spec.Prefix)
		slices.SortFunc(children, netip.Prefix.Compare)
		for i, child := range children {
			if child.Bits() <= outer.Bits() || !outer.Contains(child.Addr()) {
				return fmt.Errorf("%s is not strictly inside %s", child, outer)
			}
			if i > 0 && children[i-1].Overlaps(child) {
				return fmt.Errorf("%s and %s overlap", children[i-1], child)
			}
		}
		if usage := parent.Status.Usage; usage == nil || int(usage.Allocations) != len(children) {
			return fmt.Errorf("%s has %d children, its usage is %+v", name, len(children), usage)
		}
	}
	return nil
}

// complaints is what a program said on standard error, but for what is said of a busy machine: that etcd is slow, which it
// says of a part of a request, of a whole one ("request stats") and of the disk, or that the start takes long.
func (p *process) complaints() string {
	return slow.ReplaceAllString(p.stderr.String(), "")
}

var slow = regexp.MustCompile(`(?m)^.*\twarn\tetcd\t.*\t(.* took too long|request stats|slow fdatasync).*\n|^W.* Still starting: .*\n`)

// oneLine checks that what a program said on standard error is one clear line: about these words.
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
