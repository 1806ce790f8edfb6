// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// separation has, for each kind, an allocated object, and writes to its spec and its status.
var separation = []struct {
	harness.Kind
	allocated, pending string
	// create is a spec to create. status is a status that differs in all fields.
	create, status string
	// statusPatch and specPatch are JSON patches that do the same.
	statusPatch, specPatch string
}{
	{
		Kind: harness.PrefixKind, allocated: "child-allocated", pending: "child-by-ref",
		create: "spec: {ipFamily: IPv4, prefixLength: 24, parentRef: {name: parent}}",
		status: "status: {phase: Allocated, used: [10.0.1.0/26], observedGeneration: 77, lastPhaseTransitionTime: '2001-01-01T00:00:00Z', " +
			"usage: {total: '1', used: '2', free: '3', percent: 4, allocations: 5}, " +
			"conditions: [{type: Mine, status: 'True', reason: Because, message: '', lastTransitionTime: '2001-01-01T00:00:00Z'}]}",
		statusPatch: `{"op": "add", "path": "/status/used", "value": ["10.0.1.0/26"]}`,
		specPatch:   `{"op": "add", "path": "/spec/prefix", "value": "10.0.77.0/24"}`,
	},
	{
		Kind: harness.AllocationKind, allocated: "request-allocated", pending: "request-by-ref",
		create: "spec: {ipFamily: IPv4, prefixLength: 24, prefixRef: {name: parent}}",
		status: "status: {phase: Allocated, prefix: 10.0.2.0/24, lastPhaseTransitionTime: '2001-01-01T00:00:00Z', " +
			"conditions: [{type: Mine, status: 'True', reason: Because, message: '', lastTransitionTime: '2001-01-01T00:00:00Z'}]}",
		statusPatch: `{"op": "add", "path": "/status/prefix", "value": "10.0.77.0/24"}`,
		specPatch:   `{"op": "add", "path": "/spec/prefixLength", "value": 25}`,
	},
}

var patchTypes = []string{harness.JSON, harness.MergePatch, harness.Strategic, harness.JSONPatch, harness.ApplyPatch}

func TestCreateDropsTheStatus(t *testing.T) {
	for _, s := range separation {
		for _, way := range []string{harness.JSON, harness.ApplyPatch} {
			t.Run(s.Name+" "+way, func(t *testing.T) {
				namespace, _ := shared.setUp(t)
				manifest := "{metadata: {name: new}, " + s.create + ", " + s.status + "}"
				var created *unstructured.Unstructured
				if way == harness.ApplyPatch {
					created = shared.Apply(t, namespace, s.Kind, "me", manifest, "new").Must(t)
				} else {
					created = shared.Create(t, namespace, s.Kind, manifest)
				}
				want := map[string]any{"phase": "Pending"}
				if got := harness.StoredStatus(created); !reflect.DeepEqual(got, want) {
					t.Errorf("the answer has status %v", got)
				}
				if got := harness.StoredStatus(shared.Get(t, namespace, s.Kind, "new")); !reflect.DeepEqual(got, want) {
					t.Errorf("status %v is stored", got)
				}
				ownsOnly(t, created, map[string][]string{"": {"f:spec", "f:metadata"}})
			})
		}
	}
}

func TestWritesToTheMainResourceLeaveTheStatusAlone(t *testing.T) {
	for _, s := range separation {
		for _, fixture := range []string{s.allocated, s.pending} {
			for _, way := range patchTypes {
				t.Run(fixture+" "+way, func(t *testing.T) {
					_, before := shared.setUp(t, fixture)
					changes := "{metadata: {labels: {written: 'yes'}}, " + s.status + "}"
					if way == harness.JSONPatch {
						changes = `[{"op": "add", "path": "/metadata/labels", "value": {"written": "yes"}}, ` + s.statusPatch + `]`
					}
					after := shared.write(t, before, way, changes).Must(t)
					if harness.At(after, "metadata.labels.written") != "yes" {
						t.Error("the label has not been written")
					}
					harness.Same(t, before, after, "status", "spec", "metadata.generation")
					ownsOnly(t, after, map[string][]string{"": {"f:spec", "f:metadata"}, "status": {"f:status"}})
				})
			}
		}
	}
}

func TestWritesToTheStatusLeaveEverythingElseAlone(t *testing.T) {
	const metadata = "metadata: {labels: {written: 'yes'}, annotations: {written: 'yes'}, finalizers: [example.com/written], " +
		"ownerReferences: [{apiVersion: v1, kind: Node, name: a, uid: b}]}"
	condition := "conditions: [{type: Mine, status: 'True', reason: Because, message: hi, lastTransitionTime: '2001-01-01T00:00:00Z'}]"
	conditionPatch := `{"op": "add", "path": "/status/conditions/-", "value": {"type": "Mine", "status": "True", "reason": "Because", "message": "hi", "lastTransitionTime": "2001-01-01T00:00:00Z"}}`
	for _, s := range separation {
		for _, way := range patchTypes {
			t.Run(s.Name+" "+way, func(t *testing.T) {
				_, before := shared.setUp(t, s.allocated)
				changes := fmt.Sprintf("{%s, spec: {ipFamily: IPv6, prefixLength: 25, prefix: 10.0.77.0/24}, status: {%s}}", metadata, condition)
				if way == harness.JSONPatch {
					changes = `[{"op": "add", "path": "/metadata/labels", "value": {"written": "yes"}}, ` + s.specPatch + `, ` + conditionPatch + `]`
				}
				after := shared.write(t, before, way, changes, "status").Must(t)
				if conditions := harness.Encode(t, harness.At(after, "status.conditions")); !strings.Contains(string(conditions), `"message":"hi"`) {
					t.Errorf("the status has not been written: %s", conditions)
				}
				harness.Same(t, before, after, "spec", "metadata.labels", "metadata.annotations", "metadata.finalizers", "metadata.ownerReferences", "metadata.generation", "metadata.deletionTimestamp")
				ownsOnly(t, after, map[string][]string{"": {"f:spec", "f:metadata"}, "status": {"f:status"}})
			})
		}
	}
}

// TestGenerationMovesWithTheSpecOnly checks the generation of both kinds, when they are allocated with patches, as
// by other controllers, and with a binding.
func TestGenerationMovesWithTheSpecOnly(t *testing.T) {
	for _, s := range []struct{ fixture, ref, status, binding string }{
		{"child", "{spec: {prefix: 10.0.4.0/24, parentRef: {name: parent}}}", "{status: {phase: Allocated}}", "{prefix: 10.0.4.0/24, parentRef: {name: parent}}"},
		{"request", "{spec: {prefixRef: {name: parent}}}", "{status: {phase: Allocated, prefix: 10.0.4.0/24}}", "{prefix: 10.0.4.0/24, prefixRef: {name: parent}}"},
	} {
		k := fixtures[s.fixture].kind
		prepare := func(t *testing.T) (string, *unstructured.Unstructured) {
			namespace, obj := shared.setUp(t, s.fixture)
			if k == harness.PrefixKind {
				shared.hold(t, obj, "parent", "10.0.4.0/24")
			}
			return namespace, obj
		}
		generation := func(t *testing.T, what string, obj *unstructured.Unstructured, want int64) {
			t.Helper()
			if got := obj.GetGeneration(); got != want {
				t.Errorf("%s: generation %d, not %d", what, got, want)
			}
		}
		t.Run(k.Name, func(t *testing.T) {
			_, obj := prepare(t)
			generation(t, "create", obj, 1)
			generation(t, "a label", shared.write(t, obj, harness.MergePatch, "{metadata: {labels: {a: b}, generation: 9}}").Must(t), 1)
			generation(t, "a status", shared.write(t, obj, harness.MergePatch, "{metadata: {generation: 9}, status: {conditions: []}}", "status").Must(t), 1)
			generation(t, "the spec", shared.write(t, obj, harness.MergePatch, s.ref).Must(t), 2)
			generation(t, "the phase", shared.write(t, obj, harness.MergePatch, s.status, "status").Must(t), 2)
		})
		t.Run(k.Name+" binding", func(t *testing.T) {
			namespace, _ := prepare(t)
			generation(t, "the binding", shared.bind(t, namespace, k, s.fixture, s.binding).Must(t), 2)
			generation(t, "the binding again", shared.bind(t, namespace, k, s.fixture, s.binding).Must(t), 2)
		})
	}
}

func TestLastPhaseTransitionTimeMovesWithThePhaseOnly(t *testing.T) {
	const forged, field = "2001-01-01T00:00:00Z", "status.lastPhaseTransitionTime"
	for _, s := range []struct{ fixture, allocated string }{
		{"root", "phase: Allocated"},
		{"request-by-ref", "phase: Allocated, prefix: 10.0.4.0/24"},
		{"request", "phase: Failed"},
	} {
		t.Run(s.fixture+" "+s.allocated, func(t *testing.T) {
			_, obj := shared.setUp(t, s.fixture)
			for _, way := range []string{harness.MergePatch, harness.JSON} {
				obj = shared.write(t, obj, way, "{status: {lastPhaseTransitionTime: '"+forged+"'}}", "status").Must(t)
				if got := harness.At(obj, field); got != nil {
					t.Errorf("%s: it is %v before the phase moved", way, got)
				}
			}
			start := time.Now().Truncate(time.Second)
			obj = shared.write(t, obj, harness.MergePatch, "{status: {"+s.allocated+", lastPhaseTransitionTime: '"+forged+"'}}", "status").Must(t)
			moved, _ := harness.At(obj, field).(string)
			if at, err := time.Parse(time.RFC3339, moved); err != nil || at.Before(start) || at.After(time.Now()) {
				t.Fatalf("it is %q after the phase moved, at %v", moved, start)
			}
			for _, value := range []string{"'" + forged + "'", "null"} {
				for _, way := range []string{harness.MergePatch, harness.JSON} {
					obj = shared.write(t, obj, way, "{status: {lastPhaseTransitionTime: "+value+"}}", "status").Must(t)
					if got := harness.At(obj, field); got != moved {
						t.Errorf("%s: %s moved it from %q to %v", way, value, moved, got)
					}
				}
			}
		})
	}
}

// TestTheLongWayEndsLikeTheBinding patches the spec and then the status, as controllers without bindings do. The
// condition is set, and a Prefix has its usage.
func TestTheLongWayEndsLikeTheBinding(t *testing.T) {
	for _, test := range []struct {
		fixture, spec, status, reason string
		usage                         map[string]any
		generation                    int64
	}{
		{"root", "", "{status: {phase: Allocated}}", "Root", usageOf("65536", "/17"), 1},
		{"child", "{spec: {prefix: 10.0.4.0/24, parentRef: {name: parent}}}", "{status: {phase: Allocated}}", "Allocated", usageOf("256", "/25"), 2},
		{"child-by-ref", "{spec: {prefix: 10.0.4.0/24}}", "{status: {phase: Allocated}}", "Allocated", usageOf("256", "/25"), 2},
		{"request", "{spec: {prefixRef: {name: parent}}}", "{status: {phase: Allocated, prefix: 10.0.4.0/24}}", "Allocated", nil, 2},
		{"request-by-ref", "", "{status: {phase: Allocated, prefix: 10.0.4.0/24}}", "Allocated", nil, 1},
	} {
		t.Run(test.fixture, func(t *testing.T) {
			_, obj := shared.setUp(t, test.fixture)
			if obj.GetKind() == harness.PrefixKind.Name && test.fixture != "root" {
				shared.hold(t, obj, "parent", "10.0.4.0/24")
			}
			if test.spec != "" {
				obj = shared.write(t, obj, harness.MergePatch, test.spec).Must(t)
			}
			if harness.At(obj, "status.phase") != "Pending" || harness.StoredStatus(obj)["conditions"] != nil {
				t.Fatalf("status %v before it is allocated", harness.At(obj, "status"))
			}
			obj = shared.write(t, obj, harness.MergePatch, test.status, "status").Must(t)
			conditions, _ := harness.StoredStatus(obj)["conditions"].([]any)
			if len(conditions) != 1 {
				t.Fatalf("conditions %v", conditions)
			}
			got := conditions[0].(map[string]any)
			for key, want := range map[string]any{"type": "Allocated", "status": "True", "reason": test.reason, "observedGeneration": test.generation} {
				if fmt.Sprint(got[key]) != fmt.Sprint(want) {
					t.Errorf("the condition has %s %v, not %v", key, got[key], want)
				}
			}
			if usage, _ := harness.At(obj, "status.usage").(map[string]any); fmt.Sprint(usage) != fmt.Sprint(test.usage) {
				t.Errorf("usage %v, not %v", usage, test.usage)
			}
		})
	}
}

// TestAConditionOfTheWriterIsKept has a controller that writes the condition together with the phase.
func TestAConditionOfTheWriterIsKept(t *testing.T) {
	const condition = "conditions: [{type: Allocated, status: '%s', reason: Mine, message: mine, lastTransitionTime: '2026-01-01T00:00:00Z'}]"
	for fixture, status := range map[string]string{"root": "phase: Allocated", "request-by-ref": "phase: Allocated, prefix: 10.0.4.0/24"} {
		for value, reason := range map[string]string{"True": "Mine", "False": map[string]string{"root": "Root"}[fixture]} {
			if reason == "" {
				reason = "Allocated"
			}
			t.Run(fixture+" "+value, func(t *testing.T) {
				_, obj := shared.setUp(t, fixture)
				obj = shared.write(t, obj, harness.MergePatch, "{status: {"+status+", "+fmt.Sprintf(condition, value)+"}}", "status").Must(t)
				conditions, _ := harness.StoredStatus(obj)["conditions"].([]any)
				if len(conditions) != 1 || conditions[0].(map[string]any)["reason"] != reason || conditions[0].(map[string]any)["status"] != "True" {
					t.Errorf("conditions %v", conditions)
				}
			})
		}
	}
}

func usageOf(total, largestFree string) map[string]any {
	return map[string]any{"total": total, "used": "0", "free": total, "percent": 0, "allocations": 0, "largestFree": largestFree}
}

// ownsOnly fails the test if a manager owns other fields of the main resource or a subresource.
func ownsOnly(t *testing.T, obj *unstructured.Unstructured, allowed map[string][]string) {
	t.Helper()
	if len(obj.GetManagedFields()) == 0 {
		t.Error("there are no managed fields")
	}
	for _, entry := range obj.GetManagedFields() {
		for _, field := range harness.Keys(harness.ParseObject(t, entry.FieldsV1.GetRawString())) {
			if !slices.Contains(allowed[entry.Subresource], field) {
				t.Errorf("%s owns %s by %s of %q", entry.Manager, field, entry.Operation, entry.Subresource)
			}
		}
	}
}

// TestTheStatusOfNothingIsNotFound shows that the status subresource does not create objects.
func TestTheStatusOfNothingIsNotFound(t *testing.T) {
	for _, k := range harness.Kinds {
		namespace, _ := shared.setUp(t)
		before := shared.snapshot(t, namespace)
		body := "{metadata: {name: nothing}, spec: {prefix: 10.3.0.0/16}, status: {phase: Pending}}"
		for _, below := range [][]string{{"nothing", "status"}, {"nothing"}} {
			shared.Do(t, http.MethodPut, harness.Path(namespace, k, below...), harness.JSON, body).Refused(t, http.StatusNotFound)
		}
		shared.Apply(t, namespace, k, "me", "{status: {phase: Pending}}", "nothing", "status").Refused(t, http.StatusNotFound)
		if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: the namespace changed", k.Name)
		}
	}
}
