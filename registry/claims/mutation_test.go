// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// race is a write that another write overtakes at the critical moment: when its plan is complete, just before its
// transaction.
type race struct {
	name string
	// run does both writes. It returns the acknowledged results that do not hold.
	run func(t *testing.T, s *server, ctx context.Context, namespace string) []string
}

// kept reports whether a write succeeded. It may be rejected or find no object, but not fail in another way.
func kept(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		t.Errorf("neither done nor refused: %v", err)
	}
	return err == nil
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("what came first failed: %v", err)
	}
}

// deepWanted has alternating ones and zeros, so that there are many ranges around it.
var deepWanted = netip.MustParsePrefix("10.85.85.85/32")

// ancestorsOf returns all prefixes around another one, inside a parent, that begin at different addresses.
func ancestorsOf(prefix, parent netip.Prefix) []netip.Prefix {
	var ancestors []netip.Prefix
	for length := prefix.Bits() - 1; length > parent.Bits(); length-- {
		if a := netip.PrefixFrom(prefix.Addr(), length).Masked(); a.Addr() != prefix.Addr() {
			ancestors = append(ancestors, a)
		}
	}
	return ancestors
}

// bindRace is a bind that another bind overtakes.
func bindRace(name, whole, wanted, overtaking string) race {
	return race{name, func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
		s.root(t, ctx, "parent", whole)
		s.requestLength(t, ctx, "a", nil, wanted)
		s.requestLength(t, ctx, "b", nil, overtaking)
		s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.bind(ctx, "b", "parent", overtaking, "")) })
		kept(t, s.bind(ctx, "a", "parent", wanted, ""))
		return nil
	}}
}

func races() []race {
	all := []race{
		{"root, one that overlaps is created", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			// Use another server: in this one the two would wait for each other.
			other := newServerAt(t, s.etcd, variant{}, s.prefix)
			s.tamper.beforeWriteOf(s.prefixKey(namespace, "a"), func() { ok(t, other.createRoot(ctx, "b", "10.0.0.0/8")) })
			if err := s.createRoot(ctx, "a", "10.0.0.0/16"); err != nil && !apierrors.IsInvalid(err) {
				t.Errorf("neither done nor refused: %v", err)
			}
			return nil
		}},
		{"the last root but one goes, the last one goes", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			ok(t, s.createRoot(ctx, "a", "10.0.0.0/8"))
			ok(t, s.createRoot(ctx, "b", "11.0.0.0/8"))
			s.tamper.beforeWriteOf(s.prefixKey(namespace, "a"), func() {
				s.tamper.beforeWriteOf(s.prefixKey(namespace, "a"), func() { ok(t, s.end(ctx, "b")) })
			})
			ok(t, s.end(ctx, "a"))
			return nil
		}},
		{"the last root goes, one is created", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			ok(t, s.createRoot(ctx, "a", "10.0.0.0/8"))
			s.tamper.beforeWriteOf(s.prefixKey(namespace, "a"), func() {
				s.tamper.beforeWriteOf(s.prefixKey(namespace, "a"), func() { ok(t, s.createRoot(ctx, "b", "11.0.0.0/8")) })
			})
			ok(t, s.end(ctx, "a"))
			return nil
		}},
		bindRace("bind, the same is bound", "10.0.0.0/16", "10.0.5.0/24", "10.0.5.0/24"),
		bindRace("bind, a part of it is bound", "10.0.0.0/16", "10.0.5.0/24", "10.0.5.7/32"),
		bindRace("bind, the last address of it is bound", "10.0.0.0/16", "10.0.5.0/24", "10.0.5.255/32"),
		bindRace("bind of much, a part of it is bound", "10.0.0.0/8", "10.0.0.0/9", "10.1.2.3/32"),
		bindRace("bind, what begins there is bound", "10.0.0.0/16", "10.0.8.0/24", "10.0.8.0/22"),
		bindRace("v6 bind, the same is bound", "2001:db8::/32", "2001:db8:5::/48", "2001:db8:5::/48"),
		{"bind, it is bound to another prefix", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.bind(ctx, "a", "parent", "10.0.6.0/24", "")) })
			kept(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", ""))
			if got := s.getAllocation(t, ctx, "a").Status.Prefix; got != "10.0.6.0/24" {
				return []string{"10.0.6.0/24 was acknowledged, and became " + got}
			}
			return nil
		}},
		{"bind, it is deleted", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.deleteAllocation(ctx, "a")) })
			if kept(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", "")) {
				return []string{"what was deleted has come back"}
			}
			return nil
		}},
		{"deletion of a request, it is bound", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", "")) })
			ok(t, s.deleteAllocation(ctx, "a"))
			return nil
		}},
		{"bind, the parent ends", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.end(ctx, "parent")) })
			kept(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", ""))
			return nil
		}},
		{"bind, the parent is recreated", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() {
				ok(t, s.end(ctx, "parent"))
				s.root(t, ctx, "parent", "10.0.0.0/16")
			})
			// The child does not name a parent.
			ok(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", ""))
			return nil
		}},
		{"bind from a parent by uid, it is recreated", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			parent := s.root(t, ctx, "parent", "10.0.0.0/16")
			s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() {
				ok(t, s.end(ctx, "parent"))
				s.root(t, ctx, "parent", "10.0.0.0/16")
			})
			if kept(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", parent.UID)) {
				return []string{"it is bound to another parent"}
			}
			return nil
		}},
		{"end of a parent, from which something is bound", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.unprotect(t, ctx, "parent")
			s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.prefixKey(namespace, "parent"), func() { ok(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", "")) })
			kept(t, s.deletePrefix(ctx, "parent"))
			return nil
		}},
		{"deletion of an allocation, its child completes", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			child := s.child(t, ctx, "child", "parent", 24)
			s.allocate(t, ctx, "a", child, "parent", "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.complete(ctx, "child", "parent", "10.0.5.0/24", "")) })
			kept(t, s.deleteAllocation(ctx, "a"))
			return nil
		}},
		{"completion of a child, its allocation is deleted", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			child := s.child(t, ctx, "child", "parent", 24)
			s.allocate(t, ctx, "a", child, "parent", "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.prefixKey(namespace, "child"), func() { ok(t, s.deleteAllocation(ctx, "a")) })
			kept(t, s.complete(ctx, "child", "parent", "10.0.5.0/24", ""))
			return nil
		}},
		{"completion of a child, its allocation goes to another one", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.allocate(t, ctx, "a", s.child(t, ctx, "child", "parent", 24), "parent", "10.0.5.0/24")
			other := s.child(t, ctx, "other", "parent", 24)
			s.tamper.beforeWriteOf(s.prefixKey(namespace, "child"), func() {
				ok(t, s.deleteAllocation(ctx, "a"))
				s.allocate(t, ctx, "b", other, "parent", "10.0.5.0/24")
				ok(t, s.complete(ctx, "other", "parent", "10.0.5.0/24", ""))
			})
			kept(t, s.complete(ctx, "child", "parent", "10.0.5.0/24", ""))
			return nil
		}},
		{"completion of a child, it completes with another prefix", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			child := s.child(t, ctx, "child", "parent", 24)
			s.allocate(t, ctx, "a", child, "parent", "10.0.5.0/24")
			s.allocate(t, ctx, "b", child, "parent", "10.0.6.0/24")
			s.tamper.beforeWriteOf(s.prefixKey(namespace, "child"), func() { ok(t, s.complete(ctx, "child", "parent", "10.0.6.0/24", "")) })
			kept(t, s.complete(ctx, "child", "parent", "10.0.5.0/24", ""))
			if got := s.getPrefix(t, ctx, "child").Spec.Prefix; got != "10.0.6.0/24" {
				return []string{"10.0.6.0/24 was acknowledged, and became " + got}
			}
			return nil
		}},
		{"bind for a child, the child ends", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			parent := s.root(t, ctx, "parent", "10.0.0.0/16")
			child := s.child(t, ctx, "child", "parent", 24)
			s.requestLength(t, ctx, "a", child, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.end(ctx, "child")) })
			if kept(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", "")) {
				return []string{fmt.Sprintf("10.0.5.0/24 was claimed for %v, which was gone", s.children(t, ctx, parent, "10.0.5.0/24"))}
			}
			return nil
		}},
		{"bind for a child, the child asks for another prefix", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			s.root(t, ctx, "parent", "10.0.0.0/16")
			child := s.child(t, ctx, "child", "parent", 24)
			s.requestLength(t, ctx, "a", child, "10.0.5.0/24")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() {
				must[*ipam.Prefix](t)(s.updatePrefix(ctx, "child", func(p *ipam.Prefix) { p.Spec.Prefix = "10.0.6.0/24" }))
			})
			if kept(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", "")) {
				return []string{"10.0.5.0/24 was claimed for a child that does not ask for it"}
			}
			return nil
		}},
		{"deletion of an allocation, another one that shares its claim is deleted", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			parent := s.root(t, ctx, "parent", "10.0.0.0/16")
			s.shareClaim(t, ctx, parent, "10.0.5.0/24", "a", "b")
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.deleteAllocation(ctx, "b")) })
			ok(t, s.deleteAllocation(ctx, "a"))
			return nil
		}},
		{"deletion of an allocation without claim, it is adopted", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			parent := s.root(t, ctx, "parent", "10.0.0.0/16")
			a := s.allocate(t, ctx, "a", nil, "parent", "10.0.5.0/24")
			key := s.claimKey(parent.UID, netip.MustParsePrefix(a.Status.Prefix))
			claim := s.value(t, ctx, key)
			if _, err := s.etcd.KV.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { s.put(t, ctx, key, claim) })
			ok(t, s.deleteAllocation(ctx, "a"))
			return nil
		}},
		{"deletion of an allocation not in a claim, it is adopted", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			parent := s.root(t, ctx, "parent", "10.0.0.0/16")
			key := s.claimKey(parent.UID, netip.MustParsePrefix("10.0.5.0/24"))
			s.shareClaim(t, ctx, parent, "10.0.5.0/24", "a", "b")
			shared := s.value(t, ctx, key)
			var claim storedClaim
			if err := json.Unmarshal([]byte(shared), &claim); err != nil {
				t.Fatal(err)
			}
			claim.Holders = slices.DeleteFunc(claim.Holders, func(h storedHolder) bool { return h.Name == "a" })
			s.put(t, ctx, key, must[[]byte](t)(json.Marshal(claim)))
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { s.put(t, ctx, key, shared) })
			ok(t, s.deleteAllocation(ctx, "a"))
			return nil
		}},
	}
	all = append(all, coolDownRaces()...)
	for _, ancestor := range ancestorsOf(deepWanted, netip.MustParsePrefix("10.0.0.0/8")) {
		all = append(all, bindRace(fmt.Sprintf("bind, %s around it is bound", ancestor), "10.0.0.0/8", deepWanted.String(), ancestor.String()))
	}
	return all
}

// shareClaim makes two allocations hold the same prefix, as another server may have left them.
func (s *server) shareClaim(t *testing.T, ctx context.Context, parent *ipam.Prefix, prefix, a, b string) {
	t.Helper()
	key := s.claimKey(parent.UID, netip.MustParsePrefix(prefix))
	var shared storedClaim
	for _, name := range []string{a, b} {
		s.allocate(t, ctx, name, nil, parent.Name, prefix)
		var one storedClaim
		if err := json.Unmarshal([]byte(s.value(t, ctx, key)), &one); err != nil {
			t.Fatal(err)
		}
		shared.Holders = append(shared.Holders, one.Holders...)
		if _, err := s.etcd.KV.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	s.put(t, ctx, key, must[[]byte](t)(json.Marshal(shared)))
}

func (s *server) value(t *testing.T, ctx context.Context, key string) string {
	t.Helper()
	response, err := s.etcd.KV.Get(ctx, key)
	if err != nil || len(response.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, response, err)
	}
	return string(response.Kvs[0].Value)
}

func (s *server) put(t *testing.T, ctx context.Context, key string, value any) {
	t.Helper()
	if _, err := s.etcd.KV.Put(ctx, key, fmt.Sprintf("%s", value)); err != nil {
		t.Fatal(err)
	}
}

// compareKind returns the purpose of a compare.
func (s *server) compareKind(t txn, c clientv3.Cmp) string {
	compare := c.GetCompare()
	key, isRange := string(compare.Key), len(compare.RangeEnd) > 0
	of := "allocation"
	if strings.HasPrefix(t.key(), s.prefix+"/ipam.ironcore.dev/prefixes/") {
		of = "prefix"
	}
	what := "write of"
	if t.successes[0].IsDelete() {
		what = "removal of"
	}
	parts := strings.Split(strings.TrimPrefix(key, s.prefix+"/claims/"), "/")
	if strings.HasPrefix(key, s.prefix+"/roots/") {
		return "roots, in " + what + " " + of
	}
	switch isClaim := strings.HasPrefix(key, s.prefix+"/claims/"); {
	case key == t.key() && compare.Target == pb.Compare_MOD && !isRange:
		return "self"
	case isClaim && isRange && len(parts) == 2:
		return "all claims, in " + what + " " + of
	case isClaim && isRange && parts[2] == "":
		return "inside, in " + what + " " + of
	case isClaim && isRange:
		return "around, in " + what + " " + of
	case isClaim && compare.Target == pb.Compare_MOD:
		return "claim, in " + what + " " + of
	case !isRange && compare.Target == pb.Compare_CREATE:
		return "parent, in " + what + " " + of
	case !isRange && compare.Target == pb.Compare_MOD:
		return "child, in " + what + " " + of
	}
	return "unknown: " + compare.String()
}

// TestMutations removes each kind of compare in turn, and expects that an invariant is then violated. With all
// compares, none is.
func TestMutations(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	run := func(t *testing.T, r race, without func(*server) func(txn, clientv3.Cmp) bool) []string {
		t.Helper()
		s := newDisjointServers(t, etcd, variant{}, 1)[0]
		ctx, namespace := newNamespace(t)
		if without != nil {
			s.tamper.take(without(s))
		}
		found := r.run(t, s, ctx, namespace)
		if waiting := s.tamper.waiting(); len(waiting) > 0 {
			t.Errorf("nothing was written to %v", waiting)
		}
		return append(found, s.violations(t)...)
	}

	// seen contains the kinds of compares in the transactions of the races.
	seen := map[string]bool{}
	var all []race
	t.Run("none", func(t *testing.T) {
		for _, r := range races() {
			t.Run(r.name, func(t *testing.T) {
				found := run(t, r, func(s *server) func(txn, clientv3.Cmp) bool {
					return func(t txn, c clientv3.Cmp) bool {
						seen[s.compareKind(t, c)] = true
						return false
					}
				})
				for _, v := range found {
					t.Error(v)
				}
			})
			all = append(all, r)
		}
	})

	kinds := []string{
		"self",
		"parent, in write of allocation",
		"inside, in write of allocation",
		"around, in write of allocation",
		"child, in write of allocation",
		"claim, in write of allocation",
		"claim, in removal of allocation",
		"child, in removal of allocation",
		"claim, in write of prefix",
		"all claims, in removal of prefix",
		"roots, in write of prefix",
		"roots, in removal of prefix",
		"parent, in removal of prefix", // Another root of the namespace.
	}
	for kind := range seen {
		if !slices.Contains(kinds, kind) {
			t.Errorf("compares of kind %q are not taken out", kind)
		}
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			noticed := 0
			for _, r := range all {
				if around := "around"; strings.Contains(r.name, around) && !strings.HasPrefix(kind, around) {
					continue
				}
				found := run(t, r, func(s *server) func(txn, clientv3.Cmp) bool {
					return func(t txn, c clientv3.Cmp) bool { return s.compareKind(t, c) == kind }
				})
				if len(found) > 0 {
					noticed++
					t.Logf("%s: %s", r.name, found[0])
				}
			}
			if noticed == 0 {
				t.Errorf("nobody notices that it is missing")
			}
		})
	}

	// Each range around a prefix matters.
	starts := map[netip.Addr]bool{}
	for _, ancestor := range ancestorsOf(deepWanted, netip.MustParsePrefix("10.0.0.0/8")) {
		starts[ancestor.Addr()] = true
	}
	for n := range starts {
		t.Run(fmt.Sprintf("around, at %s", n), func(t *testing.T) {
			hex := fmt.Sprintf("/%x/", n.AsSlice())
			noticed := 0
			for _, r := range all {
				if !strings.Contains(r.name, "around it is bound") {
					continue
				}
				found := run(t, r, func(s *server) func(txn, clientv3.Cmp) bool {
					return func(t txn, c clientv3.Cmp) bool {
						return strings.HasPrefix(s.compareKind(t, c), "around") && strings.Contains(string(c.KeyBytes()), hex)
					}
				})
				if at := strings.Contains(r.name, n.String()+"/"); at != (len(found) > 0) {
					t.Errorf("%s: %v", r.name, found)
				} else if at {
					noticed++
				}
			}
			if noticed == 0 {
				t.Errorf("nobody notices that it is missing")
			}
		})
	}
}
