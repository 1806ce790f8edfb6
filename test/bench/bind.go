// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	embedded "github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	claimsstore "github.com/ironcore-dev/ipam-apiserver/registry/claims/store"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/rest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericrest "k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
)

const (
	// writers is the number of concurrent writers.
	writers = 64
	// bindRounds is the number of turns of each way to write, and bindsOfRound the number of objects in a turn.
	bindRounds   = 8
	bindsOfRound = 1024
)

// store is a target for writes.
type store struct {
	create func(*v1alpha1.PrefixAllocation) (*v1alpha1.PrefixAllocation, error)
	update func(*v1alpha1.PrefixAllocation) error
	bind   func(name string, binding *v1alpha1.PrefixAllocationBinding) error
	etcd   *clientv3.Client
}

// bindRates contains the objects per second for each way to write.
type bindRates struct{ bind, update, claim, key []float64 }

func measureBindByHTTP(b *bench) {
	server := startInProcess(b)
	rates := compareBinds(b, store{
		create: func(a *v1alpha1.PrefixAllocation) (*v1alpha1.PrefixAllocation, error) {
			return server.client.PrefixAllocations(namespace).Create(b.ctx, a, metav1.CreateOptions{})
		},
		update: func(a *v1alpha1.PrefixAllocation) error {
			_, err := server.client.PrefixAllocations(namespace).UpdateStatus(b.ctx, a, metav1.UpdateOptions{})
			return err
		},
		bind: func(name string, binding *v1alpha1.PrefixAllocationBinding) error {
			_, err := server.client.PrefixAllocations(namespace).Bind(b.ctx, name, binding, metav1.CreateOptions{})
			return err
		},
		etcd: server.etcd,
	})
	b.median("bind/update", ratios(rates.bind, rates.update))
	b.median("bind/claim", ratios(rates.bind, rates.claim))
	b.median("bind/key", ratios(rates.bind, rates.key))
	b.median("bind", rates.bind)
}

// measureBindInStorage does not use HTTP, which costs more than the differences between the ways to write.
func measureBindInStorage(b *bench) {
	server := startInProcess(b)
	etcd := *server.options
	etcd.SkipHealthEndpoints = true
	config := genericapiserver.NewRecommendedConfig(apiserver.Codecs)
	if err := etcd.ApplyTo(&config.Config); err != nil {
		b.Fatal(err)
	}
	registry, err := rest.New(apiserver.Scheme, apiserver.Codecs, config.RESTOptionsGetter, claimsstore.Config{WatchCache: etcd.EnableWatchCache})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(registry.Destroy)
	storages := registry.Group.VersionedResourcesStorageMap[v1alpha1.GroupVersion.Version]
	ctx := genericapirequest.WithNamespace(b.ctx, namespace)
	hub := func(a *v1alpha1.PrefixAllocation) (*ipam.PrefixAllocation, error) {
		out := &ipam.PrefixAllocation{}
		return out, apiserver.Scheme.Convert(a, out, nil)
	}
	rates := compareBinds(b, store{
		create: func(a *v1alpha1.PrefixAllocation) (*v1alpha1.PrefixAllocation, error) {
			in, err := hub(a)
			if err != nil {
				return nil, err
			}
			obj, err := storages["prefixallocations"].(genericrest.Creater).Create(ctx, in, genericrest.ValidateAllObjectFunc, &metav1.CreateOptions{})
			if err != nil {
				return nil, err
			}
			out := &v1alpha1.PrefixAllocation{}
			return out, apiserver.Scheme.Convert(obj, out, nil)
		},
		update: func(a *v1alpha1.PrefixAllocation) error {
			in, err := hub(a)
			if err != nil {
				return err
			}
			_, _, err = storages["prefixallocations/status"].(genericrest.Updater).Update(ctx, a.Name, genericrest.DefaultUpdatedObjectInfo(in),
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
		etcd: server.etcd,
	})
	b.median("storage/update", ratios(rates.bind, rates.update))
	b.median("storage/claim", ratios(rates.bind, rates.claim))
}

// inProcess is a server without controllers in this process, with a root.
type inProcess struct {
	client ipamclient.IpamV1alpha1Interface
	etcd   *clientv3.Client
	// options are the etcd options of the server.
	options *genericoptions.EtcdOptions
}

func startInProcess(b *bench) inProcess {
	b.progress.phase("start a server", 0)
	options := embedded.NewOptions()
	options.DataDir, options.Port, options.Controllers = b.TempDir(), 0, nil
	var server inProcess
	options.Customize = func(o *apiserver.Options) { server.options = o.Recommended.Etcd }
	// It must outlive the context, because of writers that are still running then.
	instance, err := embedded.Start(context.WithoutCancel(b.ctx), options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(instance.Close)
	if server.etcd, err = clientv3.New(clientv3.Config{Endpoints: instance.EtcdEndpoints}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.etcd.Close() })

	server.client = versioned.NewForConfigOrDie(b.userConfig(instance.Config)).IpamV1alpha1()
	root, err := server.client.Prefixes(namespace).Create(b.ctx, &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: "root"},
		Spec:       v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"},
	}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	root.Status.Phase = v1alpha1.PrefixPhaseAllocated
	if _, err := server.client.Prefixes(namespace).UpdateStatus(b.ctx, root, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	return server
}

// compareBinds compares the bind, which commits an object and its claim in one transaction, with a plain update of
// the status without any claim, and with two ways to claim first and then update. One way creates an API object
// named after the address, as Kubernetes does with the IPAddress of a Service (KEP-1880). The other one creates a
// key in etcd, without the API and without a check for overlaps, so no claim can cost less.
func compareBinds(b *bench, s store) bindRates {
	next := uint32(0)
	address := func() netip.Addr {
		// Scattered addresses, so that some of their bits are 1.
		var bytes [4]byte
		binary.BigEndian.PutUint32(bytes[:], 10<<24|(next*2654435761)>>8)
		next++
		return netip.AddrFrom4(bytes)
	}
	update := func(a *v1alpha1.PrefixAllocation) error {
		meta.SetStatusCondition(&a.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonParentExhausted, Message: "root (10.0.0.0/8) has no room",
		})
		return s.update(a)
	}
	count := b.count(bindsOfRound)
	// way returns the rate of one way to write in a round. The objects are created before.
	way := func(name string, write func(*v1alpha1.PrefixAllocation, netip.Addr) error) func(int) float64 {
		return func(round int) float64 {
			b.progress.phase(fmt.Sprintf("round %d of %d: %s", round+1, bindRounds, name), count)
			objs, addrs := make([]*v1alpha1.PrefixAllocation, count), make([]netip.Addr, count)
			each(b.ctx, count, writers, func(n int) {
				var err error
				if objs[n], err = s.create(allocation(fmt.Sprintf("%s-%d-%d", name, round, n))); err != nil {
					b.Error(err)
				}
			})
			if b.Failed() {
				b.FailNow()
			}
			for n := range addrs {
				addrs[n] = address()
			}
			start := time.Now()
			each(b.ctx, count, writers, func(n int) {
				if err := write(objs[n], addrs[n]); err != nil {
					b.Error(err)
				}
				b.progress.step()
			})
			return float64(count) / time.Since(start).Seconds()
		}
	}
	rates := turns(bindRounds,
		way("bind", func(a *v1alpha1.PrefixAllocation, addr netip.Addr) error {
			return s.bind(a.Name, &v1alpha1.PrefixAllocationBinding{
				Prefix: addr.String() + "/32", PrefixRef: v1alpha1.BindingReference{Name: "root"},
			})
		}),
		way("update", func(a *v1alpha1.PrefixAllocation, _ netip.Addr) error { return update(a) }),
		way("claim-then-update", func(a *v1alpha1.PrefixAllocation, addr netip.Addr) error {
			if _, err := s.create(allocation("claim-" + addr.String())); err != nil {
				return err
			}
			return update(a)
		}),
		way("key-then-update", func(a *v1alpha1.PrefixAllocation, addr netip.Addr) error {
			key := fmt.Sprintf("/claims-first/%x/032", addr.AsSlice())
			response, err := s.etcd.Txn(b.ctx).
				If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, a.Name)).
				Commit()
			if err != nil || !response.Succeeded {
				return fmt.Errorf("claim: %v", err)
			}
			return update(a)
		}),
	)
	return bindRates{rates[0], rates[1], rates[2], rates[3]}
}

func allocation(name string) *v1alpha1.PrefixAllocation {
	return &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 32, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
	}
}
