// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestFullExceptMapped fills ::/79 so that the IPv4-mapped block would be the best fit.
func TestFullExceptMapped(t *testing.T) {
	p, err := New(pfx("::/79"))
	if err != nil {
		t.Fatal(err)
	}
	// Take all /96 of ::/80 except ::ffff:0:0/96.
	for i := range 1<<16 - 1 {
		if err := p.Take(netip.PrefixFrom(netip.AddrFrom16([16]byte{10: byte(i >> 8), 11: byte(i)}), 96)); err != nil {
			t.Fatal(i, err)
		}
	}
	if got, ok := p.Find(96); !ok || got != pfx("::1:0:0:0/96") {
		t.Errorf("Find(96) = %s, %t", got, ok)
	}
	if got, ok := p.LargestFree(); !ok || got != 80 {
		t.Errorf("LargestFree = %d, %t", got, ok)
	}
	if got, want := p.FreeAddresses(), new(big.Int).Lsh(big.NewInt(1), 48); got.Cmp(want) != 0 {
		t.Errorf("FreeAddresses = %v, want %v", got, want)
	}
	if err := p.Take(pfx("::1:0:0:0/80")); err != nil {
		t.Fatal(err)
	}
	if got, ok := p.LargestFree(); ok {
		t.Errorf("LargestFree = %d in a pool that has nothing left to give out", got)
	}
	if free := p.FreeAddresses(); free.Sign() != 0 {
		t.Errorf("FreeAddresses = %v", free)
	}
}

// TestMappedAgainstModel makes random changes to pools that contain the IPv4-mapped addresses, around and inside
// these. The model is a list of the prefixes in use.
func TestMappedAgainstModel(t *testing.T) {
	for _, prefix := range []string{"::/0", "::/1", "::/79", "::/80", "::8000:0:0/81", "::ffff:0:0/95", "::fff0:0:0/92"} {
		t.Run(prefix, func(t *testing.T) {
			for seed := range uint64(40) {
				mappedAgainstModel(t, pfx(prefix).Masked(), rand.New(rand.NewPCG(seed, 3)))
			}
		})
	}
}

func mappedAgainstModel(t *testing.T, prefix netip.Prefix, random *rand.Rand) {
	t.Helper()
	p, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	var taken []netip.Prefix
	// near returns a prefix that has many of its first bits in common with the IPv4-mapped ones.
	near := func() netip.Prefix {
		bits := prefix.Bits() + 1 + random.IntN(min(101, 128)-prefix.Bits())
		bytes := mapped.Addr().As16()
		if flip := random.IntN(bits + 1); flip < bits {
			bytes[flip/8] ^= 0x80 >> (flip % 8)
		}
		return netip.PrefixFrom(netip.AddrFrom16(bytes), bits).Masked()
	}
	holder := func(x netip.Prefix) (netip.Prefix, bool) {
		for _, held := range taken {
			if held.Overlaps(x) {
				return held, true
			}
		}
		return mapped, !covers(x) && mapped.Overlaps(x)
	}
	for range 120 {
		x := near()
		switch random.IntN(4) {
		case 0:
			if found, ok := p.Find(x.Bits()); ok {
				x = found
				if mapped.Overlaps(x) {
					t.Fatalf("with %v, Find returns %s", taken, x)
				}
			}
			fallthrough
		case 1:
			err := p.Take(x)
			held, inUse := holder(x)
			var is *InUseError
			switch {
			case !x.IsValid() || !prefix.Overlaps(x) || x.Bits() <= prefix.Bits():
				if err == nil {
					t.Fatalf("Take(%s) of %s", x, prefix)
				}
			case inUse:
				if !errors.As(err, &is) || !is.Prefix.Overlaps(x) {
					t.Fatalf("with %v, Take(%s) = %v, want in use by %s", taken, x, err, held)
				}
			case err != nil:
				t.Fatalf("with %v, Take(%s) = %v", taken, x, err)
			default:
				taken = append(taken, x)
				slices.SortFunc(taken, netip.Prefix.Compare)
			}
		case 2:
			if len(taken) > 0 && random.IntN(2) == 0 {
				x = taken[random.IntN(len(taken))]
			}
			i := slices.Index(taken, x)
			if err := p.Release(x); (err == nil) != (i >= 0) {
				t.Fatalf("with %v, Release(%s) = %v", taken, x, err)
			}
			if i >= 0 {
				taken = slices.Delete(taken, i, i+1)
			}
		case 3:
			if err := p.Release(mapped); err == nil {
				t.Fatalf("with %v, what nobody took was released", taken)
			}
		}
		want, inUse := holder(x)
		if got, ok := p.Overlapping(x); prefix.Overlaps(x) && (ok != inUse || ok && !got.Overlaps(x)) {
			t.Fatalf("with %v, Overlapping(%s) = %s, %t, want %s, %t", taken, x, got, ok, want, inUse)
		}
		checkMapped(t, p, taken)
	}
}

// checkMapped compares the answers of a pool with the prefixes in use.
func checkMapped(t *testing.T, p *Pool, taken []netip.Prefix) {
	t.Helper()
	describe := fmt.Sprintf("%s with %v", p.Prefix(), taken)
	if got := slices.Collect(p.All()); !slices.Equal(got, taken) || p.Len() != len(taken) {
		t.Fatalf("%s: All = %v, Len = %d", describe, got, p.Len())
	}
	count := func(prefixes []netip.Prefix) *big.Int {
		sum := new(big.Int)
		for _, prefix := range prefixes {
			sum.Add(sum, new(big.Int).Lsh(big.NewInt(1), uint(128-prefix.Bits())))
		}
		return sum
	}
	used := count(taken)
	if got := p.UsedAddresses(); got.Cmp(used) != 0 {
		t.Fatalf("%s: UsedAddresses = %v, want %v", describe, got, used)
	}
	if summary, _ := p.Summary(1000); count(summary).Cmp(used) != 0 {
		t.Fatalf("%s: Summary = %v", describe, summary)
	}
	free := new(big.Int).Sub(count([]netip.Prefix{p.Prefix()}), used)
	if !slices.ContainsFunc(taken, covers) {
		free.Sub(free, count([]netip.Prefix{mapped}))
	}
	if got := p.FreeAddresses(); got.Cmp(free) != 0 {
		t.Fatalf("%s: FreeAddresses = %v, want %v", describe, got, free)
	}
	checkFree128(t, p)
	largest, ok := p.LargestFree()
	for bits := 1; bits <= 128; bits++ {
		found, finds := p.Find(bits)
		if finds != (ok && bits >= largest) {
			t.Fatalf("%s: Find(%d) = %s, %t, but LargestFree = %d, %t", describe, bits, found, finds, largest, ok)
		}
		if finds && (mapped.Overlaps(found) || slices.ContainsFunc(taken, found.Overlaps)) {
			t.Fatalf("%s: Find(%d) = %s, which is not free", describe, bits, found)
		}
	}
}

func checkFree128(t testing.TB, p *Pool) {
	t.Helper()
	hi, lo := p.FreeAddresses128()
	got := new(big.Int).Lsh(new(big.Int).SetUint64(hi), 64)
	got.Or(got, new(big.Int).SetUint64(lo))
	want := p.FreeAddresses()
	if want.BitLen() > 128 {
		want.Sub(want, big.NewInt(1))
	}
	if got.Cmp(want) != 0 {
		t.Fatalf("%s: FreeAddresses128 = %v, want %v", p.Prefix(), got, want)
	}
}
