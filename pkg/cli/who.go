// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func (s *session) newWhoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "who ADDRESS|CIDR",
		Short: "Show who holds an address or a range",
		Long: "Show the Prefixes that contain an address or a range, from the root to the smallest one, and the objects that own " +
			"the smallest one. If that does not hold it itself, the last row says whether the address is free or reserved in it, or cools down. Of a range, " +
			"Prefixes inside it are shown, too. Without -n, all namespaces that you may read are searched.",
		Example: "  kubectl ipam who 10.0.0.1\n  kubectl ipam who 2001:db8::/64 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			target, err := parseTarget(args[0])
			if err != nil {
				return exitf(ExitUsage, "%s: %w", args[0], err)
			}
			return s.who(cmd.Context(), target)
		},
	}
	s.addOutputFlag(cmd)
	return cmd
}

// parseTarget parses an address or a range.
func parseTarget(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("must be an IP address or a range in CIDR notation")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return cidr.Parse(s)
}

// whoItem is a row of who in JSON and YAML.
type whoItem struct {
	// Type is Prefix, Allocation for a PrefixAllocation that has no Prefix, Inside for what lies in the range, Cooling for
	// what is kept for a child that was deleted, Elsewhere for what a namespace holds that may not be read, Reserved or Free.
	Type      string `json:"type"`
	Namespace string `json:"namespace"`
	Name      string `json:"name,omitempty"`
	Prefix    string `json:"prefix"`
	State     string `json:"state"`
	// Depth is 0 for a Prefix whose parent is not shown.
	Depth int `json:"depth"`
	// Until is the time until which a range is kept for the child with the name.
	Until *metav1.Time `json:"until,omitempty"`
	// Policies are the PrefixPolicies that reserve it, with their reasons.
	Policies string `json:"policies,omitempty"`
	// Owners are the objects that own it, from the next one to the top.
	Owners []owner `json:"owners,omitempty"`
}

// maxInside is the number of Prefixes inside a range that who shows.
const maxInside = 50

// whoWalk collects the rows of who.
type whoWalk struct {
	*session
	target netip.Prefix
	result result
	// partial is set if the caller may not read the Prefixes of all namespaces.
	partial bool
	// inside is the number of Prefixes inside the range. Only maxInside of them are shown.
	inside int
}

// allocatedPrefix is a Prefix with the range that it holds.
type allocatedPrefix struct {
	*v1alpha1.Prefix
	prefix netip.Prefix
	// children are those that contain the target, if the Prefix does. There is one, unless allocations overlap.
	children []*allocatedPrefix
}

// who shows who holds a range.
func (s *session) who(ctx context.Context, target netip.Prefix) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	w := &whoWalk{session: s, target: target}
	w.result.kind = "Holders"
	w.result.columns = []column{{name: "NAMESPACE"}, {name: "NAME"}, {name: "PREFIX"}, {name: "AGE", wide: true}, {name: "OWNER"}, {name: "STATE"}}
	var found, inside []*allocatedPrefix
	list := func(namespace string) error {
		containing, err := w.containing(ctx, namespace)
		if err != nil {
			return err
		}
		roots, err := w.rootsInside(ctx, namespace)
		found, inside = append(found, containing...), append(inside, roots...)
		return err
	}
	if c.named {
		// Children of other namespaces, if the caller may read them.
		if err = list(metav1.NamespaceAll); apierrors.IsForbidden(err) {
			w.partial, err = true, list(c.namespace)
		}
	} else {
		err = s.eachNamespace(ctx, true, list)
		w.partial = s.denied
	}
	if err != nil {
		return err
	}
	for _, top := range w.chains(found) {
		if err := w.descend(ctx, top, 0); err != nil {
			return err
		}
	}
	for _, root := range inside {
		w.insideRow(root, 0)
	}
	if len(w.result.rows) == 0 {
		return exitf(ExitNotFound, "no Prefix that you may read contains %s", printTarget(target))
	}
	if more := w.inside - maxInside; more > 0 {
		s.note("%d more Prefixes lie inside %s.", more, target)
	}
	return s.print(w.result)
}

const (
	// maxQueries is the number of lists that run at the same time.
	maxQueries = 16
	// manyChildren are too many to read them all for a small range.
	manyChildren = 2 * pageSize
	// maxBitsInside is the number of host bits of a small range, such as a /24 of IPv4. There are 510 ranges inside.
	maxBitsInside = 8
)

// eachAround calls list for the target and each range that contains it, down to a length.
func (w *whoWalk) eachAround(ctx context.Context, bits int, list func(context.Context, netip.Prefix) error) error {
	ranges := []netip.Prefix{w.target}
	for ; bits < w.target.Bits(); bits++ {
		ranges = append(ranges, netip.PrefixFrom(w.target.Addr(), bits).Masked())
	}
	return eachRange(ctx, ranges, list)
}

// eachRange calls list for each range, and stops at the first error. The first call is made alone, since what is forbidden is
// forbidden for all of them. The others run at the same time.
func eachRange(ctx context.Context, ranges []netip.Prefix, list func(context.Context, netip.Prefix) error) error {
	if err := list(ctx, ranges[0]); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxQueries)
	for _, r := range ranges[1:] {
		group.Go(func() error { return list(ctx, r) })
	}
	return group.Wait()
}

// containing returns the Prefixes of a namespace that contain the target. It asks for each range that they could have. The
// server has an index for that, so this takes as long with a million Prefixes as with a few.
func (w *whoWalk) containing(ctx context.Context, namespace string) ([]*allocatedPrefix, error) {
	var mu sync.Mutex
	var found []*allocatedPrefix
	err := w.eachAround(ctx, 0, func(ctx context.Context, prefix netip.Prefix) error {
		return w.clients.eachPrefixIn(ctx, namespace, selecting(v1alpha1.FieldPrefix, prefix.String()), func(p *v1alpha1.Prefix) error {
			if held, ok := heldBy(p); ok && held == prefix {
				mu.Lock()
				defer mu.Unlock()
				found = append(found, &allocatedPrefix{Prefix: p.DeepCopy(), prefix: held})
			}
			return nil
		})
	})
	return found, err
}

// chains links the Prefixes that contain the target to their parents, and returns those with which the chains begin, sorted by namespace and name.
// Of a namespace that the caller has named, only the roots are one of those.
func (w *whoWalk) chains(found []*allocatedPrefix) (tops []*allocatedPrefix) {
	slices.SortFunc(found, func(a, b *allocatedPrefix) int {
		return cmp.Or(cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	// The larger ones come first, so that a parent is there before its children.
	byName := map[types.NamespacedName]*allocatedPrefix{}
	for _, p := range found {
		parent := byName[types.NamespacedName{Namespace: p.NamespaceOfParent(), Name: parentOf(p.Prefix)}]
		switch {
		case parentOf(p.Prefix) != "" && parent != nil && parent.prefix.Bits() < p.prefix.Bits():
			parent.children = append(parent.children, p)
		case !w.clients.named || p.Namespace == w.clients.namespace && parentOf(p.Prefix) == "":
			tops = append(tops, p)
		default:
			continue
		}
		byName[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	}
	slices.SortFunc(tops, func(a, b *allocatedPrefix) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return tops
}

// printTarget returns a range as text, and a single address without its length.
func printTarget(target netip.Prefix) string {
	if target.IsSingleIP() {
		return target.Addr().String()
	}
	return target.String()
}

// heldBy returns the range that a Prefix holds. It returns false if it holds none.
func heldBy(p *v1alpha1.Prefix) (netip.Prefix, bool) {
	if p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		return netip.Prefix{}, false
	}
	prefix, err := cidr.ParseStored(p.Spec.Prefix)
	return prefix, err == nil
}

// descend adds the rows for a Prefix that contains the target and what contains it below.
func (w *whoWalk) descend(ctx context.Context, p *allocatedPrefix, depth int) error {
	if len(p.children) > 0 {
		w.prefix(p.Prefix, p.prefix, depth, nil)
		for _, child := range p.children {
			if err := w.descend(ctx, child, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	owners, err := w.owners(ctx, p.Prefix)
	if err != nil {
		return err
	}
	w.prefix(p.Prefix, p.prefix, depth, owners)
	if !w.target.IsSingleIP() {
		inside, err := w.childrenInside(ctx, p.Prefix)
		if err != nil {
			return err
		}
		for _, child := range inside {
			w.insideRow(child, depth+1)
		}
		if len(inside) > 0 {
			return nil
		}
	}
	if p.prefix == w.target {
		return nil
	}
	return w.rest(ctx, p.Prefix, p.prefix, depth+1)
}

// rootsInside returns the roots of a namespace inside the target. Of a namespace that the caller has named, it returns no
// others.
func (w *whoWalk) rootsInside(ctx context.Context, namespace string) (found []*allocatedPrefix, err error) {
	if w.target.IsSingleIP() {
		return nil, nil
	}
	if w.clients.named {
		namespace = w.clients.namespace
	}
	err = w.clients.eachPrefixIn(ctx, namespace, childrenOf(""), func(p *v1alpha1.Prefix) error {
		found = w.appendInside(found, p)
		return nil
	})
	return found, err
}

// childrenInside returns the children of a Prefix inside the target.
func (w *whoWalk) childrenInside(ctx context.Context, p *v1alpha1.Prefix) (found []*allocatedPrefix, err error) {
	if w.isUnused(p) {
		return nil, nil
	}
	namespace := metav1.NamespaceAll
	if w.partial {
		namespace = p.Namespace
	}
	bits := w.target.Addr().BitLen() - w.target.Bits()
	if usage := p.Status.Usage; usage == nil || usage.Allocations < manyChildren || bits > maxBitsInside {
		err = w.clients.eachPrefixIn(ctx, namespace, childrenOf(p.Name), func(child *v1alpha1.Prefix) error {
			if isChildOf(child, p) {
				found = w.appendInside(found, child)
			}
			return nil
		})
		return found, err
	}
	// To ask for each range inside a small one is faster than to read very many children.
	ranges := []netip.Prefix{w.target}
	for i := 0; !ranges[i].IsSingleIP(); i++ {
		low, high := cidr.Halves(ranges[i])
		ranges = append(ranges, low, high)
	}
	var mu sync.Mutex
	var children []*v1alpha1.Prefix
	err = eachRange(ctx, ranges[1:], func(ctx context.Context, prefix netip.Prefix) error {
		return w.clients.eachPrefixIn(ctx, namespace, selecting(v1alpha1.FieldPrefix, prefix.String()), func(child *v1alpha1.Prefix) error {
			mu.Lock()
			defer mu.Unlock()
			if isChildOf(child, p) {
				children = append(children, child.DeepCopy())
			}
			return nil
		})
	})
	slices.SortFunc(children, func(a, b *v1alpha1.Prefix) int { return strings.Compare(a.Name, b.Name) })
	for _, child := range children {
		found = w.appendInside(found, child)
	}
	return found, err
}

// appendInside appends a Prefix that lies inside the target and does not contain it, unless enough are shown.
func (w *whoWalk) appendInside(found []*allocatedPrefix, p *v1alpha1.Prefix) []*allocatedPrefix {
	prefix, ok := heldBy(p)
	if !ok || !cidr.StrictlyInside(prefix, w.target) {
		return found
	}
	if w.inside++; w.inside <= maxInside {
		found = append(found, &allocatedPrefix{Prefix: p.DeepCopy(), prefix: prefix})
	}
	return found
}

// isUsed reports whether something of the target is in use, according to the status of a Prefix.
func (w *whoWalk) isUsed(p *v1alpha1.Prefix) bool {
	return slices.ContainsFunc(p.Status.Used, func(used string) bool {
		prefix, err := cidr.ParseStored(used)
		return err == nil && prefix.Overlaps(w.target)
	})
}

// isUnused reports whether the target is free, according to the status of a Prefix with very many children. They are not
// read then. The status of a Prefix with few children is not trusted, as it follows its children within a second only.
func (w *whoWalk) isUnused(p *v1alpha1.Prefix) bool {
	usage := p.Status.Usage
	if usage == nil || usage.Truncated || cools(p) || usage.Allocations <= int64(len(p.Status.Used)) {
		return false
	}
	return !slices.ContainsFunc(p.Status.Used, func(used string) bool {
		prefix, err := cidr.ParseStored(used)
		return err != nil || prefix.Overlaps(w.target)
	})
}

// rest adds the row for the target in a Prefix of which no child contains it: a PrefixAllocation without a Prefix holds it,
// or it is free.
func (w *whoWalk) rest(ctx context.Context, p *v1alpha1.Prefix, prefix netip.Prefix, depth int) error {
	var held []netip.Prefix
	for _, used := range p.Status.Used {
		if prefix, err := cidr.ParseStored(used); err == nil {
			held = append(held, prefix)
		}
	}
	policies, err := w.policiesIn(ctx, p.Namespace)
	if err != nil {
		return err
	}
	held = append(held, policies.reservedFor(p.Labels).In(prefix)...)
	free, err := w.allocations(ctx, p, depth)
	if apierrors.IsForbidden(err) {
		w.denied = true
		w.say("You may not read prefixallocations in namespace %q, so what holds space without a Prefix is missing.", p.Namespace)
		err = nil
	}
	if err != nil || !free {
		return err
	}
	if w.partial && w.isUsed(p) {
		w.denied = true
		w.say("You may not read prefixes in all namespaces, so who holds it in another namespace is missing.")
		w.add(row{cells: []string{none, indented(depth) + "-", w.target.String(), "", none, "In use by another namespace"},
			item: whoItem{Type: "Elsewhere", Prefix: w.target.String(), State: "Allocated", Depth: depth}})
		return nil
	}
	if words := inWordsOf(policies.reservationsFor(p.Labels), w.target, prefix); words != "" {
		w.add(row{cells: []string{p.Namespace, indented(depth) + "-", w.target.String(), "", none, "Reserved by " + words}, color: yellow,
			item: whoItem{Type: "Reserved", Namespace: p.Namespace, Prefix: w.target.String(), State: "Reserved", Depth: depth, Policies: words}})
		return nil
	}
	block := w.target
	if usage := p.Status.Usage; usage != nil && !usage.Truncated {
		block = blockAround(prefix, w.target, held)
	}
	w.add(row{cells: []string{p.Namespace, indented(depth) + "-", block.String(), "", none, "Free"}, color: green,
		item: whoItem{Type: "Free", Namespace: p.Namespace, Prefix: block.String(), State: "Free", Depth: depth}})
	return nil
}

// allocations adds the rows of the PrefixAllocations from a Prefix that overlap the target. It returns true if there are
// none.
func (w *whoWalk) allocations(ctx context.Context, p *v1alpha1.Prefix, depth int) (free bool, err error) {
	var found []*v1alpha1.PrefixAllocation
	for _, namespace := range []string{metav1.NamespaceAll, p.Namespace} {
		// Those of other namespaces, if the caller may read them.
		if found, err = w.allocationsIn(ctx, namespace, p); !apierrors.IsForbidden(err) {
			break
		}
	}
	for _, a := range found {
		held, err := cidr.ParseStored(a.Status.Prefix)
		if err != nil {
			continue
		}
		if c, ok := coolingOf(a); ok {
			w.add(row{cells: []string{a.Namespace, indented(depth) + "-", held.String(), "", none, c.String()}, color: cyan,
				item: whoItem{Type: "Cooling", Namespace: a.Namespace, Name: c.child, Prefix: held.String(), State: "Cooling", Depth: depth, Until: &c.until}})
			continue
		}
		w.add(row{cells: []string{a.Namespace, indented(depth) + a.Name, held.String(), w.age(a.CreationTimestamp), none, "PrefixAllocation"},
			item: whoItem{Type: "Allocation", Namespace: a.Namespace, Name: a.Name, Prefix: held.String(), State: string(a.Status.Phase), Depth: depth}})
	}
	return len(found) == 0, err
}

// allocationsIn returns the PrefixAllocations of a namespace that are from a Prefix and overlap the target.
func (w *whoWalk) allocationsIn(ctx context.Context, namespace string, p *v1alpha1.Prefix) ([]*v1alpha1.PrefixAllocation, error) {
	var mu sync.Mutex
	var found []*v1alpha1.PrefixAllocation
	list := func(ctx context.Context, opts metav1.ListOptions) error {
		return w.clients.eachAllocationIn(ctx, namespace, opts, func(a *v1alpha1.PrefixAllocation) error {
			if held, err := cidr.ParseStored(a.Status.Prefix); err == nil && held.Overlaps(w.target) && isAllocatedFrom(a, p) {
				mu.Lock()
				defer mu.Unlock()
				found = append(found, a.DeepCopy())
			}
			return nil
		})
	}
	if !w.target.IsSingleIP() {
		if w.isUnused(p) {
			return nil, nil
		}
		err := list(ctx, allocatedFrom(p.Name))
		return found, err
	}
	prefix, _ := heldBy(p)
	err := w.eachAround(ctx, prefix.Bits()+1, func(ctx context.Context, prefix netip.Prefix) error {
		return list(ctx, selecting(v1alpha1.FieldAllocatedPrefix, prefix.String()))
	})
	if apierrors.IsBadRequest(err) {
		// Servers of earlier versions cannot select by this field.
		err = list(ctx, allocatedFrom(p.Name))
	}
	return found, err
}

// blockAround returns the largest block of a prefix that contains the target and overlaps none of the held ones.
func blockAround(prefix, target netip.Prefix, held []netip.Prefix) netip.Prefix {
	block := target
	for bits := target.Bits() - 1; bits >= prefix.Bits(); bits-- {
		larger := netip.PrefixFrom(target.Addr(), bits).Masked()
		for _, h := range held {
			if h.Overlaps(larger) {
				return block
			}
		}
		block = larger
	}
	return block
}

// indented returns the drawing to the left of a name.
func indented(depth int) string {
	if depth == 0 {
		return ""
	}
	return strings.Repeat("   ", depth-1) + "└─ "
}

// prefix adds the row of a Prefix that contains the target.
func (w *whoWalk) prefix(p *v1alpha1.Prefix, prefix netip.Prefix, depth int, owners []owner) {
	state := stateOf(p)
	w.add(row{cells: []string{p.Namespace, indented(depth) + p.Name, prefix.String(), w.age(p.CreationTimestamp), ownersInWords(owners), state},
		item: whoItem{Type: "Prefix", Namespace: p.Namespace, Name: p.Name, Prefix: prefix.String(), State: state, Depth: depth, Owners: owners},
		name: p.Name, color: stateColor(state)})
}

// insideRow adds the row of a Prefix inside the target.
func (w *whoWalk) insideRow(p *allocatedPrefix, depth int) {
	state := stateOf(p.Prefix)
	w.add(row{cells: []string{p.Namespace, indented(depth) + p.Name, p.prefix.String(), w.age(p.CreationTimestamp), none, state + " (inside)"},
		item: whoItem{Type: "Inside", Namespace: p.Namespace, Name: p.Name, Prefix: p.prefix.String(), State: state, Depth: depth},
		name: p.Name, color: stateColor(state)})
}

func (w *whoWalk) add(r row) { w.result.rows = append(w.result.rows, r) }
