// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// recipes is the text of docs/gitops.md.
func recipes(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(kube.Root(), "docs/gitops.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// manifestsOf returns the objects of a kind in the YAML of the page.
func manifestsOf(t *testing.T, kind string) []*unstructured.Unstructured {
	t.Helper()
	var found []*unstructured.Unstructured
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(recipes(t), -1) {
		for _, document := range strings.Split(block[1], "\n---\n") {
			if obj := (&unstructured.Unstructured{Object: harness.ParseObject(t, document)}); obj.GetKind() == kind {
				found = append(found, obj)
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("no %s on the page", kind)
	}
	return found
}

// TestFlux checks that the Kustomization of the page waits, which Flux does by kstatus (see TestKstatus), and that the
// other one depends on it.
func TestFlux(t *testing.T) {
	kustomizations := manifestsOf(t, "Kustomization")
	if len(kustomizations) != 2 || harness.At(kustomizations[0], "spec.wait") != true || harness.At(kustomizations[0], "spec.timeout") == nil {
		t.Errorf("the first does not wait: %v", kustomizations)
	}
	dependsOn := harness.At(kustomizations[1], "spec.dependsOn").([]any)
	if len(dependsOn) != 1 || dependsOn[0].(map[string]any)["name"] != kustomizations[0].GetName() {
		t.Errorf("the second depends on %v", dependsOn)
	}
}

// TestKapp applies the wait rule of the page to objects in every state, as kapp does: the first matcher whose condition
// has the status decides.
func TestKapp(t *testing.T) {
	rules := harness.At(manifestsOf(t, "Config")[0], "waitRules").([]any)
	rule := rules[0].(map[string]any)
	var kinds []string
	for _, matcher := range rule["resourceMatchers"].([]any) {
		of := matcher.(map[string]any)["apiVersionKindMatcher"].(map[string]any)
		kinds = append(kinds, fmt.Sprint(of["apiVersion"], " ", of["kind"]))
	}
	if want := []string{harness.GroupVersion + " Prefix", harness.GroupVersion + " PrefixAllocation", harness.GroupVersion + " PrefixPolicy"}; len(rules) != 1 || !slices.Equal(kinds, want) {
		t.Errorf("the rules are for %v, not %v", kinds, want)
	}
	seen := map[string]int{}
	everyState(t, func(name string, obj *unstructured.Unstructured) {
		got := "wait"
		for _, entry := range rule["conditionMatchers"].([]any) {
			matcher := entry.(map[string]any)
			if is, _ := conditionOf(obj, matcher["type"].(string)); is != matcher["status"] {
				continue
			}
			if got = "success"; matcher["failure"] == true {
				got = "failure"
			}
			break
		}
		want := "wait"
		if stalled, _ := conditionOf(obj, v1alpha1.ConditionStalled); stalled == "True" {
			want = "failure"
		} else if harness.At(obj, "status.phase") == "Allocated" {
			want = "success"
		}
		if got != want {
			t.Errorf("%s: kapp says %s, not %s", name, got, want)
		}
		seen[got]++
	})
	if len(seen) != 3 {
		t.Errorf("only %v", seen)
	}
}

// TestCrossplane checks what provider-kubernetes derives the readiness of the Object on the page from: the condition
// Ready.
func TestCrossplane(t *testing.T) {
	object := manifestsOf(t, "Object")[0]
	if policy := harness.At(object, "spec.readiness.policy"); policy != "DeriveFromObject" {
		t.Errorf("the policy is %v", policy)
	}
	everyState(t, func(name string, obj *unstructured.Unstructured) {
		ready, _ := conditionOf(obj, "Ready")
		if (ready == "True") != (harness.At(obj, "status.phase") == "Allocated") {
			t.Errorf("%s: Ready is %s", name, ready)
		}
	})
}

// filledIn returns the fields of spec and metadata that an object has otherwise than its manifest, other than those that
// every server sets.
func filledIn(manifest, live *unstructured.Unstructured) map[string]bool {
	fields := map[string]bool{}
	for _, part := range []string{"metadata", "spec"} {
		given, _ := harness.At(manifest, part).(map[string]any)
		for field, value := range harness.At(live, part).(map[string]any) {
			switch {
			case part == "metadata" && slices.Contains([]string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "namespace"}, field):
			case !reflect.DeepEqual(given[field], value):
				fields[part+"."+field] = true
			}
		}
	}
	return fields
}

// TestFilledInFields compares manifests with what becomes of them: those are the fields that the page says, and the ones
// that Terraform is told about.
func TestFilledInFields(t *testing.T) {
	namespace := harness.NewNamespace()
	shared.Create(t, namespace, harness.PrefixKind, "{metadata: {name: pool, labels: {a: b}}, spec: {prefix: 10.0.0.0/16}}")
	got := map[string]map[string]bool{"Prefix": {}, "PrefixAllocation": {}}
	apply := func(k harness.Kind, manifest string) map[string]bool {
		t.Helper()
		given := &unstructured.Unstructured{Object: harness.ParseObject(t, manifest)}
		shared.Create(t, namespace, k, manifest)
		var live *unstructured.Unstructured
		harness.Eventually(t, given.GetName()+" is allocated", func() error {
			live = shared.Get(t, namespace, k, given.GetName())
			return harness.Unless(harness.At(live, "status.phase") == "Allocated", "%v", live)
		})
		fields := filledIn(given, live)
		maps.Copy(got[k.Name], fields)
		return fields
	}
	// The one of Terraform.
	computed := regexp.MustCompile(`computed_fields = \[(.*)\]`).FindStringSubmatch(recipes(t))[1]
	for field := range apply(harness.PrefixKind, "{metadata: {name: subnet}, spec: {prefixLength: 24, parentRef: {name: pool}}}") {
		if !strings.Contains(computed, fmt.Sprintf("%q", field)) {
			t.Errorf("Terraform is not told that %s is computed", field)
		}
	}
	apply(harness.PrefixKind, "{metadata: {name: by-labels}, spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {a: b}}}}")
	apply(harness.PrefixKind, "{metadata: {name: exact}, spec: {prefix: 10.0.9.0/24, parentRef: {name: pool}}}")
	apply(harness.AllocationKind, "{metadata: {name: named}, spec: {prefixLength: 24, prefixRef: {name: pool}}}")
	apply(harness.AllocationKind, "{metadata: {name: by-labels-too}, spec: {ipFamily: IPv4, prefixLength: 24, prefixSelector: {matchLabels: {a: b}}}}")
	for kind, fields := range got {
		row := regexp.MustCompile(`(?m)^\| ` + kind + ` \| (.*) \|$`).FindStringSubmatch(recipes(t))
		if row == nil {
			t.Fatalf("the page has no row for %s", kind)
		}
		said := strings.Split(strings.ReplaceAll(row[1], "`", ""), ", ")
		slices.Sort(said)
		if is := harness.Keys(fields); !slices.Equal(is, said) {
			t.Errorf("the server fills in %q of a %s, and the page says %q", is, kind, said)
		}
	}
}
