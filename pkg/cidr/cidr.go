// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package cidr defines the rules for prefixes: which notations are accepted, which range a notation means, and which
// requests fit into a parent. It depends on net/netip, but not on Kubernetes.
package cidr

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The IP families, as spelled in the API.
const (
	IPv4 = "IPv4"
	IPv6 = "IPv6"
)

// mappedBits is the length of ::ffff:0:0/96, the block of the IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2).
const mappedBits = 96

// Parse parses a prefix in a request. It accepts only the canonical notation, so that each range has exactly one
// notation. It rejects IPv4-mapped IPv6 prefixes, because the same addresses exist as IPv4. The error says what is
// wrong. If the range is clear, it suggests the canonical notation.
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
		return netip.Prefix{}, fmt.Errorf("must not have host bits set or contain an IPv4 address, did you mean %s?", canonical)
	case canonical != prefix:
		return netip.Prefix{}, fmt.Errorf("must not have host bits set, did you mean %s?", canonical)
	case canonical.String() != s:
		return netip.Prefix{}, fmt.Errorf("must be in canonical form, %s", canonical)
	}
	return prefix, nil
}

// ParseStored parses a prefix that is already stored, possibly by another server of the API group, and returns the
// range that it means. It ignores host bits and converts an IPv4-mapped IPv6 prefix to IPv4. For prefixes that Parse
// accepts, both functions return the same result.
func ParseStored(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, malformed(s)
	}
	return unmap(prefix.Masked()), nil
}

// Equal reports whether two notations mean the same range. Identical strings are equal, even if they are not valid
// prefixes.
func Equal(a, b string) bool {
	if a == b {
		return true
	}
	prefixA, errA := ParseStored(a)
	prefixB, errB := ParseStored(b)
	return errA == nil && errB == nil && prefixA == prefixB
}

// Canonical returns the canonical notation of the range that a stored notation means. It returns s unchanged if s is
// not a valid prefix. A string that is canonical shares its memory with the result.
func Canonical(s string) string {
	prefix, err := ParseStored(s)
	if err != nil {
		return s
	}
	if canonical := prefix.String(); canonical != s {
		return canonical
	}
	return s
}

// HasLength reports whether the prefix in a notation has the given length, either as written or after conversion to the
// range that it means. For example, ::ffff:10.0.0.0/104 has the lengths 104 and 8.
func HasLength(s string, bits int) bool {
	prefix, err := netip.ParsePrefix(s)
	return err == nil && (prefix.Bits() == bits || unmap(prefix.Masked()).Bits() == bits)
}

// HasFamily reports whether the prefix in a notation has the given family, either as written or after conversion to the
// range that it means. For example, ::ffff:10.0.0.0/104 is both IPv6 and IPv4.
func HasFamily(s string, family string) bool {
	prefix, err := netip.ParsePrefix(s)
	return err == nil && (FamilyOf(prefix) == family || FamilyOf(unmap(prefix.Masked())) == family)
}

// FamilyOf returns the IP family of a prefix, IPv4 or IPv6.
func FamilyOf(prefix netip.Prefix) string {
	if prefix.Addr().Is4() {
		return IPv4
	}
	return IPv6
}

// IsMapped reports whether a prefix is an IPv4-mapped IPv6 prefix: whether it lies in ::ffff:0:0/96.
func IsMapped(prefix netip.Prefix) bool {
	return prefix.Addr().Is4In6() && prefix.Bits() >= mappedBits
}

// Map converts an IPv4 prefix to the IPv4-mapped IPv6 prefix. It returns other prefixes unchanged.
func Map(prefix netip.Prefix) netip.Prefix {
	if !prefix.Addr().Is4() {
		return prefix
	}
	return netip.PrefixFrom(netip.AddrFrom16(prefix.Addr().As16()), prefix.Bits()+mappedBits)
}

// unmap converts an IPv4-mapped IPv6 prefix to IPv4. It returns other prefixes unchanged.
func unmap(prefix netip.Prefix) netip.Prefix {
	if !IsMapped(prefix) {
		return prefix
	}
	return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
}

// StrictlyInside reports whether prefix lies inside another prefix and is smaller.
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

// ParseAddr parses an address in a request. Like Parse, it accepts only the canonical notation.
func ParseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, errors.New("must be an IP address, such as 10.0.0.1 or 2001:db8::1")
	case addr.Zone() != "":
		return netip.Addr{}, errors.New("must be an IP address without a zone")
	case addr.Is4In6():
		return netip.Addr{}, fmt.Errorf("must not be an IPv4-mapped IPv6 address, did you mean %s?", addr.Unmap())
	case addr.String() != s:
		return netip.Addr{}, fmt.Errorf("must be in canonical form, %s", addr)
	}
	return addr, nil
}

// ParseRange parses the first and the last address of a range, and returns the fewest prefixes that cover it, in order. Like
// ParseAddr, it accepts only the canonical notation.
func ParseRange(from, to string) ([]netip.Prefix, error) {
	first, err := ParseAddr(from)
	if err != nil {
		return nil, fmt.Errorf("%q %w", from, err)
	}
	last, err := ParseAddr(to)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q %w", to, err)
	case first.BitLen() != last.BitLen():
		return nil, fmt.Errorf("%s and %s must be of the same IP family", first, last)
	case last.Less(first):
		return nil, fmt.Errorf("%s must not be before %s", last, first)
	}
	return slices.Collect(Cover(first, last)), nil
}

// Halves returns the two halves of a prefix of more than one address.
func Halves(prefix netip.Prefix) (low, high netip.Prefix) {
	low = netip.PrefixFrom(prefix.Addr(), prefix.Bits()+1)
	return low, netip.PrefixFrom(Last(low).Next(), prefix.Bits()+1)
}

// Cover yields the fewest prefixes that cover exactly the addresses from first to last, in order. Both addresses must be
// of the same family, and last must not be before first.
func Cover(first, last netip.Addr) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for next := first; ; {
			// Widen the prefix while it starts at next and ends at last at the latest.
			prefix := netip.PrefixFrom(next, next.BitLen())
			for prefix.Bits() > 0 {
				wider := netip.PrefixFrom(next, prefix.Bits()-1)
				if wider.Masked() != wider || last.Less(Last(wider)) {
					break
				}
				prefix = wider
			}
			end := Last(prefix)
			if !yield(prefix) || end == last {
				return
			}
			next = end.Next()
		}
	}
}

// Lengths are the prefix lengths that may be allocated from a parent, in bits: from Min to Max. A bound of 0 is not set.
type Lengths struct{ Min, Max int }

// Allow reports whether a length may be allocated.
func (l Lengths) Allow(bits int) bool {
	return (l.Min == 0 || bits >= l.Min) && (l.Max == 0 || bits <= l.Max)
}

// And returns the lengths that both allow.
func (l Lengths) And(other Lengths) Lengths {
	l.Min = max(l.Min, other.Min)
	if l.Max == 0 || other.Max != 0 && other.Max < l.Max {
		l.Max = other.Max
	}
	return l
}

// String returns the lengths as text for messages. It completes a sentence, such as "only prefixes from /24 to /28".
func (l Lengths) String() string {
	switch {
	case l.Min != 0 && l.Max != 0 && l.Min > l.Max:
		return "no prefixes"
	case l.Min != 0 && l.Min == l.Max:
		return fmt.Sprintf("only prefixes of length /%d", l.Min)
	case l.Min != 0 && l.Max != 0:
		return fmt.Sprintf("only prefixes from /%d to /%d", l.Min, l.Max)
	case l.Min != 0:
		return fmt.Sprintf("only prefixes of length /%d or longer", l.Min)
	case l.Max != 0:
		return fmt.Sprintf("only prefixes of length /%d or shorter", l.Max)
	}
	return "all prefixes"
}

// Request is a request for one specific prefix, or for any prefix of a length.
type Request struct {
	// Family is the requested IP family. If it is empty, any family of a parent is accepted.
	Family string
	// Prefix is the requested prefix. It is not valid if any prefix of the length is accepted.
	Prefix netip.Prefix
	// Bits is the requested prefix length, also if Prefix is set.
	Bits int
}

// Exactly returns the request for one specific prefix.
func Exactly(prefix netip.Prefix) Request {
	return Request{Family: FamilyOf(prefix), Prefix: prefix, Bits: prefix.Bits()}
}

// String returns the request as text for messages, such as "10.0.0.0/24" or "a /24".
func (r Request) String() string {
	if r.Prefix.IsValid() {
		return r.Prefix.String()
	}
	return fmt.Sprintf("a /%d", r.Bits)
}

// Fits reports whether the request could be allocated from a parent that is entirely free. It is Misfit without words.
func (r Request) Fits(parent netip.Prefix) bool {
	return (r.Family == "" || r.Family == FamilyOf(parent)) &&
		r.Bits > parent.Bits() && r.Bits <= parent.Addr().BitLen() &&
		(!r.Prefix.IsValid() || parent.Contains(r.Prefix.Addr()))
}

// IsFor reports whether a prefix is what the request asks for.
func (r Request) IsFor(prefix netip.Prefix) bool {
	if r.Prefix.IsValid() {
		return r.Prefix == prefix
	}
	return r.Bits == prefix.Bits() && (r.Family == "" || r.Family == FamilyOf(prefix))
}

// Misfit returns why the request could not be allocated from a parent even if the parent were entirely free, or "" if
// it could. The reason completes a sentence whose subject is the parent. The requested prefix must be longer than that
// of the parent.
func (r Request) Misfit(parent netip.Prefix) string {
	if why := r.MisfitLength(FamilyOf(parent), parent.Bits()); why != "" {
		return why
	}
	if r.Prefix.IsValid() && !parent.Contains(r.Prefix.Addr()) {
		return fmt.Sprintf("does not contain %s", r.Prefix)
	}
	return ""
}

// MisfitLength is like Misfit for a parent whose prefix is not known. family is the family of the parent, or "" if that
// is unknown. bits is the prefix length of the parent, or -1 if that is unknown.
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

// malformed returns the error for a notation that netip.ParsePrefix rejects. It says what is wrong.
func malformed(s string) error {
	return errors.New("must be a prefix in CIDR notation" + mistake(s))
}

// mistake returns the end of the message of malformed.
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
		return " without leading zeros in the address, which some programs read as octal"
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

// hasLeadingZero reports whether a decimal number in the dotted part of an address has a leading zero.
func hasLeadingZero(address string) bool {
	decimals := strings.Split(address[strings.LastIndexByte(address, ':')+1:], ".")
	return len(decimals) == 4 && slices.ContainsFunc(decimals, func(s string) bool {
		return len(s) > 1 && s[0] == '0' && strings.Trim(s, "0123456789") == ""
	})
}
