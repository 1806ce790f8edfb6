// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixallocation

import (
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

// NewStorage returns the storage of PrefixAllocations and their subresources. parents has the Prefixes to which
// allocations refer.
func NewStorage(scheme *runtime.Scheme, getter generic.RESTOptionsGetter, planner *claims.Planner, parents resource.Parents) (*resource.Storage, error) {
	strategy := Strategy{resource.NewStrategy(scheme, ipam.PrefixAllocationKind), parents}
	return resource.NewBoundStorage(planner,
		&genericregistry.Store{
			NewFunc:                   func() runtime.Object { return &ipam.PrefixAllocation{} },
			NewListFunc:               func() runtime.Object { return &ipam.PrefixAllocationList{} },
			PredicateFunc:             match,
			DefaultQualifiedResource:  ipam.Resource("prefixallocations"),
			SingularQualifiedResource: ipam.Resource("prefixallocation"),
			TableConvertor:            tableConvertor,
		},
		generic.StoreOptions{RESTOptions: getter, AttrFunc: getAttrs, Indexers: indexers()},
		resource.Strategies{Main: strategy, Status: StatusStrategy{Strategy: strategy}, Binding: BindingStrategy{Strategy: strategy}, Allow: strategy.validatePolicies,
			CoolDown: CoolDownStrategy{strategy}, Cool: cool},
		binder, "pfxa")
}

// binder binds a PrefixAllocation to a prefix of a parent.
var binder = resource.Binder[*ipam.PrefixAllocationBinding, *ipam.PrefixAllocation]{
	BindingKind: "PrefixAllocationBinding",
	Kind:        ipam.PrefixAllocationKind,
	New:         func() *ipam.PrefixAllocationBinding { return &ipam.PrefixAllocationBinding{} },
	Answer:      v1alpha1.PrefixAllocation{},
	Meta: func(b *ipam.PrefixAllocationBinding) (ipam.BindingMeta, types.UID) {
		return b.Metadata, b.PrefixRef.UID
	},
	Validate: func(b *ipam.PrefixAllocationBinding, _ string) field.ErrorList {
		return validation.ValidatePrefixAllocationBinding(b)
	},
	Bind: func(binding *ipam.PrefixAllocationBinding, allocation *ipam.PrefixAllocation) error {
		if err := checkBindable(allocation, binding); err != nil {
			return err
		}
		allocation.Spec.PrefixRef = &ipam.LocalObjectReference{Name: binding.PrefixRef.Name}
		if parsed, err := cidr.ParseStored(binding.Prefix); err == nil && allocation.Spec.IPFamily == "" {
			allocation.Spec.IPFamily = ipam.IPFamily(cidr.FamilyOf(parsed))
		}
		allocation.Status.Prefix = binding.Prefix
		allocation.Status.Phase = ipam.PrefixAllocationPhaseAllocated
		return nil
	},
}

// checkBindable returns an error if the binding contradicts the current state of the PrefixAllocation.
func checkBindable(allocation *ipam.PrefixAllocation, binding *ipam.PrefixAllocationBinding) error {
	if err := resource.CheckNamespace(allocation.Namespace, allocation.NamespaceOfParent(), binding.PrefixRef.Namespace); err != nil {
		return err
	}
	ref := allocation.Spec.PrefixRef
	switch {
	case allocation.Status.Phase == ipam.PrefixAllocationPhaseFailed:
		return fmt.Errorf("the PrefixAllocation has failed")
	case allocation.Status.Phase == ipam.PrefixAllocationPhaseAllocated &&
		(!cidr.Equal(allocation.Status.Prefix, binding.Prefix) || ref == nil || ref.Name != binding.PrefixRef.Name):
		return fmt.Errorf("%s is already allocated to it", allocation.Status.Prefix)
	case allocation.Status.Phase == ipam.PrefixAllocationPhasePending && allocation.DeletionTimestamp != nil:
		return fmt.Errorf("the PrefixAllocation is being deleted")
	}
	return nil
}
