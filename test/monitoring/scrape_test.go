// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/product"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"k8s.io/client-go/rest"
)

// target is what Prometheus scrapes.
type target struct {
	product.Target
	client *http.Client
}

// snapshot is what one scrape of all targets gave: the value of each series, by its labels as text. A series has the
// labels job and instance of its target, as with the monitors of config/monitoring.
type snapshot map[string]sample

type sample struct {
	labels labels.Labels
	value  float64
}

func (s snapshot) add(l labels.Labels, value float64) { s[l.String()] = sample{l, value} }

// value returns the sum of the series of a metric that have the labels, and how many there are.
func (s snapshot) value(metric string, with ...string) (sum float64, count int) {
	want := labels.FromStrings(with...)
	for _, sample := range s {
		if sample.labels.Get(model.MetricNameLabel) != metric {
			continue
		}
		fits := true
		want.Range(func(l labels.Label) { fits = fits && sample.labels.Get(l.Name) == l.Value })
		if fits {
			sum += sample.value
			count++
		}
	}
	return sum, count
}

// scrape reads the metrics of all targets. A target that does not answer is down.
func scrape(t testing.TB, targets []target) snapshot {
	t.Helper()
	s := snapshot{}
	for _, of := range targets {
		parsed, err := url.Parse(of.URL)
		if err != nil {
			t.Fatal(err)
		}
		up := 0.0
		if err := s.read(of, parsed.Host); err == nil {
			up = 1
		} else if !errors.As(err, new(*url.Error)) {
			t.Fatalf("%s: %v", of.URL, err)
		}
		s.add(labels.FromStrings(model.MetricNameLabel, "up", "job", of.Job, "instance", parsed.Host), up)
	}
	return s
}

// read adds what a target serves.
func (s snapshot) read(of target, instance string) error {
	response, err := of.client.Get(of.URL)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	parser, err := textparse.New(text, response.Header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	for {
		switch entry, err := parser.Next(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case entry != textparse.EntrySeries:
			continue
		}
		_, _, value := parser.Series()
		var l labels.Labels
		parser.Labels(&l)
		s.add(labels.NewBuilder(l).Set("job", of.Job).Set("instance", instance).Labels(), value)
	}
}

// only returns the series of the named metrics.
func (s snapshot) only(metrics []string) snapshot {
	kept := snapshot{}
	for key, sample := range s {
		if slices.Contains(metrics, sample.labels.Get(model.MetricNameLabel)) {
			kept[key] = sample
		}
	}
	return kept
}

// withJob returns the snapshot with the series of a job from another one. With few requests, a single slow one would be a
// matter of another alert.
func (s snapshot) withJob(job string, of snapshot) snapshot {
	mixed := snapshot{}
	for key, sample := range s {
		if sample.labels.Get("job") != job {
			mixed[key] = sample
		}
	}
	for key, sample := range of {
		if sample.labels.Get("job") == job {
			mixed[key] = sample
		}
	}
	return mixed
}

// targets returns what is to be scraped of an installation now: all programs of the product that were ever started, and
// kube-apiserver.
func targets(t testing.TB, i *product.Installation) []target {
	t.Helper()
	clientFor := func(config *rest.Config) *http.Client {
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		client.Timeout = 10 * time.Second
		return client
	}
	// As in the pod of Prometheus: a token, and the role for /metrics.
	insecure := rest.AnonymousClientConfig(i.Admin)
	insecure.BearerToken, insecure.TLSClientConfig = i.Token("default", "prometheus"), rest.TLSClientConfig{Insecure: true}
	plain := &http.Client{Timeout: 10 * time.Second}
	var all []target
	for _, m := range i.Metrics {
		client := plain
		if strings.HasPrefix(m.URL, "https:") {
			client = clientFor(insecure)
		}
		all = append(all, target{m, client})
	}
	for _, s := range i.Servers {
		all = append(all, target{product.Target{Job: "ipam-apiserver", URL: fmt.Sprintf("https://127.0.0.1:%d/metrics", s.Port)}, clientFor(insecure)})
	}
	return append(all, target{product.Target{Job: "apiserver", URL: i.Host + "/metrics"}, clientFor(i.Admin)})
}

// isCounter reports whether a metric only grows, unless its program starts again.
func isCounter(metric string) bool {
	for _, suffix := range []string{"_total", "_bucket", "_count", "_sum"} {
		if strings.HasSuffix(metric, suffix) {
			return true
		}
	}
	return false
}
