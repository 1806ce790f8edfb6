// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// sharers is the number of namespaces that share a parent.
const sharers = 50

// config returns the configuration of a client of the server.
func (s *standalone) config() *rest.Config {
	s.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.data, "kubeconfig"))
	if err != nil {
		s.Fatal(err)
	}
	return config
}

// share creates a large root of the default namespace, and shares it with all namespaces.
func (s *standalone) share(name string) {
	s.Helper()
	policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixPolicySpec{
		PrefixSelector: &metav1.LabelSelector{MatchLabels: map[string]string{batchLabel: name}}, SharedWith: &v1alpha1.PrefixSharing{All: true}}}
	if _, err := s.policies.Create(s.ctx, policy, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	s.root(name)
}

// ofShared returns the spec of a child that requests a small part of a parent of the default namespace.
func ofShared(parent string) v1alpha1.PrefixSpec {
	spec := of(parent)
	spec.ParentNamespace = namespace
	return spec
}

func measureShared(b *bench) {
	s, count := startStandalone(b), b.count(childrenOfTurn)
	config := s.config()
	everywhere := b.newSite(config, "")
	var tenants []*site
	for n := range sharers {
		tenants = append(tenants, b.newSite(config, fmt.Sprintf("tenant-%d", n)))
	}
	rate := func(what, batch string, spec v1alpha1.PrefixSpec) float64 {
		return everywhere.rateOf(what, count, batch, func(n int) { tenants[n%sharers].create(child(batch, n, spec)) })
	}
	rates := turns(comparisons, func(round int) float64 {
		parent := fmt.Sprintf("shared-%d", round)
		s.share(parent)
		return rate(fmt.Sprintf("round %d of %d: shared", round+1, comparisons), fmt.Sprintf("of-shared-%d", round), ofShared(parent))
	}, func(round int) float64 {
		parent := fmt.Sprintf("own-%d", round)
		for _, tenant := range tenants {
			tenant.root(parent)
		}
		return rate(fmt.Sprintf("round %d of %d: own", round+1, comparisons), fmt.Sprintf("of-own-%d", round), of(parent))
	})
	b.median("shared", ratios(rates[0], rates[1]))
	b.median("shared rate", rates[0])
}

func measureSharedFairness(b *bench) {
	s, count := startStandalone(b), b.count(300)
	config := s.config()
	many, one := b.newSite(config, "many"), b.newSite(config, "one")
	const pool = "pool"
	s.share(pool)
	// Nothing as large as a half is free any more.
	for _, half := range []string{"10.0.0.0/10", "10.128.0.0/10"} {
		s.create(&v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{GenerateName: "half-"}, Spec: v1alpha1.PrefixSpec{
			Prefix: half, ParentRef: &v1alpha1.LocalObjectReference{Name: pool}}})
	}
	var figures [2][2][]float64
	measure := func(side int, what string) {
		for round := range latencyRounds {
			took := one.createAtPace(fmt.Sprintf("round %d of %d: %s", round+1, latencyRounds, what), fmt.Sprintf("%s-%d", what, round), count, ofShared(pool))
			figures[side][0] = append(figures[side][0], took[len(took)/2])
			figures[side][1] = append(figures[side][1], took[len(took)*99/100])
		}
	}
	measure(0, "alone")

	hopeless := b.count(10_000)
	s.progress.phase("children that wait", hopeless)
	spec := ofShared(pool)
	spec.PrefixLength = 9
	each(b.ctx, hopeless, creators, func(n int) {
		many.create(child("waits", n, spec))
		s.progress.step()
	})
	many.awaitWhy(hopeless)
	measure(1, "beside")
	for i, id := range []string{"shared p50", "shared p99"} {
		b.median(id, ratios(figures[1][i], figures[0][i]))
	}
	b.median("shared alone", figures[0][1])
}
