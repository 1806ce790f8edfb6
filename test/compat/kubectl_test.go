// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi3"
)

// kubectl does what kubectl apply does, in a namespace of the live server. Its controllers complete the applied
// objects.
type kubectl struct {
	*testing.T
	namespace string
	// merge selects JSON merge patches, as kubectl apply --openapi-patch=false does.
	merge bool
}

// lookup returns how lists of a kind are merged, from the OpenAPI document of the server.
func (k *kubectl) lookup(kind harness.Kind) strategicpatch.LookupPatchMeta {
	k.Helper()
	client, err := discovery.NewDiscoveryClientForConfigAndClient(live.Config, live.HTTP)
	if err != nil {
		k.Fatal(err)
	}
	gv := schema.GroupVersion{Group: "ipam.ironcore.dev", Version: "v1alpha1"}
	spec, err := openapi3.NewRoot(client.OpenAPIV3()).GVSpec(gv)
	if err != nil {
		k.Fatal(err)
	}
	if _, ok := spec.Paths.Paths["/apis/"+harness.GroupVersion+"/namespaces/{namespace}/"+kind.Resource+"/{name}"].Patch.RequestBody.Content[harness.Strategic]; !ok {
		k.Fatal("the server does not publish that it takes strategic merge patches")
	}
	for _, s := range spec.Components.Schemas {
		var kinds []map[string]string
		if err := s.Extensions.GetObject("x-kubernetes-group-version-kind", &kinds); err != nil {
			continue
		}
		for _, gvk := range kinds {
			if gvk["group"] == gv.Group && gvk["version"] == gv.Version && gvk["kind"] == kind.Name {
				return strategicpatch.PatchMetaFromOpenAPIV3{Schema: s, SchemaList: spec.Components.Schemas}
			}
		}
	}
	k.Fatalf("the server does not publish %s", kind.Name)
	return nil
}

// lastApplied returns the manifest with itself in the annotation.
func (k *kubectl) lastApplied(manifest *unstructured.Unstructured) []byte {
	k.Helper()
	annotated := manifest.DeepCopy()
	annotations := annotated.GetAnnotations()
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotated.SetAnnotations(annotations)
	last, err := annotated.MarshalJSON()
	if err != nil {
		k.Fatal(err)
	}
	annotations[corev1.LastAppliedConfigAnnotation] = string(last)
	annotated.SetAnnotations(annotations)
	return []byte(harness.Encode(k, annotated.Object))
}

// apply does kubectl apply of one object. It returns the response, if there was a request, and the patch.
func (k *kubectl) apply(manifest *unstructured.Unstructured) (harness.Answer, string) {
	k.Helper()
	kind, modified := harness.KindOf(k, manifest), k.lastApplied(manifest)
	got := live.Raw(k, http.MethodGet, harness.Path(k.namespace, kind, manifest.GetName()), "", "")
	if got.Code == http.StatusNotFound {
		return live.Raw(k, http.MethodPost, harness.Path(k.namespace, kind)+"?fieldManager=kubectl-client-side-apply&fieldValidation=Strict", harness.JSON, string(modified)), ""
	}
	current := got.Must(k)
	original := []byte(current.GetAnnotations()[corev1.LastAppliedConfigAnnotation])
	contentType := harness.MergePatch
	var patch []byte
	var err error
	if k.merge {
		patch, err = jsonmergepatch.CreateThreeWayJSONMergePatch(original, modified, got.Body)
	} else {
		contentType = harness.Strategic
		patch, err = strategicpatch.CreateThreeWayMergePatch(original, modified, got.Body, k.lookup(kind), true)
	}
	if err != nil {
		k.Fatal(err)
	}
	if string(patch) == "{}" {
		return got, "{}"
	}
	p := harness.Path(k.namespace, kind, manifest.GetName()) + "?fieldManager=kubectl-client-side-apply&fieldValidation=Strict"
	return live.Raw(k, http.MethodPatch, p, contentType, string(patch)), string(patch)
}

// applyServerSide does kubectl apply --server-side of one object.
func (k *kubectl) applyServerSide(manifest *unstructured.Unstructured) harness.Answer {
	k.Helper()
	p := harness.Path(k.namespace, harness.KindOf(k, manifest), manifest.GetName()) + "?fieldManager=kubectl&fieldValidation=Strict&force=false"
	return live.Raw(k, http.MethodPatch, p, harness.ApplyPatch, harness.Encode(k, manifest.Object))
}

// getYAML returns the output of kubectl get -o yaml, parsed.
func (k *kubectl) getYAML(kind harness.Kind, name string) *unstructured.Unstructured {
	k.Helper()
	var printed bytes.Buffer
	printer := printers.OmitManagedFieldsPrinter{Delegate: &printers.YAMLPrinter{}}
	if err := printer.PrintObj(live.Get(k, k.namespace, kind, name), &printed); err != nil {
		k.Fatal(err)
	}
	return &unstructured.Unstructured{Object: harness.ParseObject(k, printed.String())}
}

// settled waits until the controllers have written the complete status of a Prefix.
func (k *kubectl) settled(name, phase string) *unstructured.Unstructured {
	k.Helper()
	var obj *unstructured.Unstructured
	harness.Eventually(k, name+" "+phase, func() error {
		obj = live.Get(k, k.namespace, harness.PrefixKind, name)
		conditions, _ := harness.StoredStatus(obj)["conditions"].([]any)
		if harness.At(obj, "status.phase") != phase || len(conditions) == 0 {
			return fmt.Errorf("%s", harness.Encode(k, obj.Object))
		}
		return nil
	})
	return obj
}

// manifests are the applied manifests. The parent has the children.
var manifests = []struct{ name, phase, manifest string }{
	{"parent", "Allocated", "{metadata: {name: parent, labels: {net: blue}}, spec: {prefix: 10.0.0.0/8}}"},
	{"root", "Allocated", "{metadata: {name: root, labels: {a: b}}, spec: {prefix: 12.0.0.0/8}}"},
	{"selected", "Allocated", "{metadata: {name: selected}, spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {net: blue}}}}"},
	{"named", "Allocated", "{metadata: {name: named, labels: {a: b}}, spec: {prefixLength: 24, parentRef: {name: parent}}}"},
	{"static", "Allocated", "{metadata: {name: static}, spec: {prefix: 10.200.0.0/16, parentRef: {name: parent}}}"},
	{"pending", "Pending", "{metadata: {name: pending, annotations: {a: b}}, spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {net: red}}}}"},
}

func manifestOf(t testing.TB, manifest string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{Object: harness.ParseObject(t, manifest)}
	obj.SetAPIVersion(harness.GroupVersion)
	obj.SetKind(harness.PrefixKind.Name)
	return obj
}

// settle waits for all Prefixes in manifests, and until the parent counts its children.
func (k *kubectl) settle() {
	k.Helper()
	for _, m := range manifests {
		k.settled(m.name, m.phase)
	}
	harness.Eventually(k, "the parent counts its children", func() error {
		if used, _ := harness.At(live.Get(k, k.namespace, harness.PrefixKind, "parent"), "status.used").([]any); len(used) != 3 {
			return fmt.Errorf("used %v", used)
		}
		return nil
	})
}

// everything contains the fields that kubectl apply of an existing object must not change.
var everything = []string{"spec", "status", "metadata.labels", "metadata.finalizers", "metadata.ownerReferences", "metadata.generation", "metadata.uid", "metadata.creationTimestamp"}

// TestKubectlApplyClientSide applies manifests, waits until the controllers have allocated the Prefixes, applies
// the manifests again, and then the output of kubectl get -o yaml.
func TestKubectlApplyClientSide(t *testing.T) {
	for _, merge := range []bool{false, true} {
		t.Run(map[bool]string{false: "strategic", true: "merge"}[merge], func(t *testing.T) {
			t.Parallel()
			k := &kubectl{t, harness.NewNamespace(), merge}
			for _, m := range manifests {
				created, _ := k.apply(manifestOf(t, m.manifest))
				if created.Code != http.StatusCreated {
					t.Fatalf("%s: got %d: %s", m.name, created.Code, created.Body)
				}
			}
			k.settle()
			for _, m := range manifests {
				// Apply the original again. kubectl reports it as unchanged, although the server has set fields of
				// the spec.
				before := live.Get(t, k.namespace, harness.PrefixKind, m.name)
				if _, patch := k.apply(manifestOf(t, m.manifest)); patch != "{}" {
					t.Errorf("%s: applying the manifest again patches %s", m.name, patch)
				}
				// Apply the output of get. Only the annotation changes.
				answer, patch := k.apply(k.getYAML(harness.PrefixKind, m.name))
				after := answer.Must(t)
				patched := harness.ParseObject(t, patch)
				metadata, _ := patched["metadata"].(map[string]any)
				if annotations, _ := metadata["annotations"].(map[string]any); len(patched) != 1 || len(metadata) != 1 || len(annotations) != 1 {
					t.Errorf("%s: applying what was read patches %s", m.name, patch)
				}
				harness.Same(t, before, after, everything...)
				// A file without resourceVersion can be applied even if the status has changed since.
				old := k.getYAML(harness.PrefixKind, m.name)
				unstructured.RemoveNestedField(old.Object, "metadata", "resourceVersion")
				_ = unstructured.SetNestedField(old.Object, []any{}, "status", "conditions")
				_ = unstructured.SetNestedField(old.Object, "Pending", "status", "phase")
				stale, patch := k.apply(old)
				if !strings.Contains(patch, `"status"`) {
					t.Errorf("%s: applying a stale status patches %s", m.name, patch)
				}
				harness.Same(t, before, stale.Must(t), everything...)
			}
		})
	}
}

// TestKubectlApplyServerSide does the same with --server-side.
func TestKubectlApplyServerSide(t *testing.T) {
	t.Parallel()
	k := &kubectl{t, harness.NewNamespace(), false}
	for _, m := range manifests {
		if created := k.applyServerSide(manifestOf(t, m.manifest)); created.Code != http.StatusCreated {
			t.Fatalf("%s: got %d: %s", m.name, created.Code, created.Body)
		}
	}
	k.settle()
	for _, m := range manifests {
		before := live.Get(t, k.namespace, harness.PrefixKind, m.name)
		harness.Unwritten(t, before, k.applyServerSide(manifestOf(t, m.manifest)).Must(t))
		// The output of get has more fields, which kubectl then owns, too. Nothing else changes.
		after := k.applyServerSide(k.getYAML(harness.PrefixKind, m.name)).Must(t)
		harness.Same(t, before, after, everything...)
		harness.Unwritten(t, after, k.applyServerSide(k.getYAML(harness.PrefixKind, m.name)).Must(t))
		if got := strings.Join(owned(t, after, "kubectl", "Apply", ""), " "); strings.Contains(got, "status") || !strings.Contains(got, "spec.") {
			t.Errorf("%s: kubectl owns %s", m.name, got)
		}
	}
}

// TestKubectlApplyOfLess applies the output of get, and then the manifest, which has fewer fields. kubectl requests
// the removal of the others. Fields that the server has set remain, and so does the finalizer.
func TestKubectlApplyOfLess(t *testing.T) {
	for _, serverSide := range []bool{false, true} {
		t.Run(map[bool]string{false: "client-side", true: "server-side"}[serverSide], func(t *testing.T) {
			t.Parallel()
			k := &kubectl{t, harness.NewNamespace(), false}
			apply := func(manifest *unstructured.Unstructured) harness.Answer {
				if serverSide {
					return k.applyServerSide(manifest)
				}
				answer, _ := k.apply(manifest)
				return answer
			}
			for _, m := range manifests {
				apply(manifestOf(t, m.manifest)).Must(t)
			}
			k.settle()
			for _, m := range manifests {
				before := live.Get(t, k.namespace, harness.PrefixKind, m.name)
				apply(k.getYAML(harness.PrefixKind, m.name)).Must(t)
				apply(manifestOf(t, m.manifest)).Must(t)
				harness.Same(t, before, live.Get(t, k.namespace, harness.PrefixKind, m.name), everything...)
			}
		})
	}
}
