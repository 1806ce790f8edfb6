// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/cacher/delegator"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// cachedLists is a watch cache that never falls back to etcd for a list. With each page etcd counts all keys that follow, and
// nothing is written meanwhile, so a tenant who pages through a large list would slow down everybody's writes.
//
// A list that the cache cannot serve is answered as etcd would answer one whose revision is compacted.
type cachedLists struct {
	storage.Interface
	cache          *cacher.Cacher
	resourcePrefix string
}

// GetList implements storage.Interface.
func (l *cachedLists) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	// What is not recursive is one key. Without snapshots, or with an etcd too old to tell the cache how fresh it is, the cache
	// serves too few of the lists.
	if !opts.Recursive || !utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) || !delegator.ConsistentReadSupported() {
		return l.Interface.GetList(ctx, key, opts, list)
	}
	if _, _, err := storage.ValidateListOptions(l.resourcePrefix, l.Versioner(), opts); err != nil {
		return err
	}
	decision, err := delegator.ShouldDelegateList(opts, l.cache)
	if err != nil {
		return err
	}
	if decision.ShouldDelegate {
		return expired(opts)
	}
	err = l.cache.GetList(ctx, key, opts, list)
	switch {
	case apierrors.IsResourceExpired(err):
		return expired(opts)
	case decision.ConsistentRead && storage.IsTooLargeResourceVersion(err):
		// The cache is seconds behind etcd. The client asks again by itself.
		return apierrors.NewTooManyRequests(err.Error(), 1)
	}
	return err
}

// expired is the answer to a list at a revision that is not in the cache any more. If it continues another one, the error has a
// token with which it can be continued at the revision of then.
func expired(opts storage.ListOptions) error {
	if opts.Predicate.Continue == "" {
		return apierrors.NewResourceExpired("The provided resource version is too old: list again without one")
	}
	gone := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You can start " +
		"a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the " +
		"results, which may be inconsistent with the previous ones")
	next, _, err := storage.DecodeContinue(opts.Predicate.Continue, "/")
	if err == nil {
		// -1 is the revision of when it is used.
		gone.ErrStatus.Continue, err = storage.EncodeContinue(next, "/", -1)
	}
	if err != nil {
		return apierrors.NewBadRequest("invalid continue token: " + err.Error())
	}
	return gone
}

// unpaged is what a watch cache fills itself from. The cache asks for pages, although it keeps all of them until it has the last
// one, and etcd counts the remaining keys for each. Without a limit etcd streams them, and counts nothing.
type unpaged struct{ storage.Interface }

// GetList implements storage.Interface.
func (u unpaged) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	opts.Predicate.Limit = 0
	return u.Interface.GetList(ctx, key, opts, list)
}
