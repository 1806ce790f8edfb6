// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package test tests the IPAM provider of Cluster API on a real control plane, with the product behind its aggregation
// layer, the manifests of config/clusterapi, and the definitions of Cluster API from its module.
package test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/clusterapi/internal/provider"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// system is the namespace of the provider, and account its ServiceAccount.
const (
	system  = "ipam-cluster-api-system"
	account = "ipam-cluster-api"
)

// programs is the directory of the programs.
var programs string

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.Background())
	harness.Main(m, func(dir string) (func(), error) {
		programs = dir
		for _, build := range []struct {
			module, programs string
		}{{kube.Root(), "./cmd/..."}, {filepath.Join(kube.Root(), "clusterapi"), "./cmd/..."}} {
			cmd := exec.Command("go", "build", "-o", dir+"/", build.programs)
			cmd.Dir = build.module
			if out, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%v: %w: %s", cmd, err, out)
			}
		}
		return func() {}, nil
	})
}

// management is a management cluster of Cluster API with the product and the provider.
type management struct {
	*product.Installation
	client.Client
	// kubeconfig is that of the provider.
	kubeconfig string
	provider   *process.Process
}

// modulePath returns a path in the module of Cluster API.
func modulePath(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), path)
}

// install creates a management cluster with the provider, which does not run yet.
func install(t testing.TB) *management {
	t.Helper()
	m := prepare(t)
	kubectl := m.Kubectl(m.AdminKubeconfig)
	kubectl.Run("apply", "-k", filepath.Join(kube.Root(), "config/clusterapi"))
	kubectl.Run("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
	return m
}

// prepare creates a management cluster with the product and the definitions of Cluster API.
func prepare(t testing.TB) *management {
	t.Helper()
	i := product.Install(t, product.Options{Programs: programs, Members: 1, Servers: 1, Managers: 1})
	scheme, err := provider.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	m := &management{Installation: i}
	kubectl := i.Kubectl(i.AdminKubeconfig)
	for _, crd := range []string{"cluster.x-k8s.io_clusters", "cluster.x-k8s.io_machines", "ipam.cluster.x-k8s.io_ipaddressclaims", "ipam.cluster.x-k8s.io_ipaddresses"} {
		kubectl.Run("apply", "--server-side", "-f", modulePath(t, "core/config/crd/bases/"+crd+".yaml"))
	}
	if m.Client, err = client.New(i.Admin, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return m
}

// start starts the provider.
func (m *management) start(t testing.TB, flags ...string) *process.Process {
	t.Helper()
	m.provider = m.startWith(t, m.account(), flags...)
	return m.provider
}

// account returns the kubeconfig of the provider.
func (m *management) account() string {
	m.Helper()
	if m.kubeconfig == "" {
		m.kubeconfig, _ = m.ServiceAccount(system, account)
	}
	return m.kubeconfig
}

func (m *management) startWith(t testing.TB, kubeconfig string, flags ...string) *process.Process {
	t.Helper()
	return process.Start(t, m.Dir, filepath.Join(programs, "ipam-cluster-api"),
		append([]string{"--kubeconfig", kubeconfig, "--health-addr", "0", "--diagnostics-address", "0"}, flags...)...)
}

// namespace is a namespace of a management cluster, for one test.
type namespace struct {
	testing.TB
	*management
	name string
	// needs is the process without which it makes no sense to wait, or nil.
	needs *process.Process
}

// in creates a namespace for a test.
func (m *management) in(t testing.TB) *namespace {
	t.Helper()
	n := &namespace{TB: t, management: m, name: harness.NewNamespace()}
	n.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name}})
	return n
}

func (n *namespace) ctx() context.Context { return n.TB.Context() }

// create creates objects, in this namespace unless they have one.
func (n *namespace) create(objects ...client.Object) {
	n.TB.Helper()
	for _, o := range objects {
		if _, global := o.(*corev1.Namespace); !global {
			o.SetNamespace(n.name)
		}
		if err := n.management.Create(n.ctx(), o); err != nil {
			n.TB.Fatal(err)
		}
	}
}

// delete deletes objects.
func (n *namespace) delete(objects ...client.Object) {
	n.TB.Helper()
	for _, o := range objects {
		if err := n.management.Delete(n.ctx(), o); err != nil {
			n.TB.Fatal(err)
		}
	}
}

// update changes an object until no other write comes in between.
func (n *namespace) update(o client.Object, change func()) {
	n.TB.Helper()
	n.eventually("update", func() error {
		if err := n.get(o); err != nil {
			n.TB.Fatal(err)
		}
		change()
		err := n.management.Update(n.ctx(), o)
		if err != nil && !apierrors.IsConflict(err) {
			n.TB.Fatal(err)
		}
		return err
	})
}

func (n *namespace) get(o client.Object) error {
	return n.management.Get(n.ctx(), client.ObjectKey{Namespace: n.name, Name: o.GetName()}, o)
}

func (n *namespace) eventually(what string, check func() error) {
	n.TB.Helper()
	harness.Eventually(n.TB, what, func() error {
		if n.needs != nil && n.needs.HasEnded() {
			n.TB.Fatalf("%s: the provider has ended", what)
		}
		return check()
	})
}

// prefixes gives access to the Prefixes of the namespace.
func (n *namespace) prefixes() *harness.Namespace {
	return harness.In(n.TB, n.IPAM.IpamV1alpha1(), n.name)
}

// root creates an allocated root Prefix.
func (n *namespace) root(name, prefix string, options ...harness.PrefixOption) {
	n.TB.Helper()
	n.prefixes().Create(harness.Root(name, prefix, options...))
	n.prefixes().Allocated(name)
}

// pool returns a PrefixPool with a parent.
func pool(name, parent string, options ...func(*capiv1alpha1.PrefixPoolSpec)) *capiv1alpha1.PrefixPool {
	p := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.ParentRef = &capiv1alpha1.PrefixReference{Name: parent}
	for _, option := range options {
		option(&p.Spec)
	}
	return p
}

// gateway sets the gateway of a pool.
func gateway(address string) func(*capiv1alpha1.PrefixPoolSpec) {
	return func(s *capiv1alpha1.PrefixPoolSpec) { s.Gateway = address }
}

// claim returns a claim from a PrefixPool.
func claim(name, pool string) *ipamv1.IPAddressClaim {
	return &ipamv1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipamv1.IPAddressClaimSpec{
		PoolRef: ipamv1.IPPoolReference{APIGroup: capiv1alpha1.GroupVersion.Group, Kind: capiv1alpha1.PrefixPoolKind, Name: pool}}}
}

// direct returns a claim from a Prefix.
func direct(name, prefix string) *ipamv1.IPAddressClaim {
	c := claim(name, prefix)
	c.Spec.PoolRef.APIGroup, c.Spec.PoolRef.Kind = v1alpha1.GroupVersion.Group, v1alpha1.PrefixKind
	return c
}

// served waits until claims have addresses, as an infrastructure provider does, and returns the IPAddresses by name.
func (n *namespace) served(names ...string) map[string]*ipamv1.IPAddress {
	n.TB.Helper()
	addresses := map[string]*ipamv1.IPAddress{}
	for _, name := range names {
		n.eventually(name+" is served", func() error {
			c := &ipamv1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if err := n.get(c); err != nil {
				return err
			}
			if c.Status.AddressRef.Name == "" {
				return fmt.Errorf("conditions: %v", c.Status.Conditions)
			}
			if ready := meta.FindStatusCondition(c.Status.Conditions, ipamv1.IPAddressClaimReadyCondition); ready == nil || ready.Status != metav1.ConditionTrue {
				return fmt.Errorf("Ready is %v", ready)
			}
			address := &ipamv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: c.Status.AddressRef.Name}}
			addresses[name] = address
			return n.get(address)
		})
	}
	return addresses
}

// waits waits until a claim says why it has no address.
func (n *namespace) waits(name, reason, message string) {
	n.TB.Helper()
	n.eventually(name+" says why it waits", func() error {
		c := &ipamv1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := n.get(c); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(c.Status.Conditions, ipamv1.IPAddressClaimReadyCondition)
		if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != reason || !strings.Contains(ready.Message, message) {
			return fmt.Errorf("Ready is %v, not %s: %s", ready, reason, message)
		}
		if c.Status.AddressRef.Name != "" {
			return errors.New("it has an address")
		}
		return nil
	})
}

// gone waits until an object does not exist.
func (n *namespace) gone(o client.Object) {
	n.TB.Helper()
	n.eventually(o.GetName()+" is gone", func() error {
		err := n.get(o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %v %v", o.GetFinalizers(), err)
	})
}

// children returns the Prefixes of claims, by name of the claim.
func (n *namespace) children() map[string][]v1alpha1.Prefix {
	n.TB.Helper()
	children := map[string][]v1alpha1.Prefix{}
	for _, prefix := range n.prefixes().List() {
		if name := prefix.Labels[capiv1alpha1.LabelClaimName]; name != "" {
			children[name] = append(children[name], prefix)
		}
	}
	return children
}

// consistent fails the test unless there is one IPAddress and one Prefix with the same address for each claim, and nothing
// else. No two claims have the same address.
func (n *namespace) consistent() {
	n.TB.Helper()
	claims, addresses := &ipamv1.IPAddressClaimList{}, &ipamv1.IPAddressList{}
	for _, list := range []client.ObjectList{claims, addresses} {
		if err := n.management.List(n.ctx(), list, client.InNamespace(n.name)); err != nil {
			n.TB.Fatal(err)
		}
	}
	children, byName, seen := n.children(), map[string]ipamv1.IPAddress{}, map[string]string{}
	for _, address := range addresses.Items {
		byName[address.Name] = address
		if other, ok := seen[address.Spec.Address]; ok {
			n.TB.Errorf("%s and %s have %s", address.Name, other, address.Spec.Address)
		}
		seen[address.Spec.Address] = address.Name
	}
	for _, c := range claims.Items {
		address, ok := byName[c.Name]
		if !ok || len(children[c.Name]) != 1 {
			n.TB.Errorf("%s has an IPAddress: %v, and %d Prefixes", c.Name, ok, len(children[c.Name]))
			continue
		}
		if prefix := netip.MustParsePrefix(children[c.Name][0].Spec.Prefix); prefix.Addr().String() != address.Spec.Address {
			n.TB.Errorf("%s has the address %s, and its Prefix is %s", c.Name, address.Spec.Address, prefix)
		}
		delete(byName, c.Name)
		delete(children, c.Name)
	}
	for name := range byName {
		n.TB.Errorf("IPAddress %s has no claim", name)
	}
	for name := range children {
		n.TB.Errorf("there is a Prefix for %s, which is no claim", name)
	}
}

// cluster returns a Cluster that needs no infrastructure.
func cluster(name string) *clusterv1.Cluster {
	c := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: "infrastructure.example.com", Kind: "ExampleCluster", Name: name}
	return c
}

// long reports whether tests run at full length.
var long = os.Getenv("IPAM_TEST_LONG") != ""
