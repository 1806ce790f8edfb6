// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
)

// TestStats counts the objects, with the watch cache if there is one.
func TestStats(t *testing.T) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.SizeBasedListCostEstimate, false)
	etcd := claimstest.RunEtcd(t)
	for _, v := range fewVariants {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, etcd, v)
			store := s.prefixes.Main.Storage
			ctx, _ := newNamespace(t)
			// Watch caches that are not ready read from etcd.
			if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
				return store.Storage.ReadinessCheck() == nil && s.allocations.Stored().ReadinessCheck() == nil, nil
			}); err != nil {
				t.Fatal(err)
			}
			for want := range int64(4) {
				if want > 0 {
					s.root(t, ctx, fmt.Sprint("root-", want), "10.0.0.0/8")
				}
				deadline := time.Now().Add(10 * time.Second)
				for {
					before := s.tamper.reads()
					stats, err := store.Stats(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if asked := s.tamper.reads() > before; asked == v.cached {
						t.Fatalf("etcd is asked: %t", asked)
					}
					if stats.ObjectCount == want {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("there are %d, not %d", stats.ObjectCount, want)
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
}
