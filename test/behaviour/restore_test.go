// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/itchyny/gojq"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// dump is a backup of the objects of a namespace, without uid, status, and other fields that the server sets.
type dump struct {
	prefixes    []v1alpha1.Prefix
	allocations []v1alpha1.PrefixAllocation
	// held contains the range of each Prefix, and of each allocation without a child, by kind and name.
	held map[string]string
}

// metaForBackup returns the metadata that a backup contains.
func metaForBackup(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Labels: m.Labels, Annotations: m.Annotations, OwnerReferences: m.OwnerReferences, Finalizers: m.Finalizers}
}

// backup returns a backup of the namespace. Allocations without a child request exactly the range that they hold,
// as the documentation describes.
func (e *env) backup() dump {
	e.Helper()
	d := dump{held: map[string]string{}}
	for _, p := range e.List() {
		d.held["Prefix "+p.Name] = p.Spec.Prefix
		d.prefixes = append(d.prefixes, v1alpha1.Prefix{ObjectMeta: metaForBackup(p.ObjectMeta), Spec: p.Spec})
	}
	for _, a := range e.ListAllocations() {
		if metav1.GetControllerOf(&a) == nil {
			d.held["PrefixAllocation "+a.Name] = a.Status.Prefix
			a.Spec.Prefix, a.Spec.PrefixLength = a.Status.Prefix, 0
		}
		d.allocations = append(d.allocations, v1alpha1.PrefixAllocation{ObjectMeta: metaForBackup(a.ObjectMeta), Spec: a.Spec})
	}
	return d
}

// restore creates the objects of a dump in random order.
func (e *env) restore(d dump, change func(*metav1.ObjectMeta), random *rand.Rand, parallel int) {
	e.Helper()
	var create []func() error
	for _, p := range d.prefixes {
		create = append(create, func() error {
			p := p.DeepCopy()
			change(&p.ObjectMeta)
			_, err := e.Prefixes.Create(e.Context(), p, metav1.CreateOptions{})
			return err
		})
	}
	for _, a := range d.allocations {
		create = append(create, func() error {
			a := a.DeepCopy()
			change(&a.ObjectMeta)
			_, err := e.Allocations.Create(e.Context(), a, metav1.CreateOptions{})
			return err
		})
	}
	random.Shuffle(len(create), func(i, j int) { create[i], create[j] = create[j], create[i] })
	harness.Each(len(create), parallel, func(i int) {
		if err := create[i](); err != nil {
			e.Error(err)
		}
	})
}

// restored waits until each object has its range again, and nothing else remains.
func (e *env) restored(d dump) {
	e.Helper()
	e.Eventually("everything has what it had", func() error {
		var wrong []string
		children, own := 0, 0
		for _, p := range e.List() {
			if !p.Spec.IsRoot() {
				children++
			}
			if p.Status.Phase != v1alpha1.PrefixPhaseAllocated || p.Spec.Prefix != d.held["Prefix "+p.Name] {
				wrong = append(wrong, harness.Describe(&p)+" had "+d.held["Prefix "+p.Name])
			}
		}
		allocations := e.ListAllocations()
		for _, a := range allocations {
			held, ok := d.held["PrefixAllocation "+a.Name]
			if ok {
				own++
			}
			if a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || ok && a.Status.Prefix != held {
				wrong = append(wrong, harness.DescribeAllocation(&a)+" had "+held)
			}
		}
		if n := len(d.held); children+own != len(allocations) || len(d.prefixes)+own != n {
			wrong = append(wrong, fmt.Sprintf("%d children and %d allocations of their own, but %d allocations and %d of the dump", children, own, len(allocations), n))
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%d are wrong: %s", len(wrong), strings.Join(wrong[:min(3, len(wrong))], "; "))
		}
		return nil
	})
	e.AtRest()
}

// TestRestore restores a dump in many orders while the controllers run, with and without the metadata that marks an
// allocation as created by the controllers. Every child gets its range again, and nothing else remains.
func TestRestore(t *testing.T) {
	t.Parallel()
	objects, rounds := 150, 5
	if os.Getenv("IPAM_TEST_LONG") != "" {
		objects, rounds = 1000, 100
	}
	before := inNamespace(t, shared, "restore-before")
	before.fill(objects)
	d := before.backup()
	t.Logf("%d Prefixes and %d PrefixAllocations", len(d.prefixes), len(d.allocations))
	keeps := []struct {
		name   string
		change func(*metav1.ObjectMeta)
	}{
		{"as it was", func(*metav1.ObjectMeta) {}},
		{"without owner references", func(m *metav1.ObjectMeta) { m.OwnerReferences = nil }},
		{"without labels", func(m *metav1.ObjectMeta) { m.Labels = withoutRequester(m.Labels) }},
		{"without both", func(m *metav1.ObjectMeta) { m.OwnerReferences, m.Labels = nil, withoutRequester(m.Labels) }},
		{"without finalizers", func(m *metav1.ObjectMeta) { m.Finalizers = nil }},
	}
	for round := range rounds {
		keep := keeps[round%len(keeps)]
		random := rand.New(rand.NewPCG(uint64(round), 1))
		e := inNamespace(t, shared, fmt.Sprintf("restore-%d", round))
		e.restore(d, keep.change, random, 1+random.IntN(16))
		e.restored(d)
		if t.Failed() {
			t.Fatalf("round %d, %s", round, keep.name)
		}
		e.clear()
	}

	// Restore all allocations first. Only their names show for whom the controllers created them.
	e := inNamespace(t, shared, "restore-allocations-first")
	for _, part := range []dump{{allocations: d.allocations}, {prefixes: d.prefixes}} {
		e.restore(part, keeps[3].change, rand.New(rand.NewPCG(9, 9)), 8)
	}
	e.restored(d)
	e.clear()
}

func withoutRequester(labels map[string]string) map[string]string {
	rest := map[string]string{}
	for k, v := range labels {
		if k != v1alpha1.RequesterUIDLabel {
			rest[k] = v
		}
	}
	return rest
}

// fill creates roots and children of both families, on three levels, and allocations without a child. It waits
// until all are Allocated.
func (e *env) fill(objects int) {
	e.Helper()
	e.root("root-v4", "10.0.0.0/16", harness.Labelled("pool", "v4"))
	e.root("root-v6", "2001:db8::/48", harness.Labelled("pool", "v6"))
	e.create("middle-v4", harness.Length(20), harness.From("root-v4"), harness.Labelled("level", "v4"))
	e.create("middle-v6", harness.Length(56), harness.From("root-v6"), harness.Labelled("level", "v6"))
	children := objects * 9 / 20
	harness.Each(children, 16, func(i int) {
		p := harness.NewPrefix(fmt.Sprint("child-", i))
		for _, o := range [][]harness.PrefixOption{
			{harness.Length(int32(26 + i%5)), harness.From("root-v4")},
			{harness.Length(int32(26 + i%5)), harness.Family(v1alpha1.IPv4), harness.Selecting("pool", "v4")},
			{harness.Length(64), harness.From("middle-v6")},
			{harness.Length(int32(60 + i%5)), harness.Family(v1alpha1.IPv6), harness.Selecting("pool", "v6")},
			{harness.Length(int32(28 + i%5)), harness.Family(v1alpha1.IPv4), harness.Selecting("level", "v4")},
		}[i%5] {
			o(p)
		}
		if _, err := e.Prefixes.Create(e.Context(), p, metav1.CreateOptions{}); err != nil {
			e.Error(err)
		}
	})
	for i := range objects / 20 {
		e.request(fmt.Sprint("mine-", i), "root-v4", int32(27+i%4), nil)
	}
	for _, p := range e.List() {
		e.allocated(p.Name)
	}
	for i := range objects / 20 {
		e.bound(fmt.Sprint("mine-", i))
	}
}

// clear deletes everything in the namespace.
func (e *env) clear() {
	e.Helper()
	for _, err := range []error{
		e.Prefixes.DeleteCollection(e.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}),
	} {
		if err != nil {
			e.Error(err)
		}
	}
	e.Eventually("cleared", func() error {
		for _, a := range e.ListAllocations() {
			if err := e.Allocations.Delete(e.Context(), a.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return err
			}
		}
		if n := len(e.List()) + len(e.ListAllocations()); n > 0 {
			return errors.New(fmt.Sprint(n, " are left"))
		}
		return nil
	})
}

// TestRestoreAsDocumented exports a namespace in which some objects wait, and applies it in another one, as
// docs/operating/backup.md describes.
func TestRestoreAsDocumented(t *testing.T) {
	t.Parallel()
	before := inNamespace(t, shared, "documented-before")
	before.root("root", "10.0.0.0/29")
	for i := range 4 {
		before.create(fmt.Sprint("z-", i), harness.Length(31), harness.From("root"))
		before.allocated(fmt.Sprint("z-", i))
	}
	before.create("a-waits", harness.Length(32), harness.From("root"))
	before.pending("a-waits", v1alpha1.ReasonParentExhausted)
	// It asks for what another child has, and comes before that by name.
	before.create("a-exact", harness.Exactly(before.Get("z-2").Spec.Prefix), harness.From("root"))
	before.pending("a-exact", v1alpha1.ReasonPrefixInUse)
	before.root("more", "10.1.0.0/24")
	before.request("mine", "more", 28, nil)
	before.bound("mine")
	before.request("mine-waits", "root", 31, nil)
	d := before.backup()

	program, err := os.ReadFile("../../docs/operating/restore.jq")
	if err != nil {
		t.Fatal(err)
	}
	query, err := gojq.Parse(string(program))
	if err != nil {
		t.Fatal(err)
	}
	// This is the output of kubectl: the kinds are set, and one list has the items of both kinds.
	var items []any
	for _, p := range before.List() {
		items = append(items, unstructuredOf(t, &p, v1alpha1.PrefixKind))
	}
	for _, a := range before.ListAllocations() {
		items = append(items, unstructuredOf(t, &a, v1alpha1.PrefixAllocationKind))
	}
	result, ok := query.Run(map[string]any{"items": items}).Next()
	if err, failed := result.(error); !ok || failed {
		t.Fatal(err)
	}

	e := inNamespace(t, shared, "documented-after")
	apply := func(part string) {
		t.Helper()
		for _, item := range result.(map[string]any)[part].(map[string]any)["items"].([]any) {
			object := item.(map[string]any)
			delete(object["metadata"].(map[string]any), "namespace")
			var err error
			if object["kind"] == v1alpha1.PrefixKind {
				p := &v1alpha1.Prefix{}
				if err = runtime.DefaultUnstructuredConverter.FromUnstructured(object, p); err == nil {
					_, err = e.Prefixes.Create(t.Context(), p, metav1.CreateOptions{})
				}
			} else {
				a := &v1alpha1.PrefixAllocation{}
				if err = runtime.DefaultUnstructuredConverter.FromUnstructured(object, a); err == nil {
					_, err = e.Allocations.Create(t.Context(), a, metav1.CreateOptions{})
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	apply("allocated")
	for _, p := range e.List() {
		if got := e.allocated(p.Name); got.Spec.Prefix != d.held["Prefix "+p.Name] {
			t.Errorf("%s had %s", harness.Describe(got), d.held["Prefix "+p.Name])
		}
	}
	apply("waiting")
	e.pending("a-waits", v1alpha1.ReasonParentExhausted)
	e.pending("a-exact", v1alpha1.ReasonPrefixInUse)
	if a := e.bound("mine"); a.Status.Prefix != d.held["PrefixAllocation mine"] {
		t.Errorf("%s had %s", harness.DescribeAllocation(a), d.held["PrefixAllocation mine"])
	}
	if n := len(e.List()); n != len(before.List()) {
		t.Errorf("%d Prefixes", n)
	}
	e.AtRest()
}

func unstructuredOf(t *testing.T, object any, kind string) map[string]any {
	t.Helper()
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	u["apiVersion"], u["kind"] = v1alpha1.GroupVersion.String(), kind
	return u
}
