// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"strings"
	"testing"
)

// TestOptions shows that the commands accept the flags of the manifests, and reject invalid ones.
func TestOptions(t *testing.T) {
	for _, test := range []struct {
		args []string
		// refused is a part of the error, or empty if there is none.
		refused string
	}{
		{[]string{"--kubeconfig=/does/not/exist", "--apiservice-address=ipam-apiserver:443", "--apiservice-token-file=/token"}, "/does/not/exist"},
		{[]string{"--apiservice-address=ipam-apiserver"}, "--apiservice-address"},
		{[]string{"--apiservice-token-file=/token"}, "--apiservice-token-file requires --apiservice-address"},
		{[]string{"--controllers=*,certificate"}, `unknown controller "certificate"`},
		{[]string{"--certificate-etcd-service=ipam-etcd"}, "unknown flag"},
		{[]string{"--leader-elect-lease-duration=1s"}, "leaseDuration"},
		{[]string{"certificates", "--kubeconfig=/does/not/exist", "--certificate-etcd-service=ipam-etcd"}, "/does/not/exist"},
		{[]string{"certificates", "--certificate-lifetime=1m"}, "1h"},
		{[]string{"certificates", "--controllers=prefix"}, "unknown flag"},
		{[]string{"certificates", "--leader-elect-lease-duration=1s"}, "leaseDuration"},
	} {
		cmd := NewCommand(t.Context())
		cmd.SilenceErrors = true
		cmd.SetArgs(test.args)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), test.refused) {
			t.Errorf("%q: %v, want %q", test.args, err, test.refused)
		}
	}
	if manager, certificates := NewOptions().LeaderElection.ResourceName, NewCertificatesOptions().LeaderElection.ResourceName; manager == certificates {
		t.Errorf("both have the Lease %s", manager)
	}
}
