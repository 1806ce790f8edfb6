// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"
)

// Store wraps the etcd store of a kind. Every write also checks and updates the claims, in the same etcd
// transaction.
type Store struct {
	storage.Interface
	planner planner
	// beforeUpdate, if set, is called before each update. See RESTOptionsGetter.BeforeUpdate.
	beforeUpdate func(ctx context.Context, old, obj runtime.Object) error
	// count, if set, returns the number of objects.
	count func(ctx context.Context) (int64, error)
}

var _ storage.Interface = &Store{}

// planner plans the checks and operations that a write needs. See claims.Planner.
type planner interface {
	PlanUpdate(ctx context.Context, live bool, oldObj, newObj runtime.Object) (claims.Plan, error)
	PlanDelete(ctx context.Context, live bool, obj runtime.Object) (claims.Plan, error)
}

var _ planner = &claims.Planner{}

// Create implements storage.Interface.
func (s *Store) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	return claims.WithPlan(ctx, func(ctx context.Context, p *claims.Plan, live bool) error {
		made, err := s.planner.PlanUpdate(ctx, live, nil, obj)
		if err != nil {
			return err
		}
		p.Set(made)
		return s.Interface.Create(ctx, key, obj, out, ttl)
	})
}

// GuaranteedUpdate implements storage.Interface.
func (s *Store) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, tryUpdate storage.UpdateFunc, cachedExistingObject runtime.Object) error {
	return claims.WithPlan(ctx, func(ctx context.Context, p *claims.Plan, live bool) error {
		if live {
			cachedExistingObject = nil
		}
		return s.Interface.GuaranteedUpdate(ctx, key, destination, ignoreNotFound, preconditions,
			func(input runtime.Object, meta storage.ResponseMeta) (runtime.Object, *uint64, error) {
				p.Set(claims.Plan{})
				// tryUpdate may modify its input.
				old := input.DeepCopyObject()
				output, ttl, err := tryUpdate(input, meta)
				if err != nil {
					return nil, nil, err
				}
				if s.beforeUpdate != nil {
					if err := s.beforeUpdate(ctx, old, output); err != nil {
						return nil, nil, err
					}
				}
				made, err := s.planner.PlanUpdate(ctx, live, old, output)
				if err != nil {
					return nil, nil, err
				}
				p.Set(made)
				return output, ttl, nil
			}, cachedExistingObject)
	})
}

// Delete implements storage.Interface.
func (s *Store) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validateDeletion storage.ValidateObjectFunc, cachedExistingObject runtime.Object, opts storage.DeleteOptions) error {
	if opts.ExpectTransformOrDecodeError {
		return apierrors.NewBadRequest("an object that cannot be decoded cannot be deleted here: its claim could remain")
	}
	return claims.WithPlan(ctx, func(ctx context.Context, p *claims.Plan, live bool) error {
		if live {
			cachedExistingObject = nil
		}
		return s.Interface.Delete(ctx, key, out, preconditions,
			func(ctx context.Context, obj runtime.Object) error {
				p.Set(claims.Plan{})
				if err := validateDeletion(ctx, obj); err != nil {
					return err
				}
				made, err := s.planner.PlanDelete(ctx, live, obj)
				if err != nil {
					return err
				}
				p.Set(made)
				return nil
			}, cachedExistingObject, opts)
	})
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
