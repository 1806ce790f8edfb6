// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/storage"
)

// TestRangeIndex shows that a selector finds an object in the index for each notation of its range, and that it does not
// use the index if it selects objects that are not in it.
func TestRangeIndex(t *testing.T) {
	const field = "spec.prefix"
	index := IndexByRange(func(obj any) string { return obj.(string) })
	valueOf := func(selector fields.Selector) (value string, ok bool) {
		predicate := storage.SelectionPredicate{Field: SelectByRange(selector, field), IndexFields: []string{FieldRangeHash}}
		for _, match := range predicate.MatcherIndex(context.Background()) {
			if match.IndexName == storage.FieldIndex(FieldRangeHash) {
				value, ok = match.Value, true
			}
		}
		return value, ok
	}
	for _, notations := range [][]string{
		{"10.0.0.0/24", "10.0.0.5/24", "::ffff:10.0.0.0/120"},
		{"2001:db8::/32", "2001:DB8::1/32", "2001:0db8:0::/32"},
		{"0.0.0.0/0"},
		{"no prefix"},
	} {
		for _, stored := range notations {
			for _, wanted := range notations {
				values, err := index(stored)
				for _, selector := range []fields.Selector{
					fields.OneTermEqualSelector(field, wanted),
					fields.AndSelectors(fields.OneTermEqualSelector("a", "b"), fields.OneTermEqualSelector(field, wanted)),
					SelectByRange(fields.OneTermEqualSelector(field, wanted), field).DeepCopySelector(),
				} {
					if got, ok := valueOf(selector); err != nil || !ok || len(values) != 1 || got != values[0] {
						t.Errorf("%s is in the index at %q (%v), and %s asks for %q", stored, values, err, selector, got)
					}
				}
			}
		}
	}
	for _, selector := range []fields.Selector{
		fields.Everything(), fields.OneTermEqualSelector(field, ""), fields.OneTermNotEqualSelector(field, "10.0.0.0/24"), fields.OneTermEqualSelector("a", "10.0.0.0/24"),
	} {
		if got, ok := valueOf(selector); ok {
			t.Errorf("%s asks for %q", selector, got)
		}
	}
	if values, err := index(""); err != nil || len(values) > 0 {
		t.Errorf("no range is in the index at %q, %v", values, err)
	}
	hashes := sets.Set[string]{}
	for i := range 256 {
		hashes.Insert(hashOfRange(fmt.Sprintf("10.0.%d.0/24", i)))
	}
	if hashes.Len() < 200 {
		t.Errorf("256 ranges have %d hashes", hashes.Len())
	}
}
