// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 Every version of Grafana reads this format from a file. Only the newest read dashboardv2.

// Package dashboards builds the Grafana dashboards of the product. 'make generate' writes them to config/.
package dashboards

import (
	"encoding/json"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// All returns the JSON of the dashboards by file name.
func All() (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, build := range map[string]func() *dashboard.DashboardBuilder{"ipam-pools.json": pools, "ipam-service.json": service} {
		built, err := build().Build()
		if err != nil {
			return nil, err
		}
		text, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			return nil, err
		}
		files[name] = append(text, '\n')
	}
	return files, nil
}

// Rules has the PrometheusRules, by the name of the rule file in the chart that is made of them.
var Rules = map[string]string{
	"rules.yaml":             "config/monitoring/prometheusrule.yaml",
	"rules-cluster-api.yaml": "config/clusterapi/monitoring/prometheusrule.yaml",
}

// source is the data source that the variable "datasource" selects.
var source = common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}

// Units of Grafana.
const (
	short   = "short"
	ratio   = "percentunit"
	seconds = "s"
	bytes   = "bytes"
	perSec  = "reqps"
)

// query is a query, and the legend of its series.
type query struct{ expr, legend string }

func (q query) builder(instant bool) cog.Builder[variants.Dataquery] {
	b := prometheus.NewDataqueryBuilder().Datasource(source).Expr(q.expr).LegendFormat(q.legend)
	if instant {
		return b.Instant()
	}
	return b.Range()
}

// graph is a panel with lines over time, half as wide as the dashboard.
func graph(title, description, unit string, queries ...query) *timeseries.PanelBuilder {
	panel := timeseries.NewPanelBuilder().Title(title).Description(description).Datasource(source).Unit(unit).Min(0).
		FillOpacity(8).Span(12).Height(8)
	for _, q := range queries {
		panel.WithTarget(q.builder(false))
	}
	return panel
}

// number is a panel with one current value. It is red from red on, if that is not 0.
func number(title, description, unit string, red float64, q query) *stat.PanelBuilder {
	steps := []dashboard.Threshold{{Color: "green"}}
	if red != 0 {
		steps = append(steps, dashboard.Threshold{Value: new(red), Color: "red"})
	}
	return stat.NewPanelBuilder().Title(title).Description(description).Datasource(source).Unit(unit).NoValue("0").
		Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)).
		Span(6).Height(4).WithTarget(q.builder(true))
}

// newDashboard returns an empty dashboard with a variable for the data source.
func newDashboard(uid, title, description string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder(title).Uid(uid).Description(description).Tags([]string{"ipam"}).
		Refresh("1m").Time("now-24h", "now").Timezone("browser").Readonly().
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
}

// labelVariable returns a variable that selects values of a label.
func labelVariable(name, label, definition string) cog.Builder[dashboard.VariableModel] {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source).
		Query(dashboard.StringOrMap{String: new(definition)}).Definition(definition).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).IncludeAll(true).AllValue(".*")
}

// pools is the dashboard for owners of pools.
func pools() *dashboard.DashboardBuilder {
	const chosen = `namespace=~"$namespace",prefix=~"$prefix"`
	return newDashboard("ipam-pools", "IPAM / Pools", "How full the pools are, and who waits for them.").
		WithVariable(labelVariable("namespace", "Namespace", "label_values(ipam_pool_info, namespace)")).
		WithVariable(labelVariable("prefix", "Pool", `label_values(ipam_pool_info{namespace=~"$namespace"}, prefix)`)).
		WithPanel(number("Pools", "Pools that have metrics.", short, 0,
			query{`count(max by (namespace, prefix) (ipam_pool_info{` + chosen + `}))`, ""})).
		WithPanel(number("Over 90 % in use", "The alert IPAMPoolAlmostFull.", short, 1,
			query{`count(namespace_prefix:ipam_pool_used:ratio{` + chosen + `} > 0.9) or vector(0)`, ""})).
		WithPanel(number("Pending children", "Child Prefixes that are not allocated yet, for any reason.", short, 0,
			query{`sum(max by (namespace, reason) (ipam_children_pending{namespace=~"$namespace"})) or vector(0)`, ""})).
		WithPanel(number("Full soonest", "How long until the first pool is full, if they fill as on the last day.", seconds, 0,
			query{`min(namespace_prefix:ipam_pool_full_seconds:deriv1d{` + chosen + `}) or vector(0)`, ""})).
		WithPanel(graph("Use", "Share of the space that is in use, of what is not reserved.", ratio,
			query{`namespace_prefix:ipam_pool_used:ratio{` + chosen + `}`, "{{namespace}}/{{prefix}}"}).Max(1)).
		WithPanel(graph("Children", "Prefixes that are allocated from the pool.", short,
			query{`max by (namespace, prefix) (ipam_pool_children{` + chosen + `})`, "{{namespace}}/{{prefix}}"})).
		WithPanel(graph("Addresses by state", "All chosen pools together.", short,
			query{`sum by (state) (max by (namespace, prefix, state) (ipam_pool_addresses{` + chosen + `}))`, "{{state}}"})).
		WithPanel(graph("Largest free block", "A request for more than this waits, even if enough addresses are free in several blocks.", short,
			query{`max by (namespace, prefix) (ipam_pool_largest_free_block_addresses{` + chosen + `})`, "{{namespace}}/{{prefix}}"})).
		WithPanel(graph("Requests that wait", "Requests that wait for a pool, by reason.", short,
			query{`max by (namespace, prefix, reason) (ipam_pool_waiting_children{` + chosen + `})`, "{{namespace}}/{{prefix}} {{reason}}"})).
		WithPanel(graph("Oldest Pending child", "How long the oldest child waits, by reason.", seconds,
			query{`namespace_reason:ipam_children_pending_age_seconds:max{namespace=~"$namespace"}`, "{{namespace}} {{reason}}"})).
		WithPanel(graph("Fragmentation", "Share of the free space that is not in the largest free block.", ratio,
			query{`1 - max by (namespace, prefix) (ipam_pool_largest_free_block_addresses{` + chosen + `}) / (namespace_prefix:ipam_pool_free_addresses:max{` + chosen + `} > 0)`, "{{namespace}}/{{prefix}}"}).Max(1)).
		WithPanel(graph("Pools without metrics", "There are more pools than --pool-metrics-limit of the controller manager.", short,
			query{`max(ipam_pools_omitted)`, "pools"}))
}

// service is the dashboard for operators.
func service() *dashboard.DashboardBuilder {
	return newDashboard("ipam-service", "IPAM / Service", "How the API servers, the controllers and etcd are.").
		WithPanel(number("API servers", "API servers that Prometheus reaches.", short, 0,
			query{`sum(up{job="ipam-apiserver"}) or vector(0)`, ""})).
		WithPanel(number("Leaders", "Controller managers that work. It must be 1.", short, 2,
			query{`sum(leader_election_master_status{name="ipam-controller-manager"}) or vector(0)`, ""})).
		WithPanel(number("Differences", "Differences between objects and claims in the last audit. It must be 0.", short, 1,
			query{`sum(max by (kind) (ipam_claims_differences))`, ""})).
		WithPanel(number("Last audit", "Time since the last complete audit.", seconds, 12*3600,
			query{`time() - max(ipam_claims_compared_timestamp_seconds)`, ""})).
		WithPanel(graph("Requests", "Requests of all API servers, without watches.", perSec,
			query{`sum by (verb) (rate(apiserver_request_total{job="ipam-apiserver",verb!~"WATCH|CONNECT"}[$__rate_interval]))`, "{{verb}}"})).
		WithPanel(graph("Latency of requests", "99 % of the requests take less.", seconds,
			query{`verb:ipam_apiserver_request_duration_seconds:p99_5m`, "{{verb}}"})).
		WithPanel(graph("Server errors", "Share of the requests that are answered with 5xx.", ratio,
			query{`ipam:apiserver_request_errors:ratio_rate5m`, "5xx"}).Max(1)).
		WithPanel(graph("From create to Allocated", "How long children take. Those that wait for space count, too.", seconds,
			query{`ipam:child_allocation_duration_seconds:p50_5m`, "50 %"}, query{`ipam:child_allocation_duration_seconds:p99_5m`, "99 %"})).
		WithPanel(graph("Allocations", "Children that became Allocated, by second.", "ops",
			query{`sum(rate(ipam_child_allocation_duration_seconds_count[$__rate_interval]))`, "children"})).
		WithPanel(graph("Refused bindings", "By resource and reason. A few PrefixInUse are normal while two controllers or users write.", "ops",
			query{`sum by (resource, reason) (rate(ipam_refused_bindings_total[$__rate_interval]))`, "{{resource}} {{reason}}"})).
		WithPanel(graph("Queues of the controllers", "Names that wait for a worker.", short,
			query{`sum by (name) (workqueue_depth{job="ipam-controller-manager"})`, "{{name}}"})).
		WithPanel(graph("Objects in the scheduler", "In memory of the leader.", short,
			query{`max by (type) (ipam_scheduler_objects)`, "{{type}}"})).
		WithPanel(graph("Objects stored", "As the watch caches of the API servers count them.", short,
			query{`max by (resource) (apiserver_resource_objects{job="ipam-apiserver",group="ipam.ironcore.dev"})`, "{{resource}}"})).
		WithPanel(graph("Database of etcd", "Size and quota. At the quota all writes fail.", bytes,
			query{`etcd_mvcc_db_total_size_in_bytes{job="ipam-etcd"}`, "{{instance}}"}, query{`max(etcd_server_quota_backend_bytes{job="ipam-etcd"})`, "quota"})).
		WithPanel(graph("Latency of the disk of etcd", "99 % of the syncs of the log take less.", seconds,
			query{`histogram_quantile(0.99, sum by (instance, le) (rate(etcd_disk_wal_fsync_duration_seconds_bucket{job="ipam-etcd"}[$__rate_interval])))`, "{{instance}}"})).
		WithPanel(graph("Memory", "Resident memory of the programs.", bytes,
			query{`process_resident_memory_bytes{job=~"ipam-.*"}`, "{{job}} {{instance}}"})).
		WithPanel(graph("Live heap", "Share of GOMEMLIMIT that is in use. The alert IPAMMemoryAlmostFull begins at 80 %.", ratio,
			query{`job_instance:ipam_memory_live:ratio`, "{{job}} {{instance}}"}).Max(1)).
		WithPanel(graph("CPU", "Cores in use.", short,
			query{`rate(process_cpu_seconds_total{job=~"ipam-.*"}[$__rate_interval])`, "{{job}} {{instance}}"})).
		WithPanel(graph("Certificates", "Time until they expire.", seconds,
			query{`min by (certificate) (ipam_certificate_expiration_timestamp_seconds) - time()`, "{{certificate}}"})).
		WithPanel(graph("Events dropped", "Events that the rate limit of the controllers dropped, by second.", "ops",
			query{`sum by (type) (rate(ipam_controller_events_dropped_total[$__rate_interval])) or vector(0)`, "{{type}}"}))
}
