// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
)

// Etcd reads objects and claims directly from etcd.
type Etcd struct {
	// KV is a client of the etcd that stores both.
	KV clientv3.KV
	// Keys are the keys of the claims.
	Keys Keyspace
	// Prefixes, Allocations and Policies are the objects of the kinds.
	Prefixes, Allocations, Policies Objects
}

// Objects knows the keys of the objects of a kind, and how they are stored.
type Objects struct {
	// resourcePrefix is the prefix of all keys in the storage of the kind. In etcd, etcdPrefix comes before it.
	resourcePrefix, etcdPrefix string
	// transformer decrypts what is stored in etcd, and decoder decodes it.
	transformer value.Transformer
	decoder     etcd3.Decoder
}

// NewObjects returns the Objects of the kind that a configuration is for. resourcePrefix is the prefix of all keys in
// its storage.
func NewObjects(config *storagebackend.ConfigForResource, resourcePrefix string) Objects {
	o := Objects{
		resourcePrefix: path.Join("/", resourcePrefix), etcdPrefix: path.Join("/", config.Prefix),
		transformer: config.Transformer, decoder: etcd3.NewDefaultDecoder(config.Codec, storage.APIObjectVersioner{}),
	}
	if o.transformer == nil {
		o.transformer = identity.NewEncryptCheckTransformer()
	}
	return o
}

// storageKey returns the key of an object in its storage.
func (o Objects) storageKey(namespace, name string) string {
	return o.resourcePrefix + "/" + namespace + "/" + name
}

// Key returns the key of an object in etcd.
func (o Objects) Key(namespace, name string) string {
	return o.etcdPrefix + o.storageKey(namespace, name)
}

// All returns the range of the keys of all objects.
func (o Objects) All() Range {
	start := o.etcdPrefix + o.resourcePrefix + "/"
	return Range{start, clientv3.GetPrefixRangeEnd(start)}
}

// Decode decrypts and decodes an object. The error wraps ErrEncrypted if the object cannot be decrypted.
func (o Objects) Decode(ctx context.Context, kv *mvccpb.KeyValue, into runtime.Object) error {
	data, _, err := o.transformer.TransformFromStorage(ctx, kv.Value, value.DefaultContext(kv.Key))
	if err != nil {
		return fmt.Errorf("%s: %w: %w", kv.Key, ErrEncrypted, err)
	}
	if err := o.decoder.Decode(data, into, kv.ModRevision); err != nil {
		return fmt.Errorf("%s: %w", kv.Key, err)
	}
	return nil
}

// ErrEncrypted means that none of the configured keys decrypts an object.
var ErrEncrypted = errors.New("cannot be decrypted")

// Misconfigured reports whether so many objects cannot be read that the configuration must be wrong.
func Misconfigured(bad, good int) bool { return bad > 10 && bad > good }

// Lost returns the key in lost+found to which a key is moved whose value cannot be decoded.
func (e *Etcd) Lost(key string) string {
	return e.Prefixes.etcdPrefix + "/lost+found" + strings.TrimPrefix(key, e.Prefixes.etcdPrefix)
}

// get reads an object from etcd and returns its key with the revisions. The result is nil if there is no such
// object.
func (e *Etcd) get(ctx context.Context, o Objects, namespace, name string, into runtime.Object) (*mvccpb.KeyValue, error) {
	response, err := e.KV.Get(ctx, o.Key(namespace, name))
	if err != nil || len(response.Kvs) == 0 {
		return nil, err
	}
	return response.Kvs[0], o.Decode(ctx, response.Kvs[0], into)
}

// scan reads the keys of a range in order, some at a time. All reads are at the same revision; 0 is the current one.
// It uses a stream where etcd has streams (3.7 and later). A read with a limit makes etcd count all keys that
// follow, and every write waits meanwhile.
func (e *Etcd) scan(ctx context.Context, r Range, revision int64) iter.Seq2[[]*mvccpb.KeyValue, error] {
	return func(yield func([]*mvccpb.KeyValue, error) bool) {
		if !e.scanStream(ctx, r, revision, yield) {
			e.scanPages(ctx, r, revision, yield)
		}
	}
}

// scanStream implements scan with a stream. It returns false if etcd does not have streams.
func (e *Etcd) scanStream(ctx context.Context, r Range, revision int64, yield func([]*mvccpb.KeyValue, error) bool) (supported bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := e.KV.GetStream(ctx, r.Start, clientv3.WithRange(r.End), clientv3.WithRev(revision))
	if err == nil {
		defer func() {
			// The goroutine that sends blocks until everything is received.
			cancel()
			for range stream {
			}
		}()
	}
	begun, ended := false, false
	for err == nil && !ended {
		chunk, ok := <-stream
		switch {
		case !ok:
			err = fmt.Errorf("the stream of %s ended too early", r.Start)
		case chunk.Err() != nil:
			err = chunk.Err()
		default:
			// Only the last chunk has a header.
			begun, ended = true, chunk.Header != nil
			if len(chunk.Kvs) > 0 && !yield(chunk.Kvs, nil) {
				return true
			}
		}
	}
	if err != nil {
		if !begun && status.Code(err) == codes.Unimplemented {
			return false
		}
		yield(nil, err)
	}
	return true
}

// pageSize is the number of keys in a read of scanPages.
const pageSize = 10000

// scanPages implements scan with pages, for an etcd without streams.
func (e *Etcd) scanPages(ctx context.Context, r Range, revision int64, yield func([]*mvccpb.KeyValue, error) bool) {
	for start := r.Start; ; {
		response, err := e.KV.Get(ctx, start, clientv3.WithRange(r.End), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
		if err != nil {
			yield(nil, err)
			return
		}
		if len(response.Kvs) > 0 && !yield(response.Kvs, nil) || !response.More {
			return
		}
		start, revision = after(response.Kvs), cmp.Or(revision, response.Header.Revision)
	}
}

// after returns the first possible key after those given.
func after(kvs []*mvccpb.KeyValue) string { return string(kvs[len(kvs)-1].Key) + "\x00" }

// Next reads from the start of a range, at the current revision, until it has at least this many keys or the range
// ends. rest is the range of what follows.
func (e *Etcd) Next(ctx context.Context, r Range, least int) (kvs []*mvccpb.KeyValue, rest Range, err error) {
	for some, err := range e.scan(ctx, r, 0) {
		if err != nil {
			return nil, r, err
		}
		if kvs = append(kvs, some...); len(kvs) >= least {
			break
		}
	}
	if len(kvs) > 0 {
		r.Start = after(kvs)
	}
	return kvs, r, nil
}

// FirstOf returns a key of a range, or nil if the range is empty. It uses scan, because a read with a limit makes
// etcd count all keys of the range.
func (e *Etcd) FirstOf(ctx context.Context, r Range) (*mvccpb.KeyValue, error) {
	for kvs, err := range e.scan(ctx, r, 0) {
		if err != nil {
			return nil, err
		}
		return kvs[0], nil
	}
	return nil, nil
}

// ReadClaim reads the claim at a key from etcd. The first result is nil if there is none.
func (e *Etcd) ReadClaim(ctx context.Context, key string, options ...clientv3.OpOption) (*mvccpb.KeyValue, Claim, error) {
	response, err := e.KV.Get(ctx, key, options...)
	if err != nil || len(response.Kvs) == 0 {
		return nil, Claim{}, err
	}
	value, err := DecodeClaim(response.Kvs[0].Value)
	return response.Kvs[0], value, err
}
