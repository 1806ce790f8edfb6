// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

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
// +enum
type IPFamily string

const (
	// IPv4 is the family of 32-bit addresses.
	IPv4 IPFamily = "IPv4"
	// IPv6 is the family of 128-bit addresses.
	IPv6 IPFamily = "IPv6"
)

// LocalObjectReference names an object in the same namespace.
// +structType=atomic
type LocalObjectReference struct {
	// name is the name of the object.
	Name string `json:"name" protobuf:"bytes,1,opt,name=name"`
}

// +genclient
// +genclient:method=Bind,verb=create,subresource=binding,input=PrefixBinding,result=Prefix
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Prefix is a range of IP addresses. A root Prefix specifies its own range. A child Prefix is allocated from a
// parent Prefix, by length or as an exact range.
type Prefix struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`

	// spec is the requested range and the parent to allocate it from.
	// +optional
	Spec PrefixSpec `json:"spec,omitempty" protobuf:"bytes,2,opt,name=spec"`
	// status is the observed state: whether the Prefix is allocated, and what is allocated from it.
	// +optional
	Status PrefixStatus `json:"status,omitempty" protobuf:"bytes,3,opt,name=status"`
}

// PrefixSpec is the requested range and the parent to allocate it from. A Prefix without parentRef and parentSelector is
// a root. Fields are immutable once they are set. If they are unset, ipFamily, prefix, prefixLength and, on a child,
// parentRef can be set after creation.
type PrefixSpec struct {
	// ipFamily is the address family of the prefix, IPv4 or IPv6. If unset, it is derived from prefix, or from the
	// parent that parentRef names.
	// +optional
	IPFamily IPFamily `json:"ipFamily,omitempty" protobuf:"bytes,1,opt,name=ipFamily,casttype=IPFamily"`
	// prefix is the range in canonical CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32. It is required on a
	// root. On a child it requests exactly this range; otherwise it is set when the child is allocated.
	// +optional
	Prefix string `json:"prefix,omitempty" protobuf:"bytes,2,opt,name=prefix"`
	// prefixLength is the length of the prefix to allocate, in bits: 1 to 32 for IPv4, 1 to 128 for IPv6. It can be
	// set on a child only. If prefix is set too, it must have this length. If a child is created with neither, it gets
	// the default length of the PrefixPolicies of its parent, if they have one.
	// +optional
	PrefixLength int32 `json:"prefixLength,omitempty" protobuf:"varint,3,opt,name=prefixLength"`
	// parentRef is the parent to allocate from. If unset, it is set when the child is allocated. If both parentRef
	// and parentSelector are set, parentRef takes precedence.
	// +optional
	ParentRef *LocalObjectReference `json:"parentRef,omitempty" protobuf:"bytes,4,opt,name=parentRef"`
	// parentSelector selects the parents to allocate from by their labels.
	// +optional
	ParentSelector *metav1.LabelSelector `json:"parentSelector,omitempty" protobuf:"bytes,5,opt,name=parentSelector"`
	// parentNamespace is the namespace of the parent, for parentRef and parentSelector alike. If unset, it is that of the
	// child. A PrefixPolicy there must share the parent with the namespace of the child. It cannot be changed. A
	// write that leaves it out means as it is.
	// +optional
	ParentNamespace string `json:"parentNamespace,omitempty" protobuf:"bytes,6,opt,name=parentNamespace"`
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
// +enum
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
	// +optional
	Phase PrefixPhase `json:"phase,omitempty" protobuf:"bytes,1,opt,name=phase,casttype=PrefixPhase"`
	// lastPhaseTransitionTime is the time of the last change of phase.
	// +optional
	LastPhaseTransitionTime *metav1.Time `json:"lastPhaseTransitionTime,omitempty" protobuf:"bytes,2,opt,name=lastPhaseTransitionTime"`
	// used lists the prefixes that are allocated from this one, sorted by address. If there are more than 1000, it
	// lists the fewest CIDRs that cover the same addresses, and at most the first 1000 of those.
	// +optional
	// +listType=atomic
	Used []string `json:"used,omitempty" protobuf:"bytes,3,rep,name=used"`
	// observedGeneration is the generation of the spec that the conditions are based on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty" protobuf:"varint,4,opt,name=observedGeneration"`
	// conditions describe the state of the Prefix and the reason for it: Allocated, Ready, Stalled if the request can
	// never be satisfied, and Deletable while the Prefix is being deleted.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type" protobuf:"bytes,5,rep,name=conditions"`
	// usage is the number of addresses in this Prefix that are allocated and free.
	// +optional
	Usage *PrefixUsage `json:"usage,omitempty" protobuf:"bytes,6,opt,name=usage"`
}

// PrefixUsage counts the addresses of a Prefix. The counts are decimal strings, because IPv6 counts do not fit into
// an integer.
type PrefixUsage struct {
	// total is the number of addresses in the Prefix.
	Total string `json:"total" protobuf:"bytes,1,opt,name=total"`
	// used is the number of allocated addresses.
	Used string `json:"used" protobuf:"bytes,2,opt,name=used"`
	// free is the number of free addresses that can be allocated without requesting them exactly.
	Free string `json:"free" protobuf:"bytes,3,opt,name=free"`
	// percent is the percentage of allocated addresses, 0 to 100, rounded down.
	Percent int32 `json:"percent" protobuf:"varint,4,opt,name=percent"`
	// allocations is the number of allocated prefixes.
	Allocations int64 `json:"allocations" protobuf:"varint,5,opt,name=allocations"`
	// largestFree is the length of the largest free block that can be allocated without requesting it exactly, such as
	// /26. It is unset if there is none.
	// +optional
	LargestFree string `json:"largestFree,omitempty" protobuf:"bytes,6,opt,name=largestFree"`
	// truncated is true if status.used does not list all allocated prefixes.
	// +optional
	Truncated bool `json:"truncated,omitempty" protobuf:"varint,7,opt,name=truncated"`
	// reserved is the number of addresses that a PrefixPolicy reserves and that are not in use. They do not
	// count as free. It is unset when there are none.
	// +optional
	Reserved string `json:"reserved,omitempty" protobuf:"bytes,8,opt,name=reserved"`
	// cooling is the number of addresses that cool down after their child was deleted. They count neither as used nor as
	// free. It is unset when there are none.
	// +optional
	Cooling string `json:"cooling,omitempty" protobuf:"bytes,9,opt,name=cooling"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixList is a list of Prefixes.
type PrefixList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`
	// items are the Prefixes.
	Items []Prefix `json:"items" protobuf:"bytes,2,rep,name=items"`
}

// PrefixTemplateSpec is a template for a Prefix. Types of other API groups embed it.
type PrefixTemplateSpec struct {
	// metadata is the metadata of the Prefix.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`
	// spec is the spec of the Prefix.
	// +optional
	Spec PrefixSpec `json:"spec,omitempty" protobuf:"bytes,2,opt,name=spec"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixBinding completes a child Prefix in one write. It sets spec.prefix and spec.parentRef, and status.phase to
// Allocated.
type PrefixBinding struct {
	metav1.TypeMeta `json:",inline"`
	// metadata identifies the Prefix. If it has a uid, that must be the uid of the Prefix.
	// +optional
	Metadata BindingMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`

	// prefix is the allocated range, in canonical CIDR notation.
	Prefix string `json:"prefix" protobuf:"bytes,2,opt,name=prefix"`
	// parentRef is the parent that the range is allocated from.
	ParentRef BindingReference `json:"parentRef" protobuf:"bytes,3,opt,name=parentRef"`
}

// BindingMeta identifies the object that a binding is for. A binding is not stored, so it needs no other metadata.
type BindingMeta struct {
	// name is the name of the object. If set, it must match.
	// +optional
	Name string `json:"name,omitempty" protobuf:"bytes,1,opt,name=name"`
	// namespace is the namespace of the object. If set, it must match.
	// +optional
	Namespace string `json:"namespace,omitempty" protobuf:"bytes,3,opt,name=namespace"`
	// uid is the uid of the object. If set, it must match. It tells an object from an earlier one of the same name.
	// +optional
	UID types.UID `json:"uid,omitempty" protobuf:"bytes,5,opt,name=uid,casttype=k8s.io/apimachinery/pkg/types.UID"`
}

// BindingReference is the parent in a binding.
// +structType=atomic
type BindingReference struct {
	// name is the name of the parent Prefix.
	Name string `json:"name" protobuf:"bytes,1,opt,name=name"`
	// uid is the uid of the parent. If set, it must match. It tells a parent from an earlier one of the same name.
	// +optional
	UID types.UID `json:"uid,omitempty" protobuf:"bytes,2,opt,name=uid,casttype=k8s.io/apimachinery/pkg/types.UID"`
	// namespace is the namespace of the parent. If unset, it is that of the object. It must be the one that the object
	// asks for.
	// +optional
	Namespace string `json:"namespace,omitempty" protobuf:"bytes,3,opt,name=namespace"`
}
