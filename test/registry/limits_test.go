// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
)

// many returns n items of a flow sequence or mapping.
func many(n int, format string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(items, ", ")
}

// TestLimits creates and updates objects at each limit and one above it. What is stored above a limit
// stays valid as long as it does not grow.
func TestLimits(t *testing.T) {
	t.Parallel()
	owner := "{apiVersion: v1, kind: ConfigMap, name: a, uid: u-%d}"
	// Each label has the same size.
	label := "a-%04d/" + strings.Repeat("b", 63) + ": " + strings.Repeat("c", 63)
	labelBytes := len("a-0000/") + 126
	for _, limit := range []struct {
		name  string
		field string
		// of returns what has n of it, and least is the number at the limit.
		of    func(n int) string
		least int
	}{
		{"owner references", "metadata.ownerReferences", func(n int) string { return "{ownerReferences: [" + many(n, owner) + "]}" }, validation.MaxOwnerReferences},
		{"finalizers", "metadata.finalizers", func(n int) string {
			return "{finalizers: [" + many(n-1, "example.org/f-%d") + ", ipam.ironcore.dev/prefix]}"
		}, validation.MaxFinalizers},
		{"labels", "metadata.labels", func(n int) string { return "{labels: {" + many(n, label) + "}}" }, validation.MaxLabelBytes / labelBytes},
	} {
		for _, k := range kinds {
			t.Run(k.name+" with "+limit.name, func(t *testing.T) {
				namespace := newNamespace()
				spec := map[kind]string{prefixKind: "{prefix: 10.0.0.0/8}", allocationKind: "{ipFamily: IPv4, prefixLength: 24, prefixRef: {name: a}}"}[k]
				send := func(name string, n int) answer {
					obj := parseObject(t, fmt.Sprintf("{metadata: %s, spec: %s}", limit.of(n), spec))
					merge(obj, map[string]any{"metadata": map[string]any{"name": name}})
					return shared.do(t, http.MethodPost, path(namespace, k), jsonType, string(encode(t, obj)))
				}
				refused := func(a answer) {
					t.Helper()
					if status := a.refused(t, http.StatusUnprocessableEntity); !slices.Equal(causes(status), []string{limit.field}) || len(status.Message) > 500 {
						t.Errorf("refused for %q: %.600s", causes(status), status.Message)
					}
				}
				refused(send("above", limit.least+1))
				obj := send("at", limit.least).must(t)
				for _, contentType := range []string{jsonType, mergePatch} {
					refused(shared.write(t, obj, contentType, fmt.Sprintf("{metadata: %s}", limit.of(limit.least+1))))
				}

				// Another server has no such limit.
				stored := parseObject(t, fmt.Sprintf("{metadata: %s, spec: %s, status: {phase: Pending}}", limit.of(limit.least+2), spec))
				merge(stored, map[string]any{"apiVersion": groupVersion, "kind": k.name, "metadata": map[string]any{"name": "stored", "namespace": namespace, "uid": "uid-" + namespace}})
				key := apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/" + k.resource + "/" + namespace + "/stored"
				if _, err := shared.etcd.Put(t.Context(), key, string(encode(t, stored))); err != nil {
					t.Fatal(err)
				}
				was := shared.get(t, namespace, k, "stored")
				was = shared.write(t, was, mergePatch, "{metadata: {annotations: {a: b}}}").must(t)
				refused(shared.write(t, was, mergePatch, fmt.Sprintf("{metadata: %s}", limit.of(limit.least+3))))
			})
		}
	}
}

// TestLimitsOfSelectors creates objects with selectors at each limit and above it.
func TestLimitsOfSelectors(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	for _, tt := range []struct {
		name, selector string
		refused        bool
	}{
		{"labels", "matchLabels: {" + many(64, "l%d: a") + "}", false},
		{"more labels", "matchLabels: {" + many(65, "l%d: a") + "}", true},
		{"values", "matchExpressions: [{key: a, operator: In, values: [" + many(63, "v%d") + "]}]", false},
		{"more values", "matchExpressions: [{key: a, operator: In, values: [" + many(64, "v%d") + "]}]", true},
		{"expressions", "matchExpressions: [" + many(64, "{key: a%d, operator: Exists}") + "]", false},
		{"more expressions", "matchExpressions: [" + many(65, "{key: a%d, operator: Exists}") + "]", true},
		{"all together", "matchLabels: {" + many(20, "l%d: a") + "}, matchExpressions: [{key: a, operator: In, values: [" + many(44, "v%d") + "]}]", true},
		{"bytes", "matchLabels: {" + many(40, strings.Repeat("a", 60)+"/l-%02d: "+strings.Repeat("b", 63)) + "}", false},
		{"more bytes", "matchLabels: {" + many(64, strings.Repeat("a", 63)+".b/l-%02d: "+strings.Repeat("b", 63)) + "}", true},
		{"a million bytes", "matchLabels: {" + many(8000, strings.Repeat("a", 60)+"/l-%04d: "+strings.Repeat("b", 60)) + "}", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, field := range map[kind]string{prefixKind: "parentSelector", allocationKind: "prefixSelector"} {
				got := shared.do(t, http.MethodPost, path(namespace, k), jsonType,
					fmt.Sprintf("{metadata: {generateName: a-}, spec: {ipFamily: IPv4, prefixLength: 24, %s: {%s}}}", field, tt.selector))
				if !tt.refused {
					got.must(t)
					continue
				}
				if status := got.refused(t, http.StatusUnprocessableEntity); !slices.Equal(causes(status), []string{"spec." + field}) || len(status.Message) > 500 {
					t.Errorf("refused for %q: %.600s", causes(status), status.Message)
				}
			}
		})
	}
}

// TestLimitOfManagers applies as one field manager after another.
func TestLimitOfManagers(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	for i := range validation.MaxManagers {
		shared.apply(t, namespace, prefixKind, fmt.Sprintf("manager-%d", i), "{metadata: {labels: {a: b}}, spec: {prefix: 10.0.0.0/8}}", "root").must(t)
	}
	if status := shared.apply(t, namespace, prefixKind, "one-more", "{metadata: {labels: {a: b}}}", "root").refused(t, http.StatusUnprocessableEntity); !slices.Equal(causes(status), []string{"metadata.managedFields"}) {
		t.Errorf("refused for %q: %s", causes(status), status.Message)
	}
	// Who is a manager already goes on.
	shared.apply(t, namespace, prefixKind, "manager-1", "{metadata: {labels: {a: b, c: d}}, spec: {prefix: 10.0.0.0/8}}", "root").must(t)
}
