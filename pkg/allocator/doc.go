// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package allocator keeps the free space of one prefix in memory and answers
// which block a request of a given length would get.
//
// Lengths are prefix lengths in bits, as in netip.Prefix: the larger the
// length, the smaller the block. Prefixes taken from a pool never overlap.
//
// A pool is a trie of six levels a page, one bit of a word for each block. It
// takes about a byte of memory for each IPv4 /32 of many that lie side by side,
// 13 for each of a million in random places of a /8, and 170 for each of a
// million /64s in random places of an IPv6 /32; BenchmarkMemory measures this.
package allocator
