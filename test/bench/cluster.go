// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/datadir"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/etcd"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/pki"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// measureCluster measures the product, installed in a cluster, with a user who has a normal role.
func measureCluster(b *bench) {
	alone := b.figureOf("children")
	count := b.count(children)
	b.progress.phase("install it in a cluster", 0)
	installation := product.Install(b, product.Options{
		Programs: filepath.Dir(b.program("ipam-apiserver")), Tree: b.tree.root, Members: 1, Servers: 1, Managers: 1, Durable: true,
	})
	const namespace = "team"
	_, _, config := installation.NewUser(namespace, "edit")
	s := b.newSite(config, namespace)
	var rates []float64
	for round := range rounds {
		parent := fmt.Sprintf("root-%d", round)
		s.root(parent)
		rates = append(rates, s.allocate(fmt.Sprintf("round %d of %d", round+1, rounds), fmt.Sprintf("child-%d", round), count, of(parent)))
	}
	installation.Audited()
	b.set("cluster/alone", median(rates)/alone)
	b.median("cluster", rates)
}

// separate is the product without a cluster: processes of ipam-apiserver and ipam-controller-manager, and an etcd
// in this process.
type separate struct {
	*site
	config *rest.Config
	// kubeconfig is the path of the file that config was read from.
	kubeconfig string
	etcd       *etcd.Server
	server     *process.Process
	managers   []*process.Process
}

// startSeparate starts an API server, and controller managers without leader election, on a data directory of
// ipam-standalone. It first calls the functions in before with the endpoint of etcd.
func startSeparate(b *bench, data string, managers int, before ...func(etcd string)) *separate {
	b.Helper()
	server, manager := b.program("ipam-apiserver"), b.program("ipam-controller-manager")
	b.progress.phase("start the programs", 0)
	s := &separate{}
	// ipam-standalone accepts only an empty directory, or one that was opened before.
	directory, err := datadir.Open(data)
	if err == nil {
		err = directory.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	if s.etcd, err = etcd.Start(b.ctx, data, "error"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.etcd.Close)
	for _, f := range before {
		f(s.etcd.Endpoints()[0])
	}
	certificates, err := pki.Ensure(filepath.Join(data, "pki"), time.Now())
	if err != nil {
		b.Fatal(err)
	}
	port, dir := process.ReservePort(b), b.TempDir()
	s.kubeconfig = filepath.Join(dir, "kubeconfig")
	if err := pki.WriteKubeconfig(s.kubeconfig, fmt.Sprintf("https://127.0.0.1:%d", port), certificates); err != nil {
		b.Fatal(err)
	}
	if s.config, err = clientcmd.BuildConfigFromFlags("", s.kubeconfig); err != nil {
		b.Fatal(err)
	}
	s.server = process.Start(b, dir, server,
		"--without-cluster",
		"--client-ca-file", certificates.CACertFile,
		"--tls-cert-file", certificates.ServingCertFile,
		"--tls-private-key-file", certificates.ServingKeyFile,
		"--bind-address", "127.0.0.1",
		"--secure-port", strconv.Itoa(port),
		"--etcd-servers", s.etcd.Endpoints()[0])
	s.site = b.newSite(s.config, namespace)
	b.eventually("ipam-apiserver answers", func() error {
		if s.server.HasEnded() {
			b.Fatalf("ipam-apiserver ended: %s", s.server.LastOfLog(2000))
		}
		_, err := s.user.List(b.ctx, metav1.ListOptions{Limit: 1})
		return err
	})
	for range managers {
		s.managers = append(s.managers, process.Start(b, dir, manager, "--kubeconfig", s.kubeconfig, "--leader-elect=false", "--bind-address", "0"))
	}
	return s
}

// stop stops all of it gracefully.
func (s *separate) stop() {
	s.Helper()
	for _, p := range append(s.managers, s.server) {
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Ended:
		case <-time.After(patience):
			s.Fatalf("it does not end: %s", p.LastOfLog(2000))
		}
	}
	s.etcd.Close()
}

// binds returns the numbers of all bindings of PrefixAllocations and of the refused ones.
func (s *separate) binds() (all, refused float64) {
	s.Helper()
	client, err := rest.HTTPClientFor(s.config)
	if err != nil {
		s.Fatal(err)
	}
	defer client.CloseIdleConnections()
	const name = "apiserver_request_total"
	of := []string{"resource=prefixallocations", "subresource=binding"}
	counted := s.metrics(client, s.config.Host+"/metrics")
	if all = counted.sum(name, of...); all == 0 {
		s.Fatalf("the API server does not count binds in %s", name)
	}
	return all, counted.sum(name, append(of, "code=409")...)
}

func measureManagers(b *bench) {
	count := b.count(children)
	one, two := startSeparate(b, b.TempDir(), 1), startSeparate(b, b.TempDir(), 2)
	side := func(s *separate, what string) func(int) float64 {
		return func(round int) float64 {
			parent := fmt.Sprintf("root-%d", round)
			s.root(parent)
			return s.allocate(fmt.Sprintf("round %d of %d: %s", round+1, comparisons, what), fmt.Sprintf("child-%d", round), count, of(parent))
		}
	}
	rates := turns(comparisons, side(one, "one manager"), side(two, "two managers"))
	all, refused := two.binds()
	b.median("two managers", ratios(rates[1], rates[0]))
	b.median("one manager", rates[0])
	b.set("refused", 100*refused/all)
}
