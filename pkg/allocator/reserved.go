// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"math/big"
	"net/netip"
	"slices"
	"sort"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
)

// Reserved is a set of addresses that a pool does not choose by itself. It is immutable, and pools may share it.
type Reserved struct {
	// cidrs are the fewest prefixes that cover the set without its parts, sorted by address.
	cidrs []netip.Prefix
	// edges is set if the set also has the edges of each pool.
	edges bool
	// parts are the sets that a union consists of. They have no parts themselves. A union has nothing but its parts and
	// edges, so many unions of the same large sets take little memory.
	parts []*Reserved
}

// NewReserved returns the set of all addresses in the prefixes, which may overlap. Host bits are ignored. If edges is set,
// it also has the edges of each pool that uses it: the first and the last address of an IPv4 prefix of length 30 or less,
// and the first address of an IPv6 prefix of length 126 or less. It returns nil for an empty set.
func NewReserved(prefixes []netip.Prefix, edges bool) *Reserved {
	if len(prefixes) == 0 && !edges {
		return nil
	}
	return &Reserved{cidrs: fewest(prefixes), edges: edges}
}

// Union returns the set of all addresses in any of the sets. It returns nil if that is empty. It shares memory with the
// sets.
func Union(sets []*Reserved) *Reserved {
	var parts []*Reserved
	for _, set := range sets {
		switch {
		case set == nil:
		case set.parts != nil:
			parts = append(parts, set.parts...)
		default:
			parts = append(parts, set)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return &Reserved{parts: parts, edges: slices.ContainsFunc(parts, func(part *Reserved) bool { return part.edges })}
}

// same reports whether two sets are the same object or unions of the same objects.
func (r *Reserved) same(other *Reserved) bool {
	return r == other || r != nil && other != nil && r.parts != nil && slices.Equal(r.parts, other.parts)
}

// fewest returns the fewest prefixes that cover exactly the addresses in the given ones, sorted by address.
func fewest(prefixes []netip.Prefix) []netip.Prefix {
	sorted := make([]netip.Prefix, len(prefixes))
	for i, prefix := range prefixes {
		sorted[i] = prefix.Masked()
	}
	slices.SortFunc(sorted, netip.Prefix.Compare)
	var result []netip.Prefix
	for _, prefix := range sorted {
		if n := len(result); n > 0 && result[n-1].Overlaps(prefix) {
			// In this order, a prefix follows those that contain it.
			continue
		}
		// Join the prefix with its lower half, as often as that is there.
		for n := len(result); n > 0 && prefix.Bits() > 0 && result[n-1].Bits() == prefix.Bits(); n = len(result) {
			wider := netip.PrefixFrom(result[n-1].Addr(), prefix.Bits()-1)
			if wider.Masked() != wider || !wider.Contains(prefix.Addr()) {
				break
			}
			prefix, result = wider, result[:n-1]
		}
		result = append(result, prefix)
	}
	return slices.Clip(result)
}

// In returns the fewest prefixes that cover the addresses of the set that lie in the given prefix, sorted by address. The
// prefix is that of a pool: its edges are in the set if the set has edges.
func (r *Reserved) In(prefix netip.Prefix) []netip.Prefix {
	if r == nil {
		return nil
	}
	inside := r.inside(prefix)
	edges := r.edgesOf(prefix)
	if len(edges) == 0 && r.parts == nil {
		return inside
	}
	all := slices.Concat(inside, edges)
	for _, part := range r.parts {
		all = append(all, part.inside(prefix)...)
	}
	return fewest(all)
}

// inside returns the part of cidrs that lies in a prefix. If one of cidrs contains the prefix, it is the prefix. The caller
// must not modify the result.
func (r *Reserved) inside(prefix netip.Prefix) []netip.Prefix {
	inside := overlapping(r.cidrs, prefix)
	if len(inside) == 1 && inside[0].Bits() <= prefix.Bits() {
		return []netip.Prefix{prefix}
	}
	return inside
}

// edgesOf returns the edges of a prefix if they are in the set.
func (r *Reserved) edgesOf(prefix netip.Prefix) []netip.Prefix {
	bits := prefix.Addr().BitLen()
	if !r.edges || prefix.Bits() > bits-2 {
		return nil
	}
	edges := []netip.Prefix{netip.PrefixFrom(prefix.Addr(), bits)}
	if prefix.Addr().Is4() {
		edges = append(edges, netip.PrefixFrom(cidr.Last(prefix), bits))
	}
	return edges
}

// Overlaps reports whether a prefix inside a pool overlaps the set. of is the prefix of the pool.
func (r *Reserved) Overlaps(prefix, of netip.Prefix) bool {
	return r != nil && (len(r.inside(prefix)) > 0 || slices.ContainsFunc(r.edgesOf(of), prefix.Overlaps) ||
		slices.ContainsFunc(r.parts, func(part *Reserved) bool { return len(part.inside(prefix)) > 0 }))
}

// open is what a pool with reserved space chooses from.
type open struct {
	reserved *Reserved
	// cidrs is the part of reserved inside the pool, as disjoint prefixes, sorted by address.
	cidrs []netip.Prefix
	// pool has the prefixes in use, as the pool itself, and the reserved space that is not in use. The latter is taken as
	// vacant yields it.
	pool *Pool
}

// Reserve sets the reserved space of the pool, instead of any that was set before. Find, FitBits, LargestFree and the
// number of free addresses treat reserved space as if it were in use. Take takes it like any other. If reserved is nil,
// nothing is reserved.
//
// The time depends on the number of reserved prefixes that change and of the prefixes in use inside them. If nothing was
// reserved before, it depends on the number of all prefixes in use.
func (p *Pool) Reserve(reserved *Reserved) {
	if p.Reserved().same(reserved) || !p.prefix.IsValid() {
		return
	}
	cidrs := reserved.In(p.prefix)
	if len(cidrs) == 1 && cidrs[0] == p.prefix {
		// Only smaller prefixes than that of the pool can be taken from it.
		if cidrs = nil; !p.prefix.IsSingleIP() {
			lower, upper := cidr.Halves(p.prefix)
			cidrs = []netip.Prefix{lower, upper}
		}
	}
	o := p.open
	if len(cidrs) == 0 {
		if p.open = nil; reserved != nil {
			p.open = &open{reserved: reserved, pool: p}
		}
		return
	}
	if o == nil || o.pool == p {
		pool, err := New(p.prefix)
		if err != nil {
			// The prefix was valid for p.
			return
		}
		o = &open{pool: pool}
		for prefix := range p.All() {
			_ = o.pool.Take(prefix)
		}
	}
	o.change(p, cidrs)
	o.reserved, p.open = reserved, o
}

// change replaces the reserved prefixes. p is the pool to which o belongs.
func (o *open) change(p *Pool, cidrs []netip.Prefix) {
	was, is := o.cidrs, cidrs
	var gone, came []netip.Prefix
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(is) == 0 || len(was) > 0 && was[0].Compare(is[0]) < 0:
			gone, was = append(gone, was[0]), was[1:]
		case len(was) == 0 || was[0] != is[0]:
			came, is = append(came, is[0]), is[1:]
		default:
			was, is = was[1:], is[1:]
		}
	}
	for _, prefix := range gone {
		p.vacant(prefix, func(vacant netip.Prefix) { _ = o.pool.Release(vacant) })
	}
	for _, prefix := range came {
		p.vacant(prefix, func(vacant netip.Prefix) { _ = o.pool.Take(vacant) })
	}
	o.cidrs = cidrs
}

// Reserved returns the set that was passed to Reserve.
func (p *Pool) Reserved() *Reserved {
	if p.open == nil {
		return nil
	}
	return p.open.reserved
}

// ReservedAddresses returns the exact number of addresses that are reserved and not in use. The caller owns the result.
func (p *Pool) ReservedAddresses() *big.Int {
	n := p.freeAddresses()
	return n.Sub(n, p.choice().freeAddresses())
}

// ReservedExcess returns how many reserved prefixes the pool has beyond the number of prefixes in use, and of how many sets
// the reserved one consists. It is a measure of the memory that reservations cost and that no objects account for.
func (p *Pool) ReservedExcess() int {
	if p.open == nil {
		return 0
	}
	return max(0, len(p.open.cidrs)-p.len) + len(p.open.reserved.parts)
}

// FitsReserved reports whether Find would succeed if nothing were reserved.
func (p *Pool) FitsReserved(bits int) bool {
	_, ok := p.fitBits(bits)
	return ok
}

// choice returns the pool from which prefixes are chosen. It is the pool itself if nothing is reserved.
func (p *Pool) choice() *Pool {
	if p.open == nil {
		return p
	}
	return p.open.pool
}

// vacant calls f for the fewest prefixes that cover the part of a prefix that is not in use.
func (p *Pool) vacant(prefix netip.Prefix, f func(netip.Prefix)) {
	holder, inUse := p.Overlapping(prefix)
	switch {
	case !inUse:
		f(prefix)
	case holder.Bits() > prefix.Bits():
		lower, upper := cidr.Halves(prefix)
		p.vacant(lower, f)
		p.vacant(upper, f)
	}
}

// taken updates o after a prefix was taken from p, the pool to which o belongs.
func (o *open) taken(prefix netip.Prefix) {
	reserved := o.overlapping(prefix)
	switch {
	case len(reserved) == 1 && reserved[0].Bits() <= prefix.Bits():
		// The prefix is a part of a vacant one. Take what is left of that.
		vacant, ok := o.pool.Overlapping(prefix)
		if !ok {
			break
		}
		_ = o.pool.Release(vacant)
		for part := prefix; part.Bits() > vacant.Bits(); part = outer(part) {
			_ = o.pool.Take(sibling(part))
		}
	default:
		// Nothing else is in use inside the prefix, so each reserved prefix was vacant.
		for _, inside := range reserved {
			_ = o.pool.Release(inside)
		}
	}
	_ = o.pool.Take(prefix)
}

// released updates o after a prefix was released to p, the pool to which o belongs.
func (o *open) released(p *Pool, prefix netip.Prefix) {
	_ = o.pool.Release(prefix)
	reserved := o.overlapping(prefix)
	if len(reserved) == 1 && reserved[0].Bits() <= prefix.Bits() {
		// Join the prefix with the vacant ones around it.
		vacant := prefix
		for vacant.Bits() > reserved[0].Bits() {
			wider := outer(vacant)
			if _, inUse := p.Overlapping(wider); inUse {
				break
			}
			_ = o.pool.Release(sibling(vacant))
			vacant = wider
		}
		reserved = []netip.Prefix{vacant}
	}
	for _, vacant := range reserved {
		_ = o.pool.Take(vacant)
	}
}

// overlapping returns the reserved prefixes that overlap the given one. The caller must not modify the result.
func (o *open) overlapping(prefix netip.Prefix) []netip.Prefix { return overlapping(o.cidrs, prefix) }

// overlapping returns the part of disjoint, sorted prefixes that overlap the given one.
func overlapping(sorted []netip.Prefix, prefix netip.Prefix) []netip.Prefix {
	first := sort.Search(len(sorted), func(i int) bool { return !sorted[i].Addr().Less(prefix.Addr()) })
	if first > 0 && sorted[first-1].Overlaps(prefix) {
		first--
	}
	last := first
	for last < len(sorted) && sorted[last].Overlaps(prefix) {
		last++
	}
	return sorted[first:last]
}

// outer returns the prefix that is one bit shorter and contains the given one.
func outer(prefix netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(prefix.Addr(), prefix.Bits()-1).Masked()
}

// sibling returns the other half of outer(prefix).
func sibling(prefix netip.Prefix) netip.Prefix {
	lower, upper := cidr.Halves(outer(prefix))
	if lower == prefix {
		return upper
	}
	return lower
}
