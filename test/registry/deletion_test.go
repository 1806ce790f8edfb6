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

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// drop removes all finalizers.
const drop = "{metadata: {finalizers: null}}"

func (s server) delete(t *testing.T, obj *unstructured.Unstructured, options string) harness.Answer {
	t.Helper()
	k := harness.Kinds[slices.IndexFunc(harness.Kinds, func(k harness.Kind) bool { return k.Name == obj.GetKind() })]
	return s.Do(t, http.MethodDelete, harness.Path(obj.GetNamespace(), k, obj.GetName()), harness.JSON, options)
}

func (s server) exists(t *testing.T, namespace string, k harness.Kind, name string) bool {
	t.Helper()
	got := s.Do(t, http.MethodGet, harness.Path(namespace, k, name), harness.JSON, "")
	if got.Code != http.StatusOK && got.Code != http.StatusNotFound {
		t.Fatalf("got %d: %s", got.Code, got.Body)
	}
	return got.Code == http.StatusOK
}

func TestCreateSetsTheFinalizerOnce(t *testing.T) {
	for given, want := range map[string][]string{
		"":                                     {v1alpha1.PrefixFinalizer},
		"[]":                                   {v1alpha1.PrefixFinalizer},
		"[" + v1alpha1.PrefixFinalizer + "]":   {v1alpha1.PrefixFinalizer},
		"[example.com/a]":                      {"example.com/a", v1alpha1.PrefixFinalizer},
		"[ipam.ironcore.dev/prefix-allocator]": {"ipam.ironcore.dev/prefix-allocator", v1alpha1.PrefixFinalizer},
	} {
		namespace := harness.NewNamespace()
		manifest := "{metadata: {name: new, finalizers: " + given + "}, spec: {prefix: 10.9.0.0/16}}"
		if got := shared.Create(t, namespace, harness.PrefixKind, manifest).GetFinalizers(); !slices.Equal(got, want) {
			t.Errorf("%q became %q", given, got)
		}
		applied := shared.Apply(t, harness.NewNamespace(), harness.PrefixKind, "me", manifest, "new").Must(t)
		if got := applied.GetFinalizers(); !slices.Equal(got, want) {
			t.Errorf("%q applied became %q", given, got)
		}
	}
	if _, request := shared.setUp(t, "request"); request.GetFinalizers() != nil {
		t.Errorf("a PrefixAllocation has finalizers %q", request.GetFinalizers())
	}
}

func TestDeletionWaitsForTheFinalizer(t *testing.T) {
	for _, last := range []string{harness.MergePatch, harness.JSON, harness.Strategic} {
		namespace, root := shared.setUp(t, "root")
		deleting := shared.delete(t, root, "").Must(t)
		if deleting.GetDeletionTimestamp() == nil || !slices.Equal(deleting.GetFinalizers(), []string{v1alpha1.PrefixFinalizer}) {
			t.Fatalf("deletion left %v", deleting.Object["metadata"])
		}
		if again := shared.delete(t, root, "").Must(t); again.GetResourceVersion() != deleting.GetResourceVersion() {
			t.Errorf("deleting again wrote")
		}
		status := shared.write(t, deleting, harness.MergePatch, "{metadata: {finalizers: [ipam.ironcore.dev/prefix, example.com/late]}}").Refused(t, http.StatusUnprocessableEntity)
		if !slices.Equal(harness.Causes(status), []string{"metadata.finalizers"}) {
			t.Errorf("a late finalizer is refused for %q", harness.Causes(status))
		}
		shared.write(t, deleting, last, drop).Must(t)
		if shared.exists(t, namespace, harness.PrefixKind, "root") {
			t.Errorf("it is still there after %s of its finalizers", last)
		}
	}
	// The Prefix can be allocated while it is being deleted, and removed after that.
	namespace, root := shared.setUp(t, "root")
	shared.delete(t, root, "").Must(t)
	shared.write(t, root, harness.MergePatch, "{status: {phase: Allocated}}", "status").Must(t)
	shared.write(t, root, harness.MergePatch, drop).Must(t)
	if shared.exists(t, namespace, harness.PrefixKind, "root") {
		t.Error("it is still there")
	}
}

func TestDeletionPreconditions(t *testing.T) {
	for _, fixture := range []string{"root", "request", "request-allocated"} {
		k := fixtures[fixture].kind
		namespace, obj := shared.setUp(t, fixture)
		before := shared.snapshot(t, namespace)
		for _, precondition := range []string{"uid: 7d4cdfb4-0000-0000-0000-000000000000", "resourceVersion: '1'"} {
			shared.delete(t, obj, "{preconditions: {"+precondition+"}}").Refused(t, http.StatusConflict)
		}
		if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: the namespace changed", fixture)
		}
		shared.delete(t, obj, fmt.Sprintf("{preconditions: {uid: %s, resourceVersion: '%s'}}", obj.GetUID(), obj.GetResourceVersion())).Must(t)
		if k == harness.PrefixKind {
			shared.write(t, obj, harness.MergePatch, drop).Must(t)
		}
		if shared.exists(t, namespace, k, fixture) {
			t.Errorf("%s is still there", fixture)
		}
		shared.delete(t, obj, "").Refused(t, http.StatusNotFound)
	}
}

func TestDeleteCollection(t *testing.T) {
	namespace, _ := shared.setUp(t)
	for _, k := range harness.Kinds {
		for i, label := range []string{"go", "go", "stay"} {
			ref := map[harness.Kind]string{harness.PrefixKind: "parentRef", harness.AllocationKind: "prefixRef"}[k]
			shared.Create(t, namespace, k, fmt.Sprintf("{metadata: {name: a%d, labels: {will: %s}}, spec: {prefixLength: 24, %s: {name: parent}}}", i, label, ref))
		}
		shared.Do(t, http.MethodDelete, harness.Path(namespace, k)+"?labelSelector=will%3Dgo", harness.JSON, "").Must(t)
		left := []string{}
		for _, item := range shared.List(t, harness.Path(namespace, k)).Items {
			if item.GetDeletionTimestamp() == nil {
				left = append(left, item.GetName())
			}
		}
		if want := map[harness.Kind][]string{harness.PrefixKind: {"a2", "parent"}, harness.AllocationKind: {"a2"}}[k]; !slices.Equal(left, want) {
			t.Errorf("%s: %q are left, not %q", k.Name, left, want)
		}
	}
	if err := shared.Client.PrefixAllocations(namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "status.phase=Pending"}); err != nil {
		t.Error(err)
	}
	if left := shared.Names(t, harness.Path(namespace, harness.AllocationKind)); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// TestNothingWaitsForAGarbageCollector deletes objects that have the finalizers of the garbage collector, with
// every propagation policy. This server has no garbage collector. Only the other finalizers remain.
func TestNothingWaitsForAGarbageCollector(t *testing.T) {
	finalizers := []string{"[]", "[orphan]", "[foregroundDeletion]", "[example.com/wait, orphan]"}
	policies := []string{"", "{propagationPolicy: Orphan}", "{propagationPolicy: Foreground}", "{propagationPolicy: Background}", "{orphanDependents: true}", "{orphanDependents: false}"}
	for _, finalizers := range finalizers {
		for _, policy := range policies {
			for _, fixture := range []string{"root", "request", "request-allocated"} {
				what := fmt.Sprintf("%s with finalizers %s, deleted with %q", fixture, finalizers, policy)
				k := fixtures[fixture].kind
				namespace, obj := shared.setUp(t, fixture)
				shared.write(t, obj, harness.MergePatch, "{metadata: {finalizers: "+finalizers+"}}").Must(t)
				shared.delete(t, obj, policy).Must(t)
				var want []string
				if strings.Contains(finalizers, "example.com/wait") {
					want = append(want, "example.com/wait")
				}
				if k == harness.PrefixKind {
					want = append(want, v1alpha1.PrefixFinalizer)
				}
				if len(want) == 0 {
					if shared.exists(t, namespace, k, fixture) {
						t.Errorf("%s: it is still there", what)
					}
					continue
				}
				if left := shared.Get(t, namespace, k, fixture); left.GetDeletionTimestamp() == nil || !slices.Equal(left.GetFinalizers(), want) {
					t.Errorf("%s: it is left with finalizers %q, deletion %v", what, left.GetFinalizers(), left.GetDeletionTimestamp())
				}
				shared.write(t, obj, harness.MergePatch, drop).Must(t)
				if shared.exists(t, namespace, k, fixture) {
					t.Errorf("%s: it is still there without finalizers", what)
				}
			}
		}
	}
}

// TestWhatWaitedForAGarbageCollectorGoes writes objects to etcd in the state in which a cluster leaves them while
// its garbage collector is working. An object is removed when its last other finalizer is removed, or when it is
// deleted again.
func TestWhatWaitedForAGarbageCollectorGoes(t *testing.T) {
	for _, finalizer := range []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents} {
		for _, fixture := range []string{"root", "request-allocated"} {
			for _, again := range []bool{false, true} {
				k := fixtures[fixture].kind
				namespace, obj := shared.setUp(t, fixture)
				now := metav1.Now()
				obj.SetDeletionTimestamp(&now)
				seconds := int64(0)
				obj.SetDeletionGracePeriodSeconds(&seconds)
				obj.SetFinalizers([]string{finalizer, "example.com/wait"})
				key := apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/" + k.Resource + "/" + namespace + "/" + fixture
				written, err := shared.Etcd.Put(t.Context(), key, harness.Encode(t, obj.Object))
				if err != nil {
					t.Fatal(err)
				}
				// The watch cache may be stale.
				shared.Do(t, http.MethodGet, harness.Path(namespace, k)+fmt.Sprintf("?resourceVersion=%d", written.Header.Revision), harness.JSON, "").Must(t)
				last := "{metadata: {finalizers: [" + finalizer + "]}}"
				if again {
					// Only the finalizer of the garbage collector remains.
					obj.SetFinalizers([]string{finalizer})
					if _, err := shared.Etcd.Put(t.Context(), key, harness.Encode(t, obj.Object)); err != nil {
						t.Fatal(err)
					}
					shared.delete(t, obj, "").Must(t)
				} else {
					shared.write(t, obj, harness.MergePatch, last).Must(t)
				}
				if shared.exists(t, namespace, k, fixture) {
					t.Errorf("%s with finalizer %s, deleted again %v: it is still there", fixture, finalizer, again)
				}
			}
		}
	}
}

// TestAnAllocationThatAPrefixStandsOnIsNotDeleted tries to delete an allocation in each state of the child that it
// was created for.
func TestAnAllocationThatAPrefixStandsOnIsNotDeleted(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, child, allocation *unstructured.Unstructured)
		refused bool
	}{
		{"of a live child", func(*testing.T, *unstructured.Unstructured, *unstructured.Unstructured) {}, true},
		{"of a child that is being deleted", func(t *testing.T, child, _ *unstructured.Unstructured) {
			shared.delete(t, child, "").Must(t)
		}, true},
		{"of a child that is gone", func(t *testing.T, child, _ *unstructured.Unstructured) {
			shared.delete(t, child, "").Must(t)
			shared.write(t, child, harness.MergePatch, drop).Must(t)
		}, false},
		{"of a child that is gone, with another one of its name", func(t *testing.T, child, _ *unstructured.Unstructured) {
			shared.delete(t, child, "").Must(t)
			shared.write(t, child, harness.MergePatch, drop).Must(t)
			shared.Create(t, child.GetNamespace(), harness.PrefixKind, fixtures["child-allocated"].manifest)
		}, false},
	} {
		for _, collection := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, collection %v", test.name, collection), func(t *testing.T) {
				namespace, child := shared.setUp(t, "child-allocated")
				allocation := shared.Get(t, namespace, harness.AllocationKind, "child-allocated")
				test.prepare(t, child, allocation)
				before := shared.snapshot(t, namespace)
				remove := func() harness.Answer {
					if collection {
						return shared.Do(t, http.MethodDelete, harness.Path(namespace, harness.AllocationKind), harness.JSON, "")
					}
					return shared.delete(t, allocation, "")
				}
				if !test.refused {
					remove().Must(t)
					if shared.exists(t, namespace, harness.AllocationKind, "child-allocated") {
						t.Error("it is still there")
					}
					return
				}
				// The error names the Prefix, also for a deletion without a grace period.
				status := remove().Refused(t, http.StatusConflict)
				if want := "child-allocated"; status.Details == nil || status.Details.Name != want || !strings.Contains(status.Message, "Prefix "+want) || !strings.Contains(status.Message, "10.0.1.0/24") {
					t.Errorf("refused with %+v", status)
				}
				if !collection {
					shared.delete(t, allocation, "{gracePeriodSeconds: 0, propagationPolicy: Background}").Refused(t, http.StatusConflict)
				}
				if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
					t.Errorf("it was refused, but the namespace changed\nfrom %v\nto   %v", before, after)
				}
			})
		}
	}
}

func TestAnAllocationThatNothingStandsOnIsDeleted(t *testing.T) {
	for _, fixture := range []string{"request", "request-allocated", "request-failed"} {
		namespace, obj := shared.setUp(t, fixture)
		shared.delete(t, obj, "").Must(t)
		if shared.exists(t, namespace, harness.AllocationKind, fixture) {
			t.Errorf("%s is still there", fixture)
		}
	}
	// The allocation is for a child that is still Pending.
	namespace, child := shared.setUp(t, "child")
	shared.delete(t, shared.hold(t, child, "parent", "10.0.4.0/24"), "").Must(t)
	if shared.exists(t, namespace, harness.AllocationKind, "child") {
		t.Error("what a pending child would stand on is still there")
	}
	// This one has an owner reference to an allocated child. It is not bound for that child, which has its own
	// range.
	namespace, child = shared.setUp(t, "child-allocated")
	other := shared.Create(t, namespace, harness.AllocationKind, fmt.Sprintf("{metadata: {name: other, ownerReferences: [{apiVersion: %s, kind: Prefix, name: child-allocated, uid: %s, controller: true}]}, "+
		"spec: {prefix: 10.0.8.0/24, prefixRef: {name: parent}}}", harness.GroupVersion, child.GetUID()))
	shared.bind(t, namespace, harness.AllocationKind, "other", "{prefix: 10.0.8.0/24, prefixRef: {name: parent}}").Refused(t, http.StatusConflict)
	shared.delete(t, other, "").Must(t)
}

func TestTypedDeleteTellsAConflict(t *testing.T) {
	namespace, _ := shared.setUp(t, "child-allocated")
	err := shared.Client.PrefixAllocations(namespace).Delete(t.Context(), "child-allocated", metav1.DeleteOptions{})
	if !apierrors.IsConflict(err) {
		t.Errorf("got %v", err)
	}
}
