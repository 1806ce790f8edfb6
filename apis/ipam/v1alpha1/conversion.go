// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/runtime"
)

// Field labels that field selectors of lists and watches can use.
const (
	// FieldIPFamily is spec.ipFamily of Prefixes and PrefixAllocations.
	FieldIPFamily = "spec.ipFamily"
	// FieldPrefix is spec.prefix of Prefixes and PrefixAllocations. All notations of a range are equal.
	FieldPrefix = "spec.prefix"
	// FieldParentRefName is spec.parentRef.name of a Prefix.
	FieldParentRefName = "spec.parentRef.name"
	// FieldPrefixRefName is spec.prefixRef.name of a PrefixAllocation.
	FieldPrefixRefName = "spec.prefixRef.name"
	// FieldPhase is status.phase of Prefixes and PrefixAllocations.
	FieldPhase = "status.phase"
	// FieldAllocatedPrefix is status.prefix of a PrefixAllocation. All notations of a range are equal.
	FieldAllocatedPrefix = "status.prefix"
	// FieldCoolingUntil is status.coolingUntil of a PrefixAllocation. It is empty unless the space cools down.
	FieldCoolingUntil = "status.coolingUntil"
)

func addFieldLabelConversionFuncs(scheme *runtime.Scheme) error {
	for kind, fields := range map[string][]string{
		PrefixKind:           {FieldIPFamily, FieldPrefix, FieldParentRefName, FieldPhase},
		PrefixAllocationKind: {FieldIPFamily, FieldPrefix, FieldPrefixRefName, FieldPhase, FieldAllocatedPrefix, FieldCoolingUntil},
		PrefixPolicyKind:     {},
	} {
		known := map[string]bool{"metadata.name": true, "metadata.namespace": true}
		for _, field := range fields {
			known[field] = true
		}
		err := scheme.AddFieldLabelConversionFunc(SchemeGroupVersion.WithKind(kind), func(label, value string) (string, string, error) {
			if !known[label] {
				return "", "", fmt.Errorf("field label not supported for %s: %s", kind, label)
			}
			if label == FieldPrefix || label == FieldAllocatedPrefix {
				value = cidr.Canonical(value)
			}
			return label, value, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
