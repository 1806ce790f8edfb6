// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/fields"
)

// FieldRootOf selects the roots of a namespace, whose name is its value. It is for lists within the
// server, which find them by an index of the watch cache; clients cannot select by it.
const FieldRootOf = "rootOf"

// rootsIn selects the roots of a namespace.
func rootsIn(namespace string) fields.Selector {
	return fields.OneTermEqualSelector(FieldRootOf, namespace)
}

// RootsOverlapping selects the roots of a namespace that overlap a prefix. The list compares each root
// before it copies it, so that it copies only those that overlap.
func RootsOverlapping(namespace string, prefix netip.Prefix) fields.Selector {
	return overlapping{rootsIn(namespace), prefix}
}

// overlapping is a selector that also compares the prefix.
type overlapping struct {
	fields.Selector
	prefix netip.Prefix
}

// Matches implements fields.Selector.
func (o overlapping) Matches(set fields.Fields) bool {
	if !o.Selector.Matches(set) {
		return false
	}
	prefix, err := cidr.ParseStored(set.Get(v1alpha1.FieldPrefix))
	return err == nil && prefix.Overlaps(o.prefix)
}

// DeepCopySelector implements fields.Selector.
func (o overlapping) DeepCopySelector() fields.Selector {
	return overlapping{o.Selector.DeepCopySelector(), o.prefix}
}
