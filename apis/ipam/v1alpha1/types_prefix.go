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
	// PrefixFinalizer keeps a Prefix until nothing is allocated from it any more.
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

// Prefix is a range of IP addresses. A root Prefix brings its range along; a child Prefix is
// allocated out of a parent Prefix of the same namespace, by length or exactly.
type Prefix struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`

	// spec is the range that is wanted, and where from.
	// +optional
	Spec PrefixSpec `json:"spec,omitempty" protobuf:"bytes,2,opt,name=spec"`
	// status is what has been allocated, to this Prefix and out of it.
	// +optional
	Status PrefixStatus `json:"status,omitempty" protobuf:"bytes,3,opt,name=status"`
}

// PrefixSpec is the range that is wanted, and where from. Without parentRef and parentSelector the
// Prefix is a root. A field that is set cannot be changed; prefix, prefixLength and, on a child,
// parentRef may be set later, once.
type PrefixSpec struct {
	// ipFamily is the family of the prefix, IPv4 or IPv6. If unset, it is taken from prefix, or
	// else from the parent that parentRef names.
	// +optional
	IPFamily IPFamily `json:"ipFamily,omitempty" protobuf:"bytes,1,opt,name=ipFamily,casttype=IPFamily"`
	// prefix is the range in canonical CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32. A root
	// requires it; on a child it asks for exactly this range. It is filled in when a child is
	// allocated.
	// +optional
	Prefix string `json:"prefix,omitempty" protobuf:"bytes,2,opt,name=prefix"`
	// prefixLength is the length of the prefix to allocate, in bits: 1 to 32 for IPv4, 1 to 128 for
	// IPv6. It is for a child only, and has to agree with prefix if both are set. If a child is created
	// with neither, it gets the default length of the PrefixPolicies of its parent, if they have one.
	// +optional
	PrefixLength int32 `json:"prefixLength,omitempty" protobuf:"varint,3,opt,name=prefixLength"`
	// parentRef names the parent to allocate from. It is filled in when a child is allocated by
	// parentSelector; if both are set, parentRef wins.
	// +optional
	ParentRef *LocalObjectReference `json:"parentRef,omitempty" protobuf:"bytes,4,opt,name=parentRef"`
	// parentSelector selects, by label, the parents to allocate from.
	// +optional
	ParentSelector *metav1.LabelSelector `json:"parentSelector,omitempty" protobuf:"bytes,5,opt,name=parentSelector"`
}

// IsRoot reports whether the Prefix is a root: one that is not allocated from a parent.
func (s *PrefixSpec) IsRoot() bool {
	return s.ParentRef == nil && s.ParentSelector == nil
}

// PrefixPhase is where a Prefix stands.
// +enum
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
	// +optional
	Phase PrefixPhase `json:"phase,omitempty" protobuf:"bytes,1,opt,name=phase,casttype=PrefixPhase"`
	// lastPhaseTransitionTime is when phase last changed.
	// +optional
	LastPhaseTransitionTime *metav1.Time `json:"lastPhaseTransitionTime,omitempty" protobuf:"bytes,2,opt,name=lastPhaseTransitionTime"`
	// used lists the prefixes that have been handed out of this one, by address. Above 1000 it is
	// the same set of addresses as the fewest CIDRs, and of those the first 1000.
	// +optional
	// +listType=atomic
	Used []string `json:"used,omitempty" protobuf:"bytes,3,rep,name=used"`
	// observedGeneration is the generation of the spec that the conditions were derived from.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty" protobuf:"varint,4,opt,name=observedGeneration"`
	// conditions say where the Prefix stands and why: Allocated, Ready, Stalled if the request can never
	// be met, and Deletable while it is being deleted.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type" protobuf:"bytes,5,rep,name=conditions"`
	// usage is how much of this Prefix has been handed out.
	// +optional
	Usage *PrefixUsage `json:"usage,omitempty" protobuf:"bytes,6,opt,name=usage"`
}

// PrefixUsage is how much of a Prefix has been handed out. Addresses are counted in decimal
// strings, since IPv6 has more of them than fit into an integer.
type PrefixUsage struct {
	// total is the number of addresses of the Prefix.
	Total string `json:"total" protobuf:"bytes,1,opt,name=total"`
	// used is the number of addresses that have been handed out.
	Used string `json:"used" protobuf:"bytes,2,opt,name=used"`
	// free is the number of addresses that can still be handed out automatically.
	Free string `json:"free" protobuf:"bytes,3,opt,name=free"`
	// percent is the used part of the total, 0 to 100, rounded down.
	Percent int32 `json:"percent" protobuf:"varint,4,opt,name=percent"`
	// allocations is the number of prefixes that have been handed out.
	Allocations int64 `json:"allocations" protobuf:"varint,5,opt,name=allocations"`
	// largestFree is the largest prefix that can still be handed out automatically, as a length such as /26.
	// It is unset when there is none.
	// +optional
	LargestFree string `json:"largestFree,omitempty" protobuf:"bytes,6,opt,name=largestFree"`
	// truncated is set when status.used does not list everything.
	// +optional
	Truncated bool `json:"truncated,omitempty" protobuf:"varint,7,opt,name=truncated"`
	// reserved is the number of addresses that a PrefixPolicy reserves and that are not in use. They do not
	// count as free. It is unset when there are none.
	// +optional
	Reserved string `json:"reserved,omitempty" protobuf:"bytes,8,opt,name=reserved"`
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

// PrefixTemplateSpec is for types of other API groups that embed the request for a Prefix.
type PrefixTemplateSpec struct {
	// metadata is put on the Prefix.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`
	// spec is the spec of the Prefix.
	// +optional
	Spec PrefixSpec `json:"spec,omitempty" protobuf:"bytes,2,opt,name=spec"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixBinding completes a child Prefix in one write: it sets spec.prefix, spec.parentRef and
// status.phase Allocated.
type PrefixBinding struct {
	metav1.TypeMeta `json:",inline"`
	// metadata names the Prefix. A uid here has to be the one of the Prefix.
	// +optional
	Metadata BindingMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`

	// prefix is the range that was allocated, in canonical CIDR notation.
	Prefix string `json:"prefix" protobuf:"bytes,2,opt,name=prefix"`
	// parentRef is the parent that it was allocated from.
	ParentRef BindingReference `json:"parentRef" protobuf:"bytes,3,opt,name=parentRef"`
}

// BindingMeta names the object that a binding is for. It is all of the standard object metadata that means something
// in a binding, which is not kept.
type BindingMeta struct {
	// name, if set, has to be the one of the object.
	// +optional
	Name string `json:"name,omitempty" protobuf:"bytes,1,opt,name=name"`
	// namespace, if set, has to be the one of the object.
	// +optional
	Namespace string `json:"namespace,omitempty" protobuf:"bytes,3,opt,name=namespace"`
	// uid, if set, has to be the one of the object: one that was created anew under the same name is another one.
	// +optional
	UID types.UID `json:"uid,omitempty" protobuf:"bytes,5,opt,name=uid,casttype=k8s.io/apimachinery/pkg/types.UID"`
}

// BindingReference names the parent in a binding.
// +structType=atomic
type BindingReference struct {
	// name is the name of the parent Prefix, in the same namespace.
	Name string `json:"name" protobuf:"bytes,1,opt,name=name"`
	// uid, if set, has to be the uid of the parent: a parent that was created anew under the same
	// name is another one.
	// +optional
	UID types.UID `json:"uid,omitempty" protobuf:"bytes,2,opt,name=uid,casttype=k8s.io/apimachinery/pkg/types.UID"`
}
