// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Types of conditions.
const (
	// ConditionAllocated says whether the object holds addresses, and if not, why. It is on both
	// kinds.
	ConditionAllocated = "Allocated"
	// ConditionDeletable says, on a Prefix that is being deleted, what it waits for.
	ConditionDeletable = "Deletable"
	// ConditionReady says whether the object holds addresses, with the reason and the message of Allocated. On a
	// PrefixPolicy it says whether its rules apply. It is on all kinds from their creation on, and is what tools wait
	// for. The server derives it and does not store it, except on a PrefixPolicy.
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
	// ReasonPending is the reason of Ready=False on an object that no controller has answered yet.
	ReasonPending = "Pending"
	// ReasonNoMatchingParent means that the selector matches no Prefix.
	ReasonNoMatchingParent = "NoMatchingParent"
	// ReasonNoSuitableParent means that no Prefix that was named or matched could ever hold the
	// request: too small, of the other family, or elsewhere.
	ReasonNoSuitableParent = "NoSuitableParent"
	// ReasonParentExhausted means that the parent could hold the request, but has no room left.
	ReasonParentExhausted = "ParentExhausted"
	// ReasonReserved means that the parent has room for the request, but only in space that a PrefixPolicy
	// reserves. Who asks for such a prefix exactly gets it.
	ReasonReserved = "Reserved"
	// ReasonLengthNotAllowed means that a PrefixPolicy does not allow to allocate prefixes of the length from the
	// parent.
	ReasonLengthNotAllowed = "LengthNotAllowed"
	// ReasonParentClosed means that a PrefixPolicy does not allow to allocate anything new from the parent.
	ReasonParentClosed = "ParentClosed"
	// ReasonParentNotFound means that the parent that was named does not exist.
	ReasonParentNotFound = "ParentNotFound"
	// ReasonParentNotReady means that the parent is not allocated itself yet, or is being deleted.
	ReasonParentNotReady = "ParentNotReady"
	// ReasonPrefixInUse means that the prefix that was asked for overlaps one that is in use.
	ReasonPrefixInUse = "PrefixInUse"
	// ReasonRefused means that the API server refused what a controller wrote for the request, for another
	// reason than that the prefix is in use: a quota, a policy or a rule. The message has the words of the server.
	ReasonRefused = "Refused"
	// ReasonRequesterNotFound means that the PrefixAllocation was made for a Prefix that does not exist.
	ReasonRequesterNotFound = "RequesterNotFound"
	// ReasonInvalidRequest means that the request contradicts itself.
	ReasonInvalidRequest = "InvalidRequest"
	// ReasonHasChildren is the reason of Deletable=False on a Prefix that prefixes are still
	// allocated from.
	ReasonHasChildren = "HasChildren"
	// ReasonNoChildren is the reason of Deletable=True on a Prefix that only the finalizers of others keep.
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

// Types of the causes in the details of a 409, which is the answer to a write that would allocate
// what somebody else holds.
const (
	// CauseTypePrefixInUse tells in words which prefix was asked for, and who holds what it
	// overlaps.
	CauseTypePrefixInUse = "PrefixInUse"
	// CauseTypeHolderPrefix is the prefix that is held, in canonical CIDR notation.
	CauseTypeHolderPrefix = "HolderPrefix"
	// CauseTypeHolderName is the name of the PrefixAllocation that holds it.
	CauseTypeHolderName = "HolderName"
	// CauseTypeHolderUID is the uid of the PrefixAllocation that holds it.
	CauseTypeHolderUID = "HolderUID"
	// CauseTypeNotAllocatedFor says that the prefix which a child was to get is not allocated for it.
	CauseTypeNotAllocatedFor = "NotAllocatedFor"
)
