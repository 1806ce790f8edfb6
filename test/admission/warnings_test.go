// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var dryDelete = metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}

// TestDeletionOfAParentIsWarnedOf deletes a Prefix with children with all kinds of requests.
func TestDeletionOfAParentIsWarnedOf(t *testing.T) {
	c := newClient(t, shared)
	c.Create(harness.Root("root", "10.0.0.0/16"))
	c.Create(harness.Root("other", "11.0.0.0/16"))
	c.allocated("root")
	c.allocated("other")
	ctx := t.Context()
	if err := c.Prefixes.Delete(ctx, "root", dryDelete); err != nil {
		t.Fatal(err)
	}
	c.warnedOf()

	c.Create(harness.Child("child-1", "root", harness.Length(24)))
	c.allocated("child-1")
	const one = `Prefix "root" has 1 child and remains until it is gone; this cannot be undone`
	if err := c.Prefixes.Delete(ctx, "root", dryDelete); err != nil {
		t.Fatal(err)
	}
	c.warnedOf(one)
	c.Create(harness.Child("child-2", "root", harness.Length(24)))
	c.Create(harness.Child("child-3", "root", harness.Length(24)))
	c.allocated("child-2")
	c.allocated("child-3")
	c.Eventually("three are counted", func() error {
		if usage := c.Get("root").Status.Usage; usage == nil || usage.Allocations != 3 {
			return fmt.Errorf("the usage is %+v", usage)
		}
		return nil
	})
	const three = `Prefix "root" has 3 children and remains until they are gone; this cannot be undone`
	for name, remove := range map[string]func() error{
		"dry run":                 func() error { return c.Prefixes.Delete(ctx, "root", dryDelete) },
		"dry run of a collection": func() error { return c.Prefixes.DeleteCollection(ctx, dryDelete, metav1.ListOptions{}) },
		"delete":                  func() error { return c.Prefixes.Delete(ctx, "root", metav1.DeleteOptions{}) },
		"delete again":            func() error { return c.Prefixes.Delete(ctx, "root", metav1.DeleteOptions{}) },
		"collection": func() error {
			return c.Prefixes.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=root"})
		},
	} {
		if err := remove(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.warnedOf(three)
	}
	// The deletion of a child causes no warning.
	if err := c.Prefixes.Delete(ctx, "child-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.warnedOf()
}

const denyParents = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PrefixInUse
  configuration:
    apiVersion: admission.ipam.ironcore.dev/v1alpha1
    kind: PrefixInUseConfiguration
    parents: Deny
`

// TestDeletionOfAParentIsDenied deletes a Prefix with a child with all kinds of requests, right after the child is
// allocated. The status of the parent may not count it yet.
func TestDeletionOfAParentIsDenied(t *testing.T) {
	c := newClient(t, configured(t, denyParents))
	ctx := t.Context()
	orphan, foreground := metav1.DeletePropagationOrphan, metav1.DeletePropagationForeground
	for i := range 10 {
		parent, name := fmt.Sprintf("root-%d", i), fmt.Sprintf("child-%d", i)
		c.Create(harness.Root(parent, fmt.Sprintf("10.%d.0.0/16", i)))
		c.Create(harness.Child(name, parent, harness.Length(24)))
		c.Namespace.Allocated(name)
		for _, options := range []metav1.DeleteOptions{{}, dryDelete, {PropagationPolicy: &orphan}, {PropagationPolicy: &foreground}, {GracePeriodSeconds: new(int64(0))}} {
			refused(t, c.Prefixes.Delete(ctx, parent, options), http.StatusConflict, parent, "it has 1 child: delete what is allocated from it first")
			refused(t, c.Prefixes.DeleteCollection(ctx, options, metav1.ListOptions{FieldSelector: "metadata.name=" + parent}), http.StatusConflict, "it has 1 child")
		}
		if prefix, err := c.Prefixes.Get(ctx, parent, metav1.GetOptions{}); err != nil || prefix.DeletionTimestamp != nil || len(prefix.Finalizers) != 1 {
			t.Errorf("it is %+v, %v", prefix, err)
		}
	}
	c.warnedOf()
	// When the child is gone, the parent can be deleted.
	if err := c.Prefixes.Delete(ctx, "child-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually("the parent can go", func() error { return c.Prefixes.Delete(ctx, "root-0", metav1.DeleteOptions{}) })
	c.warnedOf()
}

// TestARequestThatCannotBeChecked requests a prefix so far below its parent that no transaction can compare all
// ranges.
func TestARequestThatCannotBeChecked(t *testing.T) {
	c := newClient(t, shared)
	c.Create(harness.Root("root", "::/0"))
	c.allocated("root")
	const last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
	c.Create(harness.Child("last", "root", harness.Exactly(last)))
	c.warnedOf("spec.prefix: root (::/0) is too large: " + last + " is too far below it to be checked in one transaction; create a Prefix in between")
	c.Create(harness.Child("between", "root", harness.Exactly("ffff::/16")))
	c.allocated("between")
	c.Create(harness.Child("last-between", "between", harness.Exactly(last)))
	c.warnedOf()
	c.allocated("last-between")
}

// TestAPrefixThatSelectsItself creates a Prefix that waits for another one, which its creation warns about.
func TestAPrefixThatSelectsItself(t *testing.T) {
	c := newClient(t, shared)
	itself := func(name string) *v1alpha1.Prefix {
		prefix := harness.Root(name, "")
		prefix.Labels = map[string]string{"pool": "a"}
		prefix.Spec.IPFamily, prefix.Spec.PrefixLength = v1alpha1.IPv4, 24
		prefix.Spec.ParentSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "a"}}
		return prefix
	}
	const warning = "spec.parentSelector: matches this Prefix itself, which cannot be its own parent, and no other Prefix"
	if _, err := c.Prefixes.Create(t.Context(), itself("self"), dryRun); err != nil {
		t.Fatal(err)
	}
	c.warnedOf(warning)
	c.Create(itself("self"))
	c.warnedOf(warning)
	pool := harness.Root("pool", "10.0.0.0/8")
	pool.Labels = map[string]string{"pool": "a"}
	c.Create(pool)
	c.allocated("self")
	c.Create(itself("another"))
	c.warnedOf()
}

// TestTheHolderIsNamed checks that the error also names the controller of the holder.
func TestTheHolderIsNamed(t *testing.T) {
	c := newClient(t, shared)
	c.Create(harness.Root("root", "10.0.0.0/16"))
	c.allocated("root")
	held := harness.Child("held", "root", harness.Exactly("10.0.1.0/24"))
	held.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "Machine", Name: "m-1", UID: "m-1", Controller: new(true)}}
	c.Create(held)
	c.allocated("held")
	c.Create(harness.Child("wanted", "root", harness.Exactly("10.0.1.0/25")))
	c.warnedOf("spec.prefix: root (10.0.0.0/16) has 10.0.1.0/24 in use by Prefix held of Machine m-1, which overlaps 10.0.1.0/25")
	if err := c.Prefixes.Delete(t.Context(), "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.allocated("wanted")
}

// TestKubectlShowsTheWarnings runs the kubectl of test/controlplane.
func TestKubectlShowsTheWarnings(t *testing.T) {
	kubectl := kube.NewKubectl(t, harness.Start(t, harness.Controllers("*")).Kubeconfig)
	// run returns what kubectl prints to stderr, which includes the warnings.
	run := func(stdin string, args ...string) string {
		t.Helper()
		_, errOut, err := kubectl.Try(stdin, args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, errOut)
		}
		return errOut
	}
	manifest := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	}
	run(manifest("root", "{prefix: 10.0.0.0/16}"), "apply", "-f", "-")
	run(manifest("child", "{prefix: 10.0.1.0/24, parentRef: {name: root}}"), "apply", "-f", "-")
	run("", "wait", "--for=condition=Allocated", "prefix/child", "--timeout=60s")
	const warning = `Warning: Prefix "root" has 1 child and remains until it is gone; this cannot be undone` + "\n"
	if got := run("", "delete", "prefix", "root", "--dry-run=server"); !strings.HasPrefix(got, warning) {
		t.Errorf("dry run: %s", got)
	}
	if got := run("", "delete", "prefix", "root", "--wait=false"); !strings.HasPrefix(got, warning) {
		t.Errorf("delete: %s", got)
	}
}
