// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// population creates a namespace with objects for every selector.
func (s server) population(t *testing.T) string {
	t.Helper()
	namespace, _ := s.setUp(t, "root", "child", "child-by-ref", "child-allocated", "request", "request-by-ref", "request-allocated", "request-failed")
	s.Create(t, namespace, harness.PrefixKind, "{metadata: {name: six, labels: {net: green}}, spec: {prefix: '2001:db8::/32'}}")
	s.Create(t, namespace, harness.AllocationKind, "{metadata: {name: request-six, labels: {net: green}}, spec: {prefix: '2001:db8:1::/48', prefixRef: {name: six}}}")
	return namespace
}

func TestFieldAndLabelSelectors(t *testing.T) {
	namespace := shared.population(t)
	for _, test := range []struct {
		kind          harness.Kind
		fields, label string
		want          string
	}{
		{harness.PrefixKind, "", "", "child child-allocated child-by-ref parent root six"},
		{harness.PrefixKind, "spec.ipFamily=IPv6", "", "six"},
		{harness.PrefixKind, "spec.ipFamily==IPv4", "", "child child-allocated child-by-ref parent root"},
		{harness.PrefixKind, "spec.ipFamily!=IPv4", "", "six"},
		{harness.PrefixKind, "spec.prefix=10.9.0.0/16", "", "root"},
		{harness.PrefixKind, "spec.prefix=2001:db8::/32", "", "six"},
		{harness.PrefixKind, "spec.prefix=2001:DB8::1/32", "", "six"},
		{harness.PrefixKind, "spec.prefix=10.9.0.0/16,status.phase=Allocated", "", ""},
		{harness.PrefixKind, "spec.prefix=10.9.0.0/17", "", ""},
		{harness.PrefixKind, "spec.prefix=", "", "child child-by-ref"},
		{harness.PrefixKind, "spec.prefix!=", "", "child-allocated parent root six"},
		{harness.PrefixKind, "spec.parentRef.name=parent", "", "child-allocated child-by-ref"},
		{harness.PrefixKind, "spec.parentRef.name=", "", "child parent root six"},
		{harness.PrefixKind, "status.phase=Allocated", "", "child-allocated parent"},
		{harness.PrefixKind, "status.phase!=Allocated", "", "child child-by-ref root six"},
		{harness.PrefixKind, "status.phase=Allocated,spec.parentRef.name=parent", "", "child-allocated"},
		{harness.PrefixKind, "status.phase=Pending,spec.ipFamily=IPv4,spec.parentRef.name!=parent", "", "child root"},
		{harness.PrefixKind, "metadata.name=six", "", "six"},
		{harness.PrefixKind, "metadata.name!=six,metadata.namespace=" + namespace + ",spec.prefix!=", "", "child-allocated parent root"},
		{harness.PrefixKind, "metadata.namespace=elsewhere", "", ""},
		{harness.PrefixKind, "", "net", "parent six"},
		{harness.PrefixKind, "", "net=blue", "parent"},
		{harness.PrefixKind, "", "net in (blue,green)", "parent six"},
		{harness.PrefixKind, "", "!net", "child child-allocated child-by-ref root"},
		{harness.PrefixKind, "status.phase=Pending", "net", "six"},
		{harness.AllocationKind, "", "", "child-allocated request request-allocated request-by-ref request-failed request-six"},
		{harness.AllocationKind, "spec.ipFamily=IPv6", "", "request-six"},
		{harness.AllocationKind, "spec.prefix=2001:db8:1::/48", "", "request-six"},
		{harness.AllocationKind, "spec.prefix!=", "", "child-allocated request-six"},
		{harness.AllocationKind, "spec.prefixRef.name=parent", "", "child-allocated request-allocated request-by-ref"},
		{harness.AllocationKind, "spec.prefixRef.name!=parent", "", "request request-failed request-six"},
		{harness.AllocationKind, "status.prefix=", "", "request request-by-ref request-failed request-six"},
		{harness.AllocationKind, "status.phase=Failed", "", "request-failed"},
		{harness.AllocationKind, "status.phase!=Failed,status.phase!=Pending", "", "child-allocated request-allocated"},
		{harness.AllocationKind, "status.phase=Allocated,spec.prefixRef.name=parent,spec.ipFamily=IPv4", "", "child-allocated request-allocated"},
		{harness.AllocationKind, "status.coolingUntil!=", "", ""},
		{harness.AllocationKind, "status.coolingUntil=,spec.ipFamily=IPv6", "", "request-six"},
		{harness.AllocationKind, "metadata.name=request", "", "request"},
		{harness.AllocationKind, "", "net=green", "request-six"},
		{harness.AllocationKind, "", "ipam.ironcore.dev/requester-uid", "child-allocated"},
	} {
		query := "?fieldSelector=" + url.QueryEscape(test.fields) + "&labelSelector=" + url.QueryEscape(test.label)
		if got := strings.Join(shared.Names(t, harness.Path(namespace, test.kind)+query), " "); got != test.want {
			t.Errorf("%s %q %q: got %q, not %q", test.kind.Name, test.fields, test.label, got, test.want)
		}
		// The result from the watch cache is the same.
		if got := strings.Join(shared.Names(t, harness.Path(namespace, test.kind)+query+"&resourceVersion=0"), " "); got != test.want {
			t.Errorf("%s %q %q: the cache got %q, not %q", test.kind.Name, test.fields, test.label, got, test.want)
		}
	}
}

func TestUnknownFieldsAndBadSelectorsAreRefused(t *testing.T) {
	for _, k := range harness.Kinds {
		others := map[harness.Kind][]string{harness.PrefixKind: {"spec.prefixRef.name", "status.prefix"}, harness.AllocationKind: {"spec.parentRef.name", "rangeHash"}}[k]
		for _, selector := range []string{others[0] + "=a", "spec.prefixLength=24", "status.used=10.0.0.0/8", others[1] + "=10.0.0.0/8", "metadata.uid=a", "spec=a", "status.phase", "status.phase in (a)"} {
			for _, watch := range []string{"", "&watch=true"} {
				got := shared.Do(t, http.MethodGet, harness.Path(harness.NewNamespace(), k)+"?fieldSelector="+url.QueryEscape(selector)+watch, harness.JSON, "")
				status := got.Refused(t, http.StatusBadRequest)
				if field := strings.Split(selector, "=")[0]; strings.Contains(selector, "=") && !strings.Contains(status.Message, field) {
					t.Errorf("%q does not name %s", status.Message, field)
				}
			}
		}
		shared.Do(t, http.MethodGet, harness.Path(harness.NewNamespace(), k)+"?labelSelector="+url.QueryEscape("a b"), harness.JSON, "").Refused(t, http.StatusBadRequest)
	}
}

// TestWatchOfAPhaseShowsEnteringAndLeaving watches objects with a selector for the phase, as kubectl get -w does.
func TestWatchOfAPhaseShowsEnteringAndLeaving(t *testing.T) {
	for _, test := range []struct{ fixture, status, other string }{
		{"root", "{status: {phase: Allocated}}", "Allocated"},
		{"request-by-ref", "{status: {phase: Allocated, prefix: 10.0.4.0/24}}", "Allocated"},
		{"request", "{status: {phase: Failed}}", "Failed"},
	} {
		t.Run(test.fixture, func(t *testing.T) {
			k := fixtures[test.fixture].kind
			namespace, parent := shared.setUp(t)
			list := harness.Path(namespace, k) + "?resourceVersion=" + parent.GetResourceVersion() + "&fieldSelector=status.phase"
			entering, leaving := shared.Watch(t, list+"%3D"+test.other), shared.Watch(t, list+"%3DPending")

			obj := shared.Create(t, namespace, k, fixtures[test.fixture].manifest)
			obj = shared.write(t, obj, harness.MergePatch, "{metadata: {labels: {a: b}}}").Must(t)
			obj = shared.write(t, obj, harness.MergePatch, test.status, "status").Must(t)
			shared.delete(t, obj, "").Must(t)
			if k == harness.PrefixKind {
				shared.write(t, obj, harness.MergePatch, drop).Must(t)
			}

			if got := take(entering, map[harness.Kind]int{harness.PrefixKind: 3, harness.AllocationKind: 2}[k]); !slices.Equal(got, map[harness.Kind][]string{
				harness.PrefixKind:     {"ADDED " + test.other, "MODIFIED " + test.other, "DELETED " + test.other},
				harness.AllocationKind: {"ADDED " + test.other, "DELETED " + test.other},
			}[k]) {
				t.Errorf("who watches %s sees %q", test.other, got)
			}
			// An object that stops matching is delivered in its last matching state, with the version of the
			// change.
			if got := take(leaving, 3); !slices.Equal(got, []string{"ADDED Pending", "MODIFIED Pending", "DELETED Pending"}) {
				t.Errorf("who watches Pending sees %q", got)
			}
		})
	}
}

// take returns the type and the phase of the next events.
func take(events func(func(harness.Event) bool), n int) (got []string) {
	for event := range events {
		got = append(got, event.Type+" "+fmt.Sprint(harness.At(event.Object, "status.phase")))
		if len(got) == n {
			break
		}
	}
	return got
}

func TestLimitAndContinue(t *testing.T) {
	namespace := shared.population(t)
	all := shared.Names(t, harness.Path(namespace, harness.PrefixKind))
	for _, selector := range []string{"", "&fieldSelector=" + url.QueryEscape("spec.ipFamily=IPv4")} {
		want := all
		if selector != "" {
			want = slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == "six" })
		}
		var got []string
		next, revision := "", ""
		for {
			list := metav1.PartialObjectMetadataList{}
			answer := shared.Do(t, http.MethodGet, harness.Path(namespace, harness.PrefixKind)+"?limit=2&continue="+url.QueryEscape(next)+selector, harness.JSON, "")
			answer.Must(t)
			answer.Into(t, &list)
			if len(list.Items) > 2 {
				t.Fatalf("got %d at once", len(list.Items))
			}
			for _, item := range list.Items {
				got = append(got, item.Name)
			}
			if revision == "" {
				revision = list.ResourceVersion
				// Objects that are created later are not in the list.
				shared.Create(t, namespace, harness.PrefixKind, "{metadata: {generateName: z-}, spec: {prefix: 10.10.0.0/16}}")
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
	shared.Do(t, http.MethodGet, harness.Path(namespace, harness.PrefixKind)+"?limit=2&continue=nonsense", harness.JSON, "").Refused(t, http.StatusBadRequest)
}

func TestResourceVersionMatch(t *testing.T) {
	namespace, old := shared.setUp(t, "root")
	now := shared.write(t, old, harness.MergePatch, "{status: {phase: Allocated}}", "status").Must(t)
	phase := func(query string) any {
		for _, item := range shared.List(t, harness.Path(namespace, harness.PrefixKind)+query).Items {
			if item.GetName() == "root" {
				return harness.At(&item, "status.phase")
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
		if got := shared.Do(t, http.MethodGet, harness.Path(namespace, harness.PrefixKind)+query, harness.JSON, ""); got.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %d", query, got.Code)
		}
	}
}

// TestWatchListSendsInitialEventsAndABookmark does what informers do at their start.
func TestWatchListSendsInitialEventsAndABookmark(t *testing.T) {
	namespace := shared.population(t)
	for _, k := range harness.Kinds {
		for selector, want := range map[string][]string{
			"": shared.Names(t, harness.Path(namespace, k)),
			"&fieldSelector=status.phase%3DAllocated": shared.Names(t, harness.Path(namespace, k)+"?fieldSelector=status.phase%3DAllocated"),
		} {
			var got []string
			for event := range shared.Watch(t, harness.Path(namespace, k)+"?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"+selector) {
				if event.Type == "BOOKMARK" {
					if event.Object.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" || event.Object.GetKind() != k.Name {
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
				t.Errorf("%s %q: got %q, not %q", k.Name, selector, got, want)
			}
		}
	}
}

func TestListOfAllNamespaces(t *testing.T) {
	first, second := shared.population(t), shared.population(t)
	seen := map[string]int{}
	for _, item := range shared.List(t, "/apis/"+harness.GroupVersion+"/prefixes?fieldSelector=spec.prefix%3D2001:db8::/32").Items {
		seen[item.GetNamespace()]++
	}
	if seen[first] != 1 || seen[second] != 1 {
		t.Errorf("seen %v, looked for %s and %s", seen, first, second)
	}
}

// TestListsByRange lists objects by their range, which the watch cache has an index of, while they come, change and go.
func TestListsByRange(t *testing.T) {
	namespace, _ := shared.setUp(t, "root")
	elsewhere, _ := shared.setUp(t, "root")
	// 10.9.3.0/24 as another server of the API group may have stored it.
	const notation = "::ffff:10.9.3.7/120"
	shared.store(t, namespace, harness.PrefixKind, "stored", "{ipFamily: IPv6, prefix: '"+notation+"', prefixLength: 120, parentRef: {name: root}}", "{phase: Allocated}")
	shared.store(t, namespace, harness.AllocationKind, "stored", "{ipFamily: IPv6, prefix: '"+notation+"', prefixRef: {name: root}}", "{phase: Allocated, prefix: '"+notation+"'}")
	for _, test := range []struct {
		kind  harness.Kind
		field string
	}{{harness.PrefixKind, "spec.prefix"}, {harness.AllocationKind, "status.prefix"}} {
		for _, prefix := range []string{notation, "10.9.3.0/24", "10.9.3.9/24"} {
			before := shared.fetched(t, "f:rangeHash", test.kind)
			got := shared.Names(t, harness.Path(namespace, test.kind)+"?limit=10&fieldSelector="+url.QueryEscape(test.field+"="+prefix))
			if !slices.Equal(got, []string{"stored"}) {
				t.Errorf("%s with %s=%s: %q", test.kind.Name, test.field, prefix, got)
			}
			if fetched := shared.fetched(t, "f:rangeHash", test.kind) - before; fetched != 1 {
				t.Errorf("%s with %s=%s: the watch cache read %v objects", test.kind.Name, test.field, prefix, fetched)
			}
		}
	}

	// The Prefixes without a parent have an index, too.
	before := shared.fetched(t, "f:withoutParent", harness.PrefixKind)
	if got := shared.Names(t, harness.Path(namespace, harness.PrefixKind)+"?limit=10&fieldSelector="+url.QueryEscape("spec.parentRef.name=")); !slices.Equal(got, []string{"parent", "root"}) {
		t.Errorf("without a parent: %q", got)
	}
	if fetched := shared.fetched(t, "f:withoutParent", harness.PrefixKind) - before; fetched != 2 {
		t.Errorf("the watch cache read %v objects", fetched)
	}

	byRange := func(k harness.Kind, of, selector string) string {
		return strings.Join(shared.Names(t, harness.Path(of, k)+"?limit=10&fieldSelector="+url.QueryEscape(selector)), " ")
	}
	expect := func(when, prefixes, allocations string) {
		t.Helper()
		if got := byRange(harness.PrefixKind, namespace, "spec.prefix=10.9.4.0/24"); got != prefixes {
			t.Errorf("%s: Prefixes %q, not %q", when, got, prefixes)
		}
		if got := byRange(harness.AllocationKind, namespace, "status.prefix=10.9.4.0/24"); got != allocations {
			t.Errorf("%s: PrefixAllocations %q, not %q", when, got, allocations)
		}
		if got := byRange(harness.PrefixKind, elsewhere, "spec.prefix=10.9.4.0/24") + byRange(harness.AllocationKind, elsewhere, "status.prefix=10.9.4.0/24"); got != "" {
			t.Errorf("%s: %q is in the other namespace", when, got)
		}
	}
	expect("before", "", "")
	request := shared.Create(t, namespace, harness.AllocationKind, "{metadata: {name: late}, spec: {prefixLength: 24, prefixRef: {name: root}}}")
	expect("requested", "", "")
	root := shared.Get(t, namespace, harness.PrefixKind, "root")
	shared.write(t, root, harness.MergePatch, "{status: {phase: Allocated}}", "status").Must(t)
	request = shared.write(t, request, harness.MergePatch, "{status: {phase: Allocated, prefix: 10.9.4.0/24}}", "status").Must(t)
	expect("allocated", "", "late")
	child := shared.Create(t, namespace, harness.PrefixKind, "{metadata: {name: child}, spec: {prefix: 10.9.4.0/24, parentRef: {name: root}}}")
	expect("created", "child", "late")
	shared.delete(t, request, "").Must(t)
	expect("released", "child", "")
	shared.delete(t, child, "").Must(t)
	shared.write(t, child, harness.MergePatch, drop).Must(t)
	expect("deleted", "", "")
}

// fetched returns the number of objects that the watch cache has read by an index.
func (s server) fetched(t *testing.T, index string, k harness.Kind) float64 {
	t.Helper()
	metrics := string(s.Do(t, http.MethodGet, "/metrics", harness.JSON, "").Body)
	series := fmt.Sprintf("apiserver_cache_list_fetched_objects_total{group=%q,index=%q,resource=%q} ", "ipam.ironcore.dev", index, k.Resource)
	_, after, _ := strings.Cut(metrics, "\n"+series)
	value, _, _ := strings.Cut(after, "\n")
	if value == "" {
		return 0
	}
	fetched, err := strconv.ParseFloat(value, 64)
	if err != nil {
		t.Fatal(err)
	}
	return fetched
}
