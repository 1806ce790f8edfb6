// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func nameOf(namespace string, n int) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: strconv.Itoa(n)}
}

// TestNamespacesTakeTurns adds very many names of one namespace, and then one of another. In a FIFO queue that one
// would be last.
func TestNamespacesTakeTurns(t *testing.T) {
	q := New("")
	defer q.ShutDown()
	const many = 10_000
	for i := range many {
		q.Add(nameOf("large", i))
	}
	q.Add(nameOf("small", 0))
	q.Add(nameOf("small", 0))
	if q.Len() != many+1 {
		t.Fatalf("has %d names", q.Len())
	}
	for i := range 3 {
		name, _ := q.Get()
		if name == nameOf("small", 0) {
			return
		}
		t.Logf("%d: %s", i, name)
		q.Done(name)
	}
	t.Error("a namespace with one name waits for one with very many")
}

// TestTurnsAgainstModel adds and gets names in random order. The next name is the first one of the namespace whose
// last turn is the longest ago.
func TestTurnsAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		queue := newTurns()
		// all contains the names in the order in which they were added. turn is the last turn of each namespace.
		var all []types.NamespacedName
		turn := map[string]int{}
		for step := range 1000 {
			if random.IntN(2) == 0 || len(all) == 0 {
				name := nameOf(fmt.Sprint(random.IntN(5)), step)
				if !slices.ContainsFunc(all, func(n types.NamespacedName) bool { return n.Namespace == name.Namespace }) {
					// A namespace without names is queued behind those that have some.
					turn[name.Namespace] = step
				}
				all = append(all, name)
				queue.Push(name)
				queue.Touch(name)
			} else {
				want := all[0]
				for _, name := range all {
					if turn[name.Namespace] < turn[want.Namespace] {
						want = name
					}
				}
				if got := queue.Pop(); got != want {
					t.Fatalf("seed %d, step %d: got %s, want %s", seed, step, got, want)
				}
				turn[want.Namespace] = step
				all = slices.DeleteFunc(all, func(n types.NamespacedName) bool { return n == want })
			}
			if queue.Len() != len(all) {
				t.Fatalf("seed %d, step %d: has %d, want %d", seed, step, queue.Len(), len(all))
			}
		}
		for len(all) > 0 {
			got := queue.Pop()
			all = slices.DeleteFunc(all, func(n types.NamespacedName) bool { return n == got })
		}
		if queue.Len() != 0 || len(queue.names) != 0 || len(queue.order) != 0 {
			t.Errorf("seed %d: not empty: %+v", seed, queue)
		}
	}
}

// TestRetriesDoNotWaitForEachOther makes very many names fail once.
func TestRetriesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New("")
		defer q.ShutDown()
		const names = 5000
		for i := range names {
			q.AddRateLimited(nameOf("default", i))
		}
		time.Sleep(minDelay)
		synctest.Wait()
		if got := q.Len(); got != names {
			t.Errorf("%d of %d are tried again after %v", got, names, minDelay)
		}
	})
}

// TestBackoff makes one name fail repeatedly.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New("")
		defer q.ShutDown()
		name := nameOf("default", 0)
		for n := range 20 {
			delay := min(minDelay<<n, maxDelay)
			q.AddRateLimited(name)
			time.Sleep(delay - time.Nanosecond)
			synctest.Wait()
			if q.Len() != 0 {
				t.Fatalf("tried again before %v", delay)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if q.Len() != 1 {
				t.Fatalf("not tried again after %v", delay)
			}
			got, _ := q.Get()
			q.Done(got)
		}
		if q.NumRequeues(name) != 20 {
			t.Errorf("failed %d times", q.NumRequeues(name))
		}
		q.Forget(name)
		if q.NumRequeues(name) != 0 {
			t.Errorf("failed %d times", q.NumRequeues(name))
		}
	})
}

// TestBackoffOfMany makes very many names of a namespace fail permanently. They are retried less often. The names
// of another namespace are retried as often as before.
func TestBackoffOfMany(t *testing.T) {
	b := newBackoff()
	const many = 10_000
	for range 40 {
		for i := range many {
			b.When(nameOf("large", i))
		}
		b.When(nameOf("small", 0))
	}
	if got, want := b.When(nameOf("large", 0)), many*spacing; got != want {
		t.Errorf("one of many waits for %v, want %v", got, want)
	}
	if got := b.When(nameOf("small", 0)); got != maxDelay {
		t.Errorf("one alone waits for %v, want %v", got, maxDelay)
	}
	for i := range many {
		b.Forget(nameOf("large", i))
	}
	b.Forget(nameOf("small", 0))
	b.Forget(nameOf("never", 0))
	if len(b.failures) != 0 {
		t.Errorf("%d namespaces are remembered", len(b.failures))
	}
}
