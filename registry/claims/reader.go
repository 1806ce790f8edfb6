// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage"
)

// reader reads the objects and claims that a plan depends on. Stale data does no harm, because the transaction
// compares everything that the plan is based on. A write is planned with cached first. If the plan
// refuses it for a reason that may be stale, or the transaction fails, it is planned again with live.
type reader interface {
	// isLive reports whether all reads return the current state of etcd.
	isLive() bool
	// parent returns a parent, or nil if it does not exist.
	parent(ctx context.Context, namespace, name string) (*parent, error)
	// prefix returns a Prefix and its mod revision, which is 0 if the Prefix does not exist.
	prefix(ctx context.Context, namespace, name string) (*ipam.Prefix, int64, error)
	// claim returns the claim at a key. kv is nil if there is none.
	claim(ctx context.Context, key string) (kv *mvccpb.KeyValue, value Claim, err error)
	// policiesOf returns the policies of a namespace.
	policiesOf(ctx context.Context, namespace string) ([]ipam.PrefixPolicy, error)
	// written returns the claim at a key if this server wrote it and still remembers it. It need not be read then.
	written(key string) (writtenClaim, bool)
}

// parent is the part of a parent Prefix that a plan needs.
type parent struct {
	uid                         types.UID
	labels                      labels.Set
	createRevision, modRevision int64
	prefix                      netip.Prefix
	allocated                   bool
	deleting                    bool
}

func parentOf(prefix *ipam.Prefix, createRevision, modRevision int64) *parent {
	parsed, err := cidr.ParseStored(prefix.Spec.Prefix)
	return &parent{
		uid:            prefix.UID,
		labels:         prefix.Labels,
		createRevision: createRevision,
		modRevision:    modRevision,
		prefix:         parsed,
		allocated:      err == nil && prefix.Status.Phase == ipam.PrefixPhaseAllocated,
		deleting:       prefix.DeletionTimestamp != nil,
	}
}

// reader returns a reader of the current state of etcd, or one that may be stale. It panics if there are no sources yet.
func (pl *Planner) reader(current bool) reader {
	pl.mustSources()
	if current {
		return live{pl}
	}
	return cached{pl}
}

// live is a reader that reads the current state of etcd.
type live struct{ *Planner }

func (r live) isLive() bool { return true }

func (r live) parent(ctx context.Context, namespace, name string) (*parent, error) {
	prefix := &ipam.Prefix{}
	kv, err := r.get(ctx, r.Prefixes, namespace, name, prefix)
	if err != nil || kv == nil {
		return nil, err
	}
	p := parentOf(prefix, kv.CreateRevision, kv.ModRevision)
	if p.allocated {
		r.createdAt.Add(p.uid, p.createRevision)
	}
	return p, nil
}

func (r live) prefix(ctx context.Context, namespace, name string) (*ipam.Prefix, int64, error) {
	prefix := &ipam.Prefix{}
	kv, err := r.get(ctx, r.Prefixes, namespace, name, prefix)
	if err != nil || kv == nil {
		return nil, 0, err
	}
	return prefix, kv.ModRevision, nil
}

func (r live) claim(ctx context.Context, key string) (*mvccpb.KeyValue, Claim, error) {
	return r.ReadClaim(ctx, key)
}

func (r live) policiesOf(ctx context.Context, namespace string) ([]ipam.PrefixPolicy, error) {
	return r.listPolicies(ctx, namespace, "")
}

func (r live) written(string) (writtenClaim, bool) { return writtenClaim{}, false }

// cached is a reader that uses the watch cache, the memory of this server, and serializable reads of etcd. What it
// returns may be stale.
type cached struct{ *Planner }

func (r cached) isLive() bool { return false }

// parent reads the parent from the watch cache if its create revision is known and it is allocated, else from etcd.
// A stale copy is good enough: the uid, prefix and phase of an allocated Prefix do not change, and the plan guards
// that it is still the same object, or an unchanged one if its labels matter.
func (r cached) parent(ctx context.Context, namespace, name string) (*parent, error) {
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	prefix := &ipam.Prefix{}
	err := r.mustSources().Prefixes.Get(ctx, r.Prefixes.storageKey(namespace, name), storage.GetOptions{ResourceVersion: "0", IgnoreNotFound: true}, prefix)
	if err == nil && (!demanded || wanted == prefix.UID) {
		if created, ok := r.createdAt.Get(prefix.UID); ok {
			revision, err := storage.APIObjectVersioner{}.ObjectResourceVersion(prefix)
			if err != nil {
				return nil, err
			}
			if p := parentOf(prefix, created.(int64), int64(revision)); p.allocated {
				return p, nil
			}
		}
	}
	return live(r).parent(ctx, namespace, name)
}

func (r cached) prefix(ctx context.Context, namespace, name string) (*ipam.Prefix, int64, error) {
	prefix := &ipam.Prefix{}
	options := storage.GetOptions{ResourceVersion: "0", IgnoreNotFound: true}
	if err := r.mustSources().Prefixes.Get(ctx, r.Prefixes.storageKey(namespace, name), options, prefix); err != nil {
		return nil, 0, err
	}
	revision, err := storage.APIObjectVersioner{}.ObjectResourceVersion(prefix)
	return prefix, int64(revision), err
}

func (r cached) claim(ctx context.Context, key string) (*mvccpb.KeyValue, Claim, error) {
	return r.ReadClaim(ctx, key, clientv3.WithSerializable())
}

func (r cached) policiesOf(ctx context.Context, namespace string) ([]ipam.PrefixPolicy, error) {
	return r.listPolicies(ctx, namespace, "0")
}

func (r cached) written(key string) (writtenClaim, bool) {
	m, ok := r.writtenClaims.Get(key)
	if !ok {
		return writtenClaim{}, false
	}
	return m.(writtenClaim), true
}
