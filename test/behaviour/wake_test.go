// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// wakes does something and waits until a Prefix is Allocated because of it, as a watch sees it.
func (e *env) wakes(name string, cause func()) {
	e.Helper()
	version := e.get(name).ResourceVersion
	began := time.Now()
	cause()
	done := time.Now()
	e.follow(version, fields.OneTermEqualSelector("metadata.name", name).String(), func(p *v1alpha1.Prefix) bool {
		return p.Status.Phase == v1alpha1.PrefixPhaseAllocated
	})
	e.Logf("Allocated %v after the cause, which took %v", time.Since(done).Round(time.Millisecond/10), done.Sub(began).Round(time.Millisecond/10))
}

// TestWakeUps has children that wait, and what lets them go on. Each is one event; how long it takes
// is logged.
func TestWakeUps(t *testing.T) {
	fill := func(e *env, root string, labels ...string) {
		e.root(root, "10.0.0.0/31", labelled(labels...))
		e.create("one", length(32), from(root))
		e.create("two", length(32), from(root))
		e.allocated("one")
		e.allocated("two")
	}
	for _, tt := range []struct {
		name  string
		given func(e *env)
		child []option
		// why is the reason to wait.
		why   string
		cause func(e *env)
	}{{
		name:  "wider root created",
		given: func(e *env) { e.root("small", "10.0.0.0/28", labelled("net", "a")) },
		child: []option{length(9), selecting("net", "a")},
		why:   v1alpha1.ReasonNoSuitableParent,
		cause: func(e *env) { e.create("wide", exactly("11.0.0.0/8"), labelled("net", "a")) },
	}, {
		name:  "sibling deleted, parent by name",
		given: func(e *env) { fill(e, "root") },
		child: []option{length(32), from("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) { e.delete("one") },
	}, {
		name:  "sibling deleted, parent by selector",
		given: func(e *env) { fill(e, "root", "net", "a") },
		child: []option{length(32), selecting("net", "a")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) { e.delete("two") },
	}, {
		name:  "holder of the exact prefix deleted",
		given: func(e *env) { fill(e, "root") },
		child: []option{exactly("10.0.0.1/32"), from("root")},
		why:   v1alpha1.ReasonPrefixInUse,
		cause: func(e *env) { e.delete("one", "two") },
	}, {
		name:  "label added to a parent",
		given: func(e *env) { e.root("root", "10.0.0.0/8") },
		child: []option{length(24), selecting("net", "a")},
		why:   v1alpha1.ReasonNoMatchingParent,
		cause: func(e *env) { e.patch("root", `{"metadata":{"labels":{"net":"a"}}}`, types.MergePatchType) },
	}, {
		name: "parent becomes allocated",
		given: func(e *env) {
			e.create("middle", length(16), from("root"))
			e.pending("middle", v1alpha1.ReasonParentNotFound)
		},
		child: []option{length(24), from("middle")},
		why:   v1alpha1.ReasonParentNotReady,
		cause: func(e *env) { e.create("root", exactly("10.0.0.0/8")) },
	}, {
		name:  "named parent created later",
		given: func(*env) {},
		child: []option{length(24), from("root")},
		why:   v1alpha1.ReasonParentNotFound,
		cause: func(e *env) { e.create("root", exactly("10.0.0.0/8")) },
	}, {
		name:  "named parent recreated wider",
		given: func(e *env) { e.root("root", "10.0.0.0/28") },
		child: []option{length(24), from("root")},
		why:   v1alpha1.ReasonNoSuitableParent,
		cause: func(e *env) {
			e.explained("child", v1alpha1.PrefixAllocationPhaseFailed, v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/28)")
			e.delete("root")
			e.gone("root")
			e.create("root", exactly("10.0.0.0/8"))
		},
	}, {
		name:  "named parent recreated with room",
		given: func(e *env) { fill(e, "root") },
		child: []option{length(32), from("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) {
			e.delete("root", "one", "two")
			e.gone("root")
			e.create("root", exactly("10.0.0.0/31"))
		},
	}, {
		name: "bare allocation deleted",
		given: func(e *env) {
			e.root("root", "10.0.0.0/31")
			for _, name := range []string{"one", "two"} {
				a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixAllocationSpec{
					PrefixLength: 32, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}}}
				if _, err := e.allocations.Create(e.Context(), a, metav1.CreateOptions{}); err != nil {
					e.Fatal(err)
				}
			}
			e.used("root", "10.0.0.0/32", "10.0.0.1/32")
		},
		child: []option{length(32), from("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) {
			if err := e.allocations.Delete(e.Context(), "one", metav1.DeleteOptions{}); err != nil {
				e.Fatal(err)
			}
		},
	}, {
		name: "last of many waits",
		given: func(e *env) {
			fill(e, "root")
			for i := range 50 {
				e.create(fmt.Sprintf("larger-%d", i), length(31), from("elsewhere"))
			}
		},
		child: []option{length(32), from("root")},
		why:   v1alpha1.ReasonParentExhausted,
		cause: func(e *env) { e.delete("one") },
	}} {
		t.Run(tt.name, func(t *testing.T) {
			e := inInstance(t, shared)
			tt.given(e)
			e.create("child", tt.child...)
			e.pending("child", tt.why)
			e.wakes("child", func() { tt.cause(e) })
			e.consistent()
		})
	}
}

// TestWakeUpOfAll has many children that wait for the same, and all of them get it.
func TestWakeUpOfAll(t *testing.T) {
	e := inInstance(t, shared)
	const children = 64
	each(children, 8, func(i int) {
		how := from("root")
		if i%2 == 0 {
			how = selecting("net", "a")
		}
		if _, err := e.prefixes.Create(t.Context(), prefixOf(fmt.Sprintf("child-%d", i), length(32), how), metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	// Exactly enough for all of them.
	e.create("root", exactly("10.0.0.0/26"), labelled("net", "a"))
	for i := range children {
		e.allocated(fmt.Sprintf("child-%d", i))
	}
	t.Logf("%d children were Allocated %v after their parent was created", children, time.Since(began).Round(time.Millisecond))
	e.consistent()
	if p := e.get("root"); p.Status.Usage.Percent != 100 || p.Status.Usage.LargestFree != "" {
		t.Errorf("not full: %s", describe(p))
	}
}
