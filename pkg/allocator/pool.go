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

// Pool is the free-space index of one prefix. Create it with New. A zero Pool has no free space. A Pool is not safe for
// concurrent use.
//
// The time of every method except All, Summary and Reserve depends only on the number of bits in an address, not on the
// number of prefixes in use. Take and Release of a prefix with reserved prefixes inside also depend on their number.
type Pool struct {
	prefix netip.Prefix
	base   key
	// top is the length of prefix, end the length of the slots of the root page, and size the length of an address, all
	// in bits.
	top, end, size int
	// root is nil if no prefix is in use.
	root *page
	len  int
	// counts[n] is the number of taken prefixes of length n. Prefixes never overlap, so the number of used addresses
	// follows from counts.
	counts [129]int
	// withholds is set if the pool must not give out mapped. withheld is set while mapped is marked as used although
	// nobody took it.
	withholds, withheld bool
	// open is nil if nothing is reserved. See Reserve.
	open *open
}

// mapped is the block of the IPv4-mapped addresses (RFC 4291, section 2.5.5.2). These stand for IPv4 addresses, so an
// IPv6 pool that contains the block does not give them out.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// covers reports whether a prefix contains mapped and is larger.
func covers(prefix netip.Prefix) bool {
	return prefix.Bits() < mapped.Bits() && prefix.Contains(mapped.Addr())
}

// New returns a pool in which all of prefix is free. The error wraps ErrInvalid if the prefix is invalid, has host bits
// set, or is an IPv4-mapped IPv6 prefix. The last is most likely an IPv4 prefix in the wrong notation. If prefix
// contains ::ffff:0:0/96, that block is in use from the start.
func New(prefix netip.Prefix) (*Pool, error) {
	p, err := newPool(prefix)
	if err != nil {
		return nil, err
	}
	p.withholds = covers(prefix)
	p.withhold()
	return p, nil
}

// newPool is like New, but the pool gives out IPv4-mapped addresses like any others.
func newPool(prefix netip.Prefix) (*Pool, error) {
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, prefix)
	}
	p := &Pool{prefix: prefix, base: keyOf(prefix.Addr()), top: prefix.Bits(), size: prefix.Addr().BitLen()}
	// In a pool of a single address, the root page would have no levels. It is never created, because nothing can be
	// taken from such a pool.
	p.end = p.size - (p.size-p.top-1)/pageLevels*pageLevels
	return p, nil
}

// withhold marks mapped as used, unless a prefix that overlaps it is taken.
func (p *Pool) withhold() {
	if p.withholds && !p.withheld {
		p.withheld = p.mark(mapped) == nil
	}
}

// unwithhold undoes withhold. The caller must call again afterwards.
func (p *Pool) unwithhold() (again func()) {
	if p.withheld {
		// withhold marked it, so this cannot fail.
		_ = p.unmark(mapped)
		p.withheld = false
	}
	return p.withhold
}

// Prefix returns the prefix that the pool manages.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Find returns a free prefix of the given length, in bits. It cuts the prefix from the lower end of the smallest free
// block that is large enough. Among blocks of the same size it uses the one with the lowest address. This best-fit
// strategy keeps large blocks free. Find does not take the prefix. A subsequent Take of it succeeds.
//
// It returns false if no free block is large enough, if length is not greater than Prefix().Bits(), or if it is greater
// than the length of an address. The prefix of the pool itself cannot be allocated from it.
func (p *Pool) Find(length int) (netip.Prefix, bool) {
	choice := p.choice()
	block, ok := choice.fitBits(length)
	if !ok {
		return netip.Prefix{}, false
	}
	return choice.lowestOf(block, length), true
}

// FindSpread is like Find, but cuts from the largest free block. So children lie apart, and each has free space next to
// it as long as there is some.
func (p *Pool) FindSpread(length int) (netip.Prefix, bool) {
	choice := p.choice()
	if _, ok := choice.fitBits(length); !ok {
		return netip.Prefix{}, false
	}
	if choice.root == nil {
		return choice.prefixOf(choice.base, length), true
	}
	return choice.lowestOf(choice.root.free.smallest(), length), true
}

// randomTries is how many places FindRandom tries before it takes one of the largest free block.
const randomTries = 32

// FindRandom is like Find, but returns a random free prefix. random returns random bits. In a pool with little free space,
// where a few random places are all in use, it returns a random part of the first of the largest free blocks.
func (p *Pool) FindRandom(length int, random func() uint64) (netip.Prefix, bool) {
	choice := p.choice()
	if _, ok := choice.fitBits(length); !ok {
		return netip.Prefix{}, false
	}
	// part returns a random prefix of the length in a block.
	part := func(block netip.Prefix) netip.Prefix {
		offset := key{random(), random()}.cut(block.Bits(), length)
		base := keyOf(block.Addr())
		return p.prefixOf(key{base.hi | offset.hi, base.lo | offset.lo}, length)
	}
	for range randomTries {
		found := part(p.prefix)
		if _, inUse := choice.Overlapping(found); !inUse && !(choice.withheld && covers(found)) {
			return found, true
		}
	}
	if choice.root == nil {
		return part(p.prefix), true
	}
	largest := choice.root.free.smallest()
	return part(choice.lowestOf(largest, largest)), true
}

// lowestOf returns the first prefix of a length in the lowest of the free blocks of length block. There must be one.
func (p *Pool) lowestOf(block, length int) netip.Prefix {
	k := p.base
	if p.root == nil {
		return p.prefixOf(k, length)
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
	return p.prefixOf(k.withSlot(pg.lowest(block, top, end), end), length)
}

// FindExcept calls find, which must be Find or a method like it, but treats the prefixes in except as if they were in use.
func (p *Pool) FindExcept(length int, except []netip.Prefix, find func(length int) (netip.Prefix, bool)) (netip.Prefix, bool) {
	for _, prefix := range except {
		if p.Take(prefix) == nil {
			// It was taken above, so this cannot fail.
			defer func() { _ = p.Release(prefix) }()
		}
	}
	return find(length)
}

// FitBits returns the length of the free block from which Find(bits) would cut. It is at most bits. The closer it is to
// bits, the better the fit. In an empty pool it is Prefix().Bits(). FitBits returns false if Find does.
func (p *Pool) FitBits(bits int) (blockBits int, ok bool) { return p.choice().fitBits(bits) }

// fitBits is FitBits without regard to reserved space.
func (p *Pool) fitBits(bits int) (blockBits int, ok bool) {
	if !p.inRange(bits) {
		return 0, false
	}
	if p.root == nil {
		return p.top, true
	}
	blockBits = p.root.free.atMost(bits)
	return blockBits, blockBits > 0
}

// Take marks a prefix as used. On error the pool is unchanged. The error wraps ErrInvalid if the prefix is invalid or
// has host bits set, and ErrOutside if it is not strictly inside Prefix(). It is an *InUseError if a prefix in use
// overlaps.
//
// In a pool that contains the IPv4-mapped addresses, ::ffff:0:0/96 is in use from the start. A larger prefix that
// contains this block can be taken nevertheless.
func (p *Pool) Take(prefix netip.Prefix) error {
	if p.withheld && prefix.IsValid() && covers(prefix) {
		// The deferred call withholds mapped again, unless prefix was taken.
		defer p.unwithhold()()
	}
	if err := p.mark(prefix); err != nil {
		return err
	}
	p.len++
	p.counts[prefix.Bits()]++
	if choice := p.choice(); choice != p {
		p.open.taken(prefix)
	}
	return nil
}

// mark is Take without the update of len and counts.
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
	// A page is only inserted into a slot that is entirely free. No prefix in use can overlap then, so mark never fails
	// after it has inserted a page.
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

// depth returns how many pages below the root the page is in which a prefix of the given length ends.
func (p *Pool) depth(bits int) int { return int(uint(bits-p.end+pageLevels-1) / pageLevels) }

// inUse returns the error for a prefix that overlaps a prefix in use.
func (p *Pool) inUse(prefix netip.Prefix) error {
	holder, _ := p.Overlapping(prefix)
	return &InUseError{Holder: holder}
}

// mend updates the free lengths of the pages in path, from path[n] up to the root. It stops at the first page whose
// free lengths do not change. was and is are the free lengths of the page below path[n] before and after the change.
// The slots of path[changed] and of all pages below it have changed, too.
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

// Release frees a taken prefix. If exactly this prefix is not taken, the error wraps ErrNotTaken and the pool is
// unchanged. This includes invalid prefixes.
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
	if choice := p.choice(); choice != p {
		p.open.released(p, prefix)
	}
	return nil
}

// unmark is Release without the update of len and counts.
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
	// Check that exactly this prefix is taken: it starts at slot i, and its other slots are used but are not starts.
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

// prune removes path[n], the last page on the path to k, which must be empty. It also removes the ancestors that become
// empty.
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

// Overlapping returns a prefix in use that overlaps the given one: an equal one, one that contains it, or the one
// inside it with the lowest address. It returns false if there is none or the given prefix is invalid. The given prefix
// may lie outside the pool. Its host bits are ignored.
//
// If the pool does not give out IPv4-mapped addresses, ::ffff:0:0/96 counts as in use for prefixes inside this block,
// but not for larger prefixes that contain it.
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
		// If the prefix contains the whole page, the result is the lowest prefix in use in the page.
		i, slots := 0, ^uint64(0)
		if length > top {
			i = to.slot(top, end)
			slots = run(i, max(end-length, 0))
		}
		if pg.used&slot(i) != 0 {
			// The prefix that uses slot i may start in an earlier slot.
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

// All returns the taken prefixes, sorted by address. The pool must not change during the iteration.
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

// all yields the prefixes in use in a page whose block starts at k. It returns false as soon as yield does.
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

// LargestFree returns the length of the largest prefix that can be taken, in bits. This is the smallest length for
// which Find succeeds. In an empty pool it is Prefix().Bits()+1. It returns false if nothing can be taken, because the
// pool is full or its prefix is a single address.
func (p *Pool) LargestFree() (bits int, ok bool) {
	p = p.choice()
	if p.root == nil {
		bits = p.top + 1
		return bits, p.inRange(bits)
	}
	bits = p.root.free.smallest()
	return bits, bits > 0
}

// UsedAddresses returns the exact number of addresses in the taken prefixes. The caller owns the result.
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

// FreeAddresses returns the exact number of addresses that are neither in use nor reserved. The caller owns the result.
func (p *Pool) FreeAddresses() *big.Int { return p.choice().freeAddresses() }

// freeAddresses is FreeAddresses without regard to reserved space.
func (p *Pool) freeAddresses() *big.Int {
	free := p.TotalAddresses()
	free.Sub(free, p.UsedAddresses())
	if p.withheld {
		free.Sub(free, big.NewInt(1<<32))
	}
	return free
}

// FreeAddresses128 returns the result of FreeAddresses as a 128-bit number, without allocating memory. If 2^128
// addresses are free, it returns 2^128-1.
func (p *Pool) FreeAddresses128() (hi, lo uint64) {
	p = p.choice()
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
	// Subtract the used addresses from the total, modulo 2^128. A total of 2^128 is represented as 0.
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

// TotalAddresses returns the exact number of addresses in Prefix(), used or free. The caller owns the result.
func (p *Pool) TotalAddresses() *big.Int {
	if !p.prefix.IsValid() {
		return new(big.Int)
	}
	n := big.NewInt(1)
	return n.Lsh(n, uint(p.prefix.Addr().BitLen()-p.prefix.Bits()))
}

// Summary returns the smallest list of CIDRs that covers exactly the addresses in use, sorted by address. For a full
// pool this is Prefix(). It returns at most max CIDRs, and none if max is not positive. truncated is set if there are
// more. The time is proportional to the number of returned CIDRs, not to the number of taken prefixes.
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

// summary yields the CIDRs in use in a page that is not full and whose block starts at k. It returns false as soon as
// yield does.
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
		// Double the block while the larger block is aligned and its other half is also full.
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

// inside reports whether a valid prefix lies strictly inside the pool. k is the address of the prefix.
func (p *Pool) inside(prefix netip.Prefix, k key) bool {
	return prefix.Addr().BitLen() == p.size && prefix.Bits() > p.top && k.within(p.base, p.top)
}

// inRange reports whether a prefix strictly inside the pool can have the given length.
func (p *Pool) inRange(bits int) bool {
	return bits > p.top && bits <= p.size
}

func (p *Pool) prefixOf(k key, bits int) netip.Prefix {
	return netip.PrefixFrom(k.addr(p.size == 32), bits)
}
