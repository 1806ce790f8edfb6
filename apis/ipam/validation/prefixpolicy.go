// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of a PrefixPolicy. Controllers keep the reserved space in memory.
const (
	// MaxReservations is the greatest number of entries of spec.reserved.
	MaxReservations = 10_000
	// MaxReservedCIDRs is the greatest number of CIDRs that all entries of spec.reserved need together. A range that
	// is no CIDR needs up to 254.
	MaxReservedCIDRs = 20_000
	// MaxReservationReason is the greatest length of the reason of a reservation, in bytes.
	MaxReservationReason = 256
	// MaxCoolDown is the longest coolDown: a year.
	MaxCoolDown = 8760 * time.Hour
	// MaxSharedNamespaces is the greatest number of entries of spec.sharedWith.namespaces.
	MaxSharedNamespaces = 1000
)

// ValidatePrefixPolicy checks a PrefixPolicy that is created.
func ValidatePrefixPolicy(policy *ipam.PrefixPolicy) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMeta(&policy.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	allErrs = append(allErrs, validateMetadataLimits(&policy.ObjectMeta, &metav1.ObjectMeta{}, field.NewPath("metadata"))...)
	return append(allErrs, ValidatePrefixPolicySpec(&policy.Spec, field.NewPath("spec"))...)
}

// ValidatePrefixPolicyUpdate checks a PrefixPolicy that is updated. All of its spec may change.
func ValidatePrefixPolicyUpdate(newPolicy, oldPolicy *ipam.PrefixPolicy) field.ErrorList {
	allErrs := apivalidation.ValidateObjectMetaUpdate(&newPolicy.ObjectMeta, &oldPolicy.ObjectMeta, field.NewPath("metadata"))
	allErrs = append(allErrs, validateMetadataLimits(&newPolicy.ObjectMeta, &oldPolicy.ObjectMeta, field.NewPath("metadata"))...)
	return append(allErrs, ValidatePrefixPolicySpec(&newPolicy.Spec, field.NewPath("spec"))...)
}

// ValidatePrefixPolicyStatusUpdate checks a PrefixPolicy whose status is updated.
func ValidatePrefixPolicyStatusUpdate(newPolicy, oldPolicy *ipam.PrefixPolicy) field.ErrorList {
	fldPath := field.NewPath("status")
	allErrs := apivalidation.ValidateObjectMetaUpdate(&newPolicy.ObjectMeta, &oldPolicy.ObjectMeta, field.NewPath("metadata"))
	if newPolicy.Status.Prefixes < 0 {
		allErrs = append(allErrs, field.Invalid(fldPath.Child("prefixes"), newPolicy.Status.Prefixes, "must not be negative"))
	}
	return append(allErrs, validateConditions(newPolicy.Status.Conditions, oldPolicy.Status.Conditions, fldPath.Child("conditions"))...)
}

// ValidatePrefixPolicySpec checks the rules of a PrefixPolicy.
func ValidatePrefixPolicySpec(spec *ipam.PrefixPolicySpec, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if spec.PrefixSelector == nil {
		allErrs = append(allErrs, field.Required(fldPath.Child("prefixSelector"), "must select Prefixes; {} selects all of the namespace"))
	}
	allErrs = append(allErrs, validateSelector(spec.PrefixSelector, fldPath.Child("prefixSelector"))...)
	allErrs = append(allErrs, validateReserved(spec.Reserved, fldPath.Child("reserved"))...)
	if spec.ChildLengths != nil {
		allErrs = append(allErrs, validateChildLengths(spec.ChildLengths, fldPath.Child("childLengths"))...)
	}
	if d := spec.CoolDown; d != nil && (d.Duration < 0 || d.Duration > MaxCoolDown) {
		allErrs = append(allErrs, field.Invalid(fldPath.Child("coolDown"), d.Duration.String(), fmt.Sprintf("must be from 0s to %s", MaxCoolDown)))
	}
	switch spec.Strategy {
	case "", ipam.PrefixStrategyPack, ipam.PrefixStrategySpread, ipam.PrefixStrategyRandom:
	default:
		allErrs = append(allErrs, field.NotSupported(fldPath.Child("strategy"), spec.Strategy,
			[]ipam.PrefixStrategy{ipam.PrefixStrategyPack, ipam.PrefixStrategySpread, ipam.PrefixStrategyRandom}))
	}
	if spec.SharedWith != nil {
		allErrs = append(allErrs, validateSharing(spec.SharedWith, fldPath.Child("sharedWith"))...)
	}
	return allErrs
}

func validateSharing(sharing *ipam.PrefixSharing, fldPath *field.Path) field.ErrorList {
	if len(sharing.Namespaces) > MaxSharedNamespaces {
		return field.ErrorList{field.TooMany(fldPath.Child("namespaces"), len(sharing.Namespaces), MaxSharedNamespaces)}
	}
	var allErrs field.ErrorList
	set := 0
	for _, is := range []bool{len(sharing.Namespaces) > 0, sharing.NamespaceSelector != nil, sharing.All} {
		if is {
			set++
		}
	}
	switch {
	case set == 0:
		allErrs = append(allErrs, field.Required(fldPath, "must have namespaces, namespaceSelector or all: true"))
	case set > 1:
		allErrs = append(allErrs, field.Forbidden(fldPath, "must have only one of namespaces, namespaceSelector and all"))
	}
	known := sets.New[string]()
	for i, name := range sharing.Namespaces {
		path := fldPath.Child("namespaces").Index(i)
		if name == "" {
			allErrs = append(allErrs, field.Required(path, "must name a namespace"))
		}
		allErrs = append(allErrs, validateNamespace(name, path)...)
		if name != "" && known.Has(name) {
			allErrs = append(allErrs, field.Duplicate(path, name))
		}
		known.Insert(name)
	}
	return append(allErrs, validateSelector(sharing.NamespaceSelector, fldPath.Child("namespaceSelector"))...)
}

func validateChildLengths(lengths *ipam.PrefixChildLengths, fldPath *field.Path) field.ErrorList {
	allErrs := validateLength(lengths.Min, "", fldPath.Child("min"))
	allErrs = append(allErrs, validateLength(lengths.Max, "", fldPath.Child("max"))...)
	allErrs = append(allErrs, validateLength(lengths.Default, "", fldPath.Child("default"))...)
	allowed := cidr.Lengths{Min: int(lengths.Min), Max: int(lengths.Max)}
	switch {
	case len(allErrs) > 0:
	case *lengths == ipam.PrefixChildLengths{}:
		allErrs = append(allErrs, field.Required(fldPath, "must have min, max or default"))
	case lengths.Max != 0 && lengths.Max < lengths.Min:
		allErrs = append(allErrs, field.Invalid(fldPath.Child("max"), lengths.Max, fmt.Sprintf("must not be less than min, %d", lengths.Min)))
	case lengths.Default != 0 && !allowed.Allow(int(lengths.Default)):
		allErrs = append(allErrs, field.Invalid(fldPath.Child("default"), lengths.Default, fmt.Sprintf("must be allowed: %s may be allocated", allowed)))
	}
	return allErrs
}

func validateReserved(reserved []ipam.PrefixReservation, fldPath *field.Path) field.ErrorList {
	if len(reserved) > MaxReservations {
		// There may be very many mistakes in it.
		return field.ErrorList{field.TooMany(fldPath, len(reserved), MaxReservations)}
	}
	var allErrs field.ErrorList
	cidrs := 0
	for i := range reserved {
		r, path := &reserved[i], fldPath.Index(i)
		if len(r.Reason) > MaxReservationReason {
			allErrs = append(allErrs, field.TooLong(path.Child("reason"), "", MaxReservationReason))
		}
		isRange := r.From != "" || r.To != ""
		switch {
		case r.CIDR == "" && !isRange && !r.Edges:
			allErrs = append(allErrs, field.Required(path, "must have cidr, from and to, or edges: true"))
		case r.CIDR != "" && isRange, r.CIDR != "" && r.Edges, isRange && r.Edges:
			allErrs = append(allErrs, field.Forbidden(path, "must have only one of cidr, from and to, and edges"))
		case r.CIDR != "":
			_, errs := validatePrefixString(r.CIDR, "", path.Child("cidr"))
			allErrs = append(allErrs, errs...)
			cidrs++
		case isRange:
			first, last, errs := validateRange(r.From, r.To, path)
			if allErrs = append(allErrs, errs...); len(errs) > 0 {
				continue
			}
			for range cidr.Cover(first, last) {
				if cidrs++; cidrs > MaxReservedCIDRs {
					break
				}
			}
		}
		if cidrs > MaxReservedCIDRs {
			return append(allErrs, field.Forbidden(fldPath, fmt.Sprintf("needs more than %d CIDRs; use ranges that are CIDRs, or fewer", MaxReservedCIDRs)))
		}
	}
	return allErrs
}

// validateRange parses the first and the last address of a range.
func validateRange(from, to string, fldPath *field.Path) (first, last netip.Addr, allErrs field.ErrorList) {
	parse := func(s, name, other string) netip.Addr {
		if s == "" {
			allErrs = append(allErrs, field.Required(fldPath.Child(name), fmt.Sprintf("must be set together with %s", other)))
			return netip.Addr{}
		}
		addr, err := cidr.ParseAddr(s)
		if err != nil {
			allErrs = append(allErrs, invalidPrefix(fldPath.Child(name), s, err.Error()))
		}
		return addr
	}
	first, last = parse(from, "from", "to"), parse(to, "to", "from")
	switch {
	case len(allErrs) > 0:
	case first.BitLen() != last.BitLen():
		allErrs = append(allErrs, field.Invalid(fldPath.Child("to"), to, fmt.Sprintf("must be of the same IP family as from, %s", from)))
	case last.Less(first):
		allErrs = append(allErrs, field.Invalid(fldPath.Child("to"), to, fmt.Sprintf("must not be before from, %s", from)))
	}
	return first, last, allErrs
}
