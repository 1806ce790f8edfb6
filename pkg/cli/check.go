// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func (s *session) newCheckCommand() *cobra.Command {
	repair := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that the Prefixes and PrefixAllocations are consistent",
		Long: "Check that no two allocations of a Prefix overlap, that each lies inside its Prefix, that each child has what is " +
			"allocated for it, and that nothing is left over. A difference counts if a second pass, two seconds later, finds it again.\n\n" +
			"check reads what the user may read. The API server makes the same check with its claims in etcd, which nobody reads through " +
			"the API. check says when that ended and what it found, if it can read the metrics of that server: not through " +
			"kube-apiserver, which has its own ones.\n\n" +
			"The exit code is 5 if there are differences. --repair deletes allocations that nobody needs any more, and leaves the others.",
		Example: "  kubectl ipam check\n  kubectl ipam check -A -q",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			return s.check(cmd.Context(), repair)
		},
	}
	cmd.Flags().BoolVarP(&s.allNamespaces, "all-namespaces", "A", false, "Check all namespaces.")
	cmd.Flags().BoolVar(&repair, "repair", false, "Delete the PrefixAllocations that nobody needs.")
	s.addYesFlag(cmd)
	s.addQuietFlag(cmd, "the differences")
	s.addOutputFlag(cmd)
	return cmd
}

// The kinds of differences. They are those of the audit of the API server, as far as the API shows them.
const (
	overlap           = "Overlap"
	outsideParent     = "OutsideParent"
	parentMissing     = "ParentMissing"
	allocationMissing = "AllocationMissing"
	leftover          = "Leftover"
)

// difference is an inconsistency, in JSON and YAML, too.
type difference struct {
	Type      string `json:"type"`
	Namespace string `json:"namespace"`
	// Name is the name of the PrefixAllocation or, for AllocationMissing, of the Prefix.
	Name    string `json:"name"`
	Parent  string `json:"parent,omitempty"`
	Prefix  string `json:"prefix,omitempty"`
	Message string `json:"message"`
	// uid is the one of the PrefixAllocation.
	uid types.UID
}

// key identifies a difference in another pass.
func (d difference) key() string {
	return strings.Join([]string{d.Type, d.Namespace, d.Name, d.Prefix}, " ")
}

// checkPause is the time between two passes, in which controllers finish what they are doing.
const checkPause = 2 * time.Second

// check prints the differences that two passes find.
func (s *session) check(ctx context.Context, repair bool) error {
	found, counts, err := s.pass(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		select {
		case <-time.After(checkPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		again, _, err := s.pass(ctx)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, d := range again {
			seen[d.key()] = true
		}
		found = slices.DeleteFunc(found, func(d difference) bool { return !seen[d.key()] })
	}
	r := result{kind: "Differences", columns: []column{{name: "NAMESPACE", wide: !s.allNamespaces}, {name: "NAME"}, {name: "PARENT"}, {name: "PREFIX"}, {name: "DIFFERENCE"}}}
	r.fields = map[string]any{"prefixes": counts.prefixes, "allocations": counts.allocations}
	audit, err := s.serverAudit(ctx)
	if err != nil {
		return err
	}
	if audit != nil {
		r.fields["serverAudit"] = audit
	}
	for _, d := range found {
		r.rows = append(r.rows, row{cells: []string{d.Namespace, d.Name, orNone(d.Parent), orNone(d.Prefix), d.Type + ": " + d.Message}, item: d, color: red})
	}
	if err := s.print(r); err != nil {
		return err
	}
	s.note("%d Prefixes and %d PrefixAllocations: %d differences.", counts.prefixes, counts.allocations, len(found))
	left := found
	if repair {
		if left, err = s.repair(ctx, found); err != nil {
			return err
		}
	}
	switch {
	case len(left) > 0:
		return exitf(ExitConflict, "there are %d differences", len(left))
	case audit != nil && audit.count() > 0:
		return exitf(ExitConflict, "the audit of the API server itself found %s", audit)
	}
	return nil
}

// repair deletes the allocations that nobody needs, and returns the other differences. The server refuses to delete one
// that a Prefix needs.
func (s *session) repair(ctx context.Context, found []difference) (left []difference, err error) {
	var names []string
	for _, d := range found {
		if d.Type == leftover {
			names = append(names, d.Namespace+"/"+d.Name)
		}
	}
	if len(names) == 0 {
		return found, nil
	}
	ok, asked := s.confirm(fmt.Sprintf("Delete the PrefixAllocations %s? Their space is free then.", strings.Join(names, ", ")))
	if !ok && (asked || !s.yes) {
		return found, exitf(ExitConflict, "nothing is repaired: use --yes")
	}
	for _, d := range found {
		if d.Type != leftover {
			left = append(left, d)
			continue
		}
		err := s.clients.ipam.PrefixAllocations(d.Namespace).Delete(ctx, d.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &d.uid}})
		if apierrors.IsNotFound(err) {
			s.note("PrefixAllocation %s/%s was deleted meanwhile.", d.Namespace, d.Name)
			continue
		}
		if err != nil {
			return nil, err
		}
		now, err := s.clients.ipam.PrefixAllocations(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || err == nil && now.UID != d.uid:
			s.note("PrefixAllocation %s/%s is deleted.", d.Namespace, d.Name)
		case err != nil:
			return nil, err
		default:
			s.say("PrefixAllocation %s/%s is being deleted, but stays until its finalizers are removed: %s", d.Namespace, d.Name, strings.Join(now.Finalizers, ", "))
			left = append(left, d)
		}
	}
	return left, nil
}

// checked is what a pass keeps of a Prefix.
type checked struct {
	name   string
	uid    uidHash
	prefix netip.Prefix
	// parent is that of parentInWords.
	parent unique.Handle[string]
	// isChild is set for a Prefix with a parent that is Allocated.
	isChild bool
	// isHeld is set if an allocation holds what the child has.
	isHeld bool
}

// uidHash stands for a UID. It needs less memory than the text.
type uidHash [16]byte

func hashOf(uid types.UID) uidHash {
	sum := sha256.Sum256([]byte(uid))
	return uidHash(sum[:])
}

// checkedPrefixes are the Prefixes of each namespace, sorted by name. Slices need half the memory of a map with the names.
type checkedPrefixes map[string][]checked

// sort sorts the Prefixes of a namespace, or of all namespaces if it is empty. The server lists them in that order.
func (p checkedPrefixes) sort(namespace string) {
	byName := func(a, b checked) int { return strings.Compare(a.name, b.name) }
	for name, of := range p {
		if (namespace == metav1.NamespaceAll || name == namespace) && !slices.IsSortedFunc(of, byName) {
			slices.SortFunc(of, byName)
		}
	}
}

// find returns a Prefix, or nil if it does not exist.
func (p checkedPrefixes) find(name types.NamespacedName) *checked {
	of := p[name.Namespace]
	i, ok := slices.BinarySearchFunc(of, name.Name, func(c checked, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return nil
	}
	return &of[i]
}

// holding is what a pass keeps of an allocation that holds space.
type holding struct {
	prefix netip.Prefix
	name   string
}

// counted is how much a pass has read.
type counted struct{ prefixes, allocations int }

// pass reads the objects once and returns the differences, sorted.
func (s *session) pass(ctx context.Context) ([]difference, counted, error) {
	var found []difference
	var counts counted
	prefixes := checkedPrefixes{}
	held := map[types.NamespacedName][]holding{}
	reading := s.newProgress("Reading", 0)
	defer reading.end()
	err := s.eachNamespace(ctx, s.allNamespaces, func(namespace string) error {
		err := s.clients.eachPrefixIn(ctx, namespace, metav1.ListOptions{}, func(p *v1alpha1.Prefix) error {
			parent := parentInWords(p)
			c := checked{name: p.Name, uid: hashOf(p.UID), parent: unique.Make(parent)}
			if prefix, ok := heldBy(p); ok {
				c.prefix, c.isChild = prefix, parent != ""
			} else if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				found = append(found, difference{Type: allocationMissing, Namespace: p.Namespace, Name: p.Name, Parent: parent, Prefix: p.Spec.Prefix,
					Message: "the Prefix is Allocated, but spec.prefix is no prefix"})
			}
			prefixes[p.Namespace] = append(prefixes[p.Namespace], c)
			counts.prefixes++
			reading.step()
			return nil
		})
		if err != nil {
			return err
		}
		prefixes.sort(namespace)
		return s.clients.eachAllocationIn(ctx, namespace, metav1.ListOptions{}, func(a *v1alpha1.PrefixAllocation) error {
			counts.allocations++
			reading.step()
			found = append(found, checkAllocation(a, namespace == metav1.NamespaceAll, prefixes, held)...)
			return nil
		})
	})
	if err != nil {
		return nil, counts, err
	}
	for parent, holdings := range held {
		found = append(found, overlaps(parent, holdings)...)
	}
	for namespace, of := range prefixes {
		for i := range of {
			if c := &of[i]; c.isChild && !c.isHeld {
				found = append(found, difference{Type: allocationMissing, Namespace: namespace, Name: c.name, Parent: c.parent.Value(), Prefix: c.prefix.String(),
					Message: "no PrefixAllocation holds what the Prefix has"})
			}
		}
	}
	slices.SortFunc(found, func(a, b difference) int { return cmp.Compare(a.key(), b.key()) })
	return found, counts, nil
}

// checkAllocation returns the differences of an allocation, and adds what it holds.
//
// readAll tells whether the Prefixes of all namespaces are known.
func checkAllocation(a *v1alpha1.PrefixAllocation, readAll bool, prefixes checkedPrefixes, held map[types.NamespacedName][]holding) (found []difference) {
	if a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
		return nil
	}
	var parent types.NamespacedName
	inWords := func() string {
		if parent.Namespace == a.Namespace {
			return parent.Name
		}
		return strings.TrimPrefix(parent.String(), "/")
	}
	differs := func(kind, format string, args ...any) {
		found = append(found, difference{Type: kind, Namespace: a.Namespace, Name: a.Name, Parent: inWords(), Prefix: a.Status.Prefix, Message: fmt.Sprintf(format, args...), uid: a.UID})
	}
	if a.Spec.PrefixRef == nil {
		differs(parentMissing, "it names no parent")
		return found
	}
	parent = types.NamespacedName{Namespace: a.NamespaceOfParent(), Name: a.Spec.PrefixRef.Name}
	prefix, err := cidr.ParseStored(a.Status.Prefix)
	if err != nil {
		differs(outsideParent, "status.prefix %v", err)
		return found
	}
	held[parent] = append(held[parent], holding{prefix, a.Name})
	switch of := prefixes.find(parent); {
	case of == nil && parent.Namespace != a.Namespace && !readAll:
		// The namespace of the parent was not read.
	case of == nil:
		differs(parentMissing, "the parent does not exist")
	case !of.prefix.IsValid() || !cidr.StrictlyInside(prefix, of.prefix):
		differs(outsideParent, "it is not inside the parent, which has %s", orNone(strings.TrimPrefix(of.prefix.String(), "invalid Prefix")))
	}
	if a.Status.CoolingUntil != nil {
		// It is kept for a child of that name.
		return found
	}
	owner := metav1.GetControllerOf(a)
	if owner == nil || owner.Kind != v1alpha1.PrefixKind || !strings.HasPrefix(owner.APIVersion, v1alpha1.GroupVersion.Group+"/") {
		return found
	}
	child := prefixes.find(types.NamespacedName{Namespace: a.Namespace, Name: owner.Name})
	switch {
	case child == nil || child.uid != hashOf(owner.UID):
		differs(leftover, "it holds space for the Prefix %s, which does not exist", owner.Name)
	case child.isChild && (child.prefix != prefix || child.parent.Value() != inWords()):
		differs(leftover, "it holds space for the Prefix %s, which has %s from %s", owner.Name, child.prefix, child.parent.Value())
	default:
		child.isHeld = true
	}
	return found
}

// overlaps returns the differences between what the allocations of a parent hold. It changes the order of the holdings.
func overlaps(parent types.NamespacedName, holdings []holding) (found []difference) {
	slices.SortFunc(holdings, func(a, b holding) int {
		return cmp.Or(comparePrefixes(a.prefix, b.prefix), strings.Compare(a.name, b.name))
	})
	var widest holding
	for _, h := range holdings {
		if widest.prefix.IsValid() && widest.prefix.Overlaps(h.prefix) {
			found = append(found, difference{Type: overlap, Namespace: parent.Namespace, Name: h.name, Parent: parent.Name, Prefix: h.prefix.String(),
				Message: fmt.Sprintf("it overlaps %s of the PrefixAllocation %s", widest.prefix, widest.name)})
			continue
		}
		widest = h
	}
	return found
}
