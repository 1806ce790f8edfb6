// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// share creates a policy that shares the Prefixes with a label with other namespaces.
func (e *env) share(name string, with *v1alpha1.PrefixSharing, pairs ...string) {
	e.Helper()
	policy := harness.Policy(name, nil, pairs...)
	policy.Spec.SharedWith = with
	e.CreatePolicy(policy)
}

// besides returns another namespace of the same instance.
func (e *env) besides(t testing.TB, suffix string) *env {
	return inNamespace(t, shared, strings.TrimRight(e.NS[:min(len(e.NS), 50)], "-")+"-"+suffix)
}

// atRest waits until the objects of some namespaces that share parents are consistent.
func atRest(envs ...*env) {
	envs[0].Helper()
	envs[0].Eventually("at rest", func() error {
		var prefixes []v1alpha1.Prefix
		var allocations []v1alpha1.PrefixAllocation
		for _, e := range envs {
			prefixes, allocations = append(prefixes, e.List()...), append(allocations, e.ListAllocations()...)
		}
		return harness.CheckAtRest(prefixes, allocations)
	})
}

// TestSharing goes through the life of a parent that is shared with another namespace and has room for four children.
func TestSharing(t *testing.T) {
	for _, family := range []struct {
		name   string
		family v1alpha1.IPFamily
		root   string
		length int32
		exact  string
	}{
		{"IPv4", v1alpha1.IPv4, "10.0.0.0/24", 26, "10.0.0.0/25"},
		{"IPv6", v1alpha1.IPv6, "2001:db8::/56", 58, "2001:db8::/57"},
	} {
		t.Run(family.name, func(t *testing.T) {
			net := in(t)
			team, stranger := net.besides(t, "team"), net.besides(t, "stranger")
			with := &v1alpha1.PrefixSharing{Namespaces: []string{team.NS}}
			ask := []harness.PrefixOption{harness.Family(family.family), harness.Length(family.length), harness.InNamespace(net.NS)}
			byName := append(slices.Clone(ask), harness.From("pool"))
			bySelector := append(slices.Clone(ask), harness.Selecting("net", "a"))

			// What is not shared looks as if it did not exist, for a name and for a selector.
			team.create("early", byName...)
			notThere := strings.ReplaceAll(team.pending("early", v1alpha1.ReasonNotShared, net.NS+"/pool does not exist or is not shared with namespace "+team.NS), "pool", "*")
			net.root("pool", family.root, harness.Labelled("net", "a"))
			net.root("private", family.root, harness.Labelled("net", "private"))
			team.create("private", append(slices.Clone(ask), harness.From("private"))...)
			if notShared := strings.ReplaceAll(team.pending("private", v1alpha1.ReasonNotShared), "private", "*"); notShared != notThere {
				t.Errorf("not there: %q, not shared: %q", notThere, notShared)
			}
			team.create("selecting", bySelector...)
			team.pending("selecting", v1alpha1.ReasonNotShared, "No Prefix of namespace "+net.NS+" that is shared with namespace "+team.NS)

			// The consent of the owner serves those that wait, and nobody else.
			stranger.create("stranger", byName...)
			net.share("share", with, "net", "a")
			team.allocated("early")
			if p := team.allocated("selecting"); p.Spec.ParentNamespace != net.NS || p.Spec.ParentRef.Name != "pool" {
				t.Errorf("%+v", p.Spec)
			}
			stranger.pending("stranger", v1alpha1.ReasonNotShared)
			atRest(net, team, stranger)

			// It has no room for a fifth: the tenant does not learn how full it is, or who holds what.
			net.create("own-1", harness.Length(family.length), harness.From("pool"))
			net.create("own-2", harness.Length(family.length), harness.From("pool"))
			net.allocated("own-1")
			net.allocated("own-2")
			team.create("full", byName...)
			if message := team.pending("full", v1alpha1.ReasonParentExhausted); message != fmt.Sprintf("%s/pool (%s) has no room for a /%d", net.NS, family.root, family.length) {
				t.Error(message)
			}
			team.create("exact", append([]harness.PrefixOption{harness.Exactly(family.exact), harness.InNamespace(net.NS)}, harness.From("pool"))...)
			if message := team.pending("exact", v1alpha1.ReasonPrefixInUse); strings.Contains(message, "own-") {
				t.Error(message)
			}
			net.Delete("own-1")
			net.Gone("own-1")
			team.allocated("full")

			// The owner does not learn who the others are, and the pool waits for them.
			net.Delete("pool")
			net.Eventually("pool waits", func() error {
				condition := meta.FindStatusCondition(net.Get("pool").Status.Conditions, v1alpha1.ConditionDeletable)
				if condition == nil || condition.Reason != v1alpha1.ReasonHasChildren || strings.Contains(condition.Message, "early") ||
					!strings.Contains(condition.Message, "own-2, and by children of other namespaces") {
					return fmt.Errorf("%+v", condition)
				}
				return nil
			})

			// Consent that is withdrawn keeps what is allocated.
			if err := net.Policies.Delete(net.Context(), "share", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			team.pending("exact", v1alpha1.ReasonNotShared)
			team.allocated("early")
			net.Delete("own-2")
			team.Delete("early", "selecting", "full")
			net.Gone("pool")

			// A new pool of the same name is a new parent, and needs consent, too.
			net.root("pool", family.root, harness.Labelled("net", "b"))
			team.pending("exact", v1alpha1.ReasonNotShared)
			net.share("again", with, "net", "b")
			team.allocated("exact")
			net.Delete("pool")
			team.Delete("exact")
			net.Gone("pool")
		})
	}
}

// TestSharedFields expects that the namespace of the parent never changes.
func TestSharedFields(t *testing.T) {
	net := in(t)
	team := net.besides(t, "team")
	net.share("share", &v1alpha1.PrefixSharing{All: true}, "net", "a")
	net.root("pool", "10.0.0.0/24", harness.Labelled("net", "a"))
	child := team.create("child", harness.Length(26), harness.From("pool"), harness.InNamespace(net.NS))
	if child.Spec.IPFamily != v1alpha1.IPv4 {
		t.Errorf("the family is not that of the parent: %+v", child.Spec)
	}
	team.allocated("child")

	for _, patch := range []string{`{"spec":{"parentNamespace":"` + team.NS + `"}}`, `{"spec":{"parentNamespace":"elsewhere"}}`} {
		_, err := team.Prefixes.Patch(t.Context(), "child", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.parentNamespace") {
			t.Errorf("%s: %v", patch, err)
		}
	}
	// A client that does not know the field leaves it out.
	before := team.Get("child")
	without := before.DeepCopy()
	without.Spec.ParentNamespace = ""
	without.Labels = map[string]string{"a": "b"}
	after, err := team.Prefixes.Update(t.Context(), without, metav1.UpdateOptions{})
	if err != nil || after.Spec.ParentNamespace != net.NS || after.Generation != before.Generation {
		t.Errorf("%v: %+v", err, after)
	}
	a := team.allocationOf("child")
	a.Spec.PrefixNamespace = ""
	if a, err := team.Allocations.Update(t.Context(), a, metav1.UpdateOptions{}); err != nil || a.Spec.PrefixNamespace != net.NS {
		t.Errorf("%v: %+v", err, a)
	}

	// The name of the own namespace means the same as none.
	own := net.create("own", harness.Length(26), harness.From("pool"), harness.InNamespace(net.NS))
	net.allocated("own")
	own.Spec.ParentNamespace = ""
	if _, err := net.Prefixes.Patch(t.Context(), "own", types.MergePatchType, []byte(`{"spec":{"parentNamespace":null}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
	for _, wrong := range []*v1alpha1.Prefix{
		harness.NewPrefix("root", harness.Exactly("10.0.0.0/8"), harness.InNamespace(net.NS)),
		harness.NewPrefix("name", harness.Length(26), harness.From("pool"), harness.InNamespace("No_Name")),
		harness.NewPrefix("itself", harness.Length(26), harness.From("itself"), harness.InNamespace(team.NS)),
	} {
		if _, err := team.Prefixes.Create(t.Context(), wrong, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", wrong.Name, err)
		}
	}
	// Here is no cluster that has namespaces with labels.
	policy := harness.Policy("labels", nil, "net", "a")
	policy.Spec.SharedWith = &v1alpha1.PrefixSharing{NamespaceSelector: &metav1.LabelSelector{}}
	if _, err := net.Policies.Create(t.Context(), policy, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "no cluster") {
		t.Errorf("by labels: %v", err)
	}
	atRest(net, team)
}

// TestSharedCoolsInNamespaceThatEnds deletes all of a namespace, as the cluster does when it ends, while space of its children
// cools down in a shared parent. The space is free at once for others, and neither end waits.
func TestSharedCoolsInNamespaceThatEnds(t *testing.T) {
	net := in(t)
	team := net.besides(t, "team")
	net.share("share", &v1alpha1.PrefixSharing{All: true}, "net", "a")
	net.coolDown("cools", time.Hour)
	net.policyIs("cools", 0, v1alpha1.ReasonApplied)
	net.root("pool", "10.0.0.0/24", harness.Labelled("net", "a"))
	net.policyIs("cools", 1, v1alpha1.ReasonApplied)
	for _, name := range []string{"one", "two"} {
		team.create(name, harness.Length(25), harness.From("pool"), harness.InNamespace(net.NS))
		team.allocated(name)
	}
	team.Delete("one")
	team.Gone("one")
	team.cooling("one")
	net.create("waits", harness.Length(25), harness.From("pool"))
	net.waits("waits", v1alpha1.ReasonParentExhausted)
	net.create("waits-too", harness.Length(25), harness.From("pool"))
	net.waits("waits-too", v1alpha1.ReasonParentExhausted)

	end := func() error {
		if err := team.Prefixes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			return err
		}
		// An allocation that a child stands on is refused as long as the child is there, and the cluster tries again.
		if err := team.Allocations.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			return err
		}
		return harness.Unless(len(team.List())+len(team.ListAllocations()) == 0, "%d Prefixes and %d PrefixAllocations are left", len(team.List()), len(team.ListAllocations()))
	}
	team.Eventually("nothing is left in the namespace", end)
	net.allocated("waits")
	net.allocated("waits-too")
	atRest(net, team)
}

// TestSharedOutermost expects that a selector means the outermost of those Prefixes that are shared.
func TestSharedOutermost(t *testing.T) {
	net := in(t)
	team := net.besides(t, "team")
	net.root("company", "10.0.0.0/8", harness.Labelled("net", "a"))
	net.create("pool", harness.Length(16), harness.From("company"), harness.Labelled("net", "a", "shared", "yes"))
	net.allocated("pool")
	net.create("below", harness.Length(20), harness.From("pool"), harness.Labelled("net", "a", "shared", "yes"))
	net.allocated("below")
	net.share("share", &v1alpha1.PrefixSharing{Namespaces: []string{team.NS}}, "shared", "yes")
	ask := []harness.PrefixOption{harness.Family(v1alpha1.IPv4), harness.Length(24), harness.Selecting("net", "a"), harness.InNamespace(net.NS)}
	team.create("child", ask...)
	if p := team.allocated("child"); p.Spec.ParentRef.Name != "pool" {
		t.Errorf("from %s", p.Spec.ParentRef.Name)
	}
	// If the pool is not shared any more, what lies below it is the outermost one that is.
	net.patch("pool", `{"metadata":{"labels":{"shared":"no"}}}`, types.MergePatchType)
	tries := 0
	net.Eventually("from below", func() error {
		tries++
		name := fmt.Sprintf("again-%d", tries)
		team.create(name, ask...)
		if p := team.allocated(name); p.Spec.ParentRef.Name != "below" {
			return errors.New(p.Spec.ParentRef.Name)
		}
		return nil
	})
	atRest(net, team)
}

// TestTenantsTakeTurns expects that who waits with one request does not wait for a tenant with many older ones.
func TestTenantsTakeTurns(t *testing.T) {
	net := in(t)
	many, one := net.besides(t, "many"), net.besides(t, "one")
	net.share("share", &v1alpha1.PrefixSharing{All: true}, "net", "a")
	net.root("pool", "10.0.0.0/30", harness.Labelled("net", "a"))
	ask := []harness.PrefixOption{harness.Length(32), harness.From("pool"), harness.InNamespace(net.NS)}
	for i := range 4 {
		net.create(fmt.Sprintf("own-%d", i), harness.Length(32), harness.From("pool"))
		net.allocated(fmt.Sprintf("own-%d", i))
	}
	many.createChildren(30, 10, ask...)
	for i := range 30 {
		many.pending(fmt.Sprintf("child-%d", i), v1alpha1.ReasonParentExhausted)
	}
	one.create("last", ask...)
	one.pending("last", v1alpha1.ReasonParentExhausted)
	net.Delete("own-0", "own-1")
	one.allocated("last")
	atRest(net, many, one)
}
