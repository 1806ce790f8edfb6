// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixallocation holds the rules by which PrefixAllocations are created, updated and
// deleted.
package prefixallocation

import (
	"context"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

var (
	_ rest.RESTCreateUpdateStrategy        = Strategy{}
	_ rest.RESTDeleteStrategy              = Strategy{}
	_ rest.CreateUpdateResetFieldsStrategy = Strategy{}
	_ rest.UpdateResetFieldsStrategy       = StatusStrategy{}
	_ rest.RESTUpdateStrategy              = BindingStrategy{}
)

// FamilyFunc tells the family of the Prefix of a name, in the namespace of the context, or "" if
// there is no such Prefix.
type FamilyFunc func(ctx context.Context, name string) ipam.IPFamily

// Strategy is for writes to the main resource: they never change the status.
type Strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	familyOf FamilyFunc
}

// NewStrategy returns the strategy of the main resource. familyOf is asked for the family of a
// Prefix that is referred to where the request leaves it open.
func NewStrategy(typer runtime.ObjectTyper, familyOf FamilyFunc) Strategy {
	return Strategy{typer, names.SimpleNameGenerator, familyOf}
}

// NamespaceScoped implements rest.RESTCreateStrategy.
func (Strategy) NamespaceScoped() bool { return true }

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (Strategy) AllowCreateOnUpdate(context.Context) bool { return false }

// AllowUnconditionalUpdate implements rest.RESTUpdateStrategy.
func (Strategy) AllowUnconditionalUpdate(context.Context) bool { return true }

// Canonicalize implements rest.RESTCreateStrategy.
func (Strategy) Canonicalize(runtime.Object) {}

// GetResetFields implements rest.ResetFieldsStrategy: server-side apply to the main resource does
// not own the status.
func (Strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(v1alpha1.GroupVersion.String()): fieldpath.NewSet(fieldpath.MakePathOrDie("status")),
	}
}

// PrepareForCreate makes the PrefixAllocation Pending.
func (s Strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	allocation := obj.(*ipam.PrefixAllocation)
	allocation.Generation = 1
	allocation.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhasePending}
	if allocation.Spec.IPFamily == "" && allocation.Spec.PrefixRef != nil {
		allocation.Spec.IPFamily = s.familyOf(ctx, allocation.Spec.PrefixRef.Name)
	}
}

// PrepareForUpdate keeps the status.
func (Strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	newAllocation.Status = oldAllocation.Status
	keepSpec(&newAllocation.Spec, &oldAllocation.Spec)
	bumpGeneration(newAllocation, oldAllocation)
}

// keepSpec makes what means the same look the same. A field that the server may have filled in stays
// as it is if an update leaves it out, like the clusterIP of a Service, and another notation of the
// range that is stored is no change.
func keepSpec(newSpec, oldSpec *ipam.PrefixAllocationSpec) {
	if newSpec.Prefix != "" && cidr.Equal(newSpec.Prefix, oldSpec.Prefix) {
		newSpec.Prefix = oldSpec.Prefix
		if cidr.HasFamily(oldSpec.Prefix, string(newSpec.IPFamily)) {
			newSpec.IPFamily = ""
		}
	}
	if newSpec.IPFamily == "" {
		newSpec.IPFamily = oldSpec.IPFamily
	}
	if newSpec.PrefixRef == nil {
		newSpec.PrefixRef = oldSpec.PrefixRef
	}
}

// keepPrefix puts the notation of what is stored, or of what was asked for, in the place of another one
// of the same range.
func keepPrefix(newAllocation, oldAllocation *ipam.PrefixAllocation) {
	status := &newAllocation.Status
	for _, stored := range []string{newAllocation.Spec.Prefix, oldAllocation.Status.Prefix} {
		if status.Prefix != "" && cidr.Equal(status.Prefix, stored) {
			status.Prefix = stored
		}
	}
}

// Validate implements rest.RESTCreateStrategy.
func (Strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return validation.ValidatePrefixAllocation(obj.(*ipam.PrefixAllocation))
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (Strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePrefixAllocationUpdate(obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation))
}

// WarningsOnCreate implements rest.RESTCreateStrategy.
func (Strategy) WarningsOnCreate(context.Context, runtime.Object) []string { return nil }

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (Strategy) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	return validation.DeletionWarnings(&obj.(*ipam.PrefixAllocation).ObjectMeta, &old.(*ipam.PrefixAllocation).ObjectMeta, ipam.PrefixAllocationKind)
}

// StatusStrategy is for writes to the status: they change nothing else.
type StatusStrategy struct{ Strategy }

// GetResetFields implements rest.ResetFieldsStrategy: server-side apply to the status owns nothing
// but the status.
func (StatusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(v1alpha1.GroupVersion.String()): fieldpath.NewSet(
			fieldpath.MakePathOrDie("spec"), fieldpath.MakePathOrDie("metadata")),
	}
}

// PrepareForUpdate keeps everything but the status.
func (StatusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	newAllocation.Spec = oldAllocation.Spec
	metav1.ResetObjectMetaForStatus(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta)
	keepPrefix(newAllocation, oldAllocation)
	completeTransition(newAllocation, oldAllocation)
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (StatusStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (StatusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePrefixAllocationStatusUpdate(obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation))
}

// BindingStrategy is for bindings, which write spec and status at once.
type BindingStrategy struct{ Strategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	keepPrefix(newAllocation, oldAllocation)
	bumpGeneration(newAllocation, oldAllocation)
	completeTransition(newAllocation, oldAllocation)
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	if errs := validation.ValidatePrefixAllocationUpdate(newAllocation, oldAllocation); len(errs) > 0 {
		return errs
	}
	return validation.ValidatePrefixAllocationStatusUpdate(newAllocation, oldAllocation)
}

func bumpGeneration(newAllocation, oldAllocation *ipam.PrefixAllocation) {
	if !equality.Semantic.DeepEqual(newAllocation.Spec, oldAllocation.Spec) {
		newAllocation.Generation = oldAllocation.Generation + 1
	}
}

// completeTransition makes what follows from the phase true whoever wrote the phase: the time moves
// with the phase and not otherwise, and what is allocated has the condition to wait for.
func completeTransition(newAllocation, oldAllocation *ipam.PrefixAllocation) {
	newStatus, oldStatus := &newAllocation.Status, &oldAllocation.Status
	if newStatus.Phase == "" && oldStatus.Phase == "" {
		// Another server of the group begins without a phase.
		newStatus.Phase = ipam.PrefixAllocationPhasePending
	}
	if newStatus.Phase == oldStatus.Phase {
		newStatus.LastPhaseTransitionTime = oldStatus.LastPhaseTransitionTime
		keepAllocated(newStatus, oldStatus)
		return
	}
	now := metav1.Now()
	newStatus.LastPhaseTransitionTime = &now
	if newStatus.Phase != ipam.PrefixAllocationPhaseAllocated || newAllocation.Spec.PrefixRef == nil ||
		meta.IsStatusConditionTrue(newStatus.Conditions, ipam.ConditionAllocated) {
		return
	}
	meta.SetStatusCondition(&newStatus.Conditions, metav1.Condition{
		Type:               ipam.ConditionAllocated,
		Status:             metav1.ConditionTrue,
		Reason:             ipam.ReasonAllocated,
		Message:            fmt.Sprintf("Allocated %s from %s", newStatus.Prefix, newAllocation.Spec.PrefixRef.Name),
		ObservedGeneration: newAllocation.Generation,
	})
}

// keepAllocated keeps the condition to wait for when a client that knows no conditions writes the
// whole status. What is allocated stays so.
func keepAllocated(newStatus, oldStatus *ipam.PrefixAllocationStatus) {
	if newStatus.Phase != ipam.PrefixAllocationPhaseAllocated || meta.FindStatusCondition(newStatus.Conditions, ipam.ConditionAllocated) != nil {
		return
	}
	if condition := meta.FindStatusCondition(oldStatus.Conditions, ipam.ConditionAllocated); condition != nil {
		meta.SetStatusCondition(&newStatus.Conditions, *condition)
	}
}

// Match returns the predicate of a list or watch.
func Match(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
	return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: GetAttrs}
}

// GetAttrs returns the labels and the selectable fields of a PrefixAllocation.
func GetAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	allocation, ok := obj.(*ipam.PrefixAllocation)
	if !ok {
		return nil, nil, fmt.Errorf("not a PrefixAllocation: %T", obj)
	}
	from := ""
	if ref := allocation.Spec.PrefixRef; ref != nil {
		from = ref.Name
	}
	return allocation.Labels, generic.MergeFieldsSets(generic.ObjectMetaFieldsSet(&allocation.ObjectMeta, true), fields.Set{
		v1alpha1.FieldIPFamily:      string(allocation.Spec.IPFamily),
		v1alpha1.FieldPrefix:        allocation.Spec.Prefix,
		v1alpha1.FieldPrefixRefName: from,
		v1alpha1.FieldPhase:         string(allocation.Status.Phase),
	}), nil
}
