// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// kind is the kind of an object in the model.
type kind uint8

const (
	prefixKind kind = iota
	// allocationKind is a PrefixAllocation that was not made for a Prefix.
	allocationKind
	policyKind
	// coolingKind is a PrefixAllocation whose space cools down.
	coolingKind
)

// key identifies an object.
type key struct {
	kind            kind
	namespace, name string
}

// node is what the model knows of an object. A node that is not known stands for a parent that was named but not read.
type node struct {
	id    int
	key   key
	known bool
	// round is the last round of reading in which the object was seen.
	round uint64

	// prefix is the range that the object holds. It is invalid if the object waits.
	prefix netip.Prefix
	// waiting says that the object holds nothing yet; asks is what it asks for, in words, and exact the range, if it
	// asks for a certain one. reason and message say why it waits.
	waiting         bool
	asks            string
	exact           netip.Prefix
	reason, message string
	deleting        bool
	created         time.Time
	owner           string
	labels          labels.Set
	// usage is what has been allocated from the object. It is nil if nothing has.
	usage *v1alpha1.PrefixUsage

	parent *node
	// offspring is the number of nodes whose parent this is.
	offspring int
	// children are the objects that are allocated from this one, or name it as their parent: those that hold a part of
	// its range by address, then the others by age. What follows holds after sort.
	children []*node
	unsorted bool
	// held is the number of children that hold a part of the range.
	held int
	// sums are running totals of the parts of the range that the children hold: sums[i] is that of children[:i].
	sums []float64

	// match says that the node meets the filter of the last pass, and below that a descendant does.
	match, below bool
}

// top reports whether the node is at the top of a tree: it has no parent, or one that was not read.
func (n *node) top() bool { return n.parent == nil || !n.parent.known }

// path returns the node and its ancestors, the outermost first. It ends where parents go round in a circle.
func (n *node) path() []*node {
	path := []*node{n}
	for a := n; !a.top() && len(path) < maxDepth; path = append(path, a) {
		a = a.parent
	}
	slices.Reverse(path)
	return path
}

// maxDepth bounds the depth of a tree: an IPv6 range can be divided 128 times.
const maxDepth = 129

// holds reports whether a child holds a part of the range of n.
func (n *node) holds(c *node) bool {
	return !c.waiting && n.prefix.IsValid() && c.prefix.IsValid() && cidr.StrictlyInside(c.prefix, n.prefix)
}

// sort orders the children, without those that have gone.
func (n *node) sort() {
	if !n.unsorted {
		return
	}
	n.unsorted = false
	n.children = slices.DeleteFunc(n.children, func(c *node) bool { return !c.known || c.parent != n })
	slices.SortFunc(n.children, func(a, b *node) int {
		inside, other := n.holds(a), n.holds(b)
		order := 0
		switch {
		case inside && other:
			order = cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
		case inside:
			order = -1
		case other:
			order = 1
		default:
			order = a.created.Compare(b.created)
		}
		return cmp.Or(order, strings.Compare(a.key.name, b.key.name), cmp.Compare(a.id, b.id))
	})
	n.children = slices.Compact(n.children)
	n.held, n.sums = 0, append(n.sums[:0], 0)
	total := 0.0
	for _, c := range n.children {
		if !n.holds(c) {
			break
		}
		n.held++
		total += part(c.prefix, n.prefix)
		n.sums = append(n.sums, total)
	}
}

// part returns the size of a prefix as a part of another one.
func part(p, of netip.Prefix) float64 { return math.Ldexp(1, of.Bits()-p.Bits()) }

// within returns the range of indexes of the children that hold a part of a block, or all of it. The children have to be
// sorted.
func (n *node) within(block netip.Prefix) (from, to int) {
	last := cidr.Last(block)
	from, _ = slices.BinarySearchFunc(n.children[:n.held], block.Addr(), func(c *node, a netip.Addr) int {
		return c.prefix.Addr().Compare(a)
	})
	if from > 0 && n.children[from-1].prefix.Overlaps(block) {
		from--
	}
	to, _ = slices.BinarySearchFunc(n.children[:n.held], last, func(c *node, a netip.Addr) int {
		if c.prefix.Addr().Compare(a) <= 0 {
			return -1
		}
		return 1
	})
	return from, to
}

// used returns how much of the range has been allocated from it, 0 to 1.
func (n *node) used() float64 {
	n.sort()
	return min(n.sums[n.held], 1)
}

// slot is a place in the list of nodes. The node is nil after it has been removed.
type slot struct {
	id   int
	node *node
}

// model is what has been read of the cluster. begin, putPrefix, putAllocation, drop and end take the lock; the other
// methods need it.
type model struct {
	mu    sync.Mutex
	nodes map[key]*node
	// byID has the nodes in the order of their ids. gone is the number of slots whose node has been removed, and ids the number
	// of ids that have been given. An id is never given again: the page may still ask for what it meant.
	byID []slot
	gone int
	ids  int
	// revision counts the changes.
	revision uint64
	// prefixes, allocations and waiting are the numbers of objects.
	prefixes, allocations, waiting int
	round                          uint64
	// usage has the history of each object that something has been allocated from, and counts that of their number.
	usage  map[*node]*history
	counts history
	// policies has the PrefixPolicies by namespace and name.
	policies map[string]map[string]*policyView
	// cooling has what cools down, by the Prefix of which it is a part and by the PrefixAllocation that holds it. cools has the
	// Prefix of each PrefixAllocation.
	cooling map[key]map[key]*cooling
	cools   map[key]key
	// shared holds one copy of each string that many objects have. sweep removes those that no object has any more.
	shared map[string]string
	// sharedMost is the number of shared strings at which they are swept.
	sharedMost int
	now        func() time.Time

	// What follows was derived at a revision, and is derived again after a change.
	tops    []*node
	topsAt  uint64
	marks   string
	marksAt uint64
	matches int
	rows    []row
	rowsOf  string
	rowsAt  uint64
}

func newModel() *model {
	return &model{nodes: map[key]*node{}, usage: map[*node]*history{}, policies: map[string]map[string]*policyView{},
		cooling: map[key]map[key]*cooling{}, cools: map[key]key{}, shared: map[string]string{},
		sharedMost: leastSwept, now: time.Now}
}

// share returns a copy of a string that all who ask for it share.
func (m *model) share(s string) string {
	shared, ok := m.shared[s]
	if !ok {
		shared = strings.Clone(s)
		m.shared[shared] = shared
	}
	return shared
}

// at returns the node of a key. It adds one if there is none.
func (m *model) at(k key) *node {
	n := m.nodes[k]
	if n == nil {
		k.namespace, k.name = m.share(k.namespace), strings.Clone(k.name)
		n = &node{id: m.ids, key: k, sums: []float64{0}}
		m.ids++
		m.nodes[k] = n
		m.byID = append(m.byID, slot{n.id, n})
	}
	return n
}

// node returns the node with an id, or nil if there is none.
func (m *model) node(id int) *node {
	if i, ok := m.slot(id); ok && m.byID[i].node != nil && m.byID[i].node.known {
		return m.byID[i].node
	}
	return nil
}

// slot returns the index of the slot of an id.
func (m *model) slot(id int) (int, bool) {
	return slices.BinarySearchFunc(m.byID, id, func(s slot, id int) int { return cmp.Compare(s.id, id) })
}

// each yields the nodes in the order of their ids.
func (m *model) each(yield func(*node) bool) {
	for _, s := range m.byID {
		if s.node != nil && !yield(s.node) {
			return
		}
	}
}

// leastSwept is the number of removed nodes, shared strings or children that are not looked at, so that small models are
// not swept all the time.
const leastSwept = 256

// remove removes a node. It sweeps the slots when more than half of them are empty, so that each removal costs little.
func (m *model) remove(n *node) {
	delete(m.nodes, n.key)
	if i, ok := m.slot(n.id); ok && m.byID[i].node == n {
		m.byID[i].node = nil
		m.gone++
	}
	if m.gone > leastSwept && m.gone > len(m.byID)/2 {
		m.byID = slices.Clip(slices.DeleteFunc(slices.Clone(m.byID), func(s slot) bool { return s.node == nil }))
		m.gone = 0
	}
}

// sweep removes the shared strings that no node has any more, once there are twice as many as after the last time.
func (m *model) sweep() {
	if len(m.shared) <= m.sharedMost {
		return
	}
	used := map[string]string{}
	for n := range m.each {
		used[n.key.namespace], used[n.owner], used[n.reason] = n.key.namespace, n.owner, n.reason
		for k, v := range n.labels {
			used[k], used[v] = k, v
		}
	}
	m.shared, m.sharedMost = used, max(2*len(used), leastSwept)
}

// adopt makes a node the child of another one, which may be nil, in place of the one that it was.
func (m *model) adopt(n, parent *node) {
	old := n.parent
	if old == parent {
		if parent != nil {
			parent.unsorted = true
		}
		return
	}
	if n.parent = parent; parent != nil {
		parent.unsorted = true
		parent.offspring++
		parent.children = append(parent.children, n)
	}
	if old == nil {
		return
	}
	old.unsorted = true
	switch old.offspring--; {
	case old.offspring == 0 && !old.known:
		m.remove(old)
	case len(old.children) > 2*old.offspring+leastSwept:
		// Nobody has looked at them since they went.
		old.sort()
	}
}

// begin starts a round of reading all objects. What is not put before end is called has gone.
func (m *model) begin() (round uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.round++
	return m.round
}

// end ends a round of reading all objects of a kind.
func (m *model) end(of kind, round uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.nodes {
		if k.kind == of && n.known && n.round < round {
			m.forget(n)
		}
	}
	for namespace, policies := range m.policies {
		maps.DeleteFunc(policies, func(_ string, p *policyView) bool { return of == policyKind && p.round < round })
		if len(policies) == 0 {
			delete(m.policies, namespace)
		}
	}
	for k, parent := range m.cools {
		if of == coolingKind && m.cooling[parent][k].round < round {
			m.warm(k)
		}
	}
	m.revision++
}

// drop removes an object.
func (m *model) drop(of kind, namespace, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if of == coolingKind {
		m.warm(key{of, namespace, name})
	}
	if n := m.nodes[key{of, namespace, name}]; n != nil && n.known {
		m.forget(n)
	}
	if of == policyKind {
		if delete(m.policies[namespace], name); len(m.policies[namespace]) == 0 {
			delete(m.policies, namespace)
		}
	}
	m.revision++
}

// forget removes a node, or what is known of it if others name it as their parent.
func (m *model) forget(n *node) {
	m.count(n, -1)
	*n = node{id: n.id, key: n.key, parent: n.parent, offspring: n.offspring, children: n.children, unsorted: true, sums: []float64{0}}
	delete(m.usage, n)
	m.adopt(n, nil)
	if n.offspring == 0 {
		m.remove(n)
	}
}

// count adds a node to the numbers of objects, or takes it out.
func (m *model) count(n *node, by int) {
	if !n.known {
		return
	}
	if n.key.kind == prefixKind {
		m.prefixes += by
	} else {
		m.allocations += by
	}
	if n.waiting {
		m.waiting += by
	}
}

// putPrefix stores what a Prefix says.
func (m *model) putPrefix(p *v1alpha1.Prefix) {
	held, _ := cidr.ParseStored(p.Spec.Prefix)
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.at(key{prefixKind, p.Namespace, p.Name})
	m.put(n, &p.ObjectMeta, p.Status.Conditions, p.NamespaceOfParent(), p.Spec.ParentRef, held,
		p.Spec.PrefixLength, p.Status.Phase != v1alpha1.PrefixPhaseAllocated && !p.Spec.IsRoot())
	if n.usage = nil; p.Status.Usage == nil {
		return
	}
	used := fraction(p.Status.Usage)
	if used > 0 || p.Status.Usage.Reserved != "" {
		n.usage = usageOf(p.Status.Usage)
	}
	h := m.usage[n]
	if h == nil {
		if used == 0 {
			return
		}
		h = &history{}
		m.usage[n] = h
	}
	h.add(m.now(), used)
}

// putAllocation stores what a PrefixAllocation says.
func (m *model) putAllocation(a *v1alpha1.PrefixAllocation) {
	waiting := a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated
	notation := a.Status.Prefix
	if waiting {
		notation = a.Spec.Prefix
	}
	held, _ := cidr.ParseStored(notation)
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.at(key{allocationKind, a.Namespace, a.Name})
	m.put(n, &a.ObjectMeta, a.Status.Conditions, a.NamespaceOfParent(), a.Spec.PrefixRef, held, a.Spec.PrefixLength, waiting)
}

// put stores what the two kinds share.
func (m *model) put(n *node, meta *metav1.ObjectMeta, conditions []metav1.Condition, parentNamespace string, parent *v1alpha1.LocalObjectReference,
	prefix netip.Prefix, length int32, waiting bool) {
	m.count(n, -1)
	n.known, n.round = true, m.round
	n.deleting = meta.DeletionTimestamp != nil
	n.created = meta.CreationTimestamp.Time
	n.owner = ""
	if c := metav1.GetControllerOf(meta); c != nil {
		n.owner = m.share(plaintext.Escape(c.Kind + "/" + c.Name))
	} else if len(meta.OwnerReferences) > 0 {
		n.owner = m.share(plaintext.Escape(meta.OwnerReferences[0].Kind + "/" + meta.OwnerReferences[0].Name))
	}
	n.labels = nil
	for k, v := range meta.Labels {
		if n.labels == nil {
			n.labels = labels.Set{}
		}
		n.labels[m.share(k)] = m.share(v)
	}
	n.waiting, n.asks, n.reason, n.message = waiting, "", "", ""
	n.prefix, n.exact = prefix, netip.Prefix{}
	if waiting {
		n.prefix, n.exact = netip.Prefix{}, prefix
		switch {
		case prefix.IsValid():
			n.asks = prefix.String()
		case length > 0:
			n.asks = fmt.Sprintf("/%d", length)
		}
		for _, c := range conditions {
			if c.Type == v1alpha1.ConditionAllocated {
				n.reason, n.message = m.share(plaintext.Escape(c.Reason)), plaintext.Escape(c.Message)
			}
		}
	}
	var of *node
	if parent != nil && parent.Name != "" {
		of = m.at(key{prefixKind, parentNamespace, parent.Name})
	}
	m.adopt(n, of)
	n.unsorted = true
	m.count(n, 1)
	m.revision++
	m.sweep()
}

// fraction returns the used part, 0 to 1. What is not a number of addresses, from another server, is 0.
func fraction(u *v1alpha1.PrefixUsage) float64 {
	total, ok := addresses(u.Total)
	used, ok2 := addresses(u.Used)
	if !ok || !ok2 || total.Sign() <= 0 {
		return 0
	}
	f, _ := new(big.Rat).SetFrac(used, total).Float64()
	return min(max(f, 0), 1)
}

// mostDigits is the number of digits of 2^128.
const mostDigits = 39

// addresses parses a number of addresses.
func addresses(digits string) (*big.Int, bool) {
	if len(digits) > mostDigits {
		return nil, false
	}
	return new(big.Int).SetString(digits, 10)
}

// usageOf returns a copy of a usage that can be shown.
func usageOf(u *v1alpha1.PrefixUsage) *v1alpha1.PrefixUsage {
	u = u.DeepCopy()
	for _, text := range []*string{&u.Total, &u.Used, &u.Free, &u.Reserved, &u.Cooling, &u.LargestFree} {
		*text = plaintext.Escape(*text)
	}
	return u
}

// history is how a value changed. It keeps at most maxSamples values, and halves its resolution when it is full.
type history struct {
	samples []sample
	// apart is the least time between two samples.
	apart time.Duration
}

// sample is a value at a time.
type sample struct {
	at    time.Time
	value float64
}

const maxSamples = 240

// add appends a value. It replaces the last one if that is too close to the one before.
func (h *history) add(at time.Time, value float64) {
	if n := len(h.samples); n > 1 && at.Sub(h.samples[n-2].at) < h.apart {
		h.samples[n-1] = sample{at, value}
		return
	}
	if h.samples = append(h.samples, sample{at, value}); len(h.samples) < maxSamples {
		return
	}
	kept := h.samples[:0]
	for i, s := range h.samples {
		if i%2 == 0 {
			kept = append(kept, s)
		}
	}
	h.samples = kept
	h.apart = 2 * at.Sub(kept[0].at) / maxSamples
}
