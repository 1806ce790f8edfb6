// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// PrefixKind is the kind of a Prefix.
	PrefixKind = "Prefix"
	// PrefixFinalizer keeps a Prefix until no prefix is allocated from it any more.
	PrefixFinalizer = "ipam.ironcore.dev/prefix"
)

// IPFamily is the family of an IP address.
type IPFamily string

const (
	// IPv4 is the family of 32-bit addresses.
	IPv4 IPFamily = "IPv4"
	// IPv6 is the family of 128-bit addresses.
	IPv6 IPFamily = "IPv6"
)

// LocalObjectReference names an object in the same namespace.
type LocalObjectReference struct {
	// name is the name of the object.
	Name string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Prefix is a range of IP addresses. A root Prefix specifies its own range. A child Prefix is allocated from a
// parent Prefix, by length or as an exact range.
type Prefix struct {
	metav1.TypeMeta
	// metadata is the standard object metadata.
	metav1.ObjectMeta

	// spec is the requested range and the parent to allocate it from.
	Spec PrefixSpec
	// status is the observed state: whether the Prefix is allocated, and what is allocated from it.
	Status PrefixStatus
}

// PrefixSpec is the requested range and the parent to allocate it from. A Prefix without parentRef and parentSelector is
// a root. Fields are immutable once they are set. If they are unset, ipFamily, prefix, prefixLength and, on a child,
// parentRef can be set after creation.
type PrefixSpec struct {
	// ipFamily is the address family of the prefix, IPv4 or IPv6. If unset, it is derived from prefix, or from the
	// parent that parentRef names.
	IPFamily IPFamily
	// prefix is the range in canonical CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32. It is required on a
	// root. On a child it requests exactly this range; otherwise it is set when the child is allocated.
	Prefix string
	// prefixLength is the length of the prefix to allocate, in bits: 1 to 32 for IPv4, 1 to 128 for IPv6. It can be
	// set on a child only. If prefix is set too, it must have this length. If a child is created with neither, it gets
	// the default length of the PrefixPolicies of its parent, if they have one.
	PrefixLength int32
	// parentRef is the parent to allocate from. If unset, it is set when the child is allocated. If both parentRef
	// and parentSelector are set, parentRef takes precedence.
	ParentRef *LocalObjectReference
	// parentSelector selects the parents to allocate from by their labels.
	ParentSelector *metav1.LabelSelector
	// parentNamespace is the namespace of the parent, for parentRef and parentSelector alike. If unset, it is that of the
	// child. A PrefixPolicy there must share the parent with the namespace of the child. It cannot be changed. A
	// write that leaves it out means as it is.
	ParentNamespace string
}

// IsRoot reports whether the Prefix is a root, which is not allocated from a parent.
func (s *PrefixSpec) IsRoot() bool {
	return s.ParentRef == nil && s.ParentSelector == nil
}

// NamespaceOfParent returns the namespace of the parent that the Prefix names or selects.
func (p *Prefix) NamespaceOfParent() string {
	if p.Spec.ParentNamespace != "" {
		return p.Spec.ParentNamespace
	}
	return p.Namespace
}

// PrefixPhase is the phase of a Prefix.
type PrefixPhase string

const (
	// PrefixPhasePending means that the Prefix has not been allocated yet.
	PrefixPhasePending PrefixPhase = "Pending"
	// PrefixPhaseAllocated means that the Prefix holds the range in spec.prefix. This phase is final.
	PrefixPhaseAllocated PrefixPhase = "Allocated"
)

// PrefixStatus is the observed state of a Prefix.
type PrefixStatus struct {
	// phase is Pending or Allocated. Allocated is final.
	Phase PrefixPhase
	// lastPhaseTransitionTime is the time of the last change of phase.
	LastPhaseTransitionTime *metav1.Time
	// used lists the prefixes that are allocated from this one, sorted by address. If there are more than 1000, it
	// lists the fewest CIDRs that cover the same addresses, and at most the first 1000 of those.
	Used []string
	// observedGeneration is the generation of the spec that the conditions are based on.
	ObservedGeneration int64
	// conditions describe the state of the Prefix and the reason for it: Allocated, Ready, Stalled if the request can
	// never be satisfied, and Deletable while the Prefix is being deleted.
	Conditions []metav1.Condition
	// usage is the number of addresses in this Prefix that are allocated and free.
	Usage *PrefixUsage
}

// PrefixUsage counts the addresses of a Prefix. The counts are decimal strings, because IPv6 counts do not fit into
// an integer.
type PrefixUsage struct {
	// total is the number of addresses in the Prefix.
	Total string
	// used is the number of allocated addresses.
	Used string
	// free is the number of free addresses that can be allocated without requesting them exactly.
	Free string
	// percent is the percentage of allocated addresses, 0 to 100, rounded down.
	Percent int32
	// allocations is the number of allocated prefixes.
	Allocations int64
	// largestFree is the length of the largest free block that can be allocated without requesting it exactly, such as
	// /26. It is unset if there is none.
	LargestFree string
	// truncated is true if status.used does not list all allocated prefixes.
	Truncated bool
	// reserved is the number of addresses that a PrefixPolicy reserves and that are not in use. They do not
	// count as free. It is unset when there are none.
	Reserved string
	// cooling is the number of addresses that cool down after their child was deleted. They count neither as used nor as
	// free. It is unset when there are none.
	Cooling string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixList is a list of Prefixes.
type PrefixList struct {
	metav1.TypeMeta
	// metadata is the standard list metadata.
	metav1.ListMeta
	// items are the Prefixes.
	Items []Prefix
}

// PrefixTemplateSpec is a template for a Prefix. Types of other API groups embed it.
type PrefixTemplateSpec struct {
	// metadata is the metadata of the Prefix.
	metav1.ObjectMeta
	// spec is the spec of the Prefix.
	Spec PrefixSpec
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixBinding completes a child Prefix in one write. It sets spec.prefix and spec.parentRef, and status.phase to
// Allocated.
type PrefixBinding struct {
	metav1.TypeMeta
	// metadata identifies the Prefix. If it has a uid, that must be the uid of the Prefix.
	Metadata BindingMeta

	// prefix is the allocated range, in canonical CIDR notation.
	Prefix string
	// parentRef is the parent that the range is allocated from.
	ParentRef BindingReference
}

// BindingMeta identifies the object that a binding is for. A binding is not stored, so it needs no other metadata.
type BindingMeta struct {
	// name is the name of the object. If set, it must match.
	Name string
	// namespace is the namespace of the object. If set, it must match.
	Namespace string
	// uid is the uid of the object. If set, it must match. It tells an object from an earlier one of the same name.
	UID types.UID
}

// BindingReference is the parent in a binding.
type BindingReference struct {
	// name is the name of the parent Prefix.
	Name string
	// uid is the uid of the parent. If set, it must match. It tells a parent from an earlier one of the same name.
	UID types.UID
	// namespace is the namespace of the parent. If unset, it is that of the object. It must be the one that the object
	// asks for.
	Namespace string
}
