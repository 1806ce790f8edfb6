// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"math/rand"
	"slices"
	"testing"
)

// TestCells compares the cells of a map with the naive model.
func TestCells(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(5))
	for range 300 {
		parent, held := randomHeld(random)
		m := newModel(parent, held)
		cellBits := min(parent.Bits()+random.Intn(9), parent.Addr().BitLen())
		got := cells(parent, cellBits, slices.Values(held))
		want := make([]float64, len(got))
		size := float64(int(1) << (parent.Addr().BitLen() - cellBits))
		i := 0
		for addr := parent.Addr(); parent.Contains(addr); addr = addr.Next() {
			if m.held[addr] {
				want[i/int(size)] += 1 / size
			}
			i++
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s with %s in cells of /%d: %v instead of %v", parent, held, cellBits, got, want)
		}
	}
}

func TestLevelOf(t *testing.T) {
	t.Parallel()
	for used, want := range map[float64]string{0: ".", 0.001: "-", 0.5: "-", 0.51: "+", 0.999: "+", 1: "#"} {
		if got := levelOf(used).plain; got != want {
			t.Errorf("%v: %s instead of %s", used, got, want)
		}
	}
}
