// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	createOptions = metav1.CreateOptions{}
	getOptions    = metav1.GetOptions{}
	deleteOptions = metav1.DeleteOptions{}
)

// createAndWatch creates children, parallel at a time, and returns when a watch has delivered all of them as
// Allocated. For each child it returns the time from before its creation until then.
func (e *env) createAndWatch(parallel int, children []*v1alpha1.Prefix) []time.Duration {
	e.Helper()
	list, err := e.Prefixes.List(e.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		e.Fatal(err)
	}
	began := make([]time.Time, len(children))
	index := map[string]int{}
	for i, child := range children {
		index[child.Name] = i
	}
	created := make(chan struct{})
	go func() {
		defer close(created)
		harness.Each(len(children), parallel, func(i int) {
			began[i] = time.Now()
			if _, err := e.Prefixes.Create(e.Context(), children[i], createOptions); err != nil {
				e.Error(err)
			}
		})
	}()
	seen := make([]time.Time, len(children))
	left := len(children)
	e.follow(list.ResourceVersion, "", func(p *v1alpha1.Prefix) bool {
		if i, ours := index[p.Name]; ours && p.Status.Phase == v1alpha1.PrefixPhaseAllocated && seen[i].IsZero() {
			seen[i] = time.Now()
			left--
		}
		return left == 0
	})
	<-created
	took := make([]time.Duration, len(children))
	for i := range children {
		took[i] = seen[i].Sub(began[i])
	}
	return took
}

// percentile returns the given percentile.
func percentile(took []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[(len(sorted)-1)*percent/100]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func childrenOf(parent string, n int, bits int32) []*v1alpha1.Prefix {
	children := make([]*v1alpha1.Prefix, n)
	for i := range children {
		children[i] = harness.NewPrefix(fmt.Sprintf("%s-child-%d", parent, i), harness.Length(bits), harness.From(parent))
	}
	return children
}

// TestOneChild logs the latency of single children.
func TestOneChild(t *testing.T) {
	e := inInstance(t, shared)
	e.root("root", "10.0.0.0/16")
	var took []time.Duration
	for _, child := range childrenOf("root", 30, 28) {
		took = append(took, e.createAndWatch(1, []*v1alpha1.Prefix{child})...)
	}
	t.Logf("create to Allocated: p50 %v, p99 %v", percentile(took, 50), percentile(took, 99))
	e.AtRest()
}

// TestThousandChildren creates 1,000 children of one parent with 32 creators, and then more than the status can
// list individually. It counts the transactions of etcd.
func TestThousandChildren(t *testing.T) {
	e := inInstance(t, shared)
	e.root("root", "10.0.0.0/16")
	const children = 1000
	etcd, err := clientv3.New(clientv3.Config{Endpoints: shared.EtcdEndpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	// Each writing transaction increases the revision by one.
	revision := func() int64 {
		response, err := etcd.Get(t.Context(), "revision")
		if err != nil {
			t.Fatal(err)
		}
		return response.Header.Revision
	}
	before, began := revision(), time.Now()
	took := e.createAndWatch(32, childrenOf("root", children, 32))
	// A child needs four transactions. The parent needs one for many children.
	if writes := float64(revision()-before) / children; writes < 4 || writes > 4.3 {
		t.Errorf("%.2f transactions a child", writes)
	}
	t.Logf("%d children by 32 creators: all Allocated after %v; each: p50 %v, p99 %v",
		children, time.Since(began).Round(time.Millisecond), percentile(took, 50).Round(time.Millisecond), percentile(took, 99).Round(time.Millisecond))

	e.AtRest()
	root := e.Get("root")
	if root.Status.Usage.Allocations != children || root.Status.Usage.Used != "1000" || len(root.Status.Used) != children {
		t.Errorf("usage %+v, %d used", root.Status.Usage, len(root.Status.Used))
	}
	var prefixes []string
	for _, p := range e.List() {
		if !p.Spec.IsRoot() {
			prefixes = append(prefixes, p.Spec.Prefix)
		}
	}
	if err := harness.Disjoint("10.0.0.0/16", prefixes); err != nil || len(prefixes) != children {
		t.Errorf("%d children: %v", len(prefixes), err)
	}

	t.Run("more are summarised", func(t *testing.T) {
		harness.Each(100, 16, func(i int) {
			if _, err := e.Prefixes.Create(t.Context(), harness.NewPrefix(fmt.Sprintf("more-%d", i), harness.Length(32), harness.From("root")), createOptions); err != nil {
				t.Error(err)
			}
		})
		e.Eventually("summary", func() error {
			root := e.Get("root")
			// The children are packed, and 1,100 is 1,024 + 64 + 8 + 4.
			want := []string{"10.0.0.0/22", "10.0.4.0/26", "10.0.4.64/29", "10.0.4.72/30"}
			if root.Status.Usage.Allocations != children+100 || !slices.Equal(root.Status.Used, want) || root.Status.Usage.Truncated {
				return fmt.Errorf("usage %+v, used %.300v", root.Status.Usage, root.Status.Used)
			}
			return nil
		})
		e.AtRest()
	})

	t.Run("all are deleted", func(t *testing.T) {
		began := time.Now()
		prefixes := e.List()
		harness.Each(len(prefixes), 32, func(i int) {
			if err := e.Prefixes.Delete(t.Context(), prefixes[i].Name, deleteOptions); err != nil {
				t.Error(err)
			}
		})
		e.Eventually("nothing left over", func() error {
			if p, a := len(e.List()), len(e.ListAllocations()); p+a > 0 {
				return errors.New(fmt.Sprint(p, " Prefixes and ", a, " PrefixAllocations"))
			}
			return nil
		})
		t.Logf("%d Prefixes were gone after %v", children+101, time.Since(began).Round(time.Millisecond))
	})
}

// BenchmarkOneChild measures the latency of one child on an idle server, from before its creation until a watch
// delivers it as Allocated.
func BenchmarkOneChild(b *testing.B) {
	e := inNamespace(b, shared, fmt.Sprintf("benchmark-one-%d", b.N))
	e.root("root", "10.0.0.0/8")
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		child := harness.NewPrefix(fmt.Sprintf("child-%d", len(took)), harness.Length(28), harness.From("root"))
		took = append(took, e.createAndWatch(1, []*v1alpha1.Prefix{child})...)
	}
	b.ReportMetric(milliseconds(percentile(took, 50)), "p50-ms")
	b.ReportMetric(milliseconds(percentile(took, 99)), "p99-ms")
}

// BenchmarkThousandChildren measures 1,000 children of one parent with 32 creators, until a watch has delivered all
// of them as Allocated. Each iteration has a new parent.
func BenchmarkThousandChildren(b *testing.B) {
	e := inNamespace(b, shared, "benchmark-thousand")
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		root := fmt.Sprintf("root-%d-%d", b.N, len(took))
		e.root(root, "10.0.0.0/16")
		b.StartTimer()
		took = append(took, e.createAndWatch(32, childrenOf(root, 1000, 28))...)
	}
	b.ReportMetric(milliseconds(percentile(took, 50)), "p50-ms")
	b.ReportMetric(milliseconds(percentile(took, 99)), "p99-ms")
}
