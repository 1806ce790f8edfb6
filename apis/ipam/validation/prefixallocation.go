// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePrefixAllocation checks a PrefixAllocation that is created.
func ValidatePrefixAllocation(allocation *ipam.PrefixAllocation) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMeta(&allocation.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	return append(allErrs, ValidatePrefixAllocationSpec(&allocation.Spec, field.NewPath("spec"))...)
}

// ValidatePrefixAllocationSpec checks what a PrefixAllocation asks for.
func ValidatePrefixAllocationSpec(spec *ipam.PrefixAllocationSpec, fldPath *field.Path) field.ErrorList {
	allErrs := validateRequest(spec.IPFamily, spec.Prefix, spec.PrefixRef != nil, fldPath)

	lengthPath := fldPath.Child("prefixLength")
	switch {
	case spec.Prefix == "" && spec.PrefixLength == 0:
		allErrs = append(allErrs, field.Required(lengthPath, "either prefix or prefixLength has to be set"))
	case spec.Prefix != "" && spec.PrefixLength != 0:
		allErrs = append(allErrs, field.Forbidden(lengthPath, "only one of prefix and prefixLength may be set"))
	default:
		allErrs = append(allErrs, validateLength(spec.PrefixLength, spec.IPFamily, lengthPath)...)
	}
	if spec.PrefixRef == nil && spec.PrefixSelector == nil {
		allErrs = append(allErrs, field.Required(fldPath.Child("prefixRef"), "prefixRef or prefixSelector has to be set"))
	}
	allErrs = append(allErrs, validateReference(spec.PrefixRef, "", fldPath.Child("prefixRef"))...)
	allErrs = append(allErrs, validateSelector(spec.PrefixSelector, fldPath.Child("prefixSelector"))...)
	return allErrs
}

// ValidatePrefixAllocationUpdate checks a PrefixAllocation that is updated. Only prefixRef may be
// set, and a family that a parent tells.
func ValidatePrefixAllocationUpdate(newAllocation, oldAllocation *ipam.PrefixAllocation) field.ErrorList {
	fldPath := field.NewPath("spec")
	newSpec, oldSpec := &newAllocation.Spec, &oldAllocation.Spec

	allErrs := apivalidation.ValidateObjectMetaUpdate(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta, field.NewPath("metadata"))
	var immutable field.ErrorList
	immutable = append(immutable, setOnce(newSpec.IPFamily, oldSpec.IPFamily, fldPath.Child("ipFamily"))...)
	immutable = append(immutable, apivalidation.ValidateImmutableField(newSpec.Prefix, oldSpec.Prefix, fldPath.Child("prefix"))...)
	immutable = append(immutable, apivalidation.ValidateImmutableField(newSpec.PrefixLength, oldSpec.PrefixLength, fldPath.Child("prefixLength"))...)
	immutable = append(immutable, setOnceReference(newSpec.PrefixRef, oldSpec.PrefixRef, fldPath.Child("prefixRef"))...)
	immutable = append(immutable, apivalidation.ValidateImmutableField(newSpec.PrefixSelector, oldSpec.PrefixSelector, fldPath.Child("prefixSelector"))...)
	// What was allocated while the family was open has told it.
	if allocated, err := cidr.ParseStored(oldAllocation.Status.Prefix); err == nil && oldSpec.IPFamily == "" && newSpec.IPFamily != "" && newSpec.IPFamily != familyOf(allocated) {
		immutable = append(immutable, field.Invalid(fldPath.Child("ipFamily"), newSpec.IPFamily, fmt.Sprintf("must be %s, as %s has been allocated", familyOf(allocated), allocated)))
	}
	if len(immutable) > 0 {
		return append(allErrs, immutable...)
	}
	if apiequality.Semantic.DeepEqual(newSpec, oldSpec) {
		// As with a Prefix: what is wrong already has to be able to go.
		return allErrs
	}
	return append(allErrs, ValidatePrefixAllocationSpec(newSpec, fldPath)...)
}

// ValidatePrefixAllocationStatusUpdate checks a PrefixAllocation whose status is updated. Phases
// Allocated and Failed are final, and so is an allocated prefix.
func ValidatePrefixAllocationStatusUpdate(newAllocation, oldAllocation *ipam.PrefixAllocation) field.ErrorList {
	fldPath := field.NewPath("status")
	newStatus, oldStatus := &newAllocation.Status, &oldAllocation.Status

	allErrs := apivalidation.ValidateObjectMetaUpdate(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta, field.NewPath("metadata"))
	switch {
	case (oldStatus.Phase == ipam.PrefixAllocationPhaseAllocated || oldStatus.Phase == ipam.PrefixAllocationPhaseFailed) && newStatus.Phase != oldStatus.Phase:
		return append(allErrs, field.Forbidden(fldPath.Child("phase"), fmt.Sprintf("phase %s is final", oldStatus.Phase)))
	case oldStatus.Phase == ipam.PrefixAllocationPhaseAllocated && newStatus.Prefix != oldStatus.Prefix:
		return append(allErrs, field.Forbidden(fldPath.Child("prefix"), fmt.Sprintf("%s has been allocated, which is final", oldStatus.Prefix)))
	}
	if oldStatus.Phase == ipam.PrefixAllocationPhaseAllocated {
		// What another server of the group has allocated stays, also if it would be wrong here.
		return append(allErrs, validateConditions(newStatus.Conditions, fldPath.Child("conditions"))...)
	}
	return append(allErrs, validatePrefixAllocationStatus(newAllocation, fldPath)...)
}

func validatePrefixAllocationStatus(allocation *ipam.PrefixAllocation, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	spec, status := &allocation.Spec, &allocation.Status

	switch status.Phase {
	case ipam.PrefixAllocationPhaseAllocated:
		if spec.PrefixRef == nil {
			allErrs = append(allErrs, field.Invalid(fldPath.Child("phase"), status.Phase, "cannot be Allocated without spec.prefixRef"))
		}
		allErrs = append(allErrs, validateAllocatedPrefix(status.Prefix, spec, fldPath.Child("prefix"))...)
	case ipam.PrefixAllocationPhasePending, ipam.PrefixAllocationPhaseFailed:
		if status.Prefix != "" {
			allErrs = append(allErrs, field.Forbidden(fldPath.Child("prefix"), fmt.Sprintf("must not be set in phase %s", status.Phase)))
		}
	default:
		allErrs = append(allErrs, field.NotSupported(fldPath.Child("phase"), status.Phase, []ipam.PrefixAllocationPhase{
			ipam.PrefixAllocationPhasePending, ipam.PrefixAllocationPhaseAllocated, ipam.PrefixAllocationPhaseFailed}))
	}
	return append(allErrs, validateConditions(status.Conditions, fldPath.Child("conditions"))...)
}

// validateAllocatedPrefix checks that what is allocated is what was asked for.
func validateAllocatedPrefix(allocated string, spec *ipam.PrefixAllocationSpec, fldPath *field.Path) field.ErrorList {
	if allocated == "" {
		return field.ErrorList{field.Required(fldPath, "must be set in phase Allocated")}
	}
	prefix, errs := validatePrefixString(allocated, spec.IPFamily, fldPath)
	switch {
	case len(errs) > 0:
		return errs
	case spec.Prefix != "" && allocated != spec.Prefix:
		return field.ErrorList{field.Invalid(fldPath, allocated, fmt.Sprintf("must be the prefix that was asked for, %s", spec.Prefix))}
	case spec.PrefixLength != 0 && prefix.Bits() != int(spec.PrefixLength):
		return field.ErrorList{field.Invalid(fldPath, allocated, fmt.Sprintf("must have the length that was asked for, /%d", spec.PrefixLength))}
	}
	return nil
}

// ValidatePrefixAllocationBinding checks the binding of a PrefixAllocation.
func ValidatePrefixAllocationBinding(binding *ipam.PrefixAllocationBinding) field.ErrorList {
	_, allErrs := validatePrefixString(binding.Prefix, "", field.NewPath("prefix"))
	return append(allErrs, validatePrefixName(binding.PrefixRef.Name, "", field.NewPath("prefixRef", "name"))...)
}
