// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// state waits until a Prefix of the user is allocated from a range, or waits for a reason. It returns the message of the
// condition.
func (u *user) state(name, want string) (message string) {
	u.Helper()
	u.Eventually(fmt.Sprintf("%s/%s: %s", u.namespace, name, want), func() error {
		p, err := u.client.Prefixes(u.namespace).Get(u.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
		if condition == nil || p.Spec.Prefix != want && condition.Reason != want {
			return fmt.Errorf("%+v %+v", p.Spec, p.Status)
		}
		message = condition.Message
		return nil
	})
	return message
}

// asks creates a child of a parent of another namespace. Without a parent, the label net=shared selects it.
func (u *user) asks(name, namespace, parent string, bits int32) {
	u.Helper()
	p := child(name, parent, bits)
	p.Spec.ParentNamespace = namespace
	if parent == "" {
		// Both families have it, and the family chooses.
		p.Spec.IPFamily = v1alpha1.IPFamily(map[bool]string{true: "IPv4", false: "IPv6"}[bits <= 32])
		p.Spec.ParentRef, p.Spec.ParentSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"net": "shared"}}
	}
	if _, err := u.client.Prefixes(u.namespace).Create(u.Context(), p, metav1.CreateOptions{}); err != nil {
		u.Fatal(err)
	}
}

// testSharing has an owner share pools with the namespaces that have a label, and tenants, who may read nothing of the
// owner's, take from them.
func testSharing(t *testing.T, i *installation) {
	const home = "net-owner"
	owner, red, blue := i.newUser(home, "admin"), i.newUser("team-red", "edit"), i.newUser("team-blue", "admin")
	admin := i.Kubectl(i.AdminKubeconfig)
	admin.Run("label", "namespace", red.namespace, "tier=gold")
	policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: "shared"}, Spec: v1alpha1.PrefixPolicySpec{
		PrefixSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"net": "shared"}},
		SharedWith:     &v1alpha1.PrefixSharing{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}},
	}}
	if _, err := owner.client.PrefixPolicies(home).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	families := map[string]struct {
		root string
		bits int32
		// of are the ranges in the order in which they are allocated.
		of [4]string
	}{
		"v4": {"10.0.0.0/24", 26, [4]string{"10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26", "10.0.0.192/26"}},
		"v6": {"2001:db8::/56", 58, [4]string{"2001:db8::/58", "2001:db8:0:40::/58", "2001:db8:0:80::/58", "2001:db8:0:c0::/58"}},
	}
	for name, pool := range families {
		parent := root(name, pool.root)
		parent.Labels = map[string]string{"net": "shared"}
		for _, p := range []*v1alpha1.Prefix{parent, root("private-"+name, pool.root)} {
			if _, err := owner.client.Prefixes(home).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			owner.state(p.Name, pool.root)
		}
	}

	for name, pool := range families {
		red.asks(name+"-a", home, name, pool.bits)
		red.state(name+"-a", pool.of[0])
		red.asks(name+"-b", home, "", pool.bits)
		red.state(name+"-b", pool.of[1])
		// What is not shared looks as if it did not exist.
		red.asks(name+"-private", home, "private-"+name, pool.bits)
		red.asks(name+"-none", home, "none-"+name, pool.bits)
		private, none := red.state(name+"-private", v1alpha1.ReasonNotShared), red.state(name+"-none", v1alpha1.ReasonNotShared)
		if strings.ReplaceAll(private, "private-", "none-") != none {
			t.Errorf("%q and %q tell whether there is a Prefix", private, none)
		}
		blue.asks(name+"-c", home, name, pool.bits)
		blue.asks(name+"-d", home, "", pool.bits)
		blue.state(name+"-c", v1alpha1.ReasonNotShared)
		blue.state(name+"-d", v1alpha1.ReasonNotShared)
	}

	// Consent is the owner's alone: an admin of another namespace can neither read nor write there, and a policy of its own
	// shares only what is its own.
	for what, err := range map[string]error{
		"read the pool":     second(blue.client.Prefixes(home).Get(t.Context(), "v4", metav1.GetOptions{})),
		"read the policies": second(blue.client.PrefixPolicies(home).List(t.Context(), metav1.ListOptions{})),
		"write a policy":    second(blue.client.PrefixPolicies(home).Create(t.Context(), policy, metav1.CreateOptions{})),
		"read allocations":  second(blue.client.PrefixAllocations(home).List(t.Context(), metav1.ListOptions{})),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	own := policy.DeepCopy()
	own.Spec.PrefixSelector, own.Spec.SharedWith = &metav1.LabelSelector{}, &v1alpha1.PrefixSharing{All: true}
	if _, err := blue.client.PrefixPolicies(blue.namespace).Create(t.Context(), own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	forged := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: "forged"}, Spec: v1alpha1.PrefixAllocationSpec{
		Prefix: "10.0.0.192/26", PrefixRef: &v1alpha1.LocalObjectReference{Name: "v4"}, PrefixNamespace: home,
	}}
	if _, err := blue.client.PrefixAllocations(blue.namespace).Create(t.Context(), forged, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pool, err := owner.client.Prefixes(home).Get(t.Context(), "v4", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = blue.client.PrefixAllocations(blue.namespace).Bind(t.Context(), "forged", &v1alpha1.PrefixAllocationBinding{
		Metadata: v1alpha1.BindingMeta{Name: "forged", Namespace: blue.namespace}, Prefix: forged.Spec.Prefix,
		PrefixRef: v1alpha1.BindingReference{Name: "v4", Namespace: home, UID: pool.UID},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("bind without consent: %v", err)
	}
	blue.state("v4-c", v1alpha1.ReasonNotShared)
	blue.in("delete", "prefixallocation", "forged", "--timeout=60s")

	// The label of the namespace is the consent, and waiting children hear of it.
	admin.Run("label", "namespace", blue.namespace, "tier=gold")
	for name, pool := range families {
		for _, child := range []string{name + "-c", name + "-d"} {
			i.Eventually(child, func() error {
				p, err := blue.client.Prefixes(blue.namespace).Get(t.Context(), child, metav1.GetOptions{})
				if err == nil && p.Spec.Prefix != pool.of[2] && p.Spec.Prefix != pool.of[3] {
					err = fmt.Errorf("%+v", p.Status)
				}
				return err
			})
		}
		// A tenant learns that it is full, but not who has it.
		red.asks(name+"-e", home, name, pool.bits)
		if message := red.state(name+"-e", v1alpha1.ReasonParentExhausted); strings.Contains(message, blue.namespace) || strings.Contains(message, name+"-c") {
			t.Errorf("the message names other tenants: %s", message)
		}
	}
	i.Eventually("the owner sees what is in use", func() error {
		p, err := owner.client.Prefixes(home).Get(t.Context(), "v4", metav1.GetOptions{})
		if err == nil && (p.Status.Usage == nil || p.Status.Usage.Allocations != 4) {
			err = fmt.Errorf("%+v", p.Status)
		}
		return err
	})

	// Consent that is withdrawn takes nothing back, and gives nothing more.
	admin.Run("label", "namespace", red.namespace, "tier-")
	red.in("delete", "prefix", "v4-a", "--timeout=60s")
	red.state("v4-e", v1alpha1.ReasonNotShared)
	red.state("v4-b", families["v4"].of[1])

	// Neither end hangs: the pool waits for the children of others, whose namespace gives back all it has.
	owner.in("delete", "prefix", "v4", "--wait=false")
	i.Eventually("the pool waits for children", func() error {
		p, err := owner.client.Prefixes(home).Get(t.Context(), "v4", metav1.GetOptions{})
		if err == nil && p.DeletionTimestamp == nil {
			err = fmt.Errorf("%+v", p.ObjectMeta)
		}
		return err
	})
	admin.Run("delete", "namespace", red.namespace, blue.namespace, "--timeout=60s")
	i.Eventually("the pool is gone", func() error {
		_, err := owner.client.Prefixes(home).Get(t.Context(), "v4", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it exists: %v", err)
	})
	owner.state("v6", families["v6"].root)
	i.Eventually("nothing of the other pool is in use", func() error {
		p, err := owner.client.Prefixes(home).Get(t.Context(), "v6", metav1.GetOptions{})
		if err == nil && p.Status.Usage != nil && p.Status.Usage.Allocations != 0 {
			err = fmt.Errorf("%+v", p.Status)
		}
		return err
	})
}
