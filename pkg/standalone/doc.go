// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package standalone holds the parts of ipam-standalone that know nothing about
// the API it serves: the data directory and its lock, the certificates, the
// kubeconfig and the embedded etcd. Everything it writes is private to the user
// who runs it and survives kill -9 at any moment.
package standalone
