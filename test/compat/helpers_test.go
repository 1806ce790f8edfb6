// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package compat tests compatibility with clients of IronCore's IPAM, kubectl, and controllers that do not know our
// additions. It sends requests to a real server with a real etcd.
package compat

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The tests share two servers, and each uses its own namespace. In shared only the requests of the test write. live
// has all controllers.
var shared, live *harness.Server

func TestMain(m *testing.M) {
	harness.RunInParallel(8)
	harness.Main(m, func(dir string) (func(), error) {
		var err error
		if shared, err = harness.StartServer(filepath.Join(dir, "shared")); err != nil {
			return nil, err
		}
		if live, err = harness.StartServer(filepath.Join(dir, "live"), harness.Controllers("*")); err != nil {
			shared.Close()
			return nil, err
		}
		return func() {
			live.Close()
			shared.Close()
		}, nil
	})
}

// createRoot creates a root and makes it Allocated.
func createRoot(t testing.TB, s *harness.Server, namespace, name, prefix string) *unstructured.Unstructured {
	t.Helper()
	root := s.Create(t, namespace, harness.PrefixKind, fmt.Sprintf("{metadata: {name: %s, labels: {net: blue}}, spec: {prefix: %q}}", name, prefix))
	return s.Patch(t, root, harness.MergePatch, "{status: {phase: Allocated}}", "status").Must(t)
}
