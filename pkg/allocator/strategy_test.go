// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestFindBy fills pools with each way to find a place, beside reserved space and with excepted prefixes. What is found is
// free, and it is found as long as there is something.
func TestFindBy(t *testing.T) {
	for _, parent := range []string{"10.0.0.0/24", "10.0.0.0/31", "10.0.0.0/32", "2001:db8::/121"} {
		for seed := range uint64(5) {
			random := rand.New(rand.NewPCG(seed, 1))
			for name, find := range map[string]func(*Pool) func(int) (netip.Prefix, bool){
				"Pack":   func(p *Pool) func(int) (netip.Prefix, bool) { return p.Find },
				"Spread": func(p *Pool) func(int) (netip.Prefix, bool) { return p.FindSpread },
				"Random": func(p *Pool) func(int) (netip.Prefix, bool) {
					return func(bits int) (netip.Prefix, bool) { return p.FindRandom(bits, random.Uint64) }
				},
			} {
				p, err := New(netip.MustParsePrefix(parent))
				if err != nil {
					t.Fatal(err)
				}
				p.Reserve(NewReserved([]netip.Prefix{netip.MustParsePrefix("10.0.0.64/27"), netip.MustParsePrefix("2001:db8::40/123")}, true))
				for range 200 {
					size := p.Prefix().Addr().BitLen()
					bits := size - random.IntN(4)
					var except []netip.Prefix
					if place, ok := p.Find(bits); ok && random.IntN(2) == 0 {
						except = append(except, place)
					}
					for _, prefix := range except {
						if err := p.Take(prefix); err != nil {
							t.Fatal(err)
						}
					}
					_, is := p.Find(bits)
					for _, prefix := range except {
						if err := p.Release(prefix); err != nil {
							t.Fatal(err)
						}
					}
					place, ok := p.FindExcept(bits, except, find(p))
					if ok != is {
						t.Fatalf("%s: %s: /%d: found %v, there is one: %v", name, parent, bits, ok, is)
					}
					if !ok {
						continue
					}
					if place.Bits() != bits || place.Masked() != place || p.Reserved().Overlaps(place, p.Prefix()) || slices.ContainsFunc(except, place.Overlaps) {
						t.Fatalf("%s: %s: found %s, except %s", name, parent, place, except)
					}
					if err := p.Take(place); err != nil {
						t.Fatalf("%s: %s: %v", name, parent, err)
					}
				}
			}
		}
	}
}

// TestFindSpread leaves room between children.
func TestFindSpread(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.0.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.0.0.0/28", "10.0.0.128/28", "10.0.0.64/28", "10.0.0.192/28", "10.0.0.32/28"} {
		place, ok := p.FindSpread(28)
		if !ok || place.String() != want || p.Take(place) != nil {
			t.Fatalf("found %s, not %s", place, want)
		}
	}
}

// TestFindRandom finds all places, and none of the IPv4-mapped addresses.
func TestFindRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	p, err := New(netip.MustParsePrefix("10.0.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[netip.Prefix]bool{}
	for range 1000 {
		place, ok := p.FindRandom(28, random.Uint64)
		if !ok {
			t.Fatal("nothing is found")
		}
		found[place] = true
	}
	if len(found) != 16 {
		t.Errorf("found %d of 16 places", len(found))
	}
	for _, parent := range []string{"::fffe:0:0/95", "::/64", "::/0"} {
		p, err := New(netip.MustParsePrefix(parent))
		if err != nil {
			t.Fatal(err)
		}
		for length := p.Prefix().Bits() + 1; length <= 128; length += 1 + length/8 {
			for range 50 {
				if place, ok := p.FindRandom(length, random.Uint64); ok && place.Overlaps(mapped) {
					t.Fatalf("%s: found %s", parent, place)
				}
			}
		}
	}
}

// TestCut compares cut with the bits one by one.
func TestCut(t *testing.T) {
	all := key{^uint64(0), ^uint64(0)}
	for top := range 129 {
		for end := top; end <= 128; end++ {
			got := all.cut(top, end)
			for bit := range 128 {
				word, at := got.hi, bit
				if bit >= 64 {
					word, at = got.lo, bit-64
				}
				if set := word>>(63-at)&1 == 1; set != (bit >= top && bit < end) {
					t.Fatalf("cut(%d, %d): bit %d is %v", top, end, bit, set)
				}
			}
		}
	}
}
