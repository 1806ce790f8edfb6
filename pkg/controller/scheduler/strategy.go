// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
)

// Strategy scores a parent that has room for a prefix of so many bits. The parent with the highest score
// is chosen. Strategies are called for each parent that may be chosen, so they take constant time and
// allocate no memory.
type Strategy func(parent *allocator.Pool, bits int) Score

// Score is a number of 128 bits, since Spread counts addresses.
type Score struct{ hi, lo uint64 }

// above reports whether a score is higher than another one.
func (s Score) above(other Score) bool {
	return s.hi > other.hi || s.hi == other.hi && s.lo > other.lo
}

// Pack prefers the parent whose smallest free block that fits is smallest, so that large blocks stay whole.
func Pack(parent *allocator.Pool, bits int) Score {
	block, _ := parent.FitBits(bits)
	return Score{lo: uint64(block)}
}

// Spread prefers the parent that has most addresses free.
func Spread(parent *allocator.Pool, _ int) Score {
	hi, lo := parent.FreeAddresses128()
	return Score{hi, lo}
}

// StrategyByName returns the strategy of a name, Pack or Spread.
func StrategyByName(name string) (Strategy, error) {
	switch name {
	case "Pack":
		return Pack, nil
	case "Spread":
		return Spread, nil
	}
	return nil, fmt.Errorf("unknown strategy %q, must be Pack or Spread", name)
}
