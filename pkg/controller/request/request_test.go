// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"net/netip"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spec   v1alpha1.PrefixAllocationSpec
		want   Request
		text   string
		failed bool
	}{
		{"length", v1alpha1.PrefixAllocationSpec{PrefixLength: 24}, Request{Bits: 24}, "a /24", false},
		{"length and family", v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv6, PrefixLength: 64}, Request{Family: v1alpha1.IPv6, Bits: 64}, "a /64", false},
		{"prefix", v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/24"},
			Request{Family: v1alpha1.IPv4, Prefix: netip.MustParsePrefix("10.0.0.0/24"), Bits: 24}, "10.0.0.0/24", false},
		{"IPv6 prefix", v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv6, Prefix: "2001:db8::/48"},
			Request{Family: v1alpha1.IPv6, Prefix: netip.MustParsePrefix("2001:db8::/48"), Bits: 48}, "2001:db8::/48", false},
		{"nothing", v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4}, Request{}, "", true},
		{"negative length", v1alpha1.PrefixAllocationSpec{PrefixLength: -1}, Request{}, "", true},
		{"bad prefix", v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0"}, Request{}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Of(&tt.spec)
			if (err != nil) != tt.failed || got != tt.want {
				t.Fatalf("got %+v, %v", got, err)
			}
			if err == nil && got.String() != tt.text {
				t.Errorf("reads %q, want %q", got, tt.text)
			}
		})
	}
}

func TestFamilyOf(t *testing.T) {
	for prefix, want := range map[string]v1alpha1.IPFamily{
		"10.0.0.0/8": v1alpha1.IPv4, "0.0.0.0/0": v1alpha1.IPv4, "2001:db8::/32": v1alpha1.IPv6, "::/0": v1alpha1.IPv6, "::ffff:0:0/96": v1alpha1.IPv6,
	} {
		if got := FamilyOf(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %s", prefix, got)
		}
	}
}

func TestFitsIn(t *testing.T) {
	length := func(bits int) Request { return Request{Bits: bits} }
	exactly := func(s string) Request {
		r, err := Of(&v1alpha1.PrefixAllocationSpec{Prefix: s})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		name    string
		request Request
		parent  string
		why     string
	}{
		{"length", length(24), "10.0.0.0/8", ""},
		{"one bit longer", length(9), "10.0.0.0/8", ""},
		{"single address", length(32), "10.0.0.0/31", ""},
		{"family of the parent", Request{Family: v1alpha1.IPv4, Bits: 24}, "10.0.0.0/8", ""},
		{"IPv6", Request{Family: v1alpha1.IPv6, Bits: 128}, "2001:db8::/127", ""},
		{"exactly", exactly("10.1.0.0/16"), "10.0.0.0/8", ""},
		{"exactly, at the end", exactly("10.255.255.255/32"), "10.0.0.0/8", ""},
		{"exactly, in all there is", exactly("10.0.0.0/8"), "0.0.0.0/0", ""},

		{"as large", length(8), "10.0.0.0/8", "is too small to hold a /8"},
		{"larger", length(7), "10.0.0.0/8", "is too small to hold a /7"},
		{"of a single address", length(32), "10.0.0.0/32", "is too small to hold a /32"},
		{"itself", exactly("10.0.0.0/8"), "10.0.0.0/8", "is too small to hold 10.0.0.0/8"},
		{"around it", exactly("0.0.0.0/0"), "10.0.0.0/8", "is too small to hold 0.0.0.0/0"},
		{"too long", length(33), "10.0.0.0/8", "is IPv4, which has no /33"},
		{"too long for IPv6", length(129), "2001:db8::/32", "is IPv6, which has no /129"},
		{"other family", Request{Family: v1alpha1.IPv6, Bits: 24}, "10.0.0.0/8", "is IPv4, not IPv6"},
		{"exactly, other family", exactly("10.0.0.0/24"), "::/0", "is IPv6, not IPv4"},
		{"elsewhere", exactly("11.0.0.0/24"), "10.0.0.0/8", "does not contain 11.0.0.0/24"},
		{"right behind", exactly("10.0.1.0/25"), "10.0.0.0/24", "does not contain 10.0.1.0/25"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			why, ok := tt.request.FitsIn(netip.MustParsePrefix(tt.parent))
			if why != tt.why || ok != (tt.why == "") || tt.request.Fits(netip.MustParsePrefix(tt.parent)) != ok {
				t.Errorf("got %q, %v; want %q", why, ok, tt.why)
			}
		})
	}
}
