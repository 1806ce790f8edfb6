// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func inUse[Holder comparable](l *Ledger[Holder]) []netip.Prefix {
	return slices.Collect(l.Pool().All())
}

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

// TestLedgerOverlap adds two holders of the same space, which is possible in a store that somebody wrote to
// directly. The space is free only when both are removed.
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

// TestLedgerHostBits adds a prefix with host bits, which other servers of the API group accept.
func TestLedgerHostBits(t *testing.T) {
	l := NewLedger[string]()
	if err := l.SetPrefix(pfx("10.0.0.0/24")); err != nil {
		t.Fatal(err)
	}
	l.Hold("a", pfx("10.0.0.1/25"))
	if got, want := inUse(l), []netip.Prefix{pfx("10.0.0.0/25")}; !slices.Equal(got, want) {
		t.Errorf("in use: %v, want %v", got, want)
	}
}

// TestLedgerAgainstModel compares a ledger that was changed step by step with one that is built from the result.
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
			// The pool contains the held prefixes that no other held prefix contains.
			want := slices.SortedFunc(maps.Values(model), compare)
			want = slices.Compact(slices.DeleteFunc(slices.Clone(want), func(p netip.Prefix) bool {
				return slices.ContainsFunc(want, func(q netip.Prefix) bool { return q.Bits() < p.Bits() && q.Overlaps(p) })
			}))
			if got := inUse(l); !slices.Equal(got, want) {
				t.Fatalf("seed %d: in use: %v, want %v", seed, got, want)
			}
			// Each prefix in use has a holder, and no other prefix has one.
			for _, prefix := range want {
				if holder, ok := l.Holder(prefix); !ok || model[holder] != prefix {
					t.Fatalf("seed %d: %d holds %s, which is held by %v", seed, holder, prefix, model)
				}
			}
			if len(l.holders) != l.Pool().Len() {
				t.Fatalf("seed %d: %d holders are known, and %d prefixes in use", seed, len(l.holders), l.Pool().Len())
			}
		}
	}
}

func compare(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
