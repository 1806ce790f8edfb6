// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package registry tests the API as it is served: a real server on a real etcd, with no controllers,
// so that nothing but the request under test writes.
package registry

import (
	"context"
	stdjson "encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	groupVersion = "ipam.ironcore.dev/v1alpha1"
	jsonType     = "application/json"
	jsonPatch    = "application/json-patch+json"
	mergePatch   = "application/merge-patch+json"
	strategic    = "application/strategic-merge-patch+json"
	applyPatch   = "application/apply-patch+yaml"
)

// kind is one of the two kinds of the group.
type kind struct{ name, resource string }

var (
	prefixKind     = kind{"Prefix", "prefixes"}
	allocationKind = kind{"PrefixAllocation", "prefixallocations"}
	kinds          = []kind{prefixKind, allocationKind}
)

// server is an instance, seen by its administrator.
type server struct {
	*standalone.Instance
	config *rest.Config
	http   *http.Client
	client ipamclient.IpamV1alpha1Interface
	etcd   *clientv3.Client
}

// Close ends the instance.
func (s *server) Close() {
	s.http.CloseIdleConnections()
	_ = s.etcd.Close()
	s.Instance.Close()
}

// shared is the server of all tests that need no options of their own. They keep apart by namespace.
var shared *server

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "registry-test-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		shared, err = start(dir, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the server:", err)
		return 1
	}
	defer shared.Close()
	return m.Run()
}

func start(dir string, customize func(*apiserver.Options)) (*server, error) {
	options := standalone.NewOptions()
	options.DataDir, options.Port, options.Controllers, options.Customize = dir, 0, nil, customize
	instance, err := standalone.Start(context.Background(), options)
	if err != nil {
		return nil, err
	}
	s := &server{Instance: instance}
	if err := s.connect(); err != nil {
		instance.Close()
		return nil, err
	}
	return s, nil
}

// connect makes the clients.
func (s *server) connect() (err error) {
	if s.config, err = clientcmd.BuildConfigFromFlags("", s.Kubeconfig); err != nil {
		return err
	}
	s.config.QPS = -1
	if s.http, err = rest.HTTPClientFor(s.config); err != nil {
		return err
	}
	clientset, err := versioned.NewForConfigAndClient(s.config, s.http)
	if err != nil {
		return err
	}
	s.client = clientset.IpamV1alpha1()
	s.etcd, err = clientv3.New(clientv3.Config{Endpoints: s.EtcdEndpoints, Logger: zap.NewNop()})
	return err
}

// startWith starts a server with other options, for one test.
func startWith(t *testing.T, customize func(*apiserver.Options)) *server {
	t.Helper()
	s, err := start(t.TempDir(), customize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

var namespaces atomic.Int64

// newNamespace returns the name of a namespace that no other test uses.
func newNamespace() string { return fmt.Sprintf("namespace-%d", namespaces.Add(1)) }

// path returns the path of a resource, and of what is below it.
func path(namespace string, k kind, below ...string) string {
	p := "/apis/" + groupVersion + "/namespaces/" + namespace + "/" + k.resource
	for _, part := range below {
		p += "/" + url.PathEscape(part)
	}
	return p
}

// answer is what the server says to one request.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// do sends one request. The body is YAML, and goes out as JSON. accept is optional.
func (s *server) do(t *testing.T, method, path, contentType, body string, accept ...string) answer {
	t.Helper()
	if body != "" {
		body = string(encode(t, parse(t, body)))
	}
	return s.raw(t, method, path, contentType, body, accept...)
}

// raw sends one request with the body as it is.
func (s *server) raw(t *testing.T, method, path, contentType, body string, accept ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
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
func (a answer) must(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	if a.code/100 != 2 {
		t.Fatalf("got %d: %s", a.code, a.body)
	}
	obj := &unstructured.Unstructured{}
	a.into(t, &obj.Object)
	return obj
}

// into decodes the answer.
func (a answer) into(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatalf("%v in %.300s", err, a.body)
	}
}

// refused fails the test unless the request was refused with the code, and returns why.
func (a answer) refused(t *testing.T, code int) metav1.Status {
	t.Helper()
	status := metav1.Status{}
	if a.code != code {
		t.Fatalf("got %d, not %d: %s", a.code, code, a.body)
	}
	a.into(t, &status)
	return status
}

// create creates an object from YAML that need not say what kind it is.
func (s *server) create(t *testing.T, namespace string, k kind, manifest string) *unstructured.Unstructured {
	t.Helper()
	return s.do(t, http.MethodPost, path(namespace, k), jsonType, manifest).must(t)
}

func (s *server) get(t *testing.T, namespace string, k kind, name string) *unstructured.Unstructured {
	t.Helper()
	return s.do(t, http.MethodGet, path(namespace, k, name), jsonType, "").must(t)
}

// write updates the object with the changes, a merge patch, by PUT or as a patch of the given type.
func (s *server) write(t *testing.T, obj *unstructured.Unstructured, contentType, changes string, below ...string) answer {
	t.Helper()
	k := kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == obj.GetKind() })]
	p := path(obj.GetNamespace(), k, append([]string{obj.GetName()}, below...)...)
	switch contentType {
	case jsonType:
		whole := obj.DeepCopy()
		merge(whole.Object, parseObject(t, changes))
		return s.do(t, http.MethodPut, p, contentType, string(encode(t, whole.Object)))
	case applyPatch:
		return s.apply(t, obj.GetNamespace(), k, "applier", changes, append([]string{obj.GetName()}, below...)...)
	default:
		return s.do(t, http.MethodPatch, p, contentType, changes)
	}
}

// apply applies YAML that need not say what kind it is, and has the name of the path.
func (s *server) apply(t *testing.T, namespace string, k kind, manager, manifest string, below ...string) answer {
	t.Helper()
	obj := parseObject(t, manifest)
	merge(obj, map[string]any{"apiVersion": groupVersion, "kind": k.name, "metadata": map[string]any{"name": below[0]}})
	return s.do(t, http.MethodPatch, path(namespace, k, below...)+"?fieldManager="+manager, applyPatch, string(encode(t, obj)))
}

// snapshot returns everything that etcd has of a namespace, by key.
func (s *server) snapshot(t *testing.T, namespace string) map[string]string {
	t.Helper()
	stored := map[string]string{}
	for _, k := range kinds {
		prefix := apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/" + k.resource + "/" + namespace + "/"
		response, err := s.etcd.Get(t.Context(), prefix, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range response.Kvs {
			stored[string(kv.Key)] = fmt.Sprintf("revision %d: %s", kv.ModRevision, kv.Value)
		}
	}
	return stored
}

// items lists.
func (s *server) items(t *testing.T, path string) []unstructured.Unstructured {
	t.Helper()
	list := unstructured.UnstructuredList{}
	if err := list.UnmarshalJSON(encode(t, s.do(t, http.MethodGet, path, jsonType, "").must(t).Object)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// names returns the names of what a list holds, in order.
func (s *server) names(t *testing.T, path string) []string {
	t.Helper()
	names := []string{}
	for _, item := range s.items(t, path) {
		names = append(names, item.GetName())
	}
	return names
}

// event is one of a watch.
type event struct {
	Type   string
	Object *unstructured.Unstructured
}

// watch yields the events of a watch, whose path has a query, and fails the test if the next one does not come soon.
func (s *server) watch(t *testing.T, path string, accept ...string) iter.Seq[event] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"&watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", append(accept, jsonType)[0])
	response, err := s.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %d", path, response.StatusCode)
	}
	decoder := stdjson.NewDecoder(response.Body)
	return func(yield func(event) bool) {
		for {
			var raw struct {
				Type   string
				Object map[string]any
			}
			if err := decoder.Decode(&raw); err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			if !yield(event{raw.Type, &unstructured.Unstructured{Object: raw.Object}}) {
				return
			}
		}
	}
}

// at returns the value at a dotted path, or nil.
func at(obj *unstructured.Unstructured, path string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
	return value
}

// merge merges a patch into an object, as RFC 7386 says.
func merge(into, patch map[string]any) {
	for key, value := range patch {
		inner, isMap := value.(map[string]any)
		old, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(old, inner)
		default:
			into[key] = value
		}
	}
}

// parse reads YAML.
func parse(t *testing.T, manifest string) (value any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(manifest), &value); err != nil {
		t.Fatalf("%s: %v", manifest, err)
	}
	return value
}

func parseObject(t *testing.T, manifest string) map[string]any {
	t.Helper()
	return parse(t, manifest).(map[string]any)
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// causes returns the fields that a refusal is about, sorted.
func causes(status metav1.Status) []string {
	fields := []string{}
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			fields = append(fields, cause.Field)
		}
	}
	slices.Sort(fields)
	// Upstream validates metadata once more.
	return slices.CompactFunc(fields, func(a, b string) bool { return a == b && strings.HasPrefix(a, "metadata.") })
}

// keys returns the keys of a map, sorted.
func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// soon is how long a test waits for what has to happen at once.
const soon = 10 * time.Second
