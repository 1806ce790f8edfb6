// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"k8s.io/apimachinery/pkg/types"
)

var root = types.NamespacedName{Namespace: "default", Name: "root"}

func name(s string) types.NamespacedName { return types.NamespacedName{Namespace: "default", Name: s} }

func (l *usageTracker) mustCompute(t *testing.T, prefix string) parentStatus {
	t.Helper()
	r, err := l.compute(root, netip.MustParsePrefix(prefix), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		name   string
		prefix string
		held   []string
		used   []string
		usage  v1alpha1.PrefixUsage
	}{{
		name: "empty", prefix: "10.0.0.0/24",
		usage: v1alpha1.PrefixUsage{Total: "256", Used: "0", Free: "256", LargestFree: "/25"},
	}, {
		name: "sorted by address", prefix: "10.0.0.0/16",
		held:  []string{"10.0.100.0/24", "10.0.9.0/24", "10.0.10.0/24"},
		used:  []string{"10.0.9.0/24", "10.0.10.0/24", "10.0.100.0/24"},
		usage: v1alpha1.PrefixUsage{Total: "65536", Used: "768", Free: "64768", Percent: 1, Allocations: 3, LargestFree: "/17"},
	}, {
		name: "neighbours are not merged", prefix: "10.0.0.0/24",
		held:  []string{"10.0.0.0/25", "10.0.0.128/25"},
		used:  []string{"10.0.0.0/25", "10.0.0.128/25"},
		usage: v1alpha1.PrefixUsage{Total: "256", Used: "256", Free: "0", Percent: 100, Allocations: 2},
	}, {
		name: "percent is rounded down", prefix: "10.0.0.0/24",
		held:  []string{"10.0.0.0/25", "10.0.0.128/26", "10.0.0.192/27", "10.0.0.224/28", "10.0.0.240/29", "10.0.0.248/30", "10.0.0.252/31", "10.0.0.254/32"},
		used:  []string{"10.0.0.0/25", "10.0.0.128/26", "10.0.0.192/27", "10.0.0.224/28", "10.0.0.240/29", "10.0.0.248/30", "10.0.0.252/31", "10.0.0.254/32"},
		usage: v1alpha1.PrefixUsage{Total: "256", Used: "255", Free: "1", Percent: 99, Allocations: 8, LargestFree: "/32"},
	}, {
		name: "IPv6", prefix: "2001:db8::/32",
		held: []string{"2001:db8:8000::/33", "2001:db8::/128"},
		used: []string{"2001:db8::/128", "2001:db8:8000::/33"},
		usage: v1alpha1.PrefixUsage{Total: "79228162514264337593543950336", Used: "39614081257132168796771975169", Free: "39614081257132168796771975167",
			Percent: 50, Allocations: 2, LargestFree: "/34"},
	}, {
		name: "a single address", prefix: "192.0.2.1/32",
		usage: v1alpha1.PrefixUsage{Total: "1", Used: "0", Free: "1"},
	}, {
		// The API rejects such allocations. If they exist, they are counted, but not listed.
		name: "what overlaps, and what lies outside, is counted but not listed", prefix: "10.0.0.0/24",
		held:  []string{"10.0.0.0/25", "11.0.0.0/25"},
		used:  []string{"10.0.0.0/25"},
		usage: v1alpha1.PrefixUsage{Total: "256", Used: "128", Free: "128", Percent: 50, Allocations: 2, LargestFree: "/25"},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			l := newUsageTracker()
			for i, s := range tt.held {
				l.hold(root, types.UID(fmt.Sprint(i)), netip.MustParsePrefix(s), false)
			}
			// Of another parent.
			l.hold(name("other"), "x", netip.MustParsePrefix("10.0.0.0/32"), false)
			r := l.mustCompute(t, tt.prefix)
			if !slices.Equal(r.used, tt.used) {
				t.Errorf("used: %v, want %v", r.used, tt.used)
			}
			if r.usage != tt.usage {
				t.Errorf("usage: %+v\nwant:  %+v", r.usage, tt.usage)
			}
		})
	}
}

// TestReportInvalidPrefix has a parent whose prefix is invalid for a while.
func TestReportInvalidPrefix(t *testing.T) {
	l := newUsageTracker()
	invalid := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("::ffff:10.0.0.0/112"), {}}
	for _, prefix := range invalid {
		if _, err := l.compute(root, prefix, nil); err == nil {
			t.Errorf("%s: no error", prefix)
		}
	}
	l.hold(root, "a", netip.MustParsePrefix("10.0.0.0/25"), false)
	for _, prefix := range invalid {
		if _, err := l.compute(root, prefix, nil); err == nil {
			t.Errorf("%s: no error", prefix)
		}
		if r := l.mustCompute(t, "10.0.0.0/24"); l.count(root) != 1 || !slices.Equal(r.used, []string{"10.0.0.0/25"}) {
			t.Errorf("after %s: %d allocations, used %v", prefix, l.count(root), r.used)
		}
	}
}

// TestReportOfMany has more allocations than the status may list individually.
func TestReportOfMany(t *testing.T) {
	// addr returns the n-th address of 10.0.0.0/16.
	addr := func(n int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 32)
	}
	for _, tt := range []struct {
		name       string
		allocation func(int) netip.Prefix
		n          int
		used       int
		first      string
		truncated  bool
	}{
		{"as many as may be listed", func(i int) netip.Prefix { return addr(2 * i) }, maxUsed, maxUsed, "10.0.0.0/32", false},
		{"as many as may be listed, neighbours", addr, maxUsed, maxUsed, "10.0.0.0/32", false},
		{"one more, neighbours", addr, maxUsed + 1, 7, "10.0.0.0/23", false},
		{"1,100 neighbours", addr, 1100, 4, "10.0.0.0/22", false},
		{"1,100 by pairs", func(i int) netip.Prefix { return addr(i/2*4 + i%2) }, 1100, 550, "10.0.0.0/31", false},
		{"more than fit even so", func(i int) netip.Prefix { return addr(2 * i) }, maxUsed + 1, maxUsed, "10.0.0.0/32", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newUsageTracker()
			for i := range tt.n {
				l.hold(root, types.UID(fmt.Sprint(i)), tt.allocation(i), false)
			}
			r := l.mustCompute(t, "10.0.0.0/16")
			if len(r.used) != tt.used || r.used[0] != tt.first || r.usage.Truncated != tt.truncated {
				t.Errorf("%d used, from %s, truncated %v", len(r.used), r.used[0], r.usage.Truncated)
			}
			if r.usage.Allocations != int64(tt.n) || r.usage.Used != fmt.Sprint(tt.n) {
				t.Errorf("usage: %+v", r.usage)
			}
			// If the list is not truncated, it must cover exactly the allocated addresses.
			covered := 0
			for _, s := range r.used {
				covered += 1 << (32 - netip.MustParsePrefix(s).Bits())
			}
			if !tt.truncated && covered != tt.n {
				t.Errorf("%d addresses are covered", covered)
			}
			// Release allocations until the status can list the rest individually.
			for i := range tt.n - 10 {
				l.release(root, types.UID(fmt.Sprint(i)))
			}
			if r := l.mustCompute(t, "10.0.0.0/16"); len(r.used) != 10 || r.usage.Truncated || r.used[9] != tt.allocation(tt.n-1).String() {
				t.Errorf("the last ten: %v", r.used)
			}
		})
	}
}

func TestCount(t *testing.T) {
	l := newUsageTracker()
	if n := l.count(root); n != 0 {
		t.Errorf("%d of nothing", n)
	}
	for i := range 7 {
		l.hold(root, types.UID(fmt.Sprint(i)), netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i)), false)
	}
	if n := l.count(root); n != 7 {
		t.Errorf("%d of 7", n)
	}
	l.hold(root, "0", netip.MustParsePrefix("10.0.0.0/24"), false)
	if n := l.release(root, "unknown"); n != 7 {
		t.Errorf("%d of 7", n)
	}
	for left := 6; left >= 0; left-- {
		if n := l.release(root, types.UID(fmt.Sprint(left))); n != left || l.count(root) != left {
			t.Errorf("%d, %d of %d", n, l.count(root), left)
		}
	}
}

// TestLedgersForget has nothing left in memory of what is gone, and nothing carried over to a
// parent of the same name.
func TestLedgersForget(t *testing.T) {
	l := newUsageTracker()
	l.hold(root, "a", netip.MustParsePrefix("10.0.0.0/24"), false)
	l.release(root, "a")
	l.release(name("other"), "never")
	l.count(name("other"))
	if n := len(l.byParent); n != 0 {
		t.Errorf("%d left over", n)
	}
	r := l.mustCompute(t, "192.168.0.0/24")
	if len(r.used) != 0 || r.usage.Total != "256" || r.usage.Allocations != 0 {
		t.Errorf("carried over: %+v", r)
	}
	if n := len(l.byParent); n != 0 {
		t.Errorf("%d left over of a compute", n)
	}
}

// TestParentWithAnotherPrefix recreates the parent under the same name with another prefix.
func TestParentWithAnotherPrefix(t *testing.T) {
	l := newUsageTracker()
	l.hold(root, "a", netip.MustParsePrefix("10.0.0.0/24"), false)
	l.mustCompute(t, "10.0.0.0/16")
	if r := l.mustCompute(t, "10.0.0.0/20"); r.usage.Total != "4096" || !slices.Equal(r.used, []string{"10.0.0.0/24"}) {
		t.Errorf("got %+v", r)
	}
}

// TestReportWhileAllocationsChange changes allocations while the ledger of a parent is built. The last one is
// removed and added again.
func TestReportWhileAllocationsChange(t *testing.T) {
	l := newUsageTracker()
	const many = 2000
	of := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	uid := func(i int) types.UID { return types.UID(fmt.Sprint(i)) }
	for i := range many {
		l.hold(root, uid(i), of(i), false)
	}
	var computes sync.WaitGroup
	done := make(chan struct{})
	computes.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			// Another prefix each time.
			if _, err := l.compute(root, netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), 8+n%8), nil); err != nil {
				t.Error(err)
			}
		}
	})
	// All allocations are removed repeatedly, and every second one at the end.
	for range 5 {
		for i := range many {
			l.release(root, uid(i))
		}
		for i := range many {
			l.hold(root, uid(i), of(i), false)
		}
	}
	for i := range many / 2 {
		l.release(root, uid(2*i))
	}
	close(done)
	computes.Wait()
	for _, prefix := range []string{"10.0.0.0/16", "10.0.0.0/20"} {
		r := l.mustCompute(t, prefix)
		if r.usage.Allocations != many/2 || r.usage.Used != fmt.Sprint(many/2) || len(r.used) != many/2 || r.used[0] != "10.0.0.1/32" {
			t.Errorf("%s: %+v, %d used, from %s", prefix, r.usage, len(r.used), r.used[0])
		}
	}
}

// TestReservedIsDropped computes the status of a parent of which much is reserved. The ledger keeps it only if there are as many
// allocations.
func TestReservedIsDropped(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/16")
	for _, test := range []struct {
		allocations, reserved int
		kept                  bool
	}{{1, 10, true}, {1, 1000, false}, {100, 1000, false}, {1000, 1000, true}} {
		l := newUsageTracker()
		for i := range test.allocations {
			uid := types.UID(fmt.Sprint(i))
			l.hold(root, uid, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 128 + byte(i/256), byte(i)}), 32), false)
		}
		var reserved []netip.Prefix
		for i := range test.reserved {
			reserved = append(reserved, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 128), byte(i % 128 * 2)}), 32))
		}
		set := allocator.NewReserved(reserved, false)
		for range 3 {
			r, err := l.compute(root, prefix, set)
			if err != nil {
				t.Fatal(err)
			}
			free := 1<<16 - test.allocations - test.reserved
			if r.usage.Reserved != fmt.Sprint(test.reserved) || r.usage.Free != fmt.Sprint(free) || r.usage.Allocations != int64(test.allocations) {
				t.Errorf("%+v: %+v", test, r.usage)
			}
		}
		ledger, _ := l.catchUp(root)
		if kept := ledger.Pool().Reserved() != nil; kept != test.kept {
			t.Errorf("%+v: kept: %v", test, kept)
		}
	}
}

// TestComputeCooling has allocations come, cool down, get back to life and go, and compares the status with a naive count.
func TestComputeCooling(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	l := newUsageTracker()
	type state struct {
		prefix  netip.Prefix
		cooling bool
	}
	all := map[types.UID]state{}
	for step := range 3000 {
		at := random.IntN(32)
		uid := types.UID(fmt.Sprint(at))
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(8 * at)}), 30)
		if random.IntN(3) == 0 {
			delete(all, uid)
			l.release(root, uid)
		} else {
			all[uid] = state{prefix, random.IntN(2) == 0}
			l.hold(root, uid, prefix, all[uid].cooling)
		}
		if random.IntN(4) > 0 {
			continue
		}
		var used []string
		var live, cooling int64
		for i := range 32 {
			switch s, ok := all[types.UID(fmt.Sprint(i))]; {
			case ok && s.cooling:
				cooling++
			case ok:
				live++
				used = append(used, s.prefix.String())
			}
		}
		want := v1alpha1.PrefixUsage{Total: "256", Used: fmt.Sprint(4 * live), Free: fmt.Sprint(256 - 4*live - 4*cooling), Percent: int32(4 * live * 100 / 256),
			Allocations: live, LargestFree: "/30"}
		if cooling > 0 {
			want.Cooling = fmt.Sprint(4 * cooling)
		}
		r := l.mustCompute(t, "10.0.0.0/24")
		// The largest free block is not the point here.
		want.LargestFree = r.usage.LargestFree
		if !slices.Equal(r.used, used) || r.usage != want || l.count(root) != int(live) || l.cools(root) != (cooling > 0) {
			t.Fatalf("step %d: %v, %+v, not %v, %+v", step, r.used, r.usage, used, want)
		}
	}
}
