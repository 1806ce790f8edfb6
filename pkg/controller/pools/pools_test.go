// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/fake"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"
)

// newCollector returns a collector whose informer has the Prefixes.
func newCollector(t *testing.T, config Config, prefixes ...*v1alpha1.Prefix) *Collector {
	t.Helper()
	informer := externalversions.NewSharedInformerFactory(fake.NewClientset(), 0).Ipam().V1alpha1().Prefixes()
	c, err := New(informer, config)
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range prefixes {
		if err := informer.Informer().GetIndexer().Add(prefix); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// created is the creation time of a Prefix, in seconds.
func created(seconds int64) metav1.Time { return metav1.Unix(seconds, 0) }

func root(namespace, name, cidr string, seconds int64) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: created(seconds)},
		Spec:       v1alpha1.PrefixSpec{Prefix: cidr},
		Status:     v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated},
	}
}

func child(namespace, name string, seconds int64, reason string) *v1alpha1.Prefix {
	p := root(namespace, name, "", seconds)
	p.Spec.ParentRef, p.Spec.PrefixLength = &v1alpha1.LocalObjectReference{Name: "pool"}, 24
	p.Status.Phase = v1alpha1.PrefixPhasePending
	if reason != "" {
		p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: reason}}
	}
	return p
}

func with(p *v1alpha1.Prefix, usage v1alpha1.PrefixUsage) *v1alpha1.Prefix {
	p.Status.Usage = &usage
	return p
}

// TestExposed compares all series with the text that Prometheus gets.
func TestExposed(t *testing.T) {
	allocated := child("team", "allocated", 30, "")
	allocated.Spec.Prefix, allocated.Status.Phase = "10.0.1.0/24", v1alpha1.PrefixPhaseAllocated
	parent := with(allocated.DeepCopy(), v1alpha1.PrefixUsage{Total: "256", Used: "64", Free: "192", Allocations: 1, LargestFree: "/25"})
	parent.Name = "parent"
	deleted := child("team", "deleted", 1, v1alpha1.ReasonRefused)
	deleted.DeletionTimestamp = new(created(2))
	pendingRoot := root("team", "pending-root", "10.0.0.0/8", 1)
	pendingRoot.Status.Phase = v1alpha1.PrefixPhasePending
	c := newCollector(t, Config{Limit: 10, Waiting: func(namespace string) map[string]map[string]int {
		return map[string]map[string]int{"pool": {v1alpha1.ReasonParentExhausted: len(namespace)}, "other": {v1alpha1.ReasonReserved: 9}}
	}},
		with(root("team", "pool", "10.0.0.0/16", 1), v1alpha1.PrefixUsage{
			Total: "65536", Used: "512", Free: "64976", Reserved: "16", Cooling: "32", Allocations: 2, LargestFree: "/17"}),
		// Nothing was ever allocated from these.
		root("team", "empty", "2001:db8::/64", 2), root("team", "invalid", "10.0.0.0/99", 2), pendingRoot,
		// Only the one with children is a pool.
		allocated, parent,
		// Anybody who may write the status can write this.
		with(root("team", "nonsense", "192.0.2.0/24", 3), v1alpha1.PrefixUsage{
			Total: "NaN", Used: "-1", Free: "Inf", Reserved: "1e999", Allocations: 1, LargestFree: "/-5"}),
		child("team", "a", 50, v1alpha1.ReasonParentExhausted), child("team", "b", 40, v1alpha1.ReasonParentExhausted),
		child("team", "c", 60, ""), child("team", "d", 70, "Written By Somebody"), child("team", "e", 65, "Else"), deleted,
	)
	current.Store(c)
	t.Cleanup(func() { current.Store(nil) })
	want := `
# HELP ipam_children_pending [ALPHA] Number of child Prefixes that are Pending, by reason. There is no series if there are none. Namespaces beyond --pool-metrics-limit are counted as (others).
# TYPE ipam_children_pending gauge
ipam_children_pending{namespace="team",reason="Other"} 2
ipam_children_pending{namespace="team",reason="ParentExhausted"} 2
ipam_children_pending{namespace="team",reason="Pending"} 1
# HELP ipam_children_pending_oldest_creation_timestamp_seconds [ALPHA] Creation time of the oldest child Prefix that is Pending, by reason, in seconds since 1970-01-01 UTC. There is no series if there is none.
# TYPE ipam_children_pending_oldest_creation_timestamp_seconds gauge
ipam_children_pending_oldest_creation_timestamp_seconds{namespace="team",reason="Other"} 65
ipam_children_pending_oldest_creation_timestamp_seconds{namespace="team",reason="ParentExhausted"} 40
ipam_children_pending_oldest_creation_timestamp_seconds{namespace="team",reason="Pending"} 60
# HELP ipam_pool_addresses [ALPHA] Number of addresses of a pool, by state: used; free; reserved by a PrefixPolicy and not in use; or cooling, after their child was deleted.
# TYPE ipam_pool_addresses gauge
ipam_pool_addresses{namespace="team",prefix="empty",state="cooling"} 0
ipam_pool_addresses{namespace="team",prefix="empty",state="free"} 1.8446744073709552e+19
ipam_pool_addresses{namespace="team",prefix="empty",state="reserved"} 0
ipam_pool_addresses{namespace="team",prefix="empty",state="used"} 0
ipam_pool_addresses{namespace="team",prefix="nonsense",state="cooling"} 0
ipam_pool_addresses{namespace="team",prefix="nonsense",state="free"} 0
ipam_pool_addresses{namespace="team",prefix="nonsense",state="reserved"} 0
ipam_pool_addresses{namespace="team",prefix="nonsense",state="used"} 0
ipam_pool_addresses{namespace="team",prefix="parent",state="cooling"} 0
ipam_pool_addresses{namespace="team",prefix="parent",state="free"} 192
ipam_pool_addresses{namespace="team",prefix="parent",state="reserved"} 0
ipam_pool_addresses{namespace="team",prefix="parent",state="used"} 64
ipam_pool_addresses{namespace="team",prefix="pool",state="cooling"} 32
ipam_pool_addresses{namespace="team",prefix="pool",state="free"} 64976
ipam_pool_addresses{namespace="team",prefix="pool",state="reserved"} 16
ipam_pool_addresses{namespace="team",prefix="pool",state="used"} 512
# HELP ipam_pool_children [ALPHA] Number of prefixes that are allocated from a pool.
# TYPE ipam_pool_children gauge
ipam_pool_children{namespace="team",prefix="empty"} 0
ipam_pool_children{namespace="team",prefix="nonsense"} 1
ipam_pool_children{namespace="team",prefix="parent"} 1
ipam_pool_children{namespace="team",prefix="pool"} 2
# HELP ipam_pool_info [ALPHA] The value is 1. The labels describe a pool, that is, a root Prefix or a Prefix that has children: its CIDR, its family, and the name of its parent if it has one.
# TYPE ipam_pool_info gauge
ipam_pool_info{cidr="10.0.0.0/16",ip_family="IPv4",namespace="team",parent="",prefix="pool"} 1
ipam_pool_info{cidr="10.0.1.0/24",ip_family="IPv4",namespace="team",parent="pool",prefix="parent"} 1
ipam_pool_info{cidr="192.0.2.0/24",ip_family="IPv4",namespace="team",parent="",prefix="nonsense"} 1
ipam_pool_info{cidr="2001:db8::/64",ip_family="IPv6",namespace="team",parent="",prefix="empty"} 1
# HELP ipam_pool_largest_free_block_addresses [ALPHA] Number of addresses in the largest free block of a pool. It is 0 if nothing is free.
# TYPE ipam_pool_largest_free_block_addresses gauge
ipam_pool_largest_free_block_addresses{namespace="team",prefix="empty"} 1.8446744073709552e+19
ipam_pool_largest_free_block_addresses{namespace="team",prefix="nonsense"} 0
ipam_pool_largest_free_block_addresses{namespace="team",prefix="parent"} 128
ipam_pool_largest_free_block_addresses{namespace="team",prefix="pool"} 32768
# HELP ipam_pool_waiting_children [ALPHA] Number of requests that wait for a pool, by reason. A request counts for the pools that its message names, which are at most 5. There is no series if none wait.
# TYPE ipam_pool_waiting_children gauge
ipam_pool_waiting_children{namespace="team",prefix="pool",reason="ParentExhausted"} 4
# HELP ipam_pools_omitted [ALPHA] Number of pools without metrics of their own, because there are more than --pool-metrics-limit.
# TYPE ipam_pools_omitted gauge
ipam_pools_omitted 0
`
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(want),
		"ipam_pool_info", "ipam_pool_addresses", "ipam_pool_largest_free_block_addresses", "ipam_pool_children",
		"ipam_pool_waiting_children", "ipam_pools_omitted", "ipam_children_pending", "ipam_children_pending_oldest_creation_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}

// TestNoSeriesWithoutCollector shows that a process whose controllers do not run, such as one that is not the leader, has
// no series of pools.
func TestNoSeriesWithoutCollector(t *testing.T) {
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(""), "ipam_pool_info", "ipam_pools_omitted"); err != nil {
		t.Error(err)
	}
}

// TestNobodyTakesTheSeriesOfOthers has one namespace with very many pools, Pending children and invented reasons.
func TestNobodyTakesTheSeriesOfOthers(t *testing.T) {
	const limit, teams = 20, 5
	var prefixes []*v1alpha1.Prefix
	for i := range int64(1000) {
		// It was there first.
		prefixes = append(prefixes, root("greedy", fmt.Sprintf("pool-%04d", i), "10.0.0.0/8", i),
			child("greedy", fmt.Sprintf("child-%04d", i), i, fmt.Sprint("Reason", i)))
	}
	for i := range teams {
		prefixes = append(prefixes, root(fmt.Sprint("team-", i), "pool", "10.0.0.0/8", 5000), root(fmt.Sprint("team-", i), "pool-2", "10.0.0.0/8", 6000))
	}
	c := newCollector(t, Config{Limit: limit}, prefixes...)
	pools, omitted := c.pools()
	count := map[string]int{}
	for _, p := range pools {
		count[p.namespace]++
		if p.namespace == "greedy" && p.name > "pool-0009" {
			t.Errorf("%s has series, although older ones have none", p.name)
		}
	}
	want := map[string]int{"greedy": 10, "team-0": 2, "team-1": 2, "team-2": 2, "team-3": 2, "team-4": 2}
	if !maps.Equal(count, want) || omitted != 990 {
		t.Errorf("pools by namespace are %v, want %v; %d are omitted", count, want, omitted)
	}
	if pending := c.pending(); len(pending) != 1 || len(pending["greedy"]) != 1 || pending["greedy"][otherReason].count != 1000 {
		t.Errorf("Pending children are %v", pending)
	}
}

// TestPendingBeyondTheLimit has more namespaces with Pending children than may have series.
func TestPendingBeyondTheLimit(t *testing.T) {
	var prefixes []*v1alpha1.Prefix
	for i := range int64(10) {
		prefixes = append(prefixes, child(fmt.Sprint("team-", i), "a", 100-i, v1alpha1.ReasonParentExhausted),
			child(fmt.Sprint("team-", i), "b", 200, v1alpha1.ReasonPending))
	}
	got := newCollector(t, Config{Limit: 3}, prefixes...).pending()
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{others, "team-7", "team-8", "team-9"}) {
		t.Errorf("namespaces are %v", names)
	}
	if p := got[others][v1alpha1.ReasonParentExhausted]; p == nil || p.count != 7 || !p.oldest.Equal(time.Unix(94, 0)) {
		t.Errorf("the others are %+v", p)
	}
}

// TestShare compares share with a model that hands out one series at a time.
func TestShare(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		of, all := map[string][]*v1alpha1.Prefix{}, 0
		for i := range random.IntN(6) {
			namespace := fmt.Sprint("team-", i)
			for j := range 1 + random.IntN(8) {
				of[namespace] = append(of[namespace], root(namespace, fmt.Sprint(j), "10.0.0.0/8", random.Int64N(5)))
				all++
			}
			slices.SortFunc(of[namespace], byAge)
		}
		limit := random.IntN(20)
		chosen, left := share(of, limit)
		got := 0
		for namespace, prefixes := range chosen {
			got += len(prefixes)
			if !slices.Equal(prefixes, of[namespace][:len(prefixes)]) {
				t.Fatalf("%s does not get its oldest", namespace)
			}
		}
		if got != min(limit, all) || left != all-got {
			t.Fatalf("%d of %d are chosen and %d left, limit %d", got, all, left, limit)
		}
		// Who has less than another one has all, or the other one has only one more, which is older.
		for a := range of {
			for b := range chosen {
				mine, theirs := len(chosen[a]), len(chosen[b])
				switch {
				case mine >= theirs, mine == len(of[a]):
				case theirs == mine+1:
					if byAge(of[a][mine], of[b][theirs-1]) < 0 {
						t.Fatalf("%s has one more than %s, although it is newer", b, a)
					}
				default:
					t.Fatalf("%s has %d, %s has %d", a, mine, b, theirs)
				}
			}
		}
	}
}

// TestNumber has what others may write into the status.
func TestNumber(t *testing.T) {
	for text, want := range map[string]float64{
		"": 0, "0": 0, "256": 256, "340282366920938463463374607431768211456": math.Ldexp(1, 128),
		"-1": 0, "NaN": 0, "Inf": 0, "+Inf": 0, "1e400": 0, "many": 0,
	} {
		if got := number(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}
