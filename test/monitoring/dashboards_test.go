// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/monitoring/dashboards"
)

// dashboardQueries returns the queries of the dashboards in config/monitoring, with all pools chosen.
func dashboardQueries(t testing.TB) []string {
	t.Helper()
	files, err := dashboards.All()
	if err != nil {
		t.Fatal(err)
	}
	var queries []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text, err := os.ReadFile(filepath.Join(kube.Root(), "config/monitoring/dashboards", name))
		if err != nil {
			t.Fatal(err)
		}
		var parsed struct {
			Panels []struct {
				Title   string `json:"title"`
				Targets []struct {
					Expr string `json:"expr"`
				} `json:"targets"`
			} `json:"panels"`
		}
		if err := json.Unmarshal(text, &parsed); err != nil {
			t.Fatal(err)
		}
		for _, panel := range parsed.Panels {
			if len(panel.Targets) == 0 {
				t.Errorf("%s: panel %q has no query", name, panel.Title)
			}
			for _, target := range panel.Targets {
				query := strings.NewReplacer("$namespace", ".*", "$prefix", ".*", "$__rate_interval", "5m").Replace(target.Expr)
				if strings.Contains(query, "$") {
					t.Errorf("%s: unknown variable in %s", name, query)
				}
				queries = append(queries, query)
			}
		}
	}
	if len(queries) < 30 {
		t.Errorf("only %d queries", len(queries))
	}
	return queries
}

// TestGenerated shows that the files that are made of others are up to date.
func TestGenerated(t *testing.T) {
	files, err := dashboards.All()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	for name, from := range dashboards.Rules {
		rule, err := os.ReadFile(filepath.Join(kube.Root(), from))
		if err != nil {
			t.Fatal(err)
		}
		_, spec, _ := bytes.Cut(rule, []byte("\nspec:\n"))
		want["config/chart/ipam/files/"+name] = spec
	}
	for name, text := range files {
		want["config/monitoring/dashboards/"+name], want["config/chart/ipam/files/dashboards/"+name] = text, text
	}
	for path, text := range want {
		got, err := os.ReadFile(filepath.Join(kube.Root(), path))
		if err != nil || !bytes.HasSuffix(got, text) {
			t.Errorf("%s is not up to date: run 'make generate'. %v", path, err)
		}
	}
}

// TestQueries parses all queries.
func TestQueries(t *testing.T) {
	for _, query := range dashboardQueries(t) {
		if len(metricsOf(t, query)) == 0 {
			t.Errorf("a query has no metric: %s", query)
		}
	}
}
