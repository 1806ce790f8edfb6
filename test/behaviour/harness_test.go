// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package behaviour tests what the API server and its controllers do together, in one process with
// a real etcd: every test goes through the API only, in a namespace of its own.
package behaviour

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/klog/v2"
)

const (
	// patience is how long a test waits for what has to happen. It is generous, for a machine that
	// is busy with something else: a second is what it should take at most.
	patience = 2 * time.Minute
	// quiet is how long a test waits to see that something does not happen.
	quiet = 300 * time.Millisecond
	// foreignFinalizer keeps an object for as long as a test likes.
	foreignFinalizer = "example.com/keep"
)

// shared is the instance, with all controllers, of the tests that need nothing special.
var shared *standalone.Instance

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutputBySeverity("INFO", io.Discard)
	os.Exit(func() int {
		// Most of a test is to wait for something.
		if flag.Parse(); !isSet("test.parallel") {
			_ = flag.Set("test.parallel", "8")
		}
		dir, err := os.MkdirTemp("", "behaviour")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if shared, err = standalone.Start(context.Background(), optionsOf(dir, "*")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer shared.Close()
		return m.Run()
	}())
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func optionsOf(dataDir string, controllers ...string) *standalone.Options {
	options := standalone.NewOptions()
	options.DataDir, options.Port, options.Controllers = dataDir, 0, controllers
	return options
}

// start starts an instance of its own for a test, with these controllers.
func start(t testing.TB, dataDir string, controllers ...string) *standalone.Instance {
	t.Helper()
	instance, err := standalone.Start(context.Background(), optionsOf(dataDir, controllers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(instance.Close)
	return instance
}

// run runs controllers beside the instance until the function that it returns is called, which
// returns when they have ended. More than once does no harm.
func run(t testing.TB, instance *standalone.Instance, strategy string, controllers ...string) (stop func()) {
	t.Helper()
	config := manager.Config{Client: clientOf(t, instance), Controllers: controllers, Strategy: strategy, Workers: 16}
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

func clientOf(t testing.TB, instance *standalone.Instance) versioned.Interface {
	t.Helper()
	client, err := versioned.NewForConfig(instance.Config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// env is one namespace of one instance, seen by one test.
type env struct {
	testing.TB
	ns          string
	prefixes    ipamclient.PrefixInterface
	allocations ipamclient.PrefixAllocationInterface
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// namespaceOf makes a namespace name of the name of a test.
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

func inInstance(t testing.TB, instance *standalone.Instance) *env {
	t.Helper()
	return inNamespace(t, instance, namespaceOf(t))
}

func inNamespace(t testing.TB, instance *standalone.Instance, ns string) *env {
	t.Helper()
	client := clientOf(t, instance).IpamV1alpha1()
	return &env{TB: t, ns: ns, prefixes: client.Prefixes(ns), allocations: client.PrefixAllocations(ns)}
}

// option says something about a Prefix to be created.
type option func(*v1alpha1.Prefix)

func labelled(pairs ...string) option {
	return func(p *v1alpha1.Prefix) {
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		for i := 0; i < len(pairs); i += 2 {
			p.Labels[pairs[i]] = pairs[i+1]
		}
	}
}

func finalizer(name string) option {
	return func(p *v1alpha1.Prefix) { p.Finalizers = append(p.Finalizers, name) }
}

func exactly(prefix string) option { return func(p *v1alpha1.Prefix) { p.Spec.Prefix = prefix } }

func length(bits int32) option { return func(p *v1alpha1.Prefix) { p.Spec.PrefixLength = bits } }

func family(f v1alpha1.IPFamily) option { return func(p *v1alpha1.Prefix) { p.Spec.IPFamily = f } }

func from(parent string) option {
	return func(p *v1alpha1.Prefix) { p.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: parent} }
}

// selecting asks for a parent by label, and for IPv4 unless something else is said after it.
func selecting(pairs ...string) option {
	return func(p *v1alpha1.Prefix) {
		set := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			set[pairs[i]] = pairs[i+1]
		}
		p.Spec.ParentSelector = &metav1.LabelSelector{MatchLabels: set}
		if p.Spec.IPFamily == "" && p.Spec.Prefix == "" {
			p.Spec.IPFamily = v1alpha1.IPv4
		}
	}
}

func prefixOf(name string, options ...option) *v1alpha1.Prefix {
	p := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, o := range options {
		o(p)
	}
	return p
}

// create creates a Prefix.
func (e *env) create(name string, options ...option) *v1alpha1.Prefix {
	e.Helper()
	created, err := e.prefixes.Create(e.Context(), prefixOf(name, options...), metav1.CreateOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return created
}

// root creates a root and waits until it is allocated.
func (e *env) root(name, prefix string, options ...option) *v1alpha1.Prefix {
	e.Helper()
	e.create(name, append([]option{exactly(prefix)}, options...)...)
	return e.allocated(name)
}

func (e *env) get(name string) *v1alpha1.Prefix {
	e.Helper()
	p, err := e.prefixes.Get(e.Context(), name, metav1.GetOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return p
}

func (e *env) getAllocation(name string) *v1alpha1.PrefixAllocation {
	e.Helper()
	a, err := e.allocations.Get(e.Context(), name, metav1.GetOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return a
}

func (e *env) list() []v1alpha1.Prefix {
	e.Helper()
	list, err := e.prefixes.List(e.Context(), metav1.ListOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return list.Items
}

func (e *env) listAllocations() []v1alpha1.PrefixAllocation {
	e.Helper()
	list, err := e.allocations.List(e.Context(), metav1.ListOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return list.Items
}

// allocationsOf returns the PrefixAllocations that a Prefix controls.
func (e *env) allocationsOf(p *v1alpha1.Prefix) []v1alpha1.PrefixAllocation {
	e.Helper()
	return slices.DeleteFunc(e.listAllocations(), func(a v1alpha1.PrefixAllocation) bool {
		return !requester.IsOf(&a, p)
	})
}

// allocationOf returns the one PrefixAllocation of a Prefix, once there is exactly one.
func (e *env) allocationOf(name string) *v1alpha1.PrefixAllocation {
	e.Helper()
	var found []v1alpha1.PrefixAllocation
	e.eventually("exactly one PrefixAllocation of "+name, func() error {
		if found = e.allocationsOf(e.get(name)); len(found) != 1 {
			return fmt.Errorf("there are %d", len(found))
		}
		return nil
	})
	return &found[0]
}

func (e *env) delete(names ...string) {
	e.Helper()
	for _, name := range names {
		if err := e.prefixes.Delete(e.Context(), name, metav1.DeleteOptions{}); err != nil {
			e.Fatal(err)
		}
	}
}

// gone waits until the Prefixes do not exist any more.
func (e *env) gone(names ...string) {
	e.Helper()
	for _, name := range names {
		e.eventually(name+" gone", func() error {
			p, err := e.prefixes.Get(e.Context(), name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				return nil
			case err != nil:
				return err
			}
			return fmt.Errorf("still there: %s", describe(p))
		})
	}
}

// empty waits until nothing is left in the namespace.
func (e *env) empty() {
	e.Helper()
	e.eventually("nothing left over", func() error {
		var left []string
		for _, p := range e.list() {
			left = append(left, describe(&p))
		}
		for _, a := range e.listAllocations() {
			left = append(left, describeAllocation(&a))
		}
		if len(left) > 0 {
			return errors.New(strings.Join(left, "\n"))
		}
		return nil
	})
}

// removeFinalizer takes the foreign finalizer off a Prefix.
func (e *env) removeFinalizer(name string) {
	e.Helper()
	e.patch(name, fmt.Sprintf(`{"metadata":{"$deleteFromPrimitiveList/finalizers":[%q]}}`, foreignFinalizer), types.StrategicMergePatchType)
}

func (e *env) patch(name, patch string, kind types.PatchType, subresources ...string) *v1alpha1.Prefix {
	e.Helper()
	p, err := e.prefixes.Patch(e.Context(), name, kind, []byte(patch), metav1.PatchOptions{}, subresources...)
	if err != nil {
		e.Fatal(err)
	}
	return p
}

func (e *env) patchAllocation(name, patch string, subresources ...string) *v1alpha1.PrefixAllocation {
	e.Helper()
	a, err := e.allocations.Patch(e.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	if err != nil {
		e.Fatal(err)
	}
	return a
}

func describe(p *v1alpha1.Prefix) string {
	spec, _ := json.Marshal(p.Spec)
	status, _ := json.Marshal(p.Status)
	return fmt.Sprintf("Prefix %s deletion=%v finalizers=%v\n  spec %s\n  status %s", p.Name, p.DeletionTimestamp, p.Finalizers, spec, status)
}

func describeAllocation(a *v1alpha1.PrefixAllocation) string {
	spec, _ := json.Marshal(a.Spec)
	status, _ := json.Marshal(a.Status)
	return fmt.Sprintf("PrefixAllocation %s deletion=%v finalizers=%v\n  spec %s\n  status %s", a.Name, a.DeletionTimestamp, a.Finalizers, spec, status)
}

// eventually waits until the check has no complaint, and returns how long that took.
func (e *env) eventually(what string, check func() error) time.Duration {
	e.Helper()
	began := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := check()
		switch took := time.Since(began); {
		case err == nil:
			return took
		case took > patience:
			e.Fatalf("%s: not after %v: %v", what, patience, err)
		}
		time.Sleep(pause)
	}
}

// follow calls f for each Prefix that a watch shows from a version on, until f returns true. A server
// ends the watch of a client that is too slow, also of a good one on a busy machine: like every
// client, the test goes on where it ended.
func (e *env) follow(version, fieldSelector string, f func(*v1alpha1.Prefix) bool) {
	e.Helper()
	timeout := time.After(time.Minute)
	for restarts := 0; ; restarts++ {
		watcher, err := e.prefixes.Watch(e.Context(), metav1.ListOptions{ResourceVersion: version, FieldSelector: fieldSelector})
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

// soon waits until the check is true, for code that does not run in the goroutine of the test.
func (e *env) soon(check func() (bool, error)) error {
	began := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		switch ok, err := check(); {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Since(began) > patience:
			return fmt.Errorf("not after %v", patience)
		}
		time.Sleep(pause)
	}
}

// never watches for a while that the check has no complaint.
func (e *env) never(what string, check func() error) {
	e.Helper()
	for began := time.Now(); time.Since(began) < quiet; time.Sleep(10 * time.Millisecond) {
		if err := check(); err != nil {
			e.Fatalf("%s: %v", what, err)
		}
	}
}

// allocated waits until a Prefix is Allocated, and checks what such a one looks like.
func (e *env) allocated(name string) *v1alpha1.Prefix {
	e.Helper()
	var p *v1alpha1.Prefix
	e.eventually(name+" Allocated", func() error {
		var err error
		if p, err = e.prefixes.Get(e.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			return errors.New(describe(p))
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
		return fmt.Errorf("no parent: %s", describe(p))
	}
	condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
	switch {
	case p.Spec.Prefix == "":
		return fmt.Errorf("no prefix: %s", describe(p))
	case condition == nil || condition.Status != metav1.ConditionTrue || condition.Reason != reason:
		return fmt.Errorf("condition is not True with reason %s: %s", reason, describe(p))
	case p.Status.LastPhaseTransitionTime.IsZero():
		return fmt.Errorf("no transition time: %s", describe(p))
	}
	return nil
}

// pending waits until a Prefix is Pending for the reason, checks that the message has all of the
// words, and returns the message.
func (e *env) pending(name, reason string, words ...string) string {
	e.Helper()
	var message string
	e.eventually(fmt.Sprintf("%s Pending for %s %q", name, reason, words), func() error {
		p := e.get(name)
		condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
		if p.Status.Phase != v1alpha1.PrefixPhasePending || condition == nil {
			return errors.New(describe(p))
		}
		message = condition.Message
		return checkCondition(condition, reason, words...)
	})
	return message
}

// explained waits until the PrefixAllocation of a Prefix is in a phase for a reason.
func (e *env) explained(name string, phase v1alpha1.PrefixAllocationPhase, reason string, words ...string) {
	e.Helper()
	e.eventually(fmt.Sprintf("allocation of %s %s for %s", name, phase, reason), func() error {
		a := e.allocationOf(name)
		condition := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated)
		if a.Status.Phase != phase || condition == nil {
			return errors.New(describeAllocation(a))
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

// used waits until the status of a Prefix lists exactly these, and counts them.
func (e *env) used(name string, want ...string) {
	e.Helper()
	e.eventually(fmt.Sprintf("%s used %v", name, want), func() error {
		p := e.get(name)
		if !slices.Equal(p.Status.Used, want) || p.Status.Usage == nil || int(p.Status.Usage.Allocations) != len(want) {
			return errors.New(describe(p))
		}
		return nil
	})
}

// disjoint checks that the prefixes are strictly inside of the parent and do not overlap.
func disjoint(parent string, prefixes []string) error {
	outer := netip.MustParsePrefix(parent)
	var parsed []netip.Prefix
	for _, s := range prefixes {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return err
		}
		if p.Bits() <= outer.Bits() || !outer.Contains(p.Addr()) {
			return fmt.Errorf("%s is not strictly inside %s", p, outer)
		}
		parsed = append(parsed, p)
	}
	// Of prefixes, two overlap only if neighbours in this order do.
	slices.SortFunc(parsed, netip.Prefix.Compare)
	for i := 1; i < len(parsed); i++ {
		if parsed[i-1].Overlaps(parsed[i]) {
			return fmt.Errorf("%s and %s overlap", parsed[i-1], parsed[i])
		}
	}
	return nil
}

// consistent checks everything that has to hold in a namespace where nothing is under way: children
// and allocations agree, nothing overlaps, and parents count what is allocated from them.
func (e *env) consistent() {
	e.Helper()
	e.eventually("consistent", func() error {
		prefixes, allocations := e.list(), e.listAllocations()
		byName := map[string]*v1alpha1.Prefix{}
		for i := range prefixes {
			byName[prefixes[i].Name] = &prefixes[i]
		}
		given := map[string][]string{}
		owned := map[types.UID][]*v1alpha1.PrefixAllocation{}
		for i := range allocations {
			a := &allocations[i]
			if owner := metav1.GetControllerOf(a); owner != nil {
				owned[owner.UID] = append(owned[owner.UID], a)
			}
			if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
				given[a.Spec.PrefixRef.Name] = append(given[a.Spec.PrefixRef.Name], a.Status.Prefix)
			}
		}
		for _, p := range prefixes {
			if p.Spec.IsRoot() {
				if len(owned[p.UID]) != 0 {
					return fmt.Errorf("root %s has an allocation", p.Name)
				}
			} else if err := checkChild(&p, owned[p.UID]); err != nil {
				return err
			}
			delete(owned, p.UID)
			if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				if err := checkParent(&p, given[p.Name]); err != nil {
					return err
				}
				delete(given, p.Name)
			}
		}
		if len(owned) > 0 || len(given) > 0 {
			return fmt.Errorf("allocations of nobody: %v, from nothing: %v", owned, given)
		}
		return nil
	})
}

func checkChild(p *v1alpha1.Prefix, allocations []*v1alpha1.PrefixAllocation) error {
	if len(allocations) != 1 {
		return fmt.Errorf("child %s has %d allocations", p.Name, len(allocations))
	}
	a := allocations[0]
	if (p.Status.Phase == v1alpha1.PrefixPhaseAllocated) != (a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated) {
		return fmt.Errorf("%s\n%s", describe(p), describeAllocation(a))
	}
	if p.Status.Phase == v1alpha1.PrefixPhaseAllocated && (p.Spec.Prefix != a.Status.Prefix || p.Spec.ParentRef.Name != a.Spec.PrefixRef.Name) {
		return fmt.Errorf("%s\n%s", describe(p), describeAllocation(a))
	}
	return nil
}

func checkParent(p *v1alpha1.Prefix, given []string) error {
	if err := disjoint(p.Spec.Prefix, given); err != nil {
		return fmt.Errorf("from %s: %w", p.Name, err)
	}
	slices.SortFunc(given, func(a, b string) int { return netip.MustParsePrefix(a).Compare(netip.MustParsePrefix(b)) })
	if p.Status.Usage == nil || int(p.Status.Usage.Allocations) != len(given) {
		return fmt.Errorf("%d are allocated: %s", len(given), describe(p))
	}
	if len(given) <= 1000 && !slices.Equal(p.Status.Used, given) {
		return fmt.Errorf("%v are allocated: %s", given, describe(p))
	}
	return nil
}

// apply creates the Prefixes of a manifest, in its order.
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
		if _, err := e.prefixes.Create(e.Context(), obj.(*v1alpha1.Prefix), metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
			e.Fatal(err)
		}
	}
}

// each calls f for 0 to n-1, so many at a time, and waits.
func each(n, parallel int, f func(int)) {
	todo := make(chan int)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for i := range todo {
				f(i)
			}
		})
	}
	for i := range n {
		todo <- i
	}
	close(todo)
	wg.Wait()
}

// permutations returns all orders of 0 to n-1.
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
