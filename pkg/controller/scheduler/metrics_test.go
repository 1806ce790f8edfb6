// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"
)

// TestMetrics has two full parents, requests that wait for them, and one that has an assumption.
func TestMetrics(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("full", "10.0.0.0/31", labelled("net", "a")), prefix("small", "10.1.0.0/32", labelled("net", "a")), prefix("wide", "11.0.0.0/8"))
	f.holds("one", "full", "10.0.0.0/32")
	f.holds("two", "full", "10.0.0.1/32")
	for _, c := range []candidate{want(t, "by-name", "/32", "full"), want(t, "by-selector", "IPv4/32", "net=a"), want(t, "exactly", "10.0.0.1/32", "full"), want(t, "nowhere", "IPv4/32", "net=z")} {
		if _, why := f.assume(c); why == nil {
			t.Fatalf("%s does not wait", c.name)
		}
	}
	f.mustAssume(t, want(t, "served", "/24", "wide"))

	s := &Scheduler{index: f.index}
	wanted := map[string]map[string]int{"full": {v1alpha1.ReasonParentExhausted: 2, v1alpha1.ReasonPrefixInUse: 1}}
	if got := s.Waiting(ns); !reflect.DeepEqual(got, wanted) {
		t.Errorf("waiting are %v, want %v", got, wanted)
	}
	if got := s.Waiting("elsewhere"); len(got) != 0 {
		t.Errorf("waiting are %v in a namespace that has none", got)
	}

	expect := func(text string) {
		t.Helper()
		if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(text), "ipam_scheduler_objects"); err != nil {
			t.Error(err)
		}
	}
	expect("")
	ctx, stop := context.WithCancel(t.Context())
	f.expose(ctx)
	expect(`
# HELP ipam_scheduler_objects [ALPHA] Number of objects in memory of the scheduler, by type: namespaces; prefixes; holders, which are allocations that hold space or for which it is assumed; pending allocations; and waiting ones, which are pending and for which there is no space.
# TYPE ipam_scheduler_objects gauge
ipam_scheduler_objects{type="holders"} 3
ipam_scheduler_objects{type="namespaces"} 1
ipam_scheduler_objects{type="pending"} 5
ipam_scheduler_objects{type="prefixes"} 3
ipam_scheduler_objects{type="waiting"} 4
`)
	stop()
	// The function of the context runs in a goroutine of its own.
	for current.Load() != nil {
		runtime.Gosched()
	}
	expect("")
}
