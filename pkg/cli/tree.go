// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"
)

// maxSiblings is the number of children of a Prefix that tree shows. If there are more, it sums up those that have no
// children.
const maxSiblings = 50

// treeOptions are the flags of the command tree.
type treeOptions struct {
	showFree, all bool
	depth         int
}

func (s *session) newTreeCommand() *cobra.Command {
	o := &treeOptions{}
	cmd := &cobra.Command{
		Use:   "tree [NAME]",
		Short: "Show the Prefixes as a tree",
		Long: "Show the Prefixes as a tree, sorted by address. Without NAME, all trees of the namespace are shown. With -l, the " +
			"trees begin at the outermost Prefixes that the selector matches.\n\n" +
			fmt.Sprintf("Of more than %d children of a Prefix, or Prefixes at the top, at most %d are shown: those that have children, or are not "+
				"allocated. The others are summed up in one row, and so are free and reserved blocks if there are more of them. --all shows all.",
				maxSiblings, maxSiblings),
		Example: "  kubectl ipam tree\n  kubectl ipam tree office --free\n  kubectl ipam tree -A --depth 1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			if len(args) > 0 && s.allNamespaces {
				return exitf(ExitUsage, "NAME and --all-namespaces exclude each other")
			}
			return s.watched(cmd.Context(), func(ctx context.Context) error { return s.tree(ctx, o, strings.Join(args, "")) })
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	s.addScopeFlags(cmd)
	s.addOutputFlag(cmd)
	s.addWatchFlag(cmd)
	cmd.Flags().BoolVar(&o.showFree, "free", false, "Show free, reserved and cooling blocks, too.")
	cmd.Flags().BoolVar(&o.all, "all", false, "Show every Prefix, and sum up nothing.")
	cmd.Flags().IntVar(&o.depth, "depth", 0, "How many levels to show; 0 is all of them.")
	return cmd
}

// treeItem is a row of the tree in JSON and YAML.
type treeItem struct {
	// Type is Prefix, Free, Reserved or Cooling for a block that is not allocated, or Summary for children that are not
	// shown.
	Type      string `json:"type"`
	Namespace string `json:"namespace"`
	Name      string `json:"name,omitempty"`
	// Parent is the name of the Prefix in which this lies.
	Parent string `json:"parent,omitempty"`
	// Depth is 0 for the Prefixes at the top.
	Depth  int    `json:"depth"`
	Prefix string `json:"prefix,omitempty"`
	State  string `json:"state,omitempty"`
	// Reason and Message say why a Prefix is not allocated.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Until is the time until which a block is kept for the child with the name, which was deleted.
	Until *metav1.Time `json:"until,omitempty"`
	// Policies are the PrefixPolicies that reserve a block, with their reasons.
	Policies string `json:"policies,omitempty"`
	// Children is the number of prefixes that are allocated from this one, or that a summary stands for.
	Children int64 `json:"children"`
	// Used and Free are numbers of addresses.
	Used    string `json:"used,omitempty"`
	Free    string `json:"free,omitempty"`
	Percent int32  `json:"percent"`
	// LargestFree is the length of the largest free block, such as /26.
	LargestFree string `json:"largestFree,omitempty"`
	// Lengths is how many prefixes of each length a summary stands for.
	Lengths map[string]int64 `json:"lengths,omitempty"`
	Created *metav1.Time     `json:"created,omitempty"`
}

// tree shows a tree, or all trees.
func (s *session) tree(ctx context.Context, o *treeOptions, name string) error {
	f, err := s.readForest(ctx, o.showFree)
	if err != nil {
		return err
	}
	top := f.roots
	if name != "" {
		c, err := s.connect()
		if err != nil {
			return err
		}
		n := f.find(types.NamespacedName{Namespace: c.namespace, Name: name})
		if n == nil {
			return exitf(ExitNotFound, "there is no Prefix %q in namespace %q", name, c.namespace)
		}
		top = []*node{n}
	}
	if s.selector != "" {
		top = outermost(top)
	}
	if len(top) == 0 {
		s.note("No Prefixes found.")
	}
	w := &treeWriter{session: s, treeOptions: o}
	w.result.kind = "PrefixTree"
	w.result.columns = []column{
		{name: "NAMESPACE", wide: !s.allNamespaces}, {name: "NAME"}, {name: "PREFIX"}, {name: "USED"}, {name: "CHILDREN"},
		{name: "LARGEST FREE"}, {name: "FREE ADDRESSES", wide: true}, {name: "AGE", wide: true}, {name: "STATE"},
	}
	w.result.each = func(yield func(row) bool) {
		more := true
		w.add = func(r row) { more = more && yield(r) }
		for namespace, of := range chunked(top) {
			w.siblings(namespace, nil, of, 0, "")
		}
	}
	return s.print(w.result)
}

// readForest reads the Prefixes of the namespace, or of all namespaces, and with them what is reserved and cools down of them.
func (s *session) readForest(ctx context.Context, withBlocks bool) (*forest, error) {
	selector, err := s.parseSelector()
	if err != nil {
		return nil, err
	}
	f := &forest{}
	policies := map[string]*policySet{}
	cooled := map[*node]*v1alpha1.Prefix{}
	err = s.eachNamespace(ctx, s.allNamespaces, func(namespace string) error {
		return s.clients.eachPrefixIn(ctx, namespace, metav1.ListOptions{}, func(p *v1alpha1.Prefix) error {
			n := newNode(p, selector)
			f.nodes = append(f.nodes, n)
			if !withBlocks {
				return nil
			}
			if _, ok := policies[p.Namespace]; !ok {
				of, err := s.policiesIn(ctx, p.Namespace)
				if err != nil {
					return err
				}
				policies[p.Namespace] = of
			}
			if reserved := policies[p.Namespace].reservedFor(p.Labels); reserved != nil {
				n.mutableDetails().reserved, n.mutableDetails().reservations = reserved, policies[p.Namespace].reservationsFor(p.Labels)
			}
			if n.prefix.IsValid() && cools(p) {
				cooled[n] = p.DeepCopy()
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for n, p := range cooled {
		if n.mutableDetails().cooling, err = s.coolingIn(ctx, p); err != nil {
			return nil, err
		}
	}
	return f.link(), nil
}

// chunked yields the nodes of each namespace. The nodes are sorted by namespace.
func chunked(nodes []*node) func(yield func(string, []*node) bool) {
	return func(yield func(string, []*node) bool) {
		for len(nodes) > 0 {
			end := slices.IndexFunc(nodes, func(n *node) bool { return n.Namespace != nodes[0].Namespace })
			if end < 0 {
				end = len(nodes)
			}
			if !yield(nodes[0].Namespace, nodes[:end]) {
				return
			}
			nodes = nodes[end:]
		}
	}
}

// treeWriter turns a tree into rows.
type treeWriter struct {
	*session
	*treeOptions
	result result
	// add prints a row. The rows of a large tree need more memory than the tree.
	add func(row)
}

// siblings writes nodes with the same parent, and with --free the free and reserved blocks between them. indent is the
// drawing to the left of them. of is nil for nodes that have no parent in the tree.
func (w *treeWriter) siblings(namespace string, of *node, nodes []*node, depth int, indent string) {
	if w.depth > 0 && depth >= w.depth {
		return
	}
	shown, summed := nodes, []*node(nil)
	if !w.all && len(nodes) > maxSiblings {
		shown, summed = sumUp(nodes)
	}
	// The last line is drawn differently, so each line is written when the next one is known.
	var held func(indent, branch string)
	write := func(line func(indent, branch string), isLast bool) {
		switch {
		case line == nil:
		case of == nil:
			line("", "")
		case isLast:
			line(indent+"   ", indent+"└─ ")
		default:
			line(indent+"│  ", indent+"├─ ")
		}
	}
	next := func(line func(indent, branch string)) {
		write(held, false)
		held = line
	}
	// A Prefix from which nothing is allocated needs no row that says so, unless it was asked for.
	if w.showFree && of != nil && of.prefix.IsValid() && (len(nodes) > 0 || depth == 1) {
		blocks := w.blocks(of)
		if !w.all && len(blocks) > maxSiblings {
			next(func(_, branch string) { w.blockSums(of, blocks, depth, branch) })
			blocks = nil
		}
		i := 0
		for _, b := range blocks {
			for ; i < len(shown) && shown[i].prefix.IsValid() && shown[i].prefix.Addr().Compare(b.prefix.Addr()) < 0; i++ {
				next(w.line(shown[i], depth))
			}
			next(func(_, branch string) { w.block(of, b, depth, branch) })
		}
		shown = shown[i:]
	}
	for _, n := range shown {
		next(w.line(n, depth))
	}
	if len(summed) > 0 {
		next(func(_, branch string) { w.sum(namespace, of, summed, len(nodes) > len(summed), depth, branch) })
	}
	write(held, true)
}

// block is a part of a Prefix that is not allocated.
type block struct {
	prefix netip.Prefix
	// policies are those that reserve it. It is empty if it is free or cools down.
	policies string
	// cooling is nil unless it cools down.
	cooling *cooling
}

// blocks returns what is not allocated from a node, sorted by address.
func (w *treeWriter) blocks(n *node) []block {
	held := n.held()
	reserved := n.details().reserved.In(n.prefix)
	var blocks []block
	for i := range n.details().cooling {
		// The status may be that of a moment ago, and the child have its space back.
		if c := &n.details().cooling[i]; !slices.ContainsFunc(held, c.prefix.Overlaps) {
			blocks = append(blocks, block{prefix: c.prefix, cooling: c})
		}
	}
	for _, b := range blocks {
		held = append(held, b.prefix)
	}
	slices.SortFunc(held, comparePrefixes)
	for _, r := range reserved {
		inside := slices.DeleteFunc(slices.Clone(held), func(h netip.Prefix) bool { return !h.Overlaps(r) })
		for prefix := range freeBlocks(r, inside) {
			blocks = append(blocks, block{prefix: prefix, policies: inWordsOf(n.details().reservations, prefix, n.prefix)})
		}
	}
	taken := slices.Concat(held, reserved)
	slices.SortFunc(taken, comparePrefixes)
	for prefix := range freeBlocks(n.prefix, taken) {
		blocks = append(blocks, block{prefix: prefix})
	}
	slices.SortFunc(blocks, func(a, b block) int { return comparePrefixes(a.prefix, b.prefix) })
	return blocks
}

// sumUp divides many siblings into those to show and those to sum up. To show are those with children, and those that are
// not allocated, but not more than maxSiblings.
func sumUp(nodes []*node) (shown, summed []*node) {
	for _, n := range nodes {
		interesting := n.usage != nil || len(n.children) > 0 || n.state != string(v1alpha1.PrefixPhaseAllocated)
		if interesting && len(shown) < maxSiblings {
			shown = append(shown, n)
		} else {
			summed = append(summed, n)
		}
	}
	return shown, summed
}

// line returns a function that writes a node and what is below it.
func (w *treeWriter) line(n *node, depth int) func(indent, branch string) {
	return func(indent, branch string) {
		w.node(n, depth, branch)
		w.siblings(n.Namespace, n, n.children, depth+1, indent)
	}
}

// node writes the row of a node.
func (w *treeWriter) node(n *node, depth int, branch string) {
	created := n.createdAt()
	item := treeItem{Type: "Prefix", Namespace: n.Namespace, Name: n.Name, Parent: n.parent, Depth: depth, State: n.state,
		Reason: n.details().reason, Message: n.details().message, Created: &created}
	used, children := none, none
	if n.prefix.IsValid() {
		item.Prefix = n.prefix.String()
		item.Used, item.Free = "0", sizeOf(n.prefix).String()
		if bits := n.prefix.Bits(); bits < n.prefix.Addr().BitLen() {
			item.LargestFree = fmt.Sprintf("/%d", bits+1)
		}
		used, children = "0%", "0"
		if u := n.usage; u != nil {
			item.Used, item.Free, item.Percent, item.Children, item.LargestFree = u.Used, u.Free, u.Percent, u.Allocations, u.LargestFree
			if used = fmt.Sprintf("%d%%", u.Percent); u.Percent == 0 {
				used = "<1%"
			}
			children = strconv.FormatInt(u.Allocations, 10)
		}
	}
	state := n.state
	if n.details().reason != "" {
		state += ": " + n.details().reason
	}
	w.add(row{
		cells: []string{n.Namespace, branch + n.Name, orNone(item.Prefix), used, children, orNone(item.LargestFree), orNone(item.Free), w.age(created), state},
		item:  item, name: n.Name, color: stateColor(n.state),
	})
}

// block writes the row of a block that is free or reserved.
func (w *treeWriter) block(of *node, b block, depth int, branch string) {
	item := treeItem{Type: "Free", Namespace: of.Namespace, Parent: of.Name, Depth: depth, Prefix: b.prefix.String(), State: "Free", Free: sizeOf(b.prefix).String()}
	state, paint := "Free", green
	if b.cooling != nil {
		item.Type, item.State, item.Free, item.Name, item.Until = "Cooling", "Cooling", "", b.cooling.child, &b.cooling.until
		state, paint = b.cooling.String(), cyan
	} else if b.policies != "" {
		item.Type, item.State, item.Free, item.Policies = "Reserved", "Reserved", "", b.policies
		state, paint = "Reserved by "+b.policies, magenta
	}
	w.add(row{cells: []string{of.Namespace, branch + "-", item.Prefix, "", "", "", item.Free, "", state}, item: item, color: paint})
}

// blockSums writes a row that stands for many free blocks, and one for the reserved ones.
func (w *treeWriter) blockSums(of *node, blocks []block, depth int, branch string) {
	var free, reserved, cools []netip.Prefix
	for _, b := range blocks {
		if b.cooling != nil {
			cools = append(cools, b.prefix)
		} else if b.policies == "" {
			free = append(free, b.prefix)
		} else {
			reserved = append(reserved, b.prefix)
		}
	}
	for _, sum := range []struct {
		blocks       []netip.Prefix
		state, words string
		color        color
	}{{free, "Free", "free", green}, {reserved, "Reserved", "reserved", magenta}, {cools, "Cooling", "cooling", cyan}} {
		if len(sum.blocks) == 0 {
			continue
		}
		item := treeItem{Type: sum.state, Namespace: of.Namespace, Parent: of.Name, Depth: depth, State: sum.state, Lengths: lengthsOf(sum.blocks)}
		if item.Free = ""; sum.state == "Free" {
			item.Free = sumOf(sum.blocks).String()
		}
		w.add(row{cells: []string{of.Namespace, branch + fmt.Sprintf("%d %s blocks", len(sum.blocks), sum.words), inWords(item.Lengths), "", "", "", item.Free, "", sum.state},
			item: item, color: sum.color})
	}
}

// sum writes a row that stands for many nodes. more is set if other nodes with the same parent are shown.
func (w *treeWriter) sum(namespace string, of *node, nodes []*node, more bool, depth int, branch string) {
	parent := ""
	if of != nil {
		parent = of.Name
	}
	held := (&node{children: nodes}).held()
	lengths := lengthsOf(held)
	states := map[string]int{}
	for _, n := range nodes {
		states[n.state]++
	}
	var state []string
	for _, name := range slices.Sorted(maps.Keys(states)) {
		state = append(state, fmt.Sprintf("%d %s", states[name], name))
	}
	words := fmt.Sprintf("%d Prefixes", len(nodes))
	if more {
		words = fmt.Sprintf("%d more", len(nodes))
	}
	w.add(row{
		cells: []string{namespace, branch + words, inWords(lengths), "", "", "", "", "", strings.Join(state, ", ")},
		item: treeItem{Type: "Summary", Namespace: namespace, Parent: parent, Depth: depth, Children: int64(len(nodes)),
			Used: sumOf(held).String(), Lengths: lengths},
	})
}

// lengthsOf returns how many prefixes of each length there are.
func lengthsOf(prefixes []netip.Prefix) map[string]int64 {
	lengths := map[string]int64{}
	var counts [129]int64
	for _, prefix := range prefixes {
		counts[prefix.Bits()]++
	}
	for bits, count := range counts {
		if count > 0 {
			lengths[fmt.Sprintf("/%d", bits)] = count
		}
	}
	return lengths
}

// inWords returns the result of lengthsOf for a person, the most frequent length first.
func inWords(lengths map[string]int64) string {
	keys := slices.SortedFunc(maps.Keys(lengths), func(a, b string) int {
		if lengths[a] != lengths[b] {
			return int(min(max(lengths[b]-lengths[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	const most = 3
	var words []string
	for i, length := range keys {
		if i == most {
			words = append(words, "...")
			break
		}
		words = append(words, fmt.Sprintf("%d × %s", lengths[length], length))
	}
	return strings.Join(words, ", ")
}

// age returns the age of an object as kubectl does.
func (s *session) age(created metav1.Time) string {
	if created.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(s.Now().Sub(created.Time))
}

// orNone returns a text, or none if it is empty.
func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}

// stateColor returns the color of a state.
func stateColor(state string) color {
	switch state {
	case terminating:
		return red
	case string(v1alpha1.PrefixPhasePending):
		return yellow
	}
	return plain
}
