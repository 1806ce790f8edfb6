// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestProvider installs a management cluster once, and tests the provider in many ways.
func TestProvider(t *testing.T) {
	m := install(t)
	m.start(t)
	for _, test := range []struct {
		name string
		run  func(*namespace)
	}{
		{"contract", testContract},
		{"never given", testNeverGiven},
		{"conditions", testConditions},
		{"exhausted, then room", testExhausted},
		{"IPv6 and dual stack", testDualStack},
		{"selector", testSelector},
		{"parents of another namespace", testForeignParents},
		{"adoption", testAdoption},
		{"refused", testRefused},
		{"paused", testPaused},
		{"release", testRelease},
		{"pool deletion", testPoolDeletion},
		{"namespace deletion", testNamespaceDeletion},
		{"invalid pools", testInvalidPools},
		{"many claims", testManyClaims},
		{"watch filter", testWatchFilter},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(m.in(t)) })
	}
	m.Audited()
	if m.provider.HasEnded() {
		t.Error("the provider has ended")
	}
	compareInCluster(t, m)
	for line := range strings.Lines(m.provider.LastOfLog(1 << 20)) {
		if strings.Contains(line, "forbidden") && !strings.Contains(line, "exceeded quota") {
			t.Errorf("the provider is forbidden something: %s", line)
		}
	}
}

// testContract follows a claim through its life, with a PrefixPool and with a Prefix as its pool.
func testContract(n *namespace) {
	n.root("nodes", "10.0.0.0/24", func(p *v1alpha1.Prefix) {
		p.Annotations = map[string]string{capiv1alpha1.AnnotationGateway: "10.0.0.1", capiv1alpha1.AnnotationPrefix: "20"}
	})
	n.create(cluster("c"), pool("nodes", "nodes", gateway("10.0.0.1")))
	viaPool, viaPrefix := claim("via-pool", "nodes"), direct("via-prefix", "nodes")
	viaPool.Spec.ClusterName = "c"
	viaPrefix.Labels = map[string]string{clusterv1.ClusterNameLabel: "c"}
	n.create(viaPool, viaPrefix)
	addresses := n.served("via-pool", "via-prefix")
	for _, c := range []*ipamv1.IPAddressClaim{viaPool, viaPrefix} {
		address := addresses[c.Name]
		if err := n.get(c); err != nil {
			n.TB.Fatal(err)
		}
		wantMask := int32(24)
		if c == viaPrefix {
			wantMask = 20
		}
		if address.Name != c.Name || address.Spec.ClaimRef.Name != c.Name || address.Spec.PoolRef != c.Spec.PoolRef ||
			address.Spec.Gateway != "10.0.0.1" || *address.Spec.Prefix != wantMask || !netip.MustParsePrefix("10.0.0.0/24").Contains(netip.MustParseAddr(address.Spec.Address)) {
			n.TB.Errorf("%s: %+v", c.Name, address.Spec)
		}
		if address.Labels[clusterv1.ClusterNameLabel] != "c" || !slices.Equal(address.Finalizers, []string{capiv1alpha1.AddressFinalizer}) {
			n.TB.Errorf("%s: %v %v", c.Name, address.Labels, address.Finalizers)
		}
		owners := map[string]metav1.OwnerReference{}
		for _, owner := range address.OwnerReferences {
			owners[owner.Kind] = owner
		}
		of, from := owners["IPAddressClaim"], owners[c.Spec.PoolRef.Kind]
		if of.UID != c.UID || !*of.Controller || !*of.BlockOwnerDeletion ||
			c == viaPool && (len(owners) != 2 || from.Name != "nodes" || *from.Controller || !*from.BlockOwnerDeletion) || c == viaPrefix && len(owners) != 1 {
			n.TB.Errorf("%s: owners %+v", c.Name, address.OwnerReferences)
		}
		if child := n.children()[c.Name]; len(child) != 1 || child[0].Name != string(c.UID) || child[0].Labels[clusterv1.ClusterNameLabel] != "c" {
			n.TB.Errorf("%s: children %v", c.Name, child)
		}
	}
	n.consistent()

	// A client of v1beta1 reads the same, as long as Cluster API serves it.
	out := n.Kubectl(n.AdminKubeconfig).In(n.TB).Run("-n", n.name, "get", "ipaddresses.v1beta1.ipam.cluster.x-k8s.io", "via-pool", "-o", "jsonpath={.spec.address}/{.spec.prefix}")
	if want := addresses["via-pool"].Spec.Address + "/24"; out != want {
		n.TB.Errorf("v1beta1: %s, not %s", out, want)
	}

	// A claim keeps what it has when the pool changes.
	changed := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Name: "nodes"}}
	n.update(changed, func() { changed.Spec.PrefixLength, changed.Spec.Prefix, changed.Spec.Gateway = 30, 25, "10.0.0.9" })
	n.create(claim("block", "nodes"))
	if block := n.served("block")["block"]; *block.Spec.Prefix != 25 || n.children()["block"][0].Spec.PrefixLength != 30 {
		n.TB.Errorf("%+v", block.Spec)
	}
	n.update(viaPool, func() { viaPool.Labels = map[string]string{"seen": "again"} })
	n.delete(claimIn(n, "block"))
	n.gone(claimIn(n, "block"))
	if now := n.served("via-pool")["via-pool"]; now.UID != addresses["via-pool"].UID || *now.Spec.Prefix != 24 || n.children()["via-pool"][0].DeletionTimestamp != nil {
		n.TB.Errorf("%+v", now.Spec)
	}
	n.update(changed, func() { changed.Spec.PrefixLength, changed.Spec.Prefix, changed.Spec.Gateway = 0, 0, "10.0.0.1" })

	// An IPAddress that somebody deletes stays, and so does the Prefix of a claim.
	child := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: string(viaPool.UID)}}
	n.delete(addresses["via-pool"], child)
	n.update(viaPool, func() { viaPool.Labels = map[string]string{"changed": "yes"} })
	n.create(claim("another", "nodes"))
	n.served("another")
	if now := n.served("via-pool")["via-pool"]; now.UID != addresses["via-pool"].UID {
		n.TB.Error("the IPAddress is another one")
	}
	n.consistent()

	n.delete(viaPool, viaPrefix)
	n.gone(viaPool)
	n.gone(viaPrefix)
	n.consistent()
	// The last claim is gone, so nothing keeps the Prefix from being deleted but the pool and its claim.
	n.delete(claimIn(n, "another"))
	p := pool("nodes", "nodes")
	p.Namespace = n.name
	n.delete(p)
	n.prefixes().Delete("nodes")
	n.prefixes().Empty()
}

func claimIn(n *namespace, name string) *ipamv1.IPAddressClaim {
	return &ipamv1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: name}}
}

// testNeverGiven takes every address that there is, and one more.
func testNeverGiven(n *namespace) {
	n.root("nodes", "10.0.0.0/28", harness.Labelled("pool", "nodes"))
	n.prefixes().CreatePolicy(harness.Policy("router", []v1alpha1.PrefixReservation{{From: "10.0.0.4", To: "10.0.0.6"}}, "pool", "nodes"))
	n.create(pool("nodes", "nodes", gateway("10.0.0.9")))
	var names []string
	for i := range 11 {
		names = append(names, fmt.Sprint("claim-", i))
		n.create(claim(names[i], "nodes"))
	}
	// .0 and .15 are those of the subnet, .9 is the gateway, .4 to .6 are reserved.
	var given []string
	n.eventually("ten are served", func() error {
		given = nil
		for _, name := range names {
			address := &ipamv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if err := n.get(address); err == nil {
				given = append(given, address.Spec.Address)
			}
		}
		return harness.Unless(len(given) >= 10, "%d are", len(given))
	})
	slices.SortFunc(given, func(a, b string) int { return netip.MustParseAddr(a).Compare(netip.MustParseAddr(b)) })
	if want := "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.7 10.0.0.8 10.0.0.10 10.0.0.11 10.0.0.12 10.0.0.13 10.0.0.14"; strings.Join(given, " ") != want {
		n.TB.Errorf("given: %s", given)
	}
	waiting := 0
	for _, name := range names {
		c := claimIn(n, name)
		if err := n.get(c); err != nil {
			n.TB.Fatal(err)
		}
		if c.Status.AddressRef.Name == "" {
			n.waits(name, ipamv1.IPAddressClaimReadyPoolExhaustedReason, "nodes")
			waiting++
		}
	}
	if waiting != 1 {
		n.TB.Errorf("%d wait", waiting)
	}

	// Another gateway is held, and the former one can be given.
	p := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Name: "nodes"}}
	n.update(p, func() { p.Spec.Gateway = "10.0.0.5" })
	n.served(names...)
	n.consistent()
	n.eventually("the status of the pool", func() error {
		if err := n.get(p); err != nil {
			return err
		}
		ready := meta.IsStatusConditionTrue(p.Status.Conditions, capiv1alpha1.ConditionReady)
		return harness.Unless(ready && p.Status.Used != nil && *p.Status.Used == 11 && p.Status.Free == "0", "%+v", p.Status)
	})
}

// testConditions shows what a claim says while it waits, and that it is served as soon as it can be.
func testConditions(n *namespace) {
	n.create(claim("a", "nodes"))
	n.waits("a", ipamv1.IPAddressClaimReadyPoolNotReadyReason, `PrefixPool "nodes" does not exist`)
	n.create(pool("nodes", "nodes"))
	n.waits("a", ipamv1.IPAddressClaimReadyPoolNotReadyReason, `Prefix "nodes" does not exist`)
	n.root("nodes", "10.0.0.0/29")
	n.served("a")

	// Both directions: v1beta1 has conditions of its own.
	c := claimIn(n, "a")
	if err := n.get(c); err != nil {
		n.TB.Fatal(err)
	}
	if old := c.GetV1Beta1Conditions(); len(old) != 1 || old[0].Status != "True" {
		n.TB.Errorf("v1beta1: %v", old)
	}

	n.create(direct("b", "missing"))
	n.waits("b", ipamv1.IPAddressClaimReadyPoolNotReadyReason, `Prefix "missing" does not exist`)

	// The length is not allowed.
	n.root("blocks", "10.1.0.0/24", harness.Labelled("pool", "blocks"))
	policy := harness.Policy("lengths", nil, "pool", "blocks")
	policy.Spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: 28, Max: 28}
	n.prefixes().CreatePolicy(policy)
	n.create(pool("blocks", "blocks", func(s *capiv1alpha1.PrefixPoolSpec) { s.PrefixLength = 27 }), claim("c", "blocks"))
	n.waits("c", ipamv1.IPAddressClaimReadyAllocationFailedReason, "27")

	// An address that another one has.
	taken := claim("d", "nodes")
	taken.Annotations = map[string]string{capiv1alpha1.AnnotationAddress: n.served("a")["a"].Spec.Address}
	n.create(taken)
	n.waits("d", ipamv1.IPAddressClaimReadyAllocationFailedReason, n.served("a")["a"].Spec.Address)
	n.delete(claimIn(n, "a"))
	n.served("d")
	n.delete(claimIn(n, "c"))
	n.gone(claimIn(n, "c"))
	n.consistentBut("b")
}

// consistentBut is like consistent, after the deletion of claims that are not served.
func (n *namespace) consistentBut(names ...string) {
	n.TB.Helper()
	for _, name := range names {
		n.delete(claimIn(n, name))
		n.gone(claimIn(n, name))
	}
	n.consistent()
}

// testExhausted measures how long a claim waits after an address became free.
func testExhausted(n *namespace) {
	n.root("nodes", "10.0.0.0/30")
	n.create(pool("nodes", "nodes"))
	n.create(claim("a", "nodes"), claim("b", "nodes"))
	n.served("a", "b")
	n.create(claim("c", "nodes"))
	n.waits("c", ipamv1.IPAddressClaimReadyPoolExhaustedReason, "nodes")
	began := time.Now()
	n.delete(claimIn(n, "a"))
	n.served("c")
	took := time.Since(began)
	n.TB.Logf("served %v after the address became free", took)
	if took > 2*time.Second {
		n.TB.Errorf("it took %v", took)
	}
	// Another parent would be room, too.
	n.gone(claimIn(n, "a"))
	n.consistent()
}

// testDualStack takes an address of each family for one machine. The machines share a /64.
func testDualStack(n *namespace) {
	// The smallest free block is used first, which is that between the gateway or the end of the subnet and the rest.
	n.root("v4", "10.0.0.0/24")
	n.root("v6", "2001:db8::/48")
	n.prefixes().Create(harness.Child("v6-nodes", "v6", harness.Length(64)))
	n.prefixes().Allocated("v6-nodes")
	n.create(pool("v4", "v4", gateway("10.0.0.1")), pool("v6", "v6-nodes", gateway("2001:db8::1")), pool("routed", "v6", func(s *capiv1alpha1.PrefixPoolSpec) { s.PrefixLength = 64 }))
	n.create(claim("m-v4", "v4"), claim("m-v6", "v6"), claim("m-routed", "routed"))
	addresses := n.served("m-v4", "m-v6", "m-routed")
	for name, want := range map[string]string{"m-v4": "10.0.0.254/24 10.0.0.1", "m-v6": "2001:db8::2/64 2001:db8::1", "m-routed": "2001:db8:0:1::/48 "} {
		if got := fmt.Sprintf("%s/%d %s", addresses[name].Spec.Address, *addresses[name].Spec.Prefix, addresses[name].Spec.Gateway); got != want {
			n.TB.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	if child := n.children()["m-v6"]; child[0].Spec.Prefix != "2001:db8::2/128" {
		n.TB.Errorf("the child is %s", child[0].Spec.Prefix)
	}
	n.consistent()
}

// testSelector has a pool with two parents. A parent that comes later is room.
func testSelector(n *namespace) {
	p := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Name: "nodes"}}
	p.Spec.ParentSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"for": "nodes"}}
	p.Spec.IPFamily = "IPv4"
	n.create(p, claim("a", "nodes"), claim("b", "nodes"), claim("c", "nodes"))
	n.waits("a", ipamv1.IPAddressClaimReadyPoolNotReadyReason, "for=nodes")
	n.root("one", "10.0.0.0/30", harness.Labelled("for", "nodes"))
	n.eventually("two are served", func() error {
		list := &ipamv1.IPAddressList{}
		if err := n.management.List(n.ctx(), list, client.InNamespace(n.name)); err != nil {
			return err
		}
		return harness.Unless(len(list.Items) == 2, "%d are", len(list.Items))
	})
	n.root("two", "10.0.1.0/24", harness.Labelled("for", "nodes"))
	all := map[string]string{}
	for _, address := range n.served("a", "b", "c") {
		all[address.Spec.Address] = fmt.Sprint(*address.Spec.Prefix)
	}
	// The scheduler has chosen before the second parent's network address is held, or after that.
	if all["10.0.0.1"] != "30" || all["10.0.0.2"] != "30" || all["10.0.1.1"] != "24" {
		n.TB.Errorf("%v", all)
	}
	n.consistent()
}

// testForeignParents has a pool whose parents belong to another namespace, which shares them and takes that back.
func testForeignParents(n *namespace) {
	owner := n.management.in(n.TB)
	owner.root("nodes", "10.0.0.0/29", harness.Labelled("for", "nodes"))
	policy := harness.Policy("nodes", nil, "for", "nodes")
	policy.Spec.Reserved = []v1alpha1.PrefixReservation{{CIDR: "10.0.0.0/32"}, {CIDR: "10.0.0.7/32"}}
	owner.prefixes().CreatePolicy(policy)
	from := func(s *capiv1alpha1.PrefixPoolSpec) { s.ParentNamespace, s.IPFamily, s.Prefix = owner.name, "IPv4", 29 }
	for name, without := range map[string]func(*capiv1alpha1.PrefixPoolSpec){
		"no-family": func(s *capiv1alpha1.PrefixPoolSpec) { s.IPFamily = "" }, "no-mask": func(s *capiv1alpha1.PrefixPoolSpec) { s.Prefix = 0 },
	} {
		invalid := pool(name, "nodes", from, without)
		invalid.Namespace = n.name
		if err := n.management.Create(n.ctx(), invalid); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "ipFamily and prefix are required") {
			n.TB.Errorf("%s: %v", name, err)
		}
	}

	p := pool("nodes", "nodes", from, gateway("10.0.0.1"))
	selecting := pool("selecting", "", from, func(s *capiv1alpha1.PrefixPoolSpec) {
		s.ParentRef, s.ParentSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"for": "nodes"}}
	})
	// The gateway may be an address of somebody else's network.
	elsewhere := pool("elsewhere", "nodes", from, gateway("192.168.0.1"))
	n.create(p, selecting, elsewhere, claim("a", "nodes"), claim("b", "selecting"), claim("c", "elsewhere"))
	for _, name := range []string{"a", "b", "c"} {
		n.waits(name, ipamv1.IPAddressClaimReadyPoolNotReadyReason, "shared with namespace")
	}
	shares := func(with ...string) {
		n.TB.Helper()
		owner.update(policy, func() {
			policy.Spec.SharedWith = nil
			if len(with) > 0 {
				policy.Spec.SharedWith = &v1alpha1.PrefixSharing{Namespaces: with}
			}
		})
	}
	shares(n.name)
	for name, address := range n.served("a", "b", "c") {
		if *address.Spec.Prefix != 29 || address.Spec.Gateway != map[string]string{"a": "10.0.0.1", "c": "192.168.0.1"}[name] || address.Spec.Address == "10.0.0.1" {
			n.TB.Errorf("%s: %+v", name, address.Spec)
		}
	}
	n.create(claim("d", "nodes"), claim("e", "nodes"))
	n.served("d", "e")
	n.create(claim("f", "nodes"))
	n.waits("f", ipamv1.IPAddressClaimReadyPoolExhaustedReason, "nodes")
	n.eventually("the status of the pool", func() error {
		if err := n.get(p); err != nil {
			return err
		}
		ready := meta.IsStatusConditionTrue(p.Status.Conditions, capiv1alpha1.ConditionReady)
		return harness.Unless(ready && p.Status.Used != nil && *p.Status.Used == 3 && p.Status.Free == "", "%+v", p.Status)
	})
	shares()
	n.delete(claimIn(n, "a"))
	n.gone(claimIn(n, "a"))
	n.waits("f", ipamv1.IPAddressClaimReadyPoolNotReadyReason, "shared with namespace")
	n.served("b", "c", "d", "e")
	shares(n.name)
	n.served("f")
	n.consistent()

	// The Prefix of the gateway goes with the pool, and then nothing keeps the parent.
	for _, name := range []string{"b", "c", "d", "e", "f"} {
		n.delete(claimIn(n, name))
	}
	n.delete(p, selecting, elsewhere)
	for _, o := range []client.Object{p, selecting, elsewhere} {
		n.gone(o)
	}
	owner.prefixes().Delete("nodes")
	owner.gone(&v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "nodes"}})
}

// testAdoption has an IPAddress that is there before its claim, as after a move.
func testAdoption(n *namespace) {
	n.root("nodes", "10.0.0.0/24")
	n.create(pool("nodes", "nodes"))
	mask := int32(24)
	ref := claim("", "nodes").Spec.PoolRef
	address := func(name, address string) *ipamv1.IPAddress {
		return &ipamv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipamv1.IPAddressSpec{
			ClaimRef: ipamv1.IPAddressClaimReference{Name: name}, PoolRef: ref, Address: address, Prefix: &mask}}
	}
	n.create(address("a", "10.0.0.77"), claim("a", "nodes"))
	got := n.served("a")["a"]
	if got.Spec.Address != "10.0.0.77" || len(got.OwnerReferences) != 2 || len(got.Finalizers) != 1 {
		n.TB.Errorf("%+v", got)
	}
	n.consistent()

	// Another one has the address: it is not given another one.
	n.prefixes().Create(harness.Child("other", "nodes", harness.Exactly("10.0.0.78/32")))
	n.prefixes().Allocated("other")
	n.create(address("b", "10.0.0.78"), claim("b", "nodes"))
	n.waits("b", ipamv1.IPAddressClaimReadyAllocationFailedReason, "10.0.0.78")
	n.prefixes().Delete("other")
	if got := n.served("b")["b"]; got.Spec.Address != "10.0.0.78" {
		n.TB.Errorf("%+v", got.Spec)
	}

	// The claim is restored from a backup with another uid: it takes over what the former one has.
	before := claimIn(n, "b")
	if err := n.get(before); err != nil {
		n.TB.Fatal(err)
	}
	n.provider.Kill()
	restored := claim("b", "nodes")
	restored.Annotations, restored.Finalizers = before.Annotations, before.Finalizers
	for _, o := range []client.Object{before, got, n.served("b")["b"]} {
		if o != got {
			n.update(o, func() { o.SetFinalizers(nil) })
			_ = n.management.Delete(n.ctx(), o)
			n.gone(o.DeepCopyObject().(client.Object))
		}
	}
	n.create(restored)
	n.start(n.life())
	if got := n.served("b")["b"]; got.Spec.Address != "10.0.0.78" {
		n.TB.Errorf("after the restore: %+v", got.Spec)
	}
	n.consistent()

	// An IPAddress of somebody else is left alone.
	foreign := address("c", "10.0.0.79")
	foreign.Spec.PoolRef.Name = "others"
	n.create(foreign, claim("c", "nodes"))
	n.waits("c", ipamv1.IPAddressClaimReadyAllocationFailedReason, "others")
	n.delete(claimIn(n, "c"))
	n.gone(claimIn(n, "c"))
	if err := n.get(foreign); err != nil {
		n.TB.Error(err)
	}
	// When it goes, a claim of its name is served.
	n.create(claim("c", "nodes"))
	n.waits("c", ipamv1.IPAddressClaimReadyAllocationFailedReason, "others")
	n.delete(foreign)
	n.served("c")
}

// testRefused has a quota refuse what the provider creates, and somebody else have the name of a child.
func testRefused(n *namespace) {
	n.root("nodes", "10.0.0.0/24")
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota"}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{"count/prefixes.ipam.ironcore.dev": resource.MustParse("1")}}}
	n.create(quota)
	// The controller of quotas takes minutes to know the kind.
	n.eventually("the quota is used up", func() error {
		if err := n.get(quota); err != nil {
			return err
		}
		quota.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: quota.Spec.Hard}
		return n.management.Status().Update(n.ctx(), quota)
	})
	p := pool("nodes", "nodes", gateway("10.0.0.1"))
	n.create(p, claim("a", "nodes"))
	n.eventually("the pool says why", func() error {
		if err := n.get(p); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(p.Status.Conditions, capiv1alpha1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != capiv1alpha1.ReasonAddressesNotHeld || !strings.Contains(ready.Message, "exceeded quota") {
			return fmt.Errorf("Ready is %v", ready)
		}
		return nil
	})
	n.delete(quota)
	n.served("a")

	// The name of a child is the uid of the claim.
	b := claim("b", "nodes")
	b.Annotations = map[string]string{clusterv1.PausedAnnotation: ""}
	n.create(b)
	taken := harness.Child(string(b.UID), "nodes", harness.Length(32))
	n.prefixes().Create(taken)
	n.update(b, func() { b.Annotations = nil })
	n.waits("b", ipamv1.IPAddressClaimReadyAllocationFailedReason, "is not of this claim")
	n.prefixes().Delete(taken.Name)
	n.served("b")
	n.consistent()
}

// life is the test that limits the life of the provider.
func (n *namespace) life() testing.TB { return n.management.Installation.TB }

// testPaused shows that what is paused is left alone, until it is not.
func testPaused(n *namespace) {
	n.root("nodes", "10.0.0.0/24")
	p, c := pool("nodes", "nodes"), cluster("c")
	yes, no := true, false
	c.Spec.Paused = &yes
	n.create(p, c)
	pause := func(o client.Object) func() {
		return func() { o.SetAnnotations(map[string]string{clusterv1.PausedAnnotation: ""}) }
	}
	resume := func(o client.Object) func() { return func() { o.SetAnnotations(nil) } }
	inCluster := func(name, cluster string) *ipamv1.IPAddressClaim {
		claim := claim(name, "nodes")
		claim.Spec.ClusterName = cluster
		return claim
	}
	pausedClaim := claim("paused", "nodes")
	pause(pausedClaim)()
	// later is served after the others were seen, so they would be served by then.
	n.create(pausedClaim, inCluster("in-paused-cluster", "c"), inCluster("in-missing-cluster", "missing"), claim("later", "nodes"))
	n.served("later")
	untouched := func(names ...string) {
		n.TB.Helper()
		for _, name := range names {
			c := claimIn(n, name)
			if err := n.get(c); err != nil {
				n.TB.Fatal(err)
			}
			if len(c.Finalizers) > 0 || len(c.Status.Conditions) > 0 {
				n.TB.Errorf("%s: %v %v", name, c.Finalizers, c.Status)
			}
		}
	}
	untouched("paused", "in-paused-cluster", "in-missing-cluster")
	n.update(pausedClaim, resume(pausedClaim))
	n.update(c, func() { c.Spec.Paused = &no })
	n.create(cluster("missing"))
	n.served("paused", "in-paused-cluster", "in-missing-cluster")

	// A paused pool, and a cluster that is paused by annotation.
	n.update(p, pause(p))
	n.update(c, pause(c))
	n.create(claim("in-paused-pool", "nodes"))
	n.delete(claimIn(n, "in-paused-cluster"), claimIn(n, "later"))
	n.root("others", "10.1.0.0/24")
	n.create(pool("others", "others"), claim("last", "others"))
	n.served("last")
	untouched("in-paused-pool")
	n.update(p, resume(p))
	n.served("in-paused-pool")
	n.gone(claimIn(n, "later"))
	if err := n.get(&ipamv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "in-paused-cluster"}}); err != nil {
		n.TB.Errorf("the address of a claim in a paused cluster is released: %v", err)
	}
	n.update(c, resume(c))
	n.gone(claimIn(n, "in-paused-cluster"))
	// A cluster that is gone does not keep its claims.
	missing := cluster("missing")
	missing.Namespace = n.name
	n.delete(missing)
	n.gone(missing)
	n.delete(claimIn(n, "in-missing-cluster"))
	n.gone(claimIn(n, "in-missing-cluster"))
	n.consistent()
}

// testRelease shows the order in which a claim is released.
func testRelease(n *namespace) {
	n.root("nodes", "10.0.0.0/24")
	n.create(pool("nodes", "nodes"), claim("a", "nodes"))
	address := n.served("a")["a"]
	n.update(address, func() { address.Finalizers = append(address.Finalizers, "example.com/machine") })
	n.delete(claimIn(n, "a"))
	n.eventually("the IPAddress is being deleted", func() error {
		if err := n.get(address); err != nil {
			return err
		}
		return harness.Unless(address.DeletionTimestamp != nil && slices.Equal(address.Finalizers, []string{"example.com/machine"}), "%v", address.ObjectMeta)
	})
	if children := n.children()["a"]; len(children) != 1 || children[0].DeletionTimestamp != nil {
		n.TB.Errorf("the Prefix does not wait for the IPAddress: %v", children)
	}
	n.update(address, func() { address.Finalizers = nil })
	n.gone(claimIn(n, "a"))
	n.consistent()
}

// testPoolDeletion deletes a pool and the parent below claims: both wait.
func testPoolDeletion(n *namespace) {
	n.root("nodes", "10.0.0.0/24")
	p := pool("nodes", "nodes", gateway("10.0.0.1"))
	n.create(p, claim("a", "nodes"), direct("b", "nodes"))
	n.served("a", "b")
	n.delete(p)
	n.prefixes().Delete("nodes")
	n.eventually("the pool says that it waits", func() error {
		if err := n.get(p); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(p.Status.Conditions, capiv1alpha1.ConditionReady)
		return harness.Unless(ready != nil && ready.Reason == capiv1alpha1.ReasonDeleting, "%v", ready)
	})
	n.create(claim("late", "nodes"))
	n.waits("late", ipamv1.IPAddressClaimReadyPoolNotReadyReason, "deleted")
	n.served("a", "b")
	n.delete(claimIn(n, "a"), claimIn(n, "b"), claimIn(n, "late"))
	n.gone(p)
	n.prefixes().Empty()
}

// testNamespaceDeletion deletes a namespace with everything in it.
func testNamespaceDeletion(n *namespace) {
	n.root("nodes", "10.0.0.0/24")
	n.create(cluster("c"), pool("nodes", "nodes", gateway("10.0.0.1")))
	c := claim("a", "nodes")
	c.Spec.ClusterName = "c"
	n.create(c, direct("b", "nodes"))
	n.served("a", "b")
	if err := n.Installation.Client.CoreV1().Namespaces().Delete(n.ctx(), n.name, metav1.DeleteOptions{}); err != nil {
		n.TB.Fatal(err)
	}
	n.eventually("the namespace is gone", func() error {
		ns, err := n.Installation.Client.CoreV1().Namespaces().Get(n.ctx(), n.name, metav1.GetOptions{})
		if client.IgnoreNotFound(err) == nil && err != nil {
			return nil
		}
		return fmt.Errorf("%v %v", ns.Status.Conditions, err)
	})
}

// testInvalidPools shows what the server says about pools that make no sense, and what the pool says that contradicts its
// parent.
func testInvalidPools(n *namespace) {
	for _, test := range []struct {
		spec capiv1alpha1.PrefixPoolSpec
		want string
	}{
		{capiv1alpha1.PrefixPoolSpec{}, "exactly one of parentRef and parentSelector"},
		{capiv1alpha1.PrefixPoolSpec{ParentSelector: &metav1.LabelSelector{}}, "ipFamily is required"},
		{capiv1alpha1.PrefixPoolSpec{ParentRef: &capiv1alpha1.PrefixReference{Name: "p"}, Gateway: "10.0.0.256"}, "spec.gateway"},
		{capiv1alpha1.PrefixPoolSpec{ParentRef: &capiv1alpha1.PrefixReference{Name: "p"}, IPFamily: "IPv6", Gateway: "10.0.0.1"}, "gateway must be an address of ipFamily"},
		{capiv1alpha1.PrefixPoolSpec{ParentRef: &capiv1alpha1.PrefixReference{Name: "p"}, IPFamily: "IPv4", PrefixLength: 33}, "at most 32"},
		{capiv1alpha1.PrefixPoolSpec{ParentRef: &capiv1alpha1.PrefixReference{Name: "p"}, PrefixLength: 129}, "spec.prefixLength"},
	} {
		p := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: "invalid"}, Spec: test.spec}
		if err := n.management.Create(n.ctx(), p); err == nil || !strings.Contains(err.Error(), test.want) {
			n.TB.Errorf("%+v: %v, not %s", test.spec, err, test.want)
		}
	}
	n.root("nodes", "10.0.0.0/24", func(p *v1alpha1.Prefix) {
		p.Annotations = map[string]string{capiv1alpha1.AnnotationPrefix: "many"}
	})
	n.create(pool("v6", "nodes", gateway("2001:db8::1")), direct("direct", "nodes"), claim("a", "v6"))
	n.waits("a", ipamv1.IPAddressClaimReadyPoolNotReadyReason, "gateway 2001:db8::1 is not an address of IPv4")
	n.waits("direct", ipamv1.IPAddressClaimReadyPoolNotReadyReason, `"many" is not a prefix length`)
	p := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "nodes"}}
	n.update(p, func() { p.Annotations = nil })
	n.served("direct")
}

// testManyClaims measures: one claim, an exhausted pool, and 1,000 claims by 32 creators.
func testManyClaims(n *namespace) {
	n.root("nodes", "10.0.0.0/20")
	n.root("small", "10.1.0.0/30")
	n.create(pool("nodes", "nodes", gateway("10.0.0.1")), pool("small", "small"))
	n.compare(claim)
	n.consistent()
}

// manyClaims creates claims in parallel, and waits until all are served. As an infrastructure provider does, it watches them.
func (n *namespace) manyClaims(claims, creators int, newClaim func(string) *ipamv1.IPAddressClaim) {
	n.TB.Helper()
	served := make(chan string, 10*claims)
	informers, err := cache.New(n.Admin, cache.Options{Scheme: n.Scheme(), DefaultNamespaces: map[string]cache.Config{n.name: {}}})
	if err != nil {
		n.TB.Fatal(err)
	}
	informer, err := informers.GetInformer(n.ctx(), &ipamv1.IPAddressClaim{}, cache.BlockUntilSynced(false))
	if err != nil {
		n.TB.Fatal(err)
	}
	handle := func(o any) {
		if c := o.(*ipamv1.IPAddressClaim); c.Status.AddressRef.Name != "" {
			served <- c.Name
		}
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: handle, UpdateFunc: func(_, o any) { handle(o) }}); err != nil {
		n.TB.Fatal(err)
	}
	go func() { _ = informers.Start(n.ctx()) }()
	if !informers.WaitForCacheSync(n.ctx()) {
		n.TB.Fatal("no cache")
	}
	began := time.Now()
	created := make(chan time.Duration, 1)
	go func() {
		harness.Each(claims, creators, func(i int) {
			c := newClaim(fmt.Sprint("machine-", i))
			c.Namespace = n.name
			if err := n.management.Create(n.ctx(), c); err != nil {
				n.TB.Error(err)
			}
		})
		created <- time.Since(began)
	}()
	done := map[string]bool{}
	for limit := time.After(harness.Patience); len(done) < claims; {
		select {
		case name := <-served:
			done[name] = true
		case <-limit:
			n.TB.Fatalf("%d claims are served after %v", len(done), harness.Patience)
		}
	}
	took := time.Since(began)
	n.TB.Logf("%d claims by %d creators: created after %v, all served after %v, %.0f claims a second", claims, creators, <-created, took, float64(claims)/took.Seconds())
}

// testWatchFilter has a provider that serves only what has a label.
func testWatchFilter(n *namespace) {
	n.provider.Kill()
	n.start(n.life(), "--watch-filter", "mine")
	n.root("nodes", "10.0.0.0/24")
	labels := map[string]string{clusterv1.WatchLabel: "mine"}
	p, other, mine := pool("nodes", "nodes"), claim("other", "nodes"), claim("mine", "nodes")
	p.Labels, mine.Labels = labels, labels
	n.create(p, other, mine)
	n.served("mine")
	if err := n.get(other); err != nil || len(other.Finalizers) > 0 || len(other.Status.Conditions) > 0 {
		n.TB.Errorf("%v: %+v", err, other)
	}
	n.update(other, func() { other.Labels = labels })
	n.served("other")
	n.consistent()
}
