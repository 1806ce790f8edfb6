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
		share.Object(&o.ObjectMeta, o.Status.Conditions, &o.Spec.Prefix)
		share.String(&o.Spec.IPFamily)
		share.Pointer(&o.Spec.ParentRef)
		share.String(&o.Status.Phase)
		share.Pointer(&o.Status.LastPhaseTransitionTime)
		share.Pointer(&o.Status.Usage)
		// Of a parent there are many, and the watch cache keeps many versions of it.
		share.Strings(o.Status.Used)
	case *ipam.PrefixAllocation:
		share.Object(&o.ObjectMeta, o.Status.Conditions, &o.Spec.Prefix, &o.Status.Prefix)
		share.String(&o.Spec.IPFamily)
		share.Pointer(&o.Spec.PrefixRef)
		share.String(&o.Status.Phase)
		share.Pointer(&o.Status.LastPhaseTransitionTime)
	}
	return obj, kind, nil
}

// shareLabels has Prefixes in the watch cache share their labels. What is decoded to be changed does not; and of a
// PrefixAllocation they name its child.
func shareLabels(obj runtime.Object) {
	if p, ok := obj.(*ipam.Prefix); ok {
		p.Labels = share.Labels(p.Labels)
	}
}
