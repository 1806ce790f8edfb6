// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// subject is an object of a kind for tests of patches. A named parent can still be set.
type subject struct {
	harness.Kind
	manifest string
	// ref is the reference that can be set once.
	ref string
}

var subjects = []subject{
	{harness.PrefixKind, "{metadata: {name: new, labels: {a: b, c: d}, finalizers: [example.com/one, example.com/two]}, " +
		"spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {net: blue}}}}", "parentRef"},
	{harness.AllocationKind, "{metadata: {name: new, labels: {a: b, c: d}, finalizers: [example.com/one, example.com/two]}, " +
		"spec: {ipFamily: IPv4, prefixLength: 24, prefixSelector: {matchLabels: {net: blue}}}}", "prefixRef"},
}

// conditionOf returns a condition in YAML.
func conditionOf(typ, message string) string {
	return fmt.Sprintf("{type: %s, status: 'True', reason: Because, message: %s, lastTransitionTime: '2026-01-02T03:04:05Z'}", typ, message)
}

// TestPatches checks the effect of every type of patch on labels, finalizers, spec and status. REF is replaced by
// the reference field of the kind.
func TestPatches(t *testing.T) {
	one, two, other := conditionOf("One", "first"), conditionOf("Two", "second"), conditionOf("One", "other")
	for _, test := range []struct {
		name, contentType, patch string
		below                    string
		// code is the status code, 200 by default. With another one, nothing may change. says is a part of the
		// error.
		code int
		says string
		// field is the path of a field, and want its value afterwards, in YAML.
		field, want string
	}{
		{name: "labels", contentType: harness.MergePatch, patch: "{metadata: {labels: {a: x, c: null, e: f}}}", field: "metadata.labels", want: "{a: x, e: f}"},
		{name: "labels", contentType: harness.Strategic, patch: "{metadata: {labels: {a: x, c: null, e: f}}}", field: "metadata.labels", want: "{a: x, e: f}"},
		{name: "labels replaced", contentType: harness.Strategic, patch: "{metadata: {labels: {$patch: replace, e: f}}}", field: "metadata.labels", want: "{e: f}"},
		{name: "labels", contentType: harness.JSONPatch, patch: "[{op: replace, path: /metadata/labels/a, value: x}, {op: remove, path: /metadata/labels/c}, {op: add, path: /metadata/labels/example.com~1e, value: f}]",
			field: "metadata.labels", want: "{a: x, example.com/e: f}"},

		{name: "finalizers", contentType: harness.MergePatch, patch: "{metadata: {finalizers: [example.com/three]}}", field: "metadata.finalizers", want: "[example.com/three, FINALIZER]"},
		{name: "finalizers", contentType: harness.Strategic, patch: "{metadata: {$deleteFromPrimitiveList/finalizers: [example.com/one], finalizers: [example.com/three]}}",
			field: "metadata.finalizers", want: "[example.com/three, example.com/two, FINALIZER]"},
		{name: "finalizers", contentType: harness.JSONPatch, patch: "[{op: remove, path: /metadata/finalizers/0}]", field: "metadata.finalizers", want: "[example.com/two, FINALIZER]"},

		{name: "a reference", contentType: harness.MergePatch, patch: "{spec: {REF: {name: parent}}}", field: "spec.REF", want: "{name: parent}"},
		{name: "a reference", contentType: harness.Strategic, patch: "{spec: {REF: {name: parent}}}", field: "spec.REF", want: "{name: parent}"},
		{name: "a reference", contentType: harness.JSONPatch, patch: "[{op: test, path: /spec/prefixLength, value: 24}, {op: add, path: /spec/REF, value: {name: parent}}]", field: "spec.REF", want: "{name: parent}"},
		{name: "immutable", contentType: harness.MergePatch, patch: "{spec: {prefixLength: 25}}", code: http.StatusUnprocessableEntity, says: "spec.prefixLength"},
		{name: "immutable", contentType: harness.Strategic, patch: "{spec: {prefixLength: null}}", code: http.StatusUnprocessableEntity, says: "spec.prefixLength"},
		{name: "immutable", contentType: harness.JSONPatch, patch: "[{op: replace, path: /spec/ipFamily, value: IPv6}]", code: http.StatusUnprocessableEntity, says: "spec.ipFamily"},
		{name: "a test that fails", contentType: harness.JSONPatch, patch: "[{op: test, path: /spec/prefixLength, value: 23}, {op: add, path: /spec/REF, value: {name: parent}}]", code: http.StatusUnprocessableEntity},
		{name: "a path that is not there", contentType: harness.JSONPatch, patch: "[{op: remove, path: /metadata/labels/z}]", code: http.StatusUnprocessableEntity},
		{name: "another version", contentType: harness.MergePatch, patch: "{metadata: {resourceVersion: '1', labels: {a: x}}}", code: http.StatusConflict, says: "has been modified"},
		{name: "another uid", contentType: harness.Strategic, patch: "{metadata: {uid: nobody, labels: {a: x}}}", code: http.StatusUnprocessableEntity, says: "metadata.uid"},

		{name: "a list of conditions", contentType: harness.MergePatch, below: "status", patch: "{status: {conditions: [" + two + "]}}", field: "status.conditions", want: "[" + two + "]"},
		{name: "one more condition", contentType: harness.Strategic, below: "status", patch: "{status: {conditions: [" + two + "]}}", field: "status.conditions", want: "[" + two + ", " + one + "]"},
		{name: "the same condition", contentType: harness.Strategic, below: "status", patch: "{status: {conditions: [{type: One, message: other}]}}", field: "status.conditions", want: "[" + other + "]"},
		{name: "no condition", contentType: harness.Strategic, below: "status", patch: "{status: {conditions: [{type: One, $patch: delete}]}}", field: "status.conditions", want: "null"},
		{name: "one more condition", contentType: harness.JSONPatch, below: "status", patch: "[{op: add, path: /status/conditions/-, value: " + two + "}]", field: "status.conditions", want: "[" + one + ", " + two + "]"},
	} {
		for _, subject := range subjects {
			t.Run(subject.Name+" "+test.name+" "+test.contentType, func(t *testing.T) {
				namespace := harness.NewNamespace()
				obj := shared.Create(t, namespace, subject.Kind, subject.manifest)
				finalizer := ""
				if subject.Kind == harness.PrefixKind {
					finalizer = "ipam.ironcore.dev/prefix"
				}
				fill := strings.NewReplacer("REF", subject.ref, ", FINALIZER", ", "+finalizer)
				if finalizer == "" {
					fill = strings.NewReplacer("REF", subject.ref, ", FINALIZER", "")
				}
				var below []string
				if test.below != "" {
					below = []string{test.below}
					obj = shared.Patch(t, obj, harness.MergePatch, "{status: {conditions: ["+one+"]}}", below...).Must(t)
				}
				got := shared.Patch(t, obj, test.contentType, fill.Replace(test.patch), below...)
				if test.code != 0 {
					if status := got.Refused(t, test.code); !strings.Contains(status.Message, test.says) {
						t.Errorf("%q does not say %q", status.Message, test.says)
					}
					harness.Unwritten(t, obj, shared.Get(t, namespace, subject.Kind, "new"))
					return
				}
				patched := got.Must(t)
				patched.Object["status"] = harness.StoredStatus(patched)
				if is, want := harness.At(patched, fill.Replace(test.field)), harness.Parse(t, fill.Replace(test.want)); !reflect.DeepEqual(is, want) {
					t.Errorf("%s is %v, not %v", test.field, is, want)
				}
				harness.Unwritten(t, patched, shared.Get(t, namespace, subject.Kind, "new"))
				// The same patch again writes nothing.
				if test.contentType != harness.JSONPatch {
					harness.Unwritten(t, patched, shared.Patch(t, patched, test.contentType, fill.Replace(test.patch), below...).Must(t))
				}
			})
		}
	}
}

// owned returns the paths of the fields that a manager owns by an operation, sorted.
func owned(t testing.TB, obj *unstructured.Unstructured, manager string, operation metav1.ManagedFieldsOperationType, subresource string) []string {
	t.Helper()
	for _, entry := range obj.GetManagedFields() {
		if entry.Manager == manager && entry.Operation == operation && entry.Subresource == subresource {
			leaves := []string{}
			var walk func(path string, fields map[string]any)
			walk = func(path string, fields map[string]any) {
				below := 0
				for key, inner := range fields {
					if key != "." {
						below++
						walk(path+"."+strings.TrimPrefix(key, "f:"), inner.(map[string]any))
					}
				}
				if below == 0 {
					leaves = append(leaves, strings.TrimPrefix(path, "."))
				}
			}
			fields := map[string]any{}
			if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
				t.Fatal(err)
			}
			walk("", fields)
			slices.Sort(leaves)
			return leaves
		}
	}
	return nil
}

func owns(t testing.TB, obj *unstructured.Unstructured, manager, subresource string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := owned(t, obj, manager, metav1.ManagedFieldsOperationApply, subresource); !slices.Equal(got, want) {
		t.Errorf("%s owns %q of %q, not %q", manager, got, subresource, want)
	}
}

// awaitSecond returns at the beginning of a second. Field owners are sorted by the second of their last apply, and
// an apply that changes their order causes a write even if it changes nothing else.
func awaitSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }

// TestApplyOfSpecAndOfStatusDoNotFight has one manager of the spec and one of the status. Each applies repeatedly.
func TestApplyOfSpecAndOfStatusDoNotFight(t *testing.T) {
	for _, subject := range subjects {
		t.Run(subject.Name, func(t *testing.T) {
			namespace := harness.NewNamespace()
			selector := strings.Replace(subject.ref, "Ref", "Selector", 1)
			// Both also set fields of the other, which has no effect.
			spec := "{metadata: {labels: {a: b}}, spec: {ipFamily: IPv4, prefixLength: 24, " + selector + ": {matchLabels: {net: blue}}}, status: {phase: Allocated}}"
			status := "{metadata: {labels: {c: d}}, spec: {prefixLength: 25}, status: {conditions: [" + conditionOf("Mine", "well") + "]}}"
			applySpec := func() *unstructured.Unstructured {
				return shared.Apply(t, namespace, subject.Kind, "spec-manager", spec, "new").Must(t)
			}
			applyStatus := func() *unstructured.Unstructured {
				return shared.Apply(t, namespace, subject.Kind, "status-manager", status, "new", "status").Must(t)
			}
			awaitSecond()
			first := applySpec()
			harness.Unwritten(t, first, applySpec())
			second := applyStatus()
			if second.GetResourceVersion() == first.GetResourceVersion() {
				t.Error("the status has not been written")
			}
			harness.Unwritten(t, second, applyStatus())
			harness.Unwritten(t, second, applySpec())
			harness.Same(t, first, second, "spec", "metadata.generation", "metadata.labels")
			owns(t, second, "spec-manager", "", "metadata.labels.a", "spec.ipFamily", "spec.prefixLength", "spec."+selector)
			condition := `status.conditions.k:{"type":"Mine"}.`
			owns(t, second, "status-manager", "status", condition+"lastTransitionTime", condition+"message", condition+"reason", condition+"status", condition+"type")

			// The manager of the spec gives up a label, and that of the status all its fields.
			spec = strings.Replace(spec, "{a: b}", "{}", 1)
			third := applySpec()
			if third.GetLabels() != nil || harness.StoredStatus(third)["conditions"] == nil {
				t.Errorf("it is %v", third)
			}
			status = "{status: {}}"
			fourth := applyStatus()
			if harness.StoredStatus(fourth)["conditions"] != nil || harness.At(fourth, "status.phase") != "Pending" {
				t.Errorf("the status is %v", harness.At(fourth, "status"))
			}
			harness.Same(t, first, fourth, "spec")
		})
	}
}

// TestApplyOfTwoManagersToTheStatus has two managers of conditions. They conflict about the same condition, unless
// one forces it, and not about different ones.
func TestApplyOfTwoManagersToTheStatus(t *testing.T) {
	for _, subject := range subjects {
		t.Run(subject.Name, func(t *testing.T) {
			namespace := harness.NewNamespace()
			shared.Create(t, namespace, subject.Kind, subject.manifest)
			apply := func(manager, condition string) harness.Answer {
				return shared.Apply(t, namespace, subject.Kind, manager, "{status: {conditions: ["+condition+"]}}", "new", "status")
			}
			apply("first", conditionOf("One", "first")).Must(t)
			both := apply("second", conditionOf("Two", "second")).Must(t)
			if conditions, _ := harness.StoredStatus(both)["conditions"].([]any); len(conditions) != 2 {
				t.Fatalf("the conditions are %v", conditions)
			}
			refused := apply("second", conditionOf("One", "second")).Refused(t, http.StatusConflict)
			if !strings.Contains(refused.Message, `"first"`) || !strings.Contains(harness.Encode(t, refused.Details), `.status.conditions[type=\"One\"].message`) {
				t.Errorf("it says %s, %v", refused.Message, refused.Details)
			}
			harness.Unwritten(t, both, shared.Get(t, namespace, subject.Kind, "new"))

			forced := apply("second force", conditionOf("One", "second")).Must(t)
			if got, want := harness.StoredStatus(forced)["conditions"], harness.Parse(t, "["+conditionOf("One", "second")+"]"); !reflect.DeepEqual(got, want) {
				t.Errorf("the conditions are %v, not %v", got, want)
			}
			if mine := strings.Join(owned(t, forced, "first", metav1.ManagedFieldsOperationApply, "status"), " "); strings.Contains(mine, "message") || !strings.Contains(mine, "reason") {
				t.Errorf("the first still owns %q", mine)
			}
			apply("first", conditionOf("One", "first")).Refused(t, http.StatusConflict)
		})
	}
}

// TestApplyOfTwoManagersToTheSpec has a second manager that first applies the same value, which makes it an owner,
// too. Then it applies another value, which conflicts, and is rejected as immutable if it is forced.
func TestApplyOfTwoManagersToTheSpec(t *testing.T) {
	for _, subject := range subjects {
		t.Run(subject.Name, func(t *testing.T) {
			namespace := harness.NewNamespace()
			spec := "{spec: {ipFamily: IPv4, prefixLength: 24, " + subject.ref + ": {name: parent}}}"
			shared.Apply(t, namespace, subject.Kind, "first", spec, "new").Must(t)
			agreed := shared.Apply(t, namespace, subject.Kind, "second", "{spec: {prefixLength: 24}}", "new").Must(t)
			owns(t, agreed, "second", "", "spec.prefixLength")
			owns(t, agreed, "first", "", "spec.ipFamily", "spec."+subject.ref, "spec.prefixLength")

			other := "{spec: {prefixLength: 25}}"
			refused := shared.Apply(t, namespace, subject.Kind, "second", other, "new").Refused(t, http.StatusConflict)
			if !strings.Contains(refused.Message, ".spec.prefixLength") || !strings.Contains(refused.Message, `"first"`) {
				t.Errorf("it says %s", refused.Message)
			}
			refused = shared.Apply(t, namespace, subject.Kind, "second force", other, "new").Refused(t, http.StatusUnprocessableEntity)
			if !strings.Contains(refused.Message, "spec.prefixLength") {
				t.Errorf("it says %s", refused.Message)
			}
			harness.Unwritten(t, agreed, shared.Get(t, namespace, subject.Kind, "new"))
			// A field with another owner remains when one manager gives it up.
			given := shared.Apply(t, namespace, subject.Kind, "second", "{metadata: {labels: {a: b}}}", "new").Must(t)
			harness.Same(t, agreed, given, "spec")
			owns(t, given, "second", "", "metadata.labels.a")
		})
	}
}
