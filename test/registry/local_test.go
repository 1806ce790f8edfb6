// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"testing"
	"time"

	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watcher is a client of a resource in a namespace.
type watcher interface {
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// watchers are the clients of each resource.
var watchers = map[string]func(ipamclient.IpamV1alpha1Interface, string) watcher{
	"prefixes": func(c ipamclient.IpamV1alpha1Interface, namespace string) watcher { return c.Prefixes(namespace) },
	"prefixallocations": func(c ipamclient.IpamV1alpha1Interface, namespace string) watcher {
		return c.PrefixAllocations(namespace)
	},
}

// TestLocalWatch has a watch within the process tell what one by HTTP does, whatever is asked for.
func TestLocalWatch(t *testing.T) {
	watchList := metav1.ListOptions{
		SendInitialEvents: new(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
	}
	selective := watchList
	selective.FieldSelector, selective.LabelSelector = "status.phase=Allocated", "!nonsense"
	for name, options := range map[string]metav1.ListOptions{
		"watch-list": watchList, "selective": selective, "any": {}, "from zero": {ResourceVersion: "0"},
	} {
		for resource, of := range watchers {
			t.Run(name+" "+resource, func(t *testing.T) {
				// There is something before the watch.
				namespace, last := shared.setUp(t, "request-by-ref", "request-allocated")
				local, err := of(shared.Client.IpamV1alpha1(), namespace).Watch(t.Context(), options)
				if err != nil {
					t.Fatal(err)
				}
				defer local.Stop()
				remote, err := of(shared.client, namespace).Watch(t.Context(), options)
				if err != nil {
					t.Fatal(err)
				}
				defer remote.Stop()
				// And something comes, changes and goes.
				shared.write(t, last, mergePatch, `metadata: {annotations: {a: b}}`).must(t)
				for _, k := range kinds {
					obj := shared.create(t, namespace, k, `{metadata: {name: new, labels: {c: d}}, spec: {prefixLength: 24, ipFamily: IPv4, `+
						map[kind]string{prefixKind: "parentRef", allocationKind: "prefixRef"}[k]+`: {name: parent}}}`)
					shared.write(t, obj, mergePatch, `metadata: {annotations: {done: "yes"}}`).must(t)
				}
				for i := 0; ; i++ {
					got, want := next(t, local), next(t, remote)
					if want.Type == watch.Bookmark {
						// Those that come by themselves may be older or newer.
						want.Object.(metav1.Object).SetResourceVersion("")
						got.Object.(metav1.Object).SetResourceVersion("")
					}
					if got.Type != want.Type || !equality.Semantic.DeepEqual(got.Object, want.Object) {
						t.Fatalf("event %d: got %v %+v, want %v %+v", i, got.Type, got.Object, want.Type, want.Object)
					}
					if object, ok := want.Object.(metav1.Object); ok && object.GetAnnotations()["done"] == "yes" || name == "selective" && want.Type == watch.Bookmark {
						return
					}
				}
			})
		}
	}
}

// next returns the next event.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case event, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch has ended")
		}
		return event
	case <-time.After(soon):
		t.Fatal("there is no event")
	}
	return watch.Event{}
}

// TestLocalWatchRefused has the same errors as HTTP.
func TestLocalWatchRefused(t *testing.T) {
	for name, options := range map[string]metav1.ListOptions{
		"a match without a revision":      {ResourceVersionMatch: metav1.ResourceVersionMatchExact},
		"initial events without match":    {SendInitialEvents: new(true)},
		"a field that does not exist":     {FieldSelector: "spec.nonsense=1"},
		"a selector that is none":         {LabelSelector: "a=b=c"},
		"a revision that is not a number": {ResourceVersion: "x"},
	} {
		for resource, of := range watchers {
			_, local := of(shared.Client.IpamV1alpha1(), "default").Watch(t.Context(), options)
			_, remote := of(shared.client, "default").Watch(t.Context(), options)
			if local == nil || remote == nil || apierrors.ReasonForError(local) != apierrors.ReasonForError(remote) {
				t.Errorf("%s of %s: got %v, want %v", name, resource, local, remote)
			}
		}
	}
}

// TestLocalWatchEnds has watches end: stopped, with their context, and after their time; and while nobody takes what they
// have.
func TestLocalWatchEnds(t *testing.T) {
	namespace, _ := shared.setUp(t)
	for name, end := range map[string]func(w watch.Interface, cancel context.CancelFunc){
		"stopped":          func(w watch.Interface, _ context.CancelFunc) { w.Stop() },
		"with its context": func(_ watch.Interface, cancel context.CancelFunc) { cancel() },
		"after its time":   func(watch.Interface, context.CancelFunc) {},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		options := metav1.ListOptions{ResourceVersion: "0"}
		if name == "after its time" {
			options.TimeoutSeconds = new(int64(1))
		}
		w, err := shared.Client.IpamV1alpha1().Prefixes(namespace).Watch(ctx, options)
		if err != nil {
			t.Fatal(err)
		}
		end(w, cancel)
		ended := time.After(soon)
		for open := true; open; {
			select {
			case _, open = <-w.ResultChan():
			case <-ended:
				t.Fatalf("%s: it does not end", name)
			}
		}
		cancel()
	}
}
