// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refersTo returns a controller reference to a Prefix.
func refersTo(p *v1alpha1.Prefix) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: p.Name, UID: p.UID, Controller: new(true)}}
}

// ownerPatch returns a patch that replaces the owner references.
func (e *env) ownerPatch(refs []metav1.OwnerReference) string {
	e.Helper()
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": refs}})
	if err != nil {
		e.Fatal(err)
	}
	return string(data)
}

func (e *env) tryPatchAllocation(name, patch string, subresources ...string) error {
	_, err := e.Allocations.Patch(e.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	return err
}

// request creates an allocation without a child. It requests a length from a parent.
func (e *env) request(name, parent string, bits int32, change func(*v1alpha1.PrefixAllocation)) *v1alpha1.PrefixAllocation {
	e.Helper()
	a := &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PrefixAllocationSpec{PrefixLength: bits, PrefixRef: &v1alpha1.LocalObjectReference{Name: parent}},
	}
	if change != nil {
		change(a)
	}
	created, err := e.Allocations.Create(e.Context(), a, metav1.CreateOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return created
}

// bound waits until an allocation is Allocated.
func (e *env) bound(name string) *v1alpha1.PrefixAllocation {
	e.Helper()
	var a *v1alpha1.PrefixAllocation
	e.Eventually(name+" Allocated", func() error {
		if a = e.GetAllocation(name); a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
			return errors.New(harness.DescribeAllocation(a))
		}
		return nil
	})
	return a
}

// TestOrphanedChildFreesItsSpace deletes children. The test removes the reference to them from their allocations
// meanwhile, as a garbage collector does for a deletion that orphans dependents. The space is free once the child
// is gone.
func TestOrphanedChildFreesItsSpace(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16")
	e.create("middle", harness.Length(20), harness.From("root"), harness.Finalizer(foreignFinalizer))
	e.allocated("middle")
	e.create("leaf", harness.Length(24), harness.From("middle"), harness.Finalizer(foreignFinalizer))
	e.allocated("leaf")
	for _, name := range []string{"leaf", "middle"} {
		prefix := e.Get(name).Spec.Prefix
		allocation := e.allocationOf(name).Name
		if err := e.tryPatchAllocation(allocation, `{"metadata":{"ownerReferences":null}}`); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.ownerReferences") {
			t.Errorf("the reference to a live child can be removed: %v", err)
		}
		e.Delete(name)
		for _, patch := range []string{`{"metadata":{"ownerReferences":null}}`, `{"metadata":{"labels":null}}`} {
			if err := e.tryPatchAllocation(allocation, patch); err != nil {
				t.Errorf("%s: %v", patch, err)
			}
		}
		e.removeFinalizer(name)
		e.Gone(name)
		e.Eventually("the allocation goes", func() error {
			_, err := e.Allocations.Get(e.Context(), allocation, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("there: %v", err)
		})
		if name == "middle" {
			e.create("next", harness.Exactly(prefix), harness.From("root"))
			e.allocated("next")
		}
	}
	e.Delete("next", "root")
	e.Empty()
}

// TestReferenceAddedByHand adds a reference to a child to an allocation without a child. The server refuses that,
// and the waiting child gets its own allocation.
func TestReferenceAddedByHand(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16")
	e.request("mine", "root", 24, nil)
	mine := e.bound("mine")
	waits := e.create("waits", harness.Length(24), harness.Selecting("net", "later"))
	if err := e.tryPatchAllocation("mine", e.ownerPatch(refersTo(waits))); !apierrors.IsInvalid(err) {
		t.Errorf("it can be made that of a child: %v", err)
	}
	e.patch("root", `{"metadata":{"labels":{"net":"later"}}}`, types.MergePatchType)
	if p := e.allocated("waits"); p.Spec.Prefix == mine.Status.Prefix {
		t.Errorf("got what another one holds: %s", harness.Describe(p))
	}
	if a := e.bound("mine"); a.Status.Prefix != mine.Status.Prefix {
		t.Errorf("lost what it held: %s", harness.DescribeAllocation(a))
	}
}

// TestForgedReference binds allocations with references that are almost correct. None of them becomes the
// allocation of the child. The child is allocated once, and keeps its range.
func TestForgedReference(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/24")
	victim := e.create("victim", harness.Length(28), harness.Selecting("net", "later"))
	for name, change := range map[string]func(*metav1.OwnerReference){
		"group": func(r *metav1.OwnerReference) { r.APIVersion = "x/v1" },
		"decoy": func(r *metav1.OwnerReference) { r.APIVersion, r.Name = "x/v1", "decoy" },
		"kind":  func(r *metav1.OwnerReference) { r.Kind = "Network" },
	} {
		refs := refersTo(victim)
		change(&refs[0])
		e.request(name, "root", 28, func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = refs })
		e.bound(name)
		if err := e.tryPatchAllocation(name, e.ownerPatch(refersTo(victim))); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.never("the victim is allocated", func() error {
		if p := e.Get("victim"); p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			return errors.New(harness.Describe(p))
		}
		return nil
	})
	e.patch("root", `{"metadata":{"labels":{"net":"later"}}}`, types.MergePatchType)
	held := e.allocated("victim").Spec.Prefix
	allocation := e.allocationOf("victim").Name
	for _, patch := range []string{`{"metadata":{"ownerReferences":null}}`, e.ownerPatch(refersTo(e.Get("root")))} {
		if err := e.tryPatchAllocation(allocation, patch); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", patch, err)
		}
	}
	for _, dryRun := range [][]string{{metav1.DryRunAll}, nil} {
		if err := e.Allocations.Delete(e.Context(), allocation, metav1.DeleteOptions{DryRun: dryRun}); !apierrors.IsConflict(err) {
			t.Errorf("it can be deleted from under the child: %v", err)
		}
	}
	e.create("thief", harness.Exactly(held), harness.From("root"))
	e.pending("thief", v1alpha1.ReasonPrefixInUse)
}

// TestAllocationForAChildThatHasOne creates allocations with correct references to a child. They are not
// distinguishable from those of the controller, so the child is allocated with one of them, and the others are
// removed.
func TestAllocationForAChildThatHasOne(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/24")
	for n := range 10 {
		name := fmt.Sprint("child-", n)
		p := e.create(name, harness.Length(28), harness.From("root"))
		for i := range 2 {
			e.request(fmt.Sprint(name, "-more-", i), "root", 28, func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = refersTo(p) })
		}
	}
	for n := range 10 {
		name := fmt.Sprint("child-", n)
		e.allocated(name)
		e.allocationOf(name)
	}
	e.Eventually("ten are counted", func() error {
		if used := e.Get("root").Status.Used; len(used) != 10 {
			return fmt.Errorf("used: %v", used)
		}
		return nil
	})
	e.AtRest()
}

// TestChildThatChangesItsMind makes the request of a child more specific after its allocation is bound, and before
// the child is completed. A range that the child cannot use any more is freed.
func TestChildThatChangesItsMind(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t)
	e := inInstance(t, instance)
	stop := run(t, instance, "Pack", "prefix")
	e.root("root", "10.0.0.0/24", harness.Labelled("net", "a"))
	e.root("other", "10.1.0.0/24", harness.Labelled("net", "a"))
	e.create("prefix", harness.Length(28), harness.Selecting("net", "a"))
	e.create("parent", harness.Length(28), harness.Selecting("net", "a"))
	e.create("both", harness.Length(28), harness.Selecting("net", "a"))
	for _, name := range []string{"prefix", "parent", "both"} {
		e.allocationOf(name)
	}
	stop()
	stop = run(t, instance, "Pack", "scheduler")
	for _, name := range []string{"prefix", "parent", "both"} {
		e.bound(e.allocationOf(name).Name)
	}
	e.patch("prefix", `{"spec":{"prefix":"10.0.0.240/28"}}`, types.MergePatchType)
	// Each requests the other parent than the one that its allocation is from.
	elsewhere := map[string]string{"root": "other", "other": "root"}
	free := map[string]string{"root": "10.0.0.96/28", "other": "10.1.0.96/28"}
	e.patch("parent", fmt.Sprintf(`{"spec":{"parentRef":{"name":%q}}}`, elsewhere[e.allocationOf("parent").Spec.PrefixRef.Name]), types.MergePatchType)
	parent := elsewhere[e.allocationOf("both").Spec.PrefixRef.Name]
	e.patch("both", fmt.Sprintf(`{"spec":{"parentRef":{"name":%q},"prefix":%q}}`, parent, free[parent]), types.MergePatchType)
	stop()
	run(t, instance, "Pack", "*")
	for _, name := range []string{"prefix", "parent", "both"} {
		e.allocated(name)
		e.allocationOf(name)
	}
	e.Eventually("three are counted", func() error {
		if used := append(e.Get("root").Status.Used, e.Get("other").Status.Used...); len(used) != 3 {
			return fmt.Errorf("used: %v", used)
		}
		return nil
	})
	e.AtRest()
}

// TestPatchedRightAfterCreation tests the same as a race.
func TestPatchedRightAfterCreation(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16", harness.Labelled("net", "a"))
	const children = 200
	harness.Each(children, 16, func(i int) {
		name := fmt.Sprint("child-", i)
		if _, err := e.Prefixes.Create(e.Context(), harness.NewPrefix(name, harness.Length(28), harness.Selecting("net", "a")), metav1.CreateOptions{}); err != nil {
			t.Error(err)
			return
		}
		time.Sleep(time.Duration(i%10) * time.Millisecond)
		// Most patches are refused, because the child already has a prefix.
		patch := fmt.Sprintf(`{"spec":{"prefix":"10.0.%d.%d/28"}}`, 128+i/16, i%16*16)
		_, _ = e.Prefixes.Patch(e.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	})
	for i := range children {
		e.allocated(fmt.Sprint("child-", i))
	}
	e.Eventually("each child has one allocation", func() error {
		allocations := e.ListAllocations()
		if used := e.Get("root").Status.Usage.Allocations; len(allocations) != children || used != children {
			return fmt.Errorf("%d allocations, %d counted", len(allocations), used)
		}
		return nil
	})
	e.AtRest()
}

// TestSquatters uses the names that the controller derives for the allocations of a child.
func TestSquatters(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t, harness.Controllers("scheduler"))
	e := inInstance(t, instance)
	p := e.create("child", harness.Length(28), harness.From("root"))
	for attempt := range 3 {
		e.request(requester.Name(p, attempt), "elsewhere", 28, func(a *v1alpha1.PrefixAllocation) {
			a.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "squatter", UID: "1", Controller: new(true)}}
		})
	}
	run(t, instance, "Pack", "prefix")
	e.root("root", "10.0.0.0/24")
	e.allocated("child")
	// Their names show that they were created for a child, and they hold nothing.
	e.Eventually("one allocation is left", func() error {
		if allocations := e.ListAllocations(); len(allocations) != 1 || !requester.IsOf(&allocations[0], p) {
			return fmt.Errorf("%d left", len(allocations))
		}
		return nil
	})
}

// TestAllocationLosesItsChild removes the reference, among other things, from the allocation of a waiting child.
// The child gets another allocation, the one without a reference is deleted, and the child is served when there is
// space.
func TestAllocationLosesItsChild(t *testing.T) {
	e := in(t)
	for i, patch := range []string{
		`{"metadata":{"ownerReferences":null}}`,
		`{"metadata":{"ownerReferences":null,"labels":null}}`,
	} {
		name := fmt.Sprint("child-", i)
		p := e.create(name, harness.Length(28), harness.From("root"))
		lost := e.allocationOf(name)
		e.patchAllocation(lost.Name, patch)
		e.Eventually("another allocation", func() error {
			of := e.allocationsOf(p)
			if len(of) != 1 || of[0].UID == lost.UID {
				return fmt.Errorf("has %d", len(of))
			}
			return nil
		})
	}
	e.root("root", "10.0.0.0/24")
	for i := range 2 {
		e.allocated(fmt.Sprint("child-", i))
	}
	e.Eventually("nothing is left over", func() error {
		if n := len(e.ListAllocations()); n != 2 {
			return fmt.Errorf("%d allocations", n)
		}
		return nil
	})
	e.AtRest()
}

// TestStatusBesidePatches checks the status of a parent while its metadata is changed all the time.
func TestStatusBesidePatches(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for writer := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				patch := fmt.Sprintf(`{"metadata":{"annotations":{"writer-%d":"%d"}}}`, writer, i)
				if _, err := e.Prefixes.Patch(e.Context(), "root", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil && !apierrors.IsConflict(err) {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 20 {
		e.create(fmt.Sprint("child-", n), harness.Length(24), harness.From("root"))
		e.allocated(fmt.Sprint("child-", n))
		took := e.Eventually("counted", func() error {
			if used := e.Get("root").Status.Used; len(used) != n+1 {
				return fmt.Errorf("%d of %d are counted", len(used), n+1)
			}
			return nil
		})
		if n%5 == 0 {
			t.Logf("counted after %v", took)
		}
	}
	close(stop)
	wg.Wait()
	e.AtRest()
}

// TestDeletableTellsTheChildren checks that the condition names the Prefixes that a parent waits for, and none when
// there are no more.
func TestDeletableTellsTheChildren(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16", harness.Finalizer(foreignFinalizer))
	for n := range 3 {
		e.create(fmt.Sprint("child-", n), harness.Length(24), harness.From("root"))
		e.allocated(fmt.Sprint("child-", n))
	}
	e.request("mine", "root", 24, nil)
	e.bound("mine")
	e.Delete("root")
	deletable := func(status metav1.ConditionStatus, reason, message string) {
		t.Helper()
		e.Eventually("Deletable says "+message, func() error {
			for _, c := range e.Get("root").Status.Conditions {
				if c.Type == v1alpha1.ConditionDeletable && c.Status == status && c.Reason == reason && c.Message == message {
					return nil
				}
			}
			return errors.New(harness.Describe(e.Get("root")))
		})
	}
	deletable(metav1.ConditionFalse, v1alpha1.ReasonHasChildren, "Still in use by Prefix child-0, Prefix child-1, Prefix child-2, PrefixAllocation mine")
	e.Delete("child-1")
	deletable(metav1.ConditionFalse, v1alpha1.ReasonHasChildren, "Still in use by Prefix child-0, Prefix child-2, PrefixAllocation mine")
	e.Delete("child-0", "child-2")
	if err := e.Allocations.Delete(e.Context(), "mine", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deletable(metav1.ConditionTrue, v1alpha1.ReasonNoChildren, "Nothing is allocated from this Prefix; it waits for its other finalizers")
	if p := e.Get("root"); slices.Contains(p.Finalizers, v1alpha1.PrefixFinalizer) {
		t.Errorf("waits for itself: %v", p.Finalizers)
	}
	e.removeFinalizer("root")
	e.Empty()
}
