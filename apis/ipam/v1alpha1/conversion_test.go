// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"
	"testing"
)

func TestFieldLabels(t *testing.T) {
	scheme := newScheme(t)
	known := map[string][]string{
		PrefixKind:           {"metadata.name", "metadata.namespace", "spec.ipFamily", "spec.prefix", "spec.parentRef.name", "status.phase"},
		PrefixAllocationKind: {"metadata.name", "metadata.namespace", "spec.ipFamily", "spec.prefix", "spec.prefixRef.name", "status.phase", "status.prefix", "status.coolingUntil"},
	}
	unknown := []string{"spec.prefixLength", "spec.parentRef", "spec.prefixRef", "spec.ipfamily", "status", "metadata.uid", ""}

	for kind, labels := range known {
		gvk := SchemeGroupVersion.WithKind(kind)
		for _, label := range labels {
			t.Run(kind+" "+label, func(t *testing.T) {
				gotLabel, gotValue, err := scheme.ConvertFieldLabel(gvk, label, "value")
				if err != nil || gotLabel != label || gotValue != "value" {
					t.Errorf("got %s=%s, %v", gotLabel, gotValue, err)
				}
			})
		}

		// Fields of the other kind are unknown, too.
		refused := slices.Clone(unknown)
		for _, others := range known {
			for _, label := range others {
				if !slices.Contains(labels, label) {
					refused = append(refused, label)
				}
			}
		}
		for _, label := range refused {
			t.Run(kind+" refuses "+label, func(t *testing.T) {
				_, _, err := scheme.ConvertFieldLabel(gvk, label, "value")
				if want := "field label not supported for " + kind + ": " + label; err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %s", err, want)
				}
			})
		}
	}
}

// TestFieldsWithRanges shows that the value of a field with a range is converted to canonical notation.
func TestFieldsWithRanges(t *testing.T) {
	scheme := newScheme(t)
	for _, field := range []string{FieldPrefix, FieldAllocatedPrefix, FieldPrefixRefName} {
		for value, want := range map[string]string{
			"": "", "10.0.0.5/24": "10.0.0.0/24", "::ffff:10.0.0.0/120": "10.0.0.0/24", "2001:DB8::/32": "2001:db8::/32", "fd00::/8": "fd00::/8", "nonsense": "nonsense",
		} {
			if field == FieldPrefixRefName {
				want = value
			}
			label, got, err := scheme.ConvertFieldLabel(SchemeGroupVersion.WithKind(PrefixAllocationKind), field, value)
			if err != nil || label != field || got != want {
				t.Errorf("%s=%s: got %s=%s, %v", field, value, label, got, err)
			}
		}
	}
}
