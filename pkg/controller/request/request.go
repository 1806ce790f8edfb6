// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request is what a PrefixAllocation asks for, apart from where from.
package request

import (
	"fmt"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
)

// Request asks for exactly one prefix, or for any of a length.
type Request struct {
	// Family is the family that is asked for, or "" for that of the parent.
	Family v1alpha1.IPFamily
	// Prefix is the one prefix that is asked for. It is not valid if there is none.
	Prefix netip.Prefix
	// Bits is the length of the prefix that is asked for.
	Bits int
}

// ParsePrefix parses a prefix of an object, and returns the range that it means.
func ParsePrefix(s string) (netip.Prefix, error) { return cidr.ParseStored(s) }

// Of returns what the spec asks for. The error tells what is wrong with it; the API server lets no
// such spec pass.
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

// FamilyOf returns the family of a prefix.
func FamilyOf(prefix netip.Prefix) v1alpha1.IPFamily { return v1alpha1.IPFamily(cidr.FamilyOf(prefix)) }

// String tells what is asked for, such as "10.0.0.0/24" or "a /24".
func (r Request) String() string { return r.cidr().String() }

// Fits reports whether a parent could hold the request if all of it were free. A parent never holds
// anything as large as itself.
func (r Request) Fits(parent netip.Prefix) bool {
	return (r.Family == "" || r.Family == FamilyOf(parent)) &&
		r.Bits > parent.Bits() && r.Bits <= parent.Addr().BitLen() &&
		(!r.Prefix.IsValid() || parent.Contains(r.Prefix.Addr()))
}

// FitsIn is Fits with the reason why not: the rest of a sentence that begins with the parent.
func (r Request) FitsIn(parent netip.Prefix) (why string, ok bool) {
	why = r.cidr().Misfit(parent)
	return why, why == ""
}

func (r Request) cidr() cidr.Request {
	return cidr.Request{Family: string(r.Family), Prefix: r.Prefix, Bits: r.Bits}
}
