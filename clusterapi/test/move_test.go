// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	clusterctl "sigs.k8s.io/cluster-api/cmd/clusterctl/client"
	"sigs.k8s.io/cluster-api/cmd/clusterctl/client/config"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ownedBy makes an object a dependent of another one.
func ownedBy(o, owner client.Object, gvk schema.GroupVersionKind) {
	yes := true
	o.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: owner.GetName(), UID: owner.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes,
	}})
}

// machine creates a Machine of a cluster, with claims as an infrastructure provider makes them. Its own machine is a
// ConfigMap here.
func (n *namespace) machine(of *clusterv1.Cluster, name string, claims ...*ipamv1.IPAddressClaim) {
	n.TB.Helper()
	machine := &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{Name: name}}
	machine.Spec.ClusterName = of.Name
	machine.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: "infrastructure.example.com", Kind: "ExampleMachine", Name: name}
	dataSecret := "bootstrap"
	machine.Spec.Bootstrap.DataSecretName = &dataSecret
	ownedBy(machine, of, clusterv1.GroupVersion.WithKind("Cluster"))
	n.create(machine)
	n.update(machine, func() {})
	machine.Status.NodeRef.Name = name
	yes := true
	machine.Status.Initialization.InfrastructureProvisioned = &yes
	if err := n.Status().Update(n.ctx(), machine); err != nil {
		n.TB.Fatal(err)
	}
	infrastructure := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	ownedBy(infrastructure, machine, clusterv1.GroupVersion.WithKind("Machine"))
	n.create(infrastructure)
	for _, claim := range claims {
		claim.Spec.ClusterName = of.Name
		ownedBy(claim, infrastructure, corev1.SchemeGroupVersion.WithKind("ConfigMap"))
		n.create(claim)
	}
}

// initialized returns the library of clusterctl, and what it makes of ipam-components.yaml.
func initialized(t *testing.T) (clusterctl.Client, clusterctl.Components) {
	t.Helper()
	const version = "v0.0.1"
	build := exec.Command(filepath.Join(kube.Root(), "hack/install-yaml.sh"), "config/clusterapi", "ipam-components.yaml")
	build.Env = append(os.Environ(), "VERSION="+version)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A release, as a local repository.
	release := filepath.Join(t.TempDir(), "ipam-ironcore", version)
	if err := os.MkdirAll(release, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"ipam-components.yaml": "bin", "metadata.yaml": "config/clusterapi"} {
		content, err := os.ReadFile(filepath.Join(kube.Root(), from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(release, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := config.NewMemoryReader().AddProvider("ironcore", clusterctlv1.IPAMProviderType, filepath.Join(release, "ipam-components.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	variables, err := config.New(t.Context(), "", config.InjectReader(reader))
	if err != nil {
		t.Fatal(err)
	}
	library, err := clusterctl.New(t.Context(), "", clusterctl.InjectConfig(variables))
	if err != nil {
		t.Fatal(err)
	}
	components, err := library.GetProviderComponents(t.Context(), "ironcore", clusterctlv1.IPAMProviderType, clusterctl.ComponentsOptions{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	if images := components.Images(); len(images) != 1 || !strings.HasSuffix(images[0], "/ipam-apiserver:"+version) {
		t.Errorf("the images are %v", images)
	}
	if components.TargetNamespace() != system {
		t.Errorf("the namespace is %s", components.TargetNamespace())
	}
	return library, components
}

// TestMove moves a cluster from one management cluster to another with the library of clusterctl. Each has an IPAM of its
// own. In the target others have taken addresses.
func TestMove(t *testing.T) {
	library, components := initialized(t)
	from, to := prepare(t), prepare(t)
	for _, m := range []*management{from, to} {
		kubectl := m.Kubectl(m.AdminKubeconfig)
		// What clusterctl init does: it labels the definitions of Cluster API, installs the provider and takes it into its
		// inventory.
		kubectl.Run("label", "crd", "--all", "clusterctl.cluster.x-k8s.io=")
		kubectl.Run("apply", "--server-side", "-f", modulePath(t, "cmd/clusterctl/config/crd/bases/clusterctl.cluster.x-k8s.io_providers.yaml"))
		yaml, err := components.Yaml()
		if err != nil {
			t.Fatal(err)
		}
		kubectl.Apply(string(yaml), "apply", "-f", "-")
		kubectl.Run("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
		inventory := components.InventoryObject()
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&inventory)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Client.Create(t.Context(), &unstructured.Unstructured{Object: object}); err != nil {
			t.Fatal(err)
		}
		m.start(t)
	}
	n, target := from.in(t), &namespace{TB: t, management: to}
	target.name = n.name
	target.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name}})
	for _, side := range []*namespace{n, target} {
		side.root("nodes", "10.0.0.0/24")
		side.root("direct", "10.0.1.0/24")
	}
	// In the target, somebody else has what would be given first, and the claims must not get what is left.
	target.prefixes().Create(&v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "others"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.128/26", ParentRef: &v1alpha1.LocalObjectReference{Name: "nodes"}}})
	target.prefixes().Allocated("others")

	c := cluster("c")
	n.create(c, pool("nodes", "nodes", gateway("10.0.0.1")))
	yes := true
	c.Status.Initialization.InfrastructureProvisioned, c.Status.Initialization.ControlPlaneInitialized = &yes, &yes
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: clusterv1.ClusterControlPlaneInitializedCondition, Status: metav1.ConditionTrue, Reason: "Initialized"})
	if err := n.Status().Update(n.ctx(), c); err != nil {
		t.Fatal(err)
	}
	const machines = 8
	var names []string
	for i := range machines {
		name := fmt.Sprint("machine-", i)
		viaPool, viaPrefix := claim(name, "nodes"), direct(name+"-direct", "direct")
		n.machine(c, name, viaPool, viaPrefix)
		names = append(names, viaPool.Name, viaPrefix.Name)
	}
	before := n.served(names...)
	n.consistent()

	if err := library.Move(t.Context(), clusterctl.MoveOptions{
		FromKubeconfig: clusterctl.Kubeconfig{Path: from.AdminKubeconfig}, ToKubeconfig: clusterctl.Kubeconfig{Path: to.AdminKubeconfig}, Namespace: n.name,
	}); err != nil {
		t.Fatal(err)
	}

	after := target.served(names...)
	for _, name := range names {
		if was, is := before[name].Spec, after[name].Spec; was.Address != is.Address || *was.Prefix != *is.Prefix || was.Gateway != is.Gateway {
			t.Errorf("%s had %+v and has %+v", name, was, is)
		}
		if want := map[string]int{"PrefixPool": 2, "Prefix": 1}[after[name].Spec.PoolRef.Kind]; len(after[name].OwnerReferences) != want {
			t.Errorf("%s: %v", name, after[name].OwnerReferences)
		}
	}
	target.consistent()
	if err := target.get(&capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Name: "nodes"}}); err != nil {
		t.Error(err)
	}
	// Nothing of it is left in the source but what holds the addresses, because they are in use.
	for _, list := range []client.ObjectList{&ipamv1.IPAddressClaimList{}, &ipamv1.IPAddressList{}, &capiv1alpha1.PrefixPoolList{}} {
		if err := n.management.List(n.ctx(), list, client.InNamespace(n.name)); err != nil {
			t.Fatal(err)
		}
		if left := meta.LenList(list); left > 0 {
			t.Errorf("in the source there are still %d: %v", left, list)
		}
	}
	for _, name := range names {
		if children := n.children()[name]; len(children) != 1 {
			t.Errorf("in the source %s has the Prefixes %v", name, children)
		}
	}
	// Released in the target, an address is free there.
	target.delete(claimIn(target, names[0]))
	target.gone(claimIn(target, names[0]))
	target.consistent()
	from.Audited()
	to.Audited()
}
