// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package addon tests how tools that install, apply and wait see the product and its objects: kstatus, Helm, Argo CD and
// kustomize. It is a module of its own, so that these tools are no dependencies of the product.
package addon

import (
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// shared is a server with controllers. Tests keep apart by namespace.
var shared *harness.Server

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		s, err := harness.StartServer(dir, harness.Controllers("*"))
		if err != nil {
			return nil, err
		}
		shared = s
		return s.Close, nil
	})
}
