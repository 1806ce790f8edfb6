// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// policyIs waits until the status of a policy counts so many Prefixes, and its condition Ready has the reason and the
// words.
func (e *env) policyIs(name string, prefixes int64, reason string, words ...string) {
	e.Helper()
	e.Eventually("status of "+name, func() error {
		policy, err := e.Policies.Get(e.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status := policy.Status
		ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionTrue || ready.Reason != reason || ready.ObservedGeneration != policy.Generation ||
			status.Prefixes != prefixes || status.ObservedGeneration != policy.Generation {
			return fmt.Errorf("generation %d: %+v", policy.Generation, status)
		}
		for _, part := range words {
			if !strings.Contains(ready.Message, part) {
				return errors.New(ready.Message)
			}
		}
		return nil
	})
}

// waits waits until a child has a reason not to be allocated.
func (e *env) waits(name, reason string, words ...string) {
	e.Helper()
	e.Eventually(name+" waits", func() error {
		p := e.Get(name)
		condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
		if condition == nil || condition.Status != metav1.ConditionFalse || condition.Reason != reason {
			return errors.New(harness.Describe(p))
		}
		for _, part := range words {
			if !strings.Contains(condition.Message, part) {
				return errors.New(condition.Message)
			}
		}
		return nil
	})
}

// policyApplies waits until the controllers know the spec of a policy.
func (e *env) policyApplies(name string) {
	e.Helper()
	e.Eventually(name+" applies", func() error {
		policy, err := e.Policies.Get(e.Context(), name, metav1.GetOptions{})
		return harness.Unless(err == nil && policy.Status.ObservedGeneration == policy.Generation, "%v", err)
	})
}

func (e *env) patchPolicy(name, patch string) {
	e.Helper()
	if _, err := e.Policies.Patch(e.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		e.Fatal(err)
	}
}

// TestReserved goes through the life of reserved space in a root with room for four children.
func TestReserved(t *testing.T) {
	for _, family := range []struct {
		name, root, reserved string
		length               int32
		// chosen is what is chosen beside the reserved space, last is the last one, and total counts all addresses.
		chosen, last string
		usage        v1alpha1.PrefixUsage
	}{
		{"IPv4", "10.0.0.0/24", "10.0.0.0/25", 26, "10.0.0.128/26", "10.0.0.192/26",
			v1alpha1.PrefixUsage{Total: "256", Used: "0", Free: "128", LargestFree: "/25", Reserved: "128"}},
		{"IPv6", "2001:db8::/56", "2001:db8::/57", 58, "2001:db8:0:80::/58", "2001:db8:0:c0::/58",
			v1alpha1.PrefixUsage{Total: "4722366482869645213696", Used: "0", Free: "2361183241434822606848", LargestFree: "/57", Reserved: "2361183241434822606848"}},
	} {
		t.Run(family.name, func(t *testing.T) {
			e := in(t)
			e.root("root", family.root, harness.Labelled("net", "a"))
			e.CreatePolicy(harness.Policy("rules", []v1alpha1.PrefixReservation{{CIDR: family.reserved, Reason: "routers"}}, "net", "a"))
			e.policyIs("rules", 1, v1alpha1.ReasonApplied)
			e.usageIs("root", family.usage)

			// What is reserved is not chosen.
			child := func(name string) { e.create(name, harness.Length(family.length), harness.From("root")) }
			child("one")
			if p := e.allocated("one"); p.Spec.Prefix != family.chosen {
				t.Errorf("chose %s", p.Spec.Prefix)
			}
			child("two")
			if p := e.allocated("two"); p.Spec.Prefix != family.last {
				t.Errorf("chose %s", p.Spec.Prefix)
			}
			child("three")
			e.waits("three", v1alpha1.ReasonReserved, "root ("+family.root+") has no room for a /"+fmt.Sprint(family.length)+" outside of reserved space")

			// Who asks for exactly it gets it, and the policy says so.
			e.create("exactly", harness.Exactly(family.reserved), harness.From("root"))
			e.allocated("exactly")
			e.policyIs("rules", 1, v1alpha1.ReasonReservedInUse, family.reserved+" of root by Prefix exactly")
			e.waits("three", v1alpha1.ReasonParentExhausted)
			e.Delete("exactly")
			e.Gone("exactly")
			e.policyIs("rules", 1, v1alpha1.ReasonApplied)
			e.waits("three", v1alpha1.ReasonReserved)

			// Less reserved space lets in who waits.
			e.patchPolicy("rules", `{"spec":{"reserved":[{"edges":true}]}}`)
			e.allocated("three")
			child("four")
			e.waits("four", v1alpha1.ReasonReserved)
			if err := e.Policies.Delete(e.Context(), "rules", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			e.allocated("four")
			e.Eventually("nothing is reserved", func() error {
				p := e.Get("root")
				return harness.Unless(p.Status.Usage.Reserved == "" && p.Status.Usage.Free == "0", "%s", harness.Describe(p))
			})
			e.AtRest()
		})
	}
}

// TestReservedFollowsLabels has the rules come and go with the labels of a parent.
func TestReservedFollowsLabels(t *testing.T) {
	e := in(t)
	e.CreatePolicy(harness.Policy("rules", []v1alpha1.PrefixReservation{{From: "10.0.0.0", To: "10.0.0.2"}}, "net", "a"))
	e.policyIs("rules", 0, v1alpha1.ReasonApplied)
	e.root("root", "10.0.0.0/30", harness.Labelled("net", "a"))
	e.policyIs("rules", 1, v1alpha1.ReasonApplied)
	for _, name := range []string{"one", "two"} {
		e.create(name, harness.Length(32), harness.From("root"))
	}
	e.Eventually("one of two is allocated, and the other waits", func() error {
		allocated := 0
		for _, name := range []string{"one", "two"} {
			if p := e.Get(name); p.Status.Phase == v1alpha1.PrefixPhaseAllocated && p.Spec.Prefix == "10.0.0.3/32" {
				allocated++
			}
		}
		return harness.Unless(allocated == 1, "%d", allocated)
	})
	e.patch("root", `{"metadata":{"labels":{"net":"b"}}}`, types.MergePatchType)
	e.allocated("one")
	e.allocated("two")
	e.policyIs("rules", 0, v1alpha1.ReasonApplied)
	e.patch("root", `{"metadata":{"labels":{"net":"a"}}}`, types.MergePatchType)
	// What is there stays, and is named.
	e.policyIs("rules", 1, v1alpha1.ReasonReservedInUse, "10.0.0.2/32 of root by Prefix ")
	e.AtRest()
}

// TestReservedOverUse reserves what is in use already, of more holders than a message names.
func TestReservedOverUse(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/28")
	for i := range 7 {
		e.create(fmt.Sprintf("child-%d", i), harness.Exactly(fmt.Sprintf("10.0.0.%d/32", i)), harness.From("root"))
	}
	e.AllAllocated()
	e.CreateAllocation(harness.Allocation("program", "root", "10.0.0.15/32"))
	e.CreatePolicy(harness.Policy("first", []v1alpha1.PrefixReservation{{CIDR: "10.0.0.0/29"}}))
	e.CreatePolicy(harness.Policy("last", []v1alpha1.PrefixReservation{{Edges: true}}))
	e.policyIs("first", 8, v1alpha1.ReasonReservedInUse, "10.0.0.0/32 of root by Prefix child-0; ", "10.0.0.4/32 of root by Prefix child-4; and others")
	e.policyIs("last", 8, v1alpha1.ReasonReservedInUse, "10.0.0.0/32 of root by Prefix child-0; 10.0.0.15/32 of root by PrefixAllocation program")
	e.usageIs("root", v1alpha1.PrefixUsage{Total: "16", Used: "8", Free: "7", Percent: 50, Allocations: 8, LargestFree: "/30", Reserved: "1"})
	time.Sleep(quiet)
	for i := range 7 {
		if p := e.Get(fmt.Sprintf("child-%d", i)); p.Status.Phase != v1alpha1.PrefixPhaseAllocated || p.DeletionTimestamp != nil {
			t.Error(harness.Describe(p))
		}
	}
	// The space of who goes is reserved from then on.
	e.Delete("child-3")
	e.Gone("child-3")
	e.usageIs("root", v1alpha1.PrefixUsage{Total: "16", Used: "7", Free: "7", Percent: 43, Allocations: 7, LargestFree: "/30", Reserved: "2"})
}

// TestClosed closes a parent under a child that waits, and opens it again.
func TestClosed(t *testing.T) {
	for family, root := range map[string]string{"IPv4": "10.0.0.0/24", "IPv6": "2001:db8::/120"} {
		t.Run(family, func(t *testing.T) {
			e := in(t)
			bits := e.root("root", root).Spec.Prefix
			length := int32(26)
			if strings.HasSuffix(bits, "/120") {
				length = 122
			}
			e.create("before", harness.Length(length), harness.From("root"))
			e.allocated("before")
			policy := harness.Policy("rules", nil)
			policy.Spec.Closed = true
			e.CreatePolicy(policy)
			e.policyIs("rules", 2, v1alpha1.ReasonApplied)
			e.create("after", harness.Length(length), harness.From("root"))
			e.waits("after", v1alpha1.ReasonParentClosed, "root ("+root+") is closed")
			if p := e.Get("before"); p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				t.Error(harness.Describe(p))
			}
			e.patchPolicy("rules", `{"spec":{"closed":false}}`)
			e.allocated("after")
			e.AtRest()
		})
	}
}

// TestChildLengths has children of lengths that are allowed and not, and of the default.
func TestChildLengths(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16", harness.Labelled("net", "a"))
	policy := harness.Policy("rules", nil, "net", "a")
	policy.Spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: 24, Max: 28, Default: 26}
	e.CreatePolicy(policy)
	e.policyIs("rules", 1, v1alpha1.ReasonApplied)
	e.create("default", harness.From("root"))
	e.create("largest", harness.Length(24), harness.From("root"))
	e.create("small", harness.Length(30), harness.From("root"))
	e.create("exactly", harness.Exactly("10.0.200.0/23"), harness.From("root"))
	// The default is no bound, so an exact prefix may have any length that is allowed.
	e.create("within", harness.Exactly("10.0.100.16/28"), harness.From("root"))
	if p := e.allocated("within"); p.Spec.Prefix != "10.0.100.16/28" || p.Spec.PrefixLength != 0 && p.Spec.PrefixLength != 28 {
		t.Error(harness.Describe(p))
	}
	if p := e.allocated("default"); p.Spec.PrefixLength != 26 {
		t.Error(harness.Describe(p))
	}
	e.allocated("largest")
	e.waits("small", v1alpha1.ReasonLengthNotAllowed, "root (10.0.0.0/16) is no parent for a /30: its PrefixPolicy allows only prefixes from /24 to /28")
	e.waits("exactly", v1alpha1.ReasonLengthNotAllowed, "is no parent for 10.0.200.0/23")
	e.patchPolicy("rules", `{"spec":{"childLengths":{"min":null,"max":null}}}`)
	e.allocated("small")
	e.allocated("exactly")
	e.AtRest()
}

// TestStrategy fills a parent by each strategy, and has two policies that differ.
func TestStrategy(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/24", harness.Labelled("net", "a"))
	policy := harness.Policy("first", nil, "net", "a")
	policy.Spec.Strategy = v1alpha1.PrefixStrategySpread
	e.CreatePolicy(policy)
	e.policyIs("first", 1, v1alpha1.ReasonApplied)
	for i, want := range []string{"10.0.0.0/28", "10.0.0.128/28", "10.0.0.64/28"} {
		name := fmt.Sprintf("spread-%d", i)
		e.create(name, harness.Length(28), harness.From("root"))
		if p := e.allocated(name); p.Spec.Prefix != want {
			t.Errorf("%s, not %s", p.Spec.Prefix, want)
		}
	}
	// Creation timestamps are in seconds.
	time.Sleep(1100 * time.Millisecond)
	second := harness.Policy("second", nil)
	second.Spec.Strategy = v1alpha1.PrefixStrategyPack
	e.CreatePolicy(second)
	const conflict = "PrefixPolicy first has strategy Spread, but PrefixPolicy second has Pack. The oldest counts, first"
	e.policyIs("first", 1, v1alpha1.ReasonStrategyConflict, conflict)
	e.policyIs("second", 4, v1alpha1.ReasonStrategyConflict, conflict)
	if err := e.Policies.Delete(e.Context(), "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.policyIs("second", 4, v1alpha1.ReasonApplied)
	e.create("packed", harness.Length(28), harness.From("root"))
	if p := e.allocated("packed"); p.Spec.Prefix != "10.0.0.16/28" && p.Spec.Prefix != "10.0.0.80/28" && p.Spec.Prefix != "10.0.0.144/28" {
		t.Errorf("%s is not packed", p.Spec.Prefix)
	}
}
