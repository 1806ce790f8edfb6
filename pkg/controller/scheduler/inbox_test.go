// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/fake"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
)

// isIdle reports whether all events have been handled.
func (b *inbox) isIdle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queues) == 0
}

func (b *inbox) waitUntilIdle(t *testing.T) {
	t.Helper()
	eventually(t, "all events have been handled", b.isIdle)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not yet: %s", what)
		}
	}
}

// TestInboxOrder adds events while the first event of a namespace is being handled. The events of one object are
// merged into the first of them. An object with another uid is another object. Another namespace does not wait.
func TestInboxOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox()
		defer b.stop()
		var mu sync.Mutex
		var got []string
		put := func(namespace, name, uid, event string) {
			b.put(namespace, eventKey{"Prefix", name, types.UID(uid)}, func() {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, namespace+" "+event)
			})
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("handled %q, want %q", got, want)
			}
			got = nil
		}
		// Before the start, events are handled at once.
		put("one", "a", "1", "a is there")
		if len(got) != 1 {
			t.Error("was put off before the start")
		}
		expect("one a is there")

		b.start()
		gate := make(chan struct{})
		b.put("one", eventKey{"Prefix", "gate", "1"}, func() { <-gate })
		put("one", "a", "1", "a changes")
		put("one", "b", "1", "b is there")
		put("one", "a", "1", "a is gone")
		put("one", "a", "2", "a is there again")
		put("one", "b", "1", "b changes")
		put("two", "a", "1", "a is there")
		expect("two a is there")
		close(gate)
		expect("one a is gone", "one b changes", "one a is there again")
		if !b.isIdle() {
			t.Error("a namespace without events has a queue")
		}
	})
}

// TestInboxStops stops an inbox that has events. It waits for an event that is being handled, and drops the others.
func TestInboxStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox()
		b.start()
		gate, stopped := make(chan struct{}), make(chan struct{})
		handled := 0
		b.put("one", eventKey{name: "a"}, func() { <-gate; handled++ })
		b.put("one", eventKey{name: "b"}, func() { handled++ })
		synctest.Wait()
		go func() {
			b.stop()
			close(stopped)
		}()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("stopped while an event is being handled")
		default:
		}
		close(gate)
		<-stopped
		b.put("one", eventKey{name: "c"}, func() { handled++ })
		synctest.Wait()
		if handled != 1 || !b.isIdle() {
			t.Errorf("%d events were handled, want 1", handled)
		}
	})
}

// delivery is the sequence of events for the objects of one kind.
type delivery []func(h cache.ResourceEventHandler)

// add appends the event for a change of an object: a creation if it did not exist before, and a deletion if it does
// not exist now.
func add[T comparable](d *delivery, before, now, none T) {
	*d = append(*d, func(h cache.ResourceEventHandler) {
		switch {
		case before == none && now == none:
		case before == none:
			h.OnAdd(now, false)
		case now == none:
			h.OnDelete(before)
		default:
			h.OnUpdate(before, now)
		}
	})
}

// history returns the changes that random writers make to Prefixes and PrefixAllocations in some namespaces, and
// the names of the allocations that are Pending at the end.
func history(t *testing.T, random *rand.Rand, namespaces []string) (prefixes, allocations delivery, pending []types.NamespacedName) {
	pick := func(s ...string) string { return s[random.IntN(len(s))] }
	prefixesNow, allocationsNow := map[types.NamespacedName]*v1alpha1.Prefix{}, map[types.NamespacedName]*v1alpha1.PrefixAllocation{}
	for n := range 600 {
		meta := metav1.ObjectMeta{Namespace: pick(namespaces...), UID: types.UID(fmt.Sprint(n))}
		if random.IntN(2) == 0 {
			meta.Name = pick("p0", "p1", "p2", "p3")
			key := types.NamespacedName{Namespace: meta.Namespace, Name: meta.Name}
			before := prefixesNow[key]
			now := before.DeepCopy()
			switch {
			case random.IntN(4) == 0:
				now = nil
			case before == nil || random.IntN(6) == 0:
				now = &v1alpha1.Prefix{ObjectMeta: meta, Spec: v1alpha1.PrefixSpec{Prefix: pick("10.0.0.0/26", "10.0.0.0/27", "10.0.0.32/27")}}
				now.Status.Phase = v1alpha1.PrefixPhasePending
				if random.IntN(2) == 0 {
					now.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: pick("p0", "p1", "p2", "p3")}
				}
			case random.IntN(2) == 0:
				now.Labels = map[string]string{"net": pick("a", "b")}
			case random.IntN(4) == 0:
				isDeleting(now)
			default:
				now.Status.Phase = v1alpha1.PrefixPhaseAllocated
			}
			prefixesNow[key] = now
			add(&prefixes, before, now, nil)
			continue
		}
		meta.Name = fmt.Sprintf("c%d", random.IntN(8))
		key := types.NamespacedName{Namespace: meta.Namespace, Name: meta.Name}
		before := allocationsNow[key]
		now := before.DeepCopy()
		switch {
		case before == nil || random.IntN(6) == 0:
			now = &v1alpha1.PrefixAllocation{ObjectMeta: meta, Status: v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending}}
		case random.IntN(3) == 0:
			now = nil
		case before.Status.Phase != v1alpha1.PrefixAllocationPhasePending:
			now.Labels = map[string]string{"n": fmt.Sprint(n)}
		case random.IntN(4) == 0:
			now.Status.Phase = v1alpha1.PrefixAllocationPhaseFailed
		default:
			// Some of them overlap, because the index must accept contradictory facts.
			now.Status.Phase = v1alpha1.PrefixAllocationPhaseAllocated
			now.Status.Prefix = fmt.Sprintf("10.0.0.%d/30", 4*random.IntN(16))
			now.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: pick("p0", "p1", "p2", "p3")}
		}
		allocationsNow[key] = now
		add(&allocations, before, now, nil)
	}
	for key, a := range allocationsNow {
		if a != nil && a.Status.Phase == v1alpha1.PrefixAllocationPhasePending {
			pending = append(pending, key)
		}
	}
	if len(prefixes) == 0 || len(allocations) == 0 || len(pending) == 0 {
		t.Fatal("nothing happens: this test does not see what it is about")
	}
	return prefixes, allocations, pending
}

// facts describes the whole content of an index.
func facts(x *index) []string {
	var all []string
	x.mu.Lock()
	names := slices.Collect(maps.Keys(x.namespaces))
	x.mu.Unlock()
	for _, name := range names {
		ns := x.lock(name)
		for _, p := range ns.parents {
			var inUse []netip.Prefix
			if p.usable() {
				inUse = slices.Collect(p.pool().All())
			}
			children := slices.Sorted(slices.Values(p.children(nil)))
			all = append(all, fmt.Sprintf("%s/%s below %q: uid %s, labels %s, prefix %s, ready %v, deleting %v, children %v, %d held, in use %v",
				name, p.name, p.up.name, p.uid, labels.Set(p.labels), p.prefix, p.ready, p.deleting, children, p.ledger.Len(), inUse))
		}
		for uid, h := range ns.holders {
			prefix, _ := h.parent.ledger.Get(uid)
			all = append(all, fmt.Sprintf("%s/%s with uid %s holds %s of %s", name, h.name, uid, prefix, h.parent.name))
		}
		for w := range ns.pending {
			all = append(all, fmt.Sprintf("%s/%s is pending", name, w))
		}
		x.unlock(ns)
	}
	slices.Sort(all)
	return all
}

// TestEventsInAnyInterleaving delivers the events of both informers concurrently, while namespaces are busy some of
// the time. The final index must equal one that handles each event at once.
func TestEventsInAnyInterleaving(t *testing.T) {
	namespaces := []string{"one", "two", "three"}
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 2))
		prefixes, allocations, pending := history(t, random, namespaces)

		naive := newDesk(t)
		for _, event := range prefixes {
			event(naive.prefixHandler())
		}
		for _, event := range allocations {
			event(naive.allocationHandler())
		}
		want := facts(naive.index)

		d := newDesk(t)
		// Some events arrive before the start.
		early := random.IntN(len(prefixes) / 2)
		for _, event := range prefixes[:early] {
			event(d.prefixHandler())
		}
		d.inbox.start()
		var informers, busy sync.WaitGroup
		delivered := make(chan struct{})
		for i, name := range namespaces {
			random := rand.New(rand.NewPCG(seed, uint64(10+i)))
			busy.Go(func() {
				// The first namespace is busy all the time, so all events that can be merged are merged.
				for i == 0 {
					ns := d.index.lock(name)
					<-delivered
					d.index.unlock(ns)
					return
				}
				for {
					ns := d.index.lock(name)
					time.Sleep(time.Duration(random.IntN(20)) * time.Microsecond)
					d.index.unlock(ns)
					select {
					case <-delivered:
						return
					default:
					}
				}
			})
		}
		deliver := func(events delivery, h cache.ResourceEventHandler, random *rand.Rand) {
			informers.Go(func() {
				for _, event := range events {
					if random.IntN(10) == 0 {
						time.Sleep(time.Duration(random.IntN(20)) * time.Microsecond)
					}
					event(h)
				}
			})
		}
		deliver(prefixes[early:], d.prefixHandler(), rand.New(rand.NewPCG(seed, 20)))
		deliver(allocations, d.allocationHandler(), rand.New(rand.NewPCG(seed, 21)))
		informers.Wait()
		close(delivered)
		busy.Wait()
		d.inbox.waitUntilIdle(t)

		if got := facts(d.index); !slices.Equal(got, want) {
			t.Errorf("seed %d: got\n%s\nwant\n%s", seed, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		queued := map[types.NamespacedName]bool{}
		for d.queue.Len() > 0 {
			name, _ := d.queue.Get()
			queued[name] = true
		}
		for _, name := range pending {
			if !queued[name] {
				t.Errorf("seed %d: %s is not to be scheduled", seed, name)
			}
		}
		d.inbox.stop()
		if t.Failed() {
			return
		}
	}
}

// TestNamespacesDoNotWaitForEachOther blocks the handling of an event of one namespace. The following events of
// that namespace wait and occupy no worker. A request of another namespace is scheduled meanwhile. When the
// scheduler has ended, no goroutine remains.
func TestNamespacesDoNotWaitForEachOther(t *testing.T) {
	client := fake.NewClientset()
	bound := make(chan string, 10)
	client.PrependReactor("create", "prefixallocations", func(action clienttesting.Action) (bool, kruntime.Object, error) {
		if action.GetSubresource() != "binding" {
			return false, nil, nil
		}
		bound <- action.GetNamespace()
		return true, &v1alpha1.PrefixAllocation{}, nil
	})
	prefixes, allocations := watch.NewFake(), watch.NewFake()
	client.PrependWatchReactor("prefixes", clienttesting.DefaultWatchReactor(prefixes, nil))
	client.PrependWatchReactor("prefixallocations", clienttesting.DefaultWatchReactor(allocations, nil))
	factory := externalversions.NewSharedInformerFactory(client, 0)
	informers := factory.Ipam().V1alpha1()
	s, err := New(client, informers.Prefixes(), informers.PrefixAllocations(), informers.PrefixPolicies(), nil, events.NewFakeRecorder(100), Pack, 1)
	if err != nil {
		t.Fatal(err)
	}
	factory.StartWithContext(t.Context())
	ended := make(chan error)
	ctx, end := context.WithCancel(t.Context())
	go func() { ended <- s.Run(ctx) }()
	eventually(t, "the scheduler has started", s.inbox.hasStarted)

	create := func(namespace string) {
		t.Helper()
		root, a := prefix("root", "10.0.0.0/24"), allocation("a", 28)
		root.Namespace, a.Namespace = namespace, namespace
		prefixes.Add(root)
		eventually(t, "the Prefix is known, or the namespace is busy with it", func() bool {
			_, err := informers.Prefixes().Lister().Prefixes(namespace).Get("root")
			return err == nil && (namespace == "small" || !s.inbox.isIdle())
		})
		allocations.Add(a)
	}
	expect := func(namespace string) {
		t.Helper()
		select {
		case got := <-bound:
			if got != namespace {
				t.Errorf("a request of namespace %s was served, want %s", got, namespace)
			}
		case <-time.After(time.Minute):
			t.Errorf("the request of namespace %s was not served", namespace)
		}
	}
	large := s.index.lock("large")
	create("large")
	create("small")
	expect("small")
	s.index.unlock(large)
	expect("large")

	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	buffer := make([]byte, 1<<20)
	if stacks := string(buffer[:runtime.Stack(buffer, true)]); strings.Contains(stacks, "scheduler.(*inbox)") {
		t.Errorf("a goroutine is left:\n%s", stacks)
	}
}

// counting counts the evaluations of a selector.
type counting struct {
	labels.Selector
	count *int
}

func (c counting) Matches(l labels.Labels) bool {
	*c.count++
	return c.Selector.Matches(l)
}

// TestWorkForALabel removes a label from a Prefix with very many children, while there are requests with very many
// selectors. The work must be proportional to the number of children for the affected selectors, and to the number
// of selectors for the Prefix itself, but not to the product of both.
func TestWorkForALabel(t *testing.T) {
	const many = 500
	f, asked := newFixture(Pack), 0
	f.set(prefix("root", "10.0.0.0/8", labelled("pool", "a")))
	for i := range many {
		// The children are large enough for the requests, but full.
		name := fmt.Sprintf("child-%d", i)
		f.set(prefix(name, fmt.Sprintf("10.%d.%d.0/31", i/256, i%256), labelled("pool", "a"), below("root")))
		f.holds("left-of-"+name, name, fmt.Sprintf("10.%d.%d.0/32", i/256, i%256))
		f.holds("right-of-"+name, name, fmt.Sprintf("10.%d.%d.1/32", i/256, i%256))
	}
	f.holds("all", "root", "10.0.0.0/9")
	f.holds("rest", "root", "10.128.0.0/9")
	for i := range many {
		c := want(t, fmt.Sprintf("c%d", i), "IPv4/32", fmt.Sprintf("net=n%d", i))
		c.selector = counting{c.selector, &asked}
		f.assume(c)
	}
	c := want(t, "affected", "IPv4/32", "pool=a")
	c.selector = counting{c.selector, &asked}
	f.assume(c)
	for _, option := range []parentOption{labelled("pool", "b"), labelled("pool", "a"), labelled("pool", "b")} {
		asked = 0
		f.set(prefix("root", "10.0.0.0/8", option))
		if most := 20 * many; asked > most {
			t.Errorf("%d selectors were asked, want %d at most", asked, most)
		}
	}
	// The affected requests are scheduled.
	f.takeWoken()
	f.gone("left-of-child-7")
	if woken := f.takeWoken(); !slices.Equal(woken, []string{"affected"}) {
		t.Errorf("woken: %v", woken)
	}
}

// TestWorkForSelectorsOfOthers has very many requests of another namespace with a selector each. The work for a change of a
// shared Prefix is limited. All of them are tried again, and served when there is room.
func TestWorkForSelectorsOfOthers(t *testing.T) {
	const many = 3 * maxSelectors
	f, asked := newFixture(Pack), 0
	f.setPolicy(with(rules("shared", ""), func(spec *v1alpha1.PrefixPolicySpec) { spec.SharedWith = &v1alpha1.PrefixSharing{All: true} }))
	f.set(prefix("root", "10.0.0.0/16", labelled("net", "a")))
	f.holds("one", "root", "10.0.0.0/17")
	f.holds("two", "root", "10.0.128.0/17")
	var others []candidate
	for i := range many {
		c := want(t, fmt.Sprintf("c%d", i), "IPv4/32", fmt.Sprintf("net=n%d", i))
		c.selector, c.name.Namespace, c.parentNamespace = counting{c.selector, &asked}, "other", ns
		if _, why := f.assume(c); why == nil || why.reason != v1alpha1.ReasonNotShared {
			t.Fatalf("%+v", why)
		}
		others = append(others, c)
	}
	if again := f.takeRefreshed(); len(again) != many-maxSelectors {
		t.Errorf("%d are tried again, want %d", len(again), many-maxSelectors)
	}
	named := want(t, "named", "IPv4/32", "root")
	named.name.Namespace = "other"
	if _, why := f.assume(named); why == nil || why.reason != v1alpha1.ReasonParentExhausted {
		t.Fatalf("%+v", why)
	}
	for _, change := range []func(){
		func() { f.gone("one") },
		func() { f.set(prefix("child", "10.0.0.0/24", labelled("net", "b"), below("root"))) },
		func() { f.set(prefix("root", "10.0.0.0/16", labelled("net", "c"))) },
	} {
		asked = 0
		change()
		if most := 10 * maxSelectors; asked > most {
			t.Errorf("%d selectors were asked, want %d at most", asked, most)
		}
	}
	// The first change gave room to the one that names its parent.
	if woken := f.takeWoken(); !slices.Equal(woken, []string{"named"}) {
		t.Errorf("woken: %v", woken)
	}
	f.set(prefix("last", "10.1.0.0/16", labelled("net", fmt.Sprintf("n%d", many-1))))
	if _, why := f.assume(others[many-1]); why != nil {
		t.Errorf("not served when it is tried again: %s", why.message())
	}
	// The namespace of the parents itself has no such limit.
	f.takeRefreshed()
	for i := range many {
		f.assume(want(t, fmt.Sprintf("own%d", i), "IPv4/32", fmt.Sprintf("net=m%d", i)))
	}
	if again := f.takeRefreshed(); len(again) > 0 {
		t.Errorf("%d are tried again", len(again))
	}
}

// TestRevealedIsServed removes a label from a Prefix that hides its descendants from a selector. The outermost
// descendants then serve the waiting requests. The message of a request that is scheduled is not refreshed.
func TestRevealedIsServed(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("root", "10.0.0.0/28", labelled("pool", "a")),
		prefix("middle", "10.0.0.0/29", below("root")),
		prefix("inner", "10.0.0.0/30", labelled("pool", "a"), below("middle")),
		prefix("innermost", "10.0.0.0/31", labelled("pool", "a"), below("inner")))
	f.holds("lower", "root", "10.0.0.0/29")
	f.holds("upper", "root", "10.0.0.8/29")
	f.assume(want(t, "c", "IPv4/32", "pool=a"))
	f.assume(want(t, "d", "IPv4/29", "pool=a"))
	f.takeRefreshed()
	f.set(prefix("root", "10.0.0.0/28"))
	if parent, _ := f.assumedFor("c"); parent != "inner" {
		t.Errorf("reserved of %q", parent)
	}
	if woken := f.takeWoken(); !slices.Equal(woken, []string{"c"}) {
		t.Errorf("woken: %v", woken)
	}
	if refreshed := f.takeRefreshed(); !slices.Equal(refreshed, []string{"d"}) {
		t.Errorf("refreshed: %v", refreshed)
	}
}
