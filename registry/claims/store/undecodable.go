// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/klog/v2"
)

// The etcd store of Kubernetes cannot list or watch a kind if one of its objects cannot be decoded, and a watch
// cache becomes ready only after a list. The types in this file avoid that: they decode such an object as a
// placeholder, and remove the placeholders from lists and watches.
//
//	request        if an object cannot be decoded
//	list           omits it; fails if that is most objects, because then the configuration is wrong
//	watch          omits it; ends if the object could be decoded before, so that the client lists again
//	get or write   fails with an error that names the key
//
// The audit reports the keys of such objects.

// placeholderUID is the uid of a placeholder.
const placeholderUID = "\x00undecodable"

// isPlaceholder reports whether an object is a placeholder for one that cannot be decoded.
func isPlaceholder(obj runtime.Object) bool {
	accessor, err := meta.Accessor(obj)
	return err == nil && accessor.GetUID() == placeholderUID
}

func newPlaceholder(newFunc func() runtime.Object) (runtime.Object, error) {
	obj := newFunc()
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	accessor.SetUID(placeholderUID)
	return obj, nil
}

// notDecrypted marks data that could not be decrypted. tolerantTransformer returns it, followed by the error. No
// encoded object starts with it.
var notDecrypted = []byte("\x00not decrypted\x00")

// kmsPrefix is the start of all data that a key management service (KMS) has encrypted. A KMS can be unavailable for
// a moment. So an object that it cannot decrypt is not omitted; the request fails.
var kmsPrefix = []byte("k8s:enc:kms:")

// tolerantTransformer turns a decryption error into data that check recognizes, so that the decoder can handle it.
type tolerantTransformer struct{ value.Transformer }

func (t tolerantTransformer) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	out, stale, err := t.Transformer.TransformFromStorage(ctx, data, dataCtx)
	if err != nil && !bytes.HasPrefix(data, kmsPrefix) {
		return append(bytes.Clone(notDecrypted), err.Error()...), false, nil
	}
	return out, stale, err
}

// decodeError means that an object cannot be decoded.
type decodeError struct{ error }

func (e *decodeError) Unwrap() error { return e.error }

// check returns an error if data is what tolerantTransformer returns for an object that it cannot decrypt.
func check(data []byte) error {
	if why, ok := bytes.CutPrefix(data, notDecrypted); ok {
		return &decodeError{fmt.Errorf("%w: %s", claims.ErrEncrypted, why)}
	}
	return nil
}

// tolerantDecoder returns a placeholder for an item of a list that cannot be decoded. For any other object it
// returns a decodeError.
type tolerantDecoder struct{ etcd3.Decoder }

func (d tolerantDecoder) Decode(data []byte, into runtime.Object, revision int64) error {
	if err := check(data); err != nil {
		return err
	}
	if err := d.Decoder.Decode(data, into, revision); err != nil {
		return &decodeError{err}
	}
	return nil
}

func (d tolerantDecoder) DecodeListItem(ctx context.Context, data []byte, revision uint64, newItemFunc func() runtime.Object) (runtime.Object, error) {
	if check(data) == nil {
		if obj, err := d.Decoder.DecodeListItem(ctx, data, revision, newItemFunc); err == nil {
			return obj, nil
		}
	}
	return newPlaceholder(newItemFunc)
}

// tolerantCodec returns a placeholder for an object that cannot be decoded. The etcd store decodes the objects of
// watches with it.
type tolerantCodec struct {
	runtime.Codec
	newFunc func() runtime.Object
}

func (c tolerantCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if check(data) == nil {
		if obj, kind, err := c.Codec.Decode(data, defaults, into); err == nil {
			return obj, kind, nil
		}
	}
	obj, err := newPlaceholder(c.newFunc)
	return obj, defaults, err
}

// tolerantStore wraps an etcd store that uses tolerantTransformer, tolerantDecoder and tolerantCodec. It removes the
// placeholders from lists and watches.
type tolerantStore struct {
	storage.Interface
	resource schema.GroupResource
}

// explain adds the key and a remedy to a decodeError. It returns other errors as they are.
func (s tolerantStore) explain(key string, err error) error {
	if decode := (*decodeError)(nil); errors.As(err, &decode) {
		return apierrors.NewInternalError(fmt.Errorf("%s in etcd cannot be decoded: %w; ipam-apiserver audit --repair can move it aside", key, decode))
	}
	return err
}

// Get implements storage.Interface.
func (s tolerantStore) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	return s.explain(key, s.Interface.Get(ctx, key, opts, out))
}

// GuaranteedUpdate implements storage.Interface.
func (s tolerantStore) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, tryUpdate storage.UpdateFunc, cachedExistingObject runtime.Object) error {
	return s.explain(key, s.Interface.GuaranteedUpdate(ctx, key, destination, ignoreNotFound, preconditions, tryUpdate, cachedExistingObject))
}

// Delete implements storage.Interface.
func (s tolerantStore) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validateDeletion storage.ValidateObjectFunc, cachedExistingObject runtime.Object, opts storage.DeleteOptions) error {
	return s.explain(key, s.Interface.Delete(ctx, key, out, preconditions, validateDeletion, cachedExistingObject, opts))
}

// GetList implements storage.Interface.
func (s tolerantStore) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	if err := s.Interface.GetList(ctx, key, opts, list); err != nil {
		return err
	}
	pointer, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	items := reflect.ValueOf(pointer).Elem()
	good := 0
	for i := range items.Len() {
		if obj, ok := items.Index(i).Addr().Interface().(runtime.Object); ok && isPlaceholder(obj) {
			continue
		}
		if i > good {
			items.Index(good).Set(items.Index(i))
		}
		good++
	}
	bad := items.Len() - good
	if bad == 0 {
		return nil
	}
	if claims.Misconfigured(bad, good) {
		return apierrors.NewInternalError(fmt.Errorf("%d of %d %s cannot be decoded; is --encryption-provider-config correct?", bad, bad+good, s.resource))
	}
	klog.FromContext(ctx).Error(nil, "Omitted objects that cannot be decoded from a list; ipam-apiserver audit prints their keys", "resource", s.resource, "count", bad)
	items.Slice(good, items.Len()).Clear()
	items.SetLen(good)
	return nil
}

// Watch implements storage.Interface.
func (s tolerantStore) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	ctx, cancel := context.WithCancel(ctx)
	incoming, err := s.Interface.Watch(ctx, key, opts)
	if err != nil {
		cancel()
		return nil, err
	}
	w := &tolerantWatch{cancel: cancel, events: make(chan watch.Event)}
	go w.run(ctx, incoming)
	return w, nil
}

// tolerantWatch removes placeholders from a watch.
type tolerantWatch struct {
	cancel context.CancelFunc
	events chan watch.Event
}

// Stop implements watch.Interface.
func (w *tolerantWatch) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *tolerantWatch) ResultChan() <-chan watch.Event { return w.events }

func (w *tolerantWatch) run(ctx context.Context, incoming watch.Interface) {
	defer close(w.events)
	defer w.cancel()
	for event := range incoming.ResultChan() {
		obj := event.Object
		if wrapped, ok := obj.(interface{ Unwrap() runtime.Object }); ok {
			obj = wrapped.Unwrap()
		}
		last := false
		if isPlaceholder(obj) {
			if event.Type != watch.Modified {
				continue
			}
			// The client still has the previous version, and the event does not tell of which object. End the watch,
			// so that the client lists again.
			status := apierrors.NewResourceExpired("an object changed and cannot be decoded any more").Status()
			event, last = watch.Event{Type: watch.Error, Object: &status}, true
		}
		select {
		case w.events <- event:
		case <-ctx.Done():
			return
		}
		if last {
			return
		}
	}
}
