// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
)

const tableType = "application/json;as=Table;g=meta.k8s.io;v=v1"

// TestKubectl sends the same requests as kubectl for the commands in the README.
func TestKubectl(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), "--samples", filepath.Join(samples, "ipv4.yaml"))
	for range 6 {
		p.line()
	}
	prefixes := p.client().IpamV1alpha1().Prefixes(metav1.NamespaceDefault)
	// raw sends requests for which there is no type.
	httpClient, err := rest.HTTPClientFor(p.config())
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, accept string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := httpClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, response.Status)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response
	}
	getInto := func(path, accept string, into any) {
		t.Helper()
		if err := json.NewDecoder(get(path, accept).Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("api-resources", func(t *testing.T) {
		var list metav1.APIResourceList
		getInto("/apis/ipam.ironcore.dev/v1alpha1", "application/json", &list)
		for name, short := range map[string]string{"prefixes": "pfx", "prefixallocations": "pfxa"} {
			i := slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == name })
			if i < 0 {
				t.Fatalf("no %s", name)
			}
			if r := list.APIResources[i]; !slices.Contains(r.ShortNames, short) || !slices.Contains(r.Categories, "ipam") || !r.Namespaced {
				t.Errorf("%+v", r)
			}
		}
	})

	t.Run("get -o wide", func(t *testing.T) {
		var table metav1.Table
		getInto("/apis/ipam.ironcore.dev/v1alpha1/namespaces/default/prefixes", tableType, &table)
		var columns, wide []string
		for _, c := range table.ColumnDefinitions {
			if c.Priority == 0 {
				columns = append(columns, strings.ToUpper(c.Name))
			} else {
				wide = append(wide, strings.ToUpper(c.Name))
			}
		}
		if want := []string{"NAME", "PREFIX", "PARENT", "PHASE", "AGE"}; !slices.Equal(columns, want) {
			t.Errorf("columns %v, want %v", columns, want)
		}
		if want := []string{"FAMILY", "USED", "FREE", "USE%"}; !slices.Equal(wide, want) {
			t.Errorf("wide columns %v, want %v", wide, want)
		}
		// The status of the parents follows a moment later.
		harness.Eventually(t, "one root is full, the other one half", func() error {
			getInto("/apis/ipam.ironcore.dev/v1alpha1/namespaces/default/prefixes", tableType, &table)
			if len(table.Rows) != 5 {
				return fmt.Errorf("%d rows", len(table.Rows))
			}
			var got []string
			for _, r := range table.Rows {
				if name := r.Cells[0]; name == "root" || name == "root-2" {
					got = append(got, fmt.Sprint(r.Cells[5:]))
				}
			}
			slices.Sort(got)
			if want := []string{"[IPv4 16777216 0 100%]", "[IPv4 8388608 8388608 50%]"}; !slices.Equal(got, want) {
				return fmt.Errorf("got %q, want %q", got, want)
			}
			return nil
		})
	})

	t.Run("apply --server-side", func(t *testing.T) {
		file, err := os.Open(filepath.Join(samples, "ipv6.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		documents := yaml.NewYAMLReader(bufio.NewReader(file))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var obj metav1.PartialObjectMetadata
			if err := yaml.Unmarshal(document, &obj); err != nil {
				t.Fatal(err)
			}
			if obj.Name == "" {
				continue
			}
			// Repeated requests change nothing.
			var last *v1alpha1.Prefix
			for range 2 {
				applied, err := prefixes.Patch(t.Context(), obj.Name, types.ApplyPatchType, bytes.TrimSpace(document),
					metav1.PatchOptions{FieldManager: "kubectl", FieldValidation: "Strict"})
				if err != nil {
					t.Fatalf("%s: %v", obj.Name, err)
				}
				if last != nil && (applied.UID != last.UID || applied.Generation < last.Generation) {
					t.Errorf("%s: %+v, was %+v", obj.Name, applied, last)
				}
				last = applied
			}
		}
		p.in(t, metav1.NamespaceDefault).AllAllocated()
	})

	t.Run("wait --for=condition=Allocated", func(t *testing.T) {
		for _, name := range []string{"customer-subnet-1", "customer-subnet-ipv6-2", "root"} {
			watcher, err := prefixes.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
			if err != nil {
				t.Fatal(err)
			}
			defer watcher.Stop()
			select {
			case event := <-watcher.ResultChan():
				if prefix, ok := event.Object.(*v1alpha1.Prefix); !ok || !meta.IsStatusConditionTrue(prefix.Status.Conditions, "Allocated") {
					t.Errorf("%s: %+v", name, event)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s: nothing", name)
			}
		}
	})

	t.Run("explain prefix.spec.parentSelector", func(t *testing.T) {
		var document struct {
			Components struct {
				Schemas map[string]struct {
					Properties map[string]struct{ Description string }
				}
			}
		}
		getInto("/openapi/v3/apis/ipam.ironcore.dev/v1alpha1", "application/json", &document)
		described := false
		for name, schema := range document.Components.Schemas {
			if strings.HasSuffix(name, ".PrefixSpec") {
				described = strings.Contains(schema.Properties["parentSelector"].Description, "selects the parents to allocate from by their labels")
			}
		}
		if !described {
			t.Error("not described")
		}
	})

	t.Run("get pfx --field-selector -w", func(t *testing.T) {
		response := get("/apis/ipam.ironcore.dev/v1alpha1/namespaces/default/prefixes?watch=true&fieldSelector=status.phase%3DAllocated", tableType)
		events := json.NewDecoder(response.Body)
		names := map[string]bool{}
		next := func() string {
			t.Helper()
			var event struct {
				Type   string
				Object metav1.Table
			}
			if err := events.Decode(&event); err != nil {
				t.Fatal(err)
			}
			if len(event.Object.Rows) != 1 {
				t.Fatalf("%+v", event)
			}
			return fmt.Sprint(event.Object.Rows[0].Cells[0])
		}
		for len(names) < 8 {
			names[next()] = true
		}
		// A waiting Prefix does not match until it is allocated.
		waits := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "waits"}, Spec: v1alpha1.PrefixSpec{
			PrefixLength: 24, ParentRef: &v1alpha1.LocalObjectReference{Name: "late"}}}
		if _, err := prefixes.Create(t.Context(), waits, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		late := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "late"}, Spec: v1alpha1.PrefixSpec{Prefix: "172.16.0.0/12"}}
		if _, err := prefixes.Create(t.Context(), late, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for seen := next(); seen != "waits"; seen = next() {
			if seen != "late" {
				t.Errorf("%s is shown", seen)
			}
		}
	})
}
