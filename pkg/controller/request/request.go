// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request parses what a PrefixAllocation requests: a specific prefix, or a family and a length. It does not
// cover the choice of the parent.
package request

import (
	"fmt"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
)

// Request is a request for one specific prefix, or for any prefix of a length.
type Request struct {
	// Family is the requested IP family. If it is empty, any family of a parent is accepted.
	Family v1alpha1.IPFamily
	// Prefix is the requested prefix. It is not valid if any prefix of the length is accepted.
	Prefix netip.Prefix
	// Bits is the requested prefix length, also if Prefix is set.
	Bits int
}

// ParsePrefix parses a prefix that is stored in an object. See cidr.ParseStored.
func ParsePrefix(s string) (netip.Prefix, error) { return cidr.ParseStored(s) }

// Of returns the request in a spec. It fails if the prefix cannot be parsed, or neither prefix nor prefixLength is set.
// The API server rejects such specs.
func Of(spec *v1alpha1.PrefixAllocationSpec) (Request, error) {
	if spec.Prefix != "" {
		prefix, err := ParsePrefix(spec.Prefix)
		if err != nil {
			return Request{}, err
		}
		return Request{Family: FamilyOf(prefix), Prefix: prefix, Bits: prefix.Bits()}, nil
	}
	if spec.PrefixLength <= 0 {
		return Request{}, fmt.Errorf("neither prefix nor prefixLength is set")
	}
	return Request{Family: spec.IPFamily, Bits: int(spec.PrefixLength)}, nil
}

// FamilyOf returns the IP family of a prefix.
func FamilyOf(prefix netip.Prefix) v1alpha1.IPFamily { return v1alpha1.IPFamily(cidr.FamilyOf(prefix)) }

// String returns the request as text for messages, such as "10.0.0.0/24" or "a /24".
func (r Request) String() string { return r.cidr().String() }

// Fits reports whether the request could be allocated from a parent that is entirely free. The requested prefix must be
// longer than that of the parent.
func (r Request) Fits(parent netip.Prefix) bool {
	return (r.Family == "" || r.Family == FamilyOf(parent)) &&
		r.Bits > parent.Bits() && r.Bits <= parent.Addr().BitLen() &&
		(!r.Prefix.IsValid() || parent.Contains(r.Prefix.Addr()))
}

// FitsIn is like Fits, but also returns why the request does not fit. The reason completes a sentence whose subject is the
// parent.
func (r Request) FitsIn(parent netip.Prefix) (why string, ok bool) {
	why = r.cidr().Misfit(parent)
	return why, why == ""
}

func (r Request) cidr() cidr.Request {
	return cidr.Request{Family: string(r.Family), Prefix: r.Prefix, Bits: r.Bits}
}
