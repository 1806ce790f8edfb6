// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package ui implements "kubectl ipam ui": a local web server that shows the address space of a cluster as a tree and a
// map.
//
// The server reads the cluster with the kubeconfig of the user and keeps a summary of each Prefix in memory. The page
// asks for what is visible: some rows of the tree, and the map of one block down to the size of a few pixels. So the
// browser never holds a whole cluster. The page is the files in web/, which the browser runs as they are.
package ui
