// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package request is what a new Prefix or PrefixAllocation asks of the parent that it names.
package request

import (
	"fmt"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
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
	// Family is the family that is asked for, or "" for that of the parent.
	Family ipam.IPFamily
	// Prefix is what is asked for, if it is exactly that.
	Prefix netip.Prefix
	// Bits is the length that is asked for.
	Bits int
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
		if owner := metav1.GetControllerOfNoCopy(obj); owner != nil && owner.Kind == ipam.PrefixKind {
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
		Family:    family,
		Bits:      int(length),
	}
	if prefix, err := validation.ParsePrefix(exact); err == nil {
		r.Family, r.Prefix, r.Bits = validation.FamilyOf(prefix), prefix, prefix.Bits()
	}
	return r
}

// String tells what is asked for, such as "10.0.0.0/24" or "a /24".
func (r Request) String() string {
	if r.Prefix.IsValid() {
		return r.Prefix.String()
	}
	return fmt.Sprintf("a /%d", r.Bits)
}

// Misfit tells why the parent could not hold the request if all of it were free, in the words of the
// scheduler. There is nothing to tell as long as the parent does not know its own prefix, except
// what its family and its length tell already.
func (r Request) Misfit(parent *ipam.Prefix) field.ErrorList {
	family, bits := parent.Spec.IPFamily, int(parent.Spec.PrefixLength)
	prefix := PrefixOf(parent)
	if prefix.IsValid() {
		family, bits = validation.FamilyOf(prefix), prefix.Bits()
	}
	switch {
	case family != "" && r.Family != "" && r.Family != family:
		path := field.NewPath("spec", "ipFamily")
		if r.Prefix.IsValid() {
			path = field.NewPath("spec", "prefix")
		}
		return r.against(path, parent, fmt.Sprintf("is %s, not %s", family, r.Family))
	case (prefix.IsValid() || bits > 0) && r.Bits <= bits:
		return r.against(r.sizePath(), parent, fmt.Sprintf("is too small to hold %s", r))
	case family == ipam.IPv4 && r.Bits > 32:
		return r.against(r.sizePath(), parent, fmt.Sprintf("is %s, which has no /%d", family, r.Bits))
	case prefix.IsValid() && r.Prefix.IsValid() && !prefix.Contains(r.Prefix.Addr()):
		return r.against(r.sizePath(), parent, fmt.Sprintf("does not contain %s", r.Prefix))
	}
	return nil
}

// Overlap tells what of the parent is in use that overlaps the prefix that is asked for.
func (r Request) Overlap(parent *ipam.Prefix) field.ErrorList {
	if !r.Prefix.IsValid() {
		return nil
	}
	for _, s := range parent.Status.Used {
		if used, err := netip.ParsePrefix(s); err == nil && used.Overlaps(r.Prefix) {
			return r.against(r.sizePath(), parent, fmt.Sprintf("has %s in use, which overlaps %s", used, r.Prefix))
		}
	}
	return nil
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

// Parse parses the prefix of an object, which is not valid if there is none. Other servers of the API
// group let host bits pass; they mean nothing.
func Parse(s string) netip.Prefix {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix.Masked()
}
