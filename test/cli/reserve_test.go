// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// TestReserve shows that reservations are written, what the other commands show of them, and that they are taken back.
func TestReserve(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("office", "10.0.0.0/24", harness.Labelled("pool", "office")), harness.Root("bare", "10.1.0.0/24"))
	u.Create(harness.Child("router", "office", harness.Exactly("10.0.0.1/32")))
	u.Allocated("router")

	// Nothing is written by a trial.
	got := u.must("reserve", "office", "10.0.0.128/25", "--dry-run=client", "-o", "yaml")
	want := "apiVersion: ipam.ironcore.dev/v1alpha1\nkind: PrefixPolicy\nmetadata:\n  name: office\n  namespace: " + u.NS + "\nspec:\n  prefixSelector:\n    matchLabels:\n      pool: office\n  reserved:\n  - cidr: 10.0.0.128/25\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	u.must("reserve", "office", "10.0.0.128/25", "--dry-run=server")
	policies := live.Client.PrefixPolicies(u.NS)
	if list, err := policies.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Fatalf("%v %v", list, err)
	}

	if got := u.must("reserve", "office", "edges", "10.0.0.1-10.0.0.9", "--reason", "routers"); got != "POLICY   RULE                         REASON\noffice   reserved edges               routers\noffice   reserved 10.0.0.1-10.0.0.9   routers\n" {
		t.Errorf("reserve: %s", got)
	}
	// A second time changes nothing but the reason, and another range is added.
	if got := u.must("reserve", "office", "10.0.0.128/25", "edges", "--reason", "VPN"); strings.Count(got, "\n") != 4 || !strings.Contains(got, "edges               VPN") {
		t.Errorf("reserve: %s", got)
	}
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"free office --count 20", []string{"10.0.0.10/31", "10.0.0.64/26"}},
		{"free office --length 32 --count 1", []string{"10.0.0.10/32   117"}},
		{"who 10.0.0.5", []string{"└─ -     10.0.0.5/32   <none>   Reserved by office: routers"}},
		{"who 10.0.0.1", []string{"└─ router   10.0.0.1/32"}},
		{"who 10.0.0.70", []string{"10.0.0.64/26   <none>   Free"}},
		{"who 10.0.0.200 -o json", []string{`"type": "Reserved"`, `"policies": "office: VPN"`}},
		{"tree office --free", []string{"├─ router   10.0.0.1/32", "├─ -        10.0.0.2/31", "Reserved by office: routers", "10.0.0.64/26                                           Free", "└─ -        10.0.0.128/25                                          Reserved by office: VPN"}},
		{"show office", []string{"Policy: office: reserved edges (VPN)", "Policy: office: reserved 10.0.0.1-10.0.0.9 (routers)"}},
		{"map office", []string{"10.0.0.0    r#rrrrrrrr......", "10.0.0.128  rrrr", "r reserved"}},
	} {
		got := u.must(strings.Fields(tt.args)...)
		for _, want := range tt.want {
			if !strings.Contains(strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " ")) {
				t.Errorf("%s: no %q in\n%s", tt.args, want, got)
			}
		}
	}
	for _, lost := range []string{"10.0.0.2/", "10.0.0.128/25"} {
		if got := u.must("free", "office", "--count", "20"); strings.Contains(got, lost) {
			t.Errorf("%s is free:\n%s", lost, got)
		}
	}
	u.Create(harness.Child("large", "office", harness.Length(25)))
	u.Eventually("why", func() error {
		got := u.must("why", "large")
		return harness.Unless(strings.Contains(got, "Reserved: has no room for a /25 outside of reserved space") && strings.Contains(got, "kubectl ipam unreserve office"), "%s", got)
	})

	u.fails(cli.ExitConflict, "has no labels", "reserve", "bare", "10.1.0.0/28")
	u.fails(cli.ExitConflict, "does not select bare", "reserve", "bare", "10.1.0.0/28", "--policy", "office")
	u.fails(cli.ExitUsage, "does not select", "reserve", "office", "10.0.0.0/28", "--policy", "more", "--selector", "pool=lab")
	u.fails(cli.ExitUsage, "neither a CIDR", "reserve", "office", "router")
	u.fails(cli.ExitUsage, "host bits", "reserve", "office", "10.0.0.1/24")
	u.fails(cli.ExitUsage, "10.0.0.1 must not be before 10.0.0.9", "reserve", "office", "10.0.0.9-10.0.0.1")
	u.fails(cli.ExitNotFound, "reserves 10.0.0.0/28", "unreserve", "office", "10.0.0.0/28")
	u.fails(cli.ExitNotFound, "not found", "reserve", "nothing", "edges")
	// What would change nothing, or something else than was asked for, is said.
	u.fails(cli.ExitConflict, "10.9.0.0/24 is not in office (10.0.0.0/24)", "reserve", "office", "10.9.0.0/24")
	u.fails(cli.ExitConflict, "PrefixPolicy office exists, and selects by pool=office", "reserve", "office", "10.0.0.64/28", "--selector", "pool in (office,lab)")
	u.must("reserve", "office", "10.0.0.64/28", "--selector", "pool=office")
	// It may be written in another way.
	u.must("unreserve", "office", "10.0.0.64-10.0.0.79")

	if got := u.must("unreserve", "office", "10.0.0.128/25"); strings.Count(got, "\n") != 3 || strings.Contains(got, "10.0.0.128") {
		t.Errorf("unreserve: %s", got)
	}
	for _, dryRun := range []string{"client", "server"} {
		got := u.run("unreserve", "office", "edges", "10.0.0.1-10.0.0.9", "--dry-run="+dryRun, "-o", "yaml")
		if got != (outcome{err: "PrefixPolicy office would have no rules any more, and would be deleted.\n"}) {
			t.Errorf("unreserve --dry-run=%s: %+v", dryRun, got)
		}
	}
	if got := u.run("unreserve", "office", "edges", "10.0.0.1-10.0.0.9", "-o", "name"); got != (outcome{err: "PrefixPolicy office has no rules any more, and is deleted.\n"}) {
		t.Errorf("unreserve: %+v", got)
	}
	u.Allocated("large")
	if list, err := policies.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Errorf("%v %v", list, err)
	}
}

// TestClose shows that nothing is allocated from a Prefix that is closed, why, and that it can be opened.
func TestClose(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("office", "10.0.0.0/24", harness.Labelled("pool", "office")))
	u.Allocated("office")
	if got := u.must("close", "office"); got != "POLICY   RULE     REASON\noffice   closed   <none>\n" {
		t.Errorf("close: %s", got)
	}
	u.Create(harness.Child("child", "office", harness.Length(28)))
	u.Eventually("why", func() error {
		got := u.must("why", "child")
		return harness.Unless(strings.Contains(got, "office   10.0.0.0/24   /25            ParentClosed") && strings.Contains(got, "kubectl ipam open office"), "%s", got)
	})
	if got := u.run("free", "office"); got.code != cli.ExitDone || !strings.Contains(got.err, "office is closed by the PrefixPolicy office: nothing would be given from it now.") {
		t.Errorf("free: %+v", got)
	}
	u.must("reserve", "office", "edges")
	u.must("open", "office")
	u.Allocated("child")
	u.fails(cli.ExitNotFound, "no PrefixPolicy closes office", "open", "office")
	u.must("unreserve", "office", "edges", "--dry-run=server")
	if _, err := live.Client.PrefixPolicies(u.NS).Get(t.Context(), "office", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// TestCooling shows what the commands tell of space that is kept for a child that was deleted, and how that ends.
func TestCooling(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("office", "10.0.0.0/24", harness.Labelled("pool", "office")))
	policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: "cool"}, Spec: v1alpha1.PrefixPolicySpec{
		PrefixSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "office"}}, CoolDown: &metav1.Duration{Duration: 24 * time.Hour}}}
	if _, err := live.Client.PrefixPolicies(u.NS).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	u.Allocated("office")
	for _, name := range []string{"printer", "scanner"} {
		u.Create(harness.Child(name, "office", harness.Length(28)))
		u.Allocated(name)
	}
	u.AtRest()
	if got := u.run("release", "printer"); got.code != cli.ExitDone || !strings.Contains(got.err, "10.0.0.0/28: Cooling until ") || !strings.Contains(got.err, "kubectl ipam release printer --now") {
		t.Errorf("release: %+v", got)
	}
	u.AtRest()
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"who 10.0.0.5", []string{"└─ - 10.0.0.0/28 <none> Cooling until", ", for printer"}},
		{"who 10.0.0.5 -o json", []string{`"type": "Cooling"`, `"until": "`, `"name": "printer"`}},
		{"tree office --free", []string{"├─ - 10.0.0.0/28 Cooling until", ", for printer", "├─ scanner 10.0.0.16/28", "├─ - 10.0.0.32/27 Free"}},
		{"show office", []string{"Policy: cool: cool-down 24h", "Cooling: 10.0.0.0/28, until", ", for printer"}},
		{"map office", []string{"cccccccccccccccc################....", "c cooling"}},
		{"free office --count 1", []string{"10.0.0.32/27"}},
		{"free office --length 28 --count 1", []string{"10.0.0.32/28"}},
	} {
		u.Eventually(tt.args, func() error {
			got := strings.Join(strings.Fields(u.must(strings.Fields(tt.args)...)), " ")
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					return fmt.Errorf("no %q in\n%s", want, got)
				}
			}
			return nil
		})
	}
	if got := u.run("check"); got.code != cli.ExitDone {
		t.Errorf("check: %+v", got)
	}
	u.Create(harness.Child("copier", "office", harness.Exactly("10.0.0.0/29")))
	u.Eventually("why", func() error {
		got := u.must("why", "copier")
		return harness.Unless(strings.Contains(got, "PrefixInUse: keeps a part of 10.0.0.0/29 for a child that was deleted"), "%s", got)
	})
	// It ends for what was deleted before, and for what is deleted now.
	if got := u.must("release", "printer", "scanner", "--now", "-q"); got != "prefix.ipam.ironcore.dev/printer\nprefix.ipam.ironcore.dev/scanner\n" {
		t.Errorf("release --now: %s", got)
	}
	u.Allocated("copier")
	u.AtRest()
	if got := u.must("map", "office"); strings.Contains(got, "cccc") {
		t.Errorf("map: %s", got)
	}
	u.fails(cli.ExitNotFound, "not found", "release", "printer", "--now")
	u.fails(cli.ExitUsage, "--now needs a --timeout", "release", "copier", "--now", "--timeout", "0")
}

// TestConflicts shows that what others write at the same time is neither lost nor reported as done.
func TestConflicts(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("office", "10.0.0.0/24", harness.Labelled("pool", "office")))
	u.Allocated("office")
	policies := live.Client.PrefixPolicies(u.NS)
	before := func(method string, do func(*v1alpha1.PrefixPolicy)) {
		once := true
		u.forbids = func(r *http.Request) bool {
			if r.Method == method && once {
				once = false
				// A controller writes the status at the same time.
				err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
					p, err := policies.Get(t.Context(), "office", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if do(p); p.Spec.Reserved == nil {
						return policies.Delete(t.Context(), "office", metav1.DeleteOptions{})
					}
					_, err = policies.Update(t.Context(), p, metav1.UpdateOptions{})
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
			return false
		}
	}
	add := func(cidr string) func(*v1alpha1.PrefixPolicy) {
		return func(p *v1alpha1.PrefixPolicy) {
			p.Spec.Reserved = append(p.Spec.Reserved, v1alpha1.PrefixReservation{CIDR: cidr})
		}
	}
	u.must("reserve", "office", "10.0.0.0/28")
	before(http.MethodPut, add("10.0.0.16/28"))
	if got := u.must("reserve", "office", "10.0.0.32/28"); strings.Count(got, "reserved") != 3 {
		t.Errorf("reserve: %s", got)
	}
	before(http.MethodPut, add("10.0.0.48/28"))
	if got := u.must("unreserve", "office", "10.0.0.0/28"); strings.Count(got, "reserved") != 3 || strings.Contains(got, "10.0.0.0/28") {
		t.Errorf("unreserve: %s", got)
	}
	// The policy would be deleted, but somebody adds a rule.
	before(http.MethodDelete, add("10.0.0.64/28"))
	if got := u.run("unreserve", "office", "10.0.0.16/28", "10.0.0.32/28", "10.0.0.48/28"); got.code != cli.ExitDone || !strings.Contains(got.out, "10.0.0.64/28") || strings.Contains(got.err, "is deleted") {
		t.Errorf("unreserve: %+v", got)
	}
	// Somebody else deletes it first.
	before(http.MethodDelete, func(p *v1alpha1.PrefixPolicy) { p.Spec.Reserved = nil })
	if got := u.run("unreserve", "office", "10.0.0.64/28"); got != (outcome{}) {
		t.Errorf("unreserve: %+v", got)
	}
}
