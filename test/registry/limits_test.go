// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// many returns n items of a flow sequence or mapping.
func many(n int, format string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(items, ", ")
}

// TestLimits creates and updates objects at each limit and one above it. A stored object above a limit remains
// valid as long as it does not grow.
func TestLimits(t *testing.T) {
	t.Parallel()
	owner := "{apiVersion: v1, kind: ConfigMap, name: a, uid: u-%d}"
	// The texts of each have 1 KiB.
	largeOwner := "{apiVersion: v1, kind: ConfigMap, name: " + strings.Repeat("a", 1007) + ", uid: u-%04d}"
	// Each label has the same size.
	label := "a-%04d/" + strings.Repeat("b", 63) + ": " + strings.Repeat("c", 63)
	labelBytes := len("a-0000/") + 126
	for _, limit := range []struct {
		name  string
		field string
		// of returns an object with n of the limited elements. least is the number at the limit.
		of    func(n int) string
		least int
	}{
		{"owner references", "metadata.ownerReferences", func(n int) string { return "{ownerReferences: [" + many(n, owner) + "]}" }, validation.MaxOwnerReferences},
		{"large owner references", "metadata.ownerReferences", func(n int) string { return "{ownerReferences: [" + many(n, largeOwner) + "]}" }, validation.MaxOwnerReferenceBytes >> 10},
		{"finalizers", "metadata.finalizers", func(n int) string {
			return "{finalizers: [" + many(n-1, "example.org/f-%d") + ", ipam.ironcore.dev/prefix]}"
		}, validation.MaxFinalizers},
		{"labels", "metadata.labels", func(n int) string { return "{labels: {" + many(n, label) + "}}" }, validation.MaxLabelBytes / labelBytes},
	} {
		for _, k := range harness.Kinds {
			t.Run(k.Name+" with "+limit.name, func(t *testing.T) {
				namespace := harness.NewNamespace()
				spec := map[harness.Kind]string{harness.PrefixKind: "{prefix: 10.0.0.0/8}", harness.AllocationKind: "{ipFamily: IPv4, prefixLength: 24, prefixRef: {name: a}}"}[k]
				send := func(name string, n int) harness.Answer {
					obj := harness.ParseObject(t, fmt.Sprintf("{metadata: %s, spec: %s}", limit.of(n), spec))
					harness.Merge(obj, map[string]any{"metadata": map[string]any{"name": name}})
					return shared.Do(t, http.MethodPost, harness.Path(namespace, k), harness.JSON, harness.Encode(t, obj))
				}
				refused := func(a harness.Answer) {
					t.Helper()
					if status := a.Refused(t, http.StatusUnprocessableEntity); !slices.Equal(harness.Causes(status), []string{limit.field}) || len(status.Message) > 500 {
						t.Errorf("refused for %q: %.600s", harness.Causes(status), status.Message)
					}
				}
				refused(send("above", limit.least+1))
				obj := send("at", limit.least).Must(t)
				for _, contentType := range []string{harness.JSON, harness.MergePatch} {
					refused(shared.write(t, obj, contentType, fmt.Sprintf("{metadata: %s}", limit.of(limit.least+1))))
				}

				// Another server without this limit stored the object.
				stored := harness.ParseObject(t, fmt.Sprintf("{metadata: %s, spec: %s, status: {phase: Pending}}", limit.of(limit.least+2), spec))
				harness.Merge(stored, map[string]any{"apiVersion": harness.GroupVersion, "kind": k.Name, "metadata": map[string]any{"name": "stored", "namespace": namespace, "uid": "uid-" + namespace}})
				key := apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/" + k.Resource + "/" + namespace + "/stored"
				if _, err := shared.Etcd.Put(t.Context(), key, harness.Encode(t, stored)); err != nil {
					t.Fatal(err)
				}
				was := shared.Get(t, namespace, k, "stored")
				was = shared.write(t, was, harness.MergePatch, "{metadata: {annotations: {a: b}}}").Must(t)
				refused(shared.write(t, was, harness.MergePatch, fmt.Sprintf("{metadata: %s}", limit.of(limit.least+3))))
			})
		}
	}
}

// TestLimitsOfSelectors creates objects with selectors at each limit and above it.
func TestLimitsOfSelectors(t *testing.T) {
	t.Parallel()
	namespace := harness.NewNamespace()
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
			for k, field := range map[harness.Kind]string{harness.PrefixKind: "parentSelector", harness.AllocationKind: "prefixSelector"} {
				got := shared.Do(t, http.MethodPost, harness.Path(namespace, k), harness.JSON,
					fmt.Sprintf("{metadata: {generateName: a-}, spec: {ipFamily: IPv4, prefixLength: 24, %s: {%s}}}", field, tt.selector))
				if !tt.refused {
					got.Must(t)
					continue
				}
				if status := got.Refused(t, http.StatusUnprocessableEntity); !slices.Equal(harness.Causes(status), []string{"spec." + field}) || len(status.Message) > 500 {
					t.Errorf("refused for %q: %.600s", harness.Causes(status), status.Message)
				}
			}
		})
	}
}

// TestLimitOfManagers applies an object with one field manager after another.
func TestLimitOfManagers(t *testing.T) {
	t.Parallel()
	namespace := harness.NewNamespace()
	for i := range validation.MaxManagers {
		shared.Apply(t, namespace, harness.PrefixKind, fmt.Sprintf("manager-%d", i), "{metadata: {labels: {a: b}}, spec: {prefix: 10.0.0.0/8}}", "root").Must(t)
	}
	if status := shared.Apply(t, namespace, harness.PrefixKind, "one-more", "{metadata: {labels: {a: b}}}", "root").Refused(t, http.StatusUnprocessableEntity); !slices.Equal(harness.Causes(status), []string{"metadata.managedFields"}) {
		t.Errorf("refused for %q: %s", harness.Causes(status), status.Message)
	}
	// An existing manager can still apply.
	shared.Apply(t, namespace, harness.PrefixKind, "manager-1", "{metadata: {labels: {a: b, c: d}}, spec: {prefix: 10.0.0.0/8}}", "root").Must(t)
}

// TestTimesOfManagersCanBeReadAsJSON sends times in protobuf that cannot be encoded as JSON. If one of them were
// stored, every list in JSON would fail.
func TestTimesOfManagersCanBeReadAsJSON(t *testing.T) {
	t.Parallel()
	config := rest.CopyConfig(shared.AdminConfig)
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := versioned.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	namespace := harness.NewNamespace()
	for name, tt := range map[string]struct {
		at      time.Time
		refused bool
	}{
		"first":      {time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), false},
		"too-early":  {time.Date(-1, 12, 31, 23, 59, 59, 0, time.UTC), true},
		"last":       {time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), false},
		"too-late":   {time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), true},
		"much-later": {time.Unix(1<<62, 0), true},
	} {
		entry := metav1.ManagedFieldsEntry{
			Manager: "somebody", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: harness.GroupVersion, Time: &metav1.Time{Time: tt.at},
			FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`),
		}
		meta := metav1.ObjectMeta{Name: name, Labels: map[string]string{"a": "b"}}
		prefix, err := client.IpamV1alpha1().Prefixes(namespace).Create(t.Context(),
			&v1alpha1.Prefix{ObjectMeta: meta, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		prefix.ManagedFields = append(prefix.ManagedFields, entry)
		_, updateErr := client.IpamV1alpha1().Prefixes(namespace).Update(t.Context(), prefix, metav1.UpdateOptions{})
		allocation, err := client.IpamV1alpha1().PrefixAllocations(namespace).Create(t.Context(),
			&v1alpha1.PrefixAllocation{ObjectMeta: meta, Spec: v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/9", PrefixRef: &v1alpha1.LocalObjectReference{Name: name}}},
			metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		allocation.ManagedFields = append(allocation.ManagedFields, entry)
		_, allocationErr := client.IpamV1alpha1().PrefixAllocations(namespace).Update(t.Context(), allocation, metav1.UpdateOptions{})
		for _, err := range []error{updateErr, allocationErr} {
			if apierrors.IsInvalid(err) != tt.refused || !tt.refused && err != nil {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
	if _, err := shared.Client.Prefixes(namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := shared.Client.PrefixAllocations(namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}
