// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestCommandsOfMany measures what commands need for 100,000 children, or for a million in a long test: their time,
// and their memory, which has a limit. The stand-in for the server answers from memory, as the watch cache of a real one.
func TestCommandsOfMany(t *testing.T) {
	n, most := 100_000, map[string]time.Duration{"tree": 2 * time.Second, "who": time.Second, "check": 12 * time.Second}
	if os.Getenv("IPAM_TEST_LONG") != "" {
		n, most = 1_000_000, map[string]time.Duration{"tree": 10 * time.Second, "who": 10 * time.Second, "check": 2 * time.Minute}
	}
	c := newCluster(t)
	prefixes := many(n)
	root, last := prefixes[0], prefixes[len(prefixes)-1]
	for _, p := range prefixes[2:] {
		p.UID = types.UID(p.Name)
		yes := true
		a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: map[string]string{v1alpha1.RequesterUIDLabel: string(p.UID)},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: schemeVersion.String(), Kind: v1alpha1.PrefixKind, Name: p.Name, UID: p.UID, Controller: &yes}}}}
		a.Spec.PrefixRef = p.Spec.ParentRef
		a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, p.Spec.Prefix
		c.allocations = append(c.allocations, a)
	}
	root.Status.Usage = &v1alpha1.PrefixUsage{Total: "2097152", Used: fmt.Sprint(n), Free: fmt.Sprint(2097152 - n), Percent: int32(n / 20972), Allocations: int64(n), Truncated: true}
	c.add(prefixes...)

	dir := t.TempDir()
	program, config := filepath.Join(dir, "kubectl-ipam"), filepath.Join(dir, "kubeconfig")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/kubectl-ipam").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(config, []byte("apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: "+c.URL+"}\n"+
		"contexts:\n- name: c\n  context: {cluster: c, namespace: default}\ncurrent-context: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := cidr.Parse(last.Spec.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	address := held.Addr().String()
	for _, tt := range []struct {
		args, want string
		limit      time.Duration
	}{
		{"tree", fmt.Sprintf("└─ %d Prefixes", n), most["tree"]},
		{"tree --all", "child-0 ", 0},
		{"who " + address, last.Name, most["who"]},
		{"who 10.30.255.255", "Free", 0},
		{"check", fmt.Sprintf("%d Prefixes and %d PrefixAllocations: 0 differences.", n+2, n), most["check"]},
		{"export", last.Name + ",", 0},
	} {
		cmd := exec.Command(program, append(strings.Fields(tt.args), "--kubeconfig", config)...)
		cmd.Env = slices.Concat(os.Environ(), []string{"HOME=" + dir})
		began := time.Now()
		var printed bytes.Buffer
		cmd.Stdout, cmd.Stderr = &printed, &printed
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		memory := make(chan int)
		go func() { memory <- mostMemory(cmd.Process.Pid) }()
		err := cmd.Wait()
		took, mib, out := time.Since(began), <-memory, printed.Bytes()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v: %.500s", tt.args, err, out)
			continue
		}
		t.Logf("%s: %.1f s, %.1f s of a processor, %d MiB", tt.args, took.Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), mib)
		if mib == 0 || mib > 500 {
			t.Errorf("%s needs %d MiB, more than 500 or not measured", tt.args, mib)
		}
		// A busy machine may make anything slow, so that what the program itself uses counts.
		if used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); tt.limit > 0 && used > 3*tt.limit {
			t.Errorf("%s needs %v of a processor, more than %v", tt.args, used, 3*tt.limit)
		}
	}
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
