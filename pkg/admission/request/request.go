// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request determines what a new Prefix or PrefixAllocation requests from the parent that it names.
package request

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
)

// Request is the request of an object for a prefix from a named parent.
type Request struct {
	// Kind, Namespace and Name identify the requesting object.
	Kind            schema.GroupKind
	Namespace, Name string
	// Parent is the name of the parent Prefix, and ParentNamespace its namespace.
	Parent, ParentNamespace string
	// Request is the requested prefix or length.
	cidr.Request
}

// Of returns the request in an admission request. It returns false if the request does not create an object, if the
// object names no parent, or if it is a PrefixAllocation with a controlling Prefix. In that last case the Prefix was
// checked when it was created, and its controller needs the PrefixAllocation to report problems in its status.
func Of(a admission.Attributes) (Request, bool) {
	if a.GetOperation() != admission.Create || a.GetSubresource() != "" {
		return Request{}, false
	}
	switch obj := a.GetObject().(type) {
	case *ipam.Prefix:
		if spec := &obj.Spec; spec.ParentRef != nil {
			return of(ipam.PrefixKind, &obj.ObjectMeta, obj.NamespaceOfParent(), spec.ParentRef, spec.IPFamily, spec.Prefix, spec.PrefixLength), true
		}
	case *ipam.PrefixAllocation:
		if RequesterOf(obj) != nil {
			return Request{}, false
		}
		if spec := &obj.Spec; spec.PrefixRef != nil {
			return of(ipam.PrefixAllocationKind, &obj.ObjectMeta, obj.NamespaceOfParent(), spec.PrefixRef, spec.IPFamily, spec.Prefix, spec.PrefixLength), true
		}
	}
	return Request{}, false
}

func of(kind string, meta *metav1.ObjectMeta, parentNamespace string, parent *ipam.LocalObjectReference, family ipam.IPFamily, exact string, length int32) Request {
	r := Request{
		Kind:      ipam.Kind(kind),
		Namespace: meta.Namespace,
		Name:      meta.Name,
		Parent:    parent.Name, ParentNamespace: parentNamespace,
		Request: cidr.Request{Family: string(family), Bits: int(length)},
	}
	if prefix := Parse(exact); prefix.IsValid() {
		r.Request = cidr.Exactly(prefix)
	}
	return r
}

// Misfit returns an error if the request could not be allocated from the parent even if the parent were entirely free.
// The message is the same as that of the scheduler. While the prefix of the parent is not known, Misfit checks only the
// family and the length.
func (r Request) Misfit(parent *ipam.Prefix) field.ErrorList {
	family, why := string(parent.Spec.IPFamily), ""
	switch prefix := PrefixOf(parent); {
	case prefix.IsValid():
		family, why = cidr.FamilyOf(prefix), r.Request.Misfit(prefix)
	case parent.Spec.PrefixLength > 0:
		why = r.MisfitLength(family, int(parent.Spec.PrefixLength))
	default:
		why = r.MisfitLength(family, -1)
	}
	switch {
	case why == "":
		return nil
	case !r.Prefix.IsValid() && r.Family != "" && family != "" && r.Family != family:
		return r.against(field.NewPath("spec", "ipFamily"), parent, why)
	}
	return r.against(r.sizePath(), parent, why)
}

// TooDeep returns an error if the storage cannot check in one transaction that the requested prefix is free in the
// parent. The storage would refuse to allocate it.
func (r Request) TooDeep(parent *ipam.Prefix) field.ErrorList {
	prefix := PrefixOf(parent)
	if !prefix.IsValid() || !r.Prefix.IsValid() || cidr.Checkable(prefix, r.Prefix, r.Kind.Kind == ipam.PrefixKind, r.ParentNamespace != r.Namespace) {
		return nil
	}
	return r.against(r.sizePath(), parent, fmt.Sprintf("is too large: %s is too far below it to be checked in one transaction; create a Prefix in between", r.Prefix))
}

// Overlaps reports whether the requested prefix overlaps a prefix in status.used of the parent.
func (r Request) Overlaps(parent *ipam.Prefix) bool {
	return slices.ContainsFunc(parent.Status.Used, func(used string) bool { return Parse(used).Overlaps(r.Prefix) })
}

// Held returns the error that the holder by holds a prefix that overlaps the requested one.
func (r Request) Held(parent *ipam.Prefix, held netip.Prefix, by string) field.ErrorList {
	return r.against(r.sizePath(), parent, fmt.Sprintf("has %s in use by %s, which overlaps %s", held, by, r.Prefix))
}

// sizePath returns the path of the field that sets the size of the request.
func (r Request) sizePath() *field.Path {
	if r.Prefix.IsValid() {
		return field.NewPath("spec", "prefix")
	}
	return field.NewPath("spec", "prefixLength")
}

func (r Request) against(path *field.Path, parent *ipam.Prefix, why string) field.ErrorList {
	name := parent.Name
	if parent.Namespace != r.Namespace {
		name = parent.Namespace + "/" + name
	}
	if prefix := PrefixOf(parent); prefix.IsValid() {
		name = fmt.Sprintf("%s (%s)", name, prefix)
	}
	return field.ErrorList{field.Forbidden(path, fmt.Sprintf("%s %s", name, why))}
}

// PrefixOf returns the range of a Prefix. It is not valid if the Prefix has none yet.
func PrefixOf(p *ipam.Prefix) netip.Prefix { return Parse(p.Spec.Prefix) }

// Parse parses a prefix that is stored in an object. The result is not valid if the object has none. See
// cidr.ParseStored.
func Parse(s string) netip.Prefix {
	prefix, _ := cidr.ParseStored(s)
	return prefix
}

// RequesterOf returns the controller reference of a PrefixAllocation if it refers to a Prefix of this API group, in any
// version. Otherwise it returns nil.
func RequesterOf(allocation *ipam.PrefixAllocation) *metav1.OwnerReference {
	owner := metav1.GetControllerOfNoCopy(allocation)
	if owner == nil || owner.Kind != ipam.PrefixKind {
		return nil
	}
	if gv, err := schema.ParseGroupVersion(owner.APIVersion); err != nil || gv.Group != ipam.GroupName {
		return nil
	}
	return owner
}
