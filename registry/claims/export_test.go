// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"os"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	"k8s.io/apiserver/pkg/storage"
)

// What the tests need that put claims together with the storages of the kinds, which import this
// package.

// WrapCache puts something before the watch cache in which Prefixes are looked up.
func (c *Claims) WrapCache(wrap func(storage.Interface) storage.Interface) {
	c.prefixes = wrap(c.prefixes)
}

// PageSize is how many keys are read at a time where there are no streams.
const PageSize = pageSize

func TestMain(m *testing.M) {
	claimstest.Silence()
	os.Exit(m.Run())
}
