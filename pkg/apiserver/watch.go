// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/rest"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// Watch begins a watch of a resource of the group, in one namespace or, if that is empty, in all, for clients in the
// process of the server: they get what a client of HTTP gets, in v1alpha1, but nothing is encoded and decoded for it. The
// objects are copies of those in the watch cache. The watch ends with the context at the latest, or after the time in the
// options.
//
// It returns the errors that a client gets: NotFound for a resource that cannot be watched, Invalid or BadRequest for
// options that are wrong, and those of a watch that cannot begin.
func (s *Server) Watch(ctx context.Context, resource, namespace string, options metav1.ListOptions) (watch.Interface, error) {
	watcher, ok := s.storages[resource].(rest.Watcher)
	if !ok {
		return nil, apierrors.NewNotFound(ipam.Resource(resource), "")
	}
	internal, err := watchOptions(&options, s.storages[resource].New())
	if err != nil {
		return nil, err
	}
	var cancel context.CancelFunc
	if seconds := options.TimeoutSeconds; seconds != nil && *seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	from, err := watcher.Watch(request.WithNamespace(ctx, namespace), internal)
	if err != nil {
		cancel()
		return nil, err
	}
	w := &localWatch{ctx: ctx, cancel: cancel, from: from, result: make(chan watch.Event)}
	go w.run()
	return w, nil
}

// watchOptions returns options for a watch of such objects as storages take them.
func watchOptions(options *metav1.ListOptions, of runtime.Object) (*internalversion.ListOptions, error) {
	internal := &internalversion.ListOptions{}
	if err := internalversionscheme.Scheme.Convert(options, internal, nil); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	internal.Watch = true
	watchList := utilfeature.DefaultFeatureGate.Enabled(features.WatchList)
	internalversion.SetListOptionsDefaults(internal, watchList)
	if errs := validation.ValidateListOptions(internal, watchList); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	if internal.FieldSelector != nil {
		kinds, _, err := Scheme.ObjectKinds(of)
		if err != nil {
			return nil, err
		}
		internal.FieldSelector, err = internal.FieldSelector.Transform(func(label, value string) (string, string, error) {
			return Scheme.ConvertFieldLabel(schema.GroupVersion(v1alpha1.GroupVersion).WithKind(kinds[0].Kind), label, value)
		})
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	return internal, nil
}

// localWatch has the events of a watch of the storage in v1alpha1.
type localWatch struct {
	ctx    context.Context
	cancel context.CancelFunc
	from   watch.Interface
	result chan watch.Event
}

// ResultChan implements watch.Interface.
func (w *localWatch) ResultChan() <-chan watch.Event { return w.result }

// Stop implements watch.Interface.
func (w *localWatch) Stop() { w.cancel() }

func (w *localWatch) run() {
	defer close(w.result)
	defer w.from.Stop()
	defer w.cancel()
	for {
		select {
		case event, ok := <-w.from.ResultChan():
			if !ok {
				return
			}
			event, err := external(event)
			if err != nil {
				status := apierrors.NewInternalError(err).Status()
				event = watch.Event{Type: watch.Error, Object: &status}
			}
			select {
			case w.result <- event:
			case <-w.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		case <-w.ctx.Done():
			return
		}
	}
}

// external returns an event with its object, if that is one of the group, in v1alpha1.
func external(event watch.Event) (watch.Event, error) {
	obj := event.Object
	if several, ok := obj.(runtime.CacheableObject); ok {
		obj = several.GetObject()
	}
	switch obj.(type) {
	case *ipam.Prefix:
		event.Object = &v1alpha1.Prefix{}
	case *ipam.PrefixAllocation:
		event.Object = &v1alpha1.PrefixAllocation{}
	default:
		event.Object = obj
		return event, nil
	}
	return event, Scheme.Convert(obj, event.Object, nil)
}
