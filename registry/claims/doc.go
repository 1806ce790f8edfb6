// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package claims enforces the invariants of allocations in storage:
//
//   - Two allocations of one Prefix never overlap.
//   - An allocation lies strictly inside its Prefix.
//   - A Prefix cannot be removed while anything is allocated from it.
//   - An allocation cannot be removed while an allocated Prefix depends on it.
//
// Besides the objects, etcd stores one claim for each allocated prefix. The key of a claim is:
//
//	<etcd prefix>/claims/<uid of the parent>/<first address in hexadecimal>/<length>
//
// The etcd transaction that writes an object also checks and writes the claims that depend on it. So the invariants
// hold for every writer and after a crash at any point. They need neither a lock nor leader election.
//
// [Planner] plans the compares and operations that a write needs. Package store wraps the etcd store of a kind, below the
// watch cache. It sees an object before and after a write, asks for the [Plan], and passes it down in the context. The
// etcd store performs every write through the Kubernetes interface of its etcd client. The transactor of this package
// replaces that interface and adds the plan to the transaction. Encryption at rest happens in between and is not
// affected.
//
// Package audit compares all objects with all claims, past the planner and the stores. Both packages import this one, and neither
// imports the other.
package claims
