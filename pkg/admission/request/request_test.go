// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
)

// TestTheSchedulerSaysTheSame compares the message of Misfit with that of the scheduler. A user who was warned
// finds the same words in the condition.
func TestTheSchedulerSaysTheSame(t *testing.T) {
	parents := []string{"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.0/32", "::/0", "2001:db8::/32", "2001:db8::1/128"}
	families := []string{"", cidr.IPv4, cidr.IPv6}
	var requests []Request
	for _, family := range families {
		for _, bits := range []int{1, 8, 9, 24, 25, 32, 33, 64, 128} {
			requests = append(requests, Request{Request: cidr.Request{Family: family, Bits: bits}})
		}
	}
	for _, s := range append([]string{"10.0.0.128/25", "10.1.0.0/16", "11.0.0.0/24", "2001:db8:1::/48", "fd00::/48"}, parents...) {
		requests = append(requests, Request{Request: cidr.Exactly(netip.MustParsePrefix(s))})
	}
	misfits := 0
	for _, p := range parents {
		for _, r := range requests {
			want := ""
			if why := r.Request.Misfit(netip.MustParsePrefix(p)); why != "" {
				want = fmt.Sprintf("parent (%s) %s", p, why)
				misfits++
			}
			parent := &ipam.Prefix{Spec: ipam.PrefixSpec{Prefix: p}}
			parent.Name = "parent"
			got := ""
			if errs := r.Misfit(parent); len(errs) > 0 {
				got = errs[0].Detail
			}
			if got != want {
				t.Errorf("%s asked for %+v: %q, but the scheduler says %q", p, r, got, want)
			}
		}
	}
	if misfits < 50 {
		t.Errorf("only %d of the requests do not fit", misfits)
	}
}

func TestAPendingParentTellsWhatItKnows(t *testing.T) {
	for _, test := range []struct {
		parent ipam.PrefixSpec
		family ipam.IPFamily
		bits   int
		want   string
	}{
		{ipam.PrefixSpec{}, ipam.IPv4, 24, ""},
		{ipam.PrefixSpec{IPFamily: ipam.IPv4}, "", 24, ""},
		{ipam.PrefixSpec{IPFamily: ipam.IPv4}, ipam.IPv6, 24, "parent is IPv4, not IPv6"},
		{ipam.PrefixSpec{IPFamily: ipam.IPv4}, "", 64, "parent is IPv4, which has no /64"},
		{ipam.PrefixSpec{PrefixLength: 24}, "", 64, ""},
		{ipam.PrefixSpec{PrefixLength: 24}, "", 24, "parent is too small to hold a /24"},
		{ipam.PrefixSpec{PrefixLength: 24}, "", 25, ""},
	} {
		parent := &ipam.Prefix{Spec: test.parent}
		parent.Name = "parent"
		got := ""
		if errs := (Request{Request: cidr.Request{Family: string(test.family), Bits: test.bits}}).Misfit(parent); len(errs) > 0 {
			got = errs[0].Detail
			if !strings.HasPrefix(errs[0].Field, "spec.") {
				t.Errorf("field is %q", errs[0].Field)
			}
		}
		if got != test.want {
			t.Errorf("%+v asked for %s /%d: %q, want %q", test.parent, test.family, test.bits, got, test.want)
		}
	}
}
