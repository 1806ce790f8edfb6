// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// TestForbidden shows that what may not be read is said, and that the rest is shown.
func TestForbidden(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/8"), harness.Child("child", "root", harness.Exactly("10.1.0.0/16")))
	u.Allocated("child")
	u.AtRest()
	within := "/namespaces/" + u.NS + "/"

	t.Run("one namespace only", func(t *testing.T) {
		u := &user{server: live, Namespace: harness.In(t, live.Client, u.NS), forbids: func(r *http.Request) bool { return !strings.Contains(r.URL.Path, within) }}
		if got := u.must("tree"); !strings.Contains(got, "└─ child   10.1.0.0/16") {
			t.Errorf("tree: %s", got)
		}
		for _, args := range [][]string{{"tree", "-A"}, {"tree", "-A", "-n", ""}, {"who", "10.1.2.3", "-n", ""}} {
			if args[len(args)-1] == "" {
				u.namespaces = []string{"another", u.NS}
			}
			got := u.fails(cli.ExitForbidden, "You may not read all namespaces", args...)
			if !strings.Contains(got.out, "child") {
				t.Errorf("%s: %s", args, got.out)
			}
		}
	})
	t.Run("no allocations", func(t *testing.T) {
		u := &user{server: live, Namespace: harness.In(t, live.Client, u.NS), forbids: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/prefixallocations") }}
		got := u.fails(cli.ExitForbidden, "You may not read prefixallocations", "who", "10.2.0.0")
		if !strings.Contains(got.out, "Free") {
			t.Errorf("who: %s", got.out)
		}
		u.fails(cli.ExitForbidden, "is forbidden", "free", "root")
	})
	t.Run("no writes", func(t *testing.T) {
		u := &user{server: live, Namespace: harness.In(t, live.Client, u.NS), forbids: func(r *http.Request) bool { return r.Method != http.MethodGet }}
		u.fails(cli.ExitForbidden, "is forbidden", "claim", "--from", "root", "--length", "24")
		u.fails(cli.ExitForbidden, "is forbidden", "release", "child")
		u.must("why", "child")
	})
	t.Run("nothing", func(t *testing.T) {
		u := &user{server: live, Namespace: harness.In(t, live.Client, u.NS), forbids: func(*http.Request) bool { return true }}
		for _, args := range [][]string{{"tree"}, {"tree", "-A"}, {"who", "10.0.0.0"}, {"why", "root"}, {"free", "root"}, {"release", "root"}} {
			if got := u.fails(cli.ExitForbidden, "is forbidden", args...); got.out != "" {
				t.Errorf("%s: %s", args, got.out)
			}
		}
	})
}

// TestRelease shows what release asks, and when.
func TestRelease(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/8"), harness.Child("child", "root", harness.Exactly("10.1.0.0/16")))
	u.Allocated("child")

	u.terminal, u.stdin = true, "n\n"
	got := u.fails(cli.ExitConflict, "Delete root? There are 1 prefixes in it", "release", "root")
	if !strings.Contains(got.err, "child 10.1.0.0/16") || got.out != "" {
		t.Errorf("release root: %+v", got)
	}
	u.stdin = ""
	u.fails(cli.ExitConflict, "nothing is deleted", "release", "child")
	if u.Get("child").DeletionTimestamp != nil || u.Get("root").DeletionTimestamp != nil {
		t.Fatal("it is deleted although the answer was no")
	}
	// What is released together does not stand in the way of each other.
	u.terminal = false
	if got := u.must("release", "root", "child", "-q"); got != "prefix.ipam.ironcore.dev/root\nprefix.ipam.ironcore.dev/child\n" {
		t.Errorf("release: %s", got)
	}
	u.Empty()

	u.Create(harness.Root("root", "10.0.0.0/8"), harness.Child("child", "root", harness.Exactly("10.1.0.0/16")))
	u.Allocated("child")
	u.fails(cli.ExitUnavailable, "'kubectl ipam why root", "release", "root", "--yes", "--timeout", "100ms")
	u.Eventually("why", func() error {
		got := u.must("why", "root")
		return harness.Unless(strings.Contains(got, "is being deleted") && strings.Contains(got, "HasChildren"), "%s", got)
	})
	u.terminal, u.stdin = true, "YES\n"
	u.must("release", "child")
	u.Empty()

	// A PrefixAllocation without a Prefix stands on it, too.
	u.Create(harness.Root("root", "10.0.0.0/8"))
	u.CreateAllocation(harness.Allocation("alone", "root", "10.2.0.0/16"))
	u.AtRest()
	u.terminal = false
	u.fails(cli.ExitConflict, "PrefixAllocation alone 10.2.0.0/16", "release", "root")
	// It is not said to be gone while it is not.
	if got := u.run("release", "root", "--yes", "--timeout", "0"); got.code != cli.ExitDone || !strings.Contains(got.err, "root is being deleted.") {
		t.Errorf("release --timeout 0: %+v", got)
	}
}

// TestClaimTimeout shows that a Prefix that is not allocated in time is deleted if that is wanted.
func TestClaimTimeout(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/8"))
	if got := u.run("claim", "--from", "missing", "--length", "24", "--name", "late", "--timeout", "50ms", "--delete-on-timeout"); got.code != cli.ExitUnavailable {
		t.Errorf("claim: %+v", got)
	}
	u.Gone("late")
	if got := u.run("claim", "--from", "missing", "--length", "24", "--name", "late", "--timeout", "50ms"); got.code != cli.ExitUnavailable {
		t.Errorf("claim: %+v", got)
	}
	u.Get("late")
	// Whoever interrupts it leaves the Prefix behind.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	streams, _, _, _ := genericiooptions.NewTestIOStreams()
	if code := (cli.Options{IOStreams: streams}).Run(ctx, []string{"--kubeconfig", live.Kubeconfig, "-n", u.NS, "tree"}); code != cli.ExitUnavailable {
		t.Errorf("a command that is interrupted ends with %d", code)
	}
}

// TestClaimAtTheLastMoment shows that a Prefix that is allocated after the timeout, but before it is deleted, is printed and
// stays.
func TestClaimAtTheLastMoment(t *testing.T) {
	t.Parallel()
	for _, last := range []string{http.MethodGet, http.MethodDelete} {
		u := newUser(t)
		u.forbids = func(r *http.Request) bool {
			if r.Method == last && strings.HasSuffix(r.URL.Path, "/prefixes/late") {
				u.forbids = nil
				u.Create(harness.Root("root", "10.0.0.0/8"))
				u.Allocated("late")
			}
			return false
		}
		got := u.run("claim", "--from", "root", "--length", "24", "--name", "late", "--timeout", "50ms", "--delete-on-timeout", "-q")
		if got != (outcome{out: "10.0.0.0/24\n"}) || u.Get("late").DeletionTimestamp != nil {
			t.Errorf("before %s: %+v", last, got)
		}
	}
}

// TestClaimAgain shows that a claim by name succeeds only if what exists is what is asked for.
func TestClaimAgain(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/8"))
	u.Allocated("root")
	claim := []string{"claim", "--from", "root", "--name", "net", "-q"}
	with := func(args ...string) []string { return append(slices.Clone(claim), args...) }
	for range 2 {
		if got := u.must(with("--length", "24", "--labels", "team=a,site=b")...); got != "10.0.0.0/24\n" {
			t.Errorf("claim: %s", got)
		}
	}
	u.must(with("--prefix", "10.0.0.0/24")...)
	u.must(with("--length", "24", "--labels", "site=b")...)
	u.fails(cli.ExitConflict, "does not have the label team=c", with("--length", "24", "--labels", "team=c")...)
	u.fails(cli.ExitConflict, "asks for a /24", with("--length", "25")...)
	u.fails(cli.ExitConflict, "asks for 10.0.0.0/24", with("--prefix", "10.0.1.0/24")...)
	u.fails(cli.ExitConflict, "is IPv4", with("--length", "24", "--family", "IPv6")...)
	// Somebody deletes it when it is about to be read.
	u.Create(harness.Child("brief", "root", harness.Length(25)))
	u.forbids = func(r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/prefixes/brief") {
			u.forbids = nil
			u.Delete("brief")
			u.Gone("brief")
		}
		return false
	}
	if got := u.must("claim", "--from", "root", "--name", "brief", "--length", "26", "-q"); !strings.HasSuffix(got, "/26\n") {
		t.Errorf("claim: %s", got)
	}
	u.Create(harness.Child("host", "net", harness.Length(32)))
	u.Allocated("host")
	u.Delete("net")
	u.fails(cli.ExitConflict, "is being deleted", with("--length", "24")...)
}

// TestWarnings shows that each warning of the server is printed once, in one line, and without escape sequences, whichever
// client gets it. The library that reads the header drops one with control characters, but not with others that hide text.
func TestWarnings(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	p := harness.Root("root", "10.0.0.0/8")
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "app", UID: "1"}}
	u.Create(p)
	u.Allocated("root")
	u.warning = "old \u202egnp.exe\u2028error: fake"
	const want = `Warning: old \u202egnp.exe\u2028error: fake` + "\n"
	for _, args := range [][]string{{"tree"}, {"who", "10.0.0.0"}, {"release", "root", "-q"}} {
		if got := u.run(args...); got.err != want {
			t.Errorf("%s: %q", args, got.err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	errOut := &until{part: "Warning", then: cancel}
	if code := u.options(io.Discard, errOut).Run(ctx, u.args("ui", "--open=false")); code != cli.ExitDone || strings.Count(errOut.text, want) != 1 {
		t.Errorf("ui: exit code %d, %q", code, errOut.text)
	}
}

// until keeps what is written to it, and calls a function once that has a part.
type until struct {
	part string
	then func()

	mu   sync.Mutex
	text string
}

func (w *until) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text += string(p); strings.Contains(w.text, w.part) {
		w.then()
	}
	return len(p), nil
}

// TestWatch shows that --watch prints what changed until it is interrupted, and that it ends when the Prefix is gone.
func TestWatch(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/24", harness.Labelled("pool", "a")))
	u.Allocated("root")
	start := func(args ...string) (out *transcript, end func(byItself bool) outcome) {
		ctx, cancel := context.WithCancel(t.Context())
		out, errOut := &transcript{}, &transcript{}
		done := make(chan cli.ExitCode)
		go func() { done <- u.options(out, errOut).Run(ctx, u.args(args...)) }()
		return out, func(byItself bool) outcome {
			if !byItself {
				cancel()
			}
			defer cancel()
			code := <-done
			return outcome{out.String(), errOut.String(), code}
		}
	}
	says := func(out *transcript, part string) {
		t.Helper()
		u.Eventually("it prints "+part, func() error {
			return harness.Unless(strings.Contains(out.String(), part), "%s", out)
		})
	}
	tree, endTree := start("tree", "--watch")
	show, endShow := start("show", "root", "-w", "-o", "yaml")
	says(tree, "root   10.0.0.0/24   0%")
	says(show, "policies: []")
	u.Create(harness.Child("late", "root", harness.Length(25)))
	says(tree, "└─ late   10.0.0.0/25")
	u.must("close", "root")
	says(show, "---\n")
	says(show, "policies:\n- 'root: closed'")
	u.Create(harness.Child("waits", "root", harness.Length(28)))
	why, endWhy := start("why", "waits", "--watch")
	says(why, "ParentClosed")
	u.must("open", "root")
	says(why, "waits is Allocated")
	for what, end := range map[string]func(bool) outcome{"tree": endTree, "show": endShow} {
		if got := end(false); got.code != cli.ExitDone || got.err != "" {
			t.Errorf("%s: %+v", what, got)
		}
	}
	// The Prefix is gone, so there is nothing more to say. It need not be interrupted.
	u.Delete("waits")
	if got := endWhy(true); got.code != cli.ExitNotFound || !strings.Contains(got.err, "not found") {
		t.Errorf("why: %+v", got)
	}
	u.fails(cli.ExitNotFound, "not found", "why", "nothing", "--watch")
}

// transcript keeps what is written to it.
type transcript struct {
	mu   sync.Mutex
	text string
}

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text += string(p)
	return len(p), nil
}

// String returns what has been written.
func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text
}

// TestCompletion shows that a shell gets names from the server, and nothing if it may not have them.
func TestCompletion(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/8"), harness.Root("other", "11.0.0.0/8"))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"tree", ""}, "other\nroot\n:4\n"},
		{[]string{"tree", "root", ""}, ":4\n"},
		{[]string{"release", "root", ""}, "other\n:4\n"},
		{[]string{"claim", "--from", ""}, "other\nroot\n:4\n"},
		{[]string{"claim", "--family", ""}, "IPv4\nIPv6\n:4\n"},
		{[]string{"tree", "--context", ""}, "ipam\n:4\n"},
		{[]string{"tree", "--namespace", ""}, ":4\n"},
	} {
		args := append([]string{"__complete", "--kubeconfig", live.Kubeconfig, "-n", u.NS}, tt.args...)
		var out strings.Builder
		o := cli.Options{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &strings.Builder{}}}
		if code := o.Run(t.Context(), args); code != cli.ExitDone || out.String() != tt.want {
			t.Errorf("%q: exit code %d and %q instead of %q", tt.args, code, out.String(), tt.want)
		}
	}
}

// TestManyChildren shows that many children are summed up, that all of them are shown if asked for, and that they are
// found.
func TestManyChildren(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.Create(harness.Root("root", "10.0.0.0/16"), harness.Child("net", "root", harness.Exactly("10.0.0.0/24")))
	u.Allocated("net")
	for i := range 60 {
		u.Create(harness.Child(string(rune('a'+i/26))+string(rune('a'+i%26)), "root", harness.Length(28)))
	}
	u.AllAllocated()
	got := u.must("tree")
	if lines := strings.Count(got, "\n"); lines != 3 || !strings.Contains(got, "└─ 61 Prefixes   60 × /28, 1 × /24") {
		t.Errorf("tree: %s", got)
	}
	u.Create(harness.Child("host", "net", harness.Length(32)))
	u.AllAllocated()
	got = u.must("tree")
	if lines := strings.Count(got, "\n"); lines != 5 || !strings.Contains(got, "└─ 60 more   60 × /28") || !strings.Contains(got, "│  └─ host") {
		t.Errorf("tree: %s", got)
	}
	if got := u.must("tree", "--all"); strings.Count(got, "\n") != 64 {
		t.Errorf("tree --all: %s", got)
	}
	if got := u.must("tree", "--depth", "1"); strings.Count(got, "\n") != 2 {
		t.Errorf("tree --depth 1: %s", got)
	}
	for _, p := range u.List() {
		if got := u.must("who", strings.Split(p.Spec.Prefix, "/")[0], "-o", "jsonpath={.items[*].name}"); !strings.Contains(" "+got+" ", " "+p.Name+" ") {
			t.Errorf("who %s: %s", p.Spec.Prefix, got)
		}
	}
}

// TestShowWaiting shows what of that waits for a Prefix is shown: the first by name, however they ask, and nothing that waits
// for a Prefix above it, which the same selector matches.
func TestShowWaiting(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	pool := harness.Labelled("pool", "office")
	u.Create(harness.Root("root", "10.0.0.0/24", pool), harness.Child("net", "root", harness.Exactly("10.0.0.0/25"), harness.Labelled("pool", "other")),
		harness.Child("inner", "net", harness.Exactly("10.0.0.0/26"), pool))
	u.AllAllocated()
	for i := range 22 {
		u.Create(harness.NewPrefix(fmt.Sprintf("w-%02d", i), harness.Selecting("pool", "office"), harness.Family("IPv4"), harness.Length(8)))
	}
	u.Create(harness.Child("w-00-named", "root", harness.Length(9)))
	got := u.must("show", "root")
	for name, shown := range map[string]bool{"w-00": true, "w-00-named": true, "w-18": true, "w-19": false, "w-21": false} {
		if strings.Contains(got, name+" ") != shown {
			t.Errorf("%s is shown: %v in\n%s", name, !shown, got)
		}
	}
	if !strings.Contains(got, "3 more are not shown") {
		t.Errorf("show root: %s", got)
	}
	for _, below := range []string{"net", "inner"} {
		if got := u.must("show", below); strings.Contains(got, "w-") {
			t.Errorf("show %s: %s", below, got)
		}
	}
}
