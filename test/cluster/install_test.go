// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package cluster tests the product, installed in a cluster.
package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// programs is the directory of the programs under test.
var programs string

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		programs = dir
		return func() {}, harness.Build(dir, "ipam-apiserver", "ipam-controller-manager")
	})
}

// installation is the product in a cluster.
type installation struct{ *product.Installation }

// install installs the product with the given numbers of etcd members, API servers and controller managers.
func install(t testing.TB, members, servers, managers int) *installation {
	t.Helper()
	return &installation{product.Install(t, product.Options{Programs: programs, Members: members, Servers: servers, Managers: managers})}
}

// user is a user with a role in one namespace.
type user struct {
	*installation
	name, namespace string
	kube.Kubectl
	config *rest.Config
	client ipamclient.IpamV1alpha1Interface
}

// newUser creates a namespace, and a user with a cluster role in it.
func (i *installation) newUser(namespace, role string) *user {
	i.Helper()
	name, kubeconfig, config := i.NewUser(namespace, role)
	return &user{i, name, namespace, i.Kubectl(kubeconfig), config, versioned.NewForConfigOrDie(config).IpamV1alpha1()}
}

// in runs kubectl in the namespace of the user.
func (u *user) in(args ...string) string {
	u.Helper()
	return u.Run(append([]string{"-n", u.namespace}, args...)...)
}

// waitAllocated waits until count Prefixes of the namespace are Allocated, and returns all Prefixes.
func (u *user) waitAllocated(count int) []v1alpha1.Prefix {
	u.Helper()
	var items []v1alpha1.Prefix
	u.Eventually(fmt.Sprintf("%d prefixes are allocated", count), func() error {
		list, err := u.client.Prefixes(u.namespace).List(u.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		items = list.Items
		n := 0
		for _, p := range items {
			if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				n++
			}
		}
		if n != count {
			return fmt.Errorf("%d of %d", n, len(items))
		}
		return nil
	})
	return items
}

// retried repeats a request as long as the server asks for that, like a client with normal retries.
func retried(ctx context.Context, f func() error) error {
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 30, Cap: 2 * time.Second}
	var last error
	err := wait.ExponentialBackoffWithContext(ctx, backoff, func(context.Context) (bool, error) {
		last = f()
		switch {
		case last == nil:
			return true, nil
		case apierrors.IsInvalid(last), apierrors.IsForbidden(last), apierrors.IsBadRequest(last):
			return false, last
		}
		return false, nil
	})
	if wait.Interrupted(err) {
		return last
	}
	return err
}

func root(name, prefix string) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixSpec{Prefix: prefix}}
}

func child(name, parent string, bits int32) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PrefixSpec{PrefixLength: bits, ParentRef: &v1alpha1.LocalObjectReference{Name: parent}},
	}
}
