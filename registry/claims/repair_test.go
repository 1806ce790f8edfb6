// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// past is a store with direct writes, as a server without claims makes them.
type past struct {
	testing.TB
	*server
}

func (g *past) put(key, value string) {
	g.Helper()
	if _, err := g.etcd.KV.Put(g.Context(), key, value); err != nil {
		g.Fatal(err)
	}
}

func (g *past) delete(key string) {
	g.Helper()
	if _, err := g.etcd.KV.Delete(g.Context(), key); err != nil {
		g.Fatal(err)
	}
}

func (g *past) putObject(key string, obj runtime.Object) {
	g.Helper()
	g.put(key, string(must[[]byte](g)(runtime.Encode(codec, obj))))
}

// putRoot stores the Prefix root.
func (g *past) putRoot(uid types.UID) {
	g.Helper()
	g.putObject(g.prefixKey("ns", "root"), &ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "root", UID: uid},
		Spec:       ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/24"},
		Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated},
	})
}

// putAllocation stores an allocation from root. Its uid is its name.
func (g *past) putAllocation(name, prefix string) {
	g.Helper()
	g.putObject(g.allocationKey("ns", name), &ipam.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
		Spec:       ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: prefix, PrefixRef: &ipam.LocalObjectReference{Name: "root"}},
		Status:     ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: prefix},
	})
}

func (g *past) keyOf(parent types.UID, prefix string) string {
	return g.claimKey(parent, netip.MustParsePrefix(prefix))
}

// putClaim stores a claim to a prefix of root.
func (g *past) putClaim(prefix string, holders ...string) {
	g.Helper()
	c := storedClaim{}
	for _, name := range holders {
		c.Holders = append(c.Holders, storedHolder{Namespace: "ns", Name: name, UID: types.UID(name)})
	}
	g.put(g.keyOf("root", prefix), string(must[[]byte](g)(json.Marshal(c))))
}

// holders returns the names of the holders of a claim.
func (g *past) holders(parent types.UID, prefix string) []string {
	g.Helper()
	response, err := g.etcd.KV.Get(g.Context(), g.keyOf(parent, prefix))
	if err != nil {
		g.Fatal(err)
	}
	names := []string{}
	for _, kv := range response.Kvs {
		var c storedClaim
		if err := json.Unmarshal(kv.Value, &c); err != nil {
			g.Fatal(err)
		}
		for _, h := range c.Holders {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestClaimsAreMadeOfWhatIsStillSo changes the store after adoption or repair has decided to make a claim, and
// before the transaction that makes it.
func TestClaimsAreMadeOfWhatIsStillSo(t *testing.T) {
	const wanted = "10.0.0.16/28"
	etcd := claimstest.RunEtcd(t)
	overlap := func(prefix string) func(*past) {
		return func(g *past) {
			g.putAllocation("other", prefix)
			g.putClaim(prefix, "other")
		}
	}
	nobody, allocation := []string{}, []string{"allocation"}
	for _, test := range []struct {
		name    string
		happens func(*past)
		// adopted and repaired contain the holders of the prefix afterwards, from the parent that exists then.
		adopted, repaired []string
	}{
		{"nothing", func(*past) {}, allocation, allocation},
		{"the allocation is gone", func(g *past) { g.delete(g.allocationKey("ns", "allocation")) }, nobody, nobody},
		{"the allocation is another one", func(g *past) {
			g.delete(g.allocationKey("ns", "allocation"))
			g.putAllocation("allocation", "10.0.0.64/28")
		}, nobody, nobody},
		{"the parent is gone", func(g *past) { g.delete(g.prefixKey("ns", "root")) }, nobody, nobody},
		{"the parent is another one", func(g *past) {
			g.delete(g.prefixKey("ns", "root"))
			g.putRoot("another")
		}, allocation, allocation},
		{"somebody got a part", overlap("10.0.0.24/29"), allocation, nobody},
		{"somebody got the beginning", overlap("10.0.0.16/29"), allocation, nobody},
		{"somebody got what is around", overlap("10.0.0.0/26"), allocation, nobody},
		{"somebody got the same", overlap(wanted), []string{"allocation", "other"}, []string{"other"}},
		{"it got it already", func(g *past) { g.putClaim(wanted, "allocation") }, allocation, allocation},
		{"somebody got the same, and then one more", func(g *past) {
			overlap(wanted)(g)
			g.tamper.beforeWriteOf(g.keyOf("root", wanted), func() {
				g.putAllocation("third", wanted)
				g.putClaim(wanted, "other", "third")
			})
		}, []string{"allocation", "other", "third"}, []string{"other"}},
		{"somebody got the same, and gave it back", func(g *past) {
			g.putClaim(wanted, "other")
			g.tamper.beforeWriteOf(g.keyOf("root", wanted), func() { g.delete(g.keyOf("root", wanted)) })
		}, allocation, allocation},
		{"a claim of nobody is around it", func(g *past) { g.putClaim("10.0.0.0/26", "ghost") }, allocation, allocation},
		{"claims of nobody are in it", func(g *past) {
			g.putClaim("10.0.0.16/30", "ghost")
			g.putClaim("10.0.0.20/30", "ghost", "phantom")
			g.putClaim("10.0.0.31/32")
		}, allocation, allocation},
		{"somebody got the same, and then the allocation was gone", func(g *past) {
			overlap(wanted)(g)
			g.tamper.beforeWriteOf(g.keyOf("root", wanted), func() { g.delete(g.allocationKey("ns", "allocation")) })
		}, []string{"other"}, []string{"other"}},
		{"somebody got the same, and then the parent was another one", func(g *past) {
			overlap(wanted)(g)
			g.tamper.beforeWriteOf(g.keyOf("root", wanted), func() {
				g.delete(g.prefixKey("ns", "root"))
				g.putRoot("another")
			})
		}, []string{"allocation", "other"}, []string{"other"}},
	} {
		prepare := func(t *testing.T) *past {
			g := &past{t, newServer(t, etcd, variant{})}
			g.putRoot("root")
			g.putAllocation("allocation", wanted)
			g.tamper.beforeWriteOf(g.keyOf("root", wanted), func() { test.happens(g) })
			return g
		}
		check := func(g *past, err error, want []string) {
			g.Helper()
			if err != nil {
				g.Error(err)
			}
			parent, other := types.UID("root"), types.UID("another")
			if roots := must[*clientv3.GetResponse](t)(g.etcd.KV.Get(t.Context(), g.prefixKey("ns", "root"))); len(roots.Kvs) > 0 &&
				strings.Contains(string(roots.Kvs[0].Value), string(other)) {
				parent, other = other, parent
			}
			if got := g.holders(parent, wanted); !slices.Equal(got, want) {
				g.Errorf("it is claimed by %q, not by %q", got, want)
			}
			if got := g.holders(other, wanted); len(got) > 0 {
				g.Errorf("it is claimed of the other parent by %q", got)
			}
		}
		t.Run(test.name+"/adopt", func(t *testing.T) {
			g := prepare(t)
			_, err := g.auditor.Adopt(t.Context(), nil)
			check(g, err, test.adopted)
			if waiting := g.tamper.waiting(); len(waiting) > 0 {
				t.Errorf("never written: %q", waiting)
			}
		})
		t.Run(test.name+"/repair", func(t *testing.T) {
			g := prepare(t)
			_, _, err := g.auditor.Repair(t.Context())
			check(g, err, test.repaired)
		})
	}
}

// TestClaimsAreTakenFromNobodyElse adds a holder to a claim without holders while a repair is about to remove the
// claim.
func TestClaimsAreTakenFromNobodyElse(t *testing.T) {
	const prefix = "10.0.0.16/28"
	for name, ghosts := range map[string][]string{"one": {"ghost"}, "several": {"ghost", "phantom"}, "none": {}} {
		t.Run(name, func(t *testing.T) {
			g := &past{t, newServer(t, claimstest.RunEtcd(t), variant{})}
			g.putRoot("root")
			g.putClaim(prefix, ghosts...)
			g.tamper.beforeWriteOf(g.keyOf("root", prefix), func() {
				g.putAllocation("allocation", prefix)
				g.putClaim(prefix, append([]string{"allocation"}, ghosts...)...)
			})
			if _, _, err := g.auditor.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			// One of the holders may be removed before the other removal notices the change, and then be written
			// again.
			if _, left, err := g.auditor.Repair(t.Context()); err != nil || len(left) != 0 {
				t.Errorf("left %v, %v", left, err)
			}
			if got := g.holders("root", prefix); !slices.Equal(got, []string{"allocation"}) {
				t.Errorf("the claim is of %q", got)
			}
		})
	}
}

// TestClaimsTooDeepForOneTransaction has an allocation with more ancestors than an etcd transaction can have
// compares. Adoption makes its claim all the same, and repair leaves it.
func TestClaimsTooDeepForOneTransaction(t *testing.T) {
	const prefix = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
	g := &past{t, newServer(t, claimstest.RunEtcd(t), variant{})}
	g.putObject(g.prefixKey("ns", "root"), &ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "root", UID: "root"},
		Spec:       ipam.PrefixSpec{IPFamily: ipam.IPv6, Prefix: "8000::/1"},
		Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated},
	})
	g.putAllocation("allocation", prefix)
	_, left, err := g.auditor.Repair(t.Context())
	if err != nil || len(left) != 1 || len(g.holders("root", prefix)) != 0 {
		t.Errorf("repair: %v left, %v", left, err)
	}
	left, err = g.auditor.Adopt(t.Context(), nil)
	if err != nil || len(left) != 0 || len(g.holders("root", prefix)) != 1 {
		t.Errorf("adoption: %v left, %v", left, err)
	}
}

// TestAuditOfManyPages has more claims than one page. An audit reports each of them, and none twice.
func TestAuditOfManyPages(t *testing.T) {
	for name, configure := range map[string][]func(*embed.Config){"streams": nil, "no streams": {withoutStreams}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testAuditOfManyPages(t, configure)
		})
	}
}

// withoutStreams makes an etcd respond like a version before 3.7, which has no streams of ranges.
func withoutStreams(config *embed.Config) {
	config.GRPCAdditionalServerOptions = append(config.GRPCAdditionalServerOptions, grpc.ChainStreamInterceptor(
		func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if info.FullMethod == "/etcdserverpb.KV/RangeStream" {
				return status.Error(codes.Unimplemented, "unknown method RangeStream")
			}
			return handler(srv, stream)
		}))
}

func testAuditOfManyPages(t *testing.T, configure []func(*embed.Config)) {
	g := &past{t, newServer(t, claimstest.RunEtcd(t, configure...), variant{})}
	const many = 2*claims.PageSize + 1
	want := map[string]bool{}
	var puts []clientv3.Op
	for i := range many {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		want[prefix.String()] = true
		puts = append(puts, clientv3.OpPut(g.claimKey("root", prefix), `{"holders":[{"namespace":"ns","name":"a","uid":"a"}]}`))
		if len(puts) == 128 || i == many-1 {
			if _, err := g.etcd.KV.Txn(t.Context()).Then(puts...).Commit(); err != nil {
				t.Fatal(err)
			}
			puts = nil
		}
	}
	for _, d := range must[[]audit.Difference](t)(g.auditor.Audit(t.Context(), audit.FullSpeed, audit.LeftoverGrace)) {
		if d.Kind != audit.ClaimWithoutAllocation || !want[d.Prefix] {
			t.Errorf("found %v", d)
		}
		delete(want, d.Prefix)
	}
	if len(want) > 0 {
		t.Errorf("%d of %d were not found", len(want), many)
	}
	if found := must[[]audit.Difference](t)(g.auditByPages(t.Context(), 1000, 700, 0)); len(found) != many {
		t.Errorf("by smaller pages it finds %d of %d", len(found), many)
	}
	// A stream that ends without its final chunk says nothing about the content of the store.
	g.tamper.endStreamsAfter(7)
	if found, err := g.auditor.Audit(t.Context(), audit.FullSpeed, audit.LeftoverGrace); configure == nil && (err == nil || !strings.Contains(err.Error(), "ended too early")) {
		t.Errorf("got %v and %d differences", err, len(found))
	}
	g.tamper.endStreamsAfter(0)
}

// TestOrphansAreClaimed adopts a store with allocations whose parent does not exist. When a Prefix with that name
// becomes Allocated, nobody else gets the space that they hold.
func TestOrphansAreClaimed(t *testing.T) {
	g := &past{t, newServer(t, claimstest.RunEtcd(t), variant{cached: true})}
	child := &ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "child", UID: "child"},
		Spec:       ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.16/28", ParentRef: &ipam.LocalObjectReference{Name: "root"}},
		Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated},
	}
	g.putObject(g.prefixKey("ns", "child"), child)
	g.putObject(g.allocationKey("ns", "of-child"), &ipam.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "of-child", UID: "of-child", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "ipam.ironcore.dev/v1alpha1", Kind: "Prefix", Name: "child", UID: "child", Controller: new(true)},
		}},
		Spec:   ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 28, PrefixRef: &ipam.LocalObjectReference{Name: "root"}},
		Status: ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.16/28"},
	})
	g.putAllocation("alone", "10.0.0.32/28")
	left, err := g.auditor.Adopt(t.Context(), nil)
	if err != nil || len(left) != 2 || left[0].Kind != audit.ParentMissing || left[1].Kind != audit.ParentMissing {
		t.Fatalf("left %v, %v", left, err)
	}
	ctx := withNamespace(t.Context(), "ns")
	root := g.root(t, ctx, "root", "10.0.0.0/24")
	if got := g.holders(root.UID, "10.0.0.16/28"); !slices.Equal(got, []string{"of-child"}) {
		t.Errorf("what the child stands on is claimed by %q", got)
	}
	if got := g.holders(root.UID, "10.0.0.32/28"); !slices.Equal(got, []string{"alone"}) {
		t.Errorf("it is claimed by %q", got)
	}
	for i, prefix := range []string{"10.0.0.16/28", "10.0.0.0/26", "10.0.0.33/32"} {
		name := "a" + string(rune('0'+i))
		g.requestLength(t, ctx, name, nil, prefix)
		g.refused(t, func() error { return g.bind(ctx, name, "root", prefix, "") }, metav1.StatusReasonConflict, prefix)
	}
	g.refused(t, func() error { return g.deleteAllocation(ctx, "of-child") }, metav1.StatusReasonConflict, "child")
	g.check(t)
	// A former orphan has no effect on the next parent.
	if err := g.deleteAllocation(ctx, "alone"); err != nil {
		t.Fatal(err)
	}
	if got := g.holders(root.UID, "10.0.0.32/28"); len(got) > 0 {
		t.Errorf("it is claimed by %q", got)
	}
	g.check(t)
}

// TestLostChildrenKeepTheirSpace deletes the allocation of a child that is in lost+found, also when somebody has made another
// child of that name.
func TestLostChildrenKeepTheirSpace(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, recreated := range []bool{false, true} {
		for _, cools := range []bool{false, true} {
			t.Run(fmt.Sprintf("recreated %t, cools %t", recreated, cools), func(t *testing.T) {
				g := &past{t, newServer(t, etcd, variant{})}
				ctx := withNamespace(t.Context(), "ns")
				g.root(t, ctx, "root", "10.0.0.0/16")
				if cools {
					g.coolDown(t, ctx, "rules", forAnHour)
				}
				g.liveChild(t, ctx, "child", "root", "10.0.5.0/24")
				g.put(g.prefixKey("ns", "child"), "nonsense")
				if err := g.deleteAllocation(ctx, "child"); err == nil {
					t.Error("it was deleted under a child that cannot be decoded")
				}
				if _, _, err := g.auditor.Repair(t.Context()); err != nil {
					t.Fatal(err)
				}
				if recreated {
					child := g.child(t, ctx, "child", "root", 24)
					if cools {
						g.refused(t, func() error { return g.takeBack(ctx, "child", child) }, metav1.StatusReasonConflict, "lost+found")
					}
				}
				release := func() error {
					_, err := g.deletes(t, ctx, "child", metav1.NewDeleteOptions(0))
					return err
				}
				g.refused(t, release, metav1.StatusReasonConflict, "lost+found")
				g.delete(strings.Replace(g.prefixKey("ns", "child"), g.prefix, g.prefix+"/lost+found", 1))
				if err := release(); err != nil {
					t.Error(err)
				}
				g.check(t)
			})
		}
	}
}
