// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func inUse(l *Ledger[string]) []netip.Prefix { return slices.Collect(l.Pool().All()) }

func TestLedgerTakesFactsInAnyOrder(t *testing.T) {
	l := NewLedger[string]()
	l.Hold("a", pfx("10.0.0.0/25"))
	if l.Pool() != nil {
		t.Fatal("there is a pool before the prefix is known")
	}
	if err := l.SetPrefix(pfx("10.0.0.0/24")); err != nil {
		t.Fatal(err)
	}
	if got, want := inUse(l), []netip.Prefix{pfx("10.0.0.0/25")}; !slices.Equal(got, want) {
		t.Errorf("in use: %v, want %v", got, want)
	}
	l.UnsetPrefix()
	l.Release("a")
	l.Hold("b", pfx("10.0.0.128/25"))
	if err := l.SetPrefix(pfx("10.0.0.0/24")); err != nil {
		t.Fatal(err)
	}
	if got, want := inUse(l), []netip.Prefix{pfx("10.0.0.128/25")}; !slices.Equal(got, want) {
		t.Errorf("in use: %v, want %v", got, want)
	}
}

func TestLedgerHoldReportsNews(t *testing.T) {
	l := NewLedger[string]()
	if !l.Hold("a", pfx("10.0.0.0/25")) || l.Hold("a", pfx("10.0.0.0/25")) || !l.Hold("a", pfx("10.0.0.128/25")) {
		t.Error("Hold does not tell what is new")
	}
	if !l.Release("a") || l.Release("a") {
		t.Error("Release does not tell what is new")
	}
}

// TestLedgerOverlap holds the same space twice, as a store written behind the API's back can have
// it: the space is free only once both are gone.
func TestLedgerOverlap(t *testing.T) {
	l := NewLedger[string]()
	if err := l.SetPrefix(pfx("10.0.0.0/24")); err != nil {
		t.Fatal(err)
	}
	l.Hold("a", pfx("10.0.0.0/25"))
	l.Hold("b", pfx("10.0.0.0/26"))
	l.Hold("c", pfx("192.168.0.0/24"))
	l.Release("a")
	if got, want := inUse(l), []netip.Prefix{pfx("10.0.0.0/26")}; !slices.Equal(got, want) {
		t.Errorf("in use: %v, want %v", got, want)
	}
	l.Release("c")
	l.Release("b")
	if l.Pool().Len() != 0 || l.Len() != 0 {
		t.Errorf("%d prefixes in use and %d holders, want none", l.Pool().Len(), l.Len())
	}
}

// TestLedgerAgainstModel compares a ledger that was changed step by step with one that is told all
// the facts at once.
func TestLedgerAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		l, model := NewLedger[int](), map[int]netip.Prefix{}
		for range 200 {
			holder := rng.IntN(12)
			switch rng.IntN(8) {
			case 0:
				l.UnsetPrefix()
			case 1, 2:
				if err := l.SetPrefix(pfx("10.0.0.0/24")); err != nil {
					t.Fatal(err)
				}
			case 3, 4:
				l.Release(holder)
				delete(model, holder)
			default:
				prefix, err := netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(256))}).Prefix(25 + rng.IntN(8))
				if err != nil {
					t.Fatal(err)
				}
				l.Hold(holder, prefix)
				model[holder] = prefix
			}
			if l.Len() != len(model) {
				t.Fatalf("seed %d: %d holders, want %d", seed, l.Len(), len(model))
			}
			if l.Pool() == nil {
				continue
			}
			// Who of overlapping holders is in the pool is open, but nothing held may be free.
			for holder, prefix := range model {
				if _, ok := l.Pool().Overlapping(prefix); !ok {
					t.Fatalf("seed %d: %s is held by %d, but free", seed, prefix, holder)
				}
			}
			for prefix := range l.Pool().All() {
				if !slices.ContainsFunc(mapValues(model), func(held netip.Prefix) bool { return held == prefix }) {
					t.Fatalf("seed %d: %s is in use, but nobody holds it", seed, prefix)
				}
			}
		}
	}
}

func mapValues[K comparable, V any](m map[K]V) []V {
	values := make([]V, 0, len(m))
	for _, v := range m {
		values = append(values, v)
	}
	return values
}
