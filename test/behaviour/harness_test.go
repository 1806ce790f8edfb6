// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package behaviour tests the API server and its controllers together, in one process with a real etcd. Every test
// uses only the API, in its own namespace.
package behaviour

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (

	// quiet is the time for which a test checks that something does not happen.
	quiet = 300 * time.Millisecond
	// foreignFinalizer keeps an object until the test removes it.
	foreignFinalizer = "example.com/keep"
)

// shared is the instance with all controllers for the tests that need no special one.
var shared *harness.Server

func TestMain(m *testing.M) {
	// Tests mostly wait.
	harness.RunInParallel(8)
	harness.Main(m, func(dir string) (func(), error) {
		var err error
		shared, err = harness.StartServer(dir, harness.Controllers("*"))
		return func() { shared.Close() }, err
	})
}

// run runs controllers beside the instance. The returned function stops them and returns when they have ended. It
// may be called more than once.
func run(t testing.TB, instance *harness.Server, strategy string, controllers ...string) (stop func()) {
	t.Helper()
	config := manager.Config{Client: versioned.NewForConfigOrDie(instance.Config), Controllers: controllers, Strategy: strategy, Workers: 16}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- config.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("controllers: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// env is the namespace of a test.
type env struct{ *harness.Namespace }

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// namespaceOf derives the name of a namespace from the name of the test.
func namespaceOf(t testing.TB) string {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

// in returns the namespace of the test on the shared instance. Tests in it run in parallel.
func in(t *testing.T) *env {
	t.Helper()
	t.Parallel()
	return inInstance(t, shared)
}

func inInstance(t testing.TB, instance *harness.Server) *env {
	t.Helper()
	return inNamespace(t, instance, namespaceOf(t))
}

func inNamespace(t testing.TB, instance *harness.Server, ns string) *env {
	t.Helper()
	return &env{harness.In(t, instance.Client, ns)}
}

// create creates a Prefix.
func (e *env) create(name string, options ...harness.PrefixOption) *v1alpha1.Prefix {
	e.Helper()
	return e.Create(harness.NewPrefix(name, options...))
}

// createAll creates Prefixes, parallel at a time.
func (e *env) createAll(count, parallel int, of func(int) *v1alpha1.Prefix) {
	e.Helper()
	harness.Each(count, parallel, func(i int) {
		if _, err := e.Prefixes.Create(e.Context(), of(i), metav1.CreateOptions{}); err != nil {
			e.Error(err)
		}
	})
}

// createChildren creates Prefixes with the same options and the names child-0, child-1 and so on, parallel at a time.
func (e *env) createChildren(count, parallel int, options ...harness.PrefixOption) {
	e.Helper()
	e.createAll(count, parallel, func(i int) *v1alpha1.Prefix { return harness.NewPrefix(fmt.Sprintf("child-%d", i), options...) })
}

// childrenAllocated waits until the Prefixes child-0, child-1 and so on are Allocated.
func (e *env) childrenAllocated(count int) {
	e.Helper()
	for i := range count {
		e.allocated(fmt.Sprintf("child-%d", i))
	}
}

// root creates a root and waits until it is allocated.
func (e *env) root(name, prefix string, options ...harness.PrefixOption) *v1alpha1.Prefix {
	e.Helper()
	e.create(name, append([]harness.PrefixOption{harness.Exactly(prefix)}, options...)...)
	return e.allocated(name)
}

// allocationsOf returns the PrefixAllocations that a Prefix controls.
func (e *env) allocationsOf(p *v1alpha1.Prefix) []v1alpha1.PrefixAllocation {
	e.Helper()
	return slices.DeleteFunc(e.ListAllocations(), func(a v1alpha1.PrefixAllocation) bool {
		return !requester.IsOf(&a, p)
	})
}

// allocationOf returns the one PrefixAllocation of a Prefix, once there is exactly one.
func (e *env) allocationOf(name string) *v1alpha1.PrefixAllocation {
	e.Helper()
	var found []v1alpha1.PrefixAllocation
	e.Eventually("exactly one PrefixAllocation of "+name, func() error {
		if found = e.allocationsOf(e.Get(name)); len(found) != 1 {
			return fmt.Errorf("there are %d", len(found))
		}
		return nil
	})
	return &found[0]
}

// removeFinalizer takes the foreign finalizer off a Prefix.
func (e *env) removeFinalizer(name string) {
	e.Helper()
	e.patch(name, fmt.Sprintf(`{"metadata":{"$deleteFromPrimitiveList/finalizers":[%q]}}`, foreignFinalizer), types.StrategicMergePatchType)
}

func (e *env) patch(name, patch string, kind types.PatchType, subresources ...string) *v1alpha1.Prefix {
	e.Helper()
	p, err := e.Prefixes.Patch(e.Context(), name, kind, []byte(patch), metav1.PatchOptions{}, subresources...)
	if err != nil {
		e.Fatal(err)
	}
	return p
}

func (e *env) patchAllocation(name, patch string, subresources ...string) *v1alpha1.PrefixAllocation {
	e.Helper()
	a, err := e.Allocations.Patch(e.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	if err != nil {
		e.Fatal(err)
	}
	return a
}

// follow calls f for each Prefix in a watch from a resource version on, until f returns true. The server ends the
// watch of a client that is too slow, which can happen on a busy machine. Like every client, follow then resumes
// the watch.
func (e *env) follow(version, fieldSelector string, f func(*v1alpha1.Prefix) bool) {
	e.Helper()
	timeout := time.After(time.Minute)
	for restarts := 0; ; restarts++ {
		watcher, err := e.Prefixes.Watch(e.Context(), metav1.ListOptions{ResourceVersion: version, FieldSelector: fieldSelector})
		if err != nil {
			e.Fatal(err)
		}
		for open := true; open; {
			select {
			case event, ok := <-watcher.ResultChan():
				if open = ok; !ok {
					continue
				}
				p, ok := event.Object.(*v1alpha1.Prefix)
				if !ok {
					e.Fatalf("the watch failed: %v", event.Object)
				}
				version = p.ResourceVersion
				if f(p) {
					watcher.Stop()
					if restarts > 0 {
						e.Logf("the watch was ended by the server, and resumed, %d times", restarts)
					}
					return
				}
			case <-timeout:
				e.Fatal("the watch does not show what it is to show")
			}
		}
	}
}

// soon waits until the check is true. It can be used outside of the goroutine of the test.
func (e *env) soon(check func() (bool, error)) error {
	began := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		switch ok, err := check(); {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Since(began) > harness.Patience:
			return fmt.Errorf("not after %v", harness.Patience)
		}
		time.Sleep(pause)
	}
}

// never fails the test if the check returns an error within some time.
func (e *env) never(what string, check func() error) {
	e.Helper()
	for began := time.Now(); time.Since(began) < quiet; time.Sleep(10 * time.Millisecond) {
		if err := check(); err != nil {
			e.Fatalf("%s: %v", what, err)
		}
	}
}

// allocated waits until a Prefix is Allocated, and checks its fields.
func (e *env) allocated(name string) *v1alpha1.Prefix {
	e.Helper()
	var p *v1alpha1.Prefix
	e.Eventually(name+" Allocated", func() error {
		var err error
		if p, err = e.Prefixes.Get(e.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			return errors.New(harness.Describe(p))
		}
		return nil
	})
	if err := checkAllocated(p); err != nil {
		e.Fatal(err)
	}
	return p
}

func checkAllocated(p *v1alpha1.Prefix) error {
	reason := v1alpha1.ReasonAllocated
	if p.Spec.IsRoot() {
		reason = v1alpha1.ReasonRoot
	} else if p.Spec.ParentRef == nil {
		return fmt.Errorf("no parent: %s", harness.Describe(p))
	}
	condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
	switch {
	case p.Spec.Prefix == "":
		return fmt.Errorf("no prefix: %s", harness.Describe(p))
	case condition == nil || condition.Status != metav1.ConditionTrue || condition.Reason != reason:
		return fmt.Errorf("condition is not True with reason %s: %s", reason, harness.Describe(p))
	case p.Status.LastPhaseTransitionTime.IsZero():
		return fmt.Errorf("no transition time: %s", harness.Describe(p))
	}
	return nil
}

// pending waits until a Prefix is Pending for the given reason. It checks that the message contains all of the
// words, and returns the message.
func (e *env) pending(name, reason string, words ...string) string {
	e.Helper()
	var message string
	e.Eventually(fmt.Sprintf("%s Pending for %s %q", name, reason, words), func() error {
		p := e.Get(name)
		condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
		if p.Status.Phase != v1alpha1.PrefixPhasePending || condition == nil {
			return errors.New(harness.Describe(p))
		}
		message = condition.Message
		return checkCondition(condition, reason, words...)
	})
	return message
}

// explained waits until the PrefixAllocation of a Prefix has the given phase and reason.
func (e *env) explained(name string, phase v1alpha1.PrefixAllocationPhase, reason string, words ...string) {
	e.Helper()
	e.Eventually(fmt.Sprintf("allocation of %s %s for %s", name, phase, reason), func() error {
		a := e.allocationOf(name)
		condition := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated)
		if a.Status.Phase != phase || condition == nil {
			return errors.New(harness.DescribeAllocation(a))
		}
		return checkCondition(condition, reason, words...)
	})
}

func checkCondition(condition *metav1.Condition, reason string, words ...string) error {
	if condition.Status != metav1.ConditionFalse || condition.Reason != reason {
		return fmt.Errorf("condition is %s/%s: %s", condition.Status, condition.Reason, condition.Message)
	}
	for _, word := range words {
		if !strings.Contains(condition.Message, word) {
			return fmt.Errorf("message lacks %q: %s", word, condition.Message)
		}
	}
	return nil
}

// used waits until the status of a Prefix lists exactly these prefixes, and checks their number.
func (e *env) used(name string, want ...string) {
	e.Helper()
	e.Eventually(fmt.Sprintf("%s used %v", name, want), func() error {
		p := e.Get(name)
		if !slices.Equal(p.Status.Used, want) || p.Status.Usage == nil || int(p.Status.Usage.Allocations) != len(want) {
			return errors.New(harness.Describe(p))
		}
		return nil
	})
}

// apply creates the Prefixes of a manifest, in that order.
func (e *env) apply(manifest string) {
	e.Helper()
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			e.Fatal(err)
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		if err != nil {
			e.Fatal(err)
		}
		if _, err := e.Prefixes.Create(e.Context(), obj.(*v1alpha1.Prefix), metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
			e.Fatal(err)
		}
	}
}

// permutations returns all permutations of 0 to n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, shorter := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}
