// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"os"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	"k8s.io/apiserver/pkg/storage"
)

// This file exports internals to the external tests, which need the storage of the kinds. That storage imports this
// package.

// WrapCache wraps the watch cache in which Prefixes are looked up.
func (pl *Planner) WrapCache(wrap func(storage.Interface) storage.Interface) {
	pl.sources.Prefixes = wrap(pl.sources.Prefixes)
}

// SetClock replaces the clock.
func (pl *Planner) SetClock(now func() time.Time) { pl.now = now }

// PageSize is the number of keys in a read if etcd has no streams.
const PageSize = pageSize

func TestMain(m *testing.M) {
	claimstest.Silence()
	os.Exit(m.Run())
}
