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
		PrefixAllocationKind: {"metadata.name", "metadata.namespace", "spec.ipFamily", "spec.prefix", "spec.prefixRef.name", "status.phase"},
	}
	unknown := []string{"spec.prefixLength", "spec.parentRef", "spec.prefixRef", "spec.ipfamily", "status.prefix", "status", "metadata.uid", ""}

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
