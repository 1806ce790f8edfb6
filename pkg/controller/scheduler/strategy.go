// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"math/big"

	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
)

// Strategy tells how good it would be to allocate a request from a parent that can hold it: more is
// better.
type Strategy func(parent *allocator.Pool, r request.Request) *big.Int

// Pack prefers the parent whose free space fits best, so that large blocks stay whole.
func Pack(parent *allocator.Pool, r request.Request) *big.Int {
	bits, ok := parent.FitBits(r.Bits)
	if !ok {
		return big.NewInt(-1)
	}
	return big.NewInt(int64(bits))
}

// Spread prefers the parent that has most addresses free.
func Spread(parent *allocator.Pool, _ request.Request) *big.Int {
	return new(big.Int).Sub(parent.TotalAddresses(), parent.UsedAddresses())
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
