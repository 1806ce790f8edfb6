// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PrefixPoolKind is the kind of a PrefixPool.
const PrefixPoolKind = "PrefixPool"

// ConditionReady says whether a PrefixPool can serve claims, and if not, why.
const ConditionReady = "Ready"

// Reasons of the condition Ready of a PrefixPool.
const (
	// ReasonReady means that the pool has a parent to allocate from, and that its reserved addresses are held.
	ReasonReady = "Ready"
	// ReasonParentNotFound means that the parent that the pool names does not exist, or that its selector matches none. Of a
	// parent in another namespace only its claims say that.
	ReasonParentNotFound = "ParentNotFound"
	// ReasonParentNotReady means that no parent of the pool is allocated, or that it is being deleted.
	ReasonParentNotReady = "ParentNotReady"
	// ReasonInvalidPool means that the fields of the pool contradict each other or its parent.
	ReasonInvalidPool = "InvalidPool"
	// ReasonAddressesNotHeld means that an address that no machine may get, such as the gateway, is not held yet.
	ReasonAddressesNotHeld = "AddressesNotHeld"
	// ReasonDeleting means that the pool is being deleted and waits until its claims are gone.
	ReasonDeleting = "Deleting"
)

// PrefixReference names a Prefix.
type PrefixReference struct {
	// name is the name of the Prefix.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// PrefixPoolSpec says where addresses come from, and what is reported with them.
// +kubebuilder:validation:XValidation:rule="has(self.parentRef) != has(self.parentSelector)",message="exactly one of parentRef and parentSelector must be set"
// +kubebuilder:validation:XValidation:rule="!has(self.parentSelector) || has(self.ipFamily)",message="ipFamily is required with parentSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.parentNamespace) || has(self.ipFamily) && has(self.prefix)",message="ipFamily and prefix are required with parentNamespace"
// +kubebuilder:validation:XValidation:rule="!has(self.ipFamily) || self.ipFamily != 'IPv4' || ((!has(self.prefixLength) || self.prefixLength <= 32) && (!has(self.prefix) || self.prefix <= 32))",message="prefixLength and prefix are at most 32 for IPv4"
// +kubebuilder:validation:XValidation:rule="!has(self.gateway) || !has(self.ipFamily) || ip(self.gateway).family() == (self.ipFamily == 'IPv4' ? 4 : 6)",message="gateway must be an address of ipFamily"
type PrefixPoolSpec struct {
	// parentRef is the Prefix to allocate from. Exactly one of parentRef and parentSelector must be set.
	// +optional
	ParentRef *PrefixReference `json:"parentRef,omitempty"`
	// parentSelector selects the Prefixes to allocate from by their labels.
	// +optional
	ParentSelector *metav1.LabelSelector `json:"parentSelector,omitempty"`
	// parentNamespace is the namespace of the Prefixes to allocate from. By default it is that of the pool. Another one must
	// share its Prefixes with the namespace of the pool, by a PrefixPolicy. The provider reads nothing of them. So ipFamily
	// and prefix are required then, and of the addresses that no machine may get only the gateway is held: the owner of
	// the Prefixes reserves others.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	ParentNamespace string `json:"parentNamespace,omitempty"`
	// ipFamily is the address family, IPv4 or IPv6. If unset, it is that of the Prefix in parentRef. It is required with
	// parentSelector and with parentNamespace.
	// +optional
	// +kubebuilder:validation:Enum=IPv4;IPv6
	IPFamily string `json:"ipFamily,omitempty"`
	// prefixLength is the length of the prefix that is allocated for a claim, in bits. By default it is one address: 32
	// for IPv4, 128 for IPv6. The IPAddress of a claim is the first address of its prefix.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	PrefixLength int32 `json:"prefixLength,omitempty"`
	// prefix is the length of the subnet mask that is reported with an address, in bits, as in 10.0.0.5/24. By default it
	// is the length of the parent. It is required with parentNamespace.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	Prefix int32 `json:"prefix,omitempty"`
	// gateway is the gateway that is reported with an address. If it is an address of a parent, no machine gets it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=39
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="gateway must be an IP address"
	Gateway string `json:"gateway,omitempty"`
}

// PrefixPoolStatus is the observed state of a PrefixPool.
type PrefixPoolStatus struct {
	// observedGeneration is the generation of the spec that the status is based on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions say whether the pool can serve claims: Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// free is the number of claims that the free addresses of the parents suffice for, as a decimal string. Other users of
	// the parents can take them, too. If prefixLength is shorter than one address, fragmentation can make it fewer. It is
	// empty if the parents are in another namespace.
	// +optional
	Free string `json:"free,omitempty"`
	// used is the number of claims of this pool that have an address.
	// +optional
	Used *int64 `json:"used,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=prefixpools,scope=Namespaced,categories=cluster-api
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta1=v1alpha1"
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:metadata:labels="clusterctl.cluster.x-k8s.io/move="
// +kubebuilder:printcolumn:name="Parent",type=string,JSONPath=`.spec.parentRef.name`,description="The Prefix that addresses come from"
// +kubebuilder:printcolumn:name="Gateway",type=string,JSONPath=`.spec.gateway`,description="The gateway that is reported"
// +kubebuilder:printcolumn:name="Free",type=string,JSONPath=`.status.free`,description="The number of claims that there is space for"
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.used`,description="The number of claims that have an address"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the pool can serve claims"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// PrefixPool is a pool from which Cluster API takes the addresses of machines. An IPAddressClaim names it in
// spec.poolRef. Each claim gets a Prefix of its own, which is allocated from a parent of the pool.
type PrefixPool struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says where addresses come from, and what is reported with them.
	// +required
	Spec PrefixPoolSpec `json:"spec"`
	// status is the observed state.
	// +optional
	Status PrefixPoolStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// PrefixPoolList is a list of PrefixPools.
type PrefixPoolList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the PrefixPools.
	Items []PrefixPool `json:"items"`
}
