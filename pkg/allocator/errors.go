// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"errors"
	"fmt"
	"net/netip"
)

var (
	// ErrInvalid is wrapped by the error for a prefix that is no canonical
	// CIDR: the zero prefix, a length out of range, or host bits set. New also
	// returns it for an IPv4-mapped IPv6 prefix.
	ErrInvalid = errors.New("invalid prefix")
	// ErrOutside is wrapped by the error for a prefix that does not lie
	// strictly inside the pool's prefix: the pool's prefix itself, anything
	// larger, any other place, or the other address family.
	ErrOutside = errors.New("prefix is not strictly inside the pool")
	// ErrInUse is wrapped by InUseError.
	ErrInUse = errors.New("prefix is in use")
	// ErrNotTaken is wrapped by the error for the release of anything that is
	// not exactly a taken prefix.
	ErrNotTaken = errors.New("prefix is not taken")
)

// InUseError tells that a prefix cannot be taken because another one overlaps
// it. It wraps ErrInUse.
type InUseError struct {
	// Holder is one prefix in use that overlaps the wanted one: an equal one,
	// an ancestor, or the one inside with the lowest address.
	Holder netip.Prefix
}

// Error names the holder.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%v: overlaps %s", ErrInUse, e.Holder)
}

// Unwrap returns ErrInUse.
func (e *InUseError) Unwrap() error { return ErrInUse }
