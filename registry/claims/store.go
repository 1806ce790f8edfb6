// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"
)

// maxPlans is how often a write is planned at most. A plan becomes stale only when a concurrent write commits, so
// each new attempt means that another write succeeded.
const maxPlans = 10

// Store wraps the etcd store of a kind. Every write also checks and updates the claims, in the same etcd
// transaction.
type Store struct {
	storage.Interface
	planner planner
	// count, if set, returns the number of objects.
	count func(ctx context.Context) (int64, error)
}

var _ storage.Interface = &Store{}

// planner plans the checks and operations that a write needs.
type planner interface {
	// reader returns the reader for the next plan of a write. Only the first plan may use stale data.
	reader(first bool) reader
	// prepareUpdate is called before an update from oldObj to newObj. What it does stays even if the update fails.
	prepareUpdate(ctx context.Context, oldObj, newObj runtime.Object) error
	// planUpdate plans an update from oldObj to newObj. For a create, oldObj is nil or an empty object.
	planUpdate(ctx context.Context, r reader, oldObj, newObj runtime.Object) (plan, error)
	// planDelete plans the removal of an object.
	planDelete(ctx context.Context, r reader, obj runtime.Object) (plan, error)
}

var _ planner = &Claims{}

// Create implements storage.Interface.
func (s *Store) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	return s.planned(ctx, func(ctx context.Context, p *plan, r reader) error {
		made, err := s.planner.planUpdate(ctx, r, nil, obj)
		if err != nil {
			return err
		}
		p.set(made)
		return s.Interface.Create(ctx, key, obj, out, ttl)
	})
}

// GuaranteedUpdate implements storage.Interface.
func (s *Store) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, tryUpdate storage.UpdateFunc, cachedExistingObject runtime.Object) error {
	return s.planned(ctx, func(ctx context.Context, p *plan, r reader) error {
		if r.isLive() {
			cachedExistingObject = nil
		}
		return s.Interface.GuaranteedUpdate(ctx, key, destination, ignoreNotFound, preconditions,
			func(input runtime.Object, meta storage.ResponseMeta) (runtime.Object, *uint64, error) {
				p.set(plan{})
				// tryUpdate may modify its input.
				old := input.DeepCopyObject()
				output, ttl, err := tryUpdate(input, meta)
				if err != nil {
					return nil, nil, err
				}
				if err := s.planner.prepareUpdate(ctx, old, output); err != nil {
					return nil, nil, err
				}
				made, err := s.planner.planUpdate(ctx, r, old, output)
				if err != nil {
					return nil, nil, err
				}
				p.set(made)
				return output, ttl, nil
			}, cachedExistingObject)
	})
}

// Delete implements storage.Interface.
func (s *Store) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validateDeletion storage.ValidateObjectFunc, cachedExistingObject runtime.Object, opts storage.DeleteOptions) error {
	if opts.ExpectTransformOrDecodeError {
		return apierrors.NewBadRequest("what cannot be decoded cannot be deleted here: it could go without its claim")
	}
	return s.planned(ctx, func(ctx context.Context, p *plan, r reader) error {
		if r.isLive() {
			cachedExistingObject = nil
		}
		return s.Interface.Delete(ctx, key, out, preconditions,
			func(ctx context.Context, obj runtime.Object) error {
				p.set(plan{})
				if err := validateDeletion(ctx, obj); err != nil {
					return err
				}
				made, err := s.planner.planDelete(ctx, r, obj)
				if err != nil {
					return err
				}
				p.set(made)
				return nil
			}, cachedExistingObject, opts)
	})
}

// planned calls write with an empty plan, which write fills in. It calls write again while the plan is stale, at
// most maxPlans times in all, and then returns a ServerTimeout error. Only the first call may use cached data.
func (s *Store) planned(ctx context.Context, write func(ctx context.Context, p *plan, r reader) error) error {
	for n := range maxPlans {
		p := &plan{}
		err := write(withPlan(ctx, p), p, s.planner.reader(n == 0))
		p.set(plan{})
		if !errors.Is(err, errStale) {
			return err
		}
	}
	return apierrors.NewServerTimeout(ipam.Resource("prefixes"), "write", 1)
}

// Stats implements storage.Interface. It counts with s.count if that is set, because it is called at least once a
// minute and etcd has to read all keys to count them. With a million keys that takes half a second, and no write
// happens meanwhile.
func (s *Store) Stats(ctx context.Context) (storage.Stats, error) {
	if s.count == nil {
		return s.Interface.Stats(ctx)
	}
	count, err := s.count(ctx)
	return storage.Stats{ObjectCount: count}, err
}

// countCached returns the number of objects in a watch cache.
func countCached(ctx context.Context, cache storage.Interface, resourcePrefix string, list runtime.Object) (int64, error) {
	first := storage.Everything
	first.Limit = 1
	err := cache.GetList(ctx, resourcePrefix, storage.ListOptions{
		Predicate: first, Recursive: true, ResourceVersion: "1", ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	}, list)
	if err != nil {
		return 0, err
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return 0, err
	}
	return int64(meta.LenList(list)) + ptr.Deref(accessor.GetRemainingItemCount(), 0), nil
}

type parentUIDKey struct{}

// WithParentUID returns a context for writing an object whose parent must have this uid. The write fails with a
// Conflict if the parent was deleted and created again under the same name. If uid is empty, nothing is required.
func WithParentUID(ctx context.Context, uid types.UID) context.Context {
	if uid == "" {
		return ctx
	}
	return context.WithValue(ctx, parentUIDKey{}, uid)
}

// reader implements planner.
func (c *Claims) reader(first bool) reader {
	if first {
		return cached{c}
	}
	return live{c}
}

// planUpdate implements planner.
func (c *Claims) planUpdate(ctx context.Context, r reader, oldObj, newObj runtime.Object) (plan, error) {
	switch newObj := newObj.(type) {
	case *ipam.PrefixAllocation:
		oldAllocation, _ := oldObj.(*ipam.PrefixAllocation)
		was := oldAllocation != nil && oldAllocation.Status.Phase == ipam.PrefixAllocationPhaseAllocated
		is := newObj.Status.Phase == ipam.PrefixAllocationPhaseAllocated
		switch {
		case !was && is:
			return c.planAllocate(ctx, r, newObj)
		case was && (!is || !cidr.Equal(oldAllocation.Status.Prefix, newObj.Status.Prefix) || !sameRef(oldAllocation.Spec.PrefixRef, newObj.Spec.PrefixRef)):
			// Validation already refuses this today. This check does not rely on it.
			return plan{}, conflict("prefixallocations", newObj.Name, fmt.Errorf("%s is allocated to it, which is final", oldAllocation.Status.Prefix))
		case was:
			if err := c.keepRequester(ctx, newObj, oldAllocation); err != nil {
				return plan{}, err
			}
			return plan{}, c.checkParentUID(ctx, "prefixallocations", newObj.Namespace, newObj.Name, newObj.Spec.PrefixRef)
		}
		return plan{}, nil
	case *ipam.Prefix:
		oldPrefix, _ := oldObj.(*ipam.Prefix)
		was := oldPrefix != nil && oldPrefix.Status.Phase == ipam.PrefixPhaseAllocated
		is := newObj.Status.Phase == ipam.PrefixPhaseAllocated
		switch {
		case isNew(oldPrefix) && newObj.Spec.IsRoot():
			return c.planRoot(ctx, newObj)
		case !was && is && !newObj.Spec.IsRoot():
			return c.planComplete(ctx, r, newObj)
		case was && (!is || !cidr.Equal(oldPrefix.Spec.Prefix, newObj.Spec.Prefix) || !sameRef(oldPrefix.Spec.ParentRef, newObj.Spec.ParentRef)):
			return plan{}, conflict("prefixes", newObj.Name, fmt.Errorf("it is allocated as %s, which is final", oldPrefix.Spec.Prefix))
		case was:
			return plan{}, c.checkParentUID(ctx, "prefixes", newObj.Namespace, newObj.Name, newObj.Spec.ParentRef)
		}
		return plan{}, nil
	case *ipam.PrefixPolicy:
		return plan{}, nil
	}
	return plan{}, fmt.Errorf("claims: not of this API group: %T", newObj)
}

// checkParentUID checks the uid of WithParentUID for an object that is allocated already, for instance when a
// binding is sent twice.
func (c *Claims) checkParentUID(ctx context.Context, resource, namespace, name string, ref *ipam.LocalObjectReference) error {
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	if !demanded || ref == nil {
		return nil
	}
	p, err := cached{c}.parent(ctx, namespace, ref.Name)
	if err != nil {
		return err
	}
	if p == nil || p.uid != wanted {
		return conflict(resource, name, fmt.Errorf("it is allocated from another Prefix %s than the one with uid %s", ref.Name, wanted))
	}
	return nil
}

// planDelete implements planner.
func (c *Claims) planDelete(ctx context.Context, r reader, obj runtime.Object) (plan, error) {
	switch obj := obj.(type) {
	case *ipam.PrefixAllocation:
		return c.planRelease(ctx, r, obj)
	case *ipam.Prefix:
		vanish, err := c.planVanish(ctx, obj)
		if err != nil || !obj.Spec.IsRoot() {
			return vanish, err
		}
		return c.planLastRoot(ctx, obj, vanish)
	case *ipam.PrefixPolicy:
		return plan{}, nil
	}
	return plan{}, fmt.Errorf("claims: not of this API group: %T", obj)
}

// isNew reports whether a write creates the Prefix. old is nil in a create, and an empty object in an update that
// creates, such as server-side apply.
func isNew(old *ipam.Prefix) bool { return old == nil || old.UID == "" }

func sameRef(a, b *ipam.LocalObjectReference) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func conflict(resource, name string, err error) *apierrors.StatusError {
	return apierrors.NewConflict(ipam.Resource(resource), name, err)
}
