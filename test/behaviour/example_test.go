// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// This program creates a child with the typed clientset, and uses an informer to wait until the child is allocated.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	config, err := clientcmd.BuildConfigFromFlags("", shared.Kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client, err := versioned.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	prefixes := client.IpamV1alpha1().Prefixes("example")

	root := &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: "root", Labels: map[string]string{"subnet-type": "public"}},
		Spec:       v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"},
	}
	if _, err := prefixes.Create(ctx, root, metav1.CreateOptions{}); err != nil {
		log.Fatal(err)
	}
	child := &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: "subnet"},
		Spec: v1alpha1.PrefixSpec{
			IPFamily:       v1alpha1.IPv4,
			PrefixLength:   24,
			ParentSelector: &metav1.LabelSelector{MatchLabels: root.Labels},
		},
	}
	if _, err := prefixes.Create(ctx, child, metav1.CreateOptions{}); err != nil {
		log.Fatal(err)
	}

	factory := externalversions.NewSharedInformerFactoryWithOptions(client, 0, externalversions.WithNamespace("example"))
	allocated := make(chan string, 1)
	look := func(obj any) {
		if p := obj.(*v1alpha1.Prefix); p.Name == child.Name && p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			select {
			case allocated <- fmt.Sprintf("%s from %s", p.Spec.Prefix, p.Spec.ParentRef.Name):
			default:
			}
		}
	}
	if _, err := factory.Ipam().V1alpha1().Prefixes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, obj any) { look(obj) },
	}); err != nil {
		log.Fatal(err)
	}
	factory.StartWithContext(ctx)

	select {
	case prefix := <-allocated:
		fmt.Println(prefix)
	case <-ctx.Done():
		fmt.Println("not allocated in time")
	}
	cancel()
	factory.Shutdown()

	// Output:
	// 10.0.0.0/24 from root
}
