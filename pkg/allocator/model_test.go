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

// unitBits is the number of bits below the length of the pool that the model represents. A pool consists of
// 1<<unitBits units of equal size. The model cannot allocate a part of a unit.
const unitBits = 8

// model implements the functions of a Pool naively: it examines every unit and every block.
type model struct {
	prefix netip.Prefix
	taken  []netip.Prefix // by address
}

// block returns a block of units. depth is its length minus that of the pool, and index is its number among the
// 1<<depth blocks of that length.
func (m *model) block(depth, index int) netip.Prefix {
	bits := m.prefix.Bits() + depth
	n := new(big.Int).SetBytes(m.prefix.Addr().AsSlice())
	i := big.NewInt(int64(index))
	n.Add(n, i.Lsh(i, uint(m.prefix.Addr().BitLen()-bits)))
	addr, ok := netip.AddrFromSlice(n.FillBytes(make([]byte, m.prefix.Addr().BitLen()/8)))
	if !ok {
		panic("bad length")
	}
	return netip.PrefixFrom(addr, bits)
}

func (m *model) overlapping(prefix netip.Prefix) (netip.Prefix, bool) {
	for _, t := range m.taken {
		if t.Overlaps(prefix) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// maximal returns the largest blocks of units that are all used, or all unused, sorted by address.
func (m *model) maximal(used bool) []netip.Prefix {
	var units [1 << unitBits]bool
	for u := range units {
		_, units[u] = m.overlapping(m.block(unitBits, u))
	}
	uniform := func(depth, index int) bool {
		size := 1 << (unitBits - depth)
		for _, u := range units[index*size : (index+1)*size] {
			if u != used {
				return false
			}
		}
		return true
	}
	var out []netip.Prefix
	for depth := range unitBits + 1 {
		for index := range 1 << depth {
			if uniform(depth, index) && (depth == 0 || !uniform(depth-1, index/2)) {
				out = append(out, m.block(depth, index))
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// take and release do the same as those of Pool. The prefix must be a block of units or larger.
func (m *model) take(prefix netip.Prefix) error {
	switch {
	case !prefix.IsValid() || prefix.Masked() != prefix:
		return ErrInvalid
	case prefix.Bits() <= m.prefix.Bits() || !m.prefix.Overlaps(prefix):
		return ErrOutside
	}
	if _, ok := m.overlapping(prefix); ok {
		return ErrInUse
	}
	m.taken = append(m.taken, prefix)
	slices.SortFunc(m.taken, netip.Prefix.Compare)
	return nil
}

func (m *model) release(prefix netip.Prefix) error {
	i := slices.Index(m.taken, prefix)
	if i < 0 {
		return ErrNotTaken
	}
	m.taken = slices.Delete(m.taken, i, i+1)
	return nil
}

// pair is a pool and a model of the same prefix.
type pair struct {
	*Pool
	m *model
}

func newPair(t testing.TB, prefix netip.Prefix) pair {
	t.Helper()
	p, err := newPool(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return pair{p, &model{prefix: prefix}}
}

// take and release change the pool and the model, and compare the results.
func (p pair) take(t testing.TB, prefix netip.Prefix) {
	t.Helper()
	holder, _ := p.m.overlapping(prefix)
	err, want := p.Take(prefix), p.m.take(prefix)
	if !errors.Is(err, want) {
		t.Fatalf("Take(%s) = %v, want %v", prefix, err, want)
	}
	var inUse *InUseError
	if errors.As(err, &inUse) && inUse.Prefix != holder {
		t.Fatalf("Take(%s): Prefix = %s, want %s", prefix, inUse.Prefix, holder)
	}
}

func (p pair) release(t testing.TB, prefix netip.Prefix) {
	t.Helper()
	if err, want := p.Release(prefix), p.m.release(prefix); !errors.Is(err, want) {
		t.Fatalf("Release(%s) = %v, want %v", prefix, err, want)
	}
}

// check compares the results of all methods of the pool with the model.
func (p pair) check(t testing.TB) {
	t.Helper()
	m, addrBits := p.m, p.m.prefix.Addr().BitLen()
	checkTrie(t, p.Pool)

	free := m.maximal(false)
	largest := 0
	for bits := -1; bits <= addrBits+1; bits++ {
		var fit, want netip.Prefix
		if bits > m.prefix.Bits() && bits <= addrBits {
			for _, f := range free {
				if f.Bits() <= bits && (!fit.IsValid() || f.Bits() > fit.Bits()) {
					fit = f
				}
			}
		}
		ok := fit.IsValid()
		if ok {
			want = netip.PrefixFrom(fit.Addr(), bits)
			if largest == 0 {
				largest = bits
			}
		}
		if got, gotOK := p.Find(bits); got != want || gotOK != ok {
			t.Fatalf("with %v, Find(%d) = %s, %t, want %s, %t", m.taken, bits, got, gotOK, want, ok)
		}
		if got, gotOK := p.FitBits(bits); gotOK != ok || ok && got != fit.Bits() {
			t.Fatalf("with %v, FitBits(%d) = %d, %t, want %s", m.taken, bits, got, gotOK, fit)
		}
	}
	if got, ok := p.LargestFree(); ok != (largest > 0) || ok && got != largest {
		t.Fatalf("with %v, LargestFree = %d, %t, want %d", m.taken, got, ok, largest)
	}

	if got := slices.Collect(p.All()); !slices.Equal(got, m.taken) || p.Len() != len(got) {
		t.Fatalf("All = %v, Len = %d, want %v", got, p.Len(), m.taken)
	}

	used := new(big.Int)
	for _, x := range m.taken {
		used.Add(used, new(big.Int).Exp(big.NewInt(2), big.NewInt(int64(addrBits-x.Bits())), nil))
	}
	if got := p.UsedAddresses(); got.Cmp(used) != 0 {
		t.Fatalf("with %v, UsedAddresses = %v, want %v", m.taken, got, used)
	}

	checkFree128(t, p.Pool)

	summary := m.maximal(true)
	for _, limit := range []int{-1, 0, 1, len(summary) - 1, len(summary), len(summary) + 1} {
		want := summary[:max(0, min(limit, len(summary)))]
		got, truncated := p.Summary(limit)
		if !slices.Equal(got, want) || truncated != (len(want) < len(summary)) {
			t.Fatalf("with %v, Summary(%d) = %v, %t, want %v", m.taken, limit, got, truncated, want)
		}
	}
}

// checkOverlapping compares Overlapping for every block of units, for the prefix of the pool, and for all prefixes
// that contain it.
func (p pair) checkOverlapping(t testing.TB) {
	t.Helper()
	compare := func(prefix netip.Prefix) {
		t.Helper()
		want, wantOK := p.m.overlapping(prefix)
		if got, ok := p.Overlapping(prefix); got != want || ok != wantOK {
			t.Fatalf("with %v, Overlapping(%s) = %s, %t, want %s", p.m.taken, prefix, got, ok, want)
		}
	}
	for depth := range unitBits + 1 {
		for index := range 1 << depth {
			compare(p.m.block(depth, index))
		}
	}
	for bits := range p.m.prefix.Bits() {
		compare(netip.PrefixFrom(p.m.prefix.Addr(), bits).Masked())
	}
}

// modelPrefixes are pools at both ends and in the middle of the address space. Two of them span bit 64, where one
// word ends and the next begins.
var modelPrefixes = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/24"),
	netip.MustParsePrefix("0.0.0.0/0"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("2001:db8::100/120"),
	netip.MustParsePrefix("2001:db8:0:f0::/60"),
	netip.MustParsePrefix("2001:db8:0:a500::/56"),
	netip.MustParsePrefix("::/0"),
}

func TestAgainstModel(t *testing.T) {
	seeds, steps := 30, 150
	if testing.Short() {
		seeds = 3
	}
	for _, prefix := range modelPrefixes {
		t.Run(prefix.String(), func(t *testing.T) {
			for seed := range seeds {
				t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
					r := rand.New(rand.NewPCG(uint64(seed), 1))
					p := newPair(t, prefix)
					// Each seed has its own fill level and smallest block.
					takes, smallest := 50+r.IntN(40), 1+r.IntN(unitBits)
					for range steps {
						depth := 1 + r.IntN(smallest)
						switch n := r.IntN(100); {
						case n < takes/2:
							if got, ok := p.Find(prefix.Bits() + depth); ok {
								p.take(t, got)
							}
						case n < takes:
							p.take(t, p.m.block(depth, r.IntN(1<<depth)))
						case n < 95 && len(p.m.taken) > 0:
							p.release(t, p.m.taken[r.IntN(len(p.m.taken))])
						default:
							p.release(t, p.m.block(depth, r.IntN(1<<depth)))
						}
						p.check(t)
						// This check is the most expensive one, so do it only now and then.
						if r.IntN(10) == 0 {
							p.checkOverlapping(t)
						}
					}
					// When everything is released, the pool must be empty.
					for len(p.m.taken) > 0 {
						p.release(t, p.m.taken[r.IntN(len(p.m.taken))])
					}
					p.check(t)
					if p.root != nil {
						t.Fatal("empty pool has nodes")
					}
				})
			}
		})
	}
}

// FuzzPool decodes its input: the first byte selects the pool, and each two bytes after it are an operation, with
// its kind and depth, and the index of the block.
func FuzzPool(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0, 0x07, 0, 0x07, 0, 0x06, 0, 0x47, 3, 0x87, 0})
	f.Add([]byte{1, 0x40, 0, 0x40, 1, 0x80, 0, 0x80, 1})
	f.Add([]byte{3, 0x43, 9, 0x01, 0, 0x07, 0, 0x07, 0, 0xC0, 1, 0xC0, 0})
	f.Add([]byte{4, 0x03, 0, 0x04, 0, 0x05, 0, 0xC0, 2, 0x87, 200, 0x47, 255})
	f.Add([]byte{6, 0x40, 0, 0x41, 2, 0x42, 6, 0x43, 14, 0x44, 30, 0xC0, 0})
	f.Add([]byte{0, 0x60, 24, 0x61, 25, 0x60, 8, 0x60, 200}) // itself, host bits, larger, invalid
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		// Longer inputs do not find more than shorter ones.
		data = data[:min(len(data), 201)]
		p := newPair(t, modelPrefixes[int(data[0])%len(modelPrefixes)])
		for data = data[1:]; len(data) >= 2; data = data[2:] {
			depth, arg := 1+int(data[0]&7), int(data[1])
			block := p.m.block(depth, arg%(1<<depth))
			switch data[0] >> 6 {
			case 0:
				if got, ok := p.Find(block.Bits()); ok {
					p.take(t, got)
				}
			case 1:
				if data[0]&0x20 != 0 { // any other prefix: host bits, elsewhere, too large
					block = netip.PrefixFrom(block.Addr(), arg)
					if block.Bits() > p.m.prefix.Bits()+unitBits {
						continue // the model does not see these
					}
				}
				p.take(t, block)
			case 2:
				p.release(t, block)
			case 3:
				if n := len(p.m.taken); n > 0 {
					p.release(t, p.m.taken[arg%n])
				}
			}
			p.check(t)
		}
		p.checkOverlapping(t)
	})
}
