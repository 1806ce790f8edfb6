// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package cidr holds the rules for prefixes, once: which notations are accepted, which range a
// notation means, and what fits into what. It knows net/netip and nothing of Kubernetes.
package cidr

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The families, as the API spells them.
const (
	IPv4 = "IPv4"
	IPv6 = "IPv6"
)

// mappedBits is the length of ::ffff:0:0/96, the block of the IPv4-mapped IPv6 addresses (RFC 4291
// section 2.5.5.2).
const mappedBits = 96

// Parse parses a prefix that somebody asks for. It accepts the canonical notation only, so that each
// range has one notation. The error says what is wrong, and names the canonical notation if the
// range is clear. Parse refuses IPv4-mapped IPv6: the same addresses exist as IPv4.
func Parse(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, malformed(s)
	}
	canonical := prefix.Masked()
	switch {
	case IsMapped(canonical):
		return netip.Prefix{}, fmt.Errorf("must not be an IPv4-mapped IPv6 prefix, did you mean %s?", unmap(canonical))
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("must not have host bits set, nor be written with an IPv4 address, did you mean %s?", canonical)
	case canonical != prefix:
		return netip.Prefix{}, fmt.Errorf("must not have host bits set, did you mean %s?", canonical)
	case canonical.String() != s:
		return netip.Prefix{}, fmt.Errorf("must be in canonical form, %s", canonical)
	}
	return prefix, nil
}

// ParseStored parses a prefix that is stored already, possibly by another server of the API group,
// and returns the range that it means. Host bits mean nothing, and an IPv4-mapped IPv6 prefix means
// the IPv4 range. What Parse accepts means the same to both.
func ParseStored(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, malformed(s)
	}
	return unmap(prefix.Masked()), nil
}

// Equal reports whether two notations mean the same range. Equal notations do, even if they mean none.
func Equal(a, b string) bool {
	if a == b {
		return true
	}
	prefixA, errA := ParseStored(a)
	prefixB, errB := ParseStored(b)
	return errA == nil && errB == nil && prefixA == prefixB
}

// Canonical returns the canonical notation of the range that a stored notation means. A notation
// that means no range stays as it is.
func Canonical(s string) string {
	if prefix, err := ParseStored(s); err == nil {
		return prefix.String()
	}
	return s
}

// HasLength reports whether a notation has a length, either as it is written or as the range that it
// means: ::ffff:10.0.0.0/104 is a /104, and means a /8.
func HasLength(s string, bits int) bool {
	prefix, err := netip.ParsePrefix(s)
	return err == nil && (prefix.Bits() == bits || unmap(prefix.Masked()).Bits() == bits)
}

// HasFamily reports whether a notation is of a family, either as it is written or as the range that
// it means: ::ffff:10.0.0.0/104 is IPv6, and means an IPv4 range.
func HasFamily(s string, family string) bool {
	prefix, err := netip.ParsePrefix(s)
	return err == nil && (FamilyOf(prefix) == family || FamilyOf(unmap(prefix.Masked())) == family)
}

// FamilyOf returns the family of a prefix.
func FamilyOf(prefix netip.Prefix) string {
	if prefix.Addr().Is4() {
		return IPv4
	}
	return IPv6
}

// IsMapped reports whether a prefix lies in ::ffff:0:0/96.
func IsMapped(prefix netip.Prefix) bool {
	return prefix.Addr().Is4In6() && prefix.Bits() >= mappedBits
}

// Map returns an IPv4 prefix as IPv4-mapped IPv6, and any other one as it is.
func Map(prefix netip.Prefix) netip.Prefix {
	if !prefix.Addr().Is4() {
		return prefix
	}
	return netip.PrefixFrom(netip.AddrFrom16(prefix.Addr().As16()), prefix.Bits()+mappedBits)
}

// unmap returns an IPv4-mapped IPv6 prefix as IPv4, and any other one as it is.
func unmap(prefix netip.Prefix) netip.Prefix {
	if !IsMapped(prefix) {
		return prefix
	}
	return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
}

// StrictlyInside reports whether a prefix is a part of another one, and not all of it.
func StrictlyInside(prefix, of netip.Prefix) bool {
	return prefix.Bits() > of.Bits() && of.Contains(prefix.Addr())
}

// Last returns the last address of a prefix.
func Last(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// Request asks for exactly one prefix, or for any of a length.
type Request struct {
	// Family is the family that is asked for, or "" for that of the parent.
	Family string
	// Prefix is the one prefix that is asked for. It is not valid if there is none.
	Prefix netip.Prefix
	// Bits is the length of the prefix that is asked for.
	Bits int
}

// Exactly returns the request for one prefix.
func Exactly(prefix netip.Prefix) Request {
	return Request{Family: FamilyOf(prefix), Prefix: prefix, Bits: prefix.Bits()}
}

// String tells what is asked for, such as "10.0.0.0/24" or "a /24".
func (r Request) String() string {
	if r.Prefix.IsValid() {
		return r.Prefix.String()
	}
	return fmt.Sprintf("a /%d", r.Bits)
}

// Misfit tells why a parent could not hold the request if all of it were free: the rest of a
// sentence that begins with the parent. It returns "" if there is room. A parent never holds anything
// as large as itself.
func (r Request) Misfit(parent netip.Prefix) string {
	if why := r.MisfitLength(FamilyOf(parent), parent.Bits()); why != "" {
		return why
	}
	if r.Prefix.IsValid() && !parent.Contains(r.Prefix.Addr()) {
		return fmt.Sprintf("does not contain %s", r.Prefix)
	}
	return ""
}

// MisfitLength is Misfit for a parent of which no more is known than the family, or "", and the
// length, or -1.
func (r Request) MisfitLength(family string, bits int) string {
	switch {
	case r.Family != "" && family != "" && r.Family != family:
		return fmt.Sprintf("is %s, not %s", family, r.Family)
	case r.Bits <= bits:
		return fmt.Sprintf("is too small to hold %s", r)
	case family != "" && r.Bits > addressBits(family):
		return fmt.Sprintf("is %s, which has no /%d", family, r.Bits)
	}
	return ""
}

func addressBits(family string) int {
	if family == IPv4 {
		return 32
	}
	return 128
}

// malformed tells what is wrong with a notation that netip.ParsePrefix refuses.
func malformed(s string) error {
	return errors.New("must be a prefix in CIDR notation" + mistake(s))
}

// mistake returns the rest of the sentence that malformed begins.
func mistake(s string) string {
	const unclear = ", such as 10.0.0.0/8 or 2001:db8::/32"
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return " without white space or control characters"
	}
	address, length, found := strings.Cut(s, "/")
	switch {
	case strings.Contains(address, "%"):
		return " without a zone"
	case hasLeadingZero(address):
		return " without leading zeros in the address, which some read as octal"
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return unclear
	}
	bits, err := strconv.ParseUint(length, 10, 16)
	switch {
	case !found || length == "":
		return fmt.Sprintf(" with a length, such as /%d for a single address", addr.BitLen())
	case strings.Contains(length, "."):
		return " with a length in bits, such as /24, not with a netmask"
	case strings.Trim(length, "0123456789") != "":
		return unclear
	case err != nil || bits > uint64(addr.BitLen()):
		return fmt.Sprintf(" with a length between 0 and %d", addr.BitLen())
	}
	return fmt.Sprintf(" without leading zeros in the length, /%d", bits)
}

// hasLeadingZero reports whether a decimal number of an address begins with a zero that is not all
// of it.
func hasLeadingZero(address string) bool {
	decimals := strings.Split(address[strings.LastIndexByte(address, ':')+1:], ".")
	return len(decimals) == 4 && slices.ContainsFunc(decimals, func(s string) bool {
		return len(s) > 1 && s[0] == '0' && strings.Trim(s, "0123456789") == ""
	})
}
