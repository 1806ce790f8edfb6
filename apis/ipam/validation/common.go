// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package validation holds the rules for the kinds of the API group. They are free functions on
// hub types and report every mistake once, with the path of its field.
package validation

import (
	"fmt"
	"net/netip"
	"reflect"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func familyOf(prefix netip.Prefix) ipam.IPFamily { return ipam.IPFamily(cidr.FamilyOf(prefix)) }

// addressBits returns the number of bits of an address. Of an unset family it is the larger one.
func addressBits(family ipam.IPFamily) int32 {
	if family == ipam.IPv4 {
		return 32
	}
	return 128
}

// validateFamily checks a family. It may be unset where something else tells it.
func validateFamily(family ipam.IPFamily, optional bool, fldPath *field.Path) field.ErrorList {
	switch family {
	case ipam.IPv4, ipam.IPv6:
		return nil
	case "":
		if optional {
			return nil
		}
		return field.ErrorList{field.Required(fldPath, "must be set, since neither the prefix nor a parent by name tells it")}
	default:
		return field.ErrorList{field.NotSupported(fldPath, family, []ipam.IPFamily{ipam.IPv4, ipam.IPv6})}
	}
}

// validateRequest checks what a Prefix and a PrefixAllocation have in common. familyTold means that
// a parent that is named, or a prefix that is required, tells the family where it is unset.
func validateRequest(family ipam.IPFamily, prefix string, familyTold bool, fldPath *field.Path) field.ErrorList {
	// A prefix that is set has told the family by way of the defaults, unless it is malformed.
	allErrs := validateFamily(family, familyTold || prefix != "", fldPath.Child("ipFamily"))
	if len(allErrs) > 0 {
		// No prefix is of a family that does not exist.
		family = ""
	}
	if prefix != "" {
		_, errs := validatePrefixString(prefix, family, fldPath.Child("prefix"))
		allErrs = append(allErrs, errs...)
	}
	return allErrs
}

// validateLength checks the length of a prefix of the given family, unless it is unset.
func validateLength(length int32, family ipam.IPFamily, fldPath *field.Path) field.ErrorList {
	if bits := addressBits(family); length != 0 && (length < 1 || length > bits) {
		return field.ErrorList{field.Invalid(fldPath, length, fmt.Sprintf("must be between 1 and %d", bits))}
	}
	return nil
}

// validatePrefixString parses a prefix of the given family, or of any if the family is unset.
func validatePrefixString(s string, family ipam.IPFamily, fldPath *field.Path) (netip.Prefix, field.ErrorList) {
	prefix, err := cidr.Parse(s)
	if err != nil {
		return netip.Prefix{}, field.ErrorList{field.Invalid(fldPath, s, err.Error())}
	}
	if family != "" && familyOf(prefix) != family {
		return netip.Prefix{}, field.ErrorList{field.Invalid(fldPath, s, fmt.Sprintf("must be an %s prefix", family))}
	}
	return prefix, nil
}

// validateReference checks a reference to a Prefix of the same namespace. self is the name of the
// object that refers, if it is a Prefix too.
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

func validateSelector(selector *metav1.LabelSelector, fldPath *field.Path) field.ErrorList {
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, fldPath)
}

// setOnce reports a field that was set and has been changed.
func setOnce[T comparable](newValue, oldValue T, fldPath *field.Path) field.ErrorList {
	var unset T
	if oldValue == unset || newValue == oldValue {
		return nil
	}
	return field.ErrorList{field.Invalid(fldPath, newValue, fmt.Sprintf("field is immutable once it is set (to %v)", oldValue))}
}

func setOnceReference(newRef, oldRef *ipam.LocalObjectReference, fldPath *field.Path) field.ErrorList {
	if oldRef == nil || reflect.DeepEqual(newRef, oldRef) {
		return nil
	}
	return field.ErrorList{field.Invalid(fldPath, newRef, fmt.Sprintf("field is immutable once it is set (to %s)", oldRef.Name))}
}

func validateConditions(conditions []metav1.Condition, fldPath *field.Path) field.ErrorList {
	return metav1validation.ValidateConditions(conditions, fldPath)
}
