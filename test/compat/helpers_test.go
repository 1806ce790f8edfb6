// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package compat tests that the server speaks what clients of IronCore's IPAM, kubectl and controllers
// that know nothing of it speak: a real server on a real etcd, and requests as they go over the wire.
package compat

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

const (
	groupVersion = "ipam.ironcore.dev/v1alpha1"

	jsonType     = "application/json"
	yamlType     = "application/yaml"
	protobufType = "application/vnd.kubernetes.protobuf"
	jsonPatch    = "application/json-patch+json"
	mergePatch   = "application/merge-patch+json"
	strategic    = "application/strategic-merge-patch+json"
	applyPatch   = "application/apply-patch+yaml"

	// patience is how long a test waits for what has to happen, on a machine that is busy with
	// something else.
	patience = 2 * time.Minute
)

// kind is one of the two kinds of the group.
type kind struct{ name, resource string }

var (
	prefixKind     = kind{"Prefix", "prefixes"}
	allocationKind = kind{"PrefixAllocation", "prefixallocations"}
	kinds          = []kind{prefixKind, allocationKind}
)

func kindOf(t testing.TB, obj *unstructured.Unstructured) kind {
	t.Helper()
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == obj.GetKind() })
	if i < 0 {
		t.Fatalf("what kind is %v", obj)
	}
	return kinds[i]
}

// server is an instance, seen by its administrator.
type server struct {
	*standalone.Instance
	http   *http.Client
	client ipamclient.IpamV1alpha1Interface
}

// Tests share two instances and keep apart by namespace: nothing but the requests of the test writes
// to shared, all controllers run beside live.
var shared, live *server

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	// What runs in parallel waits most of the time.
	if flag.Parse(); flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for _, instance := range []struct {
		server      **server
		controllers []string
	}{{&shared, nil}, {&live, []string{"*"}}} {
		dir, err := os.MkdirTemp("", "compat-test-")
		if err == nil {
			defer func() { _ = os.RemoveAll(dir) }()
			*instance.server, err = start(dir, instance.controllers, nil)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "start the server:", err)
			return 1
		}
		defer (*instance.server).Close()
	}
	return m.Run()
}

func start(dir string, controllers []string, customize func(*apiserver.Options)) (*server, error) {
	options := standalone.NewOptions()
	options.DataDir, options.Port, options.Controllers, options.Customize = dir, 0, controllers, customize
	instance, err := standalone.Start(context.Background(), options)
	if err != nil {
		return nil, err
	}
	s := &server{Instance: instance}
	if s.http, err = rest.HTTPClientFor(instance.Config); err == nil {
		var clientset *versioned.Clientset
		if clientset, err = versioned.NewForConfigAndClient(instance.Config, s.http); err == nil {
			s.client = clientset.IpamV1alpha1()
			return s, nil
		}
	}
	instance.Close()
	return nil, err
}

// Close ends the instance.
func (s *server) Close() {
	s.http.CloseIdleConnections()
	s.Instance.Close()
}

var namespaces atomic.Int64

// newNamespace returns the name of a namespace that no other test uses.
func newNamespace() string { return fmt.Sprintf("namespace-%d", namespaces.Add(1)) }

// path returns the path of a resource, and of what is below it.
func path(namespace string, k kind, below ...string) string {
	return strings.Join(append([]string{"/apis", groupVersion, "namespaces", namespace, k.resource}, below...), "/")
}

// answer is what the server says to one request.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// do sends one request. The body is YAML unless it is of a content type of its own; it goes out as JSON.
// accept is optional.
func (s *server) do(t testing.TB, method, path, contentType, body string, accept ...string) answer {
	t.Helper()
	if body != "" {
		body = string(encode(t, parse(t, body)))
	}
	return s.raw(t, method, path, contentType, []byte(body), accept...)
}

// raw sends one request with the body as it is.
func (s *server) raw(t testing.TB, method, path, contentType string, body []byte, accept ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.Config.Host+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept", append(accept, jsonType)[0])
	response, err := s.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, got}
}

// must fails the test unless the request succeeded, and returns the object of the answer.
func (a answer) must(t testing.TB) *unstructured.Unstructured {
	t.Helper()
	if a.code/100 != 2 {
		t.Fatalf("got %d: %s", a.code, a.body)
	}
	obj := &unstructured.Unstructured{}
	a.into(t, &obj.Object)
	return obj
}

// into decodes the answer, JSON or YAML.
func (a answer) into(t testing.TB, into any) {
	t.Helper()
	data, err := yaml.ToJSON(a.body)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%v in %.300s", err, a.body)
	}
}

// refused fails the test unless the request was refused with the code, and returns why.
func (a answer) refused(t testing.TB, code int) metav1.Status {
	t.Helper()
	if a.code != code {
		t.Fatalf("got %d, not %d: %s", a.code, code, a.body)
	}
	status := metav1.Status{}
	a.into(t, &status)
	return status
}

// create creates an object from YAML that need not say what kind it is.
func (s *server) create(t testing.TB, namespace string, k kind, manifest string) *unstructured.Unstructured {
	t.Helper()
	return s.do(t, http.MethodPost, path(namespace, k), jsonType, manifest).must(t)
}

func (s *server) get(t testing.TB, namespace string, k kind, name string) *unstructured.Unstructured {
	t.Helper()
	return s.do(t, http.MethodGet, path(namespace, k, name), jsonType, "").must(t)
}

// patch patches the object, or what is below it.
func (s *server) patch(t testing.TB, obj *unstructured.Unstructured, contentType, patch string, below ...string) answer {
	t.Helper()
	return s.do(t, http.MethodPatch, path(obj.GetNamespace(), kindOf(t, obj), append([]string{obj.GetName()}, below...)...), contentType, patch)
}

// put replaces the object, or what is below it.
func (s *server) put(t testing.TB, obj *unstructured.Unstructured, below ...string) answer {
	t.Helper()
	p := path(obj.GetNamespace(), kindOf(t, obj), append([]string{obj.GetName()}, below...)...)
	return s.raw(t, http.MethodPut, p, jsonType, encode(t, obj.Object))
}

// apply applies YAML, server-side, that need not say what kind it is or which name it has.
func (s *server) apply(t testing.TB, namespace string, k kind, manager, manifest, name string, below ...string) answer {
	t.Helper()
	obj := &unstructured.Unstructured{Object: parseObject(t, manifest)}
	obj.SetAPIVersion(groupVersion)
	obj.SetKind(k.name)
	obj.SetName(name)
	manager, force, _ := strings.Cut(manager, " ")
	p := path(namespace, k, append([]string{name}, below...)...) + "?fieldManager=" + manager
	if force != "" {
		p += "&force=true"
	}
	return s.raw(t, http.MethodPatch, p, applyPatch, encode(t, obj.Object))
}

// root creates a root and makes it Allocated.
func (s *server) root(t testing.TB, namespace, name, prefix string) *unstructured.Unstructured {
	t.Helper()
	root := s.create(t, namespace, prefixKind, fmt.Sprintf("{metadata: {name: %s, labels: {net: blue}}, spec: {prefix: %q}}", name, prefix))
	return s.patch(t, root, mergePatch, "{status: {phase: Allocated}}", "status").must(t)
}

// list is a list of objects, as it is read.
type list struct {
	metav1.ListMeta `json:"metadata"`
	Items           []map[string]any `json:"items"`
}

func (l list) names() []string {
	names := []string{}
	for _, item := range l.Items {
		names = append(names, (&unstructured.Unstructured{Object: item}).GetName())
	}
	return names
}

func (s *server) list(t testing.TB, path string) (l list) {
	t.Helper()
	got := s.raw(t, http.MethodGet, path, "", nil)
	if got.code != http.StatusOK {
		t.Fatalf("%s: got %d: %s", path, got.code, got.body)
	}
	got.into(t, &l)
	return l
}

// event is one of a watch.
type event struct {
	Type   string                    `json:"type"`
	Object unstructured.Unstructured `json:"object"`
}

// watch calls f for the events of a watch, whose path has a query, until f returns true or the server
// ends the watch. What is to happen once the watch has begun may follow.
func (s *server) watch(t testing.TB, path string, f func(event) bool, begun ...func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Config.Host+path+"&watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: got %d: %s", path, response.StatusCode, body)
	}
	for _, f := range begun {
		f()
	}
	for decoder := stdjson.NewDecoder(response.Body); ; {
		var e event
		switch err := decoder.Decode(&e); {
		case err == io.EOF:
			return
		case err != nil:
			t.Fatalf("%s: %v", path, err)
		}
		if f(e) {
			return
		}
	}
}

// eventually waits until the check has no complaint.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	began := time.Now()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		}
		time.Sleep(pause)
	}
}

// at returns the value at a dotted path, or nil.
func at(obj *unstructured.Unstructured, path string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
	return value
}

// same fails the test if one of the fields differs.
func same(t testing.TB, before, after *unstructured.Unstructured, fields ...string) {
	t.Helper()
	for _, field := range fields {
		if was, is := at(before, field), at(after, field); !reflect.DeepEqual(was, is) {
			t.Errorf("%s changed from %v to %v", field, was, is)
		}
	}
}

// unwritten fails the test if the object has been written.
func unwritten(t testing.TB, before, after *unstructured.Unstructured) {
	t.Helper()
	if before.GetResourceVersion() != after.GetResourceVersion() {
		t.Errorf("resourceVersion moved from %s to %s:\n%s\n%s", before.GetResourceVersion(), after.GetResourceVersion(),
			encode(t, before.Object), encode(t, after.Object))
	}
}

// parse reads YAML.
func parse(t testing.TB, manifest string) (value any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(manifest), &value); err != nil {
		t.Fatalf("%s: %v", manifest, err)
	}
	return value
}

func parseObject(t testing.TB, manifest string) map[string]any {
	t.Helper()
	return parse(t, manifest).(map[string]any)
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
