// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

var update = flag.Bool("update", false, "write what the commands print into testdata/commands.txt")

const goldenFile = "testdata/commands.txt"

// TestGolden runs the commands in testdata/commands.txt and compares what they print. A line that begins with "$ " is a
// command. Its standard output follows, then its standard error with "! " before each line, then its exit code if that is
// not 0.
func TestGolden(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	address(u)
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	var commands [][]string
	codes := map[cli.ExitCode]bool{}
	for line := range strings.Lines(string(data)) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if !ok {
			continue
		}
		commands = append(commands, fields(command))
		outcome := u.untilPrinted(fields(command))
		fmt.Fprintf(&got, "$ %s\n%s", command, normal(outcome.out))
		if outcome.err != "" && outcome.out != "" && !strings.HasSuffix(outcome.out, "\n") {
			got.WriteString("\n")
		}
		for line := range strings.Lines(normal(outcome.err)) {
			fmt.Fprintf(&got, "! %s", line)
		}
		codes[outcome.code] = true
		if outcome.code != 0 {
			fmt.Fprintf(&got, "exit code %d\n", outcome.code)
		}
		got.WriteString("\n")
	}
	complete(t, commands)
	// TestEscapesOfErrors has the other ones.
	for _, code := range []cli.ExitCode{cli.ExitDone, cli.ExitUsage, cli.ExitNotFound, cli.ExitConflict, cli.ExitInvalid, cli.ExitNoRoom, cli.ExitUnavailable} {
		if !codes[code] {
			t.Errorf("no command ends with exit code %d", code)
		}
	}
	if *update {
		if err := os.WriteFile(goldenFile, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(data); got.String() != want {
		gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(want, "\n")
		for i := range gotLines {
			if i >= len(wantLines) || gotLines[i] != wantLines[i] {
				t.Fatalf("%s:%d\ngot\n%s\nRun 'go test ./test/cli -run TestGolden -update' if that is right.", goldenFile, i+1,
					strings.Join(gotLines[i:min(len(gotLines), i+20)], "\n"))
			}
		}
		t.Fatal("commands are missing")
	}
}

// complete fails the test unless there is a command for each that the plugin has, with each output format and each other flag
// that it has of its own.
func complete(t *testing.T, commands [][]string) {
	t.Helper()
	has := func(name string, matches func(arg string) bool) bool {
		return slices.ContainsFunc(commands, func(args []string) bool { return args[0] == name && slices.ContainsFunc(args[1:], matches) })
	}
	for _, cmd := range cli.NewCommand(genericiooptions.NewTestIOStreamsDiscard()).Commands() {
		name := cmd.Name()
		if slices.Contains([]string{"help", "completion", "ui"}, name) {
			continue
		}
		formats := []string{"wide", "json", "yaml", "name", "jsonpath=", "go-template=", "custom-columns="}
		if name == "export" {
			formats = []string{"csv", "yaml"}
		}
		for _, format := range formats {
			if cmd.Flags().Lookup("output") != nil && !has(name, func(arg string) bool {
				return arg == format || strings.HasSuffix(format, "=") && strings.HasPrefix(arg, format)
			}) {
				t.Errorf("no command %s -o %s", name, format)
			}
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !has(name, func(arg string) bool {
				return arg == "--"+f.Name || strings.HasPrefix(arg, "--"+f.Name+"=") || arg == "-"+f.Shorthand
			}) {
				t.Errorf("no command %s --%s", name, f.Name)
			}
		})
	}
}

// fields splits a command line. A part in single quotes is one word.
func fields(command string) []string {
	var words []string
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			words[len(words)-1] += part
			continue
		}
		words = append(words, strings.Fields(part)...)
		if strings.HasSuffix(part, " ") && i < strings.Count(command, "'") {
			words = append(words, "")
		}
	}
	return words
}

// address makes the address space of the golden outputs.
func address(u *user) {
	u.Helper()
	for _, p := range []struct {
		name, parent, prefix string
	}{
		{"campus", "", "10.0.0.0/16"}, {"lab", "campus", "10.0.0.0/24"}, {"office", "campus", "10.0.4.0/22"},
		{"gateway", "lab", "10.0.0.1/32"}, {"printer", "lab", "10.0.0.4/32"}, {"core", "", "2001:db8::/32"},
		{"rack", "core", "2001:db8::/48"}, {"tiny", "", "192.0.2.0/31"}, {"left", "tiny", "192.0.2.0/32"}, {"right", "tiny", "192.0.2.1/32"},
	} {
		if p.parent == "" {
			u.Create(harness.Root(p.name, p.prefix, harness.Labelled("site", p.name)))
		} else {
			u.Create(harness.Child(p.name, p.parent, harness.Exactly(p.prefix)))
		}
		u.Allocated(p.name)
	}
	u.Create(harness.NewPrefix("too-large", harness.Length(9), harness.Selecting("site", "campus")))
	u.Create(harness.NewPrefix("nowhere", harness.Length(28), harness.Selecting("site", "moon")))
	u.Create(harness.Child("third", "tiny", harness.Length(32)))
	u.Create(harness.Child("early", "missing", harness.Length(24), harness.Family("IPv4")))
	u.Create(harness.Child("gate", "lab", harness.Exactly("10.0.0.1/32")))
	u.AtRest()
	for name, reason := range map[string]string{"gate": "PrefixInUse", "too-large": "NoSuitableParent", "nowhere": "NoMatchingParent", "third": "ParentExhausted", "early": "ParentNotFound"} {
		u.Eventually(name, func() error {
			p := u.Get(name)
			condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
			return harness.Unless(condition != nil && condition.Reason == reason, "%s", harness.Describe(p))
		})
	}
}
