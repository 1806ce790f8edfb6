// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
)

// parents returns allocated parents. A prefix that begins with ">" is a child.
func parents(prefixes ...string) []parent {
	var all []parent
	for _, prefix := range prefixes {
		cidr, child := strings.CutPrefix(prefix, ">")
		p := parent{&v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: cidr}, Spec: v1alpha1.PrefixSpec{Prefix: cidr}}, netip.MustParsePrefix(cidr)}
		if child {
			p.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: "parent"}
		}
		all = append(all, p)
	}
	return all
}

// TestResolved shows which parents of a pool count, and which of their addresses no machine may get.
func TestResolved(t *testing.T) {
	for _, tt := range []struct {
		name         string
		parents      []parent
		gateway      string
		length, mask int32
		// holds are the addresses that are held, with what they are.
		holds string
		// invalid is a part of the reason why the pool makes no sense.
		invalid string
	}{
		{name: "IPv4", parents: parents("10.0.0.0/24"), gateway: "10.0.0.1", holds: "10.0.0.1 gateway, 10.0.0.0 network, 10.0.0.255 broadcast"},
		{name: "no gateway", parents: parents("10.0.0.0/24"), holds: "10.0.0.0 network, 10.0.0.255 broadcast"},
		{name: "the gateway is the last address", parents: parents("2001:db8::/64"), gateway: "2001:db8::ffff", holds: "2001:db8::ffff gateway, 2001:db8:: anycast"},
		{name: "the gateway is the anycast address", parents: parents("2001:db8::/64"), gateway: "2001:db8::", holds: "2001:db8:: gateway"},
		{name: "the gateway is elsewhere", parents: parents("10.0.0.0/24"), gateway: "10.0.1.1", holds: "10.0.0.0 network, 10.0.0.255 broadcast"},
		{name: "a part of the subnet", parents: parents("10.0.0.64/26"), mask: 24, gateway: "10.0.0.1"},
		{name: "the end of the subnet", parents: parents("10.0.0.192/26"), mask: 24, holds: "10.0.0.255 broadcast"},
		{name: "the subnet is smaller than the parent", parents: parents("10.0.0.0/16"), mask: 24, holds: "10.0.0.0 network, 10.0.255.255 broadcast"},
		{name: "point to point", parents: parents("10.0.0.0/31")},
		{name: "no subnet of its own", parents: parents("10.0.0.0/24"), mask: 32},
		{name: "IPv6 point to point", parents: parents("2001:db8::/127")},
		{name: "blocks", parents: parents("2001:db8::/48"), length: 64, gateway: "2001:db8::1", holds: "2001:db8::1 gateway"},
		{name: "two parents", parents: parents("10.0.1.0/30", "10.0.0.0/30"), gateway: "10.0.1.1",
			holds: "10.0.0.0 network, 10.0.0.3 broadcast, 10.0.1.1 gateway, 10.0.1.0 network, 10.0.1.3 broadcast"},
		{name: "a parent in a parent", parents: parents(">10.0.0.0/28", "10.0.0.0/24"), holds: "10.0.0.0 network, 10.0.0.255 broadcast"},
		{name: "two roots", parents: parents("10.0.0.0/30", "10.0.0.0/30"), invalid: "overlap"},
		{name: "a root in a root", parents: parents("10.0.0.0/28", "10.0.0.0/24"), invalid: "(10.0.0.0/24) and"},
		{name: "gateway of the other family", parents: parents("10.0.0.0/24"), gateway: "2001:db8::1", invalid: "gateway 2001:db8::1 is not an address of IPv4"},
		{name: "length of the other family", parents: parents("10.0.0.0/24"), length: 64, invalid: "at most 32"},
		{name: "mask of the other family", parents: parents("10.0.0.0/24"), mask: 64, invalid: "at most 32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &pool{Object: &v1alpha1.Prefix{}, length: tt.length, mask: tt.mask}
			p.setGateway("gateway", tt.gateway)
			r := &resolved{pool: p, parents: slices.Clone(tt.parents)}
			r.outermost()
			if why := r.complete(); tt.invalid != "" || why != "" {
				if tt.invalid == "" || !strings.Contains(why, tt.invalid) {
					t.Errorf("%s, not %s", why, tt.invalid)
				}
				return
			}
			var holds []string
			for _, h := range r.wantedHolds() {
				holds = append(holds, fmt.Sprintf("%s %s", h.address, h.as))
				if prefix := h.prefix(p); len(validation.IsDNS1123Subdomain("uid"+prefix.Name)) > 0 || prefix.Spec.Prefix != single(h.address).String() {
					t.Errorf("%+v", prefix)
				}
			}
			if got := strings.Join(holds, ", "); got != tt.holds {
				t.Errorf("holds %s, not %s", got, tt.holds)
			}
		})
	}
}

// A child with the range of its root is no parent of its own, whichever name comes first.
func TestOutermostSameRange(t *testing.T) {
	for _, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
		all := parents(">10.0.0.0/24", "10.0.0.0/24")
		all[0].Name, all[1].Name = names[0], names[1]
		r := &resolved{pool: &pool{Object: &v1alpha1.Prefix{}}, parents: all}
		r.outermost()
		if why := r.complete(); why != "" || len(r.parents) != 1 || r.parents[0].Name != names[1] {
			t.Errorf("child %s of root %s: %d parents, %s", names[0], names[1], len(r.parents), why)
		}
	}
}

// TestFree counts for how many claims there is space.
func TestFree(t *testing.T) {
	for _, tt := range []struct {
		parent, free string
		length       int32
		want         string
	}{
		{"10.0.0.0/24", "253", 32, "253"},
		{"10.0.0.0/24", "16", 28, "1"},
		{"10.0.0.0/24", "15", 28, "0"},
		{"2001:db8::/48", "1208925819614629174706176", 64, "65536"},
	} {
		r := &resolved{pool: &pool{length: tt.length}, parents: parents(tt.parent)}
		r.family = v1alpha1.IPFamily(cidr.FamilyOf(r.parents[0].cidr))
		r.parents[0].Status.Usage = &v1alpha1.PrefixUsage{Free: tt.free}
		if got := r.free(); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestForeignParents has a pool whose parents are in another namespace. Nothing is read of them.
func TestForeignParents(t *testing.T) {
	of := func(change func(*capiv1alpha1.PrefixPoolSpec)) *pool {
		o := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: "nodes", UID: "u"}, Spec: capiv1alpha1.PrefixPoolSpec{
			ParentRef: &capiv1alpha1.PrefixReference{Name: "nodes"}, ParentNamespace: "owner", IPFamily: "IPv6", Prefix: 64, Gateway: "2001:db8::1",
		}}
		change(&o.Spec)
		return poolOfPrefixPool(o)
	}
	resolve := func(p *pool) (*resolved, *notReady) {
		t.Helper()
		r, why, err := p.resolve(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r, why
	}
	r, why := resolve(of(func(*capiv1alpha1.PrefixPoolSpec) {}))
	if why != nil || r.length != 128 || r.maskFor(&v1alpha1.Prefix{}) != 64 || r.free() != "" || len(r.holds) != 1 {
		t.Fatalf("%+v, %+v", r, why)
	}
	held := r.holds[0].prefix(r.pool)
	if want := (v1alpha1.PrefixSpec{IPFamily: "IPv6", Prefix: "2001:db8::1/128", ParentRef: &v1alpha1.LocalObjectReference{Name: "nodes"}, ParentNamespace: "owner"}); !reflect.DeepEqual(held.Spec, want) {
		t.Errorf("the gateway is held by %+v", held.Spec)
	}
	if r.selects(&v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: "nodes"}}) {
		t.Error("it has a parent in its own namespace")
	}
	selecting := of(func(s *capiv1alpha1.PrefixPoolSpec) { s.ParentRef, s.ParentSelector = nil, &metav1.LabelSelector{} })
	if r, why := resolve(selecting); why != nil || r.holds[0].prefix(r.pool).Spec.ParentSelector == nil {
		t.Errorf("%+v, %+v", r, why)
	}
	// Of its own namespace it knows the parents.
	if own := of(func(s *capiv1alpha1.PrefixPoolSpec) { s.ParentNamespace = "tenant" }); own.foreign != "" {
		t.Errorf("foreign: %s", own.foreign)
	}
	for name, change := range map[string]func(*capiv1alpha1.PrefixPoolSpec){
		"ipFamily and prefix": func(s *capiv1alpha1.PrefixPoolSpec) { s.IPFamily = "" },
		"are required":        func(s *capiv1alpha1.PrefixPoolSpec) { s.Prefix = 0 },
		"at most 32":          func(s *capiv1alpha1.PrefixPoolSpec) { s.IPFamily, s.Gateway = "IPv4", "" },
		"is not an address":   func(s *capiv1alpha1.PrefixPoolSpec) { s.Gateway = "10.0.0.1" },
	} {
		if _, why := resolve(of(change)); why == nil || why.reason != capiv1alpha1.ReasonInvalidPool || !strings.Contains(why.message, name) {
			t.Errorf("%s: %+v", name, why)
		}
	}
}

func TestLabelValue(t *testing.T) {
	long := strings.Repeat("a", 70)
	if got := labelValue(long); len(validation.IsValidLabelValue(got)) > 0 || got == labelValue(long+"b") {
		t.Error(got)
	}
	if got := labelValue("machine-0"); got != "machine-0" {
		t.Error(got)
	}
}

// TestIsOurs shows which claims this provider serves.
func TestIsOurs(t *testing.T) {
	for ref, want := range map[ipamv1.IPPoolReference]bool{
		{APIGroup: "capi.ipam.ironcore.dev", Kind: "PrefixPool", Name: "a"}:     true,
		{APIGroup: "ipam.ironcore.dev", Kind: "Prefix", Name: "a"}:              true,
		{APIGroup: "ipam.ironcore.dev", Kind: "PrefixPool", Name: "a"}:          false,
		{APIGroup: "capi.ipam.ironcore.dev", Kind: "Prefix", Name: "a"}:         false,
		{APIGroup: "ipam.cluster.x-k8s.io", Kind: "InClusterIPPool", Name: "a"}: false,
		{}: false,
	} {
		if isOurs(ref) != want {
			t.Errorf("%+v: %v", ref, !want)
		}
	}
}

// TestHeldFor shows that only what the provider has created is released with a pool.
func TestHeldFor(t *testing.T) {
	p := &pool{Object: &v1alpha1.Prefix{}, kind: v1alpha1.PrefixKind}
	p.SetName("nodes")
	held := hold{address: netip.MustParseAddr("10.0.0.1"), as: heldAsGateway, parent: "nodes"}.prefix(p)
	if got := heldFor(held); !slices.Equal(got, []string{p.key()}) {
		t.Errorf("%q", got)
	}
	copied := held.DeepCopy()
	copied.Labels = nil
	if got := heldFor(copied); got != nil {
		t.Errorf("a Prefix of somebody else: %q", got)
	}
}
