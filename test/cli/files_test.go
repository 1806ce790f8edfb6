// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// write writes a file for import.
func (u *user) write(name, content string) string {
	u.Helper()
	path := filepath.Join(u.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		u.Fatal(err)
	}
	return path
}

// TestImport shows that a file is checked as a whole, that parents are found, and that a second run goes on.
func TestImport(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("campus", "10.0.0.0/8"))
	u.Allocated("campus")
	wrong := u.write("wrong.csv", "name,prefix\nlab,10.1.0.0/16\nlab2,10.1.0.1/16\nlab3,10.1.0.0/16\n")
	got := u.fails(cli.ExitInvalid, "2 lines have errors, so nothing is created", "import", wrong)
	for _, part := range []string{"2      lab", "create\n", "error: prefix: \"10.1.0.1/16\" must not have host bits set", "error: 10.1.0.0/16 overlaps 10.1.0.0/16 of the Prefix lab"} {
		if !strings.Contains(got.out, part) {
			t.Errorf("no %q in\n%s", part, got.out)
		}
	}
	if len(u.List()) != 1 {
		t.Fatal("something is created")
	}

	plan := u.write("plan.csv", "prefix,name,labels,description,tenant\n10.1.1.0/24,host-net,a=b;c=d,\"Rack 1, left\",Team A\n10.1.0.0/16,lab,,,\n2001:db8::/32,,,,\n")
	if got := u.must("import", plan, "--dry-run"); strings.Count(got, " create\n") != 3 || len(u.List()) != 1 {
		t.Errorf("import --dry-run: %s", got)
	}
	if got := u.must("import", plan); strings.Count(got, " created\n") != 3 {
		t.Errorf("import: %s", got)
	}
	p := u.Allocated("host-net")
	if p.Spec.ParentRef.Name != "lab" || p.Labels["tenant"] != "Team-A" || p.Labels["c"] != "d" || p.Annotations["ipam.ironcore.dev/description"] != "Rack 1, left" {
		t.Errorf("%+v", p)
	}
	if p := u.Allocated("lab"); p.Spec.ParentRef.Name != "campus" {
		t.Errorf("%+v", p.Spec)
	}
	u.Allocated("2001-0db8-0000-0000-0000-0000-0000-0000-32")
	more := u.write("plan.csv", "prefix,name\n10.1.1.0/24,host-net\n10.1.0.0/16,lab\n10.1.2.0/24,host-net-2\n")
	if got := u.must("import", more); strings.Count(got, " exists\n") != 2 || strings.Count(got, " created\n") != 1 {
		t.Errorf("the second import: %s", got)
	}
	for what, content := range map[string]string{
		"it exists, and asks for 10.1.0.0/16":         "prefix,name\n10.9.0.0/16,lab\n",
		"it exists, and asks for 10.1.2.0/24":         "length,name,parent\n28,host-net-2,lab\n",
		"it exists, and is not allocated from campus": "prefix,name,parent\n10.1.1.0/24,host-net,campus\n",
		"it exists, and is allocated from campus":     "prefix,name,parent\n10.1.0.0/16,lab,\n",
		"it exists, and has another selector":         "prefix,name,selector\n10.1.1.0/24,host-net,a=b\n",
		"it exists, and asks for 10.0.0.0/8":          "prefix,name,parent\n2001:db8::/32,campus,\n",
		"overlaps 10.1.1.0/24":                        "prefix,name,parent\n10.1.1.0/25,x,lab\n",
		"overlaps 10.1.2.0/24":                        "prefix,name,parent\n10.1.2.0/23,x,lab\n",
		"line 2 has the same name":                    "prefix,name\n10.8.0.0/16,x\n10.9.0.0/16,x\n",
	} {
		if got := u.fails(cli.ExitInvalid, "nothing is created", "import", u.write("x.csv", content)); !strings.Contains(got.out, what) {
			t.Errorf("no %q in\n%s", what, got.out)
		}
	}
	// What cannot be allocated is said, also by a run that finds all of it.
	for range 2 {
		u.fails(cli.ExitUnavailable, "x: NoSuitableParent", "import", u.write("x.csv", "name,length,parent\nx,8,lab\n"), "--timeout", "2m")
	}
	// Somebody else creates the same, or something else, between the look and the write.
	made := func(name string, prefix *v1alpha1.Prefix) {
		u.forbids = func(r *http.Request) bool {
			if r.Method == http.MethodPost && prefix != nil {
				p := prefix
				prefix = nil
				u.Create(p)
			}
			return false
		}
	}
	made("same", harness.Child("same", "lab", harness.Exactly("10.1.3.0/24")))
	if got := u.run("import", u.write("x.csv", "name,prefix,parent\nsame,10.1.3.0/24,lab\n")); got.code != cli.ExitDone || !strings.Contains(got.out, " exists\n") || !strings.Contains(got.err, "0 created, 1 exist, 0 failed") {
		t.Errorf("import: %+v", got)
	}
	made("other", harness.Child("other", "lab", harness.Exactly("10.1.4.0/24")))
	u.fails(cli.ExitError, "1 lines could not be created", "import", u.write("x.csv", "name,prefix,parent\nother,10.1.5.0/24,lab\n"))
	// What is deleted before it is allocated is not done.
	u.forbids = func(r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, "status.phase") {
			_ = u.Prefixes.Delete(r.Context(), "short", metav1.DeleteOptions{})
			u.Gone("short")
		}
		return false
	}
	u.fails(cli.ExitConflict, "short was deleted meanwhile", "import", u.write("x.csv", "name,prefix,parent\nshort,10.1.6.0/24,lab\n"))
	u.forbids = nil
	u.fails(cli.ExitUsage, "no such file", "import", "missing.csv")
	u.fails(cli.ExitInvalid, "is a PrefixAllocation, not a Prefix", "import", u.write("x.yaml", "apiVersion: ipam.ironcore.dev/v1alpha1\nkind: PrefixAllocation\n"))
}

// TestExport shows that what is exported creates the same address space in another namespace.
func TestExport(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/8", harness.Labelled("pool", "a", "vrf", "blue")), harness.Root("other", "10.0.0.0/8", harness.Labelled("vrf", "red")),
		harness.Child("net", "root", harness.Length(24)), harness.NewPrefix("host", harness.Length(30), harness.Selecting("pool", "a")), harness.Root("v6", "2001:db8::/32"))
	u.AllAllocated()
	spec := func(prefixes []v1alpha1.Prefix) (specs []string) {
		for _, p := range prefixes {
			specs = append(specs, fmt.Sprintf("%s %s %v %v", p.Name, p.Spec.Prefix, p.Spec.ParentRef, p.Labels))
		}
		slices.Sort(specs)
		return specs
	}
	for _, format := range []string{"csv", "yaml"} {
		exported := u.must("export", "-o", format)
		into := newUser(t)
		into.stdin = strings.ReplaceAll(exported, u.NS, into.NS)
		into.must("import", "-")
		into.AllAllocated()
		if got, want := spec(into.List()), spec(u.List()); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", format, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got := into.must("export", "-o", format); got != into.stdin {
			t.Errorf("%s: exported again\n%s\ninstead of\n%s", format, got, into.stdin)
		}
	}
	if got := u.must("export", "-l", "pool=a"); strings.Count(got, "\n") != 2 {
		t.Errorf("export -l: %s", got)
	}
	u.fails(cli.ExitUsage, "use csv or yaml", "export", "-o", "json")
	// What import would not make again is said.
	u.CreateAllocation(harness.Allocation("alone", "root", "10.200.0.0/16"))
	u.AtRest()
	if got := u.run("export"); got.code != cli.ExitDone || !strings.Contains(got.err, "1 PrefixAllocations that were made without a Prefix are left out.") {
		t.Errorf("export: %+v", got)
	}
	u.forbids = func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/prefixallocations") }
	if got := u.fails(cli.ExitForbidden, "You may not read prefixallocations", "export"); strings.Count(got.out, "\n") != 6 {
		t.Errorf("export: %s", got.out)
	}
}

// TestCheck shows that check finds an allocation that is left over, and that it repairs only that. Nothing else can be
// made through the API.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	u := newUser(t)
	u.server = s
	u.Namespace = harness.In(t, s.Client, u.NS)
	root := u.Create(harness.Root("root", "10.0.0.0/8"))
	if _, err := u.Prefixes.UpdateStatus(t.Context(), allocated(root), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// make makes a child that has a prefix, without the help of a controller.
	make := func(name, prefix string) {
		t.Helper()
		child := u.Create(harness.Child(name, "root", harness.Length(16)))
		a := harness.Allocation(name+"-1", "root", "")
		a.Spec.PrefixLength, a.Spec.Prefix = 16, ""
		yes := true
		a.OwnerReferences = []metav1.OwnerReference{{APIVersion: harness.GroupVersion, Kind: "Prefix", Name: name, UID: child.UID, Controller: &yes}}
		a = u.CreateAllocation(a)
		if _, err := u.Allocations.Bind(t.Context(), a.Name, &v1alpha1.PrefixAllocationBinding{Prefix: prefix, PrefixRef: v1alpha1.BindingReference{Name: "root"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// end deletes the child. There is no controller that deletes what it had.
	end := func(name string) {
		t.Helper()
		for range 2 {
			child, err := u.Prefixes.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				break
			}
			child.Finalizers = nil
			if _, err := u.Prefixes.Update(t.Context(), child, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			if child.DeletionTimestamp == nil {
				u.Delete(name)
			}
		}
		u.Gone(name)
	}
	make("child", "10.1.0.0/16")
	if got := u.run("check"); got.code != cli.ExitDone || got.out != "" || !strings.Contains(got.err, "2 Prefixes and 1 PrefixAllocations: 0 differences") {
		t.Errorf("check: %+v", got)
	}
	end("child")
	got := u.fails(cli.ExitConflict, "there are 1 differences", "check")
	if !strings.Contains(got.out, "child-1") || !strings.Contains(got.out, "Leftover: it holds space for the Prefix child, which does not exist") {
		t.Errorf("check: %s", got.out)
	}
	u.fails(cli.ExitConflict, "use --yes", "check", "--repair")
	if got := u.run("check", "--repair", "--yes"); got.code != cli.ExitDone || !strings.Contains(got.err, "child-1 is deleted.") {
		t.Errorf("check --repair: %+v", got)
	}
	if got := u.run("check", "-A", "-q"); got != (outcome{}) {
		t.Errorf("check after the repair: %+v", got)
	}
	// What a finalizer keeps is not repaired.
	make("held", "10.2.0.0/16")
	a, err := u.Allocations.Get(t.Context(), "held-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a.Finalizers = []string{"example.org/hold"}
	if _, err := u.Allocations.Update(t.Context(), a, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	end("held")
	u.fails(cli.ExitConflict, "stays until its finalizers are removed: example.org/hold", "check", "--repair", "--yes")
	u.forbids = func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/prefixallocations") }
	u.fails(cli.ExitForbidden, "is forbidden", "check")
}

// allocated returns a root with the status that the controllers give it.
func allocated(p *v1alpha1.Prefix) *v1alpha1.Prefix {
	p.Status.Phase = v1alpha1.PrefixPhaseAllocated
	return p
}

// TestColors shows that there are colors where they are allowed, and that they are the same text.
func TestColors(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/24"), harness.Child("child", "root", harness.Exactly("10.0.0.0/25")))
	u.Allocated("child")
	u.AtRest()
	escape := regexp.MustCompile(`\x1b\[\d*m`)
	for _, args := range [][]string{{"map", "root"}, {"tree", "--free"}, {"who", "10.0.0.200"}} {
		u.colors = false
		without := u.must(args...)
		u.colors = true
		with := u.must(args...)
		if args[0] == "map" {
			with = strings.NewReplacer("█", "#", "▚", "r", "≈", "c", "·", ".", "░", "-", "▒", "+").Replace(with)
		}
		if strings.Contains(without, "\x1b") || !strings.Contains(with, "\x1b[") || escape.ReplaceAllString(with, "") != without {
			t.Errorf("%s: %q and in colors %q", args, without, with)
		}
	}
}
