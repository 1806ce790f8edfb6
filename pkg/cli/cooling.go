// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cooling is a range that is kept for a child that was deleted.
type cooling struct {
	prefix netip.Prefix
	until  metav1.Time
	// child is the name of the child.
	child string
	// allocation is the PrefixAllocation that holds the range.
	allocation string
}

// String returns for whom the range is kept, and until when.
func (c cooling) String() string {
	return fmt.Sprintf("Cooling until %s, for %s", c.until.UTC().Format(time.RFC3339), orNone(c.child))
}

// coolingOf returns what a PrefixAllocation keeps, if it does.
func coolingOf(a *v1alpha1.PrefixAllocation) (cooling, bool) {
	prefix, err := cidr.ParseStored(a.Status.Prefix)
	if a.Status.CoolingUntil == nil || err != nil {
		return cooling{}, false
	}
	c := cooling{prefix: prefix, until: *a.Status.CoolingUntil, allocation: a.Name}
	if owner := metav1.GetControllerOf(a); owner != nil {
		c.child = owner.Name
	}
	return c, true
}

// cools reports whether a part of a Prefix cools down, according to its status.
func cools(p *v1alpha1.Prefix) bool {
	return p.Status.Usage != nil && p.Status.Usage.Cooling != "" && p.Status.Usage.Cooling != "0"
}

// coolingIn returns the ranges of a Prefix that cool down, sorted by address. It reads them only if the status says that
// there are any.
func (s *session) coolingIn(ctx context.Context, p *v1alpha1.Prefix) ([]cooling, error) {
	if !cools(p) {
		return nil, nil
	}
	var found []cooling
	err := s.clients.eachAllocationIn(ctx, p.Namespace, allocatedFrom(p.Name), func(a *v1alpha1.PrefixAllocation) error {
		if c, ok := coolingOf(a); ok && isAllocatedFrom(a, p) {
			found = append(found, c)
		}
		return nil
	})
	if apierrors.IsForbidden(err) {
		s.denied = true
		s.say("You may not read prefixallocations in namespace %q, so space that cools down is shown as free.", p.Namespace)
		return nil, nil
	}
	slices.SortFunc(found, func(a, b cooling) int { return comparePrefixes(a.prefix, b.prefix) })
	return found, err
}

// coolingFor returns what is kept for the Prefix with a name. p is the Prefix if it was there before.
func (s *session) coolingFor(ctx context.Context, name string, p *v1alpha1.Prefix) ([]cooling, error) {
	opts := metav1.ListOptions{LabelSelector: v1alpha1.RequesterUIDLabel}
	if p != nil {
		opts.LabelSelector += "=" + string(p.UID)
	}
	var found []cooling
	err := s.clients.eachAllocationIn(ctx, s.clients.namespace, opts, func(a *v1alpha1.PrefixAllocation) error {
		if c, ok := coolingOf(a); ok && c.child == name {
			found = append(found, c)
		}
		return nil
	})
	return found, err
}

// endCooling releases what is kept for the Prefix with a name. It returns what that was.
func (s *session) endCooling(ctx context.Context, name string, p *v1alpha1.Prefix) ([]cooling, error) {
	found, err := s.coolingFor(ctx, name, p)
	if err != nil {
		return nil, err
	}
	now := int64(0)
	for _, c := range found {
		err := s.clients.ipam.PrefixAllocations(s.clients.namespace).Delete(ctx, c.allocation, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		s.note("%s of %s does not cool down any more.", c.prefix, name)
	}
	return found, nil
}
