// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request is what a new Prefix or PrefixAllocation asks of the parent that it names.
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

// Request asks a parent for a prefix.
type Request struct {
	// Kind, Namespace and Name are those of the object that asks.
	Kind            schema.GroupKind
	Namespace, Name string
	// Parent is the name of the Prefix that is asked.
	Parent string
	// Request is what is asked for.
	cidr.Request
}

// Of returns what is asked of a parent that is named. There is no such request if the object is not
// created here, names no parent, or is the PrefixAllocation of a Prefix: the Prefix was asked about
// itself, and its controller needs the PrefixAllocation to say what is wrong.
func Of(a admission.Attributes) (Request, bool) {
	if a.GetOperation() != admission.Create || a.GetSubresource() != "" {
		return Request{}, false
	}
	switch obj := a.GetObject().(type) {
	case *ipam.Prefix:
		if spec := &obj.Spec; spec.ParentRef != nil {
			return of(ipam.PrefixKind, &obj.ObjectMeta, spec.ParentRef, spec.IPFamily, spec.Prefix, spec.PrefixLength), true
		}
	case *ipam.PrefixAllocation:
		if RequesterOf(obj) != nil {
			return Request{}, false
		}
		if spec := &obj.Spec; spec.PrefixRef != nil {
			return of(ipam.PrefixAllocationKind, &obj.ObjectMeta, spec.PrefixRef, spec.IPFamily, spec.Prefix, spec.PrefixLength), true
		}
	}
	return Request{}, false
}

func of(kind string, meta *metav1.ObjectMeta, parent *ipam.LocalObjectReference, family ipam.IPFamily, exact string, length int32) Request {
	r := Request{
		Kind:      ipam.Kind(kind),
		Namespace: meta.Namespace,
		Name:      meta.Name,
		Parent:    parent.Name,
		Request:   cidr.Request{Family: string(family), Bits: int(length)},
	}
	if prefix := Parse(exact); prefix.IsValid() {
		r.Request = cidr.Exactly(prefix)
	}
	return r
}

// Misfit tells why the parent could not hold the request if all of it were free, in the words of the
// scheduler. There is nothing to tell as long as the parent does not know its own prefix, except
// what its family and its length tell already.
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

// TooDeep tells that the storage cannot check in one transaction whether the prefix that is asked for is
// free in the parent, and so refuses to allocate it.
func (r Request) TooDeep(parent *ipam.Prefix, checkable func(parent, prefix netip.Prefix, forChild bool) bool) field.ErrorList {
	prefix := PrefixOf(parent)
	if !prefix.IsValid() || !r.Prefix.IsValid() || checkable(prefix, r.Prefix, r.Kind.Kind == ipam.PrefixKind) {
		return nil
	}
	return r.against(r.sizePath(), parent, fmt.Sprintf("is too far above %s to be checked in one transaction: create a Prefix in between", r.Prefix))
}

// Overlaps reports whether anything that the status of the parent says is in use overlaps the prefix that
// is asked for.
func (r Request) Overlaps(parent *ipam.Prefix) bool {
	return slices.ContainsFunc(parent.Status.Used, func(used string) bool { return Parse(used).Overlaps(r.Prefix) })
}

// Held tells that somebody holds what overlaps the prefix that is asked for.
func (r Request) Held(parent *ipam.Prefix, held netip.Prefix, by string) field.ErrorList {
	return r.against(r.sizePath(), parent, fmt.Sprintf("has %s in use by %s, which overlaps %s", held, by, r.Prefix))
}

// sizePath is the field that tells the size.
func (r Request) sizePath() *field.Path {
	if r.Prefix.IsValid() {
		return field.NewPath("spec", "prefix")
	}
	return field.NewPath("spec", "prefixLength")
}

func (r Request) against(path *field.Path, parent *ipam.Prefix, why string) field.ErrorList {
	name := parent.Name
	if prefix := PrefixOf(parent); prefix.IsValid() {
		name = fmt.Sprintf("%s (%s)", name, prefix)
	}
	return field.ErrorList{field.Forbidden(path, fmt.Sprintf("%s %s", name, why))}
}

// PrefixOf returns the range of a Prefix, which is not valid if there is none yet.
func PrefixOf(p *ipam.Prefix) netip.Prefix { return Parse(p.Spec.Prefix) }

// Parse parses the prefix of an object, which is not valid if there is none.
func Parse(s string) netip.Prefix {
	prefix, _ := cidr.ParseStored(s)
	return prefix
}

// RequesterOf returns the reference of a PrefixAllocation to the Prefix that controls it, or nil if there
// is none. A Prefix of another API group is none.
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
