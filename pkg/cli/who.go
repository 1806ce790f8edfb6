// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
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
	// what is kept for a child that was deleted, Reserved or Free.
	Type      string `json:"type"`
	Namespace string `json:"namespace"`
	Name      string `json:"name,omitempty"`
	Prefix    string `json:"prefix"`
	State     string `json:"state"`
	// Depth is 0 for a root.
	Depth int `json:"depth"`
	// Until is the time until which a range is kept for the child with the name.
	Until *metav1.Time `json:"until,omitempty"`
	// Policies are the PrefixPolicies that reserve it, with their reasons.
	Policies string `json:"policies,omitempty"`
	// Owners are the objects that own it, from the next one to the top.
	Owners []owner `json:"owners,omitempty"`
}

// owner is an object that controls a Prefix, directly or through others.
type owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

// maxInside is the number of Prefixes inside a range that who shows.
const maxInside = 50

// whoWalk collects the rows of who.
type whoWalk struct {
	// elsewhere is set if the target is held from a namespace that the caller may not read.
	elsewhere bool
	*session
	target netip.Prefix
	result result
	// hidden is the number of Prefixes inside the range that are not shown.
	hidden int
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
	var roots []*v1alpha1.Prefix
	inside := 0
	err = s.scope(ctx, !c.named, func(namespace string) error {
		return c.eachPrefixIn(ctx, namespace, childrenOf(""), func(p *v1alpha1.Prefix) error {
			switch prefix, ok := heldBy(p); {
			case !ok:
			case contains(prefix, target):
				roots = append(roots, p.DeepCopy())
			case target.Overlaps(prefix):
				if inside++; inside <= maxInside {
					roots = append(roots, p.DeepCopy())
				} else {
					w.hidden++
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, root := range roots {
		prefix, _ := heldBy(root)
		if !contains(prefix, target) {
			w.inside(root, prefix, 0)
			continue
		}
		if err := w.descend(ctx, root, prefix); err != nil {
			return err
		}
	}
	if len(roots) == 0 {
		return exitf(ExitNotFound, "no Prefix that you may read contains %s", printTarget(target))
	}
	if w.hidden > 0 {
		s.note("%d more Prefixes lie inside %s.", w.hidden, target)
	}
	return s.print(w.result)
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

// contains reports whether a range contains another one, or is equal to it.
func contains(prefix, other netip.Prefix) bool {
	return prefix.Bits() <= other.Bits() && prefix.Contains(other.Addr())
}

// descend adds the rows for the Prefixes that contain the target, from p down to the smallest one.
func (w *whoWalk) descend(ctx context.Context, p *v1alpha1.Prefix, prefix netip.Prefix) error {
	for depth := 0; ; depth++ {
		if depth > 128 {
			return exitf(ExitError, "%s/%s lies in itself", p.Namespace, p.Name)
		}
		child, inside, err := w.childOf(ctx, p, prefix)
		if err != nil {
			return err
		}
		if child != nil {
			w.prefix(p, prefix, depth, nil)
			p = child
			prefix, _ = heldBy(p)
			continue
		}
		owners, err := w.owners(ctx, p)
		if err != nil {
			return err
		}
		w.prefix(p, prefix, depth, owners)
		for i := range inside {
			of, _ := heldBy(&inside[i])
			w.inside(&inside[i], of, depth+1)
		}
		if len(inside) > 0 || prefix == w.target {
			return nil
		}
		return w.rest(ctx, p, prefix, depth+1)
	}
}

// childOf returns the child of a Prefix that contains the target. If there is none, it returns those inside the target.
func (w *whoWalk) childOf(ctx context.Context, p *v1alpha1.Prefix, prefix netip.Prefix) (*v1alpha1.Prefix, []v1alpha1.Prefix, error) {
	// The status follows within a second, so nothing else is concluded from it than where to look first.
	if prefix.IsSingleIP() || w.isUnused(p) {
		return nil, nil, nil
	}
	usage := p.Status.Usage
	opts := childrenOf(p.Name)
	// While status.used lists each child, it tells which one to read.
	if usage != nil && int64(len(p.Status.Used)) == usage.Allocations {
		for _, used := range p.Status.Used {
			if prefix, err := cidr.ParseStored(used); err == nil && contains(prefix, w.target) {
				child, err := w.find(ctx, p, fields.AndSelectors(fields.ParseSelectorOrDie(opts.FieldSelector), fields.OneTermEqualSelector("spec.prefix", used)).String())
				if err != nil || child != nil {
					return child, nil, err
				}
			}
		}
	}
	var found *v1alpha1.Prefix
	var inside []v1alpha1.Prefix
	err := w.clients.eachPrefixIn(ctx, p.Namespace, opts, func(child *v1alpha1.Prefix) error {
		switch prefix, ok := heldBy(child); {
		case !ok || prefix.Bits() == 0 || !isChildOf(child, p):
		case contains(prefix, w.target):
			found = child.DeepCopy()
			return errStop
		case w.target.Overlaps(prefix) && len(inside) < maxInside:
			inside = append(inside, *child.DeepCopy())
		case w.target.Overlaps(prefix):
			w.hidden++
		}
		return nil
	})
	if err != nil || found != nil || len(inside) > 0 || !w.isUsed(p) {
		return found, inside, err
	}
	// Children of other namespaces, if the caller may read them.
	err = w.clients.eachPrefixIn(ctx, metav1.NamespaceAll, opts, func(child *v1alpha1.Prefix) error {
		if prefix, ok := heldBy(child); ok && isChildOf(child, p) && child.Namespace != p.Namespace && contains(prefix, w.target) {
			found = child.DeepCopy()
			return errStop
		}
		return nil
	})
	if apierrors.IsForbidden(err) {
		w.elsewhere, err = true, nil
	}
	return found, nil, err
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

// find returns the child of a Prefix with a field selector that contains the target, or nil.
func (w *whoWalk) find(ctx context.Context, p *v1alpha1.Prefix, selector string) (found *v1alpha1.Prefix, err error) {
	err = w.clients.eachPrefixIn(ctx, p.Namespace, metav1.ListOptions{FieldSelector: selector}, func(child *v1alpha1.Prefix) error {
		if prefix, ok := heldBy(child); ok && isChildOf(child, p) && contains(prefix, w.target) {
			found = child.DeepCopy()
			return errStop
		}
		return nil
	})
	return found, err
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
	rules := rulesFor(policies, p.Labels)
	held = append(held, reservedBy(rules).In(prefix)...)
	free := true
	if !w.isUnused(p) {
		free, err = w.allocations(ctx, p, depth)
	}
	if apierrors.IsForbidden(err) {
		w.denied = true
		w.say("You may not read prefixallocations in namespace %q, so what holds space without a Prefix is missing.", p.Namespace)
		err = nil
	}
	if err != nil || !free {
		return err
	}
	if w.elsewhere {
		w.denied = true
		w.say("You may not read prefixes in all namespaces, so who holds it in another namespace is missing.")
		w.add(row{cells: []string{none, indented(depth) + "-", w.target.String(), "", none, "In use by another namespace"},
			item: whoItem{Type: "Elsewhere", Prefix: w.target.String(), State: "Allocated", Depth: depth}})
		return nil
	}
	if words := inWordsOf(rules, w.target, prefix); words != "" {
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
	free = true
	err = w.clients.eachAllocationIn(ctx, p.Namespace, allocatedFrom(p.Name), func(a *v1alpha1.PrefixAllocation) error {
		held, err := cidr.ParseStored(a.Status.Prefix)
		if err != nil || !held.Overlaps(w.target) || !isAllocatedFrom(a, p) {
			return nil
		}
		free = false
		if c, ok := coolingOf(a); ok {
			w.add(row{cells: []string{p.Namespace, indented(depth) + "-", held.String(), "", none, c.String()}, color: cyan,
				item: whoItem{Type: "Cooling", Namespace: p.Namespace, Name: c.child, Prefix: held.String(), State: "Cooling", Depth: depth, Until: &c.until}})
			return nil
		}
		w.add(row{cells: []string{p.Namespace, indented(depth) + a.Name, held.String(), w.age(a.CreationTimestamp), none, "PrefixAllocation"},
			item: whoItem{Type: "Allocation", Namespace: p.Namespace, Name: a.Name, Prefix: held.String(), State: string(a.Status.Phase), Depth: depth}})
		return nil
	})
	return free, err
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

// inside adds the row of a Prefix inside the target.
func (w *whoWalk) inside(p *v1alpha1.Prefix, prefix netip.Prefix, depth int) {
	state := stateOf(p)
	w.add(row{cells: []string{p.Namespace, indented(depth) + p.Name, prefix.String(), w.age(p.CreationTimestamp), none, state + " (inside)"},
		item: whoItem{Type: "Inside", Namespace: p.Namespace, Name: p.Name, Prefix: prefix.String(), State: state, Depth: depth},
		name: p.Name, color: stateColor(state)})
}

func (w *whoWalk) add(r row) { w.result.rows = append(w.result.rows, r) }

// ownersInWords returns owners for a person, the top one first.
func ownersInWords(owners []owner) string {
	var words []string
	for _, o := range owners {
		words = append([]string{o.Kind + "/" + o.Name}, words...)
	}
	return orNone(strings.Join(words, " > "))
}

// maxOwners is the number of owners that are looked up, in case objects own each other.
const maxOwners = 10

// owners returns the objects that own a Prefix, from the next one to the top one. At an object that cannot be read, it
// ends: only its own owner is unknown.
func (s *session) owners(ctx context.Context, p *v1alpha1.Prefix) ([]owner, error) {
	var found []owner
	var object metav1.Object = p
	var client metadata.Interface
	var mapper meta.RESTMapper
	for len(found) < maxOwners {
		ref := ownerOf(object)
		if ref == nil {
			return found, nil
		}
		found = append(found, owner{ref.APIVersion, ref.Kind, ref.Name})
		if client == nil {
			var err error
			if client, err = metadata.NewForConfig(s.clients.rest); err != nil {
				return nil, err
			}
			if mapper, err = s.config.ToRESTMapper(); err != nil {
				return nil, err
			}
		}
		gv, err := schema.ParseGroupVersion(ref.APIVersion)
		if err != nil {
			return found, nil
		}
		mapping, err := mapper.RESTMapping(gv.WithKind(ref.Kind).GroupKind(), gv.Version)
		if err != nil {
			return found, nil
		}
		namespace := ""
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			namespace = p.Namespace
		}
		next, err := client.Resource(mapping.Resource).Namespace(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsForbidden(err):
			s.denied = true
			s.say("You may not read %s %s, so who owns it is missing.", mapping.Resource.Resource, ref.Name)
			return found, nil
		case apierrors.IsNotFound(err):
			return found, nil
		case err != nil:
			return nil, err
		}
		object = next
	}
	return found, nil
}

// ownerOf returns the owner reference of the controller of an object, or else its only owner reference.
func ownerOf(object metav1.Object) *metav1.OwnerReference {
	if ref := metav1.GetControllerOf(object); ref != nil {
		return ref
	}
	if refs := object.GetOwnerReferences(); len(refs) == 1 {
		return &refs[0]
	}
	return nil
}
