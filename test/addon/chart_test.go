// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	release "helm.sh/helm/v4/pkg/release/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// loadChart returns the chart of the product in a tree.
func loadChart(t testing.TB, tree string) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(filepath.Join(tree, "config/chart/ipam"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// template renders the chart as helm template does. values is YAML.
func template(t testing.TB, namespace, values string) (*release.Release, error) {
	t.Helper()
	return templateFor(t, "1.37", namespace, values)
}

// templateFor is like template for a cluster of the given minor version of Kubernetes.
func templateFor(t testing.TB, version, namespace, values string) (*release.Release, error) {
	t.Helper()
	install := action.NewInstall(helmFor(t, "", namespace))
	install.ReleaseName, install.Namespace, install.DryRunStrategy = "ipam", namespace, action.DryRunClient
	major, minor, _ := strings.Cut(version, ".")
	install.KubeVersion = &common.KubeVersion{Version: "v" + version + ".1", Major: major, Minor: minor}
	var parsed map[string]any
	if values != "" {
		parsed = harness.ParseObject(t, values)
	}
	rel, err := install.RunWithContext(t.Context(), loadChart(t, kube.Root()), parsed)
	if err != nil {
		return nil, err
	}
	return rel.(*release.Release), nil
}

// objectsOf returns the objects of a manifest by kind, namespace and name. What names a ConfigMap by its content names it
// without.
func objectsOf(t testing.TB, manifest string) map[string]*unstructured.Unstructured {
	t.Helper()
	manifest = regexp.MustCompile(`ipam-apiserver-audit-[0-9a-z]{10}\b`).ReplaceAllString(manifest, "ipam-apiserver-audit")
	objects := map[string]*unstructured.Unstructured{}
	for _, document := range regexp.MustCompile(`(?m)^---$`).Split(manifest, -1) {
		value, _ := harness.Parse(t, document).(map[string]any)
		if value == nil {
			continue
		}
		obj := &unstructured.Unstructured{Object: value}
		if data, ok := harness.At(obj, "data").(map[string]any); ok && obj.GetKind() == "ConfigMap" {
			for key, text := range data {
				data[key] = harness.Parse(t, text.(string))
			}
		}
		key := fmt.Sprintf("%s %s/%s", obj.GetKind(), obj.GetNamespace(), obj.GetName())
		if objects[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		objects[key] = obj
	}
	return objects
}

// TestChartIsKustomize renders the chart and the kustomizations: they have the same objects, but for the namespace, which
// Helm creates, and the policy that denies connections of all pods of the namespace.
func TestChartIsKustomize(t *testing.T) {
	for dir, values := range map[string]string{
		"config/default":               "",
		"config/overlays/monitoring":   "{monitoring: {enabled: true}}",
		"config/overlays/cert-manager": "{certificates: {manager: cert-manager}}",
		"config/overlays/external-etcd": "{etcd: {enabled: false}, externalEtcd: {endpoints: " +
			"['https://etcd-0.example.org:2379', 'https://etcd-1.example.org:2379', 'https://etcd-2.example.org:2379']}}",
	} {
		t.Run(dir, func(t *testing.T) {
			resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(kube.Root(), dir))
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := resources.AsYaml()
			if err != nil {
				t.Fatal(err)
			}
			rel, err := template(t, "ipam-system", values)
			if err != nil {
				t.Fatal(err)
			}
			want, got := objectsOf(t, string(manifest)), objectsOf(t, rel.Manifest)
			delete(want, "Namespace /ipam-system")
			if len(want) < 20 {
				t.Errorf("only %d objects", len(want))
			}
			// In the namespace of a release may be pods of others.
			deny := want["NetworkPolicy ipam-system/default-deny"]
			if !maps.Equal(harness.At(deny, "spec.podSelector").(map[string]any), map[string]any{}) {
				t.Errorf("the policy of the namespace is for %v", harness.At(deny, "spec.podSelector"))
			}
			deny.Object["spec"].(map[string]any)["podSelector"] = map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/part-of": "ipam"}}
			for _, key := range slices.Sorted(maps.Keys(want)) {
				if got[key] == nil {
					t.Errorf("the chart has no %s", key)
				} else {
					differ(t, key, want[key].Object, got[key].Object)
				}
				delete(got, key)
			}
			for key := range got {
				t.Errorf("kustomize has no %s", key)
			}
		})
	}
}

// TestChartClusterAPI compares the provider of Cluster API in the chart with the kustomization of it. In the chart it is in
// the namespace of the release, has no label of clusterctl, and needs a NetworkPolicy.
func TestChartClusterAPI(t *testing.T) {
	kustomize := func(dir string) (count int, manifest string) {
		t.Helper()
		resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(kube.Root(), dir))
		if err != nil {
			t.Fatal(err)
		}
		text, err := resources.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		return resources.Size(), string(text)
	}
	size, manifest := kustomize("config/clusterapi")
	const label = "cluster.x-k8s.io/provider: ipam-ironcore"
	if n := strings.Count(manifest, label); n != size {
		t.Errorf("%d of %d objects have the label %s", n, size, label)
	}
	without := regexp.MustCompile(`(?m)^ +`+label+`\n`).ReplaceAllString(manifest, "")
	without = regexp.MustCompile(`(?m)^  labels:\n(  [a-z]|[a-z])`).ReplaceAllString(without, "$1")
	_, monitoring := kustomize("config/clusterapi/monitoring")
	want := objectsOf(t, strings.ReplaceAll(without+"---\n"+monitoring, "ipam-cluster-api-system", "ipam-system"))
	delete(want, "Namespace /ipam-system")
	off, err := template(t, "ipam-system", "{monitoring: {enabled: true}}")
	if err != nil {
		t.Fatal(err)
	}
	on, err := template(t, "ipam-system", "{monitoring: {enabled: true}, clusterAPI: {enabled: true}}")
	if err != nil {
		t.Fatal(err)
	}
	got := objectsOf(t, on.Manifest)
	for key := range objectsOf(t, off.Manifest) {
		delete(got, key)
	}
	if policy := "NetworkPolicy ipam-system/ipam-cluster-api"; got[policy] == nil {
		t.Errorf("there is no %s", policy)
	} else {
		delete(got, policy)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] == nil {
			t.Errorf("the chart has no %s", key)
		} else {
			differ(t, key, want[key].Object, got[key].Object)
		}
		delete(got, key)
	}
	for key := range got {
		t.Errorf("kustomize has no %s", key)
	}
}

// TestScraping looks whether the NetworkPolicies of the chart let Prometheus reach each port that a monitor names.
func TestScraping(t *testing.T) {
	rel, err := template(t, "ipam-system", "{monitoring: {enabled: true}, clusterAPI: {enabled: true}}")
	if err != nil {
		t.Fatal(err)
	}
	objects := objectsOf(t, rel.Manifest)
	ofKind := func(kinds ...string) (found []*unstructured.Unstructured) {
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if slices.Contains(kinds, objects[key].GetKind()) {
				found = append(found, objects[key])
			}
		}
		return found
	}
	selects := func(selector any, of labels.Set) bool {
		t.Helper()
		var s metav1.LabelSelector
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(selector.(map[string]any), &s); err != nil {
			t.Fatal(err)
		}
		parsed, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Matches(of)
	}
	scraped := map[string]bool{}
	for _, workload := range ofKind("Deployment", "StatefulSet") {
		var template corev1.PodTemplateSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(harness.At(workload, "spec.template").(map[string]any), &template); err != nil {
			t.Fatal(err)
		}
		pod := labels.Set(template.Labels)
		named := map[any]int64{}
		for _, port := range template.Spec.Containers[0].Ports {
			named[port.Name] = int64(port.ContainerPort)
		}
		var ports []int64
		for _, monitor := range ofKind("PodMonitor") {
			for _, endpoint := range harness.At(monitor, "spec.podMetricsEndpoints").([]any) {
				if selects(harness.At(monitor, "spec.selector"), pod) {
					ports = append(ports, named[endpoint.(map[string]any)["port"]])
				}
			}
		}
		for _, monitor := range ofKind("ServiceMonitor") {
			for _, service := range ofKind("Service") {
				if !selects(harness.At(monitor, "spec.selector"), service.GetLabels()) || !selects(map[string]any{"matchLabels": harness.At(service, "spec.selector")}, pod) {
					continue
				}
				for _, endpoint := range harness.At(monitor, "spec.endpoints").([]any) {
					for _, port := range harness.At(service, "spec.ports").([]any) {
						if port := port.(map[string]any); port["name"] == endpoint.(map[string]any)["port"] {
							ports = append(ports, named[port["targetPort"]])
						}
					}
				}
			}
		}
		for _, port := range ports {
			allowed := slices.ContainsFunc(ofKind("NetworkPolicy"), func(o *unstructured.Unstructured) bool {
				var policy networkingv1.NetworkPolicy
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &policy); err != nil {
					t.Fatal(err)
				}
				return selects(harness.At(o, "spec.podSelector"), pod) && slices.ContainsFunc(policy.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
					return (len(rule.From) == 0 || slices.ContainsFunc(rule.From, func(peer networkingv1.NetworkPolicyPeer) bool {
						return peer.PodSelector == nil && peer.NamespaceSelector != nil && peer.NamespaceSelector.MatchLabels["metrics"] == "enabled"
					})) && slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == int32(port) })
				})
			})
			if !allowed {
				t.Errorf("no NetworkPolicy lets Prometheus reach port %d of %s", port, workload.GetName())
			}
			scraped[workload.GetName()] = true
		}
	}
	if want := []string{"ipam-apiserver", "ipam-certificate-controller", "ipam-cluster-api", "ipam-controller-manager", "ipam-etcd"}; !slices.Equal(slices.Sorted(maps.Keys(scraped)), want) {
		t.Errorf("monitors select %v, not %v", slices.Sorted(maps.Keys(scraped)), want)
	}
}

// differ reports where two values differ.
func differ(t testing.TB, path string, want, got any) {
	t.Helper()
	wantMap, ok := want.(map[string]any)
	gotMap, gotOK := got.(map[string]any)
	if !ok || !gotOK {
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s: the chart has %v, and kustomize %v", path, got, want)
		}
		return
	}
	for key := range maps.Keys(wantMap) {
		differ(t, path+"."+key, wantMap[key], gotMap[key])
	}
	for key := range gotMap {
		if _, ok := wantMap[key]; !ok {
			t.Errorf("%s.%s: the chart has %v, and kustomize nothing", path, key, gotMap[key])
		}
	}
}

// TestChartValues sets every value to something else, and finds that in the manifests.
func TestChartValues(t *testing.T) {
	for name, c := range map[string]struct {
		values string
		// want are lines, trimmed, that the manifests have only with the values. without are lines that they lose.
		want, without []string
	}{
		"image": {"{image: {registry: example.org, repository: a/b, tag: v9, pullPolicy: Always}}",
			[]string{"image: example.org/a/b:v9", "imagePullPolicy: Always"}, []string{"image: ghcr.io/ironcore-dev/ipam-apiserver:v0.0.0-unreleased"}},
		"pull secrets":  {"{imagePullSecrets: [{name: login}]}", []string{"imagePullSecrets:", "- name: login"}, nil},
		"priority":      {"{priorityClassName: mine}", []string{"priorityClassName: mine"}, []string{"priorityClassName: system-cluster-critical"}},
		"no policies":   {"{networkPolicies: {enabled: false}}", nil, []string{"kind: NetworkPolicy"}},
		"no budgets":    {"{podDisruptionBudgets: {enabled: false}}", nil, []string{"kind: PodDisruptionBudget"}},
		"monitoring":    {"{monitoring: {enabled: true, labels: {release: prometheus}}}", []string{"kind: ServiceMonitor", "kind: PrometheusRule", "release: prometheus"}, nil},
		"one member":    {"{etcd: {replicas: 1}}", []string{"- --etcd-servers=https://ipam-etcd-0.ipam-etcd.ipam-system.svc:2379", "- --initial-cluster=ipam-etcd-0=https://ipam-etcd-0.ipam-etcd.ipam-system.svc:2380", "replicas: 1"}[:2], nil},
		"storage":       {"{etcd: {storage: {size: 1Gi, className: fast}}}", []string{"storage: 1Gi", "storageClassName: fast"}, []string{"storage: 10Gi"}},
		"etcd image":    {"{etcd: {image: {registry: example.org, repository: etcd, tag: v8, pullPolicy: Never}}}", []string{"image: example.org/etcd:v8", "imagePullPolicy: Never"}, []string{"image: quay.io/coreos/etcd:v3.7.3"}},
		"memory":        {"{apiserver: {resources: {limits: {memory: 1000Mi}}}}", []string{"value: 900MiB", "memory: 1000Mi"}, nil},
		"audit policy":  {"{apiserver: {auditPolicy: {rules: [{level: Request}]}}}", []string{"- level: Request"}, []string{"- level: Metadata"}},
		"API server":    {"{apiserver: " + everywhere + "}", everywhereLines, nil},
		"manager":       {"{controllerManager: " + everywhere + "}", everywhereLines, nil},
		"certificates":  {"{certificates: {controller: " + everywhere + "}}", everywhereLines, nil},
		"etcd":          {"{etcd: " + everywhere + "}", everywhereLines, nil},
		"Cluster API":   {"{clusterAPI: {enabled: true, " + everywhere[1:] + "}", everywhereLines, nil},
		"replicas":      {"{apiserver: {replicas: 7}, controllerManager: {replicas: 8}}", []string{"replicas: 7", "replicas: 8"}, []string{"replicas: 2"}},
		"external etcd": {"{etcd: {enabled: false}, externalEtcd: {endpoints: ['https://a:1']}}", []string{"- --etcd-servers=https://a:1", "name: ipam-apiserver-etcd"}, []string{"kind: StatefulSet", "- --certificate-etcd-service=ipam-etcd"}},
		"no affinity":   {"{etcd: {affinity: null}}", nil, []string{"podAntiAffinity:"}},
		"cert-manager":  {"{certificates: {manager: cert-manager}}", []string{"kind: Certificate", "cert-manager.io/inject-ca-from: ipam-system/ipam-apiserver-tls"}, []string{"- certificates"}},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := template(t, "ipam-system", "")
			if err != nil {
				t.Fatal(err)
			}
			rel, err := template(t, "ipam-system", c.values)
			if err != nil {
				t.Fatal(err)
			}
			before, after := linesOf(plain.Manifest), linesOf(rel.Manifest)
			for _, line := range c.want {
				if before[line] || !after[line] {
					t.Errorf("%q is there before: %v, after: %v", line, before[line], after[line])
				}
			}
			for _, line := range c.without {
				if !before[line] || after[line] {
					t.Errorf("%q is there before: %v, after: %v", line, before[line], after[line])
				}
			}
		})
	}
}

// TestChartWithoutEtcd renders the chart with the certificates of cert-manager, and no etcd: it asks for none of etcd.
func TestChartWithoutEtcd(t *testing.T) {
	const manager, external = "certificates: {manager: cert-manager}", "etcd: {enabled: false}, externalEtcd: {endpoints: ['https://a:1']}"
	for values, want := range map[string]bool{"{" + manager + "}": true, "{" + manager + ", " + external + "}": false} {
		rel, err := template(t, "ipam-system", values)
		if err != nil {
			t.Fatal(err)
		}
		if got := objectsOf(t, rel.Manifest)["Certificate ipam-system/ipam-etcd-tls"] != nil; got != want {
			t.Errorf("%s: a certificate of etcd: %v", values, got)
		}
	}
}

// TestChartLeavesOtherPodsAlone requires that no NetworkPolicy of the chart is for pods that are not of the chart, unless they
// have the label of a client of etcd, and that the one that denies is for all of its own.
func TestChartLeavesOtherPodsAlone(t *testing.T) {
	rel, err := template(t, "kube-system", "{clusterAPI: {enabled: true}}")
	if err != nil {
		t.Fatal(err)
	}
	selector := func(o *unstructured.Unstructured) labels.Selector {
		t.Helper()
		var s metav1.LabelSelector
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(harness.At(o, "spec.podSelector").(map[string]any), &s); err != nil {
			t.Fatal(err)
		}
		parsed, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	objects := objectsOf(t, rel.Manifest)
	pods := 0
	for key, o := range objects {
		switch o.GetKind() {
		case "NetworkPolicy":
			if selector(o).Matches(labels.Set{"app.kubernetes.io/name": "coredns", "k8s-app": "kube-dns"}) {
				t.Errorf("%s is for the pods of others", key)
			}
		case "Deployment", "StatefulSet":
			pods++
			of := labels.Set{}
			for name, value := range harness.At(o, "spec.template.metadata.labels").(map[string]any) {
				of[name] = value.(string)
			}
			if deny := objects["NetworkPolicy kube-system/default-deny"]; !selector(deny).Matches(of) {
				t.Errorf("nothing denies connections of %s", key)
			}
		}
	}
	if pods != 5 {
		t.Errorf("there are %d kinds of pods", pods)
	}
}

// TestChartTraces renders the chart with the values of docs/operating/tracing.md: both programs get the file.
func TestChartTraces(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(kube.Root(), "docs/operating/tracing.md"))
	if err != nil {
		t.Fatal(err)
	}
	values := regexp.MustCompile("(?s)```yaml\n(# values.yaml\n.*?)```").FindSubmatch(page)
	if values == nil {
		t.Fatal("no values on the page")
	}
	rel, err := template(t, "ipam-system", string(values[1]))
	if err != nil {
		t.Fatal(err)
	}
	objects := objectsOf(t, rel.Manifest)
	for _, name := range []string{"ipam-apiserver", "ipam-controller-manager"} {
		var pod corev1.PodTemplateSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(harness.At(objects["Deployment ipam-system/"+name], "spec.template").(map[string]any), &pod); err != nil {
			t.Fatal(err)
		}
		container := pod.Spec.Containers[0]
		if flag := "--tracing-config-file=/etc/ipam/tracing/tracing.yaml"; !slices.Contains(container.Args, flag) {
			t.Errorf("%s: no %s in %q", name, flag, container.Args)
		}
		if !slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "tracing" && m.MountPath == "/etc/ipam/tracing" }) ||
			!slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
				return v.Name == "tracing" && v.ConfigMap != nil && v.ConfigMap.Name == "ipam-tracing"
			}) {
			t.Errorf("%s has no file: %v, %v", name, container.VolumeMounts, pod.Spec.Volumes)
		}
	}
}

// everywhere has the values that all components have, and everywhereLines what they add to the manifests.
const everywhere = "{extraArgs: ['--v=7'], podLabels: {my: label}, podAnnotations: {my: annotation}, nodeSelector: {my: node}, " +
	"tolerations: [{key: mine, operator: Exists}], affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}, " +
	"extraEnv: [{name: MINE, value: x}], extraVolumes: [{name: my-files, configMap: {name: my-config}}], extraVolumeMounts: [{name: my-files, mountPath: /my}]}"

var everywhereLines = []string{`- "--v=7"`, "my: label", "my: annotation", "my: node", "- key: mine", "nodeAffinity:",
	"- name: MINE", "name: my-config", "- mountPath: /my", "name: my-files"}

func linesOf(manifest string) map[string]bool {
	lines := map[string]bool{}
	for line := range strings.Lines(manifest) {
		lines[strings.TrimSpace(line)] = true
	}
	return lines
}

// TestChartRefuses renders the chart with values that are wrong. The schema says what is.
func TestChartRefuses(t *testing.T) {
	for values, want := range map[string]string{
		"{imgae: {tag: v1}}":                                          "imgae",
		"{image: {tags: v1}}":                                         "tags",
		"{apiserver: {replicas: two}}":                                "replicas",
		"{apiserver: {replicas: 0}}":                                  "replicas",
		"{apiserver: {extraArgs: [v=7]}}":                             "extraArgs",
		"{apiserver: {extraVolumes: [{emptyDir: {}}]}}":               "extraVolumes",
		"{apiserver: {extraVolumeMounts: [{name: a}]}}":               "extraVolumeMounts",
		"{apiserver: {extraEnv: [{value: a}]}}":                       "extraEnv",
		"{apiserver: {resources: {limits: {memory: 2G}}}}":            "memory",
		"{etcd: {replicas: 2}}":                                       "replicas",
		"{certificates: {manager: somebody}}":                         "manager",
		"{etcd: {enabled: false}}":                                    "externalEtcd.endpoints must be set",
		"{externalEtcd: {endpoints: ['http://plain.example.org:1']}}": "endpoints",
		// Helm leaves out what is set to null.
		"{image: null}":                                 "image",
		"{image: {registry: null}}":                     "registry",
		"{apiserver: {replicas: null}}":                 "replicas",
		"{apiserver: {resources: null}}":                "resources",
		"{apiserver: {resources: {limits: null}}}":      "limits",
		"{etcd: {resources: {limits: {memory: null}}}}": "memory",
		"{apiserver: {auditPolicy: null}}":              "apiserver.auditPolicy must be set",
		"{certificates: null}":                          "certificates",
		"{etcd: {storage: {size: null}}}":               "size",
		"{podDisruptionBudgets: {enabled: null}}":       "enabled",
	} {
		if _, err := template(t, "ipam-system", values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", values, err)
		}
	}
}

// TestChartInAnotherNamespace looks for the namespace of the kustomizations in what is rendered for another one.
func TestChartInAnotherNamespace(t *testing.T) {
	for _, values := range []string{"", "{certificates: {manager: cert-manager}}"} {
		rel, err := template(t, "other", values)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{rel.Manifest, rel.Info.Notes} {
			if strings.Contains(text, "ipam-system") {
				t.Errorf("it has ipam-system: %s", text)
			}
		}
		if values == "" && !strings.Contains(rel.Manifest, "--certificate-namespace=other") {
			t.Error("the certificate controller does not know the namespace")
		}
	}
}

// TestChartForOldClusters renders the chart for clusters that do not serve what an admission plugin watches, and for one
// that is too old.
func TestChartForOldClusters(t *testing.T) {
	const without = "- --disable-admission-plugins=MutatingAdmissionPolicy"
	for version, want := range map[string]bool{"1.30": true, "1.35": true, "1.36": false, "1.37": false} {
		rel, err := templateFor(t, version, "ipam-system", "")
		if err != nil {
			t.Fatal(err)
		}
		if got := linesOf(rel.Manifest)[without]; got != want {
			t.Errorf("Kubernetes %s: %q is there: %v", version, without, got)
		}
	}
	if _, err := templateFor(t, "1.29", "ipam-system", ""); err == nil || !strings.Contains(err.Error(), "kubeVersion") {
		t.Errorf("Kubernetes 1.29: %v", err)
	}
}
