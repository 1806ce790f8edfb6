// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// rounds returns the number of rounds of each of the five races: 300 in total, or 10,000.
func rounds() int {
	if os.Getenv("IPAM_TEST_LONG") != "" {
		return 2_000
	}
	return 60
}

// arena is two API servers with one store. One has a watch cache, the other does not.
type arena struct {
	*server
	servers [2]*server
	random  *rand.Rand
}

func newArena(t *testing.T, seed uint64) *arena {
	t.Helper()
	etcd := claimstest.RunEtcd(t)
	cached := newServer(t, etcd, variant{cached: true})
	plain := newServerAt(t, etcd, variant{}, cached.prefix)
	return &arena{plain, [2]*server{cached, plain}, rand.New(rand.NewPCG(seed, 0))}
}

// run runs functions concurrently, each on one of the servers and after a short random delay. It returns their
// errors.
func (a *arena) run(writes ...func(*server) error) []error {
	var wg sync.WaitGroup
	errs := make([]error, len(writes))
	start := make(chan struct{})
	for i, write := range writes {
		s, wait := a.servers[a.random.IntN(2)], time.Duration(a.random.IntN(1500))*time.Microsecond
		wg.Go(func() {
			<-start
			time.Sleep(wait)
			errs[i] = write(s)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// races repeats a race, and checks the store after each round. If the race counts outcomes, it continues until each
// side has won often enough. Otherwise there would hardly be a race.
func (a *arena) races(t *testing.T, outcomes map[bool]int, race func(t *testing.T, ctx context.Context)) {
	t.Helper()
	for n := 0; n < rounds() || n < 20*rounds() && !both(outcomes); n++ {
		ctx, _ := newNamespace(t)
		race(t, ctx)
		a.check(t)
		if t.Failed() {
			t.Fatalf("in race %d", n)
		}
		if n%10 == 9 {
			a.clear(t)
		}
	}
	if !both(outcomes) {
		t.Errorf("got %v: that is hardly a race", outcomes)
	}
}

// refusal reports whether an error is a legitimate result of losing a race.
func refusal(err error) bool { return apierrors.IsConflict(err) || apierrors.IsNotFound(err) }

// TestRaceParentEnd deletes parents while others bind from them. Either the parent remains, or it is gone and
// nothing is bound.
func TestRaceParentEnd(t *testing.T) {
	a := newArena(t, 1)
	outcomes := map[bool]int{}
	a.races(t, outcomes, func(t *testing.T, ctx context.Context) {
		const binders = 3
		a.root(t, ctx, "parent", "10.0.0.0/16")
		a.unprotect(t, ctx, "parent")
		var writes []func(*server) error
		for i := range binders {
			name, prefix := fmt.Sprintf("a-%d", i), fmt.Sprintf("10.0.%d.0/24", i)
			a.requestLength(t, ctx, name, nil, prefix)
			writes = append(writes, func(s *server) error { return s.bind(ctx, name, "parent", prefix, "") })
		}
		errs := a.run(append(writes, func(s *server) error { return s.deletePrefix(ctx, "parent") })...)
		bound := 0
		for _, err := range errs[:binders] {
			if err == nil {
				bound++
			} else if !apierrors.IsConflict(err) {
				t.Errorf("bind: %v", err)
			}
		}
		gone := errs[binders] == nil
		if !gone && !apierrors.IsConflict(errs[binders]) {
			t.Errorf("deletion: %v", errs[binders])
		}
		if gone == (bound > 0) || !gone && bound != binders {
			t.Errorf("the parent is gone: %t, %d of %d are bound: %v", gone, bound, binders, errs)
		}
		outcomes[gone]++
	})
	t.Logf("the parent went %d times and stayed %d times", outcomes[true], outcomes[false])
}

// TestRaceParentRecreated deletes and recreates parents while another client binds from the first one, by uid.
func TestRaceParentRecreated(t *testing.T) {
	a := newArena(t, 2)
	outcomes := map[bool]int{}
	a.races(t, outcomes, func(t *testing.T, ctx context.Context) {
		parent := a.root(t, ctx, "parent", "10.0.0.0/16")
		a.unprotect(t, ctx, "parent")
		a.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
		errs := a.run(
			func(s *server) error { return s.bind(ctx, "a", "parent", "10.0.5.0/24", parent.UID) },
			func(s *server) error {
				if err := s.deletePrefix(ctx, "parent"); err != nil {
					return err
				}
				if _, err := s.createPrefix(ctx, "parent", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.0.0/16"}); err != nil {
					return fmt.Errorf("create: %w", err)
				}
				_, err := s.updatePrefixStatus(ctx, "parent", func(p *ipam.Prefix) { p.Status.Phase = ipam.PrefixPhaseAllocated })
				return err
			},
		)
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("bind: %v, recreation: %v", errs[0], errs[1])
		}
		for _, err := range errs {
			if err != nil && !refusal(err) {
				t.Error(err)
			}
		}
		outcomes[errs[0] == nil]++
	})
	t.Logf("it was bound %d times, and the parent recreated %d times", outcomes[true], outcomes[false])
}

// TestRaceRelease deletes allocations while their child is being completed. One of the two is rejected.
func TestRaceRelease(t *testing.T) {
	a := newArena(t, 3)
	outcomes := map[bool]int{}
	a.races(t, outcomes, func(t *testing.T, ctx context.Context) {
		a.root(t, ctx, "parent", "10.0.0.0/16")
		child := a.child(t, ctx, "child", "parent", 24)
		a.allocate(t, ctx, "a", child, "parent", "10.0.5.0/24")
		errs := a.run(
			func(s *server) error { return s.deleteAllocation(ctx, "a") },
			func(s *server) error { return s.complete(ctx, "child", "parent", "10.0.5.0/24", "") },
		)
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("deletion: %v, completion: %v", errs[0], errs[1])
		}
		for _, err := range errs {
			if err != nil && !apierrors.IsConflict(err) {
				t.Error(err)
			}
		}
		outcomes[errs[0] == nil]++
	})
	t.Logf("the allocation was deleted %d times, and the child completed %d times", outcomes[true], outcomes[false])
}

// TestRaceLiveChild deletes the allocation of an Allocated child while the child is being deleted.
func TestRaceLiveChild(t *testing.T) {
	a := newArena(t, 4)
	outcomes := map[bool]int{}
	a.races(t, outcomes, func(t *testing.T, ctx context.Context) {
		a.root(t, ctx, "parent", "10.0.0.0/16")
		a.liveChild(t, ctx, "child", "parent", "10.0.5.0/24")
		a.unprotect(t, ctx, "child")
		errs := a.run(
			func(s *server) error { return s.deleteAllocation(ctx, "child") },
			func(s *server) error { return s.deletePrefix(ctx, "child") },
		)
		if errs[1] != nil {
			t.Errorf("deletion of the child: %v", errs[1])
		}
		if errs[0] != nil && !apierrors.IsConflict(errs[0]) {
			t.Error(errs[0])
		}
		outcomes[errs[0] == nil]++
	})
	t.Logf("the allocation was deleted %d times and refused %d times", outcomes[true], outcomes[false])
}

// TestRaceBinds binds overlapping prefixes concurrently. No two binds succeed, and each rejection names an existing
// holder.
func TestRaceBinds(t *testing.T) {
	a := newArena(t, 5)
	whole := netip.MustParsePrefix("10.0.0.0/24")
	a.races(t, nil, func(t *testing.T, ctx context.Context) {
		const binders = 5
		a.root(t, ctx, "parent", whole.String())
		var wanted []netip.Prefix
		var writes []func(*server) error
		for i := range binders {
			// Use few bits, so that the prefixes often overlap.
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(a.random.IntN(256))}), 25+a.random.IntN(3)).Masked()
			name := fmt.Sprintf("a-%d", i)
			a.requestLength(t, ctx, name, nil, prefix.String())
			wanted = append(wanted, prefix)
			writes = append(writes, func(s *server) error { return s.bind(ctx, name, "parent", prefix.String(), "") })
		}
		errs := a.run(writes...)
		for i, err := range errs {
			rivals := 0
			for j := range errs {
				if i != j && errs[j] == nil && wanted[i].Overlaps(wanted[j]) {
					rivals++
				}
			}
			switch {
			case err == nil && rivals > 0:
				t.Errorf("%s was given away twice", wanted[i])
			case err != nil && !apierrors.IsConflict(err):
				t.Errorf("bind: %v", err)
			case err != nil && rivals == 0:
				t.Errorf("%s was refused, but nobody has it: %v", wanted[i], err)
			}
		}
	})
}

// both reports whether each side of a race has won often enough, or outcomes are not counted.
func both(outcomes map[bool]int) bool {
	return outcomes == nil || min(outcomes[true], outcomes[false]) >= rounds()/30
}

// TestAuditBesideWriters creates and deletes objects, also with the same names and prefixes, between any two reads
// of an audit. Some of the reads fail. The store is correct at all times, and no audit may report a difference.
func TestAuditBesideWriters(t *testing.T) {
	for _, v := range []variant{{}, {cached: true}} {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			writer := newServer(t, claimstest.RunEtcd(t), variant{})
			reader := newServerAt(t, writer.etcd, v, writer.prefix)
			random := rand.New(rand.NewPCG(7, 0))
			ctx, _ := newNamespace(t)
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			var a, b *ipam.Prefix
			steps := []func(){
				func() { writer.root(t, ctx, "parent", "10.0.0.0/16") },
				func() { a = writer.child(t, ctx, "a", "parent", 24) },
				func() { writer.allocate(t, ctx, "a", a, "parent", "10.0.1.0/24") },
				func() { do(writer.complete(ctx, "a", "parent", "10.0.1.0/24", "")) },
				func() { b = writer.child(t, ctx, "b", "a", 28) },
				func() { writer.allocate(t, ctx, "b", b, "a", "10.0.1.0/28") },
				func() { do(writer.complete(ctx, "b", "a", "10.0.1.0/28", "")) },
				func() { writer.allocate(t, ctx, "c", nil, "parent", "10.0.2.0/23") },
				func() { do(writer.end(ctx, "b")) },
				func() { do(writer.deleteAllocation(ctx, "b")) },
				func() { do(writer.end(ctx, "a")) },
				func() { do(writer.deleteAllocation(ctx, "a")) },
				func() { do(writer.deleteAllocation(ctx, "c")) },
				// This is inside the prefix that the other had.
				func() { writer.allocate(t, ctx, "c", nil, "parent", "10.0.3.0/24") },
				func() { do(writer.deleteAllocation(ctx, "c")) },
				func() { do(writer.end(ctx, "parent")) },
			}
			next, audits := 0, 100
			// An audit reads concurrently.
			var writing sync.Mutex
			for n := range audits {
				reader.tamper.beforeReads(func() error {
					writing.Lock()
					defer writing.Unlock()
					for range random.IntN(2 * len(steps)) {
						if random.IntN(3) == 0 {
							break
						}
						steps[next%len(steps)]()
						next++
					}
					if random.IntN(10) == 0 {
						return errors.New("etcd is away")
					}
					return nil
				})
				found, err := reader.auditByPages(context.WithValue(t.Context(), tampered{}, true), 1+n%5, 1+n%3, 1000)
				// The child is deleted before its allocation.
				found = slices.DeleteFunc(found, func(d audit.Difference) bool { return d.Kind == audit.Leftover })
				if err != nil || len(found) > 0 {
					t.Fatalf("audit %d, after step %d: found %v, %v", n, (next-1)%len(steps), found, err)
				}
				reader.tamper.beforeReads(nil)
				if n%20 == 0 {
					writer.check(t)
				}
			}
			if next < 10*len(steps) {
				t.Errorf("there were %d writes only", next)
			}
			t.Logf("%d writes beside %d audits", next, audits)
		})
	}
}
