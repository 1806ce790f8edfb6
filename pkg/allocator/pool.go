// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"fmt"
	"iter"
	"math/big"
	"math/bits"
	"net/netip"
)

// Pool is the free-space index of one prefix. It must be made with New; a zero
// Pool has nothing to give out. It is not safe for concurrent use.
//
// Every method but All and Summary takes time in proportion to the bits of an
// address, however many prefixes are in use.
type Pool struct {
	prefix netip.Prefix
	base   key
	// top is the length of prefix, end that of the slots of the root, and size
	// that of an address.
	top, end, size int
	// root is nil if nothing is taken.
	root *page
	len  int
	// counts has the number of taken prefixes by length; as they never
	// overlap, it is all that the number of used addresses depends on.
	counts [129]int
	// withholds tells that the pool does not give out mapped, and withheld that mapped
	// is marked as used at the moment, though nobody took it.
	withholds, withheld bool
}

// mapped are the IPv4-mapped addresses (RFC 4291, section 2.5.5.2). They mean IPv4
// addresses, so a pool that covers them does not give them out.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// covers reports whether a prefix is larger than mapped and contains it.
func covers(prefix netip.Prefix) bool {
	return prefix.Bits() < mapped.Bits() && prefix.Contains(mapped.Addr())
}

// New returns the pool of prefix with all of it free. The error wraps
// ErrInvalid if the prefix is invalid, has host bits set, or is an IPv4-mapped
// IPv6 prefix, which is most likely a mistaken IPv4 one. Zones need no check,
// as a netip.Prefix has none.
func New(prefix netip.Prefix) (*Pool, error) {
	p, err := newPool(prefix)
	if err != nil {
		return nil, err
	}
	p.withholds = covers(prefix)
	p.withhold()
	return p, nil
}

// newPool returns a pool that gives out IPv4-mapped addresses like any other.
func newPool(prefix netip.Prefix) (*Pool, error) {
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, prefix)
	}
	p := &Pool{prefix: prefix, base: keyOf(prefix.Addr()), top: prefix.Bits(), size: prefix.Addr().BitLen()}
	// That a pool of one address has a root without levels does no harm: nothing can be taken from it.
	p.end = p.size - (p.size-p.top-1)/pageLevels*pageLevels
	return p, nil
}

// withhold marks mapped as used, unless somebody took what contains it.
func (p *Pool) withhold() {
	if p.withholds && !p.withheld {
		p.withheld = p.mark(mapped) == nil
	}
}

// unwithhold undoes withhold until the function that it returns is called.
func (p *Pool) unwithhold() (again func()) {
	if p.withheld {
		// It was marked, so this cannot fail.
		_ = p.unmark(mapped)
		p.withheld = false
	}
	return p.withhold
}

// Prefix returns the prefix that the pool divides.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Find returns the block that a request for a prefix of length bits would get:
// the lowest part of the smallest free block that fits, and of several such
// blocks the one with the lowest address. This keeps large blocks whole. It
// does not take the block; Take of it succeeds.
//
// It returns false if no free block fits. A length not above Prefix().Bits(),
// or above the bits of an address, never fits: a pool does not give out itself.
func (p *Pool) Find(length int) (netip.Prefix, bool) {
	block, ok := p.FitBits(length)
	if !ok {
		return netip.Prefix{}, false
	}
	k := p.base
	if p.root == nil {
		return p.prefixOf(k, length), true
	}
	pg, top, end, want := p.root, p.top, p.end, only(block)
	for ; end < block; top, end = end, end+pageLevels {
		below, n := pg.below.list, 0
		rest := pg.below.slots
		for ; below[n].free.common(want).empty(); n++ {
			rest &= rest - 1
		}
		pg = &below[n]
		k = k.withSlot(bits.TrailingZeros64(rest), end)
	}
	return p.prefixOf(k.withSlot(pg.lowest(block, top, end), end), length), true
}

// FindExcept is Find as if some other prefixes were in use, too.
func (p *Pool) FindExcept(length int, except []netip.Prefix) (netip.Prefix, bool) {
	for _, prefix := range except {
		if p.Take(prefix) == nil {
			// It was taken, so this cannot fail.
			defer func() { _ = p.Release(prefix) }()
		}
	}
	return p.Find(length)
}

// FitBits returns the length of the free block that Find(bits) would cut from.
// It is at most bits, and the closer to bits the better the fit. In an empty
// pool it is Prefix().Bits(). It returns false where Find does.
func (p *Pool) FitBits(bits int) (blockBits int, ok bool) {
	if !p.inRange(bits) {
		return 0, false
	}
	if p.root == nil {
		return p.top, true
	}
	blockBits = p.root.free.atMost(bits)
	return blockBits, blockBits > 0
}

// Take marks exactly this prefix as used. The error wraps ErrInvalid if the
// prefix is invalid or has host bits set, else ErrOutside if it is not strictly
// inside Prefix(); it is an *InUseError if a prefix in use overlaps. The pool
// is unchanged on error.
//
// In a pool that covers the IPv4-mapped addresses, ::ffff:0:0/96 is in use from the
// start. What contains all of it can be taken all the same.
func (p *Pool) Take(prefix netip.Prefix) error {
	if p.withheld && prefix.IsValid() && covers(prefix) {
		// It is withheld again unless prefix was taken.
		defer p.unwithhold()()
	}
	if err := p.mark(prefix); err != nil {
		return err
	}
	p.len++
	p.counts[prefix.Bits()]++
	return nil
}

// mark is Take without the account.
func (p *Pool) mark(prefix netip.Prefix) error {
	k, bits := keyOf(prefix.Addr()), prefix.Bits()
	if !prefix.IsValid() || k.longer(bits) {
		return fmt.Errorf("%w: %s", ErrInvalid, prefix)
	}
	if !p.inside(prefix, k) {
		return fmt.Errorf("%w: %s in %s", ErrOutside, prefix, p.prefix)
	}
	if p.root == nil {
		p.root = &page{}
	}
	// Pages are made only once there is a slot that is free as a whole, and then nothing can be in the way.
	var path [maxPages]*page
	pg, n, made := p.root, 0, maxPages
	i, rest := k.slot(p.top, p.end), k.skip(p.end)
	last := p.depth(bits)
	for ; n < last; n++ {
		path[n] = pg
		below := pg.page(i)
		if below == nil {
			if pg.used&slot(i) != 0 {
				return p.inUse(prefix)
			}
			below, made = pg.insert(i), min(made, n)
		}
		pg = below
		i, rest = rest.next()
	}
	end := p.end + last*pageLevels
	slots := run(i, end-bits)
	if (pg.used|pg.divided())&slots != 0 {
		return p.inUse(prefix)
	}
	pg.used |= slots
	pg.start |= slot(i)
	was, is := pg.mendSlots(max(p.top, end-pageLevels), end)
	p.mend(&path, n-1, made, was, is)
	return nil
}

// depth returns how many pages there are between the root and that in which a
// prefix of length bits ends.
func (p *Pool) depth(bits int) int { return int(uint(bits-p.end+pageLevels-1) / pageLevels) }

// inUse returns the error for a prefix that overlaps one in use.
func (p *Pool) inUse(prefix netip.Prefix) error {
	holder, _ := p.Overlapping(prefix)
	return &InUseError{Holder: holder}
}

// mend brings up to date what the pages of a path have free, from the one at n
// up to the first one where nothing changes, after what the page below that one
// has free has changed. From path[changed] on the slots have changed, too.
func (p *Pool) mend(path *[maxPages]*page, n, changed int, was, is lengths) {
	for ; n >= 0 && was != is; n-- {
		pg := path[n]
		free := pg.free
		pg.mendBelow(was, is)
		if n >= changed {
			end := p.end + n*pageLevels
			pg.mendSlots(max(p.top, end-pageLevels), end)
		}
		was, is = free, pg.free
	}
}

// Release gives back a prefix that was taken. The error wraps ErrNotTaken if
// exactly this prefix is not taken, whatever it is; the pool is then unchanged.
func (p *Pool) Release(prefix netip.Prefix) error {
	if p.withheld && prefix == mapped {
		return notTaken(prefix)
	}
	if err := p.unmark(prefix); err != nil {
		return err
	}
	p.len--
	p.counts[prefix.Bits()]--
	if covers(prefix) {
		p.withhold()
	}
	return nil
}

// unmark is Release without the account.
func (p *Pool) unmark(prefix netip.Prefix) error {
	k, bits := keyOf(prefix.Addr()), prefix.Bits()
	if p.root == nil || !prefix.IsValid() || k.longer(bits) || !p.inside(prefix, k) {
		return notTaken(prefix)
	}
	var path [maxPages]*page
	pg, n := p.root, 0
	i, rest := k.slot(p.top, p.end), k.skip(p.end)
	last := p.depth(bits)
	for ; n < last; n++ {
		path[n] = pg
		if pg = pg.page(i); pg == nil {
			return notTaken(prefix)
		}
		i, rest = rest.next()
	}
	end := p.end + last*pageLevels
	// After its start, a prefix uses the slots that are no other's start.
	slots := run(i, end-bits)
	if pg.start&slot(i) == 0 || pg.used&^pg.start&(slots<<1) != slots&^slot(i) {
		return notTaken(prefix)
	}
	pg.used &^= slots
	pg.start &^= slot(i)
	if pg.empty() {
		path[n] = pg
		p.prune(&path, n, k)
		return nil
	}
	was, is := pg.mendSlots(max(p.top, end-pageLevels), end)
	p.mend(&path, n-1, maxPages, was, is)
	return nil
}

// prune removes the last page of a path to k, which is empty, and those that
// are empty without it.
func (p *Pool) prune(path *[maxPages]*page, n int, k key) {
	var gone lengths
	for pg := path[n]; pg.empty(); pg = path[n] {
		if n == 0 {
			p.root = nil
			return
		}
		gone = pg.free
		n--
		end := p.end + n*pageLevels
		path[n].remove(k.slot(max(p.top, end-pageLevels), end))
	}
	p.mend(path, n, n, gone, lengths{})
}

func notTaken(prefix netip.Prefix) error {
	return fmt.Errorf("%w: %s", ErrNotTaken, prefix)
}

// Overlapping returns a prefix in use that overlaps the one given: an equal
// one, an ancestor, or the one inside with the lowest address. The prefix given
// need not lie inside the pool, and its host bits are ignored. It returns false
// if there is none, or if the prefix is invalid. IPv4-mapped addresses that the pool
// does not give out are in use for a prefix inside ::ffff:0:0/96, but not for one around it.
func (p *Pool) Overlapping(prefix netip.Prefix) (netip.Prefix, bool) {
	if p.withheld && prefix.IsValid() && covers(prefix.Masked()) {
		defer p.unwithhold()()
	}
	if p.root == nil || !p.prefix.Overlaps(prefix) {
		return netip.Prefix{}, false
	}
	length := prefix.Bits()
	to := keyOf(prefix.Masked().Addr())
	k, pg := p.base, p.root
	for top, end := p.top, p.end; ; top, end = end, end+pageLevels {
		// Once the prefix is larger than the page, it is the lowest one in the page.
		i, slots := 0, ^uint64(0)
		if length > top {
			i = to.slot(top, end)
			slots = run(i, max(end-length, 0))
		}
		if pg.used&slot(i) != 0 {
			// What uses the slot may start before it.
			i = bits.Len64(pg.start&(slot(i)<<1-1)) - 1
		} else if i = bits.TrailingZeros64((pg.used | pg.divided()) & slots); i == 64 {
			return netip.Prefix{}, false
		}
		k = k.withSlot(i, end)
		if pg.used&slot(i) != 0 {
			return p.prefixOf(k, end-pg.levels(i)), true
		}
		pg = pg.page(i)
	}
}

// Len returns the number of prefixes taken.
func (p *Pool) Len() int { return p.len }

// All returns the prefixes in use, in the order of their addresses. The pool
// must not change during the iteration.
func (p *Pool) All() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		if p.root == nil {
			return
		}
		if p.withheld {
			each := yield
			yield = func(prefix netip.Prefix) bool { return prefix == mapped || each(prefix) }
		}
		p.all(p.root, p.base, p.end, yield)
	}
}

// all yields the prefixes in use in a page, whose block is at k. It returns
// false once yield does.
func (p *Pool) all(pg *page, k key, end int, yield func(netip.Prefix) bool) bool {
	divided := pg.divided()
	for rest := pg.start | divided; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		at, next := k.withSlot(i, end), true
		if divided&slot(i) != 0 {
			next = p.all(pg.page(i), at, end+pageLevels, yield)
		} else {
			next = yield(p.prefixOf(at, end-pg.levels(i)))
		}
		if !next {
			return false
		}
	}
	return true
}

// LargestFree returns the length of the largest block that Find could give
// out, which is the smallest length for which it finds one. In an empty pool
// this is Prefix().Bits()+1. It returns false if there is no such block: the
// pool is used in full, or its prefix is a single address.
func (p *Pool) LargestFree() (bits int, ok bool) {
	if p.root == nil {
		bits = p.top + 1
		return bits, p.inRange(bits)
	}
	bits = p.root.free.smallest()
	return bits, bits > 0
}

// UsedAddresses returns the exact number of addresses in the prefixes taken.
// The caller owns the result.
func (p *Pool) UsedAddresses() *big.Int {
	sum := new(big.Int)
	for bits, count := range p.counts {
		if count > 0 {
			n := big.NewInt(int64(count))
			sum.Add(sum, n.Lsh(n, uint(p.prefix.Addr().BitLen()-bits)))
		}
	}
	return sum
}

// FreeAddresses returns the exact number of addresses that can still be given out.
// The caller owns the result.
func (p *Pool) FreeAddresses() *big.Int {
	free := p.TotalAddresses()
	free.Sub(free, p.UsedAddresses())
	if p.withheld {
		free.Sub(free, big.NewInt(1<<32))
	}
	return free
}

// FreeAddresses128 returns FreeAddresses as a number of 128 bits, without allocating
// memory. Of 2^128 addresses it returns one less.
func (p *Pool) FreeAddresses128() (hi, lo uint64) {
	add := func(n int, shift int) {
		if shift >= 64 {
			hi += uint64(n) << uint(shift-64)
			return
		}
		var carry uint64
		lo, carry = bits.Add64(lo, uint64(n)<<uint(shift), 0)
		hi += uint64(n)>>(64-uint(shift)) + carry
	}
	for length := p.top + 1; length <= p.size; length++ {
		if count := p.counts[length]; count > 0 {
			add(count, p.size-length)
		}
	}
	if p.withheld {
		add(1, 32)
	}
	// What is used is taken from the total, modulo 2^128.
	var totalHi, totalLo, borrow uint64
	switch shift := p.size - p.top; {
	case !p.prefix.IsValid():
	case shift == 128 && p.root == nil:
		return ^uint64(0), ^uint64(0)
	case shift == 128:
	case shift >= 64:
		totalHi = 1 << uint(shift-64)
	default:
		totalLo = 1 << uint(shift)
	}
	lo, borrow = bits.Sub64(totalLo, lo, 0)
	hi, _ = bits.Sub64(totalHi, hi, borrow)
	return hi, lo
}

// TotalAddresses returns the exact number of addresses in Prefix(), used or
// not. The caller owns the result.
func (p *Pool) TotalAddresses() *big.Int {
	if !p.prefix.IsValid() {
		return new(big.Int)
	}
	n := big.NewInt(1)
	return n.Lsh(n, uint(p.prefix.Addr().BitLen()-p.prefix.Bits()))
}

// Summary returns the addresses in use as the fewest CIDRs, in the order of
// their addresses; a pool that is used in full yields Prefix(). It returns the
// first max of them, none if max is not positive, and whether there were more.
// Its time grows with the CIDRs returned, not with the prefixes taken.
func (p *Pool) Summary(max int) (cidrs []netip.Prefix, truncated bool) {
	defer p.unwithhold()()
	yield := func(cidr netip.Prefix) bool {
		if len(cidrs) >= max {
			truncated = true
			return false
		}
		cidrs = append(cidrs, cidr)
		return true
	}
	switch {
	case p.root == nil:
	case p.root.free.empty():
		yield(p.prefix)
	default:
		p.summary(p.root, p.base, p.end, yield)
	}
	return cidrs, truncated
}

// summary yields the addresses in use in a page that is not used in full, whose
// block is at k. It returns false once yield does.
func (p *Pool) summary(pg *page, k key, end int, yield func(netip.Prefix) bool) bool {
	full, divided := pg.used, pg.divided()
	for rest := divided; rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros64(rest); pg.page(i).free.empty() {
			full |= slot(i)
		}
	}
	for rest := full | divided; rest != 0; {
		i := bits.TrailingZeros64(rest)
		at := k.withSlot(i, end)
		if full&slot(i) == 0 {
			if !p.summary(pg.page(i), at, end+pageLevels, yield) {
				return false
			}
			rest &^= slot(i)
			continue
		}
		// The block grows as long as it is aligned and its other half is used.
		length, slots := end, slot(i)
		for starts[end-length+1]&slot(i) != 0 && full&run(i, end-length+1) == run(i, end-length+1) {
			length--
			slots = run(i, end-length)
		}
		if !yield(p.prefixOf(at, length)) {
			return false
		}
		rest &^= slots
	}
	return true
}

// inside reports whether a valid prefix, whose address is k, lies strictly
// inside the pool.
func (p *Pool) inside(prefix netip.Prefix, k key) bool {
	return prefix.Addr().BitLen() == p.size && prefix.Bits() > p.top && k.within(p.base, p.top)
}

// inRange reports whether a prefix strictly inside the pool can have length bits.
func (p *Pool) inRange(bits int) bool {
	return bits > p.top && bits <= p.size
}

func (p *Pool) prefixOf(k key, bits int) netip.Prefix {
	return netip.PrefixFrom(k.addr(p.size == 32), bits)
}
