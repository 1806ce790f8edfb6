// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request is what a PrefixAllocation asks for, apart from where from.
package request

import (
	"fmt"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
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

// ParsePrefix parses a prefix in CIDR notation. The API server lets no host bits pass, but others of
// the API group do, and may have stored them; they mean nothing.
func ParsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	return prefix.Masked(), err
}

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
func FamilyOf(prefix netip.Prefix) v1alpha1.IPFamily {
	if prefix.Addr().Is4() {
		return v1alpha1.IPv4
	}
	return v1alpha1.IPv6
}

// String tells what is asked for, such as "10.0.0.0/24" or "a /24".
func (r Request) String() string {
	if r.Prefix.IsValid() {
		return r.Prefix.String()
	}
	return fmt.Sprintf("a /%d", r.Bits)
}

// FitsIn reports whether a parent could hold the request if all of it were free, and if not, why:
// the rest of a sentence that begins with the parent. A parent never holds anything as large as
// itself.
func (r Request) FitsIn(parent netip.Prefix) (why string, ok bool) {
	family := FamilyOf(parent)
	switch {
	case r.Family != "" && r.Family != family:
		return fmt.Sprintf("is %s, not %s", family, r.Family), false
	case r.Bits <= parent.Bits():
		return fmt.Sprintf("is too small to hold %s", r), false
	case r.Bits > parent.Addr().BitLen():
		return fmt.Sprintf("is %s, which has no /%d", family, r.Bits), false
	case r.Prefix.IsValid() && !parent.Contains(r.Prefix.Addr()):
		return fmt.Sprintf("does not contain %s", r.Prefix), false
	}
	return "", true
}
