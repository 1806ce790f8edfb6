// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// key holds the bits of an address, aligned to the left: the first bit of the address is the most significant bit of
// hi. So a bit has the same position in the tries of both address families. An IPv4 address fills the upper half of hi.
type key struct{ hi, lo uint64 }

func keyOf(addr netip.Addr) key {
	if addr.Is4() {
		b := addr.As4()
		return key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := addr.As16()
	return key{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

// bits returns the bits from position top up to, but not including, end as a number. There must be 1 to 6 of them.
func (k key) bits(top, end int) int {
	bits := k.hi >> (uint(64-end) % 64)
	if end > 64 {
		bits = k.hi<<uint(end-64) | k.lo>>(uint(128-end)%64)
	}
	return int(bits & (1<<(uint(end-top)%64) - 1))
}

// cut returns k without its first bits up to top, and without those from end on. They become 0.
func (k key) cut(top, end int) key {
	from, to := ones(top), ones(end)
	return key{k.hi & to.hi &^ from.hi, k.lo & to.lo &^ from.lo}
}

// ones returns a key whose first bits are 1.
func ones(bits int) key {
	if bits <= 64 {
		return key{hi: ^(^uint64(0) >> uint(bits))}
	}
	return key{^uint64(0), ^(^uint64(0) >> uint(bits-64))}
}

// withSlot returns k with the number i in the bits directly before position end. These bits must be 0 in k.
func (k key) withSlot(i, end int) key {
	if end <= 64 {
		k.hi |= uint64(i) << (uint(64-end) % 64)
	} else {
		k.hi |= uint64(i) >> uint(end-64)
		k.lo |= uint64(i) << (uint(128-end) % 64)
	}
	return k
}

// longer reports whether any bit of k after the first ones is set. For the address of a prefix, these are host bits.
func (k key) longer(bits int) bool {
	if bits < 64 {
		return k.hi<<uint(bits) != 0 || k.lo != 0
	}
	return k.lo<<uint(bits-64) != 0
}

// within reports whether the first bits of k and l are equal.
func (k key) within(l key, bits int) bool {
	if bits <= 64 {
		return (k.hi^l.hi)>>uint(64-bits) == 0
	}
	return k.hi == l.hi && (k.lo^l.lo)>>uint(128-bits) == 0
}

func (k key) addr(is4 bool) netip.Addr {
	if is4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(k.hi>>32))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.AddrFrom16(b)
}

// lengths is a set of prefix lengths from 1 to 128. Bit i of lo stands for length i+1, and bit i of hi for length i+65.
// Length 0 is not needed: only an empty /0 pool has a free block of that length, and an empty pool has no pages.
type lengths struct{ lo, hi uint64 }

func only(length int) lengths {
	if length <= 64 {
		return lengths{lo: 1 << uint(length-1)}
	}
	return lengths{hi: 1 << uint(length-65)}
}

// above returns the lengths greater than limit.
func (l lengths) above(limit int) lengths {
	all := ^uint64(0)
	if limit < 64 {
		return lengths{l.lo & (all << (uint(limit) % 64)), l.hi}
	}
	return lengths{0, l.hi & (all << uint(limit-64))}
}

func (l lengths) union(m lengths) lengths { return lengths{l.lo | m.lo, l.hi | m.hi} }

func (l lengths) common(m lengths) lengths { return lengths{l.lo & m.lo, l.hi & m.hi} }

func (l lengths) without(m lengths) lengths { return lengths{l.lo &^ m.lo, l.hi &^ m.hi} }

func (l lengths) empty() bool { return l.lo|l.hi == 0 }

func (l lengths) has(length int) bool { return !l.common(only(length)).empty() }

// atMost returns the largest length that is at most limit, or 0 if there is none. limit must be 1 to 128.
func (l lengths) atMost(limit int) int {
	l = l.without(l.above(limit))
	if l.hi != 0 {
		return 64 + bits.Len64(l.hi)
	}
	return bits.Len64(l.lo)
}

// smallest returns the smallest length, or 0 if the set is empty.
func (l lengths) smallest() int {
	switch {
	case l.lo != 0:
		return bits.TrailingZeros64(l.lo) + 1
	case l.hi != 0:
		return bits.TrailingZeros64(l.hi) + 65
	}
	return 0
}
