// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	creators = 64
	// children are those of a round.
	children = 5000
	rounds   = 3
)

// standalone is ipam-standalone as a process.
type standalone struct {
	testing.TB
	// user is what people and their programs use, controller what controllers do.
	user, controller ipamclient.IpamV1alpha1Interface
	etcd             *clientv3.Client
}

func startStandalone(b testing.TB, args ...string) *standalone {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "ipam-standalone")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/ironcore-dev/ipam-apiserver/cmd/ipam-standalone").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	data := filepath.Join(dir, "data")
	p := process.Start(b, dir, program, append([]string{"--data-dir", data, "--secure-port=0"}, args...)...)
	s := &standalone{TB: b}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if p.HasEnded() || time.Now().After(deadline) {
			b.Fatalf("It is not ready: %s", p.LastOfLog(2000))
		}
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(data, "kubeconfig"))
		if err != nil {
			continue
		}
		config.QPS = -1
		s.user = versioned.NewForConfigOrDie(config).IpamV1alpha1()
		s.controller = versioned.NewForConfigOrDie(manager.ClientConfig(config)).IpamV1alpha1()
		if _, err := s.user.Prefixes(namespace).List(context.Background(), metav1.ListOptions{Limit: 1}); err == nil {
			break
		}
	}
	var err error
	if s.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(data, "etcd", "client.sock")}}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.etcd.Close() })
	return s
}

// revision is that of etcd: each transaction that writes is one more.
func (s *standalone) revision() int64 {
	response, err := s.etcd.Get(context.Background(), "a")
	if err != nil {
		s.Fatal(err)
	}
	return response.Header.Revision
}

// each calls a function for each of so many numbers, some at a time.
func each(count, parallel int, f func(n int)) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			for n := range numbers {
				f(n)
			}
		})
	}
	for n := range count {
		numbers <- n
	}
	close(numbers)
	group.Wait()
}

// root creates a root, and waits until it is Allocated.
func (s *standalone) root(name string) {
	s.await(1, name, func() {
		if _, err := s.user.Prefixes(namespace).Create(context.Background(), &v1alpha1.Prefix{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{roundLabel: name}}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"},
		}, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
	}, nil)
}

// roundLabel is on Prefixes, and tells the round that they are of.
const roundLabel = "round"

// await calls a function, and returns when so many Prefixes of a round are Allocated. It calls seen with
// the name of each at once.
func (s *standalone) await(count int, round string, f func(), seen func(name string)) {
	list, err := s.controller.Prefixes(namespace).List(context.Background(), metav1.ListOptions{Limit: 1})
	if err != nil {
		s.Fatal(err)
	}
	watcher, err := s.controller.Prefixes(namespace).Watch(context.Background(), metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, FieldSelector: "status.phase=Allocated",
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
	names := map[string]bool{}
	for timeout := time.After(10 * time.Minute); len(names) < count; {
		select {
		case event := <-watcher.ResultChan():
			p, ok := event.Object.(*v1alpha1.Prefix)
			if !ok {
				s.Fatalf("The watch ended after %d of %d: %v", len(names), count, event)
			}
			if !names[p.Name] && p.Labels[roundLabel] == round {
				names[p.Name] = true
				if seen != nil {
					seen(p.Name)
				}
			}
		case <-timeout:
			s.Fatalf("Not in time: %d of %d", len(names), count)
		}
	}
	<-done
}

func child(round, n int, parent string) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("child-%d-%d", round, n), Labels: map[string]string{roundLabel: fmt.Sprint(round)}},
		Spec:       v1alpha1.PrefixSpec{PrefixLength: 28, ParentRef: &v1alpha1.LocalObjectReference{Name: parent}},
	}
}

// allocate has children of a new parent allocated, and returns how many a second.
func (s *standalone) allocate(round, count int) float64 {
	parent := fmt.Sprintf("root-%d", round)
	s.root(parent)
	start := time.Now()
	s.await(count, fmt.Sprint(round), func() {
		each(count, creators, func(n int) {
			if _, err := s.user.Prefixes(namespace).Create(context.Background(), child(round, n, parent), metav1.CreateOptions{}); err != nil {
				s.Error(err)
			}
		})
	}, nil)
	return float64(count) / time.Since(start).Seconds()
}

// plain does the four writes that a child takes, without allocating anything, and returns how often a
// second: a user creates a Prefix; a controller creates a PrefixAllocation, and updates both.
func (s *standalone) plain(round, count int) float64 {
	start, ctx := time.Now(), context.Background()
	each(count, creators, func(n int) {
		p, err := s.user.Prefixes(namespace).Create(ctx, child(round, n, "root"), metav1.CreateOptions{})
		if err != nil {
			s.Error(err)
			return
		}
		a, err := s.controller.PrefixAllocations(namespace).Create(ctx, &v1alpha1.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{
				Name: p.Name, Labels: map[string]string{v1alpha1.RequesterUIDLabel: string(p.UID)},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, schema.GroupVersion(v1alpha1.GroupVersion).WithKind(v1alpha1.PrefixKind))},
			},
			Spec: v1alpha1.PrefixAllocationSpec{PrefixLength: 28, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}, IPFamily: v1alpha1.IPv4},
		}, metav1.CreateOptions{})
		if err != nil {
			s.Error(err)
			return
		}
		condition := []metav1.Condition{{
			Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonParentNotFound,
			Message: "There is no Prefix root", LastTransitionTime: metav1.Now(),
		}}
		a.Status.Conditions, p.Status.Conditions = condition, condition
		if _, err := s.controller.PrefixAllocations(namespace).UpdateStatus(ctx, a, metav1.UpdateOptions{}); err != nil {
			s.Error(err)
		}
		if _, err := s.controller.Prefixes(namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
			s.Error(err)
		}
	})
	return float64(count) / time.Since(start).Seconds()
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// BenchmarkChildren has children of one parent allocated, and compares that with the same writes on the
// same program without controllers. The two take turns.
func BenchmarkChildren(b *testing.B) {
	ours, plain := startStandalone(b), startStandalone(b, "--controllers=")
	var rates, plains, ratios, writes []float64
	round := 0
	for b.Loop() {
		for range rounds {
			round++
			before := ours.revision()
			rate, base := ours.allocate(round, children), plain.plain(round, children)
			writes = append(writes, float64(ours.revision()-before)/children)
			rates, plains, ratios = append(rates, rate), append(plains, base), append(ratios, rate/base)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates), "children/s")
	b.ReportMetric(median(plains), "plain/s")
	b.ReportMetric(median(ratios), "children/plain")
	b.ReportMetric(median(writes), "transactions/child")
}

// BenchmarkSteady creates 20 children a second, and tells how long each takes until it is Allocated.
func BenchmarkSteady(b *testing.B) {
	s := startStandalone(b)
	const count = 400
	var took []float64
	round := 0
	for b.Loop() {
		round++
		parent := fmt.Sprintf("root-%d", round)
		s.root(parent)
		var mu sync.Mutex
		began := map[string]time.Time{}
		s.await(count, fmt.Sprint(round), func() {
			ticker := time.NewTicker(time.Second / 20)
			defer ticker.Stop()
			for n := range count {
				<-ticker.C
				p := child(round, n, parent)
				mu.Lock()
				began[p.Name] = time.Now()
				mu.Unlock()
				if _, err := s.user.Prefixes(namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
					b.Error(err)
				}
			}
		}, func(name string) {
			mu.Lock()
			took = append(took, float64(time.Since(began[name]).Microseconds())/1000)
			mu.Unlock()
		})
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took[len(took)/2], "p50-ms")
	b.ReportMetric(took[len(took)*99/100], "p99-ms")
}

// BenchmarkDelete deletes children, and tells how many are gone a second.
func BenchmarkDelete(b *testing.B) {
	s := startStandalone(b)
	var rates []float64
	round, ctx := 0, context.Background()
	for b.Loop() {
		for range rounds {
			round++
			s.allocate(round, children)
			start := time.Now()
			each(children, creators, func(n int) {
				if err := s.user.Prefixes(namespace).Delete(ctx, fmt.Sprintf("child-%d-%d", round, n), metav1.DeleteOptions{}); err != nil {
					b.Error(err)
				}
			})
			for left := 1; left > 0; time.Sleep(20 * time.Millisecond) {
				list, err := s.controller.PrefixAllocations(namespace).List(ctx, metav1.ListOptions{Limit: 1})
				if err != nil {
					b.Fatal(err)
				}
				left = len(list.Items)
			}
			rates = append(rates, children/time.Since(start).Seconds())
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates), "children/s")
}
