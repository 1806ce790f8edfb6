// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Kubectl runs kubectl.
type Kubectl struct {
	t testing.TB
	// dir is the directory of its cache.
	dir, kubeconfig string
}

// buildKubectl builds only kubectl, unless it exists.
var buildKubectl = sync.OnceValue(func() error { return buildPrograms("kubectl") })

// NewKubectl returns kubectl with a kubeconfig, for a server that is not a cluster.
func NewKubectl(t testing.TB, kubeconfig string) Kubectl {
	t.Helper()
	if err := buildKubectl(); err != nil {
		t.Fatalf("building kubectl: %v", err)
	}
	return Kubectl{t, t.TempDir(), kubeconfig}
}

// Kubectl returns kubectl with a kubeconfig of the cluster.
func (c *Cluster) Kubectl(kubeconfig string) Kubectl { return Kubectl{c, c.Dir, kubeconfig} }

// In returns kubectl for a subtest.
func (k Kubectl) In(t testing.TB) Kubectl {
	k.t = t
	return k
}

// Try runs kubectl with the given standard input. It returns stdout and stderr, and an error if the exit code is
// not 0.
func (k Kubectl) Try(stdin string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.Command(Program("kubectl"), args...)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.kubeconfig, "KUBECACHEDIR="+filepath.Join(k.dir, "kubectl-cache"))
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// Run runs kubectl and returns stdout. The test fails if the exit code is not 0.
func (k Kubectl) Run(args ...string) string {
	k.t.Helper()
	return k.Apply("", args...)
}

// Apply is like Run with the given standard input.
func (k Kubectl) Apply(stdin string, args ...string) string {
	k.t.Helper()
	out, errOut, err := k.Try(stdin, args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}
