// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
)

// bid is a request for a prefix.
type bid struct {
	parent, prefix string
	uid            types.UID
}

// way is a way to allocate. It prepares everything except the last write, and returns that one.
type way struct {
	name    string
	prepare func(t *testing.T, s *server, ctx context.Context, b bid) func() error
	// uid is set if the request can name the uid of the parent.
	uid bool
}

const bidder = "bidder"

func ref(name string) *ipam.LocalObjectReference { return &ipam.LocalObjectReference{Name: name} }

func spec(b bid) ipam.PrefixAllocationSpec {
	return ipam.PrefixAllocationSpec{IPFamily: familyOf(b.prefix), PrefixLength: int32(netip.MustParsePrefix(b.prefix).Bits()), PrefixRef: ref(b.parent)}
}

func allocateTo(prefix string) func(*ipam.PrefixAllocation) {
	return func(a *ipam.PrefixAllocation) {
		a.Status.Prefix, a.Status.Phase = prefix, ipam.PrefixAllocationPhaseAllocated
	}
}

var ways = []way{
	{name: "binding", uid: true, prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		s.requestLength(t, ctx, bidder, nil, b.prefix)
		return func() error { return s.bind(ctx, bidder, b.parent, b.prefix, b.uid) }
	}},
	{name: "binding, parent by name", uid: true, prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		s.request(t, ctx, bidder, nil, spec(b))
		return func() error { return s.bind(ctx, bidder, b.parent, b.prefix, b.uid) }
	}},
	{name: "status", prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		s.request(t, ctx, bidder, nil, spec(b))
		return func() error {
			_, err := s.updateAllocationStatus(ctx, bidder, allocateTo(b.prefix))
			return err
		}
	}},
	{name: "status, static, whole object", prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		static := spec(b)
		static.Prefix, static.PrefixLength = b.prefix, 0
		allocation := s.request(t, ctx, bidder, nil, static)
		return func() error {
			allocateTo(b.prefix)(allocation)
			_, _, err := s.allocations.Status.Update(ctx, bidder, rest.DefaultUpdatedObjectInfo(allocation),
				rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
			return err
		}
	}},
	{name: "spec, then status", prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		s.requestLength(t, ctx, bidder, nil, b.prefix)
		must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, bidder, func(a *ipam.PrefixAllocation) { a.Spec.PrefixRef = ref(b.parent) }))
		return func() error {
			_, err := s.updateAllocationStatus(ctx, bidder, allocateTo(b.prefix))
			return err
		}
	}},
	{name: "storage update", prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		s.request(t, ctx, bidder, nil, spec(b))
		key := s.rawKey(t, ctx, s.allocations.Main.Store, bidder)
		return func() error {
			return s.rawAllocations().GuaranteedUpdate(ctx, key, &ipam.PrefixAllocation{}, false, nil,
				storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
					allocateTo(b.prefix)(obj.(*ipam.PrefixAllocation))
					return obj, nil
				}), nil)
		}
	}},
	{name: "storage update, object at hand", prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		allocation := s.request(t, ctx, bidder, nil, spec(b))
		key := s.rawKey(t, ctx, s.allocations.Main.Store, bidder)
		return func() error {
			return s.rawAllocations().GuaranteedUpdate(ctx, key, &ipam.PrefixAllocation{}, false, nil,
				storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
					allocateTo(b.prefix)(obj.(*ipam.PrefixAllocation))
					return obj, nil
				}), allocation)
		}
	}},
	{name: "storage create", prepare: func(t *testing.T, s *server, ctx context.Context, b bid) func() error {
		key, namespace := s.rawKey(t, ctx, s.allocations.Main.Store, bidder), namespaceOf(ctx)
		return func() error {
			allocation := &ipam.PrefixAllocation{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: bidder, UID: types.UID("uid of " + namespace)},
				Spec:       spec(b),
			}
			allocateTo(b.prefix)(allocation)
			return s.rawAllocations().Create(ctx, key, allocation, &ipam.PrefixAllocation{}, 0)
		}
	}},
}

// world is the environment of the bids.
type world struct {
	parent, holder, holder2 string
	bids                    map[string]verdict
}

// verdict is the expected result of a bid.
type verdict struct {
	prefix string
	// holds is the holder of the overlapping prefix.
	holds string
	// invalid is set if the bid can never succeed.
	invalid bool
}

var worlds = []world{
	{parent: "10.0.0.0/16", holder: "10.0.5.0/24", holder2: "10.0.8.0/24", bids: map[string]verdict{
		"equal":                              {prefix: "10.0.5.0/24", holds: "holder"},
		"inside, first":                      {prefix: "10.0.5.0/25", holds: "holder"},
		"inside, last":                       {prefix: "10.0.5.128/25", holds: "holder"},
		"first address":                      {prefix: "10.0.5.0/32", holds: "holder"},
		"last address":                       {prefix: "10.0.5.255/32", holds: "holder"},
		"around, from before":                {prefix: "10.0.4.0/23", holds: "holder"},
		"around, from the same address":      {prefix: "10.0.8.0/23", holds: "holder2"},
		"around, large":                      {prefix: "10.0.0.0/17", holds: "holder"},
		"around, large, from the same start": {prefix: "10.0.8.0/21", holds: "holder2"},
		"adjacent before":                    {prefix: "10.0.4.0/24"},
		"adjacent after":                     {prefix: "10.0.6.0/24"},
		"adjacent addresses":                 {prefix: "10.0.4.255/32"},
		"other half":                         {prefix: "10.0.128.0/17"},
		"outside":                            {prefix: "10.1.5.0/24", invalid: true},
		"the parent's":                       {prefix: "10.0.0.0/16", invalid: true},
		"around the parent's":                {prefix: "10.0.0.0/15", invalid: true},
		"other family":                       {prefix: "2001:db8:5::/48", invalid: true},
	}},
	{parent: "2001:db8::/32", holder: "2001:db8:5::/48", holder2: "2001:db8:8::/48", bids: map[string]verdict{
		"equal":                         {prefix: "2001:db8:5::/48", holds: "holder"},
		"inside":                        {prefix: "2001:db8:5:ffff::/64", holds: "holder"},
		"last address":                  {prefix: "2001:db8:5:ffff:ffff:ffff:ffff:ffff/128", holds: "holder"},
		"around, from before":           {prefix: "2001:db8:4::/47", holds: "holder"},
		"around, from the same address": {prefix: "2001:db8:8::/45", holds: "holder2"},
		"adjacent before":               {prefix: "2001:db8:4::/48"},
		"adjacent after":                {prefix: "2001:db8:6::/48"},
		"address before":                {prefix: "2001:db8:4:ffff:ffff:ffff:ffff:ffff/128"},
		"outside":                       {prefix: "2001:db9:5::/48", invalid: true},
		"the parent's":                  {prefix: "2001:db8::/32", invalid: true},
		"other family":                  {prefix: "32.1.13.0/24", invalid: true},
	}},
}

// TestAllocate tests every bid in every way.
func TestAllocate(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		for _, w := range ways {
			t.Run(v.String()+"/"+w.name, func(t *testing.T) {
				s := newServer(t, etcd, v)
				for _, world := range worlds {
					for name, want := range world.bids {
						t.Run(string(familyOf(world.parent))+"/"+name, func(t *testing.T) {
							ctx, namespace := newNamespace(t)
							parent := s.root(t, ctx, "parent", world.parent)
							s.allocate(t, ctx, "holder", nil, "parent", world.holder)
							s.allocate(t, ctx, "holder2", nil, "parent", world.holder2)
							write := w.prepare(t, s, ctx, bid{"parent", want.prefix, parent.UID})
							switch {
							case want.invalid:
								s.refused(t, write, metav1.StatusReasonInvalid, "status.prefix", want.prefix)
							case want.holds != "":
								checkInUse(t, s, ctx, write, want.prefix, want.holds)
							default:
								if err := write(); err != nil {
									t.Fatal(err)
								}
								if got := s.getAllocation(t, ctx, bidder); got.Status.Prefix != want.prefix || got.Status.Phase != ipam.PrefixAllocationPhaseAllocated {
									t.Errorf("got %+v", got.Status)
								}
								if _, ok := s.revisions(t)[s.claimKey(parent.UID, netip.MustParsePrefix(want.prefix))]; !ok {
									t.Errorf("%s/%s has no claim", namespace, bidder)
								}
							}
						})
					}
				}
				s.check(t)
			})
		}
	}
}

// checkInUse checks that a write is rejected because a holder has an overlapping prefix.
func checkInUse(t *testing.T, s *server, ctx context.Context, write func() error, wanted, holder string) {
	t.Helper()
	held := s.getAllocation(t, ctx, holder)
	status := s.refused(t, write, metav1.StatusReasonConflict, wanted, held.Status.Prefix, "PrefixAllocation "+holder+" ")
	causes := map[metav1.CauseType]string{}
	if status.ErrStatus.Details != nil {
		for _, cause := range status.ErrStatus.Details.Causes {
			causes[cause.Type] = cause.Message
			if cause.Type == v1alpha1.CauseTypePrefixInUse && cause.Field != "status.prefix" {
				t.Errorf("the cause is at %q", cause.Field)
			}
		}
	}
	for _, part := range []string{wanted, held.Status.Prefix, holder} {
		if !strings.Contains(causes[v1alpha1.CauseTypePrefixInUse], part) {
			t.Errorf("the cause does not tell %q: %v", part, causes)
		}
	}
	for cause, want := range map[metav1.CauseType]string{
		v1alpha1.CauseTypeHolderPrefix: held.Status.Prefix, v1alpha1.CauseTypeHolderName: holder, v1alpha1.CauseTypeHolderUID: string(held.UID),
	} {
		if causes[cause] != want {
			t.Errorf("cause %s is %q, want %q", cause, causes[cause], want)
		}
	}
}

// TestAllocateFromBadParent tests, in every way, parents from which nothing can be allocated.
func TestAllocateFromBadParent(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	const prefix = "10.0.5.0/24"
	for _, v := range fewVariants {
		for _, w := range ways {
			t.Run(v.String()+"/"+w.name, func(t *testing.T) {
				s := newServer(t, etcd, v)
				for _, tt := range []struct {
					name string
					// parent creates the parent and returns the uid for the request.
					parent func(t *testing.T, ctx context.Context) types.UID
					words  []string
					uid    bool
				}{
					{name: "missing", words: []string{"does not exist"}, parent: func(*testing.T, context.Context) types.UID { return "" }},
					{name: "missing, uid demanded", uid: true, words: []string{"does not exist"}, parent: func(*testing.T, context.Context) types.UID { return "0" }},
					{name: "pending", words: []string{"not allocated"}, parent: func(t *testing.T, ctx context.Context) types.UID {
						p := must[*ipam.Prefix](t)(s.createPrefix(ctx, "parent", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/16"}))
						return p.UID
					}},
					{name: "pending child", words: []string{"not allocated"}, parent: func(t *testing.T, ctx context.Context) types.UID {
						s.root(t, ctx, "grandparent", "10.0.0.0/8")
						return s.child(t, ctx, "parent", "grandparent", 16).UID
					}},
					{name: "deleting", words: []string{"being deleted"}, parent: func(t *testing.T, ctx context.Context) types.UID {
						p := s.root(t, ctx, "parent", "10.0.0.0/16")
						if err := s.deletePrefix(ctx, "parent"); err != nil {
							t.Fatal(err)
						}
						s.observe(t, ctx, "parent", func(p *ipam.Prefix) bool { return p.DeletionTimestamp != nil })
						return p.UID
					}},
					{name: "gone", words: []string{"does not exist"}, parent: func(t *testing.T, ctx context.Context) types.UID {
						p := s.root(t, ctx, "parent", "10.0.0.0/16")
						if err := s.end(ctx, "parent"); err != nil {
							t.Fatal(err)
						}
						return p.UID
					}},
					{name: "another one", uid: true, words: []string{"with uid 0"}, parent: func(t *testing.T, ctx context.Context) types.UID {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						return "0"
					}},
					{name: "recreated", uid: true, words: []string{"with uid"}, parent: func(t *testing.T, ctx context.Context) types.UID {
						p := s.root(t, ctx, "parent", "10.0.0.0/16")
						// Make the server cache the parent.
						s.allocate(t, ctx, "first", nil, "parent", "10.0.7.0/24")
						if err := s.deleteAllocation(ctx, "first"); err != nil {
							t.Fatal(err)
						}
						if err := s.end(ctx, "parent"); err != nil {
							t.Fatal(err)
						}
						s.root(t, ctx, "parent", "10.0.0.0/16")
						return p.UID
					}},
				} {
					if tt.uid && !w.uid {
						continue
					}
					t.Run(tt.name, func(t *testing.T) {
						ctx, _ := newNamespace(t)
						uid := tt.parent(t, ctx)
						write := w.prepare(t, s, ctx, bid{"parent", prefix, uid})
						s.refused(t, write, metav1.StatusReasonConflict, append(tt.words, prefix, "Prefix parent")...)
					})
				}
				s.check(t)
			})
		}
	}
}

// observe waits until the watch cache has a certain state.
func (s *server) observe(t *testing.T, ctx context.Context, name string, shows func(*ipam.Prefix) bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if obj, err := s.prefixes.Main.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"}); err == nil && shows(obj.(*ipam.Prefix)) {
			return
		}
	}
	t.Fatalf("the cache does not follow")
}

// staleCache is a watch cache that is stale.
type staleCache struct {
	storage.Interface
	stale map[string]*ipam.Prefix
}

func (c *staleCache) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	if stale, ok := c.stale[key]; ok && opts.ResourceVersion == "0" {
		stale.DeepCopyInto(out.(*ipam.Prefix))
		return nil
	}
	return c.Interface.Get(ctx, key, opts, out)
}

// TestStaleCache recreates a parent under the same name while the cache still has the earlier one.
func TestStaleCache(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			cache := &staleCache{stale: map[string]*ipam.Prefix{}}
			s.planner.WrapCache(func(cached storage.Interface) storage.Interface {
				cache.Interface = cached
				return cache
			})
			// recreated returns the earlier and the new parent.
			recreated := func(t *testing.T, ctx context.Context, before, after string) (was, is *ipam.Prefix) {
				s.root(t, ctx, "parent", before)
				// Make the server cache the parent.
				first := netip.PrefixFrom(netip.MustParsePrefix(before).Addr(), 32).String()
				s.allocate(t, ctx, "first", nil, "parent", first)
				if err := s.deleteAllocation(ctx, "first"); err != nil {
					t.Fatal(err)
				}
				was = s.getPrefix(t, ctx, "parent")
				if err := s.end(ctx, "parent"); err != nil {
					t.Fatal(err)
				}
				is = s.root(t, ctx, "parent", after)
				cache.stale[s.rawKey(t, ctx, s.prefixes.Main.Store, "parent")] = was
				return was, is
			}
			claim := func(t *testing.T, parent *ipam.Prefix, prefix string) bool {
				_, ok := s.revisions(t)[s.claimKey(parent.UID, netip.MustParsePrefix(prefix))]
				return ok
			}

			for _, w := range ways {
				t.Run(w.name, func(t *testing.T) {
					for _, demanded := range []bool{false, true} {
						if demanded && !w.uid {
							continue
						}
						ctx, _ := newNamespace(t)
						_, is := recreated(t, ctx, "10.0.0.0/16", "10.0.0.0/16")
						b := bid{parent: "parent", prefix: "10.0.5.0/24"}
						if demanded {
							b.uid = is.UID
						}
						if err := w.prepare(t, s, ctx, b)(); err != nil {
							t.Fatal(err)
						}
						if !claim(t, is, "10.0.5.0/24") {
							t.Errorf("the claim is not to the parent there is")
						}
					}
					if w.uid {
						ctx, _ := newNamespace(t)
						was, is := recreated(t, ctx, "10.0.0.0/16", "10.0.0.0/16")
						write := w.prepare(t, s, ctx, bid{"parent", "10.0.5.0/24", was.UID})
						s.refused(t, write, metav1.StatusReasonConflict, "10.0.5.0/24", string(was.UID), string(is.UID))
					}
					// The state in the cache is not a reason to reject.
					for _, before := range []string{"10.1.0.0/16", "10.0.5.0/24"} {
						ctx, _ := newNamespace(t)
						recreated(t, ctx, before, "10.0.0.0/16")
						if err := w.prepare(t, s, ctx, bid{parent: "parent", prefix: "10.0.5.0/24"})(); err != nil {
							t.Error(err)
						}
					}
					ctx, _ := newNamespace(t)
					was, _ := recreated(t, ctx, "10.0.0.0/16", "10.0.0.0/16")
					was.DeletionTimestamp = &metav1.Time{Time: time.Now()}
					if err := w.prepare(t, s, ctx, bid{parent: "parent", prefix: "10.0.5.0/24"})(); err != nil {
						t.Error(err)
					}
					ctx, _ = newNamespace(t)
					recreated(t, ctx, "10.0.0.0/16", "10.1.0.0/16")
					s.refused(t, w.prepare(t, s, ctx, bid{parent: "parent", prefix: "10.0.5.0/24"}), metav1.StatusReasonInvalid, "10.0.5.0/24", "10.1.0.0/16")
				})
			}

			// A stale cache does not cause a release without the claim.
			t.Run("release", func(t *testing.T) {
				ctx, _ := newNamespace(t)
				_, is := recreated(t, ctx, "10.0.0.0/16", "10.0.0.0/16")
				s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
				if err := s.bind(ctx, "a", "parent", "10.0.5.0/24", is.UID); err != nil {
					t.Fatal(err)
				}
				if err := s.deleteAllocation(ctx, "a"); err != nil {
					t.Fatal(err)
				}
				if claim(t, is, "10.0.5.0/24") {
					t.Errorf("the claim has outlived its allocation")
				}
			})
			t.Run("release under a live child", func(t *testing.T) {
				ctx, _ := newNamespace(t)
				recreated(t, ctx, "10.0.0.0/16", "10.0.0.0/16")
				s.liveChild(t, ctx, "child", "parent", "10.0.5.0/24")
				s.refused(t, func() error { return s.deleteAllocation(ctx, "child") }, metav1.StatusReasonConflict, "10.0.5.0/24", "child")
			})
			t.Run("complete", func(t *testing.T) {
				ctx, _ := newNamespace(t)
				was, is := recreated(t, ctx, "10.0.0.0/16", "10.0.0.0/16")
				child := s.child(t, ctx, "child", "parent", 24)
				s.allocate(t, ctx, "child", child, "parent", "10.0.5.0/24")
				s.refused(t, func() error { return s.complete(ctx, "child", "parent", "10.0.5.0/24", was.UID) }, metav1.StatusReasonConflict, string(was.UID))
				if err := s.complete(ctx, "child", "parent", "10.0.5.0/24", is.UID); err != nil {
					t.Error(err)
				}
			})
			t.Run("deleted", func(t *testing.T) {
				ctx, _ := newNamespace(t)
				was := s.root(t, ctx, "parent", "10.0.0.0/16")
				s.allocate(t, ctx, "first", nil, "parent", "10.0.7.0/24")
				if err := s.deleteAllocation(ctx, "first"); err != nil {
					t.Fatal(err)
				}
				cache.stale[s.rawKey(t, ctx, s.prefixes.Main.Store, "parent")] = was
				if err := s.end(ctx, "parent"); err != nil {
					t.Fatal(err)
				}
				s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
				s.refused(t, func() error { return s.bind(ctx, "a", "parent", "10.0.5.0/24", was.UID) }, metav1.StatusReasonConflict, "does not exist")
			})
			s.check(t)
		})
	}
}

// TestRegistryRefuses tests rejections by the registry of requests that the storage would accept.
func TestRegistryRefuses(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{})
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	s.request(t, ctx, "by-length", nil, ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 24, PrefixRef: ref("parent")})
	s.request(t, ctx, "static", nil, ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: "10.0.5.0/24", PrefixRef: ref("parent")})
	for name, prefix := range map[string]string{"by-length": "10.0.5.0/25", "static": "10.0.6.0/24"} {
		s.refused(t, func() error { return s.bind(ctx, name, "parent", prefix, "") }, metav1.StatusReasonInvalid, prefix)
		s.refused(t, func() error {
			_, err := s.updateAllocationStatus(ctx, name, allocateTo(prefix))
			return err
		}, metav1.StatusReasonInvalid, prefix)
	}
	// The status of a new object is ignored.
	allocation := &ipam.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: "created"}, Spec: ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 24, PrefixRef: ref("parent")}}
	allocateTo("10.0.5.0/24")(allocation)
	must[runtime.Object](t)(s.allocations.Main.Create(ctx, allocation, rest.ValidateAllObjectFunc, &metav1.CreateOptions{}))
	if got := s.getAllocation(t, ctx, "created"); got.Status.Phase != ipam.PrefixAllocationPhasePending || got.Status.Prefix != "" {
		t.Errorf("got %+v", got.Status)
	}
	s.check(t)
}

// TestFinal changes allocated objects. They keep what they hold.
func TestFinal(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			ctx, _ := newNamespace(t)
			parent := s.root(t, ctx, "parent", "10.0.0.0/16")
			s.root(t, ctx, "parent2", "10.0.0.0/16")
			s.liveChild(t, ctx, "child", "parent", "10.0.5.0/24")
			claimKey := s.claimKey(parent.UID, netip.MustParsePrefix("10.0.5.0/24"))
			claimed := s.revisions(t)[claimKey]

			for name, change := range map[string]func(*ipam.PrefixAllocation){
				"prefix":   func(a *ipam.PrefixAllocation) { a.Status.Prefix = "10.0.6.0/24" },
				"parent":   func(a *ipam.PrefixAllocation) { a.Spec.PrefixRef = ref("parent2") },
				"pending":  func(a *ipam.PrefixAllocation) { a.Status.Phase = ipam.PrefixAllocationPhasePending },
				"failed":   func(a *ipam.PrefixAllocation) { a.Status.Phase = ipam.PrefixAllocationPhaseFailed },
				"no phase": func(a *ipam.PrefixAllocation) { a.Status = ipam.PrefixAllocationStatus{} },
			} {
				t.Run("allocation, "+name, func(t *testing.T) {
					key := s.rawKey(t, ctx, s.allocations.Main.Store, "child")
					s.refused(t, func() error {
						return s.rawAllocations().GuaranteedUpdate(ctx, key, &ipam.PrefixAllocation{}, false, nil,
							storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
								change(obj.(*ipam.PrefixAllocation))
								return obj, nil
							}), nil)
					}, metav1.StatusReasonConflict, "10.0.5.0/24", "final")
					for what, to := range map[string]updater{"main": s.allocations.Main, "status": s.allocations.Status} {
						before := s.revision(t)
						if _, err := update(ctx, to, "child", change); err == nil && s.revision(t) != before {
							t.Errorf("%s: it was accepted and not ignored", what)
						}
					}
				})
			}
			for name, change := range map[string]func(*ipam.Prefix){
				"prefix":  func(p *ipam.Prefix) { p.Spec.Prefix = "10.0.6.0/24" },
				"parent":  func(p *ipam.Prefix) { p.Spec.ParentRef = ref("parent2") },
				"root":    func(p *ipam.Prefix) { p.Spec.ParentRef = nil },
				"pending": func(p *ipam.Prefix) { p.Status.Phase = ipam.PrefixPhasePending },
			} {
				t.Run("child, "+name, func(t *testing.T) {
					key := s.rawKey(t, ctx, s.prefixes.Main.Store, "child")
					s.refused(t, func() error {
						return s.rawPrefixes().GuaranteedUpdate(ctx, key, &ipam.Prefix{}, false, nil,
							storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
								change(obj.(*ipam.Prefix))
								return obj, nil
							}), nil)
					}, metav1.StatusReasonConflict, "10.0.5.0/24", "final")
				})
			}
			for name, other := range map[string]bid{"prefix": {parent: "parent", prefix: "10.0.6.0/24"}, "parent": {parent: "parent2", prefix: "10.0.5.0/24"}} {
				t.Run("another binding, "+name, func(t *testing.T) {
					s.refused(t, func() error { return s.bind(ctx, "child", other.parent, other.prefix, "") }, metav1.StatusReasonConflict, "10.0.5.0/24")
					s.refused(t, func() error { return s.complete(ctx, "child", other.parent, other.prefix, "") }, metav1.StatusReasonConflict, "10.0.5.0/24")
				})
			}
			t.Run("the same binding once more", func(t *testing.T) {
				before := s.revision(t)
				if err := s.bind(ctx, "child", "parent", "10.0.5.0/24", parent.UID); err != nil {
					t.Error(err)
				}
				if err := s.complete(ctx, "child", "parent", "10.0.5.0/24", parent.UID); err != nil {
					t.Error(err)
				}
				if s.revision(t) != before {
					t.Errorf("something was written")
				}
			})
			t.Run("metadata", func(t *testing.T) {
				got := must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, "child", func(a *ipam.PrefixAllocation) { a.Labels = map[string]string{"a": "b"} }))
				if got.Labels["a"] != "b" || got.Status.Prefix != "10.0.5.0/24" {
					t.Errorf("got %+v", got)
				}
				must[*ipam.Prefix](t)(s.updatePrefix(ctx, "child", func(p *ipam.Prefix) { p.Labels = map[string]string{"a": "b"} }))
			})
			if got := s.revisions(t)[claimKey]; got != claimed {
				t.Errorf("the claim was written at %d, and again at %d", claimed, got)
			}
			s.check(t)
		})
	}
}

// TestDryRun shows that a dry run stores nothing.
func TestDryRun(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{})
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
	s.allocate(t, ctx, "b", nil, "parent", "10.0.6.0/24")
	before := s.revision(t)
	all := []string{metav1.DryRunAll}
	_, err := s.allocations.Binding.Create(ctx, "a", &ipam.PrefixAllocationBinding{Prefix: "10.0.5.0/24", PrefixRef: ipam.BindingReference{Name: "parent"}},
		rest.ValidateAllObjectFunc, &metav1.CreateOptions{DryRun: all})
	if err != nil {
		t.Error(err)
	}
	if _, _, err := s.allocations.Main.Delete(ctx, "b", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Error(err)
	}
	if s.revision(t) != before {
		t.Errorf("something was written")
	}
	s.check(t)
}

// exit is a way to remove an object.
type exit struct {
	name string
	// prepare is called first. The returned function may need an object that has not changed since.
	prepare func(t *testing.T, s *server, ctx context.Context, name string) func() error
}

var allocationExits = []exit{
	{"delete", func(_ *testing.T, s *server, ctx context.Context, name string) func() error {
		return func() error { return s.deleteAllocation(ctx, name) }
	}},
	{"delete, preconditions", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		a := s.getAllocation(t, ctx, name)
		return func() error {
			options := metav1.NewDeleteOptions(0)
			options.Preconditions = &metav1.Preconditions{UID: &a.UID, ResourceVersion: &a.ResourceVersion}
			_, _, err := s.allocations.Main.Delete(ctx, name, rest.ValidateAllObjectFunc, options)
			return err
		}
	}},
	{"delete collection", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		return func() error {
			_, err := s.allocations.Main.DeleteCollection(ctx, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, nil)
			return err
		}
	}},
	{"last finalizer", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, name, func(a *ipam.PrefixAllocation) { a.Finalizers = []string{"example.com/test"} }))
		if err := s.deleteAllocation(ctx, name); err != nil {
			// What may not be released may not begin to wait for that either.
			return func() error { return err }
		}
		return func() error {
			_, err := s.updateAllocation(ctx, name, func(a *ipam.PrefixAllocation) { a.Finalizers = nil })
			return err
		}
	}},
	{"storage delete", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		key := s.rawKey(t, ctx, s.allocations.Main.Store, name)
		return func() error {
			return s.rawAllocations().Delete(ctx, key, &ipam.PrefixAllocation{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{})
		}
	}},
	{"storage delete, object at hand", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		key := s.rawKey(t, ctx, s.allocations.Main.Store, name)
		stale := s.getAllocation(t, ctx, name)
		stale.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhasePending}
		stale.ResourceVersion = "1"
		return func() error {
			return s.rawAllocations().Delete(ctx, key, &ipam.PrefixAllocation{}, nil, storage.ValidateAllObjectFunc, stale, storage.DeleteOptions{})
		}
	}},
}

// TestRelease removes allocations in every way.
func TestRelease(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	const prefix = "10.0.5.0/24"
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			for _, exit := range allocationExits {
				for _, tt := range []struct {
					name    string
					arrange func(t *testing.T, ctx context.Context)
					stays   bool
				}{
					{"under a live child", func(t *testing.T, ctx context.Context) { s.liveChild(t, ctx, "a", "parent", prefix) }, true},
					{"under a child that is being deleted", func(t *testing.T, ctx context.Context) {
						s.liveChild(t, ctx, "a", "parent", prefix)
						if err := s.deletePrefix(ctx, "a"); err != nil {
							t.Fatal(err)
						}
					}, true},
					{"child gone", func(t *testing.T, ctx context.Context) {
						s.liveChild(t, ctx, "a", "parent", prefix)
						if err := s.end(ctx, "a"); err != nil {
							t.Fatal(err)
						}
					}, false},
					{"child recreated", func(t *testing.T, ctx context.Context) {
						s.liveChild(t, ctx, "a", "parent", prefix)
						if err := s.end(ctx, "a"); err != nil {
							t.Fatal(err)
						}
						s.child(t, ctx, "a", "parent", 24)
					}, false},
					{"child pending", func(t *testing.T, ctx context.Context) {
						s.allocate(t, ctx, "a", s.child(t, ctx, "a", "parent", 24), "parent", prefix)
					}, false},
					{"child stands on another one", func(t *testing.T, ctx context.Context) {
						child := s.child(t, ctx, "child", "parent", 24)
						s.allocate(t, ctx, "a", child, "parent", prefix)
						if exit.name == "delete collection" {
							return
						}
						s.allocate(t, ctx, "b", child, "parent", "10.0.6.0/24")
						if err := s.complete(ctx, "child", "parent", "10.0.6.0/24", ""); err != nil {
							t.Fatal(err)
						}
					}, false},
					{"of nobody", func(t *testing.T, ctx context.Context) { s.allocate(t, ctx, "a", nil, "parent", prefix) }, false},
					{"pending", func(t *testing.T, ctx context.Context) { s.requestLength(t, ctx, "a", nil, prefix) }, false},
					{"pending, of a live child", func(t *testing.T, ctx context.Context) {
						if exit.name == "delete collection" {
							s.requestLength(t, ctx, "a", nil, prefix)
							return
						}
						s.requestLength(t, ctx, "a", s.liveChild(t, ctx, "child", "parent", prefix), prefix)
					}, false},
					{"failed", func(t *testing.T, ctx context.Context) {
						s.requestLength(t, ctx, "a", nil, prefix)
						must[*ipam.PrefixAllocation](t)(s.updateAllocationStatus(ctx, "a", func(a *ipam.PrefixAllocation) { a.Status.Phase = ipam.PrefixAllocationPhaseFailed }))
					}, false},
				} {
					t.Run(exit.name+"/"+tt.name, func(t *testing.T) {
						ctx, namespace := newNamespace(t)
						parent := s.root(t, ctx, "parent", "10.0.0.0/16")
						tt.arrange(t, ctx)
						remove := exit.prepare(t, s, ctx, "a")
						if tt.stays {
							s.refused(t, remove, metav1.StatusReasonConflict, prefix, "in use by Prefix a:")
							return
						}
						if err := remove(); err != nil {
							t.Fatal(err)
						}
						left := s.revisions(t)
						if _, ok := left[s.allocationKey(namespace, "a")]; ok {
							t.Errorf("it is still there")
						}
						if _, ok := left[s.claimKey(parent.UID, netip.MustParsePrefix(prefix))]; ok && tt.name != "pending, of a live child" {
							t.Errorf("its claim is still there")
						}
						if tt.name == "pending, of a live child" {
							return
						}
						// The space can be allocated again.
						s.allocate(t, ctx, "next", nil, "parent", prefix)
					})
				}
			}
			s.check(t)
		})
	}
}

var prefixExits = []exit{
	{"delete, no finalizer", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		s.unprotect(t, ctx, name)
		return func() error { return s.deletePrefix(ctx, name) }
	}},
	{"last finalizer", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		if err := s.deletePrefix(ctx, name); err != nil {
			t.Fatal(err)
		}
		if s.getPrefix(t, ctx, name).DeletionTimestamp == nil {
			t.Fatal("it is not being deleted")
		}
		return func() error { return s.letGo(ctx, name) }
	}},
	{"last finalizer, by status", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		if err := s.deletePrefix(ctx, name); err != nil {
			t.Fatal(err)
		}
		return func() error {
			// This does not work, because status updates do not change finalizers.
			if _, err := s.updatePrefixStatus(ctx, name, func(p *ipam.Prefix) { p.Finalizers = nil }); err != nil {
				t.Fatal(err)
			}
			return s.letGo(ctx, name)
		}
	}},
	{"delete collection", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		list := must[runtime.Object](t)(s.prefixes.Main.List(ctx, nil)).(*ipam.PrefixList)
		for _, p := range list.Items {
			s.unprotect(t, ctx, p.Name)
		}
		return func() error {
			_, err := s.prefixes.Main.DeleteCollection(ctx, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, nil)
			return err
		}
	}},
	{"storage delete", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		key := s.rawKey(t, ctx, s.prefixes.Main.Store, name)
		return func() error {
			return s.rawPrefixes().Delete(ctx, key, &ipam.Prefix{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{})
		}
	}},
	{"storage delete, object at hand", func(t *testing.T, s *server, ctx context.Context, name string) func() error {
		key := s.rawKey(t, ctx, s.prefixes.Main.Store, name)
		stale := s.getPrefix(t, ctx, name)
		stale.Status = ipam.PrefixStatus{Phase: ipam.PrefixPhasePending}
		stale.ResourceVersion = "1"
		return func() error {
			return s.rawPrefixes().Delete(ctx, key, &ipam.Prefix{}, nil, storage.ValidateAllObjectFunc, stale, storage.DeleteOptions{})
		}
	}},
}

// TestParentEnds removes parents in every way.
func TestParentEnds(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			for _, exit := range prefixExits {
				for _, tt := range []struct {
					name, whole, holds string
					arrange            func(t *testing.T, ctx context.Context)
				}{
					{"with an allocation", "10.0.0.0/16", "10.0.5.0/24", func(t *testing.T, ctx context.Context) { s.allocate(t, ctx, "a", nil, "parent", "10.0.5.0/24") }},
					{"with an allocation at the end", "10.0.0.0/16", "10.0.255.255/32", func(t *testing.T, ctx context.Context) { s.allocate(t, ctx, "a", nil, "parent", "10.0.255.255/32") }},
					{"with an allocation, v6", "2001:db8::/32", "2001:db8:5::/48", func(t *testing.T, ctx context.Context) { s.allocate(t, ctx, "a", nil, "parent", "2001:db8:5::/48") }},
					{"with a child", "10.0.0.0/16", "10.0.0.0/17", func(t *testing.T, ctx context.Context) { s.liveChild(t, ctx, "a", "parent", "10.0.0.0/17") }},
					{"with nothing", "10.0.0.0/16", "", func(*testing.T, context.Context) {}},
					{"with a request", "10.0.0.0/16", "", func(t *testing.T, ctx context.Context) {
						s.request(t, ctx, "a", nil, ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, PrefixLength: 24, PrefixRef: ref("parent")})
					}},
					{"with nothing left", "10.0.0.0/16", "", func(t *testing.T, ctx context.Context) {
						s.allocate(t, ctx, "a", nil, "parent", "10.0.5.0/24")
						if err := s.deleteAllocation(ctx, "a"); err != nil {
							t.Fatal(err)
						}
					}},
				} {
					t.Run(exit.name+"/"+tt.name, func(t *testing.T) {
						ctx, namespace := newNamespace(t)
						parent := s.root(t, ctx, "parent", tt.whole)
						tt.arrange(t, ctx)
						if exit.name == "delete collection" && tt.name == "with a child" {
							// The child would be deleted first.
							return
						}
						remove := exit.prepare(t, s, ctx, "parent")
						if tt.holds != "" {
							status := s.refused(t, remove, metav1.StatusReasonConflict, tt.holds, " a holds", "allocated from it")
							causes := map[metav1.CauseType]string{}
							for _, cause := range status.ErrStatus.Details.Causes {
								causes[cause.Type] = cause.Message
							}
							if causes[v1alpha1.CauseTypeHolderPrefix] != tt.holds || causes[v1alpha1.CauseTypeHolderName] != "a" || causes[v1alpha1.CauseTypeHolderUID] == "" {
								t.Errorf("got %v", causes)
							}
							return
						}
						if err := remove(); err != nil {
							t.Fatal(err)
						}
						for key := range s.revisions(t) {
							if key == s.prefixKey(namespace, "parent") || strings.Contains(key, string(parent.UID)) {
								t.Errorf("%s is still there", key)
							}
						}
					})
				}
			}
			s.check(t)
		})
	}
}

// TestComplete completes children in every way.
func TestComplete(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	const prefix = "10.0.5.0/24"
	completeWays := []struct {
		name string
		// prepare is called with a Pending child, when everything else is correct.
		prepare func(t *testing.T, s *server, ctx context.Context) func() error
	}{
		{"binding", func(_ *testing.T, s *server, ctx context.Context) func() error {
			return func() error { return s.complete(ctx, "child", "parent", prefix, "") }
		}},
		{"spec, then status", func(t *testing.T, s *server, ctx context.Context) func() error {
			must[*ipam.Prefix](t)(s.updatePrefix(ctx, "child", func(p *ipam.Prefix) { p.Spec.Prefix, p.Spec.ParentRef = prefix, ref("parent") }))
			return func() error {
				_, err := s.updatePrefixStatus(ctx, "child", func(p *ipam.Prefix) { p.Status.Phase = ipam.PrefixPhaseAllocated })
				return err
			}
		}},
		{"storage update", func(t *testing.T, s *server, ctx context.Context) func() error {
			key := s.rawKey(t, ctx, s.prefixes.Main.Store, "child")
			return func() error {
				return s.rawPrefixes().GuaranteedUpdate(ctx, key, &ipam.Prefix{}, false, nil,
					storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
						p := obj.(*ipam.Prefix)
						p.Spec.Prefix, p.Spec.ParentRef, p.Status.Phase = prefix, ref("parent"), ipam.PrefixPhaseAllocated
						return p, nil
					}), nil)
			}
		}},
	}
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			for _, w := range completeWays {
				for _, tt := range []struct {
					name    string
					arrange func(t *testing.T, ctx context.Context, child *ipam.Prefix)
					words   []string
				}{
					{"its allocation", func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.allocate(t, ctx, "a", child, "parent", prefix)
					}, nil},
					{"no allocation", func(t *testing.T, ctx context.Context, child *ipam.Prefix) { s.root(t, ctx, "parent", "10.0.0.0/16") }, []string{"none of its PrefixAllocations holds"}},
					{"pending allocation", func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.requestLength(t, ctx, "a", child, prefix)
					}, []string{"none of its PrefixAllocations holds"}},
					{"released allocation", func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.allocate(t, ctx, "a", child, "parent", prefix)
						if err := s.deleteAllocation(ctx, "a"); err != nil {
							t.Fatal(err)
						}
					}, []string{"none of its PrefixAllocations holds"}},
					{"allocation of somebody else", func(t *testing.T, ctx context.Context, _ *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.allocate(t, ctx, "a", s.child(t, ctx, "other", "parent", 24), "parent", prefix)
					}, []string{"none of its PrefixAllocations holds"}},
					{"allocation of the one before", func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.allocate(t, ctx, "a", child, "parent", prefix)
						ok(t, s.end(ctx, "child"))
						must[*ipam.Prefix](t)(s.createPrefix(ctx, "child", child.Spec))
					}, []string{"none of its PrefixAllocations holds"}},
					{"allocation of nobody", func(t *testing.T, ctx context.Context, _ *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.allocate(t, ctx, "a", nil, "parent", prefix)
					}, []string{"none of its PrefixAllocations holds"}},
					{"another prefix", func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.allocate(t, ctx, "a", child, "parent", "10.0.6.0/24")
					}, []string{"none of its PrefixAllocations holds"}},
					{"around it", func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.allocate(t, ctx, "a", s.child(t, ctx, "wide", "parent", 23), "parent", "10.0.4.0/23")
					}, []string{"none of its PrefixAllocations holds"}},
					{"from another parent", func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
						s.root(t, ctx, "parent", "10.0.0.0/16")
						s.root(t, ctx, "other", "10.0.0.0/16")
						s.allocate(t, ctx, "a", child, "other", prefix)
					}, []string{"none of its PrefixAllocations holds"}},
					{"no parent", func(*testing.T, context.Context, *ipam.Prefix) {}, []string{"does not exist"}},
				} {
					t.Run(w.name+"/"+tt.name, func(t *testing.T) {
						ctx, _ := newNamespace(t)
						child := must[*ipam.Prefix](t)(s.createPrefix(ctx, "child", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 24, ParentSelector: anyParent}))
						tt.arrange(t, ctx, child)
						write := w.prepare(t, s, ctx)
						if tt.words != nil {
							s.refused(t, write, metav1.StatusReasonConflict, append(tt.words, prefix, "Prefix parent")...)
							return
						}
						if err := write(); err != nil {
							t.Fatal(err)
						}
						if got := s.getPrefix(t, ctx, "child"); got.Status.Phase != ipam.PrefixPhaseAllocated || got.Spec.Prefix != prefix || got.Spec.ParentRef.Name != "parent" {
							t.Errorf("got %+v", got)
						}
					})
				}
			}
			t.Run("storage create", func(t *testing.T) {
				ctx, namespace := newNamespace(t)
				s.root(t, ctx, "parent", "10.0.0.0/16")
				key := s.rawKey(t, ctx, s.prefixes.Main.Store, "child")
				s.refused(t, func() error {
					return s.rawPrefixes().Create(ctx, key, &ipam.Prefix{
						ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "child", UID: "uid"},
						Spec:       ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: prefix, ParentRef: ref("parent")},
						Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated},
					}, &ipam.Prefix{}, 0)
				}, metav1.StatusReasonConflict, "none of its PrefixAllocations holds", prefix)
			})
			s.check(t)
		})
	}
}

// TestCorruptIsKept deletes objects that the storage cannot decode.
func TestCorruptIsKept(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{})
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	s.allocate(t, ctx, "a", nil, "parent", "10.0.5.0/24")
	key := s.rawKey(t, ctx, s.allocations.Main.Store, "a")
	s.refused(t, func() error {
		return s.rawAllocations().Delete(ctx, key, &ipam.PrefixAllocation{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{ExpectTransformOrDecodeError: true})
	}, metav1.StatusReasonBadRequest, "claim")
	s.check(t)
}

// TestHugeRequest requests a prefix that contains those of a hundred thousand holders. etcd must not load all their
// claims while it applies a transaction, because that blocks all other requests.
func TestHugeRequest(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	s := newServer(t, etcd, variant{})
	ctx, namespace := newNamespace(t)
	parent := s.root(t, ctx, "parent", "10.0.0.0/8")
	const held = 100_000
	var ops []clientv3.Op
	address := netip.MustParseAddr("10.0.0.0")
	for i := range held {
		key := s.claimKey(parent.UID, netip.PrefixFrom(address, 32))
		ops = append(ops, clientv3.OpPut(key, fmt.Sprintf(`{"holders":[{"namespace":%q,"name":"holder-%d","uid":"%d"}]}`, namespace, i, i)))
		address = address.Next()
		if len(ops) == claims.MaxTxnOps || i == held-1 {
			if _, err := etcd.KV.Txn(ctx).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
			ops = ops[:0]
		}
	}

	// cheaply checks that a write is refused before a transaction is sent, whose compare would make etcd load all claims,
	// and without a read for which etcd counts them.
	cheaply := func(t *testing.T, write func() error, words ...string) {
		t.Helper()
		txns := s.tamper.count()
		s.tamper.takeRanges()
		s.refused(t, write, metav1.StatusReasonConflict, words...)
		if n := s.tamper.count() - txns; n > 0 {
			t.Errorf("%d transactions were sent", n)
		}
		if ranges, counted := s.tamper.takeRanges(); len(ranges) == 0 || len(counted) > 0 {
			t.Errorf("of the ranges %q, etcd counts %q", ranges, counted)
		}
	}
	for _, prefix := range []string{"10.0.0.0/9", "10.0.0.0/10", "10.1.0.0/16", "10.1.0.0/22"} {
		t.Run(prefix, func(t *testing.T) {
			ctx := withNamespace(t.Context(), namespace)
			name := "a-" + strings.NewReplacer(".", "-", "/", "-").Replace(prefix)
			s.request(t, ctx, name, nil, ipam.PrefixAllocationSpec{IPFamily: ipam.IPv4, Prefix: prefix, PrefixRef: ref("parent")})
			cheaply(t, func() error { return s.bind(ctx, name, "parent", prefix, "") }, prefix, "holder-")
			cheaply(t, func() error {
				_, err := s.updateAllocationStatus(ctx, name, allocateTo(prefix))
				return err
			}, prefix, "holder-")
		})
	}
	t.Run("parent", func(t *testing.T) {
		if err := s.deletePrefix(ctx, "parent"); err != nil {
			t.Fatal(err)
		}
		cheaply(t, func() error { return s.letGo(ctx, "parent") }, "10.0.0.0/32", "holder-0")
	})
}

// TestTooDeep requests prefixes with more possible ancestors than an etcd transaction can have compares.
func TestTooDeep(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{})
	// There is one compare each for the allocation, its parent, and the range inside.
	const most = claims.MaxTxnOps - 3
	deep := func(ones int) string {
		address := [16]byte{}
		// Begin with the last bit, so that the first bit is set only if all are.
		for i := range ones {
			address[15-i/8] |= 1 << (i % 8)
		}
		return netip.PrefixFrom(netip.AddrFrom16(address), 128).String()
	}
	for _, tt := range []struct {
		prefix string
		ok     bool
	}{
		{deep(128), false},
		{deep(most + 1), false},
		{deep(most), true},
		{deep(1), true},
		{"8000::/1", true},
		{"ffff:ffff:ffff:ffff::/64", true},
	} {
		t.Run(tt.prefix, func(t *testing.T) {
			ctx, _ := newNamespace(t)
			s.root(t, ctx, "parent", "::/0")
			s.requestLength(t, ctx, "a", nil, tt.prefix)
			bind := func() error { return s.bind(ctx, "a", "parent", tt.prefix, "") }
			if tt.ok {
				if err := bind(); err != nil {
					t.Fatal(err)
				}
				s.requestLength(t, ctx, "b", nil, tt.prefix)
				checkInUse(t, s, ctx, func() error { return s.bind(ctx, "b", "parent", tt.prefix, "") }, tt.prefix, "a")
				return
			}
			s.refused(t, bind, metav1.StatusReasonInvalid, "status.prefix", tt.prefix, "::/0", "in between")
		})
	}
	s.check(t)
}

// TestOtherNamespace uses the same names and prefixes in two namespaces, which are independent.
func TestOtherNamespace(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{cached: true})
	for range 2 {
		ctx, _ := newNamespace(t)
		s.root(t, ctx, "parent", "10.0.0.0/16")
		s.liveChild(t, ctx, "child", "parent", "10.0.5.0/24")
		// Two overlapping parents are independent, too.
		s.root(t, ctx, "parent2", "10.0.0.0/16")
		s.allocate(t, ctx, "a", nil, "parent2", "10.0.5.0/24")
	}
	s.check(t)
}
