// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePrefixAllocation validates a new PrefixAllocation.
func ValidatePrefixAllocation(allocation *ipam.PrefixAllocation) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMeta(&allocation.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	allErrs = append(allErrs, validateMetadataLimits(&allocation.ObjectMeta, &metav1.ObjectMeta{}, field.NewPath("metadata"))...)
	return append(allErrs, ValidatePrefixAllocationSpec(&allocation.Spec, field.NewPath("spec"))...)
}

// ValidatePrefixAllocationSpec validates the spec of a new PrefixAllocation.
func ValidatePrefixAllocationSpec(spec *ipam.PrefixAllocationSpec, fldPath *field.Path) field.ErrorList {
	request := ask{spec.IPFamily, spec.Prefix, spec.PrefixLength}
	lengthPath := fldPath.Child("prefixLength")
	var allErrs field.ErrorList
	switch {
	case spec.Prefix == "" && spec.PrefixLength == 0:
		allErrs = append(allErrs, field.Required(lengthPath, "prefix or prefixLength must be set"))
	case spec.Prefix != "" && spec.PrefixLength != 0:
		allErrs = append(allErrs, field.Forbidden(lengthPath, "only one of prefix and prefixLength may be set"))
		request.length = 0
	}
	allErrs = append(allErrs, validateAsk(request, ask{}, cidr.Parse, fldPath)...)
	if spec.IPFamily == "" && spec.Prefix == "" && spec.PrefixRef == nil {
		allErrs = append(allErrs, requireFamily(fldPath, "prefixRef"))
	}
	if spec.PrefixRef == nil && spec.PrefixSelector == nil {
		allErrs = append(allErrs, field.Required(fldPath.Child("prefixRef"), "prefixRef or prefixSelector must be set"))
	}
	allErrs = append(allErrs, validateReference(spec.PrefixRef, "", fldPath.Child("prefixRef"))...)
	allErrs = append(allErrs, validateNamespace(spec.PrefixNamespace, fldPath.Child("prefixNamespace"))...)
	return append(allErrs, validateSelector(spec.PrefixSelector, fldPath.Child("prefixSelector"))...)
}

// ValidatePrefixAllocationUpdate validates an update of a PrefixAllocation. Only prefixRef and ipFamily can be set,
// and only if they are unset. Stored values are always valid.
func ValidatePrefixAllocationUpdate(newAllocation, oldAllocation *ipam.PrefixAllocation) field.ErrorList {
	fldPath := field.NewPath("spec")
	newSpec, oldSpec := &newAllocation.Spec, &oldAllocation.Spec

	allErrs := apivalidation.ValidateObjectMetaUpdate(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta, field.NewPath("metadata"))
	allErrs = append(allErrs, validateMetadataLimits(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta, field.NewPath("metadata"))...)
	if err := validateNotDeleting(&oldAllocation.ObjectMeta, *newSpec, *oldSpec, ipam.PrefixAllocationKind, fldPath); err != nil {
		return append(allErrs, err)
	}
	var immutable field.ErrorList
	immutable = append(immutable, setOnce(newSpec.IPFamily, oldSpec.IPFamily, fldPath.Child("ipFamily"))...)
	if !cidr.Equal(newSpec.Prefix, oldSpec.Prefix) {
		immutable = append(immutable, invalidPrefix(fldPath.Child("prefix"), newSpec.Prefix, apivalidation.FieldImmutableErrorMsg))
	}
	immutable = append(immutable, apivalidation.ValidateImmutableField(newSpec.PrefixLength, oldSpec.PrefixLength, fldPath.Child("prefixLength"))...)
	immutable = append(immutable, setOnceReference(newSpec.PrefixRef, oldSpec.PrefixRef, fldPath.Child("prefixRef"))...)
	if newAllocation.NamespaceOfParent() != oldAllocation.NamespaceOfParent() {
		immutable = append(immutable, changedNamespace(newSpec.PrefixNamespace, oldAllocation.NamespaceOfParent(), fldPath.Child("prefixNamespace")))
	}
	immutable = append(immutable, apivalidation.ValidateImmutableField(newSpec.PrefixSelector, oldSpec.PrefixSelector, fldPath.Child("prefixSelector"))...)
	// If a prefix was allocated while the family was unset, the family must be that of the prefix.
	if allocated := oldAllocation.Status.Prefix; allocated != "" && oldSpec.IPFamily == "" && newSpec.IPFamily != "" && !cidr.HasFamily(allocated, string(newSpec.IPFamily)) {
		if prefix, err := cidr.ParseStored(allocated); err == nil {
			immutable = append(immutable, field.Invalid(fldPath.Child("ipFamily"), newSpec.IPFamily, fmt.Sprintf("must be %s: %s has been allocated", cidr.FamilyOf(prefix), allocated)))
		}
	}
	if len(immutable) > 0 {
		return append(allErrs, immutable...)
	}
	allErrs = append(allErrs, validateAsk(ask{newSpec.IPFamily, newSpec.Prefix, newSpec.PrefixLength}, ask{oldSpec.IPFamily, oldSpec.Prefix, oldSpec.PrefixLength}, cidr.Parse, fldPath)...)
	return append(allErrs, validateReferenceUpdate(newSpec.PrefixRef, oldSpec.PrefixRef, "", fldPath.Child("prefixRef"))...)
}

// ValidatePrefixAllocationStatusUpdate validates an update of the status of a PrefixAllocation. The phases
// Allocated and Failed are final, and so is an allocated prefix. Stored values are always valid.
func ValidatePrefixAllocationStatusUpdate(newAllocation, oldAllocation *ipam.PrefixAllocation) field.ErrorList {
	fldPath := field.NewPath("status")
	newStatus, oldStatus := &newAllocation.Status, &oldAllocation.Status
	phasePath, prefixPath := fldPath.Child("phase"), fldPath.Child("prefix")

	allErrs := apivalidation.ValidateObjectMetaUpdate(&newAllocation.ObjectMeta, &oldAllocation.ObjectMeta, field.NewPath("metadata"))
	switch {
	case newStatus.Phase == oldStatus.Phase && cidr.Equal(newStatus.Prefix, oldStatus.Prefix):
	case oldStatus.Phase.IsTerminal() && newStatus.Phase != oldStatus.Phase:
		return append(allErrs, field.Forbidden(phasePath, fmt.Sprintf("phase %s is final", oldStatus.Phase)))
	case oldStatus.Phase == ipam.PrefixAllocationPhaseAllocated:
		return append(allErrs, field.Forbidden(prefixPath, fmt.Sprintf("%s has been allocated, which is final", oldStatus.Prefix)))
	default:
		allErrs = append(allErrs, validatePrefixAllocationStatus(newAllocation, oldStatus.Phase, fldPath)...)
	}
	return append(allErrs, validateConditions(newStatus.Conditions, oldStatus.Conditions, fldPath.Child("conditions"))...)
}

func validatePrefixAllocationStatus(allocation *ipam.PrefixAllocation, oldPhase ipam.PrefixAllocationPhase, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	spec, status := &allocation.Spec, &allocation.Status
	switch {
	case status.Phase == ipam.PrefixAllocationPhaseAllocated:
		if spec.PrefixRef == nil {
			allErrs = append(allErrs, field.Invalid(fldPath.Child("phase"), status.Phase, "cannot be Allocated without spec.prefixRef"))
		}
		return append(allErrs, validateAllocatedPrefix(status.Prefix, spec, fldPath.Child("prefix"))...)
	case status.Phase != oldPhase && status.Phase != ipam.PrefixAllocationPhasePending && status.Phase != ipam.PrefixAllocationPhaseFailed:
		return append(allErrs, field.NotSupported(fldPath.Child("phase"), status.Phase, []ipam.PrefixAllocationPhase{
			ipam.PrefixAllocationPhasePending, ipam.PrefixAllocationPhaseAllocated, ipam.PrefixAllocationPhaseFailed}))
	case status.Prefix != "":
		allErrs = append(allErrs, field.Forbidden(fldPath.Child("prefix"), fmt.Sprintf("must not be set in phase %s", status.Phase)))
	}
	return allErrs
}

// validateAllocatedPrefix checks that an allocated prefix is the requested one.
func validateAllocatedPrefix(allocated string, spec *ipam.PrefixAllocationSpec, fldPath *field.Path) field.ErrorList {
	switch {
	case allocated == "":
		return field.ErrorList{field.Required(fldPath, "must be set in phase Allocated")}
	case spec.Prefix != "" && cidr.Equal(allocated, spec.Prefix):
		return nil
	}
	prefix, errs := validatePrefixString(allocated, spec.IPFamily, fldPath)
	switch {
	case len(errs) > 0:
		return errs
	case spec.Prefix != "":
		return field.ErrorList{invalidPrefix(fldPath, allocated, fmt.Sprintf("must be the requested prefix, %s", spec.Prefix))}
	case spec.PrefixLength != 0 && prefix.Bits() != int(spec.PrefixLength):
		return field.ErrorList{invalidPrefix(fldPath, allocated, fmt.Sprintf("must have the requested length, /%d", spec.PrefixLength))}
	}
	return nil
}

// ValidatePrefixAllocationBinding validates a binding of a PrefixAllocation.
func ValidatePrefixAllocationBinding(binding *ipam.PrefixAllocationBinding) field.ErrorList {
	_, allErrs := validatePrefixString(binding.Prefix, "", field.NewPath("prefix"))
	allErrs = append(allErrs, validateNamespace(binding.PrefixRef.Namespace, field.NewPath("prefixRef", "namespace"))...)
	return append(allErrs, validatePrefixName(binding.PrefixRef.Name, "", field.NewPath("prefixRef", "name"))...)
}
