// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixpolicy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	informers "github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

const namespace = "default"

// world is a random namespace, and a controller that has seen it.
type world struct {
	controller  *Controller
	policies    []*v1alpha1.PrefixPolicy
	prefixes    []*v1alpha1.Prefix
	allocations []*v1alpha1.PrefixAllocation
}

func newWorld(t *testing.T, random *rand.Rand) world {
	t.Helper()
	factory := informers.NewSharedInformerFactory(nil, 0)
	kinds := factory.Ipam().V1alpha1()
	c, err := New(nil, kinds.PrefixPolicies(), kinds.Prefixes(), kinds.PrefixAllocations())
	if err != nil {
		t.Fatal(err)
	}
	w := world{controller: c}
	for i := range random.IntN(5) {
		p := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("p%d", i), UID: types.UID(fmt.Sprint("p", i)),
			Generation: 1, CreationTimestamp: metav1.NewTime(time.Unix(int64(random.IntN(3)), 0))}}
		p.Spec.PrefixSelector = &metav1.LabelSelector{}
		if random.IntN(2) == 0 {
			p.Spec.PrefixSelector.MatchLabels = map[string]string{"pool": fmt.Sprint(random.IntN(2))}
		}
		p.Spec.Strategy = []v1alpha1.PrefixStrategy{"", "Pack", "Spread"}[random.IntN(3)]
		for range random.IntN(3) {
			p.Spec.Reserved = append(p.Spec.Reserved, v1alpha1.PrefixReservation{CIDR: fmt.Sprintf("10.0.%d.0/28", random.IntN(3))})
		}
		w.policies = append(w.policies, p)
		c.index.Set(p)
	}
	for i := range 4 {
		p := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("root%d", i)}}
		if random.IntN(3) > 0 {
			p.Labels = map[string]string{"pool": fmt.Sprint(random.IntN(2))}
		}
		p.Spec.Prefix = fmt.Sprintf("10.0.%d.0/24", i)
		w.prefixes = append(w.prefixes, p)
		if err := kinds.Prefixes().Informer().GetIndexer().Add(p); err != nil {
			t.Fatal(err)
		}
		for j := range random.IntN(20) {
			a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("a%d-%d", i, j)}}
			a.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: p.Name}
			a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, fmt.Sprintf("10.0.%d.%d/32", i, j)
			if random.IntN(8) == 0 {
				a.Namespace, a.Spec.PrefixNamespace = "tenant", namespace
			}
			if random.IntN(5) == 0 {
				a.Status = v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending}
			}
			w.allocations = append(w.allocations, a)
			if err := kinds.PrefixAllocations().Informer().GetIndexer().Add(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

// want returns the reason and the message that the status of a policy should have, and the number of Prefixes, according
// to a search through all objects.
func (w world) want(t *testing.T, of *v1alpha1.PrefixPolicy) (reason, message string, prefixes int64) {
	t.Helper()
	selects := func(policy *v1alpha1.PrefixPolicy, prefix *v1alpha1.Prefix) bool {
		selector, err := metav1.LabelSelectorAsSelector(policy.Spec.PrefixSelector)
		if err != nil {
			t.Fatal(err)
		}
		return selector.Matches(labels.Set(prefix.Labels))
	}
	var inUse []string
	differ := false
	for _, prefix := range w.prefixes {
		if !selects(of, prefix) {
			continue
		}
		prefixes++
		strategies := map[v1alpha1.PrefixStrategy]bool{}
		for _, policy := range w.policies {
			if selects(policy, prefix) && policy.Spec.Strategy != "" {
				strategies[policy.Spec.Strategy] = true
			}
		}
		differ = differ || len(strategies) > 1 && of.Spec.Strategy != ""
		for _, a := range w.allocations {
			if a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || a.Spec.PrefixRef.Name != prefix.Name {
				continue
			}
			held := netip.MustParsePrefix(a.Status.Prefix)
			if slices.ContainsFunc(of.Spec.Reserved, func(r v1alpha1.PrefixReservation) bool { return netip.MustParsePrefix(r.CIDR).Overlaps(held) }) {
				who := "PrefixAllocation " + a.Name
				if a.Namespace != namespace {
					who = "another namespace"
				}
				inUse = append(inUse, fmt.Sprintf("%s of %s by %s", held, prefix.Name, who))
			}
		}
	}
	switch {
	case len(inUse) > 0:
		// The names have the order of the addresses here, but for the digits.
		slices.SortFunc(inUse, func(a, b string) int {
			parent := func(s string) string { return strings.Fields(s)[2] }
			held := func(s string) netip.Prefix { return netip.MustParsePrefix(strings.Fields(s)[0]) }
			if parent(a) != parent(b) {
				return strings.Compare(parent(a), parent(b))
			}
			return held(a).Compare(held(b))
		})
		message = "Reserved space is in use, and stays so: " + strings.Join(inUse[:min(5, len(inUse))], "; ")
		if len(inUse) > 5 {
			message += "; and others"
		}
		return v1alpha1.ReasonReservedInUse, message, prefixes
	case differ:
		return v1alpha1.ReasonStrategyConflict, "", prefixes
	}
	return v1alpha1.ReasonApplied, "The rules apply to the Prefixes that prefixSelector selects", prefixes
}

// isConflict checks what the status of a policy says about different strategies. It names two policies that select the same
// Prefix as this one, and says that the first one counts, which is the oldest with a strategy of all that select that Prefix.
func (w world) isConflict(t *testing.T, of *v1alpha1.PrefixPolicy, message string) {
	t.Helper()
	var counts, strategy, other, differs, oldest string
	if n, err := fmt.Sscanf(strings.NewReplacer(",", "", ".", "").Replace(message),
		"PrefixPolicy %s has strategy %s but PrefixPolicy %s has %s The oldest counts %s", &counts, &strategy, &other, &differs, &oldest); n != 5 {
		t.Fatalf("%q: %v", message, err)
	}
	for _, prefix := range w.prefixes {
		byName := map[string]*v1alpha1.PrefixPolicy{}
		first := ""
		for _, policy := range w.policies {
			selector, err := metav1.LabelSelectorAsSelector(policy.Spec.PrefixSelector)
			if err != nil {
				t.Fatal(err)
			}
			if !selector.Matches(labels.Set(prefix.Labels)) {
				continue
			}
			byName[policy.Name] = policy
			if before := byName[first]; policy.Spec.Strategy != "" && (before == nil || policy.CreationTimestamp.Before(&before.CreationTimestamp) ||
				policy.CreationTimestamp.Equal(&before.CreationTimestamp) && policy.Name < before.Name) {
				first = policy.Name
			}
		}
		if a, b := byName[counts], byName[other]; byName[of.Name] != nil && a != nil && b != nil && first == counts && oldest == counts &&
			string(a.Spec.Strategy) == strategy && string(b.Spec.Strategy) == differs && strategy != differs {
			return
		}
	}
	t.Errorf("%s is not true", message)
}

// TestStatus compares the status of the policies of random namespaces with that of a search through all objects.
func TestStatus(t *testing.T) {
	reasons := map[string]int{}
	for seed := range uint64(200) {
		w := newWorld(t, rand.New(rand.NewPCG(seed, 1)))
		found, err := w.controller.find(namespace)
		if err != nil {
			t.Fatal(err)
		}
		for _, policy := range w.policies {
			status := statusOf(policy, found[policy.Name])
			condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			reason, message, prefixes := w.want(t, policy)
			told := condition.Message
			if before, conflict, both := strings.Cut(told, ". PrefixPolicy "); both && reason == v1alpha1.ReasonReservedInUse {
				// It says both.
				told = before
				w.isConflict(t, policy, "PrefixPolicy "+conflict)
			}
			if reason == v1alpha1.ReasonStrategyConflict {
				w.isConflict(t, policy, told)
				told = message
			}
			if status.Prefixes != prefixes || condition.Reason != reason || told != message {
				t.Fatalf("seed %d, %s: %d Prefixes, not %d; %s %q, not %s %q", seed, policy.Name, status.Prefixes, prefixes,
					condition.Reason, condition.Message, reason, message)
			}
			reasons[reason]++
		}
	}
	if len(reasons) != 3 {
		t.Errorf("not all reasons were seen: %v", reasons)
	}
}

// TestQueue shows which events queue a namespace: those that may change the status of a policy of it.
func TestQueue(t *testing.T) {
	for name, test := range map[string]struct {
		event  func(*Controller, *v1alpha1.Prefix, *v1alpha1.PrefixAllocation)
		queued bool
	}{
		"a selected Prefix": {func(c *Controller, p *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) { c.prefixSeen(nil, p) }, true},
		"a Prefix that nothing selects": {func(c *Controller, p *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) {
			p.Labels = nil
			c.prefixSeen(nil, p)
		}, false},
		"a Prefix that is no longer selected": {func(c *Controller, p *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) {
			now := p.DeepCopy()
			now.Labels = nil
			c.prefixSeen(p, now)
		}, true},
		"a new status of a Prefix": {func(c *Controller, p *v1alpha1.Prefix, _ *v1alpha1.PrefixAllocation) {
			now := p.DeepCopy()
			now.Status.Used = []string{"10.0.0.0/32"}
			c.prefixSeen(p, now)
		}, false},
		"an allocation of reserved space": {func(c *Controller, _ *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) { c.allocationChanged(a) }, true},
		"an allocation of other space": {func(c *Controller, _ *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) {
			a.Status.Prefix = "10.0.0.77/32"
			c.allocationChanged(a)
		}, false},
		"an allocation of another namespace": {func(c *Controller, _ *v1alpha1.Prefix, a *v1alpha1.PrefixAllocation) {
			a.Namespace = "other"
			c.allocationChanged(a)
		}, false},
	} {
		factory := informers.NewSharedInformerFactory(nil, 0)
		kinds := factory.Ipam().V1alpha1()
		c, err := New(nil, kinds.PrefixPolicies(), kinds.Prefixes(), kinds.PrefixAllocations())
		if err != nil {
			t.Fatal(err)
		}
		policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p", UID: "p", Generation: 1}}
		policy.Spec.PrefixSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "1"}}
		policy.Spec.Reserved = []v1alpha1.PrefixReservation{{CIDR: "10.0.0.0/28"}}
		c.index.Set(policy)
		root := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "root", Labels: map[string]string{"pool": "1"}}}
		root.Spec.Prefix = "10.0.0.0/24"
		if err := kinds.Prefixes().Informer().GetIndexer().Add(root); err != nil {
			t.Fatal(err)
		}
		a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "a"}}
		a.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: "root"}
		a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, "10.0.0.3/32"
		// A pause that is over by the time of the event does not change what is queued.
		c.pauses.Store(namespace, time.Duration(1))
		recorded := &recording{Queue: c.queue}
		c.queue = recorded
		test.event(c, root.DeepCopy(), a)
		if (recorded.added > 0) != test.queued {
			t.Errorf("%s: the namespace is queued: %v", name, !test.queued)
		}
		c.queue.ShutDown()
	}
}

// TestPause shows that a namespace whose passes take long has few of them.
func TestPause(t *testing.T) {
	c := &Controller{}
	recorded := &recording{}
	c.queue = recorded
	c.changed(namespace, statusDelay)
	c.pauses.Store(namespace, time.Minute)
	c.changed(namespace, statusDelay)
	c.changed("other", policyDelay)
	if want := []time.Duration{statusDelay, time.Minute, policyDelay}; !slices.Equal(recorded.delays, want) {
		t.Errorf("delays %v, not %v", recorded.delays, want)
	}
}

// recording is a queue that records what is added.
type recording struct {
	queue.Queue
	added  int
	delays []time.Duration
}

func (r *recording) AddAfter(_ types.NamespacedName, delay time.Duration) {
	r.added++
	r.delays = append(r.delays, delay)
}
