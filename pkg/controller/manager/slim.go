// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/share"
	"k8s.io/apimachinery/pkg/api/meta"
)

// slim drops from an object what takes most memory, and no controller looks at, its managed fields, and has it share
// with others what they have in common. A write of it leaves the managed fields as they are.
func slim(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		object.SetManagedFields(nil)
	}
	switch o := obj.(type) {
	case *v1alpha1.Prefix:
		share.Meta(&o.ObjectMeta)
		share.String(&o.Spec.IPFamily)
		if o.Spec.ParentRef != nil {
			share.String(&o.Spec.ParentRef.Name)
		}
		share.String(&o.Status.Phase)
		share.Conditions(o.Status.Conditions)
	case *v1alpha1.PrefixAllocation:
		share.Meta(&o.ObjectMeta)
		share.String(&o.Spec.IPFamily)
		if o.Spec.PrefixRef != nil {
			share.String(&o.Spec.PrefixRef.Name)
		}
		share.String(&o.Status.Phase)
		share.Conditions(o.Status.Conditions)
	}
	return obj, nil
}
