// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
)

// view holds what was read from etcd to compare objects with claims. If a function asks for a key that was not read,
// the view records the key. The caller then reads it and calls the function again.
type view struct {
	*claims.Etcd
	// values has the keys that have been read. The value is nil if the key does not exist.
	values map[string]*mvccpb.KeyValue
	// missing has the keys that were asked for and have not been read.
	missing map[string]bool
	// recorded, if it is not nil, collects all keys that are asked for.
	recorded map[string]bool

	prefixInfos     map[string]*prefixInfo
	allocationInfos map[string]*allocationInfo
	claimEntries    map[string]*claimEntry
	// errs has the keys that cannot be decoded, and why.
	errs map[string]error
}

// keyState is what a view knows about a key.
type keyState int

const (
	// unread means that the key has not been read yet.
	unread keyState = iota
	absent
	present
	undecodable
)

// prefixInfo is the part of a Prefix that a comparison needs.
type prefixInfo struct {
	namespace, name string
	uid             types.UID
	// prefix is spec.prefix without host bits, and not valid if that cannot be parsed. written is spec.prefix as it
	// is.
	prefix  netip.Prefix
	written string
	// parent is the name in spec.parentRef, or empty. parentNamespace is the namespace of the parent.
	parent, parentNamespace string
	allocated, root         bool
	createRevision          int64
}

// allocationInfo is the part of an allocation that a comparison needs.
type allocationInfo struct {
	// Holder is the allocation as the holder of a claim. Its Child is taken from the allocation, not from the claim.
	claims.Holder
	// allocated is whether the allocation holds prefix, which is space of the Prefix named parent in parentNamespace.
	allocated               bool
	parent, parentNamespace string
	prefix                  netip.Prefix
	// cooling is whether the prefix cools down now.
	cooling bool
	// created is the creation time in seconds since 1970.
	created     int64
	modRevision int64
}

// claimEntry is a claim, with the parent and the prefix from its key.
type claimEntry struct {
	claims.Claim
	parent types.UID
	prefix netip.Prefix
}

func newView(etcd *claims.Etcd, kvs []*mvccpb.KeyValue) *view {
	v := &view{
		Etcd: etcd, values: make(map[string]*mvccpb.KeyValue, len(kvs)), missing: map[string]bool{},
		prefixInfos: map[string]*prefixInfo{}, allocationInfos: map[string]*allocationInfo{}, claimEntries: map[string]*claimEntry{},
		errs: map[string]error{},
	}
	for _, kv := range kvs {
		v.values[string(kv.Key)] = kv
	}
	return v
}

// ask returns the value of a key. If the key has not been read, ask records it as missing.
func (v *view) ask(key string) (*mvccpb.KeyValue, keyState) {
	if v.recorded != nil {
		v.recorded[key] = true
	}
	switch kv, ok := v.values[key]; {
	case !ok:
		v.missing[key] = true
		return nil, unread
	case kv == nil:
		return nil, absent
	default:
		return kv, present
	}
}

// asked returns the keys that f asks for.
func (v *view) asked(f func()) []string {
	v.recorded = map[string]bool{}
	f()
	keys := slices.Collect(maps.Keys(v.recorded))
	v.recorded = nil
	return keys
}

// decoded returns the decoded value of a key. It decodes each key only once.
func decoded[T any](v *view, memo map[string]*T, key string, decode func(*mvccpb.KeyValue) (*T, error)) (*T, keyState) {
	kv, state := v.ask(key)
	if state != present {
		return nil, state
	}
	if v.errs[key] != nil {
		return nil, undecodable
	}
	info, ok := memo[key]
	if !ok {
		var err error
		if info, err = decode(kv); err != nil {
			v.errs[key] = err
			return nil, undecodable
		}
		memo[key] = info
	}
	return info, present
}

// prefix returns the Prefix at a key. It is nil unless the second result is present.
func (v *view) prefix(ctx context.Context, key string) (*prefixInfo, keyState) {
	return decoded(v, v.prefixInfos, key, func(kv *mvccpb.KeyValue) (*prefixInfo, error) {
		p := &ipam.Prefix{}
		if err := v.Prefixes.Decode(ctx, kv, p); err != nil {
			return nil, err
		}
		info := &prefixInfo{
			namespace: p.Namespace, name: p.Name, uid: p.UID, written: p.Spec.Prefix, parentNamespace: p.NamespaceOfParent(),
			allocated: p.Status.Phase == ipam.PrefixPhaseAllocated, root: p.Spec.IsRoot(), createRevision: kv.CreateRevision,
		}
		if parsed, err := cidr.ParseStored(p.Spec.Prefix); err == nil {
			info.prefix = parsed
		}
		if p.Spec.ParentRef != nil {
			info.parent = p.Spec.ParentRef.Name
		}
		return info, nil
	})
}

// allocation returns the allocation at a key. It is nil unless the second result is present.
func (v *view) allocation(ctx context.Context, key string) (*allocationInfo, keyState) {
	return decoded(v, v.allocationInfos, key, func(kv *mvccpb.KeyValue) (*allocationInfo, error) {
		a := &ipam.PrefixAllocation{}
		if err := v.Allocations.Decode(ctx, kv, a); err != nil {
			return nil, err
		}
		info := &allocationInfo{Holder: claims.HolderOf(a), parentNamespace: a.NamespaceOfParent(), created: a.CreationTimestamp.Unix(), modRevision: kv.ModRevision}
		info.parent, info.prefix, info.allocated = claims.Allocated(a)
		info.cooling = a.Status.CoolingUntil != nil && time.Now().Before(a.Status.CoolingUntil.Time)
		return info, nil
	})
}

// claim returns the claim at a key. It is nil unless the second result is present.
func (v *view) claim(key string) (*claimEntry, keyState) {
	return decoded(v, v.claimEntries, key, func(kv *mvccpb.KeyValue) (entry *claimEntry, err error) {
		entry = &claimEntry{}
		if entry.parent, entry.prefix, err = v.Keys.Parse(key); err != nil {
			return nil, err
		}
		if entry.Claim, err = claims.DecodeClaim(kv.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		return entry, nil
	})
}

// holder returns the holder that is this allocation, or nil if there is none.
func (e *claimEntry) holder(a *allocationInfo) *claims.Holder {
	if e == nil {
		return nil
	}
	h := e.Find(a.UID)
	if h == nil || h.Namespace != a.Namespace || h.Name != a.Name {
		return nil
	}
	return h
}

// madeFor reports whether the claim was made for a child.
func (e *claimEntry) madeFor(child *prefixInfo) bool {
	return e != nil && slices.ContainsFunc(e.Holders, func(h claims.Holder) bool {
		return h.Namespace == child.namespace && h.Child != nil && *h.Child == claims.ChildRef{Name: child.name, UID: child.uid}
	})
}

// undecodable returns the difference for a key that cannot be decoded.
func (v *view) undecodable(key string) Difference {
	d := Difference{Kind: Undecodable, Message: fmt.Sprintf("it cannot be decoded: %v", v.errs[key]), Key: key}
	for _, o := range []claims.Objects{v.Prefixes, v.Allocations} {
		if name, ok := strings.CutPrefix(key, o.All().Start); ok {
			d.Namespace, d.Name, _ = strings.Cut(name, "/")
		}
	}
	if parent, prefix, err := v.Keys.Parse(key); err == nil {
		d.Parent, d.Prefix = string(parent), prefix.String()
	}
	return d
}

// checkKeys returns an error if so many of the objects cannot be decrypted that the configured keys must be wrong.
// of is the number of objects.
func (v *view) checkKeys(of int) error {
	var some error
	encrypted := 0
	for _, err := range v.errs {
		if errors.Is(err, claims.ErrEncrypted) {
			some = err
			encrypted++
		}
	}
	if claims.Misconfigured(encrypted, of-encrypted) {
		return fmt.Errorf("%d of %d objects cannot be decrypted; are the encryption keys correct? One of the errors: %w", encrypted, of, some)
	}
	return nil
}

// complete calls f until every key that f asks for has been read. The reads are serializable, so the values may be
// stale and from different revisions.
func (v *view) complete(ctx context.Context, f func()) error {
	for {
		clear(v.missing)
		if f(); len(v.missing) == 0 {
			return nil
		}
		if err := v.read(ctx, slices.Sorted(maps.Keys(v.missing))); err != nil {
			return err
		}
	}
}

// readers is the number of concurrent transactions of a read.
const readers = 4

// read reads keys into the view, with as many keys in a transaction as etcd accepts.
func (v *view) read(ctx context.Context, keys []string) error {
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	chunks := slices.Collect(slices.Chunk(keys, claims.MaxTxnOps))
	values := make([][]*mvccpb.KeyValue, len(chunks))
	for i, chunk := range chunks {
		group.Go(func() (err error) {
			values[i], err = getAll(reading, v.KV, chunk, clientv3.WithSerializable())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, chunk := range chunks {
		for j, key := range chunk {
			v.values[key] = values[i][j]
		}
	}
	return nil
}

// getAll reads keys in one transaction. The value of a key that does not exist is nil.
func getAll(ctx context.Context, kv clientv3.KV, keys []string, options ...clientv3.OpOption) ([]*mvccpb.KeyValue, error) {
	gets := make([]clientv3.Op, 0, len(keys))
	for _, key := range keys {
		gets = append(gets, clientv3.OpGet(key, options...))
	}
	response, err := kv.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return nil, err
	}
	values := make([]*mvccpb.KeyValue, 0, len(keys))
	for _, r := range response.Responses {
		var value *mvccpb.KeyValue
		if kvs := r.GetResponseRange().Kvs; len(kvs) > 0 {
			value = kvs[0]
		}
		values = append(values, value)
	}
	return values, nil
}

// maxTries is how often a judgement is tried at most when the objects that it depends on change meanwhile.
const maxTries = 10

// judgeAtOneRevision returns what a judge finds when all keys that it asks for are read in one transaction, and the view
// with these keys. keys are read first. If the judge asks for others, all are read again. If it still asks for others after
// maxTries transactions, because the objects keep changing, it finds nothing.
func judgeAtOneRevision(ctx context.Context, etcd *claims.Etcd, keys []string, judge judge) (*view, []Difference, error) {
	var v *view
	for range maxTries {
		v = newView(etcd, nil)
		if len(keys) > 0 {
			values, err := getAll(ctx, etcd.KV, keys)
			if err != nil {
				return nil, nil, err
			}
			for i, key := range keys {
				v.values[key] = values[i]
			}
		}
		found := judge(ctx, v)
		if len(v.missing) == 0 {
			return v, found, nil
		}
		keys = slices.AppendSeq(slices.Clone(keys), maps.Keys(v.missing))
	}
	return v, nil, nil
}

// unchanged returns compares which require that no key of the view has changed.
func (v *view) unchanged() []clientv3.Cmp {
	compares := make([]clientv3.Cmp, 0, len(v.values))
	for key, kv := range v.values {
		revision := int64(0)
		if kv != nil {
			revision = kv.ModRevision
		}
		compares = append(compares, claims.IsUnchanged(key, revision).Compare)
	}
	return compares
}
