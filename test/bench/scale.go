// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/prometheus/procfs"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// scaleParents is the number of parents. The children are distributed evenly.
	scaleParents = 100
	// childrenOfParent is the number of children that fit into a parent.
	childrenOfParent = 1 << 16
	// pointSize is the number of children for which a rate is calculated, in a run of full size.
	pointSize = 10_000
	// kibibyte is the unit of sizes.
	kibibyte = 1024
)

// scaleParent returns a parent. Every other one has IPv6.
func scaleParent(n int) *v1alpha1.Prefix {
	name := fmt.Sprintf("root-%d", n)
	if n%2 == 1 {
		return root(name, fmt.Sprintf("fd00:0:0:%x::/64", n))
	}
	return root(name, fmt.Sprintf("10.%d.0.0/16", n))
}

// scaleChild returns the spec of a child.
func scaleChild(n int) v1alpha1.PrefixSpec {
	parent := n % scaleParents
	spec := v1alpha1.PrefixSpec{PrefixLength: 32, ParentRef: &v1alpha1.LocalObjectReference{Name: fmt.Sprintf("root-%d", parent)}}
	if parent%2 == 1 {
		spec.PrefixLength = 80
	}
	return spec
}

// residence is the resident memory of a process in bytes: all, and the part that is not from files.
type residence struct{ resident, anonymous float64 }

func (b *bench) residence(pid int) residence {
	b.Helper()
	p, err := procfs.NewProc(pid)
	if err != nil {
		b.Fatal(err)
	}
	status, err := p.NewStatus()
	if err != nil {
		b.Fatal(err)
	}
	return residence{float64(status.VmRSS), float64(status.RssAnon)}
}

// sample is the memory of the programs at a number of children.
type sample struct {
	children        float64
	server, manager residence
}

func (s *separate) sample(children int) sample {
	return sample{float64(children), s.residence(s.server.Cmd.Process.Pid), s.residence(s.managers[0].Cmd.Process.Pid)}
}

// ofChild returns the memory of both programs per child, in KiB.
func (s sample) ofChild() float64 {
	return (s.server.resident + s.manager.resident) / s.children / kibibyte
}

// sizes records the sizes of the Prefixes in etcd.
type sizes struct {
	*bench
	client *clientv3.Client
	// largest is the maximum size in bytes.
	largest int
}

// prefixKeys is the prefix of the keys of Prefixes in etcd.
const prefixKeys = apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/prefixes/"

func (b *bench) newSizes(endpoints []string) *sizes {
	b.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	return &sizes{bench: b, client: client}
}

// look reads a range of keys. It returns the number of keys, and the key to continue with.
func (s *sizes) look(from string, options ...clientv3.OpOption) (count int, next string) {
	s.Helper()
	response, err := s.client.Get(s.ctx, from, options...)
	if err != nil {
		s.Fatal(err)
	}
	for _, kv := range response.Kvs {
		s.largest = max(s.largest, len(kv.Value))
		next = string(kv.Key) + "\x00"
	}
	return len(response.Kvs), next
}

// parents reads the parents, whose size varies.
func (s *sizes) parents() {
	s.Helper()
	for n := range scaleParents {
		if count, _ := s.look(prefixKeys + namespace + "/" + scaleParent(n).Name); count != 1 {
			s.Fatalf("%s is not in etcd", scaleParent(n).Name)
		}
	}
}

// all reads all Prefixes.
func (s *sizes) all(expected int) {
	s.Helper()
	s.progress.phase("look at the size of all Prefixes", 0)
	// For each page, etcd counts all following keys, so use large pages.
	const page = 10_000
	end := clientv3.GetPrefixRangeEnd(prefixKeys)
	total := 0
	for next := prefixKeys; next != ""; {
		var count int
		count, next = s.look(next, clientv3.WithRange(end), clientv3.WithLimit(page))
		total += count
	}
	if total != expected {
		s.Fatalf("there are %d Prefixes in etcd instead of %d", total, expected)
	}
}

// measureScale creates very many children.
func measureScale(b *bench) {
	data := filepath.Join(b.TempDir(), "data")
	s := startSeparate(b, data, 1)
	sizes := b.newSizes(s.etcd.Endpoints())
	samples := fillParents(s, sizes)
	small, large := samples[0], samples[1]
	b.set("memory small", small.ofChild())
	b.set("memory", large.ofChild())
	b.set("memory flat", large.ofChild()/small.ofChild())
	b.set("memory server", large.server.resident/large.children/kibibyte)
	b.set("memory manager", large.manager.resident/large.children/kibibyte)
	b.set("memory anonymous", (large.server.anonymous+large.manager.anonymous)/large.children/kibibyte)

	b.set("differences", audit(b, s.etcd.Endpoints()[0]))
	sizes.all(scaleParents + b.children)
	b.set("largest", float64(sizes.largest)/kibibyte)
	status, err := sizes.client.Status(b.ctx, s.etcd.Endpoints()[0])
	if err != nil {
		b.Fatal(err)
	}
	b.set("etcd", float64(status.DbSize)/(1<<30))

	b.progress.phase("stop the programs", 0)
	if err := sizes.client.Close(); err != nil {
		b.Fatal(err)
	}
	s.stop()
	// Return the memory of its etcd, because another etcd follows.
	debug.FreeOSMemory()

	start := time.Now()
	again := startStandaloneOn(b, data)
	b.set("ready", time.Since(start).Seconds())
	b.progress.phase("one more child", 1)
	start = time.Now()
	const batch = "more"
	again.await(batch, 1, func() { again.create(child(batch, 0, scaleChild(0))) }, nil)
	b.set("one more", time.Since(start).Seconds())
	b.progress.phase("rest", 0)
	time.Sleep(rested)
	b.set("standalone rested", b.residence(again.Cmd.Process.Pid).resident/(1<<30))
}

// fillParents creates the children, and returns the memory of the programs at a tenth of them, and at all.
func fillParents(s *separate, sizes *sizes) []sample {
	roots := make([]*v1alpha1.Prefix, scaleParents)
	for n := range roots {
		roots[n] = scaleParent(n)
	}
	s.roots("roots", roots...)

	all := s.children
	size := min(pointSize, all/10)
	var samples []sample
	// The first children are a warm-up.
	warm := size / 2
	allocated, start := 0, time.Now()
	at := map[int]time.Time{0: start, warm: {}, warm + size: {}, all - size: {}, all: {}}
	s.fill(fmt.Sprintf("children of %d parents", scaleParents), "child", all, scaleChild, func() {
		allocated++
		if _, wanted := at[allocated]; wanted || allocated%size == 0 {
			at[allocated] = time.Now()
		}
		if allocated%size == 0 {
			s.points = append(s.points, point{float64(allocated), float64(size) / at[allocated].Sub(at[allocated-size]).Seconds()})
			sizes.parents()
		}
		if allocated == all/10 || allocated == all {
			samples = append(samples, s.sample(allocated))
		}
	})
	first, last := at[warm+size].Sub(at[warm]), at[all].Sub(at[all-size])
	s.set("last/first", first.Seconds()/last.Seconds())
	s.set("exist", float64(all))
	s.set("rate", float64(all)/at[all].Sub(start).Seconds())
	return samples
}

// audit returns the number of differences between objects and claims.
func audit(b *bench, endpoint string) float64 {
	b.Helper()
	program := b.program("ipam-apiserver")
	b.progress.phase("audit", 0)
	cmd := exec.CommandContext(b.ctx, program, "audit", "--etcd-servers", endpoint, "-o", "json")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	// The exit code is also 1 if there are differences.
	out, err := cmd.Output()
	var report struct {
		Differences []json.RawMessage `json:"differences"`
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil || err != nil && len(report.Differences) == 0 {
		b.Fatalf("audit: %v: %v: %s", err, jsonErr, errOut.String())
	}
	return float64(len(report.Differences))
}
