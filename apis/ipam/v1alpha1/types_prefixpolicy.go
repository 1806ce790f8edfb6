// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PrefixPolicyKind is the kind of a PrefixPolicy.
const PrefixPolicyKind = "PrefixPolicy"

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixPolicy has rules for the Prefixes that it selects, as parents. It belongs to the owner of the address
// space. All policies that select a Prefix apply to it.
type PrefixPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`

	// spec has the rules.
	// +optional
	Spec PrefixPolicySpec `json:"spec,omitempty" protobuf:"bytes,2,opt,name=spec"`
	// status says what the rules apply to.
	// +optional
	Status PrefixPolicyStatus `json:"status,omitempty" protobuf:"bytes,3,opt,name=status"`
}

// PrefixPolicySpec has the rules of a PrefixPolicy.
type PrefixPolicySpec struct {
	// prefixSelector selects, by label, the Prefixes of the namespace that the rules apply to. {} selects all.
	PrefixSelector *metav1.LabelSelector `json:"prefixSelector" protobuf:"bytes,1,opt,name=prefixSelector"`
	// reserved is space of the selected Prefixes that is never chosen automatically. A child or an allocation
	// that requests a reserved range by its prefix gets it. A reservation does not affect what is allocated
	// already. If several policies select a Prefix, all their reservations apply.
	// +optional
	// +listType=atomic
	Reserved []PrefixReservation `json:"reserved,omitempty" protobuf:"bytes,2,rep,name=reserved"`
	// childLengths says which prefix lengths may be allocated from the selected Prefixes. It does not affect what
	// is allocated already. If several policies select a Prefix, a length must be allowed by all of them.
	// +optional
	ChildLengths *PrefixChildLengths `json:"childLengths,omitempty" protobuf:"bytes,3,opt,name=childLengths"`
	// closed keeps anything new from being allocated from the selected Prefixes. What is allocated stays. If several
	// policies select a Prefix, one that is closed is enough.
	// +optional
	Closed bool `json:"closed,omitempty" protobuf:"varint,4,opt,name=closed"`
	// coolDown is for how long the space of a child that was deleted is kept, such as 24h. Meanwhile only a child of
	// the same namespace and name that asks for the same gets it. It is rounded up to whole seconds, and is at most a
	// year. A change does not affect space that cools already. If several policies select a Prefix, the longest counts.
	// +optional
	CoolDown *metav1.Duration `json:"coolDown,omitempty" protobuf:"bytes,5,opt,name=coolDown"`
	// strategy is how a part of the selected Prefixes is chosen, and one of them if there are several: Pack, Spread
	// or Random. If several policies select a Prefix and differ, the oldest one counts. If none has a strategy, that
	// of the controller manager chooses the Prefix, and Pack chooses the part.
	// +optional
	Strategy PrefixStrategy `json:"strategy,omitempty" protobuf:"bytes,6,opt,name=strategy,casttype=PrefixStrategy"`
	// sharedWith are the other namespaces whose children may be allocated from the selected Prefixes. If it is taken
	// back, what is allocated stays. If several policies select a Prefix, it is shared with all namespaces that any of
	// them names.
	// +optional
	SharedWith *PrefixSharing `json:"sharedWith,omitempty" protobuf:"bytes,7,opt,name=sharedWith"`
}

// PrefixSharing says with which other namespaces Prefixes are shared. Exactly one of its fields must be set.
type PrefixSharing struct {
	// namespaces are the names of namespaces.
	// +optional
	// +listType=set
	Namespaces []string `json:"namespaces,omitempty" protobuf:"bytes,1,rep,name=namespaces"`
	// namespaceSelector selects namespaces by their labels. A server without a cluster knows no labels and refuses it.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty" protobuf:"bytes,2,opt,name=namespaceSelector"`
	// all shares with every namespace.
	// +optional
	All bool `json:"all,omitempty" protobuf:"varint,3,opt,name=all"`
}

// PrefixReservation is a part of the selected Prefixes. Exactly one of cidr, edges, and from together with to
// must be set.
type PrefixReservation struct {
	// cidr is a range in canonical CIDR notation, such as 10.0.0.0/28.
	// +optional
	CIDR string `json:"cidr,omitempty" protobuf:"bytes,1,opt,name=cidr"`
	// from is the first address of a range, such as 10.0.0.10.
	// +optional
	From string `json:"from,omitempty" protobuf:"bytes,2,opt,name=from"`
	// to is the last address of the range that begins with from.
	// +optional
	To string `json:"to,omitempty" protobuf:"bytes,3,opt,name=to"`
	// edges reserves the addresses of each selected Prefix that have a meaning of their own: the network and the
	// broadcast address of an IPv4 Prefix of length 30 or less, and the subnet-router anycast address of an IPv6
	// Prefix of length 126 or less.
	// +optional
	Edges bool `json:"edges,omitempty" protobuf:"varint,4,opt,name=edges"`
	// reason says what the space is reserved for. It is for people, and has at most 256 bytes.
	// +optional
	Reason string `json:"reason,omitempty" protobuf:"bytes,5,opt,name=reason"`
}

// PrefixChildLengths says which prefix lengths may be allocated, in bits.
type PrefixChildLengths struct {
	// min is the smallest length that may be allocated, which is that of the largest child.
	// +optional
	Min int32 `json:"min,omitempty" protobuf:"varint,1,opt,name=min"`
	// max is the greatest length that may be allocated, which is that of the smallest child.
	// +optional
	Max int32 `json:"max,omitempty" protobuf:"varint,2,opt,name=max"`
	// default is the length of a child Prefix that is created with neither prefix nor prefixLength. If several
	// policies select a Prefix, that of the oldest one with a default counts.
	// +optional
	Default int32 `json:"default,omitempty" protobuf:"varint,3,opt,name=default"`
}

// PrefixStrategy is how a part of a Prefix is chosen, and a Prefix among several.
// +enum
type PrefixStrategy string

const (
	// PrefixStrategyPack keeps large free blocks whole. It takes the smallest free block that fits, at the lowest
	// address, and fills one Prefix after the other.
	PrefixStrategyPack PrefixStrategy = "Pack"
	// PrefixStrategySpread leaves room between children. It takes the beginning of the largest free block, and of
	// several Prefixes the one with most free addresses.
	PrefixStrategySpread PrefixStrategy = "Spread"
	// PrefixStrategyRandom takes a free place at random, of a Prefix at random.
	PrefixStrategyRandom PrefixStrategy = "Random"
)

// PrefixPolicyStatus says what the rules of a PrefixPolicy apply to.
type PrefixPolicyStatus struct {
	// observedGeneration is the generation of the spec that the status was derived from.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty" protobuf:"varint,1,opt,name=observedGeneration"`
	// conditions say whether the rules apply: Ready. Its message names reserved space that is in use.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type" protobuf:"bytes,2,rep,name=conditions"`
	// prefixes is the number of Prefixes that the policy selects.
	Prefixes int64 `json:"prefixes" protobuf:"varint,3,opt,name=prefixes"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixPolicyList is a list of PrefixPolicies.
type PrefixPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`
	// items are the PrefixPolicies.
	Items []PrefixPolicy `json:"items" protobuf:"bytes,2,rep,name=items"`
}
