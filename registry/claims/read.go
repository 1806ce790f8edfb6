// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/value"
)

// objects reads the objects of a kind.
type objects struct {
	// cached is the storage of the kind, with its watch cache if that is enabled.
	cached storage.Interface
	// resourcePrefix is the prefix of all keys in that storage. In etcd, etcdPrefix comes before it.
	resourcePrefix, etcdPrefix string
	// transformer decrypts what is stored in etcd, and decoder decodes it.
	transformer value.Transformer
	decoder     etcd3.Decoder
	// attributes returns the labels and selectable fields of an object.
	attributes storage.AttrFunc
}

// storageKey returns the key of an object in its storage.
func (o objects) storageKey(namespace, name string) string {
	return o.resourcePrefix + "/" + namespace + "/" + name
}

// etcdKey returns the key of an object in etcd.
func (o objects) etcdKey(namespace, name string) string {
	return o.etcdPrefix + o.storageKey(namespace, name)
}

// all returns the range of the keys of all objects.
func (o objects) all() keyRange {
	start := o.etcdPrefix + o.resourcePrefix + "/"
	return keyRange{start, clientv3.GetPrefixRangeEnd(start)}
}

// decode decrypts and decodes an object. The error wraps errEncrypted if the object cannot be decrypted.
func (o objects) decode(ctx context.Context, kv *mvccpb.KeyValue, into runtime.Object) error {
	data, _, err := o.transformer.TransformFromStorage(ctx, kv.Value, value.DefaultContext(kv.Key))
	if err != nil {
		return fmt.Errorf("%s: %w: %w", kv.Key, errEncrypted, err)
	}
	if err := o.decoder.Decode(data, into, kv.ModRevision); err != nil {
		return fmt.Errorf("%s: %w", kv.Key, err)
	}
	return nil
}

// errEncrypted means that none of the configured keys decrypts an object.
var errEncrypted = errors.New("cannot be decrypted")

// get reads an object from etcd and returns its key with the revisions. The result is nil if there is no such
// object.
func (c *Claims) get(ctx context.Context, o objects, namespace, name string, into runtime.Object) (*mvccpb.KeyValue, error) {
	response, err := c.kv.Get(ctx, o.etcdKey(namespace, name))
	if err != nil || len(response.Kvs) == 0 {
		return nil, err
	}
	return response.Kvs[0], o.decode(ctx, response.Kvs[0], into)
}

// scan reads the keys of a range in order, some at a time. All reads are at the same revision; 0 is the current one.
// It uses a stream where etcd has streams (3.7 and later). A read with a limit makes etcd count all keys that
// follow, and every write waits meanwhile.
func (c *Claims) scan(ctx context.Context, r keyRange, revision int64) iter.Seq2[[]*mvccpb.KeyValue, error] {
	return func(yield func([]*mvccpb.KeyValue, error) bool) {
		if !c.scanStream(ctx, r, revision, yield) {
			c.scanPages(ctx, r, revision, yield)
		}
	}
}

// scanStream implements scan with a stream. It returns false if etcd does not have streams.
func (c *Claims) scanStream(ctx context.Context, r keyRange, revision int64, yield func([]*mvccpb.KeyValue, error) bool) (supported bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.kv.GetStream(ctx, r.start, clientv3.WithRange(r.end), clientv3.WithRev(revision))
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
			err = fmt.Errorf("a stream of %s ended too early", r.start)
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
func (c *Claims) scanPages(ctx context.Context, r keyRange, revision int64, yield func([]*mvccpb.KeyValue, error) bool) {
	for start := r.start; ; {
		response, err := c.kv.Get(ctx, start, clientv3.WithRange(r.end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
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

// next reads from the start of a range, at the current revision, until it has at least this many keys or the range
// ends.
func (c *Claims) next(ctx context.Context, r keyRange, least int) (kvs []*mvccpb.KeyValue, err error) {
	for some, err := range c.scan(ctx, r, 0) {
		if err != nil {
			return nil, err
		}
		if kvs = append(kvs, some...); len(kvs) >= least {
			break
		}
	}
	return kvs, nil
}
