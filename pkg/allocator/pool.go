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
	// at is the place of the root page: at.top is the length of prefix. size is the length of an address.
	at   place
	size int
	// root is nil if no prefix is in use.
	root *page
	len  int
	// counts[n] is the number of taken prefixes of length n. Prefixes never overlap, so the number of used addresses
	// follows from counts.
	counts [129]int
	// hidesMapped is set if the pool must not give out mapped. mappedHidden is set while mapped is marked as used although
	// nobody took it.
	hidesMapped, mappedHidden bool
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
	p.hidesMapped = covers(prefix)
	p.hideMapped()
	return p, nil
}

// newPool is like New, but the pool gives out IPv4-mapped addresses like any others.
func newPool(prefix netip.Prefix) (*Pool, error) {
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, prefix)
	}
	p := &Pool{prefix: prefix, base: keyOf(prefix.Addr()), size: prefix.Addr().BitLen()}
	// In a pool of a single address, the root page would have no levels. It is never created, because nothing can be
	// taken from such a pool.
	p.at = place{top: prefix.Bits(), end: p.size - (p.size-prefix.Bits()-1)/pageLevels*pageLevels}
	return p, nil
}

// hideMapped marks mapped as used, unless a prefix that overlaps it is taken.
func (p *Pool) hideMapped() {
	if p.hidesMapped && !p.mappedHidden {
		p.mappedHidden = p.mark(mapped) == nil
	}
}

// showMapped undoes hideMapped.
func (p *Pool) showMapped() {
	if p.mappedHidden {
		p.mappedHidden = !p.unmark(mapped)
	}
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
		if _, inUse := choice.Overlapping(found); !inUse && !(choice.mappedHidden && covers(found)) {
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
	pg, at := p.root, p.at
	for ; at.end < block; at = at.below() {
		i, child := pg.descend(block)
		pg, k = child, k.withSlot(i, at.end)
	}
	return p.prefixOf(k.withSlot(pg.lowest(block, at), at.end), length)
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
		return p.at.top, true
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
	if p.mappedHidden && prefix.IsValid() && covers(prefix) {
		p.showMapped()
		defer p.hideMapped() // does nothing if prefix was taken
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
	if !p.root.take(k, bits, p.at) {
		inUse, _ := p.Overlapping(prefix)
		return &InUseError{Prefix: inUse}
	}
	return nil
}

// Release frees a taken prefix. If exactly this prefix is not taken, the error wraps ErrNotTaken and the pool is
// unchanged. This includes invalid prefixes.
func (p *Pool) Release(prefix netip.Prefix) error {
	if p.mappedHidden && prefix == mapped || !p.unmark(prefix) {
		return fmt.Errorf("%w: %s", ErrNotTaken, prefix)
	}
	p.len--
	p.counts[prefix.Bits()]--
	p.hideMapped()
	if choice := p.choice(); choice != p {
		p.open.released(p, prefix)
	}
	return nil
}

// unmark is Release without the update of len and counts. It returns false if exactly this prefix is not in use.
func (p *Pool) unmark(prefix netip.Prefix) bool {
	k, bits := keyOf(prefix.Addr()), prefix.Bits()
	if p.root == nil || !prefix.IsValid() || k.longer(bits) || !p.inside(prefix, k) || !p.root.release(k, bits, p.at) {
		return false
	}
	if p.root.empty() {
		p.root = nil
	}
	return true
}

// Overlapping returns a prefix in use that overlaps the given one: an equal one, one that contains it, or the one
// inside it with the lowest address. It returns false if there is none or the given prefix is invalid. The given prefix
// may lie outside the pool. Its host bits are ignored.
//
// If the pool does not give out IPv4-mapped addresses, ::ffff:0:0/96 counts as in use for prefixes inside this block,
// but not for larger prefixes that contain it.
func (p *Pool) Overlapping(prefix netip.Prefix) (netip.Prefix, bool) {
	if p.mappedHidden && prefix.IsValid() && covers(prefix.Masked()) {
		p.showMapped()
		defer p.hideMapped()
	}
	if p.root == nil || !p.prefix.Overlaps(prefix) {
		return netip.Prefix{}, false
	}
	length := prefix.Bits()
	to := keyOf(prefix.Masked().Addr())
	k, pg := p.base, p.root
	for at := p.at; ; at = at.below() {
		// If the prefix contains the whole page, the result is the lowest prefix in use in the page.
		i, slots := 0, ^uint64(0)
		if length > at.top {
			i = at.slot(to)
			slots = run(i, max(at.end-length, 0))
		}
		if pg.used&slot(i) != 0 {
			// The prefix that uses slot i may start in an earlier slot.
			i = bits.Len64(pg.start&(slot(i)<<1-1)) - 1
		} else if i = bits.TrailingZeros64((pg.used | pg.divided()) & slots); i == 64 {
			return netip.Prefix{}, false
		}
		k = k.withSlot(i, at.end)
		if pg.used&slot(i) != 0 {
			return p.prefixOf(k, at.end-pg.levels(i)), true
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
		if p.mappedHidden {
			each := yield
			yield = func(prefix netip.Prefix) bool { return prefix == mapped || each(prefix) }
		}
		p.all(p.root, p.base, p.at.end, yield)
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
		bits = p.at.top + 1
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
	if p.mappedHidden {
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
	for length := p.at.top + 1; length <= p.size; length++ {
		if count := p.counts[length]; count > 0 {
			add(count, p.size-length)
		}
	}
	if p.mappedHidden {
		add(1, 32)
	}
	// Subtract the used addresses from the total, modulo 2^128. A total of 2^128 is represented as 0.
	var totalHi, totalLo, borrow uint64
	switch shift := p.size - p.at.top; {
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
	p.showMapped()
	defer p.hideMapped()
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
		p.summary(p.root, p.base, p.at.end, yield)
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
	return prefix.Addr().BitLen() == p.size && prefix.Bits() > p.at.top && k.within(p.base, p.at.top)
}

// inRange reports whether a prefix strictly inside the pool can have the given length.
func (p *Pool) inRange(bits int) bool {
	return bits > p.at.top && bits <= p.size
}

func (p *Pool) prefixOf(k key, bits int) netip.Prefix {
	return netip.PrefixFrom(k.addr(p.size == 32), bits)
}
