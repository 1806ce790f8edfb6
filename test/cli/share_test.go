// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// TestShare shares a Prefix with another namespace, and shows what its owner and the tenant see.
func TestShare(t *testing.T) {
	t.Parallel()
	owner, tenant := newUser(t), newUser(t)
	owner.Create(harness.Root("office", "10.0.0.0/24", harness.Labelled("pool", "office")))
	owner.Allocated("office")

	claim := []string{"claim", "--from", "office", "--namespace-of-parent", owner.NS, "--length", "28", "--name", "web", "-q"}
	if got := tenant.run(append(claim, "--timeout", "2s")...); got.code == cli.ExitDone {
		t.Fatalf("not shared, and claimed: %+v", got)
	}
	tenant.Eventually("why", func() error {
		got := tenant.must("why", "web")
		return harness.Unless(strings.Contains(got, "from the Prefix "+owner.NS+"/office") && strings.Contains(got, "NotShared") &&
			strings.Contains(got, "kubectl ipam share office --with "+tenant.NS+" -n "+owner.NS), "%s", got)
	})
	if got := owner.must("share", "office", "--with", tenant.NS); !strings.Contains(got, "shared with "+tenant.NS) {
		t.Errorf("share: %s", got)
	}
	if got := tenant.must(claim...); got != "10.0.0.0/28\n" {
		t.Errorf("claim: %s", got)
	}

	for _, tt := range []struct {
		user *user
		args string
		want string
	}{
		{tenant, "show web", owner.NS + "/office"},
		{tenant, "why web", "allocated from " + owner.NS + "/office"},
		{tenant, "tree", "web"},
		{tenant, "export", owner.NS + "/office"},
		{owner, "free office --length 28 --count 1", "10.0.0.16/28"},
		{owner, "map office", "#"},
		{owner, "who 10.0.0.1", "web"},
		{owner, "check", ""},
		{tenant, "check", ""},
	} {
		tt.user.Eventually(tt.args, func() error {
			got := tt.user.run(strings.Fields(tt.args)...)
			return harness.Unless(got.code == cli.ExitDone && strings.Contains(got.out, tt.want), "no %q in %+v", tt.want, got)
		})
	}
	// Who may not read the tenant's namespace is not told that the space is free.
	blind := *owner
	blind.forbids = func(r *http.Request) bool {
		return !strings.Contains(r.URL.Path, "/namespaces/"+owner.NS+"/") && strings.Contains(r.URL.Path, "/apis/")
	}
	got := blind.fails(cli.ExitForbidden, "who holds it in another namespace is missing", "who", "10.0.0.1")
	if !strings.Contains(got.out, "In use by another namespace") || strings.Contains(got.out, "Free") {
		t.Errorf("who: %s", got.out)
	}
	if got := blind.must("free", "office", "--length", "28", "--count", "1"); !strings.Contains(got, "10.0.0.16/28") {
		t.Errorf("free: %s", got)
	}

	// Another way to share does not replace the first one.
	owner.fails(cli.ExitConflict, "in another way", "share", "office", "--all")
	owner.fails(cli.ExitUsage, "set one of", "share", "office")
	owner.fails(cli.ExitUsage, "set one of", "share", "office", "--all", "--with", "a")
	owner.must("share", "office", "--with", "team-x")
	owner.must("unshare", "office", "--with", "team-x")
	owner.fails(cli.ExitNotFound, "no PrefixPolicy shares office so", "unshare", "office", "--with", "team-x")
	owner.must("unshare", "office")
	if got := tenant.run("claim", "--from", "office", "--namespace-of-parent", owner.NS, "--length", "28", "--name", "late", "--timeout", "1s"); got.code == cli.ExitDone {
		t.Errorf("claimed what is not shared any more: %+v", got)
	}
	tenant.Allocated("web")
}

// TestReleaseShared shows that release refuses to delete a Prefix that only other namespaces use, whether the owner may
// read them or not, and that it does not once they have released what they held.
func TestReleaseShared(t *testing.T) {
	t.Parallel()
	owner, tenant := newUser(t), newUser(t)
	owner.Create(harness.Root("office", "10.0.0.0/24", harness.Labelled("pool", "office")))
	owner.Allocated("office")
	owner.must("share", "office", "--with", tenant.NS)
	tenant.must("claim", "--from", "office", "--namespace-of-parent", owner.NS, "--length", "28", "--name", "web")
	owner.must("claim", "--from", "office", "--length", "28", "--name", "own")
	owner.Eventually("the status counts both", func() error {
		usage := owner.Get("office").Status.Usage
		return harness.Unless(usage != nil && usage.Allocations == 2, "%+v", usage)
	})

	blind := *owner
	blind.forbids = func(r *http.Request) bool {
		return !strings.Contains(r.URL.Path, "/namespaces/"+owner.NS+"/") && strings.Contains(r.URL.Path, "/apis/")
	}
	for _, u := range []*user{owner, &blind} {
		// What is released together with it does not count, and neither does it hide what others have.
		got := u.fails(cli.ExitConflict, "there are 1 prefixes in it", "release", "office", "own")
		if !strings.Contains(got.err, "and 1 in other namespaces") {
			t.Errorf("release: %s", got.err)
		}
		u.fails(cli.ExitConflict, "there are 2 prefixes in it", "release", "office")
	}
	if owner.Get("office").DeletionTimestamp != nil || owner.Get("own").DeletionTimestamp != nil {
		t.Fatal("it is deleted although another namespace uses it")
	}

	// The status may not know yet that it is not in use any more.
	tenant.must("release", "web")
	blind.must("release", "office", "own")
	owner.Empty()
}

// TestSameName shows that a Prefix whose parent lies in another namespace is not taken for a child of the Prefix with the
// name of the parent in its own namespace.
func TestSameName(t *testing.T) {
	t.Parallel()
	owner, tenant := newUser(t), newUser(t)
	for _, u := range []*user{owner, tenant} {
		u.Create(harness.Root("office", "10.0.0.0/24", harness.Labelled("pool", "office")))
		u.Allocated("office")
	}
	owner.must("share", "office", "--with", tenant.NS)
	tenant.must("claim", "--from", "office", "--namespace-of-parent", owner.NS, "--length", "28", "--name", "web")
	// Those that name the parent, and those that select it, wait in vain for a length that does not fit.
	for name, args := range map[string][]string{"waits-by-name": {"--from", "office"}, "waits-by-labels": {"-l", "pool=office", "--family", "IPv4"}} {
		tenant.run(append([]string{"claim", "--namespace-of-parent", owner.NS, "--length", "8", "--name", name, "--timeout", "0"}, args...)...)
		tenant.Get(name)
	}

	if got := tenant.must("show", "office"); strings.Contains(got, "web") || strings.Contains(got, "waits-") {
		t.Errorf("show: %s", got)
	}
	if got := tenant.must("who", "10.0.0.1"); strings.Contains(got, "web") {
		t.Errorf("who: %s", got)
	}
	tenant.must("release", "office")
	tenant.Gone("office")
	tenant.Allocated("web")
}
