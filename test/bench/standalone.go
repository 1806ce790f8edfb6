// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// children is the default number of children in a round.
	children = 5000
	// rounds is the default number of turns of each side of a comparison.
	rounds = 3
	// latencyRounds is the number of rounds with a constant rate of creates, so that a disk that is slow once does
	// not determine the result.
	latencyRounds = 5
)

// standalone is a process of ipam-standalone.
type standalone struct {
	*site
	*process.Process
	// data is its data directory.
	data string
	// etcd is a client for the metrics of its etcd.
	etcd *http.Client
}

// startStandalone starts the program with a new data directory, and returns when it is ready.
func startStandalone(b *bench, args ...string) *standalone {
	b.Helper()
	return startStandaloneOn(b, filepath.Join(b.TempDir(), "data"), args...)
}

// startStandaloneOn starts the program with a data directory, and returns when it is ready.
func startStandaloneOn(b *bench, data string, args ...string) *standalone {
	b.Helper()
	program := b.program("ipam-standalone")
	b.progress.phase("start ipam-standalone", 0)
	s := &standalone{data: data}
	s.Process = process.Start(b, b.TempDir(), program, append([]string{"--data-dir", data, "--secure-port=0"}, args...)...)
	socket := filepath.Join(data, "etcd", "http.sock")
	s.etcd = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	b.Cleanup(s.etcd.CloseIdleConnections)
	b.eventually("ipam-standalone answers", func() error {
		if s.HasEnded() {
			b.Fatalf("ipam-standalone ended: %s", s.LastOfLog(2000))
		}
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(data, "kubeconfig"))
		if err != nil {
			return err
		}
		s.site = b.newSite(config, namespace)
		_, err = s.user.List(b.ctx, metav1.ListOptions{Limit: 1})
		return err
	})
	return s
}

// eventually waits until a function returns nil.
func (b *bench) eventually(what string, f func() error) {
	b.Helper()
	for deadline := time.Now().Add(startTimeout); ; {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || b.ctx.Err() != nil {
			b.Fatalf("not in time: %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// writes contains counters of etcd: its revision, which each writing transaction increases by one, and the number
// of puts.
type writes struct{ transactions, puts float64 }

func (s *standalone) writes() writes {
	s.Helper()
	counted := s.metrics(s.etcd, "http://etcd/metrics")
	return writes{counted.sum("etcd_debugging_mvcc_current_revision"), counted.sum("etcd_mvcc_put_total")}
}

// metrics contains the metrics of a server.
type metrics map[string]*dto.MetricFamily

// sum returns the sum of the metrics with a name and all of the labels.
func (m metrics) sum(name string, labels ...string) float64 {
	sum := 0.0
	for _, metric := range m[name].GetMetric() {
		has := map[string]bool{}
		for _, label := range metric.GetLabel() {
			has[label.GetName()+"="+label.GetValue()] = true
		}
		if !slices.ContainsFunc(labels, func(label string) bool { return !has[label] }) {
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return sum
}

// metrics reads the metrics of a server.
func (b *bench) metrics(client *http.Client, url string) metrics {
	b.Helper()
	request, err := http.NewRequestWithContext(b.ctx, http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	return families
}

// plain does the four writes of a child without allocating anything, and returns the rate per second: a user
// creates a Prefix, and a controller creates a PrefixAllocation and updates both.
func (s *standalone) plain(what, batch string, count int) float64 {
	s.progress.phase(what, count)
	start := time.Now()
	each(s.ctx, count, creators, func(n int) {
		if err := s.write(child(batch, n, of("nobody"))); err != nil {
			s.Error(err)
		}
		s.progress.step()
	})
	return float64(count) / time.Since(start).Seconds()
}

func (s *standalone) write(p *v1alpha1.Prefix) error {
	p, err := s.user.Create(s.ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	a, err := s.allocations.Create(s.ctx, &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Name, Labels: map[string]string{v1alpha1.RequesterUIDLabel: string(p.UID)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, schema.GroupVersion(v1alpha1.GroupVersion).WithKind(v1alpha1.PrefixKind))},
		},
		Spec: v1alpha1.PrefixAllocationSpec{PrefixLength: p.Spec.PrefixLength, PrefixRef: p.Spec.ParentRef, IPFamily: v1alpha1.IPv4},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	condition := []metav1.Condition{{
		Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonParentNotFound,
		Message: "There is no Prefix " + p.Spec.ParentRef.Name, LastTransitionTime: metav1.Now(),
	}}
	a.Status.Conditions, p.Status.Conditions = condition, condition
	if _, err := s.allocations.UpdateStatus(s.ctx, a, metav1.UpdateOptions{}); err != nil {
		return err
	}
	_, err = s.controller.UpdateStatus(s.ctx, p, metav1.UpdateOptions{})
	return err
}

func measureChildren(b *bench) {
	ours, plain := startStandalone(b), startStandalone(b, "--controllers=")
	count := b.count(children)
	var transactions, puts []float64
	rates := turns(rounds, func(round int) float64 {
		parent := fmt.Sprintf("root-%d", round)
		ours.root(parent)
		before := ours.writes()
		rate := ours.allocate(fmt.Sprintf("round %d of %d: children", round+1, rounds), fmt.Sprintf("child-%d", round), count, of(parent))
		after := ours.writes()
		transactions = append(transactions, (after.transactions-before.transactions)/float64(count))
		puts = append(puts, (after.puts-before.puts)/float64(count))
		return rate
	}, func(round int) float64 {
		return plain.plain(fmt.Sprintf("round %d of %d: plain writes", round+1, rounds), fmt.Sprintf("child-%d", round), count)
	})
	b.median("children/plain", ratios(rates[0], rates[1]))
	b.median("children", rates[0])
	b.median("plain", rates[1])
	b.median("transactions", transactions)
	b.median("puts", puts)
}

// comparisons is the number of turns of each side when small differences matter, and childrenOfTurn the number of
// children in a turn.
const (
	comparisons    = 9
	childrenOfTurn = 2000
)

func measureExisting(b *bench) {
	few, many := startStandalone(b), startStandalone(b)
	fewer, more, count := b.count(1000), b.count(100_000), b.count(childrenOfTurn)
	many.root("root")
	many.fill("fill a parent", "existing", more, func(int) v1alpha1.PrefixSpec { return of("root") }, func() {})
	rates := turns(comparisons, func(round int) float64 {
		parent := fmt.Sprintf("root-%d", round)
		few.root(parent)
		few.allocate("fill a parent", fmt.Sprintf("existing-%d", round), fewer, of(parent))
		return few.allocate(fmt.Sprintf("round %d of %d: few exist", round+1, comparisons), fmt.Sprintf("child-%d", round), count, of(parent))
	}, func(round int) float64 {
		return many.allocate(fmt.Sprintf("round %d of %d: many exist", round+1, comparisons), fmt.Sprintf("child-%d", round), count, of("root"))
	})
	b.median("existing", ratios(rates[1], rates[0]))
}

func measureSelectors(b *bench) {
	for _, candidates := range []int{100, 1000} {
		b.median(fmt.Sprintf("selector %d", candidates), compareSelector(b, candidates))
	}
}

// compareSelector returns the rate of children by selector divided by that of children by reference, for each turn.
func compareSelector(b *bench, candidates int) []float64 {
	s, count := startStandalone(b), b.count(childrenOfTurn)
	// The number of candidates is not scaled.
	roots := make([]*v1alpha1.Prefix, candidates)
	for n := range roots {
		roots[n] = root(fmt.Sprintf("candidate-%d", n), fmt.Sprintf("%d.%d.0.0/16", 11+n/256, n%256))
	}
	const batch = "candidates"
	s.roots(batch, roots...)
	selector := v1alpha1.PrefixSpec{
		IPFamily: v1alpha1.IPv4, PrefixLength: of("").PrefixLength,
		ParentSelector: &metav1.LabelSelector{MatchLabels: map[string]string{batchLabel: batch}},
	}
	rates := turns(comparisons, func(round int) float64 {
		return s.allocate(fmt.Sprintf("round %d of %d: selector, %d candidates", round+1, comparisons, candidates),
			fmt.Sprintf("selected-%d", round), count, selector)
	}, func(round int) float64 {
		parent := fmt.Sprintf("root-%d", round)
		s.root(parent)
		return s.allocate(fmt.Sprintf("round %d of %d: reference", round+1, comparisons), fmt.Sprintf("child-%d", round), count, of(parent))
	})
	return ratios(rates[0], rates[1])
}

func measureReserved(b *bench) {
	s, count := startStandalone(b), b.count(childrenOfTurn)
	rates := turns(comparisons, func(round int) float64 {
		parent := fmt.Sprintf("reserved-%d", round)
		s.reserve(parent, b.count(10_000))
		s.root(parent)
		b.eventually("the reserved space is counted", func() error {
			p, err := s.user.Get(b.ctx, parent, metav1.GetOptions{})
			if err == nil && (p.Status.Usage == nil || p.Status.Usage.Reserved == "") {
				err = fmt.Errorf("usage %+v", p.Status.Usage)
			}
			return err
		})
		return s.allocate(fmt.Sprintf("round %d of %d: reserved ranges", round+1, comparisons), fmt.Sprintf("beside-%d", round), count, of(parent))
	}, func(round int) float64 {
		parent := fmt.Sprintf("root-%d", round)
		s.root(parent)
		return s.allocate(fmt.Sprintf("round %d of %d: nothing reserved", round+1, comparisons), fmt.Sprintf("child-%d", round), count, of(parent))
	})
	b.median("reserved", ratios(rates[0], rates[1]))
}

// reserve creates a policy for the root of a name, which reserves so many ranges at its beginning. They lie in every
// other /28, and none is a CIDR.
func (s *standalone) reserve(parent string, ranges int) {
	s.Helper()
	policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: parent}, Spec: v1alpha1.PrefixPolicySpec{
		PrefixSelector: &metav1.LabelSelector{MatchLabels: map[string]string{batchLabel: parent}}}}
	for n := range ranges {
		address := func(last int) string { return fmt.Sprintf("10.%d.%d.%d", n/2048, n/8%256, n%8*32+last) }
		policy.Spec.Reserved = append(policy.Spec.Reserved, v1alpha1.PrefixReservation{From: address(1), To: address(2)})
	}
	if _, err := s.policies.Create(s.ctx, policy, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
}

func measureLatency(b *bench) {
	s, count := startStandalone(b), b.count(600)
	var p50, p99 []float64
	for round := range latencyRounds {
		of, batch := of(fmt.Sprintf("root-%d", round)), fmt.Sprintf("child-%d", round)
		s.root(of.ParentRef.Name)
		took := s.createAtPace(fmt.Sprintf("round %d of %d: create at a steady pace", round+1, latencyRounds), batch, count, of)
		p50, p99 = append(p50, took[len(took)/2]), append(p99, took[len(took)*99/100])
	}
	b.median("p50", p50)
	b.median("p99", p99)
}

// createAtPace creates the children of a batch, 20 per second. It returns the time in milliseconds until each was
// Allocated, sorted.
func (s *site) createAtPace(what, batch string, count int, spec v1alpha1.PrefixSpec) []float64 {
	const pace = time.Second / 20
	s.progress.phase(what, count)
	var mu sync.Mutex
	began, took := map[string]time.Time{}, make([]float64, 0, count)
	s.await(batch, count, func() {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		for n := 0; n < count && s.ctx.Err() == nil; n++ {
			<-ticker.C
			p := child(batch, n, spec)
			mu.Lock()
			began[p.Name] = time.Now()
			mu.Unlock()
			// Keep the rate even if a response takes longer.
			go s.create(p)
		}
	}, func(name string) {
		mu.Lock()
		defer mu.Unlock()
		took = append(took, float64(time.Since(began[name]).Microseconds())/1000)
		s.progress.step()
	})
	slices.Sort(took)
	return took
}

// measureFairness has a tenant with very many children that wait for a label. That tenant adds and removes the
// label on a Prefix that can hold none of them. Another tenant creates a child now and then.
func measureFairness(b *bench) {
	s, count := startStandalone(b), b.count(300)
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.data, "kubeconfig"))
	if err != nil {
		b.Fatal(err)
	}
	tenant := b.newSite(config, "tenant")
	const leaf = "leaf"
	tenant.create(root(leaf, "192.0.2.1/32"))
	waiting := b.count(10_000)
	s.progress.phase("children that wait", waiting)
	each(b.ctx, waiting, creators, func(n int) {
		tenant.create(child("waits", n, v1alpha1.PrefixSpec{
			IPFamily: v1alpha1.IPv4, PrefixLength: 28, ParentSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"wanted": "yes"}},
		}))
		s.progress.step()
	})
	tenant.awaitWhy(waiting)

	p99 := func(what string, round int) float64 {
		of, batch := of(fmt.Sprintf("root-%s-%d", what, round)), fmt.Sprintf("child-%s-%d", what, round)
		s.root(of.ParentRef.Name)
		took := s.createAtPace(fmt.Sprintf("round %d of %d: %s", round+1, latencyRounds, what), batch, count, of)
		return took[len(took)*99/100]
	}
	var alone, beside, toggles []float64
	for round := range latencyRounds {
		alone = append(alone, p99("alone", round))

		ctx, stop := context.WithCancel(b.ctx)
		done, changes, start := make(chan struct{}), 0, time.Now()
		go func() {
			defer close(done)
			for ; ctx.Err() == nil; changes++ {
				patch := `{"metadata":{"labels":{"wanted":"yes"}}}`
				if changes%2 == 1 {
					patch = `{"metadata":{"labels":{"wanted":null}}}`
				}
				if _, err := tenant.user.Patch(ctx, leaf, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil && ctx.Err() == nil {
					b.Error(err)
				}
			}
		}()
		beside = append(beside, p99("beside", round))
		stop()
		<-done
		toggles = append(toggles, float64(changes)/time.Since(start).Seconds())
	}
	b.median("beside", ratios(beside, alone))
	b.median("alone", alone)
	b.median("toggles", toggles)
}

func measureDeletion(b *bench) {
	s, count := startStandalone(b), b.count(children)
	var made, deleted []float64
	for round := range rounds {
		of, batch := of(fmt.Sprintf("root-%d", round)), fmt.Sprintf("child-%d", round)
		s.root(of.ParentRef.Name)
		made = append(made, s.allocate(fmt.Sprintf("round %d of %d: create", round+1, rounds), batch, count, of))
		deleted = append(deleted, s.delete(fmt.Sprintf("round %d of %d: delete", round+1, rounds), batch, count, of))
	}
	b.median("delete/create", ratios(deleted, made))
	b.median("delete", deleted)
}

// delete deletes the children of a batch, and returns the number per second that are gone, with their allocations.
func (s *standalone) delete(what, batch string, count int, spec v1alpha1.PrefixSpec) float64 {
	s.progress.phase(what, count)
	start := time.Now()
	each(s.ctx, count, creators, func(n int) {
		if err := s.user.Delete(s.ctx, child(batch, n, spec).Name, metav1.DeleteOptions{}); err != nil {
			s.Error(err)
		}
		s.progress.step()
	})
	s.eventually("nothing is left", func() error {
		list, err := s.allocations.List(s.ctx, metav1.ListOptions{Limit: 1})
		if err == nil && len(list.Items) > 0 {
			return fmt.Errorf("there is %s", list.Items[0].Name)
		}
		return err
	})
	return float64(count) / time.Since(start).Seconds()
}
