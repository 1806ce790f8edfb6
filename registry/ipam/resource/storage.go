// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package resource has what the kinds of this API group share: how they are stored, served, bound, and printed.
package resource

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Strategies are the rules of a kind for each way to write an object.
type Strategies struct {
	Main interface {
		rest.RESTCreateUpdateStrategy
		rest.RESTDeleteStrategy
		rest.ResetFieldsStrategy
	}
	Status  rest.UpdateResetFieldsStrategy
	Binding rest.RESTUpdateStrategy
}

// Storage is what is served of a kind.
type Storage struct {
	Main    *MainREST
	Status  *StatusREST
	Binding interface {
		rest.Storage
		rest.NamedCreater
	}
}

// NewStorage returns what is served of a kind. It completes the store of the kind by the options and the strategies.
func NewStorage[B, T runtime.Object](
	getter *claims.RESTOptionsGetter, store *genericregistry.Store, options generic.StoreOptions, strategies Strategies,
	binder Binder[B, T], shortNames ...string,
) (*Storage, error) {
	store.CreateStrategy, store.UpdateStrategy, store.DeleteStrategy = strategies.Main, strategies.Main, strategies.Main
	store.ResetFieldsStrategy = strategies.Main
	options.RESTOptions = getter
	if err := store.CompleteWithOptions(&options); err != nil {
		return nil, fmt.Errorf("%s: %w", store.DefaultQualifiedResource.Resource, err)
	}
	if !store.EnableGarbageCollection {
		withoutGarbageCollector(store)
	}
	status, binding := *store, *store
	status.UpdateStrategy, status.ResetFieldsStrategy = strategies.Status, strategies.Status
	binding.UpdateStrategy = strategies.Binding
	return &Storage{
		Main:    &MainREST{Store: store, claims: getter.Claims(), shortNames: shortNames},
		Status:  &StatusREST{&status, getter.Claims()},
		Binding: &BindingREST[B, T]{binder, &binding, getter.Claims()},
	}, nil
}
