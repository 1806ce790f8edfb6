// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package allocator keeps the free space of one prefix in memory and answers
// which block a request of a given length would get.
//
// Lengths are prefix lengths in bits, as in netip.Prefix: the larger the
// length, the smaller the block. Prefixes taken from a pool never overlap.
package allocator
