// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// TestARepeatedBindingOfAnotherParentUIDIsRefused repeats a binding, which succeeds, and then with the uid of
// another parent.
func TestARepeatedBindingOfAnotherParentUIDIsRefused(t *testing.T) {
	const other = "uid: 7d4cdfb4-0000-0000-0000-000000000000"
	namespace, _ := shared.setUp(t, "child-allocated", "request-allocated")
	if got := shared.bind(t, namespace, harness.PrefixKind, "child-allocated", "{prefix: 10.0.1.0/24, parentRef: {name: parent, "+other+"}}"); got.Code != http.StatusConflict {
		t.Errorf("Prefix: got %d", got.Code)
	}
	if got := shared.bind(t, namespace, harness.AllocationKind, "request-allocated", "{prefix: 10.0.2.0/24, prefixRef: {name: parent, "+other+"}}"); got.Code != http.StatusConflict {
		t.Errorf("PrefixAllocation: got %d", got.Code)
	}
}
