// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package ready derives the conditions Ready and Stalled, which tools such as Flux, Helm and Argo CD wait for. They have
// the meaning that kstatus defines:
// https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
//
// The conditions of Prefixes and PrefixAllocations follow from the phase and the condition Allocated, so they are not
// stored. They are added when an object leaves the server, and removed when one comes in. So they are on every object
// that a reader sees, from its creation on and whoever wrote its status, and need no memory in etcd and in the watch
// caches. A controller writes Ready of PrefixPolicies; only until then it is derived.
package ready

import (
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// AddToScheme adds the conversions that add and remove the conditions. They replace the generated conversions of the
// kinds and their lists. The scheme of the storage must not have them.
func AddToScheme(scheme *runtime.Scheme) error {
	conversions := runtime.NewSchemeBuilder(
		convert(v1alpha1.Convert_ipam_Prefix_To_v1alpha1_Prefix, ofPrefix),
		convert(v1alpha1.Convert_ipam_PrefixList_To_v1alpha1_PrefixList, func(list *v1alpha1.PrefixList) {
			for i := range list.Items {
				ofPrefix(&list.Items[i])
			}
		}),
		convert(v1alpha1.Convert_ipam_PrefixAllocation_To_v1alpha1_PrefixAllocation, ofPrefixAllocation),
		convert(v1alpha1.Convert_ipam_PrefixAllocationList_To_v1alpha1_PrefixAllocationList, func(list *v1alpha1.PrefixAllocationList) {
			for i := range list.Items {
				ofPrefixAllocation(&list.Items[i])
			}
		}),
		convert(v1alpha1.Convert_ipam_PrefixPolicy_To_v1alpha1_PrefixPolicy, ofPrefixPolicy),
		convert(v1alpha1.Convert_ipam_PrefixPolicyList_To_v1alpha1_PrefixPolicyList, func(list *v1alpha1.PrefixPolicyList) {
			for i := range list.Items {
				ofPrefixPolicy(&list.Items[i])
			}
		}),
		convert(v1alpha1.Convert_v1alpha1_Prefix_To_ipam_Prefix, func(prefix *ipam.Prefix) {
			prefix.Status.Conditions = without(prefix.Status.Conditions)
		}),
		convert(v1alpha1.Convert_v1alpha1_PrefixAllocation_To_ipam_PrefixAllocation, func(allocation *ipam.PrefixAllocation) {
			allocation.Status.Conditions = without(allocation.Status.Conditions)
		}),
	)
	return conversions.AddToScheme(scheme)
}

// convert returns a function that adds a conversion to a scheme: the conversion that was generated, and then adapt. Its
// output shares slices with its input, which may be in a watch cache. So adapt must replace slices and not write to them.
// The items of a list are an exception: a list is made for one request, so its items belong to this request.
func convert[In, Out any](generated func(*In, *Out, conversion.Scope) error, adapt func(*Out)) func(*runtime.Scheme) error {
	return func(scheme *runtime.Scheme) error {
		return scheme.AddConversionFunc((*In)(nil), (*Out)(nil), func(in, out any, scope conversion.Scope) error {
			if err := generated(in.(*In), out.(*Out), scope); err != nil {
				return err
			}
			adapt(out.(*Out))
			return nil
		})
	}
}

// derived reports whether a condition type belongs to this package.
func derived(conditionType string) bool {
	return conditionType == v1alpha1.ConditionReady || conditionType == v1alpha1.ConditionStalled
}

// without returns the conditions that do not belong to this package.
func without(conditions []metav1.Condition) []metav1.Condition {
	isDerived := func(condition metav1.Condition) bool { return derived(condition.Type) }
	if !slices.ContainsFunc(conditions, isDerived) {
		return conditions
	}
	return slices.DeleteFunc(slices.Clone(conditions), isDerived)
}

func ofPrefix(prefix *v1alpha1.Prefix) {
	status := &prefix.Status
	allocated := status.Phase == v1alpha1.PrefixPhaseAllocated
	s := state{
		object: &prefix.ObjectMeta, allocated: allocated, since: status.LastPhaseTransitionTime,
		named: prefix.Spec.ParentRef != nil, holds: prefix.Spec.Prefix, root: prefix.Spec.IsRoot(),
	}
	if allocated && status.ObservedGeneration != 0 {
		// Allocated is final, so no change of the spec needs to be observed. kstatus calls an object that is behind in
		// progress.
		status.ObservedGeneration = prefix.Generation
	}
	status.Conditions = s.conditions(status.Conditions)
}

func ofPrefixAllocation(allocation *v1alpha1.PrefixAllocation) {
	status := &allocation.Status
	s := state{
		object:    &allocation.ObjectMeta,
		allocated: status.Phase == v1alpha1.PrefixAllocationPhaseAllocated,
		failed:    status.Phase == v1alpha1.PrefixAllocationPhaseFailed,
		since:     status.LastPhaseTransitionTime, named: allocation.Spec.PrefixRef != nil, holds: status.Prefix,
	}
	status.Conditions = s.conditions(status.Conditions)
}

// ofPrefixPolicy adds Ready to a policy that no controller has looked at yet. After that, the controller writes it.
func ofPrefixPolicy(policy *v1alpha1.PrefixPolicy) {
	status := &policy.Status
	if meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady) == nil {
		s := state{object: &policy.ObjectMeta}
		status.Conditions = s.conditions(status.Conditions)
	}
}

// state is what the conditions of an object follow from.
type state struct {
	object *metav1.ObjectMeta
	// allocated and failed tell the phase. It is Pending if neither is set. since is the time of its last change, if
	// that is known.
	allocated, failed bool
	since             *metav1.Time
	// root is set if the object is a root Prefix. named is set if the object names its parent.
	root, named bool
	// holds is the prefix of an allocated object.
	holds string
}

// conditions returns the stored conditions and the derived ones, which come last.
func (s state) conditions(stored []metav1.Condition) []metav1.Condition {
	all := make([]metav1.Condition, 0, len(stored)+2)
	for _, condition := range stored {
		if !derived(condition.Type) {
			all = append(all, condition)
		}
	}
	ready := metav1.Condition{
		Type:   v1alpha1.ConditionReady,
		Status: metav1.ConditionFalse,
		// The condition is derived from the object as it is.
		ObservedGeneration: s.object.Generation,
		// An object that is not allocated has never been ready.
		LastTransitionTime: s.object.CreationTimestamp,
	}
	if s.allocated {
		ready.Status = metav1.ConditionTrue
		if s.since != nil {
			ready.LastTransitionTime = *s.since
		}
	}
	told := meta.FindStatusCondition(all, v1alpha1.ConditionAllocated)
	if told != nil && (told.Status != ready.Status || told.Reason == "") {
		// Another server of the API group has changed the phase, but not the condition.
		told = nil
	}
	if told != nil {
		ready.Reason, ready.Message = told.Reason, told.Message
	} else {
		ready.Reason, ready.Message = s.unexplained()
	}
	all = append(all, ready)
	if s.isStalled(told) {
		stalled := ready
		stalled.Type, stalled.Status = v1alpha1.ConditionStalled, metav1.ConditionTrue
		switch {
		case s.failed && s.since != nil:
			stalled.LastTransitionTime = *s.since
		case told != nil:
			stalled.LastTransitionTime = told.LastTransitionTime
		}
		all = append(all, stalled)
	}
	return all
}

// isStalled reports whether the request can never be met. told is the condition Allocated, if it explains the phase.
func (s state) isStalled(told *metav1.Condition) bool {
	switch {
	case s.allocated:
		return false
	case s.failed:
		return true
	case told == nil, told.ObservedGeneration != 0 && told.ObservedGeneration != s.object.Generation:
		// The request may have changed since it was found to be impossible.
		return false
	}
	// A parent that a selector matches may still come. One that is named keeps its prefix.
	return told.Reason == v1alpha1.ReasonInvalidRequest || told.Reason == v1alpha1.ReasonNoSuitableParent && s.named
}

// unexplained returns the reason and the message for an object without a condition that explains its phase. Such an
// object is new, or another server of the API group wrote it.
func (s state) unexplained() (reason, message string) {
	switch {
	case s.allocated && s.root:
		return v1alpha1.ReasonRoot, "A root Prefix is allocated without a parent"
	case s.allocated:
		return v1alpha1.ReasonAllocated, "Holds " + s.holds
	case s.failed:
		return v1alpha1.ReasonNoSuitableParent, "A scheduler has failed the request without a condition that says why"
	}
	return v1alpha1.ReasonPending, "Waits for the controllers"
}
