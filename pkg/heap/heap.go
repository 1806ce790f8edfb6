// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package heap sizes the heap of a program that allocates much and keeps little.
package heap

import "sync/atomic"

// Room is how many bytes of garbage a server may have, beyond as much as it has in use.
const Room = 256 << 20

// ballast takes no memory: nobody ever writes into it, so the operating system never gives its pages.
var ballast atomic.Value

// Reserve has garbage collected when there is as much of it as there is in use, as always, and so many
// bytes more. Left alone, the runtime collects the garbage of a server with a small store many times a
// second, which takes a tenth of its time. It counts in GOMEMLIMIT.
func Reserve(bytes int) { ballast.Store(make([]byte, bytes)) }
