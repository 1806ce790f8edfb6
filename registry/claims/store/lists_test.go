// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/utils/ptr"
)

// TestAbandonedLists shows that what was read ahead is dropped if nobody asks for it, and not before.
func TestAbandonedLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &cachedLists{readAhead: 10}
		left := func() (tokens string) {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, r := range l.ahead {
				tokens += r.token
			}
			return tokens
		}
		put := func(token string) { l.put(remainder{token: token, items: reflect.ValueOf([]int{1})}) }
		put("a")
		time.Sleep(keepAhead / 2)
		put("b")
		time.Sleep(keepAhead/2 - time.Nanosecond)
		if got := left(); got != "ab" {
			t.Errorf("%q are left before the time of the first one", got)
		}
		time.Sleep(time.Nanosecond)
		if got := left(); got != "b" {
			t.Errorf("%q are left after the time of the first one", got)
		}
		time.Sleep(keepAhead / 2)
		if got := left(); got != "" || l.sweeper != nil {
			t.Errorf("%q are left in the end, and a timer: %v", got, l.sweeper != nil)
		}
		put("c")
		time.Sleep(keepAhead)
		if got := left(); got != "" {
			t.Errorf("%q are left of a later list", got)
		}
	})
}

// supported is an etcd with all features.
type supported struct {
	etcdfeature.FeatureSupportChecker
}

func (supported) Supports(storage.Feature) bool { return true }

// versioned is a storage that can only set versions.
type versioned struct{ storage.Interface }

func (versioned) Versioner() storage.Versioner { return storage.APIObjectVersioner{} }

// TestPagesReadAhead shows that pages which were read ahead need no watch cache: it may have lost their revision. There is none
// here.
func TestPagesReadAhead(t *testing.T) {
	before := etcdfeature.DefaultFeatureSupportChecker
	defer func() { etcdfeature.DefaultFeatureSupportChecker = before }()
	etcdfeature.DefaultFeatureSupportChecker = supported{before}
	const key, revision = "/prefixes/", 7
	l := &cachedLists{Interface: versioned{}, resourcePrefix: key, readAhead: 10, keyOf: func(o runtime.Object) (string, error) {
		return key + o.(*ipam.Prefix).Name, nil
	}}
	token, err := storage.EncodeContinue(key+"a\x00", key, revision)
	if err != nil {
		t.Fatal(err)
	}
	var items []ipam.Prefix
	for _, name := range []string{"b", "c", "d"} {
		items = append(items, ipam.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	l.put(remainder{key: key, token: token, items: reflect.ValueOf(items), resourceVersion: revision})
	for _, want := range []struct {
		names []string
		left  *int64
	}{{[]string{"b", "c"}, ptr.To[int64](1)}, {[]string{"d"}, nil}} {
		list := &ipam.PrefixList{}
		if err := l.GetList(t.Context(), key, storage.ListOptions{Recursive: true, Predicate: storage.SelectionPredicate{
			Label: labels.Everything(), Field: fields.Everything(), Limit: 2, Continue: token,
		}}, list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range list.Items {
			names = append(names, p.Name)
		}
		if !reflect.DeepEqual(names, want.names) || !reflect.DeepEqual(list.RemainingItemCount, want.left) || list.ResourceVersion != "7" {
			t.Errorf("got %q, %v left, at %s", names, ptr.Deref(list.RemainingItemCount, 0), list.ResourceVersion)
		}
		token = list.Continue
	}
	if token != "" || len(l.ahead) > 0 {
		t.Errorf("after the last page there is %q, %d are read ahead", token, len(l.ahead))
	}
}

// TestRoom shows that one list may read more ahead than many, and what all lists hold at most.
func TestRoom(t *testing.T) {
	l := &cachedLists{readAhead: 10}
	held := 0
	// The ninth list takes the place of the first one.
	for n, want := range []int64{80, 40, 20, 10, 10, 10, 10, 10, 10, 20} {
		got := l.room()
		if got != want {
			t.Errorf("with %d lists there is room for %d, not %d", n, got, want)
		}
		l.put(remainder{items: reflect.ValueOf(make([]int, got))})
		held = 0
		for _, r := range l.ahead {
			held += r.items.Len()
		}
		if most := int(l.readAhead) * (shareAhead + maxAhead); held > most {
			t.Errorf("%d objects are read ahead, more than %d", held, most)
		}
	}
	if held > 10*shareAhead {
		t.Errorf("%d objects are read ahead", held)
	}
}
