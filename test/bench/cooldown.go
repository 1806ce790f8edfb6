// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// quantiles returns the one in the middle and the one that 99 of 100 do not exceed.
func quantiles(took []float64) (p50, p99 float64) {
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}

// measureCoolDown makes the space of very many children cool down until the same time, and creates others when it has.
func measureCoolDown(b *bench) {
	s, count, others := startSeparate(b, filepath.Join(b.TempDir(), "data"), 1), b.count(100_000), b.count(600)
	const cools = "cools"
	s.root(cools)
	filling := time.Now()
	s.fill("children", cools+"-child", count, func(int) v1alpha1.PrefixSpec { return of(cools) }, func() {})
	filled := time.Since(filling)
	create := func(what string, round int) []float64 {
		of, batch := of(fmt.Sprintf("root-%s-%d", what, round)), fmt.Sprintf("child-%s-%d", what, round)
		s.root(of.ParentRef.Name)
		return s.createAtPace(fmt.Sprintf("round %d of %d: %s", round+1, latencyRounds, what), batch, others, of)
	}
	var before, beside []float64
	for round := range latencyRounds {
		before = append(before, create("before", round)...)
	}

	// Children are deleted faster than they are created.
	end := time.Now().Add(30*time.Second + 2*filled)
	policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: cools}, Spec: v1alpha1.PrefixPolicySpec{
		PrefixSelector: &metav1.LabelSelector{MatchLabels: map[string]string{batchLabel: cools}},
		CoolDown:       &metav1.Duration{Duration: time.Until(end)},
	}}
	if _, err := s.policies.Create(s.ctx, policy, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	s.progress.phase("delete", count)
	// Each part gets a shorter coolDown.
	const parts = 100
	for part := range parts {
		patch := fmt.Sprintf(`{"spec":{"coolDown":%q}}`, max(0, time.Until(end).Round(time.Millisecond)))
		if _, err := s.policies.Patch(s.ctx, cools, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			b.Fatal(err)
		}
		first, next := count*part/parts, count*(part+1)/parts
		each(s.ctx, next-first, creators, func(n int) {
			if err := s.user.Delete(s.ctx, child(cools+"-child", first+n, of(cools)).Name, metav1.DeleteOptions{}); err != nil {
				s.Error(err)
			}
			s.progress.step()
		})
	}
	left := func() (int64, error) {
		p, err := s.user.Get(s.ctx, cools, metav1.GetOptions{})
		if err != nil || p.Status.Usage == nil {
			return 0, errors.Join(err, errors.New("no usage"))
		}
		if p.Status.Usage.Allocations > 0 {
			return 0, fmt.Errorf("%d children are left", p.Status.Usage.Allocations)
		}
		addresses, ok := new(big.Int).SetString(p.Status.Usage.Cooling, 10)
		if !ok {
			return 0, nil
		}
		return addresses.Int64() / 16, nil
	}
	var cooling int64
	b.eventually("all space cools down", func() (err error) {
		cooling, err = left()
		return err
	})
	if cooling != int64(count) {
		b.Errorf("%d of %d prefixes cool down at the end of the deletions", cooling, count)
	}
	time.Sleep(time.Until(end))

	start := time.Now()
	released, took := int64(0), time.Duration(0)
	for round := 0; round < latencyRounds && released < int64(count); round++ {
		beside = append(beside, create("beside", round)...)
		cooling, err := left()
		if err != nil {
			b.Fatal(err)
		}
		released, took = int64(count)-cooling, time.Since(start)
	}
	p50Before, p99Before := quantiles(before)
	p50, p99 := quantiles(beside)
	b.set("beside", p99/p99Before)
	b.set("before", p99Before)
	b.set("beside p50", p50/p50Before)
	b.set("released", float64(released)/took.Seconds())
}
