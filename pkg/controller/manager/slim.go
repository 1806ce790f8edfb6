// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/share"
	"k8s.io/apimachinery/pkg/api/meta"
)

// drop drops from an object what takes most memory and no controller looks at. That is its managed fields, which a write
// without any leaves as they are; and of an allocation that is Allocated, which is never written again, its labels and
// conditions.
func drop(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		object.SetManagedFields(nil)
	}
	if a, ok := obj.(*v1alpha1.PrefixAllocation); ok && a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
		a.Labels, a.Status.Conditions = nil, nil
	}
	return obj, nil
}

// slim drops the same, has an object share with others what they have in common, and puts together what is its own.
func slim(obj any) (any, error) {
	obj, err := drop(obj)
	switch o := obj.(type) {
	case *v1alpha1.Prefix:
		// They may be shared already.
		labels := o.Labels
		o.Labels = nil
		share.Object(&o.ObjectMeta, o.Status.Conditions, &o.Spec.Prefix)
		o.Labels = share.Labels(labels)
		share.String(&o.Spec.IPFamily)
		share.String(&o.Status.Phase)
	case *v1alpha1.PrefixAllocation:
		share.Object(&o.ObjectMeta, o.Status.Conditions, &o.Spec.Prefix, &o.Status.Prefix)
		share.String(&o.Spec.IPFamily)
		share.String(&o.Status.Phase)
	}
	sharePointers(obj)
	return obj, err
}

// slimCopy does it with a copy of what the watch cache has, whose own strings are together already.
func slimCopy(obj any) (any, error) {
	obj, err := drop(obj)
	switch o := obj.(type) {
	case *v1alpha1.Prefix:
		share.Copy(&o.ObjectMeta, o.Status.Conditions)
		o.Labels = share.Labels(o.Labels)
	case *v1alpha1.PrefixAllocation:
		share.Copy(&o.ObjectMeta, o.Status.Conditions)
	}
	sharePointers(obj)
	return obj, err
}

func sharePointers(obj any) {
	switch o := obj.(type) {
	case *v1alpha1.Prefix:
		share.Pointer(&o.Spec.ParentRef)
		share.Pointer(&o.Status.LastPhaseTransitionTime)
		share.Pointer(&o.Status.Usage)
	case *v1alpha1.PrefixAllocation:
		share.Pointer(&o.Spec.PrefixRef)
		share.Pointer(&o.Status.LastPhaseTransitionTime)
	}
}
