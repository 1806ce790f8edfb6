// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"strings"
	"testing"
)

// TestOptions shows that the command accepts the flags of the manifests and those that the operator of Cluster API sets, and
// rejects invalid ones.
func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		args []string
		// refused is a part of the error.
		refused string
	}{
		{[]string{"--kubeconfig=/does/not/exist", "--leader-elect"}, "/does/not/exist"},
		{[]string{"--kubeconfig=/does/not/exist", "--diagnostics-address=:8443", "--insecure-diagnostics", "--watch-filter=mine", "--namespace=clusters"}, "/does/not/exist"},
		{[]string{"--concurrency=0"}, "--concurrency must be positive"},
		{[]string{"--tls-min-version=VersionTLS9"}, "VersionTLS9"},
		{[]string{"argument"}, "unknown command"},
	} {
		cmd := NewCommand(t.Context())
		cmd.SilenceErrors = true
		cmd.SetArgs(tt.args)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), tt.refused) {
			t.Errorf("%q: %v, not %s", tt.args, err, tt.refused)
		}
	}
}
