// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cooling is a range that is kept for a child that was deleted.
type cooling struct {
	// round is the last round of reading in which the PrefixAllocation was seen.
	round  uint64
	prefix netip.Prefix
	// keeper is what the page shows of it.
	keeper
}

// keeper is for whom a range is kept, for the page.
type keeper struct {
	CIDR string `json:"cidr"`
	// Namespace and Child name the child that was deleted.
	Namespace string `json:"namespace"`
	Child     string `json:"child"`
	// Until is the time until which it is kept, in milliseconds.
	Until int64 `json:"until"`
}

// putCooling stores that the space of a PrefixAllocation cools down.
func (m *model) putCooling(a *v1alpha1.PrefixAllocation) {
	k := key{coolingKind, strings.Clone(a.Namespace), strings.Clone(a.Name)}
	prefix, err := cidr.ParseStored(a.Status.Prefix)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	m.warm(k)
	if err != nil || a.Status.CoolingUntil == nil || a.Spec.PrefixRef == nil {
		return
	}
	c := &cooling{round: m.round, prefix: prefix, keeper: keeper{prefix.String(), plaintext.Escape(a.Namespace), "", a.Status.CoolingUntil.UnixMilli()}}
	if owner := metav1.GetControllerOf(a); owner != nil {
		c.Child = plaintext.Escape(owner.Name)
	}
	parent := key{prefixKind, strings.Clone(a.NamespaceOfParent()), strings.Clone(a.Spec.PrefixRef.Name)}
	if m.cooling[parent] == nil {
		m.cooling[parent] = map[key]*cooling{}
	}
	m.cooling[parent][k], m.cools[k] = c, parent
}

// warm removes what a PrefixAllocation keeps.
func (m *model) warm(k key) {
	parent, ok := m.cools[k]
	if !ok {
		return
	}
	delete(m.cools, k)
	if delete(m.cooling[parent], k); len(m.cooling[parent]) == 0 {
		delete(m.cooling, parent)
	}
}

// coolingIn returns what cools down of a block of a node, by address.
func (m *model) coolingIn(n *node, block netip.Prefix) []*cooling {
	var found []*cooling
	for _, c := range m.cooling[n.key] {
		if c.prefix.Overlaps(block) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *cooling) int {
		return cmp.Or(a.prefix.Compare(b.prefix), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Child, b.Child))
	})
	return found
}
