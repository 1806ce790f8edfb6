// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"
)

// manifestFor is an object of a kind that is valid anywhere.
func manifestFor(k kind, name string) string {
	return fmt.Sprintf("{metadata: {name: %s}, spec: {ipFamily: IPv4, prefixLength: 24, %s: {name: parent}}}", name,
		map[kind]string{prefixKind: "parentRef", allocationKind: "prefixRef"}[k])
}

func version(t testing.TB, s string) int {
	t.Helper()
	v, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWatchResumesFromABookmark is what an informer does: what has passed by in other namespaces moves
// the bookmark, and a watch from there on shows what is new and nothing that is old.
func TestWatchResumesFromABookmark(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			namespace, elsewhere := newNamespace(), newNamespace()
			old := shared.create(t, namespace, k, manifestFor(k, "old"))

			// A bookmark comes before the watch ends, if something has happened since it began. On a busy
			// machine that may take another watch.
			bookmark, last := old.GetResourceVersion(), ""
			for began := time.Now(); last == "" || version(t, bookmark) < version(t, last); {
				if time.Since(began) > patience {
					t.Fatalf("no bookmark comes after %s", bookmark)
				}
				shared.watch(t, path(namespace, k)+"?allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion="+bookmark, func(e event) bool {
					if e.Type != "BOOKMARK" {
						t.Fatalf("got %s %v", e.Type, e.Object)
					}
					if e.Object.GetKind() != k.name || e.Object.GetName() != "" || e.Object.GetAnnotations() != nil {
						t.Errorf("the bookmark is %v", e.Object)
					}
					bookmark = e.Object.GetResourceVersion()
					return true
				}, func() {
					last = shared.create(t, elsewhere, k, strings.Replace(manifestFor(k, "last"), "name", "generateName", 1)).GetResourceVersion()
				})
			}
			created := shared.create(t, namespace, k, manifestFor(k, "new"))
			shared.watch(t, path(namespace, k)+"?resourceVersion="+bookmark, func(e event) bool {
				if e.Type != "ADDED" || !reflect.DeepEqual(e.Object.Object, created.Object) {
					t.Errorf("the watch goes on with %s %v", e.Type, e.Object)
				}
				return true
			})
		})
		t.Run(k.name+" without being asked for", func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace()
			old := shared.create(t, namespace, k, manifestFor(k, "old"))
			shared.watch(t, path(namespace, k)+"?timeoutSeconds=5&resourceVersion="+old.GetResourceVersion(), func(e event) bool {
				t.Errorf("got %s %v", e.Type, e.Object)
				return true
			}, func() { shared.create(t, newNamespace(), k, manifestFor(k, "last")) })
		})
	}
}

// TestStreamingListResumes begins with sendInitialEvents, as client-go does, and goes on, in the same
// watch and in another one from the version of its bookmark.
func TestStreamingListResumes(t *testing.T) {
	for _, k := range kinds {
		namespace := newNamespace()
		want := []string{"a", "b", "c"}
		for _, name := range want {
			shared.create(t, namespace, k, manifestFor(k, name))
		}
		var initial []string
		bookmark := ""
		const query = "?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
		shared.watch(t, path(namespace, k)+query, func(e event) bool {
			switch {
			case e.Type == "BOOKMARK" && bookmark == "":
				if e.Object.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
					t.Errorf("%s: the bookmark is %v", k.name, e.Object)
				}
				bookmark = e.Object.GetResourceVersion()
				shared.create(t, namespace, k, manifestFor(k, "later"))
			case e.Type == "ADDED" && bookmark == "":
				initial = append(initial, e.Object.GetName())
			case e.Type == "ADDED" && e.Object.GetName() == "later":
				return true
			case e.Type != "BOOKMARK":
				t.Errorf("%s: got %s %v", k.name, e.Type, e.Object)
			}
			return false
		})
		if slices.Sort(initial); !slices.Equal(initial, want) {
			t.Errorf("%s: the list was %q, not %q", k.name, initial, want)
		}
		shared.watch(t, path(namespace, k)+"?resourceVersion="+bookmark, func(e event) bool {
			if e.Type != "ADDED" || e.Object.GetName() != "later" {
				t.Errorf("%s: it goes on with %s %s", k.name, e.Type, e.Object.GetName())
			}
			return true
		})
		// The match is part of the deal.
		shared.raw(t, http.MethodGet, path(namespace, k)+"?watch=true&sendInitialEvents=true&allowWatchBookmarks=true", "", nil).
			refused(t, http.StatusUnprocessableEntity)
	}
}

// TestPages reads both kinds a page at a time, as it goes over the wire and with the pager of client-go.
func TestPages(t *testing.T) {
	namespace := newNamespace()
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("object-%d", i))
		for _, k := range kinds {
			shared.create(t, namespace, k, manifestFor(k, want[i]))
		}
	}
	for k, page := range map[kind]func(metav1.ListOptions) (runtime.Object, error){
		prefixKind: func(options metav1.ListOptions) (runtime.Object, error) {
			return shared.client.Prefixes(namespace).List(t.Context(), options)
		},
		allocationKind: func(options metav1.ListOptions) (runtime.Object, error) {
			return shared.client.PrefixAllocations(namespace).List(t.Context(), options)
		},
	} {
		var got []string
		for next, left := "", int64(7); ; {
			l := shared.list(t, path(namespace, k)+"?limit=3&continue="+url.QueryEscape(next))
			got, left = append(got, l.names()...), left-int64(len(l.Items))
			if next = l.Continue; next == "" {
				if left != 0 || l.RemainingItemCount != nil {
					t.Errorf("%s: %d are left at the end, the server says %v", k.name, left, l.RemainingItemCount)
				}
				break
			}
			if len(l.Items) != 3 || l.RemainingItemCount == nil || *l.RemainingItemCount != left {
				t.Errorf("%s: got %q, %d are left, the server says %v", k.name, l.names(), left, l.RemainingItemCount)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, not %q", k.name, got, want)
		}

		got = nil
		pages := pager.New(pager.SimplePageFunc(page))
		pages.PageSize = 2
		err := pages.EachListItem(t.Context(), metav1.ListOptions{}, func(obj runtime.Object) error {
			accessor, err := meta.Accessor(obj)
			if err == nil {
				got = append(got, accessor.GetName())
			}
			return err
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: the pager got %q, not %q: %v", k.name, got, want, err)
		}
	}
}

// TestWhatIsTooOldIsGone has a server that compacts its store all the time: a list that is continued
// late, and a watch from a version of then, are told so in the way that makes clients begin anew.
func TestWhatIsTooOldIsGone(t *testing.T) {
	t.Parallel()
	s, err := start(t.TempDir(), nil, func(o *apiserver.Options) {
		o.Recommended.Etcd.StorageConfig.CompactionInterval = 200 * time.Millisecond
		// It remembers for a while what the store does not have any more.
		o.Recommended.Etcd.EnableWatchCache = false
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	namespace := newNamespace()
	next := map[kind]list{}
	for _, k := range kinds {
		for _, name := range []string{"a", "b", "c"} {
			s.create(t, namespace, k, manifestFor(k, name))
		}
		next[k] = s.list(t, path(namespace, k)+"?limit=1")
	}
	for _, k := range kinds {
		var gone metav1.Status
		written := 0
		eventually(t, "the token is too old", func() error {
			// What is to be compacted has to be old.
			written++
			s.create(t, newNamespace(), k, manifestFor(k, fmt.Sprintf("more-%d", written)))
			got := s.raw(t, http.MethodGet, path(namespace, k)+"?limit=1&continue="+url.QueryEscape(next[k].Continue), "", nil)
			if got.code == http.StatusOK {
				return errors.New("it is not")
			}
			gone = got.refused(t, http.StatusGone)
			return nil
		})
		if gone.Reason != metav1.StatusReasonExpired || gone.Continue == "" {
			t.Errorf("%s: it is refused by %+v", k.name, gone)
		}
		// The token of the refusal goes on with what there is now.
		if l := s.list(t, path(namespace, k)+"?continue="+url.QueryEscape(gone.Continue)); !slices.Equal(l.names(), []string{"b", "c"}) {
			t.Errorf("%s: it goes on with %q", k.name, l.names())
		}
		s.watch(t, path(namespace, k)+"?resourceVersion=1", func(e event) bool {
			if e.Type != "ERROR" || e.Object.Object["code"] != int64(http.StatusGone) || e.Object.Object["reason"] != string(metav1.StatusReasonExpired) {
				t.Errorf("%s: a watch of what is too old shows %s %v", k.name, e.Type, e.Object)
			}
			return true
		})
	}
}
