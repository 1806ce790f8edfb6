// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"reflect"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/cacher/delegator"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/utils/ptr"
)

// cachedLists is a watch cache that never falls back to etcd for a list. With each page etcd counts all keys that follow, and
// nothing is written meanwhile, so a tenant who pages through a large list would slow down everybody's writes.
//
// A list that the cache cannot serve is answered as etcd would answer one whose revision is compacted.
type cachedLists struct {
	storage.Interface
	cache          *cacher.Cacher
	resourcePrefix string
	// keyOf returns the key of an object.
	keyOf func(runtime.Object) (string, error)

	mu sync.Mutex
	// ahead has what was read beyond the pages that were asked for. The oldest is first.
	ahead []remainder
}

var (
	// readAhead is how many objects are read for a page. For each read the cache goes through all objects that follow, so
	// pages of 500 would take a time that is quadratic in the number of objects.
	readAhead int64 = 10_000
	// maxAhead is how many lists in pages the server reads ahead for at a time. Each takes some MiB.
	maxAhead = 8
)

// remainder is what was read beyond a page.
type remainder struct {
	// key and the selectors are those of the list, token the one that the next page is asked for with.
	key, label, field, token string
	// items are a slice of objects.
	items           reflect.Value
	resourceVersion uint64
	// next and remaining are the continue token and the remainingItemCount of what follows the items.
	next      string
	remaining *int64
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
	if p := opts.Predicate; p.Continue != "" && p.Limit > 0 && p.Limit < readAhead && p.Label != nil && p.Field != nil && p.ShardSelector == nil {
		err = l.page(ctx, key, opts, list)
	} else {
		err = l.cache.GetList(ctx, key, opts, list)
	}
	switch {
	case apierrors.IsResourceExpired(err):
		return expired(opts)
	case decision.ConsistentRead && storage.IsTooLargeResourceVersion(err):
		// The cache is seconds behind etcd. The client asks again by itself.
		return apierrors.NewTooManyRequests(err.Error(), 1)
	}
	return err
}

// page returns a page of a list but the first one, which was read ahead with the one before, or is read with those that follow.
func (l *cachedLists) page(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	itemsPtr, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	items := reflect.ValueOf(itemsPtr).Elem()
	limit := int(opts.Predicate.Limit)
	r, ok := l.take(key, opts.Predicate)
	if !ok {
		// So that every page but the last is full.
		opts.Predicate.Limit = readAhead - readAhead%opts.Predicate.Limit
		if err := l.cache.GetList(ctx, key, opts, list); err != nil {
			return err
		}
		accessor, err := meta.ListAccessor(list)
		if err != nil {
			return err
		}
		r = remainder{
			key: key, label: opts.Predicate.Label.String(), field: opts.Predicate.Field.String(),
			items: items.Slice(0, items.Len()), next: accessor.GetContinue(), remaining: accessor.GetRemainingItemCount(),
		}
		if r.resourceVersion, err = l.Versioner().ParseResourceVersion(accessor.GetResourceVersion()); err != nil {
			return err
		}
	}
	if r.items.Len() <= limit {
		items.Set(r.items)
		return l.Versioner().UpdateList(list, r.resourceVersion, r.next, r.remaining)
	}

	// A caller may change what it gets.
	items.Set(reflect.AppendSlice(reflect.MakeSlice(items.Type(), 0, limit), r.items.Slice(0, limit)))
	last, err := l.keyOf(items.Index(limit - 1).Addr().Interface().(runtime.Object))
	if err != nil {
		return err
	}
	if r.token, err = storage.EncodeContinue(last+"\x00", key, int64(r.resourceVersion)); err != nil {
		return err
	}
	r.items = r.items.Slice(limit, r.items.Len())
	var remaining *int64
	if opts.Predicate.Empty() {
		remaining = ptr.To(int64(r.items.Len()) + ptr.Deref(r.remaining, 0))
	}
	l.put(r)
	return l.Versioner().UpdateList(list, r.resourceVersion, r.token, remaining)
}

// take returns what was read ahead for a page, and forgets it.
func (l *cachedLists) take(key string, p storage.SelectionPredicate) (remainder, bool) {
	label, field := p.Label.String(), p.Field.String()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range l.ahead {
		if r.key == key && r.token == p.Continue && r.label == label && r.field == field {
			l.ahead = slices.Delete(l.ahead, i, i+1)
			return r, true
		}
	}
	return remainder{}, false
}

// put keeps what was read ahead.
func (l *cachedLists) put(r remainder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ahead) == maxAhead {
		l.ahead = slices.Delete(l.ahead, 0, 1)
	}
	l.ahead = append(l.ahead, r)
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
