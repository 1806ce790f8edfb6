// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Annotations of a Prefix that IPAddressClaims name as their pool. They have the meaning of the fields of a PrefixPool.
const (
	// AnnotationPrefixLength is spec.prefixLength of a PrefixPool.
	AnnotationPrefixLength = "capi.ipam.ironcore.dev/prefix-length"
	// AnnotationPrefix is spec.prefix of a PrefixPool.
	AnnotationPrefix = "capi.ipam.ironcore.dev/prefix"
	// AnnotationGateway is spec.gateway of a PrefixPool.
	AnnotationGateway = "capi.ipam.ironcore.dev/gateway"
)

// Annotations of an IPAddressClaim. The provider writes both. They travel with the claim when it is moved or restored.
const (
	// AnnotationAddress is the address of the claim. A claim that is created with it gets exactly this address.
	AnnotationAddress = "capi.ipam.ironcore.dev/address"
	// AnnotationChild is the name of the Prefix of the claim.
	AnnotationChild = "capi.ipam.ironcore.dev/child"
)

// Labels and annotations of a Prefix that the provider creates.
const (
	// LabelClaimName is the name of the IPAddressClaim. A name of more than 63 bytes is shortened.
	LabelClaimName = "capi.ipam.ironcore.dev/claim-name"
	// LabelPoolName is the name of the pool. A name of more than 63 bytes is shortened.
	LabelPoolName = "capi.ipam.ironcore.dev/pool-name"
	// LabelHeldAs says what an address is that no machine may get: gateway, network, broadcast or anycast.
	LabelHeldAs = "capi.ipam.ironcore.dev/held-as"
	// AnnotationPool is the pool that an address is held for, as kind/name.
	AnnotationPool = "capi.ipam.ironcore.dev/pool"
)

const (
	// ClaimFinalizer keeps an IPAddressClaim until its address is released, and the Prefix of the claim until the
	// IPAddress is gone.
	ClaimFinalizer = "capi.ipam.ironcore.dev/claim"
	// PoolFinalizer keeps a PrefixPool until it has no claims.
	PoolFinalizer = "capi.ipam.ironcore.dev/pool"
	// AddressFinalizer keeps an IPAddress until its claim is deleted. The contract of Cluster API gives it this name.
	AddressFinalizer = "ipam.cluster.x-k8s.io/protect-address"
)
