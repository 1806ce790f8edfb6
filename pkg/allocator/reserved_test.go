// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// reservedModel does what a pool with reserved space does, by looking at each address. Its prefix has at most 256
// addresses.
type reservedModel struct {
	prefix   netip.Prefix
	taken    []netip.Prefix
	reserved map[netip.Addr]bool
}

func addressesOf(prefix netip.Prefix) (all []netip.Addr) {
	for addr := prefix.Addr(); prefix.Contains(addr); addr = addr.Next() {
		all = append(all, addr)
	}
	return all
}

// blocks returns all prefixes of a length inside the pool, by address.
func (m *reservedModel) blocks(bits int) (all []netip.Prefix) {
	for _, addr := range addressesOf(m.prefix) {
		if block := netip.PrefixFrom(addr, bits); block.Masked() == block {
			all = append(all, block)
		}
	}
	return all
}

func (m *reservedModel) inUse(prefix netip.Prefix) bool {
	return slices.ContainsFunc(m.taken, prefix.Overlaps)
}

// free reports whether a block may be chosen.
func (m *reservedModel) free(block netip.Prefix) bool {
	return !m.inUse(block) && !slices.ContainsFunc(addressesOf(block), func(a netip.Addr) bool { return m.reserved[a] })
}

// find looks for the smallest free block that is not part of a larger one, and that a prefix of the length fits into.
func (m *reservedModel) find(bits int) (netip.Prefix, bool) {
	for length := bits; length > m.prefix.Bits(); length-- {
		for _, block := range m.blocks(length) {
			if m.free(block) && (length == m.prefix.Bits()+1 || !m.free(outer(block))) {
				return netip.PrefixFrom(block.Addr(), bits), true
			}
		}
	}
	return netip.Prefix{}, false
}

// check compares the pool with the model, and with a pool that was told everything at once.
func (m *reservedModel) check(t *testing.T, p *Pool) {
	t.Helper()
	free, reserved := 0, 0
	for _, addr := range addressesOf(m.prefix) {
		switch {
		case m.inUse(netip.PrefixFrom(addr, addr.BitLen())):
		case m.reserved[addr]:
			reserved++
		default:
			free++
		}
	}
	// Nothing can be taken from a single address, so nothing of it is reserved.
	if m.prefix.IsSingleIP() {
		free, reserved = 1, 0
	}
	if p.FreeAddresses().Cmp(big.NewInt(int64(free))) != 0 || p.ReservedAddresses().Cmp(big.NewInt(int64(reserved))) != 0 {
		t.Fatalf("%s are free and %s reserved, not %d and %d", p.FreeAddresses(), p.ReservedAddresses(), free, reserved)
	}
	if hi, lo := p.FreeAddresses128(); hi != 0 || lo != uint64(free) {
		t.Fatalf("%d, %d are free, not %d", hi, lo, free)
	}
	largest := 0
	for bits := m.prefix.Bits() + 1; bits <= m.prefix.Addr().BitLen(); bits++ {
		want, ok := m.find(bits)
		// In a pool that is entirely free, all of it is the free block.
		if got, found := p.Find(bits); got != want || found != ok {
			t.Fatalf("Find(%d) is %s, %v, not %s, %v; in use %s", bits, got, found, want, ok, m.taken)
		}
		if _, fits := p.FitBits(bits); fits != ok {
			t.Fatalf("FitBits(%d): %v", bits, fits)
		}
		if ok && largest == 0 {
			largest = bits
		}
		if fits, want := p.FitsReserved(bits), slices.ContainsFunc(m.blocks(bits), func(b netip.Prefix) bool { return !m.inUse(b) }); fits != want {
			t.Fatalf("FitsReserved(%d) is %v", bits, fits)
		}
	}
	if got, ok := p.LargestFree(); ok != (largest > 0) || ok && got != largest {
		t.Fatalf("LargestFree is %d, not %d", got, largest)
	}
	if got := slices.Collect(p.All()); !slices.Equal(got, m.taken) {
		t.Fatalf("in use: %s, not %s", got, m.taken)
	}
	if p.open != nil && p.open.pool != p {
		// The pool that it chooses from is as if it were made now: nothing is left over from before.
		made, err := New(m.prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, taken := range m.taken {
			if err := made.Take(taken); err != nil {
				t.Fatal(err)
			}
		}
		made.Reserve(p.Reserved())
		if got, want := slices.Collect(p.open.pool.All()), slices.Collect(made.open.pool.All()); !slices.Equal(got, want) {
			t.Fatalf("chooses from what is left of %s, not of %s", got, want)
		}
	}
}

// TestReservedModel takes, releases and reserves at random.
func TestReservedModel(t *testing.T) {
	for _, parent := range []string{"10.0.0.0/24", "10.0.0.0/28", "10.0.0.8/31", "10.0.0.8/32", "2001:db8::/121", "2001:db8::4/126", "2001:db8::4/127"} {
		t.Run(parent, func(t *testing.T) {
			for seed := range uint64(20) {
				random := rand.New(rand.NewPCG(seed, 1))
				m := &reservedModel{prefix: netip.MustParsePrefix(parent)}
				p, err := New(m.prefix)
				if err != nil {
					t.Fatal(err)
				}
				all := addressesOf(m.prefix)
				block := func(shortest int) netip.Prefix {
					bits := shortest + random.IntN(m.prefix.Addr().BitLen()-shortest+1)
					return netip.PrefixFrom(all[random.IntN(len(all))], bits).Masked()
				}
				for range 60 {
					switch random.IntN(8) {
					case 0:
						m.reserve(p, random, block)
					case 1, 2:
						if len(m.taken) > 0 {
							i := random.IntN(len(m.taken))
							if err := p.Release(m.taken[i]); err != nil {
								t.Fatal(err)
							}
							m.taken = slices.Delete(m.taken, i, i+1)
						}
					default:
						// Most are small, so that many fit.
						prefix := block(max(m.prefix.Bits(), m.prefix.Addr().BitLen()-3))
						if random.IntN(4) == 0 {
							prefix = block(m.prefix.Bits())
						}
						ok := prefix.Bits() > m.prefix.Bits() && !m.inUse(prefix)
						if err := p.Take(prefix); (err == nil) != ok {
							t.Fatalf("Take(%s): %v; in use %s", prefix, err, m.taken)
						}
						if ok {
							m.taken = append(m.taken, prefix)
							slices.SortFunc(m.taken, netip.Prefix.Compare)
						}
					}
					m.check(t, p)
				}
			}
		})
	}
}

// reserve reserves something at random, in one set or in several, and at times nothing.
func (m *reservedModel) reserve(p *Pool, random *rand.Rand, block func(shortest int) netip.Prefix) {
	m.reserved = map[netip.Addr]bool{}
	var sets []*Reserved
	for range random.IntN(3) {
		var prefixes []netip.Prefix
		edges := random.IntN(3) == 0
		for range random.IntN(5) {
			// Some contain the pool.
			prefixes = append(prefixes, block(max(0, m.prefix.Bits()-random.IntN(2))))
		}
		sets = append(sets, NewReserved(prefixes, edges))
		for i, addr := range addressesOf(m.prefix) {
			switch size := 1 << (m.prefix.Addr().BitLen() - m.prefix.Bits()); {
			case edges && size >= 4 && (i == 0 || i == size-1 && addr.Is4()),
				slices.ContainsFunc(prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(addr) }):
				m.reserved[addr] = true
			}
		}
	}
	p.Reserve(Union(sets))
}

// TestReservedOverlaps compares Overlaps with what is covered by In.
func TestReservedOverlaps(t *testing.T) {
	parent := netip.MustParsePrefix("10.0.0.0/28")
	set := NewReserved([]netip.Prefix{netip.MustParsePrefix("10.0.0.4/31"), netip.MustParsePrefix("10.0.0.6/31"), netip.MustParsePrefix("9.0.0.0/8")}, true)
	if got := fmt.Sprint(set.In(parent)); got != "[10.0.0.0/32 10.0.0.4/30 10.0.0.15/32]" {
		t.Errorf("in the parent: %s", got)
	}
	for bits := 29; bits <= 32; bits++ {
		for _, addr := range addressesOf(parent) {
			prefix := netip.PrefixFrom(addr, bits).Masked()
			if got, want := set.Overlaps(prefix, parent), slices.ContainsFunc(set.In(parent), prefix.Overlaps); got != want {
				t.Errorf("%s: %v", prefix, got)
			}
		}
	}
	if (*Reserved)(nil).Overlaps(parent, parent) || (*Reserved)(nil).In(parent) != nil || NewReserved(nil, false) != nil {
		t.Error("nothing is not nothing")
	}
}

// TestReservedMapped has reserved space around and inside of the IPv4-mapped addresses, which are never free.
func TestReservedMapped(t *testing.T) {
	for _, reserved := range []string{"::ffff:0:0/96", "::ffff:1.2.0.0/112", "::/64", "::/80", "::fffe:0:0/95"} {
		p, err := New(netip.MustParsePrefix("::/48"))
		if err != nil {
			t.Fatal(err)
		}
		before := p.FreeAddresses()
		p.Reserve(NewReserved([]netip.Prefix{netip.MustParsePrefix(reserved)}, false))
		if sum := p.ReservedAddresses(); sum.Add(sum, p.FreeAddresses()).Cmp(before) != 0 {
			t.Errorf("%s: free and reserved are %s, and were %s", reserved, sum, before)
		}
		for _, taken := range []string{"::fffe:0:0/96", "::fffe:0:0/112", "::/80", "::/52"} {
			prefix := netip.MustParsePrefix(taken)
			free, choice := p.FreeAddresses(), slices.Collect(p.open.pool.All())
			if err := p.Take(prefix); err != nil {
				t.Fatal(err)
			}
			if place, ok := p.Find(97); ok && (mapped.Overlaps(place) || prefix.Overlaps(place)) {
				t.Errorf("%s, %s: found %s", reserved, taken, place)
			}
			if err := p.Release(prefix); err != nil {
				t.Fatal(err)
			}
			if p.FreeAddresses().Cmp(free) != 0 || !slices.Equal(slices.Collect(p.open.pool.All()), choice) {
				t.Errorf("%s: not as before %s was taken and released", reserved, taken)
			}
		}
		p.Reserve(nil)
		if p.FreeAddresses().Cmp(before) != 0 {
			t.Errorf("%s: not as before", reserved)
		}
	}
}

// BenchmarkReserved finds, takes and releases a prefix of a pool with and without reserved ranges.
func BenchmarkReserved(b *testing.B) {
	for _, ranges := range []int{0, 10_000} {
		b.Run(fmt.Sprint(ranges), func(b *testing.B) {
			p, err := New(netip.MustParsePrefix("10.0.0.0/8"))
			if err != nil {
				b.Fatal(err)
			}
			var reserved []netip.Prefix
			for i := range ranges {
				reserved = append(reserved, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 40), byte(i % 40 * 6), 16}), 28))
			}
			p.Reserve(NewReserved(reserved, false))
			for b.Loop() {
				prefix, ok := p.Find(28)
				if !ok || p.Take(prefix) != nil || p.Release(prefix) != nil {
					b.Fatal(prefix)
				}
			}
		})
	}
}
