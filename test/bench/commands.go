// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/prometheus/procfs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// allocationKeys is the prefix of the keys of PrefixAllocations in etcd.
const allocationKeys = apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/prefixallocations/"

// whoRounds is the number of addresses that are looked up, of each kind.
const whoRounds = 9

// poolAddress returns the address of a child of the pool. Of 32 addresses, one is free: that before 32, 64 and so on.
func poolAddress(n int) netip.Addr {
	var bytes [4]byte
	binary.BigEndian.PutUint32(bytes[:], 10<<24+uint32(n+n/31))
	return netip.AddrFrom4(bytes)
}

// freeAddress returns an address of the pool that is free.
func freeAddress(n int) netip.Addr { return poolAddress(n/31*31 + 30).Next() }

// loadPool puts a root, its children, and what is allocated for them into etcd, as the API server and the controllers
// leave them there.
func loadPool(b *bench, endpoint string, count int) {
	b.Helper()
	yes := true
	pool := root("pool", "10.0.0.0/8")
	pool.UID = uuid.NewUUID()
	keys := claims.NewKeyspace(apiserver.DefaultEtcdPrefix)
	b.put(endpoint, "children", count+1, func(n int) []stored {
		if n == count {
			pool.Status.Phase = v1alpha1.PrefixPhaseAllocated
			pool.Status.Usage = &v1alpha1.PrefixUsage{Total: fmt.Sprint(1 << 24), Used: fmt.Sprint(count), Free: fmt.Sprint(1<<24 - count), Allocations: int64(count), Truncated: true}
			return []stored{{key: prefixKeys + namespace + "/" + pool.Name, object: complete(pool, pool.UID)}}
		}
		prefix := netip.PrefixFrom(poolAddress(n), 32)
		p := child("child", n, v1alpha1.PrefixSpec{Prefix: prefix.String(), PrefixLength: 32, ParentRef: &v1alpha1.LocalObjectReference{Name: pool.Name}})
		p.Status.Phase = v1alpha1.PrefixPhaseAllocated
		complete(p, uuid.NewUUID())
		a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: p.Name, UID: uuid.NewUUID(), CreationTimestamp: metav1.Now(), Generation: 1,
			Labels:          map[string]string{v1alpha1.RequesterUIDLabel: string(p.UID)},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: p.Name, UID: p.UID, Controller: &yes}},
		}}
		a.Spec = v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 32, PrefixRef: p.Spec.ParentRef}
		a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, p.Spec.Prefix
		claim, err := claims.Claim{Holders: []claims.Holder{{Namespace: namespace, Name: a.Name, UID: a.UID, Child: &claims.ChildRef{Name: p.Name, UID: p.UID}}}}.Encode()
		if err != nil {
			b.Error(err)
		}
		return []stored{
			{key: prefixKeys + namespace + "/" + p.Name, object: p},
			{key: allocationKeys + namespace + "/" + a.Name, object: a},
			{key: keys.Claim(pool.UID, prefix), value: claim},
		}
	})
}

// complete sets what the API server sets in a new Prefix.
func complete(p *v1alpha1.Prefix, uid types.UID) runtime.Object {
	p.Namespace, p.UID, p.CreationTimestamp = namespace, uid, metav1.Now()
	p.Generation, p.Finalizers, p.Spec.IPFamily = 1, []string{v1alpha1.PrefixFinalizer}, v1alpha1.IPv4
	return p
}

// processor returns the time of all processors that a process has used, in seconds.
func (b *bench) processor(pid int) float64 {
	b.Helper()
	p, err := procfs.NewProc(pid)
	if err != nil {
		b.Fatal(err)
	}
	stat, err := p.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return stat.CPUTime()
}

// measureCommands measures commands of kubectl-ipam.
func measureCommands(b *bench) {
	count := b.count(1_000_000)
	s := startSeparate(b, b.TempDir(), 0, func(endpoint string) { loadPool(b, endpoint, count) })
	program := b.program("kubectl-ipam")
	run := func(want string, args ...string) process.Cost {
		s.Helper()
		b.progress.phase("kubectl-ipam "+args[0], 0)
		cmd := exec.CommandContext(b.ctx, program, append(args, "--kubeconfig", s.kubeconfig)...)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		cost, err := process.Run(cmd)
		if err != nil || !bytes.Contains(out.Bytes(), []byte(want)) && !bytes.Contains(errOut.Bytes(), []byte(want)) {
			s.Fatalf("%s: %v: %.500s %.500s", args, err, out.String(), errOut.String())
		}
		return cost
	}

	for _, command := range []struct {
		id, want string
		args     []string
	}{
		{"tree", fmt.Sprintf("%d Prefixes", count), []string{"tree"}},
		{"tree all", "child-0 ", []string{"tree", "--all"}},
		{"check", "0 differences", []string{"check"}},
	} {
		id := command.id
		before := b.processor(s.server.Cmd.Process.Pid)
		cost := run(command.want, command.args...)
		b.set(id+" server", b.processor(s.server.Cmd.Process.Pid)-before)
		b.set(id+" processor", cost.Processor.Seconds())
		b.set(id, cost.Time.Seconds())
		b.set(id+" memory", float64(cost.MiB))
	}

	var took, memory, used, ranges []float64
	for n := range whoRounds {
		held := n * (count / whoRounds)
		for address, want := range map[netip.Addr]string{poolAddress(held): fmt.Sprintf("child-%d ", held), freeAddress(held): "Free"} {
			before := b.processor(s.server.Cmd.Process.Pid)
			cost := run(want, "who", address.String())
			used = append(used, b.processor(s.server.Cmd.Process.Pid)-before)
			took, memory = append(took, cost.Time.Seconds()), append(memory, float64(cost.MiB))
		}
		cost := run("inside", "who", netip.PrefixFrom(poolAddress(held), 24).Masked().String())
		ranges = append(ranges, cost.Time.Seconds())
	}
	b.median("who", took)
	b.median("who memory", memory)
	b.median("who server", used)
	b.median("who range", ranges)
}
