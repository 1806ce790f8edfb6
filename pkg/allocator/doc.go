// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package allocator manages the free space of a prefix in memory. It finds free prefixes of a requested length.
//
// Lengths are prefix lengths in bits, as in netip.Prefix: the greater the length, the smaller the block. The prefixes
// that are taken from a pool never overlap.
//
// A pool is a trie whose nodes, called pages, span six levels each. A page has one bit of a word for each of its 64
// slots. The memory per prefix depends on their density: about one byte for each IPv4 /32 if many are adjacent, 13
// bytes for each of a million at random places of a /8, and 170 bytes for each of a million /64s at random places of an
// IPv6 /32. BenchmarkMemory measures this.
package allocator
