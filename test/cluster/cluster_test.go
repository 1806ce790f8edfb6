// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// TestCluster installs the product once, and tests it in many ways.
func TestCluster(t *testing.T) {
	i := install(t, 1, 2, 2)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *installation)
	}{
		{"manifests are accepted", testManifests},
		{"kubectl", testKubectl},
		{"kubectl ipam", testPlugin},
		{"deletion", testDeletion},
		{"sample API server conformance", testConformance},
		{"namespace deletion", testNamespaceDeletion},
		{"owner references", testOwnerReferences},
		{"quota", testQuota},
		{"who may do what", testRoles},
		{"policies", testPolicies},
		{"sharing", testSharing},
		{"who somebody is", testIdentity},
		{"what the accounts of the controllers may do", testAccounts},
		{"tokens of the controllers", testDirectToken},
		{"audit log", testAuditLog},
		{"flow schema", testFlowSchema},
		{"many children", testManyChildren},
		// These stop and start programs, so they come last.
		{"certificates", testCertificates},
		{"rolling restart", testRollingRestart},
		{"killed API server", testKilledServer},
		{"killed leader", testKilledLeader},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			of := *i.Installation
			cluster := *i.Cluster
			cluster.TB, of.Cluster = t, &cluster
			test.run(t, &installation{&of})
			i.Servers, i.Managers = of.Servers, of.Managers
		}) && i.APIServer.HasEnded() {
			t.Fatal("kube-apiserver has ended")
		}
	}
	i.Audited()
}

func testManifests(t *testing.T, i *installation) {
	admin := i.Kubectl(i.AdminKubeconfig)
	for _, dir := range []string{"config/default", "config/overlays/external-etcd"} {
		out := admin.Run("apply", "--dry-run=server", "-k", dir)
		if want := "deployment.apps/ipam-apiserver"; !strings.Contains(out, want) {
			t.Errorf("%s: no %s in:\n%s", dir, want, out)
		}
	}
	// There are at least two of each.
	for _, name := range []string{"ipam-apiserver", "ipam-controller-manager"} {
		d, err := i.Client.AppsV1().Deployments(product.Namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if *d.Spec.Replicas < 2 {
			t.Errorf("%s has %d replicas", name, *d.Spec.Replicas)
		}
	}
	// The namespace enforces the restricted Pod Security Standard. A pod with the template of each Deployment must
	// be admitted.
	for _, name := range []string{"ipam-apiserver", "ipam-controller-manager", "ipam-certificate-controller"} {
		d, err := i.Client.AppsV1().Deployments(product.Namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-", Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec}
		if _, err := i.Client.CoreV1().Pods(product.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			t.Error(err)
		}
	}
	set, err := i.Client.AppsV1().StatefulSets(product.Namespace).Get(t.Context(), "ipam-etcd", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "ipam-etcd-test"}, Spec: set.Spec.Template.Spec}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	if _, err := i.Client.CoreV1().Pods(product.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Error(err)
	}
}

// contains fails the test unless a text contains all parts.
func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}

func testKubectl(t *testing.T, i *installation) {
	u := i.newUser("team-a", "edit")
	u.in("apply", "-k", "config/samples")
	u.in("wait", "--for=condition=Allocated", "prefix/customer-subnet-1", "prefix/customer-subnet-2", "prefix/customer-subnet-3",
		"prefix/customer-subnet-ipv6-1", "prefix/customer-subnet-ipv6-2", "--timeout=60s")
	u.in("wait", "--for=jsonpath={.status.conditions[0].reason}=NoSuitableParent", "prefix/too-large", "--timeout=60s")

	lines := strings.Split(strings.TrimSpace(u.in("get", "prefixes")), "\n")
	if fields := strings.Fields(lines[0]); !slices.Equal(fields, []string{"NAME", "PREFIX", "PARENT", "PHASE", "AGE"}) || len(lines) != 11 {
		t.Errorf("get: %s", strings.Join(lines, "\n"))
	}
	lines = strings.Split(u.in("get", "pfx", "-o", "wide"), "\n")
	if fields := strings.Fields(lines[0]); !slices.Equal(fields, []string{"NAME", "PREFIX", "PARENT", "PHASE", "AGE", "FAMILY", "USED", "FREE", "USE%"}) {
		t.Errorf("get -o wide: %s", strings.Join(lines, "\n"))
	}
	lines = strings.Split(u.in("get", "pfxa"), "\n")
	if fields := strings.Fields(lines[0]); !slices.Equal(fields, []string{"NAME", "PARENT", "REQUEST", "PHASE", "PREFIX", "AGE"}) {
		t.Errorf("get prefixallocations: %s", strings.Join(lines, "\n"))
	}
	contains(t, u.in("get", "ipam"), "prefix.ipam.ironcore.dev/root", "prefixallocation.ipam.ironcore.dev/customer-subnet-1-")
	contains(t, u.in("get", "pfx", "--field-selector", "status.phase=Pending", "-o", "name"), "too-large")

	// The controllers create the events.
	i.Eventually("describe shows why", func() error {
		out := u.in("describe", "prefix", "too-large")
		for _, part := range []string{"NoSuitableParent", "small-root (192.168.0.0/24) is too small to hold a /9", "Events:", "Warning  NoSuitableParent"} {
			if !strings.Contains(out, part) {
				return fmt.Errorf("no %q in:\n%s", part, out)
			}
		}
		return nil
	})
	contains(t, strings.Join(strings.Fields(u.in("describe", "prefix", "customer-subnet-1")), " "), "Normal Allocated", "ipam-controller-manager Allocated 1")
	contains(t, u.Run("explain", "prefix", "--recursive"), "parentSelector", "matchLabels", "lastPhaseTransitionTime", "largestFree")
	contains(t, u.Run("explain", "prefix.spec.parentSelector"), "FIELD: parentSelector", "LabelSelector")
	contains(t, u.Run("api-resources", "--categories=ipam"), "prefixes", "pfx", "prefixallocations", "pfxa")
	contains(t, u.in("auth", "can-i", "--list"), "prefixes.ipam.ironcore.dev", "prefixallocations.ipam.ironcore.dev")

	contains(t, u.in("apply", "--server-side", "-f", "config/samples/ipv6.yaml", "--field-manager=another", "--force-conflicts"), "serverside-applied")
	if out := u.in("diff", "-k", "config/samples"); out != "" {
		t.Errorf("diff after apply: %s", out)
	}
	changed := "apiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\nmetadata: {name: root, labels: {subnet-type: private}}\nspec: {prefix: 10.0.0.0/8}\n"
	out, _, err := u.Try(changed, "-n", u.namespace, "diff", "-f", "-")
	if err == nil || !strings.Contains(out, "+    subnet-type: private") {
		t.Errorf("diff of a change: %v: %s", err, out)
	}
	_, errOut, err := u.Try(strings.Replace(changed, "10.0.0.0/8", "10.0.0.1/8", 1), "-n", u.namespace, "create", "-f", "-")
	if err == nil || !strings.Contains(errOut, "spec.prefix: Invalid value") {
		t.Errorf("a mistake: %v: %s", err, errOut)
	}
	// The output of get can be applied again. That changes only the annotations of kubectl.
	for _, name := range []string{"root", "customer-subnet-1", "too-large"} {
		said := func() string {
			return u.in("get", "prefix", name, "-o", "jsonpath={.metadata.generation} {.spec} {.status}")
		}
		before := said()
		u.Apply(u.in("get", "prefix", name, "-o", "yaml"), "apply", "-f", "-")
		if after := said(); after != before {
			t.Errorf("applied as it was read: %s, was %s", after, before)
		}
	}

	groups, err := i.Client.Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == "ipam.ironcore.dev" }) {
		t.Error("discovery does not list the group")
	}
	i.Eventually("OpenAPI lists the group", func() error {
		if out := u.Run("get", "--raw", "/openapi/v3"); !strings.Contains(out, "apis/ipam.ironcore.dev/v1alpha1") {
			return fmt.Errorf("v3 does not")
		}
		if out := u.Run("get", "--raw", "/openapi/v2"); !strings.Contains(out, "/apis/ipam.ironcore.dev/v1alpha1/namespaces/{namespace}/prefixes") {
			return fmt.Errorf("v2 does not")
		}
		return nil
	})

	u.in("delete", "-k", "config/samples", "--timeout=60s")
	if out := u.in("get", "ipam", "-o", "name"); out != "" {
		t.Errorf("there is still: %s", out)
	}
}

func testDeletion(t *testing.T, i *installation) {
	u := i.newUser("team-delete", "edit")
	for _, cascade := range []string{"foreground", "background", "orphan"} {
		if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), root("root", "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), child("child", "root", 16), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		u.waitAllocated(2)
		// The root waits for its child, and its condition says so.
		u.in("delete", "prefix", "root", "--cascade="+cascade, "--wait=false")
		u.in("wait", "--for=condition=Deletable=False", "prefix/root", "--timeout=60s")
		u.in("delete", "prefix", "child", "--cascade="+cascade, "--timeout=60s")
		u.in("wait", "--for=delete", "prefix/root", "--timeout=60s")
		i.Eventually("nothing is left", func() error {
			if out := u.in("get", "ipam", "-o", "name"); out != "" {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
}

// testConformance repeats the steps of the Kubernetes conformance test with a sample API server, and watches
// meanwhile.
func testConformance(t *testing.T, i *installation) {
	service, err := i.Client.Discovery().ServerResourcesForGroupVersion("ipam.ironcore.dev/v1alpha1")
	if err != nil || len(service.APIResources) == 0 {
		t.Fatalf("resources: %v, %v", service, err)
	}
	bundle := i.Kubectl(i.AdminKubeconfig).Run("get", "apiservice", product.APIService, "-o", "jsonpath={.spec.caBundle} {.spec.insecureSkipTLSVerify}")
	if parts := strings.SplitN(bundle, " ", 2); len(parts[0]) == 0 || len(parts) > 1 && parts[1] == "true" {
		t.Errorf("the certificate of the API server is not verified: %q", bundle)
	}

	u := i.newUser("team-conformance", "edit")
	prefixes := u.client.Prefixes(u.namespace)
	w, err := prefixes.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	name := "flunder"
	if _, err := prefixes.Create(t.Context(), root(name, "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := prefixes.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil || got.Name != name {
		t.Fatalf("get: %v, %v", got, err)
	}
	list, err := prefixes.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("list: %v, %v", list, err)
	}
	i.Eventually("updated", func() error {
		got, err := prefixes.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Labels = map[string]string{"updated": "yes"}
		_, err = prefixes.Update(t.Context(), got, metav1.UpdateOptions{})
		return err
	})
	list, err = prefixes.List(t.Context(), metav1.ListOptions{LabelSelector: "updated=yes"})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("list by label: %v, %v", list, err)
	}
	if err := prefixes.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Eventually("gone", func() error {
		if _, err := prefixes.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is not: %v", err)
		}
		return nil
	})
	var events []string
	for len(events) == 0 || events[len(events)-1] != "DELETED" {
		select {
		case event := <-w.ResultChan():
			events = append(events, string(event.Type))
		case <-time.After(time.Minute):
			t.Fatalf("watched only: %v", events)
		}
	}
	if events[0] != "ADDED" || !slices.Contains(events, "MODIFIED") {
		t.Errorf("watched: %v", events)
	}
	for _, version := range []string{"", "0"} {
		list, err := prefixes.List(t.Context(), metav1.ListOptions{ResourceVersion: version})
		if err != nil || version == "" && len(list.Items) != 0 {
			t.Errorf("list at %q: %v, %v", version, list, err)
		}
	}
	if err := prefixes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

func testNamespaceDeletion(t *testing.T, i *installation) {
	u := i.newUser("team-namespace", "edit")
	prefixes := u.client.Prefixes(u.namespace)
	create := func(p *v1alpha1.Prefix) {
		t.Helper()
		if _, err := prefixes.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create(root("root", "10.0.0.0/8"))
	create(child("middle", "root", 12))
	for n := range 20 {
		create(child(fmt.Sprintf("leaf-%d", n), "middle", 24))
	}
	create(child("never", "nobody", 24))
	u.waitAllocated(22)
	start := time.Now()
	if err := i.Client.CoreV1().Namespaces().Delete(t.Context(), u.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Eventually("the namespace is gone", func() error {
		ns, err := i.Client.CoreV1().Namespaces().Get(t.Context(), u.namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%v, %v", ns.Status.Conditions, err)
	})
	t.Logf("the namespace with 23 prefixes was gone after %v", time.Since(start).Round(time.Millisecond))
	// Nothing is created in a namespace that does not exist.
	if _, err := i.IPAM.IpamV1alpha1().Prefixes(u.namespace).Create(t.Context(), root("late", "10.0.0.0/8"), metav1.CreateOptions{}); !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		t.Errorf("a Prefix in a namespace that is gone: %v", err)
	}
}

// testOwnerReferences shows that the garbage collector of the cluster deletes a Prefix together with its owner.
func testOwnerReferences(t *testing.T, i *installation) {
	u := i.newUser("team-owner", "edit")
	owner, err := i.Client.CoreV1().ConfigMaps(u.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), root("root", "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	owned := child("owned", "root", 16)
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), owned, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	u.waitAllocated(2)
	if err := i.Client.CoreV1().ConfigMaps(u.namespace).Delete(t.Context(), owner.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Eventually("what was owned is gone", func() error {
		prefixes, err := u.client.Prefixes(u.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		allocations, err := u.client.PrefixAllocations(u.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(prefixes.Items) != 1 || len(allocations.Items) != 0 {
			return fmt.Errorf("there are %d prefixes and %d allocations", len(prefixes.Items), len(allocations.Items))
		}
		return nil
	})
}

func testQuota(t *testing.T, i *installation) {
	u := i.newUser("team-quota", "edit")
	quotas := i.Client.CoreV1().ResourceQuotas(u.namespace)
	// The quota of docs/operating/capacity.md, with a smaller number.
	page, err := os.ReadFile(filepath.Join(kube.Root(), "docs/operating/capacity.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```yaml\n(apiVersion: v1\nkind: ResourceQuota\n.*?)^```$").FindSubmatch(page)
	if block == nil {
		t.Fatal("the page has no ResourceQuota")
	}
	manifest := regexp.MustCompile(`(count/prefixes.ipam.ironcore.dev): .*`).ReplaceAllString(string(block[1]), `$1: "2"`)
	i.Kubectl(i.AdminKubeconfig).Apply(strings.Replace(manifest, "namespace: team-a", "namespace: "+u.namespace, 1), "create", "-f", "-")
	i.Eventually("the quota is counted", func() error {
		quota, err := quotas.Get(t.Context(), "ipam", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if _, ok := quota.Status.Used["count/prefixes.ipam.ironcore.dev"]; !ok {
			return fmt.Errorf("%v", quota.Status)
		}
		return nil
	})
	for n := range 3 {
		if _, err = u.client.Prefixes(u.namespace).Create(t.Context(), root(fmt.Sprintf("root-%d", n), fmt.Sprintf("%d.0.0.0/8", 10+n)), metav1.CreateOptions{}); err != nil && n < 2 {
			t.Fatal(err)
		}
	}
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "exceeded quota: ipam, requested: count/prefixes.ipam.ironcore.dev=1, used: count/prefixes.ipam.ironcore.dev=2, limited: count/prefixes.ipam.ironcore.dev=2") {
		t.Errorf("the third of two: %v", err)
	}
	u.waitAllocated(2)
}

func testManyChildren(t *testing.T, i *installation) {
	u := i.newUser("team-many", "edit")
	prefixes := u.client.Prefixes(u.namespace)
	if _, err := prefixes.Create(t.Context(), root("root", "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	u.waitAllocated(1)
	const children, creators = 1000, 32
	watchAllocated := func() watch.Interface {
		watcher, err := prefixes.Watch(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Allocated"})
		if err != nil {
			t.Fatal(err)
		}
		return watcher
	}
	watcher := watchAllocated()
	defer func() { watcher.Stop() }()
	start := time.Now()
	names := make(chan string)
	var wg sync.WaitGroup
	// No creator may outlive a failed test.
	defer wg.Wait()
	for range creators {
		wg.Go(func() {
			for name := range names {
				if _, err := prefixes.Create(context.Background(), child(name, "root", 24), metav1.CreateOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	created := make(chan time.Duration, 1)
	go func() {
		for n := range children {
			names <- fmt.Sprintf("child-%d", n)
		}
		close(names)
		wg.Wait()
		created <- time.Since(start)
	}()
	// Polling would keep the servers busy.
	allocated := map[string]bool{}
	for deadline := time.After(harness.Patience); len(allocated) < 1+children; {
		select {
		case event := <-watcher.ResultChan():
			p, ok := event.Object.(*v1alpha1.Prefix)
			if !ok {
				// A watch may end at any time. The next one begins with the current state.
				t.Logf("The watch ended after %d children and %v: %v", len(allocated), time.Since(start).Round(time.Millisecond), event)
				watcher.Stop()
				watcher = watchAllocated()
				continue
			}
			allocated[p.Name] = true
		case <-deadline:
			t.Fatalf("Not in time: %d are allocated", len(allocated))
		}
	}
	t.Logf("%d children by %d creators were created after %v and allocated after %v", children, creators,
		(<-created).Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	items := u.waitAllocated(1 + children)
	disjoint(t, items)
	allocations, err := u.client.PrefixAllocations(u.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(allocations.Items) != children {
		t.Errorf("%d allocations", len(allocations.Items))
	}
	i.Audited()
}

// disjoint fails the test if two children of a parent overlap.
func disjoint(t testing.TB, items []v1alpha1.Prefix) {
	t.Helper()
	byParent := map[string][]netip.Prefix{}
	for _, p := range items {
		if p.Spec.ParentRef != nil && p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			byParent[p.Spec.ParentRef.Name] = append(byParent[p.Spec.ParentRef.Name], netip.MustParsePrefix(p.Spec.Prefix))
		}
	}
	for parent, held := range byParent {
		if a, b, ok := harness.Overlap(held); ok {
			t.Errorf("%s and %s of %s overlap", a, b, parent)
		}
	}
}
