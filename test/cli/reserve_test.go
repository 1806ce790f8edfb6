// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if !strings.HasPrefix(got, want) {
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
		{"show office", []string{"Policy: office reserves edges: VPN", "Policy: office reserves 10.0.0.1-10.0.0.9: routers"}},
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

	if got := u.must("unreserve", "office", "10.0.0.128/25"); strings.Count(got, "\n") != 3 || strings.Contains(got, "10.0.0.128") {
		t.Errorf("unreserve: %s", got)
	}
	u.must("unreserve", "office", "edges", "10.0.0.1-10.0.0.9")
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
	u.must("reserve", "office", "edges")
	u.must("open", "office")
	u.Allocated("child")
	u.fails(cli.ExitNotFound, "no PrefixPolicy closes office", "open", "office")
	u.must("unreserve", "office", "edges", "--dry-run=server")
	if _, err := live.Client.PrefixPolicies(u.NS).Get(t.Context(), "office", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}
