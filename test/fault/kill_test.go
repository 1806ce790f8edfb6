// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestKilledServer kills an API server before or after each of its writes, and restarts it. The controllers then
// complete all unfinished work, and nothing that the server has acknowledged is taken back.
func TestKilledServer(t *testing.T) {
	for _, scenario := range []struct {
		name string
		// prepare creates the initial state. act is the action during which the server is killed.
		prepare, act func(*killing)
		// atLeast is the minimum number of writes.
		atLeast int
	}{
		// The writes: create the child, create the allocation, bind it, update the status of the parent, complete
		// the child.
		{"bind", func(*killing) {}, (*killing).createChild, 5},
		// The writes: mark the child as deleted, remove it, release the allocation, update the status of the
		// parent.
		{"release", (*killing).createChild, (*killing).deleteChild, 4},
		// The writes: mark the child as deleted, remove it, make its space cool down, update the status of the parent.
		{"cooling down", func(k *killing) {
			k.parent, k.expect = "kept", k.expectTaken
			k.createChild()
		}, func(k *killing) {
			k.expect = k.expectCooling
			k.deleteChild()
		}, 4},
		// The writes: create the child, give it the space, complete it, update the status of the parent.
		{"taking back", func(k *killing) {
			k.parent, k.expect = "kept", k.expectTaken
			k.createChild()
			k.do(func(*killing) {})
			k.expect = k.expectCooling
			k.deleteChild()
		}, func(k *killing) {
			k.expect = k.expectTaken
			k.createChild()
		}, 4},
		// The writes: as for cooling down; then release the allocation, update the status of the parent.
		{"cooled down", func(k *killing) {
			k.parent = "brief"
			k.createChild()
		}, func(k *killing) {
			k.expect = k.expectReleased
			k.deleteChild()
		}, 5},
		// The writes: as for bind, of a child whose parent another namespace shares.
		{"sharing", func(k *killing) { k.child, k.parent = tenants[1], "shared" }, (*killing).createChild, 5},
		// The writes: change the policy and its status; create the child and its allocation, write why they wait; change the
		// policy and its status again; as for bind.
		{"consent", func(k *killing) {
			k.child, k.parent = tenants[1], "shared"
			k.createChild()
		}, func(k *killing) {
			k.share(false)
			k.offset = k.parallel
			k.createChild()
			k.awaitNotShared()
			k.share(true)
		}, 10},
		// The writes: mark the parent as deleted, set its condition, release the child as above, remove the parent.
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

			// Several children concurrently, so that their writes are interleaved.
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

	// round is the number of rounds so far. parallel is the number of children that are created or deleted at a time, and
	// offset that of the earlier ones in the round.
	round, parallel, offset int
	// parent is the one that children are allocated from, and child the namespace of the children.
	parent, child string

	// expect, if set, returns an error if the space of the children of the round is not as it should be.
	expect func(everything) error
	// had contains the prefixes that children have had.
	had map[string]string

	mu sync.Mutex
	// acknowledged contains the Prefixes whose creation the server has acknowledged. deleted contains those that
	// are to be deleted.
	acknowledged map[string]types.UID
	deleted      map[string]bool
}

func newKilling(t testing.TB) *killing {
	c := newCluster(t, 1, true)
	k := &killing{
		cluster: c, observer: c.servers[0].observe(time.Now()),
		manager: c.servers[0].startManager(), random: newRand(2),
		acknowledged: map[string]types.UID{}, deleted: map[string]bool{}, had: map[string]string{},
	}
	k.observer.cools = func(l *life) bool { return l.namespace == namespace && (l.parent == "kept" || l.parent == "brief") }
	k.parent = "parent"
	k.createPrefix(harness.Root("parent", "10.0.0.0/16"))
	k.createPrefix(harness.Root("kept", "10.1.0.0/16"))
	k.createPrefix(harness.Root("brief", "10.2.0.0/16"))
	k.createPrefix(harness.Root("shared", "10.3.0.0/16"))
	for name, coolDown := range map[string]time.Duration{"kept": time.Hour, "brief": time.Second} {
		policy := harness.Policy(name, nil, "name", name)
		policy.Spec.CoolDown = &metav1.Duration{Duration: coolDown}
		if _, err := c.servers[0].client.IpamV1alpha1().PrefixPolicies(namespace).Create(context.Background(), policy, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	shared := harness.Policy("shared", nil, "name", "shared")
	shared.Spec.SharedWith = &v1alpha1.PrefixSharing{All: true}
	if _, err := c.servers[0].client.IpamV1alpha1().PrefixPolicies(namespace).Create(context.Background(), shared, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return k
}

// prefixes are those of a namespace.
func (k *killing) prefixes(namespace string) ipamclient.PrefixInterface {
	return k.servers[0].client.IpamV1alpha1().Prefixes(namespace)
}

// share gives or withdraws the consent of the parent that is shared.
func (k *killing) share(with bool) { k.consent("shared", with) }

// consent gives or withdraws the consent of a policy.
func (k *killing) consent(policy string, with bool) {
	patch := []byte(`{"spec":{"sharedWith":null}}`)
	if with {
		patch = []byte(`{"spec":{"sharedWith":{"all":true}}}`)
	}
	k.persist(func(ctx context.Context) error {
		_, err := k.servers[0].client.IpamV1alpha1().PrefixPolicies(namespace).Patch(ctx, policy, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// awaitNotShared waits until the children that were created last say that their parent is not shared.
func (k *killing) awaitNotShared() {
	k.each(func(name string) {
		k.persist(func(ctx context.Context) error {
			p, err := k.prefixes(k.child).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				k.Errorf("%s is Allocated without consent", name)
				return nil
			}
			told := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
			return harness.Unless(told != nil && told.Reason == v1alpha1.ReasonNotShared, "%+v", told)
		})
	})
}

// begin starts a round.
func (k *killing) begin() {
	k.round++
	k.parallel, k.offset, k.parent, k.child, k.expect = 1, 0, "parent", namespace, nil
}

func (k *killing) childName(i int) string { return fmt.Sprintf("child-%d-%d", k.round, i) }

// each calls a function concurrently for every child of the round.
func (k *killing) each(f func(name string)) {
	var wg sync.WaitGroup
	for i := range k.parallel {
		wg.Go(func() { f(k.childName(k.offset + i)) })
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
		if p.Namespace = k.child; p.Namespace != namespace {
			p.Spec.ParentNamespace = namespace
		}
		if k.round%3 == 0 {
			// Every bind makes a claim, however the parent was chosen.
			p.Spec.IPFamily, p.Spec.ParentRef, p.Spec.ParentSelector = v1alpha1.IPv4, nil, &metav1.LabelSelector{MatchLabels: map[string]string{"name": parent}}
		}
		k.createPrefix(p)
	})
}

func (k *killing) deleteChild()  { k.each(k.deletePrefix) }
func (k *killing) deleteParent() { k.deletePrefix(k.parent) }

// createPrefix creates a Prefix, with as many attempts as necessary.
func (k *killing) createPrefix(p *v1alpha1.Prefix) {
	p.Labels = map[string]string{"name": p.Name}
	k.mu.Lock()
	delete(k.deleted, p.Name)
	delete(k.acknowledged, p.Name)
	k.mu.Unlock()
	k.persist(func(ctx context.Context) error {
		created, err := k.prefixes(cmp.Or(p.Namespace, namespace)).Create(ctx, p, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			// An earlier attempt created it, and the response was lost.
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

// cooling returns until when the space of each child of the round cools down, and its prefix.
func (k *killing) cooling(all everything) map[string]v1alpha1.PrefixAllocationStatus {
	found := map[string]v1alpha1.PrefixAllocationStatus{}
	for _, a := range all.allocations {
		if owner := metav1.GetControllerOfNoCopy(&a); owner != nil && a.Status.CoolingUntil != nil {
			found[owner.Name] = a.Status
		}
	}
	return found
}

// expectCooling checks that the space of the children of the round cools down.
func (k *killing) expectCooling(all everything) error {
	cooling := k.cooling(all)
	for i := range k.parallel {
		name := k.childName(i)
		if of, ok := cooling[name]; !ok || of.Prefix != k.had[name] || time.Until(of.CoolingUntil.Time) < 50*time.Minute {
			return fmt.Errorf("%s of %s does not cool down: %+v", k.had[name], name, of)
		}
	}
	return nil
}

// expectTaken checks that the children of the round have what they had.
func (k *killing) expectTaken(all everything) error {
	for _, p := range all.prefixes {
		if p.Status.Phase != v1alpha1.PrefixPhaseAllocated || p.Spec.ParentRef == nil {
			continue
		}
		if k.had[p.Name] == "" {
			k.had[p.Name] = p.Spec.Prefix
		}
		if k.had[p.Name] != p.Spec.Prefix {
			// It never gets it back.
			k.Errorf("%s had %s, and now has %s", p.Name, k.had[p.Name], p.Spec.Prefix)
		}
	}
	return nil
}

// expectReleased checks that no space of the children of the round is left.
func (k *killing) expectReleased(all everything) error {
	for _, a := range all.allocations {
		for i := range k.parallel {
			if owner := metav1.GetControllerOfNoCopy(&a); owner != nil && owner.Name == k.childName(i) {
				return fmt.Errorf("%s", harness.DescribeAllocation(&a))
			}
		}
	}
	return nil
}

// deletePrefix deletes a Prefix, with as many attempts as necessary.
func (k *killing) deletePrefix(name string) {
	k.mu.Lock()
	k.deleted[name] = true
	k.mu.Unlock()
	k.persist(func(ctx context.Context) error {
		err := k.prefixes(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// persist calls f until it succeeds.
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

// do runs an action and waits until everything is complete.
func (k *killing) do(act func(*killing)) {
	act(k)
	harness.Eventually(k, "everything in order", k.inOrder)
}

// doAndKill runs an action, kills the server before or after the write number step, restarts it, and waits until
// everything is complete. It reports whether there were that many writes.
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
			// Half of the time, kill the controllers, too.
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

// inOrder returns an error if the final state is wrong. Every Prefix must be Allocated, or gone if it was deleted,
// every acknowledged Prefix must exist, and parents must count their children.
func (k *killing) inOrder() error {
	all, err := k.servers[0].list()
	if err != nil {
		return err
	}
	var errs []error
	allocations := map[string]int64{}
	for _, a := range all.allocations {
		if a.Spec.PrefixRef != nil && a.Status.CoolingUntil == nil {
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
	if k.expect != nil {
		errs = append(errs, k.expect(all))
	}
	return errors.Join(append(errs, k.checkKept(all, k.deleted), all.check())...)
}

// TestKilledAtAnyTime kills the API server and the controller manager at random moments, while children in the namespace of a
// small pool and in another one come and go, their space cools down, and the owner gives and withdraws his consent. No space
// is given to another child before its time, and in the end all of it can be allocated.
func TestKilledAtAnyTime(t *testing.T) {
	const coolDown, tolerance = 3 * time.Second, time.Second
	k := newKilling(t)
	k.observer.cools = func(l *life) bool { return l.parent == "small" }
	k.createPrefix(harness.Root("small", "10.4.0.0/26"))
	cools, consent := harness.Policy("cools", nil, "name", "small"), harness.Policy("consent", nil, "name", "small")
	cools.Spec.CoolDown = &metav1.Duration{Duration: coolDown}
	consent.Spec.SharedWith = &v1alpha1.PrefixSharing{All: true}
	policies := k.servers[0].client.IpamV1alpha1().PrefixPolicies(namespace)
	for _, policy := range []*v1alpha1.PrefixPolicy{cools, consent} {
		if _, err := policies.Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	// released says, by prefix, which child had it last and when its deletion began.
	type release struct {
		child string
		at    time.Time
	}
	var mu sync.Mutex
	released, reused := map[string]release{}, 0
	over := make(chan struct{})
	isOver := func() bool {
		select {
		case <-over:
			return true
		default:
			return k.Failed()
		}
	}
	var users sync.WaitGroup
	for i := range 6 {
		users.Go(func() {
			random, in := newRand(uint64(10+i)), tenants[i%2]
			for n := 0; !isOver(); n++ {
				p := harness.Child(fmt.Sprintf("child-%d-%d", i, n%3), "small", harness.Length(28))
				if in != namespace {
					p.Spec.ParentNamespace = namespace
				}
				k.persist(func(ctx context.Context) error {
					_, err := k.prefixes(in).Create(ctx, p, metav1.CreateOptions{})
					if apierrors.IsAlreadyExists(err) {
						return nil
					}
					return err
				})
				for end := time.Now().Add(6 * time.Second); time.Now().Before(end) && !isOver(); time.Sleep(20 * time.Millisecond) {
					got, err := k.prefixes(in).Get(t.Context(), p.Name, metav1.GetOptions{})
					if err != nil || got.Status.Phase != v1alpha1.PrefixPhaseAllocated {
						continue
					}
					p = got
					mu.Lock()
					if last, ok := released[p.Spec.Prefix]; ok && last.child != in+"/"+p.Name {
						reused++
						if after := time.Since(last.at); after < coolDown-tolerance {
							t.Errorf("%s/%s has %s %v after %s began to give it back", in, p.Name, p.Spec.Prefix, after, last.child)
						}
					}
					mu.Unlock()
					time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
					break
				}
				if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
					mu.Lock()
					released[p.Spec.Prefix] = release{in + "/" + p.Name, time.Now()}
					mu.Unlock()
				}
				k.persist(func(ctx context.Context) error {
					if err := k.prefixes(in).Delete(ctx, p.Name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
						return cmp.Or(err, errors.New("not gone yet"))
					}
					return nil
				})
			}
		})
	}
	users.Go(func() {
		for given := false; !isOver(); given = !given {
			k.consent("consent", given)
			time.Sleep(time.Duration(200+k.random.IntN(800)) * time.Millisecond)
		}
	})

	random, s := newRand(3), k.servers[0]
	for range times(20, 500) {
		if k.Failed() {
			break
		}
		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
		what := random.IntN(3)
		if what != 0 {
			k.manager.Kill()
		}
		if what != 1 {
			s.Kill()
			s.restart()
		}
		if what != 0 {
			k.manager = s.startManager()
		}
	}
	close(over)
	users.Wait()
	t.Logf("%d times another child got space that had cooled down", reused)
	if reused == 0 {
		t.Error("No space was ever given to another child")
	}

	// Nothing is lost: four children fill the pool.
	k.consent("consent", true)
	k.round++
	k.parallel, k.offset, k.parent, k.child = 4, 0, "small", tenants[1]
	k.do((*killing).createChild)
	k.audited()
	observed(t, k.observer)
}
