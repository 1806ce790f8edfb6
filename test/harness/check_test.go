// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// TestChecksFindWhatIsWrong breaks a root with two children in one place at a time.
func TestChecksFindWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(root, child *v1alpha1.Prefix, allocation *v1alpha1.PrefixAllocation)
		// says is in what CheckAllocations says, and atRest in what only CheckAtRest says.
		says, atRest string
	}{
		"nothing is wrong": {func(*v1alpha1.Prefix, *v1alpha1.Prefix, *v1alpha1.PrefixAllocation) {}, "", ""},
		"no allocation": {func(_, _ *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) {
			a.OwnerReferences = nil
		}, "child one has 0 allocations", ""},
		"of nobody": {func(_, _ *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) {
			a.OwnerReferences[0].UID = "nobody"
		}, "one is of no child", ""},
		"of a root": {func(_, _ *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) {
			a.OwnerReferences[0].UID = "root"
		}, "root root has 1 allocations", ""},
		"another prefix": {func(_, p *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) {
			p.Spec.Prefix = "10.0.7.0/24"
		}, "10.0.7.0/24", ""},
		"overlap": {func(_, p *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) {
			p.Spec.Prefix, a.Status.Prefix = "10.0.2.128/25", "10.0.2.128/25"
		}, "10.0.2.0/24 and 10.0.2.128/25 overlap", ""},
		"outside": {func(_, p *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) {
			p.Spec.Prefix, a.Status.Prefix = "10.1.0.0/24", "10.1.0.0/24"
		}, "10.1.0.0/24 is not strictly inside 10.0.0.0/16", ""},
		"the parent is missing": {func(r, _ *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) { r.Name = "other" }, "from /root: ", ""},
		"not completed": {func(_, p *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) {
			p.Status.Phase = v1alpha1.PrefixPhasePending
		}, "", "the allocation is Allocated: true"},
		"not counted": {func(r, _ *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) {
			r.Status.Usage.Allocations = 1
		}, "", "2 are allocated"},
		"not listed": {func(r, _ *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) { r.Status.Used = r.Status.Used[:1] }, "", "2 are allocated"},
		"the parent is Pending": {func(r, _ *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) {
			r.Status.Phase = v1alpha1.PrefixPhasePending
		}, "", "allocated from what is not Allocated"},
	} {
		t.Run(name, func(t *testing.T) {
			root := Root("root", "10.0.0.0/16")
			root.UID = "root"
			root.Status = v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated, Used: []string{"10.0.1.0/24", "10.0.2.0/24"},
				Usage: &v1alpha1.PrefixUsage{Allocations: 2}}
			child := func(name, prefix string) (*v1alpha1.Prefix, *v1alpha1.PrefixAllocation) {
				p, a := Child(name, "root", Exactly(prefix)), Allocation(name, "root", prefix)
				p.UID, p.Status = types.UID(name), v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated, Usage: &v1alpha1.PrefixUsage{}}
				a.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, schema.GroupVersion(v1alpha1.GroupVersion).WithKind("Prefix"))}
				a.Status = v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: prefix}
				return p, a
			}
			one, ofOne := child("one", "10.0.1.0/24")
			two, ofTwo := child("two", "10.0.2.0/24")
			test.spoil(root, one, ofOne)
			prefixes, allocations := []v1alpha1.Prefix{*one, *root, *two}, []v1alpha1.PrefixAllocation{*ofTwo, *ofOne}
			says(t, CheckAllocations(prefixes, allocations), test.says)
			says(t, CheckAtRest(prefixes, allocations), test.says+test.atRest)
		})
	}
}

// says checks that an error has the words, or that there is none if there are none.
func says(t *testing.T, err error, words string) {
	t.Helper()
	if (err == nil) != (words == "") || err != nil && !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, not %q", err, words)
	}
}
