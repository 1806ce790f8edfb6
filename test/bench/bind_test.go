// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package bench measures, side by side in one run.
package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/cmd/ipam-standalone/app"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamv1alpha1 "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/rest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericrest "k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage/storagebackend"
)

const (
	// clients is how many writers there are at a time.
	clients = 64
	// perRound is how many objects each way of writing gets in a round.
	perRound = 1024
)

// server is what can be written to.
type server struct {
	create func(*v1alpha1.PrefixAllocation) (*v1alpha1.PrefixAllocation, error)
	update func(*v1alpha1.PrefixAllocation) error
	bind   func(name string, binding *v1alpha1.PrefixAllocationBinding) error
	etcd   *clientv3.Client
}

// BenchmarkBindByHTTP compares the ways of writing as a client sees them.
func BenchmarkBindByHTTP(b *testing.B) {
	_, client, etcd := start(b)
	ctx := context.Background()
	compare(b, server{
		create: func(a *v1alpha1.PrefixAllocation) (*v1alpha1.PrefixAllocation, error) {
			return client.PrefixAllocations(namespace).Create(ctx, a, metav1.CreateOptions{})
		},
		update: func(a *v1alpha1.PrefixAllocation) error {
			_, err := client.PrefixAllocations(namespace).UpdateStatus(ctx, a, metav1.UpdateOptions{})
			return err
		},
		bind: func(name string, binding *v1alpha1.PrefixAllocationBinding) error {
			_, err := client.PrefixAllocations(namespace).Bind(ctx, name, binding, metav1.CreateOptions{})
			return err
		},
		etcd: etcd,
	})
}

// BenchmarkBindInStorage compares the ways of writing without HTTP, which costs more than all that
// they differ in.
func BenchmarkBindInStorage(b *testing.B) {
	instance, _, etcd := start(b)
	options := genericoptions.NewEtcdOptions(storagebackend.NewDefaultConfig(apiserver.DefaultEtcdPrefix,
		apiserver.Codecs.LegacyCodec(schema.GroupVersion(v1alpha1.GroupVersion))))
	options.StorageConfig.Transport.ServerList = instance.EtcdEndpoints
	options.SkipHealthEndpoints = true
	config := genericapiserver.NewRecommendedConfig(apiserver.Codecs)
	if err := options.ApplyTo(&config.Config); err != nil {
		b.Fatal(err)
	}
	group, err := rest.NewAPIGroupInfo(apiserver.Scheme, apiserver.Codecs, claims.NewRESTOptionsGetter(config.RESTOptionsGetter))
	if err != nil {
		b.Fatal(err)
	}
	storages := group.VersionedResourcesStorageMap[v1alpha1.GroupVersion.Version]
	defer func() {
		for _, s := range storages {
			s.Destroy()
		}
	}()
	ctx := genericapirequest.WithNamespace(context.Background(), namespace)
	hub := func(a *v1alpha1.PrefixAllocation) *ipam.PrefixAllocation {
		out := &ipam.PrefixAllocation{}
		if err := apiserver.Scheme.Convert(a, out, nil); err != nil {
			b.Fatal(err)
		}
		return out
	}
	compare(b, server{
		create: func(a *v1alpha1.PrefixAllocation) (*v1alpha1.PrefixAllocation, error) {
			obj, err := storages["prefixallocations"].(genericrest.Creater).Create(ctx, hub(a), genericrest.ValidateAllObjectFunc, &metav1.CreateOptions{})
			if err != nil {
				return nil, err
			}
			out := &v1alpha1.PrefixAllocation{}
			return out, apiserver.Scheme.Convert(obj, out, nil)
		},
		update: func(a *v1alpha1.PrefixAllocation) error {
			_, _, err := storages["prefixallocations/status"].(genericrest.Updater).Update(ctx, a.Name, genericrest.DefaultUpdatedObjectInfo(hub(a)),
				genericrest.ValidateAllObjectFunc, genericrest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
			return err
		},
		bind: func(name string, binding *v1alpha1.PrefixAllocationBinding) error {
			out := &ipam.PrefixAllocationBinding{}
			if err := apiserver.Scheme.Convert(binding, out, nil); err != nil {
				return err
			}
			_, err := storages["prefixallocations/binding"].(genericrest.NamedCreater).Create(ctx, name, out, genericrest.ValidateAllObjectFunc, &metav1.CreateOptions{})
			return err
		},
		etcd: etcd,
	})
}

const namespace = "default"

// start starts a server without controllers and makes a root.
func start(b *testing.B) (*app.Instance, ipamv1alpha1.IpamV1alpha1Interface, *clientv3.Client) {
	b.Helper()
	ctx := context.Background()
	options := app.NewOptions()
	options.DataDir, options.Port, options.Controllers = b.TempDir(), 0, nil
	instance, err := app.Start(ctx, options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(instance.Close)
	etcd, err := clientv3.New(clientv3.Config{Endpoints: instance.EtcdEndpoints})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = etcd.Close() })

	client := versioned.NewForConfigOrDie(instance.Config).IpamV1alpha1()
	root, err := client.Prefixes(namespace).Create(ctx, &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: "root"},
		Spec:       v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"},
	}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	root.Status.Phase = v1alpha1.PrefixPhaseAllocated
	if _, err := client.Prefixes(namespace).UpdateStatus(ctx, root, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	return instance, client, etcd
}

// compare compares the bind, which commits object and claim in one transaction, with a plain update
// of the status of the same object, without any claim; and with two ways to claim first and then do
// such an update. One creates an object of the API whose name is the address, as Kubernetes does it
// with the IPAddress of a Service (KEP-1880). The other creates a key in etcd, past the API, and does
// not even look for overlaps: no claim can cost less. The ways take turns, so that what the machine
// does meanwhile concerns all of them.
func compare(b *testing.B, s server) {
	next := uint32(0)
	address := func() netip.Addr {
		// Scattered, so that there are ones among the bits.
		var bytes [4]byte
		binary.BigEndian.PutUint32(bytes[:], 10<<24|(next*2654435761)>>8)
		next++
		return netip.AddrFrom4(bytes)
	}
	update := func(a *v1alpha1.PrefixAllocation, _ netip.Addr) error {
		meta.SetStatusCondition(&a.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonParentExhausted, Message: "root (10.0.0.0/8) has no room",
		})
		return s.update(a)
	}
	ways := []struct {
		name  string
		write func(*v1alpha1.PrefixAllocation, netip.Addr) error
		took  time.Duration
	}{
		{name: "bind", write: func(a *v1alpha1.PrefixAllocation, addr netip.Addr) error {
			return s.bind(a.Name, &v1alpha1.PrefixAllocationBinding{
				Prefix: addr.String() + "/32", PrefixRef: v1alpha1.BindingReference{Name: "root"},
			})
		}},
		{name: "update", write: update},
		{name: "claim-then-update", write: func(a *v1alpha1.PrefixAllocation, addr netip.Addr) error {
			if _, err := s.create(allocation("claim-" + addr.String())); err != nil {
				return err
			}
			return update(a, addr)
		}},
		{name: "key-then-update", write: func(a *v1alpha1.PrefixAllocation, addr netip.Addr) error {
			key := fmt.Sprintf("/claims-first/%x/032", addr.AsSlice())
			response, err := s.etcd.Txn(context.Background()).
				If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, a.Name)).
				Commit()
			if err != nil || !response.Succeeded {
				return fmt.Errorf("claim: %v", err)
			}
			return update(a, addr)
		}},
	}

	round := 0
	for b.Loop() {
		for i := range ways {
			w := &ways[(i+round)%len(ways)]
			objs := make([]*v1alpha1.PrefixAllocation, perRound)
			addrs := make([]netip.Addr, perRound)
			inParallel(b, func(n int) (err error) {
				objs[n], err = s.create(allocation(fmt.Sprintf("%s-%d-%d", w.name, round, n)))
				return err
			})
			for n := range addrs {
				addrs[n] = address()
			}
			start := time.Now()
			inParallel(b, func(n int) error { return w.write(objs[n], addrs[n]) })
			w.took += time.Since(start)
		}
		round++
	}
	rate := func(took time.Duration) float64 { return float64(round*perRound) / took.Seconds() }
	for _, w := range ways {
		b.ReportMetric(rate(w.took), w.name+"/s")
	}
	for _, w := range ways[1:] {
		b.ReportMetric(rate(ways[0].took)/rate(w.took), "bind/"+w.name)
	}
	b.ReportMetric(0, "ns/op")
}

func allocation(name string) *v1alpha1.PrefixAllocation {
	return &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 32, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
	}
}

// inParallel does something perRound times, by all clients.
func inParallel(b *testing.B, do func(n int) error) {
	b.Helper()
	var wg sync.WaitGroup
	work := make(chan int)
	for range clients {
		wg.Go(func() {
			for n := range work {
				if err := do(n); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for n := range perRound {
		work <- n
	}
	close(work)
	wg.Wait()
}
