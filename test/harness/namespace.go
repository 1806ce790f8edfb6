// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Namespace gives a test access to one namespace, through one client. Its methods fail the test on errors.
type Namespace struct {
	testing.TB
	// NS is the name of the namespace.
	NS          string
	Prefixes    ipamclient.PrefixInterface
	Allocations ipamclient.PrefixAllocationInterface
	Policies    ipamclient.PrefixPolicyInterface
}

// In returns access to a namespace through a client.
func In(t testing.TB, client ipamclient.IpamV1alpha1Interface, namespace string) *Namespace {
	return &Namespace{t, namespace, client.Prefixes(namespace), client.PrefixAllocations(namespace), client.PrefixPolicies(namespace)}
}

// Create creates Prefixes in the given order. It returns the last one as created.
func (n *Namespace) Create(prefixes ...*v1alpha1.Prefix) (created *v1alpha1.Prefix) {
	n.Helper()
	for _, p := range prefixes {
		var err error
		if created, err = n.Prefixes.Create(n.Context(), p, metav1.CreateOptions{}); err != nil {
			n.Fatal(err)
		}
	}
	return created
}

// CreateAllocation creates a PrefixAllocation and returns it as created.
func (n *Namespace) CreateAllocation(a *v1alpha1.PrefixAllocation) *v1alpha1.PrefixAllocation {
	n.Helper()
	created, err := n.Allocations.Create(n.Context(), a, metav1.CreateOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return created
}

// CreatePolicy creates a PrefixPolicy and returns it as created.
func (n *Namespace) CreatePolicy(p *v1alpha1.PrefixPolicy) *v1alpha1.PrefixPolicy {
	n.Helper()
	created, err := n.Policies.Create(n.Context(), p, metav1.CreateOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return created
}

// Get reads a Prefix.
func (n *Namespace) Get(name string) *v1alpha1.Prefix {
	n.Helper()
	p, err := n.Prefixes.Get(n.Context(), name, metav1.GetOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return p
}

// GetAllocation reads a PrefixAllocation.
func (n *Namespace) GetAllocation(name string) *v1alpha1.PrefixAllocation {
	n.Helper()
	a, err := n.Allocations.Get(n.Context(), name, metav1.GetOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return a
}

// List returns all Prefixes.
func (n *Namespace) List() []v1alpha1.Prefix {
	n.Helper()
	list, err := n.Prefixes.List(n.Context(), metav1.ListOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return list.Items
}

// ListAllocations returns all PrefixAllocations.
func (n *Namespace) ListAllocations() []v1alpha1.PrefixAllocation {
	n.Helper()
	list, err := n.Allocations.List(n.Context(), metav1.ListOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return list.Items
}

// Delete deletes Prefixes.
func (n *Namespace) Delete(names ...string) {
	n.Helper()
	for _, name := range names {
		if err := n.Prefixes.Delete(n.Context(), name, metav1.DeleteOptions{}); err != nil {
			n.Fatal(err)
		}
	}
}

// Eventually calls the function Eventually.
func (n *Namespace) Eventually(what string, check func() error) time.Duration {
	n.Helper()
	return Eventually(n.TB, what, check)
}

// Allocated waits until a Prefix is Allocated, and returns it.
func (n *Namespace) Allocated(name string) (p *v1alpha1.Prefix) {
	n.Helper()
	n.Eventually(name+" Allocated", func() (err error) {
		if p, err = n.Prefixes.Get(n.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			return errors.New(Describe(p))
		}
		return nil
	})
	return p
}

// Gone waits until the Prefixes no longer exist.
func (n *Namespace) Gone(names ...string) {
	n.Helper()
	for _, name := range names {
		n.Eventually(name+" gone", func() error {
			p, err := n.Prefixes.Get(n.Context(), name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				return nil
			case err != nil:
				return err
			}
			return fmt.Errorf("still there: %s", Describe(p))
		})
	}
}

// Empty waits until the namespace has no Prefixes and no PrefixAllocations.
func (n *Namespace) Empty() {
	n.Helper()
	n.Eventually("nothing left over", func() error {
		var left []string
		for _, p := range n.List() {
			left = append(left, Describe(&p))
		}
		for _, a := range n.ListAllocations() {
			left = append(left, DescribeAllocation(&a))
		}
		if len(left) > 0 {
			return errors.New(strings.Join(left, "\n"))
		}
		return nil
	})
}

// AtRest waits until CheckAtRest succeeds.
func (n *Namespace) AtRest() {
	n.Helper()
	n.Eventually("at rest", func() error { return CheckAtRest(n.List(), n.ListAllocations()) })
}

// AllAllocated waits until all Prefixes are Allocated and CheckAtRest succeeds.
func (n *Namespace) AllAllocated() {
	n.Helper()
	n.Eventually("all Allocated", func() error {
		prefixes := n.List()
		for _, p := range prefixes {
			if p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				return errors.New(Describe(&p))
			}
		}
		return CheckAtRest(prefixes, n.ListAllocations())
	})
}
