// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"go4.org/netipx"
	bitmap "k8s.io/kubernetes/pkg/registry/core/service/allocator"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
)

// allocatorRounds is the number of turns of each side of a comparison.
const allocatorRounds = 5

// families contains the parents of the allocated addresses.
var families = []struct {
	name   string
	parent netip.Prefix
}{
	{"IPv4", netip.MustParsePrefix("10.0.0.0/8")},
	{"IPv6", netip.MustParsePrefix("fd00::/64")},
}

// timed measures a function like a Go benchmark.
func (b *bench) timed(what string, f func() error) testing.BenchmarkResult {
	b.Helper()
	b.progress.phase(what, 0)
	var err error
	result := testing.Benchmark(func(tb *testing.B) {
		tb.ReportAllocs()
		for tb.Loop() {
			if err = f(); err != nil {
				tb.Fatal(err)
			}
		}
	})
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	if b.ctx.Err() != nil {
		b.Fatal(b.ctx.Err())
	}
	return result
}

// nanoseconds returns the time of one call.
func nanoseconds(result testing.BenchmarkResult) float64 {
	return float64(result.T.Nanoseconds()) / float64(result.N)
}

// pool is a pool in which some addresses are in use.
type pool struct {
	*allocator.Pool
	// held contains some addresses in use, in random order.
	held circle[netip.Prefix]
	bits int
}

// circle is a list that is read cyclically. A random order is shuffled once and then read in sequence. Random
// access to a list would wait for memory, which can take longer than the measured operation.
type circle[T any] struct {
	list []T
	at   int
}

// next returns a pointer to the next element.
func (c *circle[T]) next() *T {
	if c.at++; c.at >= len(c.list) {
		c.at = 0
	}
	return &c.list[c.at]
}

func (b *bench) newPool(parent netip.Prefix) *pool {
	p, err := allocator.New(parent)
	if err != nil {
		b.Fatal(err)
	}
	return &pool{Pool: p, bits: parent.Addr().BitLen()}
}

// fragmented returns a pool with the given number of fragments: it allocates twice as many adjacent addresses, and
// releases every other one.
func (b *bench) fragmented(parent netip.Prefix, fragments int) *pool {
	b.progress.phase("prepare a parent", 2*fragments)
	p := b.newPool(parent)
	var all []netip.Prefix
	for range 2 * fragments {
		prefix, err := p.take()
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, prefix)
		b.progress.step()
	}
	for n, prefix := range all {
		if n%2 == 0 {
			p.held.list = append(p.held.list, prefix)
		} else if err := p.Release(prefix); err != nil {
			b.Fatal(err)
		}
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(fragments, func(i, j int) {
		p.held.list[i], p.held.list[j] = p.held.list[j], p.held.list[i]
	})
	return p
}

// take allocates an address.
func (p *pool) take() (netip.Prefix, error) {
	prefix, ok := p.Find(p.bits)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%s is full", p.Prefix())
	}
	return prefix, p.Take(prefix)
}

// twice releases an address and allocates one, twice: a random address and the one that the pool finds, and then
// the other way round. So the pool does not change, and the accesses are spread over its memory.
func (p *pool) twice() error {
	random := *p.held.next()
	if err := p.Release(random); err != nil {
		return err
	}
	found, err := p.take()
	if err != nil {
		return err
	}
	if err := p.Release(found); err != nil {
		return err
	}
	if _, ok := p.Find(p.bits); !ok {
		return fmt.Errorf("%s is full", p.Prefix())
	}
	return p.Take(random)
}

// set is a netipx set of free addresses.
type set struct {
	free *netipx.IPSet
	bits uint8
}

// newSet returns the free addresses of a pool.
func (b *bench) newSet(p *pool) *set {
	var builder netipx.IPSetBuilder
	builder.AddPrefix(p.Prefix())
	for _, prefix := range p.held.list {
		builder.RemovePrefix(prefix)
	}
	free, err := builder.IPSet()
	if err != nil {
		b.Fatal(err)
	}
	return &set{free, uint8(p.bits)}
}

// once allocates an address and releases it.
func (s *set) once() error {
	prefix, rest, ok := s.free.RemoveFreePrefix(s.bits)
	if !ok {
		return fmt.Errorf("the set is empty")
	}
	var builder netipx.IPSetBuilder
	builder.AddSet(rest)
	builder.AddPrefix(prefix)
	free, err := builder.IPSet()
	s.free = free
	return err
}

func measureNetipx(b *bench) {
	for _, family := range families {
		p := b.fragmented(family.parent, b.count(100_000))
		s := b.newSet(p)
		var allocs []float64
		times := turns(allocatorRounds, func(int) float64 {
			result := b.timed("pkg/allocator, "+family.name, p.twice)
			allocs = append(allocs, float64(result.MemAllocs)/float64(result.N)/2)
			return nanoseconds(result) / 2
		}, func(int) float64 {
			return nanoseconds(b.timed("netipx, "+family.name, s.once))
		})
		b.median("netipx "+family.name, ratios(times[1], times[0]))
		b.median("allocs "+family.name, allocs)
		b.median("ns "+family.name, times[0])
	}
}

func measureFragments(b *bench) {
	for _, family := range families {
		few, many := b.fragmented(family.parent, b.count(1000)), b.fragmented(family.parent, b.count(1_000_000))
		times := turns(allocatorRounds, func(int) float64 {
			return nanoseconds(b.timed("1,000 fragments, "+family.name, few.twice))
		}, func(int) float64 {
			return nanoseconds(b.timed("1,000,000 fragments, "+family.name, many.twice))
		})
		b.median("size "+family.name, ratios(times[1], times[0]))
	}
}

func measureBitmap(b *bench) {
	const size = 1 << 20
	parent := netip.MustParsePrefix("10.0.0.0/12")
	ours, bits := b.newPool(parent), bitmap.NewAllocationMap(size, parent.String())
	addresses, err := ipallocator.NewInMemory(&net.IPNet{IP: parent.Addr().AsSlice(), Mask: net.CIDRMask(parent.Bits(), 32)})
	if err != nil {
		b.Fatal(err)
	}
	heldBits := circle[int]{list: rand.New(rand.NewPCG(2, 2)).Perm(size)[:size/2]}
	var heldAddresses circle[net.IP]
	base := parent.Addr().As4()
	for _, n := range heldBits.list {
		addr := netip.AddrFrom4([4]byte{base[0], base[1] | byte(n>>16), byte(n >> 8), byte(n)})
		prefix := netip.PrefixFrom(addr, 32)
		if err := ours.Take(prefix); err != nil {
			b.Fatal(err)
		}
		ours.held.list = append(ours.held.list, prefix)
		if ok, err := bits.Allocate(n); !ok || err != nil {
			b.Fatalf("allocate %d: %v, %v", n, ok, err)
		}
		// It allocates neither the first nor the last address.
		if n > 0 && n < size-1 {
			if err := addresses.Allocate(addr.AsSlice()); err != nil {
				b.Fatal(err)
			}
			heldAddresses.list = append(heldAddresses.list, addr.AsSlice())
		}
	}
	times := turns(allocatorRounds, func(int) float64 {
		return nanoseconds(b.timed("pkg/allocator", ours.twice)) / 2
	}, func(int) float64 {
		return nanoseconds(b.timed("addresses of Kubernetes", func() error {
			address := heldAddresses.next()
			err := addresses.Release(*address)
			if err == nil {
				*address, err = addresses.AllocateNext()
			}
			return err
		}))
	}, func(int) float64 {
		return nanoseconds(b.timed("bits of Kubernetes", func() error {
			n := heldBits.next()
			if err := bits.Release(*n); err != nil {
				return err
			}
			next, ok, err := bits.AllocateNext()
			if !ok || err != nil {
				return fmt.Errorf("allocate: %v, %w", ok, err)
			}
			*n = next
			return nil
		}))
	})
	b.median("addresses", ratios(times[0], times[1]))
	b.median("addresses ns", times[1])
	b.median("bits", ratios(times[0], times[2]))
	b.median("bits ns", times[2])
	b.median("ours ns", times[0])
}
