// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// population is a namespace with something in it for every selector.
func (s *server) population(t *testing.T) string {
	t.Helper()
	namespace, _ := s.setUp(t, "root", "child", "child-by-ref", "child-allocated", "request", "request-by-ref", "request-allocated", "request-failed")
	s.create(t, namespace, prefixKind, "{metadata: {name: six, labels: {net: green}}, spec: {prefix: '2001:db8::/32'}}")
	s.create(t, namespace, allocationKind, "{metadata: {name: request-six, labels: {net: green}}, spec: {prefix: '2001:db8:1::/48', prefixRef: {name: six}}}")
	return namespace
}

func TestFieldAndLabelSelectors(t *testing.T) {
	namespace := shared.population(t)
	for _, test := range []struct {
		kind          kind
		fields, label string
		want          string
	}{
		{prefixKind, "", "", "child child-allocated child-by-ref parent root six"},
		{prefixKind, "spec.ipFamily=IPv6", "", "six"},
		{prefixKind, "spec.ipFamily==IPv4", "", "child child-allocated child-by-ref parent root"},
		{prefixKind, "spec.ipFamily!=IPv4", "", "six"},
		{prefixKind, "spec.prefix=10.9.0.0/16", "", "root"},
		{prefixKind, "spec.prefix=2001:db8::/32", "", "six"},
		{prefixKind, "spec.prefix=", "", "child child-by-ref"},
		{prefixKind, "spec.prefix!=", "", "child-allocated parent root six"},
		{prefixKind, "spec.parentRef.name=parent", "", "child-allocated child-by-ref"},
		{prefixKind, "spec.parentRef.name=", "", "child parent root six"},
		{prefixKind, "status.phase=Allocated", "", "child-allocated parent"},
		{prefixKind, "status.phase!=Allocated", "", "child child-by-ref root six"},
		{prefixKind, "status.phase=Allocated,spec.parentRef.name=parent", "", "child-allocated"},
		{prefixKind, "status.phase=Pending,spec.ipFamily=IPv4,spec.parentRef.name!=parent", "", "child root"},
		{prefixKind, "metadata.name=six", "", "six"},
		{prefixKind, "metadata.name!=six,metadata.namespace=" + namespace + ",spec.prefix!=", "", "child-allocated parent root"},
		{prefixKind, "metadata.namespace=elsewhere", "", ""},
		{prefixKind, "", "net", "parent six"},
		{prefixKind, "", "net=blue", "parent"},
		{prefixKind, "", "net in (blue,green)", "parent six"},
		{prefixKind, "", "!net", "child child-allocated child-by-ref root"},
		{prefixKind, "status.phase=Pending", "net", "six"},
		{allocationKind, "", "", "child-allocated request request-allocated request-by-ref request-failed request-six"},
		{allocationKind, "spec.ipFamily=IPv6", "", "request-six"},
		{allocationKind, "spec.prefix=2001:db8:1::/48", "", "request-six"},
		{allocationKind, "spec.prefix!=", "", "child-allocated request-six"},
		{allocationKind, "spec.prefixRef.name=parent", "", "child-allocated request-allocated request-by-ref"},
		{allocationKind, "spec.prefixRef.name!=parent", "", "request request-failed request-six"},
		{allocationKind, "status.phase=Failed", "", "request-failed"},
		{allocationKind, "status.phase!=Failed,status.phase!=Pending", "", "child-allocated request-allocated"},
		{allocationKind, "status.phase=Allocated,spec.prefixRef.name=parent,spec.ipFamily=IPv4", "", "child-allocated request-allocated"},
		{allocationKind, "metadata.name=request", "", "request"},
		{allocationKind, "", "net=green", "request-six"},
		{allocationKind, "", "ipam.ironcore.dev/requester-uid", "child-allocated"},
	} {
		query := "?fieldSelector=" + url.QueryEscape(test.fields) + "&labelSelector=" + url.QueryEscape(test.label)
		if got := strings.Join(shared.names(t, path(namespace, test.kind)+query), " "); got != test.want {
			t.Errorf("%s %q %q: got %q, not %q", test.kind.name, test.fields, test.label, got, test.want)
		}
		// From the cache it is the same.
		if got := strings.Join(shared.names(t, path(namespace, test.kind)+query+"&resourceVersion=0"), " "); got != test.want {
			t.Errorf("%s %q %q: the cache got %q, not %q", test.kind.name, test.fields, test.label, got, test.want)
		}
	}
}

func TestUnknownFieldsAndBadSelectorsAreRefused(t *testing.T) {
	for _, k := range kinds {
		other := map[kind]string{prefixKind: "spec.prefixRef.name", allocationKind: "spec.parentRef.name"}[k]
		for _, selector := range []string{other + "=a", "spec.prefixLength=24", "status.prefix=10.0.0.0/8", "metadata.uid=a", "spec=a", "status.phase", "status.phase in (a)"} {
			for _, watch := range []string{"", "&watch=true"} {
				got := shared.do(t, http.MethodGet, path(newNamespace(), k)+"?fieldSelector="+url.QueryEscape(selector)+watch, jsonType, "")
				status := got.refused(t, http.StatusBadRequest)
				if field := strings.Split(selector, "=")[0]; strings.Contains(selector, "=") && !strings.Contains(status.Message, field) {
					t.Errorf("%q does not name %s", status.Message, field)
				}
			}
		}
		shared.do(t, http.MethodGet, path(newNamespace(), k)+"?labelSelector="+url.QueryEscape("a b"), jsonType, "").refused(t, http.StatusBadRequest)
	}
}

// TestWatchOfAPhaseShowsEnteringAndLeaving watches a side of a selector, as kubectl get -w does.
func TestWatchOfAPhaseShowsEnteringAndLeaving(t *testing.T) {
	for _, test := range []struct{ fixture, status, other string }{
		{"root", "{status: {phase: Allocated}}", "Allocated"},
		{"request-by-ref", "{status: {phase: Allocated, prefix: 10.0.4.0/24}}", "Allocated"},
		{"request", "{status: {phase: Failed}}", "Failed"},
	} {
		t.Run(test.fixture, func(t *testing.T) {
			k := fixtures[test.fixture].kind
			namespace, parent := shared.setUp(t)
			list := path(namespace, k) + "?resourceVersion=" + parent.GetResourceVersion() + "&fieldSelector=status.phase"
			entering, leaving := shared.watch(t, list+"%3D"+test.other), shared.watch(t, list+"%3DPending")

			obj := shared.create(t, namespace, k, fixtures[test.fixture].manifest)
			obj = shared.write(t, obj, mergePatch, "{metadata: {labels: {a: b}}}").must(t)
			obj = shared.write(t, obj, mergePatch, test.status, "status").must(t)
			shared.delete(t, obj, "").must(t)
			if k == prefixKind {
				shared.write(t, obj, mergePatch, drop).must(t)
			}

			if got := take(entering, map[kind]int{prefixKind: 3, allocationKind: 2}[k]); !slices.Equal(got, map[kind][]string{
				prefixKind:     {"ADDED " + test.other, "MODIFIED " + test.other, "DELETED " + test.other},
				allocationKind: {"ADDED " + test.other, "DELETED " + test.other},
			}[k]) {
				t.Errorf("who watches %s sees %q", test.other, got)
			}
			// What has left is shown as it was last seen, with the version that it left at.
			if got := take(leaving, 3); !slices.Equal(got, []string{"ADDED Pending", "MODIFIED Pending", "DELETED Pending"}) {
				t.Errorf("who watches Pending sees %q", got)
			}
		})
	}
}

// take returns type and phase of the next events.
func take(events func(func(event) bool), n int) (got []string) {
	for event := range events {
		got = append(got, event.Type+" "+fmt.Sprint(at(event.Object, "status.phase")))
		if len(got) == n {
			break
		}
	}
	return got
}

func TestLimitAndContinue(t *testing.T) {
	namespace := shared.population(t)
	all := shared.names(t, path(namespace, prefixKind))
	for _, selector := range []string{"", "&fieldSelector=" + url.QueryEscape("spec.ipFamily=IPv4")} {
		want := all
		if selector != "" {
			want = slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == "six" })
		}
		var got []string
		next, revision := "", ""
		for {
			list := metav1.PartialObjectMetadataList{}
			answer := shared.do(t, http.MethodGet, path(namespace, prefixKind)+"?limit=2&continue="+url.QueryEscape(next)+selector, jsonType, "")
			answer.must(t)
			answer.into(t, &list)
			if len(list.Items) > 2 {
				t.Fatalf("got %d at once", len(list.Items))
			}
			for _, item := range list.Items {
				got = append(got, item.Name)
			}
			if revision == "" {
				revision = list.ResourceVersion
				// What comes later is not in the list.
				shared.create(t, namespace, prefixKind, "{metadata: {generateName: z-}, spec: {prefix: 10.10.0.0/16}}")
			}
			if list.ResourceVersion != revision {
				t.Errorf("the list moved from %s to %s", revision, list.ResourceVersion)
			}
			if next = list.Continue; next == "" {
				break
			}
		}
		if selector == "" && !slices.Equal(got, want) {
			t.Errorf("got %q, not %q", got, want)
		}
		if selector != "" && !slices.Equal(slices.DeleteFunc(got, func(name string) bool { return strings.HasPrefix(name, "z-") }), want) {
			t.Errorf("got %q, not %q", got, want)
		}
	}
	shared.do(t, http.MethodGet, path(namespace, prefixKind)+"?limit=2&continue=nonsense", jsonType, "").refused(t, http.StatusBadRequest)
}

func TestResourceVersionMatch(t *testing.T) {
	namespace, old := shared.setUp(t, "root")
	now := shared.write(t, old, mergePatch, "{status: {phase: Allocated}}", "status").must(t)
	phase := func(query string) any {
		for _, item := range shared.items(t, path(namespace, prefixKind)+query) {
			if item.GetName() == "root" {
				return at(&item, "status.phase")
			}
		}
		return nil
	}
	version := "?resourceVersion=" + old.GetResourceVersion() + "&resourceVersionMatch="
	if got := phase(version + "Exact"); got != "Pending" {
		t.Errorf("exactly then it was %v", got)
	}
	if got := phase(version + "Exact&limit=1&continue="); got != nil {
		t.Errorf("the first of all is not root, but got %v", got)
	}
	if got := phase("?resourceVersion=" + now.GetResourceVersion() + "&resourceVersionMatch=NotOlderThan"); got != "Allocated" {
		t.Errorf("not older than now it is %v", got)
	}
	if got := phase(""); got != "Allocated" {
		t.Errorf("now it is %v", got)
	}
	for _, query := range []string{"?resourceVersionMatch=Exact", "?resourceVersionMatch=NotOlderThan", "?resourceVersion=0&resourceVersionMatch=Exact", "?resourceVersion=1&resourceVersionMatch=Sometimes"} {
		if got := shared.do(t, http.MethodGet, path(namespace, prefixKind)+query, jsonType, ""); got.code != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %d", query, got.code)
		}
	}
}

// TestWatchListSendsInitialEventsAndABookmark is what informers begin with.
func TestWatchListSendsInitialEventsAndABookmark(t *testing.T) {
	namespace := shared.population(t)
	for _, k := range kinds {
		for selector, want := range map[string][]string{
			"": shared.names(t, path(namespace, k)),
			"&fieldSelector=status.phase%3DAllocated": shared.names(t, path(namespace, k)+"?fieldSelector=status.phase%3DAllocated"),
		} {
			var got []string
			for event := range shared.watch(t, path(namespace, k)+"?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"+selector) {
				if event.Type == "BOOKMARK" {
					if event.Object.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" || event.Object.GetKind() != k.name {
						t.Errorf("the bookmark is %v", event.Object)
					}
					break
				}
				got = append(got, event.Object.GetName())
				if event.Type != "ADDED" {
					t.Errorf("got %s", event.Type)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s %q: got %q, not %q", k.name, selector, got, want)
			}
		}
	}
}

func TestListOfAllNamespaces(t *testing.T) {
	first, second := shared.population(t), shared.population(t)
	seen := map[string]int{}
	for _, item := range shared.items(t, "/apis/"+groupVersion+"/prefixes?fieldSelector=spec.prefix%3D2001:db8::/32") {
		seen[item.GetNamespace()]++
	}
	if seen[first] != 1 || seen[second] != 1 {
		t.Errorf("seen %v, looked for %s and %s", seen, first, second)
	}
}
