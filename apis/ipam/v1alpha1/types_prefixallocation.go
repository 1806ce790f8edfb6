// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

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

// +genclient
// +genclient:method=Bind,verb=create,subresource=binding,input=PrefixAllocationBinding,result=PrefixAllocation
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixAllocation is the request for a part of a Prefix and, once allocated, the claim to it.
// The controllers make one for each child Prefix.
type PrefixAllocation struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`

	// spec is what is wanted, and where from.
	// +optional
	Spec PrefixAllocationSpec `json:"spec,omitempty" protobuf:"bytes,2,opt,name=spec"`
	// status is what has been allocated.
	// +optional
	Status PrefixAllocationStatus `json:"status,omitempty" protobuf:"bytes,3,opt,name=status"`
}

// PrefixAllocationSpec is what is wanted, and where from. It cannot be changed, except that
// prefixRef may be set once.
type PrefixAllocationSpec struct {
	// ipFamily is the family of the prefix, IPv4 or IPv6. If unset, it is taken from prefix, or
	// else from the Prefix that prefixRef names.
	// +optional
	IPFamily IPFamily `json:"ipFamily,omitempty" protobuf:"bytes,1,opt,name=ipFamily,casttype=IPFamily"`
	// prefix asks for exactly this range, in canonical CIDR notation. Exactly one of prefix and
	// prefixLength has to be set.
	// +optional
	Prefix string `json:"prefix,omitempty" protobuf:"bytes,2,opt,name=prefix"`
	// prefixLength asks for any free range of this length, in bits: 1 to 32 for IPv4, 1 to 128 for
	// IPv6.
	// +optional
	PrefixLength int32 `json:"prefixLength,omitempty" protobuf:"varint,3,opt,name=prefixLength"`
	// prefixRef names the Prefix to allocate from. It is filled in by scheduling; if prefixSelector
	// is set too, prefixRef wins. At least one of them has to be set.
	// +optional
	PrefixRef *LocalObjectReference `json:"prefixRef,omitempty" protobuf:"bytes,4,opt,name=prefixRef"`
	// prefixSelector selects, by label, the Prefixes to allocate from.
	// +optional
	PrefixSelector *metav1.LabelSelector `json:"prefixSelector,omitempty" protobuf:"bytes,5,opt,name=prefixSelector"`
}

// PrefixAllocationPhase is where a PrefixAllocation stands.
// +enum
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
	// +optional
	Phase PrefixAllocationPhase `json:"phase,omitempty" protobuf:"bytes,1,opt,name=phase,casttype=PrefixAllocationPhase"`
	// lastPhaseTransitionTime is when phase last changed.
	// +optional
	LastPhaseTransitionTime *metav1.Time `json:"lastPhaseTransitionTime,omitempty" protobuf:"bytes,2,opt,name=lastPhaseTransitionTime"`
	// prefix is the range that was allocated, in canonical CIDR notation.
	// +optional
	Prefix string `json:"prefix,omitempty" protobuf:"bytes,3,opt,name=prefix"`
	// conditions say where the PrefixAllocation stands and why: Allocated, Ready, and Stalled if the
	// request can never be met.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type" protobuf:"bytes,4,rep,name=conditions"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixAllocationList is a list of PrefixAllocations.
type PrefixAllocationList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`
	// items are the PrefixAllocations.
	Items []PrefixAllocation `json:"items" protobuf:"bytes,2,rep,name=items"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixAllocationBinding allocates in one write: it sets spec.prefixRef, status.prefix and
// status.phase Allocated.
type PrefixAllocationBinding struct {
	metav1.TypeMeta `json:",inline"`
	// metadata names the PrefixAllocation. A uid here has to be the one of the PrefixAllocation.
	// +optional
	Metadata BindingMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`

	// prefix is the range to allocate, in canonical CIDR notation.
	Prefix string `json:"prefix" protobuf:"bytes,2,opt,name=prefix"`
	// prefixRef is the Prefix to allocate it from.
	PrefixRef BindingReference `json:"prefixRef" protobuf:"bytes,3,opt,name=prefixRef"`
}
