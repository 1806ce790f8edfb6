// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"net/netip"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spec   v1alpha1.PrefixAllocationSpec
		want   cidr.Request
		text   string
		failed bool
	}{
		{"length", v1alpha1.PrefixAllocationSpec{PrefixLength: 24}, cidr.Request{Bits: 24}, "a /24", false},
		{"length and family", v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv6, PrefixLength: 64}, cidr.Request{Family: cidr.IPv6, Bits: 64}, "a /64", false},
		{"prefix", v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/24"},
			cidr.Request{Family: cidr.IPv4, Prefix: netip.MustParsePrefix("10.0.0.0/24"), Bits: 24}, "10.0.0.0/24", false},
		{"IPv6 prefix", v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv6, Prefix: "2001:db8::/48"},
			cidr.Request{Family: cidr.IPv6, Prefix: netip.MustParsePrefix("2001:db8::/48"), Bits: 48}, "2001:db8::/48", false},
		{"nothing", v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4}, cidr.Request{}, "", true},
		{"negative length", v1alpha1.PrefixAllocationSpec{PrefixLength: -1}, cidr.Request{}, "", true},
		{"bad prefix", v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0"}, cidr.Request{}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Of(&tt.spec)
			if (err != nil) != tt.failed || got != tt.want {
				t.Fatalf("got %+v, %v", got, err)
			}
			prefix := v1alpha1.PrefixSpec{IPFamily: tt.spec.IPFamily, Prefix: tt.spec.Prefix, PrefixLength: tt.spec.PrefixLength}
			if got, err := OfPrefix(&prefix); (err != nil) != tt.failed || got != tt.want {
				t.Fatalf("a Prefix requests %+v, %v", got, err)
			}
			if err == nil && got.String() != tt.text {
				t.Errorf("reads %q, want %q", got, tt.text)
			}
		})
	}
}
