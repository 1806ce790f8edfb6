// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixpolicy

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

// NewStorage returns the storage of PrefixPolicies and their status, and what finds the rules in it.
func NewStorage(scheme *runtime.Scheme, getter generic.RESTOptionsGetter, claims *claims.Claims) (*resource.Storage, Finder, error) {
	strategy := Strategy{resource.NewStrategy(scheme, ipam.PrefixPolicyKind)}
	storage, err := resource.NewStorage(claims,
		&genericregistry.Store{
			NewFunc:                   func() runtime.Object { return &ipam.PrefixPolicy{} },
			NewListFunc:               func() runtime.Object { return &ipam.PrefixPolicyList{} },
			PredicateFunc:             match,
			DefaultQualifiedResource:  ipam.Resource("prefixpolicies"),
			SingularQualifiedResource: ipam.Resource("prefixpolicy"),
			TableConvertor:            tableConvertor,
		},
		generic.StoreOptions{RESTOptions: getter, AttrFunc: getAttrs},
		resource.Strategies{Main: strategy, Status: StatusStrategy{Strategy: strategy}}, "pfxp")
	if err != nil {
		return nil, Finder{}, err
	}
	return storage, Finder{storage.Main}, nil
}
