// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/runtime"
)

func init() {
	// Generated code registers the types. Register the handwritten functions here.
	localSchemeBuilder.Register(addDefaultingFuncs, addFieldLabelConversionFuncs)
}

func addDefaultingFuncs(scheme *runtime.Scheme) error {
	return RegisterDefaults(scheme)
}

// SetDefaults_PrefixSpec derives the family from the prefix.
func SetDefaults_PrefixSpec(spec *PrefixSpec) {
	spec.IPFamily = defaultFamily(spec.IPFamily, spec.Prefix)
}

// SetDefaults_PrefixAllocationSpec derives the family from the prefix.
func SetDefaults_PrefixAllocationSpec(spec *PrefixAllocationSpec) {
	spec.IPFamily = defaultFamily(spec.IPFamily, spec.Prefix)
}

// defaultFamily returns the family of a prefix if family is not set. It returns no family for an invalid prefix,
// because validation reports that with a field path.
func defaultFamily(family IPFamily, prefix string) IPFamily {
	if family != "" {
		return family
	}
	parsed, err := cidr.ParseStored(prefix)
	if err != nil {
		return ""
	}
	return IPFamily(cidr.FamilyOf(parsed))
}
