// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package store provides the storage of the kinds of this API group. From top to bottom, the storage of a kind is:
//
//	cachedLists      serves every list from the watch cache
//	watch cache      of k8s.io/apiserver, if it is enabled
//	Store            adds the checks and changes of claims to each write, as package claims plans them
//	tolerantStore    leaves out of lists and watches what cannot be decoded
//	etcd store       of k8s.io/apiserver, which writes through the transactor of package claims
//
// A [RESTOptionsGetter] creates it.
package store
