// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamapply "github.com/ironcore-dev/ipam-apiserver/generated/applyconfiguration/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
)

// TestApplyingAgainChangesNothing applies manifests twice, and changes an object with the same spec in between.
func TestApplyingAgainChangesNothing(t *testing.T) {
	const (
		child   = "spec: {ipFamily: IPv4, prefixLength: 24, " + bySelector + "}"
		request = "spec: {ipFamily: IPv4, prefixLength: 24, " + fromAny + "}"
	)
	for _, test := range []struct {
		name     string
		kind     harness.Kind
		manifest string
		// hold is a prefix to allocate first. spec and status are patches between the two applies, binding is a
		// binding there.
		hold, spec, status, binding string
	}{
		{name: "a root", kind: harness.PrefixKind, manifest: "spec: {prefix: 10.9.0.0/16}"},
		{name: "a root that is allocated meanwhile", kind: harness.PrefixKind, manifest: "spec: {prefix: 10.9.0.0/16}", status: "{status: {phase: Allocated}}"},
		{name: "a child", kind: harness.PrefixKind, manifest: child},
		{name: "a child whose family came from the parent", kind: harness.PrefixKind, manifest: "spec: {prefixLength: 24, parentRef: {name: parent}}"},
		{name: "a child whose family comes with the binding", kind: harness.PrefixKind, manifest: "spec: {prefixLength: 24, parentRef: {name: parent}}",
			hold: "10.0.4.0/24", binding: "{prefix: 10.0.4.0/24, parentRef: {name: parent}}"},
		{name: "a child that is bound meanwhile", kind: harness.PrefixKind, manifest: child, hold: "10.0.4.0/24", binding: "{prefix: 10.0.4.0/24, parentRef: {name: parent}}"},
		{name: "a child that another controller completes meanwhile", kind: harness.PrefixKind, manifest: child, hold: "10.0.4.0/24",
			spec: "{spec: {prefix: 10.0.4.0/24, parentRef: {name: parent}}}", status: "{status: {phase: Allocated}}"},
		{name: "a request", kind: harness.AllocationKind, manifest: request},
		{name: "a request that is bound meanwhile", kind: harness.AllocationKind, manifest: request, binding: "{prefix: 10.0.4.0/24, prefixRef: {name: parent}}"},
		{name: "a request that another controller completes meanwhile", kind: harness.AllocationKind, manifest: request,
			spec: "{spec: {prefixRef: {name: parent}}}", status: "{status: {phase: Allocated, prefix: 10.0.4.0/24}}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace, _ := shared.setUp(t)
			manifest := "{metadata: {labels: {a: b}}, " + test.manifest + "}"
			obj := shared.Apply(t, namespace, test.kind, "me", manifest, "new").Must(t)
			if test.hold != "" {
				shared.hold(t, obj, "parent", test.hold)
			}
			if test.spec != "" {
				obj = shared.write(t, obj, harness.MergePatch, test.spec).Must(t)
			}
			if test.status != "" {
				obj = shared.write(t, obj, harness.MergePatch, test.status, "status").Must(t)
			}
			if test.binding != "" {
				obj = shared.bind(t, namespace, test.kind, "new", test.binding).Must(t)
			}
			again := shared.Apply(t, namespace, test.kind, "me", manifest, "new").Must(t)
			if again.GetResourceVersion() != obj.GetResourceVersion() {
				t.Errorf("applying again wrote\n%v\nover\n%v", again, obj)
			}
			labelled := shared.Apply(t, namespace, test.kind, "me", strings.Replace(manifest, "a: b", "a: c", 1), "new").Must(t)
			harness.Same(t, obj, labelled, "spec", "status", "metadata.generation")
			if harness.At(labelled, "metadata.labels.a") != "c" {
				t.Error("the new label has not been applied")
			}
		})
	}
}

func TestApplyOfTwoManagersConflicts(t *testing.T) {
	for _, k := range harness.Kinds {
		namespace, _ := shared.setUp(t)
		manifest := func(label string) string {
			return "{metadata: {labels: {a: " + label + "}}, spec: {prefix: 10.0.4.0/24, parentRef: {name: parent}, prefixRef: {name: parent}}}"
		}
		strip := map[string]string{"Prefix": ", prefixRef: {name: parent}", "PrefixAllocation": ", parentRef: {name: parent}"}[k.Name]
		of := func(label string) string { return strings.Replace(manifest(label), strip, "", 1) }

		first := shared.Apply(t, namespace, k, "first", of("b"), "new").Must(t)
		status := shared.Apply(t, namespace, k, "second", of("c"), "new").Refused(t, http.StatusConflict)
		if !slices.Equal(harness.Causes(status), []string{".metadata.labels.a"}) || !strings.Contains(status.Message, `"first"`) {
			t.Errorf("%s: refused for %q: %s", k.Name, harness.Causes(status), status.Message)
		}
		if now := shared.Get(t, namespace, k, "new"); now.GetResourceVersion() != first.GetResourceVersion() {
			t.Errorf("%s: the conflict wrote", k.Name)
		}
		forced := shared.Do(t, http.MethodPatch, harness.Path(namespace, k, "new")+"?fieldManager=second&force=true", harness.ApplyPatch,
			"{apiVersion: "+harness.GroupVersion+", kind: "+k.Name+", metadata: {name: new, labels: {a: c}}}").Must(t)
		if harness.At(forced, "metadata.labels.a") != "c" {
			t.Errorf("%s: force did not apply", k.Name)
		}
	}
}

// TestApplyThatGivesUpAFieldUnsetsNothingImmutable has a manager that omits a field that it applied before.
func TestApplyThatGivesUpAFieldUnsetsNothingImmutable(t *testing.T) {
	namespace, _ := shared.setUp(t)
	obj := shared.Apply(t, namespace, harness.PrefixKind, "me", "{spec: {ipFamily: IPv4, prefixLength: 24, "+bySelector+"}}", "new").Must(t)
	status := shared.Apply(t, namespace, harness.PrefixKind, "me", "{spec: {ipFamily: IPv4, "+bySelector+"}}", "new").Refused(t, http.StatusUnprocessableEntity)
	if !slices.Equal(harness.Causes(status), []string{"spec.prefixLength"}) {
		t.Errorf("refused for %q: %s", harness.Causes(status), status.Message)
	}
	if now := shared.Get(t, namespace, harness.PrefixKind, "new"); now.GetResourceVersion() != obj.GetResourceVersion() {
		t.Error("it wrote")
	}
}

func TestTypedApplyAndApplyStatus(t *testing.T) {
	namespace, _ := shared.setUp(t)
	options := metav1.ApplyOptions{FieldManager: "me"}
	parent := ipamapply.LocalObjectReference().WithName("parent")
	condition := metaapply.Condition().WithType("Mine").WithStatus(metav1.ConditionTrue).WithReason("Because").WithMessage("").WithLastTransitionTime(metav1.Now())

	prefixes := shared.Client.Prefixes(namespace)
	prefix, err := prefixes.Apply(t.Context(), ipamapply.Prefix("new", namespace).WithLabels(map[string]string{"a": "b"}).
		WithSpec(ipamapply.PrefixSpec().WithPrefixLength(24).WithParentRef(parent)), options)
	if err != nil {
		t.Fatal(err)
	}
	if prefix.Spec.PrefixLength != 24 || prefix.Spec.ParentRef.Name != "parent" || prefix.Spec.IPFamily != v1alpha1.IPv4 || prefix.Labels["a"] != "b" {
		t.Errorf("got %+v", prefix)
	}
	prefix, err = prefixes.ApplyStatus(t.Context(), ipamapply.Prefix("new", namespace).WithLabels(map[string]string{"a": "c"}).
		WithStatus(ipamapply.PrefixStatus().WithPhase(v1alpha1.PrefixPhasePending).WithConditions(condition)), options)
	if err != nil {
		t.Fatal(err)
	}
	if len(prefix.Status.Conditions) != 2 || prefix.Labels["a"] != "b" {
		t.Errorf("got %+v", prefix)
	}
	extracted, err := ipamapply.ExtractPrefix(prefix, "me")
	if err != nil || extracted.Status != nil || *extracted.Spec.PrefixLength != 24 || extracted.Spec.IPFamily != nil {
		t.Errorf("extracted %+v: %v", extracted, err)
	}

	allocations := shared.Client.PrefixAllocations(namespace)
	_, err = allocations.Apply(t.Context(), ipamapply.PrefixAllocation("new", namespace).
		WithSpec(ipamapply.PrefixAllocationSpec().WithPrefixLength(24).WithPrefixRef(parent)), options)
	if err != nil {
		t.Fatal(err)
	}
	allocation, err := allocations.ApplyStatus(t.Context(), ipamapply.PrefixAllocation("new", namespace).
		WithStatus(ipamapply.PrefixAllocationStatus().WithPhase(v1alpha1.PrefixAllocationPhaseAllocated).WithPrefix("10.0.4.0/24").WithConditions(condition)), options)
	if err != nil {
		t.Fatal(err)
	}
	if allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || allocation.Status.Prefix != "10.0.4.0/24" || len(allocation.Status.Conditions) != 3 {
		t.Errorf("got %+v", allocation)
	}
}
