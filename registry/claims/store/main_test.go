// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
)

func TestMain(m *testing.M) {
	claimstest.Silence()
	os.Exit(m.Run())
}
