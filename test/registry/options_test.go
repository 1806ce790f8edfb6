// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// live sends all kinds of requests for both kinds: create, read, list, watch, update, bind, delete.
func (s server) live(t *testing.T) (namespace string) {
	t.Helper()
	namespace, parent := s.setUp(t)
	events := s.Watch(t, harness.Path(namespace, harness.AllocationKind)+"?resourceVersion="+parent.GetResourceVersion()+"&fieldSelector=status.phase%3DAllocated")
	child := s.Create(t, namespace, harness.PrefixKind, fixtures["child"].manifest)
	s.hold(t, child, "parent", "10.0.4.0/24")
	child = s.bind(t, namespace, harness.PrefixKind, "child", bindChild).Must(t)
	child = s.write(t, child, harness.JSON, "{metadata: {labels: {a: b}}}").Must(t)
	if harness.At(child, "spec.prefix") != "10.0.4.0/24" || harness.At(s.Get(t, namespace, harness.PrefixKind, "child"), "metadata.labels.a") != "b" {
		t.Errorf("the child is %v", child)
	}
	if got := s.Names(t, harness.Path(namespace, harness.PrefixKind)+"?fieldSelector=status.phase%3DAllocated"); !slices.Equal(got, []string{"child", "parent"}) {
		t.Errorf("got %q", got)
	}
	if got := s.Names(t, harness.Path(namespace, harness.PrefixKind)+"?labelSelector=a%3Db&limit=1&resourceVersion=0"); !slices.Equal(got, []string{"child"}) {
		t.Errorf("got %q", got)
	}
	overlapping := s.Create(t, namespace, harness.AllocationKind, "{metadata: {name: overlapping}, spec: {prefix: 10.0.4.128/25, prefixRef: {name: parent}}}")
	s.bind(t, namespace, harness.AllocationKind, "overlapping", "{prefix: 10.0.4.128/25, prefixRef: {name: parent}}").Refused(t, http.StatusConflict)
	s.delete(t, overlapping, "").Must(t)

	s.delete(t, child, "").Must(t)
	s.write(t, child, harness.MergePatch, drop).Must(t)
	s.delete(t, s.Get(t, namespace, harness.AllocationKind, "child"), "").Must(t)
	if got := take(events, 2); !slices.Equal(got, []string{"ADDED Allocated", "DELETED Allocated"}) {
		t.Errorf("a watch saw %q", got)
	}
	return namespace
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestEncryptionAtRest reads the values in etcd, and then starts another server that reads them.
func TestEncryptionAtRest(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	for _, provider := range []string{"aescbc", "secretbox"} {
		t.Run(provider, func(t *testing.T) {
			file := writeFile(t, "encryption.yaml", fmt.Sprintf(`
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [prefixes.ipam.ironcore.dev, prefixallocations.ipam.ironcore.dev]
  providers:
  - %s: {keys: [{name: key1, secret: %s}]}
  - identity: {}
`, provider, key))
			dir := harness.DataDir(t.TempDir())
			encrypted := harness.Customize(func(o *apiserver.Options) { o.Recommended.Etcd.EncryptionProviderConfigFilepath = file })
			s := start(t, dir, encrypted)
			namespace := s.live(t)
			s.Create(t, namespace, harness.AllocationKind, fixtures["request-static"].manifest)
			s.bind(t, namespace, harness.AllocationKind, "request-static", "{prefix: 10.0.3.0/24, prefixRef: {name: parent}}").Must(t)
			before := s.snapshot(t, namespace)
			if len(before) != 2 {
				t.Errorf("etcd has %q", harness.Keys(before))
			}
			response, err := s.Etcd.Get(t.Context(), apiserver.DefaultEtcdPrefix+"/ipam.ironcore.dev/", clientv3.WithPrefix())
			if err != nil {
				t.Fatal(err)
			}
			for _, kv := range response.Kvs {
				if !bytes.HasPrefix(kv.Value, []byte("k8s:enc:"+provider+":")) {
					t.Errorf("%s is stored as %.60q", kv.Key, kv.Value)
				}
				for _, clear := range []string{"10.0.", "Allocated", "spec"} {
					if bytes.Contains(kv.Value, []byte(clear)) {
						t.Errorf("%s has %s in clear", kv.Key, clear)
					}
				}
			}
			s.Close()

			// The second server has nothing in its caches.
			s = start(t, dir, encrypted)
			if got := harness.At(s.Get(t, namespace, harness.AllocationKind, "request-static"), "status.prefix"); got != "10.0.3.0/24" {
				t.Errorf("after a restart it has %v", got)
			}
			overlapping := s.Create(t, namespace, harness.AllocationKind, "{metadata: {name: overlapping}, spec: {prefix: 10.0.3.0/25, prefixRef: {name: parent}}}")
			s.bind(t, namespace, harness.AllocationKind, overlapping.GetName(), "{prefix: 10.0.3.0/25, prefixRef: {name: parent}}").Refused(t, http.StatusConflict)
			s.delete(t, s.Get(t, namespace, harness.AllocationKind, "request-static"), "").Must(t)
			s.bind(t, namespace, harness.AllocationKind, overlapping.GetName(), "{prefix: 10.0.3.0/25, prefixRef: {name: parent}}").Must(t)
		})
	}
}

// TestAudit checks that the audit log has every write, with its user.
func TestAudit(t *testing.T) {
	policy := writeFile(t, "policy.yaml", `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete]
- level: Metadata
`)
	log := filepath.Join(t.TempDir(), "audit.log")
	s := start(t, harness.Customize(func(o *apiserver.Options) {
		o.Recommended.Audit.PolicyFile = policy
		o.Recommended.Audit.LogOptions.Path = log
	}))
	namespace := s.live(t)
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(data)) {
		event := harness.ParseObject(t, line)
		reference, _ := event["objectRef"].(map[string]any)
		user, _ := event["user"].(map[string]any)
		if reference["namespace"] != namespace || user["username"] != "ipam-admin" {
			continue
		}
		what := fmt.Sprintf("%v %v", event["verb"], reference["resource"])
		if subresource := reference["subresource"]; subresource != nil {
			what += fmt.Sprintf("/%v", subresource)
			if response, _ := event["responseObject"].(map[string]any); response["kind"] == nil || event["requestObject"] == nil {
				t.Errorf("%s: the event has no objects: %.300s", what, line)
			}
		}
		seen[fmt.Sprintf("%s %v", what, event["responseStatus"].(map[string]any)["code"])]++
	}
	for what, want := range map[string]int{
		"create prefixes 201": 2, "create prefixes/binding 201": 1, "patch prefixes/status 200": 1, "update prefixes 200": 1, "delete prefixes 200": 1,
		"create prefixallocations/binding 201": 1, "create prefixallocations/binding 409": 1, "delete prefixallocations 200": 2, "list prefixes 200": 2,
	} {
		if seen[what] != want {
			t.Errorf("%s is logged %d times, not %d: %v", what, seen[what], want, seen)
		}
	}
}

// TestAWatchDoesNotHoldUpTheEnd stops the server while a client watches, like kubectl get -w.
func TestAWatchDoesNotHoldUpTheEnd(t *testing.T) {
	s := start(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+harness.Path("any", harness.PrefixKind)+"?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	begin := time.Now()
	s.Close()
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	// The watch ends without an error, so the client starts another one.
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("the watch ended with %q, %v", rest, err)
	}
}

func TestWithoutWatchCache(t *testing.T) {
	s := start(t, harness.Customize(func(o *apiserver.Options) { o.Recommended.Etcd.EnableWatchCache = false }))
	s.live(t)
	namespace := s.population(t)
	if got := s.Names(t, harness.Path(namespace, harness.PrefixKind)+"?fieldSelector=spec.ipFamily%3DIPv6"); !slices.Equal(got, []string{"six"}) {
		t.Errorf("got %q", got)
	}
	if got := s.Create(t, namespace, harness.PrefixKind, "{metadata: {name: new}, spec: {prefixLength: 64, parentRef: {name: six}}}"); harness.At(got, "spec.ipFamily") != "IPv6" {
		t.Errorf("the family of the parent is not known: %v", got)
	}
}
