// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package monitoring shows each alert of config/monitoring firing and resolving, with what the real programs say of
// themselves when they are in that state, and that every query of the rules and the dashboards has an answer. It runs the
// commands of the runbooks in the same states. It is a module of its own because of Prometheus and Grafana.
package monitoring

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/rules"
	clientv3 "go.etcd.io/etcd/client/v3"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// programs is the directory of the programs of the product.
var programs string

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		programs = dir
		return func() {}, nil
	})
}

// build builds the programs of the product, in their modules.
func build(t testing.TB) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", programs+"/", "./cmd/ipam-apiserver", "./cmd/ipam-controller-manager", "./cmd/kubectl-ipam")
	provider := exec.Command("go", "build", "-o", programs+"/", "./cmd/ipam-cluster-api")
	cmd.Dir, provider.Dir = kube.Root(), filepath.Join(kube.Root(), "clusterapi")
	for _, cmd := range []*exec.Cmd{cmd, provider} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
}

// system is an installation of the product that is brought into the states of the alerts.
type system struct {
	*product.Installation
	// life is the test that limits the lifetime of the programs.
	life     testing.TB
	provider *process.Process
	prefixes ipamclient.IpamV1alpha1Interface
	// queries are those of the dashboards, and answered those that had an answer.
	queries  []string
	answered map[string]bool
	// scraped are all series that any scrape had.
	scraped snapshot
}

const quota = 16 << 20

// TestAlerts brings one installation into the state of each alert, and out of it.
func TestAlerts(t *testing.T) {
	build(t)
	i := product.Install(t, product.Options{
		Programs: programs, Members: 1, Servers: 2, Managers: 2,
		ServerFlags: map[string]string{"--claims-audit-interval": "1s"},
		EtcdFlags:   map[string]string{"--quota-backend-bytes": fmt.Sprint(quota)},
	})
	s := &system{Installation: i, life: t, prefixes: i.IPAM.IpamV1alpha1(), queries: dashboardQueries(t), answered: map[string]bool{}, scraped: snapshot{}}
	s.mayReadMetrics()
	for _, name := range []string{"team-a", "team-b"} {
		if _, err := i.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.installClusterAPI()
	s.provider = s.startProvider()
	seen := map[string]bool{}
	for _, scenario := range []struct {
		alert string
		run   func(*system)
	}{
		{"healthy", (*system).healthy},
		{"IPAMPoolAlmostFull", (*system).poolAlmostFull},
		{"IPAMPoolFullSoon", (*system).poolFullSoon},
		{"IPAMRequestWaits", (*system).requestWaits},
		{"refused bindings", (*system).refused},
		{"IPAMClaimsDiffer", (*system).claimsDiffer},
		{"IPAMAuditStale", (*system).auditStale},
		{"IPAMCertificateExpires", (*system).certificateExpires},
		{"IPAMErrors", (*system).errors},
		{"IPAMSlow", (*system).slow},
		{"IPAMMemoryAlmostFull", (*system).memoryAlmostFull},
		{"IPAMClusterAPIErrors", (*system).clusterAPIErrors},
		{"IPAMClusterAPINoLeader", (*system).clusterAPINoLeader},
		{"IPAMEtcdAlmostFull", (*system).etcdAlmostFull},
		{"IPAMNoLeader", (*system).noLeader},
		{"IPAMUnavailable", (*system).unavailable},
	} {
		if !t.Run(scenario.alert, func(t *testing.T) {
			of, cluster := *s, *i.Cluster
			installation := *i
			cluster.TB, installation.Cluster, of.Installation = t, &cluster, &installation
			scenario.run(&of)
			i.Servers, i.Managers, i.Metrics = installation.Servers, installation.Managers, installation.Metrics
			s.provider = of.provider
		}) {
			return
		}
		seen[scenario.alert] = true
	}
	all, _ := readRules(t)
	for _, r := range all {
		if r.Alert != "" && !seen[r.Alert] {
			t.Errorf("%s was not seen", r.Alert)
		}
	}
	s.hasSelected(all)
	for _, query := range s.queries {
		if !s.answered[query] {
			t.Errorf("a query of a dashboard was never answered: %s", query)
		}
	}
}

// jobs are the jobs of the monitors in config/.
var jobs = []string{"ipam-apiserver", "ipam-controller-manager", "ipam-certificate-controller", "ipam-etcd", "ipam-cluster-api"}

// hasSelected fails the test if a selector of a rule or a dashboard has selected nothing in any scrape. One that selects
// several jobs must have selected series of each.
func (s *system) hasSelected(all []rule) {
	s.Helper()
	recorded, queries := map[string]bool{}, slices.Clone(s.queries)
	for _, r := range all {
		recorded[r.Record] = true
		queries = append(queries, r.Expr)
	}
	for _, query := range queries {
		for _, selector := range selectorsOf(s, query) {
			if recorded[selector.Name] || selector.Name == "ALERTS" {
				continue
			}
			of := []string{""}
			for _, matcher := range selector.LabelMatchers {
				if matcher.Name == "job" && matcher.Value != "apiserver" {
					of = slices.DeleteFunc(slices.Clone(jobs), func(job string) bool { return !matcher.Matches(job) })
				}
			}
			if len(of) == 0 {
				s.Errorf("there is no such job: %s", selector)
			}
			for _, job := range of {
				if !slices.ContainsFunc(slices.Collect(maps.Values(s.scraped)), func(sample sample) bool {
					return (job == "" || sample.labels.Get("job") == job) && !slices.ContainsFunc(selector.LabelMatchers, func(m *labels.Matcher) bool { return !m.Matches(sample.labels.Get(m.Name)) })
				}) {
					s.Errorf("job %q has nothing for %s in: %s", job, selector, query)
				}
			}
		}
	}
}

// clusterAPI is the namespace of the provider of Cluster API.
const clusterAPI = "ipam-cluster-api-system"

// installClusterAPI installs the definitions of Cluster API and the manifests of the provider.
func (s *system) installClusterAPI() {
	s.Helper()
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api")
	cmd.Dir = filepath.Join(kube.Root(), "clusterapi")
	module, err := cmd.Output()
	if err != nil {
		s.Fatalf("%v: %v", cmd, err)
	}
	kubectl := s.Kubectl(s.AdminKubeconfig)
	for _, crd := range []string{"cluster.x-k8s.io_clusters", "ipam.cluster.x-k8s.io_ipaddressclaims", "ipam.cluster.x-k8s.io_ipaddresses"} {
		kubectl.Run("apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(module)), "core/config/crd/bases", crd+".yaml"))
	}
	kubectl.Run("apply", "-k", filepath.Join(kube.Root(), "config/clusterapi"))
	kubectl.Run("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
}

// startProvider starts the provider of Cluster API, and returns when it leads.
func (s *system) startProvider() *process.Process {
	s.Helper()
	kubeconfig, _ := s.ServiceAccount(clusterAPI, "ipam-cluster-api")
	address := fmt.Sprintf("127.0.0.1:%d", process.ReservePort(s))
	s.Metrics = append(s.Metrics, product.Target{Job: "ipam-cluster-api", URL: "https://" + address + "/metrics"})
	p := process.Start(s.life, s.Dir, filepath.Join(programs, "ipam-cluster-api"), "--kubeconfig", kubeconfig, "--health-addr=0",
		"--diagnostics-address", address, "--leader-elect", "--leader-elect-resource-namespace", clusterAPI)
	s.scrapeWhen("the provider leads", func(scraped snapshot) error {
		if p.HasEnded() {
			s.Fatalf("The provider has ended:\n%s", p.LastOfLog(4000))
		}
		return has(1, "leader_election_master_status", "name", "ipam-cluster-api")(scraped)
	})
	return p
}

// mayReadMetrics gives the service account of Prometheus the role of config/monitoring.
func (s *system) mayReadMetrics() {
	s.Helper()
	s.Kubectl(s.AdminKubeconfig).Run("apply", "-f", filepath.Join(kube.Root(), "config/monitoring/rbac.yaml"))
	if _, err := s.Client.CoreV1().ServiceAccounts("default").Create(s.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "prometheus"}}, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Client.RbacV1().ClusterRoleBindings().Create(s.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "ipam-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: "prometheus"}},
	}, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	s.Eventually("Prometheus may read metrics", func() error {
		response, err := targets(s, s.Installation)[len(s.Metrics)].client.Get(fmt.Sprintf("https://127.0.0.1:%d/metrics", s.Servers[0].Port))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		return harness.Unless(response.StatusCode == http.StatusOK, "%s", response.Status)
	})
}

// scrape scrapes all targets.
func (s *system) scrape() snapshot {
	s.Helper()
	scraped := scrape(s, targets(s, s.Installation))
	maps.Copy(s.scraped, scraped)
	return scraped
}

// scrapeWhen scrapes until the scrape is as expected.
func (s *system) scrapeWhen(what string, check func(snapshot) error) (scraped snapshot) {
	s.Helper()
	s.Eventually(what, func() error {
		scraped = s.scrape()
		return check(scraped)
	})
	return scraped
}

func (s *system) timeline() *timeline { return s.timelineFrom(time.Now(), 30*time.Second) }

func (s *system) timelineFrom(from time.Time, step time.Duration) *timeline {
	s.Helper()
	return newTimeline(s, from, step, s.queries, s.answered)
}

// create creates a Prefix, with the rest of its spec as JSON.
func (s *system) create(namespace, name, spec string) *v1alpha1.Prefix {
	s.Helper()
	prefix := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := json.Unmarshal([]byte(spec), &prefix.Spec); err != nil {
		s.Fatal(err)
	}
	created, err := s.prefixes.Prefixes(namespace).Create(s.Context(), prefix, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return created
}

// pool creates a root with children of a length, and waits until they are allocated.
func (s *system) pool(namespace, name, cidr string, children, length int) {
	s.Helper()
	s.create(namespace, name, fmt.Sprintf(`{"prefix": %q}`, cidr))
	s.children(namespace, name, 0, children, length)
}

func (s *system) children(namespace, pool string, from, to, length int) {
	s.Helper()
	for n := from; n < to; n++ {
		s.create(namespace, fmt.Sprintf("%s-%d", pool, n), fmt.Sprintf(`{"parentRef": {"name": %q}, "prefixLength": %d}`, pool, length))
	}
	s.Eventually("the children are counted", func() error {
		prefix, err := s.prefixes.Prefixes(namespace).Get(s.Context(), pool, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return harness.Unless(to == 0 || prefix.Status.Usage != nil && prefix.Status.Usage.Allocations == int64(to), "usage is %+v", prefix.Status.Usage)
	})
}

// clear deletes all Prefixes of a namespace, and waits until they are gone.
func (s *system) clear(namespace string) {
	s.Helper()
	s.Eventually("all Prefixes are gone", func() error {
		if err := s.prefixes.Prefixes(namespace).DeleteCollection(s.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			return err
		}
		left, err := s.prefixes.Prefixes(namespace).List(s.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		return harness.Unless(len(left.Items) == 0, "%d are left", len(left.Items))
	})
}

// has returns a check that the sum of a metric is as expected.
func has(value float64, metric string, with ...string) func(snapshot) error {
	return func(s snapshot) error {
		got, _ := s.value(metric, with...)
		return harness.Unless(got == value, "%s%v is %v, not %v", metric, with, got, value)
	}
}

// healthy shows that nothing fires while all is well.
func (s *system) healthy() {
	s.pool("team-a", "half", "10.1.0.0/28", 8, 32)
	s.children("team-a", "half", 8, 9, 32)
	scraped := s.scrapeWhen("the scheduler is seen", has(1, "leader_election_master_status", "name", "ipam-controller-manager"))
	for _, job := range []string{"ipam-apiserver", "ipam-controller-manager", "ipam-certificate-controller", "ipam-etcd", "ipam-cluster-api", "apiserver"} {
		if up, _ := scraped.value("up", "job", job); up == 0 {
			s.Errorf("nothing of %s answers", job)
		}
	}
	s.nativeHistogram("ipam_child_allocation_duration_seconds")
	l := s.timeline()
	l.play(2*time.Hour, scraped)
	l.mustFire()
	s.clear("team-a")
}

// nativeHistogram fails the test unless a controller manager serves a histogram as a native one to who asks for protobuf, as
// Prometheus does.
func (s *system) nativeHistogram(metric string) {
	s.Helper()
	for _, of := range s.Metrics {
		if of.Job != "ipam-controller-manager" {
			continue
		}
		request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, of.URL, nil)
		if err != nil {
			s.Fatal(err)
		}
		request.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			s.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			s.Fatal(err)
		}
		parser, err := textparse.New(text, response.Header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
		if err != nil {
			s.Fatal(err)
		}
		for {
			entry, err := parser.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				s.Fatal(err)
			}
			if entry != textparse.EntryHistogram {
				continue
			}
			if name, _, integers, floats := parser.Histogram(); strings.HasPrefix(string(name), metric) &&
				(integers != nil && integers.Count > 0 || floats != nil && floats.Count > 0) {
				return
			}
		}
	}
	s.Errorf("%s is no native histogram", metric)
}

func (s *system) poolAlmostFull() {
	s.pool("team-a", "busy", "10.1.0.0/28", 15, 32)
	scraped := s.scrapeWhen("the use is seen", has(15, "ipam_pool_addresses", "prefix", "busy", "state", "used"))
	l := s.timeline()
	l.play(5*time.Minute, scraped)
	l.mustFire()
	l.play(10*time.Minute, scraped)
	s.follow(l.mustFire("IPAMPoolAlmostFull"))
	s.clear("team-a")
	l.play(5*time.Minute, s.scrapeWhen("it is gone", has(0, "ipam_pool_children", "prefix", "busy")))
	l.mustFire()
}

func (s *system) poolFullSoon() {
	s.pool("team-a", "shrinking", "10.1.0.0/24", 1, 26)
	used := func(n float64) snapshot {
		s.Helper()
		return s.scrapeWhen("the use is seen", has(n, "ipam_pool_addresses", "prefix", "shrinking", "state", "used"))
	}
	before := used(64)
	s.children("team-a", "shrinking", 1, 2, 26)
	after := used(128)
	l := s.timelineFrom(time.Now(), 4*time.Minute)
	// A new pool, and one that is filled for a moment, do not fire.
	l.play(8*time.Hour, before)
	l.mustFire()
	l.ramp(24*time.Hour, before, after, true)
	s.follow(l.mustFire("IPAMPoolFullSoon"))
	l.play(25*time.Hour, after)
	l.mustFire()
	s.clear("team-a")
}

func (s *system) requestWaits() {
	s.pool("team-b", "full", "10.2.0.0/31", 1, 32)
	// It is for who made this request to mend it.
	s.create("team-a", "mistake", `{"parentRef": {"name": "nobody"}, "prefixLength": 24}`)
	s.create("team-b", "large", `{"parentRef": {"name": "full"}, "prefixLength": 32}`)
	s.create("team-b", "waits", `{"parentRef": {"name": "full"}, "prefixLength": 32}`)
	scraped := s.scrapeWhen("it waits", func(scraped snapshot) error {
		if err := has(1, "ipam_pool_waiting_children", "prefix", "full", "reason", "ParentExhausted")(scraped); err != nil {
			return err
		}
		if err := has(1, "ipam_children_pending", "namespace", "team-a", "reason", "ParentNotFound")(scraped); err != nil {
			return err
		}
		return has(1, "ipam_children_pending", "namespace", "team-b", "reason", "ParentExhausted")(scraped)
	})
	l := s.timeline()
	l.freeze(4*time.Minute, scraped)
	l.mustFire()
	l.freeze(2*time.Minute, scraped)
	alert := l.mustFire("IPAMRequestWaits")
	if got := alert.Labels.Get("namespace"); got != "team-b" {
		s.Errorf("it is in namespace %s", got)
	}
	s.follow(alert)
	s.clear("team-a")
	s.clear("team-b")
	l.play(5*time.Minute, s.scrapeWhen("nothing waits", has(0, "ipam_children_pending")))
	l.mustFire()
}

// refused has a policy of the cluster that refuses all bindings.
func (s *system) refused() {
	before := s.scrape()
	policies, bindings := s.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies(), s.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	meta := metav1.ObjectMeta{Name: "nothing-is-allocated"}
	if _, err := policies.Create(s.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"ipam.ironcore.dev"}, APIVersions: []string{"*"}, Resources: []string{"prefixallocations/binding"}},
			},
		}}},
		Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: "not today"}},
	}}, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	if _, err := bindings.Create(s.Context(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: meta.Name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
	}}, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	s.create("team-b", "policed", `{"prefix": "10.2.0.0/16"}`)
	n := 0
	after := s.scrapeWhen("bindings are refused", func(scraped snapshot) error {
		refused, _ := scraped.value("ipam_refused_bindings_total", "resource", "prefixallocations")
		waiting, _ := scraped.value("ipam_children_pending", "namespace", "team-b", "reason", "Refused")
		fresh, _ := scraped.value("ipam_children_pending", "namespace", "team-b", "reason", "Pending")
		if waiting == 0 && fresh == 0 {
			// There is none yet, or it was allocated because the server did not know the policy.
			n++
			s.create("team-b", fmt.Sprintf("policed-%d", n), `{"parentRef": {"name": "policed"}, "prefixLength": 32}`)
		}
		return harness.Unless(refused > 0 && waiting > 0 && fresh == 0, "%v refused, %v waiting, %v without a reason yet", refused, waiting, fresh)
	})
	l := s.timeline()
	l.ramp(10*time.Minute, before, after, true)
	if alert := l.mustFire("IPAMRequestWaits"); alert.Labels.Get("reason") != v1alpha1.ReasonRefused {
		s.Errorf("the reason is %s", alert.Labels.Get("reason"))
	}
	if err := bindings.Delete(s.Context(), meta.Name, metav1.DeleteOptions{}); err != nil {
		s.Fatal(err)
	}
	if err := policies.Delete(s.Context(), meta.Name, metav1.DeleteOptions{}); err != nil {
		s.Fatal(err)
	}
	l.play(5*time.Minute, s.scrapeWhen("nothing waits", has(0, "ipam_children_pending")))
	l.mustFire()
	s.clear("team-b")
}

func (s *system) claimsDiffer() {
	s.pool("team-a", "damaged", "10.1.0.0/24", 2, 26)
	const claims = "/registry/ipam.ironcore.dev/claims/"
	deleted, err := s.EtcdClient().Delete(s.Context(), claims, clientv3.WithPrefix())
	if err != nil || deleted.Deleted == 0 {
		s.Fatalf("%v claims are deleted: %v", deleted, err)
	}
	l := s.timeline()
	l.play(time.Minute, s.scrapeWhen("it is noticed", func(scraped snapshot) error {
		n, _ := scraped.value("ipam_claims_differences", "kind", "AllocationWithoutClaim")
		return harness.Unless(n >= 2, "%v differences", n)
	}))
	s.follow(l.mustFire("IPAMClaimsDiffer"))
	// The runbook has repaired it.
	l.play(time.Minute, s.scrapeWhen("it is repaired", has(0, "ipam_claims_differences")))
	l.mustFire()
	s.clear("team-a")
}

func (s *system) auditStale() {
	scraped := s.scrape()
	l := s.timelineFrom(time.Now(), 4*time.Minute)
	l.freeze(11*time.Hour, scraped)
	l.mustFire()
	l.freeze(2*time.Hour, scraped)
	s.follow(l.mustFire("IPAMAuditStale"))
	l.play(10*time.Minute, scraped)
	l.mustFire()
}

func (s *system) certificateExpires() {
	scraped := s.scrape()
	var first float64
	for _, sample := range scraped {
		if sample.labels.Get("__name__") == "ipam_certificate_expiration_timestamp_seconds" && (first == 0 || sample.value < first) {
			first = sample.value
		}
	}
	// Time has passed, and nothing was renewed.
	due := time.Unix(int64(first), 0).Add(-21 * 24 * time.Hour)
	audited := func(scraped snapshot) snapshot {
		kept := snapshot{}
		for key, sample := range scraped {
			if sample.labels.Get("__name__") == "ipam_claims_compared_timestamp_seconds" {
				sample.value = float64(due.Unix())
			}
			kept[key] = sample
		}
		return kept
	}
	l := s.timelineFrom(due.Add(-time.Hour), 30*time.Second)
	l.freeze(30*time.Minute, audited(scraped))
	l.mustFire()
	l.freeze(2*time.Hour, audited(scraped))
	s.follow(l.mustFire("IPAMCertificateExpires"))
	l.play(10*time.Minute, scraped)
	l.mustFire()
}

// webhook makes the API servers ask a webhook before they accept a Prefix. It is removed at the end, or by the returned
// function.
func (s *system) webhook(url string, ca []byte) (remove func()) {
	s.Helper()
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	hooks := s.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := hooks.Create(s.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "other"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "other.example.org", AdmissionReviewVersions: []string{"v1"}, FailurePolicy: &fail, SideEffects: &none,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"ipam.ironcore.dev"}, APIVersions: []string{"*"}, Resources: []string{"prefixes"}},
			}},
		}},
	}, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	return func() {
		if err := hooks.Delete(s.Context(), "other", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.Fatal(err)
		}
	}
}

// tryCreate tries to create a Prefix that is not stored.
func (s *system) tryCreate() error {
	_, err := s.prefixes.Prefixes("team-a").Create(s.Context(), &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "try-"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.9.0.0/24"},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// errors has a webhook that does not answer.
func (s *system) errors() {
	before := s.scrape()
	remove := s.webhook("https://127.0.0.1:1/", nil)
	failed := 0
	s.Eventually("requests fail", func() error {
		if err := s.tryCreate(); apierrors.IsInternalError(err) {
			failed++
		}
		return harness.Unless(failed >= 100, "%d have failed", failed)
	})
	broken := s.scrape()
	l := s.timeline()
	l.play(10*time.Minute, before)
	l.mustFire()
	l.ramp(20*time.Minute, before, broken, true)
	s.follow(l.mustFire("IPAMErrors"))
	remove()
	s.Eventually("requests succeed on both servers", func() error {
		for range 10 {
			if err := s.tryCreate(); err != nil {
				return err
			}
		}
		return nil
	})
	mended := s.scrape()
	for range 50 {
		if err := s.tryCreate(); err != nil {
			s.Fatal(err)
		}
	}
	l.ramp(time.Minute, broken, mended, true)
	l.ramp(20*time.Minute, mended, s.scrape(), true)
	l.mustFire()
}

// slow has a webhook that takes longer than a second.
func (s *system) slow() {
	before := s.scrape()
	pair := s.CA.Serving("webhook")
	certificate, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		s.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		s.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(2 * time.Second)
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		_ = json.NewEncoder(w).Encode(review)
	})}
	go func() { _ = server.Serve(listener) }()
	s.Cleanup(func() { _ = server.Close() })
	remove := s.webhook("https://"+listener.Addr().String()+"/", s.CA.CertPEM)
	s.Eventually("requests are slow", func() error {
		began := time.Now()
		if err := s.tryCreate(); err != nil {
			return err
		}
		return harness.Unless(time.Since(began) > 2*time.Second, "it took %v", time.Since(began))
	})
	harness.Each(40, 40, func(int) {
		if err := s.tryCreate(); err != nil {
			s.Error(err)
		}
	})
	busy := s.scrape()
	l := s.timeline()
	l.play(10*time.Minute, before)
	l.mustFire()
	l.ramp(20*time.Minute, before, busy, true)
	s.follow(l.mustFire("IPAMSlow"))
	remove()
	l.play(20*time.Minute, busy)
	l.mustFire()
}

// claim creates an IPAddressClaim.
func (s *system) claim(namespace, name, pool string) {
	s.Helper()
	s.Kubectl(s.AdminKubeconfig).Apply(fmt.Sprintf(`{"apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddressClaim", "metadata": {"namespace": %q, "name": %q},
		"spec": {"poolRef": {"apiGroup": "ipam.ironcore.dev", "kind": "Prefix", "name": %q}}}`, namespace, name, pool), "create", "-f", "-")
}

// clusterAPIErrors has a provider that may not create addresses.
func (s *system) clusterAPIErrors() {
	kubectl := s.Kubectl(s.AdminKubeconfig)
	s.pool("team-b", "machines", "10.2.0.0/24", 0, 0)
	role, err := s.Client.RbacV1().ClusterRoles().Get(s.Context(), "ipam-cluster-api", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	complete := role.DeepCopy()
	for n, r := range role.Rules {
		if slices.Contains(r.Resources, "ipaddresses") {
			role.Rules[n].Verbs = []string{"get", "list", "watch"}
		}
	}
	if role, err = s.Client.RbacV1().ClusterRoles().Update(s.Context(), role, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
	before, n := s.scrape(), 0
	failed, _ := before.value("controller_runtime_reconcile_errors_total")
	after := s.scrapeWhen("there are errors", func(scraped snapshot) error {
		n++
		s.claim("team-b", fmt.Sprintf("machine-%d", n), "machines")
		now, _ := scraped.value("controller_runtime_reconcile_errors_total")
		return harness.Unless(now > failed, "%v errors", now)
	})
	const job = "ipam-cluster-api"
	after = before.withJob(job, after)
	l := s.timelineFrom(time.Now(), 4*time.Minute)
	l.play(time.Hour, before)
	// Errors that pass do not fire.
	l.ramp(8*time.Minute, before, after, true)
	l.play(2*time.Hour, after)
	l.mustFire()
	later := s.scrapeWhen("there are more errors", func(scraped snapshot) error {
		first, _ := after.value("controller_runtime_reconcile_errors_total")
		now, _ := scraped.value("controller_runtime_reconcile_errors_total")
		return harness.Unless(now > first, "%v errors", now)
	})
	later = before.withJob(job, later)
	l.ramp(2*time.Hour, after, later, true)
	s.follow(l.mustFire("IPAMClusterAPIErrors"))
	complete.ResourceVersion = role.ResourceVersion
	if _, err := s.Client.RbacV1().ClusterRoles().Update(s.Context(), complete, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
	kubectl.Run("-n", "team-b", "wait", "--for=condition=Ready", "--timeout=60s", "ipaddressclaims", "--all")
	mended := before.withJob(job, s.scrape())
	l.ramp(8*time.Minute, later, mended, true)
	l.play(time.Hour, mended)
	l.mustFire()
	kubectl.Run("-n", "team-b", "delete", "ipaddressclaims", "--all")
	s.clear("team-b")
}

func (s *system) clusterAPINoLeader() {
	s.provider.Kill()
	l := s.timeline()
	l.play(5*time.Minute, s.scrape())
	s.follow(l.mustFire("IPAMClusterAPINoLeader"))
	s.provider = s.startProvider()
	l.play(5*time.Minute, s.scrape())
	l.mustFire()
}

// memoryAlmostFull has an etcd with little memory.
func (s *system) memoryAlmostFull() {
	url := func() string { return fmt.Sprintf("http://127.0.0.1:%d", process.ReservePort(s)) }
	client, peer, metrics := url(), url(), url()
	small := process.StartWith(s, []string{"GOMEMLIMIT=4MiB"}, s.Dir, kube.Program("etcd"), "--data-dir="+s.TempDir(), "--log-level=error",
		"--listen-client-urls="+client, "--advertise-client-urls="+client, "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer, "--listen-metrics-urls="+metrics, "--unsafe-no-fsync")
	s.Metrics = append(s.Metrics, product.Target{Job: "ipam-etcd", URL: metrics + "/metrics"})
	instance := strings.TrimPrefix(metrics, "http://")
	limited := s.scrapeWhen("it has little memory", func(scraped snapshot) error {
		used, n := scraped.value("go_memstats_heap_alloc_bytes", "instance", instance)
		limit, _ := scraped.value("go_gc_gomemlimit_bytes", "instance", instance)
		return harness.Unless(n == 1 && used > 0.8*limit, "it uses %v of %v", used, limit)
	})
	l := s.timeline()
	l.play(15*time.Minute, limited)
	alert := l.mustFire("IPAMMemoryAlmostFull")
	if job, of := alert.Labels.Get("job"), alert.Labels.Get("instance"); job != "ipam-etcd" || of != instance {
		s.Errorf("it fires for %s of %s", of, job)
	}
	s.follow(alert)
	small.Kill()
	l.play(5*time.Minute, s.scrape())
	l.mustFire()
}

// etcdAlmostFull fills the database of etcd.
func (s *system) etcdAlmostFull() {
	client := s.EtcdClient()
	text := strings.Repeat("x", 512<<10)
	ratio := func(scraped snapshot) float64 {
		size, _ := scraped.value("etcd_mvcc_db_total_size_in_bytes", "job", "ipam-etcd")
		return size / quota
	}
	var full snapshot
	for n := 0; ; n++ {
		if full = s.scrape(); ratio(full) > 0.82 {
			break
		}
		if _, err := client.Put(s.Context(), fmt.Sprintf("/other/%d", n), text); err != nil {
			s.Fatal(err)
		}
	}
	l := s.timeline()
	l.play(15*time.Minute, full)
	s.follow(l.mustFire("IPAMEtcdAlmostFull"))
	deleted, err := client.Delete(s.Context(), "/other/", clientv3.WithPrefix())
	if err != nil {
		s.Fatal(err)
	}
	if _, err := client.Compact(s.Context(), deleted.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		s.Fatal(err)
	}
	if _, err := client.Defragment(s.Context(), client.Endpoints()[0]); err != nil {
		s.Fatal(err)
	}
	l.play(5*time.Minute, s.scrapeWhen("it is small again", func(scraped snapshot) error {
		return harness.Unless(ratio(scraped) < 0.5, "it is %v", ratio(scraped))
	}))
	l.mustFire()
}

func (s *system) noLeader() {
	for _, manager := range s.Managers {
		manager.Kill()
	}
	l := s.timeline()
	l.play(5*time.Minute, s.scrape())
	s.follow(l.mustFire("IPAMNoLeader"))
	s.StartManager()
	l.play(5*time.Minute, s.scrapeWhen("there is a leader", has(1, "leader_election_master_status", "name", "ipam-controller-manager")))
	l.mustFire()
}

func (s *system) unavailable() {
	before := s.scrapeWhen("it is available", has(0, "aggregator_unavailable_apiservice", "name", product.APIService))
	l := s.timeline()
	l.play(5*time.Minute, before)
	l.mustFire()
	for _, server := range s.Servers {
		server.Kill()
	}
	down := s.scrapeWhen("kube-apiserver says so", has(1, "aggregator_unavailable_apiservice", "name", product.APIService))
	l.play(5*time.Minute, down)
	// No audit and no error rate is a matter of its own.
	s.follow(l.mustFire("IPAMUnavailable"))
	s.StartServer()
	l.play(5*time.Minute, s.scrapeWhen("it is available again", has(0, "aggregator_unavailable_apiservice", "name", product.APIService)))
	l.mustFire()
}

// follow runs the commands of the runbook of an alert.
func (s *system) follow(alert *rules.Alert) {
	s.Helper()
	name := alert.Labels.Get("alertname")
	page, err := os.ReadFile(filepath.Join(kube.Root(), "docs/operating/runbooks", name+".md"))
	if err != nil {
		s.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$").FindAllSubmatch(page, -1)
	if len(blocks) == 0 {
		s.Errorf("%s has no commands", name)
	}
	for _, block := range blocks {
		cmd := exec.CommandContext(s.Context(), "bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c", string(block[1]))
		cmd.Env = append(os.Environ(), "KUBECONFIG="+s.AdminKubeconfig,
			"PATH="+strings.Join([]string{programs, filepath.Dir(kube.Program("kubectl")), os.Getenv("PATH")}, string(filepath.ListSeparator)),
			"NAMESPACE="+alert.Labels.Get("namespace"), "POOL="+alert.Labels.Get("prefix"),
			"ETCD_FLAGS="+strings.Join(s.EtcdFlags(), " "))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			s.Errorf("%s: %v\n%s\n%s", name, err, block[1], &out)
		}
		s.Logf("$ %s\n%s", bytes.TrimSpace(block[1]), &out)
	}
}
