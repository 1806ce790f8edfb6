// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage"
)

// reader reads what a plan depends on. A plan that goes by what is out of date does no harm: the transaction compares
// what the plan is based on. So a write is planned by cached first, and by live if the transaction or the plan fails.
type reader interface {
	// isLive reports whether everything is read from etcd as it is now.
	isLive() bool
	// parent returns a parent, or nil if there is none.
	parent(ctx context.Context, namespace, name string) (*parent, error)
	// prefix returns a Prefix with the revision at which it was written last, which is 0 if there is none.
	prefix(ctx context.Context, namespace, name string) (*ipam.Prefix, int64, error)
	// claim returns a claim. There is none if kv is nil.
	claim(ctx context.Context, key string) (kv *mvccpb.KeyValue, value claim, err error)
	// made returns a claim that this server has made lately, if there is no need to read it.
	made(key string) (made, bool)
}

// live reads from etcd.
type live struct{ *Claims }

func (r live) isLive() bool { return true }

func (r live) parent(ctx context.Context, namespace, name string) (*parent, error) {
	prefix := &ipam.Prefix{}
	kv, err := r.get(ctx, r.prefixes, namespace, name, prefix)
	if err != nil || kv == nil {
		return nil, err
	}
	p := parentOf(prefix, kv.CreateRevision)
	if p.allocated {
		r.createdAt.Add(p.uid, p.createRevision)
	}
	return p, nil
}

func (r live) prefix(ctx context.Context, namespace, name string) (*ipam.Prefix, int64, error) {
	prefix := &ipam.Prefix{}
	kv, err := r.get(ctx, r.prefixes, namespace, name, prefix)
	if err != nil || kv == nil {
		return nil, 0, err
	}
	return prefix, kv.ModRevision, nil
}

func (r live) claim(ctx context.Context, key string) (*mvccpb.KeyValue, claim, error) {
	return r.readClaim(ctx, key)
}

func (r live) made(string) (made, bool) { return made{}, false }

// cached goes by what this server remembers, and by what the nearest member of etcd knows.
type cached struct{ *Claims }

func (r cached) isLive() bool { return false }

// parent takes a parent that is known to be allocated from the watch cache: its uid, prefix and phase do not change any
// more as long as it is the same object, which the plan guards.
func (r cached) parent(ctx context.Context, namespace, name string) (*parent, error) {
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	prefix := &ipam.Prefix{}
	err := r.prefixes.cached.Get(ctx, r.prefixes.storageKey(namespace, name), storage.GetOptions{ResourceVersion: "0", IgnoreNotFound: true}, prefix)
	if err == nil && (!demanded || wanted == prefix.UID) {
		if created, ok := r.createdAt.Get(prefix.UID); ok {
			if p := parentOf(prefix, created.(int64)); p.allocated {
				return p, nil
			}
		}
	}
	return live(r).parent(ctx, namespace, name)
}

func (r cached) prefix(ctx context.Context, namespace, name string) (*ipam.Prefix, int64, error) {
	prefix := &ipam.Prefix{}
	options := storage.GetOptions{ResourceVersion: "0", IgnoreNotFound: true}
	if err := r.prefixes.cached.Get(ctx, r.prefixes.storageKey(namespace, name), options, prefix); err != nil {
		return nil, 0, err
	}
	revision, err := storage.APIObjectVersioner{}.ObjectResourceVersion(prefix)
	return prefix, int64(revision), err
}

func (r cached) claim(ctx context.Context, key string) (*mvccpb.KeyValue, claim, error) {
	return r.readClaim(ctx, key, clientv3.WithSerializable())
}

func (r cached) made(key string) (made, bool) {
	m, ok := r.claimsMade.Get(key)
	if !ok {
		return made{}, false
	}
	return m.(made), true
}

// readClaim reads a claim from etcd.
func (c *Claims) readClaim(ctx context.Context, key string, options ...clientv3.OpOption) (*mvccpb.KeyValue, claim, error) {
	response, err := c.kv.Get(ctx, key, options...)
	if err != nil || len(response.Kvs) == 0 {
		return nil, claim{}, err
	}
	value, err := decodeClaim(response.Kvs[0].Value)
	return response.Kvs[0], value, err
}
