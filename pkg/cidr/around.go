// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cidr

import (
	"iter"
	"net/netip"
)

// Ancestors are prefixes that begin at the same address and contain the same prefix: one of each length from Shortest to
// Longest.
type Ancestors struct {
	Addr              netip.Addr
	Shortest, Longest int
}

// Around yields the prefixes that contain prefix, are strictly inside parent, and begin at another address than prefix.
// The longest ones come first. There is at most one item for each 1 bit of prefix after the first parent.Bits() bits.
func Around(parent, prefix netip.Prefix) iter.Seq[Ancestors] {
	at := func(bits int) netip.Addr { return netip.PrefixFrom(prefix.Addr(), bits).Masked().Addr() }
	return func(yield func(Ancestors) bool) {
		for bits := prefix.Bits() - 1; bits > parent.Bits(); {
			a := Ancestors{Addr: at(bits), Shortest: bits, Longest: bits}
			// The first address stays the same while only 0 bits are dropped.
			for a.Shortest-1 > parent.Bits() && at(a.Shortest-1) == a.Addr {
				a.Shortest--
			}
			if a.Addr != prefix.Addr() && !yield(a) {
				return
			}
			bits = a.Shortest - 1
		}
	}
}

// MaxTxnOps is the number of compares, and of operations, that etcd accepts in a transaction. It is the default of
// etcd's flag --max-txn-ops.
const MaxTxnOps = 128

// Checkable reports whether one etcd transaction can check that prefix is free in parent. forChild is set if the
// allocation is made for a child Prefix. foreign is set if the parent is in another namespace. See docs/design/claims.md.
func Checkable(parent, prefix netip.Prefix, forChild, foreign bool) bool {
	// One compare each is for the allocation, the parent, and the range inside the prefix.
	rest := MaxTxnOps - 3
	if forChild {
		// The child must be unchanged.
		rest--
	}
	if foreign {
		// The policy that shares the parent must be unchanged.
		rest--
	}
	if prefix.Bits()-parent.Bits() <= rest {
		return true
	}
	for range Around(parent, prefix) {
		rest--
	}
	return rest >= 0
}
