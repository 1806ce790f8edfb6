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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The documented samples and their expected results.

// TestSampleIPv4 has two /8 roots and three /9 children by selector.
func TestSampleIPv4(t *testing.T) {
	e := in(t)
	manifest := `
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: root
  labels:
    subnet-type: public
spec:
  prefix: 10.0.0.0/8
---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: root-2
  labels:
    subnet-type: public
spec:
  prefix: 11.0.0.0/8
`
	children := []string{"customer-subnet-1", "customer-subnet-2", "customer-subnet-3"}
	for _, child := range children {
		manifest += `---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: ` + child + `
spec:
  ipFamily: IPv4
  prefixLength: 9
  parentSelector:
    matchLabels:
      subnet-type: public
`
	}
	e.apply(manifest)

	var prefixes []string
	perParent := map[string]int{}
	for _, child := range children {
		p := e.allocated(child)
		if !strings.HasSuffix(p.Spec.Prefix, "/9") {
			t.Errorf("not a /9: %s", harness.Describe(p))
		}
		prefixes = append(prefixes, p.Spec.Prefix)
		perParent[p.Spec.ParentRef.Name]++
	}
	if err := harness.Disjoint("10.0.0.0/7", prefixes); err != nil {
		t.Error(err)
	}
	// Two of them fill a root.
	if perParent["root"]+perParent["root-2"] != 3 || perParent["root"] > 2 || perParent["root-2"] > 2 {
		t.Errorf("children by parent: %v", perParent)
	}
	e.AtRest()
}

// TestSampleIPv6 has a root with two children that are each half of it.
func TestSampleIPv6(t *testing.T) {
	e := in(t)
	e.apply(`
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: root-ipv6
spec:
  prefix: 2000::/8
---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: customer-subnet-ipv6-1
spec:
  ipFamily: IPv6
  prefixLength: 9
  parentRef:
    name: root-ipv6
---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: customer-subnet-ipv6-2
spec:
  ipFamily: IPv6
  prefixLength: 9
  parentRef:
    name: root-ipv6
`)
	got := map[string]bool{
		e.allocated("customer-subnet-ipv6-1").Spec.Prefix: true,
		e.allocated("customer-subnet-ipv6-2").Spec.Prefix: true,
	}
	if !got["2000::/9"] || !got["2080::/9"] {
		t.Errorf("got %v", got)
	}
	e.used("root-ipv6", "2000::/9", "2080::/9")
	e.AtRest()
}

// TestSampleUnsatisfiable has a child that is larger than the only matching parent.
func TestSampleUnsatisfiable(t *testing.T) {
	e := in(t)
	e.apply(`
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: root
  labels:
    subnet-type: public
spec:
  prefix: 10.0.0.0/24
---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata:
  name: customer-subnet-1
spec:
  ipFamily: IPv4
  prefixLength: 9
  parentSelector:
    matchLabels:
      subnet-type: public
`)
	e.allocated("root")
	e.pending("customer-subnet-1", v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/24)", "too small", "/9")
	// Another parent may match later, so the allocation has not failed.
	e.explained("customer-subnet-1", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/24)")
	e.AtRest()
	e.used("root")
}

// TestReasons checks every reason, on both kinds, with the names of the parents in the message.
func TestReasons(t *testing.T) {
	const (
		pending = v1alpha1.PrefixAllocationPhasePending
		failed  = v1alpha1.PrefixAllocationPhaseFailed
	)
	for _, tt := range []struct {
		name   string
		given  func(e *env)
		child  []harness.PrefixOption
		phase  v1alpha1.PrefixAllocationPhase
		reason string
		words  []string
	}{{
		name:   "NoMatchingParent",
		given:  func(e *env) { e.root("other", "10.0.0.0/8", harness.Labelled("net", "b")) },
		child:  []harness.PrefixOption{harness.Length(24), harness.Selecting("net", "a")},
		phase:  pending,
		reason: v1alpha1.ReasonNoMatchingParent,
		words:  []string{"net=a"},
	}, {
		name:   "NoSuitableParent by name",
		given:  func(e *env) { e.root("small", "10.0.0.0/28") },
		child:  []harness.PrefixOption{harness.Length(24), harness.From("small")},
		phase:  failed,
		reason: v1alpha1.ReasonNoSuitableParent,
		words:  []string{"small (10.0.0.0/28)", "too small", "/24"},
	}, {
		name:   "NoSuitableParent of the other family by name",
		given:  func(e *env) { e.root("v4", "10.0.0.0/8") },
		child:  []harness.PrefixOption{harness.Family(v1alpha1.IPv6), harness.Length(24), harness.From("v4")},
		phase:  failed,
		reason: v1alpha1.ReasonNoSuitableParent,
		words:  []string{"v4 (10.0.0.0/8)", "is IPv4, not IPv6"},
	}, {
		name: "NoSuitableParent by selector",
		given: func(e *env) {
			e.root("small", "10.0.0.0/28", harness.Labelled("net", "a"))
			e.root("v6", "2001:db8::/32", harness.Labelled("net", "a"))
			e.root("elsewhere", "192.168.0.0/16", harness.Labelled("net", "a"))
		},
		child:  []harness.PrefixOption{harness.Exactly("10.0.0.0/24"), harness.Selecting("net", "a")},
		phase:  pending,
		reason: v1alpha1.ReasonNoSuitableParent,
		words:  []string{"small (10.0.0.0/28) is too small", "v6 (2001:db8::/32) is IPv6", "elsewhere (192.168.0.0/16) does not contain 10.0.0.0/24"},
	}, {
		name: "ParentExhausted by name",
		given: func(e *env) {
			e.root("full", "10.0.0.0/24")
			e.create("half", harness.Length(25), harness.From("full"))
			e.create("other-half", harness.Length(25), harness.From("full"))
			e.allocated("half")
			e.allocated("other-half")
		},
		child:  []harness.PrefixOption{harness.Length(26), harness.From("full")},
		phase:  pending,
		reason: v1alpha1.ReasonParentExhausted,
		words:  []string{"full (10.0.0.0/24)", "no room for a /26"},
	}, {
		name: "ParentExhausted by fragments",
		given: func(e *env) {
			e.root("fragmented", "10.0.0.0/24", harness.Labelled("net", "a"))
			e.create("in-the-middle", harness.Exactly("10.0.0.64/32"), harness.From("fragmented"))
			e.create("in-the-end", harness.Exactly("10.0.0.255/32"), harness.From("fragmented"))
			e.allocated("in-the-middle")
			e.allocated("in-the-end")
		},
		child:  []harness.PrefixOption{harness.Length(25), harness.Selecting("net", "a")},
		phase:  pending,
		reason: v1alpha1.ReasonParentExhausted,
		words:  []string{"fragmented (10.0.0.0/24)"},
	}, {
		name: "the most hopeful reason, and nobody who could never hold it",
		given: func(e *env) {
			e.root("full", "10.0.0.0/31", harness.Labelled("net", "a"))
			e.create("one", harness.Length(32), harness.From("full"))
			e.create("two", harness.Length(32), harness.From("full"))
			e.allocated("one")
			e.allocated("two")
			e.root("v6", "2001:db8::/32", harness.Labelled("net", "a"))
			e.create("waits", harness.Length(24), harness.From("nobody"), harness.Labelled("net", "a"))
			e.create("small", harness.Length(32), harness.From("nobody"), harness.Labelled("net", "a"))
		},
		child:  []harness.PrefixOption{harness.Length(32), harness.Selecting("net", "a")},
		phase:  pending,
		reason: v1alpha1.ReasonParentExhausted,
		words:  []string{"full (10.0.0.0/31) has no room for a /32: no address is free; waits is not allocated yet"},
	}, {
		name:   "ParentNotFound",
		given:  func(*env) {},
		child:  []harness.PrefixOption{harness.Length(24), harness.From("nobody")},
		phase:  pending,
		reason: v1alpha1.ReasonParentNotFound,
		words:  []string{"nobody"},
	}, {
		name: "ParentNotReady, pending parent",
		given: func(e *env) {
			e.create("waits", harness.Length(24), harness.From("nobody"), harness.Labelled("net", "a"))
		},
		child:  []harness.PrefixOption{harness.Length(25), harness.From("waits")},
		phase:  pending,
		reason: v1alpha1.ReasonParentNotReady,
		words:  []string{"waits", "not allocated"},
	}, {
		name: "ParentNotReady, deleting parent",
		given: func(e *env) {
			e.root("leaves", "10.0.0.0/8", harness.Labelled("net", "a"))
			e.create("stays", harness.Length(9), harness.From("leaves"))
			e.allocated("stays")
			e.Delete("leaves")
		},
		child:  []harness.PrefixOption{harness.Length(25), harness.Selecting("net", "a")},
		phase:  pending,
		reason: v1alpha1.ReasonParentNotReady,
		words:  []string{"leaves", "being deleted"},
	}, {
		name: "PrefixInUse by name",
		given: func(e *env) {
			e.root("root", "10.0.0.0/8")
			e.create("holder", harness.Exactly("10.1.0.0/16"), harness.From("root"))
			e.allocated("holder")
		},
		child:  []harness.PrefixOption{harness.Exactly("10.1.2.0/24"), harness.From("root")},
		phase:  pending,
		reason: v1alpha1.ReasonPrefixInUse,
		words:  []string{"root (10.0.0.0/8)", "10.1.0.0/16 in use"},
	}, {
		name: "PrefixInUse by selector",
		given: func(e *env) {
			e.root("root", "10.0.0.0/8", harness.Labelled("net", "a"))
			e.create("holder", harness.Exactly("10.1.2.0/24"), harness.From("root"))
			e.allocated("holder")
		},
		child:  []harness.PrefixOption{harness.Exactly("10.1.0.0/16"), harness.Selecting("net", "a")},
		phase:  pending,
		reason: v1alpha1.ReasonPrefixInUse,
		words:  []string{"root (10.0.0.0/8)", "10.1.2.0/24 in use"},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			e := in(t)
			tt.given(e)
			e.create("child", tt.child...)
			e.explained("child", tt.phase, tt.reason, tt.words...)
			e.pending("child", tt.reason, tt.words...)
			p := e.Get("child")
			condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
			if p.Status.ObservedGeneration != p.Generation || condition.ObservedGeneration != p.Generation {
				t.Errorf("of generation %d: %s", p.Generation, harness.Describe(p))
			}
		})
	}

	t.Run("Root and Allocated", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/8")
		e.create("child", harness.Length(24), harness.From("root"))
		p := e.allocated("child")
		condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
		if !strings.Contains(condition.Message, "10.0.0.0/24 from root") {
			t.Errorf("message: %s", condition.Message)
		}
		a := e.allocationOf("child")
		condition = meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated)
		if condition == nil || condition.Status != metav1.ConditionTrue || condition.Reason != v1alpha1.ReasonAllocated ||
			!strings.Contains(condition.Message, "10.0.0.0/24 from root") {
			t.Errorf("not allocated from root: %s", harness.DescribeAllocation(a))
		}
	})

	t.Run("HasChildren", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/8")
		for i := range 7 {
			name := fmt.Sprintf("child-%d", i)
			e.create(name, harness.Length(24), harness.From("root"))
			e.allocated(name)
		}
		e.Delete("root")
		e.Eventually("says so", func() error {
			root := e.Get("root")
			condition := meta.FindStatusCondition(root.Status.Conditions, v1alpha1.ConditionDeletable)
			if condition == nil || !meta.IsStatusConditionTrue(root.Status.Conditions, v1alpha1.ConditionAllocated) {
				return errors.New(harness.Describe(root))
			}
			return checkCondition(condition, v1alpha1.ReasonHasChildren, "Prefix child-0, ", "Prefix child-4 and more")
		})
	})

	t.Run("the reason changes with the cause", func(t *testing.T) {
		e := in(t)
		e.create("child", harness.Family(v1alpha1.IPv4), harness.Length(24), harness.Selecting("net", "a"))
		e.pending("child", v1alpha1.ReasonNoMatchingParent)
		e.root("small", "10.0.0.0/28", harness.Labelled("net", "a"))
		e.pending("child", v1alpha1.ReasonNoSuitableParent, "small")
		e.create("waits", harness.Length(20), harness.From("nobody"), harness.Labelled("net", "a"))
		if message := e.pending("child", v1alpha1.ReasonParentNotReady, "waits"); strings.Contains(message, "small") {
			t.Errorf("names what could never hold it: %s", message)
		}
		e.patch("waits", `{"metadata":{"labels":{"net":null}}}`, types.MergePatchType)
		e.pending("child", v1alpha1.ReasonNoSuitableParent, "small")
		e.patch("small", `{"metadata":{"labels":{"net":null}}}`, types.MergePatchType)
		e.pending("child", v1alpha1.ReasonNoMatchingParent)
	})
}
