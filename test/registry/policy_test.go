// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamapply "github.com/ironcore-dev/ipam-apiserver/generated/applyconfiguration/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixpolicy"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/rest"
)

// TestPolicy takes a PrefixPolicy through its life: what is written by whom, in JSON and in protobuf.
func TestPolicy(t *testing.T) {
	for _, contentType := range []string{harness.JSON, harness.Protobuf} {
		t.Run(contentType, func(t *testing.T) {
			config := rest.CopyConfig(shared.AdminConfig)
			config.ContentType = contentType
			n := harness.In(t, versioned.NewForConfigOrDie(config).IpamV1alpha1(), harness.NewNamespace())
			wanted := harness.Policy("p", []v1alpha1.PrefixReservation{
				{CIDR: "10.0.0.0/28", Reason: "routers"}, {From: "2001:db8::1", To: "2001:db8::9"}, {Edges: true}}, "net", "a")
			wanted.Status = v1alpha1.PrefixPolicyStatus{Prefixes: 7, ObservedGeneration: 9}
			policy := n.CreatePolicy(wanted)
			if !reflect.DeepEqual(policy.Spec, wanted.Spec) || policy.Generation != 1 || policy.Status.Prefixes != 0 || policy.Status.ObservedGeneration != 0 ||
				len(policy.Status.Conditions) != 1 || policy.Status.Conditions[0].Status != metav1.ConditionFalse {
				t.Fatalf("created %+v", policy)
			}

			// The status is for the controller, and the spec is for everybody else.
			policy.Status.Prefixes, policy.Status.ObservedGeneration = 3, 1
			policy.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Applied", LastTransitionTime: metav1.Now().Rfc3339Copy()}}
			policy.Spec.Reserved = nil
			policy, err := n.Policies.UpdateStatus(t.Context(), policy, metav1.UpdateOptions{})
			if err != nil || policy.Status.Prefixes != 3 || len(policy.Status.Conditions) != 1 || len(policy.Spec.Reserved) != 3 || policy.Generation != 1 {
				t.Fatalf("%v: %+v", err, policy)
			}
			policy.Spec.PrefixSelector, policy.Spec.Reserved, policy.Status = &metav1.LabelSelector{}, nil, v1alpha1.PrefixPolicyStatus{}
			policy, err = n.Policies.Update(t.Context(), policy, metav1.UpdateOptions{})
			if err != nil || policy.Status.Prefixes != 3 || policy.Spec.PrefixSelector == nil || len(policy.Spec.PrefixSelector.MatchLabels) > 0 ||
				len(policy.Spec.Reserved) > 0 || policy.Generation != 2 {
				t.Fatalf("%v: %+v", err, policy)
			}
			if listed, err := n.Policies.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=p"}); err != nil || len(listed.Items) != 1 || !reflect.DeepEqual(listed.Items[0], *policy) {
				t.Fatalf("%v: %+v", err, listed)
			}
			if err := n.Policies.Delete(t.Context(), "p", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
				t.Fatal(err)
			}
			if err := n.Policies.Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Policies.Get(t.Context(), "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
		})
	}
}

// TestPolicyRefused shows that mistakes are a 422 that names the field.
func TestPolicyRefused(t *testing.T) {
	namespace := harness.NewNamespace()
	for manifest, field := range map[string]string{
		"{metadata: {name: p}}": "spec.prefixSelector",
		"{metadata: {name: p}, spec: {prefixSelector: {matchLabels: {a: '!'}}}}":                          "spec.prefixSelector.matchLabels",
		"{metadata: {name: p}, spec: {prefixSelector: {}, reserved: [{edges: true}, {reason: why}]}}":     "spec.reserved[1]",
		"{metadata: {name: p}, spec: {prefixSelector: {}, reserved: [{cidr: 10.0.0.1/24}]}}":              "spec.reserved[0].cidr",
		"{metadata: {name: p}, spec: {prefixSelector: {}, reserved: [{from: 10.0.0.1}]}}":                 "spec.reserved[0].to",
		"{metadata: {name: p}, spec: {prefixSelector: {}, reserved: [{from: 10.0.0.9, to: 10.0.0.1}]}}":   "spec.reserved[0].to",
		"{metadata: {name: p}, spec: {prefixSelector: {}, reserved: [{cidr: 10.0.0.0/24, edges: true}]}}": "spec.reserved[0]",
		"{metadata: {name: p}, spec: {prefixSelector: {}, coolDown: -1s}}":                                "spec.coolDown",
		"{metadata: {name: p}, spec: {prefixSelector: {}, coolDown: 8760h0m1s}}":                          "spec.coolDown",
		"{metadata: {name: p, labels: {a: '!'}}, spec: {prefixSelector: {}}}":                             "metadata.labels",
	} {
		t.Run(field, func(t *testing.T) {
			body := strings.Replace(manifest, "{", "{apiVersion: "+harness.GroupVersion+", kind: PrefixPolicy, ", 1)
			status := shared.Do(t, http.MethodPost, harness.Path(namespace, harness.PolicyKind), harness.JSON, body).Refused(t, http.StatusUnprocessableEntity)
			if status.Details == nil || len(status.Details.Causes) != 1 || status.Details.Causes[0].Field != field {
				t.Errorf("got %+v", status)
			}
		})
	}
}

// TestPolicyApply applies a policy, with two owners of the spec and of the status.
func TestPolicyApply(t *testing.T) {
	n := harness.In(t, shared.Client, harness.NewNamespace())
	apply := func(cidrs ...string) *v1alpha1.PrefixPolicy {
		t.Helper()
		spec := ipamapply.PrefixPolicySpec().WithPrefixSelector(metaapply.LabelSelector())
		for _, cidr := range cidrs {
			spec.WithReserved(ipamapply.PrefixReservation().WithCIDR(cidr))
		}
		policy, err := n.Policies.Apply(t.Context(), ipamapply.PrefixPolicy("p", n.NS).WithSpec(spec), metav1.ApplyOptions{FieldManager: "owner"})
		if err != nil {
			t.Fatal(err)
		}
		return policy
	}
	apply("10.0.0.0/28", "10.0.1.0/28")
	if _, err := n.Policies.ApplyStatus(t.Context(), ipamapply.PrefixPolicy("p", n.NS).WithStatus(ipamapply.PrefixPolicyStatus().WithPrefixes(2)),
		metav1.ApplyOptions{FieldManager: "controller"}); err != nil {
		t.Fatal(err)
	}
	policy := apply("10.0.2.0/28")
	if len(policy.Spec.Reserved) != 1 || policy.Spec.Reserved[0].CIDR != "10.0.2.0/28" || policy.Status.Prefixes != 2 || policy.Generation != 2 {
		t.Errorf("%+v", policy)
	}
}

// TestPolicyTable has what kubectl get shows.
func TestPolicyTable(t *testing.T) {
	n := harness.In(t, shared.Client, harness.NewNamespace())
	n.CreatePolicy(harness.Policy("all", []v1alpha1.PrefixReservation{{Edges: true}, {CIDR: "10.0.0.0/28"}}))
	some := harness.Policy("some", nil, "net", "a")
	some.Spec.Closed, some.Spec.Strategy = true, v1alpha1.PrefixStrategySpread
	some.Spec.SharedWith = &v1alpha1.PrefixSharing{Namespaces: []string{"a", "b", "c", "d"}}
	some.Spec.CoolDown = &metav1.Duration{Duration: 24 * time.Hour}
	some.Spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: 24, Default: 26}
	policy := n.CreatePolicy(some)
	policy.Status.Prefixes = 3
	policy.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Applied", LastTransitionTime: metav1.Now()}}
	if _, err := n.Policies.UpdateStatus(t.Context(), policy, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	shared.Do(t, http.MethodGet, harness.Path(n.NS, harness.PolicyKind), "", "", "application/json;as=Table;v=v1;g=meta.k8s.io").Into(t, &table)
	var columns []string
	for _, column := range table.ColumnDefinitions {
		columns = append(columns, column.Name)
	}
	if got := strings.Join(columns, " "); got != "Name Selects Prefixes Reserved CoolDown Shared Closed Ready Age Lengths Strategy" {
		t.Errorf("columns %s", got)
	}
	if len(table.Rows) != 2 || table.Rows[0].Cells[9] != "<none>" || table.Rows[1].Cells[9] != "/24- (/26)" || table.Rows[1].Cells[10] != "Spread" {
		t.Fatalf("rows %+v", table.Rows)
	}
	for i, want := range [][]any{{"all", "<none>", 0, 2, "<none>", "<none>", false, "Unknown"}, {"some", "net=a", 3, 0, "24h", "a,b,c + 1 more", true, "True"}} {
		for k, cell := range want {
			got := table.Rows[i].Cells[k]
			if number, ok := got.(int64); ok {
				got = int(number)
			}
			if number, ok := got.(float64); ok {
				got = int(number)
			}
			if got != cell {
				t.Errorf("row %d, column %s: %v, not %v", i, columns[k], got, cell)
			}
		}
	}
}

// TestPolicyKept shows that nobody can allocate what the policies of a parent do not allow: neither by a binding nor by two
// writes. What is allocated can be bound again.
func TestPolicyKept(t *testing.T) {
	for name, test := range map[string]struct {
		spec  func(*v1alpha1.PrefixPolicySpec)
		words string
	}{
		"closed": {func(spec *v1alpha1.PrefixPolicySpec) { spec.Closed = true }, "Prefix parent is closed"},
		"length": {func(spec *v1alpha1.PrefixPolicySpec) {
			spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: 25, Max: 28}
		}, "Prefix parent is no parent for a /24: its PrefixPolicy allows only prefixes from /25 to /28"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace, _ := shared.setUp(t, "request", "request-allocated")
			n := harness.In(t, shared.Client, namespace)
			policy := harness.Policy("rules", nil, "net", "blue")
			test.spec(&policy.Spec)
			n.CreatePolicy(policy)
			const binding = "{prefix: 10.0.1.0/24, prefixRef: {name: parent}}"
			bound := func() harness.Answer { return shared.bind(t, namespace, harness.AllocationKind, "request", binding) }
			refused := func(a harness.Answer) {
				t.Helper()
				if status := a.Refused(t, http.StatusUnprocessableEntity); !strings.Contains(status.Message, test.words) || status.Details.Causes[0].Field != "status.prefix" {
					t.Errorf("got %+v", status)
				}
			}
			// The policy is in the watch cache within milliseconds.
			harness.Eventually(t, "the rules hold", func() error {
				a := shared.Do(t, http.MethodPost, harness.Path(namespace, harness.AllocationKind, "request", "binding")+"?dryRun=All", harness.JSON,
					"{apiVersion: "+harness.GroupVersion+", kind: PrefixAllocationBinding, metadata: {name: request}, "+binding[1:])
				return harness.Unless(a.Code == http.StatusUnprocessableEntity, "%s", a.Body)
			})
			refused(bound())
			request := shared.Get(t, namespace, harness.AllocationKind, "request")
			request = shared.Patch(t, request, harness.MergePatch, "{spec: {prefixRef: {name: parent}}}").Must(t)
			refused(shared.Patch(t, request, harness.MergePatch, "{status: {phase: Allocated, prefix: 10.0.1.0/24}}", "status"))
			shared.bind(t, namespace, harness.AllocationKind, "request-allocated", "{prefix: 10.0.2.0/24, prefixRef: {name: parent}}").Must(t)

			if err := n.Policies.Delete(t.Context(), "rules", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, "the rules are gone", func() error {
				a := bound()
				return harness.Unless(a.Code/100 == 2, "%s", a.Body)
			})
		})
	}
}

// TestDefaultLength creates children without a length.
func TestDefaultLength(t *testing.T) {
	n := harness.In(t, shared.Client, harness.NewNamespace())
	n.Create(harness.Root("a", "10.0.0.0/16", harness.Labelled("pool", "a", "all", "yes")), harness.Root("b", "10.1.0.0/16", harness.Labelled("pool", "b", "all", "yes")),
		harness.Root("six", "2001:db8::/32", harness.Labelled("pool", "six", "all", "yes")), harness.Root("none", "10.2.0.0/16"))
	for i, pool := range []string{"a", "b", "six"} {
		policy := harness.Policy(pool, nil, "pool", pool)
		policy.Spec.ChildLengths = &v1alpha1.PrefixChildLengths{Default: []int32{24, 28, 64}[i]}
		n.CreatePolicy(policy)
	}
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	for name, test := range map[string]struct {
		child *v1alpha1.Prefix
		// want is 0 if the child is refused.
		want int32
	}{
		"by name":                         {harness.Child("c", "a"), 24},
		"by name, of another pool":        {harness.Child("c", "six"), 64},
		"by selector":                     {harness.NewPrefix("c", harness.Selecting("pool", "b")), 28},
		"by selector and family":          {harness.NewPrefix("c", harness.Family(v1alpha1.IPv6), harness.Selecting("all", "yes")), 64},
		"defaults that differ":            {harness.NewPrefix("c", harness.Selecting("all", "yes")), 0},
		"no default":                      {harness.Child("c", "none"), 0},
		"no parent":                       {harness.Child("c", "missing"), 0},
		"a length of its own":             {harness.Child("c", "a", harness.Length(28)), 28},
		"a root needs none":               {harness.Root("c", "10.3.0.0/16"), 0},
		"exactly, and the default is not": {harness.Child("c", "a", harness.Exactly("10.0.0.0/28")), 0},
	} {
		t.Run(name, func(t *testing.T) {
			harness.Eventually(t, name, func() error {
				created, err := n.Prefixes.Create(t.Context(), test.child, dry)
				switch {
				case test.want == 0 && test.child.Spec.Prefix == "":
					return harness.Unless(apierrors.IsInvalid(err) && strings.Contains(err.Error(), "spec.prefixLength: Required"), "%v", err)
				case err != nil:
					return err
				}
				return harness.Unless(created.Spec.PrefixLength == test.want, "%s", harness.Describe(created))
			})
		})
	}
	// A manifest without the length can be applied again, also when the default is another one.
	const manifest = "{spec: {parentRef: {name: a}}}"
	if created := shared.Apply(t, n.NS, harness.PrefixKind, "me", manifest, "kept").Must(t); harness.At(created, "spec.prefixLength") != int64(24) {
		t.Errorf("%v", created)
	}
	policy, err := n.Policies.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	policy.Spec.ChildLengths.Default = 30
	if _, err := n.Policies.Update(t.Context(), policy, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := shared.Apply(t, n.NS, harness.PrefixKind, "me", manifest, "kept").Must(t); harness.At(again, "spec.prefixLength") != int64(24) {
		t.Errorf("%v", again)
	}
}

// TestDefaultLengthOfAnotherNamespace creates children without a length of pools in another namespace. Only the pools that are
// shared count. Whether there are others is not told.
func TestDefaultLengthOfAnotherNamespace(t *testing.T) {
	owner, tenant := harness.In(t, shared.Client, harness.NewNamespace()), harness.In(t, shared.Client, harness.NewNamespace())
	for i, pool := range []string{"shared", "elsewhere", "own"} {
		owner.Create(harness.Root(pool, fmt.Sprintf("10.%d.0.0/16", i), harness.Labelled("pool", pool, "all", "yes")))
		policy := harness.Policy(pool, nil, "pool", pool)
		policy.Spec.ChildLengths = &v1alpha1.PrefixChildLengths{Default: []int32{24, 26, 28}[i]}
		switch pool {
		case "shared":
			policy.Spec.SharedWith = &v1alpha1.PrefixSharing{Namespaces: []string{tenant.NS}}
		case "elsewhere":
			policy.Spec.SharedWith = &v1alpha1.PrefixSharing{Namespaces: []string{"somebody-else"}}
		}
		owner.CreatePolicy(policy)
	}
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	// The owner sees all three.
	for pool, want := range map[string]int32{"shared": 24, "elsewhere": 26, "own": 28} {
		harness.Eventually(t, pool, func() error {
			created, err := owner.Prefixes.Create(t.Context(), harness.NewPrefix("c", harness.From(pool)), dry)
			if err != nil {
				return err
			}
			return harness.Unless(created.Spec.PrefixLength == want, "%s", harness.Describe(created))
		})
	}
	for name, test := range map[string]struct {
		parent harness.PrefixOption
		// want is 0 if the child is refused.
		want int32
	}{
		"by name":                            {harness.From("shared"), 24},
		"by name, not shared":                {harness.From("own"), 0},
		"by name, shared with another":       {harness.From("elsewhere"), 0},
		"by selector":                        {harness.Selecting("pool", "shared"), 24},
		"by selector, only what is shared":   {harness.Selecting("all", "yes"), 24},
		"by selector, not shared":            {harness.Selecting("pool", "own"), 0},
		"by selector, shared with another":   {harness.Selecting("pool", "elsewhere"), 0},
		"by selector, which matches nothing": {harness.Selecting("pool", "nothing"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			child := harness.NewPrefix("c", test.parent, harness.InNamespace(owner.NS))
			harness.Eventually(t, name, func() error {
				created, err := tenant.Prefixes.Create(t.Context(), child, dry)
				if test.want == 0 {
					return harness.Unless(apierrors.IsInvalid(err) && strings.Contains(err.Error(), "spec.prefixLength: Required"), "%v", err)
				}
				if err != nil {
					return err
				}
				return harness.Unless(created.Spec.PrefixLength == test.want, "%s", harness.Describe(created))
			})
		})
	}
}

// TestPoliciesAreLimited fills a namespace with policies. One more is refused, by whatever verb, until another one is gone.
func TestPoliciesAreLimited(t *testing.T) {
	t.Parallel()
	n := harness.In(t, versioned.NewForConfigOrDie(shared.AdminConfig).IpamV1alpha1(), harness.NewNamespace())
	var group errgroup.Group
	group.SetLimit(16)
	for i := range prefixpolicy.MaxPolicies {
		group.Go(func() error {
			_, err := n.Policies.Create(t.Context(), harness.Policy(fmt.Sprint("p", i), nil), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	create := func() error {
		_, err := n.Policies.Create(t.Context(), harness.Policy("more", nil), metav1.CreateOptions{})
		return err
	}
	for verb, write := range map[string]func() error{"create": create, "apply": func() error {
		spec := ipamapply.PrefixPolicySpec().WithPrefixSelector(metaapply.LabelSelector())
		_, err := n.Policies.Apply(t.Context(), ipamapply.PrefixPolicy("applied", n.NS).WithSpec(spec), metav1.ApplyOptions{FieldManager: "test"})
		return err
	}} {
		n.Eventually(verb+" is refused", func() error {
			// The limit is checked against the watch cache.
			if err := write(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "at most 1000 PrefixPolicies") {
				return fmt.Errorf("not refused: %w", err)
			}
			return nil
		})
	}
	if _, err := n.Policies.Patch(t.Context(), "p0", types.MergePatchType, []byte(`{"spec": {"closed": true}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("a policy that there is cannot be changed: %v", err)
	}
	for _, name := range []string{"p1", "p2", "p3", "p4"} {
		if err := n.Policies.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	n.Eventually("there is room again", func() error {
		if err := create(); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
}
