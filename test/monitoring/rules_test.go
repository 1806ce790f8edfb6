// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/monitoring/dashboards"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

// rule is a rule of config/monitoring.
type rule struct {
	Alert       string            `json:"alert,omitempty"`
	Record      string            `json:"record,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ruleFile is a PrometheusRule.
type ruleFile struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

// readRules returns the rules of all PrometheusRules, and them as one rule file of Prometheus.
func readRules(t testing.TB) (all []rule, spec []byte) {
	t.Helper()
	var merged ruleFile
	for _, path := range dashboards.Rules {
		text, err := os.ReadFile(filepath.Join(kube.Root(), path))
		if err != nil {
			t.Fatal(err)
		}
		var file ruleFile
		if err := yaml.UnmarshalStrict(text, &file); err != nil {
			t.Fatal(err)
		}
		merged.Spec.Groups = append(merged.Spec.Groups, file.Spec.Groups...)
	}
	for _, group := range merged.Spec.Groups {
		all = append(all, group.Rules...)
	}
	spec, err := yaml.Marshal(merged.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return all, spec
}

// promQL parses queries, with the functions that are not experimental.
var promQL = parser.NewParser(parser.Options{})

// metricsOf returns the names of the metrics in a query.
func metricsOf(t testing.TB, query string) []string {
	t.Helper()
	var names []string
	for _, selector := range selectorsOf(t, query) {
		names = append(names, selector.Name)
	}
	return names
}

// selectorsOf returns the selectors of a query.
func selectorsOf(t testing.TB, query string) (all []*parser.VectorSelector) {
	t.Helper()
	expr, err := promQL.ParseExpr(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			all = append(all, selector)
		}
		return nil
	})
	return all
}

// TestAlertsAreComplete looks for what an alert must have: what it means, values, how bad it is, and a runbook.
func TestAlertsAreComplete(t *testing.T) {
	const runbooks = "https://github.com/ironcore-dev/ipam-apiserver/blob/main/"
	all, _ := readRules(t)
	seen := map[string]bool{}
	for _, r := range all {
		name := r.Alert + r.Record
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if r.Alert == "" {
			continue
		}
		if severity := r.Labels["severity"]; severity != "warning" && severity != "critical" {
			t.Errorf("%s: severity is %q", name, severity)
		}
		if r.Annotations["summary"] == "" || !strings.Contains(r.Annotations["description"], "$value") {
			t.Errorf("%s: the annotations are %v", name, r.Annotations)
		}
		want := "docs/operating/runbooks/" + name + ".md"
		if r.Annotations["runbook_url"] != runbooks+want {
			t.Errorf("%s: the runbook is %s", name, r.Annotations["runbook_url"])
		}
		page, err := os.ReadFile(filepath.Join(kube.Root(), want))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, heading := range []string{"# " + name + "\n", "\n## What it means\n", "\n## How to see it\n", "\n## What to do\n"} {
			if !strings.Contains(string(page), heading) {
				t.Errorf("%s has no heading %q", want, strings.TrimSpace(heading))
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(kube.Root(), "docs/operating/runbooks/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := strings.TrimSuffix(filepath.Base(page), ".md"); !seen[name] {
			t.Errorf("there is a runbook and no alert %s", name)
		}
	}
}

// TestRecordingRules compares recorded values with what they should be, for values that are hard to get from a server.
func TestRecordingRules(t *testing.T) {
	exprs := map[string]string{}
	all, _ := readRules(t)
	for _, r := range all {
		// promqltest reads one line.
		exprs[r.Record] = strings.Join(strings.Fields(r.Expr), " ")
	}
	for name, series := range map[string]string{
		"namespace_prefix:ipam_pool_used:ratio": `
load 1m
  ipam_pool_addresses{namespace="a", prefix="half", state="used", instance="old"} 8 _ _
  ipam_pool_addresses{namespace="a", prefix="half", state="free", instance="old"} 8 _ _
  ipam_pool_addresses{namespace="a", prefix="half", state="used", instance="new"} _ 8 8
  ipam_pool_addresses{namespace="a", prefix="half", state="free", instance="new"} _ 8 8
  ipam_pool_addresses{namespace="a", prefix="half", state="reserved", instance="new"} _ 240 240
  ipam_pool_addresses{namespace="a", prefix="reserved", state="used"} 0x2
  ipam_pool_addresses{namespace="a", prefix="reserved", state="free"} 0x2
  ipam_pool_addresses{namespace="a", prefix="full", state="used"} 16x2
  ipam_pool_addresses{namespace="a", prefix="full", state="free"} 0x2
eval instant at 2m EXPR
  {namespace="a", prefix="half"} 0.5
  {namespace="a", prefix="full"} 1
`,
		"ipam:apiserver_request_errors:ratio_rate5m": `
load 1m
  apiserver_request_total{job="ipam-apiserver", code="201"} 0+90x10
  apiserver_request_total{job="ipam-apiserver", code="503"} 0+10x10
  apiserver_request_total{job="apiserver", code="503"} 0+1000x10
eval instant at 10m EXPR
  {} 0.1
clear
load 1m
  apiserver_request_total{job="ipam-apiserver", code="201"} 0+90x10
eval instant at 10m EXPR
  {} 0
`,
		"job_instance:ipam_memory_live:ratio": `
load 1m
  go_memstats_heap_alloc_bytes{job="ipam-apiserver", instance="1"} 900 950 800 980 900
  go_gc_gomemlimit_bytes{job="ipam-apiserver", instance="1"} 1000x4
  go_memstats_heap_alloc_bytes{job="ipam-apiserver", instance="without limit"} 800x4
  go_gc_gomemlimit_bytes{job="ipam-apiserver", instance="without limit"} 9223372036854775807x4
  go_memstats_heap_alloc_bytes{job="others", instance="1"} 800x4
  go_gc_gomemlimit_bytes{job="others", instance="1"} 1000x4
eval instant at 4m EXPR
  {job="ipam-apiserver", instance="1"} 0.8
`,
	} {
		t.Run(name, func(t *testing.T) {
			if exprs[name] == "" {
				t.Fatal("there is no such rule")
			}
			promqltest.RunTest(t, strings.NewReplacer("EXPR", exprs[name], "\neval", "\n\neval", "\nclear\n", "\n\nclear\n\n").Replace(series), promqltest.NewTestEngine(t, false, 0, 100_000))
		})
	}
}
