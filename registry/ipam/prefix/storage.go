// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixpolicy"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

// NewStorage returns the storage of Prefixes and their subresources, and what answers questions about them as parents.
func NewStorage(scheme *runtime.Scheme, getter generic.RESTOptionsGetter, planner *claims.Planner, policies prefixpolicy.Finder) (*resource.Storage, resource.Parents, error) {
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return &ipam.Prefix{} },
		NewListFunc:               func() runtime.Object { return &ipam.PrefixList{} },
		PredicateFunc:             match,
		DefaultQualifiedResource:  ipam.Resource("prefixes"),
		SingularQualifiedResource: ipam.Resource("prefix"),
		TableConvertor:            tableConvertor,
	}
	parents := parents{store, policies, planner}
	strategy := Strategy{resource.NewStrategy(scheme, ipam.PrefixKind), parents}
	storage, err := resource.NewBoundStorage(planner, store,
		generic.StoreOptions{RESTOptions: getter, AttrFunc: GetAttrs, Indexers: indexers()},
		resource.Strategies{Main: strategy, Status: StatusStrategy{Strategy: strategy}, Binding: BindingStrategy{Strategy: strategy}},
		binder, "pfx")
	return storage, parents, err
}

// binder binds a child Prefix to a prefix of its parent.
var binder = resource.Binder[*ipam.PrefixBinding, *ipam.Prefix]{
	BindingKind: "PrefixBinding",
	Kind:        ipam.PrefixKind,
	New:         func() *ipam.PrefixBinding { return &ipam.PrefixBinding{} },
	Answer:      v1alpha1.Prefix{},
	Meta: func(b *ipam.PrefixBinding) (ipam.BindingMeta, types.UID) {
		return b.Metadata, b.ParentRef.UID
	},
	Validate: validation.ValidatePrefixBinding,
	Bind: func(binding *ipam.PrefixBinding, prefix *ipam.Prefix) error {
		if err := checkBindable(prefix, binding); err != nil {
			return err
		}
		prefix.Spec.Prefix = binding.Prefix
		prefix.Spec.ParentRef = &ipam.LocalObjectReference{Name: binding.ParentRef.Name}
		if parsed, err := cidr.ParseStored(binding.Prefix); err == nil && prefix.Spec.IPFamily == "" {
			prefix.Spec.IPFamily = ipam.IPFamily(cidr.FamilyOf(parsed))
		}
		prefix.Status.Phase = ipam.PrefixPhaseAllocated
		return nil
	},
}

// checkBindable returns an error if the binding contradicts the current state of the Prefix.
func checkBindable(target *ipam.Prefix, binding *ipam.PrefixBinding) error {
	if err := resource.CheckNamespace(target.Namespace, target.NamespaceOfParent(), binding.ParentRef.Namespace); err != nil {
		return err
	}
	same := cidr.Equal(target.Spec.Prefix, binding.Prefix) &&
		target.Spec.ParentRef != nil && target.Spec.ParentRef.Name == binding.ParentRef.Name
	switch {
	case target.Spec.IsRoot():
		return fmt.Errorf("a root Prefix is not allocated from a parent")
	case target.Status.Phase == ipam.PrefixPhaseAllocated && !same:
		return fmt.Errorf("the Prefix is already allocated, %s from %s", target.Spec.Prefix, target.Spec.ParentRef.Name)
	case target.Status.Phase != ipam.PrefixPhaseAllocated && target.DeletionTimestamp != nil:
		return fmt.Errorf("the Prefix is being deleted")
	}
	return nil
}
