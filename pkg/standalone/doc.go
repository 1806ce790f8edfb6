// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standalone runs the API server, the controllers and etcd in one process. Start returns an Instance. The
// ipam-standalone command serves one, and tests use it as a library.
//
// The components can also be used separately: the data directory and its lock, the certificates, the kubeconfig,
// and the embedded etcd with its maintenance. All files are accessible only to the user who runs the process, and
// survive kill -9 at any time.
package standalone
