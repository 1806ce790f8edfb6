// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/store"
	"go.etcd.io/etcd/client/v3/kubernetes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
)

// newDisjointServers returns servers with one store that reject overlapping roots.
func newDisjointServers(t testing.TB, etcd *kubernetes.Client, v variant, n int) []*server {
	t.Helper()
	prefix := fmt.Sprintf("/registry/test-%d", etcdPrefixes.Add(1))
	var servers []*server
	for range n {
		s := newServerAt(t, etcd, v, prefix, func(c *store.Config) { c.DisjointRoots = true })
		s.disjoint = true
		servers = append(servers, s)
	}
	return servers
}

func rootSpec(prefix string) ipam.PrefixSpec {
	return ipam.PrefixSpec{IPFamily: familyOf(prefix), Prefix: prefix}
}

// createRoot creates a root. It retries if the server asks for that because it is busy.
func (s *server) createRoot(ctx context.Context, name, prefix string) error {
	for {
		_, err := s.createPrefix(ctx, name, rootSpec(prefix))
		// A watch cache that is not ready asks for a retry, too.
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			if apierrors.IsServerTimeout(err) {
				busy.Add(1)
			}
			time.Sleep(time.Duration(seconds) * time.Second)
			continue
		}
		return err
	}
}

// busy counts the retries of createRoot.
var busy atomic.Int64

// inParallel runs n functions concurrently.
func inParallel(n int, run func(int)) {
	var begin, done sync.WaitGroup
	begin.Add(n)
	for i := range n {
		done.Go(func() {
			begin.Done()
			begin.Wait()
			run(i)
		})
	}
	done.Wait()
}

// TestEqualRootsInParallel creates the same root fifty times concurrently. One is created, and the other errors
// name it.
func TestEqualRootsInParallel(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			servers := newDisjointServers(t, etcd, v, 3)
			for range max(4, rounds()/10) {
				ctx, namespace := newNamespace(t)
				created := make([]error, 50)
				inParallel(len(created), func(i int) {
					created[i] = servers[i%len(servers)].createRoot(ctx, fmt.Sprintf("root-%d", i), "10.0.0.0/16")
				})
				winner := slices.Index(created, nil)
				if winner < 0 {
					t.Fatalf("none was created: %v", created)
				}
				for i, err := range created {
					if i == winner {
						continue
					}
					if want := fmt.Sprintf("spec.prefix: Forbidden: 10.0.0.0/16 overlaps the root root-%d (10.0.0.0/16)", winner); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
						t.Errorf("root-%d was created, and the answer to root-%d is %v", winner, i, err)
					}
				}
				if got := rootsIn(t, servers[0], withNamespace(ctx, namespace)); len(got) != 1 {
					t.Errorf("there are %v", got)
				}
			}
			servers[0].check(t)
		})
	}
}

// TestEqualRootsBackToBack creates and deletes equal roots one after another, each on another server.
func TestEqualRootsBackToBack(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			servers := newDisjointServers(t, etcd, v, 3)
			ctx, _ := newNamespace(t)
			if err := servers[0].createRoot(ctx, "other", "192.168.0.0/16"); err != nil {
				t.Fatal(err)
			}
			for i := range max(20, rounds()) {
				if err := servers[i%3].createRoot(ctx, "a", "10.0.0.0/8"); err != nil {
					t.Fatalf("round %d: %v", i, err)
				}
				if err := servers[(i+1)%3].createRoot(ctx, "b", "10.0.0.0/8"); !apierrors.IsInvalid(err) {
					t.Fatalf("round %d: the second root is answered %v", i, err)
				}
				if err := servers[(i+2)%3].end(ctx, "a"); err != nil {
					t.Fatalf("round %d: %v", i, err)
				}
			}
			servers[0].check(t)
		})
	}
}

// rootsIn returns the roots of a namespace in etcd, by name.
func rootsIn(t testing.TB, s *server, ctx context.Context) map[string]netip.Prefix {
	t.Helper()
	list := must[runtime.Object](t)(s.prefixes.Main.List(ctx, nil)).(*ipam.PrefixList)
	roots := map[string]netip.Prefix{}
	for i := range list.Items {
		if p := &list.Items[i]; p.Spec.IsRoot() && p.Namespace == namespaceOf(ctx) {
			roots[p.Name] = netip.MustParsePrefix(p.Spec.Prefix).Masked()
		}
	}
	return roots
}

// TestRandomRootsInParallel creates random roots concurrently. Roots never overlap, and each rejected root overlaps
// an existing one.
func TestRandomRootsInParallel(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			servers := newDisjointServers(t, etcd, v, 3)
			for round := range max(4, rounds()/10) {
				seed := rand.Uint64()
				random := rand.New(rand.NewPCG(seed, 0))
				ctx, _ := newNamespace(t)
				type attempt struct {
					name   string
					prefix netip.Prefix
					err    error
				}
				attempts := make([]attempt, 60)
				for i := range attempts {
					// There are few possible roots, so that many overlap.
					bits := 16 + random.IntN(9)
					addr := netip.AddrFrom4([4]byte{10, byte(random.IntN(2)), byte(random.IntN(256)), 0})
					attempts[i] = attempt{name: fmt.Sprintf("r-%d", i), prefix: netip.PrefixFrom(addr, bits).Masked()}
					if i%4 == 3 {
						addr := netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(random.IntN(4))})
						attempts[i].prefix = netip.PrefixFrom(addr, 32+random.IntN(9)).Masked()
					}
				}
				inParallel(len(attempts), func(i int) {
					attempts[i].err = servers[i%3].createRoot(ctx, attempts[i].name, attempts[i].prefix.String())
				})
				roots := rootsIn(t, servers[0], ctx)
				for i, a := range attempts {
					overlaps := func(name string, prefix netip.Prefix) bool { return name != a.name && prefix.Overlaps(a.prefix) }
					var over []string
					for name, prefix := range roots {
						if overlaps(name, prefix) {
							over = append(over, name)
						}
					}
					switch {
					case a.err == nil && (len(over) > 0 || roots[a.name] != a.prefix):
						t.Errorf("seed %d, round %d: %s (%s) was created over %v", seed, round, a.name, a.prefix, over)
					case a.err != nil && !apierrors.IsInvalid(a.err):
						t.Errorf("seed %d, round %d: %s (%s) is answered %v", seed, round, a.name, a.prefix, a.err)
					case a.err != nil && !slices.ContainsFunc(over, func(name string) bool { return strings.Contains(a.err.Error(), "the root "+name+" (") }):
						t.Errorf("seed %d, round %d: %s (%s) overlaps %v, and is answered %v", seed, round, attempts[i].name, a.prefix, over, a.err)
					}
				}
			}
			servers[0].check(t)
			t.Logf("%d answers had to be repeated so far", busy.Load())
		})
	}
}

// TestRootsComeAndGo creates and deletes overlapping roots at random. Roots never overlap, and the key of the
// namespace is removed together with the last root.
func TestRootsComeAndGo(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			servers := newDisjointServers(t, etcd, v, 3)
			ctx, _ := newNamespace(t)
			// holds contains the roots that certainly exist: acknowledged, and not being deleted.
			var mu sync.Mutex
			holds := map[string]netip.Prefix{}
			created := 0
			inParallel(9, func(worker int) {
				random := rand.New(rand.NewPCG(rand.Uint64(), uint64(worker)))
				for i := range max(15, rounds()/10) {
					name := fmt.Sprintf("r-%d-%d", worker, i)
					prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(random.IntN(256)), 0}), 17+random.IntN(8)).Masked()
					if err := servers[worker%3].createRoot(ctx, name, prefix.String()); err != nil {
						if !apierrors.IsInvalid(err) {
							t.Errorf("%s: %v", name, err)
						}
						continue
					}
					mu.Lock()
					created++
					for other, held := range holds {
						if held.Overlaps(prefix) {
							t.Errorf("%s (%s) was created while there was %s (%s)", name, prefix, other, held)
						}
					}
					holds[name] = prefix
					mu.Unlock()
					mu.Lock()
					delete(holds, name)
					mu.Unlock()
					if err := servers[(worker+1)%3].end(ctx, name); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
			if created < 9 {
				t.Errorf("only %d were created", created)
			}
			if roots := rootsIn(t, servers[0], ctx); len(roots) > 0 {
				t.Errorf("there still are %v", roots)
			}
			servers[0].check(t)
		})
	}
}

// TestRootsInEveryWay creates roots with all kinds of requests, over roots that were created with all kinds of
// requests.
func TestRootsInEveryWay(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	ways := map[string]func(s *server, ctx context.Context, prefix string) error{
		"create": func(s *server, ctx context.Context, prefix string) error { return s.createRoot(ctx, "new", prefix) },
		"generateName": func(s *server, ctx context.Context, prefix string) error {
			_, err := s.prefixes.Main.Create(ctx, &ipam.Prefix{ObjectMeta: metav1.ObjectMeta{GenerateName: "new-"}, Spec: rootSpec(prefix)},
				rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
			return err
		},
		"apply": func(s *server, ctx context.Context, prefix string) error {
			_, _, err := s.prefixes.Main.Update(ctx, "new", rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, _ runtime.Object) (runtime.Object, error) {
				return &ipam.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "new", Namespace: namespaceOf(ctx)}, Spec: rootSpec(prefix)}, nil
			}), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, true, &metav1.UpdateOptions{})
			return err
		},
	}
	for _, v := range fewVariants {
		servers := newDisjointServers(t, etcd, v, 2)
		for way, create := range ways {
			for _, test := range []struct {
				there, wanted string
				refused       bool
			}{
				{"10.0.0.0/16", "10.0.0.0/16", true},
				{"10.0.0.0/16", "10.0.7.0/24", true},
				{"10.0.0.0/16", "10.0.0.0/8", true},
				{"10.0.0.0/16", "0.0.0.0/0", true},
				{"10.0.0.0/16", "10.1.0.0/16", false},
				{"10.0.0.0/16", "::/0", false},
				{"2001:db8::/48", "2001:db8::/64", true},
				{"2001:db8::/48", "::/0", true},
				{"2001:db8::/48", "2001:db8:1::/48", false},
			} {
				t.Run(fmt.Sprintf("%s/%s/%s over %s", v, way, test.wanted, test.there), func(t *testing.T) {
					ctx, _ := newNamespace(t)
					if err := servers[0].createRoot(ctx, "there", test.there); err != nil {
						t.Fatal(err)
					}
					// Another namespace is independent.
					elsewhere, _ := newNamespace(t)
					if err := servers[1].createRoot(elsewhere, "elsewhere", test.wanted); err != nil {
						t.Fatal(err)
					}
					if test.refused {
						servers[1].refused(t, func() error { return create(servers[1], ctx, test.wanted) }, metav1.StatusReasonInvalid,
							"spec.prefix: Forbidden: "+test.wanted+" overlaps the root there ("+test.there+")")
					} else if err := create(servers[1], ctx, test.wanted); err != nil {
						t.Error(err)
					}
					servers[0].check(t)
				})
			}
		}
		// A child is not a root. The name of a root cannot be reused.
		ctx, _ := newNamespace(t)
		servers[0].root(t, ctx, "root", "10.0.0.0/16")
		servers[1].liveChild(t, ctx, "child", "root", "10.0.3.0/24")
		if err := servers[1].createRoot(ctx, "root", "10.0.0.0/16"); !apierrors.IsAlreadyExists(err) {
			t.Errorf("%s: the same root again is answered %v", v, err)
		}
		servers[0].check(t)
	}
}

// TestRootsFromBefore has a server that accepts overlapping roots, and one that does not.
func TestRootsFromBefore(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			strict := newDisjointServers(t, etcd, v, 1)[0]
			lax := newServerAt(t, etcd, v, strict.prefix)
			for range max(10, rounds()/10) {
				ctx, _ := newNamespace(t)
				for _, name := range []string{"a", "b"} {
					if err := lax.createRoot(ctx, name, "10.0.0.0/16"); err != nil {
						t.Fatal(err)
					}
				}
				if err := strict.createRoot(ctx, "c", "10.0.0.0/24"); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "root a (") || !strings.Contains(err.Error(), "root b (") {
					t.Fatalf("answered %v", err)
				}
				// Existing roots remain, and can be updated and deleted.
				if _, err := strict.updatePrefix(ctx, "a", func(p *ipam.Prefix) { p.Labels = map[string]string{"a": "b"} }); err != nil {
					t.Error(err)
				}
				for _, name := range []string{"a", "b"} {
					if err := strict.end(ctx, name); err != nil {
						t.Error(err)
					}
				}
				if err := strict.createRoot(ctx, "c", "10.0.0.0/24"); err != nil {
					t.Error(err)
				}
			}
			strict.check(t)
		})
	}
}

// TestRootsOfAnotherServer has roots without the key of the namespace, some with host bits.
func TestRootsOfAnotherServer(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			s := newDisjointServers(t, etcd, v, 1)[0]
			ctx, namespace := newNamespace(t)
			if err := s.createRoot(ctx, "old", "10.0.0.0/16"); err != nil {
				t.Fatal(err)
			}
			key := s.rawKey(t, ctx, s.prefixes.Main.Store, "old")
			if err := s.rawPrefixes().GuaranteedUpdate(ctx, key, &ipam.Prefix{}, false, nil, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
				obj.(*ipam.Prefix).Spec.Prefix = "10.0.0.5/16"
				return obj, nil
			}), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := etcd.KV.Delete(t.Context(), s.prefix+"/roots/"+namespace); err != nil {
				t.Fatal(err)
			}
			s.refused(t, func() error { return s.createRoot(ctx, "new", "10.0.0.0/16") }, metav1.StatusReasonInvalid, "overlaps the root old (10.0.0.5/16)")
			if err := s.createRoot(ctx, "new", "10.1.0.0/16"); err != nil {
				t.Error(err)
			}
			s.check(t)
		})
	}
}

// TestARootThatWaitsGivesUp ends a request that waits for the lock. It does not block others.
func TestARootThatWaitsGivesUp(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	s := newDisjointServers(t, etcd, variant{cached: true}, 1)[0]
	ctx, namespace := newNamespace(t)
	s.tamper.beforeWriteOf(s.prefixKey(namespace, "first"), func() {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if err := s.createRoot(short, "second", "10.1.0.0/16"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second is answered %v", err)
		}
		// Other namespaces do not wait.
		other, _ := newNamespace(t)
		if err := s.createRoot(other, "other", "10.0.0.0/16"); err != nil {
			t.Errorf("another namespace: %v", err)
		}
	})
	for _, name := range []string{"first", "third"} {
		if err := s.createRoot(ctx, name, map[string]string{"first": "10.0.0.0/16", "third": "10.1.0.0/16"}[name]); err != nil {
			t.Error(err)
		}
	}
	if left := s.tamper.waiting(); len(left) > 0 {
		t.Errorf("not written: %v", left)
	}
	s.check(t)
}

// TestARootIsOvertaken has another server create a root just before the transaction of the first one.
func TestARootIsOvertaken(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", v, before), func(t *testing.T) {
				servers := newDisjointServers(t, etcd, v, 2)
				ctx, namespace := newNamespace(t)
				if before {
					if err := servers[0].createRoot(ctx, "other", "192.168.0.0/16"); err != nil {
						t.Fatal(err)
					}
				}
				servers[0].tamper.beforeWriteOf(servers[0].prefixKey(namespace, "slow"), func() { ok(t, servers[1].createRoot(ctx, "fast", "10.0.0.0/8")) })
				if err := servers[0].createRoot(ctx, "slow", "10.0.0.0/16"); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "overlaps the root fast (10.0.0.0/8)") {
					t.Errorf("answered %v", err)
				}
				// A root that does not overlap is created all the same.
				servers[0].tamper.beforeWriteOf(servers[0].prefixKey(namespace, "slow"), func() { ok(t, servers[1].createRoot(ctx, "faster", "11.0.0.0/8")) })
				ok(t, servers[0].createRoot(ctx, "slow", "12.0.0.0/8"))
				servers[0].check(t)
			})
		}
	}
}

// TestTheLastRootsGoAtOnce deletes the last roots concurrently. The key of the namespace is removed with them.
func TestTheLastRootsGoAtOnce(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			servers := newDisjointServers(t, etcd, v, 2)
			ctx, namespace := newNamespace(t)
			for _, name := range []string{"a", "b"} {
				ok(t, servers[0].createRoot(ctx, name, map[string]string{"a": "10.0.0.0/8", "b": "11.0.0.0/8"}[name]))
				ok(t, servers[0].deletePrefix(ctx, name))
			}
			servers[0].tamper.beforeWriteOf(servers[0].prefixKey(namespace, "a"), func() { ok(t, servers[1].letGo(ctx, "b")) })
			ok(t, servers[0].letGo(ctx, "a"))
			servers[0].check(t)

			// A root that is created meanwhile keeps the key.
			ok(t, servers[0].createRoot(ctx, "a", "10.0.0.0/8"))
			ok(t, servers[0].deletePrefix(ctx, "a"))
			servers[0].tamper.beforeWriteOf(servers[0].prefixKey(namespace, "a"), func() { ok(t, servers[1].createRoot(ctx, "c", "11.0.0.0/8")) })
			ok(t, servers[0].letGo(ctx, "a"))
			servers[0].check(t)
			if left := servers[0].tamper.waiting(); len(left) > 0 {
				t.Errorf("not written: %v", left)
			}
		})
	}
}

// BenchmarkCreateRoot creates roots in a namespace with 1,000 roots, with and without comparing them.
func BenchmarkCreateRoot(b *testing.B) {
	etcd := claimstest.RunEtcd(b)
	for name, s := range map[string]*server{
		"allow": newServer(b, etcd, variant{cached: true}), "deny": newDisjointServers(b, etcd, variant{cached: true}, 1)[0],
	} {
		for _, parallel := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d at a time", name, parallel), func(b *testing.B) {
				ctx, _ := newNamespace(b)
				create := func(i int) {
					if err := s.createRoot(ctx, fmt.Sprintf("r-%d", i), fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)); err != nil {
						b.Error(err)
					}
				}
				for i := range 1000 {
					create(i)
				}
				var next atomic.Int64
				next.Store(1000)
				b.ResetTimer()
				inParallel(parallel, func(int) {
					for i := int(next.Add(1)); i < 1000+b.N; i = int(next.Add(1)) {
						create(i)
					}
				})
			})
		}
	}
}
