// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cidr

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

const notCIDR = "must be a prefix in CIDR notation"

// badPrefixes are notations that requests may not use, and a part of the error for each. stored is the range that a
// notation means if it is stored. It is empty if there is none.
var badPrefixes = []struct{ name, prefix, detail, stored string }{
	{"nothing", "", notCIDR, ""},
	{"word", "default", notCIDR, ""},
	{"address", "10.0.0.0", notCIDR + " with a length, such as /32", ""},
	{"IPv6 address", "2001:db8::", notCIDR + " with a length, such as /128", ""},
	{"no length", "10.0.0.0/", " with a length, such as /32", ""},
	{"no address", "/8", notCIDR, ""},
	{"two lengths", "10.0.0.0/8/8", notCIDR, ""},
	{"three bytes", "10.0.0/8", notCIDR, ""},
	{"byte out of range", "256.0.0.0/8", notCIDR, ""},
	{"hexadecimal byte", "0x0a.0.0.0/8", notCIDR, ""},
	{"netmask", "10.0.0.0/255.0.0.0", "not with a netmask", ""},
	{"length out of range, v4", "10.0.0.0/33", " with a length between 0 and 32", ""},
	{"length out of range, v6", "2001:db8::/129", " with a length between 0 and 128", ""},
	{"long length", "10.0.0.0/18446744073709551624", " with a length between 0 and 32", ""},
	{"negative length", "10.0.0.0/-1", notCIDR, ""},
	{"signed length", "10.0.0.0/+8", notCIDR, ""},
	{"space before", " 10.0.0.0/8", "white space", ""},
	{"space after", "10.0.0.0/8 ", "white space", ""},
	{"newline after", "10.0.0.0/8\n", "white space", ""},
	{"newline within", "10.0.0.\n0/8", "white space", ""},
	{"null byte", "10.0.0.0/8\x00", "control characters", ""},
	{"two double colons", "2001::db8::/32", notCIDR, ""},
	{"leading zero, v4", "010.0.0.0/8", "without leading zeros in the address", ""},
	{"zero written twice, v4", "10.00.0.0/8", "without leading zeros in the address", ""},
	{"leading zero, mapped", "::ffff:010.0.0.0/104", "without leading zeros in the address", ""},
	{"leading zero in the length, v4", "10.0.0.0/08", " without leading zeros in the length, /8", ""},
	{"leading zero in the length, v6", "2001:db8::/032", " without leading zeros in the length, /32", ""},
	{"zone", "fe80::%eth0/64", " without a zone", ""},
	{"zone without length", "fe80::1%eth0", " without a zone", ""},
	{"mapped, dotted", "::ffff:10.0.0.0/104", "IPv4-mapped IPv6 prefix, did you mean 10.0.0.0/8?", "10.0.0.0/8"},
	{"mapped, hexadecimal", "::ffff:a00:0/104", "IPv4-mapped IPv6 prefix, did you mean 10.0.0.0/8?", "10.0.0.0/8"},
	{"mapped with host bits", "::ffff:10.9.4.1/112", "did you mean 10.9.0.0/16?", "10.9.0.0/16"},
	{"all that is mapped", "::ffff:0.0.0.0/96", "did you mean 0.0.0.0/0?", "0.0.0.0/0"},
	{"shorter than what is mapped", "::ffff:10.0.0.1/64", "must not have host bits set or contain an IPv4 address, did you mean ::/64?", "::/64"},
	{"one shorter than what is mapped", "::ffff:10.0.0.1/95", "did you mean ::fffe:0:0/95?", "::fffe:0:0/95"},
	{"host bits, v4", "10.0.0.1/24", "must not have host bits set, did you mean 10.0.0.0/24?", "10.0.0.0/24"},
	{"host bits, v4, all", "255.255.255.255/0", "did you mean 0.0.0.0/0?", "0.0.0.0/0"},
	{"host bits, v6", "2001:db8::1/32", "must not have host bits set, did you mean 2001:db8::/32?", "2001:db8::/32"},
	{"host bits, uppercase", "2001:DB8::1/32", "did you mean 2001:db8::/32?", "2001:db8::/32"},
	{"uppercase", "2001:DB8::/32", "must be in canonical form, 2001:db8::/32", "2001:db8::/32"},
	{"uncompressed", "2001:db8:0:0:0:0:0:0/32", "must be in canonical form, 2001:db8::/32", "2001:db8::/32"},
	{"zero after double colon", "2001:db8::0/32", "must be in canonical form, 2001:db8::/32", "2001:db8::/32"},
	{"leading zero, v6", "2001:0db8::/32", "must be in canonical form, 2001:db8::/32", "2001:db8::/32"},
	{"shorter run compressed", "1::2:0:0:0:0/64", "must be in canonical form, 1:0:0:2::/64", "1:0:0:2::/64"},
	{"dotted, but not mapped", "::1.2.3.4/128", "must be in canonical form, ::102:304/128", "::102:304/128"},
}

var goodPrefixes = []string{
	"0.0.0.0/0", "10.0.0.0/8", "10.0.0.128/25", "255.255.255.255/32",
	"::/0", "2000::/3", "2001:db8::/32", "1:0:0:2::/64", "::/96", "::fffe:0:0/95", "::1/128",
}

func TestParse(t *testing.T) {
	for _, s := range goodPrefixes {
		for name, parse := range map[string]func(string) (netip.Prefix, error){"Parse": Parse, "ParseStored": ParseStored} {
			if prefix, err := parse(s); err != nil || prefix != netip.MustParsePrefix(s) {
				t.Errorf("%s(%q): got %v, %v", name, s, prefix, err)
			}
		}
	}
	for _, tt := range badPrefixes {
		t.Run(tt.name, func(t *testing.T) {
			prefix, err := Parse(tt.prefix)
			if err == nil || !strings.Contains(err.Error(), tt.detail) {
				t.Errorf("got %v, %v, want an error that has %q", prefix, err, tt.detail)
			}
			if prefix.IsValid() {
				t.Errorf("got %s along with an error", prefix)
			}
			stored, err := ParseStored(tt.prefix)
			switch {
			case tt.stored == "" && (err == nil || !strings.Contains(err.Error(), tt.detail) || stored.IsValid()):
				t.Errorf("stored, got %v, %v, want an error that has %q", stored, err, tt.detail)
			case tt.stored != "" && (err != nil || stored.String() != tt.stored):
				t.Errorf("stored, got %v, %v, want %s", stored, err, tt.stored)
			}
		})
	}
}

// suggestion matches the canonical notation in an error. It does not match examples.
var suggestion = regexp.MustCompile(`(?:did you mean (\S+)\?|canonical form, (\S+))$`)

func FuzzParse(f *testing.F) {
	for _, s := range goodPrefixes {
		f.Add(s)
	}
	for _, tt := range badPrefixes {
		f.Add(tt.prefix)
	}
	f.Fuzz(func(t *testing.T, s string) {
		loose, looseErr := netip.ParsePrefix(s)
		prefix, err := Parse(s)
		stored, storedErr := ParseStored(s)
		if (storedErr == nil) != (looseErr == nil) {
			t.Fatalf("%q stored: %v, netip says %v", s, storedErr, looseErr)
		}
		if err == nil {
			if prefix != loose || prefix != stored || prefix.String() != s || prefix.Masked() != prefix || prefix.Addr().Is4In6() || prefix.Addr().Zone() != "" {
				t.Fatalf("%q became %s and %s", s, prefix, stored)
			}
			return
		}
		if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Fatalf("%q gives the error %q", s, err)
		}
		suggested := ""
		if match := suggestion.FindStringSubmatch(err.Error()); match != nil {
			suggested = match[1] + match[2]
		}
		if looseErr != nil {
			if suggested != "" {
				t.Fatalf("suggested %q for %q", suggested, s)
			}
			return
		}
		if again, err := Parse(suggested); err != nil || again != stored {
			t.Fatalf("suggested %q for %q, which is stored as %s: %v", suggested, s, stored, err)
		}
	})
}

// span is a range in the naive model: the first and the last address as numbers, with IPv4 separate from IPv6. It
// is built from the bytes of an address, without the methods of netip.Prefix.
type span struct {
	family      string
	first, last *big.Int
}

func (s span) String() string { return fmt.Sprintf("%s %x-%x", s.family, s.first, s.last) }

// spanOf returns the span of an address with 4 or 16 bytes and a length.
func spanOf(bytes []byte, bits int) span {
	total := uint(len(bytes) * 8)
	size := new(big.Int).Lsh(big.NewInt(1), total-uint(bits))
	first := new(big.Int).SetBytes(bytes)
	first.Sub(first, new(big.Int).Mod(first, size))
	last := new(big.Int).Add(first, size)
	last.Sub(last, big.NewInt(1))
	family := IPv6
	if total == 32 {
		family = IPv4
	}
	mapped, next := big.NewInt(0xffff<<32), big.NewInt(0x10000<<32)
	if family == IPv6 && first.Cmp(mapped) >= 0 && last.Cmp(next) < 0 {
		return span{IPv4, first.Sub(first, mapped), last.Sub(last, mapped)}
	}
	return span{family, first, last}
}

func (s span) equal(o span) bool {
	return s.family == o.family && s.first.Cmp(o.first) == 0 && s.last.Cmp(o.last) == 0
}

func (s span) inside(o span) bool {
	return s.family == o.family && s.first.Cmp(o.first) >= 0 && s.last.Cmp(o.last) <= 0
}

// random returns a random notation and its span. Two results are sometimes equal, and sometimes contain each other.
func random(r *rand.Rand) (notation string, s span) {
	bytes := make([]byte, 4)
	if r.IntN(3) > 0 {
		bytes = make([]byte, 16)
		if r.IntN(2) == 0 {
			bytes[10], bytes[11] = 0xff, 0xff
		}
	}
	n := len(bytes)
	bytes[n-4], bytes[n-1] = byte(8*r.IntN(3)), byte(r.IntN(3))
	bits := r.IntN(n*8 + 1)
	if r.IntN(3) > 0 {
		bits = n*8 - r.IntN(34)%(n*8)
	}
	return notationOf(r, bytes, bits), spanOf(bytes, bits)
}

// notationOf formats an address and a length in one of the ways that netip parses.
func notationOf(r *rand.Rand, bytes []byte, bits int) string {
	if len(bytes) == 4 {
		return fmt.Sprintf("%d.%d.%d.%d/%d", bytes[0], bytes[1], bytes[2], bytes[3], bits)
	}
	addr := netip.AddrFrom16([16]byte(bytes))
	var text string
	switch r.IntN(4) {
	case 0:
		text = addr.String()
	case 1:
		text = addr.StringExpanded()
	case 2:
		text = strings.ToUpper(addr.StringExpanded())
	default:
		var groups []string
		for i := 0; i < 12; i += 2 {
			groups = append(groups, fmt.Sprintf("%x", int(bytes[i])<<8|int(bytes[i+1])))
		}
		text = fmt.Sprintf("%s:%d.%d.%d.%d", strings.Join(groups, ":"), bytes[12], bytes[13], bytes[14], bytes[15])
	}
	return fmt.Sprintf("%s/%d", text, bits)
}

// TestModel compares all functions with a naive model of number ranges.
func TestModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 16))
	for range 50_000 {
		a, spanA := random(r)
		b, spanB := random(r)
		prefixA, errA := ParseStored(a)
		prefixB, errB := ParseStored(b)
		if errA != nil || errB != nil {
			t.Fatalf("%s: %v, %s: %v", a, errA, b, errB)
		}
		if got := spanOf(prefixA.Addr().AsSlice(), prefixA.Bits()); !got.equal(spanA) {
			t.Fatalf("%s is %s, not %s", a, got, spanA)
		}
		if got := prefixA.Addr().AsSlice(); new(big.Int).SetBytes(got).Cmp(spanA.first) != 0 || FamilyOf(prefixA) != spanA.family {
			t.Fatalf("%s is %s, not %s", a, prefixA, spanA)
		}
		if got := Last(prefixA); new(big.Int).SetBytes(got.AsSlice()).Cmp(spanA.last) != 0 || got.BitLen() != prefixA.Addr().BitLen() {
			t.Fatalf("the last of %s is %s, not %s", a, got, spanA)
		}
		if got, want := Equal(a, b), spanA.equal(spanB); got != want {
			t.Fatalf("%s equals %s: %v", a, b, got)
		}
		if got, want := Canonical(a) == Canonical(b), spanA.equal(spanB); got != want {
			t.Fatalf("%s is written %s, and %s is %s", a, Canonical(a), b, Canonical(b))
		}
		if strict, err := Parse(a); err == nil && strict != prefixA || (err == nil) != (Canonical(a) == a) {
			t.Fatalf("%s is %s, %v", a, strict, err)
		}
		fits := spanA.inside(spanB) && !spanA.equal(spanB)
		if got := StrictlyInside(prefixA, prefixB); got != fits {
			t.Fatalf("%s is strictly inside %s: %v", a, b, got)
		}
		if why := Exactly(prefixA).Misfit(prefixB); (why == "") != fits || Exactly(prefixA).Fits(prefixB) != fits {
			t.Fatalf("%s in %s: %q", a, b, why)
		}
		byLength := Request{Family: []string{"", IPv4, IPv6}[r.IntN(3)], Bits: r.IntN(130)}
		fits = (byLength.Family == "" || byLength.Family == spanB.family) && byLength.Bits > prefixB.Bits() && byLength.Bits <= prefixB.Addr().BitLen()
		if why := byLength.Misfit(prefixB); (why == "") != fits || byLength.Fits(prefixB) != fits {
			t.Fatalf("%+v in %s: %q", byLength, b, why)
		}
		if mapped := Map(prefixA); IsMapped(mapped) != (spanA.family == IPv4) || !Equal(mapped.String(), a) {
			t.Fatalf("%s is mapped as %s", a, mapped)
		}
		written := netip.MustParsePrefix(a)
		for bits := range 129 {
			if got := HasLength(a, bits); got != (bits == written.Bits() || bits == prefixA.Bits()) {
				t.Fatalf("%s has length %d: %v", a, bits, got)
			}
		}
		for _, family := range []string{IPv4, IPv6} {
			if got := HasFamily(a, family); got != (family == FamilyOf(written) || family == spanA.family) {
				t.Fatalf("%s has family %s: %v", a, family, got)
			}
		}
	}
}

func TestEqualOfWhatMeansNothing(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"", "10.0.0.0/8", false}, {"bad", "bad", true}, {"bad", "worse", false}, {"bad", "10.0.0.0/8", false},
	} {
		if Equal(tt.a, tt.b) != tt.want || Equal(tt.b, tt.a) != tt.want {
			t.Errorf("%q equals %q: %v", tt.a, tt.b, !tt.want)
		}
	}
	if got := Canonical("bad"); got != "bad" {
		t.Errorf("bad became %q", got)
	}
	if HasLength("bad", 8) || HasFamily("bad", IPv6) {
		t.Error("what means nothing has a length or a family")
	}
}

func TestFamilyOf(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.0.0.0/8": IPv4, "0.0.0.0/0": IPv4, "2001:db8::/32": IPv6, "::/0": IPv6, "::ffff:0:0/96": IPv6,
	} {
		if got := FamilyOf(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %s", prefix, got)
		}
	}
}

func TestMisfitInWords(t *testing.T) {
	exactly := func(s string) Request { return Exactly(netip.MustParsePrefix(s)) }
	for _, tt := range []struct {
		request Request
		parent  string
		want    string
	}{
		{Request{Bits: 24}, "10.0.0.0/8", ""},
		{Request{Bits: 9}, "10.0.0.0/8", ""},
		{Request{Bits: 32}, "10.0.0.0/31", ""},
		{Request{Family: IPv4, Bits: 24}, "10.0.0.0/8", ""},
		{Request{Family: IPv6, Bits: 128}, "2001:db8::/127", ""},
		{exactly("10.1.0.0/16"), "10.0.0.0/8", ""},
		{exactly("10.255.255.255/32"), "10.0.0.0/8", ""},
		{exactly("10.0.0.0/8"), "0.0.0.0/0", ""},

		{Request{Bits: 8}, "10.0.0.0/8", "is too small to hold a /8"},
		{Request{Bits: 7}, "10.0.0.0/8", "is too small to hold a /7"},
		{Request{Bits: 32}, "10.0.0.0/32", "is too small to hold a /32"},
		{exactly("10.0.0.0/8"), "10.0.0.0/8", "is too small to hold 10.0.0.0/8"},
		{exactly("0.0.0.0/0"), "10.0.0.0/8", "is too small to hold 0.0.0.0/0"},
		{Request{Bits: 33}, "10.0.0.0/8", "is IPv4, which has no /33"},
		{Request{Bits: 129}, "::/0", "is IPv6, which has no /129"},
		{Request{Family: IPv6, Bits: 24}, "10.0.0.0/8", "is IPv4, not IPv6"},
		{exactly("10.0.0.0/24"), "::/0", "is IPv6, not IPv4"},
		{exactly("11.0.0.0/24"), "10.0.0.0/8", "does not contain 11.0.0.0/24"},
		{exactly("10.0.1.0/25"), "10.0.0.0/24", "does not contain 10.0.1.0/25"},
	} {
		parent := netip.MustParsePrefix(tt.parent)
		if got := tt.request.Misfit(parent); got != tt.want || tt.request.Fits(parent) != (tt.want == "") {
			t.Errorf("%s in %s: got %q, fits %v; want %q", tt.request, tt.parent, got, tt.request.Fits(parent), tt.want)
		}
	}
	// If the parent has no prefix yet, its family and its length are known.
	for _, tt := range []struct {
		family string
		bits   int
		want   string
	}{
		{"", -1, ""}, {IPv4, -1, ""}, {IPv6, -1, "is IPv6, not IPv4"}, {"", 24, "is too small to hold 10.0.0.0/24"}, {IPv4, 23, ""},
	} {
		if got := exactly("10.0.0.0/24").MisfitLength(tt.family, tt.bits); got != tt.want {
			t.Errorf("%s, /%d: got %q, want %q", tt.family, tt.bits, got, tt.want)
		}
	}
}

// TestCover compares the prefixes of ranges with a naive model: no two neighbors can be joined, and each address of the
// range, and no other, is in one of them.
func TestCover(t *testing.T) {
	for _, base := range []string{"10.0.0.0", "255.255.255.0", "2001:db8::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00", "::ffff:255.255.255.128"} {
		var addresses []netip.Addr
		for addr := netip.MustParseAddr(base); addr.IsValid() && len(addresses) < 256; addr = addr.Next() {
			addresses = append(addresses, addr)
		}
		for first := 0; first < len(addresses); first += 1 + first%7 {
			for last := first; last < len(addresses); last += 1 + last%5 {
				next := first
				var before netip.Prefix
				for prefix := range Cover(addresses[first], addresses[last]) {
					size := 1 << (prefix.Addr().BitLen() - prefix.Bits())
					if prefix != prefix.Masked() || prefix.Addr() != addresses[next] {
						t.Fatalf("%s to %s: %s does not begin at %s", addresses[first], addresses[last], prefix, addresses[next])
					}
					if before.IsValid() && before.Bits() == prefix.Bits() && netip.PrefixFrom(before.Addr(), prefix.Bits()-1).Masked().Contains(prefix.Addr()) {
						t.Fatalf("%s to %s: %s and %s are one", addresses[first], addresses[last], before, prefix)
					}
					next, before = next+size, prefix
				}
				if next != last+1 {
					t.Fatalf("%s to %s ends after %d addresses", addresses[first], addresses[last], next-first)
				}
			}
		}
	}
}

// TestCoverLarge has the ranges that need most prefixes, and fewest.
func TestCoverLarge(t *testing.T) {
	for _, test := range []struct {
		first, last string
		want        int
	}{
		{"::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 254},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1},
		{"0.0.0.0", "255.255.255.255", 1},
		{"0.0.0.1", "255.255.255.254", 62},
		{"10.0.0.10", "10.0.0.10", 1},
	} {
		n := 0
		for range Cover(netip.MustParseAddr(test.first), netip.MustParseAddr(test.last)) {
			n++
		}
		if n != test.want {
			t.Errorf("%s to %s: %d prefixes, not %d", test.first, test.last, n, test.want)
		}
	}
}

func TestParseAddr(t *testing.T) {
	for _, good := range []string{"10.0.0.1", "2001:db8::1", "::"} {
		if addr, err := ParseAddr(good); err != nil || addr.String() != good {
			t.Errorf("%s: %v, %v", good, addr, err)
		}
	}
	for _, bad := range []string{"", "10.0.0.0/8", "10.0.0.01", "fe80::1%eth0", "::ffff:10.0.0.1", "2001:DB8::1", "2001:db8::0"} {
		if addr, err := ParseAddr(bad); err == nil {
			t.Errorf("%s: %v", bad, addr)
		}
	}
}

func TestParseRange(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{"10.0.0.1", "10.0.0.1", "[10.0.0.1/32]"},
		{"10.0.0.1", "10.0.0.4", "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/32]"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[::/0]"},
		{"10.0.0.4", "10.0.0.1", "10.0.0.1 must not be before 10.0.0.4"},
		{"10.0.0.1", "2001:db8::", "10.0.0.1 and 2001:db8:: must be of the same IP family"},
		{"", "10.0.0.1", `"" must be an IP address`},
		{"10.0.0.1", "10.0.0.01", `"10.0.0.01" must be an IP address`},
	} {
		prefixes, err := ParseRange(tt.from, tt.to)
		got := fmt.Sprint(prefixes)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tt.want) || (err != nil) != (prefixes == nil) {
			t.Errorf("%s-%s: %s, not %s", tt.from, tt.to, got, tt.want)
		}
	}
}

// TestHalves shows that the halves of a prefix are a bit longer, and begin where it begins and in its middle.
func TestHalves(t *testing.T) {
	for prefix, want := range map[string]string{
		"0.0.0.0/0": "0.0.0.0/1 128.0.0.0/1", "10.0.0.0/24": "10.0.0.0/25 10.0.0.128/25", "255.255.255.254/31": "255.255.255.254/32 255.255.255.255/32",
		"::/0": "::/1 8000::/1", "2001:db8::/32": "2001:db8::/33 2001:db8:8000::/33", "2001:db8::2/127": "2001:db8::2/128 2001:db8::3/128",
	} {
		low, high := Halves(netip.MustParsePrefix(prefix))
		if got := low.String() + " " + high.String(); got != want {
			t.Errorf("%s: %s, not %s", prefix, got, want)
		}
	}
}

// TestLengths compares And with what both allow, for each two ranges of lengths.
func TestLengths(t *testing.T) {
	var all []Lengths
	for _, low := range []int{0, 1, 24, 28, 128} {
		for _, high := range []int{0, 1, 24, 28, 128} {
			all = append(all, Lengths{low, high})
		}
	}
	for _, a := range all {
		for _, b := range all {
			for bits := 1; bits <= 128; bits++ {
				if got, want := a.And(b).Allow(bits), a.Allow(bits) && b.Allow(bits); got != want {
					t.Fatalf("%+v and %+v allow /%d: %v", a, b, bits, got)
				}
			}
		}
	}
	for want, lengths := range map[string]Lengths{
		"all prefixes":                           {},
		"only prefixes from /24 to /28":          {24, 28},
		"only prefixes of length /24":            {24, 24},
		"only prefixes of length /24 or longer":  {24, 0},
		"only prefixes of length /28 or shorter": {0, 28},
		"no prefixes":                            {28, 24},
	} {
		if got := lengths.String(); got != want {
			t.Errorf("%+v: %q, not %q", lengths, got, want)
		}
	}
}
