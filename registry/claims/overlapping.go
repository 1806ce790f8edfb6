// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/fields"
)

// FieldRootNamespace is the field by which the watch cache has an index of the roots of each namespace. Its value is the
// namespace of a root, and "" for other Prefixes. It is for lists inside the server; clients cannot select by it.
const FieldRootNamespace = "rootOf"

// rootsIn returns a selector of the roots of a namespace.
func rootsIn(namespace string) fields.Selector {
	return fields.OneTermEqualSelector(FieldRootNamespace, namespace)
}

// RootsOverlapping returns a selector of the roots of a namespace that overlap a prefix. A list evaluates the
// selector before it copies an object, so it copies only the roots that overlap.
func RootsOverlapping(namespace string, prefix netip.Prefix) fields.Selector {
	return overlapping{rootsIn(namespace), prefix}
}

// overlapping adds the check for overlap to a selector.
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
