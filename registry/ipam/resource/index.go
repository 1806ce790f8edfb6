// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"hash/maphash"
	"strconv"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
)

// FieldRangeHash is the field of the index that finds objects by a range, see SelectByRange. It is for the watch cache;
// clients cannot select by it.
const FieldRangeHash = "rangeHash"

// rangeHashes is the number of values of FieldRangeHash.
//
// The watch cache has a map for each value of an index. With the range itself as the value, an object needs 300 bytes of
// memory. With a hash, it needs a fifth of that, and a list compares about 16 of a million objects.
const rangeHashes = 1 << 16

// rangeSeed is new in each process, so that nobody can choose ranges that all have the same hash.
var rangeSeed = maphash.MakeSeed()

// hashOfRange returns the hash of a range. It is the same for all notations of a range.
func hashOfRange(s string) string {
	return strconv.FormatUint(maphash.String(rangeSeed, cidr.Canonical(s))%rangeHashes, 10)
}

// IndexByRange returns the function of an index of FieldRangeHash. Objects whose range is empty are not in the index.
func IndexByRange(rangeOf func(obj any) string) cache.IndexFunc {
	return func(obj any) ([]string, error) {
		if s := rangeOf(obj); s != "" {
			return []string{hashOfRange(s)}, nil
		}
		return nil, nil
	}
}

// SelectByRange returns a selector that selects the same objects, and uses the index of FieldRangeHash if it requires a
// value of the field with the range. A list then takes as long as there are objects with the range, not objects in all.
func SelectByRange(selector fields.Selector, field string) fields.Selector {
	if s, ok := selector.RequiresExactMatch(field); ok && s != "" {
		return WithIndex(selector, FieldRangeHash, hashOfRange(s))
	}
	return selector
}

// WithIndex returns a selector that selects the same objects, and has the watch cache look only at those with a value in the
// index of a field. All that it selects must be there.
func WithIndex(selector fields.Selector, field, value string) fields.Selector {
	return withIndex{selector, field, value}
}

// withIndex is the selector of WithIndex.
type withIndex struct {
	fields.Selector
	field, value string
}

// RequiresExactMatch implements fields.Selector.
func (w withIndex) RequiresExactMatch(field string) (string, bool) {
	if field == w.field {
		return w.value, true
	}
	return w.Selector.RequiresExactMatch(field)
}

// DeepCopySelector implements fields.Selector.
func (w withIndex) DeepCopySelector() fields.Selector {
	return withIndex{w.Selector.DeepCopySelector(), w.field, w.value}
}
