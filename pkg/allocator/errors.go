// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"errors"
	"fmt"
	"net/netip"
)

var (
	// ErrInvalid means that a prefix is not a canonical CIDR: it is the zero prefix, its length is out of range, or it
	// has host bits set. New also returns it for IPv4-mapped IPv6 prefixes.
	ErrInvalid = errors.New("invalid prefix")
	// ErrOutside means that a prefix is not strictly inside the prefix of the pool: it equals the prefix of the pool,
	// contains it, is disjoint from it, or belongs to the other address family.
	ErrOutside = errors.New("prefix is not strictly inside the pool")
	// ErrInUse means that another prefix that overlaps is in use. InUseError wraps it.
	ErrInUse = errors.New("prefix is in use")
	// ErrNotTaken means that exactly this prefix is not taken, so it cannot be released.
	ErrNotTaken = errors.New("prefix is not taken")
)

// InUseError is the error of Take if a prefix in use overlaps the requested one. It wraps ErrInUse.
type InUseError struct {
	// Prefix is a prefix in use that overlaps the requested one: an equal one, one that contains it, or the one inside
	// it with the lowest address.
	Prefix netip.Prefix
}

// Error returns a message that names the prefix in use.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%v: overlaps %s", ErrInUse, e.Prefix)
}

// Unwrap returns ErrInUse.
func (e *InUseError) Unwrap() error { return ErrInUse }
