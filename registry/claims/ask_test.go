// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
)

// TestHoldersAreNamed checks that an error names the Prefix that holds the range, and the controller of that
// Prefix. If the allocation is for no Prefix, the error names the PrefixAllocation.
func TestHoldersAreNamed(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			ctx, _ := newNamespace(t)
			parent := s.root(t, ctx, "root", "10.0.0.0/16")
			s.liveChild(t, ctx, "plain", "root", "10.0.1.0/24")
			s.liveChild(t, ctx, "controlled", "root", "10.0.2.0/24")
			if _, err := s.updatePrefix(ctx, "controlled", func(p *ipam.Prefix) {
				p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "Machine", Name: "m-1", UID: "m", Controller: new(true)}}
			}); err != nil {
				t.Fatal(err)
			}
			s.allocate(t, ctx, "lonely", nil, "root", "10.0.3.0/24")
			for _, test := range []struct{ wanted, held, by string }{
				{"10.0.1.0/24", "10.0.1.0/24", "Prefix plain"},
				{"10.0.1.128/25", "10.0.1.0/24", "Prefix plain"},
				{"10.0.2.7/32", "10.0.2.0/24", "Prefix controlled of Machine m-1"},
				{"10.0.2.0/23", "10.0.2.0/24", "Prefix controlled of Machine m-1"},
				{"10.0.3.0/25", "10.0.3.0/24", "PrefixAllocation lonely"},
			} {
				name := "r-" + strings.NewReplacer(".", "-", "/", "-").Replace(test.wanted)
				s.requestLength(t, ctx, name, nil, test.wanted)
				// The watch cache gets the controller reference a moment later.
				waitFor(t, func() error {
					held, by, err := s.planner.Holder(ctx, parent, netip.MustParsePrefix(test.wanted), parent.Namespace)
					if err != nil || held.String() != test.held || by != test.by {
						return fmt.Errorf("%s is held by %q as %s, %v", test.wanted, by, held, err)
					}
					return nil
				})
				s.refused(t, func() error { return s.bind(ctx, name, "root", test.wanted, "") }, metav1.StatusReasonConflict,
					test.wanted+" of Prefix root overlaps "+test.held+", which "+test.by+" holds")
			}
			if held, by, err := s.planner.Holder(ctx, parent, netip.MustParsePrefix("10.0.4.0/24"), parent.Namespace); held.IsValid() || err != nil {
				t.Errorf("what is free is held by %q as %s, %v", by, held, err)
			}
			if err := s.deletePrefix(ctx, "root"); err != nil {
				t.Fatal(err)
			}
			s.refused(t, func() error { return s.letGo(ctx, "root") }, metav1.StatusReasonConflict, "10.0.1.0/24 is still allocated from it: Prefix plain holds it")
			s.check(t)
		})
	}
}

// TestHolderFindsWhatOverlaps compares Holder with a naive model.
func TestHolderFindsWhatOverlaps(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	s := newServer(t, etcd, variant{cached: true})
	random := rand.New(rand.NewPCG(1, 2))
	for _, whole := range []string{"10.0.0.0/16", "2001:db8::/112"} {
		ctx, _ := newNamespace(t)
		parent := s.root(t, ctx, "root", whole)
		within := netip.MustParsePrefix(whole)
		pick := func() netip.Prefix {
			bytes := within.Addr().AsSlice()
			bytes[len(bytes)-2], bytes[len(bytes)-1] = byte(random.IntN(4)), byte(random.IntN(256))
			addr, _ := netip.AddrFromSlice(bytes)
			return netip.PrefixFrom(addr, within.Bits()+5+random.IntN(12)).Masked()
		}
		var held []netip.Prefix
		for i := range 12 {
			prefix := pick()
			name := fmt.Sprintf("a-%d", i)
			s.requestLength(t, ctx, name, nil, prefix.String())
			if err := s.bind(ctx, name, "root", prefix.String(), ""); err == nil {
				held = append(held, prefix)
			} else if !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
		}
		for range 300 {
			wanted := pick()
			found, by, err := s.planner.Holder(ctx, parent, wanted, parent.Namespace)
			overlaps, isOne := false, false
			for _, h := range held {
				overlaps = overlaps || h.Overlaps(wanted)
				isOne = isOne || h == found && h.Overlaps(wanted)
			}
			if err != nil || found.IsValid() != overlaps || overlaps && (!isOne || !strings.HasPrefix(by, "PrefixAllocation a-")) {
				t.Errorf("%s: found %s of %q, %v, among %v", wanted, found, by, err, held)
			}
		}
		if n, err := s.planner.Children(ctx, parent); n != int64(len(held)) || err != nil {
			t.Errorf("counted %d of %d, %v", n, len(held), err)
		}
	}
}

// TestChildren shows that the count comes from the status, unless the status is outdated.
func TestChildren(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	s := newServer(t, etcd, variant{})
	ctx, _ := newNamespace(t)
	parent := s.root(t, ctx, "root", "10.0.0.0/16")
	count := func(want int64) {
		t.Helper()
		if n, err := s.planner.Children(ctx, parent); n != want || err != nil {
			t.Errorf("counted %d, not %d, %v", n, want, err)
		}
	}
	count(0)
	for i := range 3 {
		s.allocate(t, ctx, fmt.Sprintf("a-%d", i), nil, "root", fmt.Sprintf("10.0.%d.0/24", i))
	}
	count(3)
	parent.Status.Usage = &ipam.PrefixUsage{Allocations: 2}
	count(2)
	for i := range 3 {
		if err := s.deleteAllocation(ctx, fmt.Sprintf("a-%d", i)); err != nil {
			t.Error(err)
		}
	}
	count(0)
}

// TestCheckable compares cidr.Checkable with the storage, around the limit of a transaction.
func TestCheckable(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	s := newServer(t, etcd, variant{})
	pools, poolNamespace := newNamespace(t)
	ctx, namespace := newNamespace(t)
	ones := netip.MustParseAddr("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	outcomes := map[bool]int{}
	n := 0
	for _, whole := range []string{"::/0", "f800::/5", "fc00::/6"} {
		s.root(t, ctx, "pool", whole)
		s.sharedPool(t, pools, whole, namespace)
		for bits := 123; bits <= 128; bits++ {
			for i := range 4 {
				forChild, foreign := i&1 != 0, i&2 != 0
				n++
				wanted := netip.PrefixFrom(ones, bits).Masked()
				checkable := cidr.Checkable(netip.MustParsePrefix(whole), wanted, forChild, foreign)
				outcomes[checkable]++
				name, home := fmt.Sprintf("a-%d", n), namespace
				if foreign {
					home = poolNamespace
				}
				var child *ipam.Prefix
				if forChild {
					child = must[*ipam.Prefix](t)(s.createPrefix(ctx, "c-"+name, ipam.PrefixSpec{
						IPFamily: ipam.IPv6, Prefix: wanted.String(), ParentNamespace: home, ParentRef: &ipam.LocalObjectReference{Name: "pool"},
					}))
				}
				s.foreign(t, ctx, name, child, home, wanted.String())
				err := s.bindFrom(ctx, name, home, "pool", wanted.String())
				if (err == nil) != checkable || err != nil && !strings.Contains(err.Error(), "too far below") {
					t.Errorf("%s of %s, for a child %v, foreign %v: checkable is %v, the storage answers %v", wanted, whole, forChild, foreign, checkable, err)
				}
				if err == nil {
					if err := s.deleteAllocation(ctx, name); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for _, ctx := range []context.Context{ctx, pools} {
			if err := s.end(ctx, "pool"); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := s.policies.Main.Delete(pools, "share", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Errorf("it was always the same: %v", outcomes)
	}
}

// waitFor waits until the check returns nil.
func waitFor(t testing.TB, check func() error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatal(err)
		}
	}
}
