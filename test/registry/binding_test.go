// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	bindChild   = "{prefix: 10.0.4.0/24, parentRef: {name: parent}}"
	bindRequest = "{prefix: 10.0.4.0/24, prefixRef: {name: parent}}"
)

// bindable prepares a fixture so that 10.0.4.0/24 of the parent can be bound to it.
func (s server) bindable(t *testing.T, fixture string) (namespace string, obj *unstructured.Unstructured) {
	t.Helper()
	namespace, obj = s.setUp(t, fixture)
	if obj.GetKind() == harness.PrefixKind.Name {
		s.hold(t, obj, "parent", "10.0.4.0/24")
	}
	return namespace, obj
}

func TestBindingWritesEverythingAtOnce(t *testing.T) {
	for _, test := range []struct {
		fixture, binding string
		want             map[string]any
	}{
		{"child", bindChild, map[string]any{"spec.prefix": "10.0.4.0/24", "spec.parentRef.name": "parent", "spec.ipFamily": "IPv4", "spec.prefixLength": int64(24),
			"status.phase": "Allocated", "status.usage.free": "256", "status.observedGeneration": int64(2)}},
		{"child-by-ref", bindChild, map[string]any{"spec.prefix": "10.0.4.0/24", "spec.parentRef.name": "parent", "spec.parentSelector": nil, "status.phase": "Allocated"}},
		{"request", bindRequest, map[string]any{"spec.prefix": nil, "spec.prefixRef.name": "parent", "status.prefix": "10.0.4.0/24", "status.phase": "Allocated"}},
		{"request-by-ref", bindRequest, map[string]any{"spec.prefixRef.name": "parent", "status.prefix": "10.0.4.0/24", "status.phase": "Allocated"}},
	} {
		t.Run(test.fixture, func(t *testing.T) {
			namespace, before := shared.bindable(t, test.fixture)
			k := fixtures[test.fixture].kind
			var events []string
			watcher := shared.Watch(t, harness.Path(namespace, k)+"?resourceVersion="+before.GetResourceVersion())
			bound := shared.bind(t, namespace, k, test.fixture, test.binding).Must(t)
			for field, want := range test.want {
				if got := harness.At(bound, field); got != want {
					t.Errorf("%s is %v, not %v", field, got, want)
				}
			}
			if bound.GetKind() != k.Name || bound.GetUID() != before.GetUID() || harness.At(bound, "status.lastPhaseTransitionTime") == nil {
				t.Errorf("the answer is %v", bound)
			}
			if stored := shared.Get(t, namespace, k, test.fixture); !reflect.DeepEqual(stored.Object, bound.Object) {
				t.Errorf("stored is\n%v\nbut the answer was\n%v", stored, bound)
			}
			harness.Same(t, before, bound, "metadata.name", "metadata.finalizers", "metadata.creationTimestamp")

			// No reader has seen an intermediate state.
			for event := range watcher {
				if event.Object.GetName() != test.fixture {
					continue
				}
				events = append(events, fmt.Sprint(event.Type, harness.At(event.Object, "status.phase")))
				if event.Object.GetResourceVersion() == bound.GetResourceVersion() {
					break
				}
			}
			if want := []string{"MODIFIEDAllocated"}; !slices.Equal(events, want) {
				t.Errorf("a watch saw %q", events)
			}

			// After a lost response the binding can be repeated, also with the uid.
			for _, again := range []string{test.binding, fmt.Sprintf("{metadata: {name: %s, uid: %s}, %s", test.fixture, bound.GetUID(), test.binding[1:])} {
				if repeated := shared.bind(t, namespace, k, test.fixture, again).Must(t); !reflect.DeepEqual(repeated.Object, bound.Object) {
					t.Errorf("bound again it is\n%v\nnot\n%v", repeated, bound)
				}
			}
			// This also works while the object is being deleted.
			shared.write(t, bound, harness.MergePatch, "{metadata: {finalizers: [example.com/test]}}").Must(t)
			deleting := shared.Do(t, http.MethodDelete, harness.Path(namespace, k, test.fixture), harness.JSON, "").Must(t)
			if repeated := shared.bind(t, namespace, k, test.fixture, test.binding).Must(t); repeated.GetResourceVersion() != deleting.GetResourceVersion() {
				t.Errorf("bound again it is %v", repeated)
			}
		})
	}
}

func TestBindingThatContradictsIsRefusedAndChangesNothing(t *testing.T) {
	const otherUID = "7d4cdfb4-0000-0000-0000-000000000000"
	for _, test := range []struct {
		name, fixture string
		// prepare is one of "delete", "another parent" or empty.
		prepare, binding string
		code             int
		fields           []string
		message          string
	}{
		{name: "another prefix than the child has", fixture: "child-allocated", binding: bindChild, code: 409, message: "10.0.1.0/24"},
		{name: "another parent than the child has", fixture: "child-allocated", prepare: "another parent", binding: "{prefix: 10.0.1.0/24, parentRef: {name: another}}", code: 409, message: "parent"},
		{name: "another prefix than the request has", fixture: "request-allocated", binding: bindRequest, code: 409, message: "10.0.2.0/24"},
		{name: "another parent than the request has", fixture: "request-allocated", prepare: "another parent", binding: "{prefix: 10.0.2.0/24, prefixRef: {name: another}}", code: 409, message: "10.0.2.0/24"},
		{name: "a request that has failed", fixture: "request-failed", binding: bindRequest, code: 409, message: "failed"},
		{name: "a root", fixture: "root", binding: bindChild, code: 409, message: "root"},
		{name: "an allocated root", fixture: "parent", binding: "{prefix: 10.0.0.0/16, parentRef: {name: other}}", code: 409, message: "root"},
		{name: "a child that is being deleted", fixture: "child", prepare: "delete", binding: bindChild, code: 409, message: "being deleted"},
		{name: "a request that is being deleted", fixture: "request", prepare: "delete", binding: bindRequest, code: 409, message: "being deleted"},
		{name: "another uid of a child", fixture: "child", binding: "{metadata: {uid: " + otherUID + "}, " + bindChild[1:], code: 409, message: otherUID},
		{name: "another uid of a request", fixture: "request", binding: "{metadata: {uid: " + otherUID + "}, " + bindRequest[1:], code: 409, message: otherUID},
		{name: "another uid of an allocated child", fixture: "child-allocated", binding: "{metadata: {uid: " + otherUID + "}, prefix: 10.0.1.0/24, parentRef: {name: parent}}", code: 409, message: otherUID},
		{name: "another uid of the parent of a child", fixture: "child", binding: "{prefix: 10.0.4.0/24, parentRef: {name: parent, uid: " + otherUID + "}}", code: 409, message: otherUID},
		{name: "another uid of the parent of a request", fixture: "request", binding: "{prefix: 10.0.4.0/24, prefixRef: {name: parent, uid: " + otherUID + "}}", code: 409, message: otherUID},
		{name: "another name of a child", fixture: "child", binding: "{metadata: {name: other}, " + bindChild[1:], code: 400, message: `"other"`},
		{name: "another name of a request", fixture: "request", binding: "{metadata: {name: other}, " + bindRequest[1:], code: 400, message: `"other"`},
		{name: "another namespace", fixture: "request", binding: "{metadata: {namespace: other}, " + bindRequest[1:], code: 400},
		{name: "another length of a child", fixture: "child", binding: "{prefix: 10.0.4.0/25, parentRef: {name: parent}}", code: 422, fields: []string{"spec.prefixLength"}},
		{name: "another family of a child", fixture: "child", binding: "{prefix: '2001:d00::/24', parentRef: {name: parent}}", code: 422, fields: []string{"spec.prefix"}, message: "IPv4"},
		{name: "another prefix than the child asked for", fixture: "child-static", binding: bindChild, code: 422, fields: []string{"spec.prefix"}, message: "10.0.3.0/24"},
		{name: "another parent than the child asked for", fixture: "child-by-ref", binding: "{prefix: 10.0.4.0/24, parentRef: {name: another}}", code: 422, fields: []string{"spec.parentRef"}, message: "parent"},
		{name: "another length of a request", fixture: "request", binding: "{prefix: 10.0.4.0/25, prefixRef: {name: parent}}", code: 422, fields: []string{"status.prefix"}, message: "/24"},
		{name: "another family of a request", fixture: "request", binding: "{prefix: '2001:d00::/24', prefixRef: {name: parent}}", code: 422, fields: []string{"status.prefix"}, message: "IPv4"},
		{name: "another prefix than the request asked for", fixture: "request-static", binding: bindRequest, code: 422, fields: []string{"status.prefix"}, message: "10.0.3.0/24"},
		{name: "another parent than the request asked for", fixture: "request-by-ref", binding: "{prefix: 10.0.4.0/24, prefixRef: {name: another}}", code: 422, fields: []string{"spec.prefixRef"}, message: "parent"},
		{name: "the kind of another binding", fixture: "child", binding: "{apiVersion: " + harness.GroupVersion + ", kind: PrefixAllocationBinding, " + bindRequest[1:], code: 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var names []string
			if test.fixture != "parent" {
				names = append(names, test.fixture)
			}
			namespace, obj := shared.setUp(t, names...)
			k := fixtures[test.fixture].kind
			switch test.prepare {
			case "delete":
				shared.write(t, obj, harness.MergePatch, "{metadata: {finalizers: [example.com/test]}}").Must(t)
				shared.Do(t, http.MethodDelete, harness.Path(namespace, k, test.fixture), harness.JSON, "").Must(t)
			case "another parent":
				another := shared.Create(t, namespace, harness.PrefixKind, "{metadata: {name: another}, spec: {prefix: 10.0.0.0/16}}")
				shared.write(t, another, harness.MergePatch, "{status: {phase: Allocated}}", "status").Must(t)
			}
			before := shared.snapshot(t, namespace)
			status := shared.bind(t, namespace, k, test.fixture, test.binding).Refused(t, test.code)
			if got := harness.Causes(status); !slices.Equal(got, test.fields) && len(got)+len(test.fields) > 0 {
				t.Errorf("refused for %q, not %q", got, test.fields)
			}
			if !strings.Contains(status.Message, test.message) {
				t.Errorf("%q does not say %q", status.Message, test.message)
			}
			if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
				t.Errorf("it was refused, but the namespace changed\nfrom %v\nto   %v", before, after)
			}
		})
	}
}

func TestBindingOfNothingIsNotFound(t *testing.T) {
	namespace, _ := shared.setUp(t)
	for k, binding := range map[harness.Kind]string{harness.PrefixKind: bindChild, harness.AllocationKind: bindRequest} {
		status := shared.bind(t, namespace, k, "nothing", binding).Refused(t, http.StatusNotFound)
		if status.Details == nil || status.Details.Name != "nothing" || status.Details.Kind != k.Resource {
			t.Errorf("%s: %+v", k.Name, status)
		}
	}
}

func TestBindingTakesNothingButPost(t *testing.T) {
	for fixture, binding := range map[string]string{"child": bindChild, "request": bindRequest} {
		namespace, _ := shared.bindable(t, fixture)
		before := shared.snapshot(t, namespace)
		p := harness.Path(namespace, fixtures[fixture].kind, fixture, "binding")
		for method, contentType := range map[string]string{http.MethodGet: harness.JSON, http.MethodPut: harness.JSON, http.MethodPatch: harness.MergePatch, http.MethodDelete: harness.JSON} {
			body := binding
			if method == http.MethodGet || method == http.MethodDelete {
				body = ""
			}
			if got := shared.Do(t, method, p, contentType, body); got.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s of %s: got %d: %s", method, fixture, got.Code, got.Body)
			}
		}
		if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: the namespace changed", fixture)
		}
	}
}

// TestDryRunWritesNothing sends every kind of write as a dry run.
func TestDryRunWritesNothing(t *testing.T) {
	for fixture, binding := range map[string]string{"child": bindChild, "request": bindRequest} {
		k := fixtures[fixture].kind
		for _, test := range []struct {
			name, method, contentType, body string
			below                           []string
			field                           string
			want                            any
		}{
			{"binding", http.MethodPost, harness.JSON, binding, []string{fixture, "binding"}, "status.phase", "Allocated"},
			{"create", http.MethodPost, harness.JSON, strings.Replace(fixtures[fixture].manifest, "{name: "+fixture, "{name: new", 1), nil, "status.phase", "Pending"},
			{"patch", http.MethodPatch, harness.MergePatch, "{metadata: {labels: {a: b}}}", []string{fixture}, "metadata.labels.a", "b"},
			{"status", http.MethodPatch, harness.MergePatch, "{status: {conditions: []}}", []string{fixture, "status"}, "status.phase", "Pending"},
			{"delete", http.MethodDelete, harness.JSON, "", []string{fixture}, "", nil},
		} {
			t.Run(fixture+" "+test.name, func(t *testing.T) {
				namespace, _ := shared.bindable(t, fixture)
				before := shared.snapshot(t, namespace)
				got := shared.Do(t, test.method, harness.Path(namespace, k, test.below...)+"?dryRun=All", test.contentType, test.body).Must(t)
				if test.field != "" && harness.At(got, test.field) != test.want {
					t.Errorf("the answer has %s %v", test.field, harness.At(got, test.field))
				}
				if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
					t.Errorf("the namespace changed\nfrom %v\nto   %v", before, after)
				}
			})
		}
	}
}

// TestOneOfManyBindingsWins sends many bindings of one object concurrently.
func TestOneOfManyBindingsWins(t *testing.T) {
	namespace, _ := shared.setUp(t, "request")
	codes := make([]int, 16)
	var group sync.WaitGroup
	for i := range codes {
		group.Go(func() {
			codes[i] = shared.bind(t, namespace, harness.AllocationKind, "request", fmt.Sprintf("{prefix: 10.0.%d.0/24, prefixRef: {name: parent}}", 100+i)).Code
		})
	}
	group.Wait()
	prefix := harness.At(shared.Get(t, namespace, harness.AllocationKind, "request"), "status.prefix")
	won := slices.Index(codes, http.StatusCreated)
	for i, code := range codes {
		if i != won && code != http.StatusConflict {
			t.Errorf("got codes %v", codes)
		}
	}
	if want := fmt.Sprintf("10.0.%d.0/24", 100+won); prefix != want {
		t.Errorf("it has %v, but %v won with codes %v", prefix, want, codes)
	}
}

func TestTypedBind(t *testing.T) {
	namespace, obj := shared.bindable(t, "child")
	meta := v1alpha1.BindingMeta{Name: "child", UID: obj.GetUID()}
	parent, err := shared.Client.Prefixes(namespace).Get(t.Context(), "parent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ref := v1alpha1.BindingReference{Name: parent.Name, UID: parent.UID}
	prefix, err := shared.Client.Prefixes(namespace).Bind(t.Context(), "child", &v1alpha1.PrefixBinding{Metadata: meta, Prefix: "10.0.4.0/24", ParentRef: ref}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated || prefix.Spec.Prefix != "10.0.4.0/24" || prefix.Spec.ParentRef.Name != "parent" {
		t.Errorf("got %+v", prefix)
	}

	request := fixtures["request"]
	meta = v1alpha1.BindingMeta{Name: "request", UID: shared.Create(t, namespace, request.kind, request.manifest).GetUID()}
	allocation, err := shared.Client.PrefixAllocations(namespace).Bind(t.Context(), "request", &v1alpha1.PrefixAllocationBinding{Metadata: meta, Prefix: "10.0.5.0/24", PrefixRef: ref}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if allocation.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || allocation.Status.Prefix != "10.0.5.0/24" || allocation.Spec.PrefixRef.Name != "parent" {
		t.Errorf("got %+v", allocation)
	}
}

// TestDryRunOfABindingIsRefusedLikeTheBinding sends invalid bindings, first as a dry run.
func TestDryRunOfABindingIsRefusedLikeTheBinding(t *testing.T) {
	for _, test := range []struct {
		fixture, binding string
		code             int
		word             string
	}{
		{"request", "{prefix: 10.0.1.0/24, prefixRef: {name: parent}}", http.StatusConflict, "overlaps 10.0.1.0/24"},
		{"request", "{prefix: 10.1.1.0/24, prefixRef: {name: parent}}", http.StatusUnprocessableEntity, "strictly inside"},
		{"request", "{prefix: 10.0.9.0/24, prefixRef: {name: nobody}}", http.StatusConflict, "does not exist"},
		{"request", "{prefix: 10.0.9.0/24, prefixRef: {name: parent, uid: another}}", http.StatusConflict, "uid another"},
		{"child", "{prefix: 10.0.9.0/24, parentRef: {name: parent}}", http.StatusConflict, "none of its PrefixAllocations holds"},
	} {
		namespace, _ := shared.setUp(t, "child-allocated", test.fixture)
		where := harness.Path(namespace, fixtures[test.fixture].kind, test.fixture, "binding")
		for _, query := range []string{"?dryRun=All", ""} {
			before := shared.snapshot(t, namespace)
			status := shared.Do(t, http.MethodPost, where+query, harness.JSON, test.binding).Refused(t, test.code)
			if !strings.Contains(status.Message, test.word) {
				t.Errorf("%s%s: %s", test.fixture, query, status.Message)
			}
			if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
				t.Errorf("%s%s: it was refused, but the namespace changed\nfrom %v\nto   %v", test.fixture, query, before, after)
			}
		}
	}
	// An existing binding can be repeated, also as a dry run.
	namespace, _ := shared.setUp(t, "request-allocated")
	shared.Do(t, http.MethodPost, harness.Path(namespace, harness.AllocationKind, "request-allocated", "binding")+"?dryRun=All", harness.JSON, fixtures["request-allocated"].binding).Must(t)
}

// TestARefusalRepeatsOnlyWhatCanBeAName requests a prefix that is held by a Prefix with a controller reference. The
// error names that controller, unless it is not a valid name.
func TestARefusalRepeatsOnlyWhatCanBeAName(t *testing.T) {
	t.Parallel()
	for owner, want := range map[string]string{
		"machine-1":                 "Prefix child-allocated of Machine machine-1 holds",
		strings.Repeat("x", 31<<10): "Prefix child-allocated holds",
		"a\n\x1b[31m":               "Prefix child-allocated holds",
	} {
		namespace, child := shared.setUp(t, "child-allocated")
		held, _, err := unstructured.NestedString(child.Object, "spec", "prefix")
		if err != nil {
			t.Fatal(err)
		}
		child = shared.write(t, child, harness.MergePatch, fmt.Sprintf(
			"{metadata: {ownerReferences: [{apiVersion: example.com/v1, kind: Machine, name: %q, uid: u, controller: true}]}}", owner)).Must(t)
		// The error is based on the watch cache, which must have the object.
		shared.Do(t, http.MethodGet, harness.Path(namespace, harness.PrefixKind, child.GetName())+"?resourceVersion="+child.GetResourceVersion(), harness.JSON, "").Must(t)
		shared.Create(t, namespace, harness.AllocationKind, fmt.Sprintf("{metadata: {name: other}, spec: {prefix: %q, prefixRef: {name: parent}}}", held))
		status := shared.bind(t, namespace, harness.AllocationKind, "other", fmt.Sprintf("{prefix: %q, prefixRef: {name: parent}}", held)).Refused(t, http.StatusConflict)
		if !strings.Contains(status.Message, want) {
			t.Errorf("%.20q: got %.300q", owner, status.Message)
		}
	}
}
