// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/share"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// sharingCodec decodes objects of etcd, most of which stay in the watch cache, and has them share what they have in
// common.
type sharingCodec struct{ runtime.Codec }

// Decode implements runtime.Decoder.
func (c sharingCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, kind, err := c.Codec.Decode(data, defaults, into)
	if err != nil {
		return obj, kind, err
	}
	switch o := obj.(type) {
	case *ipam.Prefix:
		share.Meta(&o.ObjectMeta)
		share.String(&o.Spec.IPFamily)
		if o.Spec.ParentRef != nil {
			share.String(&o.Spec.ParentRef.Name)
		}
		share.String(&o.Status.Phase)
		share.Conditions(o.Status.Conditions)
	case *ipam.PrefixAllocation:
		share.Meta(&o.ObjectMeta)
		share.String(&o.Spec.IPFamily)
		if o.Spec.PrefixRef != nil {
			share.String(&o.Spec.PrefixRef.Name)
		}
		share.String(&o.Status.Phase)
		share.Conditions(o.Status.Conditions)
	}
	return obj, kind, nil
}
