// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// pageSize is the number of objects in one page of a list.
	pageSize = 2000
	// firstPause and longestPause bound the time between two tries to reach the server.
	firstPause   = 250 * time.Millisecond
	longestPause = 5 * time.Second
	// watchTime is the least time after which a watch is begun anew; the most is twice as long.
	watchTime = 5 * time.Minute
)

// The phases of a feed.
const (
	phaseReading   = "reading"
	phaseLive      = "live"
	phaseLost      = "lost"
	phaseForbidden = "forbidden"
)

// feed keeps the objects of one kind in the model up to date.
type feed struct {
	kind  kind
	name  string
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
	model *model

	mu      sync.Mutex
	phase   string
	problem string
}

// newFeeds returns the feeds of a namespace, or of all if it is empty. Of the PrefixAllocations that were made for a Prefix,
// only those are read whose space cools down: before that, the Prefix says the same.
func newFeeds(client ipamclient.IpamV1alpha1Interface, namespace string, m *model) []*feed {
	alone := "!" + v1alpha1.RequesterUIDLabel
	cools := fields.OneTermNotEqualSelector(v1alpha1.FieldCoolingUntil, "").String()
	allocations := func(kind kind, name string, selecting func(*metav1.ListOptions)) *feed {
		return &feed{
			kind: kind, name: name, model: m, phase: phaseReading,
			list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				selecting(&o)
				return client.PrefixAllocations(namespace).List(ctx, o)
			},
			watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				selecting(&o)
				return client.PrefixAllocations(namespace).Watch(ctx, o)
			},
		}
	}
	return []*feed{
		{
			kind: prefixKind, name: "Prefixes", model: m, phase: phaseReading,
			list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return client.Prefixes(namespace).List(ctx, o)
			},
			watch: client.Prefixes(namespace).Watch,
		},
		allocations(allocationKind, "PrefixAllocations", func(o *metav1.ListOptions) { o.LabelSelector = alone }),
		allocations(coolingKind, "PrefixAllocations that cool down", func(o *metav1.ListOptions) { o.FieldSelector = cools }),
		{
			kind: policyKind, name: "PrefixPolicies", model: m, phase: phaseReading,
			list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return client.PrefixPolicies(namespace).List(ctx, o)
			},
			watch: client.PrefixPolicies(namespace).Watch,
		},
	}
}

// state returns the phase of the feed, and what is wrong.
func (f *feed) state() (phase, problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.phase, f.problem
}

// set sets the phase. A feed that is lost is so until it is live again, also while it reads.
func (f *feed) set(phase string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase == phaseLost && phase == phaseReading {
		return
	}
	f.phase, f.problem = phase, ""
	if err != nil {
		f.problem = fmt.Sprintf("%s: %s", f.name, plaintext.Escape(err.Error()))
	}
}

// run reads all objects and follows the changes, until the context ends. When the connection is lost, it tries again.
func (f *feed) run(ctx context.Context) {
	pause := firstPause
	version := ""
	for ctx.Err() == nil {
		var err error
		if version == "" {
			f.set(phaseReading, nil)
			version, err = f.read(ctx)
		}
		for err == nil && version != "" && ctx.Err() == nil {
			began := time.Now()
			if version, err = f.follow(ctx, version); time.Since(began) > longestPause {
				pause = firstPause
			}
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			// The server has forgotten the version. What is shown holds until the objects have been read again, which
			// waits like any other try, since a server may always say so.
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			f.set(phaseForbidden, err)
		case apierrors.IsNotFound(err) && f.kind == policyKind, apierrors.IsBadRequest(err) && f.kind == coolingKind:
			// A server of an older version has no policies, and does not know the field by which is selected what cools down.
			f.set(phaseForbidden, nil)
		default:
			f.set(phaseLost, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, longestPause)
	}
}

// read reads all objects, page by page, and returns their version.
func (f *feed) read(ctx context.Context) (version string, err error) {
	round := f.model.begin()
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := f.list(ctx, options)
		if err != nil {
			return "", err
		}
		if err := meta.EachListItem(page, func(o runtime.Object) error { f.put(o); return nil }); err != nil {
			return "", err
		}
		list, err := meta.ListAccessor(page)
		if err != nil {
			return "", err
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			f.model.end(f.kind, round)
			return list.GetResourceVersion(), nil
		}
	}
}

// errEnded says that a watch ended without a word.
var errEnded = errors.New("the server closed the connection")

// follow follows the changes since a version until the watch ends. It returns the version from which to go on, or "" if
// all objects have to be read again.
func (f *feed) follow(ctx context.Context, version string) (string, error) {
	timeout := int64((watchTime + rand.N(watchTime)) / time.Second)
	w, err := f.watch(ctx, metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &timeout})
	if err != nil {
		return ended(version, err)
	}
	defer w.Stop()
	f.set(phaseLive, nil)
	began := time.Now()
	for event := range w.ResultChan() {
		if event.Type == watch.Error {
			return ended(version, apierrors.FromObject(event.Object))
		}
		o, err := meta.Accessor(event.Object)
		if err != nil {
			return version, err
		}
		switch event.Type {
		case watch.Added, watch.Modified:
			f.put(event.Object)
		case watch.Deleted:
			f.model.drop(f.kind, o.GetNamespace(), o.GetName())
		}
		version = o.GetResourceVersion()
	}
	if time.Since(began) < time.Second {
		return version, errEnded
	}
	return version, nil
}

// ended returns what follow returns after an error: an expired version is none.
func ended(version string, err error) (string, error) {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return "", nil
	}
	return version, err
}

// put stores an object in the model.
func (f *feed) put(o runtime.Object) {
	switch o := o.(type) {
	case *v1alpha1.Prefix:
		f.model.putPrefix(o)
	case *v1alpha1.PrefixAllocation:
		if f.kind == coolingKind {
			f.model.putCooling(o)
		} else {
			f.model.putAllocation(o)
		}
	case *v1alpha1.PrefixPolicy:
		f.model.putPolicy(o)
	}
}
