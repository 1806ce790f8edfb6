// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package claims makes storage refuse what must never be: two allocations of one Prefix that
// overlap, an allocation that is not strictly inside its Prefix, a Prefix that vanishes while
// something is allocated from it, and an allocation that vanishes under a Prefix that stands on it.
//
// Next to the objects there is a keyspace of claims, one key for each allocated prefix:
//
//	<etcd prefix>/claims/<uid of the parent>/<first address in hexadecimal>/<length>
//
// Whatever a write means for the claims is written, and compared, in the same etcd transaction as
// the object. So it holds for every way to write, whoever writes and whenever the server dies, and
// needs neither a lock nor a leader.
//
// A Store sits between the watch cache and the etcd store of a kind. It sees the object before and
// after a write and puts into the context which compares and operations the write needs. The etcd
// store ends every write in a call of the etcd client's Kubernetes interface; the transactor that
// is put there makes one transaction of both. Encryption at rest lies between the two, and knows
// nothing of it.
package claims
