// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standalone runs the API server, the controllers and etcd in one process. Start returns an Instance. The
// ipam-standalone command serves one, and tests use it as a library.
//
// Its parts can also be used separately: datadir is the data directory and its lock, pki the certificates and the
// kubeconfig, and etcd the embedded etcd with its maintenance. All files are accessible only to the user who runs the
// process, and survive kill -9 at any time.
package standalone
