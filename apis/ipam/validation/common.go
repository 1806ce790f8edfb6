// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package validation validates the kinds of the API group. Its functions work on hub types and report each error
// once, with the path of its field.
package validation

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// addressBits returns the number of bits of an address. If the family is unset, it returns 128.
func addressBits(family ipam.IPFamily) int32 {
	if family == ipam.IPv4 {
		return 32
	}
	return 128
}

// validateFamily checks that a family is IPv4, IPv6 or unset.
func validateFamily(family ipam.IPFamily, fldPath *field.Path) field.ErrorList {
	if family != "" && family != ipam.IPv4 && family != ipam.IPv6 {
		return field.ErrorList{field.NotSupported(fldPath, family, []ipam.IPFamily{ipam.IPv4, ipam.IPv6})}
	}
	return nil
}

// ask has the fields that the requests of a Prefix and of a PrefixAllocation have in common.
type ask struct {
	family ipam.IPFamily
	prefix string
	length int32
}

// validateAsk checks the fields of a request that differ from the stored ones. For an object that is created, old
// is empty. Stored values are always valid, because another server of this API group may have accepted other
// notations. parse parses a prefix that is set.
func validateAsk(new, old ask, parse func(string) (netip.Prefix, error), fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	familyPath, prefixPath, lengthPath := fldPath.Child("ipFamily"), fldPath.Child("prefix"), fldPath.Child("prefixLength")
	newFamily, newPrefix, newLength := new.family != old.family, new.prefix != "" && new.prefix != old.prefix, new.length != old.length

	family, known := new.family, new.prefix != ""
	if newFamily {
		if errs := validateFamily(family, familyPath); len(errs) > 0 {
			// Without a valid family, do not compare the prefix with it.
			allErrs, family = append(allErrs, errs...), ""
		}
	}
	if newPrefix {
		if _, err := parse(new.prefix); err != nil {
			allErrs, known = append(allErrs, invalidPrefix(prefixPath, new.prefix, err.Error())), false
		}
	}
	if known && family != "" && (newFamily || newPrefix) && !cidr.HasFamily(new.prefix, string(family)) {
		allErrs = append(allErrs, invalidPrefix(prefixPath, new.prefix, fmt.Sprintf("must be an %s prefix", family)))
	}
	switch {
	case new.length == 0 || !newLength && !newPrefix && !newFamily:
	case known && !cidr.HasLength(new.prefix, int(new.length)):
		allErrs = append(allErrs, field.Invalid(lengthPath, new.length, fmt.Sprintf("must agree with prefix %s", new.prefix)))
	case !known:
		allErrs = append(allErrs, validateLength(new.length, new.family, lengthPath)...)
	}
	return allErrs
}

// validateLength checks the length of a prefix of the given family. An unset length is valid.
func validateLength(length int32, family ipam.IPFamily, fldPath *field.Path) field.ErrorList {
	if bits := addressBits(family); length != 0 && (length < 1 || length > bits) {
		return field.ErrorList{field.Invalid(fldPath, length, fmt.Sprintf("must be between 1 and %d", bits))}
	}
	return nil
}

// validatePrefixString parses a prefix of the given family, or of any family if it is unset.
func validatePrefixString(s string, family ipam.IPFamily, fldPath *field.Path) (netip.Prefix, field.ErrorList) {
	prefix, err := cidr.Parse(s)
	if err != nil {
		return netip.Prefix{}, field.ErrorList{invalidPrefix(fldPath, s, err.Error())}
	}
	if family != "" && string(family) != cidr.FamilyOf(prefix) {
		return netip.Prefix{}, field.ErrorList{invalidPrefix(fldPath, s, fmt.Sprintf("must be an %s prefix", family))}
	}
	return prefix, nil
}

// maxPrefixShown is the maximum number of bytes of an invalid prefix in an error. All valid prefixes are shorter.
const maxPrefixShown = 64

// maxNameShown is the maximum number of bytes of an invalid name in an error. All valid names are shorter.
const maxNameShown = 253

func invalidName(fldPath *field.Path, s, why string) *field.Error {
	if len(s) > maxNameShown {
		s = s[:maxNameShown] + "..."
	}
	return field.Invalid(fldPath, s, why)
}

func invalidPrefix(fldPath *field.Path, s, why string) *field.Error {
	if len(s) > maxPrefixShown {
		s = s[:maxPrefixShown] + "..."
	}
	return field.Invalid(fldPath, s, why)
}

// validateReference checks a reference to a Prefix. self is the name of the referring object if it is a Prefix of the
// same namespace.
func validateReference(ref *ipam.LocalObjectReference, self string, fldPath *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return validatePrefixName(ref.Name, self, fldPath.Child("name"))
}

func validatePrefixName(name, self string, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	switch {
	case name == "":
		allErrs = append(allErrs, field.Required(fldPath, "must name a Prefix"))
	case name == self:
		allErrs = append(allErrs, field.Invalid(fldPath, name, "must not be the Prefix itself"))
	default:
		for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
			allErrs = append(allErrs, field.Invalid(fldPath, name, msg))
		}
	}
	return allErrs
}

// validateNamespace checks the name of the namespace of a parent, if it is set.
func validateNamespace(name string, fldPath *field.Path) (allErrs field.ErrorList) {
	if name == "" {
		return nil
	}
	for _, msg := range apivalidation.ValidateNamespaceName(name, false) {
		allErrs = append(allErrs, invalidName(fldPath, name, msg))
	}
	return allErrs
}

// changedNamespace returns the error for a namespace of a parent that was changed from old.
func changedNamespace(name, old string, fldPath *field.Path) *field.Error {
	return invalidName(fldPath, name, fmt.Sprintf("field is immutable (it is %s)", old))
}

func validateSelector(selector *metav1.LabelSelector, fldPath *field.Path) field.ErrorList {
	if err := validateSelectorLimits(selector, fldPath); err != nil {
		// A selector that is too large may have very many other errors.
		return field.ErrorList{err}
	}
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, fldPath)
}

// setOnce returns an error if a field was set and has changed.
func setOnce[T comparable](newValue, oldValue T, fldPath *field.Path) field.ErrorList {
	var unset T
	if oldValue == unset || newValue == oldValue {
		return nil
	}
	return field.ErrorList{field.Invalid(fldPath, newValue, fmt.Sprintf("field is immutable once it is set (to %v)", oldValue))}
}

// setOncePrefix is setOnce for a prefix. Another notation of the same range is not a change.
func setOncePrefix(newPrefix, oldPrefix string, fldPath *field.Path) field.ErrorList {
	if oldPrefix == "" || cidr.Equal(newPrefix, oldPrefix) {
		return nil
	}
	return field.ErrorList{invalidPrefix(fldPath, newPrefix, fmt.Sprintf("field is immutable once it is set (to %s)", oldPrefix))}
}

func setOnceReference(newRef, oldRef *ipam.LocalObjectReference, fldPath *field.Path) field.ErrorList {
	if oldRef == nil || newRef != nil && *newRef == *oldRef {
		return nil
	}
	name := ""
	if newRef != nil {
		name = newRef.Name
	}
	return field.ErrorList{field.Invalid(fldPath, name, fmt.Sprintf("field is immutable once it is set (to %s)", oldRef.Name))}
}

// validateReferenceUpdate checks a reference that may have been set by the update.
func validateReferenceUpdate(newRef, oldRef *ipam.LocalObjectReference, self string, fldPath *field.Path) field.ErrorList {
	if oldRef != nil {
		// setOnceReference has checked that it did not change.
		return nil
	}
	return validateReference(newRef, self, fldPath)
}

// validateConditions checks conditions if they differ from the stored ones.
func validateConditions(conditions, stored []metav1.Condition, fldPath *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(conditions, stored) {
		return nil
	}
	return metav1validation.ValidateConditions(conditions, fldPath)
}

// validateNotDeleting rejects a change of the spec of an object that is being deleted, because it would have no
// effect.
func validateNotDeleting(oldMeta *metav1.ObjectMeta, newSpec, oldSpec any, kind string, fldPath *field.Path) *field.Error {
	if oldMeta.DeletionTimestamp == nil || apiequality.Semantic.DeepEqual(newSpec, oldSpec) {
		return nil
	}
	return field.Forbidden(fldPath, fmt.Sprintf("the %s is being deleted (since %s): its spec cannot be changed",
		kind, oldMeta.DeletionTimestamp.UTC().Format(time.RFC3339)))
}
