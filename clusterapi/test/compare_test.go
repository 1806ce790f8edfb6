// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/process"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// inCluster is a checkout of the in-cluster provider, github.com/kubernetes-sigs/cluster-api-ipam-provider-in-cluster, with its
// program in it: go build -o manager .
var inCluster = flag.String("in-cluster", "", "checkout of the in-cluster provider, with its program `manager`, to compare with")

// compareInCluster measures the in-cluster provider, if there is one:
// go test ./test -run TestProvider/many -v -args -in-cluster DIR
func compareInCluster(t *testing.T, m *management) {
	if *inCluster == "" {
		return
	}
	m.provider.Kill()
	kubectl := m.Kubectl(m.AdminKubeconfig)
	kubectl.Run("apply", "--server-side", "-f", filepath.Join(*inCluster, "config/crd/bases"))
	kubectl.Run("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
	kubectl.Run("create", "clusterrolebinding", "in-cluster", "--clusterrole=cluster-admin", "--serviceaccount="+system+":"+account)
	start := func(kubeconfig string) *process.Process {
		return process.Start(t, m.Dir, filepath.Join(*inCluster, "manager"), "--kubeconfig", kubeconfig, "--webhook-port", "0", "--health-probe-bind-address", "0", "--diagnostics-address", "0")
	}
	inClusterClaim := func(name, pool string) *ipamv1.IPAddressClaim {
		c := claim(name, pool)
		c.Spec.PoolRef.APIGroup, c.Spec.PoolRef.Kind = "ipam.cluster.x-k8s.io", "InClusterIPPool"
		return c
	}
	p := start(m.account())
	t.Run("in-cluster provider", func(t *testing.T) {
		n := m.in(t)
		n.inClusterPool("nodes", "10.0.0.0/20", 20, "10.0.0.1")
		n.inClusterPool("small", "10.1.0.0/30", 30, "")
		n.compare(inClusterClaim)
	})
	p.Kill()
	t.Run("in-cluster provider, killed", func(t *testing.T) {
		n := m.in(t)
		n.inClusterPool("nodes", "10.0.0.0/20", 20, "10.0.0.1")
		proxy, kubeconfig := newCrasher(t, m)
		for at := 1; at <= 6; at++ {
			p := start(kubeconfig)
			killed := proxy.arm(p, at, true)
			names := []string{fmt.Sprint("a-", at), fmt.Sprint("b-", at)}
			n.create(inClusterClaim(names[0], "nodes"), inClusterClaim(names[1], "nodes"))
			select {
			case <-killed:
			case <-time.After(5 * time.Second):
				p.Kill()
			}
			p = start(m.account())
			t.Logf("killed at write %d, then: %s %s", at, n.address(names[0]), n.address(names[1]))
			p.Kill()
		}
	})
}

// inClusterPool creates a pool of the in-cluster provider.
func (n *namespace) inClusterPool(name, prefix string, mask int64, gateway string) {
	n.TB.Helper()
	spec := map[string]any{"addresses": []any{prefix}, "prefix": mask}
	if gateway != "" {
		spec["gateway"] = gateway
	}
	p := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "ipam.cluster.x-k8s.io/v1alpha2", "kind": "InClusterIPPool", "spec": spec}}
	p.SetName(name)
	n.create(p)
}

// address waits until a claim has an address, and returns it.
func (n *namespace) address(name string) string {
	n.TB.Helper()
	address := &ipamv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.eventually(name+" has an address", func() error {
		c := claimIn(n, name)
		if err := n.get(c); err != nil {
			return err
		}
		if c.Status.AddressRef.Name == "" {
			return apierrors.NewNotFound(ipamv1.GroupVersion.WithResource("ipaddresses").GroupResource(), name)
		}
		return n.get(address)
	})
	return address.Spec.Address
}

// compare measures a provider. It has the pools nodes, which is large, and small with two addresses for machines.
func (n *namespace) compare(claim func(name, pool string) *ipamv1.IPAddressClaim) {
	n.TB.Helper()
	n.create(claim("one", "nodes"))
	n.address("one")
	began := time.Now()
	n.create(claim("another", "nodes"))
	n.address("another")
	n.TB.Logf("one claim: served after %v", time.Since(began))

	n.create(claim("a", "small"), claim("b", "small"))
	n.address("a")
	n.address("b")
	n.create(claim("c", "small"))
	// A claim that comes later is served, so this one was seen.
	n.create(claim("later", "nodes"))
	n.address("later")
	c := claimIn(n, "c")
	if err := n.get(c); err != nil || c.Status.AddressRef.Name != "" {
		n.TB.Fatalf("%v: %+v", err, c.Status)
	}
	n.TB.Logf("exhausted: it says %v", c.Status.Conditions)
	began = time.Now()
	n.delete(claimIn(n, "a"))
	n.address("c")
	n.TB.Logf("exhausted, then room: served after %v", time.Since(began))

	n.manyClaims(1000, 32, func(name string) *ipamv1.IPAddressClaim { return claim(name, "nodes") })
	addresses, seen := &ipamv1.IPAddressList{}, map[string]bool{}
	if err := n.management.List(n.ctx(), addresses, client.InNamespace(n.name)); err != nil {
		n.TB.Fatal(err)
	}
	for _, address := range addresses.Items {
		if seen[address.Spec.PoolRef.Name+address.Spec.Address] {
			n.TB.Errorf("%s is given twice", address.Spec.Address)
		}
		seen[address.Spec.PoolRef.Name+address.Spec.Address] = true
	}
}
