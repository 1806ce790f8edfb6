// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// PrefixAllocationKind is the kind of a PrefixAllocation.
	PrefixAllocationKind = "PrefixAllocation"
	// RequesterUIDLabel is on every PrefixAllocation that was made for a child Prefix; its value is
	// the uid of the child.
	RequesterUIDLabel = "ipam.ironcore.dev/requester-uid"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixAllocation is the request for a part of a Prefix and, once allocated, the claim to it.
// The controllers make one for each child Prefix.
type PrefixAllocation struct {
	metav1.TypeMeta
	// metadata is the standard object metadata.
	metav1.ObjectMeta

	// spec is what is wanted, and where from.
	Spec PrefixAllocationSpec
	// status is what has been allocated.
	Status PrefixAllocationStatus
}

// PrefixAllocationSpec is what is wanted, and where from. It cannot be changed, except that
// prefixRef may be set once.
type PrefixAllocationSpec struct {
	// ipFamily is the family of the prefix, IPv4 or IPv6. If unset, it is taken from prefix, or
	// else from the Prefix that prefixRef names.
	IPFamily IPFamily
	// prefix asks for exactly this range, in canonical CIDR notation. Exactly one of prefix and
	// prefixLength has to be set.
	Prefix string
	// prefixLength asks for any free range of this length, in bits: 1 to 32 for IPv4, 1 to 128 for
	// IPv6.
	PrefixLength int32
	// prefixRef names the Prefix to allocate from. It is filled in by scheduling; if prefixSelector
	// is set too, prefixRef wins. At least one of them has to be set.
	PrefixRef *LocalObjectReference
	// prefixSelector selects, by label, the Prefixes to allocate from.
	PrefixSelector *metav1.LabelSelector
}

// PrefixAllocationPhase is where a PrefixAllocation stands.
type PrefixAllocationPhase string

const (
	// PrefixAllocationPhasePending means that nothing has been allocated yet.
	PrefixAllocationPhasePending PrefixAllocationPhase = "Pending"
	// PrefixAllocationPhaseAllocated means that status.prefix is allocated. It is final.
	PrefixAllocationPhaseAllocated PrefixAllocationPhase = "Allocated"
	// PrefixAllocationPhaseFailed means that the request can never be met. It is final.
	PrefixAllocationPhaseFailed PrefixAllocationPhase = "Failed"
)

// IsTerminal reports whether the phase is final.
func (p PrefixAllocationPhase) IsTerminal() bool {
	return p == PrefixAllocationPhaseAllocated || p == PrefixAllocationPhaseFailed
}

// PrefixAllocationStatus is what has been allocated.
type PrefixAllocationStatus struct {
	// phase is Pending, Allocated or Failed. Allocated and Failed are final.
	Phase PrefixAllocationPhase
	// lastPhaseTransitionTime is when phase last changed.
	LastPhaseTransitionTime *metav1.Time
	// prefix is the range that was allocated, in canonical CIDR notation.
	Prefix string
	// conditions say where the PrefixAllocation stands and why: Allocated, Ready, and Stalled if the
	// request can never be met.
	Conditions []metav1.Condition
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

// PrefixAllocationBinding allocates in one write: it sets spec.prefixRef, status.prefix and
// status.phase Allocated.
type PrefixAllocationBinding struct {
	metav1.TypeMeta
	// metadata names the PrefixAllocation. A uid here has to be the one of the PrefixAllocation.
	Metadata BindingMeta

	// prefix is the range to allocate, in canonical CIDR notation.
	Prefix string
	// prefixRef is the Prefix to allocate it from.
	PrefixRef BindingReference
}
