// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
)

// sharedPool creates a root with the label pool=a in the namespace of a context, and shares it with another namespace.
func (s *server) sharedPool(t *testing.T, ctx context.Context, prefix, with string) *ipam.Prefix {
	t.Helper()
	s.root(t, ctx, "pool", prefix)
	pool := must[*ipam.Prefix](t)(s.updatePrefix(ctx, "pool", func(p *ipam.Prefix) { p.Labels = map[string]string{"pool": "a"} }))
	s.coolDown(t, ctx, "share", func(spec *ipam.PrefixPolicySpec) {
		spec.PrefixSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
		spec.SharedWith = &ipam.PrefixSharing{Namespaces: []string{"somebody", with}}
	})
	return pool
}

// bindFrom binds an allocation to a prefix of a parent in another namespace.
func (s *server) bindFrom(ctx context.Context, name, namespace, parent, prefix string) error {
	_, err := s.allocations.Binding.Create(ctx, name, &ipam.PrefixAllocationBinding{
		Prefix: prefix, PrefixRef: ipam.BindingReference{Namespace: namespace, Name: parent},
	}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	return err
}

// foreign creates a Pending allocation for space of a parent in another namespace.
func (s *server) foreign(t *testing.T, ctx context.Context, name string, child *ipam.Prefix, namespace, prefix string) *ipam.PrefixAllocation {
	t.Helper()
	return s.request(t, ctx, name, child, ipam.PrefixAllocationSpec{
		IPFamily: familyOf(prefix), PrefixLength: int32(netip.MustParsePrefix(prefix).Bits()), PrefixSelector: anyParent, PrefixNamespace: namespace,
	})
}

// TestConsentIsCompared takes a consent back when the plan of a bind is complete, or of an update by which a child takes back
// what cools down for it, just before its transaction. Nothing is allocated then. Without the compare that sees it, it would
// be.
func TestConsentIsCompared(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, test := range []struct {
		name string
		// compared is what the transaction compares, as the end of its key.
		compared string
		withdraw func(s *server, ctx context.Context) error
	}{
		{"the policy is deleted", "/prefixpolicies/", func(s *server, ctx context.Context) error {
			_, _, err := s.policies.Main.Delete(ctx, "share", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
			return err
		}},
		{"the policy does not share", "/prefixpolicies/", func(s *server, ctx context.Context) error {
			_, err := update(ctx, s.policies.Main, "share", func(p *ipam.PrefixPolicy) { p.Spec.SharedWith = nil })
			return err
		}},
		{"the policy names others", "/prefixpolicies/", func(s *server, ctx context.Context) error {
			_, err := update(ctx, s.policies.Main, "share", func(p *ipam.PrefixPolicy) { p.Spec.SharedWith.Namespaces = []string{"somebody"} })
			return err
		}},
		{"the policy selects others", "/prefixpolicies/", func(s *server, ctx context.Context) error {
			_, err := update(ctx, s.policies.Main, "share", func(p *ipam.PrefixPolicy) { p.Spec.PrefixSelector.MatchLabels["pool"] = "b" })
			return err
		}},
		{"the parent has another label", "/prefixes/", func(s *server, ctx context.Context) error {
			_, err := s.updatePrefix(ctx, "pool", func(p *ipam.Prefix) { p.Labels["pool"] = "b" })
			return err
		}},
	} {
		for _, v := range fewVariants {
			for n := range 4 {
				compares, takesBack := n%2 == 0, n >= 2
				s := newServer(t, etcd, v)
				owner, namespace := newNamespace(t)
				tenant, tenantName := newNamespace(t)
				s.sharedPool(t, owner, "10.0.0.0/16", tenantName)
				var write func() error
				if takesBack {
					s.coolDown(t, owner, "cool", forAnHour)
					spec := ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "pool"}, ParentNamespace: namespace}
					s.foreign(t, tenant, "a", must[*ipam.Prefix](t)(s.createPrefix(tenant, "child", spec)), namespace, "10.0.5.0/24")
					ok(t, s.bindFrom(tenant, "a", namespace, "pool", "10.0.5.0/24"))
					ok(t, s.end(tenant, "child"))
					ok(t, s.deleteAllocation(tenant, "a"))
					again := must[*ipam.Prefix](t)(s.createPrefix(tenant, "child", spec))
					write = func() error { return s.takeBack(tenant, "a", again) }
				} else {
					s.foreign(t, tenant, "a", nil, namespace, "10.0.5.0/24")
					write = func() error { return s.bindFrom(tenant, "a", namespace, "pool", "10.0.5.0/24") }
				}
				if !compares {
					s.tamper.take(func(txn txn, c clientv3.Cmp) bool {
						return txn.key() == s.allocationKey(tenantName, "a") && strings.Contains(string(c.GetCompare().Key), test.compared+namespace+"/")
					})
				}
				// A consistent list waits for the watch cache. With an old version of the allocation the first transaction would
				// fail, and the next one begins when the consent is gone.
				must[runtime.Object](t)(s.allocations.Main.List(tenant, &internalversion.ListOptions{}))
				s.tamper.beforeWriteOf(s.allocationKey(tenantName, "a"), func() { ok(t, test.withdraw(s, owner)) })
				err := write()
				bound := err == nil
				if !bound && !apierrors.IsConflict(err) && !(takesBack && apierrors.IsForbidden(err)) {
					t.Errorf("neither done nor refused: %v", err)
				}
				if waiting := s.tamper.waiting(); len(waiting) > 0 {
					t.Errorf("%s: nothing was written to %v", test.name, waiting)
				}
				if bound == compares {
					t.Errorf("%s, %+v: done %v, with the compare: %v, takes back: %v", test.name, v, bound, compares, takesBack)
				}
				s.check(t)
			}
		}
	}
}

// TestShared goes through the life of a child whose parent is in another namespace.
func TestShared(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		for _, of := range []struct{ pool, own, foreign, other string }{
			{"10.0.0.0/16", "10.0.5.0/24", "10.0.6.0/24", "10.0.6.128/25"},
			{"2001:db8::/32", "2001:db8:5::/48", "2001:db8:6::/48", "2001:db8:6:8000::/49"},
		} {
			s := newServer(t, etcd, v)
			owner, namespace := newNamespace(t)
			tenant, tenantName := newNamespace(t)
			stranger, _ := newNamespace(t)
			pool := s.sharedPool(t, owner, of.pool, tenantName)
			s.liveChild4or6(t, owner, "own", of.own)

			child := must[*ipam.Prefix](t)(s.createPrefix(tenant, "child", ipam.PrefixSpec{
				IPFamily: familyOf(of.foreign), PrefixLength: int32(netip.MustParsePrefix(of.foreign).Bits()),
				ParentSelector: anyParent, ParentNamespace: namespace,
			}))
			s.foreign(t, tenant, "child", child, namespace, of.foreign)
			// A binding without a namespace means a parent in the own one.
			s.refused(t, func() error { return s.bind(tenant, "child", "pool", of.foreign, "") }, metav1.StatusReasonConflict, "it asks for a parent in namespace "+namespace)
			ok(t, s.bindFrom(tenant, "child", namespace, "pool", of.foreign))
			ok(t, s.bindFrom(tenant, "child", namespace, "pool", of.foreign))
			complete := func(parent, prefix string) error {
				_, err := s.prefixes.Binding.Create(tenant, "child", &ipam.PrefixBinding{
					Prefix: prefix, ParentRef: ipam.BindingReference{Namespace: namespace, Name: parent},
				}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
				return err
			}
			// A parent that does not exist, and space that is somebody else's, look the same.
			for _, parent := range []string{"pool", "missing"} {
				s.refused(t, func() error { return complete(parent, of.own) }, metav1.StatusReasonConflict,
					"none of its PrefixAllocations holds "+of.own+" of Prefix "+namespace+"/"+parent)
			}
			ok(t, complete("pool", of.foreign))
			s.check(t)

			// What is not shared, and what does not exist, look the same.
			s.foreign(t, stranger, "a", nil, namespace, of.other)
			for _, parent := range []string{"pool", "missing"} {
				s.refused(t, func() error { return s.bindFrom(stranger, "a", namespace, parent, of.other) }, metav1.StatusReasonConflict,
					of.other+" cannot be allocated from Prefix "+namespace+"/"+parent+", which does not exist or is not shared with namespace "+namespaceOf(stranger))
			}
			// The owner does not learn who the tenant is, and the tenant not who the owner's holder is.
			s.requestLength(t, owner, "late", nil, of.other)
			refusal := s.refused(t, func() error { return s.bind(owner, "late", "pool", of.other, "") }, metav1.StatusReasonConflict, "which another namespace holds")
			s.tellsNothing(t, refusal.Error(), refusal.ErrStatus.Details.Causes, tenantName, "child")
			s.foreign(t, tenant, "late", nil, namespace, of.own)
			refusal = s.refused(t, func() error { return s.bindFrom(tenant, "late", namespace, "pool", of.own) }, metav1.StatusReasonConflict, "which another namespace holds")
			s.tellsNothing(t, refusal.Error(), refusal.ErrStatus.Details.Causes, "own")

			// The parent waits for the child, and the allocation for its child.
			s.unprotect(t, owner, "pool")
			s.refused(t, func() error { return s.deleteAllocation(tenant, "child") }, metav1.StatusReasonConflict, "is in use by Prefix child")
			ok(t, s.end(owner, "own"))
			ok(t, s.deleteAllocation(owner, "own"))
			refusal = s.refused(t, func() error { return s.deletePrefix(owner, "pool") }, metav1.StatusReasonConflict, "another namespace holds it")
			s.tellsNothing(t, refusal.Error(), refusal.ErrStatus.Details.Causes, tenantName, "child")

			// A store that was written without claims is adopted.
			if _, err := etcd.Delete(t.Context(), s.claimKey(pool.UID, netip.MustParsePrefix(of.foreign))); err != nil {
				t.Fatal(err)
			}
			if left, err := s.auditor.Adopt(t.Context(), nil); err != nil || len(left) > 0 {
				t.Errorf("adopted: %v, %v", left, err)
			}
			s.check(t)

			ok(t, s.end(tenant, "child"))
			ok(t, s.deleteAllocation(tenant, "child"))
			ok(t, s.deletePrefix(owner, "pool"))
			s.check(t)
		}
	}
}

// liveChild4or6 creates an Allocated child of the parent pool.
func (s *server) liveChild4or6(t *testing.T, ctx context.Context, name, prefix string) {
	t.Helper()
	child := must[*ipam.Prefix](t)(s.createPrefix(ctx, name, ipam.PrefixSpec{
		IPFamily: familyOf(prefix), PrefixLength: int32(netip.MustParsePrefix(prefix).Bits()), ParentRef: &ipam.LocalObjectReference{Name: "pool"},
	}))
	s.allocate(t, ctx, name, child, "pool", prefix)
	if err := s.complete(ctx, name, "pool", prefix, ""); err != nil {
		t.Fatal(err)
	}
}

// tellsNothing checks that a refusal does not contain any of the words.
func (s *server) tellsNothing(t *testing.T, message string, causes []metav1.StatusCause, words ...string) {
	t.Helper()
	for _, cause := range causes {
		message += "\n" + cause.Message
	}
	for _, word := range words {
		if strings.Contains(message, word) {
			t.Errorf("it tells %q: %s", word, message)
		}
	}
}

// TestForeignChild expects that nobody gets space for a child that asks for a parent in another namespace than the
// allocation does: the child would stand on space that the claim does not protect.
func TestForeignChild(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		s := newServer(t, etcd, v)
		owner, namespace := newNamespace(t)
		tenant, tenantName := newNamespace(t)
		s.sharedPool(t, owner, "10.0.0.0/16", tenantName)
		s.root(t, tenant, "pool", "10.0.0.0/16")
		local := s.child(t, tenant, "local", "pool", 24)
		s.foreign(t, tenant, "a", local, namespace, "10.0.5.0/24")
		s.refused(t, func() error { return s.bindFrom(tenant, "a", namespace, "pool", "10.0.5.0/24") }, metav1.StatusReasonConflict, "does not ask for")
		foreign := must[*ipam.Prefix](t)(s.createPrefix(tenant, "foreign", ipam.PrefixSpec{
			IPFamily: ipam.IPv4, PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "pool"}, ParentNamespace: namespace,
		}))
		s.requestLength(t, tenant, "b", foreign, "10.0.5.0/24")
		s.refused(t, func() error { return s.bind(tenant, "b", "pool", "10.0.5.0/24", "") }, metav1.StatusReasonConflict, "does not ask for")
		s.check(t)
	}
}

// TestSharedCoolDown expects that a child gets back what cools down for it only while the parent is shared.
func TestSharedCoolDown(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		s := newServer(t, etcd, v)
		owner, namespace := newNamespace(t)
		tenant, tenantName := newNamespace(t)
		s.sharedPool(t, owner, "10.0.0.0/16", tenantName)
		s.coolDown(t, owner, "cool", func(spec *ipam.PrefixPolicySpec) { spec.CoolDown = &metav1.Duration{Duration: time.Hour} })
		spec := ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "pool"}, ParentNamespace: namespace}
		child := must[*ipam.Prefix](t)(s.createPrefix(tenant, "child", spec))
		s.foreign(t, tenant, "a", child, namespace, "10.0.5.0/24")
		ok(t, s.bindFrom(tenant, "a", namespace, "pool", "10.0.5.0/24"))
		ok(t, s.end(tenant, "child"))
		if gone, err := s.deletes(t, tenant, "a", &metav1.DeleteOptions{}); gone || err != nil {
			t.Fatalf("it does not cool down: %v", err)
		}
		again := must[*ipam.Prefix](t)(s.createPrefix(tenant, "child", spec))
		_, err := update(owner, s.policies.Main, "share", func(p *ipam.PrefixPolicy) { p.Spec.SharedWith = nil })
		ok(t, err)
		s.refused(t, func() error { return s.takeBack(tenant, "a", again) }, metav1.StatusReasonForbidden, "is not shared with namespace "+tenantName+" any more")
		_, err = update(owner, s.policies.Main, "share", func(p *ipam.PrefixPolicy) { p.Spec.SharedWith = &ipam.PrefixSharing{All: true} })
		ok(t, err)
		ok(t, s.takeBack(tenant, "a", again))
		s.check(t)
	}
}
