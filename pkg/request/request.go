// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request reads what a Prefix or a PrefixAllocation requests: a specific prefix, or a family and a length. It does
// not cover the choice of the parent.
package request

import (
	"errors"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
)

// Of returns the request in the spec of a PrefixAllocation. It fails if the prefix cannot be parsed, or neither prefix nor
// prefixLength is set. The API server rejects such specs.
func Of(spec *v1alpha1.PrefixAllocationSpec) (cidr.Request, error) {
	return of(spec.Prefix, spec.IPFamily, spec.PrefixLength)
}

// OfPrefix is like Of, for the spec of a Prefix.
func OfPrefix(spec *v1alpha1.PrefixSpec) (cidr.Request, error) {
	return of(spec.Prefix, spec.IPFamily, spec.PrefixLength)
}

func of(exact string, family v1alpha1.IPFamily, bits int32) (cidr.Request, error) {
	if exact != "" {
		prefix, err := cidr.ParseStored(exact)
		if err != nil {
			return cidr.Request{}, err
		}
		return cidr.Exactly(prefix), nil
	}
	if bits <= 0 {
		return cidr.Request{}, errors.New("neither prefix nor prefixLength is set")
	}
	return cidr.Request{Family: string(family), Bits: int(bits)}, nil
}
