// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"
)

// coolDown creates a policy for all Prefixes of the namespace, and waits until the server knows it.
func (s *server) coolDown(t *testing.T, ctx context.Context, name string, change func(*ipam.PrefixPolicySpec)) {
	t.Helper()
	policy := &ipam.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}}}
	change(&policy.Spec)
	if _, err := s.policies.Main.Create(ctx, policy, rest.ValidateAllObjectFunc, &metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.policies.Main.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"}); err == nil {
			return
		} else if !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func forAnHour(spec *ipam.PrefixPolicySpec) { spec.CoolDown = &metav1.Duration{Duration: time.Hour} }

// deletes deletes an allocation with options, and returns whether it is gone.
func (s *server) deletes(t *testing.T, ctx context.Context, name string, options *metav1.DeleteOptions) (gone bool, err error) {
	t.Helper()
	_, deleted, err := s.allocations.Main.Delete(ctx, name, rest.ValidateAllObjectFunc, options)
	if err != nil {
		return false, err
	}
	_, err = s.allocations.Main.Get(ctx, name, &metav1.GetOptions{})
	if gone = apierrors.IsNotFound(err); gone != deleted {
		t.Errorf("the answer says deleted: %v, but it is gone: %v", deleted, gone)
	}
	return gone, nil
}

// takeBack makes an allocation the one of another child.
func (s *server) takeBack(ctx context.Context, name string, child *ipam.Prefix) error {
	_, err := s.updateAllocation(ctx, name, func(a *ipam.PrefixAllocation) {
		a.OwnerReferences[0].Name, a.OwnerReferences[0].UID = child.Name, child.UID
	})
	return err
}

// TestCoolDown deletes the allocation of a child in every way.
func TestCoolDown(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			now := time.Now()
			s.planner.SetClock(func() time.Time { return now })
			const gone, cools, refused = "gone", "cools", "refused"
			for _, tt := range []struct {
				name    string
				arrange func(t *testing.T, ctx context.Context)
				options metav1.DeleteOptions
				want    string
			}{
				{name: "child gone", want: cools},
				{name: "child recreated", arrange: func(t *testing.T, ctx context.Context) { s.child(t, ctx, "a", "parent", 24) }, want: cools},
				{name: "no grace", options: metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, want: gone},
				{name: "now", options: metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}, want: gone},
				{name: "some grace", options: metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](30)}, want: cools},
				{name: "foreground", options: metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}, want: cools},
				{name: "orphan", options: metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationOrphan)}, want: cools},
				{name: "with a finalizer", arrange: func(t *testing.T, ctx context.Context) {
					must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) { a.Finalizers = []string{"example.com/keep"} }))
				}, want: cools},
				{name: "another uid", options: metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("another")}, want: refused},
				{name: "another version", options: metav1.DeleteOptions{Preconditions: metav1.NewRVDeletionPrecondition("1").Preconditions}, want: refused},
				{name: "parent being deleted", arrange: func(t *testing.T, ctx context.Context) {
					if err := s.deletePrefix(ctx, "parent"); err != nil {
						t.Fatal(err)
					}
				}, want: gone},
			} {
				t.Run(tt.name, func(t *testing.T) {
					ctx, _ := newNamespace(t)
					s.root(t, ctx, "parent", "10.0.0.0/16")
					s.coolDown(t, ctx, "rules", forAnHour)
					s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
					s.refused(t, func() error { return s.deleteAllocation(ctx, "a") }, metav1.StatusReasonConflict, "in use by Prefix a")
					if err := s.end(ctx, "a"); err != nil {
						t.Fatal(err)
					}
					if tt.arrange != nil {
						tt.arrange(t, ctx)
					}
					is, err := s.deletes(t, ctx, "a", &tt.options)
					if tt.want == refused {
						if !apierrors.IsConflict(err) {
							t.Errorf("not refused: %v", err)
						}
						return
					}
					if err != nil || is != (tt.want == gone) {
						t.Fatalf("gone: %v, %v", is, err)
					}
					if is && tt.name == "parent being deleted" {
						ok(t, s.letGo(ctx, "parent"))
						return
					}
					if is {
						s.allocate(t, ctx, "next", nil, "parent", "10.0.5.0/24")
						return
					}
					a := s.getAllocation(t, ctx, "a")
					told := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated)
					if until := a.Status.CoolingUntil; until == nil || until.Before(ptr.To(metav1.NewTime(now.Add(time.Hour)))) || until.After(now.Add(time.Hour+2*time.Second)) ||
						a.DeletionTimestamp != nil || told.Reason != v1alpha1.ReasonCooling || a.Status.Phase != ipam.PrefixAllocationPhaseAllocated {
						t.Errorf("%v: %+v", a.DeletionTimestamp, a.Status)
					}
					s.requestLength(t, ctx, "next", nil, "10.0.5.0/24")
					s.refused(t, func() error { return s.bind(ctx, "next", "parent", "10.0.5.0/24", "") }, metav1.StatusReasonConflict, "Prefix a holds")

					// No other write ends it.
					must[*ipam.PrefixAllocation](t)(s.updateAllocationStatus(ctx, "a", func(a *ipam.PrefixAllocation) { a.Status.CoolingUntil = nil }))
					must[*ipam.PrefixAllocation](t)(s.updateAllocationStatus(ctx, "a", func(a *ipam.PrefixAllocation) { a.Status.CoolingUntil = &metav1.Time{} }))
					must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) { a.OwnerReferences, a.Finalizers = nil, nil }))
					version := s.revision(t)
					for range 2 {
						if is, err := s.deletes(t, ctx, "a", &metav1.DeleteOptions{}); err != nil || is {
							t.Errorf("gone: %v, %v", is, err)
						}
					}
					if s.revision(t) != version {
						t.Error("a deletion that comes too early writes something")
					}
					if now := s.getAllocation(t, ctx, "a").Status.CoolingUntil; !now.Equal(a.Status.CoolingUntil) {
						t.Errorf("cools until %v instead of %v", now, a.Status.CoolingUntil)
					}

					// Not a moment before its time, and not if the clock goes back.
					at := now
					defer func() { now = at }()
					for _, clock := range []time.Time{at.Add(-24 * time.Hour), a.Status.CoolingUntil.Add(-time.Millisecond), a.Status.CoolingUntil.Time} {
						now = clock
						is, err := s.deletes(t, ctx, "a", &metav1.DeleteOptions{})
						if err != nil || is != !clock.Before(a.Status.CoolingUntil.Time) {
							t.Errorf("at %v: gone: %v, %v", clock, is, err)
						}
					}
					s.allocate(t, ctx, "after", nil, "parent", "10.0.5.0/24")
				})
			}
			s.check(t)
		})
	}
}

// TestCoolDownOnlyForChildren deletes allocations whose space does not cool down.
func TestCoolDownOnlyForChildren(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{cached: true})
	for name, arrange := range map[string]func(t *testing.T, ctx context.Context){
		"of nobody": func(t *testing.T, ctx context.Context) { s.allocate(t, ctx, "a", nil, "parent", "10.0.5.0/24") },
		"child pending": func(t *testing.T, ctx context.Context) {
			s.allocate(t, ctx, "a", s.child(t, ctx, "a", "parent", 24), "parent", "10.0.5.0/24")
		},
		"pending": func(t *testing.T, ctx context.Context) { s.requestLength(t, ctx, "a", nil, "10.0.5.0/24") },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, _ := newNamespace(t)
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.coolDown(t, ctx, "rules", forAnHour)
			arrange(t, ctx)
			if gone, err := s.deletes(t, ctx, "a", &metav1.DeleteOptions{}); err != nil || !gone {
				t.Errorf("gone: %v, %v", gone, err)
			}
		})
	}
	t.Run("collection", func(t *testing.T) {
		ctx, _ := newNamespace(t)
		s.root(t, ctx, "parent", "10.0.0.0/16")
		s.coolDown(t, ctx, "rules", forAnHour)
		s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
		if err := s.end(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.allocations.Main.DeleteCollection(ctx, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		s.allocate(t, ctx, "a", nil, "parent", "10.0.5.0/24")
	})
	t.Run("finalizer", func(t *testing.T) {
		ctx, _ := newNamespace(t)
		s.root(t, ctx, "parent", "10.0.0.0/16")
		s.coolDown(t, ctx, "rules", forAnHour)
		s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
		finalizers := func(of ...string) {
			must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) { a.Finalizers = of }))
		}
		finalizers("example.com/keep")
		s.refused(t, func() error { return s.deleteAllocation(ctx, "a") }, metav1.StatusReasonConflict, "in use by Prefix a")
		ok(t, s.end(ctx, "a"))
		ok(t, s.deleteAllocation(ctx, "a"))
		finalizers()
		if a := s.getAllocation(t, ctx, "a"); a.Status.CoolingUntil == nil || a.DeletionTimestamp != nil {
			t.Errorf("it does not cool down: %+v", a)
		}
	})
	t.Run("dry run", func(t *testing.T) {
		ctx, _ := newNamespace(t)
		s.root(t, ctx, "parent", "10.0.0.0/16")
		s.coolDown(t, ctx, "rules", forAnHour)
		s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
		if err := s.end(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		before := s.revision(t)
		for range 2 {
			if _, _, err := s.allocations.Main.Delete(ctx, "a", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
				t.Error(err)
			}
			if s.revision(t) != before {
				t.Error("it writes something")
			}
			if _, err := s.deletes(t, ctx, "a", &metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			before = s.revision(t)
		}
	})
	s.check(t)
}

// TestTakeBack gives the space of a child that is gone to other children.
func TestTakeBack(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			length := func(name string, length int32) func(*testing.T, context.Context) *ipam.Prefix {
				return func(t *testing.T, ctx context.Context) *ipam.Prefix { return s.child(t, ctx, name, "parent", length) }
			}
			for _, tt := range []struct {
				name string
				// rules are for the parent while the child is made that takes the space back, and it is taken back.
				rules func(*ipam.PrefixPolicySpec)
				// early is set if the allocation has not been deleted yet.
				early bool
				child func(t *testing.T, ctx context.Context) *ipam.Prefix
				// refused is the reason of the refusal, or empty.
				refused metav1.StatusReason
				words   string
			}{
				{name: "same name and length", child: length("a", 24)},
				{name: "same name and length, not cooling yet", early: true, child: length("a", 24)},
				{name: "exactly", child: func(t *testing.T, ctx context.Context) *ipam.Prefix {
					return must[*ipam.Prefix](t)(s.createPrefix(ctx, "a", ipam.PrefixSpec{Prefix: "10.0.5.0/24", ParentRef: &ipam.LocalObjectReference{Name: "parent"}}))
				}},
				{name: "another name", child: length("b", 24), refused: metav1.StatusReasonInvalid, words: "for Prefix a, not for Prefix b"},
				{name: "another length", child: length("a", 25), refused: metav1.StatusReasonConflict, words: "does not ask for 10.0.5.0/24"},
				{name: "another parent", child: func(t *testing.T, ctx context.Context) *ipam.Prefix {
					s.root(t, ctx, "other", "11.0.0.0/16")
					return s.child(t, ctx, "a", "other", 24)
				}, refused: metav1.StatusReasonConflict, words: "does not ask for 10.0.5.0/24"},
				{name: "a root", child: func(t *testing.T, ctx context.Context) *ipam.Prefix { return s.root(t, ctx, "a", "11.0.0.0/16") },
					refused: metav1.StatusReasonConflict, words: "is a root"},
				{name: "Allocated already", child: func(t *testing.T, ctx context.Context) *ipam.Prefix {
					child := s.child(t, ctx, "a", "parent", 24)
					s.allocate(t, ctx, "another", child, "parent", "10.0.6.0/24")
					if err := s.complete(ctx, "a", "parent", "10.0.6.0/24", ""); err != nil {
						t.Fatal(err)
					}
					return child
				}, refused: metav1.StatusReasonConflict, words: "is Allocated already"},
				{name: "being deleted", child: func(t *testing.T, ctx context.Context) *ipam.Prefix {
					child := s.child(t, ctx, "a", "parent", 24)
					if err := s.deletePrefix(ctx, "a"); err != nil {
						t.Fatal(err)
					}
					return child
				}, refused: metav1.StatusReasonConflict, words: "is being deleted"},
				{name: "a child that does not exist", child: func(*testing.T, context.Context) *ipam.Prefix {
					return &ipam.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "none"}}
				}, refused: metav1.StatusReasonConflict, words: "does not exist"},
				{name: "closed", rules: func(spec *ipam.PrefixPolicySpec) { spec.Closed = true }, child: length("a", 24),
					refused: metav1.StatusReasonInvalid, words: "is closed"},
				{name: "length not allowed", rules: func(spec *ipam.PrefixPolicySpec) { spec.ChildLengths = &ipam.PrefixChildLengths{Min: 25} }, child: length("a", 24),
					refused: metav1.StatusReasonInvalid, words: "is no parent for a /24"},
				{name: "reserved", rules: func(spec *ipam.PrefixPolicySpec) { spec.Reserved = []ipam.PrefixReservation{{CIDR: "10.0.5.0/24"}} }, child: length("a", 24)},
			} {
				t.Run(tt.name, func(t *testing.T) {
					ctx, namespace := newNamespace(t)
					parent := s.root(t, ctx, "parent", "10.0.0.0/16")
					s.coolDown(t, ctx, "rules", forAnHour)
					s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
					ok(t, s.end(ctx, "a"))
					if !tt.early {
						ok(t, s.deleteAllocation(ctx, "a"))
					}
					if tt.rules != nil {
						s.coolDown(t, ctx, "more", tt.rules)
					}
					child := tt.child(t, ctx)
					if tt.refused != "" {
						s.refused(t, func() error { return s.takeBack(ctx, "a", child) }, tt.refused, tt.words)
						if s.getAllocation(t, ctx, "a").Status.CoolingUntil == nil {
							t.Error("it does not cool down any more")
						}
						return
					}
					ok(t, s.takeBack(ctx, "a", child))
					a := s.getAllocation(t, ctx, "a")
					if told := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated); a.Status.CoolingUntil != nil || told.Reason != v1alpha1.ReasonAllocated {
						t.Errorf("%+v", a.Status)
					}
					if children := s.children(t, ctx, parent, "10.0.5.0/24"); len(children) != 1 || children[0].UID != child.UID {
						t.Errorf("claimed for %v", children)
					}
					ok(t, s.complete(ctx, "a", "parent", "10.0.5.0/24", ""))
					s.refused(t, func() error { return s.deleteAllocation(ctx, "a") }, metav1.StatusReasonConflict, "in use by Prefix a")
					_ = namespace
				})
			}
			t.Run("without a policy", func(t *testing.T) {
				ctx, _ := newNamespace(t)
				s.root(t, ctx, "parent", "10.0.0.0/16")
				s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
				ok(t, s.end(ctx, "a"))
				child := s.child(t, ctx, "a", "parent", 24)
				s.refused(t, func() error { return s.takeBack(ctx, "a", child) }, metav1.StatusReasonInvalid, "does not cool down")
			})
			s.check(t)
		})
	}
}

// TestTakenBackStaysKept deletes allocations that were taken back for a child that never used them. Nobody else gets their
// space before the time until which it was kept.
func TestTakenBackStaysKept(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{cached: true})
	now := time.Now()
	s.planner.SetClock(func() time.Time { return now })
	other := func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
		s.allocate(t, ctx, "another", child, "parent", "10.0.6.0/24")
		ok(t, s.complete(ctx, "a", "parent", "10.0.6.0/24", ""))
	}
	for _, tt := range []struct {
		name string
		// early is set if the allocation was not deleted before it was taken back.
		early bool
		then  func(t *testing.T, ctx context.Context, child *ipam.Prefix)
		want  string
	}{
		{name: "the child has other space", then: other, want: "cools"},
		{name: "the child has other space, it did not cool down yet", early: true, then: other, want: "cools"},
		{name: "the child is gone", then: func(t *testing.T, ctx context.Context, _ *ipam.Prefix) { ok(t, s.end(ctx, "a")) }, want: "cools"},
		{name: "another child takes it back from that one, for a shorter time", then: func(t *testing.T, ctx context.Context, _ *ipam.Prefix) {
			s.coolDown(t, ctx, "short", func(spec *ipam.PrefixPolicySpec) { spec.CoolDown = &metav1.Duration{Duration: time.Minute} })
			ok(t, s.end(ctx, "a"))
			again := s.child(t, ctx, "a", "parent", 24)
			ok(t, s.takeBack(ctx, "a", again))
			other(t, ctx, again)
		}, want: "cools"},
		{name: "the child waits", then: func(*testing.T, context.Context, *ipam.Prefix) {}, want: "refused"},
		{name: "an hour later the child waits", then: func(*testing.T, context.Context, *ipam.Prefix) { now = now.Add(time.Hour + time.Second) }, want: "gone"},
		{name: "the parent is being deleted", then: func(t *testing.T, ctx context.Context, child *ipam.Prefix) {
			other(t, ctx, child)
			ok(t, s.deletePrefix(ctx, "parent"))
		}, want: "gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, _ := newNamespace(t)
			s.root(t, ctx, "parent", "10.0.0.0/16")
			s.coolDown(t, ctx, "rules", forAnHour)
			s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
			ok(t, s.end(ctx, "a"))
			if !tt.early {
				ok(t, s.deleteAllocation(ctx, "a"))
			}
			began := now
			child := s.child(t, ctx, "a", "parent", 24)
			ok(t, s.takeBack(ctx, "a", child))
			// What was promised holds although the policy goes.
			_, _, err := s.policies.Main.Delete(ctx, "rules", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
			ok(t, err)
			tt.then(t, ctx, child)
			if tt.want == "refused" {
				s.refused(t, func() error { return s.deleteAllocation(ctx, "a") }, metav1.StatusReasonConflict, "was given back to Prefix a")
				ok(t, s.complete(ctx, "a", "parent", "10.0.5.0/24", ""))
				return
			}
			gone, err := s.deletes(t, ctx, "a", &metav1.DeleteOptions{})
			if err != nil || gone != (tt.want == "gone") {
				t.Fatalf("gone: %v, %v", gone, err)
			}
			if gone {
				return
			}
			until := s.getAllocation(t, ctx, "a").Status.CoolingUntil
			if until == nil || until.Time.Before(began.Add(time.Hour)) || until.After(began.Add(time.Hour+2*time.Second)) {
				t.Errorf("taken back at %v, cools until %v", began, until)
			}
			if found, err := s.auditByPages(ctx, 1000, 1000, 0); err != nil || len(found) != 0 {
				t.Errorf("found %+v, %v", found, err)
			}
			s.requestLength(t, ctx, "next", nil, "10.0.5.0/24")
			s.refused(t, func() error { return s.bind(ctx, "next", "parent", "10.0.5.0/24", "") }, metav1.StatusReasonConflict, "holds")
			now = until.Time
			ok(t, s.deleteAllocation(ctx, "a"))
			ok(t, s.bind(ctx, "next", "parent", "10.0.5.0/24", ""))
		})
	}
	s.check(t)
}

// TestCoolingIsNoLeftover audits space that cools down, and space that has.
func TestCoolingIsNoLeftover(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{})
	ctx, _ := newNamespace(t)
	parent := s.root(t, ctx, "parent", "10.0.0.0/16")
	s.coolDown(t, ctx, "rules", forAnHour)
	s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
	ok(t, s.end(ctx, "a"))
	find := func(want int) {
		t.Helper()
		found, err := s.auditByPages(ctx, 1000, 1000, 0)
		if err != nil || len(found) != want || want == 1 && found[0].Kind != audit.Leftover {
			t.Errorf("found %+v, %v", found, err)
		}
	}
	find(1)
	if n := must[int64](t)(s.planner.Children(ctx, parent)); n != 1 {
		t.Errorf("%d children", n)
	}
	ok(t, s.deleteAllocation(ctx, "a"))
	find(0)
	if n := must[int64](t)(s.planner.Children(ctx, parent)); n != 0 {
		t.Errorf("%d children", n)
	}
	// An hour before now, the clock was an hour and a second behind.
	ok(t, s.takeBack(ctx, "a", s.child(t, ctx, "a", "parent", 24)))
	ok(t, s.end(ctx, "a"))
	since := s.getAllocation(t, ctx, "a").Status.LastPhaseTransitionTime
	s.planner.SetClock(func() time.Time { return since.Add(-2 * time.Hour) })
	ok(t, s.deleteAllocation(ctx, "a"))
	if until := s.getAllocation(t, ctx, "a").Status.CoolingUntil; until.Time.Before(since.Add(time.Hour)) {
		t.Errorf("allocated at %v, cools until %v", since, until)
	}
}

// TestCoolDownAgainstModel has children of a few names come and go, with a clock that jumps and servers that are restarted.
// Nobody but a child of the name gets space before its time, and afterwards somebody does.
func TestCoolDownAgainstModel(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	const names, restarts = 4, 25
	random := rand.New(rand.NewPCG(1, 2))
	ctx, _ := newNamespace(t)
	s := newServer(t, etcd, variant{cached: true})
	now := time.Now()
	clock := func() time.Time { return now }
	s.planner.SetClock(clock)
	s.root(t, ctx, "parent", "10.0.0.0/30")
	s.coolDown(t, ctx, "rules", forAnHour)
	// place is where a child of a name is or was, until is when others may have it, latest is the latest time so far.
	type state struct {
		place string
		live  bool
		until time.Time
	}
	model := map[string]*state{}
	places := []string{"10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"}
	for step := range 40 * restarts {
		if step%40 == 39 {
			s = newServerAt(t, etcd, variant{cached: step%80 == 79}, s.prefix)
			s.planner.SetClock(clock)
		}
		name := fmt.Sprintf("child-%d", random.IntN(names))
		of := model[name]
		switch action := random.IntN(6); {
		case action == 0:
			// The clock jumps forward, and sometimes back.
			now = now.Add(time.Duration(random.IntN(60)-10) * time.Minute)
		case action == 1 && of != nil && of.live:
			ok(t, s.end(ctx, name))
			ok(t, s.deleteAllocation(ctx, name))
			of.live, of.until = false, s.getAllocation(t, ctx, name).Status.CoolingUntil.Time
			if of.until.Before(now.Add(time.Hour)) {
				t.Fatalf("step %d: cools until %v at %v", step, of.until, now)
			}
		case action == 2 && of != nil && !of.live:
			gone, err := s.deletes(t, ctx, name, &metav1.DeleteOptions{})
			if err != nil || gone != !now.Before(of.until) {
				t.Fatalf("step %d: gone: %v at %v, cools until %v: %v", step, gone, now, of.until, err)
			}
			if gone {
				delete(model, name)
			}
		case action == 3 && of != nil && !of.live:
			child := s.child(t, ctx, name, "parent", 32)
			ok(t, s.takeBack(ctx, name, child))
			ok(t, s.complete(ctx, name, "parent", of.place, ""))
			of.live = true
		case action >= 4 && of == nil:
			child := s.child(t, ctx, name, "parent", 32)
			place := places[random.IntN(len(places))]
			s.requestLength(t, ctx, name, child, place)
			taken := false
			for _, other := range model {
				taken = taken || other.place == place
			}
			err := s.bind(ctx, name, "parent", place, "")
			if taken != apierrors.IsConflict(err) {
				t.Fatalf("step %d: %s is taken: %v: %v", step, place, taken, err)
			}
			if taken {
				ok(t, s.deleteAllocation(ctx, name))
				ok(t, s.end(ctx, name))
				continue
			}
			ok(t, s.complete(ctx, name, "parent", place, ""))
			model[name] = &state{place: place, live: true}
		}
	}
	s.check(t)
}

// coolDownRaces are the races of space that cools down.
func coolDownRaces() []race {
	// start ends a child that had space, and creates another one of its name.
	start := func(t *testing.T, s *server, ctx context.Context) *ipam.Prefix {
		s.root(t, ctx, "parent", "10.0.0.0/16")
		s.coolDown(t, ctx, "rules", forAnHour)
		s.liveChild(t, ctx, "a", "parent", "10.0.5.0/24")
		ok(t, s.end(ctx, "a"))
		return s.child(t, ctx, "a", "parent", 24)
	}
	return []race{
		{"cooling, it is taken back", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			child := start(t, s, ctx)
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() {
				ok(t, s.takeBack(ctx, "a", child))
				ok(t, s.complete(ctx, "a", "parent", "10.0.5.0/24", ""))
			})
			kept(t, s.deleteAllocation(ctx, "a"))
			if s.getAllocation(t, ctx, "a").Status.CoolingUntil != nil {
				return []string{"it cools down under a child"}
			}
			return nil
		}},
		{"release, it is taken back", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			child := start(t, s, ctx)
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() {
				ok(t, s.takeBack(ctx, "a", child))
				ok(t, s.complete(ctx, "a", "parent", "10.0.5.0/24", ""))
			})
			_, err := s.deletes(t, ctx, "a", metav1.NewDeleteOptions(0))
			kept(t, err)
			return nil
		}},
		{"taking back, it is released", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			child := start(t, s, ctx)
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() {
				_, err := s.deletes(t, ctx, "a", metav1.NewDeleteOptions(0))
				ok(t, err)
				s.allocate(t, ctx, "b", nil, "parent", "10.0.5.0/24")
			})
			if kept(t, s.takeBack(ctx, "a", child)) {
				return []string{"what was released has come back"}
			}
			return nil
		}},
		{"taking back, the child ends", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			child := start(t, s, ctx)
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.end(ctx, "a")) })
			if kept(t, s.takeBack(ctx, "a", child)) {
				return []string{"it was taken back for a child that was gone"}
			}
			return nil
		}},
		{"taking back, another one that shares its claim is deleted", func(t *testing.T, s *server, ctx context.Context, namespace string) []string {
			child := start(t, s, ctx)
			parent := s.getPrefix(t, ctx, "parent")
			key := s.claimKey(parent.UID, netip.MustParsePrefix("10.0.5.0/24"))
			first := s.value(t, ctx, key)
			if _, err := s.etcd.KV.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
			s.allocate(t, ctx, "b", nil, "parent", "10.0.5.0/24")
			var shared storedClaim
			for _, value := range []string{first, s.value(t, ctx, key)} {
				var one storedClaim
				if err := json.Unmarshal([]byte(value), &one); err != nil {
					t.Fatal(err)
				}
				shared.Holders = append(shared.Holders, one.Holders...)
			}
			s.put(t, ctx, key, must[[]byte](t)(json.Marshal(shared)))
			s.tamper.beforeWriteOf(s.allocationKey(namespace, "a"), func() { ok(t, s.deleteAllocation(ctx, "b")) })
			kept(t, s.takeBack(ctx, "a", child))
			return nil
		}},
	}
}
