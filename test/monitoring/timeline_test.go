// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"cmp"
	"context"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/util/teststorage"
)

// timeline is a Prometheus whose clock the test moves. It gets real scrapes, and evaluates the rules.
type timeline struct {
	testing.TB
	storage *teststorage.TestStorage
	engine  *promql.Engine
	groups  []*rules.Group
	metrics []string
	step    time.Duration
	now     time.Time
	// began is the real time of the start, which is that of the first scrape.
	began time.Time
	// there are the series of the last scrape.
	there snapshot
	// answered are the queries that had an answer. It is shared by all timelines.
	answered map[string]bool
	queries  []string
}

// newTimeline returns a timeline that begins now or later, and scrapes in steps.
func newTimeline(t testing.TB, from time.Time, step time.Duration, queries []string, answered map[string]bool) *timeline {
	t.Helper()
	all, spec := readRules(t)
	l := &timeline{TB: t, storage: teststorage.New(t), step: step, now: from, began: time.Now(), answered: answered, queries: queries, metrics: []string{"up"}}
	l.engine = promqltest.NewTestEngine(t, false, 5*time.Minute, 10_000_000)
	for _, r := range all {
		l.metrics = append(l.metrics, metricsOf(t, r.Expr)...)
	}
	for _, query := range queries {
		l.metrics = append(l.metrics, metricsOf(t, query)...)
	}
	slices.Sort(l.metrics)
	l.metrics = slices.Compact(l.metrics)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	manager := rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation, QueryFunc: rules.EngineQueryFunc(l.engine, l.storage), AppendableV2: l.storage, Queryable: l.storage,
		Context: t.Context(), Logger: promslog.NewNopLogger(), Parser: promQL,
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	})
	groups, errs := manager.LoadGroups(step, labels.EmptyLabels(), "", nil, false, file)
	if errs != nil {
		t.Fatal(errs)
	}
	// Alerts use what the first group records.
	for _, name := range slices.SortedFunc(maps.Keys(groups), func(a, b string) int {
		return cmp.Or(-cmp.Compare(strings.Count(a, "recording"), strings.Count(b, "recording")), strings.Compare(a, b))
	}) {
		l.groups = append(l.groups, groups[name])
	}
	return l
}

// running are the metrics that a running program would have moved with the clock: an audit would have been made, and a
// certificate been renewed.
var running = regexp.MustCompile(`^ipam_(claims_compared|certificate_expiration)_timestamp_seconds$`)

// play lets time pass while the programs run and nothing changes.
func (l *timeline) play(d time.Duration, s snapshot) { l.ramp(d, s, s, true) }

// freeze lets time pass while the programs are idle or broken: all metrics stay as they are.
func (l *timeline) freeze(d time.Duration, s snapshot) { l.ramp(d, s, s, false) }

// ramp lets time pass in which the values change evenly from one scrape to another one.
func (l *timeline) ramp(d time.Duration, from, to snapshot, live bool) {
	l.Helper()
	from, to = from.only(l.metrics), to.only(l.metrics)
	steps := int(d / l.step)
	for i := range steps {
		part := float64(i+1) / float64(steps)
		l.now = l.now.Add(l.step)
		app := l.storage.Appender(l.Context())
		at := l.now.UnixMilli()
		add := func(of labels.Labels, v float64) {
			if _, err := app.Append(0, of, at, v); err != nil {
				l.Fatalf("%s: %v", of, err)
			}
		}
		for key, gone := range l.there {
			if _, ok := to[key]; !ok {
				add(gone.labels, math.Float64frombits(value.StaleNaN))
			}
		}
		for key, sample := range to {
			name, v := sample.labels.Get(model.MetricNameLabel), sample.value
			before, ok := from[key]
			switch {
			case ok:
				v = before.value + (v-before.value)*part
			case isCounter(name):
				v *= part
			}
			if live && running.MatchString(name) {
				v += l.now.Sub(l.began).Seconds()
			}
			add(sample.labels, v)
		}
		if err := app.Commit(); err != nil {
			l.Fatal(err)
		}
		l.there = to
		for _, group := range l.groups {
			group.Eval(l.Context(), l.now)
			for _, r := range group.Rules() {
				if err := r.LastError(); err != nil {
					l.Fatalf("%s: %v", r.Name(), err)
				}
			}
		}
	}
	for _, query := range l.queries {
		if !l.answered[query] {
			l.answered[query] = len(l.ask(query)) > 0
		}
	}
}

// ask returns the answer to a query now.
func (l *timeline) ask(text string) promql.Vector {
	l.Helper()
	query, err := l.engine.NewInstantQuery(l.Context(), l.storage, nil, text, l.now)
	if err != nil {
		l.Fatalf("%s: %v", text, err)
	}
	defer query.Close()
	result := query.Exec(l.Context())
	if result.Err != nil {
		l.Fatalf("%s: %v", text, result.Err)
	}
	switch v := result.Value.(type) {
	case promql.Vector:
		return slices.Clone(v)
	case promql.Scalar:
		return promql.Vector{{T: v.T, F: v.V}}
	}
	l.Fatalf("%s: the answer is a %s", text, result.Value.Type())
	return nil
}

// firing returns the alerts that fire, by name.
func (l *timeline) firing() map[string][]*rules.Alert {
	all := map[string][]*rules.Alert{}
	for _, group := range l.groups {
		for _, alerting := range group.AlertingRules() {
			for _, alert := range alerting.ActiveAlerts() {
				if alert.State == rules.StateFiring {
					all[alerting.Name()] = append(all[alerting.Name()], alert)
				}
			}
		}
	}
	return all
}

// mustFire fails the test unless exactly these alerts fire, and returns the first one.
func (l *timeline) mustFire(names ...string) *rules.Alert {
	l.Helper()
	firing := l.firing()
	if got := slices.Sorted(maps.Keys(firing)); !slices.Equal(got, names) {
		for name, alerts := range firing {
			for _, alert := range alerts {
				l.Logf("%s: %s", name, alert.Annotations.Get("description"))
			}
		}
		l.Fatalf("alerts %q fire instead of %q", got, names)
	}
	if len(names) == 0 {
		return nil
	}
	alert := firing[names[0]][0]
	l.Logf("%s fires: %s", names[0], alert.Annotations.Get("description"))
	for _, text := range []string{"<no value>", "<error", "%!"} {
		if strings.Contains(alert.Annotations.String(), text) {
			l.Errorf("annotations have %q: %s", text, alert.Annotations)
		}
	}
	return alert
}
