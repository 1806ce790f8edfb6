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
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"
)

// manifestFor returns a manifest of a kind that is valid in every namespace.
func manifestFor(k harness.Kind, name string) string {
	return fmt.Sprintf("{metadata: {name: %s}, spec: {ipFamily: IPv4, prefixLength: 24, %s: {name: parent}}}", name,
		map[harness.Kind]string{harness.PrefixKind: "parentRef", harness.AllocationKind: "prefixRef"}[k])
}

func version(t testing.TB, s string) int {
	t.Helper()
	v, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWatchResumesFromABookmark does what an informer does. Changes in other namespaces advance the bookmark. A
// watch from there delivers all new events, and no old ones.
func TestWatchResumesFromABookmark(t *testing.T) {
	for _, k := range harness.Kinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			namespace, elsewhere := harness.NewNamespace(), harness.NewNamespace()
			old := shared.Create(t, namespace, k, manifestFor(k, "old"))

			// The server sends a bookmark before the watch ends, if there were changes since its start. On a busy
			// machine that may need another watch.
			bookmark, last := old.GetResourceVersion(), ""
			for began := time.Now(); last == "" || version(t, bookmark) < version(t, last); {
				if time.Since(began) > harness.Patience {
					t.Fatalf("no bookmark comes after %s", bookmark)
				}
				events := shared.Watch(t, harness.Path(namespace, k)+"?allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion="+bookmark)
				last = shared.Create(t, elsewhere, k, strings.Replace(manifestFor(k, "last"), "name", "generateName", 1)).GetResourceVersion()
				for e := range events {
					if e.Type != "BOOKMARK" {
						t.Fatalf("got %s %v", e.Type, e.Object)
					}
					if e.Object.GetKind() != k.Name || e.Object.GetName() != "" || e.Object.GetAnnotations() != nil {
						t.Errorf("the bookmark is %v", e.Object)
					}
					bookmark = e.Object.GetResourceVersion()
					break
				}
			}
			created := shared.Create(t, namespace, k, manifestFor(k, "new"))
			for e := range shared.Watch(t, harness.Path(namespace, k)+"?resourceVersion="+bookmark) {
				if e.Type != "ADDED" || !reflect.DeepEqual(e.Object.Object, created.Object) {
					t.Errorf("the watch goes on with %s %v", e.Type, e.Object)
				}
				break
			}
		})
		t.Run(k.Name+" without being asked for", func(t *testing.T) {
			t.Parallel()
			namespace := harness.NewNamespace()
			old := shared.Create(t, namespace, k, manifestFor(k, "old"))
			events := shared.Watch(t, harness.Path(namespace, k)+"?timeoutSeconds=5&resourceVersion="+old.GetResourceVersion())
			shared.Create(t, harness.NewNamespace(), k, manifestFor(k, "last"))
			for e := range events {
				t.Errorf("got %s %v", e.Type, e.Object)
			}
		})
	}
}

// TestStreamingListResumes starts with sendInitialEvents, like client-go, and continues in the same watch, and in
// another one from the version of its bookmark.
func TestStreamingListResumes(t *testing.T) {
	for _, k := range harness.Kinds {
		namespace := harness.NewNamespace()
		want := []string{"a", "b", "c"}
		for _, name := range want {
			shared.Create(t, namespace, k, manifestFor(k, name))
		}
		var initial []string
		bookmark := ""
		const query = "?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
	events:
		for e := range shared.Watch(t, harness.Path(namespace, k)+query) {
			switch {
			case e.Type == "BOOKMARK" && bookmark == "":
				if e.Object.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
					t.Errorf("%s: the bookmark is %v", k.Name, e.Object)
				}
				bookmark = e.Object.GetResourceVersion()
				shared.Create(t, namespace, k, manifestFor(k, "later"))
			case e.Type == "ADDED" && bookmark == "":
				initial = append(initial, e.Object.GetName())
			case e.Type == "ADDED" && e.Object.GetName() == "later":
				break events
			case e.Type != "BOOKMARK":
				t.Errorf("%s: got %s %v", k.Name, e.Type, e.Object)
			}
		}
		if slices.Sort(initial); !slices.Equal(initial, want) {
			t.Errorf("%s: the list was %q, not %q", k.Name, initial, want)
		}
		for e := range shared.Watch(t, harness.Path(namespace, k)+"?resourceVersion="+bookmark) {
			if e.Type != "ADDED" || e.Object.GetName() != "later" {
				t.Errorf("%s: it goes on with %s %s", k.Name, e.Type, e.Object.GetName())
			}
			break
		}
		// resourceVersionMatch is required.
		shared.Raw(t, http.MethodGet, harness.Path(namespace, k)+"?watch=true&sendInitialEvents=true&allowWatchBookmarks=true", "", "").
			Refused(t, http.StatusUnprocessableEntity)
	}
}

// TestPages lists both kinds in pages, with raw requests and with the pager of client-go.
func TestPages(t *testing.T) {
	namespace := harness.NewNamespace()
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("object-%d", i))
		for _, k := range harness.Kinds {
			shared.Create(t, namespace, k, manifestFor(k, want[i]))
		}
	}
	for k, page := range map[harness.Kind]func(metav1.ListOptions) (runtime.Object, error){
		harness.PrefixKind: func(options metav1.ListOptions) (runtime.Object, error) {
			return shared.Client.Prefixes(namespace).List(t.Context(), options)
		},
		harness.AllocationKind: func(options metav1.ListOptions) (runtime.Object, error) {
			return shared.Client.PrefixAllocations(namespace).List(t.Context(), options)
		},
	} {
		var got []string
		for next, left := "", int64(7); ; {
			l := shared.List(t, harness.Path(namespace, k)+"?limit=3&continue="+url.QueryEscape(next))
			got, left = append(got, harness.NamesOf(l)...), left-int64(len(l.Items))
			if next = l.GetContinue(); next == "" {
				if left != 0 || l.GetRemainingItemCount() != nil {
					t.Errorf("%s: %d are left at the end, the server says %v", k.Name, left, l.GetRemainingItemCount())
				}
				break
			}
			if len(l.Items) != 3 || l.GetRemainingItemCount() == nil || *l.GetRemainingItemCount() != left {
				t.Errorf("%s: got %q, %d are left, the server says %v", k.Name, harness.NamesOf(l), left, l.GetRemainingItemCount())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, not %q", k.Name, got, want)
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
			t.Errorf("%s: the pager got %q, not %q: %v", k.Name, got, want, err)
		}
	}
}

// TestWhatIsTooOldIsGone has a server that compacts its store all the time. A list that is continued too late, and
// a watch from an old version, get the error that makes clients start again.
func TestWhatIsTooOldIsGone(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Customize(func(o *apiserver.Options) {
		o.Recommended.Etcd.StorageConfig.CompactionInterval = 200 * time.Millisecond
		// Disable the watch cache: it keeps history that etcd has compacted.
		o.Recommended.Etcd.EnableWatchCache = false
	}))
	namespace := harness.NewNamespace()
	next := map[harness.Kind]string{}
	for _, k := range harness.Kinds {
		for _, name := range []string{"a", "b", "c"} {
			s.Create(t, namespace, k, manifestFor(k, name))
		}
		next[k] = s.List(t, harness.Path(namespace, k)+"?limit=1").GetContinue()
	}
	for _, k := range harness.Kinds {
		var gone metav1.Status
		written := 0
		harness.Eventually(t, "the token is too old", func() error {
			// Only old revisions are compacted.
			written++
			s.Create(t, harness.NewNamespace(), k, manifestFor(k, fmt.Sprintf("more-%d", written)))
			got := s.Raw(t, http.MethodGet, harness.Path(namespace, k)+"?limit=1&continue="+url.QueryEscape(next[k]), "", "")
			if got.Code == http.StatusOK {
				return errors.New("it is not")
			}
			gone = got.Refused(t, http.StatusGone)
			return nil
		})
		if gone.Reason != metav1.StatusReasonExpired || gone.Continue == "" {
			t.Errorf("%s: it is refused by %+v", k.Name, gone)
		}
		// The token in the error continues with the current list.
		if l := s.Names(t, harness.Path(namespace, k)+"?continue="+url.QueryEscape(gone.Continue)); !slices.Equal(l, []string{"b", "c"}) {
			t.Errorf("%s: it goes on with %q", k.Name, l)
		}
		for e := range s.Watch(t, harness.Path(namespace, k)+"?resourceVersion=1") {
			if e.Type != "ERROR" || e.Object.Object["code"] != int64(http.StatusGone) || e.Object.Object["reason"] != string(metav1.StatusReasonExpired) {
				t.Errorf("%s: a watch of what is too old shows %s %v", k.Name, e.Type, e.Object)
			}
			break
		}
	}
}
