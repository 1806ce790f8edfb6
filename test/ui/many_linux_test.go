// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestCommandsOfMany measures what commands need for 100,000 children, or for a million in a long test. Their memory has a
// limit, which is 500 MiB for a million. So have the objects that the server sends for an address or a small range. The stand-in for the server
// answers from memory, as the watch cache of a real one. The row K1 of the benchmarks has a real one.
func TestCommandsOfMany(t *testing.T) {
	n, most := 100_000, map[string]time.Duration{"tree": 2 * time.Second, "who": time.Second, "check": 12 * time.Second}
	if os.Getenv("IPAM_TEST_LONG") != "" {
		n, most = 1_000_000, map[string]time.Duration{"tree": 10 * time.Second, "who": time.Second, "check": 2 * time.Minute}
	}
	// Both in MiB: what the program needs for a few objects, and what it may need for all.
	const few = 60
	all := few + 440*n/1_000_000
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
	c.index()

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
		mib        int
		limit      time.Duration
		// objects is how many the server may send. 0 is any number.
		objects int64
	}{
		{"tree", fmt.Sprintf("└─ %d Prefixes", n), all, most["tree"], 0},
		{"tree --all", "child-0 ", all, 0, 0},
		{"who " + address, last.Name, few, most["who"], 2},
		{"who 10.30.255.255", "Free", few, most["who"], 1},
		{"who " + netip.PrefixFrom(held.Addr(), 31).Masked().String(), last.Name, few, most["who"], 5},
		{"who " + netip.PrefixFrom(held.Addr(), 24).Masked().String(), "more Prefixes lie inside", few, most["who"], 260},
		{"check", fmt.Sprintf("%d Prefixes and %d PrefixAllocations: 0 differences.", n+2, n), all, most["check"], 0},
		{"export", last.Name + ",", all, 0, 0},
	} {
		c.sent.Store(0)
		cmd := exec.Command(program, append(strings.Fields(tt.args), "--kubeconfig", config)...)
		cmd.Env = slices.Concat(os.Environ(), []string{"HOME=" + dir})
		var printed bytes.Buffer
		cmd.Stdout, cmd.Stderr = &printed, &printed
		cost, err := process.Run(cmd)
		if out := printed.String(); err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v: %.500s", tt.args, err, out)
			continue
		}
		t.Logf("%s: %s", tt.args, cost)
		if cost.MiB == 0 || cost.MiB > tt.mib {
			t.Errorf("%s needs %d MiB, more than %d or not measured", tt.args, cost.MiB, tt.mib)
		}
		// A busy machine may make anything slow, so the time of a processor counts, up to three times the limit.
		if tt.limit > 0 && cost.Processor > 3*tt.limit {
			t.Errorf("%s needs %v of a processor, more than %v", tt.args, cost.Processor, 3*tt.limit)
		}
		if sent := c.sent.Load(); tt.objects > 0 && sent > tt.objects {
			t.Errorf("%s: the server sends %d objects", tt.args, sent)
		}
	}
}
