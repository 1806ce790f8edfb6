// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// life is the observed history of an object.
type life struct {
	kind, namespace, name string
	owner                 types.UID
	// parent and prefix are set once the object is Allocated.
	parent, prefix string
	// allocated and gone are the times at which that was first observed. 0 means never.
	allocated, gone time.Duration
	// lastOwner is the owner that was observed last: a child of the same name can take back what the first one had.
	// coolingUntil is the time until which the space cools down, or zero.
	lastOwner    types.UID
	coolingUntil time.Time
}

// observer watches all objects through a server, checks every state, and records it. An observed state must not be
// taken back, because the API server has acknowledged it.
type observer struct {
	server *server
	epoch  time.Time

	mu    sync.Mutex
	lives map[types.UID]*life
	// byOwner contains the allocations that a child has had.
	byOwner map[types.UID][]types.UID
	// held contains the prefixes that allocations and children hold, by their kind and the name of the parent.
	held map[string]map[types.UID]netip.Prefix
	errs []error
	// changed is closed and replaced with each change.
	changed chan struct{}
	// cools reports whether the space of an allocation cools down after its child is gone, and nobody ends that before its
	// time. It may be nil.
	cools func(allocation *life) bool
}

// observe starts an observer, which runs until the test ends. Its times are relative to epoch.
func (s *server) observe(epoch time.Time) *observer {
	o := &observer{
		server: s, epoch: epoch,
		lives:   map[types.UID]*life{},
		byOwner: map[types.UID][]types.UID{},
		held:    map[string]map[types.UID]netip.Prefix{},
		changed: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	s.cluster.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	prefixes, allocations := s.client.IpamV1alpha1().Prefixes(metav1.NamespaceAll), s.client.IpamV1alpha1().PrefixAllocations(metav1.NamespaceAll)
	wg.Go(func() {
		o.run(ctx, v1alpha1.PrefixKind, func(options metav1.ListOptions) (runtime.Object, error) { return prefixes.List(ctx, options) },
			func(options metav1.ListOptions) (watch.Interface, error) { return prefixes.Watch(ctx, options) })
	})
	wg.Go(func() {
		o.run(ctx, v1alpha1.PrefixAllocationKind, func(options metav1.ListOptions) (runtime.Object, error) { return allocations.List(ctx, options) },
			func(options metav1.ListOptions) (watch.Interface, error) { return allocations.Watch(ctx, options) })
	})
	return o
}

func (o *observer) run(ctx context.Context, kind string,
	list func(metav1.ListOptions) (runtime.Object, error), watch func(metav1.ListOptions) (watch.Interface, error)) {
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		all, err := list(metav1.ListOptions{})
		if err != nil {
			continue
		}
		version := o.replace(kind, all)
		for ctx.Err() == nil {
			w, err := watch(metav1.ListOptions{ResourceVersion: version})
			if err != nil {
				break
			}
			if version = o.follow(w, version); version == "" {
				break
			}
		}
	}
}

// follow processes events until there are no more. It returns the version of the last one, or an empty string if
// the watch has failed.
func (o *observer) follow(w watch.Interface, version string) string {
	defer w.Stop()
	for event := range w.ResultChan() {
		obj, err := meta.Accessor(event.Object)
		if err != nil || event.Type == watch.Error {
			return ""
		}
		o.mu.Lock()
		o.see(event.Object, event.Type == watch.Deleted)
		o.mu.Unlock()
		version = obj.GetResourceVersion()
	}
	return version
}

// replace processes a list of all objects of a kind.
func (o *observer) replace(kind string, list runtime.Object) (version string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	there := map[types.UID]bool{}
	objs, err := meta.ExtractList(list)
	if err != nil {
		o.errs = append(o.errs, err)
	}
	for _, obj := range objs {
		there[obj.(metav1.Object).GetUID()] = true
	}
	for uid, l := range o.lives {
		if l.kind == kind && l.gone == 0 && !there[uid] {
			o.seeGone(uid, l)
		}
	}
	for _, obj := range objs {
		o.see(obj, false)
	}
	return list.(metav1.ListInterface).GetResourceVersion()
}

// see processes an object, or the last state of a deleted object.
func (o *observer) see(obj runtime.Object, deleted bool) {
	defer func() {
		close(o.changed)
		o.changed = make(chan struct{})
	}()
	now := life{}
	var allocated bool
	switch obj := obj.(type) {
	case *v1alpha1.Prefix:
		now.kind, now.name, now.prefix = v1alpha1.PrefixKind, obj.Name, obj.Spec.Prefix
		allocated = obj.Status.Phase == v1alpha1.PrefixPhaseAllocated
		if obj.Spec.ParentRef != nil {
			now.parent = obj.Spec.ParentRef.Name
		}
	case *v1alpha1.PrefixAllocation:
		now.kind, now.name, now.prefix = v1alpha1.PrefixAllocationKind, obj.Name, obj.Status.Prefix
		allocated = obj.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated
		if obj.Spec.PrefixRef != nil {
			now.parent = obj.Spec.PrefixRef.Name
		}
		if owner := metav1.GetControllerOfNoCopy(obj); owner != nil {
			now.owner = owner.UID
		}
	}
	uid := obj.(metav1.Object).GetUID()
	l := o.lives[uid]
	if l == nil {
		l = &life{kind: now.kind, namespace: obj.(metav1.Object).GetNamespace(), name: now.name, owner: now.owner}
		o.lives[uid] = l
		if l.owner != "" {
			o.byOwner[l.owner] = append(o.byOwner[l.owner], uid)
		}
	}
	switch {
	case l.gone != 0:
		o.errs = append(o.errs, fmt.Errorf("%s %s is back after it was gone", l.kind, l.name))
	case l.allocated != 0 && (!allocated || l.prefix != now.prefix || l.parent != now.parent):
		o.errs = append(o.errs, fmt.Errorf("%s %s had %s of %q, and now has %s of %q", l.kind, l.name, l.prefix, l.parent, now.prefix, now.parent))
	case l.allocated == 0 && allocated:
		l.allocated, l.prefix, l.parent = time.Since(o.epoch), now.prefix, now.parent
		if !deleted && (l.kind == v1alpha1.PrefixAllocationKind || l.parent != "") {
			o.hold(uid, l)
		}
	}
	if a, ok := obj.(*v1alpha1.PrefixAllocation); ok {
		if now.owner != "" && now.owner != l.lastOwner {
			l.lastOwner = now.owner
			if l.owner != now.owner {
				o.byOwner[now.owner] = append(o.byOwner[now.owner], uid)
			}
		}
		l.coolingUntil = time.Time{}
		if a.Status.CoolingUntil != nil {
			l.coolingUntil = a.Status.CoolingUntil.Time
		}
	}
	if deleted {
		o.checkCooled(l)
		o.seeGone(uid, l)
	}
}

// checkCooled checks that a deleted allocation has given its space back no earlier than it may. Its last state must be known:
// another child may have taken the space back while the watch was broken.
func (o *observer) checkCooled(l *life) {
	if l.kind != v1alpha1.PrefixAllocationKind || o.cools == nil || !o.cools(l) {
		return
	}
	child := o.lives[l.lastOwner]
	switch {
	case time.Now().Before(l.coolingUntil):
		o.errs = append(o.errs, fmt.Errorf("%s %s is gone before %v", l.kind, l.name, l.coolingUntil))
	case l.coolingUntil.IsZero() && child != nil && child.allocated != 0 && child.parent == l.parent && child.prefix == l.prefix:
		o.errs = append(o.errs, fmt.Errorf("%s %s is gone, and %s of %s did not cool down", l.kind, l.name, l.prefix, child.name))
	}
}

func (o *observer) seeGone(uid types.UID, l *life) {
	l.gone = time.Since(o.epoch)
	delete(o.held[l.kind+" of "+l.parent], uid)
}

// hold checks that the prefix of an allocation or a child was free.
func (o *observer) hold(uid types.UID, l *life) {
	prefix, err := netip.ParsePrefix(l.prefix)
	if err != nil {
		o.errs = append(o.errs, err)
		return
	}
	key := l.kind + " of " + l.parent
	if o.held[key] == nil {
		o.held[key] = map[types.UID]netip.Prefix{}
	}
	for other, held := range o.held[key] {
		if held.Overlaps(prefix) {
			o.errs = append(o.errs, fmt.Errorf("%s %s got %s of %s while %s held %s", l.kind, l.name, prefix, l.parent, o.lives[other].name, held))
		}
	}
	o.held[key][uid] = prefix
}

// isHeldByAnother reports whether an allocation for anybody but the given children has a part of a prefix of a parent. The
// caller must hold the lock.
func (o *observer) isHeldByAnother(parent string, prefix netip.Prefix, children ...types.UID) bool {
	for uid, held := range o.held[v1alpha1.PrefixAllocationKind+" of "+parent] {
		if held.Overlaps(prefix) && !slices.Contains(children, o.lives[uid].lastOwner) {
			return true
		}
	}
	return false
}

// snapshot returns all observed histories.
func (o *observer) snapshot() map[types.UID]life {
	o.mu.Lock()
	defer o.mu.Unlock()
	lives := make(map[types.UID]life, len(o.lives))
	for uid, l := range o.lives {
		lives[uid] = *l
	}
	return lives
}

// wait waits until f returns true, and reports whether it did in time. It calls f with the lock held.
func (o *observer) wait(limit time.Duration, f func() bool) bool {
	timeout := time.After(limit)
	for {
		o.mu.Lock()
		done, changed := f(), o.changed
		o.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-timeout:
			return false
		}
	}
}

// waitAllocated waits until an object is Allocated.
func (o *observer) waitAllocated(uid types.UID, limit time.Duration) bool {
	return o.wait(limit, func() bool {
		l := o.lives[uid]
		return l != nil && l.allocated != 0
	})
}

// waitGone waits until an object, which has existed, and its allocations are gone.
func (o *observer) waitGone(uid types.UID) bool {
	return o.wait(harness.Patience, func() bool {
		for _, uid := range append([]types.UID{uid}, o.byOwner[uid]...) {
			if l := o.lives[uid]; l == nil || l.gone == 0 {
				return false
			}
		}
		return true
	})
}

// err returns the violations that were observed.
func (o *observer) err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Join(o.errs...)
}

// checkKept returns an error if an object that was observed as Allocated, and not as gone, has changed or does not
// exist, unless it was to be deleted.
func (o *observer) checkKept(all everything, deleted map[string]bool) error {
	lives := o.snapshot()
	maps.DeleteFunc(lives, func(_ types.UID, l life) bool {
		return l.allocated == 0 || l.gone != 0 || l.kind != v1alpha1.PrefixKind || deleted[l.name]
	})
	for _, p := range all.prefixes {
		if l, ok := lives[p.UID]; ok && p.Status.Phase == v1alpha1.PrefixPhaseAllocated && p.Spec.Prefix == l.prefix {
			delete(lives, p.UID)
		}
	}
	var errs []error
	for _, l := range lives {
		errs = append(errs, fmt.Errorf("%s was seen Allocated with %s, and is not any more", l.name, l.prefix))
	}
	return errors.Join(errs...)
}

// observed fails the test if an observer has found a violation.
func observed(t testing.TB, o *observer) {
	t.Helper()
	if err := o.err(); err != nil {
		t.Error(err)
	}
}
