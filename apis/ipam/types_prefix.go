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
	// PrefixFinalizer keeps a Prefix until nothing is allocated from it any more.
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

// Prefix is a range of IP addresses. A root Prefix brings its range along; a child Prefix is
// allocated out of a parent Prefix of the same namespace, by length or exactly.
type Prefix struct {
	metav1.TypeMeta
	// metadata is the standard object metadata.
	metav1.ObjectMeta

	// spec is the range that is wanted, and where from.
	Spec PrefixSpec
	// status is what has been allocated, to this Prefix and out of it.
	Status PrefixStatus
}

// PrefixSpec is the range that is wanted, and where from. Without parentRef and parentSelector the
// Prefix is a root. A field that is set cannot be changed; prefix, prefixLength and, on a child,
// parentRef may be set later, once.
type PrefixSpec struct {
	// ipFamily is the family of the prefix, IPv4 or IPv6. If unset, it is taken from prefix, or
	// else from the parent that parentRef names.
	IPFamily IPFamily
	// prefix is the range in canonical CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32. A root
	// requires it; on a child it asks for exactly this range. It is filled in when a child is
	// allocated.
	Prefix string
	// prefixLength is the length of the prefix to allocate, in bits: 1 to 32 for IPv4, 1 to 128 for
	// IPv6. It is for a child only, and has to agree with prefix if both are set. If a child is created
	// with neither, it gets the default length of the PrefixPolicies of its parent, if they have one.
	PrefixLength int32
	// parentRef names the parent to allocate from. It is filled in when a child is allocated by
	// parentSelector; if both are set, parentRef wins.
	ParentRef *LocalObjectReference
	// parentSelector selects, by label, the parents to allocate from.
	ParentSelector *metav1.LabelSelector
}

// IsRoot reports whether the Prefix is a root: one that is not allocated from a parent.
func (s *PrefixSpec) IsRoot() bool {
	return s.ParentRef == nil && s.ParentSelector == nil
}

// PrefixPhase is where a Prefix stands.
type PrefixPhase string

const (
	// PrefixPhasePending means that the Prefix has no addresses yet.
	PrefixPhasePending PrefixPhase = "Pending"
	// PrefixPhaseAllocated means that the Prefix holds the addresses in spec.prefix. It is final.
	PrefixPhaseAllocated PrefixPhase = "Allocated"
)

// PrefixStatus is what has been allocated, to a Prefix and out of it.
type PrefixStatus struct {
	// phase is Pending or Allocated. Allocated is final.
	Phase PrefixPhase
	// lastPhaseTransitionTime is when phase last changed.
	LastPhaseTransitionTime *metav1.Time
	// used lists the prefixes that have been handed out of this one, by address. Above 1000 it is
	// the same set of addresses as the fewest CIDRs, and of those the first 1000.
	Used []string
	// observedGeneration is the generation of the spec that the conditions were derived from.
	ObservedGeneration int64
	// conditions say where the Prefix stands and why: Allocated, Ready, Stalled if the request can never
	// be met, and Deletable while it is being deleted.
	Conditions []metav1.Condition
	// usage is how much of this Prefix has been handed out.
	Usage *PrefixUsage
}

// PrefixUsage is how much of a Prefix has been handed out. Addresses are counted in decimal
// strings, since IPv6 has more of them than fit into an integer.
type PrefixUsage struct {
	// total is the number of addresses of the Prefix.
	Total string
	// used is the number of addresses that have been handed out.
	Used string
	// free is the number of addresses that can still be handed out automatically.
	Free string
	// percent is the used part of the total, 0 to 100, rounded down.
	Percent int32
	// allocations is the number of prefixes that have been handed out.
	Allocations int64
	// largestFree is the largest prefix that can still be handed out automatically, as a length such as /26.
	// It is unset when there is none.
	LargestFree string
	// truncated is set when status.used does not list everything.
	Truncated bool
	// reserved is the number of addresses that a PrefixPolicy reserves and that are not in use. They do not
	// count as free. It is unset when there are none.
	Reserved string
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

// PrefixTemplateSpec is for types of other API groups that embed the request for a Prefix.
type PrefixTemplateSpec struct {
	// metadata is put on the Prefix.
	metav1.ObjectMeta
	// spec is the spec of the Prefix.
	Spec PrefixSpec
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixBinding completes a child Prefix in one write: it sets spec.prefix, spec.parentRef and
// status.phase Allocated.
type PrefixBinding struct {
	metav1.TypeMeta
	// metadata names the Prefix. A uid here has to be the one of the Prefix.
	Metadata BindingMeta

	// prefix is the range that was allocated, in canonical CIDR notation.
	Prefix string
	// parentRef is the parent that it was allocated from.
	ParentRef BindingReference
}

// BindingMeta names the object that a binding is for. It is all of the standard object metadata that means something
// in a binding, which is not kept.
type BindingMeta struct {
	// name, if set, has to be the one of the object.
	Name string
	// namespace, if set, has to be the one of the object.
	Namespace string
	// uid, if set, has to be the one of the object: one that was created anew under the same name is another one.
	UID types.UID
}

// BindingReference names the parent in a binding.
type BindingReference struct {
	// name is the name of the parent Prefix, in the same namespace.
	Name string
	// uid, if set, has to be the uid of the parent: a parent that was created anew under the same
	// name is another one.
	UID types.UID
}
