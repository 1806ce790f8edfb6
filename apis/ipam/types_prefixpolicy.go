// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PrefixPolicyKind is the kind of a PrefixPolicy.
const PrefixPolicyKind = "PrefixPolicy"

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixPolicy has rules for the Prefixes that it selects, as parents. It belongs to the owner of the address
// space. All policies that select a Prefix apply to it.
type PrefixPolicy struct {
	metav1.TypeMeta
	// metadata is the standard object metadata.
	metav1.ObjectMeta

	// spec has the rules.
	Spec PrefixPolicySpec
	// status says what the rules apply to.
	Status PrefixPolicyStatus
}

// PrefixPolicySpec has the rules of a PrefixPolicy.
type PrefixPolicySpec struct {
	// prefixSelector selects, by label, the Prefixes of the namespace that the rules apply to. {} selects all.
	PrefixSelector *metav1.LabelSelector
	// reserved is space of the selected Prefixes that is never chosen automatically. A child or an allocation
	// that requests a reserved range by its prefix gets it. A reservation does not affect what is allocated
	// already. If several policies select a Prefix, all their reservations apply.
	Reserved []PrefixReservation
	// childLengths says which prefix lengths may be allocated from the selected Prefixes. It does not affect what
	// is allocated already. If several policies select a Prefix, a length must be allowed by all of them.
	ChildLengths *PrefixChildLengths
	// closed keeps anything new from being allocated from the selected Prefixes. What is allocated stays. If several
	// policies select a Prefix, one that is closed is enough.
	Closed bool
	// coolDown is for how long the space of a child that was deleted is kept, such as 24h. Meanwhile only a child of
	// the same namespace and name that asks for the same gets it. It is rounded up to whole seconds, and is at most a
	// year. A change does not affect space that cools already. If several policies select a Prefix, the longest counts.
	CoolDown *metav1.Duration
	// strategy is how a part of the selected Prefixes is chosen, and one of them if there are several: Pack, Spread
	// or Random. If several policies select a Prefix and differ, the oldest one counts. If none has a strategy, that
	// of the controller manager chooses the Prefix, and Pack chooses the part.
	Strategy PrefixStrategy
	// sharedWith are the other namespaces whose children may be allocated from the selected Prefixes. If it is taken
	// back, what is allocated stays. If several policies select a Prefix, it is shared with all namespaces that any of
	// them names.
	SharedWith *PrefixSharing
}

// PrefixSharing says with which other namespaces Prefixes are shared. Exactly one of its fields must be set.
type PrefixSharing struct {
	// namespaces are the names of namespaces.
	Namespaces []string
	// namespaceSelector selects namespaces by their labels. A server without a cluster knows no labels and refuses it.
	NamespaceSelector *metav1.LabelSelector
	// all shares with every namespace.
	All bool
}

// PrefixReservation is a part of the selected Prefixes. Exactly one of cidr, edges, and from together with to
// must be set.
type PrefixReservation struct {
	// cidr is a range in canonical CIDR notation, such as 10.0.0.0/28.
	CIDR string
	// from is the first address of a range, such as 10.0.0.10.
	From string
	// to is the last address of the range that begins with from.
	To string
	// edges reserves the addresses of each selected Prefix that have a meaning of their own: the network and the
	// broadcast address of an IPv4 Prefix of length 30 or less, and the subnet-router anycast address of an IPv6
	// Prefix of length 126 or less.
	Edges bool
	// reason says what the space is reserved for. It is for people, and has at most 256 bytes.
	Reason string
}

// PrefixChildLengths says which prefix lengths may be allocated, in bits.
type PrefixChildLengths struct {
	// min is the smallest length that may be allocated, which is that of the largest child.
	Min int32
	// max is the greatest length that may be allocated, which is that of the smallest child.
	Max int32
	// default is the length of a child Prefix that is created with neither prefix nor prefixLength. If several
	// policies select a Prefix, that of the oldest one with a default counts.
	Default int32
}

// PrefixStrategy is how a part of a Prefix is chosen, and a Prefix among several.
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
	ObservedGeneration int64
	// conditions say whether the rules apply: Ready. Its message names reserved space that is in use.
	Conditions []metav1.Condition
	// prefixes is the number of Prefixes that the policy selects.
	Prefixes int64
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PrefixPolicyList is a list of PrefixPolicies.
type PrefixPolicyList struct {
	metav1.TypeMeta
	// metadata is the standard list metadata.
	metav1.ListMeta
	// items are the PrefixPolicies.
	Items []PrefixPolicy
}
