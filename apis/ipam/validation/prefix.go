// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxUsed is the maximum number of entries in status.used of a Prefix.
const MaxUsed = 1000

// ValidatePrefix validates a new Prefix.
func ValidatePrefix(prefix *ipam.Prefix) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMeta(&prefix.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	allErrs = append(allErrs, validateMetadataLimits(&prefix.ObjectMeta, &metav1.ObjectMeta{}, field.NewPath("metadata"))...)
	return append(allErrs, ValidatePrefixSpec(&prefix.Spec, selfOf(prefix), field.NewPath("spec"))...)
}

// selfOf returns the name that a Prefix has in the namespace of its parent, or "" if that is another namespace.
func selfOf(prefix *ipam.Prefix) string {
	if prefix.NamespaceOfParent() != prefix.Namespace {
		return ""
	}
	return prefix.Name
}

// ValidatePrefixSpec validates the spec of a new Prefix. self is the name of the Prefix, or empty if it is not
// known or the parent is in another namespace.
func ValidatePrefixSpec(spec *ipam.PrefixSpec, self string, fldPath *field.Path) field.ErrorList {
	allErrs := validateAsk(askOfPrefix(spec), ask{}, cidr.Parse, fldPath)
	if spec.IsRoot() {
		if spec.PrefixLength != 0 {
			allErrs = append(allErrs, forbidRootLength(fldPath))
		}
		if spec.Prefix == "" {
			allErrs = append(allErrs, field.Required(fldPath.Child("prefix"), "must be set on a root Prefix (without parentRef and parentSelector)"))
		}
		if spec.ParentNamespace != "" {
			allErrs = append(allErrs, field.Forbidden(fldPath.Child("parentNamespace"), "must not be set on a root Prefix (without parentRef and parentSelector)"))
		}
		return allErrs
	}
	if spec.Prefix == "" && spec.PrefixLength == 0 {
		allErrs = append(allErrs, field.Required(fldPath.Child("prefixLength"), "a child Prefix needs prefix or prefixLength, since no PrefixPolicy of the parent has a default length"))
	}
	if spec.IPFamily == "" && spec.Prefix == "" && spec.ParentRef == nil {
		allErrs = append(allErrs, requireFamily(fldPath, "parentRef"))
	}
	allErrs = append(allErrs, validateReference(spec.ParentRef, self, fldPath.Child("parentRef"))...)
	allErrs = append(allErrs, validateNamespace(spec.ParentNamespace, fldPath.Child("parentNamespace"))...)
	return append(allErrs, validateSelector(spec.ParentSelector, fldPath.Child("parentSelector"))...)
}

// askOfPrefix returns the request of a Prefix. Its length is 0 for a root.
func askOfPrefix(spec *ipam.PrefixSpec) ask {
	if spec.IsRoot() {
		return ask{spec.IPFamily, spec.Prefix, 0}
	}
	return ask{spec.IPFamily, spec.Prefix, spec.PrefixLength}
}

func forbidRootLength(fldPath *field.Path) *field.Error {
	return field.Forbidden(fldPath.Child("prefixLength"), "must not be set on a root Prefix (without parentRef and parentSelector)")
}

func requireFamily(fldPath *field.Path, reference string) *field.Error {
	return field.Required(fldPath.Child("ipFamily"), fmt.Sprintf("must be set if neither prefix nor %s is", reference))
}

// ValidatePrefixUpdate validates an update of a Prefix. Fields of the spec can be set once. Stored values are
// always valid.
func ValidatePrefixUpdate(newPrefix, oldPrefix *ipam.Prefix) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMetaUpdate(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta, field.NewPath("metadata"))
	allErrs = append(allErrs, validateMetadataLimits(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta, field.NewPath("metadata"))...)
	fldPath := field.NewPath("spec")
	if err := validateNotDeleting(&oldPrefix.ObjectMeta, newPrefix.Spec, oldPrefix.Spec, ipam.PrefixKind, fldPath); err != nil {
		return append(allErrs, err)
	}
	immutable := validatePrefixSpecUpdate(&newPrefix.Spec, &oldPrefix.Spec, fldPath)
	if newPrefix.NamespaceOfParent() != oldPrefix.NamespaceOfParent() {
		immutable = append(immutable, changedNamespace(newPrefix.Spec.ParentNamespace, oldPrefix.NamespaceOfParent(), fldPath.Child("parentNamespace")))
	}
	if len(immutable) > 0 {
		// Other errors in a change that is forbidden anyway are of no interest.
		return append(allErrs, immutable...)
	}
	parse := cidr.Parse
	if newPrefix.Status.Phase == ipam.PrefixPhaseAllocated && oldPrefix.Status.Phase != ipam.PrefixPhaseAllocated {
		// The binding itself has been validated. It may have taken over a prefix that is stored in another
		// notation.
		parse = cidr.ParseStored
	}
	if newPrefix.Spec.IsRoot() && newPrefix.Spec.PrefixLength != oldPrefix.Spec.PrefixLength {
		allErrs = append(allErrs, forbidRootLength(fldPath))
	}
	allErrs = append(allErrs, validateAsk(askOfPrefix(&newPrefix.Spec), askOfPrefix(&oldPrefix.Spec), parse, fldPath)...)
	return append(allErrs, validateReferenceUpdate(newPrefix.Spec.ParentRef, oldPrefix.Spec.ParentRef, selfOf(newPrefix), fldPath.Child("parentRef"))...)
}

func validatePrefixSpecUpdate(newSpec, oldSpec *ipam.PrefixSpec, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	allErrs = append(allErrs, setOnce(newSpec.IPFamily, oldSpec.IPFamily, fldPath.Child("ipFamily"))...)
	allErrs = append(allErrs, setOncePrefix(newSpec.Prefix, oldSpec.Prefix, fldPath.Child("prefix"))...)
	allErrs = append(allErrs, setOnce(newSpec.PrefixLength, oldSpec.PrefixLength, fldPath.Child("prefixLength"))...)
	if oldSpec.IsRoot() && newSpec.ParentRef != nil {
		allErrs = append(allErrs, field.Forbidden(fldPath.Child("parentRef"), "a root Prefix cannot become a child"))
	} else {
		allErrs = append(allErrs, setOnceReference(newSpec.ParentRef, oldSpec.ParentRef, fldPath.Child("parentRef"))...)
	}
	return append(allErrs, apivalidation.ValidateImmutableField(newSpec.ParentSelector, oldSpec.ParentSelector, fldPath.Child("parentSelector"))...)
}

// ValidatePrefixStatusUpdate validates an update of the status of a Prefix. The phase Allocated is final. It
// requires a prefix and, on a child, a parent. Stored values are always valid.
func ValidatePrefixStatusUpdate(newPrefix, oldPrefix *ipam.Prefix) field.ErrorList {
	fldPath := field.NewPath("status")
	newStatus, oldStatus := &newPrefix.Status, &oldPrefix.Status

	allErrs := apivalidation.ValidateObjectMetaUpdate(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta, field.NewPath("metadata"))
	phasePath, usedPath := fldPath.Child("phase"), fldPath.Child("used")
	switch {
	case newStatus.Phase == oldStatus.Phase:
	case oldStatus.Phase == ipam.PrefixPhaseAllocated:
		return append(allErrs, field.Forbidden(phasePath, "phase Allocated is final"))
	case newStatus.Phase == ipam.PrefixPhaseAllocated:
		if newPrefix.Spec.Prefix == "" {
			allErrs = append(allErrs, field.Invalid(phasePath, newStatus.Phase, "cannot be Allocated without spec.prefix"))
		}
		if !newPrefix.Spec.IsRoot() && newPrefix.Spec.ParentRef == nil {
			allErrs = append(allErrs, field.Invalid(phasePath, newStatus.Phase, "a child cannot be Allocated without spec.parentRef"))
		}
	case newStatus.Phase != ipam.PrefixPhasePending:
		allErrs = append(allErrs, field.NotSupported(phasePath, newStatus.Phase,
			[]ipam.PrefixPhase{ipam.PrefixPhasePending, ipam.PrefixPhaseAllocated}))
	}

	switch {
	case slices.Equal(newStatus.Used, oldStatus.Used):
	case newStatus.Phase == ipam.PrefixPhaseAllocated:
		allErrs = append(allErrs, validateUsed(newStatus.Used, oldStatus.Used, newPrefix.Spec.Prefix, usedPath)...)
	case len(newStatus.Used) > 0:
		allErrs = append(allErrs, field.Forbidden(usedPath, fmt.Sprintf("nothing can be allocated from a Prefix that is %s", newStatus.Phase)))
	}

	if newStatus.Usage != nil {
		allErrs = append(allErrs, validateUsage(newStatus.Usage, oldStatus.Usage, fldPath.Child("usage"))...)
	}
	return append(allErrs, validateConditions(newStatus.Conditions, oldStatus.Conditions, fldPath.Child("conditions"))...)
}

var (
	// amount matches a number of addresses. IPv6 has 2^128, which is a number of 39 digits.
	amount = regexp.MustCompile(`^(0|[1-9][0-9]{0,38})$`)
	// length matches a prefix length.
	length = regexp.MustCompile(`^/(0|[1-9][0-9]{0,2})$`)
)

// maxBadValue is how many bytes of a bad number an error repeats.
const maxBadValue = 64

// validateUsage checks that readers can compute with the numbers. Strings that are stored already are valid. stored is nil
// if there is none.
func validateUsage(usage, stored *ipam.PrefixUsage, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if usage.Percent < 0 || usage.Percent > 100 {
		allErrs = append(allErrs, field.Invalid(fldPath.Child("percent"), usage.Percent, "must be between 0 and 100"))
	}
	if usage.Allocations < 0 {
		allErrs = append(allErrs, field.Invalid(fldPath.Child("allocations"), usage.Allocations, "must not be negative"))
	}
	if stored == nil {
		stored = &ipam.PrefixUsage{}
	}
	for _, text := range []struct {
		name, value, stored string
		format              *regexp.Regexp
		detail              string
	}{
		{"total", usage.Total, stored.Total, amount, "must be a decimal number of addresses"},
		{"used", usage.Used, stored.Used, amount, "must be a decimal number of addresses"},
		{"free", usage.Free, stored.Free, amount, "must be a decimal number of addresses"},
		{"reserved", usage.Reserved, stored.Reserved, amount, "must be a decimal number of addresses"},
		{"cooling", usage.Cooling, stored.Cooling, amount, "must be a decimal number of addresses"},
		{"largestFree", usage.LargestFree, stored.LargestFree, length, "must be a prefix length, such as /26"},
	} {
		if text.value != "" && text.value != text.stored && !text.format.MatchString(text.value) {
			allErrs = append(allErrs, field.Invalid(fldPath.Child(text.name), text.value[:min(len(text.value), maxBadValue)], text.detail))
		}
	}
	return allErrs
}

// validateUsed checks that new prefixes lie inside the parent and overlap no other prefix in the list.
func validateUsed(used, stored []string, parent string, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if len(used) > MaxUsed && len(used) > len(stored) {
		return append(allErrs, field.TooMany(fldPath, len(used), MaxUsed))
	}
	parentPrefix, err := cidr.ParseStored(parent)
	if err != nil {
		return nil
	}

	type entry struct {
		netip.Prefix
		index int
		isNew bool
	}
	known := sets.New(stored...)
	prefixes := make([]entry, 0, len(used))
	for i, s := range used {
		if known.Has(s) {
			if prefix, err := cidr.ParseStored(s); err == nil {
				prefixes = append(prefixes, entry{prefix, i, false})
			}
			continue
		}
		prefix, errs := validatePrefixString(s, ipam.IPFamily(cidr.FamilyOf(parentPrefix)), fldPath.Index(i))
		switch {
		case len(errs) > 0:
			allErrs = append(allErrs, errs...)
		case prefix != parentPrefix && !cidr.StrictlyInside(prefix, parentPrefix):
			allErrs = append(allErrs, invalidPrefix(fldPath.Index(i), s, fmt.Sprintf("must be inside %s", parentPrefix)))
		default:
			prefixes = append(prefixes, entry{prefix, i, true})
		}
	}
	// Sort by address, larger prefixes first. Then each prefix follows the prefix that contains it.
	slices.SortFunc(prefixes, func(a, b entry) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()), cmp.Compare(a.index, b.index))
	})
	var outer entry
	for _, prefix := range prefixes {
		switch {
		case !outer.Overlaps(prefix.Prefix):
			outer = prefix
		case prefix.isNew || outer.isNew:
			allErrs = append(allErrs, invalidPrefix(fldPath.Index(prefix.index), used[prefix.index], fmt.Sprintf("overlaps %s", outer.Prefix)))
		}
	}
	return allErrs
}

// CheckBindingMeta returns an error if a binding is not for the object with that namespace and name.
func CheckBindingMeta(meta ipam.BindingMeta, namespace, name string) error {
	if meta.Name != "" && meta.Name != name {
		return fmt.Errorf("the binding names %q, but was posted to %q", meta.Name, name)
	}
	if meta.Namespace != "" && meta.Namespace != namespace {
		return fmt.Errorf("the binding names the namespace %q, but was posted to %q", meta.Namespace, namespace)
	}
	return nil
}

// ValidatePrefixBinding validates a binding of the Prefix with the given name.
func ValidatePrefixBinding(binding *ipam.PrefixBinding, name string) field.ErrorList {
	_, allErrs := validatePrefixString(binding.Prefix, "", field.NewPath("prefix"))
	if binding.ParentRef.Namespace != "" {
		// The parent may have the same name in another namespace.
		name = ""
	}
	allErrs = append(allErrs, validateNamespace(binding.ParentRef.Namespace, field.NewPath("parentRef", "namespace"))...)
	return append(allErrs, validatePrefixName(binding.ParentRef.Name, name, field.NewPath("parentRef", "name"))...)
}
