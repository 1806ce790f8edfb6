// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// TestContentTypes sends and accepts JSON, YAML and protobuf. All other content types are rejected with an error
// that names the supported ones.
func TestContentTypes(t *testing.T) {
	namespace := harness.NewNamespace()
	for _, k := range harness.Kinds {
		shared.Create(t, namespace, k, manifestFor(k, "a"))
		for accept, want := range map[string]string{
			harness.JSON:                          harness.JSON,
			harness.YAML:                          harness.YAML,
			"*/*":                                 harness.JSON,
			harness.Protobuf + "," + harness.JSON: harness.Protobuf,
			harness.Protobuf:                      harness.Protobuf,
			"application/cbor":                    "",
			"text/html":                           "",
			harness.JSON + ";as=Table;v=v1;g=meta.k8s.io":                 harness.JSON,
			harness.YAML + ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io": harness.YAML,
			// Tables are not available in protobuf.
			harness.Protobuf + ";as=Table;v=v1;g=meta.k8s.io": "",
		} {
			for _, below := range [][]string{nil, {"a"}, {"a", "status"}} {
				if strings.Contains(accept, "PartialObjectMetadata") && below == nil {
					continue
				}
				p := harness.Path(namespace, k, below...)
				got := shared.Raw(t, http.MethodGet, p, "", "", accept)
				if want == "" {
					if got.Code != http.StatusNotAcceptable || !strings.Contains(string(got.Body), harness.JSON) {
						t.Errorf("%s as %s: got %d: %s", p, accept, got.Code, got.Body)
					}
					continue
				}
				if got.Code != http.StatusOK || got.Header.Get("Content-Type") != want {
					t.Errorf("%s as %s: got %d, %s: %s", p, accept, got.Code, got.Header.Get("Content-Type"), got.Body)
					continue
				}
				if want == harness.Protobuf {
					if !bytes.HasPrefix(got.Body, []byte("k8s\x00")) {
						t.Errorf("%s as %s: got %q", p, accept, got.Body)
					}
					continue
				}
				kind := got.Must(t).GetKind()
				if expected := strings.Contains(accept, "as=Table"); expected != (kind == "Table") {
					t.Errorf("%s as %s: got a %s", p, accept, kind)
				}
			}
		}
		for _, contentType := range []string{"application/cbor", "text/plain"} {
			status := shared.Raw(t, http.MethodPost, harness.Path(namespace, k), contentType, "k8s\x00").Refused(t, http.StatusUnsupportedMediaType)
			if status.Reason != metav1.StatusReasonUnsupportedMediaType || !strings.Contains(status.Message, harness.JSON) {
				t.Errorf("%s: it is refused with %s: %s", contentType, status.Reason, status.Message)
			}
		}
		for _, body := range []string{"", "k8s\x00", "k8s\x00\xff\xff", `{"kind":"Prefix"}`} {
			shared.Raw(t, http.MethodPost, harness.Path(namespace, k), harness.Protobuf, body).Refused(t, http.StatusBadRequest)
		}
		// This is not a type of patch.
		shared.Raw(t, http.MethodPatch, harness.Path(namespace, k, "a"), harness.JSON, "{}").Refused(t, http.StatusUnsupportedMediaType)
	}
}

// TestMetadataClient uses the client of the garbage collector and the namespace controller, which prefers protobuf.
func TestMetadataClient(t *testing.T) {
	namespace := harness.NewNamespace()
	client, err := metadata.NewForConfig(metadata.ConfigFor(shared.Config))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range harness.Kinds {
		resource := client.Resource(schema.GroupVersionResource{Group: "ipam.ironcore.dev", Version: "v1alpha1", Resource: k.Resource}).Namespace(namespace)
		created := shared.Create(t, namespace, k, manifestFor(k, "a"))
		read, err := resource.Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil || read.UID != created.GetUID() {
			t.Errorf("%s: got %v: %v", k.Name, read, err)
		}
		list, err := resource.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || list.Items[0].UID != created.GetUID() {
			t.Errorf("%s: got %v: %v", k.Name, list, err)
		}
		watcher, err := resource.Watch(t.Context(), metav1.ListOptions{ResourceVersion: created.GetResourceVersion()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resource.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		uid := created.GetUID()
		if err := resource.Delete(t.Context(), "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		event := <-watcher.ResultChan()
		watcher.Stop()
		if object, ok := event.Object.(*metav1.PartialObjectMetadata); !ok || object.UID != created.GetUID() {
			t.Errorf("%s: the watch shows %s %v", k.Name, event.Type, event.Object)
		}
		err = resource.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
}

// TestFieldValidation sends an unknown field and a duplicate field.
func TestFieldValidation(t *testing.T) {
	for contentType, body := range map[string]string{
		harness.JSON: `{"metadata":{"name":"NAME"},"spec":{"prefix":"10.0.0.0/8","prefix":"10.0.0.0/8","colour":"red","parentRef":{"name":"parent"},"prefixRef":{"name":"parent"}}}`,
		harness.YAML: "metadata:\n  name: NAME\nspec:\n  prefix: 10.0.0.0/8\n  prefix: 10.0.0.0/8\n  colour: red\n  parentRef: {name: parent}\n  prefixRef: {name: parent}\n",
	} {
		for _, k := range harness.Kinds {
			namespace := harness.NewNamespace()
			send := func(validation string) harness.Answer {
				name := "of" + strings.ToLower(validation)
				if validation != "" {
					validation = "?fieldValidation=" + validation
				}
				return shared.Raw(t, http.MethodPost, harness.Path(namespace, k)+validation, contentType, strings.ReplaceAll(body, "NAME", name))
			}
			refused := send("Strict").Refused(t, http.StatusBadRequest)
			if !strings.Contains(refused.Message, "colour") || !strings.Contains(refused.Message, "prefix") {
				t.Errorf("%s %s: refused with %s", k.Name, contentType, refused.Message)
			}
			if l := shared.List(t, harness.Path(namespace, k)); len(l.Items) != 0 {
				t.Errorf("%s %s: it was refused, but %q is stored", k.Name, contentType, shared.Names(t, harness.Path(namespace, k)))
			}
			for validation, warns := range map[string]bool{"Warn": true, "Ignore": false, "": true} {
				got := send(validation)
				created := got.Must(t)
				if warning := strings.Join(got.Header.Values("Warning"), " "); strings.Contains(warning, "colour") != warns {
					t.Errorf("%s %s: %q warns with %q", k.Name, contentType, validation, warning)
				}
				if _, has := created.Object["spec"].(map[string]any)["colour"]; has {
					t.Errorf("%s %s: it has a colour", k.Name, contentType)
				}
			}
			status := shared.Raw(t, http.MethodPost, harness.Path(namespace, k)+"?fieldValidation=Perhaps", contentType, body).Refused(t, http.StatusUnprocessableEntity)
			if !strings.Contains(status.Message, "fieldValidation") {
				t.Errorf("%s %s: refused with %s", k.Name, contentType, status.Message)
			}
		}
	}
}

// TestDryRun sends every write as a dry run. The response is that of the write, and nothing is stored.
func TestDryRun(t *testing.T) {
	for _, subject := range subjects {
		t.Run(subject.Name, func(t *testing.T) {
			namespace := harness.NewNamespace()
			before := shared.Create(t, namespace, subject.Kind, subject.manifest)
			labelled := before.DeepCopy()
			labelled.SetLabels(map[string]string{"dry": "run"})
			conditioned := before.DeepCopy()
			conditioned.Object["status"] = harness.Parse(t, "{phase: Pending, conditions: ["+conditionOf("Dry", "run")+"]}")
			one := harness.Path(namespace, subject.Kind, "new")
			for _, test := range []struct {
				name, method, path, contentType string
				body                            any
				// field differs between the response and the stored object.
				field string
			}{
				{"create", http.MethodPost, harness.Path(namespace, subject.Kind), harness.JSON, harness.Parse(t, manifestFor(subject.Kind, "other")), "metadata.name"},
				{"put", http.MethodPut, one, harness.JSON, labelled.Object, "metadata.labels"},
				{"put of the status", http.MethodPut, one + "/status", harness.JSON, conditioned.Object, "status.conditions"},
				{"merge patch", http.MethodPatch, one, harness.MergePatch, harness.Parse(t, "{spec: {"+subject.ref+": {name: parent}}}"), "spec"},
				{"strategic merge patch", http.MethodPatch, one + "/status", harness.Strategic, harness.Parse(t, "{status: {conditions: ["+conditionOf("Dry", "run")+"]}}"), "status.conditions"},
				{"JSON patch", http.MethodPatch, one, harness.JSONPatch, harness.Parse(t, "[{op: remove, path: /metadata/labels}]"), "metadata.labels"},
				{"apply", http.MethodPatch, one, harness.ApplyPatch, harness.Parse(t, "{apiVersion: "+harness.GroupVersion+", kind: "+subject.Name+", metadata: {name: new, labels: {dry: run}}}"), "metadata.labels"},
				{"apply that creates", http.MethodPatch, harness.Path(namespace, subject.Kind, "other"), harness.ApplyPatch,
					harness.Parse(t, "{apiVersion: "+harness.GroupVersion+", kind: "+subject.Name+", metadata: {name: other}, spec: {ipFamily: IPv4, prefixLength: 24, "+subject.ref+": {name: parent}}}"), "metadata.name"},
				{"delete", http.MethodDelete, one, harness.JSON, nil, ""},
				{"delete of all", http.MethodDelete, harness.Path(namespace, subject.Kind), harness.JSON, nil, ""},
			} {
				body := ""
				if test.body != nil {
					body = harness.Encode(t, test.body)
				}
				got := shared.Raw(t, test.method, test.path+"?dryRun=All&fieldManager=me", test.contentType, body).Must(t)
				if test.field != "" && harness.Encode(t, harness.At(got, test.field)) == harness.Encode(t, harness.At(before, test.field)) {
					t.Errorf("%s: the answer has the old %s", test.name, test.field)
				}
				l := shared.List(t, harness.Path(namespace, subject.Kind))
				if len(l.Items) != 1 {
					t.Fatalf("%s: the namespace has %q", test.name, harness.NamesOf(l))
				}
				harness.Unwritten(t, before, &l.Items[0])
			}
			// A write that would be rejected is rejected.
			shared.Raw(t, http.MethodPatch, one+"?dryRun=All", harness.MergePatch, `{"spec":{"prefixLength":25}}`).Refused(t, http.StatusUnprocessableEntity)
		})
	}
}
