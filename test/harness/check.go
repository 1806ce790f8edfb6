// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxUsed is the maximum number of prefixes in status.used.
const maxUsed = 1000

// CheckAllocations returns an error if the objects of a namespace, or of several that share parents, are inconsistent:
//
//   - a root has an allocation, or a child does not have exactly one
//   - an Allocated child has another prefix or parent than its allocation
//   - the controller of an allocation does not exist or is not a child, unless its space cools down
//   - the space of an allocation cools down, but its child exists
//   - allocated prefixes overlap, or are not strictly inside their parent
//
// These rules also hold while the controllers work.
func CheckAllocations(prefixes []v1alpha1.Prefix, allocations []v1alpha1.PrefixAllocation) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	owned := map[types.UID][]*v1alpha1.PrefixAllocation{}
	for i := range allocations {
		if owner := metav1.GetControllerOfNoCopy(&allocations[i]); owner != nil {
			owned[owner.UID] = append(owned[owner.UID], &allocations[i])
		}
	}
	ranges := map[string]string{}
	for i := range prefixes {
		p := &prefixes[i]
		ranges[p.Namespace+"/"+p.Name] = p.Spec.Prefix
		own := owned[p.UID]
		delete(owned, p.UID)
		switch {
		case p.Spec.IsRoot():
			if len(own) > 0 {
				fail("root %s has %d allocations", p.Name, len(own))
			}
		case len(own) != 1:
			fail("child %s has %d allocations", p.Name, len(own))
		case own[0].Status.CoolingUntil != nil:
			fail("child %s exists, but its space cools down: %s", p.Name, DescribeAllocation(own[0]))
		case p.Status.Phase == v1alpha1.PrefixPhaseAllocated && (own[0].Status.Prefix != p.Spec.Prefix || own[0].Spec.PrefixRef.Name != p.Spec.ParentRef.Name ||
			own[0].NamespaceOfParent() != p.NamespaceOfParent()):
			fail("%s\n%s", Describe(p), DescribeAllocation(own[0]))
		}
	}
	for _, orphans := range owned {
		for _, a := range orphans {
			if a.Status.CoolingUntil == nil {
				fail("%s is of no child", a.Name)
			}
		}
	}
	for parent, given := range givenFrom(allocations) {
		if err := Disjoint(ranges[parent], given); err != nil {
			fail("from %s: %w", parent, err)
		}
	}
	return errors.Join(errs...)
}

// CheckAtRest is like CheckAllocations, with rules that hold only when the controllers have nothing left to do: a child
// is Allocated if and only if its allocation is, and the status of each parent counts and lists what is allocated from
// it.
func CheckAtRest(prefixes []v1alpha1.Prefix, allocations []v1alpha1.PrefixAllocation) error {
	errs := []error{CheckAllocations(prefixes, allocations)}
	allocated := map[types.UID]bool{}
	for i := range allocations {
		if owner := metav1.GetControllerOfNoCopy(&allocations[i]); owner != nil {
			allocated[owner.UID] = allocations[i].Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated
		}
	}
	given := givenFrom(slices.DeleteFunc(slices.Clone(allocations), func(a v1alpha1.PrefixAllocation) bool { return a.Status.CoolingUntil != nil }))
	for i := range prefixes {
		p := &prefixes[i]
		isAllocated := p.Status.Phase == v1alpha1.PrefixPhaseAllocated
		if !p.Spec.IsRoot() && isAllocated != allocated[p.UID] {
			errs = append(errs, fmt.Errorf("the allocation is Allocated: %v: %s", allocated[p.UID], Describe(p)))
		}
		if !isAllocated {
			continue
		}
		want := given[p.Namespace+"/"+p.Name]
		delete(given, p.Namespace+"/"+p.Name)
		if p.Status.Usage == nil || int(p.Status.Usage.Allocations) != len(want) || len(want) <= maxUsed && !slices.Equal(p.Status.Used, want) {
			errs = append(errs, fmt.Errorf("%d are allocated, %.1000q: %s", len(want), want, Describe(p)))
		}
	}
	if len(given) > 0 {
		errs = append(errs, fmt.Errorf("allocated from what is not Allocated: %v", given))
	}
	return errors.Join(errs...)
}

// givenFrom returns the allocated prefixes by namespace/name of the parent, sorted by address.
func givenFrom(allocations []v1alpha1.PrefixAllocation) map[string][]string {
	given := map[string][]string{}
	for _, a := range allocations {
		if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
			parent := a.NamespaceOfParent() + "/" + a.Spec.PrefixRef.Name
			given[parent] = append(given[parent], a.Status.Prefix)
		}
	}
	for _, prefixes := range given {
		slices.SortFunc(prefixes, func(a, b string) int { return netip.MustParsePrefix(a).Compare(netip.MustParsePrefix(b)) })
	}
	return given
}

// Disjoint returns an error if any of the prefixes is not strictly inside parent, or if two of them overlap.
func Disjoint(parent string, prefixes []string) error {
	outer, err := netip.ParsePrefix(parent)
	if err != nil {
		return err
	}
	var parsed []netip.Prefix
	for _, s := range prefixes {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return err
		}
		if p.Bits() <= outer.Bits() || !outer.Contains(p.Addr()) {
			return fmt.Errorf("%s is not strictly inside %s", p, outer)
		}
		parsed = append(parsed, p)
	}
	if a, b, ok := Overlap(parsed); ok {
		return fmt.Errorf("%s and %s overlap", a, b)
	}
	return nil
}

// Overlap returns two prefixes that overlap. It returns false if there are none.
func Overlap(prefixes []netip.Prefix) (a, b netip.Prefix, ok bool) {
	prefixes = slices.Clone(prefixes)
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	// If any two prefixes overlap, then so do two neighbors in this order.
	for i := 1; i < len(prefixes); i++ {
		if prefixes[i-1].Overlaps(prefixes[i]) {
			return prefixes[i-1], prefixes[i], true
		}
	}
	return a, b, false
}

// Describe returns a Prefix as text for test failures.
func Describe(p *v1alpha1.Prefix) string { return describe("Prefix", &p.ObjectMeta, p.Spec, p.Status) }

// DescribeAllocation returns a PrefixAllocation as text for test failures.
func DescribeAllocation(a *v1alpha1.PrefixAllocation) string {
	return describe("PrefixAllocation", &a.ObjectMeta, a.Spec, a.Status)
}

func describe(kind string, object *metav1.ObjectMeta, spec, status any) string {
	specJSON, _ := json.Marshal(spec)
	statusJSON, _ := json.Marshal(status)
	return fmt.Sprintf("%s %s deletion=%v finalizers=%v\n  spec %s\n  status %s", kind, object.Name, object.DeletionTimestamp, object.Finalizers, specJSON, statusJSON)
}
