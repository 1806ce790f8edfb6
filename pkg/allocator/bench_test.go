// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
)

var (
	benchPrefix = netip.MustParsePrefix("10.0.0.0/8")
	benchFills  = []int{1e3, 1e5, 1e6}
)

// packed returns a pool with n /32s that were allocated with Find and Take.
func packed(b *testing.B, n int) *Pool {
	b.Helper()
	p, err := New(benchPrefix)
	if err != nil {
		b.Fatal(err)
	}
	for range n {
		findTake(b, p)
	}
	return p
}

// scattered returns a pool in which n random blocks of length bits are in use.
func scattered(b *testing.B, prefix netip.Prefix, bits, n int) *Pool {
	b.Helper()
	p, err := New(prefix)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for p.Len() < n {
		a := prefix.Addr().AsSlice()
		// In all benchmarks the prefix of a block lies in the first eight bytes of the address.
		var word [8]byte
		copy(word[:], a)
		v := binary.BigEndian.Uint64(word[:]) | r.Uint64()>>prefix.Bits()
		binary.BigEndian.PutUint64(word[:], v)
		copy(a, word[:])
		addr, _ := netip.AddrFromSlice(a)
		_ = p.Take(netip.PrefixFrom(addr, bits).Masked()) // one in use is drawn again
	}
	return p
}

func findTake(b *testing.B, p *Pool) netip.Prefix {
	prefix, ok := p.Find(32)
	if !ok {
		b.Fatal("pool is full")
	}
	if err := p.Take(prefix); err != nil {
		b.Fatal(err)
	}
	return prefix
}

// BenchmarkFindTake measures Find and Take of one /32 at different fill levels.
func BenchmarkFindTake(b *testing.B) {
	for _, fill := range benchFills {
		b.Run(fmt.Sprintf("fill=%d", fill), func(b *testing.B) {
			p := packed(b, fill)
			b.ReportAllocs()
			var got []netip.Prefix
			for b.Loop() {
				got = append(got, findTake(b, p))
				// Release blocks now and then, outside the measured time, to keep the fill level constant.
				if len(got) == 500 {
					b.StopTimer()
					for _, prefix := range got {
						if err := p.Release(prefix); err != nil {
							b.Fatal(err)
						}
					}
					got = got[:0]
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkFind measures Find alone. Random /32s are in use, so there are free blocks of all lengths.
func BenchmarkFind(b *testing.B) {
	for _, fill := range benchFills {
		b.Run(fmt.Sprintf("fill=%d", fill), func(b *testing.B) {
			p := scattered(b, benchPrefix, 32, fill)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Find(20 + i%13)
			}
		})
	}
}

// BenchmarkChurn measures the release of a random /32, and Find and Take of another, in a pool that is 99% full.
func BenchmarkChurn(b *testing.B) {
	prefix := netip.MustParsePrefix("10.0.0.0/12")
	p, err := New(prefix)
	if err != nil {
		b.Fatal(err)
	}
	for range 1 << 20 * 99 / 100 {
		findTake(b, p)
	}
	held := slices.Collect(p.All())
	r := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		i := r.IntN(len(held))
		if err := p.Release(held[i]); err != nil {
			b.Fatal(err)
		}
		held[i] = findTake(b, p)
	}
}

// BenchmarkStatus measures the functions that a status needs: UsedAddresses, LargestFree and a short Summary.
// Random /32s are in use.
func BenchmarkStatus(b *testing.B) {
	for _, fill := range benchFills {
		b.Run(fmt.Sprintf("fill=%d", fill), func(b *testing.B) {
			p := scattered(b, benchPrefix, 32, fill)
			b.ReportAllocs()
			for b.Loop() {
				p.UsedAddresses()
				p.LargestFree()
				p.Summary(16)
			}
		})
	}
}

// BenchmarkMemory reports the heap memory of a pool per prefix in use, and measures the time to fill the pool.
func BenchmarkMemory(b *testing.B) {
	const n = 1e6
	for _, tc := range []struct {
		name string
		fill func(b *testing.B) *Pool
	}{
		{"packed IPv4 32 of 8", func(b *testing.B) *Pool { return packed(b, n) }},
		{"scattered IPv4 32 of 8", func(b *testing.B) *Pool { return scattered(b, benchPrefix, 32, n) }},
		{"scattered IPv6 64 of 32", func(b *testing.B) *Pool {
			return scattered(b, netip.MustParsePrefix("2001:db8::/32"), 64, n)
		}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			var used uint64
			for b.Loop() {
				before := heap()
				p := tc.fill(b)
				used = heap() - before
				runtime.KeepAlive(p)
			}
			b.ReportMetric(float64(used)/n, "B/prefix")
		})
	}
}

// heap returns the size of the live heap in bytes.
func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
