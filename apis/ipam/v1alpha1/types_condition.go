// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "slices"

// Condition types.
const (
	// ConditionAllocated says whether the object has been allocated, and if not, why. Prefixes and PrefixAllocations have it.
	ConditionAllocated = "Allocated"
	// ConditionDeletable says what a Prefix that is being deleted waits for.
	ConditionDeletable = "Deletable"
	// ConditionReady says whether the object holds addresses, with the reason and the message of Allocated. It is what tools
	// wait for. Prefixes and PrefixAllocations have it from their creation on: the server derives it and does not store it.
	// On a PrefixPolicy it says whether its rules apply, and a controller writes it.
	ConditionReady = "Ready"
	// ConditionStalled is True if the request can never be met. Otherwise it is not there. The server derives it and
	// does not store it.
	ConditionStalled = "Stalled"
)

// Reasons of conditions and events.
const (
	// ReasonRoot is the reason of Allocated=True on a root Prefix.
	ReasonRoot = "Root"
	// ReasonAllocated is the reason of Allocated=True on a child Prefix and a PrefixAllocation.
	ReasonAllocated = "Allocated"
	// ReasonCooling is the reason of Allocated=True on a PrefixAllocation whose child is gone. Its range cools down: only
	// a child of the same name gets it, until the time in the message.
	ReasonCooling = "Cooling"
	// ReasonPending is the reason of Ready=False on an object that no controller has processed yet.
	ReasonPending = "Pending"
	// ReasonNoMatchingParent means that no Prefix matches the selector.
	ReasonNoMatchingParent = "NoMatchingParent"
	// ReasonNoSuitableParent means that no named or matching parent can ever satisfy the request: each is too
	// small, of the other family, or does not contain the requested prefix.
	ReasonNoSuitableParent = "NoSuitableParent"
	// ReasonParentExhausted means that the parent is large enough, but has no free block of the requested length.
	ReasonParentExhausted = "ParentExhausted"
	// ReasonReserved means that the parent has free space for the request, but only space that a PrefixPolicy
	// reserves. A request for exactly such a prefix gets it.
	ReasonReserved = "Reserved"
	// ReasonLengthNotAllowed means that a PrefixPolicy does not allow the requested length for children of the parent.
	ReasonLengthNotAllowed = "LengthNotAllowed"
	// ReasonParentClosed means that a PrefixPolicy does not allow new allocations from the parent.
	ReasonParentClosed = "ParentClosed"
	// ReasonParentNotFound means that the named parent does not exist.
	ReasonParentNotFound = "ParentNotFound"
	// ReasonNotShared means that no parent of the requested namespace is both what the request names or selects, and
	// shared with the namespace of the request.
	ReasonNotShared = "NotShared"
	// ReasonParentNotReady means that the parent is not allocated yet, or is being deleted.
	ReasonParentNotReady = "ParentNotReady"
	// ReasonPrefixInUse means that the requested prefix overlaps one that is in use.
	ReasonPrefixInUse = "PrefixInUse"
	// ReasonRefused means that the API server rejected a write of a controller for this request, for example
	// because of a quota or a policy. The message contains the error of the server.
	ReasonRefused = "Refused"
	// ReasonRequesterNotFound means that the PrefixAllocation was created for a Prefix that does not exist.
	ReasonRequesterNotFound = "RequesterNotFound"
	// ReasonInvalidRequest means that the request cannot be processed as it is, for example because its fields
	// contradict each other.
	ReasonInvalidRequest = "InvalidRequest"
	// ReasonHasChildren is the reason of Deletable=False on a Prefix from which prefixes are still allocated.
	ReasonHasChildren = "HasChildren"
	// ReasonNoChildren is the reason of Deletable=True on a Prefix that only waits for finalizers of other
	// controllers.
	ReasonNoChildren = "NoChildren"
	// ReasonApplied is the reason of Ready=True on a PrefixPolicy.
	ReasonApplied = "Applied"
	// ReasonReservedInUse is the reason of Ready=True on a PrefixPolicy that reserves space which is in use. What
	// is allocated there stays. The message names it.
	ReasonReservedInUse = "ReservedInUse"
	// ReasonStrategyConflict is the reason of Ready=True on a PrefixPolicy whose strategy is not that of another
	// policy for the same Prefix. The message says which counts.
	ReasonStrategyConflict = "StrategyConflict"
)

// HopeOf returns how likely a request gets what it asks for from a parent later, if it does not get it now for the given
// reason: 1 for the least hope, and more for more. It returns 0 for the reasons that are not about one parent.
func HopeOf(reason string) int {
	return 1 + slices.Index([]string{
		ReasonNoSuitableParent,
		ReasonLengthNotAllowed,
		ReasonParentClosed,
		ReasonParentNotReady,
		ReasonPrefixInUse,
		ReasonParentExhausted,
		ReasonReserved,
		ReasonRefused,
	}, reason)
}

// Types of the causes in the details of a 409 (Conflict). The server responds with it to a write that would
// allocate a prefix that is in use.
const (
	// CauseTypePrefixInUse describes the requested prefix, the prefix that it overlaps, and the holder of that
	// prefix.
	CauseTypePrefixInUse = "PrefixInUse"
	// CauseTypeHolderPrefix is the prefix that is in use, in canonical CIDR notation.
	CauseTypeHolderPrefix = "HolderPrefix"
	// CauseTypeHolderName is the name of the PrefixAllocation that holds the prefix in use.
	CauseTypeHolderName = "HolderName"
	// CauseTypeHolderUID is the uid of the PrefixAllocation that holds the prefix in use.
	CauseTypeHolderUID = "HolderUID"
	// CauseTypeNotAllocatedFor means that the prefix in the binding of a child is not allocated for that child.
	CauseTypeNotAllocatedFor = "NotAllocatedFor"
)
