// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// An API server that is killed before or after any of its writes, and started anew, leaves nothing
// behind that the controllers do not bring to a good end, and takes back nothing that it has said.
func TestKilledServer(t *testing.T) {
	for _, scenario := range []struct {
		name string
		// prepare makes what there has to be before, and act does what the server is killed in.
		prepare, act func(*killing)
		// atLeast is how many writes there are at least.
		atLeast int
	}{
		// Create the child, create the allocation, bind it, count it, complete the child.
		{"bind", func(*killing) {}, (*killing).createChild, 5},
		// Mark the child, remove it, release the allocation, count it.
		{"release", (*killing).createChild, (*killing).deleteChild, 4},
		// Mark the parent, tell that it has children, release the child as above, remove the parent.
		{"parent deletion", func(k *killing) {
			k.createParent()
			k.createChild()
		}, func(k *killing) {
			k.deleteParent()
			k.deleteChild()
		}, 6},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			k := newKilling(t)
			kills := 0
			for step := 1; ; step++ {
				killed := false
				for _, after := range []bool{false, true} {
					if !long && !after && step%2 != 0 {
						continue
					}
					k.begin()
					k.do(scenario.prepare)
					if k.doAndKill(scenario.act, step, after) {
						kills, killed = kills+1, true
					}
				}
				if !killed {
					if step <= scenario.atLeast {
						t.Errorf("The server was only killed at %d writes", step-1)
					}
					break
				}
			}
			t.Logf("%d kills one at a time", kills)

			// Several at a time, with writes of all of them in between each other.
			random := newRand(1)
			for kills < times(0, 70) {
				k.begin()
				k.parallel = 1 + random.IntN(4)
				k.do(scenario.prepare)
				if k.doAndKill(scenario.act, 1+random.IntN(5*k.parallel), random.IntN(2) == 0) {
					kills++
				}
			}
			t.Logf("%d kills", kills)
			k.audited()
			observed(t, k.observer)
		})
	}
}

// killing is a cluster whose server is killed.
type killing struct {
	*cluster
	*observer
	manager *process.Process
	random  *rand.Rand

	// round is how many rounds there were, and parallel how many children it is about.
	round, parallel int
	// parent is the one that children are allocated from.
	parent string

	mu sync.Mutex
	// acknowledged are the names of the Prefixes that the server said were created, and deleted those
	// that are to be deleted.
	acknowledged map[string]types.UID
	deleted      map[string]bool
}

func newKilling(t testing.TB) *killing {
	c := newCluster(t, 1, true)
	k := &killing{
		cluster: c, observer: c.servers[0].observe(time.Now()),
		manager: c.servers[0].startManager(), random: newRand(2),
		acknowledged: map[string]types.UID{}, deleted: map[string]bool{},
	}
	k.parent = "parent"
	k.createPrefix(harness.Root("parent", "10.0.0.0/16"))
	return k
}

// begin begins a round.
func (k *killing) begin() {
	k.round++
	k.parallel, k.parent = 1, "parent"
}

func (k *killing) childName(i int) string { return fmt.Sprintf("child-%d-%d", k.round, i) }

// each calls a function for every child of the round, at the same time.
func (k *killing) each(f func(name string)) {
	var wg sync.WaitGroup
	for i := range k.parallel {
		wg.Go(func() { f(k.childName(i)) })
	}
	wg.Wait()
}

func (k *killing) createParent() {
	k.parent = fmt.Sprintf("parent-%d", k.round)
	k.createPrefix(harness.Root(k.parent, "192.168.0.0/24"))
}

func (k *killing) createChild() {
	parent := k.parent
	k.each(func(name string) {
		p := harness.Child(name, parent, harness.Length(28))
		if k.round%3 == 0 {
			// Every bind takes its claim, whichever way it was chosen.
			p.Spec.IPFamily, p.Spec.ParentRef, p.Spec.ParentSelector = v1alpha1.IPv4, nil, &metav1.LabelSelector{MatchLabels: map[string]string{"name": parent}}
		}
		k.createPrefix(p)
	})
}

func (k *killing) deleteChild()  { k.each(k.deletePrefix) }
func (k *killing) deleteParent() { k.deletePrefix(k.parent) }

// createPrefix creates a Prefix, as often as it takes.
func (k *killing) createPrefix(p *v1alpha1.Prefix) {
	p.Labels = map[string]string{"name": p.Name}
	k.persist(func(ctx context.Context) error {
		created, err := k.servers[0].prefixes().Create(ctx, p, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			// It was created before, but the answer got lost.
			return nil
		}
		if err == nil {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.acknowledged[p.Name] = created.UID
		}
		return err
	})
}

// deletePrefix deletes a Prefix, as often as it takes.
func (k *killing) deletePrefix(name string) {
	k.mu.Lock()
	k.deleted[name] = true
	k.mu.Unlock()
	k.persist(func(ctx context.Context) error {
		err := k.servers[0].prefixes().Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// persist tries until it succeeds.
func (k *killing) persist(f func(ctx context.Context) error) {
	for end := time.Now().Add(harness.Patience); ; time.Sleep(10 * time.Millisecond) {
		err := f(context.Background())
		if err == nil {
			return
		}
		if time.Now().After(end) || apierrors.IsInvalid(err) {
			k.Errorf("Not in time: %v", err)
			return
		}
	}
}

// do does something, and returns when it has come to its end.
func (k *killing) do(act func(*killing)) {
	act(k)
	harness.Eventually(k, "everything in order", k.inOrder)
}

// doAndKill does something, kills the server before or after one of the writes for it, starts it
// anew, and returns when it has come to its end. It reports whether there were so many writes.
func (k *killing) doAndKill(act func(*killing), step int, after bool) bool {
	k.Helper()
	s := k.servers[0]
	killed := make(chan struct{})
	var mu sync.Mutex
	n := 0
	k.proxy.intercept(func(_ *pb.TxnRequest, commit func() (*pb.TxnResponse, error)) (*pb.TxnResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		switch {
		case n < step:
			return commit()
		case n == step:
			if after {
				if _, err := commit(); err != nil {
					k.Errorf("etcd: %v", err)
				}
			}
			s.Kill()
			close(killed)
		}
		return nil, errLost
	})
	defer k.proxy.intercept(nil)

	acted := make(chan struct{})
	go func() {
		defer close(acted)
		act(k)
	}()
	inOrder := make(chan struct{})
	go func() {
		defer close(inOrder)
		<-acted
		for end := time.Now().Add(harness.Patience); k.inOrder() != nil && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
	}()
	wasKilled := false
	select {
	case <-killed:
		wasKilled = true
		k.proxy.intercept(nil)
		if k.round%2 == 0 {
			// The controllers die with it, half of the times.
			k.manager.Kill()
		}
		s.restart()
		if k.manager.HasEnded() {
			k.manager = s.startManager()
		}
	case <-inOrder:
	}
	<-inOrder
	if err := k.inOrder(); err != nil {
		k.Fatalf("Round %d, killed at write %d (after it: %v): not in order in time: %v", k.round, step, after, err)
	}
	k.audited()
	if k.Failed() {
		k.Fatalf("Round %d, killed at write %d (after it: %v)", k.round, step, after)
	}
	return wasKilled
}

// inOrder tells what is not as it should be in the end: everything is Allocated, or gone if it was
// deleted, everything that was acknowledged is there, and parents count what is allocated from them.
func (k *killing) inOrder() error {
	all, err := k.servers[0].list()
	if err != nil {
		return err
	}
	var errs []error
	allocations := map[string]int64{}
	for _, a := range all.allocations {
		if a.Spec.PrefixRef != nil {
			allocations[a.Spec.PrefixRef.Name]++
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	there := map[string]types.UID{}
	for _, p := range all.prefixes {
		there[p.Name] = p.UID
		switch {
		case k.deleted[p.Name]:
			errs = append(errs, fmt.Errorf("%s is not gone", p.Name))
		case p.Status.Phase != v1alpha1.PrefixPhaseAllocated:
			errs = append(errs, fmt.Errorf("%s is %s", p.Name, p.Status.Phase))
		case allocations[p.Name] > 0 && p.Status.Usage == nil, p.Status.Usage != nil && p.Status.Usage.Allocations != allocations[p.Name]:
			errs = append(errs, fmt.Errorf("%s has %d allocations: %v", p.Name, allocations[p.Name], p.Status.Usage))
		}
	}
	for name, uid := range k.acknowledged {
		if !k.deleted[name] && there[name] != uid {
			errs = append(errs, fmt.Errorf("the creation of %s was acknowledged, and it is not there", name))
		}
	}
	return errors.Join(append(errs, k.checkKept(all, k.deleted), all.check())...)
}
