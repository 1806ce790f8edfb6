// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ready

import (
	"io"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/install"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/ready/readytest"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	install.Install(scheme)
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

// served converts an object as the server does before it encodes it.
func served[T runtime.Object](t *testing.T, scheme *runtime.Scheme, obj runtime.Object) T {
	t.Helper()
	out, err := scheme.UnsafeConvertToVersion(obj, schema.GroupVersion(v1alpha1.GroupVersion))
	if err != nil {
		t.Fatal(err)
	}
	return out.(T)
}

// received converts an object as the server does after it has decoded it.
func received[T runtime.Object](t *testing.T, scheme *runtime.Scheme, obj runtime.Object) T {
	t.Helper()
	out, err := scheme.UnsafeConvertToVersion(obj, schema.GroupVersion{Group: ipam.GroupName, Version: runtime.APIVersionInternal})
	if err != nil {
		t.Fatal(err)
	}
	return out.(T)
}

// checkConditions checks what holds for the conditions of any object. It returns the status of Ready, and whether the
// object is stalled.
func checkConditions(t *testing.T, object *metav1.ObjectMeta, stored, conditions []metav1.Condition, allocated bool) (ready metav1.ConditionStatus, stalled bool) {
	t.Helper()
	var types []string
	for _, condition := range conditions {
		types = append(types, condition.Type)
	}
	seen := map[string]bool{}
	for _, conditionType := range types {
		if seen[conditionType] {
			t.Errorf("%q has a type twice", types)
		}
		seen[conditionType] = true
	}
	kept := without(stored)
	if len(conditions) < len(kept)+1 || !equality.Semantic.DeepEqual(conditions[:len(kept)], append([]metav1.Condition{}, kept...)) {
		t.Errorf("%v does not begin with what is stored: %v", conditions, kept)
	}
	condition := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if condition == nil {
		t.Fatalf("no Ready in %v", conditions)
	}
	if errs := metav1validation.ValidateCondition(*condition, nil); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
	if (condition.Status == metav1.ConditionTrue) != allocated || condition.Status == metav1.ConditionUnknown {
		t.Errorf("allocated is %v, and Ready %s", allocated, condition.Status)
	}
	if condition.ObservedGeneration != object.Generation {
		t.Errorf("Ready has observed generation %d, not %d", condition.ObservedGeneration, object.Generation)
	}
	if told := meta.FindStatusCondition(kept, v1alpha1.ConditionAllocated); told != nil && told.Status == condition.Status && told.Reason != "" &&
		(told.Reason != condition.Reason || told.Message != condition.Message) {
		t.Errorf("Allocated says %s (%s), and Ready %s (%s)", told.Reason, told.Message, condition.Reason, condition.Message)
	}
	stall := meta.FindStatusCondition(conditions, v1alpha1.ConditionStalled)
	if stall == nil {
		return condition.Status, false
	}
	if errs := metav1validation.ValidateCondition(*stall, nil); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
	if stall.Status != metav1.ConditionTrue || allocated || stall.Message != condition.Message {
		t.Errorf("allocated is %v, and Stalled %v", allocated, stall)
	}
	return condition.Status, true
}

// TestEveryState converts objects in every state that readytest knows.
func TestEveryState(t *testing.T) {
	scheme := newScheme(t)
	count := 0
	for name, prefix := range readytest.Prefixes() {
		count++
		before := prefix.DeepCopy()
		got := served[*v1alpha1.Prefix](t, scheme, prefix)
		if !equality.Semantic.DeepEqual(prefix, before) {
			t.Fatalf("%s: the conversion has changed its input", name)
		}
		t.Run(name, func(t *testing.T) {
			checkConditions(t, &prefix.ObjectMeta, before.Status.Conditions, got.Status.Conditions, prefix.Status.Phase == ipam.PrefixPhaseAllocated)
		})
		if prefix.Status.Phase == ipam.PrefixPhaseAllocated && got.Status.ObservedGeneration != 0 && got.Status.ObservedGeneration != prefix.Generation {
			t.Errorf("%s: observed generation %d, generation %d", name, got.Status.ObservedGeneration, prefix.Generation)
		}
		back := received[*ipam.Prefix](t, scheme, got)
		if want := without(before.Status.Conditions); len(back.Status.Conditions) != len(want) || len(want) > 0 && !equality.Semantic.DeepEqual(back.Status.Conditions, want) {
			t.Errorf("%s: %v came back as %v", name, want, back.Status.Conditions)
		}
		list := served[*v1alpha1.PrefixList](t, scheme, &ipam.PrefixList{Items: []ipam.Prefix{*prefix, *prefix}})
		for _, item := range list.Items {
			if !equality.Semantic.DeepEqual(item.Status, got.Status) {
				t.Errorf("%s: in a list it is %v", name, item.Status)
			}
		}
	}
	for name, allocation := range readytest.Allocations() {
		count++
		before := allocation.DeepCopy()
		got := served[*v1alpha1.PrefixAllocation](t, scheme, allocation)
		if !equality.Semantic.DeepEqual(allocation, before) {
			t.Fatalf("%s: the conversion has changed its input", name)
		}
		t.Run(name, func(t *testing.T) {
			_, stalled := checkConditions(t, &allocation.ObjectMeta, before.Status.Conditions, got.Status.Conditions, allocation.Status.Phase == ipam.PrefixAllocationPhaseAllocated)
			if allocation.Status.Phase == ipam.PrefixAllocationPhaseFailed && !stalled {
				t.Error("it has failed, and is not stalled")
			}
		})
		back := received[*ipam.PrefixAllocation](t, scheme, got)
		if want := without(before.Status.Conditions); len(back.Status.Conditions) != len(want) || len(want) > 0 && !equality.Semantic.DeepEqual(back.Status.Conditions, want) {
			t.Errorf("%s: %v came back as %v", name, want, back.Status.Conditions)
		}
		list := served[*v1alpha1.PrefixAllocationList](t, scheme, &ipam.PrefixAllocationList{Items: []ipam.PrefixAllocation{*allocation, *allocation}})
		for _, item := range list.Items {
			if !equality.Semantic.DeepEqual(item.Status, got.Status) {
				t.Errorf("%s: in a list it is %v", name, item.Status)
			}
		}
	}
	if count < 1000 {
		t.Errorf("only %d states", count)
	}
}

func TestStalled(t *testing.T) {
	scheme := newScheme(t)
	told := func(reason string, observed int64) []metav1.Condition {
		return []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: reason, Message: "why", ObservedGeneration: observed}}
	}
	named := ipam.PrefixSpec{PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "parent"}}
	selecting := ipam.PrefixSpec{PrefixLength: 24, ParentSelector: &metav1.LabelSelector{}}
	for name, c := range map[string]struct {
		spec       ipam.PrefixSpec
		phase      ipam.PrefixPhase
		conditions []metav1.Condition
		want       bool
	}{
		"named parent cannot hold it":            {named, ipam.PrefixPhasePending, told(v1alpha1.ReasonNoSuitableParent, 2), true},
		"no generation is known":                 {named, ipam.PrefixPhasePending, told(v1alpha1.ReasonNoSuitableParent, 0), true},
		"the request has changed since":          {named, ipam.PrefixPhasePending, told(v1alpha1.ReasonNoSuitableParent, 1), false},
		"another parent may match":               {selecting, ipam.PrefixPhasePending, told(v1alpha1.ReasonNoSuitableParent, 2), false},
		"the request contradicts itself":         {selecting, ipam.PrefixPhasePending, told(v1alpha1.ReasonInvalidRequest, 2), true},
		"no room":                                {named, ipam.PrefixPhasePending, told(v1alpha1.ReasonParentExhausted, 2), false},
		"the parent may come":                    {named, ipam.PrefixPhasePending, told(v1alpha1.ReasonParentNotFound, 2), false},
		"nobody has answered":                    {named, ipam.PrefixPhasePending, nil, false},
		"allocated, with an outdated condition":  {named, ipam.PrefixPhaseAllocated, told(v1alpha1.ReasonNoSuitableParent, 2), false},
		"no phase, since another server made it": {named, "", told(v1alpha1.ReasonNoSuitableParent, 2), true},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := &ipam.Prefix{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: c.spec, Status: ipam.PrefixStatus{Phase: c.phase, Conditions: c.conditions}}
			got := served[*v1alpha1.Prefix](t, scheme, prefix)
			if is := meta.IsStatusConditionTrue(got.Status.Conditions, v1alpha1.ConditionStalled); is != c.want {
				t.Errorf("stalled is %v: %v", is, got.Status.Conditions)
			}
		})
	}
}

// TestTransitionTimes checks since when an object is ready, or not.
func TestTransitionTimes(t *testing.T) {
	scheme := newScheme(t)
	created := metav1.NewTime(time.Unix(1000, 0))
	moved := metav1.NewTime(time.Unix(2000, 0))
	for _, c := range []struct {
		phase          ipam.PrefixAllocationPhase
		since          *metav1.Time
		ready, stalled metav1.Time
	}{
		{ipam.PrefixAllocationPhasePending, nil, created, metav1.Time{}},
		{ipam.PrefixAllocationPhaseAllocated, &moved, moved, metav1.Time{}},
		{ipam.PrefixAllocationPhaseAllocated, nil, created, metav1.Time{}},
		{ipam.PrefixAllocationPhaseFailed, &moved, created, moved},
		{ipam.PrefixAllocationPhaseFailed, nil, created, created},
	} {
		allocation := &ipam.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: created},
			Status: ipam.PrefixAllocationStatus{Phase: c.phase, LastPhaseTransitionTime: c.since}}
		conditions := served[*v1alpha1.PrefixAllocation](t, scheme, allocation).Status.Conditions
		if got := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady).LastTransitionTime; got != c.ready {
			t.Errorf("%s since %v: Ready since %v, not %v", c.phase, c.since, got, c.ready)
		}
		if got := meta.FindStatusCondition(conditions, v1alpha1.ConditionStalled); (got == nil) != c.stalled.IsZero() || got != nil && got.LastTransitionTime != c.stalled {
			t.Errorf("%s since %v: Stalled is %v, not since %v", c.phase, c.since, got, c.stalled)
		}
	}
}

// TestPrefixPolicy checks that a policy is not ready until its controller says so, and that what it says stays.
func TestPrefixPolicy(t *testing.T) {
	scheme := newScheme(t)
	created := &ipam.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Generation: 1, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0))}}
	for _, got := range []v1alpha1.PrefixPolicy{
		*served[*v1alpha1.PrefixPolicy](t, scheme, created),
		served[*v1alpha1.PrefixPolicyList](t, scheme, &ipam.PrefixPolicyList{Items: []ipam.PrefixPolicy{*created}}).Items[0],
	} {
		checkConditions(t, &created.ObjectMeta, nil, got.Status.Conditions, false)
	}
	told := []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonApplied, Message: "It applies"}}
	created.Status.Conditions = told
	got := served[*v1alpha1.PrefixPolicy](t, scheme, created)
	if !equality.Semantic.DeepEqual(got.Status.Conditions, told) {
		t.Errorf("the controller said %v, and the server says %v", told, got.Status.Conditions)
	}
	if back := received[*ipam.PrefixPolicy](t, scheme, got); !equality.Semantic.DeepEqual(back.Status.Conditions, told) {
		t.Errorf("%v came back as %v", told, back.Status.Conditions)
	}
}

// BenchmarkServe converts and encodes a child as it leaves the server, with the conditions of this package and without.
func BenchmarkServe(b *testing.B) {
	now := metav1.NewTime(time.Unix(1e9, 0))
	child := &ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: "child", Namespace: "team", UID: "0d3c5a4e-5d0e-4a3e-9d5a-2b1f6c7d8e9f", ResourceVersion: "1", CreationTimestamp: now, Finalizers: []string{"ipam.ironcore.dev/prefix"}},
		Spec:       ipam.PrefixSpec{IPFamily: "IPv4", Prefix: "10.0.0.0/24", PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "parent"}},
		Status: ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated, LastPhaseTransitionTime: &now, Conditions: []metav1.Condition{{
			Type: "Allocated", Status: metav1.ConditionTrue, Reason: "Allocated", Message: "Allocated 10.0.0.0/24 from parent", LastTransitionTime: now}}},
	}
	for name, add := range map[string]func(*runtime.Scheme) error{"with": AddToScheme, "without": func(*runtime.Scheme) error { return nil }} {
		scheme := runtime.NewScheme()
		install.Install(scheme)
		if err := add(scheme); err != nil {
			b.Fatal(err)
		}
		serializer := protobuf.NewSerializer(scheme, scheme)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				out, err := scheme.UnsafeConvertToVersion(child, schema.GroupVersion(v1alpha1.GroupVersion))
				if err != nil {
					b.Fatal(err)
				}
				if err := serializer.Encode(out, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
