// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// TestContentTypes has JSON, YAML and protobuf spoken in both directions, and everything else refused by
// name.
func TestContentTypes(t *testing.T) {
	namespace := newNamespace()
	for _, k := range kinds {
		shared.create(t, namespace, k, manifestFor(k, "a"))
		for accept, want := range map[string]string{
			jsonType:                      jsonType,
			yamlType:                      yamlType,
			"*/*":                         jsonType,
			protobufType + "," + jsonType: protobufType,
			protobufType:                  protobufType,
			"application/cbor":            "",
			"text/html":                   "",
			jsonType + ";as=Table;v=v1;g=meta.k8s.io":                 jsonType,
			yamlType + ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io": yamlType,
			// Nobody writes tables in protobuf.
			protobufType + ";as=Table;v=v1;g=meta.k8s.io": "",
		} {
			for _, below := range [][]string{nil, {"a"}, {"a", "status"}} {
				if strings.Contains(accept, "PartialObjectMetadata") && below == nil {
					continue
				}
				p := path(namespace, k, below...)
				got := shared.raw(t, http.MethodGet, p, "", nil, accept)
				if want == "" {
					if got.code != http.StatusNotAcceptable || !strings.Contains(string(got.body), jsonType) {
						t.Errorf("%s as %s: got %d: %s", p, accept, got.code, got.body)
					}
					continue
				}
				if got.code != http.StatusOK || got.header.Get("Content-Type") != want {
					t.Errorf("%s as %s: got %d, %s: %s", p, accept, got.code, got.header.Get("Content-Type"), got.body)
					continue
				}
				if want == protobufType {
					if !bytes.HasPrefix(got.body, []byte("k8s\x00")) {
						t.Errorf("%s as %s: got %q", p, accept, got.body)
					}
					continue
				}
				kind := got.must(t).GetKind()
				if expected := strings.Contains(accept, "as=Table"); expected != (kind == "Table") {
					t.Errorf("%s as %s: got a %s", p, accept, kind)
				}
			}
		}
		for _, contentType := range []string{"application/cbor", "text/plain"} {
			status := shared.raw(t, http.MethodPost, path(namespace, k), contentType, []byte("k8s\x00")).refused(t, http.StatusUnsupportedMediaType)
			if status.Reason != metav1.StatusReasonUnsupportedMediaType || !strings.Contains(status.Message, jsonType) {
				t.Errorf("%s: it is refused with %s: %s", contentType, status.Reason, status.Message)
			}
		}
		for _, body := range []string{"", "k8s\x00", "k8s\x00\xff\xff", `{"kind":"Prefix"}`} {
			shared.raw(t, http.MethodPost, path(namespace, k), protobufType, []byte(body)).refused(t, http.StatusBadRequest)
		}
		// A patch of a type that is none.
		shared.raw(t, http.MethodPatch, path(namespace, k, "a"), jsonType, []byte("{}")).refused(t, http.StatusUnsupportedMediaType)
	}
}

// TestMetadataClient is what garbage collector and namespace controller use: it would like protobuf.
func TestMetadataClient(t *testing.T) {
	namespace := newNamespace()
	client, err := metadata.NewForConfig(metadata.ConfigFor(shared.Config))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		resource := client.Resource(schema.GroupVersionResource{Group: "ipam.ironcore.dev", Version: "v1alpha1", Resource: k.resource}).Namespace(namespace)
		created := shared.create(t, namespace, k, manifestFor(k, "a"))
		read, err := resource.Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil || read.UID != created.GetUID() {
			t.Errorf("%s: got %v: %v", k.name, read, err)
		}
		list, err := resource.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || list.Items[0].UID != created.GetUID() {
			t.Errorf("%s: got %v: %v", k.name, list, err)
		}
		watcher, err := resource.Watch(t.Context(), metav1.ListOptions{ResourceVersion: created.GetResourceVersion()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resource.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		uid := created.GetUID()
		if err := resource.Delete(t.Context(), "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		event := <-watcher.ResultChan()
		watcher.Stop()
		if object, ok := event.Object.(*metav1.PartialObjectMetadata); !ok || object.UID != created.GetUID() {
			t.Errorf("%s: the watch shows %s %v", k.name, event.Type, event.Object)
		}
		err = resource.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

// TestFieldValidation sends a field that does not exist, and one that is there twice.
func TestFieldValidation(t *testing.T) {
	for contentType, body := range map[string]string{
		jsonType: `{"metadata":{"name":"NAME"},"spec":{"prefix":"10.0.0.0/8","prefix":"10.0.0.0/8","colour":"red","parentRef":{"name":"parent"},"prefixRef":{"name":"parent"}}}`,
		yamlType: "metadata:\n  name: NAME\nspec:\n  prefix: 10.0.0.0/8\n  prefix: 10.0.0.0/8\n  colour: red\n  parentRef: {name: parent}\n  prefixRef: {name: parent}\n",
	} {
		for _, k := range kinds {
			namespace := newNamespace()
			send := func(validation string) answer {
				name := "of" + strings.ToLower(validation)
				if validation != "" {
					validation = "?fieldValidation=" + validation
				}
				return shared.raw(t, http.MethodPost, path(namespace, k)+validation, contentType, []byte(strings.ReplaceAll(body, "NAME", name)))
			}
			refused := send("Strict").refused(t, http.StatusBadRequest)
			if !strings.Contains(refused.Message, "colour") || !strings.Contains(refused.Message, "prefix") {
				t.Errorf("%s %s: refused with %s", k.name, contentType, refused.Message)
			}
			if l := shared.list(t, path(namespace, k)); len(l.Items) != 0 {
				t.Errorf("%s %s: it was refused, but %q is stored", k.name, contentType, l.names())
			}
			for validation, warns := range map[string]bool{"Warn": true, "Ignore": false, "": true} {
				got := send(validation)
				created := got.must(t)
				if warning := strings.Join(got.header.Values("Warning"), " "); strings.Contains(warning, "colour") != warns {
					t.Errorf("%s %s: %q warns with %q", k.name, contentType, validation, warning)
				}
				if _, has := created.Object["spec"].(map[string]any)["colour"]; has {
					t.Errorf("%s %s: it has a colour", k.name, contentType)
				}
			}
			status := shared.raw(t, http.MethodPost, path(namespace, k)+"?fieldValidation=Perhaps", contentType, []byte(body)).refused(t, http.StatusUnprocessableEntity)
			if !strings.Contains(status.Message, "fieldValidation") {
				t.Errorf("%s %s: refused with %s", k.name, contentType, status.Message)
			}
		}
	}
}

// TestDryRun has every write answer as if it had been done, and store nothing.
func TestDryRun(t *testing.T) {
	for _, subject := range subjects {
		t.Run(subject.name, func(t *testing.T) {
			namespace := newNamespace()
			before := shared.create(t, namespace, subject.kind, subject.manifest)
			labelled := before.DeepCopy()
			labelled.SetLabels(map[string]string{"dry": "run"})
			conditioned := before.DeepCopy()
			conditioned.Object["status"] = parse(t, "{phase: Pending, conditions: ["+conditionOf("Dry", "run")+"]}")
			one := path(namespace, subject.kind, "new")
			for _, test := range []struct {
				name, method, path, contentType string
				body                            any
				// field of the answer is not what it is in the store.
				field string
			}{
				{"create", http.MethodPost, path(namespace, subject.kind), jsonType, parse(t, manifestFor(subject.kind, "other")), "metadata.name"},
				{"put", http.MethodPut, one, jsonType, labelled.Object, "metadata.labels"},
				{"put of the status", http.MethodPut, one + "/status", jsonType, conditioned.Object, "status.conditions"},
				{"merge patch", http.MethodPatch, one, mergePatch, parse(t, "{spec: {"+subject.ref+": {name: parent}}}"), "spec"},
				{"strategic merge patch", http.MethodPatch, one + "/status", strategic, parse(t, "{status: {conditions: ["+conditionOf("Dry", "run")+"]}}"), "status.conditions"},
				{"JSON patch", http.MethodPatch, one, jsonPatch, parse(t, "[{op: remove, path: /metadata/labels}]"), "metadata.labels"},
				{"apply", http.MethodPatch, one, applyPatch, parse(t, "{apiVersion: "+groupVersion+", kind: "+subject.name+", metadata: {name: new, labels: {dry: run}}}"), "metadata.labels"},
				{"apply that creates", http.MethodPatch, path(namespace, subject.kind, "other"), applyPatch,
					parse(t, "{apiVersion: "+groupVersion+", kind: "+subject.name+", metadata: {name: other}, spec: {ipFamily: IPv4, prefixLength: 24, "+subject.ref+": {name: parent}}}"), "metadata.name"},
				{"delete", http.MethodDelete, one, jsonType, nil, ""},
				{"delete of all", http.MethodDelete, path(namespace, subject.kind), jsonType, nil, ""},
			} {
				var body []byte
				if test.body != nil {
					body = encode(t, test.body)
				}
				got := shared.raw(t, test.method, test.path+"?dryRun=All&fieldManager=me", test.contentType, body).must(t)
				if test.field != "" && string(encode(t, at(got, test.field))) == string(encode(t, at(before, test.field))) {
					t.Errorf("%s: the answer has the old %s", test.name, test.field)
				}
				l := shared.list(t, path(namespace, subject.kind))
				if len(l.Items) != 1 {
					t.Fatalf("%s: the namespace has %q", test.name, l.names())
				}
				unwritten(t, before, &unstructured.Unstructured{Object: l.Items[0]})
			}
			// What would be refused is refused.
			shared.raw(t, http.MethodPatch, one+"?dryRun=All", mergePatch, []byte(`{"spec":{"prefixLength":25}}`)).refused(t, http.StatusUnprocessableEntity)
		})
	}
}
