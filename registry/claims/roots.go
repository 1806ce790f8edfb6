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

// Roots of a namespace must not overlap, if the server is configured so. Each namespace that has a
// root has one key:
//
//	<etcd prefix>/roots/<namespace>
//
// Every transaction that creates a root puts the key, whatever the configuration. So the revision of
// the key is that of the newest root, and a watch cache that has reached it has all roots. A server
// that refuses overlapping roots compares the new root with those in its watch cache, and commits only
// if the key has not changed since. The transaction that removes the last root removes the key.

// planRoot plans that a root is created.
func (c *Claims) planRoot(ctx context.Context, root *ipam.Prefix) (plan, error) {
	key := c.keyspace.rootsOf(root.Namespace)
	made := plan{then: []clientv3.Op{clientv3.OpPut(key, "")}}
	wanted, err := cidr.ParseStored(root.Spec.Prefix)
	if !c.disjointRoots || err != nil {
		return made, nil
	}

	// Of several plans for a namespace only one commits. Those of one server wait for each other.
	if made.release, err = c.rootLocks.lock(ctx, root.Namespace); err != nil {
		return plan{}, err
	}
	fail := func(err error) (plan, error) {
		made.release()
		return plan{}, err
	}
	kv, err := c.revisions(ctx, key)
	if err != nil {
		return fail(err)
	}
	revision := kv.ModRevision
	overlapping := RootsOverlapping(root.Namespace, wanted)
	if revision > 0 {
		others, err := c.listRoots(ctx, root.Namespace, overlapping, strconv.FormatInt(revision, 10), 1)
		if err != nil {
			return fail(err)
		}
		if len(others) == 0 {
			made.guards = []guard{isUnchanged(key, revision)}
			return made, nil
		}
		// The root may be gone already. The refusal does not keep others waiting.
		made.release()
	}

	others, err := c.listRoots(ctx, root.Namespace, overlapping, "", validation.MaxOverlapsNamed)
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
	// There is no root yet that has put the key, or there is one of this name.
	made.guards = []guard{isUnchanged(key, revision)}
	return made, nil
}

// planLastRoot plans that a root goes. If it is the last one of the namespace, the key goes with it; if
// not, another one has to stay.
func (c *Claims) planLastRoot(ctx context.Context, root *ipam.Prefix, vanish plan) (plan, error) {
	key := c.keyspace.rootsOf(root.Namespace)
	kv, err := c.revisions(ctx, key)
	if err != nil {
		return plan{}, err
	}
	revision := kv.ModRevision
	if revision == 0 {
		return vanish, nil
	}
	// The watch cache may have roots that are gone, so ask it for them only if there are others.
	for _, resourceVersion := range []string{strconv.FormatInt(revision, 10), ""} {
		roots, err := c.listRoots(ctx, root.Namespace, rootsIn(root.Namespace), resourceVersion, 2)
		if err != nil {
			return plan{}, err
		}
		var other *ipam.Prefix
		for i := range roots {
			if roots[i].Name != root.Name {
				other = &roots[i]
			}
		}
		if other == nil {
			vanish.guards = append(vanish.guards, isUnchanged(key, revision))
			vanish.then = append(vanish.then, clientv3.OpDelete(key))
			return vanish, nil
		}
		otherKey := c.prefixes.etcdKey(other.Namespace, other.Name)
		otherKV, err := c.revisions(ctx, otherKey)
		if err != nil {
			return plan{}, err
		}
		if otherKV.CreateRevision > 0 {
			vanish.guards = append(vanish.guards, isSame(otherKey, otherKV.CreateRevision))
			return vanish, nil
		}
	}
	return plan{}, errStale
}

// listRoots lists roots of a namespace, from a watch cache that has reached the resource version; ""
// is the revision that etcd has now.
func (c *Claims) listRoots(ctx context.Context, namespace string, selector fields.Selector, resourceVersion string, limit int64) ([]ipam.Prefix, error) {
	options := storage.ListOptions{
		Predicate: storage.SelectionPredicate{
			Label: labels.Everything(), Field: selector, GetAttrs: c.prefixes.attributes, IndexFields: []string{FieldRootOf}, Limit: limit,
		},
		Recursive: true, ResourceVersion: resourceVersion,
	}
	if resourceVersion != "" {
		options.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
	}
	var list ipam.PrefixList
	err := c.prefixes.cached.GetList(ctx, c.prefixes.storageKey(namespace, ""), options, &list)
	return list.Items, err
}

// revisions returns a key without its value. Its revisions are 0 if there is no such key.
func (c *Claims) revisions(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	response, err := c.kv.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	if len(response.Kvs) == 0 {
		return &mvccpb.KeyValue{}, nil
	}
	return response.Kvs[0], nil
}

// keyLocks are locks by key. Who waits for one is served in order.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	// held has one value while the lock is held.
	held chan struct{}
	// users are who holds it and who waits for it.
	users int
}

// lock takes the lock of a key, and returns what releases it, once however often it is called. It
// gives up when the context ends.
func (k *keyLocks) lock(ctx context.Context, key string) (release func(), err error) {
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
