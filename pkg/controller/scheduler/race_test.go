// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestNoLostWakeUps runs many workers and a server that refuses some binds, while parents are created, deleted and
// relabelled, and allocations are deleted and recreated, in two namespaces. The events go through an inbox. In the
// end no request waits for a place that exists, and no allocations overlap.
func TestNoLostWakeUps(t *testing.T) {
	for seed := range uint64(5) {
		noLostWakeUps(t, seed)
	}
}

func noLostWakeUps(t *testing.T, seed uint64) {
	t.Helper()
	q := queue.New("")
	defer q.ShutDown()
	x, in := newIndex(Pack, q.Add, q.AddAfter), newInbox()
	in.start()
	defer in.stop()
	setPrefix := func(p *v1alpha1.Prefix) {
		in.put(p.Namespace, eventKey{v1alpha1.PrefixKind, p.Name, p.UID}, func() { x.setPrefix(p) })
	}
	var mu sync.Mutex
	namespaces := []string{"one", "two"}
	// Some of the allocations ask for parents of the other namespace.
	parentNamespace := func(name types.NamespacedName) string {
		if strings.HasSuffix(name.Name, "3") == (name.Namespace == "one") {
			return "one"
		}
		return "two"
	}
	generations := map[string]int64{}
	share := func(namespace string, with *v1alpha1.PrefixSharing) {
		mu.Lock()
		defer mu.Unlock()
		generations[namespace]++
		policy := &v1alpha1.PrefixPolicy{Spec: v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}, SharedWith: with}}
		policy.Namespace, policy.Name, policy.UID, policy.Generation = namespace, "share", "share", generations[namespace]
		in.put(namespace, eventKey{v1alpha1.PrefixPolicyKind, "share", "share"}, func() { x.setPolicy(policy) })
	}
	const count = 60
	// uids contains the existing allocations by name. bound contains those that the server has accepted. It does
	// not refuse to bind them again.
	uids, bound := map[types.NamespacedName]types.UID{}, map[types.UID]bool{}
	candidateFor := func(name types.NamespacedName) (candidate, bool) {
		mu.Lock()
		defer mu.Unlock()
		uid, exists := uids[name]
		var n int
		if _, err := fmt.Sscanf(name.Name, "c%d", &n); err != nil {
			t.Error(err)
		}
		c := want(t, name.Name, []string{"IPv4/32", "IPv4/31", "IPv4/30", "10.0.0.4/31"}[n%4], []string{"net=a", "p1", "net=b"}[n%3])
		c.name, c.uid, c.parentNamespace = name, uid, parentNamespace(name)
		return c, exists
	}

	var busy atomic.Int64
	var workers, churn sync.WaitGroup
	for n := range 8 {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		workers.Go(func() {
			for {
				name, shutdown := q.Get()
				if shutdown {
					return
				}
				busy.Add(1)
				if c, exists := candidateFor(name); !exists {
					x.abandon(name)
				} else if place, why := x.assume(c); why == nil {
					outcome := random.IntN(5)
					mu.Lock()
					if uids[name] != c.uid {
						// The server answers that there is no such allocation, and it is tried again.
						outcome = 0
					} else if bound[c.uid] {
						outcome = 2
					} else if outcome > 2 {
						bound[c.uid] = true
						in.put(name.Namespace, eventKey{v1alpha1.PrefixAllocationKind, name.Name, c.uid}, func() {
							x.hold(name, c.uid, place.parent, place.prefix)
						})
					}
					mu.Unlock()
					switch outcome {
					case 0:
						x.forgetAssumed(name)
						q.Add(name)
					case 1:
						x.recordRefusal(name, place, false, "no")
						x.forgetRefusals(c)
						q.Add(name)
					case 2:
						// The response is lost. The informer soon delivers the bound allocation as Allocated.
						mu.Lock()
						if !bound[c.uid] {
							q.Add(name)
						}
						mu.Unlock()
					}
				} else if now, exists := candidateFor(name); !exists || now.uid != c.uid {
					x.forget(name, c.uid, c.parentNamespace)
				} else if why.reason == "Refused" {
					x.forgetRefusals(c)
					q.Add(name)
				}
				q.Done(name)
				busy.Add(-1)
			}
		})
	}
	for n := range 4 {
		random := rand.New(rand.NewPCG(seed, uint64(100+n)))
		churn.Go(func() {
			for step := range 1500 {
				namespace := namespaces[random.IntN(2)]
				if random.IntN(3) > 0 {
					name := types.NamespacedName{Namespace: namespace, Name: fmt.Sprintf("c%d", random.IntN(count))}
					mu.Lock()
					if uid, exists := uids[name]; exists {
						delete(uids, name)
						in.put(namespace, eventKey{v1alpha1.PrefixAllocationKind, name.Name, uid}, func() { x.forget(name, uid, parentNamespace(name)) })
					} else {
						uid := types.UID(fmt.Sprintf("%d-%d-%s", n, step, name))
						uids[name] = uid
						in.put(namespace, eventKey{v1alpha1.PrefixAllocationKind, name.Name, uid}, func() { q.Add(name) })
					}
					mu.Unlock()
					continue
				}
				switch random.IntN(20) {
				case 0:
					share(namespace, nil)
				case 1:
					share(namespace, &v1alpha1.PrefixSharing{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"in": "yes"}}})
				case 2:
					in.put(namespace, eventKey{kind: "Namespace", name: namespace}, func() { x.setNamespace(namespace, map[string]string{"in": "yes"}) })
				case 3:
					in.put(namespace, eventKey{kind: "Namespace", name: namespace}, func() { x.setNamespace(namespace, nil) })
				}
				parent := fmt.Sprintf("p%d", random.IntN(3))
				p := prefix(parent, []string{"10.0.0.0/28", "10.0.0.0/29", "10.0.1.0/29"}[parent[1]-'0'], labelled("net", []string{"a", "b"}[random.IntN(2)]))
				p.Namespace = namespace
				if parent == "p2" {
					below("p0")(p)
				}
				switch random.IntN(6) {
				case 0:
					isDeleting(p)
				case 1:
					isPending(p)
				}
				setPrefix(p)
			}
		})
	}
	churn.Wait()
	for _, namespace := range namespaces {
		share(namespace, &v1alpha1.PrefixSharing{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"in": "yes"}}})
		in.put(namespace, eventKey{kind: "Namespace", name: namespace}, func() { x.setNamespace(namespace, map[string]string{"in": "yes"}) })
		for i, label := range []string{"a", "b", "b"} {
			p := prefix(fmt.Sprintf("p%d", i), []string{"10.0.0.0/28", "10.0.0.0/29", "10.0.1.0/29"}[i], labelled("net", label))
			p.Namespace = namespace
			if i == 2 {
				below("p0")(p)
			}
			setPrefix(p)
		}
	}
	// A single check can miss work that moves between the two. The next check sees it.
	for calm, deadline := 0, time.Now().Add(time.Minute); calm < 3; time.Sleep(5 * time.Millisecond) {
		if calm++; busy.Load() > 0 || q.Len() > 0 || !in.isIdle() {
			calm = 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("seed %d: %d are in the queue", seed, q.Len())
		}
	}
	q.ShutDown()
	workers.Wait()

	waiting, foreign := 0, 0
	for _, namespace := range namespaces {
		ns := x.lock(namespace)
		for w := range ns.waiting() {
			waiting++
			if p, prefix, ok := ns.choose(w); ok {
				t.Errorf("seed %d: %s waits, but there is %s of %s", seed, w.name, prefix, p.name)
			}
		}
		held := map[string][]netip.Prefix{}
		for name, uid := range uids {
			if _, holds := ns.holders[uid]; holds && name.Namespace != namespace {
				foreign++
			}
		}
		for uid, holder := range ns.holders {
			p := holder.parent
			prefix, _ := p.ledger.Get(uid)
			for _, other := range held[p.name] {
				if other.Overlaps(prefix) {
					t.Errorf("seed %d: %s and %s of %s are both held", seed, prefix, other, p.name)
				}
			}
			held[p.name] = append(held[p.name], prefix)
		}
		mu.Lock()
		for name, uid := range uids {
			if _, holds := ns.holders[uid]; parentNamespace(name) == namespace && !holds {
				if w := ns.pending[name]; w == nil || w.target == nil {
					t.Errorf("seed %d: %s neither holds anything nor waits", seed, name)
				}
			}
		}
		mu.Unlock()
		x.unlock(ns)
	}
	if foreign == 0 {
		t.Errorf("seed %d: nothing of another namespace is held: the test does not see what it is about", seed)
	}
	x.mu.Lock()
	for name := range x.parentNamespaces {
		if _, exists := uids[name]; !exists {
			t.Errorf("seed %d: %s is gone, but the index has the namespace of its parents", seed, name)
		}
	}
	x.mu.Unlock()
	if waiting == 0 {
		t.Errorf("seed %d: nothing waits: the test does not see what it is about", seed)
	}
}
