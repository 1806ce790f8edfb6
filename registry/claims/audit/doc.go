// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package audit compares the objects in etcd with the claims. One kind of pass reads everything page by page. It serves
// the audit, which reports what differs, the repair, which also mends it, and the adoption of a store to which a server
// without claims may have written.
package audit
