// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"k8s.io/apimachinery/pkg/labels"
)

// The states that a filter can ask for.
const (
	stateUsed     = "used"
	stateWaiting  = "waiting"
	stateDeleting = "deleting"
)

// filter selects nodes.
type filter struct {
	// source is what the filter was made from. It is empty for one that selects everything.
	source    string
	text      string
	address   netip.Prefix
	namespace string
	state     string
	selector  labels.Selector
}

// newFilter returns the filter for what a user typed: a part of a name, or an address or a range; a namespace; a state;
// a label selector. What is empty selects everything.
func newFilter(text, namespace, state, selector string) (*filter, error) {
	f := &filter{text: strings.ToLower(strings.TrimSpace(text)), namespace: namespace, state: state}
	if text, namespace, state, selector := f.text, namespace, state, strings.TrimSpace(selector); text != "" || namespace != "" || state != "" || selector != "" {
		f.source = strings.Join([]string{text, namespace, state, selector}, "\x00")
	}
	switch state {
	case "", stateUsed, stateWaiting, stateDeleting:
	default:
		return nil, fmt.Errorf("there is no state %q", plaintext.Escape(state))
	}
	if address, err := netip.ParseAddr(f.text); err == nil {
		f.address = netip.PrefixFrom(address, address.BitLen())
	} else if prefix, err := netip.ParsePrefix(f.text); err == nil {
		f.address = prefix.Masked()
	}
	if selector = strings.TrimSpace(selector); selector != "" {
		parsed, err := labels.Parse(selector)
		if err != nil {
			return nil, fmt.Errorf("labels: %s", plaintext.Escape(err.Error()))
		}
		f.selector = parsed
	}
	return f, nil
}

// all reports whether the filter selects everything.
func (f *filter) all() bool { return f.source == "" }

// matches reports whether the filter selects a node. An address selects what holds it, and a range what holds a part of
// it.
func (f *filter) matches(n *node) bool {
	switch {
	case f.namespace != "" && n.key.namespace != f.namespace,
		f.state == stateWaiting && !n.waiting,
		f.state == stateUsed && n.waiting,
		f.state == stateDeleting && !n.deleting,
		f.selector != nil && !f.selector.Matches(n.labels):
		return false
	case f.address.IsValid():
		return n.prefix.IsValid() && n.prefix.Overlaps(f.address) || n.exact.IsValid() && n.exact.Overlaps(f.address)
	case f.text == "":
		return true
	}
	return strings.Contains(n.key.name, f.text) || strings.Contains(n.key.namespace, f.text) ||
		n.prefix.IsValid() && strings.HasPrefix(n.prefix.String(), f.text) ||
		strings.Contains(strings.ToLower(n.owner), f.text)
}

// mark sets match and below of all nodes.
func (m *model) mark(f *filter) {
	if m.marks == f.source && m.marksAt == m.revision {
		return
	}
	m.marks, m.marksAt, m.matches = f.source, m.revision, 0
	if f.all() {
		m.matches = m.prefixes + m.allocations
		return
	}
	for n := range m.each {
		n.match, n.below = n.known && f.matches(n), false
	}
	for n := range m.each {
		if !n.match {
			continue
		}
		m.matches++
		for a, depth := n, 0; !a.top() && !a.parent.below && depth < maxDepth; depth++ {
			a = a.parent
			a.below = true
		}
	}
}

// roots returns the nodes at the top, by namespace, family and address.
func (m *model) roots() []*node {
	if m.topsAt == m.revision && m.tops != nil {
		return m.tops
	}
	m.topsAt, m.tops = m.revision, m.tops[:0]
	for n := range m.each {
		if n.known && n.top() {
			m.tops = append(m.tops, n)
		}
	}
	slices.SortFunc(m.tops, func(a, b *node) int {
		held := 0
		if a.prefix.IsValid() != b.prefix.IsValid() {
			if held = 1; a.prefix.IsValid() {
				held = -1
			}
		}
		return cmp.Or(strings.Compare(a.key.namespace, b.key.namespace), held,
			a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()),
			a.created.Compare(b.created), strings.Compare(a.key.name, b.key.name))
	})
	return m.tops
}

// row is a line of the tree: a namespace or a node.
type row struct {
	// namespace is set on the row of a namespace.
	namespace string
	node      *node
	// level, position and size are those of ARIA: the depth from 1 on, and the place among the siblings.
	level, position, size int
	open                  bool
}

// id returns what identifies a row.
func (r row) id() string {
	if r.node == nil {
		return "ns:" + r.namespace
	}
	return strconv.Itoa(r.node.id)
}

// list returns the rows of the tree. Without a filter, those in open show what is below them; with one, the tree has only
// what the filter selects and its ancestors, all open.
func (m *model) list(f *filter, open map[string]bool) []row {
	m.mark(f)
	of := f.source + "\x01" + strings.Join(slices.Sorted(maps.Keys(open)), ",")
	if m.rowsOf == of && m.rowsAt == m.revision && m.rows != nil {
		return m.rows
	}
	m.rowsOf, m.rowsAt, m.rows = of, m.revision, m.rows[:0]
	shown := func(nodes []*node) []*node {
		if f.all() {
			return nodes
		}
		kept := make([]*node, 0, 16)
		for _, n := range nodes {
			if n.match || n.below {
				kept = append(kept, n)
			}
		}
		return kept
	}
	var add func(nodes []*node, level int)
	add = func(nodes []*node, level int) {
		for i, n := range nodes {
			n.sort()
			r := row{node: n, level: level, position: i + 1, size: len(nodes)}
			r.open = len(n.children) > 0 && level <= maxDepth && (open[r.id()] || !f.all() && n.below)
			m.rows = append(m.rows, r)
			if r.open {
				add(shown(n.children), level+1)
			}
		}
	}
	groups := byNamespace(shown(m.roots()))
	if len(groups) == 1 {
		add(groups[0], 1)
		return m.rows
	}
	for i, group := range groups {
		r := row{namespace: group[0].key.namespace, level: 1, position: i + 1, size: len(groups)}
		r.open = open[r.id()] || !f.all()
		m.rows = append(m.rows, r)
		if r.open {
			add(group, 2)
		}
	}
	return m.rows
}

// byNamespace splits nodes that are sorted by namespace.
func byNamespace(nodes []*node) [][]*node {
	var groups [][]*node
	for i, n := range nodes {
		if i == 0 || n.key.namespace != nodes[i-1].key.namespace {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], n)
	}
	return groups
}

// namespaces returns the namespaces that have a node, sorted.
func (m *model) namespaces() []string {
	seen := map[string]bool{}
	last := ""
	for n := range m.each {
		if n.known && n.key.namespace != last {
			last = n.key.namespace
			seen[last] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// waitingNodes returns the nodes that wait and that a filter selects, the oldest first.
func (m *model) waitingNodes(f *filter) []*node {
	m.mark(f)
	var found []*node
	if m.waiting == 0 {
		return nil
	}
	for n := range m.each {
		if n.known && n.waiting && (f.all() || n.match) {
			found = append(found, n)
		}
	}
	slices.SortFunc(found, func(a, b *node) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.key.namespace, b.key.namespace),
			strings.Compare(a.key.name, b.key.name))
	})
	return found
}
