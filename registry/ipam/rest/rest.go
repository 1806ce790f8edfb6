// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package rest assembles the storage of the API group.
package rest

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/store"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefix"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixallocation"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixpolicy"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// Registry is the storage of the API group.
type Registry struct {
	// Group has the storage of each resource and subresource, for each version. An API server installs it.
	Group genericapiserver.APIGroupInfo
	// Planner plans the writes of all storages.
	Planner *claims.Planner
	// Auditor compares the objects with the claims.
	Auditor *audit.Auditor

	stores *store.RESTOptionsGetter
}

// New returns the storage of the API group, in the etcd that getter has. It fails if a storage cannot be created. The
// caller must destroy it.
func New(scheme *runtime.Scheme, codecs serializer.CodecFactory, getter generic.RESTOptionsGetter, config store.Config) (*Registry, error) {
	stores, err := store.New(getter, config)
	if err != nil {
		return nil, err
	}
	auditor := audit.New(stores.Etcd)
	stores.BeforeUpdate = auditor.ClaimOrphans

	policies, rules, err := prefixpolicy.NewStorage(scheme, stores, stores.Planner)
	if err != nil {
		return nil, err
	}
	prefixes, parents, err := prefix.NewStorage(scheme, stores, stores.Planner, rules)
	if err != nil {
		return nil, err
	}
	allocations, err := prefixallocation.NewStorage(scheme, stores, stores.Planner, parents)
	if err != nil {
		return nil, err
	}

	// All of the storages plan their writes with the planner, and it reads from some of them.
	stores.Planner.SetSources(claims.Sources{
		Prefixes: prefixes.Stored(), Attributes: prefix.GetAttrs, Policies: policies.Stored(), CoolDown: parents.CoolDown,
	})

	group := genericapiserver.NewDefaultAPIGroupInfo(ipam.GroupName, scheme, metav1.ParameterCodec, codecs)
	group.VersionedResourcesStorageMap[v1alpha1.GroupVersion.Version] = map[string]rest.Storage{
		"prefixes":                  prefixes.Main,
		"prefixes/status":           prefixes.Status,
		"prefixes/binding":          prefixes.Binding,
		"prefixallocations":         allocations.Main,
		"prefixallocations/status":  allocations.Status,
		"prefixallocations/binding": allocations.Binding,
		"prefixpolicies":            policies.Main,
		"prefixpolicies/status":     policies.Status,
	}
	return &Registry{Group: group, Planner: stores.Planner, Auditor: auditor, stores: stores}, nil
}

// Destroy closes the storages and the connections to etcd. It may be called more than once.
func (r *Registry) Destroy() {
	for _, resources := range r.Group.VersionedResourcesStorageMap {
		for _, storage := range resources {
			storage.Destroy()
		}
	}
	r.stores.Close()
}
