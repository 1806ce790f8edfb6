// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package resource implements what the kinds of this API group have in common: storage, bindings, strategies and table
// output.
package resource

import (
	"context"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
)

// Strategies holds the strategies of a kind: for its main resource, its status subresource and, if it has bindings, its
// binding subresource.
type Strategies struct {
	Main interface {
		rest.RESTCreateUpdateStrategy
		rest.RESTDeleteStrategy
		rest.ResetFieldsStrategy
	}
	Status  rest.UpdateResetFieldsStrategy
	Binding rest.RESTUpdateStrategy
	// Allow may refuse an update for what other objects say. It runs after the validation. It may be nil.
	Allow rest.ValidateObjectUpdateFunc
	// CoolDown, if set, is the strategy of the update that makes the space of an object cool down. Only PrefixAllocations
	// have it.
	CoolDown rest.RESTUpdateStrategy
	// Cool makes that update: the space of the object cools down until a time.
	Cool func(obj runtime.Object, planner *claims.Planner, d time.Duration)
}

// and returns a function that calls both in turn until one fails. The second may be nil.
func and(first, second rest.ValidateObjectUpdateFunc) rest.ValidateObjectUpdateFunc {
	if second == nil {
		return first
	}
	return func(ctx context.Context, obj, old runtime.Object) error {
		if err := first(ctx, obj, old); err != nil {
			return err
		}
		return second(ctx, obj, old)
	}
}

// Storage holds the storage of a kind: its main resource, its status subresource and, if it has bindings, its binding
// subresource.
type Storage struct {
	Main    *MainREST
	Status  *StatusREST
	Binding interface {
		rest.Storage
		rest.NamedCreater
	}
}

// Stored returns the storage of the kind, with its watch cache if that is enabled.
func (s *Storage) Stored() storage.Interface { return s.Main.Storage.Storage }

// NewBoundStorage returns the storage of a kind that has bindings. See NewStorage.
func NewBoundStorage[B, T runtime.Object](
	planner *claims.Planner, store *genericregistry.Store, options generic.StoreOptions, strategies Strategies,
	binder Binder[B, T], shortNames ...string,
) (*Storage, error) {
	storage, err := NewStorage(planner, store, options, strategies, shortNames...)
	if err != nil {
		return nil, err
	}
	binding := *store
	binding.UpdateStrategy = strategies.Binding
	storage.Binding = &BindingREST[B, T]{binder, &binding, planner, strategies.Allow}
	return storage, nil
}

// NewStorage returns the storage of a kind without bindings. It completes store with the options and the strategies, and
// fails if that is not possible. The planner is the one with which the storage of the options' RESTOptions plans its writes.
func NewStorage(
	planner *claims.Planner, store *genericregistry.Store, options generic.StoreOptions, strategies Strategies,
	shortNames ...string,
) (*Storage, error) {
	store.CreateStrategy, store.UpdateStrategy, store.DeleteStrategy = strategies.Main, strategies.Main, strategies.Main
	store.ResetFieldsStrategy = strategies.Main
	if err := store.CompleteWithOptions(&options); err != nil {
		return nil, fmt.Errorf("%s: %w", store.DefaultQualifiedResource.Resource, err)
	}
	if !store.EnableGarbageCollection {
		withoutGarbageCollector(store)
	}
	status := *store
	status.UpdateStrategy, status.ResetFieldsStrategy = strategies.Status, strategies.Status
	main := &MainREST{Store: store, planner: planner, shortNames: shortNames, allow: strategies.Allow}
	if strategies.CoolDown != nil {
		updates := *store
		updates.UpdateStrategy = strategies.CoolDown
		main.cooler = &cooler{store: store, updates: &updates, planner: planner, cool: strategies.Cool}
	}
	return &Storage{Main: main, Status: &StatusREST{&status, planner, strategies.Allow}}, nil
}
