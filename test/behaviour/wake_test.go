// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// wakes calls cause, and waits until a watch delivers the Prefix as Allocated.
func (e *env) wakes(name string, cause func()) {
	e.Helper()
	version := e.Get(name).ResourceVersion
	began := time.Now()
	cause()
	done := time.Now()
	e.follow(version, fields.OneTermEqualSelector("metadata.name", name).String(), func(p *v1alpha1.Prefix) bool {
		return p.Status.Phase == v1alpha1.PrefixPhaseAllocated
	})
	e.Logf("Allocated %v after the cause, which took %v", time.Since(done).Round(time.Millisecond/10), done.Sub(began).Round(time.Millisecond/10))
}

// TestWakeUps checks for each reason to wait which single event ends it. It logs how long that takes.
func TestWakeUps(t *testing.T) {
	fill := func(e *env, root string, labels ...string) {
		e.root(root, "10.0.0.0/31", harness.Labelled(labels...))
		e.create("one", harness.Length(32), harness.From(root))
		e.create("two", harness.Length(32), harness.From(root))
		e.allocated("one")
		e.allocated("two")
	}
	for _, tt := range []struct {
		name  string
		given func(e *env)
		child []harness.PrefixOption
		// why is the reason in the condition.
		why   string
		cause func(e *env)
	}{{
		name:  "wider root created",
		given: func(e *env) { e.root("small", "10.0.0.0/28", harness.Labelled("net", "a")) },
		child: []harness.PrefixOption{harness.Length(9), harness.Selecting("net", "a")},
		why:   v1alpha1.ReasonNoSuitableParent,
		cause: func(e *env) { e.create("wide", harness.Exactly("11.0.0.0/8"), harness.Labelled("net", "a")) },
	}, {
		name:  "sibling deleted, parent by name",
		given: func(e *env) { fill(e, "root") },
		child: []harness.PrefixOption{harness.Length(32), harness.From("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) { e.Delete("one") },
	}, {
		name:  "sibling deleted, parent by selector",
		given: func(e *env) { fill(e, "root", "net", "a") },
		child: []harness.PrefixOption{harness.Length(32), harness.Selecting("net", "a")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) { e.Delete("two") },
	}, {
		name:  "holder of the exact prefix deleted",
		given: func(e *env) { fill(e, "root") },
		child: []harness.PrefixOption{harness.Exactly("10.0.0.1/32"), harness.From("root")},
		why:   v1alpha1.ReasonPrefixInUse,
		cause: func(e *env) { e.Delete("one", "two") },
	}, {
		name:  "label added to a parent",
		given: func(e *env) { e.root("root", "10.0.0.0/8") },
		child: []harness.PrefixOption{harness.Length(24), harness.Selecting("net", "a")},
		why:   v1alpha1.ReasonNoMatchingParent,
		cause: func(e *env) { e.patch("root", `{"metadata":{"labels":{"net":"a"}}}`, types.MergePatchType) },
	}, {
		name: "parent becomes allocated",
		given: func(e *env) {
			e.create("middle", harness.Length(16), harness.From("root"))
			e.pending("middle", v1alpha1.ReasonParentNotFound)
		},
		child: []harness.PrefixOption{harness.Length(24), harness.From("middle")},
		why:   v1alpha1.ReasonParentNotReady,
		cause: func(e *env) { e.create("root", harness.Exactly("10.0.0.0/8")) },
	}, {
		name:  "named parent created later",
		given: func(*env) {},
		child: []harness.PrefixOption{harness.Length(24), harness.From("root")},
		why:   v1alpha1.ReasonParentNotFound,
		cause: func(e *env) { e.create("root", harness.Exactly("10.0.0.0/8")) },
	}, {
		name:  "named parent recreated wider",
		given: func(e *env) { e.root("root", "10.0.0.0/28") },
		child: []harness.PrefixOption{harness.Length(24), harness.From("root")},
		why:   v1alpha1.ReasonNoSuitableParent,
		cause: func(e *env) {
			e.explained("child", v1alpha1.PrefixAllocationPhaseFailed, v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/28)")
			e.Delete("root")
			e.Gone("root")
			e.create("root", harness.Exactly("10.0.0.0/8"))
		},
	}, {
		name:  "named parent recreated with room",
		given: func(e *env) { fill(e, "root") },
		child: []harness.PrefixOption{harness.Length(32), harness.From("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) {
			e.Delete("root", "one", "two")
			e.Gone("root")
			e.create("root", harness.Exactly("10.0.0.0/31"))
		},
	}, {
		name: "bare allocation deleted",
		given: func(e *env) {
			e.root("root", "10.0.0.0/31")
			for _, name := range []string{"one", "two"} {
				a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixAllocationSpec{
					PrefixLength: 32, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}}}
				if _, err := e.Allocations.Create(e.Context(), a, metav1.CreateOptions{}); err != nil {
					e.Fatal(err)
				}
			}
			e.used("root", "10.0.0.0/32", "10.0.0.1/32")
		},
		child: []harness.PrefixOption{harness.Length(32), harness.From("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) {
			if err := e.Allocations.Delete(e.Context(), "one", metav1.DeleteOptions{}); err != nil {
				e.Fatal(err)
			}
		},
	}, {
		name: "last of many waits",
		given: func(e *env) {
			fill(e, "root")
			for i := range 50 {
				e.create(fmt.Sprintf("larger-%d", i), harness.Length(31), harness.From("elsewhere"))
			}
		},
		child: []harness.PrefixOption{harness.Length(32), harness.From("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) { e.Delete("one") },
	}} {
		t.Run(tt.name, func(t *testing.T) {
			e := inInstance(t, shared)
			tt.given(e)
			e.create("child", tt.child...)
			e.pending("child", tt.why)
			e.wakes("child", func() { tt.cause(e) })
			e.AtRest()
		})
	}
}

// TestWakeUpOfAll has many children that wait for the same parent. All of them are allocated.
func TestWakeUpOfAll(t *testing.T) {
	e := inInstance(t, shared)
	const children = 64
	e.createAll(children, 8, func(i int) *v1alpha1.Prefix {
		how := harness.From("root")
		if i%2 == 0 {
			how = harness.Selecting("net", "a")
		}
		return harness.NewPrefix(fmt.Sprintf("child-%d", i), harness.Length(32), how)
	})
	began := time.Now()
	// This is exactly enough space for all of them.
	e.create("root", harness.Exactly("10.0.0.0/26"), harness.Labelled("net", "a"))
	e.childrenAllocated(children)
	t.Logf("%d children were Allocated %v after their parent was created", children, time.Since(began).Round(time.Millisecond))
	e.AtRest()
	if p := e.Get("root"); p.Status.Usage.Percent != 100 || p.Status.Usage.LargestFree != "" {
		t.Errorf("not full: %s", harness.Describe(p))
	}
}
