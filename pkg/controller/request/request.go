// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request reads what a PrefixAllocation requests: a specific prefix, or a family and a length. It does not cover
// the choice of the parent.
package request

import (
	"errors"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
)

// Of returns the request in a spec. It fails if the prefix cannot be parsed, or neither prefix nor prefixLength is set.
// The API server rejects such specs.
func Of(spec *v1alpha1.PrefixAllocationSpec) (cidr.Request, error) {
	if spec.Prefix != "" {
		prefix, err := cidr.ParseStored(spec.Prefix)
		if err != nil {
			return cidr.Request{}, err
		}
		return cidr.Exactly(prefix), nil
	}
	if spec.PrefixLength <= 0 {
		return cidr.Request{}, errors.New("neither prefix nor prefixLength is set")
	}
	return cidr.Request{Family: string(spec.IPFamily), Bits: int(spec.PrefixLength)}, nil
}
