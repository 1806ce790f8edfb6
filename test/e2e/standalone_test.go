// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestReady(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := serve(t, dir)
	if want := filepath.Join(dir, "kubeconfig"); p.kubeconfig != want {
		t.Errorf("kubeconfig is %s, want %s", p.kubeconfig, want)
	}
	for path, want := range map[string]os.FileMode{p.kubeconfig: 0o600, dir: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}

	// The server is ready when it prints the line: no request has to be retried.
	prefixes := p.client().IpamV1alpha1().Prefixes("any-name-works")
	if _, err := prefixes.Create(t.Context(), &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: "root"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "root Allocated", func() error {
		root, err := prefixes.Get(t.Context(), "root", metav1.GetOptions{})
		if err == nil && root.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			err = fmt.Errorf("is %s", root.Status.Phase)
		}
		return err
	})

	// Clients without the certificate are rejected.
	anonymous := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, path := range []string{"/apis/ipam.ironcore.dev/v1alpha1/prefixes", "/openapi/v3", "/version", "/metrics"} {
		response, err := anonymous.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s to nobody", path, response.Status)
		}
	}
	if stderr := p.complaints(); stderr != "" {
		t.Errorf("standard error: %.3000s", stderr)
	}
	select {
	case line := <-p.lines:
		t.Errorf("says more: %q", line)
	default:
	}
}

// row returns a pattern for a line of the table of Prefixes.
func row(cells ...string) *regexp.Regexp {
	return regexp.MustCompile(`^` + strings.Join(cells, ` +`) + ` *$`)
}

func TestSamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const age = `\d+m?s`
	table := []*regexp.Regexp{
		row("NAME", "PREFIX", "PARENT", "PHASE", "AGE"),
		row("customer-subnet-1", `1[01]\.(0|128)\.0\.0/9`, `root(-2)?`, "Allocated", age),
		row("customer-subnet-2", `1[01]\.(0|128)\.0\.0/9`, `root(-2)?`, "Allocated", age),
		row("customer-subnet-3", `1[01]\.(0|128)\.0\.0/9`, `root(-2)?`, "Allocated", age),
		row("customer-subnet-ipv6-1", `20[08]0::/9`, "root-ipv6", "Allocated", age),
		row("customer-subnet-ipv6-2", `20[08]0::/9`, "root-ipv6", "Allocated", age),
		row("root", `10\.0\.0\.0/8`, "<none>", "Allocated", age),
		row("root-2", `11\.0\.0\.0/8`, "<none>", "Allocated", age),
		row("root-ipv6", "2000::/8", "<none>", "Allocated", age),
		row("small-root", `192\.168\.0\.0/24`, "<none>", "Allocated", age),
		row("too-large", "<none>", "<none>", "Pending", age),
	}
	printed := func(p *process) {
		t.Helper()
		for _, want := range table {
			if line := p.line(); !want.MatchString(line) {
				t.Errorf("line %q is not like %s", line, want)
			}
		}
	}

	p := serve(t, dir, "--samples", samples)
	printed(p)
	// It continues to serve.
	prefixes := p.client().IpamV1alpha1().Prefixes(metav1.NamespaceDefault)
	before, err := prefixes.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(before.Items) != len(table)-1 {
		t.Fatalf("%d Prefixes: %v", len(before.Items), err)
	}
	p.signal(syscall.SIGTERM)
	if code, _ := p.wait(atOnce); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Existing objects do not change, and the table is printed all the same.
	p = serve(t, dir, "--samples", filepath.Join(samples, "ipv4.yaml"))
	printed(p)
	after, err := p.client().IpamV1alpha1().Prefixes(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range after.Items {
		if after.Items[i].ResourceVersion != before.Items[i].ResourceVersion {
			t.Errorf("%s was written again", after.Items[i].Name)
		}
	}
	if stderr := p.complaints(); stderr != "" {
		t.Errorf("standard error: %.3000s", stderr)
	}
}

// TestSamplesSettle has a tree whose children come first, so that each of them waits for a while. The table shows
// the final state. It once showed an intermediate state now and then.
func TestSamplesSettle(t *testing.T) {
	t.Parallel()
	const depth = 12
	var manifest strings.Builder
	for i := range depth {
		fmt.Fprintf(&manifest, "---\napiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\nmetadata:\n  name: level-%02d\nspec:\n", depth-i)
		fmt.Fprintf(&manifest, "  prefixLength: %d\n  parentRef:\n    name: level-%02d\n", 8+depth-i, depth-i-1)
	}
	manifest.WriteString("---\napiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\nmetadata:\n  name: level-00\nspec:\n  prefix: 10.0.0.0/8\n")
	manifest.WriteString("---\napiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\nmetadata:\n  name: never\nspec:\n  prefixLength: 4\n  parentRef:\n    name: level-00\n")
	file := filepath.Join(t.TempDir(), "tree.yaml")
	if err := os.WriteFile(file, []byte(manifest.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serve(t, t.TempDir(), "--samples", file)
	p.line()
	for i := range depth + 1 {
		if line := p.line(); !strings.Contains(line, fmt.Sprintf("10.0.0.0/%d ", 8+i)) || !strings.Contains(line, " Allocated ") {
			t.Errorf("level %d: %q", i, line)
		}
	}
	if line := p.line(); !strings.Contains(line, " Pending ") {
		t.Errorf("never: %q", line)
	}
}

func TestDataDirInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := serve(t, dir)
	second := launch(t, "--data-dir", dir, "--secure-port", "0")
	if code, _ := second.wait(atOnce); code == 0 {
		t.Error("exit code 0")
	}
	oneLine(t, second.stderr.String(), "in use", dir, fmt.Sprintf("pid %d", first.cmd.Process.Pid))
	if line, ok := <-second.lines; ok {
		t.Errorf("says %q", line)
	}
	// The first one is not affected.
	if _, err := first.client().IpamV1alpha1().Prefixes("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	// When it has ended, even by a kill, the directory is free.
	first.signal(syscall.SIGKILL)
	first.wait(atOnce)
	serve(t, dir)
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	first := serve(t, t.TempDir())
	port := first.url[strings.LastIndex(first.url, ":")+1:]
	second := launch(t, "--data-dir", t.TempDir(), "--secure-port", port)
	if code, _ := second.wait(atOnce); code == 0 {
		t.Error("exit code 0")
	}
	oneLine(t, second.stderr.String(), port, "in use")
}

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, state := range []string{"idle", "with a watch", "with work under way"} {
			t.Run(fmt.Sprintf("%s %s", s, state), func(t *testing.T) {
				t.Parallel()
				p := serve(t, t.TempDir())
				prefixes := p.client().IpamV1alpha1().Prefixes("default")
				switch state {
				case "with a watch":
					watcher, err := prefixes.Watch(t.Context(), metav1.ListOptions{})
					if err != nil {
						t.Fatal(err)
					}
					defer watcher.Stop()
				case "with work under way":
					if _, err := prefixes.Create(t.Context(), root(), metav1.CreateOptions{}); err != nil {
						t.Fatal(err)
					}
					for i := range 20 {
						if _, err := prefixes.Create(t.Context(), child(i), metav1.CreateOptions{}); err != nil {
							t.Fatal(err)
						}
					}
				}
				p.signal(s)
				code, took := p.wait(atOnce)
				if code != 0 {
					t.Errorf("exit code %d", code)
				}
				t.Logf("ended after %v", took.Round(time.Millisecond))
				if stderr := p.complaints(); state != "with work under way" && stderr != "" {
					t.Errorf("standard error: %.3000s", stderr)
				}
			})
		}
	}

	t.Run("before it is ready", func(t *testing.T) {
		t.Parallel()
		for _, delay := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
			p := launch(t, "--data-dir", t.TempDir(), "--secure-port", "0")
			time.Sleep(delay)
			p.signal(syscall.SIGTERM)
			code, took := p.wait(atOnce)
			t.Logf("%v after its start: exit code %d after %v", delay, code, took.Round(time.Millisecond))
			// Before it handles signals, a signal kills it.
			if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); code != 0 && !status.Signaled() {
				t.Errorf("%v after its start: exit code %d", delay, code)
			}
		}
	})
}

func root() *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "root"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"}}
}

func child(i int) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("child-%d", i)},
		Spec:       v1alpha1.PrefixSpec{PrefixLength: 28, ParentRef: &v1alpha1.LocalObjectReference{Name: "root"}},
	}
}

// TestKill kills the program during 1,000 creates by 32 creators, restarts it, and kills it again while it does the
// rest.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	const (
		children = 1000
		creators = 32
	)
	p := serve(t, dir)
	client := p.client()
	if _, err := client.IpamV1alpha1().Prefixes("default").Create(t.Context(), root(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	var (
		next, created atomic.Int32
		mu            sync.Mutex
		acknowledged  = map[string]types.UID{}
		wg            sync.WaitGroup
	)
	for range creators {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= children; i = int(next.Add(1)) {
				c, err := client.IpamV1alpha1().Prefixes("default").Create(t.Context(), child(i), metav1.CreateOptions{})
				if err != nil {
					return
				}
				mu.Lock()
				acknowledged[c.Name] = c.UID
				mu.Unlock()
				if created.Add(1) == children/2 {
					p.signal(syscall.SIGKILL)
				}
			}
		})
	}
	wg.Wait()
	p.wait(atOnce)
	if len(acknowledged) < children/2 || len(acknowledged) == children {
		t.Fatalf("%d of %d were created: the kill was not in the middle", len(acknowledged), children)
	}
	allocated := map[string]string{}
	check := func(p *process) {
		t.Helper()
		list, err := p.client().IpamV1alpha1().Prefixes("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]types.UID{}
		done := 0
		for _, c := range list.Items {
			found[c.Name] = c.UID
			if c.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				continue
			}
			done++
			// Allocated Prefixes keep their range.
			if before, ok := allocated[c.Name]; ok && before != c.Spec.Prefix {
				t.Errorf("%s was %s and is %s", c.Name, before, c.Spec.Prefix)
			}
			allocated[c.Name] = c.Spec.Prefix
		}
		t.Logf("%d of %d Prefixes are Allocated after the start", done, len(list.Items))
		for name, uid := range acknowledged {
			if found[name] != uid {
				t.Errorf("%s was acknowledged with uid %s, there is %q", name, uid, found[name])
			}
		}
	}

	p = serve(t, dir)
	check(p)
	prefixes := p.client().IpamV1alpha1().Prefixes("default")
	harness.Eventually(t, "some more Allocated", func() error {
		list, err := prefixes.List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Allocated"})
		if err == nil && len(list.Items) < len(allocated)+50 {
			err = fmt.Errorf("%d are, %d were", len(list.Items), len(allocated))
		}
		return err
	})
	p.signal(syscall.SIGKILL)
	p.wait(atOnce)

	p = serve(t, dir)
	check(p)
	began := time.Now()
	p.in(t, "default").AllAllocated()
	t.Logf("every child was Allocated %v after the second start", time.Since(began).Round(time.Millisecond))
	check(p)

	// The server works normally.
	if _, err := p.client().IpamV1alpha1().Prefixes("default").Create(t.Context(), child(children+1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.in(t, "default").AllAllocated()
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	output := func(args ...string) string {
		t.Helper()
		p := launch(t, args...)
		if code, _ := p.wait(atOnce); code != 0 {
			t.Errorf("%q: exit code %d", args, code)
		}
		if stderr := p.complaints(); stderr != "" {
			t.Errorf("%q: standard error: %.3000s", args, stderr)
		}
		var lines []string
		for line := range p.lines {
			lines = append(lines, line)
		}
		return strings.Join(lines, "\n")
	}
	if version := output("--version"); !regexp.MustCompile(`^ipam-standalone version v\S+$`).MatchString(version) {
		t.Errorf("version is %q", version)
	}
	help := output("--help")
	for _, word := range []string{"ipam-standalone", "--data-dir", "--secure-port", "7443", ".ipam", "--samples", "--controllers", "--strategy", "Pack", "Spread"} {
		if !strings.Contains(help, word) {
			t.Errorf("help lacks %q", word)
		}
	}
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("kind: Nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args  []string
		words []string
	}{
		{[]string{"--no-such-flag"}, []string{"--no-such-flag"}},
		{[]string{"argument"}, []string{"argument"}},
		{[]string{"--secure-port", "http"}, []string{"secure-port", "http"}},
		{[]string{"--secure-port", "70000"}, []string{"70000"}},
		{[]string{"--secure-port", "-1"}, []string{"-1"}},
		{[]string{"--controllers", "network"}, []string{"network", "prefix", "scheduler"}},
		{[]string{"--strategy", "Random"}, []string{"Random", "Pack", "Spread"}},
		{[]string{"--quota-backend-bytes", "0"}, []string{"quota", "0"}},
		{[]string{"--data-dir", file}, []string{file}},
		{[]string{"--data-dir", ""}, []string{"empty"}},
		{[]string{"--samples", file + ".yaml"}, []string{file + ".yaml"}},
		{[]string{"--samples", file}, []string{file}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			args := tt.args
			for _, defaults := range [][]string{{"--data-dir", filepath.Join(t.TempDir(), "data")}, {"--secure-port", "0"}} {
				if !slices.Contains(args, defaults[0]) {
					args = append(args, defaults...)
				}
			}
			p := launch(t, args...)
			if code, _ := p.wait(atOnce); code == 0 {
				t.Error("exit code 0")
			}
			oneLine(t, p.stderr.String(), tt.words...)
		})
	}
}
