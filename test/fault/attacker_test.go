// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestAttacker has users with the role admin in a namespace. They write any metadata of both kinds at any time,
// create allocations for the children of others, orphan and delete objects, and recreate them under the same name.
// Other users only request children, get them, and keep them. API servers and controller managers are killed
// meanwhile. In the end nothing overlaps, nothing is left over, and all waiting requests are served.
func TestAttacker(t *testing.T) {
	for seed := range times(1, 20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			testAttacker(t, uint64(seed), int64(times(1500, 10_000)))
		})
	}
}

// arena is a parent that all users allocate from.
type arena struct {
	name, prefix string
	bits         int32
	// private is set if nobody but honest users can get anything of it.
	private bool
}

func testAttacker(t *testing.T, seed uint64, operations int64) {
	b := newBattle(t, operations, arena{"arena-v4", "10.0.0.0/22", 28, false}, arena{"arena-v6", "2001:db8::/56", 62, false})
	c := b.cluster
	managers := []*manager{c.startManagerOn(0), c.startManagerOn(1)}
	c.servers[2].settled()
	var observers []*observer
	for _, s := range c.servers {
		observers = append(observers, s.observe(time.Now()))
	}

	over := make(chan struct{})
	var users, others sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			newHonest(b, i, rand.New(rand.NewPCG(seed, uint64(i)))).run()
		})
	}
	for i := range 6 {
		users.Go(func() {
			(&attacker{battle: b, id: i, server: c.servers[i%3], random: rand.New(rand.NewPCG(seed, uint64(100+i)))}).run()
		})
	}
	kills := 0
	others.Go(func() { kills = c.killUntil(over, rand.New(rand.NewPCG(seed, 1000)), managers) })
	users.Wait()
	close(over)
	others.Wait()
	t.Logf("%d operations of attackers, of which %d went through, %d of %d children of others were given up, %d kills",
		b.done.Load(), b.succeeded.Load(), b.givenUp.Load(), b.children.Load(), kills)
	b.cleanUp()
	b.judge(observers)
}

// newBattle starts a cluster with three servers and the roots of the arenas.
func newBattle(t *testing.T, operations int64, arenas ...arena) *battle {
	b := &battle{cluster: newCluster(t, 3, true), operations: operations, arenas: arenas}
	for _, parent := range arenas {
		p := harness.Root(parent.name, parent.prefix)
		p.Labels = map[string]string{"arena": parent.name}
		b.servers[0].create(p)
	}
	return b
}

// killUntil kills and restarts servers and managers until the end. It returns how often.
func (c *cluster) killUntil(over <-chan struct{}, random *rand.Rand, managers []*manager) (kills int) {
	for {
		select {
		case <-over:
			return kills
		case <-time.After(time.Duration(1000+random.IntN(2000)) * time.Millisecond):
		}
		kills++
		if n := random.IntN(4); n < 3 {
			c.servers[n].Kill()
			c.servers[n].restart()
		} else {
			m := managers[random.IntN(len(managers))]
			m.Kill()
			m.start()
		}
	}
}

// judge fails the test unless everything is in order at the end.
func (b *battle) judge(observers []*observer) {
	b.Helper()
	all := b.servers[0].settled()
	if err := all.check(); err != nil {
		b.Error(err)
	}
	claims, allocations := b.count(claimsPrefix), len(all.allocations)
	if claims != allocations || allocations != len(all.prefixes)-len(b.arenas) {
		b.Errorf("There are %d claims, %d allocations and %d children", claims, allocations, len(all.prefixes)-len(b.arenas))
	}
	for _, p := range all.prefixes {
		if prefix, ok := b.kept.Load(p.UID); ok && prefix != p.Spec.Prefix {
			b.Errorf("%s had %s, and has %s", p.Name, prefix, p.Spec.Prefix)
		}
	}
	b.kept.Range(func(uid, prefix any) bool {
		if !slices.ContainsFunc(all.prefixes, func(p v1alpha1.Prefix) bool { return p.UID == uid }) {
			b.Errorf("The child that had %s is gone, and its owner did not delete it", prefix)
		}
		return true
	})
	b.audited()
	for _, o := range observers {
		observed(b, o)
	}
}

// manager is a controller manager that can be restarted.
type manager struct {
	server *server
	processOfManager
}

type processOfManager interface{ Kill() }

func (c *cluster) startManagerOn(i int) *manager {
	m := &manager{server: c.servers[i]}
	m.start()
	return m
}

func (m *manager) start() { m.processOfManager = m.server.startManager() }

// battle is the state that attackers and other users share.
type battle struct {
	*cluster
	arenas                             []arena
	operations                         int64
	done, succeeded, givenUp, children atomic.Int64
	// kept contains the prefixes that the other users hold until the end, by the uid of the child.
	kept sync.Map
}

func (b *battle) over() bool { return b.done.Load() >= b.operations || b.Failed() }

// honest is a user who creates children, and deletes some of them later.
type honest struct {
	*battle
	id, n  int
	random *rand.Rand
	holds  []*v1alpha1.Prefix
}

func newHonest(b *battle, id int, random *rand.Rand) *honest {
	return &honest{battle: b, id: id, random: random}
}

func (h *honest) server() *server { return h.servers[h.random.IntN(len(h.servers))] }

func (h *honest) run() {
	for !h.over() {
		if len(h.holds) > 2 || len(h.holds) > 0 && h.random.IntN(3) == 0 {
			i := h.random.IntN(len(h.holds))
			h.delete(h.holds[i])
			h.holds = slices.Delete(h.holds, i, i+1)
			continue
		}
		h.create()
	}
	for _, p := range h.holds {
		h.kept.Store(p.UID, p.Spec.Prefix)
	}
}

// create creates a child and waits for it. If that takes long, it assumes that there is no space, unless the arena is
// private.
func (h *honest) create() {
	parent := pick(h.random, h.arenas)
	h.n++
	name := fmt.Sprintf("honest-%d-%d", h.id, h.n)
	p := harness.Child(name, parent.name, harness.Length(parent.bits))
	if h.random.IntN(2) == 0 {
		p.Spec.ParentRef, p.Spec.ParentSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"arena": parent.name}}
		p.Spec.IPFamily = v1alpha1.IPv4
		if strings.Contains(parent.prefix, ":") {
			p.Spec.IPFamily = v1alpha1.IPv6
		}
	}
	created, err := h.server().prefixes().Create(h.Context(), p, metav1.CreateOptions{})
	if err != nil {
		// The server may have been killed, so the child may exist.
		h.delete(&v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}})
		return
	}
	h.children.Add(1)
	patience := 3 * time.Second
	if parent.private {
		patience = harness.Patience
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got, err := h.server().prefixes().Get(h.Context(), name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			h.Errorf("%s is gone, and its owner did not delete it", name)
			return
		case err == nil && got.UID != created.UID:
			h.Errorf("%s is another one", name)
			return
		case err == nil && got.Status.Phase == v1alpha1.PrefixPhaseAllocated:
			h.holds = append(h.holds, got)
			return
		}
		if time.Now().After(end) || h.Failed() {
			if parent.private && !h.Failed() {
				h.Errorf("%s is not allocated in time, although nobody else can take the space: %v", name, err)
			}
			h.givenUp.Add(1)
			h.delete(created)
			return
		}
	}
}

// delete deletes a child. It does not wait for the end, nor for a lost response.
func (h *honest) delete(p *v1alpha1.Prefix) {
	tried := false
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		// After the first attempt it may be gone although the response was lost.
		if p.UID != "" && !tried {
			got, err := h.server().prefixes().Get(h.Context(), p.Name, metav1.GetOptions{})
			if err == nil && p.Status.Phase == v1alpha1.PrefixPhaseAllocated && (got.UID != p.UID || got.Spec.Prefix != p.Spec.Prefix) {
				h.Errorf("%s had %s, and has %s", p.Name, p.Spec.Prefix, got.Spec.Prefix)
				return
			}
			if apierrors.IsNotFound(err) {
				h.Errorf("%s is gone, and its owner did not delete it", p.Name)
				return
			}
			if err != nil {
				continue
			}
		}
		tried = true
		if err := h.server().prefixes().Delete(h.Context(), p.Name, metav1.DeleteOptions{}); err == nil || apierrors.IsNotFound(err) {
			return
		}
	}
}

// attacker is a user with the role admin. It does everything that the role allows, except to delete the Prefixes of
// others.
type attacker struct {
	*battle
	id, n  int
	server *server
	random *rand.Rand
	all    everything
}

func (a *attacker) run() {
	for i := 0; !a.over(); i++ {
		if i%15 == 0 {
			if all, err := a.server.list(); err == nil {
				a.all = all
			}
		}
		if err := a.step(); err == nil {
			a.succeeded.Add(1)
		}
		a.done.Add(1)
	}
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// step makes one random change. It may be refused.
func (a *attacker) step() error {
	ctx, prefixes, allocations := a.Context(), a.server.prefixes(), a.server.allocations()
	p := pick(a.random, a.all.prefixes)
	own := strings.HasPrefix(p.Name, "attacker-")
	var allocation v1alpha1.PrefixAllocation
	if len(a.all.allocations) > 0 {
		allocation = pick(a.random, a.all.allocations)
	}
	patch := func(name string, patch map[string]any) error {
		data, err := json.Marshal(patch)
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, "allocation/") {
			_, err = allocations.Patch(ctx, strings.TrimPrefix(name, "allocation/"), types.MergePatchType, data, metav1.PatchOptions{})
		} else {
			_, err = prefixes.Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{})
		}
		return err
	}
	metadata := func(what string, value any) map[string]any {
		return map[string]any{"metadata": map[string]any{what: value}}
	}
	policy := pick(a.random, []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan, metav1.DeletePropagationForeground})
	target := "allocation/" + allocation.Name
	a.n++
	switch a.random.IntN(16) {
	case 0, 1:
		return patch(target, metadata("ownerReferences", nil))
	case 2, 3:
		return patch(target, metadata("ownerReferences", []metav1.OwnerReference{a.reference()}))
	case 4:
		return patch(target, metadata("labels", map[string]any{v1alpha1.RequesterUIDLabel: pick(a.random, []any{nil, string(p.UID), "forged"}), "x": fmt.Sprint(a.n)}))
	case 5:
		return patch(target, metadata("finalizers", pick(a.random, [][]string{nil, {"example.com/keep"}})))
	case 6:
		return patch(p.Name, metadata("finalizers", pick(a.random, [][]string{nil, {"example.com/keep"}, {"orphan"}, {"foregroundDeletion"}})))
	case 7:
		return patch(p.Name, metadata("ownerReferences", pick(a.random, [][]metav1.OwnerReference{nil, {a.reference()}})))
	case 8:
		if !own {
			return patch(p.Name, metadata("annotations", map[string]any{"x": fmt.Sprint(a.n)}))
		}
		return patch(p.Name, metadata("labels", map[string]any{"arena": pick(a.random, []any{nil, a.arenas[0].name, a.arenas[1].name})}))
	case 9, 10:
		// An allocation for a child or without one, for a prefix that may be in use.
		request := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("attacker-%d-%d", a.id, a.n)}}
		parent := pick(a.random, a.arenas)
		request.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: parent.name}
		request.Spec.PrefixLength = parent.bits
		if a.random.IntN(2) == 0 && p.Spec.Prefix != "" && p.Spec.ParentRef != nil {
			request.Spec.PrefixRef.Name, request.Spec.Prefix, request.Spec.PrefixLength = p.Spec.ParentRef.Name, p.Spec.Prefix, 0
		}
		if a.random.IntN(3) > 0 {
			request.OwnerReferences = []metav1.OwnerReference{a.reference()}
		}
		_, err := allocations.Create(ctx, request, metav1.CreateOptions{})
		return err
	case 11:
		return allocations.Delete(ctx, allocation.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
	case 12:
		if allocation.Name == "" || allocation.Spec.PrefixRef == nil {
			return nil
		}
		// Delete it and recreate it under the same name.
		_ = allocations.Delete(ctx, allocation.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
		again := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: allocation.Name, Labels: allocation.Labels, OwnerReferences: allocation.OwnerReferences}, Spec: allocation.Spec}
		_, err := allocations.Create(ctx, again, metav1.CreateOptions{})
		return err
	case 13:
		parent := pick(a.random, a.arenas)
		q := harness.Child(fmt.Sprintf("attacker-%d-%d", a.id, a.n%20), parent.name, harness.Length(parent.bits))
		if a.random.IntN(2) == 0 && p.Spec.Prefix != "" {
			// Allocate from the child of another user.
			q.Spec.ParentRef.Name = p.Name
			if prefix, err := netip.ParsePrefix(p.Spec.Prefix); err == nil {
				q.Spec.PrefixLength = int32(min(prefix.Bits()+1, prefix.Addr().BitLen()))
			}
		}
		_, err := prefixes.Create(ctx, q, metav1.CreateOptions{})
		return err
	case 14:
		if !own {
			return nil
		}
		err := prefixes.Delete(ctx, p.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
		if a.random.IntN(2) == 0 {
			again := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.Name}, Spec: p.Spec}
			_, err = prefixes.Create(ctx, again, metav1.CreateOptions{})
		}
		return err
	default:
		if !own || p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			return nil
		}
		return patch(p.Name, map[string]any{"spec": map[string]any{"prefix": pick(a.random, a.all.prefixes).Spec.Prefix}})
	}
}

// reference returns a reference to a Prefix that is correct, or almost.
func (a *attacker) reference() metav1.OwnerReference {
	p := pick(a.random, a.all.prefixes)
	ref := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: p.Name, UID: p.UID, Controller: new(true)}
	switch a.random.IntN(10) {
	case 0:
		ref.APIVersion = "x/v1"
	case 1:
		ref.Name = "decoy"
	case 2:
		ref.UID = pick(a.random, a.all.prefixes).UID
	case 3:
		ref.Controller = nil
	case 4:
		ref.APIVersion, ref.Name = "x/v1", "decoy"
	}
	return ref
}

// cleanUp removes the finalizers of the attackers, and deletes their objects.
func (b *battle) cleanUp() {
	b.Helper()
	s := b.servers[0]
	harness.Eventually(b, "what the attackers made is gone", func() error {
		all, err := s.list()
		if err != nil {
			return err
		}
		left := 0
		for _, p := range all.prefixes {
			if strings.HasPrefix(p.Name, "attacker-") && p.DeletionTimestamp == nil {
				left++
				_ = s.prefixes().Delete(b.Context(), p.Name, metav1.DeleteOptions{})
			}
			if foreign := slices.DeleteFunc(slices.Clone(p.Finalizers), func(f string) bool { return f == v1alpha1.PrefixFinalizer }); len(foreign) > 0 {
				left++
				p.Finalizers = slices.DeleteFunc(p.Finalizers, func(f string) bool { return f != v1alpha1.PrefixFinalizer })
				_, _ = s.prefixes().Update(b.Context(), &p, metav1.UpdateOptions{})
			}
			if p.DeletionTimestamp != nil {
				left++
			}
		}
		for _, a := range all.allocations {
			if len(a.Finalizers) > 0 {
				left++
				a.Finalizers = nil
				_, _ = s.allocations().Update(b.Context(), &a, metav1.UpdateOptions{})
			}
			if strings.HasPrefix(a.Name, "attacker-") || metav1.GetControllerOf(&a) == nil {
				// A live child may use an allocation that was created for it.
				if err := s.allocations().Delete(b.Context(), a.Name, metav1.DeleteOptions{}); err == nil {
					left++
				}
			}
		}
		if left > 0 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
}
