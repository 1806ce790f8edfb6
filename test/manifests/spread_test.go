// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// TestSpread requires that the pods of a workload are spread if it can be, and run anyway if not: API servers and controller
// managers over nodes, and the members of etcd over zones.
func TestSpread(t *testing.T) {
	const node, zone = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
	spread := map[string]string{}
	for file, list := range workloads(t) {
		for _, w := range list {
			pod := labels.Set(w.Spec.Template.Labels)
			for _, constraint := range w.Spec.Template.Spec.TopologySpreadConstraints {
				selector, err := metav1.LabelSelectorAsSelector(constraint.LabelSelector)
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				if constraint.MaxSkew != 1 || constraint.WhenUnsatisfiable != corev1.ScheduleAnyway || selector.Empty() || !selector.Matches(pod) {
					t.Errorf("%s: pods with the labels %v: %v", file, pod, constraint)
				}
				spread[pod["app.kubernetes.io/name"]] += constraint.TopologyKey
			}
		}
	}
	for name, want := range map[string]string{"ipam-apiserver": node, "ipam-controller-manager": node, "ipam-etcd": zone} {
		if spread[name] != want {
			t.Errorf("%s is spread over %q, not %q", name, spread[name], want)
		}
	}
	etcd := workloads(t)["../../config/etcd/statefulset.yaml"]
	if len(etcd) != 1 {
		t.Fatalf("there are %d StatefulSets of etcd", len(etcd))
	}
	// On different nodes of a zone, too.
	preferred := etcd[0].Spec.Template.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	if !slices.ContainsFunc(preferred, func(term corev1.WeightedPodAffinityTerm) bool { return term.PodAffinityTerm.TopologyKey == node }) {
		t.Errorf("the members of etcd do not prefer different nodes: %v", preferred)
	}
}
