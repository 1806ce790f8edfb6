// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// The golden files are in testdata, each as JSON and as YAML. Those of IronCore's API have exactly the fields that
// its clients know. The additive ones have all our fields.
var (
	ironcoreGoldens = []string{
		"prefix-root", "prefix-root-ipv6", "prefix-child", "prefix-pending",
		"prefixallocation-allocated", "prefixallocation-static", "prefixallocation-failed",
	}
	additiveGoldens = []string{"prefix-additive", "prefixallocation-additive"}
	// coolingGolden has what only the server writes.
	coolingGolden = "prefixallocation-cooling"
	// sharedGoldens ask for a parent of another namespace.
	sharedGoldens = []string{"prefix-shared", "prefixallocation-shared"}
	goldens       = append(slices.Concat(ironcoreGoldens, additiveGoldens, sharedGoldens), coolingGolden)
)

// additive contains the fields that IronCore's API does not have, with their subfields.
var additive = map[string][]string{
	"Prefix":           {"spec.parentNamespace", "status.conditions", "status.observedGeneration", "status.usage"},
	"PrefixAllocation": {"spec.prefixNamespace", "status.conditions", "status.coolingUntil"},
}

// requester is the uid of the child that an allocation in the golden files was created for.
const requester = "11111111-2222-4333-8444-555555555555"

func golden(t testing.TB, name, format string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + "." + format)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// These are the types of a client of IronCore's API: it parses prefixes, and drops fields that it does not know.
type (
	clientPrefix struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			IPFamily       corev1.IPFamily              `json:"ipFamily,omitempty"`
			Prefix         *netip.Prefix                `json:"prefix,omitempty"`
			PrefixLength   int32                        `json:"prefixLength,omitempty"`
			ParentRef      *corev1.LocalObjectReference `json:"parentRef,omitempty"`
			ParentSelector *metav1.LabelSelector        `json:"parentSelector,omitempty"`
		} `json:"spec"`
		Status struct {
			Phase                   string         `json:"phase,omitempty"`
			LastPhaseTransitionTime *metav1.Time   `json:"lastPhaseTransitionTime,omitempty"`
			Used                    []netip.Prefix `json:"used,omitempty"`
		} `json:"status"`
	}
	clientAllocation struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			IPFamily       corev1.IPFamily              `json:"ipFamily,omitempty"`
			Prefix         *netip.Prefix                `json:"prefix,omitempty"`
			PrefixLength   int32                        `json:"prefixLength,omitempty"`
			PrefixRef      *corev1.LocalObjectReference `json:"prefixRef,omitempty"`
			PrefixSelector *metav1.LabelSelector        `json:"prefixSelector,omitempty"`
		} `json:"spec"`
		Status struct {
			Phase                   string        `json:"phase,omitempty"`
			LastPhaseTransitionTime *metav1.Time  `json:"lastPhaseTransitionTime,omitempty"`
			Prefix                  *netip.Prefix `json:"prefix,omitempty"`
		} `json:"status"`
	}
)

// asClient decodes JSON or YAML like a client of IronCore's API, and returns the result.
func asClient(t testing.TB, data []byte, strict bool) *unstructured.Unstructured {
	t.Helper()
	var object any = &clientPrefix{}
	if bytes.Contains(data, []byte(harness.AllocationKind.Name)) {
		object = &clientAllocation{}
	}
	asJSON, err := yaml.ToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	decoder := stdjson.NewDecoder(bytes.NewReader(asJSON))
	if strict {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(object); err != nil {
		t.Fatalf("a client cannot read this: %v\n%s", err, data)
	}
	return &unstructured.Unstructured{Object: harness.ParseObject(t, harness.Encode(t, object))}
}

// TestGoldensDecodeAndEncode decodes each golden file into our types, and into those of a client, and encodes it
// again. Nothing is lost, added or changed.
func TestGoldensDecodeAndEncode(t *testing.T) {
	for _, name := range goldens {
		for _, format := range []string{"json", "yaml"} {
			t.Run(name+"."+format, func(t *testing.T) {
				data := golden(t, name, format)
				serializer := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme,
					json.SerializerOptions{Yaml: format == "yaml", Pretty: true, Strict: true})
				obj, _, err := serializer.Decode(data, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				encoded, err := runtime.Encode(serializer, obj)
				if err != nil {
					t.Fatal(err)
				}
				got, want := string(encoded), string(data)
				if format == "json" {
					// The order of its fields is not fixed. YAML sorts them by name.
					got, want = harness.Encode(t, harness.Parse(t, got)), harness.Encode(t, harness.Parse(t, want))
				}
				if got != want {
					t.Errorf("it became\n%s\nfrom\n%s", got, want)
				}
				if slices.Contains(ironcoreGoldens, name) {
					if got, want := asClient(t, data, true).Object, harness.ParseObject(t, string(data)); !reflect.DeepEqual(got, want) {
						t.Errorf("to a client it is\n%v\nnot\n%v", got, want)
					}
				}
				if other := golden(t, name, map[string]string{"json": "yaml", "yaml": "json"}[format]); !reflect.DeepEqual(harness.Parse(t, string(other)), harness.Parse(t, string(data))) {
					t.Error("JSON and YAML say different things")
				}
			})
		}
	}
}

// TestGoldensHaveEveryField compares the golden files with the types. It fails for a new field that no golden file
// has, and for a field in the golden files of IronCore's API that this API does not have.
func TestGoldensHaveEveryField(t *testing.T) {
	for kind, object := range map[string]any{"Prefix": v1alpha1.Prefix{}, "PrefixAllocation": v1alpha1.PrefixAllocation{}} {
		fields := map[string]bool{}
		fieldsOf(reflect.TypeOf(object), "", fields)
		ours, theirs := map[string]bool{}, map[string]bool{}
		for _, name := range goldens {
			obj := harness.ParseObject(t, string(golden(t, name, "json")))
			if obj["kind"] != kind {
				continue
			}
			fieldsIn(obj, "", fields, ours)
			if slices.Contains(ironcoreGoldens, name) {
				fieldsIn(obj, "", fields, theirs)
			}
		}
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			if !ours[field] {
				t.Errorf("%s: %s is in no golden", kind, field)
			}
			isAdditive := slices.ContainsFunc(additive[kind], func(prefix string) bool {
				return field == prefix || strings.HasPrefix(field, prefix+".") || strings.HasPrefix(field, prefix+"[")
			})
			if theirs[field] == isAdditive {
				t.Errorf("%s: %s is additive: %v; is in the goldens of IronCore's API: %v", kind, field, isAdditive, theirs[field])
			}
		}
		for field := range ours {
			if !fields[field] {
				t.Errorf("%s: %s is in a golden, but not in the type", kind, field)
			}
		}
	}
}

// TestGoldensHaveEveryValue does the same for the values of the enumerations.
func TestGoldensHaveEveryValue(t *testing.T) {
	got := map[string]bool{}
	for _, name := range ironcoreGoldens {
		obj := &unstructured.Unstructured{Object: harness.ParseObject(t, string(golden(t, name, "json")))}
		got[fmt.Sprint(harness.At(obj, "spec.ipFamily"))] = true
		got[obj.GetKind()+" "+fmt.Sprint(harness.At(obj, "status.phase"))] = true
	}
	want := map[string]bool{
		string(v1alpha1.IPv4): true, string(v1alpha1.IPv6): true,
		"Prefix " + string(v1alpha1.PrefixPhasePending):                       true,
		"Prefix " + string(v1alpha1.PrefixPhaseAllocated):                     true,
		"PrefixAllocation " + string(v1alpha1.PrefixAllocationPhaseAllocated): true,
		"PrefixAllocation " + string(v1alpha1.PrefixAllocationPhasePending):   true,
		"PrefixAllocation " + string(v1alpha1.PrefixAllocationPhaseFailed):    true,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, not %v", got, want)
	}
}

// TestPrefixTemplateSpec tests the type that other API groups embed. The server does not serve it.
func TestPrefixTemplateSpec(t *testing.T) {
	data := golden(t, "prefixtemplatespec", "json")
	template := v1alpha1.PrefixTemplateSpec{}
	decoder := stdjson.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&template); err != nil {
		t.Fatal(err)
	}
	if got, want := harness.Parse(t, harness.Encode(t, template)), harness.Parse(t, string(data)); !reflect.DeepEqual(got, want) {
		t.Errorf("it became\n%v\nfrom\n%v", got, want)
	}
	fields, found := map[string]bool{}, map[string]bool{}
	fieldsOf(reflect.TypeOf(template), "", fields)
	fieldsIn(harness.Parse(t, string(data)), "", fields, found)
	if !maps.Equal(fields, found) {
		t.Errorf("the golden has %v, not %v", found, fields)
	}
}

// fieldsOf collects the JSON paths of all leaf fields of a type. Metadata is not included.
func fieldsOf(typ reflect.Type, path string, into map[string]bool) {
	switch typ.Kind() {
	case reflect.Pointer:
		fieldsOf(typ.Elem(), path, into)
		return
	case reflect.Slice:
		fieldsOf(typ.Elem(), path+"[]", into)
		return
	case reflect.Struct:
		if typ != reflect.TypeOf(metav1.Time{}) && typ != reflect.TypeOf(metav1.ObjectMeta{}) {
			break
		}
		fallthrough
	default:
		into[path] = true
		return
	}
	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		switch {
		case strings.Contains(options, "inline"):
			fieldsOf(typ.Field(i).Type, path, into)
		default:
			fieldsOf(typ.Field(i).Type, strings.TrimPrefix(path+"."+name, "."), into)
		}
	}
}

// fieldsIn collects the paths in a value, as far down as those of the type.
func fieldsIn(value any, path string, fields, into map[string]bool) {
	if fields[path] {
		into[path] = true
		return
	}
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			fieldsIn(inner, strings.TrimPrefix(path+"."+key, "."), fields, into)
		}
	case []any:
		for _, inner := range value {
			fieldsIn(inner, path+"[]", fields, into)
		}
	default:
		into[path] = true
	}
}

// TestServerSpeaksTheGoldens creates the objects in the golden files and writes their status. The fields that a
// client of IronCore's API knows come back unchanged.
func TestServerSpeaksTheGoldens(t *testing.T) {
	for format, contentType := range map[string]string{"json": harness.JSON, "yaml": harness.YAML} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			namespace := harness.NewNamespace()
			uid := requester
			read := func(name string) []byte {
				return bytes.ReplaceAll(golden(t, name, format), []byte(requester), []byte(uid))
			}
			pathOf := func(golden *unstructured.Unstructured, below ...string) string {
				return harness.Path(namespace, harness.KindOf(t, golden), append([]string{golden.GetName()}, below...)...)
			}
			for _, name := range ironcoreGoldens {
				want := asClient(t, read(name), true)
				created := shared.Raw(t, http.MethodPost, harness.Path(namespace, harness.KindOf(t, want)), contentType, string(read(name)), contentType)
				if created.Code != http.StatusCreated || created.Header.Get("Content-Type") != contentType {
					t.Fatalf("%s: got %d as %s: %s", name, created.Code, created.Header.Get("Content-Type"), created.Body)
				}
				if name == "prefix-child" {
					uid = string(created.Must(t).GetUID())
				}
				got := asClient(t, shared.Do(t, http.MethodGet, pathOf(want), "", "", contentType).Body, false)
				harness.Same(t, want, got, "apiVersion", "kind", "spec", "metadata.name", "metadata.generateName",
					"metadata.labels", "metadata.annotations", "metadata.finalizers", "metadata.ownerReferences")
				if phase := harness.At(got, "status.phase"); phase != "Pending" {
					t.Errorf("%s: it begins with phase %v", name, phase)
				}
			}
			// Create parents before what is allocated from them, and allocations before their child.
			for _, name := range []string{"prefix-root", "prefix-root-ipv6", "prefixallocation-allocated", "prefix-child",
				"prefix-pending", "prefixallocation-static", "prefixallocation-failed"} {
				want := asClient(t, read(name), true)
				whole := shared.Raw(t, http.MethodGet, pathOf(want), "", "").Must(t)
				whole.Object["status"] = harness.At(want, "status")
				put := shared.Raw(t, http.MethodPut, pathOf(want, "status"), harness.JSON, harness.Encode(t, whole.Object), contentType)
				if put.Code != http.StatusOK {
					t.Fatalf("%s: got %d: %s", name, put.Code, put.Body)
				}
				got := asClient(t, shared.Raw(t, http.MethodGet, pathOf(want), "", "", contentType).Body, false)
				// The server sets the time, in seconds, when the phase changes.
				if harness.At(want, "status.lastPhaseTransitionTime") != nil {
					moved, _ := harness.At(got, "status.lastPhaseTransitionTime").(string)
					if _, err := time.Parse("2006-01-02T15:04:05Z", moved); err != nil {
						t.Errorf("%s: lastPhaseTransitionTime: %v", name, err)
					}
					_ = unstructured.SetNestedField(got.Object, harness.At(want, "status.lastPhaseTransitionTime"), "status", "lastPhaseTransitionTime")
				}
				harness.Same(t, want, got, "status", "spec")
			}
		})
	}
}

// TestServerSpeaksTheAdditiveFields writes all our fields, and reads them back.
func TestServerSpeaksTheAdditiveFields(t *testing.T) {
	namespace := harness.NewNamespace()
	for _, name := range additiveGoldens {
		want := &unstructured.Unstructured{Object: harness.ParseObject(t, string(golden(t, name, "json")))}
		created := shared.Create(t, namespace, harness.KindOf(t, want), string(golden(t, name, "yaml")))
		created.Object["status"] = harness.At(want, "status")
		got := shared.Put(t, created, "status").Must(t)
		if harness.At(got, "status.lastPhaseTransitionTime") == nil {
			t.Errorf("%s: it has no lastPhaseTransitionTime", name)
		}
		got.Object["status"] = harness.StoredStatus(got)
		for _, field := range append([]string{"status.phase"}, additive[want.GetKind()]...) {
			harness.Same(t, want, got, field)
		}
		harness.Same(t, want, got, "spec")
	}
}

// TestUnsetFieldsMayBeNull has a client that writes null for unset fields.
func TestUnsetFieldsMayBeNull(t *testing.T) {
	namespace := harness.NewNamespace()
	for k, manifest := range map[harness.Kind]string{
		harness.PrefixKind:     "{metadata: {name: a}, spec: {ipFamily: IPv4, prefix: null, prefixLength: 24, parentRef: null, parentSelector: {matchLabels: {a: b}}}, status: {used: null, lastPhaseTransitionTime: null}}",
		harness.AllocationKind: "{metadata: {name: a}, spec: {ipFamily: IPv4, prefix: null, prefixLength: 24, prefixRef: {name: a}, prefixSelector: null}, status: {prefix: null, lastPhaseTransitionTime: null}}",
	} {
		created := shared.Create(t, namespace, k, manifest)
		for _, field := range []string{"prefix", "parentRef", "prefixSelector"} {
			if _, has := created.Object["spec"].(map[string]any)[field]; has {
				t.Errorf("%s: it has spec.%s", k.Name, field)
			}
		}
		if got := harness.Encode(t, harness.StoredStatus(created)); got != `{"phase":"Pending"}` {
			t.Errorf("%s: status %s", k.Name, got)
		}
	}
}

// TestDifferences contains the intentional differences from IronCore's server. docs/compatibility.md gives the
// reasons.
func TestDifferences(t *testing.T) {
	namespace := harness.NewNamespace()
	createRoot(t, shared, namespace, "root", "10.0.0.0/8")
	for _, test := range []struct {
		name     string
		kind     harness.Kind
		manifest string
		code     int
		says     string
	}{
		{"IPv6 in capitals", harness.PrefixKind, "{spec: {prefix: '2001:DB8::/32'}}", http.StatusUnprocessableEntity, "2001:db8::/32"},
		{"IPv6 with zeros", harness.PrefixKind, "{spec: {prefix: '2001:0db8:0::/32'}}", http.StatusUnprocessableEntity, "2001:db8::/32"},
		{"host bits", harness.PrefixKind, "{spec: {prefix: 10.1.2.3/8}}", http.StatusUnprocessableEntity, "10.0.0.0/8"},
		{"IPv4 in IPv6", harness.PrefixKind, "{spec: {prefix: '::ffff:10.0.0.0/104'}}", http.StatusUnprocessableEntity, "IPv4-mapped"},
		{"no CIDR", harness.PrefixKind, "{spec: {prefix: ten}}", http.StatusUnprocessableEntity, "spec.prefix"},
		{"itself as the parent", harness.PrefixKind, "{spec: {prefixLength: 24, parentRef: {name: new}}}", http.StatusUnprocessableEntity, "spec.parentRef.name"},
		{"no family with a parent by name", harness.PrefixKind, "{spec: {prefixLength: 24, parentRef: {name: root}}}", http.StatusCreated, ""},
		{"no family with prefix and length", harness.PrefixKind, "{spec: {prefix: 10.0.0.0/24, prefixLength: 24, parentRef: {name: root}}}", http.StatusCreated, ""},
		{"a name with a dot", harness.PrefixKind, "{metadata: {name: a.b}, spec: {prefix: 12.0.0.0/8}}", http.StatusCreated, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			obj := &unstructured.Unstructured{Object: harness.ParseObject(t, test.manifest)}
			if obj.GetName() == "" {
				obj.SetName("new")
			}
			// Nothing is stored.
			got := shared.Raw(t, http.MethodPost, harness.Path(namespace, test.kind)+"?dryRun=All", harness.JSON, harness.Encode(t, obj.Object))
			if got.Code != test.code || !strings.Contains(string(got.Body), test.says) {
				t.Errorf("got %d, not %d with %q: %s", got.Code, test.code, test.says, got.Body)
			}
		})
	}

	t.Run("a put need not say which version it replaces", func(t *testing.T) {
		obj := shared.Create(t, namespace, harness.AllocationKind, "{metadata: {name: any}, spec: {prefixLength: 24, prefixRef: {name: root}}}")
		obj.SetResourceVersion("")
		obj.SetLabels(map[string]string{"a": "b"})
		shared.Put(t, obj).Must(t)
	})
	t.Run("a phase that is not one", func(t *testing.T) {
		obj := shared.Create(t, namespace, harness.AllocationKind, "{metadata: {name: odd}, spec: {prefixLength: 24, prefixRef: {name: root}}}")
		status := shared.Patch(t, obj, harness.MergePatch, "{status: {phase: Odd}}", "status").Refused(t, http.StatusUnprocessableEntity)
		if !strings.Contains(status.Message, "status.phase") {
			t.Errorf("got %s", status.Message)
		}
	})
	t.Run("an overlap", func(t *testing.T) {
		first := shared.Create(t, namespace, harness.AllocationKind, "{metadata: {name: first}, spec: {prefix: 10.1.0.0/16, prefixRef: {name: root}}}")
		second := shared.Create(t, namespace, harness.AllocationKind, "{metadata: {name: second}, spec: {prefix: 10.1.2.0/24, prefixRef: {name: root}}}")
		shared.Patch(t, first, harness.MergePatch, "{status: {phase: Allocated, prefix: 10.1.0.0/16}}", "status").Must(t)
		shared.Patch(t, second, harness.MergePatch, "{status: {phase: Allocated, prefix: 10.1.2.0/24}}", "status").Refused(t, http.StatusConflict)
	})
}
