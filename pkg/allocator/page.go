// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"math/bits"
	"slices"
)

const (
	// pageLevels is how many levels of the trie, bits of an address, a page
	// has, so that there is one bit of a word for each of its slots.
	pageLevels = 6
	// maxPages is how many pages there are from the root to an address.
	maxPages = (128 + pageLevels - 1) / pageLevels
)

// page is a node of a trie: the block of length top, divided into slots, which
// are the blocks of length end in it. Pages end where the addresses end and
// every pageLevels before that, so that addresses share full pages; only the
// root may have fewer levels. A page does not know where it is: top and end are
// told to its methods.
//
// A page is never free as a whole. Without any free length, it is used in full.
type page struct {
	// used has the slots of the prefixes taken whose lengths are above top and
	// at most end, and start the first slot of each. Such a prefix extends to
	// the next start, or to the next slot that is not used.
	used, start uint64
	// free has the lengths of the largest aligned free blocks in the page,
	// those that are not part of a larger free block. Those of at most end are
	// made of slots, those above lie in the pages below.
	free lengths
	// below is nil if no slot has a page, as it is with addresses.
	below *pages
}

// pages are those of the slots of a page that are neither free nor used by one
// prefix, in order.
type pages struct {
	slots uint64
	// several has all the free lengths that more than one of the pages has. It
	// may have others, that more than one of them once had.
	several lengths
	list    []page
}

// slot returns the bit of a slot.
func slot(i int) uint64 { return 1 << (uint(i) % 64) }

// blocks has, for each number of levels, the slots of the first block that is
// so much shorter than a slot.
var blocks = [pageLevels + 1]uint64{1, 1<<2 - 1, 1<<4 - 1, 1<<8 - 1, 1<<16 - 1, 1<<32 - 1, 1<<64 - 1}

// run returns the slots of the block of so many levels at slot i.
func run(i, levels int) uint64 { return blocks[levels] << (uint(i) % 64) }

// divided returns the slots that have a page.
func (pg *page) divided() uint64 {
	if pg.below == nil {
		return 0
	}
	return pg.below.slots
}

// vacant returns the slots that are free as a whole.
func (pg *page) vacant(top, end int) uint64 {
	return blocks[end-top] &^ (pg.used | pg.divided())
}

// starts has, for each number of levels, the slots at which a block can begin.
var starts = [pageLevels + 1]uint64{
	1<<64 - 1, 0x5555555555555555, 0x1111111111111111, 0x0101010101010101, 0x0001000100010001, 0x0000000100000001, 1,
}

// merge takes free blocks of so many levels, given by their first slots. It
// returns the pairs that make up a larger one, and those of which only one half
// is free, given by the first slots of the first half. What free and pairs have
// at slots where no block can begin means nothing.
func merge(free uint64, levels int) (pairs, halves uint64) {
	second := free >> (1 << (uint(levels) % 8))
	return free & second, (free ^ second) & starts[levels+1]
}

// flag returns 1 for anything but 0.
func flag(x uint64) uint64 {
	if x == 0 {
		return 0
	}
	return 1
}

// lowest returns the first slot of the lowest of the largest free blocks that
// have the given length, at most end. There must be one.
func (pg *page) lowest(length, top, end int) int {
	free, levels := pg.vacant(top, end), 0
	for ; end-levels > length; levels++ {
		free, _ = merge(free, levels)
	}
	_, halves := merge(free, levels)
	i := bits.TrailingZeros64(halves)
	if free&slot(i) == 0 {
		i += 1 << levels // it is the second half
	}
	return i
}

// mendSlots brings up to date what of free is made of slots, and returns what
// free was and is.
func (pg *page) mendSlots(top, end int) (was, is lengths) {
	// Written out, because a loop is slower.
	pairs, halves0 := merge(pg.vacant(top, end), 0)
	pairs, halves1 := merge(pairs, 1)
	pairs, halves2 := merge(pairs, 2)
	pairs, halves3 := merge(pairs, 3)
	pairs, halves4 := merge(pairs, 4)
	_, halves5 := merge(pairs, 5)
	found := flag(halves0)<<5 | flag(halves1)<<4 | flag(halves2)<<3 | flag(halves3)<<2 | flag(halves4)<<1 | flag(halves5)
	was = pg.free
	is = was.above(end).union(lengthsAfter(top, found>>(uint(top+pageLevels-end)%64)))
	pg.free = is
	return was, is
}

// mendBelow brings up to date what of free lies in the pages below, once one of
// them has changed what it has free.
func (pg *page) mendBelow(was, is lengths) {
	added, removed := is.without(was), was.without(is)
	if pg.below == nil {
		pg.free = pg.free.without(removed)
		return
	}
	several := pg.below.several.union(added.common(pg.free))
	// What only one page had is gone with it. Of the rest, it shows who else has it.
	if doubt := removed.common(several); !doubt.empty() {
		var one, two lengths
		for i := range pg.below.list {
			l := pg.below.list[i].free
			one, two = one.union(l), two.union(one.common(l))
			if doubt.without(two).empty() {
				break
			}
		}
		several = several.without(doubt.without(two))
		removed = removed.without(one)
	}
	pg.below.several = several
	pg.free = pg.free.union(added).without(removed)
}

// page returns the page of a slot, or nil if it has none.
func (pg *page) page(i int) *page {
	ps := pg.below
	if ps == nil || ps.slots&slot(i) == 0 {
		return nil
	}
	return &ps.list[ps.index(i)]
}

// index returns how many slots before the given one have a page.
func (ps *pages) index(i int) int { return bits.OnesCount64(ps.slots & (slot(i) - 1)) }

// insert adds a page to a slot that has none, and returns it. It moves the
// pages below.
func (pg *page) insert(i int) *page {
	if pg.below == nil {
		pg.below = &pages{}
	}
	ps := pg.below
	n := ps.index(i)
	ps.slots |= slot(i)
	ps.list = slices.Insert(ps.list, n, page{})
	return &ps.list[n]
}

// remove removes the page of a slot. It moves the pages below.
func (pg *page) remove(i int) {
	ps := pg.below
	n := ps.index(i)
	if ps.slots &^= slot(i); ps.slots == 0 {
		pg.below = nil
		return
	}
	ps.list = slices.Delete(ps.list, n, n+1)
	if cap(ps.list) >= 4*len(ps.list) {
		// What was used densely once shall not need its memory for ever.
		ps.list = append(make([]page, 0, 2*len(ps.list)), ps.list...)
	}
}

// empty reports whether nothing is taken.
func (pg *page) empty() bool { return pg.used == 0 && pg.below == nil }

// levels returns how many bits shorter than a slot the prefix is that starts
// at slot i.
func (pg *page) levels(i int) int {
	ends := (pg.start | ^pg.used) >> i >> 1
	return bits.Len(uint(min(bits.TrailingZeros64(ends)+1, 64-i))) - 1
}
