// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixpolicy

import (
	"context"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// MaxPolicies is the maximum number of PrefixPolicies of a namespace. Each write that allocates considers all of its
// namespace. A few more are possible if many are created at the same time.
const MaxPolicies = 1000

// NewStorage returns the storage of PrefixPolicies and their status, and what finds the rules in it.
func NewStorage(scheme *runtime.Scheme, getter generic.RESTOptionsGetter, planner *claims.Planner) (*resource.Storage, Finder, error) {
	strategy := Strategy{resource.NewStrategy(scheme, ipam.PrefixPolicyKind), planner.KnowsNamespaceLabels()}
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return &ipam.PrefixPolicy{} },
		NewListFunc:               func() runtime.Object { return &ipam.PrefixPolicyList{} },
		PredicateFunc:             match,
		DefaultQualifiedResource:  ipam.Resource("prefixpolicies"),
		SingularQualifiedResource: ipam.Resource("prefixpolicy"),
		TableConvertor:            tableConvertor,
	}
	store.BeginCreate = func(ctx context.Context, obj runtime.Object, _ *metav1.CreateOptions) (genericregistry.FinishFunc, error) {
		return func(context.Context, bool) {}, limit(ctx, store, obj.(*ipam.PrefixPolicy).Name)
	}
	storage, err := resource.NewStorage(planner, store,
		generic.StoreOptions{RESTOptions: getter, AttrFunc: getAttrs},
		resource.Strategies{Main: strategy, Status: StatusStrategy{Strategy: strategy}}, "pfxp")
	if err != nil {
		return nil, Finder{}, err
	}
	return storage, Finder{storage.Main}, nil
}

// limit returns an error if a namespace has so many policies that it must not have another one.
func limit(ctx context.Context, policies rest.Lister, name string) error {
	list, err := policies.List(ctx, &metainternalversion.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	if len(list.(*ipam.PrefixPolicyList).Items) >= MaxPolicies {
		return apierrors.NewForbidden(ipam.Resource("prefixpolicies"), name,
			fmt.Errorf("a namespace has at most %d PrefixPolicies; one policy may select many Prefixes, and have many reserved ranges", MaxPolicies))
	}
	return nil
}
