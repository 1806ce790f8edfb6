// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"fmt"
	"iter"
	"math/big"
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
	root   *node
	len    int
	// counts has the number of taken prefixes by length; as they never
	// overlap, it is all that the number of used addresses depends on.
	counts [129]int
}

// node is an inner node of a binary trie with one level for each bit. Free
// blocks have no node, they are nil links, and all taken prefixes share one,
// so that a densely used pool costs about one node for each prefix in use.
// Below any node there is at least one taken prefix.
type node struct {
	child [2]*node
	// free has the lengths of the largest aligned free blocks below the node,
	// those that are not part of a larger free block. Without any, the node's
	// block is used in full.
	free lengths
}

// taken ends every path to a prefix in use. It is never written to.
var taken = &node{}

// freeIn returns the lengths of the free blocks in the block of the given
// length, at least 1, that n stands for.
func freeIn(n *node, length int) lengths {
	if n == nil {
		return only(length)
	}
	return n.free
}

// New returns the pool of prefix with all of it free. The error wraps
// ErrInvalid if the prefix is invalid, has host bits set, or is an IPv4-mapped
// IPv6 prefix, which is most likely a mistaken IPv4 one. Zones need no check,
// as a netip.Prefix has none.
func New(prefix netip.Prefix) (*Pool, error) {
	if !canonical(prefix) || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, prefix)
	}
	return &Pool{prefix: prefix, base: keyOf(prefix.Addr())}, nil
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
func (p *Pool) Find(bits int) (netip.Prefix, bool) {
	block, ok := p.FitBits(bits)
	if !ok {
		return netip.Prefix{}, false
	}
	k, n := p.base, p.root
	for depth := p.prefix.Bits(); depth < block; depth++ {
		b := 0
		if !freeIn(n.child[0], depth+1).has(block) {
			b = 1
		}
		k, n = k.with(depth, b), n.child[b]
	}
	return p.prefixOf(k, bits), true
}

// FitBits returns the length of the free block that Find(bits) would cut from.
// It is at most bits, and the closer to bits the better the fit. In an empty
// pool it is Prefix().Bits(). It returns false where Find does.
func (p *Pool) FitBits(bits int) (blockBits int, ok bool) {
	if !p.inRange(bits) {
		return 0, false
	}
	if p.root == nil {
		return p.prefix.Bits(), true
	}
	blockBits = p.root.free.atMost(bits)
	return blockBits, blockBits > 0
}

// Take marks exactly this prefix as used. The error wraps ErrInvalid if the
// prefix is invalid or has host bits set, else ErrOutside if it is not strictly
// inside Prefix(); it is an *InUseError if a prefix in use overlaps. The pool
// is unchanged on error.
//
// In an IPv6 pool that covers them, IPv4-mapped addresses are like any other.
func (p *Pool) Take(prefix netip.Prefix) error {
	if !canonical(prefix) {
		return fmt.Errorf("%w: %s", ErrInvalid, prefix)
	}
	if !p.inside(prefix) {
		return fmt.Errorf("%w: %s in %s", ErrOutside, prefix, p.prefix)
	}
	if holder, ok := p.Overlapping(prefix); ok {
		return &InUseError{Holder: holder}
	}
	p.root = take(p.root, p.prefix.Bits(), prefix.Bits(), keyOf(prefix.Addr()))
	p.len++
	p.counts[prefix.Bits()]++
	return nil
}

// take returns n, which stands for a block of length depth, with the free
// block of length bits at k taken.
func take(n *node, depth, bits int, k key) *node {
	if depth == bits {
		return taken
	}
	if n == nil {
		n = &node{}
	}
	b := k.bit(depth)
	n.child[b] = take(n.child[b], depth+1, bits, k)
	n.free = freeIn(n.child[0], depth+1).union(freeIn(n.child[1], depth+1))
	return n
}

// Release gives back a prefix that was taken. The error wraps ErrNotTaken if
// exactly this prefix is not taken, whatever it is; the pool is then unchanged.
func (p *Pool) Release(prefix netip.Prefix) error {
	if holder, ok := p.Overlapping(prefix); !ok || holder != prefix {
		return fmt.Errorf("%w: %s", ErrNotTaken, prefix)
	}
	p.root = release(p.root, p.prefix.Bits(), prefix.Bits(), keyOf(prefix.Addr()))
	p.len--
	p.counts[prefix.Bits()]--
	return nil
}

// release returns n, which stands for a block of length depth, with the taken
// prefix of length bits at k freed: nil if that leaves it free as a whole.
func release(n *node, depth, bits int, k key) *node {
	if depth == bits {
		return nil
	}
	b := k.bit(depth)
	n.child[b] = release(n.child[b], depth+1, bits, k)
	if n.child == [2]*node{} {
		return nil
	}
	n.free = freeIn(n.child[0], depth+1).union(freeIn(n.child[1], depth+1))
	return n
}

// Overlapping returns a prefix in use that overlaps the one given: an equal
// one, an ancestor, or the one inside with the lowest address. The prefix given
// need not lie inside the pool, and its host bits are ignored. It returns false
// if there is none, or if the prefix is invalid.
func (p *Pool) Overlapping(prefix netip.Prefix) (netip.Prefix, bool) {
	if p.root == nil || !p.prefix.Overlaps(prefix) {
		return netip.Prefix{}, false
	}
	to := keyOf(prefix.Addr())
	k, n := p.base, p.root
	depth := p.prefix.Bits()
	for ; n != taken; depth++ {
		var b int
		switch {
		case depth < prefix.Bits():
			b = to.bit(depth)
		case n.child[0] == nil:
			b = 1
		}
		k, n = k.with(depth, b), n.child[b]
		if n == nil {
			return netip.Prefix{}, false
		}
	}
	return p.prefixOf(k, depth), true
}

// Len returns the number of prefixes taken.
func (p *Pool) Len() int { return p.len }

// All returns the prefixes in use, in the order of their addresses. The pool
// must not change during the iteration.
func (p *Pool) All() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		p.walk(p.root, p.base, p.prefix.Bits(), func(n *node) bool { return n == taken }, yield)
	}
}

// LargestFree returns the length of the largest block that Find could give
// out, which is the smallest length for which it finds one. In an empty pool
// this is Prefix().Bits()+1. It returns false if there is no such block: the
// pool is used in full, or its prefix is a single address.
func (p *Pool) LargestFree() (bits int, ok bool) {
	if p.root == nil {
		bits = p.prefix.Bits() + 1
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
	p.walk(p.root, p.base, p.prefix.Bits(), func(n *node) bool { return n.free.empty() },
		func(cidr netip.Prefix) bool {
			if len(cidrs) >= max {
				truncated = true
				return false
			}
			cidrs = append(cidrs, cidr)
			return true
		})
	return cidrs, truncated
}

// walk yields by address the blocks in n, which stands for the block of length
// depth at k, whose nodes satisfy leaf, and does not look below those. It
// returns false once yield does.
func (p *Pool) walk(n *node, k key, depth int, leaf func(*node) bool, yield func(netip.Prefix) bool) bool {
	if n == nil {
		return true
	}
	if leaf(n) {
		return yield(p.prefixOf(k, depth))
	}
	return p.walk(n.child[0], k, depth+1, leaf, yield) &&
		p.walk(n.child[1], k.with(depth, 1), depth+1, leaf, yield)
}

// canonical reports whether prefix is valid and has no host bits set.
func canonical(prefix netip.Prefix) bool {
	return prefix.IsValid() && prefix == prefix.Masked()
}

// inside reports whether a canonical prefix lies strictly inside the pool.
func (p *Pool) inside(prefix netip.Prefix) bool {
	return p.prefix.Contains(prefix.Addr()) && prefix.Bits() > p.prefix.Bits()
}

// inRange reports whether a prefix strictly inside the pool can have length bits.
func (p *Pool) inRange(bits int) bool {
	return p.prefix.IsValid() && bits > p.prefix.Bits() && bits <= p.prefix.Addr().BitLen()
}

func (p *Pool) prefixOf(k key, bits int) netip.Prefix {
	return netip.PrefixFrom(k.addr(p.prefix.Addr().Is4()), bits)
}
