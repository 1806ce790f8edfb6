// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"iter"
	"math/big"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"unique"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// node is what the commands keep of a Prefix. A tree of a million fits into memory.
type node struct {
	types.NamespacedName
	// parent is the name of the parent, or empty.
	parent string
	// prefix is not valid while the Prefix has none.
	prefix netip.Prefix
	// state is Allocated, Pending or Terminating.
	state string
	// created is the time of the creation in seconds since 1970, or 0 if it is unknown.
	created int64
	// more is what few Prefixes have. It is nil if this one has nothing of it.
	more *nodeDetails
	// usage is nil while nothing is allocated from the Prefix.
	usage *v1alpha1.PrefixUsage
	// selected is set if the label selector matches.
	selected bool
	// children are sorted by address.
	children []*node
}

// nodeDetails is what few Prefixes have.
type nodeDetails struct {
	// reason and message say why the Prefix is not allocated.
	reason, message string
	// reserved is all that is reserved of the Prefix, reservations are its parts, and cooling is what cools down of it, if the
	// command needs them.
	reserved     *allocator.Reserved
	reservations []reservation
	cooling      []cooling
	// parentNamespace is the namespace of the parent if it is another one.
	parentNamespace string
}

// details returns what few Prefixes have. The result is not to be changed.
func (n *node) details() *nodeDetails {
	if n.more == nil {
		return &nodeDetails{}
	}
	return n.more
}

// mutableDetails returns the details of a node to change them.
func (n *node) mutableDetails() *nodeDetails {
	if n.more == nil {
		n.more = &nodeDetails{}
	}
	return n.more
}

// createdAt returns the time of the creation.
func (n *node) createdAt() metav1.Time {
	if n.created == 0 {
		return metav1.Time{}
	}
	return metav1.Unix(n.created, 0)
}

// interned returns a string that shares its memory with equal ones, for names that many objects have in common.
func interned(s string) string { return unique.Make(s).Value() }

// terminating is the state of a Prefix that is being deleted.
const terminating = "Terminating"

// newNode returns the node of a Prefix.
func newNode(p *v1alpha1.Prefix, selector labels.Selector) *node {
	n := &node{
		NamespacedName: types.NamespacedName{Namespace: interned(p.Namespace), Name: p.Name}, state: stateOf(p),
		parent: interned(parentOf(p)), selected: selector.Matches(labels.Set(p.Labels)),
	}
	if !p.CreationTimestamp.IsZero() {
		n.created = p.CreationTimestamp.Unix()
	}
	if foreign := p.NamespaceOfParent(); n.parent != "" && foreign != p.Namespace {
		n.mutableDetails().parentNamespace = interned(foreign)
	}
	if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
		n.prefix, _ = cidr.ParseStored(p.Spec.Prefix)
	} else if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated); c != nil {
		n.mutableDetails().reason, n.mutableDetails().message = c.Reason, c.Message
	}
	if usage := p.Status.Usage; usage != nil && usage.Allocations > 0 {
		n.usage = usage.DeepCopy()
	}
	return n
}

// stateOf returns the phase of a Prefix, or Terminating.
func stateOf(p *v1alpha1.Prefix) string {
	switch {
	case p.DeletionTimestamp != nil:
		return terminating
	case p.Status.Phase == v1alpha1.PrefixPhaseAllocated:
		return string(v1alpha1.PrefixPhaseAllocated)
	}
	return string(v1alpha1.PrefixPhasePending)
}

// parentInWords returns the parent of a Prefix, or "" if it has none: the name, after the namespace if that is another one.
func parentInWords(p *v1alpha1.Prefix) string {
	if name := parentOf(p); name == "" || p.NamespaceOfParent() == p.Namespace {
		return name
	}
	return p.NamespaceOfParent() + "/" + parentOf(p)
}

// parentOf returns the name of the parent of a Prefix, or "" if it has none.
func parentOf(p *v1alpha1.Prefix) string {
	if ref := p.Spec.ParentRef; ref != nil {
		return ref.Name
	}
	return ""
}

// forest is a set of trees of Prefixes.
type forest struct {
	// nodes are all of them, in no order. A map by name would need half as much memory as the nodes.
	nodes []*node
	// roots are the nodes whose parent is not in the forest, sorted by namespace and address.
	roots []*node
}

// find returns the node with a name, or nil.
func (f *forest) find(name types.NamespacedName) *node {
	if i := slices.IndexFunc(f.nodes, func(n *node) bool { return n.NamespacedName == name }); i >= 0 {
		return f.nodes[i]
	}
	return nil
}

// link links the nodes to their parents. It returns the forest.
func (f *forest) link() *forest {
	childrenOf := map[types.NamespacedName][]*node{}
	for _, n := range f.nodes {
		if n.parent == "" {
			f.roots = append(f.roots, n)
			continue
		}
		parent := types.NamespacedName{Namespace: cmp.Or(n.details().parentNamespace, n.Namespace), Name: n.parent}
		childrenOf[parent] = append(childrenOf[parent], n)
	}
	for _, n := range f.nodes {
		// What waits for something that waits itself may wait in a circle.
		if children := childrenOf[n.NamespacedName]; len(children) > 0 && n.prefix.IsValid() {
			n.children = children
			slices.SortFunc(n.children, byAddress)
			delete(childrenOf, n.NamespacedName)
		}
	}
	for _, children := range childrenOf {
		f.roots = append(f.roots, children...)
	}
	slices.SortFunc(f.roots, func(a, b *node) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), byAddress(a, b))
	})
	return f
}

// byAddress sorts nodes by address. Those without a prefix come last, by name.
func byAddress(a, b *node) int {
	switch {
	case a.prefix.IsValid() && !b.prefix.IsValid():
		return -1
	case b.prefix.IsValid() && !a.prefix.IsValid():
		return 1
	}
	return cmp.Or(comparePrefixes(a.prefix, b.prefix), strings.Compare(a.Name, b.Name))
}

// comparePrefixes orders prefixes by address. Of those with the same address, the larger one comes first.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// outermost returns the selected nodes that do not lie below another selected node.
func outermost(nodes []*node) []*node {
	var found []*node
	for _, n := range nodes {
		if n.selected {
			found = append(found, n)
			continue
		}
		found = append(found, outermost(n.children)...)
	}
	return found
}

// held returns the prefixes of the children, sorted by address.
func (n *node) held() []netip.Prefix {
	held := make([]netip.Prefix, 0, len(n.children))
	for _, child := range n.children {
		if child.prefix.IsValid() {
			held = append(held, child.prefix)
		}
	}
	return held
}

// freeBlocks returns the blocks of a prefix that no prefix in held overlaps: the fewest CIDRs, sorted by address. held is
// sorted by address. Its prefixes lie inside the prefix, and may overlap each other.
func freeBlocks(prefix netip.Prefix, held []netip.Prefix) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) { eachFree(prefix, held, yield) }
}

// eachFree yields free blocks until yield returns false, which it returns.
func eachFree(prefix netip.Prefix, held []netip.Prefix, yield func(netip.Prefix) bool) bool {
	if len(held) == 0 {
		return yield(prefix)
	}
	// Those that begin with the prefix are sorted by size, so the first one covers it if any does.
	if held[0].Bits() <= prefix.Bits() {
		return true
	}
	low, high := cidr.Halves(prefix)
	split := sort.Search(len(held), func(i int) bool { return held[i].Addr().Compare(high.Addr()) >= 0 })
	return eachFree(low, held[:split], yield) && eachFree(high, held[split:], yield)
}

// sizeOf returns the number of addresses of a prefix.
func sizeOf(prefix netip.Prefix) *big.Int {
	return new(big.Int).Lsh(big.NewInt(1), uint(prefix.Addr().BitLen()-prefix.Bits()))
}

// sumOf returns the number of addresses of prefixes.
func sumOf(prefixes []netip.Prefix) *big.Int {
	sum := new(big.Int)
	for _, prefix := range prefixes {
		sum.Add(sum, sizeOf(prefix))
	}
	return sum
}
