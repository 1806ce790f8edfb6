// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// GroupVersion is the group and version of the API.
const GroupVersion = "ipam.ironcore.dev/v1alpha1"

// The media types of requests.
const (
	JSON       = "application/json"
	YAML       = "application/yaml"
	Protobuf   = "application/vnd.kubernetes.protobuf"
	JSONPatch  = "application/json-patch+json"
	MergePatch = "application/merge-patch+json"
	Strategic  = "application/strategic-merge-patch+json"
	ApplyPatch = "application/apply-patch+yaml"
)

// Kind is a kind of the API group, with the name of its resource.
type Kind struct{ Name, Resource string }

// The kinds of the API group. Kinds has those that hold addresses.
var (
	PrefixKind     = Kind{"Prefix", "prefixes"}
	AllocationKind = Kind{"PrefixAllocation", "prefixallocations"}
	PolicyKind     = Kind{"PrefixPolicy", "prefixpolicies"}
	Kinds          = []Kind{PrefixKind, AllocationKind}
)

// KindOf returns the kind of an object. The test fails if it is not one of Kinds.
func KindOf(t testing.TB, obj *unstructured.Unstructured) Kind {
	t.Helper()
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == obj.GetKind() })
	if i < 0 {
		t.Fatalf("what kind is %v", obj)
	}
	return Kinds[i]
}

// Path returns the URL path of a resource. below are further path segments, such as the name of an object and of a
// subresource.
func Path(namespace string, k Kind, below ...string) string {
	p := "/apis/" + GroupVersion + "/namespaces/" + namespace + "/" + k.Resource
	for _, part := range below {
		p += "/" + url.PathEscape(part)
	}
	return p
}

// PathOf returns the URL path of an object. below are further path segments, such as the name of a subresource.
func PathOf(t testing.TB, obj *unstructured.Unstructured, below ...string) string {
	t.Helper()
	return Path(obj.GetNamespace(), KindOf(t, obj), append([]string{obj.GetName()}, below...)...)
}

// Answer is the response to a request.
type Answer struct {
	Code   int
	Header http.Header
	Body   []byte
}

// Do sends a request. body is YAML and is sent as JSON. accept is the Accept header, by default JSON.
func (s *Server) Do(t testing.TB, method, path, contentType, body string, accept ...string) Answer {
	t.Helper()
	if body != "" {
		body = Encode(t, Parse(t, body))
	}
	return s.Raw(t, method, path, contentType, body, accept...)
}

// Raw is like Do, but sends body unchanged.
func (s *Server) Raw(t testing.TB, method, path, contentType, body string, accept ...string) Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept", append(accept, JSON)[0])
	response, err := s.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Answer{response.StatusCode, response.Header, got}
}

// Must returns the object in a successful response. The test fails if the status code is not 2xx.
func (a Answer) Must(t testing.TB) *unstructured.Unstructured {
	t.Helper()
	if a.Code/100 != 2 {
		t.Fatalf("got %d: %s", a.Code, a.Body)
	}
	obj := &unstructured.Unstructured{}
	a.Into(t, &obj.Object)
	return obj
}

// Into decodes a response in JSON or YAML.
func (a Answer) Into(t testing.TB, into any) {
	t.Helper()
	data, err := yaml.ToJSON(a.Body)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%v in %.300s", err, a.Body)
	}
}

// Refused returns the Status in the response to a rejected request. The test fails if the status code is not the given
// one.
func (a Answer) Refused(t testing.TB, code int) metav1.Status {
	t.Helper()
	if a.Code != code {
		t.Fatalf("got %d, not %d: %s", a.Code, code, a.Body)
	}
	status := metav1.Status{}
	a.Into(t, &status)
	return status
}

// Create creates an object from YAML, which may omit apiVersion and kind.
func (s *Server) Create(t testing.TB, namespace string, k Kind, manifest string) *unstructured.Unstructured {
	t.Helper()
	return s.Do(t, http.MethodPost, Path(namespace, k), JSON, manifest).Must(t)
}

// Get reads an object.
func (s *Server) Get(t testing.TB, namespace string, k Kind, name string) *unstructured.Unstructured {
	t.Helper()
	return s.Do(t, http.MethodGet, Path(namespace, k, name), JSON, "").Must(t)
}

// Patch sends a patch in YAML for an object or one of its subresources.
func (s *Server) Patch(t testing.TB, obj *unstructured.Unstructured, contentType, patch string, below ...string) Answer {
	t.Helper()
	return s.Do(t, http.MethodPatch, PathOf(t, obj, below...), contentType, patch)
}

// Put replaces an object or one of its subresources.
func (s *Server) Put(t testing.TB, obj *unstructured.Unstructured, below ...string) Answer {
	t.Helper()
	return s.Raw(t, http.MethodPut, PathOf(t, obj, below...), JSON, Encode(t, obj.Object))
}

// Apply sends a server-side apply for an object in YAML, which may omit apiVersion, kind and name. If manager ends in "
// force", Apply forces conflicts.
func (s *Server) Apply(t testing.TB, namespace string, k Kind, manager, manifest, name string, below ...string) Answer {
	t.Helper()
	obj := &unstructured.Unstructured{Object: ParseObject(t, manifest)}
	obj.SetAPIVersion(GroupVersion)
	obj.SetKind(k.Name)
	obj.SetName(name)
	manager, force, _ := strings.Cut(manager, " ")
	p := Path(namespace, k, append([]string{name}, below...)...) + "?fieldManager=" + manager
	if force != "" {
		p += "&force=true"
	}
	return s.Raw(t, http.MethodPatch, p, ApplyPatch, Encode(t, obj.Object))
}

// List returns the list at a path.
func (s *Server) List(t testing.TB, path string) *unstructured.UnstructuredList {
	t.Helper()
	got := s.Raw(t, http.MethodGet, path, JSON, "")
	list := &unstructured.UnstructuredList{}
	if got.Code != http.StatusOK {
		t.Fatalf("%s: got %d: %s", path, got.Code, got.Body)
	}
	if err := list.UnmarshalJSON(got.Body); err != nil {
		t.Fatalf("%v in %.300s", err, got.Body)
	}
	return list
}

// Names returns the names in the list at a path, in the order of the list.
func (s *Server) Names(t testing.TB, path string) []string {
	t.Helper()
	return NamesOf(s.List(t, path))
}

// NamesOf returns the names in a list, in the order of the list.
func NamesOf(list *unstructured.UnstructuredList) []string {
	names := []string{}
	for _, item := range list.Items {
		names = append(names, item.GetName())
	}
	return names
}

// Event is an event of a watch.
type Event struct {
	Type   string
	Object *unstructured.Unstructured
}

// Watch starts a watch and yields its events. path must have a query. The test fails if the watch takes longer than
// Patience, or if the server ends it although the path has no timeoutSeconds.
func (s *Server) Watch(t testing.TB, path string, accept ...string) iter.Seq[Event] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"&watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", append(accept, JSON)[0])
	response, err := s.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: got %d: %s", path, response.StatusCode, body)
	}
	decoder := stdjson.NewDecoder(response.Body)
	return func(yield func(Event) bool) {
		for {
			var raw struct {
				Type   string
				Object stdjson.RawMessage
			}
			if err := decoder.Decode(&raw); errors.Is(err, io.EOF) && strings.Contains(path, "timeoutSeconds=") {
				return
			} else if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			obj := &unstructured.Unstructured{}
			if err := json.Unmarshal(raw.Object, &obj.Object); err != nil {
				t.Errorf("%s: %v in %.300s", path, err, raw.Object)
				return
			}
			if !yield(Event{raw.Type, obj}) {
				return
			}
		}
	}
}

// At returns the value at a path of field names separated by dots, or nil if there is none.
func At(obj *unstructured.Unstructured, path string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
	return value
}

// StoredStatus returns the status of an object as it is stored: without the conditions that the server derives.
func StoredStatus(obj *unstructured.Unstructured) map[string]any {
	status, _ := At(obj.DeepCopy(), "status").(map[string]any)
	conditions, _ := status["conditions"].([]any)
	conditions = slices.DeleteFunc(conditions, func(condition any) bool {
		conditionType := condition.(map[string]any)["type"]
		return conditionType == v1alpha1.ConditionReady || conditionType == v1alpha1.ConditionStalled
	})
	if len(conditions) > 0 {
		status["conditions"] = conditions
	} else {
		delete(status, "conditions")
	}
	return status
}

// Same fails the test if one of the fields differs between the two objects. Each field is a path as in At.
func Same(t testing.TB, before, after *unstructured.Unstructured, fields ...string) {
	t.Helper()
	for _, field := range fields {
		if was, is := At(before, field), At(after, field); !reflect.DeepEqual(was, is) {
			t.Errorf("%s changed from %v to %v", field, was, is)
		}
	}
}

// Unwritten fails the test if the object was written in between, which changes its resourceVersion.
func Unwritten(t testing.TB, before, after *unstructured.Unstructured) {
	t.Helper()
	if before.GetResourceVersion() != after.GetResourceVersion() {
		t.Errorf("resourceVersion moved from %s to %s:\n%s\n%s", before.GetResourceVersion(), after.GetResourceVersion(),
			Encode(t, before.Object), Encode(t, after.Object))
	}
}

// Causes returns the fields in the causes of a rejection, sorted.
func Causes(status metav1.Status) []string {
	fields := []string{}
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			fields = append(fields, cause.Field)
		}
	}
	slices.Sort(fields)
	// The generic API server validates metadata a second time, so drop these duplicates.
	return slices.CompactFunc(fields, func(a, b string) bool { return a == b && strings.HasPrefix(a, "metadata.") })
}

// Parse decodes YAML.
func Parse(t testing.TB, manifest string) (value any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(manifest), &value); err != nil {
		t.Fatalf("%s: %v", manifest, err)
	}
	return value
}

// ParseObject decodes an object in YAML.
func ParseObject(t testing.TB, manifest string) map[string]any {
	t.Helper()
	return Parse(t, manifest).(map[string]any)
}

// Encode returns a value as JSON.
func Encode(t testing.TB, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Merge applies a JSON merge patch (RFC 7386) to into.
func Merge(into, patch map[string]any) {
	for key, value := range patch {
		inner, isMap := value.(map[string]any)
		old, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			Merge(old, inner)
		default:
			into[key] = value
		}
	}
}

// Keys returns the keys of a map, sorted.
func Keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
