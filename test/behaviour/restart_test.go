// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// TestControllersAwayForAWhile stops the program, makes changes without controllers, and starts it again on the
// same data.
func TestControllersAwayForAWhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()

	before := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"))
	e := inInstance(t, before)
	e.root("root", "10.0.0.0/16", harness.Labelled("net", "a"))
	e.root("full", "10.1.0.0/31")
	e.root("old", "10.2.0.0/16")
	for _, name := range []string{"stays", "leaves", "half-way"} {
		e.create(name, harness.Length(24), harness.From("root"))
		e.allocated(name)
	}
	for _, name := range []string{"full-one", "full-two"} {
		e.create(name, harness.Length(32), harness.From("full"))
		e.allocated(name)
	}
	stays := e.allocated("stays")
	e.create("waits", harness.Length(32), harness.From("full"))
	e.pending("waits", v1alpha1.ReasonParentExhausted)
	e.create("failed", harness.Length(8), harness.From("old"))
	e.pending("failed", v1alpha1.ReasonNoSuitableParent)
	before.Close()

	away := harness.Start(t, harness.DataDir(dir))
	e = inInstance(t, away)
	// Create whole trees, children first.
	e.create("new-leaf", harness.Length(28), harness.From("new-middle"))
	e.create("new-middle", harness.Length(24), harness.From("new-root"))
	e.create("new-root", harness.Exactly("172.16.0.0/12"))
	e.create("new", harness.Length(24), harness.From("root"))
	e.create("by-label", harness.Length(26), harness.Selecting("net", "b"))
	e.patch("full", `{"metadata":{"labels":{"net":"b"}}}`, types.MergePatchType)
	// Delete Prefixes. Nobody removes their finalizers.
	e.Delete("leaves", "full-one", "old")
	// A controller ended right after it created the allocation of a child, or right after it bound that allocation.
	made := func(name, phase string) *v1alpha1.PrefixAllocation {
		child := e.create(name, harness.Length(24), harness.From("root"))
		a := &v1alpha1.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{
				Name:            name + "-by-hand",
				Labels:          map[string]string{v1alpha1.RequesterUIDLabel: string(child.UID)},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(child, schema.GroupVersion(v1alpha1.GroupVersion).WithKind(v1alpha1.PrefixKind))},
			},
			Spec: v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
		}
		a, err := e.Allocations.Create(t.Context(), a, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if phase == "bound" {
			if _, err := e.Allocations.Bind(t.Context(), a.Name, &v1alpha1.PrefixAllocationBinding{
				Metadata: v1alpha1.BindingMeta{Name: a.Name}, Prefix: "10.0.77.0/24", PrefixRef: v1alpha1.BindingReference{Name: "root"},
			}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	made("made", "")
	made("bound", "bound")
	// An allocation of a Prefix that does not exist any more, and one of an earlier Prefix with the name of an
	// existing one.
	for i, owner := range []string{"nobody", "stays"} {
		a := &v1alpha1.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("orphan-%d", i),
				OwnerReferences: []metav1.OwnerReference{{
					APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: owner, UID: types.UID(fmt.Sprint(i)), Controller: new(true)}},
			},
			Spec: v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
		}
		if _, err := e.Allocations.Create(t.Context(), a, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// Another client wrote a wrong status.
	e.patch("root", `{"status":{"used":["10.0.200.0/24","10.0.201.0/24","10.0.202.0/24"]}}`, types.MergePatchType, "status")
	if p := e.Get("new-leaf"); p.Status.Phase != v1alpha1.PrefixPhasePending {
		t.Errorf("a controller is there: %s", harness.Describe(p))
	}
	if p := e.Get("leaves"); p.DeletionTimestamp == nil {
		t.Errorf("not being deleted: %s", harness.Describe(p))
	}
	away.Close()

	after := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"))
	e = inInstance(t, after)
	for _, name := range []string{"new-root", "new-middle", "new-leaf", "new", "made", "bound", "waits", "stays", "half-way"} {
		e.allocated(name)
	}
	e.Gone("leaves", "full-one", "old")
	e.pending("failed", v1alpha1.ReasonNoSuitableParent)
	e.pending("by-label", v1alpha1.ReasonNoSuitableParent, "full (10.1.0.0/31)")
	if p := e.Get("bound"); p.Spec.Prefix != "10.0.77.0/24" {
		t.Errorf("not what was bound: %s", harness.Describe(p))
	}
	if p := e.Get("stays"); p.ResourceVersion != stays.ResourceVersion {
		t.Errorf("written for nothing: %s\nwas %s", harness.Describe(p), harness.Describe(stays))
	}
	e.AtRest()
	if used := e.Get("root").Status.Used; !slices.Contains(used, "10.0.77.0/24") || slices.Contains(used, "10.0.200.0/24") {
		t.Errorf("used: %v", used)
	}

	if err := e.Prefixes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	e.Empty()
}

// TestControllersOneByOne runs one controller at a time. Each does its part, and nothing is lost in between.
func TestControllersOneByOne(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t)
	e := inInstance(t, instance)
	e.create("root", harness.Exactly("10.0.0.0/24"))
	e.create("child", harness.Length(25), harness.From("root"))

	stop := run(t, instance, "Pack", "prefix")
	e.allocated("root")
	a := e.allocationOf("child")
	stop()
	stop = run(t, instance, "Pack", "scheduler")
	e.Eventually("allocation Allocated", func() error {
		if now := e.GetAllocation(a.Name); now.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
			return fmt.Errorf("%s", harness.DescribeAllocation(now))
		}
		return nil
	})
	stop()
	if p := e.Get("child"); p.Status.Phase != v1alpha1.PrefixPhasePending {
		t.Errorf("nobody was there to complete it: %s", harness.Describe(p))
	}
	stop = run(t, instance, "Pack", "prefix")
	e.allocated("child")
	e.AtRest()
	stop()
}

// TestTwoManagers runs two independent sets of all controllers. The result is the same as with one.
func TestTwoManagers(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t)
	e := inInstance(t, instance)
	run(t, instance, "Pack", "*")
	run(t, instance, "Pack", "*")
	e.root("root", "10.0.0.0/24")
	const children = 128
	e.createChildren(children, 8, harness.Length(31), harness.From("root"))
	e.childrenAllocated(children)
	e.AtRest()
	if p := e.Get("root"); p.Status.Usage.Percent != 100 {
		t.Errorf("not full: %s", harness.Describe(p))
	}
	if err := e.Prefixes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	e.Empty()
}
