// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the built ipam-standalone as a process, the way a user runs it.
package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
)

// patience is how long anything may take on a busy machine.
const patience = 2 * time.Minute

// binary is the program, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ipam-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "ipam-standalone")
	build := exec.Command("go", "build", "-o", binary, "github.com/ironcore-dev/ipam-apiserver/cmd/ipam-standalone")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// process is a running ipam-standalone.
type process struct {
	*exec.Cmd
	url, kubeconfig string
	lines           chan string
	stderr          *bytes.Buffer
	exited          chan error
}

var readyLine = regexp.MustCompile(`^ipam-standalone is ready on (https://127\.0\.0\.1:\d+), log in with --kubeconfig (.+)$`)

// startProcess starts the program on a data directory and waits for the line that says it is ready.
func startProcess(t *testing.T, dataDir string, args ...string) *process {
	t.Helper()
	p := &process{
		Cmd:    exec.Command(binary, append([]string{"--data-dir", dataDir, "--secure-port", "0"}, args...)...),
		lines:  make(chan string, 1000),
		stderr: &bytes.Buffer{},
		exited: make(chan error, 1),
	}
	p.Stderr = p.stderr
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		p.exited <- p.Wait()
	}()
	t.Cleanup(func() { _ = p.Process.Kill() })

	ready := readyLine.FindStringSubmatch(p.line(t))
	if ready == nil {
		t.Fatalf("the first line does not say that it is ready; on standard error: %.2000s", p.stderr)
	}
	p.url, p.kubeconfig = ready[1], ready[2]
	return p
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(patience):
		t.Fatal("no line on standard output")
		return ""
	}
}

func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.exited:
		return err
	case <-time.After(patience):
		t.Fatal("the process does not end")
		return nil
	}
}

func (p *process) client(t *testing.T) ipamclient.IpamV1alpha1Interface {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", p.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := versioned.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.IpamV1alpha1()
}

// eventually tries until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func TestSamplesAndTable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := startProcess(t, dir, "--samples", "../../config/samples")

	if info, err := os.Stat(p.kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v, want mode 0600", info, err)
	}
	if want := filepath.Join(dir, "kubeconfig"); p.kubeconfig != want {
		t.Errorf("kubeconfig is %s, want %s", p.kubeconfig, want)
	}
	if header := strings.Fields(p.line(t)); !slices.Equal(header, []string{"NAME", "PREFIX", "PARENT", "PHASE", "AGE"}) {
		t.Errorf("header: %v", header)
	}
	want := map[string]string{
		"customer-subnet-1": "Allocated", "customer-subnet-2": "Allocated", "customer-subnet-3": "Allocated",
		"customer-subnet-ipv6-1": "Allocated", "customer-subnet-ipv6-2": "Allocated",
		"root": "Allocated", "root-2": "Allocated", "root-ipv6": "Allocated", "small-root": "Allocated", "too-large": "Pending",
	}
	for range len(want) {
		cells := strings.Fields(p.line(t))
		if len(cells) != 5 || want[cells[0]] != cells[3] {
			t.Errorf("row: %v", cells)
		}
	}
	// It goes on serving.
	if _, err := p.client(t).Prefixes("default").Get(t.Context(), "too-large", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}

	// A signal ends it cleanly, and what is there already is left alone by the next start.
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t); err != nil {
		t.Errorf("after SIGTERM: %v; %.2000s", err, p.stderr)
	}
	p = startProcess(t, dir, "--samples", "../../config/samples")
	for range len(want) + 1 {
		p.line(t)
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t); err != nil {
		t.Errorf("after Ctrl-C: %v; %.2000s", err, p.stderr)
	}
	if p.stderr.Len() > 0 {
		t.Errorf("on standard error: %.2000s", p.stderr)
	}
}

func TestDataDirInUse(t *testing.T) {
	dir := t.TempDir()
	first := startProcess(t, dir)
	output, err := exec.Command(binary, "--data-dir", dir, "--secure-port", "0").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the second start ends with %v", err)
	}
	want := fmt.Sprintf("in use by another ipam-standalone (pid %d)", first.Process.Pid)
	if !strings.Contains(string(output), want) {
		t.Errorf("it says %q, want %q in it", output, want)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		ok   bool
		want string
	}{
		{[]string{"--version"}, true, "ipam-standalone version v"},
		{[]string{"--help"}, true, "--data-dir"},
		{[]string{"--no-such-flag"}, false, "unknown flag: --no-such-flag"},
		{[]string{"--controllers", "no-such"}, false, `unknown controller "no-such"`},
		{[]string{"--strategy", "Scatter"}, false, `unknown strategy "Scatter"`},
		{[]string{"argument"}, false, `unknown command "argument"`},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			command := exec.Command(binary, tt.args...)
			command.Dir = t.TempDir()
			output, err := command.CombinedOutput()
			if (err == nil) != tt.ok || !strings.Contains(string(output), tt.want) {
				t.Errorf("%v: %.500s", err, output)
			}
			if entries, err := os.ReadDir(command.Dir); err != nil || len(entries) > 0 {
				t.Errorf("it left %v, %v", entries, err)
			}
		})
	}
}

// TestKillInTheMidstOfCreates kills the process while 32 creators make 1,000 children, and looks
// after a restart for everything that was acknowledged.
func TestKillInTheMidstOfCreates(t *testing.T) {
	const children, creators = 1000, 32
	dir := t.TempDir()
	p := startProcess(t, dir)
	client := p.client(t).Prefixes("default")
	if _, err := client.Create(t.Context(), &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: "root"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/16"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	child := func(n int) *v1alpha1.Prefix {
		return &v1alpha1.Prefix{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("child-%d", n)},
			Spec:       v1alpha1.PrefixSpec{PrefixLength: 28, ParentRef: &v1alpha1.LocalObjectReference{Name: "root"}},
		}
	}
	var mu sync.Mutex
	acknowledged := map[string]types.UID{}
	var wg sync.WaitGroup
	work := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range creators {
		wg.Go(func() {
			for n := range work {
				created, err := client.Create(ctx, child(n), metav1.CreateOptions{})
				if err != nil {
					continue
				}
				mu.Lock()
				acknowledged[created.Name] = created.UID
				enough := len(acknowledged) == children/2
				mu.Unlock()
				if enough {
					_ = p.Process.Kill()
				}
			}
		})
	}
	for n := range children {
		work <- n
	}
	close(work)
	wg.Wait()
	_ = p.wait(t)
	if len(acknowledged) < children/2 || len(acknowledged) == children {
		t.Fatalf("%d of %d were acknowledged, so it was not killed in the midst", len(acknowledged), children)
	}

	p = startProcess(t, dir)
	client = p.client(t).Prefixes("default")
	for name, uid := range acknowledged {
		prefix, err := client.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || prefix.UID != uid {
			t.Fatalf("%s was acknowledged, and now is %v", name, err)
		}
	}
	for n := range children {
		if _, err := client.Create(t.Context(), child(n), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	var list *v1alpha1.PrefixList
	eventually(t, "every child is allocated", func() (err error) {
		if list, err = client.List(t.Context(), metav1.ListOptions{FieldSelector: v1alpha1.FieldPhase + "=Allocated," + v1alpha1.FieldParentRefName + "=root"}); err != nil {
			return err
		}
		if len(list.Items) != children {
			return fmt.Errorf("%d are", len(list.Items))
		}
		return nil
	})
	var prefixes []netip.Prefix
	for _, p := range list.Items {
		prefixes = append(prefixes, netip.MustParsePrefix(p.Spec.Prefix))
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for i, prefix := range prefixes {
		if !netip.MustParsePrefix("10.0.0.0/16").Contains(prefix.Addr()) || prefix.Bits() != 28 {
			t.Errorf("%s is not what was asked for", prefix)
		}
		if i > 0 && prefix.Overlaps(prefixes[i-1]) {
			t.Errorf("%s overlaps %s", prefix, prefixes[i-1])
		}
	}
	allocations, err := p.client(t).PrefixAllocations("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(allocations.Items) != children {
		t.Errorf("%d PrefixAllocations of %d children, %v", len(allocations.Items), children, err)
	}
	root, err := client.Get(t.Context(), "root", metav1.GetOptions{})
	if err != nil || root.Status.Usage == nil || root.Status.Usage.Allocations != children {
		t.Errorf("usage of root: %+v, %v", root.Status.Usage, err)
	}
}

// TestPrivate looks at what others on the machine could reach.
func TestPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := startProcess(t, dir)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && path == dir && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", p.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.CertData, config.KeyData = nil, nil
	anonymous, err := versioned.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anonymous.IpamV1alpha1().Prefixes("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("without a certificate: %v, want 401", err)
	}
}
