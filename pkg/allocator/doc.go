// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package allocator manages the free space of a prefix in memory. It finds free prefixes of a requested length.
//
// Lengths are prefix lengths in bits, as in netip.Prefix: the greater the length, the smaller the block. The prefixes
// that are taken from a pool never overlap.
//
// A pool is a trie whose nodes, called pages, span six levels each. A page divides its block into 64 slots and has one
// bit of a word for each; see page for a picture. It also knows which lengths are free in it and below it, so Find goes
// straight down to the block it wants, and Take and Release update what changes on the way back up.
//
// The memory per prefix depends on their density: about one byte for each IPv4 /32 if many are adjacent, 13 bytes for
// each of a million at random places of a /8, and 170 bytes for each of a million /64s at random places of an IPv6 /32.
// BenchmarkMemory measures this.
package allocator
