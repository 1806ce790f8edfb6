// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

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

// cachedLists is a watch cache that never reads a list from etcd. For each page of a list, etcd counts all keys that
// follow, and nothing is written meanwhile. A tenant who pages through a large list would slow down the writes of
// everybody.
//
// A list that the cache cannot serve fails with ResourceExpired, as it does in etcd when its revision is compacted.
type cachedLists struct {
	storage.Interface
	cache          *cacher.Cacher
	resourcePrefix string
	// keyOf returns the storage key of an object.
	keyOf func(runtime.Object) (string, error)
	// readAhead is how many objects are read at a time for the pages of a list, at least. For each read, the cache visits
	// all objects that follow. So with reads of 500, the time would be quadratic in the number of objects.
	readAhead int64

	mu sync.Mutex
	// ahead holds what was read beyond the pages that were asked for, the oldest first.
	ahead []remainder
	// sweeper is set while dropOld is to be called.
	sweeper *time.Timer
}

const (
	// readAhead is the default of Config.ReadAhead.
	readAhead = 10_000
	// maxAhead is the number of paged lists for which objects are read ahead at the same time. Each list takes a few
	// MiB.
	maxAhead = 8
	// shareAhead is how many times readAhead objects are read ahead for all lists together, if there are few lists. Then a
	// list of a million is read 13 times, not 100 times.
	shareAhead = 2 * maxAhead
	// keepAhead is how long objects are kept for a client that does not ask for the next page. Many lists are abandoned, and
	// what was read for them may be the only reference to old versions of objects.
	keepAhead = time.Minute
)

// remainder is the part of a list that was read beyond a page.
type remainder struct {
	// key, label and field identify the list. token is the continue token with which the next page is requested.
	key, label, field, token string
	// items is a slice of objects.
	items           reflect.Value
	resourceVersion uint64
	// next and remaining are the continue token and the remainingItemCount that follow the items.
	next      string
	remaining *int64
	// stored is the time of put.
	stored time.Time
}

// GetList implements storage.Interface.
func (l *cachedLists) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	// A list that is not recursive reads one key. If the cache keeps no snapshots, or if etcd is too old for
	// consistent reads from the cache, the cache cannot serve enough lists.
	if !opts.Recursive || !utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) || !delegator.ConsistentReadSupported() {
		return l.Interface.GetList(ctx, key, opts, list)
	}
	if _, _, err := storage.ValidateListOptions(l.resourcePrefix, l.Versioner(), opts); err != nil {
		return err
	}
	p := opts.Predicate
	isPage := p.Continue != "" && p.Limit > 0 && p.Limit < l.readAhead && p.Label != nil && p.Field != nil && p.ShardSelector == nil
	if isPage {
		// What has been read ahead is served even if the cache no longer has the revision. A server on which nothing is written
		// has no revision after a compaction.
		if r, ok := l.take(key, p); ok {
			return l.serve(key, p, r, list)
		}
	}
	decision, err := delegator.ShouldDelegateList(opts, l.cache)
	if err != nil {
		return err
	}
	if decision.ShouldDelegate {
		return expired(opts)
	}
	if isPage {
		err = l.page(ctx, key, opts, list)
	} else {
		err = l.cache.GetList(ctx, key, opts, list)
	}
	switch {
	case apierrors.IsResourceExpired(err):
		return expired(opts)
	case decision.ConsistentRead && storage.IsTooLargeResourceVersion(err):
		// The cache is seconds behind etcd. Clients retry after this error by themselves.
		return apierrors.NewTooManyRequests(err.Error(), 1)
	}
	return err
}

// page reads a page of a list, not the first one, together with the pages that follow.
func (l *cachedLists) page(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	p := opts.Predicate
	// With a multiple of the limit, every page except the last one is full.
	ahead := l.room()
	opts.Predicate.Limit = ahead - ahead%p.Limit
	if err := l.cache.GetList(ctx, key, opts, list); err != nil {
		return err
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return err
	}
	items, err := itemsOf(list)
	if err != nil {
		return err
	}
	r := remainder{
		key: key, label: p.Label.String(), field: p.Field.String(),
		items: items.Slice(0, items.Len()), next: accessor.GetContinue(), remaining: accessor.GetRemainingItemCount(),
	}
	if r.resourceVersion, err = l.Versioner().ParseResourceVersion(accessor.GetResourceVersion()); err != nil {
		return err
	}
	return l.serve(key, p, r, list)
}

// itemsOf returns the items of a list.
func itemsOf(list runtime.Object) (reflect.Value, error) {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return reflect.Value{}, err
	}
	return reflect.ValueOf(items).Elem(), nil
}

// serve sets the items of a page from what was read, and keeps the rest for the pages that follow.
func (l *cachedLists) serve(key string, p storage.SelectionPredicate, r remainder, list runtime.Object) error {
	items, err := itemsOf(list)
	if err != nil {
		return err
	}
	limit := int(p.Limit)
	if r.items.Len() <= limit {
		items.Set(r.items)
		return l.Versioner().UpdateList(list, r.resourceVersion, r.next, r.remaining)
	}

	// The caller may modify the items, so copy them.
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
	if p.Empty() {
		remaining = ptr.To(int64(r.items.Len()) + ptr.Deref(r.remaining, 0))
	}
	l.put(r)
	return l.Versioner().UpdateList(list, r.resourceVersion, r.token, remaining)
}

// room returns how many objects to read ahead for a list: half of what the other lists leave, but not less than readAhead.
func (l *cachedLists) room() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := shareAhead * l.readAhead
	for _, r := range l.ahead {
		left -= int64(r.items.Len())
	}
	return max(l.readAhead, left/2)
}

// take removes and returns what was read ahead for a page.
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

// put stores what was read ahead, for keepAhead. If there is no room, it drops the oldest.
func (l *cachedLists) put(r remainder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ahead) == maxAhead {
		l.ahead = slices.Delete(l.ahead, 0, 1)
	}
	r.stored = time.Now()
	l.ahead = append(l.ahead, r)
	if l.sweeper == nil {
		l.sweeper = time.AfterFunc(keepAhead, l.dropOld)
	}
}

// dropOld drops what nobody has asked for in time, and comes back while there is something left.
func (l *cachedLists) dropOld() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead = slices.DeleteFunc(l.ahead, func(r remainder) bool { return time.Since(r.stored) >= keepAhead })
	l.sweeper = nil
	if len(l.ahead) > 0 {
		l.sweeper = time.AfterFunc(keepAhead-time.Since(l.ahead[0].stored), l.dropOld)
	}
}

// expired returns the error for a list at a revision that the cache no longer has. If the list continues an earlier
// page, the error has a continue token with which the client can go on at the then current revision.
func expired(opts storage.ListOptions) error {
	if opts.Predicate.Continue == "" {
		return apierrors.NewResourceExpired("The provided resource version is too old: list again without one")
	}
	gone := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You can start " +
		"a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the " +
		"results, which may be inconsistent with the previous ones")
	next, _, err := storage.DecodeContinue(opts.Predicate.Continue, "/")
	if err == nil {
		// -1 stands for the current revision when the token is used.
		gone.ErrStatus.Continue, err = storage.EncodeContinue(next, "/", -1)
	}
	if err != nil {
		return apierrors.NewBadRequest("invalid continue token: " + err.Error())
	}
	return gone
}

// unpaged is the storage from which a watch cache is filled. It lists without a limit. The cache would ask for
// pages, although it keeps all of them until it has the last one, and etcd counts the remaining keys for each page.
// Without a limit, etcd streams the list and counts nothing.
type unpaged struct{ storage.Interface }

// GetList implements storage.Interface.
func (u unpaged) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	opts.Predicate.Limit = 0
	return u.Interface.GetList(ctx, key, opts, list)
}
