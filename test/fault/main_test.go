// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package fault tests that no address is allocated twice and none is taken away, whatever fails. API servers and
// controller managers run as processes, are killed and stopped at critical moments, and lose responses. Independent
// clients write at the same time.
//
// The tests are short. With IPAM_TEST_LONG=1 they are many times longer.
package fault

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// programs is the directory of the programs under test.
var programs string

// long is set if the tests may take a long time.
var long = os.Getenv("IPAM_TEST_LONG") != ""

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		programs = dir
		return func() {}, harness.Build(dir, "ipam-apiserver", "ipam-controller-manager")
	})
}

// times returns inShort, or inLong if the tests may take a long time.
func times(inShort, inLong int) int {
	if long {
		return inLong
	}
	return inShort
}

// newRand returns a random source that is deterministic for a seed.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }
