// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

const (
	// namespace is the default namespace. The server has no API for namespaces.
	namespace = "default"
	// creators is the number of concurrent creators.
	creators = 64
	// patience is the time without progress after which a measurement fails.
	patience = 5 * time.Minute
	// startTimeout is the maximum time for the start of a server with a large store.
	startTimeout = 10 * time.Minute
	// batchLabel is the label of Prefixes with the name of their batch.
	batchLabel = "batch"
)

// site is a namespace on a server, with clients.
type site struct {
	*bench
	// user is the client of people and their programs, controller that of controllers.
	user, controller ipamclient.PrefixInterface
	// allocations is the client of controllers.
	allocations ipamclient.PrefixAllocationInterface
	// policies are used by the owners of address space.
	policies ipamclient.PrefixPolicyInterface
}

// newSite returns a namespace on the server that a configuration is for.
func (b *bench) newSite(config *rest.Config, namespace string) *site {
	user := versioned.NewForConfigOrDie(b.userConfig(config)).IpamV1alpha1()
	controller := versioned.NewForConfigOrDie(manager.ClientConfig(config)).IpamV1alpha1()
	return &site{b, user.Prefixes(namespace), controller.Prefixes(namespace), controller.PrefixAllocations(namespace), user.PrefixPolicies(namespace)}
}

// userConfig returns the configuration of a user, which may select JSON.
func (b *bench) userConfig(config *rest.Config) *rest.Config {
	if b.json {
		config = rest.CopyConfig(config)
		config.QPS = -1
		return config
	}
	return manager.ClientConfig(config)
}

// each calls a function for 0 to count-1, parallel at a time, until the context ends.
func each(ctx context.Context, count, parallel int, f func(n int)) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			for n := range numbers {
				f(n)
			}
		})
	}
	for n := 0; n < count && ctx.Err() == nil; n++ {
		numbers <- n
	}
	close(numbers)
	group.Wait()
}

// await calls f, and returns when f has returned and count Prefixes of a batch have become Allocated since. It
// calls seen with the name of each as soon as it is Allocated.
func (s *site) await(batch string, count int, f func(), seen func(name string)) {
	s.Helper()
	list, err := s.controller.List(s.ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		s.Fatal(err)
	}
	// A single watch would end at some time, and delivers only events after its start.
	watcher, err := watchtools.NewRetryWatcherWithContext(s.ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector, options.FieldSelector = batchLabel+"="+batch, "status.phase="+string(v1alpha1.PrefixPhaseAllocated)
			return s.controller.Watch(ctx, options)
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	defer watcher.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	impatient := time.NewTimer(patience)
	defer impatient.Stop()
	for allocated := 0; allocated < count; {
		select {
		case event := <-watcher.ResultChan():
			switch event.Type {
			case watch.Added:
				// The object now matches the selector of the watch, and did not before.
				allocated++
				if seen != nil {
					seen(event.Object.(*v1alpha1.Prefix).Name)
				}
				impatient.Reset(patience)
			case watch.Modified, watch.Bookmark:
			default:
				s.Fatalf("the watch ended after %d of %d: %v", allocated, count, event)
			}
		case <-impatient.C:
			s.Fatalf("nothing has happened for %v after %d of %d", patience, allocated, count)
		case <-s.ctx.Done():
			s.Fatal(s.ctx.Err())
		}
	}
	<-done
}

// create creates a Prefix as a user.
func (s *site) create(p *v1alpha1.Prefix) {
	if _, err := s.user.Create(s.ctx, p, metav1.CreateOptions{}); err != nil {
		s.Error(err)
	}
}

// roots creates roots, and waits until they are Allocated.
func (s *site) roots(batch string, roots ...*v1alpha1.Prefix) {
	s.Helper()
	s.await(batch, len(roots), func() {
		each(s.ctx, len(roots), creators, func(n int) {
			roots[n].Labels = map[string]string{batchLabel: batch}
			s.create(roots[n])
		})
	}, nil)
}

// root creates a large root, and waits until it is Allocated.
func (s *site) root(name string) {
	s.Helper()
	s.roots(name, root(name, "10.0.0.0/8"))
}

// allocate creates children, and returns the number of Allocated children per second.
func (s *site) allocate(what, batch string, count int, spec v1alpha1.PrefixSpec) float64 {
	s.Helper()
	return s.rateOf(what, count, batch, func(n int) { s.create(child(batch, n, spec)) })
}

// rateOf calls create for each child, and returns the number of Allocated children per second.
func (s *site) rateOf(what string, count int, batch string, create func(n int)) float64 {
	s.Helper()
	s.progress.phase(what, count)
	start := time.Now()
	s.await(batch, count, func() { each(s.ctx, count, creators, create) }, func(string) { s.progress.step() })
	return float64(count) / time.Since(start).Seconds()
}

// outstanding is the maximum number of created children that are not Allocated yet, when there are many children.
// Creation is a quarter of the work, so creators would otherwise be far ahead.
const outstanding = 1024

// fill creates many children, and calls seen for each that is Allocated.
func (s *site) fill(what, batch string, count int, spec func(n int) v1alpha1.PrefixSpec, seen func()) {
	s.Helper()
	s.progress.phase(what, count)
	window := make(chan struct{}, outstanding)
	s.await(batch, count, func() {
		each(s.ctx, count, creators, func(n int) {
			select {
			case window <- struct{}{}:
				s.create(child(batch, n, spec(n)))
			case <-s.ctx.Done():
			}
		})
	}, func(string) {
		<-window
		s.progress.step()
		seen()
	})
}

// child returns a child of a batch.
func child(batch string, n int, spec v1alpha1.PrefixSpec) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", batch, n), Labels: map[string]string{batchLabel: batch}},
		Spec:       spec,
	}
}

func root(name, prefix string) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixSpec{Prefix: prefix}}
}

// of returns the spec of a child that requests a small part of a parent.
func of(parent string) v1alpha1.PrefixSpec {
	return v1alpha1.PrefixSpec{PrefixLength: 28, ParentRef: &v1alpha1.LocalObjectReference{Name: parent}}
}

// awaitWhy waits until all children of the batch "waits" tell why they wait. count is their number.
func (s *site) awaitWhy(count int) {
	s.eventually("all of them tell why they wait", func() error {
		list, err := s.controller.List(s.ctx, metav1.ListOptions{LabelSelector: batchLabel + "=waits"})
		if err != nil {
			return err
		}
		told := 0
		for i := range list.Items {
			if meta.IsStatusConditionFalse(list.Items[i].Status.Conditions, v1alpha1.ConditionAllocated) {
				told++
			}
		}
		if told != count {
			return fmt.Errorf("%d of %d", told, count)
		}
		return nil
	})
}
