// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"fmt"
	"maps"
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

func (a *accounts) mustReport(t *testing.T, prefix string) report {
	t.Helper()
	r, err := a.report(root, netip.MustParsePrefix(prefix), nil)
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
		// Nobody can have written it, but it is not made worse: it is counted where it is.
		name: "what overlaps, and what lies outside, is counted but not listed", prefix: "10.0.0.0/24",
		held:  []string{"10.0.0.0/25", "11.0.0.0/25"},
		used:  []string{"10.0.0.0/25"},
		usage: v1alpha1.PrefixUsage{Total: "256", Used: "128", Free: "128", Percent: 50, Allocations: 2, LargestFree: "/25"},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccounts()
			for i, s := range tt.held {
				if !a.hold(root, types.UID(fmt.Sprint(i)), fmt.Sprint("a", i), netip.MustParsePrefix(s)) {
					t.Errorf("%s is no news", s)
				}
			}
			// Of another parent.
			a.hold(name("other"), "x", "x", netip.MustParsePrefix("10.0.0.0/32"))
			r := a.mustReport(t, tt.prefix)
			if !slices.Equal(r.used, tt.used) {
				t.Errorf("used: %v, want %v", r.used, tt.used)
			}
			if r.usage != tt.usage {
				t.Errorf("usage: %+v\nwant:  %+v", r.usage, tt.usage)
			}
		})
	}
}

func TestReportInvalidPrefix(t *testing.T) {
	if _, err := newAccounts().report(root, netip.MustParsePrefix("10.0.0.1/24"), nil); err == nil {
		t.Error("no error")
	}
}

// TestReportOfMany has more than the status may list one by one.
func TestReportOfMany(t *testing.T) {
	// addr is the n-th address of 10.0.0.0/16.
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
			a := newAccounts()
			for i := range tt.n {
				a.hold(root, types.UID(fmt.Sprint(i)), fmt.Sprint("a", i), tt.allocation(i))
			}
			r := a.mustReport(t, "10.0.0.0/16")
			if len(r.used) != tt.used || r.used[0] != tt.first || r.usage.Truncated != tt.truncated {
				t.Errorf("%d used, from %s, truncated %v", len(r.used), r.used[0], r.usage.Truncated)
			}
			if r.usage.Allocations != int64(tt.n) || r.usage.Used != fmt.Sprint(tt.n) {
				t.Errorf("usage: %+v", r.usage)
			}
			// Of what is not truncated, not an address more or less.
			covered := 0
			for _, s := range r.used {
				covered += 1 << (32 - netip.MustParsePrefix(s).Bits())
			}
			if !tt.truncated && covered != tt.n {
				t.Errorf("%d addresses are covered", covered)
			}
			// Back to what can be listed.
			for i := range tt.n - 10 {
				a.release(root, types.UID(fmt.Sprint(i)))
			}
			if r := a.mustReport(t, "10.0.0.0/16"); len(r.used) != 10 || r.usage.Truncated || r.used[9] != tt.allocation(tt.n-1).String() {
				t.Errorf("the last ten: %v", r.used)
			}
		})
	}
}

func TestHolders(t *testing.T) {
	a := newAccounts()
	if names, n := a.holders(root, 5), a.count(root); n != 0 || len(names) != 0 {
		t.Errorf("got %v, %d", names, n)
	}
	for i := range 7 {
		a.hold(root, types.UID(fmt.Sprint(i)), fmt.Sprintf("a%d", 9-i), netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i)))
	}
	if names, n := a.holders(root, 3), a.count(root); n != 7 || !slices.Equal(names, []string{"a3", "a4", "a5"}) {
		t.Errorf("got %v, %d", names, n)
	}
	if a.hold(root, "0", "a9", netip.MustParsePrefix("10.0.0.0/24")) {
		t.Error("the same is news")
	}
	if !a.release(root, "6") || a.release(root, "6") {
		t.Error("a release is news once")
	}
	if names, n := a.holders(root, 10), a.count(root); n != 6 || len(names) != 6 {
		t.Errorf("got %v, %d", names, n)
	}
}

// TestAccountsForget has nothing left in memory of what is gone, and nothing carried over to a
// parent of the same name.
func TestAccountsForget(t *testing.T) {
	a := newAccounts()
	a.hold(root, "a", "a", netip.MustParsePrefix("10.0.0.0/24"))
	a.release(root, "a")
	a.release(name("other"), "never")
	a.holders(name("other"), 1)
	if n := len(a.byParent); n != 0 {
		t.Errorf("%d left over", n)
	}
	r := a.mustReport(t, "192.168.0.0/24")
	if len(r.used) != 0 || r.usage.Total != "256" || r.usage.Allocations != 0 {
		t.Errorf("carried over: %+v", r)
	}
	if n := len(a.byParent); n != 0 {
		t.Errorf("%d left over of a report", n)
	}
}

// TestParentWithAnotherPrefix has the parent recreated under the same name, with another prefix.
func TestParentWithAnotherPrefix(t *testing.T) {
	a := newAccounts()
	a.hold(root, "a", "a", netip.MustParsePrefix("10.0.0.0/24"))
	a.mustReport(t, "10.0.0.0/16")
	if r := a.mustReport(t, "10.0.0.0/20"); r.usage.Total != "4096" || !slices.Equal(r.used, []string{"10.0.0.0/24"}) {
		t.Errorf("got %+v", r)
	}
}

// TestReportWhileAllocationsChange has allocations change at any time while the ledger of a parent is made, and the
// last one go and come.
func TestReportWhileAllocationsChange(t *testing.T) {
	a := newAccounts()
	const many = 2000
	of := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	uid := func(i int) types.UID { return types.UID(fmt.Sprint(i)) }
	for i := range many {
		a.hold(root, uid(i), fmt.Sprint("a", i), of(i))
	}
	var reports sync.WaitGroup
	done := make(chan struct{})
	reports.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			// Another prefix each time.
			if _, err := a.report(root, netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), 8+n%8), nil); err != nil {
				t.Error(err)
			}
		}
	})
	// Each of the others is gone in the end, and all of them in between.
	for range 5 {
		for i := range many {
			a.release(root, uid(i))
		}
		for i := range many {
			a.hold(root, uid(i), fmt.Sprint("a", i), of(i))
		}
	}
	for i := range many / 2 {
		a.release(root, uid(2*i))
	}
	close(done)
	reports.Wait()
	for _, prefix := range []string{"10.0.0.0/16", "10.0.0.0/20"} {
		r := a.mustReport(t, prefix)
		if r.usage.Allocations != many/2 || r.usage.Used != fmt.Sprint(many/2) || len(r.used) != many/2 || r.used[0] != "10.0.0.1/32" {
			t.Errorf("%s: %+v, %d used, from %s", prefix, r.usage, len(r.used), r.used[0])
		}
	}
}

// TestChangesWhileOpening has allocations change at the worst moment: when the ledger is made, and before it is taken.
func TestChangesWhileOpening(t *testing.T) {
	a := newAccounts()
	a.hold(root, "stays", "stays", netip.MustParsePrefix("10.0.0.0/24"))
	a.hold(root, "goes", "goes", netip.MustParsePrefix("10.0.1.0/24"))
	a.hold(root, "moves", "moves", netip.MustParsePrefix("10.0.2.0/24"))
	a.whileOpening = func() {
		a.whileOpening = func() {}
		// Nobody waits for the ledger.
		a.release(root, "goes")
		a.hold(root, "moves", "moves", netip.MustParsePrefix("10.0.3.0/24"))
		a.hold(root, "comes", "comes", netip.MustParsePrefix("10.0.4.0/24"))
	}
	want := []string{"10.0.0.0/24", "10.0.3.0/24", "10.0.4.0/24"}
	if r := a.mustReport(t, "10.0.0.0/16"); !slices.Equal(r.used, want) {
		t.Errorf("used: %v, want %v", r.used, want)
	}
	a.whileOpening = func() {
		a.whileOpening = func() {}
		for _, uid := range []types.UID{"stays", "moves", "comes"} {
			a.release(root, uid)
		}
		a.hold(root, "new", "new", netip.MustParsePrefix("10.0.5.0/24"))
	}
	if r := a.mustReport(t, "10.0.0.0/20"); !slices.Equal(r.used, []string{"10.0.5.0/24"}) || r.usage.Allocations != 1 {
		t.Errorf("the account that took its place: %+v", r)
	}

	// A prefix that is not valid needs no ledger, and costs the account that may have taken its place nothing.
	replace := func() {
		a.whileOpening = func() { t.Error("a ledger is built for an invalid prefix") }
		a.release(root, "new")
		a.hold(root, "newer", "newer", netip.MustParsePrefix("10.0.6.0/24"))
	}
	a.whileOpening = replace
	if _, err := a.report(root, netip.MustParsePrefix("::ffff:10.0.0.0/112"), nil); err == nil {
		t.Error("a report of an invalid prefix")
	}
	if got := a.count(root); got != 1 {
		t.Errorf("%d allocations", got)
	}
	replace()
	if _, err := a.report(root, netip.Prefix{}, nil); err == nil || a.count(root) != 1 {
		t.Errorf("after it has another holder: %v, %d allocations", err, a.count(root))
	}
}

// TestHoldersAgainstModel compares the first holders with all of them, sorted, after any change.
func TestHoldersAgainstModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	a := newAccounts()
	names := map[types.UID]string{}
	for step := range 5000 {
		uid := types.UID(fmt.Sprint(random.IntN(20)))
		if random.IntN(2) == 0 {
			// A uid has one name for good.
			names[uid] = "a" + string(uid)
			a.hold(root, uid, names[uid], netip.MustParsePrefix(fmt.Sprintf("10.0.%s.0/24", uid)))
		} else {
			a.release(root, uid)
			delete(names, uid)
		}
		if random.IntN(3) == 0 {
			continue
		}
		limit := 6
		if random.IntN(10) == 0 {
			limit = 1 + random.IntN(8)
		}
		want := slices.Sorted(maps.Values(names))
		want = want[:min(len(want), limit)]
		if got := a.holders(root, limit); !slices.Equal(got, want) {
			t.Fatalf("step %d: got %v, want %v", step, got, want)
		}
	}
}

// TestReservedIsDropped reports on a parent of which much is reserved. The account keeps it only if there are as many
// allocations.
func TestReservedIsDropped(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/16")
	for _, test := range []struct {
		allocations, reserved int
		kept                  bool
	}{{1, 10, true}, {1, 1000, false}, {100, 1000, false}, {1000, 1000, true}} {
		a := newAccounts()
		for i := range test.allocations {
			uid := types.UID(fmt.Sprint(i))
			a.hold(root, uid, string(uid), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 128 + byte(i/256), byte(i)}), 32))
		}
		var reserved []netip.Prefix
		for i := range test.reserved {
			reserved = append(reserved, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 128), byte(i % 128 * 2)}), 32))
		}
		set := allocator.NewReserved(reserved, false)
		for range 3 {
			r, err := a.report(root, prefix, set)
			if err != nil {
				t.Fatal(err)
			}
			free := 1<<16 - test.allocations - test.reserved
			if r.usage.Reserved != fmt.Sprint(test.reserved) || r.usage.Free != fmt.Sprint(free) || r.usage.Allocations != int64(test.allocations) {
				t.Errorf("%+v: %+v", test, r.usage)
			}
		}
		acc := a.lock(root)
		if kept := acc.ledger.Pool().Reserved() != nil; kept != test.kept {
			t.Errorf("%+v: kept: %v", test, kept)
		}
		a.unlock(root, acc)
	}
}
