// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standalone runs API server, controllers and etcd in one process. Start returns an
// Instance, which is what ipam-standalone serves and what tests start as a library.
//
// Its parts can be used alone: the data directory and its lock, the certificates, the kubeconfig,
// and the embedded etcd with its maintenance. Everything that they write is private to the user who
// runs them, and survives kill -9 at any moment.
package standalone
