// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
)

// unstable contains patterns of output that differs between runs, and their replacements.
var unstable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`\b(\d+[smh])+\b`), "<age>"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(`(?m) $`), ""},
}

// matches reports whether output is what a page shows, in which a line "..." stands for any lines.
func matches(output, shown string) bool {
	for _, u := range unstable {
		output, shown = u.pattern.ReplaceAllString(output, u.by), u.pattern.ReplaceAllString(shown, u.by)
	}
	pattern := ""
	for line := range strings.Lines(shown) {
		if line == "...\n" {
			pattern += `(.*\n)*`
		} else {
			pattern += regexp.QuoteMeta(line)
		}
	}
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(output)
}

// TestDocs runs the commands of docs/cluster-api.md, and compares their output with the page. The page begins in a
// management cluster with the product and the definitions of Cluster API.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(kube.Root(), "docs/cluster-api.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := prepare(t)
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(kube.Root(), "config"), filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	run := func(command string) (string, error) {
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "KUBECONFIG="+m.AdminKubeconfig, "PATH="+filepath.Dir(kube.Program("kubectl"))+":"+programs+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	commands := 0
	for i, block := range strings.Split(string(page), "```") {
		if i%2 == 0 {
			continue
		}
		language, body, _ := strings.Cut(block, "\n")
		if name, ok := strings.CutPrefix(body, "# file: "); ok && language == "yaml" {
			name, _, _ = strings.Cut(name, "\n")
			if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if language != "console" {
			continue
		}
		for _, step := range strings.Split("\n"+body, "\n$ ")[1:] {
			command, shown, _ := strings.Cut(strings.TrimSuffix(step, "\n"), "\n")
			if shown != "" {
				shown += "\n"
			}
			commands++
			harness.Eventually(t, command, func() error {
				out, err := run(command)
				if err == nil && matches(out, shown) {
					return nil
				}
				// Only what reads may be repeated.
				if !strings.Contains(command, " get ") {
					t.Fatalf("$ %s\nprints\n%s(%v), and not\n%s", command, out, err, shown)
				}
				return fmt.Errorf("it prints\n%s(%v), and not\n%s", out, err, shown)
			})
			if strings.HasPrefix(command, "kubectl apply -k") {
				// There are no nodes, so no pod runs.
				m.start(t, "--leader-elect", "--leader-elect-resource-namespace", system)
			}
		}
	}
	if log := m.provider.LastOfLog(1 << 20); strings.Contains(log, "forbidden") {
		t.Errorf("the provider is forbidden something:\n%s", log)
	}
	t.Logf("%d commands", commands)
	if commands < 10 {
		t.Errorf("the page has only %d commands", commands)
	}
}
