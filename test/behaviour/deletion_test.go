// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDeletionInEveryOrder deletes a small tree, and the allocation of a waiting child, in every possible order.
// Before each step it tries to delete the allocations that Prefixes use. Nothing remains at the end.
func TestDeletionInEveryOrder(t *testing.T) {
	t.Parallel()
	steps := []string{"root", "middle", "leaf", "waits", "allocation of waits"}
	orders := permutations(len(steps))
	harness.Each(len(orders), 8, func(i int) {
		order := orders[i]
		e := inNamespace(t, shared, fmt.Sprintf("deletion-%d%d%d%d%d", order[0], order[1], order[2], order[3], order[4]))
		if err := deleteInOrder(e, steps, order); err != nil {
			t.Errorf("%s: %v", e.NS, err)
		}
	})
	// Wait for the namespaces at the end, because only the goroutine that runs the test may fail it.
	for _, order := range orders {
		inNamespace(t, shared, fmt.Sprintf("deletion-%d%d%d%d%d", order[0], order[1], order[2], order[3], order[4])).Empty()
	}
}

func deleteInOrder(e *env, steps []string, order []int) error {
	for _, p := range []*v1alpha1.Prefix{
		harness.NewPrefix("leaf", harness.Length(24), harness.From("middle")),
		harness.NewPrefix("waits", harness.Length(4), harness.From("root")),
		harness.NewPrefix("root", harness.Exactly("10.0.0.0/8")),
		harness.NewPrefix("middle", harness.Length(16), harness.From("root")),
	} {
		if _, err := e.Prefixes.Create(e.Context(), p, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	waits := ""
	for _, name := range []string{"root", "middle", "leaf", "waits"} {
		if err := e.soon(func() (bool, error) {
			p, err := e.Prefixes.Get(e.Context(), name, metav1.GetOptions{})
			if err != nil || name != "waits" {
				return err == nil && p.Status.Phase == v1alpha1.PrefixPhaseAllocated, err
			}
			list, err := e.Allocations.List(e.Context(), metav1.ListOptions{LabelSelector: v1alpha1.RequesterUIDLabel + "=" + string(p.UID)})
			if err != nil || len(list.Items) != 1 {
				return false, err
			}
			waits = list.Items[0].Name
			return true, nil
		}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}

	for _, i := range order {
		if err := e.undermine(); err != nil {
			return err
		}
		var err error
		if steps[i] == "allocation of waits" {
			err = e.Allocations.Delete(e.Context(), waits, metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				// It was deleted together with its child.
				err = nil
			}
		} else {
			err = e.Prefixes.Delete(e.Context(), steps[i], metav1.DeleteOptions{})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", steps[i], err)
		}
	}
	return nil
}

// undermine tries to delete every allocation that a Prefix uses.
func (e *env) undermine() error {
	allocations, err := e.Allocations.List(e.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, a := range allocations.Items {
		if a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
			continue
		}
		err := e.Allocations.Delete(e.Context(), a.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(a.UID))})
		switch {
		case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		case err != nil:
			return err
		default:
			// This is allowed only if the Prefix is gone.
			if p, err := e.Prefixes.Get(e.Context(), a.OwnerReferences[0].Name, metav1.GetOptions{}); err == nil {
				return fmt.Errorf("deleted %s from under\n%s", harness.DescribeAllocation(&a), harness.Describe(p))
			}
		}
	}
	return nil
}

// TestDeletionWhileAllocating deletes children while they are being allocated, and allocations while they are being
// bound. The rest is consistent, and every child that was not deleted is Allocated.
func TestDeletionWhileAllocating(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16")
	const children = 120
	harness.Each(children, 16, func(i int) {
		name := fmt.Sprintf("child-%d", i)
		if _, err := e.Prefixes.Create(t.Context(), harness.NewPrefix(name, harness.Length(26), harness.From("root")), metav1.CreateOptions{}); err != nil {
			t.Error(err)
			return
		}
		switch i % 3 {
		case 0:
			if err := e.Prefixes.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		case 1:
			// Delete all allocations that the server allows to delete.
			err := e.Allocations.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "status.phase=Pending"})
			if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
	for i := range children {
		if name := fmt.Sprintf("child-%d", i); i%3 == 0 {
			e.Gone(name)
		} else {
			e.allocated(name)
		}
	}
	e.AtRest()
	if err := e.Prefixes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	e.Empty()
}

// TestDeletionOfCollection deletes all Prefixes of a namespace. One cannot be removed, because a finalizer holds
// it. The request still returns at once: a request that waited would use one of the server's concurrent requests.
// The other Prefixes are removed later.
func TestDeletionOfCollection(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16")
	for i := range 5 {
		name := fmt.Sprintf("child-%d", i)
		e.create(name, harness.Length(24), harness.From("root"), func(p *v1alpha1.Prefix) {
			if i == 0 {
				p.Finalizers = []string{foreignFinalizer}
			}
		})
		e.allocated(name)
	}
	// Use the fastest of several, because the machine may be busy.
	fastest := time.Hour
	for range 5 {
		start := time.Now()
		if err := e.Prefixes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		fastest = min(fastest, time.Since(start))
	}
	if fastest > time.Second {
		t.Errorf("answered after %v", fastest)
	}
	for i := 1; i < 5; i++ {
		e.Gone(fmt.Sprintf("child-%d", i))
	}
	for _, name := range []string{"root", "child-0"} {
		if e.Get(name).DeletionTimestamp == nil {
			t.Errorf("%s is not being deleted", name)
		}
	}
	e.removeFinalizer("child-0")
	e.Empty()
}
