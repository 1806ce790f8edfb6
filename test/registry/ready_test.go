// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// conditionOf returns a condition of an object, or nil.
func conditionOf(t *testing.T, obj *unstructured.Unstructured, conditionType string) *metav1.Condition {
	t.Helper()
	conditions, _ := harness.At(obj, "status.conditions").([]any)
	for _, entry := range conditions {
		var condition metav1.Condition
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(entry.(map[string]any), &condition); err != nil {
			t.Fatal(err)
		}
		if condition.Type == conditionType {
			return &condition
		}
	}
	return nil
}

// isReady fails the test unless an object has the condition Ready that its phase demands.
func isReady(t *testing.T, where string, obj *unstructured.Unstructured) {
	t.Helper()
	want := metav1.ConditionFalse
	if harness.At(obj, "status.phase") == "Allocated" {
		want = metav1.ConditionTrue
	}
	ready := conditionOf(t, obj, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != want || ready.Reason == "" || ready.LastTransitionTime.IsZero() || ready.ObservedGeneration != obj.GetGeneration() {
		t.Errorf("%s: Ready is %+v: %s", where, ready, harness.Encode(t, obj.Object))
	}
	stalled := conditionOf(t, obj, v1alpha1.ConditionStalled)
	if failed := harness.At(obj, "status.phase") == "Failed"; failed != (stalled != nil && stalled.Status == metav1.ConditionTrue) {
		t.Errorf("%s: Stalled is %+v: %s", where, stalled, harness.Encode(t, obj.Object))
	}
}

// setUpOnly is like setUp for one fixture, which may be the parent itself.
func (s server) setUpOnly(t *testing.T, name string) (namespace string) {
	t.Helper()
	if name == "parent" {
		namespace, _ = s.setUp(t)
	} else {
		namespace, _ = s.setUp(t, name)
	}
	return namespace
}

// TestEveryReaderSeesReady reads objects in every phase in every way.
func TestEveryReaderSeesReady(t *testing.T) {
	for name, fixture := range fixtures {
		t.Run(name, func(t *testing.T) {
			version := shared.List(t, harness.Path(harness.NewNamespace(), fixture.kind)).GetResourceVersion()
			namespace := shared.setUpOnly(t, name)
			path := harness.Path(namespace, fixture.kind)

			obj := shared.Get(t, namespace, fixture.kind, name)
			isReady(t, "get", obj)
			isReady(t, "get status", shared.Do(t, http.MethodGet, harness.PathOf(t, obj, "status"), harness.JSON, "").Must(t))
			for _, query := range []string{"", "?resourceVersion=0", "?limit=1", "?fieldSelector=metadata.name%3D" + name} {
				for _, item := range shared.List(t, path+query).Items {
					isReady(t, "list"+query, &item)
				}
			}
			rows := shared.Do(t, http.MethodGet, harness.PathOf(t, obj)+"?includeObject=Object", harness.JSON, "",
				"application/json;as=Table;g=meta.k8s.io;v=v1").Must(t)
			row := harness.At(rows, "rows").([]any)[0].(map[string]any)["object"].(map[string]any)
			isReady(t, "table", &unstructured.Unstructured{Object: row})

			// A watch from before the object was there has it in all phases.
			last := ""
			for event := range shared.Watch(t, path+"?resourceVersion="+version+"&fieldSelector=metadata.name%3D"+name) {
				isReady(t, "watch "+event.Type, event.Object)
				if last = event.Object.GetResourceVersion(); last == obj.GetResourceVersion() {
					break
				}
			}
			isReady(t, "dry run", shared.Do(t, http.MethodPatch, harness.PathOf(t, obj)+"?dryRun=All", harness.MergePatch, "{metadata: {labels: {a: b}}}").Must(t))
			isReady(t, "patch", shared.Patch(t, obj, harness.MergePatch, "{metadata: {labels: {a: b}}}").Must(t))
			isReady(t, "apply", shared.Apply(t, namespace, fixture.kind, "applier", "{metadata: {labels: {c: d}}}", name).Must(t))
		})
	}
}

// TestReadyIsNotStored looks for the derived conditions in etcd, and in the managed fields.
func TestReadyIsNotStored(t *testing.T) {
	for name, fixture := range fixtures {
		t.Run(name, func(t *testing.T) {
			namespace := shared.setUpOnly(t, name)
			// A client that has read an object writes it back.
			obj := shared.Put(t, shared.Get(t, namespace, fixture.kind, name)).Must(t)
			obj = shared.Put(t, obj, "status").Must(t)
			own := harness.Encode(t, map[string]any{"status": map[string]any{"conditions": []any{
				map[string]any{"type": "Mine", "status": "True", "reason": "Mine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
				map[string]any{"type": v1alpha1.ConditionReady, "status": "Unknown", "reason": "Mine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
			}}})
			obj = shared.Patch(t, obj, harness.Strategic, own, "status").Must(t)
			isReady(t, "after a status that says otherwise", obj)
			obj = shared.Apply(t, namespace, fixture.kind, "applier force", own, name, "status").Must(t)
			isReady(t, "after it was applied", obj)
			if mine := conditionOf(t, obj, "Mine"); mine == nil {
				t.Error("the condition of the client is lost")
			}
			key := apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/" + fixture.kind.Resource + "/" + namespace + "/" + name
			response, err := shared.Etcd.Get(t.Context(), key, clientv3.WithPrefix())
			if err != nil || len(response.Kvs) != 1 {
				t.Fatalf("%v, %v", response, err)
			}
			stored := response.Kvs[0].Value
			if !bytes.Contains(stored, []byte("Mine")) {
				t.Fatalf("the condition of the client is not stored: %q", stored)
			}
			for _, derived := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
				if bytes.Contains(stored, []byte(derived)) {
					t.Errorf("%s is stored: %q", derived, stored)
				}
				if managed := fmt.Sprint(obj.GetManagedFields()); strings.Contains(managed, derived) {
					t.Errorf("%s has a manager: %s", derived, managed)
				}
			}
		})
	}
}

// TestObservedGenerationKeepsUp changes the spec of an allocated child, which no controller has to observe.
func TestObservedGenerationKeepsUp(t *testing.T) {
	namespace, _ := shared.setUp(t)
	obj := shared.Create(t, namespace, harness.PrefixKind, "{metadata: {name: late}, spec: {prefix: 10.0.7.0/24, parentRef: {name: parent}}}")
	shared.hold(t, obj, "parent", "10.0.7.0/24")
	shared.bind(t, namespace, harness.PrefixKind, "late", "{prefix: 10.0.7.0/24, parentRef: {name: parent}}").Must(t)
	obj = shared.Patch(t, obj, harness.MergePatch, "{spec: {prefixLength: 24}}").Must(t)
	if observed := harness.At(obj, "status.observedGeneration"); obj.GetGeneration() != 2 || observed != obj.GetGeneration() {
		t.Errorf("generation %d, observed %v", obj.GetGeneration(), observed)
	}
	isReady(t, "after the change", obj)
}
