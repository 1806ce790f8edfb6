// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

func TestDiscovery(t *testing.T) {
	client, err := discovery.NewDiscoveryClientForConfig(shared.AdminConfig)
	if err != nil {
		t.Fatal(err)
	}
	all := metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	status := metav1.Verbs{"get", "patch", "update"}
	category := []string{"ipam"}
	want := map[string]metav1.APIResource{
		"prefixes":                  {Name: "prefixes", SingularName: "prefix", Namespaced: true, Kind: "Prefix", Verbs: all, ShortNames: []string{"pfx"}, Categories: category},
		"prefixes/status":           {Name: "prefixes/status", Namespaced: true, Kind: "Prefix", Verbs: status},
		"prefixes/binding":          {Name: "prefixes/binding", Namespaced: true, Kind: "PrefixBinding", Verbs: metav1.Verbs{"create"}},
		"prefixallocations":         {Name: "prefixallocations", SingularName: "prefixallocation", Namespaced: true, Kind: "PrefixAllocation", Verbs: all, ShortNames: []string{"pfxa"}, Categories: category},
		"prefixallocations/status":  {Name: "prefixallocations/status", Namespaced: true, Kind: "PrefixAllocation", Verbs: status},
		"prefixallocations/binding": {Name: "prefixallocations/binding", Namespaced: true, Kind: "PrefixAllocationBinding", Verbs: metav1.Verbs{"create"}},
		"prefixpolicies":            {Name: "prefixpolicies", SingularName: "prefixpolicy", Namespaced: true, Kind: "PrefixPolicy", Verbs: all, ShortNames: []string{"pfxp"}, Categories: category},
		"prefixpolicies/status":     {Name: "prefixpolicies/status", Namespaced: true, Kind: "PrefixPolicy", Verbs: status},
	}
	list, err := client.ServerResourcesForGroupVersion(harness.GroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range list.APIResources {
		expected, ok := want[resource.Name]
		resource.StorageVersionHash, resource.Group, resource.Version = "", "", ""
		if !ok || !reflect.DeepEqual(resource, expected) {
			t.Errorf("got  %+v\nwant %+v", resource, expected)
		}
		delete(want, resource.Name)
	}
	for name := range want {
		t.Errorf("%s is not served", name)
	}

	// kubectl reads the aggregated document first. It has the same content as the legacy documents. The core group
	// is present without resources, for the kind List.
	for _, legacy := range []bool{false, true} {
		client.UseLegacyDiscovery = legacy
		groups, resources, err := client.ServerGroupsAndResources()
		if err != nil {
			t.Fatal(err)
		}
		if len(groups) != 2 || groups[0].Name != "" || groups[0].PreferredVersion.GroupVersion != "v1" || len(groups[0].Versions) != 1 ||
			groups[1].Name != "ipam.ironcore.dev" || groups[1].PreferredVersion.GroupVersion != harness.GroupVersion || len(groups[1].Versions) != 1 {
			t.Errorf("legacy %v: got groups %+v", legacy, groups)
		}
		// Their order is random, because they come from a map.
		slices.SortFunc(resources, func(a, b *metav1.APIResourceList) int { return -strings.Compare(a.GroupVersion, b.GroupVersion) })
		if len(resources) != 2 || resources[0].GroupVersion != "v1" || len(resources[0].APIResources) != 0 || len(resources[1].APIResources) != len(list.APIResources) {
			t.Errorf("legacy %v: got resources %+v", legacy, resources)
		}
		mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
		if _, err := mapper.RESTMapping(runtimeschema.GroupKind{Kind: "List"}, "v1"); err != nil {
			t.Errorf("legacy %v: %v", legacy, err)
		}
	}
}

func TestVersionHealthAndMetricsAreServedToWhoHasACertificate(t *testing.T) {
	for p, want := range map[string]string{
		"/livez":             "ok",
		"/livez?verbose":     "[+]etcd ok",
		"/readyz":            "ok",
		"/readyz?verbose":    "[+]etcd-readiness ok",
		"/healthz":           "ok",
		"/metrics":           "apiserver_request_total{",
		"/version":           `"gitVersion":"` + version.Get() + `"`,
		"/api":               `"v1"`,
		"/api/v1":            `"APIResourceList"`,
		"/api/v1/namespaces": "404",
		"/apis":              `"ipam.ironcore.dev"`,
		"/openapi/v2":        `"swagger":"2.0"`,
		"/openapi/v3":        `"apis/ipam.ironcore.dev/v1alpha1"`,
		"/apis/nothing.here": "404",
	} {
		got := shared.Do(t, http.MethodGet, p, harness.JSON, "")
		if want == "404" {
			if got.Code != http.StatusNotFound {
				t.Errorf("%s: got %d", p, got.Code)
			}
			continue
		}
		if got.Code != http.StatusOK || !strings.Contains(strings.ReplaceAll(string(got.Body), `": `, `":`), want) {
			t.Errorf("%s: got %d without %q: %.200s", p, got.Code, want, got.Body)
		}
	}
}

func TestNobodyIsServedWithoutACertificate(t *testing.T) {
	namespace, _ := shared.setUp(t, "root")
	config := rest.AnonymousClientConfig(shared.AdminConfig)
	anonymous, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	config = rest.CopyConfig(config)
	config.BearerToken = "secret"
	token, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	before := shared.snapshot(t, namespace)
	for who, client := range map[string]*http.Client{"without anything": anonymous, "with a token": token} {
		for _, p := range []string{"/", "/livez", "/readyz", "/healthz", "/metrics", "/version", "/api", "/api/v1", "/apis", "/openapi/v2", "/openapi/v3", "/debug/pprof/", "/nothing",
			harness.Path(namespace, harness.PrefixKind), harness.Path(namespace, harness.PrefixKind, "root"), harness.Path(namespace, harness.AllocationKind) + "?watch=true"} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
				request, err := http.NewRequestWithContext(t.Context(), method, shared.URL+p, strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				// A header with a user name has no effect.
				request.Header.Set("X-Remote-User", "admin")
				request.Header.Set("X-Remote-Group", "system:masters")
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s of %s %s: got %d: %.200s", method, p, who, response.StatusCode, body)
				}
			}
		}
	}
	if after := shared.snapshot(t, namespace); !reflect.DeepEqual(before, after) {
		t.Error("the namespace changed")
	}
}

func TestAnyNamespaceWorks(t *testing.T) {
	for _, namespace := range []string{"default", "kube-system", "a", strings.Repeat("a", 63), "1", "x-y", "a.b"} {
		name := strings.ReplaceAll(harness.NewNamespace(), "namespace", "object")
		got := shared.Do(t, http.MethodPost, harness.Path(namespace, harness.PrefixKind), harness.JSON, "{metadata: {name: "+name+"}, spec: {prefix: 10.0.0.0/8}}")
		if namespace == "a.b" {
			// As a label it must be valid, as in every cluster.
			if causes := harness.Causes(got.Refused(t, http.StatusUnprocessableEntity)); !slices.Equal(causes, []string{"metadata.namespace"}) {
				t.Errorf("%s: refused for %q", namespace, causes)
			}
			continue
		}
		if obj := got.Must(t); obj.GetNamespace() != namespace {
			t.Errorf("%s: it is in %s", namespace, obj.GetNamespace())
		}
	}
}

// openAPI has the parts of both versions of the document that the tests read.
type openAPI struct {
	Paths       map[string]map[string]any `json:"paths"`
	Definitions map[string]schema         `json:"definitions"`
	Components  struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type schema struct {
	Description string              `json:"description"`
	Ref         string              `json:"$ref"`
	Properties  map[string]schema   `json:"properties"`
	Items       *schema             `json:"items"`
	AllOf       []schema            `json:"allOf"`
	GVK         []map[string]string `json:"x-kubernetes-group-version-kind"`
}

// find follows a path of fields, as kubectl explain does. It returns the model at the end, with the nearest
// description on the path.
func find(t *testing.T, models map[string]schema, model schema, fields ...string) schema {
	t.Helper()
	for {
		description := model.Description
		for _, ref := range append(model.AllOf, model) {
			if ref.Ref != "" {
				name := ref.Ref[strings.LastIndex(ref.Ref, "/")+1:]
				referred, ok := models[name]
				if !ok {
					t.Fatalf("%s leads nowhere", ref.Ref)
				}
				model = referred
			}
		}
		if description != "" {
			model.Description = description
		}
		if len(fields) == 0 {
			return model
		}
		if model.Items != nil {
			model = *model.Items
			continue
		}
		next, ok := model.Properties[fields[0]]
		if !ok {
			t.Fatalf("there is no field %s", fields[0])
		}
		model, fields = next, fields[1:]
	}
}

// TestOpenAPIDescribesEveryField compares the documents of both versions with the Go types, for all fields of both
// kinds.
func TestOpenAPIDescribesEveryField(t *testing.T) {
	for _, p := range []string{"/openapi/v2", "/openapi/v3/apis/" + harness.GroupVersion} {
		t.Run(p, func(t *testing.T) {
			doc := openAPI{}
			shared.Do(t, http.MethodGet, p, harness.JSON, "").Into(t, &doc)
			models := doc.Components.Schemas
			if models == nil {
				models = doc.Definitions
			}
			roots := map[string]schema{}
			for name, model := range models {
				for _, gvk := range model.GVK {
					if gvk["group"] == "ipam.ironcore.dev" && gvk["version"] == "v1alpha1" {
						if _, twice := roots[gvk["kind"]]; twice && strings.Contains(name, "ironcore") {
							t.Errorf("%s has two models", gvk["kind"])
						}
						roots[gvk["kind"]] = model
					}
				}
			}
			for name, typ := range map[string]reflect.Type{
				"Prefix": reflect.TypeFor[v1alpha1.Prefix](), "PrefixList": reflect.TypeFor[v1alpha1.PrefixList](), "PrefixBinding": reflect.TypeFor[v1alpha1.PrefixBinding](),
				"PrefixAllocation": reflect.TypeFor[v1alpha1.PrefixAllocation](), "PrefixAllocationList": reflect.TypeFor[v1alpha1.PrefixAllocationList](), "PrefixAllocationBinding": reflect.TypeFor[v1alpha1.PrefixAllocationBinding](),
				"PrefixPolicy": reflect.TypeFor[v1alpha1.PrefixPolicy](), "PrefixPolicyList": reflect.TypeFor[v1alpha1.PrefixPolicyList](),
			} {
				root, ok := roots[name]
				if !ok {
					t.Errorf("%s has no model", name)
					continue
				}
				described(t, models, root, typ, name)
			}

			for _, k := range harness.Kinds {
				for below, methods := range map[string][]string{
					"":                {"delete", "get", "post"},
					"/{name}":         {"delete", "get", "patch", "put"},
					"/{name}/status":  {"get", "patch", "put"},
					"/{name}/binding": {"post"},
				} {
					operations := doc.Paths["/apis/"+harness.GroupVersion+"/namespaces/{namespace}/"+k.Resource+below]
					for _, method := range methods {
						if operations[method] == nil {
							t.Errorf("there is no %s of %s%s, but %q", method, k.Resource, below, harness.Keys(operations))
						}
					}
					if below == "/{name}/binding" {
						continue
					}
					// kubectl explain and kubectl apply use this to find the model of a kind.
					operation, _ := operations["get"].(map[string]any)
					if gvk, _ := operation["x-kubernetes-group-version-kind"].(map[string]any); gvk["kind"] != k.Name {
						t.Errorf("%s%s is of %v", k.Resource, below, gvk)
					}
				}
			}

			for path, want := range map[string]string{
				"Prefix":                                       "range of IP addresses",
				"Prefix.spec.parentSelector":                   "by their labels",
				"Prefix.spec.parentSelector.matchLabels":       "map",
				"Prefix.spec.parentRef.name":                   "name",
				"Prefix.status.usage.largestFree":              "largest",
				"Prefix.status.conditions.reason":              "reason",
				"PrefixAllocation.spec.prefixRef":              "scheduler",
				"PrefixPolicy.spec.reserved.edges":             "broadcast",
				"PrefixAllocation.spec.prefixSelector":         "by their labels",
				"PrefixAllocation.status.prefix":               "allocated",
				"PrefixAllocation.metadata.ownerReferences":    "depended",
				"PrefixAllocationBinding.prefixRef.uid":        "uid",
				"PrefixAllocation.status.conditions.status":    "True",
				"Prefix.status.conditions.lastTransitionTime":  "transitioned",
				"Prefix.status.lastPhaseTransitionTime":        "change of phase",
				"Prefix.metadata.managedFields.fieldsV1":       "FieldsV1",
				"PrefixBinding.parentRef.namespace":            "namespace",
				"PrefixList.items.spec.prefixLength":           "bits",
				"PrefixAllocationList.items.spec.prefixLength": "bits",
			} {
				fields := strings.Split(path, ".")
				if got := find(t, models, roots[fields[0]], fields[1:]...); !strings.Contains(got.Description, want) {
					t.Errorf("%s is described by %q, without %q", path, got.Description, want)
				}
			}
		})
	}
}

// described fails the test for every field of the type that the model does not contain or not describe.
func described(t *testing.T, models map[string]schema, model schema, typ reflect.Type, path string) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	model = find(t, models, model)
	if model.Items != nil {
		description := model.Description
		if model = find(t, models, *model.Items); model.Description == "" {
			model.Description = description
		}
	}
	if strings.TrimSpace(model.Description) == "" {
		t.Errorf("%s is not described", path)
	}
	if typ.Kind() != reflect.Struct || !strings.Contains(typ.PkgPath(), "ipam-apiserver") {
		return
	}
	fields := 0
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if options == "inline" {
			// The model also has kind and apiVersion.
			fields += 2
			continue
		}
		fields++
		property, ok := model.Properties[name]
		if !ok {
			t.Errorf("%s.%s is missing", path, name)
			continue
		}
		described(t, models, property, field.Type, path+"."+name)
	}
	if len(model.Properties) != fields {
		t.Errorf("%s has fields %q, not %d", path, harness.Keys(model.Properties), fields)
	}
}
