// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// TestWho looks up addresses and ranges of trees that reach into another namespace, with and without the right to read it.
// No other test uses these ranges.
func TestWho(t *testing.T) {
	t.Parallel()
	owner, tenant := newUser(t), newUser(t)
	owner.Create(
		harness.Root("big", "172.31.0.0/16", harness.Labelled("pool", "big")), harness.Child("mid", "big", harness.Exactly("172.31.16.0/20")),
		harness.Child("host", "mid", harness.Exactly("172.31.16.1/32")), harness.Child("edge", "big", harness.Exactly("172.31.255.255/32")),
		harness.Root("six", "fd77::/64"), harness.Child("six-host", "six", harness.Exactly("fd77::1/128")),
	)
	owner.CreateAllocation(harness.Allocation("program", "big", "172.31.32.0/24"))
	owner.AllAllocated()
	owner.must("share", "big", "--with", tenant.NS)
	tenant.must("claim", "--from", "big", "--namespace-of-parent", owner.NS, "--prefix", "172.31.64.0/24", "--name", "guest")
	// Somebody else has a part of the same range.
	tenant.Create(harness.Root("copy", "172.31.16.0/24"))
	tenant.Allocated("copy")
	owner.Eventually("the status counts what both have", func() error {
		usage := owner.Get("big").Status.Usage
		return harness.Unless(usage != nil && usage.Allocations == 4, "%+v", usage)
	})

	alone := func(u *user) *user {
		blind := *u
		blind.namespaces = []string{owner.NS, tenant.NS}
		blind.forbids = func(r *http.Request) bool {
			return !strings.Contains(r.URL.Path, "/namespaces/"+u.NS+"/") && strings.Contains(r.URL.Path, "/apis/")
		}
		return &blind
	}
	const names = "{range .items[*]}{.depth}:{.type}:{.name}:{.prefix} {end}"
	for _, tt := range []struct {
		user   *user
		target string
		// everywhere is set if no namespace is named.
		everywhere bool
		code       cli.ExitCode
		want       string
	}{
		{owner, "172.31.16.1", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Prefix:mid:172.31.16.0/20 2:Prefix:host:172.31.16.1/32"},
		{owner, "172.31.16.1", true, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Prefix:mid:172.31.16.0/20 2:Prefix:host:172.31.16.1/32 0:Prefix:copy:172.31.16.0/24 1:Free::172.31.16.0/24"},
		{owner, "172.31.255.255", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Prefix:edge:172.31.255.255/32"},
		{owner, "172.31.16.2", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Prefix:mid:172.31.16.0/20 2:Free::172.31.16.2/31"},
		{owner, "172.31.32.7", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Allocation:program:172.31.32.0/24"},
		{owner, "172.31.32.0/23", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Allocation:program:172.31.32.0/24"},
		{owner, "172.31.64.9", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Prefix:guest:172.31.64.0/24 2:Free::172.31.64.0/24"},
		{alone(owner), "172.31.64.9", false, cli.ExitForbidden, "0:Prefix:big:172.31.0.0/16 1:Elsewhere::172.31.64.9/32"},
		{alone(tenant), "172.31.64.9", true, cli.ExitForbidden, "0:Prefix:guest:172.31.64.0/24 1:Free::172.31.64.0/24"},
		{owner, "172.31.0.0/16", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Inside:edge:172.31.255.255/32 1:Inside:mid:172.31.16.0/20 1:Inside:guest:172.31.64.0/24"},
		{owner, "172.31.16.0/21", false, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Prefix:mid:172.31.16.0/20 2:Inside:host:172.31.16.1/32"},
		{owner, "172.31.16.0/21", true, cli.ExitDone, "0:Prefix:big:172.31.0.0/16 1:Prefix:mid:172.31.16.0/20 2:Inside:host:172.31.16.1/32 0:Inside:copy:172.31.16.0/24"},
		{owner, "172.30.0.0/15", true, cli.ExitDone, "0:Inside:big:172.31.0.0/16 0:Inside:copy:172.31.16.0/24"},
		{tenant, "172.30.0.0/15", false, cli.ExitDone, "0:Inside:copy:172.31.16.0/24"},
		{owner, "fd77::1", false, cli.ExitDone, "0:Prefix:six:fd77::/64 1:Prefix:six-host:fd77::1/128"},
		{owner, "::/0", false, cli.ExitDone, "0:Inside:six:fd77::/64"},
		{tenant, "fd77::1", false, cli.ExitNotFound, ""},
	} {
		args := []string{"who", tt.target, "-o", "jsonpath=" + names}
		if tt.everywhere {
			args = append(args, "-n", "")
		}
		tt.user.Eventually(fmt.Sprint(args), func() error {
			got := tt.user.run(args...)
			rows, want := strings.Fields(got.out), strings.Fields(tt.want)
			if tt.everywhere || strings.Contains(tt.want, "Inside") {
				// Which namespace comes first depends on their names.
				slices.Sort(rows)
				slices.Sort(want)
			}
			return harness.Unless(got.code == tt.code && slices.Equal(rows, want), "%d and %q instead of %d and %q: %s", got.code, rows, tt.code, want, got.err)
		})
	}
}
