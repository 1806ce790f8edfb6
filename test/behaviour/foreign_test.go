// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Other controllers of this API group do not use bindings: they patch the spec, and then the status.
// TestForeignController runs such a controller instead of our scheduler and beside it.
func TestForeignController(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t, harness.Controllers("prefix"))

	// allocate does the work of a scheduler with two patches.
	allocate := func(e *env, allocation, parent, prefix string) {
		e.Helper()
		e.patchAllocation(allocation, fmt.Sprintf(`{"spec":{"prefixRef":{"name":%q}}}`, parent))
		e.patchAllocation(allocation, fmt.Sprintf(`{"status":{"phase":"Allocated","prefix":%q}}`, prefix), "status")
	}
	// replaced waits until the child has another allocation than old, and allocates that one.
	replaced := func(e *env, old *v1alpha1.PrefixAllocation) {
		e.Helper()
		var next *v1alpha1.PrefixAllocation
		e.Eventually("another allocation", func() error {
			if next = e.allocationOf("child"); next.UID == old.UID {
				return errors.New(harness.DescribeAllocation(next))
			}
			return nil
		})
		allocate(e, next.Name, "root", "10.0.9.0/24")
		e.allocated("child")
		e.AtRest()
	}

	t.Run("schedules", func(t *testing.T) {
		t.Parallel()
		e := inInstance(t, instance)
		e.root("root", "10.0.0.0/16", harness.Labelled("net", "a"))
		for name, how := range map[string]harness.PrefixOption{"named": harness.From("root"), "selected": harness.Selecting("net", "a")} {
			e.create(name, harness.Length(24), how)
			a := e.allocationOf(name)
			if a.Status.Phase != v1alpha1.PrefixAllocationPhasePending || meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated) != nil {
				t.Errorf("somebody else schedules: %s", harness.DescribeAllocation(a))
			}
			prefix := map[string]string{"named": "10.0.9.0/24", "selected": "10.0.200.0/24"}[name]
			allocate(e, a.Name, "root", prefix)
			if p := e.allocated(name); p.Spec.Prefix != prefix {
				t.Errorf("not what was allocated: %s", harness.Describe(p))
			}
		}
		e.AtRest()
		e.Delete("root", "named", "selected")
		e.Empty()
	})

	t.Run("schedules and completes", func(t *testing.T) {
		t.Parallel()
		e := inInstance(t, instance)
		e.root("root", "10.0.0.0/16", harness.Labelled("net", "a"))
		// Our scheduler does the same concurrently. It may see the child first, and later that its allocation is
		// allocated.
		for n := range 30 {
			child, prefix := fmt.Sprint("child-", n), fmt.Sprintf("10.0.%d.0/24", n)
			e.create(child, harness.Length(24), harness.Selecting("net", "a"))
			allocate(e, e.allocationOf(child).Name, "root", prefix)
			e.patch(child, fmt.Sprintf(`{"spec":{"prefix":%q,"parentRef":{"name":"root"}}}`, prefix), types.MergePatchType)
			e.patch(child, `{"status":{"phase":"Allocated"}}`, types.MergePatchType, "status")
			e.allocated(child)
		}
		e.AtRest()
	})

	t.Run("fails what it cannot place", func(t *testing.T) {
		t.Parallel()
		e := inInstance(t, instance)
		e.root("root", "10.0.0.0/16", harness.Labelled("net", "a"))
		e.create("child", harness.Length(24), harness.Selecting("net", "a"))
		a := e.allocationOf("child")
		e.patchAllocation(a.Name, `{"status":{"phase":"Failed"}}`, "status")
		// Failed is final for an allocation, but not for the child.
		replaced(e, a)
	})

	t.Run("chooses a parent that does not work out", func(t *testing.T) {
		t.Parallel()
		e := inInstance(t, instance)
		e.root("root", "10.0.0.0/16", harness.Labelled("net", "a"))
		e.create("child", harness.Length(24), harness.Selecting("net", "a"))
		a := e.allocationOf("child")
		e.patchAllocation(a.Name, `{"spec":{"prefixRef":{"name":"elsewhere"}}}`)
		e.patchAllocation(a.Name, `{"status":{"conditions":[{"type":"Allocated","status":"False","reason":"ParentNotFound","message":"no","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, "status")
		replaced(e, a)
	})
}

// TestForeignControllerBefore has objects that other controllers created without bindings and with other names. Our
// controllers take over and change nothing.
func TestForeignControllerBefore(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t)
	e := inInstance(t, instance)

	e.create("root", harness.Exactly("10.0.0.0/16"), harness.Labelled("net", "a"))
	e.patch("root", `{"status":{"phase":"Allocated"}}`, types.MergePatchType, "status")
	for i := range 3 {
		name := fmt.Sprintf("child-%d", i)
		prefix := fmt.Sprintf("10.0.%d.0/24", 50+i)
		child := e.create(name, harness.Length(24), harness.Selecting("net", "a"))
		a := &v1alpha1.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{
				GenerateName:    name + "-",
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(child, schema.GroupVersion(v1alpha1.GroupVersion).WithKind(v1alpha1.PrefixKind))},
			},
			Spec: v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, PrefixSelector: child.Spec.ParentSelector},
		}
		a, err := e.Allocations.Create(t.Context(), a, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e.patchAllocation(a.Name, `{"spec":{"prefixRef":{"name":"root"}}}`)
		if i == 2 {
			// The other controller did not get further with this one.
			continue
		}
		e.patchAllocation(a.Name, fmt.Sprintf(`{"status":{"phase":"Allocated","prefix":%q}}`, prefix), "status")
		if i == 1 {
			continue
		}
		e.patch(name, fmt.Sprintf(`{"spec":{"prefix":%q,"parentRef":{"name":"root"}}}`, prefix), types.MergePatchType)
		e.patch(name, `{"status":{"phase":"Allocated"}}`, types.MergePatchType, "status")
	}
	finished, allocations := e.allocated("child-0"), e.ListAllocations()

	run(t, instance, "Pack", "*")
	for i, want := range []string{"10.0.50.0/24", "10.0.51.0/24", ""} {
		if p := e.allocated(fmt.Sprintf("child-%d", i)); want != "" && p.Spec.Prefix != want {
			t.Errorf("not what was allocated: %s", harness.Describe(p))
		}
	}
	e.AtRest()
	if p := e.Get("child-0"); p.ResourceVersion != finished.ResourceVersion {
		t.Errorf("written for nothing: %s", harness.Describe(p))
	}
	for _, before := range allocations {
		if now := e.GetAllocation(before.Name); now.UID != before.UID {
			t.Errorf("another one: %s", harness.DescribeAllocation(now))
		}
	}
}

// TestForeignSchedulerAtTheSameTime runs another scheduler beside ours. It allocates with patches from the same
// parent. Each child is allocated by one of them, and nothing overlaps.
func TestForeignSchedulerAtTheSameTime(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t, harness.Controllers("*"))
	e := inInstance(t, instance)
	e.root("root", "10.0.0.0/16")
	const children = 100

	ctx, cancel := context.WithCancel(t.Context())
	var bound atomic.Int32
	watcher, err := e.Allocations.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var foreign sync.WaitGroup
	foreign.Go(func() {
		n := 0
		for event := range watcher.ResultChan() {
			a, ok := event.Object.(*v1alpha1.PrefixAllocation)
			if !ok || event.Type != watch.Added {
				continue
			}
			// Our scheduler begins at the other end.
			status := fmt.Sprintf(`{"status":{"phase":"Allocated","prefix":"10.0.%d.%d/30"}}`, 255-n*4/256, 252-n*4%256)
			n++
			foreign.Go(func() {
				if _, err := e.Allocations.Patch(ctx, a.Name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err == nil {
					bound.Add(1)
				}
			})
		}
	})

	e.createChildren(children, 4, harness.Length(30), harness.From("root"))
	e.childrenAllocated(children)
	watcher.Stop()
	foreign.Wait()
	cancel()
	t.Logf("the other scheduler allocated %d of %d", bound.Load(), children)
	e.AtRest()
}
