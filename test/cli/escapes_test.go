// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// evil would set the title of a terminal, clear it, color it, turn the direction of writing, and begin a line of its own.
const evil = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202e\u2066\u200b\x7f\r\nroot 0.0.0.0 Allocated"

// TestEscapes shows that no command passes on escape sequences that others write: in names, labels, owners, reasons, messages,
// events, errors of the server, files and arguments. Programs get data as it is, unless it goes to a terminal.
func TestEscapes(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	owned := func(p *v1alpha1.Prefix) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: marker, Name: marker, UID: "1"}}
		p.Annotations = map[string]string{"ipam.ironcore.dev/description": marker}
	}
	u.Create(harness.Root(marker+"-root", "10.0.0.0/8", harness.Labelled("pool", "root", marker, marker), owned), harness.Root(marker+"-warm", "11.0.0.0/24", harness.Labelled("pool", "warm")))
	u.Allocated(marker + "-root")
	u.CreatePolicy(harness.Policy(marker+"-policy", []v1alpha1.PrefixReservation{{CIDR: "10.2.0.0/16", Reason: marker}}, "pool", "root"))
	cool := harness.Policy(marker+"-cool", nil, "pool", "warm")
	cool.Spec.CoolDown, cool.Spec.SharedWith = &metav1.Duration{Duration: time.Hour}, &v1alpha1.PrefixSharing{Namespaces: []string{marker}}
	u.CreatePolicy(cool)
	u.Create(harness.Child(marker+"-child", marker+"-root", harness.Exactly("10.1.0.0/16"), owned), harness.Child(marker+"-gone", marker+"-warm", harness.Exactly("11.0.0.0/28")))
	u.AllAllocated()
	u.Create(harness.Child(marker+"-waits", marker+"-root", harness.Length(8), owned))
	u.CreateAllocation(harness.Allocation(marker+"-alone", marker+"-root", "10.3.0.0/16"))
	u.Delete(marker + "-gone")
	u.Eventually("space cools down", func() error {
		usage := u.Get(marker + "-warm").Status.Usage
		return harness.Unless(usage != nil && usage.Cooling == "16", "%+v", usage)
	})
	u.AtRest()
	u.evil = evil

	const csv = "name,prefix,labels,description,\"EVIL\"\n\"EVIL\",12.0.0.0/8,,,\nx,\"EVIL\",,,\ny,12.0.0.0/8,\"EVIL\",\"EVIL\",\n\"EVIL-child\",10.9.0.0/16,,,\n"
	const yaml = "apiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\nmetadata: {name: \"\\e[2J\"}\nspec: {prefix: \"\\e[2J\"}\n"
	tests := []struct {
		command string
		stdin   string
		// shows are parts of the output, in which EVIL stands for what is evil, escaped.
		shows []string
	}{
		{"tree", "", []string{"EVIL-root", "└─ EVIL-waits"}},
		{"tree -A", "", nil},
		{"tree -o wide --all", "", []string{"EVIL-child"}},
		{"tree EVIL-root --free", "", []string{"Reserved by EVIL-policy: EVIL"}},
		{"tree EVIL-warm --free", "", []string{"for EVIL-gone"}},
		{"tree EVIL-root --watch", "", []string{"EVIL-root"}},
		{"tree EVIL", "", []string{"no Prefix"}},
		{"tree -l EVIL=EVIL", "", nil},
		{"show EVIL-root", "", []string{"EVIL=EVIL,pool=root", "EVIL-policy: reserved 10.2.0.0/16 (EVIL)", "EVIL EVIL: EVIL", "Owner: EVIL/EVIL"}},
		{"show EVIL-waits", "", []string{"EVIL-root (10.0.0.0/8) is too small"}},
		{"show EVIL-warm", "", []string{"for EVIL-gone", "shared with EVIL"}},
		{"who 10.1.2.3", "", []string{"└─ EVIL-child", "EVIL/EVIL"}},
		{"who 10.2.0.1", "", []string{"Reserved by EVIL-policy: EVIL"}},
		{"who 10.3.0.1", "", []string{"EVIL-alone"}},
		{"who 11.0.0.1", "", []string{"for EVIL-gone"}},
		{"who EVIL", "", []string{"EVIL: must be"}},
		{"why EVIL-waits", "", []string{"EVIL-waits is Pending", "EVIL-root"}},
		{"why EVIL-child", "", []string{"from EVIL-root"}},
		{"why EVIL", "", []string{"not found"}},
		{"free EVIL-root", "", []string{"PREFIX"}},
		{"free EVIL-waits", "", []string{"EVIL-waits is not allocated"}},
		{"free EVIL-root --length 8", "", []string{"EVIL-root (10.0.0.0/8) is too small"}},
		{"map EVIL-root", "", []string{"EVIL-root 10.0.0.0/8"}},
		{"map EVIL-waits", "", []string{"EVIL-waits"}},
		{"check", "", []string{"0 differences"}},
		{"check -A", "", nil},
		{"export", "", nil},
		{"export -o yaml", "", nil},
		{"export -o EVIL", "", []string{"unknown output format"}},
		{"import -", csv, []string{`3 \u001b]0;owned`, "4 lines have errors"}},
		{"import - --dry-run -o wide", csv, []string{`3 namespace-`}},
		{"import -", yaml, []string{`\u001b[2J`}},
		{"import -", "name,prefix\n\"EVIL", []string{"error: "}},
		{"import EVIL.csv", "", []string{"EVIL"}},
		{"claim --from EVIL-root --length 24 --name EVIL-new --labels EVIL=EVIL", "", []string{"EVIL-new", "EVIL-root"}},
		{"claim --from EVIL-root --length 25 --name EVIL-new", "", []string{`exists, and asks for a /24`}},
		{"claim --from EVIL-root --length 24 --name EVIL-new --labels EVIL=x", "", []string{"does not have the label"}},
		{"claim --from EVIL-missing --length 24 --name EVIL-late --timeout 1s", "", []string{"EVIL-missing does not exist", "kubectl ipam why EVIL-late"}},
		{"claim --from EVIL-root --length 24 --dry-run=client", "", []string{"EVIL-root-..."}},
		{"claim --from EVIL-root --prefix EVIL", "", []string{"--prefix"}},
		{"claim --selector EVIL=(EVIL --family IPv4 --length 8", "", []string{"--selector"}},
		{"release EVIL-new EVIL-late", "y\n", []string{"EVIL-new"}},
		{"release EVIL-root", "n\n", []string{"EVIL-child 10.1.0.0/16 of EVIL EVIL", "belongs to EVIL EVIL"}},
		{"release EVIL", "", []string{"not found"}},
		{"release EVIL-gone --now", "n\n", []string{"EVIL-gone"}},
		{"reserve EVIL-root 10.4.0.0/16 --reason EVIL --policy EVIL-more --selector pool=root", "", []string{"EVIL-more", "EVIL"}},
		{"reserve EVIL-root EVIL", "", []string{"neither a CIDR"}},
		{"reserve EVIL-warm edges --policy EVIL-policy", "", []string{"PrefixPolicy EVIL-policy exists, and does not select EVIL-warm"}},
		{"reserve EVIL-root 13.0.0.0/8", "", []string{"is not in EVIL-root"}},
		{"unreserve EVIL-root 10.4.0.0/16", "", []string{"PrefixPolicy EVIL-more has no rules any more"}},
		{"unreserve EVIL-root 10.5.0.0/16", "", []string{"selects EVIL-root"}},
		{"close EVIL-root --selector pool=root", "", []string{"EVIL-root"}},
		{"claim --from EVIL-root --length 24 --name EVIL-closed --timeout 1s", "", []string{"EVIL-root"}},
		{"open EVIL-root", "", []string{"EVIL-root"}},
		{"open EVIL-root", "", []string{"no PrefixPolicy closes EVIL-root"}},
		{"share EVIL-root --with x --selector pool=root", "", []string{"EVIL-root shared with x"}},
		{"share EVIL-root --all", "", []string{"shares EVIL-root in another way"}},
		{"unshare EVIL-root", "", []string{"EVIL-root"}},
		{"unshare EVIL-root", "", []string{"no PrefixPolicy shares EVIL-root"}},
		{"ui --open=false", "", nil},
		{"ui EVIL", "", []string{"names no place"}},
		{"EVIL", "", []string{"unknown command"}},
		{"tree --EVIL", "", []string{"unknown flag"}},
		{"tree -o EVIL", "", []string{"unknown output format"}},
		{"tree -o custom-columns=EVIL", "", []string{"custom-columns"}},
		{"tree --context EVIL", "", []string{"error: "}},
		{"tree --kubeconfig EVIL", "", []string{"error: "}},
		{"tree -n EVIL", "", nil},
		{"tree --server http://EVIL", "", []string{"error: "}},
	}
	escaped := plaintext.Escape(evil)
	ran := map[string]bool{}
	for _, terminal := range []bool{true, false} {
		u.terminal = terminal
		for _, tt := range tests {
			ran[strings.Fields(tt.command)[0]] = true
			u.stdin = strings.ReplaceAll(tt.stdin, "EVIL", evil)
			args := strings.Fields(tt.command)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "EVIL", evil)
			}
			got := u.untilPrinted(args)
			got.out = strings.TrimPrefix(got.out, "\x1b[H\x1b[2J")
			texts := []string{got.err}
			if isData := args[0] == "export"; terminal || !isData {
				texts = append(texts, got.out)
			}
			for _, text := range texts {
				if plain := strings.NewReplacer("\n", "", "\t", "").Replace(text); plaintext.Escape(plain) != plain || strings.Contains("\n"+text, "\nroot 0.0.0.0") && args[0] != "export" {
					t.Errorf("%s prints %q", tt.command, text)
				}
			}
			all := strings.Join(strings.Fields(got.out+got.err), " ")
			for _, part := range tt.shows {
				if part = strings.Join(strings.Fields(strings.ReplaceAll(part, "EVIL", escaped)), " "); !strings.Contains(all, part) {
					t.Errorf("%s: no %q in\n%s", tt.command, part, got.out+got.err)
				}
			}
			// What the errors of the server say comes from the same objects.
			if got.code == cli.ExitError {
				t.Errorf("%s: exit code 1: %s", tt.command, got.err)
			}
		}
	}
	for _, cmd := range cli.NewCommand(genericiooptions.NewTestIOStreamsDiscard()).Commands() {
		if !ran[cmd.Name()] && !slices.Contains([]string{"help", "completion"}, cmd.Name()) {
			t.Errorf("%s is not tried", cmd.Name())
		}
	}
	// Programs get what it is, if it does not go to a terminal.
	for _, format := range []string{"json", "yaml", "name", "jsonpath={.items[*].name}", "go-template={{range .items}}{{.name}}{{end}}", "custom-columns=A:.name"} {
		for _, terminal := range []bool{true, false} {
			u.terminal = terminal
			got := u.must("tree", "-o", format)
			if raw := strings.ContainsAny(got, "\x1b\x07\u009b\u202e"); raw == (terminal || strings.HasPrefix(format, "custom-columns")) {
				t.Errorf("-o %s on a terminal (%v) prints %q", format, terminal, got)
			}
		}
	}
	var document struct{ Items []struct{ Name string } }
	if err := json.Unmarshal([]byte(u.must("tree", "-o", "json")), &document); err != nil || document.Items[0].Name != evil+"-root" {
		t.Errorf("%v %+v", err, document)
	}
}

// TestEscapesOfErrors shows that what a server says with any error is printed without escape sequences.
func TestEscapesOfErrors(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	for _, args := range [][]string{{"tree"}, {"show", "x"}, {"who", "10.0.0.1"}, {"why", "x"}, {"free", "x"}, {"map", "x"}, {"check"}, {"export"}, {"claim", "--from", "x", "--length", "8"}, {"release", "x"},
		{"reserve", "x", "edges"}, {"unreserve", "x", "edges"}, {"close", "x"}, {"open", "x"}, {"share", "x", "--all"}, {"unshare", "x"}, {"import", "testdata/plan.csv"}, {"ui", "--open=false"}} {
		for code, want := range map[int]cli.ExitCode{http.StatusForbidden: cli.ExitForbidden, http.StatusUnauthorized: cli.ExitForbidden, http.StatusNotFound: cli.ExitNotFound, http.StatusConflict: cli.ExitConflict,
			http.StatusUnprocessableEntity: cli.ExitInvalid, http.StatusInternalServerError: cli.ExitError, http.StatusServiceUnavailable: cli.ExitUnavailable} {
			u.breaks = func(*http.Request) (int, string) { return code, evil }
			got := u.run(args...)
			if plain := strings.ReplaceAll(got.err, "\n", ""); got.code != want || got.out != "" && args[0] != "export" || plaintext.Escape(plain) != plain || strings.Count(got.err, "\n") != 1 {
				t.Errorf("%s: exit code %d, not %d, after %d: %q %q", args, got.code, want, code, got.out, got.err)
			}
		}
	}
}

// untilPrinted runs a command. One that does not end by itself is interrupted when it has printed something.
func (u *user) untilPrinted(args []string) outcome {
	if args[0] != "ui" && !slices.Contains(args, "--watch") {
		return u.run(args...)
	}
	ctx, cancel := context.WithTimeout(u.Context(), harness.Patience)
	defer cancel()
	var errOut bytes.Buffer
	out := &until{then: cancel}
	code := u.options(io.Writer(out), &errOut).Run(ctx, u.args(args...))
	return outcome{out.text, errOut.String(), code}
}
