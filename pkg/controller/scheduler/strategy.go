// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
)

// ScoreFunc returns the score of a parent for a request. bits is the requested prefix length, and the parent has a free
// block for it. The scheduler chooses the parent with the highest score. It calls the strategy for each possible parent,
// so a strategy must take constant time and allocate no memory.
type ScoreFunc func(parent *allocator.Pool, bits int) Score

// Score is an unsigned 128-bit number, because Spread counts IPv6 addresses.
type Score struct{ hi, lo uint64 }

// above reports whether s is higher than other.
func (s Score) above(other Score) bool {
	return s.hi > other.hi || s.hi == other.hi && s.lo > other.lo
}

// Pack is the best-fit strategy. It prefers the parent with the smallest free block that fits, to keep large blocks
// unfragmented.
func Pack(parent *allocator.Pool, bits int) Score {
	block, _ := parent.FitBits(bits)
	return Score{lo: uint64(block)}
}

// Spread prefers the parent with the most free addresses.
func Spread(parent *allocator.Pool, _ int) Score {
	hi, lo := parent.FreeAddresses128()
	return Score{hi, lo}
}

// Random prefers a random parent.
func Random(*allocator.Pool, int) Score { return Score{rand.Uint64(), rand.Uint64()} }

// scoreOf returns the strategy of a policy. It returns other if the policy has none.
func scoreOf(strategy v1alpha1.PrefixStrategy, other ScoreFunc) ScoreFunc {
	switch strategy {
	case v1alpha1.PrefixStrategyPack:
		return Pack
	case v1alpha1.PrefixStrategySpread:
		return Spread
	case v1alpha1.PrefixStrategyRandom:
		return Random
	}
	return other
}

// find returns a free prefix of a parent, by the strategy of its policies. The prefixes in except count as in use.
func (p *parent) find(bits int, except []netip.Prefix) (netip.Prefix, bool) {
	pool := p.pool()
	find := pool.Find
	switch p.rules.Strategy() {
	case v1alpha1.PrefixStrategySpread:
		find = pool.FindSpread
	case v1alpha1.PrefixStrategyRandom:
		find = func(bits int) (netip.Prefix, bool) { return pool.FindRandom(bits, rand.Uint64) }
	}
	return pool.FindExcept(bits, except, find)
}

// ParseStrategy returns the strategy with the given name, "Pack" or "Spread". It fails for any other name.
func ParseStrategy(name string) (ScoreFunc, error) {
	switch name {
	case "Pack":
		return Pack, nil
	case "Spread":
		return Spread, nil
	}
	return nil, fmt.Errorf("unknown strategy %q, must be Pack or Spread", name)
}
