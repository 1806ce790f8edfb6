// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// PrefixAllocationKind is the kind of a PrefixAllocation.
	PrefixAllocationKind = "PrefixAllocation"
	// RequesterUIDLabel is the label of every PrefixAllocation that is created for a child Prefix. Its value is the
	// uid of the child.
	RequesterUIDLabel = "ipam.ironcore.dev/requester-uid"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixAllocation is a request for a part of a Prefix, and its result once it is allocated. The controllers create
// one for each child Prefix.
type PrefixAllocation struct {
	metav1.TypeMeta
	// metadata is the standard object metadata.
	metav1.ObjectMeta

	// spec is the requested range and the Prefix to allocate it from.
	Spec PrefixAllocationSpec
	// status is the observed state: whether a range is allocated, and which.
	Status PrefixAllocationStatus
}

// PrefixAllocationSpec is the requested range and the Prefix to allocate it from. It is immutable, except that
// prefixRef and ipFamily can be set once if they are unset.
type PrefixAllocationSpec struct {
	// ipFamily is the address family of the prefix, IPv4 or IPv6. If unset, it is derived from prefix, or from the
	// Prefix that prefixRef names.
	IPFamily IPFamily
	// prefix requests exactly this range, in canonical CIDR notation. Exactly one of prefix and prefixLength must
	// be set.
	Prefix string
	// prefixLength requests any free range of this length, in bits: 1 to 32 for IPv4, 1 to 128 for IPv6.
	PrefixLength int32
	// prefixRef is the Prefix to allocate from. If unset, the scheduler sets it. At least one of prefixRef and
	// prefixSelector must be set. If both are set, prefixRef takes precedence.
	PrefixRef *LocalObjectReference
	// prefixSelector selects the Prefixes to allocate from by their labels.
	PrefixSelector *metav1.LabelSelector
	// prefixNamespace is the namespace of the Prefix to allocate from, for prefixRef and prefixSelector alike. If unset, it
	// is that of the PrefixAllocation. A PrefixPolicy there must share the Prefix with the namespace of the
	// PrefixAllocation. It cannot be changed. A write that leaves it out means as it is.
	PrefixNamespace string
}

// NamespaceOfParent returns the namespace of the Prefix that the PrefixAllocation names or selects.
func (a *PrefixAllocation) NamespaceOfParent() string {
	if a.Spec.PrefixNamespace != "" {
		return a.Spec.PrefixNamespace
	}
	return a.Namespace
}

// PrefixAllocationPhase is the phase of a PrefixAllocation.
type PrefixAllocationPhase string

const (
	// PrefixAllocationPhasePending means that no range has been allocated yet.
	PrefixAllocationPhasePending PrefixAllocationPhase = "Pending"
	// PrefixAllocationPhaseAllocated means that the range in status.prefix is allocated. This phase is final.
	PrefixAllocationPhaseAllocated PrefixAllocationPhase = "Allocated"
	// PrefixAllocationPhaseFailed means that the request can never be satisfied. This phase is final.
	PrefixAllocationPhaseFailed PrefixAllocationPhase = "Failed"
)

// IsTerminal reports whether the phase is final.
func (p PrefixAllocationPhase) IsTerminal() bool {
	return p == PrefixAllocationPhaseAllocated || p == PrefixAllocationPhaseFailed
}

// PrefixAllocationStatus is the observed state of a PrefixAllocation.
type PrefixAllocationStatus struct {
	// phase is Pending, Allocated or Failed. Allocated and Failed are final.
	Phase PrefixAllocationPhase
	// lastPhaseTransitionTime is the time of the last change of phase.
	LastPhaseTransitionTime *metav1.Time
	// prefix is the allocated range, in canonical CIDR notation.
	Prefix string
	// conditions describe the state of the PrefixAllocation and the reason for it: Allocated, Ready, and Stalled if
	// the request can never be satisfied.
	Conditions []metav1.Condition
	// coolingUntil is set once the child that the range was allocated for is gone and a PrefixPolicy of the parent has a
	// coolDown. Until that time nobody gets the range but a child of the same name that asks for the same. The server
	// sets it when the PrefixAllocation is deleted; after that time it can be deleted. A deletion with a grace period of
	// 0 or 1 seconds releases the range at once.
	CoolingUntil *metav1.Time
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixAllocationList is a list of PrefixAllocations.
type PrefixAllocationList struct {
	metav1.TypeMeta
	// metadata is the standard list metadata.
	metav1.ListMeta
	// items are the PrefixAllocations.
	Items []PrefixAllocation
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixAllocationBinding allocates a range in one write. It sets spec.prefixRef and status.prefix, and
// status.phase to Allocated.
type PrefixAllocationBinding struct {
	metav1.TypeMeta
	// metadata identifies the PrefixAllocation. If it has a uid, that must be the uid of the PrefixAllocation.
	Metadata BindingMeta

	// prefix is the range to allocate, in canonical CIDR notation.
	Prefix string
	// prefixRef is the Prefix to allocate the range from.
	PrefixRef BindingReference
}
