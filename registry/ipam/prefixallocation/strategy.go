// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixallocation implements the storage of PrefixAllocations, and the strategies for creating, updating and
// deleting them.
package prefixallocation

import (
	"context"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/client-go/tools/cache"
)

var (
	_ rest.RESTCreateUpdateStrategy        = Strategy{}
	_ rest.RESTDeleteStrategy              = Strategy{}
	_ rest.CreateUpdateResetFieldsStrategy = Strategy{}
	_ rest.UpdateResetFieldsStrategy       = StatusStrategy{}
	_ rest.RESTUpdateStrategy              = BindingStrategy{}
	_ rest.RESTUpdateStrategy              = CoolDownStrategy{}
)

// Strategy is the strategy of the main resource. Its writes never change the status.
type Strategy struct {
	resource.Strategy
	parents resource.Parents
}

// PrepareForCreate sets the phase to Pending. It also sets the family to that of the parent, unless the family is set.
func (s Strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	allocation := obj.(*ipam.PrefixAllocation)
	allocation.Generation = 1
	allocation.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhasePending}
	if allocation.Spec.IPFamily == "" && allocation.Spec.PrefixRef != nil {
		allocation.Spec.IPFamily = s.parents.Family(ctx, allocation.NamespaceOfParent(), allocation.Spec.PrefixRef.Name)
	}
}

// PrepareForUpdate keeps the status. But space that a child takes back does not cool down any more.
func (Strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	newAllocation.Status = oldAllocation.Status
	if claims.TakesBack(newAllocation, oldAllocation) && oldAllocation.Status.CoolingUntil != nil {
		newAllocation.Status = *oldAllocation.Status.DeepCopy()
		newAllocation.Status.CoolingUntil = nil
		setAllocatedReason(newAllocation, v1alpha1.ReasonAllocated, allocatedFrom(newAllocation))
	}
	keepSpec(newAllocation, oldAllocation)
	bumpGeneration(newAllocation, oldAllocation)
}

// keepSpec reverts changes of the spec that do not change its meaning. A field that the server may have set keeps its
// value if an update omits it, like the clusterIP of a Service. Another notation of the stored range is not a change
// either.
func keepSpec(newAllocation, oldAllocation *ipam.PrefixAllocation) {
	newSpec, oldSpec := &newAllocation.Spec, &oldAllocation.Spec
	if newSpec.PrefixNamespace == "" || newAllocation.NamespaceOfParent() == oldAllocation.NamespaceOfParent() {
		// A typed client that does not know the field leaves it out. The name of the own namespace means the same as none.
		newSpec.PrefixNamespace = oldSpec.PrefixNamespace
	}
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

// keepPrefix changes status.prefix to the notation of the stored or the requested prefix if both mean the same range.
// The notation of the stored one takes precedence.
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

// StatusStrategy is the strategy of the status subresource. Its writes change nothing but the status.
type StatusStrategy struct {
	Strategy
	resource.DerivedSubresource
}

// PrepareForUpdate keeps everything but the status.
func (StatusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	newAllocation.Spec = oldAllocation.Spec
	metav1.ResetObjectMetaForStatus(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta)
	newAllocation.Status.CoolingUntil = oldAllocation.Status.CoolingUntil
	keepPrefix(newAllocation, oldAllocation)
	completeTransition(newAllocation, oldAllocation)
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (StatusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePrefixAllocationStatusUpdate(obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation))
}

// validatePolicies returns an Invalid error if the policies of the parent forbid this allocation, and another error if the
// policies are unknown, for example while their watch cache fills. It applies to every writer.
func (s Strategy) validatePolicies(ctx context.Context, obj, old runtime.Object) error {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	const allocated = ipam.PrefixAllocationPhaseAllocated
	ref := newAllocation.Spec.PrefixRef
	if newAllocation.Status.Phase != allocated || ref == nil || oldAllocation.Status.Phase == allocated && !claims.TakesBack(newAllocation, oldAllocation) {
		return nil
	}
	prefix, err := cidr.ParseStored(newAllocation.Status.Prefix)
	if err != nil {
		// The storage refuses it.
		return nil
	}
	why, err := s.parents.PolicyViolation(ctx, newAllocation.NamespaceOfParent(), ref.Name, prefix.Bits())
	if err != nil || why == "" {
		return err
	}
	return apierrors.NewInvalid(ipam.Kind(ipam.PrefixAllocationKind), newAllocation.Name,
		field.ErrorList{field.Forbidden(field.NewPath("status", "prefix"), why)})
}

// BindingStrategy is the strategy of bindings, which write spec and status at once.
type BindingStrategy struct {
	Strategy
	resource.DerivedSubresource
}

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newAllocation, oldAllocation := obj.(*ipam.PrefixAllocation), old.(*ipam.PrefixAllocation)
	keepPrefix(newAllocation, oldAllocation)
	bumpGeneration(newAllocation, oldAllocation)
	completeTransition(newAllocation, oldAllocation)
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
	resource.BumpGeneration(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta, newAllocation.Spec, oldAllocation.Spec)
}

// completeTransition sets the status fields that follow from the phase. An allocation that becomes Allocated gets the
// condition Allocated.
func completeTransition(newAllocation, oldAllocation *ipam.PrefixAllocation) {
	status := &newAllocation.Status
	moved := phaseOf(status).Move(phaseOf(&oldAllocation.Status), ipam.PrefixAllocationPhasePending, ipam.PrefixAllocationPhaseAllocated)
	if from := newAllocation.Spec.PrefixRef; moved && status.Phase == ipam.PrefixAllocationPhaseAllocated && from != nil {
		resource.SetAllocated(&status.Conditions, v1alpha1.ReasonAllocated, allocatedFrom(newAllocation), newAllocation.Generation)
	}
}

// allocatedFrom returns the message of the condition Allocated.
func allocatedFrom(allocation *ipam.PrefixAllocation) string {
	parent := resource.ParentName(allocation.Namespace, allocation.NamespaceOfParent(), allocation.Spec.PrefixRef.Name)
	return fmt.Sprintf("Allocated %s from %s", allocation.Status.Prefix, parent)
}

// setAllocatedReason changes the reason and the message of the condition Allocated, which resource.SetAllocated leaves as
// they are once it is true.
func setAllocatedReason(allocation *ipam.PrefixAllocation, reason, message string) {
	meta.SetStatusCondition(&allocation.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: allocation.Generation,
	})
}

// CoolDownStrategy is the strategy of the update that makes the space of an allocation cool down.
type CoolDownStrategy struct{ Strategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy. The update comes from the server, so it keeps nothing.
func (CoolDownStrategy) PrepareForUpdate(context.Context, runtime.Object, runtime.Object) {}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (CoolDownStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// cool makes the space of an allocation cool down, for d from now on.
func cool(obj runtime.Object, planner *claims.Planner, d time.Duration) {
	allocation := obj.(*ipam.PrefixAllocation)
	until := metav1.NewTime(planner.CoolUntil(allocation, d))
	allocation.Status.CoolingUntil = &until
	setAllocatedReason(allocation, v1alpha1.ReasonCooling, fmt.Sprintf("%s of %s cools down until %s; until then only a Prefix of the same name gets it",
		allocation.Status.Prefix, allocation.Spec.PrefixRef.Name, until.UTC().Format(time.RFC3339)))
}

func phaseOf(status *ipam.PrefixAllocationStatus) resource.Phase[ipam.PrefixAllocationPhase] {
	return resource.Phase[ipam.PrefixAllocationPhase]{Phase: &status.Phase, Since: &status.LastPhaseTransitionTime, Conditions: &status.Conditions}
}

// indexers returns the index of the watch cache: of the allocations by the range that they hold.
func indexers() *cache.Indexers {
	return &cache.Indexers{storage.FieldIndex(resource.FieldRangeHash): resource.IndexByRange(func(obj any) string {
		if allocation, ok := obj.(*ipam.PrefixAllocation); ok {
			return allocation.Status.Prefix
		}
		return ""
	})}
}

// match returns the selection predicate of a list or watch.
func match(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
	return storage.SelectionPredicate{
		Label: label, Field: resource.SelectByRange(field, v1alpha1.FieldAllocatedPrefix), GetAttrs: getAttrs,
		IndexFields: []string{resource.FieldRangeHash},
	}
}

// getAttrs returns the labels and the selectable fields of a PrefixAllocation.
func getAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	allocation, ok := obj.(*ipam.PrefixAllocation)
	if !ok {
		return nil, nil, fmt.Errorf("not a PrefixAllocation: %T", obj)
	}
	from := ""
	if ref := allocation.Spec.PrefixRef; ref != nil {
		from = ref.Name
	}
	cooling := ""
	if until := allocation.Status.CoolingUntil; until != nil {
		cooling = until.UTC().Format(time.RFC3339)
	}
	return allocation.Labels, generic.MergeFieldsSets(generic.ObjectMetaFieldsSet(&allocation.ObjectMeta, true), fields.Set{
		v1alpha1.FieldIPFamily:        string(allocation.Spec.IPFamily),
		v1alpha1.FieldPrefix:          cidr.Canonical(allocation.Spec.Prefix),
		v1alpha1.FieldPrefixRefName:   from,
		v1alpha1.FieldPhase:           string(allocation.Status.Phase),
		v1alpha1.FieldAllocatedPrefix: cidr.Canonical(allocation.Status.Prefix),
		v1alpha1.FieldCoolingUntil:    cooling,
	}), nil
}
