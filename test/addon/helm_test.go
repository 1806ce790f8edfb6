// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// helmFor returns a configuration of Helm for a namespace. The releases are in memory: the server has no Secrets.
func helmFor(t testing.TB, kubeconfig, namespace string) *action.Configuration {
	t.Helper()
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.Namespace = &kubeconfig, &namespace
	config := action.NewConfiguration()
	if err := config.Init(flags, namespace, "memory"); err != nil {
		t.Fatal(err)
	}
	config.Releases = storage.Init(driver.NewMemory())
	return config
}

// installChart installs a chart with one manifest, as helm install --wait does.
func installChart(t testing.TB, namespace, name, manifest string, timeout time.Duration) error {
	t.Helper()
	install := action.NewInstall(helmFor(t, shared.Kubeconfig, namespace))
	install.ReleaseName, install.Namespace = name, namespace
	install.WaitStrategy, install.Timeout = kube.StatusWatcherStrategy, timeout
	_, err := install.RunWithContext(t.Context(), &chart.Chart{
		Metadata:  &chart.Metadata{APIVersion: chart.APIVersionV2, Name: name, Version: "1.0.0"},
		Templates: []*common.File{{Name: "templates/manifest.yaml", Data: []byte(manifest)}},
	}, nil)
	return err
}

const prefixManifest = "apiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\n"

// TestHelmWaits installs charts with Prefixes with Helm's own wait.
func TestHelmWaits(t *testing.T) {
	const pool = prefixManifest + "metadata: {name: pool}\nspec: {prefix: 10.0.0.0/16}\n---\n"

	t.Run("until the Prefixes are allocated", func(t *testing.T) {
		namespace := harness.NewNamespace()
		err := installChart(t, namespace, "good", pool+prefixManifest+"metadata: {name: subnet}\nspec: {prefixLength: 24, parentRef: {name: pool}}\n", harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"pool", "subnet"} {
			prefix, err := shared.Client.Prefixes(namespace).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				t.Errorf("Helm did not wait for %s: %v, %v", name, prefix, err)
			}
		}
	})

	t.Run("not for what can never be", func(t *testing.T) {
		began := time.Now()
		err := installChart(t, harness.NewNamespace(), "impossible", pool+prefixManifest+"metadata: {name: huge}\nspec: {prefixLength: 8, parentRef: {name: pool}}\n", harness.Patience)
		if err == nil || !strings.Contains(err.Error(), "status: Failed, message: pool (10.0.0.0/16) is too small to hold a /8") {
			t.Errorf("got %v", err)
		}
		if time.Since(began) >= harness.Patience {
			t.Error("Helm waited until the timeout")
		}
	})

	t.Run("until the timeout for what may come", func(t *testing.T) {
		namespace := harness.NewNamespace()
		err := installChart(t, namespace, "waits", prefixManifest+"metadata: {name: subnet}\nspec: {prefixLength: 24, parentRef: {name: later}}\n", 2*time.Second)
		if err == nil || !strings.Contains(err.Error(), "status: InProgress") {
			t.Errorf("got %v", err)
		}
	})
}
