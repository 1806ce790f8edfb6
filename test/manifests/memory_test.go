// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package manifests checks the manifests of config/ without a cluster.
package manifests

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// workload has the fields that Deployments and StatefulSets have in common.
type workload struct {
	Kind string
	Spec struct{ Template corev1.PodTemplateSpec }
}

// workloads returns every Deployment and StatefulSet below config/, by file.
func workloads(t *testing.T) map[string][]workload {
	t.Helper()
	found := map[string][]workload{}
	err := filepath.WalkDir("../../config", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
		for {
			var w workload
			if err := decoder.Decode(&w); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				// Not every file is a list of objects. A kustomization may contain patches.
				return nil
			}
			if w.Kind == "Deployment" || w.Kind == "StatefulSet" {
				found[path] = append(found[path], w)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestMemoryLimits requires that each program has a memory limit somewhat below that of its container. The kernel
// kills a program at the limit of the container, and the Go runtime does not count all memory that the kernel
// counts.
func TestMemoryLimits(t *testing.T) {
	checked := 0
	for path, all := range workloads(t) {
		for _, w := range all {
			for _, container := range w.Spec.Template.Spec.Containers {
				limit, ok := container.Resources.Limits[corev1.ResourceMemory]
				if !ok {
					if len(container.Resources.Limits) == 0 && container.Image == "" {
						continue // A patch.
					}
					t.Errorf("%s: container %s has no memory limit", path, container.Name)
					continue
				}
				checked++
				value := ""
				for _, variable := range container.Env {
					if variable.Name == "GOMEMLIMIT" {
						value = variable.Value
					}
				}
				soft, err := resource.ParseQuantity(strings.TrimSuffix(value, "B"))
				if err != nil {
					t.Errorf("%s: container %s has GOMEMLIMIT %q: %v", path, container.Name, value, err)
					continue
				}
				if share := soft.AsApproximateFloat64() / limit.AsApproximateFloat64(); share < 0.85 || share > 0.9 {
					t.Errorf("%s: container %s has GOMEMLIMIT %s, which is %.0f %% of its limit %s, not 85 to 90 %%",
						path, container.Name, value, share*100, limit.String())
				}
			}
		}
	}
	if checked < 3 {
		t.Errorf("found %d containers only", checked)
	}
}
