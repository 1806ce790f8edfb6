// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package readytest generates objects in every state from which the conditions Ready and Stalled are derived.
package readytest

import (
	"fmt"
	"iter"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons are the reasons of the condition Allocated that tests use.
var Reasons = []string{
	v1alpha1.ReasonNoMatchingParent, v1alpha1.ReasonNoSuitableParent, v1alpha1.ReasonParentExhausted, v1alpha1.ReasonParentNotFound,
	v1alpha1.ReasonParentNotReady, v1alpha1.ReasonPrefixInUse, v1alpha1.ReasonRefused, v1alpha1.ReasonRequesterNotFound, v1alpha1.ReasonInvalidRequest,
}

const generation = 2

var (
	created = metav1.NewTime(time.Unix(1_000_000, 0))
	moved   = metav1.NewTime(time.Unix(1_000_100, 0))
)

// conditions yields the conditions that an object may have in etcd. A foreign controller may have stored Ready, too.
func conditions(yield func(string, []metav1.Condition) bool) {
	condition := func(conditionType string, status metav1.ConditionStatus, reason string, observed int64) metav1.Condition {
		return metav1.Condition{Type: conditionType, Status: status, Reason: reason, Message: "Because of " + reason, ObservedGeneration: observed, LastTransitionTime: moved}
	}
	if !yield("no condition", nil) {
		return
	}
	for _, observed := range []int64{0, generation - 1, generation} {
		for _, reason := range append([]string{""}, Reasons...) {
			allocated := condition(v1alpha1.ConditionAllocated, metav1.ConditionFalse, reason, observed)
			if !yield(fmt.Sprintf("not allocated, %s of %d", reason, observed), []metav1.Condition{allocated}) {
				return
			}
		}
		allocated := condition(v1alpha1.ConditionAllocated, metav1.ConditionTrue, v1alpha1.ReasonAllocated, observed)
		deletable := condition(v1alpha1.ConditionDeletable, metav1.ConditionFalse, v1alpha1.ReasonHasChildren, observed)
		foreign := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, "Foreign", observed)
		stalled := condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, "Foreign", observed)
		for name, all := range map[string][]metav1.Condition{
			"allocated":                  {allocated},
			"allocated, not deletable":   {deletable, allocated},
			"stored Ready":               {foreign},
			"stored Ready and Stalled":   {stalled, allocated, foreign},
			"unknown whether allocated":  {condition(v1alpha1.ConditionAllocated, metav1.ConditionUnknown, "Unknown", observed)},
			"another condition, no more": {condition("Other", metav1.ConditionTrue, "Other", observed)},
		} {
			if !yield(fmt.Sprintf("%s, of %d", name, observed), all) {
				return
			}
		}
	}
}

// metas yields the metadata of objects: alive, and being deleted.
func metas(yield func(string, metav1.ObjectMeta) bool) {
	object := metav1.ObjectMeta{Name: "it", Namespace: "default", UID: "uid", CreationTimestamp: created, Generation: generation}
	if !yield("alive", object) {
		return
	}
	object.DeletionTimestamp = &moved
	object.Finalizers = []string{ipam.PrefixFinalizer}
	yield("terminating", object)
}

// Prefixes yields Prefixes, each with a name for its state.
func Prefixes() iter.Seq2[string, *ipam.Prefix] {
	specs := map[string]ipam.PrefixSpec{
		"root":            {IPFamily: ipam.IPv4, Prefix: "10.0.0.0/8"},
		"child by name":   {IPFamily: ipam.IPv4, PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "parent"}},
		"child by labels": {IPFamily: ipam.IPv4, PrefixLength: 24, ParentSelector: &metav1.LabelSelector{}},
		"bound child": {IPFamily: ipam.IPv4, Prefix: "10.0.0.0/24", PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "parent"},
			ParentSelector: &metav1.LabelSelector{}},
	}
	return func(yield func(string, *ipam.Prefix) bool) {
		for what, spec := range specs {
			for alive, object := range metas {
				for told, conditions := range conditions {
					for _, phase := range []ipam.PrefixPhase{"", ipam.PrefixPhasePending, ipam.PrefixPhaseAllocated, "Unheard"} {
						for _, observed := range []int64{0, generation - 1, generation} {
							prefix := &ipam.Prefix{ObjectMeta: *object.DeepCopy(), Spec: *spec.DeepCopy(), Status: ipam.PrefixStatus{
								Phase: phase, ObservedGeneration: observed, Conditions: conditions}}
							if observed == generation {
								prefix.Status.LastPhaseTransitionTime = &moved
							}
							if !yield(fmt.Sprintf("Prefix/%s/%s/%q/%s/%d", what, alive, phase, told, observed), prefix) {
								return
							}
						}
					}
				}
			}
		}
	}
}

// Allocations yields PrefixAllocations, each with a name for its state.
func Allocations() iter.Seq2[string, *ipam.PrefixAllocation] {
	specs := map[string]ipam.PrefixAllocationSpec{
		"by name":   {IPFamily: ipam.IPv4, PrefixLength: 24, PrefixRef: &ipam.LocalObjectReference{Name: "parent"}},
		"by labels": {IPFamily: ipam.IPv4, PrefixLength: 24, PrefixSelector: &metav1.LabelSelector{}},
	}
	return func(yield func(string, *ipam.PrefixAllocation) bool) {
		for what, spec := range specs {
			for alive, object := range metas {
				for told, conditions := range conditions {
					for _, phase := range []ipam.PrefixAllocationPhase{
						"", ipam.PrefixAllocationPhasePending, ipam.PrefixAllocationPhaseAllocated, ipam.PrefixAllocationPhaseFailed, "Unheard",
					} {
						for _, since := range []*metav1.Time{nil, &moved} {
							allocation := &ipam.PrefixAllocation{ObjectMeta: *object.DeepCopy(), Spec: *spec.DeepCopy(), Status: ipam.PrefixAllocationStatus{
								Phase: phase, LastPhaseTransitionTime: since, Conditions: conditions}}
							if phase == ipam.PrefixAllocationPhaseAllocated {
								allocation.Status.Prefix = "10.0.0.0/24"
							}
							if !yield(fmt.Sprintf("PrefixAllocation/%s/%s/%q/%s/%v", what, alive, phase, told, since != nil), allocation) {
								return
							}
						}
					}
				}
			}
		}
	}
}
