// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
)

// listManifest has two kinds in one v1 List, as kubectl get -o yaml prints it.
const listManifest = `apiVersion: v1
kind: List
items:
- apiVersion: ipam.ironcore.dev/v1alpha1
  kind: Prefix
  metadata: {name: root}
  spec: {prefix: 10.0.0.0/16}
- apiVersion: ipam.ironcore.dev/v1alpha1
  kind: Prefix
  metadata: {name: a}
  spec: {prefixLength: 24, parentRef: {name: root}}
- apiVersion: ipam.ironcore.dev/v1alpha1
  kind: PrefixAllocation
  metadata: {name: b}
  spec: {prefixLength: 24, prefixRef: {name: root}}
`

// TestKubectlItself runs commands of users with the kubectl of test/controlplane.
func TestKubectlItself(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	kubectl := kube.NewKubectl(t, p.kubeconfig)
	lines := func(out string) []string {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(lines)
		return lines
	}
	wantLines := func(t *testing.T, out string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if got := lines(out); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	const root, a, b = "prefix.ipam.ironcore.dev/root", "prefix.ipam.ironcore.dev/a", "prefixallocation.ipam.ironcore.dev/b"
	// settled waits until the controllers have no more to write, so that an object can be written back as it was
	// read.
	settled := func(k kube.Kubectl) {
		k.Run("wait", "--for=condition=Allocated", "--timeout=60s", root, a, b)
		k.Run("wait", "--for=jsonpath={.status.usage.allocations}=2", "--timeout=60s", root)
	}

	t.Run("version", func(t *testing.T) {
		k := kubectl.In(t)
		var versions struct{ ServerVersion apimachineryversion.Info }
		if err := json.Unmarshal([]byte(k.Run("version", "-o", "json")), &versions); err != nil {
			t.Fatal(err)
		}
		if got := versions.ServerVersion.GitVersion; got != version.Get() {
			t.Errorf("got %q, want %q", got, version.Get())
		}
		if out := k.Run("version"); !strings.Contains(out, "Server Version: "+version.Get()) {
			t.Errorf("got %q", out)
		}
	})

	t.Run("lists", func(t *testing.T) {
		k := kubectl.In(t)
		wantLines(t, k.Apply(listManifest, "create", "-f", "-"), root+" created", a+" created", b+" created")
		settled(k)
		wantLines(t, k.Apply(listManifest, "apply", "-f", "-"), root+" configured", a+" configured", b+" configured")
		wantLines(t, k.Apply(listManifest, "apply", "-f", "-"), root+" unchanged", a+" unchanged", b+" unchanged")
		settled(k)
		read := func() string { return k.Run("get", root, a, b, "-o", "yaml") }
		if out := read(); !strings.Contains(out, "kind: List") {
			t.Fatalf("not a List: %s", out)
		}
		wantLines(t, k.Apply(read(), "diff", "-f", "-"), "")
		wantLines(t, k.Apply(read(), "replace", "-f", "-"), root+" replaced", a+" replaced", b+" replaced")
		wantLines(t, k.Apply(read(), "apply", "-f", "-"), root+" configured", a+" configured", b+" configured")
		wantLines(t, k.Apply(read(), "apply", "--server-side", "--force-conflicts", "-f", "-"),
			root+" serverside-applied", a+" serverside-applied", b+" serverside-applied")
		wantLines(t, k.Apply(listManifest, "delete", "-f", "-", "--timeout=60s"),
			`prefix.ipam.ironcore.dev "root" deleted from default namespace`, `prefix.ipam.ironcore.dev "a" deleted from default namespace`, `prefixallocation.ipam.ironcore.dev "b" deleted from default namespace`)
		if out, _, err := k.Try("", "get", "ipam", "-o", "name"); err != nil || out != "" {
			t.Errorf("left: %q, %v", out, err)
		}
	})

	t.Run("delete --cascade", func(t *testing.T) {
		k := kubectl.In(t)
		k.Apply(listManifest, "apply", "-f", "-")
		settled(k)
		cascades := map[string][]string{"background": nil, "foreground": nil, "orphan": nil}
		manifests := ""
		for cascade := range cascades {
			for i, finalizers := range []string{"[]", "[" + metav1.FinalizerOrphanDependents + "]", "[" + metav1.FinalizerDeleteDependents + "]"} {
				name := fmt.Sprintf("%s-%d", cascade, i)
				manifests += fmt.Sprintf("---\n{apiVersion: ipam.ironcore.dev/v1alpha1, kind: Prefix, metadata: {name: %s, finalizers: %s}, spec: {prefixLength: 28, parentRef: {name: a}}}\n", name, finalizers)
				cascades[cascade] = append(cascades[cascade], "prefix/"+name)
			}
		}
		k.Apply(manifests, "create", "-f", "-")
		k.Run("wait", "--for=condition=Allocated", "--timeout=60s", "prefix", "--all")
		for cascade, names := range cascades {
			k.Run(append([]string{"delete", "--cascade=" + cascade, "--timeout=30s"}, names...)...)
		}
		// All their space is free, and their parent can be deleted.
		k.Run("wait", "--for=jsonpath={.status.usage.used}=0", "--timeout=60s", a)
		k.Run("delete", root, a, b, "--timeout=60s")
	})

	t.Run("deletion shows", func(t *testing.T) {
		k := kubectl.In(t)
		k.Apply(listManifest, "apply", "-f", "-")
		settled(k)
		k.Run("delete", root, "--wait=false")
		for name, want := range map[string]string{root: "Terminating", a: "Allocated", b: "Allocated"} {
			if out := k.Run("get", name); !strings.Contains(out, want) || strings.Count(out, "Allocated")+strings.Count(out, "Terminating") != 1 {
				t.Errorf("%s: got %s", name, out)
			}
		}
		k.Run("delete", a, b, "--timeout=60s")
		k.Run("wait", "--for=delete", root, "--timeout=60s")
	})

	for _, tt := range []struct {
		command string
		// prints is a part of the output, and fails a part of the error.
		prints, fails string
	}{
		{"api-resources -o name", "prefixes.ipam.ironcore.dev\n", ""},
		{"api-versions", "ipam.ironcore.dev/v1alpha1\nv1\n", ""},
		{"explain prefix.spec.prefix", "in canonical CIDR notation", ""},
		{"explain pfxa --recursive", "prefixRef", ""},
		{"get ipam", "", ""},
		{"get ns", "", `the server doesn't have a resource type "ns"`},
		{"get all", "", `the server doesn't have a resource type "all"`},
		{"get events", "", `the server doesn't have a resource type "events"`},
		{"auth can-i create prefixes", "", "selfsubjectaccessreviews.authorization.k8s.io"},
	} {
		t.Run(tt.command, func(t *testing.T) {
			k := kubectl.In(t)
			out, errOut, err := k.Try("", strings.Fields(tt.command)...)
			if (err != nil) != (tt.fails != "") || !strings.Contains(out, tt.prints) || !strings.Contains(errOut, tt.fails) {
				t.Errorf("%v\n%s%s", err, out, errOut)
			}
			if tt.fails != "" && strings.Count(strings.TrimSpace(errOut), "\n") != 0 {
				t.Errorf("not one line: %s", errOut)
			}
		})
	}
}
