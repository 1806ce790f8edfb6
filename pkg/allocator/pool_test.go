// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"errors"
	"math/big"
	"math/bits"
	"net/netip"
	"slices"
	"testing"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func pfxs(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, pfx(s))
	}
	return out
}

// poolWith returns the pool of prefix in which the others are in use.
func poolWith(t testing.TB, prefix string, others ...string) *Pool {
	t.Helper()
	p, err := newPool(pfx(prefix))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range others {
		if err := p.Take(pfx(s)); err != nil {
			t.Fatalf("Take(%s): %v", s, err)
		}
	}
	checkTrie(t, p)
	return p
}

// checkTrie compares all values that the trie caches with recomputed ones, and checks its structure.
func checkTrie(t testing.TB, p *Pool) {
	t.Helper()
	var count int
	var counts [129]int
	// visit reports for each length, by brute force, whether the page has maximal free blocks of that length.
	var visit func(pg *page, top, end int) [129]bool
	visit = func(pg *page, top, end int) [129]bool {
		if end > p.size || end <= top || end-top > pageLevels {
			t.Fatalf("page from %d to %d", top, end)
		}
		divided := pg.divided()
		all := uint64(1)<<(1<<(end-top)) - 1
		switch {
		case pg.start&^pg.used != 0, divided&pg.used != 0, (pg.used|divided)&^all != 0:
			t.Fatalf("page from %d to %d: used %x, start %x, divided %x", top, end, pg.used, pg.start, divided)
		case pg.used|divided == 0:
			t.Fatalf("page from %d to %d is empty", top, end)
		case pg.below != nil && len(pg.below.list) != bits.OnesCount64(divided):
			t.Fatalf("page from %d to %d: %d pages for %x", top, end, len(pg.below.list), divided)
		case pg.below != nil && cap(pg.below.list) >= 4*len(pg.below.list):
			t.Fatalf("page from %d to %d: place for %d pages, %d used", top, end, cap(pg.below.list), len(pg.below.list))
		}
		// free is a binary heap: the slots are at its end, and all larger blocks before them.
		slots := 1 << (end - top)
		free := make([]bool, 2*slots)
		for i := 0; i < slots; i++ {
			free[slots+i] = (pg.used|divided)>>i&1 == 0
			if pg.start>>i&1 == 0 {
				if pg.used>>i&1 != 0 && (i == 0 || pg.used>>(i-1)&1 == 0) {
					t.Fatalf("page from %d to %d: used %x, start %x", top, end, pg.used, pg.start)
				}
				continue
			}
			size := 1
			for i+size < slots && pg.used>>(i+size)&1 != 0 && pg.start>>(i+size)&1 == 0 {
				size++
			}
			if size&(size-1) != 0 || i%size != 0 || size == slots {
				t.Fatalf("page from %d to %d: prefix of %d slots at %d", top, end, size, i)
			}
			count++
			counts[end-bits.Len(uint(size))+1]++
		}
		for i := slots - 1; i > 0; i-- {
			free[i] = free[2*i] && free[2*i+1]
		}
		var want [129]bool
		for i := 1; i < 2*slots; i++ {
			if free[i] && !free[i/2] {
				want[top+bits.Len(uint(i))-1] = true
			}
		}
		if pg.below != nil {
			for i := range pg.below.list {
				for l, free := range visit(&pg.below.list[i], end, end+pageLevels) {
					if free {
						want[l] = true
					}
				}
			}
		}
		for l := 1; l <= 128; l++ {
			if pg.free.has(l) != want[l] {
				t.Fatalf("page from %d to %d: has(%d) = %t, want %t", top, end, l, pg.free.has(l), want[l])
			}
		}
		if pg.free.empty() != (want == [129]bool{}) {
			t.Fatalf("page from %d to %d: empty() = %t, want lengths %v", top, end, pg.free.empty(), want)
		}
		return want
	}
	if p.root != nil {
		visit(p.root, p.at.top, p.at.end)
	}
	if count != p.len || counts != p.counts {
		t.Fatalf("trie has %d prefixes by length %v, pool counts %d, %v", count, counts, p.len, p.counts)
	}
}

func TestNew(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tc := range []struct {
		prefix netip.Prefix
		total  string // empty for ErrInvalid
	}{
		{pfx("10.0.0.0/8"), "16777216"},
		{pfx("0.0.0.0/0"), "4294967296"},
		{pfx("10.0.0.1/32"), "1"},
		{pfx("2001:db8::/32"), "79228162514264337593543950336"},
		{pfx("::/0"), "340282366920938463463374607431768211456"},
		{pfx("2001:db8::1/128"), "1"},
		{netip.Prefix{}, ""},
		{netip.PrefixFrom(addr("10.0.0.0"), 33), ""},
		{netip.PrefixFrom(addr("10.0.0.0"), -1), ""},
		{pfx("10.0.0.1/8"), ""},
		{pfx("2001:db8::1/32"), ""},
		{netip.PrefixFrom(addr("::ffff:10.0.0.0"), 104), ""},
		{netip.PrefixFrom(addr("::ffff:0.0.0.0"), 96), ""},
	} {
		p, err := New(tc.prefix)
		if tc.total == "" {
			if p != nil || !errors.Is(err, ErrInvalid) {
				t.Errorf("New(%s) = %v, %v, want ErrInvalid", tc.prefix, p, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("New(%s): %v", tc.prefix, err)
			continue
		}
		if got := p.Prefix(); got != tc.prefix {
			t.Errorf("Prefix() = %s, want %s", got, tc.prefix)
		}
		if got := p.TotalAddresses().String(); got != tc.total {
			t.Errorf("TotalAddresses() of %s = %s, want %s", tc.prefix, got, tc.total)
		}
		if p.Len() != 0 || p.UsedAddresses().Sign() != 0 {
			t.Errorf("new pool of %s is not empty", tc.prefix)
		}
		if cidrs, truncated := p.Summary(1); len(cidrs) != 0 || truncated {
			t.Errorf("Summary(1) of empty %s = %v, %t", tc.prefix, cidrs, truncated)
		}
	}
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name  string
		pool  string
		taken []string
		bits  int
		want  string // empty for none
		fit   int
	}{
		{name: "empty", pool: "10.0.0.0/8", bits: 24, want: "10.0.0.0/24", fit: 8},
		{name: "half", pool: "10.0.0.0/8", bits: 9, want: "10.0.0.0/9", fit: 8},
		{name: "itself", pool: "10.0.0.0/8", bits: 8},
		{name: "larger than itself", pool: "10.0.0.0/8", bits: 7},
		{name: "negative", pool: "10.0.0.0/8", bits: -1},
		{name: "beyond IPv4", pool: "10.0.0.0/8", bits: 33},
		{name: "beyond IPv6", pool: "2001:db8::/32", bits: 129},
		{name: "far beyond", pool: "2001:db8::/32", bits: 1 << 40},
		{name: "one address", pool: "10.0.0.0/8", bits: 32, want: "10.0.0.0/32", fit: 8},
		{name: "one IPv6 address", pool: "2001:db8::/32", bits: 128, want: "2001:db8::/128", fit: 32},
		{name: "single-address pool", pool: "10.0.0.1/32", bits: 32},
		{name: "single-address IPv6 pool", pool: "2001:db8::1/128", bits: 128},
		{name: "two-address pool", pool: "10.0.0.2/31", taken: []string{"10.0.0.2/32"}, bits: 32, want: "10.0.0.3/32", fit: 32},
		{name: "IPv4 all", pool: "0.0.0.0/0", bits: 1, want: "0.0.0.0/1", fit: 0},
		{name: "IPv4 all, itself", pool: "0.0.0.0/0", bits: 0},
		{name: "IPv6 all", pool: "::/0", bits: 64, want: "::/64", fit: 0},
		{name: "IPv6 all, second half", pool: "::/0", taken: []string{"::/1"}, bits: 1, want: "8000::/1", fit: 1},
		{
			name: "best fit before lowest", pool: "10.0.0.0/24", taken: []string{"10.0.0.128/26"},
			bits: 27, want: "10.0.0.192/27", fit: 26,
		},
		{
			name: "lowest of equal fits", pool: "10.0.0.0/24", taken: []string{"10.0.0.0/26", "10.0.0.128/26"},
			bits: 27, want: "10.0.0.64/27", fit: 26,
		},
		{
			name: "exact before larger", pool: "10.0.0.0/24", taken: []string{"10.0.0.0/25", "10.0.0.192/27"},
			bits: 27, want: "10.0.0.224/27", fit: 27,
		},
		{name: "too fragmented", pool: "10.0.0.0/24", taken: []string{"10.0.0.0/32", "10.0.0.128/32"}, bits: 25},
		{name: "full", pool: "10.0.0.0/24", taken: []string{"10.0.0.0/25", "10.0.0.128/25"}, bits: 32},
		{
			name: "across the middle of an IPv6 address", pool: "2001:db8::/62",
			taken: []string{"2001:db8::/63", "2001:db8:0:2::/64", "2001:db8:0:3::/65"},
			bits:  66, want: "2001:db8:0:3:8000::/66", fit: 65,
		},
		{
			name: "fit in the first half for a length in the second", pool: "2001:db8::/62",
			taken: []string{"2001:db8::/63", "2001:db8:0:2::/64"},
			bits:  128, want: "2001:db8:0:3::/128", fit: 64,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := poolWith(t, tc.pool, tc.taken...)
			got, ok := p.Find(tc.bits)
			fit, fitOK := p.FitBits(tc.bits)
			if tc.want == "" {
				if ok || fitOK || got != (netip.Prefix{}) {
					t.Fatalf("Find = %s, %t, FitBits = %d, %t, want none", got, ok, fit, fitOK)
				}
				return
			}
			if !ok || got != pfx(tc.want) {
				t.Errorf("Find = %s, %t, want %s", got, ok, tc.want)
			}
			if !fitOK || fit != tc.fit {
				t.Errorf("FitBits = %d, %t, want %d", fit, fitOK, tc.fit)
			}
			if len(tc.taken) != p.Len() {
				t.Errorf("Find took something: Len = %d", p.Len())
			}
			if err := p.Take(got); err != nil {
				t.Errorf("Take of what Find returned: %v", err)
			}
			checkTrie(t, p)
		})
	}
}

func TestTake(t *testing.T) {
	addr := netip.MustParseAddr
	v4 := []string{"10.0.1.0/24", "10.0.2.0/28", "10.0.2.64/28"}
	for _, tc := range []struct {
		name   string
		pool   string
		taken  []string
		prefix netip.Prefix
		err    error  // nil for success
		holder string // for ErrInUse
	}{
		{name: "free", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.0.0/24")},
		{name: "between", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.2.16/28")},
		{name: "last address", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.255.255.255/32")},
		{name: "last IPv6 address", pool: "::/0", prefix: pfx("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")},
		{name: "IPv4-mapped in IPv6", pool: "::/0", prefix: netip.PrefixFrom(addr("::ffff:10.0.0.0"), 104)},

		{name: "equal", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.1.0/24"), err: ErrInUse, holder: "10.0.1.0/24"},
		{name: "under ancestor", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.1.7/32"), err: ErrInUse, holder: "10.0.1.0/24"},
		{name: "over lowest inside", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.2.0/24"), err: ErrInUse, holder: "10.0.2.0/28"},
		{name: "over higher only", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.2.64/26"), err: ErrInUse, holder: "10.0.2.64/28"},
		{name: "over all", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.0.0/9"), err: ErrInUse, holder: "10.0.1.0/24"},

		{name: "itself", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.0.0/8"), err: ErrOutside},
		{name: "all, itself", pool: "0.0.0.0/0", prefix: pfx("0.0.0.0/0"), err: ErrOutside},
		{name: "larger", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.0.0/7"), err: ErrOutside},
		{name: "elsewhere", pool: "10.0.0.0/8", taken: v4, prefix: pfx("11.0.0.0/24"), err: ErrOutside},
		{name: "IPv6 in IPv4", pool: "0.0.0.0/0", prefix: pfx("2001:db8::/32"), err: ErrOutside},
		{name: "IPv4 in IPv6", pool: "::/0", prefix: pfx("10.0.0.0/8"), err: ErrOutside},
		{name: "IPv4-mapped in IPv4", pool: "0.0.0.0/0", prefix: netip.PrefixFrom(addr("::ffff:10.0.0.0"), 104), err: ErrOutside},
		{name: "single-address pool", pool: "10.0.0.1/32", prefix: pfx("10.0.0.1/32"), err: ErrOutside},
		{name: "single-address IPv6 pool", pool: "::1/128", prefix: pfx("::1/128"), err: ErrOutside},

		{name: "zero", pool: "10.0.0.0/8", taken: v4, err: ErrInvalid},
		{name: "length out of range", pool: "10.0.0.0/8", prefix: netip.PrefixFrom(addr("10.0.0.0"), 33), err: ErrInvalid},
		{name: "host bits", pool: "10.0.0.0/8", taken: v4, prefix: pfx("10.0.0.1/24"), err: ErrInvalid},
		{name: "IPv6 host bits", pool: "::/0", prefix: pfx("2001:db8::1/127"), err: ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := poolWith(t, tc.pool, tc.taken...)
			before := slices.Collect(p.All())
			err := p.Take(tc.prefix)
			checkTrie(t, p)
			if !errors.Is(err, tc.err) {
				t.Fatalf("Take = %v, want %v", err, tc.err)
			}
			var inUse *InUseError
			if errors.As(err, &inUse) != (tc.err == ErrInUse) {
				t.Fatalf("Take = %#v", err)
			}
			if inUse != nil && inUse.Prefix != pfx(tc.holder) {
				t.Errorf("Prefix = %s, want %s", inUse.Prefix, tc.holder)
			}
			if tc.err != nil {
				if got := slices.Collect(p.All()); !slices.Equal(got, before) {
					t.Errorf("failed Take left %v, want %v", got, before)
				}
				return
			}
			if got, ok := p.Overlapping(tc.prefix); !ok || got != tc.prefix {
				t.Errorf("after Take, Overlapping = %s, %t", got, ok)
			}
			if err := p.Release(tc.prefix); err != nil {
				t.Errorf("Release: %v", err)
			}
			if got := slices.Collect(p.All()); !slices.Equal(got, before) {
				t.Errorf("after Release, All = %v, want %v", got, before)
			}
			checkTrie(t, p)
		})
	}
}

func TestInUseErrorText(t *testing.T) {
	err := poolWith(t, "10.0.0.0/8", "10.1.0.0/16").Take(pfx("10.1.2.0/24"))
	if got, want := err.Error(), "prefix is in use: overlaps 10.1.0.0/16"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestRelease(t *testing.T) {
	held := []string{"10.0.0.0/24", "10.0.1.0/25", "10.0.1.128/25"}
	for _, tc := range []struct {
		prefix netip.Prefix
		ok     bool
	}{
		{pfx("10.0.0.0/24"), true},
		{pfx("10.0.1.128/25"), true},
		{pfx("10.0.1.0/24"), false}, // used in full, but not as one prefix
		{pfx("10.0.0.0/25"), false},
		{pfx("10.0.0.0/23"), false},
		{pfx("10.0.0.0/8"), false},
		{pfx("10.0.0.1/24"), false},
		{pfx("10.0.2.0/24"), false},
		{pfx("11.0.0.0/24"), false},
		{pfx("0.0.0.0/0"), false},
		{pfx("2001:db8::/32"), false},
		{netip.Prefix{}, false},
		{netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 40), false},
	} {
		p := poolWith(t, "10.0.0.0/8", held...)
		err := p.Release(tc.prefix)
		checkTrie(t, p)
		want := pfxs(held...)
		if tc.ok {
			want = slices.DeleteFunc(want, func(x netip.Prefix) bool { return x == tc.prefix })
		}
		if (err == nil) != tc.ok || (err != nil && !errors.Is(err, ErrNotTaken)) {
			t.Errorf("Release(%s) = %v, want success %t", tc.prefix, err, tc.ok)
		}
		if got := slices.Collect(p.All()); !slices.Equal(got, want) {
			t.Errorf("Release(%s) left %v, want %v", tc.prefix, got, want)
		}
		if tc.ok {
			if err := p.Release(tc.prefix); !errors.Is(err, ErrNotTaken) {
				t.Errorf("second Release(%s) = %v", tc.prefix, err)
			}
		}
	}
}

func TestOverlapping(t *testing.T) {
	p := poolWith(t, "10.0.0.0/8", "10.0.4.0/24", "10.0.5.0/25", "10.0.5.192/26")
	empty := poolWith(t, "10.0.0.0/8")
	for _, tc := range []struct {
		prefix netip.Prefix
		want   string // empty for none
	}{
		{pfx("10.0.4.0/24"), "10.0.4.0/24"},
		{pfx("10.0.4.9/32"), "10.0.4.0/24"},
		{pfx("10.0.4.0/23"), "10.0.4.0/24"},
		{pfx("10.0.5.0/24"), "10.0.5.0/25"},
		{pfx("10.0.5.128/25"), "10.0.5.192/26"},
		{pfx("10.0.5.128/26"), ""},
		{pfx("10.0.0.0/22"), ""},
		{pfx("10.0.0.0/8"), "10.0.4.0/24"},
		{pfx("0.0.0.0/0"), "10.0.4.0/24"},
		{pfx("10.0.5.99/24"), "10.0.5.0/25"}, // host bits are ignored
		{pfx("11.0.0.0/8"), ""},
		{pfx("::/0"), ""},
		{netip.Prefix{}, ""},
		{netip.PrefixFrom(netip.MustParseAddr("10.0.4.0"), 33), ""},
	} {
		want := netip.Prefix{}
		if tc.want != "" {
			want = pfx(tc.want)
		}
		if got, ok := p.Overlapping(tc.prefix); got != want || ok != (tc.want != "") {
			t.Errorf("Overlapping(%s) = %s, %t, want %s", tc.prefix, got, ok, want)
		}
		if got, ok := empty.Overlapping(tc.prefix); ok {
			t.Errorf("empty pool: Overlapping(%s) = %s", tc.prefix, got)
		}
	}
}

func TestAll(t *testing.T) {
	p := poolWith(t, "2001:db8::/32", "2001:db8:ffff::/48", "2001:db8:0:1::/64", "2001:db8::1/128", "2001:db8::/128")
	want := pfxs("2001:db8::/128", "2001:db8::1/128", "2001:db8:0:1::/64", "2001:db8:ffff::/48")
	if got := slices.Collect(p.All()); !slices.Equal(got, want) {
		t.Errorf("All = %v, want %v", got, want)
	}
	if p.Len() != len(want) {
		t.Errorf("Len = %d, want %d", p.Len(), len(want))
	}
	for stop := 1; stop <= len(want); stop++ {
		var got []netip.Prefix
		for prefix := range p.All() {
			if got = append(got, prefix); len(got) == stop {
				break
			}
		}
		if !slices.Equal(got, want[:stop]) {
			t.Errorf("All stopped after %d = %v", stop, got)
		}
	}
}

func TestLargestFree(t *testing.T) {
	for _, tc := range []struct {
		pool  string
		taken []string
		want  int // 0 for none
	}{
		{"10.0.0.0/8", nil, 9},
		{"0.0.0.0/0", nil, 1},
		{"::/0", nil, 1},
		{"10.0.0.2/31", nil, 32},
		{"10.0.0.1/32", nil, 0},
		{"::1/128", nil, 0},
		{"10.0.0.0/8", []string{"10.0.0.0/32"}, 9},
		{"10.0.0.0/8", []string{"10.0.0.0/32", "10.128.0.0/32"}, 10},
		{"10.0.0.0/8", []string{"10.0.0.0/9", "10.128.0.0/9"}, 0},
		{"10.0.0.0/30", []string{"10.0.0.0/31", "10.0.0.3/32"}, 32},
		{"2001:db8::/63", []string{"2001:db8::/64", "2001:db8:0:1::/65"}, 65},
		{"::2/127", []string{"::2/128"}, 128},
		{"::2/127", []string{"::2/128", "::3/128"}, 0},
	} {
		got, ok := poolWith(t, tc.pool, tc.taken...).LargestFree()
		if ok != (tc.want != 0) || (ok && got != tc.want) {
			t.Errorf("LargestFree of %s without %v = %d, %t, want %d", tc.pool, tc.taken, got, ok, tc.want)
		}
	}
}

func TestUsedAddresses(t *testing.T) {
	for _, tc := range []struct {
		pool  string
		taken []string
		want  string
	}{
		{"10.0.0.0/8", nil, "0"},
		{"10.0.0.0/8", []string{"10.0.0.0/32", "10.0.1.0/24", "10.128.0.0/9"}, "8388865"},
		{"0.0.0.0/0", []string{"0.0.0.0/1", "128.0.0.0/1"}, "4294967296"},
		{"::/0", []string{"::/1", "8000::/1"}, "340282366920938463463374607431768211456"},
		{"2001:db8::/32", []string{"2001:db8::/64", "2001:db8:0:1::/128"}, "18446744073709551617"},
	} {
		p := poolWith(t, tc.pool, tc.taken...)
		if got := p.UsedAddresses().String(); got != tc.want {
			t.Errorf("UsedAddresses of %s with %v = %s, want %s", tc.pool, tc.taken, got, tc.want)
		}
		p.UsedAddresses().SetInt64(-1) // the result is the caller's
		p.TotalAddresses().SetInt64(-1)
		if got := p.UsedAddresses().String(); got != tc.want || p.TotalAddresses().Sign() < 0 {
			t.Errorf("pool of %s shares its numbers", tc.pool)
		}
	}
}

func TestSummary(t *testing.T) {
	for _, tc := range []struct {
		name      string
		pool      string
		taken     []string
		max       int
		want      []string
		truncated bool
	}{
		{"empty", "10.0.0.0/24", nil, 9, nil, false},
		{"empty, max 0", "10.0.0.0/24", nil, 0, nil, false},
		{"one", "10.0.0.0/24", []string{"10.0.0.8/29"}, 9, []string{"10.0.0.8/29"}, false},
		{"siblings merge", "10.0.0.0/24", []string{"10.0.0.8/30", "10.0.0.12/30"}, 9, []string{"10.0.0.8/29"}, false},
		{"neighbours that are no siblings", "10.0.0.0/24", []string{"10.0.0.4/30", "10.0.0.8/30"}, 9, []string{"10.0.0.4/30", "10.0.0.8/30"}, false},
		{
			"mixed lengths merge", "10.0.0.0/24",
			[]string{"10.0.0.64/26", "10.0.0.0/27", "10.0.0.32/28", "10.0.0.48/28", "10.0.0.255/32"}, 9,
			[]string{"10.0.0.0/25", "10.0.0.255/32"}, false,
		},
		{"full", "10.0.0.0/24", []string{"10.0.0.0/25", "10.0.0.128/25"}, 9, []string{"10.0.0.0/24"}, false},
		{"full, all of IPv6", "::/0", []string{"::/1", "8000::/2", "c000::/2"}, 1, []string{"::/0"}, false},
		{"exactly max", "10.0.0.0/24", []string{"10.0.0.0/32", "10.0.0.2/32"}, 2, []string{"10.0.0.0/32", "10.0.0.2/32"}, false},
		{"above max", "10.0.0.0/24", []string{"10.0.0.0/32", "10.0.0.2/32", "10.0.0.4/32"}, 2, []string{"10.0.0.0/32", "10.0.0.2/32"}, true},
		{"max 0", "10.0.0.0/24", []string{"10.0.0.0/32"}, 0, nil, true},
		{"max negative", "10.0.0.0/24", []string{"10.0.0.0/32"}, -1, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, truncated := poolWith(t, tc.pool, tc.taken...).Summary(tc.max)
			if !slices.Equal(got, pfxs(tc.want...)) || truncated != tc.truncated {
				t.Errorf("Summary(%d) = %v, %t, want %v, %t", tc.max, got, truncated, tc.want, tc.truncated)
			}
		})
	}
}

// TestZeroPool shows that the zero Pool does not panic.
func TestZeroPool(t *testing.T) {
	var p Pool
	for _, bits := range []int{-1, 0, 1, 32, 128} {
		if got, ok := p.Find(bits); ok {
			t.Errorf("Find(%d) = %s", bits, got)
		}
	}
	if _, ok := p.LargestFree(); ok {
		t.Error("LargestFree found a block")
	}
	if err := p.Take(pfx("10.0.0.0/8")); !errors.Is(err, ErrOutside) {
		t.Errorf("Take = %v", err)
	}
	if err := p.Release(pfx("10.0.0.0/8")); !errors.Is(err, ErrNotTaken) {
		t.Errorf("Release = %v", err)
	}
	if p.TotalAddresses().Sign() != 0 || p.UsedAddresses().Sign() != 0 {
		t.Error("zero Pool has addresses")
	}
	if cidrs, truncated := p.Summary(1); len(cidrs) != 0 || truncated {
		t.Errorf("Summary = %v, %t", cidrs, truncated)
	}
}

func TestLengths(t *testing.T) {
	for a := 1; a <= 128; a++ {
		for b := 1; b <= 128; b++ {
			l := only(a).union(only(b))
			if !l.has(a) || !l.has(b) || l.empty() || l.smallest() != min(a, b) {
				t.Fatalf("{%d, %d}: %v", a, b, l)
			}
			for limit := 1; limit <= 128; limit++ {
				want := 0
				for _, x := range []int{a, b} {
					if x <= limit {
						want = max(want, x)
					}
				}
				if got := l.atMost(limit); got != want {
					t.Fatalf("{%d, %d}.atMost(%d) = %d, want %d", a, b, limit, got, want)
				}
			}
		}
	}
	if (lengths{}).smallest() != 0 || (lengths{}).atMost(128) != 0 {
		t.Error("empty set has lengths")
	}
}

// TestFullLifecycle fills a pool with /32s, which must be allocated in order, and empties it from the other end.
func TestFullLifecycle(t *testing.T) {
	p := poolWith(t, "192.0.2.0/24")
	addr := p.Prefix().Addr()
	for i := range 256 {
		got, ok := p.Find(32)
		if !ok || got != netip.PrefixFrom(addr, 32) {
			t.Fatalf("Find = %s, %t, want %s", got, ok, addr)
		}
		if err := p.Take(got); err != nil {
			t.Fatal(err)
		}
		if p.UsedAddresses().Cmp(big.NewInt(int64(i+1))) != 0 {
			t.Fatalf("UsedAddresses = %v after %d", p.UsedAddresses(), i+1)
		}
		addr = addr.Next()
	}
	if got, ok := p.Find(32); ok {
		t.Fatalf("Find in a full pool = %s", got)
	}
	all := slices.Collect(p.All())
	slices.Reverse(all)
	for _, prefix := range all {
		if err := p.Release(prefix); err != nil {
			t.Fatal(err)
		}
	}
	if p.root != nil || p.Len() != 0 {
		t.Fatalf("empty again, but root %v, Len %d", p.root, p.Len())
	}
}
