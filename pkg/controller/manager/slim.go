// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/share"
	"k8s.io/apimachinery/pkg/api/meta"
)

// slim drops from an object what takes most memory and no controller looks at, and has it share with others what they have
// in common. That is its managed fields, which a write without any leaves as they are; and of an allocation that is
// Allocated, which is never written again, its labels and conditions.
func slim(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		object.SetManagedFields(nil)
	}
	switch o := obj.(type) {
	case *v1alpha1.Prefix:
		share.Object(&o.ObjectMeta, o.Status.Conditions, &o.Spec.Prefix)
		share.String(&o.Spec.IPFamily)
		share.Pointer(&o.Spec.ParentRef)
		share.String(&o.Status.Phase)
		share.Pointer(&o.Status.LastPhaseTransitionTime)
		share.Pointer(&o.Status.Usage)
	case *v1alpha1.PrefixAllocation:
		if o.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
			o.Labels, o.Status.Conditions = nil, nil
		}
		share.Object(&o.ObjectMeta, o.Status.Conditions, &o.Spec.Prefix, &o.Status.Prefix)
		share.String(&o.Spec.IPFamily)
		share.Pointer(&o.Spec.PrefixRef)
		share.String(&o.Status.Phase)
		share.Pointer(&o.Status.LastPhaseTransitionTime)
	}
	return obj, nil
}
