// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"math/bits"
	"slices"
)

// pageLevels is the number of address bits, and so of trie levels, that a page spans. With 6 levels a page has 64
// slots, one for each bit of a word.
const pageLevels = 6

// page is a node of the trie. It stands for a block of addresses and divides it into slots. For example, if
// 10.0.0.0/32 and 10.0.0.128/25 are in use, this is the page of 10.0.0.0/20. Its slots are blocks of length 26.
//
//	slot    0  1  2  3  4  5 ... 63
//	used    .  .  x  x  .  . ...  .   10.0.0.128/25 uses two slots
//	start   .  .  x  .  .  . ...  .   and starts in the first of them.
//	below   |  .  .  .  .  . ...  .   Slot 0 is in use in part, so it has a page of its own.
//	        |
//	        +- slot    0  1 ... 63    The page of 10.0.0.0/26. Its slots are addresses.
//	           used    x  . ...  .
//	           start   x  . ...  .
//	           free    /27 to /32
//
//	free    /21 to /24 in slots 4 to 63, /26 in slot 1, /27 to /32 in the page below
//
// Each page contains at least one prefix in use. A page with no free lengths is full. A page does not store its place
// in the trie: methods that need it have a parameter for it.
type page struct {
	// used is the set of slots in use by prefixes that are at least as large as a slot, and smaller than the page.
	// start is the set of the first slots of these prefixes. Such a prefix extends to the next start or the next unused
	// slot.
	used, start uint64
	// free is the set of the lengths of the maximal free blocks in the page and in the pages below: aligned free blocks
	// that are not part of a larger free block. They are smaller than the page.
	free lengths
	// below is nil if no slot has a page.
	below *pages
}

// pages holds the child pages of a page. slots is the set of the slots that have one: those that are neither entirely
// free nor used by a single prefix. list holds their pages in the order of the slots.
type pages struct {
	slots uint64
	list  []page
}

// place is where a page is in the trie: top is the length of its block, and end that of its slots. The last page on a
// path ends at the length of an address, and each page above it ends pageLevels bits earlier. So only the root may span
// fewer levels.
type place struct{ top, end int }

// below returns the place of the child pages.
func (at place) below() place { return place{at.end, at.end + pageLevels} }

// slot returns the slot that contains an address.
func (at place) slot(k key) int { return k.bits(at.top, at.end) }

// slot returns the set of slot i.
func slot(i int) uint64 { return 1 << i }

// run returns the set of the slots of a block that starts at slot i. A block of n levels has 2^n slots, and its prefix
// is n bits shorter than a slot.
func run(i, levels int) uint64 { return (1<<(1<<levels) - 1) << i }

// starts[n] is the set of slots at which a block of n levels can start.
var starts = [pageLevels + 1]uint64{
	1<<64 - 1, 0x5555555555555555, 0x1111111111111111, 0x0101010101010101, 0x0001000100010001, 0x0000000100000001, 1,
}

// divided returns the set of slots that have a child page.
func (pg *page) divided() uint64 {
	if pg.below == nil {
		return 0
	}
	return pg.below.slots
}

// vacant returns the set of slots that are entirely free.
func (pg *page) vacant(at place) uint64 {
	return run(0, at.end-at.top) &^ (pg.used | pg.divided())
}

// merge combines pairs of free blocks. free is the set of the first slots of the free blocks of the given number of
// levels. merge returns those that cannot be combined, and the first slots of the blocks of one level more.
func merge(free uint64, levels int) (maximal, larger uint64) {
	size := 1 << levels
	larger = free & (free >> size) & starts[levels+1]
	return free &^ (larger | larger<<size), larger
}

// lowest returns the first slot of the lowest maximal free block of a length. The block must consist of slots.
func (pg *page) lowest(length int, at place) int {
	free, maximal := pg.vacant(at), uint64(0)
	for levels := range at.end - length + 1 {
		maximal, free = merge(free, levels)
	}
	return bits.TrailingZeros64(maximal)
}

// descend returns the first child page in which blocks of a length are free, and its slot. There must be one.
func (pg *page) descend(length int) (i int, child *page) {
	slots, list := pg.below.slots, pg.below.list
	for !list[0].free.has(length) {
		slots, list = slots&(slots-1), list[1:] // without the lowest slot
	}
	return bits.TrailingZeros64(slots), &list[0]
}

// update computes free anew, after a change of the slots, or of the free lengths of a child page from was to is.
func (pg *page) update(at place, was, is lengths) {
	lost := was.without(is)
	if pg.below != nil {
		// What the child lost may still be free in another one.
		for i := 0; i < len(pg.below.list) && !lost.empty(); i++ {
			lost = lost.without(pg.below.list[i].free)
		}
	}
	pg.free = pg.free.above(at.end).union(is).without(lost)
	free, maximal := pg.vacant(at), uint64(0)
	for length := at.end; length > at.top && free != 0; length-- {
		if maximal, free = merge(free, at.end-length); maximal != 0 {
			pg.free = pg.free.union(only(length))
		}
	}
}

// take marks a prefix as used. It is inside the page and smaller. take returns false and changes nothing if a prefix in
// use overlaps.
func (pg *page) take(k key, length int, at place) bool {
	i := at.slot(k)
	if length <= at.end {
		slots := run(i, at.end-length)
		if (pg.used|pg.divided())&slots != 0 {
			return false
		}
		pg.used |= slots
		pg.start |= slot(i)
		pg.update(at, lengths{}, lengths{})
		return true
	}
	child := pg.page(i)
	if child == nil {
		if pg.used&slot(i) != 0 {
			return false
		}
		// Nothing in the slot is in use, so the take in the new page succeeds.
		child = pg.insert(i)
	}
	was := child.free
	if !child.take(k, length, at.below()) {
		return false
	}
	if child.free != was {
		pg.update(at, was, child.free)
	}
	return true
}

// release frees a prefix inside the page. It returns false and changes nothing if exactly this prefix is not in use.
// The page may be empty afterwards, and must then be removed.
func (pg *page) release(k key, length int, at place) bool {
	i := at.slot(k)
	if length <= at.end {
		if pg.start&slot(i) == 0 || pg.levels(i) != at.end-length {
			return false
		}
		pg.used &^= run(i, at.end-length)
		pg.start &^= slot(i)
		pg.update(at, lengths{}, lengths{})
		return true
	}
	child := pg.page(i)
	if child == nil {
		return false
	}
	was := child.free
	if !child.release(k, length, at.below()) {
		return false
	}
	// An empty child has no free lengths: its block is part of what is free here.
	is := child.free
	if child.empty() {
		pg.remove(i)
	}
	if is != was {
		pg.update(at, was, is)
	}
	return true
}

// empty reports whether no prefix in the page is in use.
func (pg *page) empty() bool { return pg.used == 0 && pg.below == nil }

// levels returns the number of levels of the prefix that starts at slot i: by how many bits it is shorter than a slot.
func (pg *page) levels(i int) int {
	// The prefix ends before the next slot that is a start or not used.
	ends := (pg.start | ^pg.used) >> i >> 1
	return bits.Len(uint(min(bits.TrailingZeros64(ends)+1, 64-i))) - 1
}

// page returns the child page of a slot, or nil if it has none.
func (pg *page) page(i int) *page {
	if pg.divided()&slot(i) == 0 {
		return nil
	}
	return &pg.below.list[pg.below.index(i)]
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
