// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

var sample = regexp.MustCompile(`(?m)^ipam_claims_differences\{kind="(\w+)"\} (\S+)$`)

var compared = regexp.MustCompile(`(?m)^ipam_claims_compared_timestamp_seconds (\S+)$`)

func scrape(t testing.TB, instance *harness.Server) []byte {
	t.Helper()
	body, err := instance.Client.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// comparedOf returns ipam_claims_compared_timestamp_seconds.
func comparedOf(t testing.TB, instance *harness.Server) float64 {
	t.Helper()
	match := compared.FindSubmatch(scrape(t, instance))
	if match == nil {
		t.Fatal("it is not said when anything was compared")
	}
	value, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// metricsOf returns ipam_claims_differences by kind.
func metricsOf(t testing.TB, instance *harness.Server) map[audit.DifferenceKind]int {
	t.Helper()
	body := scrape(t, instance)
	values := map[audit.DifferenceKind]int{}
	for _, match := range sample.FindAllSubmatch(body, -1) {
		value, err := strconv.ParseFloat(string(match[2]), 64)
		if err != nil {
			t.Fatal(err)
		}
		values[audit.DifferenceKind(match[1])] = int(value)
	}
	return values
}

// countsOf counts the findings by kind. Kinds without findings are 0.
func countsOf(found []finding) map[audit.DifferenceKind]int {
	counts := map[audit.DifferenceKind]int{}
	for _, kind := range audit.DifferenceKinds {
		counts[kind] = 0
	}
	for _, f := range found {
		counts[f.kind]++
	}
	return counts
}

// TestMetric is not parallel to other tests, because the metric belongs to the process.
func TestMetric(t *testing.T) {
	// At the start, allocations without a claim get one, even if it overlaps, and claims without an allocation are
	// removed.
	w, all, left := corruptAll(t)
	left = slices.DeleteFunc(left, func(f finding) bool { return f.kind == audit.Leftover })
	dir := t.TempDir()
	s, stop := startEtcd(t, dir)
	s.put(t, w)
	stop()
	instance := harness.Start(t, harness.DataDir(dir), harness.Customize(func(o *apiserver.Options) { o.AuditInterval = 0 }))
	if got := metricsOf(t, instance); !maps.Equal(got, countsOf(left)) {
		t.Errorf("after the start: %v, not %v", got, countsOf(left))
	}
	// No more audits run.
	s = connect(t, instance.EtcdEndpoints)
	s.replace(t, healthy(t))
	time.Sleep(200 * time.Millisecond)
	if got := metricsOf(t, instance); !maps.Equal(got, countsOf(left)) {
		t.Errorf("without an interval: %v, not %v", got, countsOf(left))
	}
	instance.Close()

	instance = harness.Start(t, harness.DataDir(dir), harness.Customize(func(o *apiserver.Options) { o.AuditInterval = 50 * time.Millisecond }))
	if got := metricsOf(t, instance); !maps.Equal(got, countsOf(nil)) {
		t.Errorf("nothing is wrong: %v", got)
	}
	s = connect(t, instance.EtcdEndpoints)
	started := comparedOf(t, instance)
	harness.Eventually(t, "all is compared again", func() error { return harness.Unless(comparedOf(t, instance) > started, "it is not") })
	for _, want := range [][]finding{all, nil} {
		if s.replace(t, healthy(t)); want != nil {
			s.replace(t, w)
		}
		var got map[audit.DifferenceKind]int
		harness.Eventually(t, "the metric is right", func() error {
			got = metricsOf(t, instance)
			return harness.Unless(maps.Equal(got, countsOf(want)), "%v, not %v", got, countsOf(want))
		})
	}
}
