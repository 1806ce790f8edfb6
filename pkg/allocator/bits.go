// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// key holds the bits of an address, the first bit of the address being the
// highest of hi, so that a bit has the same position in either family's trie.
// An IPv4 address fills the upper half of hi.
type key struct{ hi, lo uint64 }

func keyOf(addr netip.Addr) key {
	if addr.Is4() {
		b := addr.As4()
		return key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := addr.As16()
	return key{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

// bit returns bit i, 0 to 127, counted from the front of the address.
func (k key) bit(i int) int {
	if i < 64 {
		return int(k.hi >> (63 - i) & 1)
	}
	return int(k.lo >> (127 - i) & 1)
}

// with returns k with bit i, which must be 0, set to b.
func (k key) with(i, b int) key {
	if i < 64 {
		k.hi |= uint64(b) << (63 - i)
	} else {
		k.lo |= uint64(b) << (127 - i)
	}
	return k
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

// lengths is a set of prefix lengths from 1 to 128. Length 0 needs no place:
// only the block of an empty /0 pool has it, and that pool has no nodes.
type lengths [2]uint64

func only(length int) (l lengths) {
	l[(length-1)/64] = 1 << ((length - 1) % 64)
	return l
}

func (l lengths) union(m lengths) lengths { return lengths{l[0] | m[0], l[1] | m[1]} }

func (l lengths) empty() bool { return l[0]|l[1] == 0 }

func (l lengths) has(length int) bool {
	return l[(length-1)/64]>>((length-1)%64)&1 != 0
}

// atMost returns the largest length in the set that is not above limit, which
// must be 1 to 128, or 0 if there is none.
func (l lengths) atMost(limit int) int {
	if limit <= 64 {
		return bits.Len64(l[0] << (64 - limit) >> (64 - limit))
	}
	if n := bits.Len64(l[1] << (128 - limit) >> (128 - limit)); n > 0 {
		return 64 + n
	}
	return bits.Len64(l[0])
}

// smallest returns the smallest length in the set, or 0 if it is empty.
func (l lengths) smallest() int {
	switch {
	case l[0] != 0:
		return bits.TrailingZeros64(l[0]) + 1
	case l[1] != 0:
		return bits.TrailingZeros64(l[1]) + 65
	}
	return 0
}
