// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// The tests in this file are numbered like the behaviours in the design.

func TestBehaviour1Root(t *testing.T) {
	for _, prefix := range []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32", "0.0.0.0/0", "::/0"} {
		t.Run(prefix, func(t *testing.T) {
			e := in(t)
			p := e.root("root", prefix)
			if p.Spec.Prefix != prefix || p.Spec.ParentRef != nil {
				t.Errorf("changed: %s", harness.Describe(p))
			}
			if len(p.Status.Used) != 0 || p.Status.Usage == nil || p.Status.Usage.Used != "0" || p.Status.Usage.Allocations != 0 {
				t.Errorf("not unused: %s", harness.Describe(p))
			}
			e.never("PrefixAllocation of a root", func() error {
				if n := len(e.ListAllocations()); n != 0 {
					return fmt.Errorf("there are %d", n)
				}
				return nil
			})
		})
	}
}

func TestBehaviour2Child(t *testing.T) {
	t.Run("one allocation that copies the request", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/8", harness.Labelled("net", "a"))
		// Children that do not need a specific parent come last: any place is possible for them.
		for _, tt := range []struct {
			name    string
			options []harness.PrefixOption
		}{
			{"exact", []harness.PrefixOption{harness.Exactly("10.200.0.0/16"), harness.From("root")}},
			{"exact-length", []harness.PrefixOption{harness.Exactly("10.201.0.0/16"), harness.Length(16), harness.Selecting("net", "a")}},
			{"by-ref", []harness.PrefixOption{harness.Length(24), harness.From("root")}},
			{"by-selector", []harness.PrefixOption{harness.Length(24), harness.Selecting("net", "a")}},
			{"by-both", []harness.PrefixOption{harness.Length(25), harness.From("root"), harness.Selecting("net", "b")}},
		} {
			name, options := tt.name, tt.options
			e.create(name, options...)
			child, a := e.allocated(name), e.allocationOf(name)
			asked := harness.NewPrefix(name, options...)

			owner := metav1.GetControllerOf(a)
			if owner == nil || owner.UID != child.UID || owner.Kind != v1alpha1.PrefixKind || owner.Name != name {
				t.Errorf("%s: owner is %+v", name, owner)
			}
			if got := a.Labels[v1alpha1.RequesterUIDLabel]; got != string(child.UID) {
				t.Errorf("%s: label is %q, want %q", name, got, child.UID)
			}
			if a.Spec.Prefix != asked.Spec.Prefix || a.Spec.Prefix == "" && a.Spec.PrefixLength != asked.Spec.PrefixLength {
				t.Errorf("%s: asks for another prefix: %s", name, harness.DescribeAllocation(a))
			}
			if a.Spec.Prefix != "" && a.Spec.PrefixLength != 0 {
				t.Errorf("%s: asks for prefix and length: %s", name, harness.DescribeAllocation(a))
			}
			if a.Spec.IPFamily != v1alpha1.IPv4 {
				t.Errorf("%s: family is %q", name, a.Spec.IPFamily)
			}
			if !equality.Semantic.DeepEqual(a.Spec.PrefixSelector, asked.Spec.ParentSelector) {
				t.Errorf("%s: has another selector: %s", name, harness.DescribeAllocation(a))
			}
			if a.Spec.PrefixRef == nil || a.Spec.PrefixRef.Name != "root" {
				t.Errorf("%s: has another parent: %s", name, harness.DescribeAllocation(a))
			}
			if a.Status.Prefix != child.Spec.Prefix {
				t.Errorf("%s: holds %s, but the child says %s", name, a.Status.Prefix, child.Spec.Prefix)
			}
		}
		e.AtRest()
	})

	t.Run("names are deterministic and fit", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/8")
		long := strings.Repeat("a", 240) + "." + strings.Repeat("b", 12)
		e.create(long, harness.Length(24), harness.From("root"))
		a := e.allocationOf(long)
		e.allocated(long)
		e.AtRest()
		if len(a.Name) > 253 || !strings.HasPrefix(a.Name, strings.Repeat("a", 230)) {
			t.Errorf("name of the allocation: %s", a.Name)
		}
	})

	t.Run("controller restarts in between", func(t *testing.T) {
		t.Parallel()
		instance := harness.Start(t)
		e := inInstance(t, instance)
		stop := run(t, instance, "Pack", "*")
		e.root("root", "10.0.0.0/8")
		const children = 200
		created := make(chan struct{})
		go func() {
			defer close(created)
			e.createChildren(children, 4, harness.Length(24), harness.From("root"))
		}()
		for done := false; !done; {
			// Stop the instance in the middle of its work, and start it again.
			stop()
			stop = run(t, instance, "Pack", "*")
			select {
			case <-created:
				done = true
			default:
			}
		}
		e.childrenAllocated(children)
		e.AtRest()
		if n := len(e.ListAllocations()); n != children {
			t.Errorf("%d allocations for %d children", n, children)
		}
	})

	t.Run("name taken by somebody else", func(t *testing.T) {
		t.Parallel()
		instance := harness.Start(t)
		e := inInstance(t, instance)
		stop := run(t, instance, "Pack", "prefix")
		e.create("child", harness.Length(24), harness.From("root"))
		a := e.allocationOf("child")
		stop()
		// The name is derived from the child, so anybody can know it in advance.
		if err := e.Allocations.Delete(t.Context(), a.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		foreign := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: a.Name}, Spec: a.Spec}
		if _, err := e.Allocations.Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		run(t, instance, "Pack", "*")
		e.root("root", "10.0.0.0/8")
		e.allocated("child")
		e.AtRest()
	})

	// outdated creates an allocation of the child that another controller left behind.
	outdated := func(e *env, child *v1alpha1.Prefix, name string, spec v1alpha1.PrefixAllocationSpec) {
		e.Helper()
		a := &v1alpha1.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{
				Name:            name,
				Labels:          map[string]string{v1alpha1.RequesterUIDLabel: string(child.UID)},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(child, schema.GroupVersion(v1alpha1.GroupVersion).WithKind(v1alpha1.PrefixKind))},
			},
			Spec: spec,
		}
		if _, err := e.Allocations.Create(e.Context(), a, metav1.CreateOptions{}); err != nil {
			e.Fatal(err)
		}
	}
	ref := func(name string) *v1alpha1.LocalObjectReference {
		return &v1alpha1.LocalObjectReference{Name: name}
	}

	t.Run("outdated ones are pruned", func(t *testing.T) {
		t.Parallel()
		instance := harness.Start(t)
		e := inInstance(t, instance)
		child := e.create("child", harness.Length(24), harness.From("root"))
		outdated(e, child, "other-length", v1alpha1.PrefixAllocationSpec{PrefixLength: 25, PrefixRef: ref("root")})
		outdated(e, child, "other-parent", v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("elsewhere")})
		outdated(e, child, "other-prefix", v1alpha1.PrefixAllocationSpec{Prefix: "10.1.0.0/24", PrefixRef: ref("root")})
		outdated(e, child, "other-selector", v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root"),
			PrefixSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"net": "a"}}})
		// Run the prefix controller before the scheduler, or they could get space first.
		run(t, instance, "Pack", "prefix")
		e.AtRest()
		run(t, instance, "Pack", "scheduler")
		e.root("root", "10.0.0.0/8")
		e.allocated("child")
		e.AtRest()
	})

	t.Run("one of another controller that matches is taken over", func(t *testing.T) {
		t.Parallel()
		instance := harness.Start(t)
		e := inInstance(t, instance)
		child := e.create("child", harness.Length(24), harness.From("root"))
		outdated(e, child, "matches", v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, PrefixRef: ref("root")})
		run(t, instance, "Pack", "*")
		e.root("root", "10.0.0.0/8")
		e.allocated("child")
		e.AtRest()
		if a := e.allocationOf("child"); a.Name != "matches" {
			t.Errorf("replaced by %s", a.Name)
		}
	})

	t.Run("one that is not what the child asks for is not bound", func(t *testing.T) {
		t.Parallel()
		instance := harness.Start(t)
		e := inInstance(t, instance)
		stopRoots := run(t, instance, "Pack", "prefix")
		e.root("root", "10.0.0.0/8")
		stopRoots()
		child := e.create("child", harness.Length(24), harness.From("root"))
		outdated(e, child, "other", v1alpha1.PrefixAllocationSpec{PrefixLength: 25, PrefixRef: ref("root")})
		if err := e.tryPatchAllocation("other", `{"status":{"phase":"Allocated","prefix":"10.7.0.0/25"}}`, "status"); !apierrors.IsConflict(err) {
			t.Errorf("bound for a child that does not ask for it: %v", err)
		}
		run(t, instance, "Pack", "*")
		e.allocated("child")
		if a := e.allocationOf("child"); a.Name == "other" {
			t.Error("it is kept")
		}
		e.AtRest()
		e.Delete("child", "root")
		e.Empty()
	})

	t.Run("request that is narrowed later", func(t *testing.T) {
		e := in(t)
		e.create("child", harness.Family(v1alpha1.IPv4), harness.Length(24), harness.Selecting("net", "a"))
		before := e.allocationOf("child")
		e.root("other", "10.9.0.0/16")
		e.patch("child", `{"spec":{"parentRef":{"name":"other"}}}`, types.MergePatchType)
		if p := e.allocated("child"); p.Spec.ParentRef.Name != "other" {
			t.Errorf("from another parent: %s", harness.Describe(p))
		}
		e.AtRest()
		if after := e.allocationOf("child"); after.Name == before.Name {
			t.Errorf("the same allocation")
		}
	})
}

func TestBehaviour3Scheduling(t *testing.T) {
	t.Run("only what matches", func(t *testing.T) {
		e := in(t)
		e.root("right", "10.0.0.0/16", harness.Labelled("net", "a", "tier", "one"))
		e.root("wrong-value", "10.1.0.0/24", harness.Labelled("net", "b", "tier", "one"))
		e.root("wrong-family", "2001:db8::/64", harness.Labelled("net", "a", "tier", "one"))
		e.root("too-small", "10.2.0.0/29", harness.Labelled("net", "a", "tier", "one"))
		e.root("as-large", "10.3.0.0/28", harness.Labelled("net", "a", "tier", "one"))
		e.root("no-label", "10.4.0.0/24")
		e.root("deleting", "10.5.0.0/24", harness.Labelled("net", "a", "tier", "one"), harness.Finalizer(foreignFinalizer))
		e.Delete("deleting")
		e.create("pending", harness.Family(v1alpha1.IPv4), harness.Length(27), harness.Selecting("net", "none"), harness.Labelled("net", "a", "tier", "one"))
		e.create("child", harness.Length(28), harness.Selecting("net", "a", "tier", "one"))
		if p := e.allocated("child"); p.Spec.ParentRef.Name != "right" || p.Spec.Prefix != "10.0.0.0/28" {
			t.Errorf("not from the only one that could: %s", harness.Describe(p))
		}
		e.removeFinalizer("deleting")
	})

	t.Run("set expressions", func(t *testing.T) {
		e := in(t)
		e.root("one", "10.0.0.0/16", harness.Labelled("net", "a"))
		e.root("two", "10.1.0.0/16", harness.Labelled("net", "b"))
		child := harness.NewPrefix("child", harness.Length(24), harness.Family(v1alpha1.IPv4))
		child.Spec.ParentSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "net", Operator: metav1.LabelSelectorOpIn, Values: []string{"b", "c"}}}}
		if _, err := e.Prefixes.Create(t.Context(), child, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if p := e.allocated("child"); p.Spec.ParentRef.Name != "two" {
			t.Errorf("from another: %s", harness.Describe(p))
		}
	})

	t.Run("the same namespace only", func(t *testing.T) {
		e := in(t)
		other := inNamespace(t, shared, e.NS+"-x")
		other.root("root", "10.0.0.0/8", harness.Labelled("net", "a"))
		e.create("by-selector", harness.Length(24), harness.Selecting("net", "a"))
		e.create("by-name", harness.Length(24), harness.From("root"))
		e.pending("by-selector", v1alpha1.ReasonNoMatchingParent)
		e.pending("by-name", v1alpha1.ReasonParentNotFound)
		// The same names and addresses in two namespaces are independent of each other.
		e.root("root", "10.0.0.0/8", harness.Labelled("net", "a"))
		e.allocated("by-selector")
		e.allocated("by-name")
		e.AtRest()
		other.used("root")
	})

	t.Run("a name wins over a selector", func(t *testing.T) {
		e := in(t)
		e.root("named", "10.0.0.0/16")
		e.root("selected", "10.1.0.0/16", harness.Labelled("net", "a"))
		e.create("child", harness.Length(24), harness.Selecting("net", "a"), harness.From("named"))
		if p := e.allocated("child"); p.Spec.ParentRef.Name != "named" {
			t.Errorf("from another: %s", harness.Describe(p))
		}
	})

	t.Run("never itself nor as large as itself", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/24", harness.Labelled("net", "a"))
		e.create("same-length", harness.Length(24), harness.Selecting("net", "a"))
		e.create("same-prefix", harness.Exactly("10.0.0.0/24"), harness.Selecting("net", "a"))
		e.create("larger", harness.Length(23), harness.From("root"))
		e.create("selects-itself", harness.Length(30), harness.Selecting("net", "self"), harness.Labelled("net", "self"))
		e.pending("same-length", v1alpha1.ReasonNoSuitableParent, "root", "10.0.0.0/24")
		e.pending("same-prefix", v1alpha1.ReasonNoSuitableParent, "root")
		e.pending("larger", v1alpha1.ReasonNoSuitableParent, "root")
		e.never("from itself", func() error {
			if p := e.Get("selects-itself"); p.Status.Phase != v1alpha1.PrefixPhasePending {
				return errors.New(harness.Describe(p))
			}
			return nil
		})
		e.used("root")
	})

	t.Run("children of children", func(t *testing.T) {
		e := in(t)
		e.root("level-0", "10.0.0.0/8")
		for i := 1; i <= 6; i++ {
			e.create(fmt.Sprintf("level-%d", i), harness.Length(int32(8+4*i)), harness.From(fmt.Sprintf("level-%d", i-1)))
		}
		if p := e.allocated("level-6"); p.Spec.Prefix != "10.0.0.0/32" {
			t.Errorf("not the first: %s", harness.Describe(p))
		}
		e.AtRest()
	})

	for _, tt := range []struct {
		strategy string
		want     map[string]string
	}{
		// Pack chooses the parent whose free space fits best, and the lowest address in it.
		{"Pack", map[string]string{"a": "small", "b": "small", "c": "large", "d": "small"}},
		// Spread chooses the parent with the most free addresses.
		{"Spread", map[string]string{"a": "large", "b": "large", "c": "large", "d": "large"}},
	} {
		t.Run(tt.strategy, func(t *testing.T) {
			t.Parallel()
			instance := harness.Start(t)
			e := inInstance(t, instance)
			run(t, instance, tt.strategy, "*")
			e.root("large", "10.0.0.0/16", harness.Labelled("net", "a"))
			e.root("small", "10.1.0.0/24", harness.Labelled("net", "a"))
			for _, child := range []struct {
				name   string
				length int32
			}{{"a", 26}, {"b", 25}, {"c", 25}, {"d", 28}} {
				e.create(child.name, harness.Length(child.length), harness.Selecting("net", "a"))
				if p := e.allocated(child.name); p.Spec.ParentRef.Name != tt.want[child.name] {
					t.Errorf("%s is from %s, want %s", child.name, p.Spec.ParentRef.Name, tt.want[child.name])
				}
			}
			e.AtRest()
		})
	}
}

func TestBehaviour4Completion(t *testing.T) {
	t.Run("by all means", func(t *testing.T) {
		e := in(t)
		e.root("v4", "10.0.0.0/16", harness.Labelled("net", "a"))
		e.root("v6", "2001:db8::/32", harness.Labelled("net", "a"))
		e.create("named", harness.Length(24), harness.From("v4"))
		e.create("selected", harness.Length(24), harness.Selecting("net", "a"))
		e.create("named-exact", harness.Exactly("10.0.128.0/17"), harness.From("v4"))
		e.create("selected-exact", harness.Exactly("2001:db8:1::/48"), harness.Selecting("net", "a"))
		e.create("named-v6", harness.Length(64), harness.From("v6"))
		e.create("selected-v6", harness.Family(v1alpha1.IPv6), harness.Length(56), harness.Selecting("net", "a"))
		for name, want := range map[string]string{
			"named": "v4", "selected": "v4", "named-exact": "v4", "selected-exact": "v6", "named-v6": "v6", "selected-v6": "v6",
		} {
			p := e.allocated(name)
			if p.Spec.ParentRef.Name != want {
				t.Errorf("%s is from %s, want %s", name, p.Spec.ParentRef.Name, want)
			}
			wantFamily := v1alpha1.IPv4
			if want == "v6" {
				wantFamily = v1alpha1.IPv6
			}
			if p.Spec.IPFamily != wantFamily {
				t.Errorf("%s is %s, want %s", name, p.Spec.IPFamily, wantFamily)
			}
		}
		if p := e.Get("named-exact"); p.Spec.Prefix != "10.0.128.0/17" {
			t.Errorf("not exactly what was asked for: %s", harness.Describe(p))
		}
		e.AtRest()
	})

	// The status of a parent follows its children. One write can count many of them.
	t.Run("the parent counts it soon", func(t *testing.T) {
		e := in(t)
		root := e.root("root", "10.0.0.0/16")
		const children = 200
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.createChildren(children, 16, harness.Length(28), harness.From("root"))
		}()
		writes := 0
		e.follow(root.ResourceVersion, "metadata.name=root", func(p *v1alpha1.Prefix) bool {
			writes++
			return len(p.Status.Used) == children && p.Status.Usage.Allocations == children
		})
		<-done
		t.Logf("%d writes count %d children", writes, children)
		if writes > children/2 {
			t.Errorf("%d writes count %d children", writes, children)
		}
		e.childrenAllocated(children)
		e.AtRest()
	})

	t.Run("is final", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		e.create("child", harness.Length(24), harness.From("root"))
		p := e.allocated("child")
		for _, patch := range []string{`{"spec":{"prefix":"10.0.9.0/24"}}`, `{"spec":{"parentRef":{"name":"other"}}}`} {
			if _, err := e.Prefixes.Patch(t.Context(), "child", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); !apierrors.IsInvalid(err) {
				t.Errorf("%s: %v", patch, err)
			}
		}
		a := e.allocationOf("child")
		if _, err := e.Allocations.Patch(t.Context(), a.Name, types.MergePatchType, []byte(`{"status":{"prefix":"10.0.9.0/24"}}`), metav1.PatchOptions{}, "status"); !apierrors.IsInvalid(err) {
			t.Errorf("status.prefix of the allocation: %v", err)
		}
		if now := e.Get("child"); now.ResourceVersion != p.ResourceVersion {
			t.Errorf("changed: %s", harness.Describe(now))
		}
		// A field that the server has set keeps its value if a write omits it.
		e.patch("child", `{"spec":{"parentRef":null,"prefix":null}}`, types.MergePatchType)
		if now := e.Get("child"); !equality.Semantic.DeepEqual(now.Spec, p.Spec) || now.Status.Phase != p.Status.Phase || now.Generation != p.Generation {
			t.Errorf("changed: %s", harness.Describe(now))
		}
	})
}

func TestBehaviour5Unsatisfiable(t *testing.T) {
	t.Run("can never fit", func(t *testing.T) {
		for name, options := range map[string][]harness.PrefixOption{
			"too-large":    {harness.Length(23), harness.From("root")},
			"as-large":     {harness.Length(24), harness.From("root")},
			"wrong-family": {harness.Family(v1alpha1.IPv6), harness.Length(64), harness.From("root")},
			"outside":      {harness.Exactly("10.1.0.0/25"), harness.From("root")},
		} {
			t.Run(name, func(t *testing.T) {
				e := in(t)
				e.root("root", "10.0.0.0/24")
				e.create("child", options...)
				e.explained("child", v1alpha1.PrefixAllocationPhaseFailed, v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/24)")
				e.pending("child", v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/24)")
				a := e.allocationOf("child")
				e.never("tried again in vain", func() error {
					if now := e.allocationOf("child"); now.UID != a.UID || now.ResourceVersion != a.ResourceVersion {
						return errors.New(harness.DescribeAllocation(now))
					}
					return nil
				})
			})
		}
	})

	t.Run("cannot fit now", func(t *testing.T) {
		e := in(t)
		e.root("full", "10.0.0.0/31", harness.Labelled("net", "a"))
		e.create("first", harness.Length(32), harness.From("full"))
		e.create("second", harness.Length(32), harness.From("full"))
		e.allocated("first")
		e.allocated("second")
		e.create("named", harness.Length(32), harness.From("full"))
		e.create("selected", harness.Length(32), harness.Selecting("net", "a"))
		e.create("early", harness.Length(32), harness.From("later"))
		for name, reason := range map[string]string{
			"named": v1alpha1.ReasonParentExhausted, "selected": v1alpha1.ReasonParentExhausted, "early": v1alpha1.ReasonParentNotFound,
		} {
			e.pending(name, reason)
			e.explained(name, v1alpha1.PrefixAllocationPhasePending, reason)
		}
		e.Delete("first", "second")
		e.create("later", harness.Exactly("10.1.0.0/24"))
		for _, name := range []string{"named", "selected", "early"} {
			e.allocated(name)
		}
		e.AtRest()
	})

	t.Run("nothing polls", func(t *testing.T) {
		t.Parallel()
		instance := harness.Start(t, harness.Controllers("*"))
		e := inInstance(t, instance)
		e.root("root", "10.0.0.0/31")
		for _, name := range []string{"a", "b", "c"} {
			e.create(name, harness.Length(32), harness.From("root"))
		}
		e.create("nowhere", harness.Length(32), harness.From("nobody"))
		e.create("never", harness.Length(30), harness.From("root"))
		e.create("no-match", harness.Length(30), harness.Selecting("net", "a"))
		e.pending("nowhere", v1alpha1.ReasonParentNotFound)
		e.pending("never", v1alpha1.ReasonNoSuitableParent)
		e.pending("no-match", v1alpha1.ReasonNoMatchingParent)
		e.Eventually("two of three", func() error {
			if root := e.Get("root"); len(root.Status.Used) != 2 {
				return errors.New(harness.Describe(root))
			}
			return nil
		})
		version := func() string {
			list, err := e.Prefixes.List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return list.ResourceVersion
		}
		// The resource version of a list changes with every write to the store, whatever the write is about.
		e.Eventually("at rest", func() error {
			before := version()
			for range 20 {
				if version() != before {
					return errors.New("still writing")
				}
			}
			return nil
		})
		before := version()
		e.never("a write", func() error {
			if now := version(); now != before {
				return fmt.Errorf("version %s, was %s", now, before)
			}
			return nil
		})
	})
}

func TestBehaviour6Deletion(t *testing.T) {
	t.Run("a parent waits for its children", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		for _, name := range []string{"one", "two"} {
			e.create(name, harness.Length(24), harness.From("root"))
			e.allocated(name)
		}
		e.Delete("root")
		e.Eventually("says why", func() error {
			root := e.Get("root")
			condition := meta.FindStatusCondition(root.Status.Conditions, v1alpha1.ConditionDeletable)
			if condition == nil {
				return errors.New(harness.Describe(root))
			}
			if root.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				return errors.New(harness.Describe(root))
			}
			return checkCondition(condition, v1alpha1.ReasonHasChildren, "Prefix one, Prefix two")
		})
		e.Delete("one")
		e.Gone("one")
		e.used("root", e.Get("two").Spec.Prefix)
		e.never("let go", func() error {
			_, err := e.Prefixes.Get(t.Context(), "root", metav1.GetOptions{})
			return err
		})
		e.Delete("two")
		e.Gone("two")
		t.Logf("let go %v after the last child was gone", e.Eventually("root gone", func() error {
			if _, err := e.Prefixes.Get(t.Context(), "root", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("still there: %v", err)
			}
			return nil
		}))
		e.Empty()
	})

	t.Run("nothing is given out by a parent on its way out", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		e.create("child", harness.Length(24), harness.From("root"))
		e.allocated("child")
		e.Delete("root")
		e.create("late", harness.Length(24), harness.From("root"))
		e.pending("late", v1alpha1.ReasonParentNotReady, "root", "deleted")
		e.Delete("child")
		e.Gone("child", "root")
		e.pending("late", v1alpha1.ReasonParentNotFound, "root")
		e.Delete("late")
		e.Empty()
	})

	t.Run("space is free once the child is gone", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/31")
		e.create("a", harness.Length(32), harness.From("root"), harness.Finalizer(foreignFinalizer))
		e.create("b", harness.Length(32), harness.From("root"))
		held := e.allocated("a").Spec.Prefix
		e.allocated("b")
		e.create("c", harness.Length(32), harness.From("root"))
		e.pending("c", v1alpha1.ReasonParentExhausted)
		e.Delete("a")
		e.never("the space of what still exists given away", func() error {
			if c := e.Get("c"); c.Status.Phase != v1alpha1.PrefixPhasePending {
				return errors.New(harness.Describe(c))
			}
			if a := e.Get("a"); a.Status.Phase != v1alpha1.PrefixPhaseAllocated || a.Spec.Prefix != held {
				return errors.New(harness.Describe(a))
			}
			return nil
		})
		e.allocationOf("a")
		e.removeFinalizer("a")
		if c := e.allocated("c"); c.Spec.Prefix != held {
			t.Errorf("got %s, not the space that was freed, %s", c.Spec.Prefix, held)
		}
		e.AtRest()
	})

	t.Run("an allocation is not deleted from under a Prefix", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		e.create("child", harness.Length(24), harness.From("root"), harness.Finalizer(foreignFinalizer))
		e.allocated("child")
		a := e.allocationOf("child")
		refused := func() {
			t.Helper()
			err := e.Allocations.Delete(t.Context(), a.Name, metav1.DeleteOptions{})
			if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "child") {
				t.Errorf("deletion of the allocation: %v", err)
			}
			err = e.Allocations.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
			if !apierrors.IsConflict(err) {
				t.Errorf("deletion of all allocations: %v", err)
			}
		}
		refused()
		// A Prefix that is being deleted also uses its allocation.
		e.Delete("child")
		refused()
		e.removeFinalizer("child")
		e.Gone("child")
		e.used("root")
	})

	t.Run("an allocation of a Pending child is made again", func(t *testing.T) {
		e := in(t)
		e.create("child", harness.Length(24), harness.From("root"))
		a := e.allocationOf("child")
		if err := e.Allocations.Delete(t.Context(), a.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		e.Eventually("another one", func() error {
			if now := e.allocationOf("child"); now.UID == a.UID {
				return errors.New(harness.DescribeAllocation(now))
			}
			return nil
		})
		e.root("root", "10.0.0.0/16")
		e.allocated("child")
		e.AtRest()
	})

	t.Run("an allocation of nobody", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		a := &v1alpha1.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{Name: "bare"},
			Spec:       v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
		}
		if _, err := e.Allocations.Create(t.Context(), a, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		e.used("root", "10.0.0.0/24")
		e.Delete("root")
		e.never("let go", func() error {
			_, err := e.Prefixes.Get(t.Context(), "root", metav1.GetOptions{})
			return err
		})
		if err := e.Allocations.Delete(t.Context(), "bare", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		e.Empty()
	})

	t.Run("orphaned by the deletion of the Prefix", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		e.create("child", harness.Length(24), harness.From("root"))
		e.allocated("child")
		orphan := metav1.DeletePropagationOrphan
		if err := e.Prefixes.Delete(t.Context(), "child", metav1.DeleteOptions{PropagationPolicy: &orphan}); err != nil {
			t.Fatal(err)
		}
		e.Gone("child")
		e.used("root")
		e.Delete("root")
		e.Empty()
	})
}

func TestBehaviour7AnyOrder(t *testing.T) {
	t.Run("creation", func(t *testing.T) {
		tree := []*v1alpha1.Prefix{
			harness.NewPrefix("root", harness.Exactly("10.0.0.0/8"), harness.Labelled("level", "0")),
			harness.NewPrefix("middle", harness.Length(16)),
			harness.NewPrefix("leaf", harness.Length(24)),
			harness.NewPrefix("exact", harness.Exactly("10.0.128.0/17")),
		}
		parents := []string{"", "root", "middle", "middle"}
		for _, how := range []string{"name", "selector"} {
			for _, order := range permutations(len(tree)) {
				t.Run(fmt.Sprint(how, order), func(t *testing.T) {
					e := in(t)
					for _, i := range order {
						p := tree[i].DeepCopy()
						switch {
						case i == 0:
						case how == "name":
							harness.From(parents[i])(p)
						default:
							level := 0
							if parents[i] == "middle" {
								level = 1
							}
							harness.Selecting("level", fmt.Sprint(level))(p)
						}
						if p.Name == "middle" {
							harness.Labelled("level", "1")(p)
						}
						if _, err := e.Prefixes.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
							t.Fatal(err)
						}
					}
					for i, p := range tree {
						if now := e.allocated(p.Name); i > 0 && now.Spec.ParentRef.Name != parents[i] {
							t.Errorf("from another: %s", harness.Describe(now))
						}
					}
					e.AtRest()
				})
			}
		}
	})

	t.Run("parent recreated under the same name", func(t *testing.T) {
		e := in(t)
		old := e.root("root", "10.0.0.0/16")
		e.create("child", harness.Length(24), harness.From("root"))
		e.allocated("child")
		e.Delete("child", "root")
		e.Gone("child", "root")
		p := e.root("root", "192.168.0.0/24")
		if p.UID == old.UID || len(p.Status.Used) != 0 || p.Status.Usage.Allocations != 0 || p.Status.Usage.Used != "0" {
			t.Errorf("carried over: %s", harness.Describe(p))
		}
		e.create("child", harness.Length(25), harness.From("root"))
		if c := e.allocated("child"); c.Spec.Prefix != "192.168.0.0/25" {
			t.Errorf("not from the new one: %s", harness.Describe(c))
		}
		e.AtRest()
	})

	t.Run("the same parent over and over", func(t *testing.T) {
		e := in(t)
		for i := range 10 {
			e.root("root", fmt.Sprintf("10.%d.0.0/16", i))
			e.create("child", harness.Length(17), harness.From("root"))
			e.allocated("child")
			e.AtRest()
			e.Delete("root", "child")
			e.Empty()
		}
	})

	t.Run("children that wait see the new parent only", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/31")
		e.create("a", harness.Length(32), harness.From("root"))
		e.create("b", harness.Length(32), harness.From("root"))
		e.allocated("a")
		e.allocated("b")
		e.create("waits", harness.Length(32), harness.From("root"))
		e.pending("waits", v1alpha1.ReasonParentExhausted)
		e.Delete("root", "a", "b")
		e.Gone("root", "a", "b")
		e.root("root", "10.1.0.0/31")
		if p := e.allocated("waits"); p.Spec.Prefix != "10.1.0.0/32" {
			t.Errorf("not from the new one: %s", harness.Describe(p))
		}
		e.AtRest()
	})
}
