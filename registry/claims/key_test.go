// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/types"
)

const testParent = types.UID("7d9c5f0e-3a1b-4c2d-8e6f-000000000001")

// randomInside returns a random prefix with the given length inside another one.
func randomInside(random *rand.Rand, whole netip.Prefix, length int) netip.Prefix {
	address := whole.Addr().AsSlice()
	for bit := whole.Bits(); bit < length; bit++ {
		if random.IntN(2) == 1 {
			address[bit/8] |= 1 << (7 - bit%8)
		}
	}
	addr, _ := netip.AddrFromSlice(address)
	return netip.PrefixFrom(addr, length)
}

// randomWhole returns a random prefix that is large enough to contain others.
func randomWhole(random *rand.Rand) netip.Prefix {
	all := netip.MustParsePrefix("0.0.0.0/0")
	if random.IntN(2) == 1 {
		all = netip.MustParsePrefix("::/0")
	}
	// Smaller prefixes make overlaps more likely.
	length := random.IntN(all.Addr().BitLen())
	if random.IntN(2) == 1 {
		length = all.Addr().BitLen() - 1 - random.IntN(8)
	}
	return randomInside(random, all, length)
}

// randomPart returns a random prefix strictly inside another one.
func randomPart(random *rand.Rand, whole netip.Prefix) netip.Prefix {
	return randomInside(random, whole, whole.Bits()+1+random.IntN(whole.Addr().BitLen()-whole.Bits()))
}

// relative returns a prefix strictly inside whole that is related to another one.
func relative(random *rand.Rand, whole, of netip.Prefix) netip.Prefix {
	shorter := netip.PrefixFrom(of.Addr(), whole.Bits()+1+random.IntN(of.Bits()-whole.Bits())).Masked()
	switch random.IntN(4) {
	case 0:
		return shorter
	case 1:
		return randomInside(random, of, of.Bits()+random.IntN(of.Addr().BitLen()-of.Bits()+1))
	case 2:
		return randomInside(random, shorter, of.Bits())
	}
	// The next prefix.
	if next := cidr.Last(of).Next(); next.IsValid() && whole.Contains(next) {
		return netip.PrefixFrom(next, of.Addr().BitLen())
	}
	return of
}

func (r Range) has(key string) bool { return r.Start <= key && key < r.End }

func ones(prefix netip.Prefix, from int) int {
	n := 0
	for _, b := range prefix.Addr().AsSlice() {
		n += bits.OnesCount8(b)
	}
	for _, b := range netip.PrefixFrom(prefix.Addr(), from).Masked().Addr().AsSlice() {
		n -= bits.OnesCount8(b)
	}
	return n
}

// TestKeysAgainstModel compares the key ranges of a prefix with the overlaps according to netip.
func TestKeysAgainstModel(t *testing.T) {
	keys := NewKeyspace("/registry/test")
	random := rand.New(rand.NewPCG(1, 2))
	overlapping, apart := 0, 0
	for range 8_000 {
		whole := randomWhole(random)
		prefix := randomPart(random, whole)
		inside, around := keys.Inside(testParent, prefix), keys.Around(testParent, whole, prefix)
		if n, limit := len(around), ones(prefix, whole.Bits()); n > limit {
			t.Fatalf("%d ranges around %s in %s, want no more than the %d ones among its bits", n, prefix, whole, limit)
		}
		for range 20 {
			claim := randomPart(random, whole)
			if random.IntN(4) > 0 {
				claim = relative(random, whole, prefix)
			}
			key := keys.Claim(testParent, claim)
			matches := 0
			for _, r := range append(around, inside) {
				if r.has(key) {
					matches++
				}
			}
			if matches > 1 {
				t.Fatalf("%s is in %d of the ranges of %s in %s", claim, matches, prefix, whole)
			}
			if overlaps := claim.Overlaps(prefix); overlaps != (matches == 1) {
				t.Fatalf("%s overlaps %s in %s: %t, but it is in %d ranges", claim, prefix, whole, overlaps, matches)
			} else if overlaps {
				overlapping++
			} else {
				apart++
			}
			if !keys.Of(testParent).has(key) || !keys.All().has(key) {
				t.Fatalf("%q is not among all claims to its parent", key)
			}
			if keys.Of(testParent + "0").has(key) {
				t.Fatalf("%q is among the claims to another parent", key)
			}
		}
	}
	if overlapping < 20_000 || apart < 20_000 {
		t.Errorf("%d overlap and %d do not: the test is lopsided", overlapping, apart)
	}
}

// TestAroundEveryAncestor tests every ancestor of prefixes with many and with few of them.
func TestAroundEveryAncestor(t *testing.T) {
	keys := NewKeyspace("/registry/test")
	for _, tt := range []struct {
		whole, prefix string
		ranges        int
	}{
		{"10.0.0.0/8", "10.0.0.0/32", 0},
		{"10.0.0.0/8", "10.0.0.0/9", 0},
		{"10.0.0.0/8", "10.128.0.0/9", 0},
		{"10.0.0.0/8", "10.192.0.0/10", 1},
		{"10.0.0.0/8", "10.128.0.0/32", 0},
		{"10.0.0.0/8", "10.0.0.1/32", 1},
		{"10.0.0.0/8", "10.85.85.85/32", 12},
		{"10.0.0.0/8", "10.170.170.170/32", 11},
		{"10.0.0.0/8", "10.255.255.255/32", 23},
		{"255.0.0.0/8", "255.0.0.1/32", 1},
		{"0.0.0.0/0", "255.255.255.255/32", 31},
		{"10.0.0.0/8", "10.255.255.254/31", 22},
		{"10.255.255.254/31", "10.255.255.255/32", 0},
		{"2001:db8::/32", "2001:db8::/128", 0},
		{"2001:db8::/32", "2001:db8::ffff/128", 16},
		{"::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 127},
	} {
		t.Run(tt.prefix+" in "+tt.whole, func(t *testing.T) {
			whole, prefix := netip.MustParsePrefix(tt.whole), netip.MustParsePrefix(tt.prefix)
			around := keys.Around(testParent, whole, prefix)
			if len(around) != tt.ranges {
				t.Errorf("got %d ranges, want %d", len(around), tt.ranges)
			}
			all := append(around, keys.Inside(testParent, prefix))
			for length := 0; length < prefix.Bits(); length++ {
				ancestor := netip.PrefixFrom(prefix.Addr(), length).Masked()
				key, matches := keys.Claim(testParent, ancestor), 0
				for _, r := range all {
					if r.has(key) {
						matches++
					}
				}
				if length > whole.Bits() && matches != 1 {
					t.Errorf("%s is in %d ranges", ancestor, matches)
				}
			}
		})
	}
}

func TestKeyRoundTripAndOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, etcdPrefix := range []string{"/registry/ipam.ironcore.dev", "registry", "/", "", "/a/b/claims"} {
		keys := NewKeyspace(etcdPrefix)
		for range 5_000 {
			whole := randomWhole(random)
			a, b := randomPart(random, whole), randomPart(random, whole)
			if random.IntN(2) == 1 {
				b = relative(random, whole, a)
			}
			parent, prefix, err := keys.Parse(keys.Claim(testParent, a))
			if err != nil || parent != testParent || prefix != a {
				t.Fatalf("%s became %s of %s, %v", a, prefix, parent, err)
			}
			// Keys sort by address, and then by length.
			want := a.Addr().Compare(b.Addr())
			if want == 0 {
				want = a.Bits() - b.Bits()
			}
			if got := strings.Compare(keys.Claim(testParent, a), keys.Claim(testParent, b)); got < 0 != (want < 0) || got > 0 != (want > 0) {
				t.Fatalf("the key of %s compares to that of %s as %d, want the sign of %d", a, b, got, want)
			}
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	keys := NewKeyspace("/registry/test")
	good := keys.Claim(testParent, netip.MustParsePrefix("10.1.0.0/16"))
	if want := fmt.Sprintf("/registry/test/claims/%s/0a010000/016", testParent); good != want {
		t.Errorf("got %s, want %s", good, want)
	}
	base := strings.TrimSuffix(good, "0a010000/016")
	for _, key := range []string{
		"", "/", strings.TrimPrefix(good, "/"), good + "/", good + "0", base,
		"/registry/other/claims/" + string(testParent) + "/0a010000/016",
		base + "0a010000", base + "0a010000/16", base + "0a010000/0016", base + "0a010000/abc", base + "0a010000/-16", base + "0a010000/+16",
		base + "0a010001/016", base + "0a010000/033", base + "0a0100/016", base + "0a01000000/016", base + "zz010000/016", base + "/016",
		base + "20010db8000000000000000000000000/129", base + "20010db8000000000000000000000001/032",
		base + "0a010000/016/x", "/registry/test/claims/0a010000/016",
	} {
		if parent, prefix, err := keys.Parse(key); err == nil {
			t.Errorf("%q became %s of %s", key, prefix, parent)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	keys := NewKeyspace("/registry/test")
	for _, prefix := range []string{"10.1.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/32", "255.255.255.255/32"} {
		f.Add(keys.Claim(testParent, netip.MustParsePrefix(prefix)))
	}
	f.Add("/registry/test/claims///")
	f.Add("/registry/test/claims/x/0A010000/016")
	f.Add("/registry/test/claims/x/0a010000/+16")
	f.Fuzz(func(t *testing.T, key string) {
		parent, prefix, err := keys.Parse(key)
		if err != nil {
			return
		}
		if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Zone() != "" {
			t.Fatalf("%q became %s, which is not canonical", key, prefix)
		}
		// Each claim has exactly one key. A second key would be outside of the ranges.
		if again := keys.Claim(parent, prefix); again != key {
			t.Fatalf("%q was taken for the claim %q", key, again)
		}
	})
}
