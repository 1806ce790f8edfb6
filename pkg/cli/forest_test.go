// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// model is a naive model of a parent of at most 2^8 addresses: what is held, address by address.
type model struct {
	parent netip.Prefix
	held   map[netip.Addr]bool
}

// randomHeld returns a parent, and random prefixes in it that do not overlap, sorted by address.
func randomHeld(random *rand.Rand) (parent netip.Prefix, held []netip.Prefix) {
	parent = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("255.255.255.0/24"), netip.MustParsePrefix("0.0.0.0/26"),
		netip.MustParsePrefix("2001:db8::ff00/120"), netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("10.1.2.2/31"),
	}[random.Intn(6)]
	for range random.Intn(40) {
		bits := parent.Bits() + random.Intn(parent.Addr().BitLen()-parent.Bits()+1)
		addr := parent.Addr()
		for range random.Intn(256) {
			if next := addr.Next(); parent.Contains(next) {
				addr = next
			}
		}
		prefix := netip.PrefixFrom(addr, bits).Masked()
		if !slices.ContainsFunc(held, prefix.Overlaps) {
			held = append(held, prefix)
		}
	}
	slices.SortFunc(held, comparePrefixes)
	return parent, held
}

func newModel(parent netip.Prefix, held []netip.Prefix) model {
	m := model{parent, map[netip.Addr]bool{}}
	for addr := parent.Addr(); parent.Contains(addr); addr = addr.Next() {
		for _, prefix := range held {
			m.held[addr] = m.held[addr] || prefix.Contains(addr)
		}
	}
	return m
}

// free returns the number of addresses that are not held.
func (m model) free() (count int64) {
	for addr := m.parent.Addr(); m.parent.Contains(addr); addr = addr.Next() {
		if !m.held[addr] {
			count++
		}
	}
	return count
}

// isFree reports whether no address of a prefix is held, and all of them are in the parent.
func (m model) isFree(prefix netip.Prefix) bool {
	for addr := prefix.Addr(); prefix.Contains(addr); addr = addr.Next() {
		if m.held[addr] || !m.parent.Contains(addr) {
			return false
		}
	}
	return true
}

// TestFreeBlocks compares the free blocks with the naive model: they are free, they are all that is free, they are
// sorted, and none could be twice as large.
func TestFreeBlocks(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(1))
	for range 200 {
		parent, held := randomHeld(random)
		m := newModel(parent, held)
		blocks := slices.Collect(freeBlocks(parent, held))
		what := fmt.Sprintf("%s without %s is %s", parent, held, blocks)
		if !slices.IsSortedFunc(blocks, comparePrefixes) {
			t.Fatalf("not sorted: %s", what)
		}
		for _, block := range blocks {
			if !m.isFree(block) {
				t.Fatalf("%s is not free: %s", block, what)
			}
			if block.Bits() > parent.Bits() && m.isFree(netip.PrefixFrom(block.Addr(), block.Bits()-1).Masked()) {
				t.Fatalf("%s could be larger: %s", block, what)
			}
		}
		if got, want := sumOf(blocks), m.free(); got.Cmp(big.NewInt(want)) != 0 {
			t.Fatalf("%s addresses instead of %d: %s", got, want, what)
		}
		if got, want := sumOf(held), m.parentSize()-m.free(); got.Cmp(big.NewInt(want)) != 0 {
			t.Fatalf("%s addresses are held instead of %d: %s", got, want, what)
		}
	}
}

func (m model) parentSize() int64 { return sizeOf(m.parent).Int64() }

// TestBlockAround compares the block around an address with the naive model.
func TestBlockAround(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(2))
	for range 200 {
		parent, held := randomHeld(random)
		m := newModel(parent, held)
		for addr := parent.Addr(); parent.Contains(addr); addr = addr.Next() {
			if m.held[addr] {
				continue
			}
			target := netip.PrefixFrom(addr, addr.BitLen())
			got, want := blockAround(parent, target, held), target
			for bits := target.Bits(); bits >= parent.Bits(); bits-- {
				if block := netip.PrefixFrom(addr, bits).Masked(); m.isFree(block) {
					want = block
				}
			}
			if got != want {
				t.Fatalf("around %s in %s without %s: %s instead of %s", addr, parent, held, got, want)
			}
		}
	}
}

// TestForest compares trees that are linked from nodes in any order with what made them.
func TestForest(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(3))
	for range 300 {
		// In each round a node is cut out of a node that is there.
		nodes := []*node{{NamespacedName: name(0), prefix: netip.MustParsePrefix("10.0.0.0/8")}}
		for i := 1; i < 2+random.Intn(60); i++ {
			parent := nodes[random.Intn(len(nodes))]
			if parent.prefix.IsSingleIP() {
				continue
			}
			low, high := cidr.Halves(parent.prefix)
			prefix := []netip.Prefix{low, high}[random.Intn(2)]
			if slices.ContainsFunc(nodes, func(n *node) bool { return n.parent == parent.Name && n.prefix == prefix }) {
				continue
			}
			nodes = append(nodes, &node{NamespacedName: name(i), parent: parent.Name, prefix: prefix})
		}
		f := &forest{}
		for _, i := range random.Perm(len(nodes)) {
			f.nodes = append(f.nodes, nodes[i])
		}
		f.link()
		if len(f.roots) != 1 || f.roots[0] != nodes[0] {
			t.Fatalf("%d roots", len(f.roots))
		}
		seen := 0
		var walk func(n *node)
		walk = func(n *node) {
			seen++
			want := []netip.Prefix{}
			for _, other := range nodes {
				if other.parent == n.Name {
					want = append(want, other.prefix)
				}
			}
			slices.SortFunc(want, comparePrefixes)
			if got := n.held(); !slices.Equal(got, want) {
				t.Fatalf("the children of %s are %s instead of %s", n.prefix, got, want)
			}
			for _, child := range n.children {
				if !cidr.StrictlyInside(child.prefix, n.prefix) {
					t.Fatalf("%s is not inside %s", child.prefix, n.prefix)
				}
				walk(child)
			}
		}
		if walk(f.roots[0]); seen != len(nodes) {
			t.Fatalf("%d of %d nodes are in the tree", seen, len(nodes))
		}
	}
}

func name(i int) types.NamespacedName {
	return types.NamespacedName{Namespace: "a", Name: fmt.Sprintf("n%d", i)}
}

// TestCircle shows that Prefixes that wait for each other are not lost.
func TestCircle(t *testing.T) {
	t.Parallel()
	f := &forest{nodes: []*node{
		{NamespacedName: name(1), parent: "n2"}, {NamespacedName: name(2), parent: "n1"}, {NamespacedName: name(3), parent: "n3"},
	}}
	if f.link(); len(f.roots) != 3 {
		t.Errorf("%d of 3 nodes are at the top", len(f.roots))
	}
}

// TestSumUp shows that no node is lost, and that what is interesting is shown, up to a number.
func TestSumUp(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(4))
	for range 200 {
		nodes := make([]*node, random.Intn(300))
		interesting := 0
		for i := range nodes {
			nodes[i] = &node{NamespacedName: name(i), state: []string{"Allocated", "Allocated", "Pending", "Terminating"}[random.Intn(4)]}
			if nodes[i].state != "Allocated" {
				interesting++
			}
		}
		shown, summed := sumUp(nodes)
		if len(shown) != min(interesting, maxSiblings) || len(shown)+len(summed) != len(nodes) {
			t.Fatalf("of %d nodes, %d interesting ones, %d are shown and %d summed up", len(nodes), interesting, len(shown), len(summed))
		}
	}
}

func TestInWords(t *testing.T) {
	t.Parallel()
	for want, prefixes := range map[string]string{
		"":                               "",
		"1 × /24":                        "10.0.0.0/24",
		"2 × /32, 1 × /24":               "10.0.0.0/24 10.0.1.0/32 10.0.1.1/32",
		"1 × /24, 1 × /25, 1 × /26, ...": "10.0.0.0/24 10.0.1.0/25 10.0.2.0/26 10.0.3.0/27",
		"3 × /127, 2 × /64, 1 × /128":    "::/64 1::/64 2::/127 3::/127 4::/127 5::/128",
	} {
		var parsed []netip.Prefix
		for _, field := range strings.Fields(prefixes) {
			parsed = append(parsed, netip.MustParsePrefix(field))
		}
		if got := inWords(lengthsOf(parsed)); got != want {
			t.Errorf("%s: %q instead of %q", prefixes, got, want)
		}
	}
}

// TestMessages shows that a message has the line breaks of this program and no others: those of names and of what the
// server says are escaped.
func TestMessages(t *testing.T) {
	t.Parallel()
	evil := errors.New("no\nerror: \x1b[31mfake")
	const escaped = `no\nerror: \u001b[31mfake`
	for _, tt := range []struct {
		err  error
		want string
	}{
		{evil, escaped},
		{fmt.Errorf("read: %w", evil), "read: " + escaped},
		{exitf(ExitUsage, "%w\nSee %s", evil, "a\nb"), escaped + "\nSee a\\nb"},
		{exitf(ExitUsage, "outer: %w", exitf(ExitInvalid, "one\n%w", evil)), "outer: one\n" + escaped},
		{errors.Join(exitf(ExitUsage, "a\nb"), evil), "a\nb\n" + escaped},
		{exitf(ExitConflict, "%d of %s", 3, types.UID("\x07")), `3 of \u0007`},
	} {
		var b strings.Builder
		s := newSession(Options{IOStreams: genericiooptions.IOStreams{ErrOut: &b}})
		if s.say("error: %v", tt.err); b.String() != "error: "+tt.want+"\n" {
			t.Errorf("%q instead of %q", b.String(), tt.want)
		}
	}
	if err := exitf(ExitUsage, "%w", evil); !errors.Is(err, evil) {
		t.Error("the cause is lost")
	}
}

// TestNodeSize keeps the size of what the commands keep of a Prefix: there may be a million of them. Before the rare fields
// had a struct of their own, it was 256 bytes.
func TestNodeSize(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[node]().Size(); size > 160 {
		t.Errorf("a node has %d bytes, more than 160", size)
	}
	// With the name: there is no map that has it as its key.
	if size := reflect.TypeFor[checked]().Size(); size > 80 {
		t.Errorf("what check keeps has %d bytes, more than 80", size)
	}
}
