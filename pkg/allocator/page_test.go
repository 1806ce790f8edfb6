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

// buddies implements the functions of a Pool with a list of the prefixes in use and a list of the free blocks of
// each length. It is faster than the model, and supports all lengths.
type buddies struct {
	prefix netip.Prefix
	taken  []netip.Prefix      // by address
	free   [129][]netip.Prefix // by address
}

func newBuddies(prefix netip.Prefix) *buddies {
	b := &buddies{prefix: prefix}
	b.free[prefix.Bits()] = []netip.Prefix{prefix}
	return b
}

// half returns the first or the second half of a block.
func half(block netip.Prefix, second bool) netip.Prefix {
	addr := block.Addr()
	if second {
		k := keyOf(addr)
		if block.Bits() < 64 {
			k.hi |= 1 << (63 - block.Bits())
		} else {
			k.lo |= 1 << (127 - block.Bits())
		}
		addr = k.addr(addr.Is4())
	}
	return netip.PrefixFrom(addr, block.Bits()+1)
}

// add and drop modify a list that is sorted by address.
func add(list *[]netip.Prefix, block netip.Prefix) {
	i, _ := slices.BinarySearchFunc(*list, block, byAddr)
	*list = slices.Insert(*list, i, block)
}

func drop(list *[]netip.Prefix, block netip.Prefix) bool {
	i, ok := slices.BinarySearchFunc(*list, block, byAddr)
	if ok = ok && (*list)[i] == block; ok {
		*list = slices.Delete(*list, i, i+1)
	}
	return ok
}

func byAddr(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }

func (b *buddies) overlapping(prefix netip.Prefix) (netip.Prefix, bool) {
	i, _ := slices.BinarySearchFunc(b.taken, prefix, byAddr)
	for _, i := range []int{i - 1, i} {
		if i >= 0 && i < len(b.taken) && b.taken[i].Overlaps(prefix) {
			return b.taken[i], true
		}
	}
	return netip.Prefix{}, false
}

func (b *buddies) take(prefix netip.Prefix) {
	add(&b.taken, prefix)
	block := prefix
	for !drop(&b.free[block.Bits()], block) {
		block, _ = block.Addr().Prefix(block.Bits() - 1)
	}
	for block != prefix {
		second := half(block, true)
		block = half(block, false)
		if second.Contains(prefix.Addr()) {
			block, second = second, block
		}
		add(&b.free[second.Bits()], second)
	}
}

func (b *buddies) release(prefix netip.Prefix) bool {
	if !drop(&b.taken, prefix) {
		return false
	}
	for prefix != b.prefix {
		block, _ := prefix.Addr().Prefix(prefix.Bits() - 1)
		other := half(block, prefix.Addr() == block.Addr())
		if !drop(&b.free[other.Bits()], other) {
			break
		}
		prefix = block
	}
	add(&b.free[prefix.Bits()], prefix)
	return true
}

func (b *buddies) find(bits int) (netip.Prefix, bool) {
	for length := bits; length >= b.prefix.Bits(); length-- {
		if len(b.free[length]) > 0 {
			return netip.PrefixFrom(b.free[length][0].Addr(), bits), true
		}
	}
	return netip.Prefix{}, false
}

// summary returns the fewest CIDRs that cover the prefixes in use. taken is sorted by address and lies in block.
func summary(block netip.Prefix, taken []netip.Prefix) []netip.Prefix {
	if len(taken) == 0 || taken[0] == block {
		return taken
	}
	second := half(block, true)
	i := 0
	for i < len(taken) && taken[i].Addr().Less(second.Addr()) {
		i++
	}
	a, b := summary(half(block, false), taken[:i]), summary(second, taken[i:])
	if len(a) == 1 && len(b) == 1 && a[0] == half(block, false) && b[0] == second {
		return []netip.Prefix{block}
	}
	return slices.Concat(a, b)
}

// both is a pool and the buddies of the same prefix.
type both struct {
	*Pool
	b *buddies
}

func newBoth(t testing.TB, prefix netip.Prefix) both {
	t.Helper()
	p, err := newPool(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return both{p, newBuddies(prefix)}
}

// take, release and find call both and compare the results. find returns the result. They do not call t.Helper,
// which would take longer than everything else.
func (p both) take(t testing.TB, prefix netip.Prefix) {
	holder, ok := p.b.overlapping(prefix)
	err := p.Take(prefix)
	var inUse *InUseError
	switch {
	case ok && (!errors.As(err, &inUse) || inUse.Prefix != holder):
		t.Fatalf("with %v, Take(%s) = %v, want %s", p.b.taken, prefix, err, holder)
	case !ok && err != nil:
		t.Fatalf("with %v, Take(%s) = %v", p.b.taken, prefix, err)
	case !ok:
		p.b.take(prefix)
	}
}

func (p both) release(t testing.TB, prefix netip.Prefix) {
	if err, ok := p.Release(prefix), p.b.release(prefix); ok != (err == nil) || !ok && !errors.Is(err, ErrNotTaken) {
		t.Fatalf("Release(%s) = %v, want success %t", prefix, err, ok)
	}
}

func (p both) find(t testing.TB, bits int) (netip.Prefix, bool) {
	want, wantOK := p.b.find(bits)
	if got, ok := p.Find(bits); got != want || ok != wantOK {
		t.Fatalf("with %v, Find(%d) = %s, %t, want %s, %t", p.b.taken, bits, got, ok, want, wantOK)
	}
	return want, wantOK
}

// check compares the results of all methods of the pool with the buddies.
func (p both) check(t testing.TB) {
	t.Helper()
	checkTrie(t, p.Pool)
	size := p.b.prefix.Addr().BitLen()
	for bits := p.b.prefix.Bits() + 1; bits <= size; bits++ {
		p.find(t, bits)
	}
	if got := slices.Collect(p.All()); !slices.Equal(got, p.b.taken) {
		t.Fatalf("All = %v, want %v", got, p.b.taken)
	}
	used := new(big.Int)
	for _, prefix := range p.b.taken {
		if got, ok := p.Overlapping(prefix); !ok || got != prefix {
			t.Fatalf("with %v, Overlapping(%s) = %s, %t", p.b.taken, prefix, got, ok)
		}
		n := big.NewInt(1)
		used.Add(used, n.Lsh(n, uint(size-prefix.Bits())))
	}
	if got := p.UsedAddresses(); got.Cmp(used) != 0 {
		t.Fatalf("with %v, UsedAddresses = %v, want %v", p.b.taken, got, used)
	}
	want := summary(p.b.prefix, p.b.taken)
	if got, truncated := p.Summary(len(want)); !slices.Equal(got, want) || truncated {
		t.Fatalf("with %v, Summary = %v, %t, want %v", p.b.taken, got, truncated, want)
	}
	if (p.root == nil) != (len(p.b.taken) == 0) {
		t.Fatalf("with %v, root is %v", p.b.taken, p.root)
	}
}

// random returns a random prefix of the given length in the pool.
func (p both) random(r *rand.Rand, bits int) netip.Prefix {
	k, random := keyOf(p.prefix.Addr()), key{r.Uint64(), r.Uint64()}
	if p.at.top < 64 {
		k.hi |= random.hi >> p.at.top
		k.lo = random.lo
	} else {
		k.lo |= random.lo >> (p.at.top - 64)
	}
	prefix, err := k.addr(p.size == 32).Prefix(bits)
	if err != nil {
		panic(err)
	}
	return prefix
}

// poolOf returns a prefix for a pool that has the given length.
func poolOf(size, bits int) netip.Prefix {
	addr := "173.90.165.91"
	if size == 128 {
		addr = "2a5a:a5b5:5a96:a55a:69a5:5aa5:965a:a55b"
	}
	prefix, err := netip.MustParseAddr(addr).Prefix(bits)
	if err != nil {
		panic(err)
	}
	return prefix
}

// TestPageBoundaries allocates, in pools of every length, blocks that end at a page boundary, just before it, and
// just after it.
func TestPageBoundaries(t *testing.T) {
	for _, size := range []int{32, 128} {
		for bits := range size {
			if testing.Short() && bits%5 != 1 {
				continue
			}
			p := newBoth(t, poolOf(size, bits))
			r := rand.New(rand.NewPCG(uint64(bits), 3))
			var lengths []int
			for end := p.at.end; end <= size; end += pageLevels {
				for length := max(end-1, bits+1); length <= min(end+1, size); length++ {
					lengths = append(lengths, length)
				}
			}
			r.Shuffle(len(lengths), func(i, j int) { lengths[i], lengths[j] = lengths[j], lengths[i] })
			for _, length := range lengths {
				if found, ok := p.find(t, length); ok {
					p.take(t, found)
				}
				for range 3 {
					p.take(t, p.random(r, length))
				}
				p.release(t, p.random(r, length))
			}
			p.check(t)
			taken := slices.Clone(p.b.taken)
			r.Shuffle(len(taken), func(i, j int) { taken[i], taken[j] = taken[j], taken[i] })
			for n, prefix := range taken {
				if n == len(taken)/2 {
					checkTrie(t, p.Pool)
				}
				p.release(t, prefix)
			}
			p.check(t)
		}
	}
}

// TestEveryDivision tests all sets of prefixes that can be allocated from a block of eight units. The block lies in
// one page, or in two pages that meet at each possible place.
func TestEveryDivision(t *testing.T) {
	const depth = 3
	pools := []netip.Prefix{poolOf(32, 29), poolOf(32, 23), poolOf(32, 24), poolOf(32, 25), poolOf(128, 61)}
	if testing.Short() {
		pools = pools[2:3]
	}
	// divisions returns all sets of prefixes that can be allocated from a block.
	var divisions func(block netip.Prefix, depth int) [][]netip.Prefix
	divisions = func(block netip.Prefix, depth int) [][]netip.Prefix {
		all := [][]netip.Prefix{nil, {block}}
		if depth == 0 {
			return all
		}
		all = all[1:]
		for _, a := range divisions(half(block, false), depth-1) {
			for _, b := range divisions(half(block, true), depth-1) {
				all = append(all, slices.Concat(a, b))
			}
		}
		return all
	}
	for _, pool := range pools {
		for n, taken := range divisions(pool, depth) {
			if len(taken) == 1 && taken[0] == pool {
				continue
			}
			r := rand.New(rand.NewPCG(uint64(n), 4))
			p := newBoth(t, pool)
			for _, i := range r.Perm(len(taken)) {
				p.take(t, taken[i])
			}
			p.check(t)
			// A block that is not in use cannot be released. A block that overlaps one in use cannot be allocated.
			var blocks func(block netip.Prefix, depth int)
			blocks = func(block netip.Prefix, depth int) {
				want, wantOK := p.b.overlapping(block)
				if got, ok := p.Overlapping(block); got != want || ok != wantOK {
					t.Fatalf("with %v, Overlapping(%s) = %s, %t, want %s, %t", taken, block, got, ok, want, wantOK)
				}
				if wantOK && block != pool {
					p.take(t, block)
				}
				if !slices.Contains(taken, block) {
					p.release(t, block)
				}
				if depth > 0 {
					blocks(half(block, false), depth-1)
					blocks(half(block, true), depth-1)
				}
			}
			blocks(pool, depth+1)
			for _, i := range r.Perm(len(taken)) {
				p.release(t, taken[i])
				checkTrie(t, p.Pool)
			}
			p.check(t)
		}
	}
}

// TestFullPages fills a pool in random order, so that all pages are full, and empties it in random order, so that
// all pages are freed. It does this twice.
func TestFullPages(t *testing.T) {
	levels, rounds := 11, 3
	if testing.Short() {
		levels, rounds = 8, 2
	}
	for _, pool := range []netip.Prefix{poolOf(32, 32-levels), poolOf(128, 128-levels)} {
		p := newBoth(t, pool)
		r := rand.New(rand.NewPCG(5, 5))
		for range rounds {
			for taken := 0; taken < 1<<levels; taken = p.Len() {
				p.take(t, p.random(r, p.size))
				if p.Len() > 1<<levels-100 { // random ones would take long to hit the last
					if found, ok := p.find(t, p.size); ok {
						p.take(t, found)
					}
				}
				if taken%128 == 0 {
					p.check(t)
				}
			}
			p.check(t)
			if !p.root.free.empty() {
				t.Fatalf("full pool has %v free", p.root.free)
			}
			taken := slices.Clone(p.b.taken)
			for n, i := range r.Perm(len(taken)) {
				p.release(t, taken[i])
				if n%128 == 0 {
					p.check(t)
				}
			}
			p.check(t)
		}
	}
}

// TestPagesAreReused shows that releasing and allocating the same block needs no memory, as long as its page does
// not become empty.
func TestPagesAreReused(t *testing.T) {
	p := poolWith(t, "10.0.0.0/8", "10.1.2.3/32", "10.1.2.4/32", "10.1.2.64/32", "10.1.3.0/24", "10.1.4.0/25")
	for _, prefix := range pfxs("10.1.2.3/32", "10.1.3.0/24", "10.1.4.0/25") {
		allocs := testing.AllocsPerRun(100, func() {
			if err := p.Release(prefix); err != nil {
				t.Fatal(err)
			}
			if err := p.Take(prefix); err != nil {
				t.Fatal(err)
			}
			p.Find(32)
		})
		if allocs != 0 {
			t.Errorf("release and take of %s: %v allocations", prefix, allocs)
		}
	}
	checkTrie(t, p)
}

// TestAgainstBuddies makes random changes to pools of all small sizes, with all lengths. The pools become almost
// empty and almost full in turn.
func TestAgainstBuddies(t *testing.T) {
	steps := 100_000
	if testing.Short() {
		steps = 3000
	}
	for _, family := range []struct{ size, from int }{{32, 20}, {128, 110}} {
		for bits := family.from; bits < family.size; bits++ {
			t.Run(fmt.Sprintf("%d of %d", bits, family.size), func(t *testing.T) {
				p := newBoth(t, poolOf(family.size, bits))
				r := rand.New(rand.NewPCG(uint64(bits), 6))
				// takes is the number of allocations in a hundred operations. smallest is the length of the
				// smallest blocks, minus that of the pool.
				var takes, smallest int
				for step := range steps {
					if step%(steps/50) == 0 {
						p.check(t)
						takes, smallest = 20+r.IntN(60), 1+r.IntN(family.size-bits)
					}
					length := bits + 1 + r.IntN(smallest)
					switch n := r.IntN(100); {
					case n < takes/2:
						if found, ok := p.find(t, length); ok {
							p.take(t, found)
						}
					case n < takes:
						p.take(t, p.random(r, length))
					case n < 95 && p.Len() > 0:
						p.release(t, p.b.taken[r.IntN(p.Len())])
					default:
						p.release(t, p.random(r, length))
					}
				}
				p.check(t)
				for p.Len() > 0 {
					p.release(t, p.b.taken[r.IntN(p.Len())])
				}
				p.check(t)
			})
		}
	}
}
