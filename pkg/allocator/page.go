// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"math/bits"
	"slices"
)

const (
	// pageLevels is the number of address bits, and so of trie levels, that a page spans. With 6 levels a page has 64
	// slots, one for each bit of a word.
	pageLevels = 6
	// maxPages is the maximum number of pages on the path from the root to an address.
	maxPages = (128 + pageLevels - 1) / pageLevels
)

// page is a node of the trie. It stands for a block of length top and divides it into slots, which are the blocks of
// length end inside it. The last page on a path ends at the length of an address, and each page above it ends
// pageLevels bits earlier. So only the root may span fewer levels. A page does not store its position: top and end are
// parameters of its methods.
//
// Each page contains at least one prefix in use. A page with no free lengths is full.
type page struct {
	// used is the set of slots in use by prefixes whose lengths are above top and at most end. start is the set of the
	// first slots of these prefixes. Such a prefix extends to the next start or the next unused slot.
	used, start uint64
	// free is the set of the lengths of the maximal free blocks: aligned free blocks that are not part of a larger free
	// block. Blocks with lengths of at most end consist of slots. Longer ones are in the pages below.
	free lengths
	// below is nil if no slot has a page. It is always nil if the slots are single addresses.
	below *pages
}

// pages holds the child pages of a page. A slot has a child page if it is neither entirely free nor used by a single
// prefix. slots is the set of these slots, and list holds their pages in the order of the slots.
type pages struct {
	slots uint64
	// several is a superset of the lengths that are free in more than one of the pages. It may include lengths for
	// which this was true only earlier.
	several lengths
	list    []page
}

// slot returns the bit of slot i.
func slot(i int) uint64 { return 1 << (uint(i) % 64) }

// blocks[n] is the set of slots of a block of n levels that starts at slot 0. A block of n levels has 2^n slots, and
// its prefix is n bits shorter than a slot.
var blocks = [pageLevels + 1]uint64{1, 1<<2 - 1, 1<<4 - 1, 1<<8 - 1, 1<<16 - 1, 1<<32 - 1, 1<<64 - 1}

// run returns the set of slots of a block that starts at slot i and has the given number of levels.
func run(i, levels int) uint64 { return blocks[levels] << (uint(i) % 64) }

// divided returns the set of slots that have a child page.
func (pg *page) divided() uint64 {
	if pg.below == nil {
		return 0
	}
	return pg.below.slots
}

// vacant returns the set of slots that are entirely free.
func (pg *page) vacant(top, end int) uint64 {
	return blocks[end-top] &^ (pg.used | pg.divided())
}

// starts[n] is the set of slots at which a block of n levels can start.
var starts = [pageLevels + 1]uint64{
	1<<64 - 1, 0x5555555555555555, 0x1111111111111111, 0x0101010101010101, 0x0001000100010001, 0x0000000100000001, 1,
}

// merge combines free blocks of the given number of levels into blocks of one level more. free is the set of the first
// slots of the free blocks. pairs is the set of the larger blocks of which both halves are free, and halves the set of
// those of which exactly one half is free. Both are given by the first slots of the larger blocks. In free and pairs,
// bits of slots at which no block of that size can start have no meaning.
func merge(free uint64, levels int) (pairs, halves uint64) {
	second := free >> (1 << (uint(levels) % 8))
	return free & second, (free ^ second) & starts[levels+1]
}

// flag returns 0 for 0, and 1 for all other numbers.
func flag(x uint64) uint64 {
	if x == 0 {
		return 0
	}
	return 1
}

// lowest returns the first slot of the lowest maximal free block of the given length, which is at most end. There must
// be such a block.
func (pg *page) lowest(length, top, end int) int {
	free, levels := pg.vacant(top, end), 0
	for ; end-levels > length; levels++ {
		free, _ = merge(free, levels)
	}
	_, halves := merge(free, levels)
	i := bits.TrailingZeros64(halves)
	if free&slot(i) == 0 {
		i += 1 << levels // the second half is free
	}
	return i
}

// mendSlots recomputes the part of free that depends on the slots, which is the lengths up to end. It returns free
// before and after the change.
func (pg *page) mendSlots(top, end int) (was, is lengths) {
	// The loop is unrolled for speed.
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

// mendBelow updates the part of free that depends on the child pages, after the free lengths of one of them changed
// from was to is.
func (pg *page) mendBelow(was, is lengths) {
	added, removed := is.without(was), was.without(is)
	if pg.below == nil {
		pg.free = pg.free.without(removed)
		return
	}
	several := pg.below.several.union(added.common(pg.free))
	// A length that is not in several was free in the changed page only, so it is no longer free here. For the other
	// removed lengths, count the pages in which they are still free: one collects the lengths that are free in at least
	// one page, two those that are free in at least two.
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

// page returns the child page of a slot, or nil if it has none.
func (pg *page) page(i int) *page {
	ps := pg.below
	if ps == nil || ps.slots&slot(i) == 0 {
		return nil
	}
	return &ps.list[ps.index(i)]
}

// index returns the position in list of the page of slot i: the number of earlier slots that have a page.
func (ps *pages) index(i int) int { return bits.OnesCount64(ps.slots & (slot(i) - 1)) }

// insert adds a child page to a slot that has none, and returns it. It moves the other child pages in memory, so
// pointers to them become invalid.
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

// remove removes the child page of a slot. It moves the other child pages in memory, so pointers to them become
// invalid.
func (pg *page) remove(i int) {
	ps := pg.below
	n := ps.index(i)
	if ps.slots &^= slot(i); ps.slots == 0 {
		pg.below = nil
		return
	}
	ps.list = slices.Delete(ps.list, n, n+1)
	if cap(ps.list) >= 4*len(ps.list) {
		// Release the memory of a list that was once much longer.
		ps.list = append(make([]page, 0, 2*len(ps.list)), ps.list...)
	}
}

// empty reports whether no prefix in the page is in use.
func (pg *page) empty() bool { return pg.used == 0 && pg.below == nil }

// levels returns the number of levels of the prefix that starts at slot i: by how many bits it is shorter than a slot.
func (pg *page) levels(i int) int {
	ends := (pg.start | ^pg.used) >> i >> 1
	return bits.Len(uint(min(bits.TrailingZeros64(ends)+1, 64-i))) - 1
}
