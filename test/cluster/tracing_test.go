// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// collector takes spans as a collector of OpenTelemetry does.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	address string

	mutex sync.Mutex
	spans map[string]span
}

// span is a span with the name of the service that sent it.
type span struct {
	*tracev1.Span
	service string
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: listener.Addr().String(), spans: map[string]span{}}
	server := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return c
}

// Export implements the trace service of OTLP.
func (c *collector) Export(_ context.Context, request *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, resource := range request.ResourceSpans {
		service := attribute(resource.GetResource().GetAttributes(), "service.name")
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans[string(s.SpanId)] = span{s, service}
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func attribute(attributes []*commonv1.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// under returns the spans of a name that are below a span whose name the pattern matches.
func (c *collector) under(pattern, name string) (found []span) {
	above := regexp.MustCompile(pattern)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, s := range c.spans {
		if s.Name != name {
			continue
		}
		for at, ok := c.spans[string(s.ParentSpanId)]; ok; at, ok = c.spans[string(at.ParentSpanId)] {
			if above.MatchString(at.Name) && string(at.TraceId) == string(s.TraceId) && at.StartTimeUnixNano <= s.StartTimeUnixNano {
				found = append(found, s)
				break
			}
		}
	}
	return found
}

// names returns the names of all spans, with those that they are in.
func (c *collector) names() string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var all []string
	for _, s := range c.spans {
		name := s.service + ": " + s.Name
		for at, ok := c.spans[string(s.ParentSpanId)]; ok; at, ok = c.spans[string(at.ParentSpanId)] {
			name += " < " + at.Name
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "\n")
}

// TestTracing switches tracing on as docs/operating/tracing.md says, allocates a child, and looks at the spans of what is done
// for it.
func TestTracing(t *testing.T) {
	c := newCollector(t)
	i := install(t, 1, 1, 1)
	page, err := os.ReadFile(filepath.Join(kube.Root(), "docs/operating/tracing.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(page, -1)
	if len(blocks) != 4 {
		t.Fatalf("%d blocks instead of a file, a kustomization, a NetworkPolicy and values", len(blocks))
	}
	config := regexp.MustCompile(`(?m)^endpoint: .*$`).ReplaceAll(blocks[0][1], []byte("endpoint: "+c.address))
	config = regexp.MustCompile(`(?m)^samplingRatePerMillion: .*$`).ReplaceAll(config, []byte("samplingRatePerMillion: 1000000"))
	dir := t.TempDir()
	relative, err := filepath.Rel(dir, filepath.Join(kube.Root(), "config/default"))
	if err != nil {
		t.Fatal(err)
	}
	kustomization := regexp.MustCompile(`(?m)^- https://.*$`).ReplaceAll(blocks[1][1], []byte("- "+relative))
	for name, content := range map[string][]byte{"tracing.yaml": config, "kustomization.yaml": kustomization, "networkpolicy.yaml": blocks[2][1]} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The Service and the APIService are not as in the manifests here.
	var changed []string
	for _, document := range strings.Split(i.Kubectl(i.AdminKubeconfig).Run("kustomize", dir), "\n---\n") {
		if !strings.Contains(document, "kind: Service\n") && !strings.Contains(document, "kind: APIService\n") {
			changed = append(changed, document)
		}
	}
	i.Kubectl(i.AdminKubeconfig).Apply(strings.Join(changed, "\n---\n"), "apply", "-f", "-")
	i.Managers[0].Kill()
	i.Servers[0].Kill()
	i.StartServer()
	i.StartManager()
	u := i.newUser("team-trace", "edit")
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), root("root", "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), child("child", "root", 16), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	u.waitAllocated(2)

	const (
		post      = `^POST /apis/ipam.ironcore.dev/v1alpha1/namespaces/{:namespace}/`
		binding   = post + `prefixallocations/{:name}/binding$`
		completed = post + `prefixes/{:name}/binding$`
	)
	i.Eventually("all spans are there", func() error {
		for _, want := range []struct{ above, name string }{
			{`^Schedule$`, "Bind PrefixAllocation"},
			{`^Bind PrefixAllocation$`, "HTTP POST"},
			{`^Sync Prefix$`, "Bind Prefix"},
			{`^Bind Prefix$`, "HTTP POST"},
			{post + `prefixes$`, "Plan claims"},
			{binding, "Plan claims"},
			{binding, "Commit claims"},
			{completed, "Plan claims"},
			{completed, "Commit claims"},
			{`^Commit claims$`, "etcdserverpb.KV/Txn"},
		} {
			if len(c.under(want.above, want.name)) == 0 {
				return fmt.Errorf("no %q below %q:\n%s", want.name, want.above, c.names())
			}
		}
		return nil
	})
	// The API server does not let clients decide what is in its traces, unless they are administrators. It links its span to
	// that of the client.
	requests := map[string]bool{}
	for _, s := range c.under(`^Bind PrefixAllocation$`, "HTTP POST") {
		requests[string(s.TraceId)+string(s.SpanId)] = s.service == "ipam-controller-manager"
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	linked := 0
	for _, s := range c.spans {
		if !regexp.MustCompile(binding).MatchString(s.Name) {
			continue
		}
		for _, link := range s.Links {
			if requests[string(link.TraceId)+string(link.SpanId)] {
				linked++
			}
		}
	}
	if linked == 0 {
		t.Error("no span of the API server is linked to that of the scheduler")
	}
}
