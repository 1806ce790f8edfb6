// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"strconv"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/storage"
)

// The server can be configured to forbid overlapping roots in a namespace. Each namespace that has a root has one
// key:
//
//	<etcd prefix>/roots/<namespace>
//
// Every transaction that creates a root also puts this key, even if overlaps are allowed. So the mod revision of the
// key is the revision of the newest root, and a watch cache that has reached it contains all roots. To refuse
// overlaps, a server compares a new root with the roots in its watch cache, and commits only if the key has not
// changed since. The transaction that removes the last root also removes the key.

// planRoot plans the creation of a root.
func (pl *Planner) planRoot(ctx context.Context, root *ipam.Prefix) (Plan, error) {
	key := pl.Keys.rootsOf(root.Namespace)
	plan := Plan{then: []clientv3.Op{clientv3.OpPut(key, "")}}
	wanted, err := cidr.ParseStored(root.Spec.Prefix)
	if !pl.disjointRoots || err != nil {
		return plan, nil
	}

	// Of concurrent plans for one namespace only one can commit, so the creations of one server take turns.
	if plan.unlock, err = pl.rootLocks.lock(ctx, root.Namespace); err != nil {
		return Plan{}, err
	}
	fail := func(err error) (Plan, error) {
		plan.unlock()
		return Plan{}, err
	}
	kv, err := pl.revisions(ctx, key)
	if err != nil {
		return fail(err)
	}
	revision := kv.ModRevision
	overlapping := RootsOverlapping(root.Namespace, wanted)
	if revision > 0 {
		others, err := pl.listRoots(ctx, root.Namespace, overlapping, strconv.FormatInt(revision, 10), 1)
		if err != nil {
			return fail(err)
		}
		if len(others) == 0 {
			plan.Guards = []Guard{IsUnchanged(key, revision)}
			return plan, nil
		}
		// The overlapping root may have been deleted, so list again at the current revision. That does not need the
		// lock.
		plan.unlock()
	}

	others, err := pl.listRoots(ctx, root.Namespace, overlapping, "", validation.MaxOverlapsNamed)
	if err != nil {
		return fail(err)
	}
	var errs field.ErrorList
	for i := range others {
		if others[i].Name != root.Name {
			errs = append(errs, validation.OverlapsRoot(wanted, &others[i]))
		}
	}
	switch {
	case len(errs) > 0:
		return fail(apierrors.NewInvalid(ipam.Kind(ipam.PrefixKind), root.Name, errs))
	case revision > 0 && len(others) == 0:
		return fail(errStale)
	}
	// Either no root has put the key yet, or the overlapping root has the same name. The create fails in the second
	// case.
	plan.Guards = []Guard{IsUnchanged(key, revision)}
	return plan, nil
}

// planDeleteRoot adds to plan, the plan for the removal of a root. If the root is the last one of its namespace, the
// transaction also removes the key of the namespace. If not, it requires that another root still exists.
func (pl *Planner) planDeleteRoot(ctx context.Context, root *ipam.Prefix, plan Plan) (Plan, error) {
	key := pl.Keys.rootsOf(root.Namespace)
	kv, err := pl.revisions(ctx, key)
	if err != nil {
		return Plan{}, err
	}
	revision := kv.ModRevision
	if revision == 0 {
		return plan, nil
	}
	// List at the revision of the key first, which is cheaper. That list may contain deleted roots. If the other
	// root that it finds is deleted, list at the current revision.
	for _, resourceVersion := range []string{strconv.FormatInt(revision, 10), ""} {
		roots, err := pl.listRoots(ctx, root.Namespace, rootsIn(root.Namespace), resourceVersion, 2)
		if err != nil {
			return Plan{}, err
		}
		var other *ipam.Prefix
		for i := range roots {
			if roots[i].Name != root.Name {
				other = &roots[i]
			}
		}
		if other == nil {
			plan.Guards = append(plan.Guards, IsUnchanged(key, revision))
			plan.then = append(plan.then, clientv3.OpDelete(key))
			return plan, nil
		}
		otherKey := pl.Prefixes.Key(other.Namespace, other.Name)
		otherKV, err := pl.revisions(ctx, otherKey)
		if err != nil {
			return Plan{}, err
		}
		if otherKV.CreateRevision > 0 {
			plan.Guards = append(plan.Guards, IsSame(otherKey, otherKV.CreateRevision))
			return plan, nil
		}
	}
	return Plan{}, errStale
}

// listRoots lists roots of a namespace from a watch cache that has reached a resource version. If the resource
// version is empty, the cache must have reached the current revision of etcd.
func (pl *Planner) listRoots(ctx context.Context, namespace string, selector fields.Selector, resourceVersion string, limit int64) ([]ipam.Prefix, error) {
	options := storage.ListOptions{
		Predicate: storage.SelectionPredicate{
			Label: labels.Everything(), Field: selector, GetAttrs: pl.mustSources().Attributes, IndexFields: []string{FieldRootNamespace}, Limit: limit,
		},
		Recursive: true, ResourceVersion: resourceVersion,
	}
	if resourceVersion != "" {
		options.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
	}
	var list ipam.PrefixList
	err := pl.mustSources().Prefixes.GetList(ctx, pl.Prefixes.storageKey(namespace, ""), options, &list)
	return list.Items, err
}

// revisions reads a key without its value. All its revisions are 0 if the key does not exist.
func (pl *Planner) revisions(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	response, err := pl.KV.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	if len(response.Kvs) == 0 {
		return &mvccpb.KeyValue{}, nil
	}
	return response.Kvs[0], nil
}

// keyLocks has a lock for each key. Those who wait for a lock get it in the order in which they came.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	// held contains one value while the lock is held.
	held chan struct{}
	// users is the number of holders and waiters. At 0 the lock is dropped from the map.
	users int
}

// lock acquires the lock of a key. It returns a function that releases it; further calls of that function do
// nothing. If the context ends first, lock returns the error of the context.
func (k *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyLock{held: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, key)
		}
	}
	select {
	case l.held <- struct{}{}:
		return sync.OnceFunc(func() {
			<-l.held
			leave()
		}), nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
