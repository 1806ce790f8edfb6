// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// finish runs the program until it ends, and returns its exit code and its output.
func finish(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := launch(t, args...)
	code, _ = p.wait(harness.Patience)
	for line := range p.lines {
		stdout += line + "\n"
	}
	return code, stdout, p.complaints()
}

// ballast is the data that fills a database.
var ballast = strings.Repeat("x", 90_000)

const full = "database space exceeded"

// fill writes until the database is full.
func fill(t *testing.T, write func(i int) error) {
	t.Helper()
	for i := range 1000 {
		if err := write(i); err != nil {
			if !strings.Contains(err.Error(), full) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the database is not full")
}

// TestFullDatabase fills the database, and follows the steps of docs/operating/capacity.md.
func TestFullDatabase(t *testing.T) {
	t.Parallel()
	const quota = 4 << 20
	dir := t.TempDir()
	p := serve(t, dir, "--quota-backend-bytes", fmt.Sprint(quota))
	prefixes := func() ipamclient.PrefixInterface { return p.client().IpamV1alpha1().Prefixes(metav1.NamespaceDefault) }
	create := func(prefix *v1alpha1.Prefix) error {
		_, err := prefixes().Create(t.Context(), prefix, metav1.CreateOptions{})
		return err
	}
	child := func(name string) *v1alpha1.Prefix {
		return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixSpec{
			PrefixLength: 24, ParentRef: &v1alpha1.LocalObjectReference{Name: "root"}}}
	}
	consistent := func() {
		t.Helper()
		p.in(t, metav1.NamespaceDefault).AllAllocated()
	}
	reclaim := func(args ...string) (int, string, string) {
		t.Helper()
		return finish(t, append([]string{"reclaim", "--data-dir", dir}, args...)...)
	}
	works := func(stdout string) {
		t.Helper()
		var after, before, quota int64
		if _, err := fmt.Sscanf(stdout, "The size of the database is %d bytes; it was %d. The quota is %d.", &after, &before, &quota); err != nil || after >= before {
			t.Errorf("reclaim said %q (%v)", stdout, err)
		}
	}
	if err := create(&v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "root"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/16"}}); err != nil {
		t.Fatal(err)
	}
	if err := create(child("before")); err != nil {
		t.Fatal(err)
	}
	consistent()
	change := func(i int) error {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"ballast":"%d%s"}}}`, i, ballast)
		_, err := prefixes().Patch(t.Context(), "root", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}

	// Fill it with history, while the server runs.
	fill(t, change)
	for what, err := range map[string]error{
		"create": create(child("refused")),
		"delete": prefixes().Delete(t.Context(), "before", metav1.DeleteOptions{}),
	} {
		if err == nil || !strings.Contains(err.Error(), full) {
			t.Errorf("%s: %v", what, err)
		}
	}
	code, stdout, stderr := reclaim()
	if code != 0 || stderr != "" {
		t.Fatalf("reclaim: exit code %d: %s", code, stderr)
	}
	works(stdout)
	if err := create(child("after")); err != nil {
		t.Fatal(err)
	}
	consistent()

	// Fill it with history, while the server does not run.
	fill(t, change)
	p.signal(syscall.SIGKILL)
	p.wait(atOnce)
	if code, stdout, stderr = reclaim("--quota-backend-bytes", fmt.Sprint(quota)); code != 0 || stderr != "" {
		t.Fatalf("reclaim: exit code %d: %s", code, stderr)
	}
	works(stdout)
	p = serve(t, dir, "--quota-backend-bytes", fmt.Sprint(quota))
	if err := create(child("afterwards")); err != nil {
		t.Fatal(err)
	}
	consistent()

	// Fill it with objects. Each reclaim frees less space, until it does not help any more.
	for i := 0; code == 0; i++ {
		if i > 20 {
			t.Fatal("there is always room")
		}
		fill(t, func(j int) error {
			_, err := p.client().IpamV1alpha1().PrefixAllocations(metav1.NamespaceDefault).Create(t.Context(), &v1alpha1.PrefixAllocation{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("waits-%d-%d", i, j), Annotations: map[string]string{"ballast": ballast}},
				Spec:       v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: &v1alpha1.LocalObjectReference{Name: "nobody"}},
			}, metav1.CreateOptions{})
			return err
		})
		code, _, stderr = reclaim()
	}
	oneLine(t, stderr, "still more than 90% full", "--quota-backend-bytes")
	p.signal(syscall.SIGTERM)
	p.wait(atOnce)
	p = serve(t, dir, "--quota-backend-bytes", fmt.Sprint(4*quota))
	if code, _, stderr = reclaim(); code != 0 {
		t.Fatalf("reclaim: exit code %d: %s", code, stderr)
	}
	if err := prefixes().Delete(t.Context(), "before", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	consistent()
	if code, stdout, stderr := finish(t, "audit", "--data-dir", dir); code != 0 || stderr != "" {
		t.Errorf("audit: exit code %d: %s%s", code, stdout, stderr)
	}
}

// TestAuditOfADataDirectory audits a data directory with and without a running ipam-standalone.
func TestAuditOfADataDirectory(t *testing.T) {
	t.Parallel()
	// The path is too long for a socket, which is then in another directory.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	p := serve(t, dir, "--samples", filepath.Join(samples, "ipv4.yaml"))
	for range 6 {
		p.line()
	}
	check := func(what string) {
		t.Helper()
		began := time.Now()
		code, stdout, stderr := finish(t, "audit", "--data-dir", dir)
		if code != 0 || stdout != "Objects and claims agree.\n" || stderr != "" {
			t.Errorf("%s: exit code %d: %s%s", what, code, stdout, stderr)
		}
		if code, stdout, stderr = finish(t, "audit", "--data-dir", dir, "-o", "json"); code != 0 || !strings.Contains(stdout, `"differences": []`) || stderr != "" {
			t.Errorf("%s: exit code %d: %s%s", what, code, stdout, stderr)
		}
		t.Logf("%s: two audits took %v", what, time.Since(began).Round(time.Millisecond))
	}
	check("running")
	p.signal(syscall.SIGTERM)
	p.wait(atOnce)
	check("stopped")
	p = serve(t, dir)
	p.signal(syscall.SIGKILL)
	p.wait(atOnce)
	check("killed")

	// A missing directory is not created.
	missing := filepath.Join(t.TempDir(), "missing")
	for _, command := range []string{"audit", "reclaim"} {
		code, _, stderr := finish(t, command, "--data-dir", missing)
		if code == 0 {
			t.Errorf("%s: exit code 0", command)
		}
		oneLine(t, stderr, "not a data directory", missing)
		if _, err := os.Stat(missing); !os.IsNotExist(err) {
			t.Errorf("%s: %v", command, err)
		}
	}
}
