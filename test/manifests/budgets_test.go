// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// TestDisruptionBudgets requires that a pod that is not ready does not keep its node from being drained, and that each
// budget has the labels of what it is for. That the chart has the same, test/addon looks at.
func TestDisruptionBudgets(t *testing.T) {
	files, err := filepath.Glob("../../config/*/poddisruptionbudget.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Errorf("there are %d budgets", len(files))
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var budget policyv1.PodDisruptionBudget
		if err := yaml.UnmarshalStrict(content, &budget); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if policy := budget.Spec.UnhealthyPodEvictionPolicy; policy == nil || *policy != policyv1.AlwaysAllow {
			t.Errorf("%s: the policy for pods that are not ready is %v", file, policy)
		}
		want := map[string]string{"app.kubernetes.io/name": budget.Name, "app.kubernetes.io/part-of": "ipam"}
		if !maps.Equal(budget.Labels, want) {
			t.Errorf("%s: its labels are %v", file, budget.Labels)
		}
	}
}
