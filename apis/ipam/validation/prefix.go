// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxUsed is the greatest number of entries of a Prefix's status.used.
const MaxUsed = 1000

// ValidatePrefix checks a Prefix that is created.
func ValidatePrefix(prefix *ipam.Prefix) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMeta(&prefix.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	return append(allErrs, ValidatePrefixSpec(&prefix.Spec, prefix.Name, field.NewPath("spec"))...)
}

// ValidatePrefixSpec checks what a Prefix asks for. name is the name of the Prefix, or empty.
func ValidatePrefixSpec(spec *ipam.PrefixSpec, name string, fldPath *field.Path) field.ErrorList {
	allErrs := validateRequest(spec.IPFamily, spec.Prefix, spec.IsRoot() || spec.ParentRef != nil, fldPath)

	if spec.IsRoot() {
		if spec.PrefixLength != 0 {
			allErrs = append(allErrs, field.Forbidden(fldPath.Child("prefixLength"), "a root Prefix (without parentRef and parentSelector) brings its prefix along"))
		}
		if spec.Prefix == "" {
			allErrs = append(allErrs, field.Required(fldPath.Child("prefix"), "a root Prefix (without parentRef and parentSelector) needs one"))
		}
		return allErrs
	}

	lengthPath := fldPath.Child("prefixLength")
	prefix, err := cidr.Parse(spec.Prefix)
	switch {
	case spec.Prefix == "" && spec.PrefixLength == 0:
		allErrs = append(allErrs, field.Required(lengthPath, "a child Prefix needs prefix or prefixLength"))
	case err != nil || spec.PrefixLength == 0:
		allErrs = append(allErrs, validateLength(spec.PrefixLength, spec.IPFamily, lengthPath)...)
	case int(spec.PrefixLength) != prefix.Bits():
		allErrs = append(allErrs, field.Invalid(lengthPath, spec.PrefixLength, fmt.Sprintf("must agree with prefix %s", prefix)))
	}
	allErrs = append(allErrs, validateReference(spec.ParentRef, name, fldPath.Child("parentRef"))...)
	allErrs = append(allErrs, validateSelector(spec.ParentSelector, fldPath.Child("parentSelector"))...)
	return allErrs
}

// ValidatePrefixUpdate checks a Prefix that is updated. The spec is set-once.
func ValidatePrefixUpdate(newPrefix, oldPrefix *ipam.Prefix) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMetaUpdate(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta, field.NewPath("metadata"))
	if immutable := validatePrefixSpecUpdate(&newPrefix.Spec, &oldPrefix.Spec, field.NewPath("spec")); len(immutable) > 0 {
		// What a forbidden change breaks besides is of no interest.
		return append(allErrs, immutable...)
	}
	if apiequality.Semantic.DeepEqual(newPrefix.Spec, oldPrefix.Spec) {
		// What another server of the group has let pass may be wrong here, but has to be able to go:
		// taking a finalizer off is an update.
		return allErrs
	}
	return append(allErrs, ValidatePrefixSpec(&newPrefix.Spec, newPrefix.Name, field.NewPath("spec"))...)
}

func validatePrefixSpecUpdate(newSpec, oldSpec *ipam.PrefixSpec, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	allErrs = append(allErrs, setOnce(newSpec.IPFamily, oldSpec.IPFamily, fldPath.Child("ipFamily"))...)
	allErrs = append(allErrs, setOnce(newSpec.Prefix, oldSpec.Prefix, fldPath.Child("prefix"))...)
	allErrs = append(allErrs, setOnce(newSpec.PrefixLength, oldSpec.PrefixLength, fldPath.Child("prefixLength"))...)
	if oldSpec.IsRoot() && newSpec.ParentRef != nil {
		allErrs = append(allErrs, field.Forbidden(fldPath.Child("parentRef"), "a root Prefix cannot become a child"))
	} else {
		allErrs = append(allErrs, setOnceReference(newSpec.ParentRef, oldSpec.ParentRef, fldPath.Child("parentRef"))...)
	}
	allErrs = append(allErrs, apivalidation.ValidateImmutableField(newSpec.ParentSelector, oldSpec.ParentSelector, fldPath.Child("parentSelector"))...)
	return allErrs
}

// ValidatePrefixStatusUpdate checks a Prefix whose status is updated. Phase Allocated is final, and
// needs a prefix and, on a child, a parent.
func ValidatePrefixStatusUpdate(newPrefix, oldPrefix *ipam.Prefix) field.ErrorList {
	fldPath := field.NewPath("status")
	newStatus, oldStatus := &newPrefix.Status, &oldPrefix.Status

	allErrs := apivalidation.ValidateObjectMetaUpdate(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta, field.NewPath("metadata"))
	if oldStatus.Phase == ipam.PrefixPhaseAllocated && newStatus.Phase != ipam.PrefixPhaseAllocated {
		return append(allErrs, field.Forbidden(fldPath.Child("phase"), "phase Allocated is final"))
	}
	return append(allErrs, validatePrefixStatus(newPrefix, fldPath)...)
}

func validatePrefixStatus(prefix *ipam.Prefix, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	status := &prefix.Status

	switch status.Phase {
	case ipam.PrefixPhasePending:
		if len(status.Used) > 0 {
			allErrs = append(allErrs, field.Forbidden(fldPath.Child("used"), "nothing can be allocated from a Prefix that is Pending"))
		}
	case ipam.PrefixPhaseAllocated:
		if prefix.Spec.Prefix == "" {
			allErrs = append(allErrs, field.Invalid(fldPath.Child("phase"), status.Phase, "cannot be Allocated without spec.prefix"))
		}
		if !prefix.Spec.IsRoot() && prefix.Spec.ParentRef == nil {
			allErrs = append(allErrs, field.Invalid(fldPath.Child("phase"), status.Phase, "a child cannot be Allocated without spec.parentRef"))
		}
		allErrs = append(allErrs, validateUsed(status.Used, prefix.Spec.Prefix, fldPath.Child("used"))...)
	default:
		allErrs = append(allErrs, field.NotSupported(fldPath.Child("phase"), status.Phase,
			[]ipam.PrefixPhase{ipam.PrefixPhasePending, ipam.PrefixPhaseAllocated}))
	}

	if usage := status.Usage; usage != nil && (usage.Percent < 0 || usage.Percent > 100) {
		allErrs = append(allErrs, field.Invalid(fldPath.Child("usage", "percent"), usage.Percent, "must be between 0 and 100"))
	}
	if usage := status.Usage; usage != nil && usage.Allocations < 0 {
		allErrs = append(allErrs, field.Invalid(fldPath.Child("usage", "allocations"), usage.Allocations, "must not be negative"))
	}
	return append(allErrs, validateConditions(status.Conditions, fldPath.Child("conditions"))...)
}

// validateUsed checks that the prefixes lie inside the parent and do not overlap.
func validateUsed(used []string, parent string, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if len(used) > MaxUsed {
		return append(allErrs, field.TooMany(fldPath, len(used), MaxUsed))
	}
	parentPrefix, err := cidr.Parse(parent)
	if err != nil {
		return nil
	}

	type indexed struct {
		netip.Prefix
		index int
	}
	prefixes := make([]indexed, 0, len(used))
	for i, s := range used {
		prefix, errs := validatePrefixString(s, familyOf(parentPrefix), fldPath.Index(i))
		switch {
		case len(errs) > 0:
			allErrs = append(allErrs, errs...)
		case prefix.Bits() < parentPrefix.Bits() || !parentPrefix.Contains(prefix.Addr()):
			allErrs = append(allErrs, field.Invalid(fldPath.Index(i), s, fmt.Sprintf("must be inside %s", parentPrefix)))
		default:
			prefixes = append(prefixes, indexed{prefix, i})
		}
	}
	// Sorted by address, larger first, prefixes follow the one that they lie in.
	slices.SortFunc(prefixes, func(a, b indexed) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()), cmp.Compare(a.index, b.index))
	})
	var outer netip.Prefix
	for _, prefix := range prefixes {
		if !outer.Overlaps(prefix.Prefix) {
			outer = prefix.Prefix
			continue
		}
		allErrs = append(allErrs, field.Invalid(fldPath.Index(prefix.index), used[prefix.index], fmt.Sprintf("overlaps %s", outer)))
	}
	return allErrs
}

// CheckBindingMeta tells why a binding is not for the object of that namespace and name.
func CheckBindingMeta(meta ipam.BindingMeta, namespace, name string) error {
	if meta.Name != "" && meta.Name != name {
		return fmt.Errorf("the binding names %q, but was posted to %q", meta.Name, name)
	}
	if meta.Namespace != "" && meta.Namespace != namespace {
		return fmt.Errorf("the binding names the namespace %q, but was posted to %q", meta.Namespace, namespace)
	}
	return nil
}

// ValidatePrefixBinding checks the binding of the Prefix of the given name.
func ValidatePrefixBinding(binding *ipam.PrefixBinding, name string) field.ErrorList {
	_, allErrs := validatePrefixString(binding.Prefix, "", field.NewPath("prefix"))
	return append(allErrs, validatePrefixName(binding.ParentRef.Name, name, field.NewPath("parentRef", "name"))...)
}
