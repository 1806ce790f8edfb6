// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package rest assembles the storage of the API group.
package rest

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefix"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixallocation"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixpolicy"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// NewAPIGroupInfo returns the API group for the API server to install: the storage of each resource and subresource,
// for each version. It fails if a storage cannot be created.
func NewAPIGroupInfo(scheme *runtime.Scheme, codecs serializer.CodecFactory, getter *claims.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	info := genericapiserver.NewDefaultAPIGroupInfo(ipam.GroupName, scheme, metav1.ParameterCodec, codecs)

	policies, rules, err := prefixpolicy.NewStorage(scheme, getter)
	if err != nil {
		return info, err
	}
	prefixes, parents, err := prefix.NewStorage(scheme, getter, rules)
	if err != nil {
		return info, err
	}
	allocations, err := prefixallocation.NewStorage(scheme, getter, parents)
	if err != nil {
		return info, err
	}

	info.VersionedResourcesStorageMap[v1alpha1.GroupVersion.Version] = map[string]rest.Storage{
		"prefixes":                  prefixes.Main,
		"prefixes/status":           prefixes.Status,
		"prefixes/binding":          prefixes.Binding,
		"prefixallocations":         allocations.Main,
		"prefixallocations/status":  allocations.Status,
		"prefixallocations/binding": allocations.Binding,
		"prefixpolicies":            policies.Main,
		"prefixpolicies/status":     policies.Status,
	}
	return info, nil
}
