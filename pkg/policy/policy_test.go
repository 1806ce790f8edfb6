// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// selectors are of all kinds: with labels, with expressions, with both, with neither.
var selectors = []metav1.LabelSelector{
	{},
	{MatchLabels: map[string]string{"a": "1"}},
	{MatchLabels: map[string]string{"a": "1", "b": "1"}},
	{MatchLabels: map[string]string{"b": "2"}, MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpExists}}},
	{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"1"}}}},
}

var sets = []labels.Set{nil, {"a": "1"}, {"a": "2"}, {"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"b": "2"}, {"c": "1"}}

// TestModel changes policies at random, and compares the rules of each set of labels with those of all policies that
// select it.
func TestModel(t *testing.T) {
	everywhere := netip.MustParsePrefix("0.0.0.0/0")
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 1))
		var policies Policies
		stored := map[string]*v1alpha1.PrefixPolicy{}
		before := map[string]*Rules{}
		for step := range 300 {
			name := fmt.Sprintf("p%d", random.IntN(6))
			var affected []labels.Selector
			switch old := stored[name]; {
			case old != nil && random.IntN(3) == 0:
				affected = policies.Delete(name, old.UID)
				delete(stored, name)
			default:
				now := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("%s-%d", name, step)),
					Generation: 1, CreationTimestamp: metav1.NewTime(time.Unix(int64(random.IntN(5)), 0))}}
				if old != nil && random.IntN(2) == 0 {
					now.ObjectMeta = old.ObjectMeta
					now.Generation++
				}
				now.Spec.PrefixSelector = &selectors[random.IntN(len(selectors))]
				for range random.IntN(3) {
					now.Spec.Reserved = append(now.Spec.Reserved, v1alpha1.PrefixReservation{CIDR: fmt.Sprintf("10.%d.0.0/16", random.IntN(8))})
				}
				now.Spec.Closed = random.IntN(4) == 0
				now.Spec.Strategy = []v1alpha1.PrefixStrategy{"", "Pack", "Spread"}[random.IntN(3)]
				if random.IntN(2) == 0 {
					now.Spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: int32(random.IntN(28)), Max: int32(28 + random.IntN(3))}
				}
				stored[name] = now
				affected = policies.Set(now)
				if again := policies.Set(now); again != nil {
					t.Fatalf("the same policy affects %s", again)
				}
			}
			for _, set := range sets {
				want := map[netip.Prefix]bool{}
				selected, closed, differ := false, false, false
				var lengths []*v1alpha1.PrefixChildLengths
				var oldest *v1alpha1.PrefixPolicy
				for _, policy := range stored {
					selector, err := metav1.LabelSelectorAsSelector(policy.Spec.PrefixSelector)
					if err != nil {
						t.Fatal(err)
					}
					if !selector.Matches(set) {
						continue
					}
					selected, closed, lengths = true, closed || policy.Spec.Closed, append(lengths, policy.Spec.ChildLengths)
					if policy.Spec.Strategy != "" {
						differ = differ || oldest != nil && oldest.Spec.Strategy != policy.Spec.Strategy
						age := func(p *v1alpha1.PrefixPolicy) string { return fmt.Sprint(p.CreationTimestamp.Unix(), p.Name) }
						if oldest == nil || age(policy) < age(oldest) {
							oldest = policy
						}
					}
					for _, r := range policy.Spec.Reserved {
						want[netip.MustParsePrefix(r.CIDR)] = true
					}
				}
				rules := policies.For(set)
				if (rules.HasReserved()) != (len(want) > 0) {
					t.Fatalf("seed %d, step %d: %v has reserved space: %v", seed, step, set, rules.HasReserved())
				}
				if (rules != nil) != selected || rules != policies.For(set) {
					t.Fatalf("seed %d, step %d: %v is selected: %v", seed, step, set, rules != nil)
				}
				for bits := 1; bits <= 32; bits++ {
					allowed := !closed && !slices.ContainsFunc(lengths, func(l *v1alpha1.PrefixChildLengths) bool {
						return l != nil && (bits < int(l.Min) || l.Max != 0 && bits > int(l.Max))
					})
					if rules.Allow(bits) != allowed || rules.Closed() != closed {
						t.Fatalf("seed %d, step %d: %v: /%d is allowed: %v", seed, step, set, bits, !allowed)
					}
				}
				strategy := v1alpha1.PrefixStrategy("")
				if oldest != nil {
					strategy = oldest.Spec.Strategy
				}
				if rules.Strategy() != strategy || (rules.Conflict() != "") != differ {
					t.Fatalf("seed %d, step %d: %v: strategy %q, not %q; conflict %q", seed, step, set, rules.Strategy(), strategy, rules.Conflict())
				}
				for i := range 8 {
					prefix := netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i))
					if policies.Reserved(rules).Overlaps(prefix, everywhere) != want[prefix] {
						t.Fatalf("seed %d, step %d: %v: %s is reserved: %v", seed, step, set, prefix, !want[prefix])
					}
				}
				if before[set.String()] != rules && !slices.ContainsFunc(affected, func(s labels.Selector) bool { return s.Matches(set) }) {
					t.Fatalf("seed %d, step %d: the rules of %v have changed, but it is not affected", seed, step, set)
				}
				before[set.String()] = rules
			}
			if policies.Len() != len(stored) {
				t.Fatalf("%d policies, not %d", policies.Len(), len(stored))
			}
		}
		for name, policy := range stored {
			policies.Delete(name, policy.UID)
		}
		if len(policies.byLabel)+len(policies.others)+len(policies.combined) > 0 {
			t.Fatalf("left over: %v %v %v", policies.byLabel, policies.others, policies.combined)
		}
	}
}

// TestIndex separates namespaces, and keeps nothing of those without policies.
func TestIndex(t *testing.T) {
	var index Index
	policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: "p", UID: "uid"}}
	policy.Spec = v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}, Reserved: []v1alpha1.PrefixReservation{{Edges: true}}}
	if len(index.Delete(policy)) != 0 || len(index.Set(policy)) != 1 {
		t.Fatal("affects what it should not")
	}
	prefixIn := func(namespace string) *v1alpha1.Prefix {
		return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}}
	}
	if index.Reserved(prefixIn("one")) == nil || index.For(prefixIn("two")) != nil || index.Reserved(prefixIn("two")) != nil {
		t.Error("the rules are not those of the namespace")
	}
	var selecting []string
	index.Selecting("one", nil, func(name string, reserved *allocator.Reserved) {
		if reserved != nil {
			selecting = append(selecting, name)
		}
	})
	index.Selecting("two", nil, func(name string, _ *allocator.Reserved) { selecting = append(selecting, name) })
	if !slices.Equal(selecting, []string{"p"}) {
		t.Errorf("%s select it", selecting)
	}
	if index.Delete(policy); len(index.namespaces) > 0 {
		t.Error("the namespace is kept")
	}
}

// TestCombinationsAreSmall makes very many combinations of policies with much reserved space, as a tenant may do with
// labels. Each must take little memory of its own.
func TestCombinationsAreSmall(t *testing.T) {
	const labelKeys, perKey, combinations = 12, 40, 1 << 12
	var policies Policies
	for i := range labelKeys * perKey {
		policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i), UID: types.UID(fmt.Sprint(i)), Generation: 1}}
		policy.Spec.PrefixSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: fmt.Sprintf("l%d", i%labelKeys), Operator: metav1.LabelSelectorOpExists}}}
		for j := range 100 {
			policy.Spec.Reserved = append(policy.Spec.Reserved, v1alpha1.PrefixReservation{CIDR: fmt.Sprintf("10.%d.%d.0/32", i%256, j)})
		}
		policies.Set(policy)
	}
	inUse := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := inUse()
	all := make([]*Rules, combinations)
	for i := range combinations {
		set := labels.Set{}
		for key := range labelKeys {
			if i&(1<<key) != 0 {
				set[fmt.Sprintf("l%d", key)] = ""
			}
		}
		all[i] = policies.For(set)
		if len(set) > 0 && policies.Reserved(all[i]) == nil {
			t.Fatalf("%v reserve nothing", set)
		}
	}
	if grown := int64(inUse()-before) / combinations; grown < 0 || grown > 1024 {
		t.Errorf("a combination takes %d bytes", grown)
	}
	if len(policies.combined) > maxCombined {
		t.Errorf("%d combinations are kept", len(policies.combined))
	}
	runtime.KeepAlive(all)
	runtime.KeepAlive(&policies)
}
