// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// coolDown creates a policy for all Prefixes.
func (e *env) coolDown(name string, d time.Duration, change ...func(*v1alpha1.PrefixPolicySpec)) {
	e.Helper()
	policy := harness.Policy(name, nil)
	policy.Spec.CoolDown = &metav1.Duration{Duration: d}
	for _, c := range change {
		c(&policy.Spec)
	}
	e.CreatePolicy(policy)
}

// cooling returns the allocation whose space is kept for a child of a name, once there is one.
func (e *env) cooling(child string) (found *v1alpha1.PrefixAllocation) {
	e.Helper()
	e.Eventually("the space of "+child+" cools down", func() error {
		for _, a := range e.ListAllocations() {
			if owner := requester.Of(&a); owner != nil && owner.Name == child && a.Status.CoolingUntil != nil {
				found = &a
				return nil
			}
		}
		return fmt.Errorf("nothing of it does")
	})
	return found
}

// release deletes an allocation with a grace period in seconds, or without one if it is negative.
func (e *env) release(name string, seconds int64) {
	e.Helper()
	var options metav1.DeleteOptions
	if seconds >= 0 {
		options.GracePeriodSeconds = &seconds
	}
	if err := e.Allocations.Delete(e.Context(), name, options); err != nil {
		e.Fatal(err)
	}
}

func (e *env) allocationGone(name string) {
	e.Helper()
	e.Eventually(name+" is gone", func() error {
		for _, a := range e.ListAllocations() {
			if a.Name == name {
				return fmt.Errorf("%s", harness.DescribeAllocation(&a))
			}
		}
		return nil
	})
}

// TestCoolDown goes through the life of space that cools down, in a root with room for two children.
func TestCoolDown(t *testing.T) {
	for _, family := range []struct {
		name, root, first, second, others string
		usage                             v1alpha1.PrefixUsage
	}{
		{"IPv4", "10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25", "/25",
			v1alpha1.PrefixUsage{Total: "256", Used: "128", Free: "0", Percent: 50, Allocations: 1, Cooling: "128"}},
		{"IPv6", "2001:db8::/56", "2001:db8::/57", "2001:db8:0:80::/57", "/57",
			v1alpha1.PrefixUsage{Total: "4722366482869645213696", Used: "2361183241434822606848", Free: "0", Percent: 50, Allocations: 1, Cooling: "2361183241434822606848"}},
	} {
		t.Run(family.name, func(t *testing.T) {
			e := in(t)
			e.root("root", family.root, harness.Labelled("net", "a"))
			e.coolDown("rules", time.Hour)
			e.policyIs("rules", 1, v1alpha1.ReasonApplied)
			length := int32(netip.MustParsePrefix(family.first).Bits())
			byLength := func(name string) *v1alpha1.Prefix {
				return e.create(name, harness.Length(length), harness.From("root"))
			}
			byLength("one")
			was := e.allocated("one")
			byLength("two")
			e.allocated("two")
			byLength("other")
			e.waits("other", v1alpha1.ReasonParentExhausted)

			// The child is gone at once. Its space is kept, and visible as such.
			before := time.Now()
			e.Delete("one")
			e.Gone("one")
			a := e.cooling("one")
			if until := a.Status.CoolingUntil.Time; until.Before(before.Truncate(time.Second).Add(time.Hour)) || until.After(time.Now().Add(time.Hour+2*time.Second)) {
				t.Errorf("cools until %v, deleted at %v", until, before)
			}
			if told := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated); told == nil || told.Reason != v1alpha1.ReasonCooling || told.Status != metav1.ConditionTrue {
				t.Errorf("%s", harness.DescribeAllocation(a))
			}
			e.usageIs("root", family.usage)
			if used := e.Get("root").Status.Used; len(used) != 1 || used[0] != family.second {
				t.Errorf("used %v", used)
			}
			e.create("exactly", harness.Exactly(family.first), harness.From("root"))
			e.waits("exactly", v1alpha1.ReasonPrefixInUse, family.first+" in use until ", "for Prefix one, which was deleted")

			// It goes back at once to who has the name, although others wait. So it does by selector, and exactly.
			for _, again := range []func(){
				func() { byLength("one") },
				func() {
					e.create("one", harness.Length(length), harness.Selecting("net", "a"), harness.Family(was.Spec.IPFamily))
				},
				func() { e.create("one", harness.Exactly(family.first), harness.From("root")) },
			} {
				again()
				p := e.allocated("one")
				if p.Spec.Prefix != family.first || p.UID == was.UID {
					t.Errorf("got %s", harness.Describe(p))
				}
				if back := e.allocationOf("one"); back.Name != a.Name || back.Status.CoolingUntil != nil {
					t.Errorf("%s", harness.DescribeAllocation(back))
				}
				e.AtRest()
				e.Delete("one")
				e.Gone("one")
				a = e.cooling("one")
			}
			e.pending("other", v1alpha1.ReasonParentExhausted)

			// A deletion changes nothing. One that cannot wait frees the space, for who waits for it.
			e.release(a.Name, -1)
			if now := e.GetAllocation(a.Name); !now.Status.CoolingUntil.Equal(a.Status.CoolingUntil) || now.DeletionTimestamp != nil {
				t.Errorf("%s", harness.DescribeAllocation(now))
			}
			e.release(a.Name, 0)
			e.allocationGone(a.Name)
			e.allocated("other")
			e.AtRest()
		})
	}
}

// TestCoolDownEnds has space cool down for a second.
func TestCoolDownEnds(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/32")
	e.root("pool", "10.1.0.0/31")
	e.coolDown("rules", time.Second)
	e.policyIs("rules", 2, v1alpha1.ReasonApplied)
	for _, name := range []string{"one", "two"} {
		e.create(name, harness.Length(32), harness.From("pool"))
		e.allocated(name)
	}
	e.create("other", harness.Length(32), harness.From("pool"))
	e.waits("other", v1alpha1.ReasonParentExhausted)
	e.Delete("one")
	e.Gone("one")
	until := e.cooling("one").Status.CoolingUntil.Time
	e.allocated("other")
	if time.Now().Before(until) {
		t.Errorf("given to another one before %v", until)
	}
	e.AtRest()
}

// TestCoolDownAnd shows what each other rule, and each other request, means for space that cools down.
func TestCoolDownAnd(t *testing.T) {
	policy := func(name string, d time.Duration, change func(*v1alpha1.PrefixPolicySpec)) func(e *env) {
		return func(e *env) { e.coolDown(name, d, change) }
	}
	for _, tt := range []struct {
		name string
		// also is done while the space of one cools down.
		also func(e *env)
		// again is the child that is created then, one if it has no name. It gets want, or waits for a reason.
		again        []harness.PrefixOption
		as           string
		want, reason string
	}{
		{name: "the same", want: "10.0.0.0/26"},
		{name: "another name", as: "two", want: "10.0.0.64/26"},
		{name: "another length", again: []harness.PrefixOption{harness.Length(27), harness.From("root")}, want: "10.0.0.64/27"},
		{name: "exactly another", again: []harness.PrefixOption{harness.Exactly("10.0.0.128/26"), harness.From("root")}, want: "10.0.0.128/26"},
		{name: "exactly a part", again: []harness.PrefixOption{harness.Exactly("10.0.0.0/27"), harness.From("root")}, reason: v1alpha1.ReasonPrefixInUse},
		{name: "another parent", again: []harness.PrefixOption{harness.Length(26), harness.From("another")}, want: "10.1.0.0/26"},
		{name: "selecting another parent", again: []harness.PrefixOption{harness.Length(26), harness.Selecting("net", "b"), harness.Family(v1alpha1.IPv4)}, want: "10.1.0.0/26"},
		{name: "selecting both", again: []harness.PrefixOption{harness.Length(26), harness.Selecting(), harness.Family(v1alpha1.IPv4)}, want: "10.0.0.0/26"},
		{name: "reserved meanwhile", also: policy("more", 0, func(spec *v1alpha1.PrefixPolicySpec) {
			spec.Reserved = []v1alpha1.PrefixReservation{{CIDR: "10.0.0.0/24"}}
		}), want: "10.0.0.0/26"},
		{name: "closed meanwhile", also: policy("more", 0, func(spec *v1alpha1.PrefixPolicySpec) { spec.Closed = true }), reason: v1alpha1.ReasonParentClosed},
		{name: "length not allowed any more", also: policy("more", 0, func(spec *v1alpha1.PrefixPolicySpec) {
			spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: 27}
		}), reason: v1alpha1.ReasonLengthNotAllowed},
		{name: "coolDown taken away", also: func(e *env) { e.patchPolicy("rules", `{"spec":{"coolDown":null}}`) }, want: "10.0.0.0/26"},
		{name: "policy deleted", also: func(e *env) {
			if err := e.Policies.Delete(e.Context(), "rules", metav1.DeleteOptions{}); err != nil {
				e.Fatal(err)
			}
		}, want: "10.0.0.0/26"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := in(t)
			e.root("root", "10.0.0.0/24", harness.Labelled("net", "a"))
			e.root("another", "10.1.0.0/24", harness.Labelled("net", "b"))
			// Of two policies the longest counts.
			e.coolDown("rules", time.Hour)
			e.coolDown("short", time.Second)
			e.policyIs("rules", 2, v1alpha1.ReasonApplied)
			e.policyIs("short", 2, v1alpha1.ReasonApplied)
			e.create("one", harness.Length(26), harness.From("root"))
			if p := e.allocated("one"); p.Spec.Prefix != "10.0.0.0/26" {
				t.Fatalf("%s", harness.Describe(p))
			}
			e.Delete("one")
			e.Gone("one")
			if until := e.cooling("one").Status.CoolingUntil; time.Until(until.Time) < 50*time.Minute {
				t.Errorf("cools until %v", until)
			}
			if tt.also != nil {
				tt.also(e)
				e.Eventually("policies apply", func() error {
					list, err := e.Policies.List(e.Context(), metav1.ListOptions{})
					if err != nil {
						return err
					}
					for _, p := range list.Items {
						if p.Status.ObservedGeneration != p.Generation {
							return fmt.Errorf("%s does not", p.Name)
						}
					}
					return nil
				})
			}
			name := "one"
			if tt.as != "" {
				name = tt.as
			}
			again := tt.again
			if again == nil {
				again = []harness.PrefixOption{harness.Length(26), harness.From("root")}
			}
			e.create(name, again...)
			if tt.reason != "" {
				e.waits(name, tt.reason)
				e.cooling("one")
				return
			}
			if p := e.allocated(name); p.Spec.Prefix != tt.want {
				t.Errorf("%s", harness.Describe(p))
			}
			e.AtRest()
		})
	}
}

// TestCoolDownAllowedAgain has a child that cannot take back what it had when it is created, and can later.
func TestCoolDownAllowedAgain(t *testing.T) {
	ask := []harness.PrefixOption{harness.Family(v1alpha1.IPv4), harness.Length(26), harness.From("pool")}
	patch := func(body string) func(pool, team *env) {
		return func(pool, _ *env) { pool.patch("pool", body, types.MergePatchType) }
	}
	for name, tt := range map[string]struct {
		// forbid comes after the child is deleted, and allow when the new one waits for reason.
		forbid, allow func(pool, team *env)
		reason        string
		again         []harness.PrefixOption
	}{
		"opened": {
			forbid: func(pool, _ *env) {
				pool.patchPolicy("rules", `{"spec":{"closed":true}}`)
				pool.policyApplies("rules")
			},
			reason: v1alpha1.ReasonParentClosed,
			allow:  func(pool, _ *env) { pool.patchPolicy("rules", `{"spec":{"closed":false}}`) },
		},
		"length": {
			forbid: func(pool, _ *env) {
				pool.patchPolicy("rules", `{"spec":{"childLengths":{"max":25}}}`)
				pool.policyApplies("rules")
			},
			reason: v1alpha1.ReasonLengthNotAllowed,
			allow:  func(pool, _ *env) { pool.patchPolicy("rules", `{"spec":{"childLengths":null}}`) },
		},
		"leaves": {
			forbid: func(pool, _ *env) {
				closed := harness.Policy("closed", nil, "state", "closed")
				closed.Spec.Closed = true
				pool.CreatePolicy(closed)
				pool.policyApplies("closed")
				patch(`{"metadata":{"labels":{"state":"closed"}}}`)(pool, nil)
			},
			reason: v1alpha1.ReasonParentClosed,
			allow:  patch(`{"metadata":{"labels":{"state":null}}}`),
		},
		"label": {
			again:  []harness.PrefixOption{harness.Family(v1alpha1.IPv4), harness.Length(26), harness.Selecting("for", "one")},
			reason: v1alpha1.ReasonNotShared,
			allow:  patch(`{"metadata":{"labels":{"for":"one"}}}`),
		},
		"consent": {
			forbid: func(pool, _ *env) {
				if err := pool.Policies.Delete(pool.Context(), "share", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			reason: v1alpha1.ReasonNotShared,
			allow: func(pool, team *env) {
				pool.share("share", &v1alpha1.PrefixSharing{Namespaces: []string{team.NS}}, "net", "a")
			},
		},
	} {
		// The pool has room for others, or not.
		for _, full := range []bool{false, true} {
			t.Run(name+map[bool]string{true: "-full"}[full], func(t *testing.T) {
				pool := in(t)
				team := pool.besides(t, "team")
				pool.root("pool", "10.0.0.0/24", harness.Labelled("net", "a"))
				pool.coolDown("rules", time.Hour)
				pool.policyIs("rules", 1, v1alpha1.ReasonApplied)
				pool.share("share", &v1alpha1.PrefixSharing{Namespaces: []string{team.NS}}, "net", "a")
				in := harness.InNamespace(pool.NS)
				team.create("zero", append(slices.Clone(ask), in)...)
				team.allocated("zero")
				team.create("one", append(slices.Clone(ask), in)...)
				want := team.allocated("one").Spec.Prefix
				if full {
					pool.create("rest", harness.Length(25), harness.From("pool"))
					pool.allocated("rest")
				}
				team.Delete("one")
				team.Gone("one")
				team.cooling("one")
				if !full {
					// What would be chosen is not what it had.
					team.Delete("zero")
					team.Gone("zero")
					team.release(team.cooling("zero").Name, 1)
				}
				if tt.forbid != nil {
					tt.forbid(pool, team)
				}
				again := ask
				if tt.again != nil {
					again = tt.again
				}
				// The watch caches may be behind, so that what is forbidden is still allowed for a moment.
				time.Sleep(300 * time.Millisecond)
				team.create("one", append(slices.Clone(again), in)...)
				team.waits("one", tt.reason)
				// Nothing looks at the child any more, unless it hears of the change.
				time.Sleep(2 * time.Second)
				tt.allow(pool, team)
				if p := team.allocated("one"); p.Spec.Prefix != want {
					t.Errorf("%s instead of %s", p.Spec.Prefix, want)
				}
			})
		}
	}
}

// TestCoolDownOfOtherNamespace has a child of the same name in another namespace.
func TestCoolDownOfOtherNamespace(t *testing.T) {
	e := in(t)
	other := inNamespace(t, shared, namespaceOf(t)+"-2")
	for _, e := range []*env{e, other} {
		e.root("root", "10.0.0.0/24")
		e.coolDown("rules", time.Hour)
		e.policyIs("rules", 1, v1alpha1.ReasonApplied)
	}
	e.create("zero", harness.Length(26), harness.From("root"))
	e.allocated("zero")
	e.create("one", harness.Length(26), harness.From("root"))
	e.allocated("one")
	e.Delete("one")
	e.Gone("one")
	e.cooling("one")
	other.create("one", harness.Length(26), harness.From("root"))
	if p := other.allocated("one"); p.Spec.Prefix != "10.0.0.0/26" {
		t.Errorf("%s", harness.Describe(p))
	}
	e.cooling("one")
}

// TestCoolDownKeepsNoParent deletes parents from which only space that cools down is allocated.
func TestCoolDownKeepsNoParent(t *testing.T) {
	for _, count := range []int{0, 1, 250} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			e := in(t)
			e.root("root", "10.0.0.0/16")
			e.coolDown("rules", time.Hour)
			e.policyIs("rules", 1, v1alpha1.ReasonApplied)
			e.createChildren(count, 16, harness.Length(32), harness.From("root"))
			e.childrenAllocated(count)
			for i := range count {
				e.Delete(fmt.Sprintf("child-%d", i))
			}
			e.Eventually("all space cools down", func() error {
				usage := e.Get("root").Status.Usage
				return harness.Unless(usage != nil && usage.Allocations == 0 && (count == 0 || usage.Cooling == fmt.Sprint(count)), "%+v", usage)
			})
			e.Delete("root")
			e.Gone("root")
			if left := e.ListAllocations(); len(left) > 0 {
				t.Errorf("%d allocations are left, such as %s", len(left), harness.DescribeAllocation(&left[0]))
			}
		})
	}
}

// TestCoolDownEndsWithCollection deletes all allocations at once, as the cluster does in a namespace that ends.
func TestCoolDownEndsWithCollection(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/24")
	e.coolDown("rules", time.Hour)
	e.policyIs("rules", 1, v1alpha1.ReasonApplied)
	e.create("one", harness.Length(26), harness.From("root"))
	e.allocated("one")
	e.Delete("one")
	a := e.cooling("one")
	if err := e.Allocations.DeleteCollection(e.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	e.allocationGone(a.Name)
	e.AtRest()
}

// TestCoolDownAway lets the time pass, and children come back, while the program does not run.
func TestCoolDownAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	instance := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"))
	e := inInstance(t, instance)
	e.root("root", "10.0.0.0/24")
	e.root("fast", "10.1.0.0/31", harness.Labelled("net", "fast"))
	slow := harness.Policy("slow", nil)
	slow.Spec.PrefixSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "net", Operator: metav1.LabelSelectorOpDoesNotExist}}}
	slow.Spec.CoolDown = &metav1.Duration{Duration: time.Hour}
	e.CreatePolicy(slow)
	fast := harness.Policy("fast", nil, "net", "fast")
	fast.Spec.CoolDown = &metav1.Duration{Duration: time.Second}
	e.CreatePolicy(fast)
	e.policyIs("fast", 1, v1alpha1.ReasonApplied)
	for name, from := range map[string]string{"one": "root", "two": "root", "three": "root", "quick": "fast", "quick-2": "fast"} {
		e.create(name, harness.Length(32), harness.From(from))
	}
	had := map[string]string{}
	for _, name := range []string{"one", "two", "three", "quick", "quick-2"} {
		had[name] = e.allocated(name).Spec.Prefix
	}
	e.create("waits", harness.Length(32), harness.From("fast"))
	e.waits("waits", v1alpha1.ReasonParentExhausted)
	e.Delete("one")
	e.Gone("one")
	until := e.cooling("one").Status.CoolingUntil
	instance.Close()

	// Without controllers.
	instance = harness.Start(t, harness.DataDir(dir))
	e = inInstance(t, instance)
	e.Delete("two", "quick")
	for _, name := range []string{"two", "quick"} {
		e.patch(name, `{"metadata":{"finalizers":null}}`, "application/merge-patch+json")
	}
	e.Gone("two", "quick")
	e.create("two", harness.Length(32), harness.From("root"))
	instance.Close()

	instance = harness.Start(t, harness.DataDir(dir), harness.Controllers("*"))
	e = inInstance(t, instance)
	if p := e.allocated("two"); p.Spec.Prefix != had["two"] {
		t.Errorf("%s instead of %s", p.Spec.Prefix, had["two"])
	}
	if p := e.allocated("waits"); p.Spec.Prefix != had["quick"] {
		t.Errorf("%s instead of %s", p.Spec.Prefix, had["quick"])
	}
	if a := e.cooling("one"); !a.Status.CoolingUntil.Equal(until) {
		t.Errorf("cools until %v instead of %v", a.Status.CoolingUntil, until)
	}
	e.create("one", harness.Length(32), harness.From("root"))
	if p := e.allocated("one"); p.Spec.Prefix != had["one"] {
		t.Errorf("%s instead of %s", p.Spec.Prefix, had["one"])
	}
	e.AtRest()
}
