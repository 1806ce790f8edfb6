// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
)

// maxMapBits bounds how far a map divides a block: into 2^15 cells.
const maxMapBits = 15

// cell is a part of the map, for the page (cells.js has the counterpart):
//
//	0             free
//	1             reserved by a PrefixPolicy
//	2             cools down after a child was deleted
//	[cell, cell]  two halves of the range
//	*held       what one object holds
//	*summary    several objects, too small to be shown
type cell any

var free, reserved, cools cell = 0, 1, 2

// held is the range of one object.
type held struct {
	ID   int    `json:"i"`
	Name string `json:"n,omitempty"`
	// Used is how much of it has been handed out, 0 to 1; Parent says that it has children.
	Used   float64 `json:"u,omitempty"`
	Parent bool    `json:"p,omitempty"`
	// Cells are the range in detail. They are left out if nothing has been handed out of it, or below the resolution.
	Cells cell `json:"m,omitempty"`
	// Skipped says that a filter does not select it nor anything below it.
	Skipped  bool `json:"x,omitempty"`
	Deleting bool `json:"d,omitempty"`
}

// summary is a range in which several objects hold parts.
type summary struct {
	Count int     `json:"c"`
	Used  float64 `json:"u"`
	// Skipped says that a filter selects none of them.
	Skipped bool `json:"x,omitempty"`
	// ID and Name are set if it is only one object.
	ID   *int   `json:"i,omitempty"`
	Name string `json:"n,omitempty"`
	// CIDR is the range of the only object.
	CIDR string `json:"r,omitempty"`
}

// mapper draws maps. The marks of the filter have to be set.
type mapper struct {
	model  *model
	filter *filter
}

// block returns the cells of a block that a node holds, or a part of which it holds. It divides the block bits times at
// most.
func (d mapper) block(n *node, block netip.Prefix, bits int) cell {
	n.sort()
	from, to := n.within(block)
	var cooling []netip.Prefix
	for _, c := range d.model.coolingIn(n, block) {
		cooling = append(cooling, c.prefix)
	}
	return d.divide(n, block, kept{allocator.NewReserved(cooling, false).In(n.prefix), d.model.reserved(n)}.in(block), from, to, bits)
}

// kept are ranges that are not given to everybody: those that cool down, and those that are reserved. Both are sorted by
// address, and neither overlap among themselves nor have halves of the same prefix.
type kept struct{ cooling, reserved []netip.Prefix }

// in returns those that overlap a block.
func (k kept) in(block netip.Prefix) kept {
	return kept{overlapping(k.cooling, block), overlapping(k.reserved, block)}
}

// overlapping returns those of sorted prefixes that overlap a block.
func overlapping(prefixes []netip.Prefix, block netip.Prefix) []netip.Prefix {
	from, _ := slices.BinarySearchFunc(prefixes, block.Addr(), func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	if from > 0 && prefixes[from-1].Overlaps(block) {
		from--
	}
	to := from
	for last := cidr.Last(block); to < len(prefixes) && prefixes[to].Addr().Compare(last) <= 0; to++ {
	}
	return prefixes[from:to]
}

// covers reports whether prefixes that overlap a block contain all of it.
func covers(prefixes []netip.Prefix, block netip.Prefix) bool {
	return len(prefixes) > 0 && prefixes[0].Bits() <= block.Bits()
}

// divide is like block, for a node of which children[from:to] hold a part of the block, and of which k overlaps the block.
func (d mapper) divide(n *node, block netip.Prefix, k kept, from, to, bits int) cell {
	if from >= to {
		return d.rest(block, k, bits)
	}
	if c := n.children[from]; c.prefix.Bits() <= block.Bits() {
		// The child holds the whole block. Others could only overlap it, which the server does not allow.
		return d.held(c, bits)
	}
	if bits <= 0 {
		return d.sum(n, block, from, to)
	}
	low, high := cidr.Halves(block)
	middle := from
	for lower, upper := from, to; ; {
		if lower >= upper {
			middle = lower
			break
		}
		if i := int(uint(lower+upper) >> 1); n.children[i].prefix.Addr().Less(high.Addr()) {
			lower = i + 1
		} else {
			upper = i
		}
	}
	return [2]cell{d.divide(n, low, k.in(low), from, middle, bits-1), d.divide(n, high, k.in(high), middle, to, bits-1)}
}

// rest returns the cells of a block that nobody holds a part of, and that k overlaps. What is kept is too small to be shown
// where the block is not divided any more.
func (d mapper) rest(block netip.Prefix, k kept, bits int) cell {
	switch {
	case covers(k.cooling, block):
		return cools
	case bits > 0 && len(k.cooling) > 0:
	case covers(k.reserved, block):
		return reserved
	case bits <= 0 || len(k.reserved) == 0:
		return free
	}
	low, high := cidr.Halves(block)
	halves := [2]cell{d.rest(low, k.in(low), bits-1), d.rest(high, k.in(high), bits-1)}
	if _, whole := halves[0].(int); whole && halves[0] == halves[1] {
		return halves[0]
	}
	return halves
}

// held returns the cell of a child.
func (d mapper) held(c *node, bits int) cell {
	c.sort()
	h := &held{ID: c.id, Deleting: c.deleting, Parent: c.held > 0, Skipped: !d.filter.all() && !c.match && !c.below}
	if bits >= 2 {
		h.Name = plaintext.Escape(c.key.name)
	}
	if h.Parent {
		h.Used = c.used()
		if bits > 0 {
			h.Cells = d.block(c, c.prefix, bits)
		}
	}
	return h
}

// sum returns the cell of a block in which several children hold parts.
func (d mapper) sum(n *node, block netip.Prefix, from, to int) cell {
	s := &summary{Count: to - from, Used: min((n.sums[to]-n.sums[from])*part(n.prefix, block), 1)}
	if s.Count == 1 {
		c := n.children[from]
		s.ID, s.Name, s.CIDR = &c.id, plaintext.Escape(c.key.name), c.prefix.String()
	}
	if !d.filter.all() {
		s.Skipped = !slices.ContainsFunc(n.children[from:to], func(c *node) bool { return c.match || c.below })
	}
	return s
}

// surroundings is by how many bits the surroundings of a node are larger than the node.
const surroundings = 4

// locate returns the innermost node at or below n that holds a block, and the block. A node from which nothing has been
// allocated has nothing to show: its parent and its surroundings are returned, close ones if near is set, and its id.
func locate(n *node, block netip.Prefix, near bool) (*node, netip.Prefix, *int) {
	for {
		n.sort()
		from, to := n.within(block)
		if from == to || n.children[from].prefix.Bits() > block.Bits() {
			break
		}
		n = n.children[from]
	}
	if n.held > 0 || n.top() || !n.parent.holds(n) {
		return n, block, nil
	}
	bits := n.prefix.Bits() - surroundings
	if near {
		bits = n.prefix.Bits() - 1
	}
	parent := n.parent
	parent.sort()
	return parent, netip.PrefixFrom(n.prefix.Addr(), max(bits, parent.prefix.Bits())).Masked(), &n.id
}
