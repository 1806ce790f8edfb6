// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// answer is the result of a command.
type answer struct {
	code           int
	stdout, stderr string
}

// runAudit runs ipam-apiserver audit.
func runAudit(t testing.TB, args ...string) answer {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, append([]string{"audit"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (s *store) flag() string { return "--etcd-servers=" + strings.Join(s.endpoints, ",") }

// expect fails the test unless the command ended with the given exit code.
func (a answer) expect(t testing.TB, code int) answer {
	t.Helper()
	if a.code != code {
		t.Fatalf("exit code %d, not %d: %.500s\n%.500s", a.code, code, a.stdout, a.stderr)
	}
	return a
}

// report is the output of -o json.
type report struct {
	Repaired    []audit.Difference `json:"repaired"`
	Differences []audit.Difference `json:"differences"`
}

func (a answer) report(t testing.TB) report {
	t.Helper()
	var r report
	decoder := json.NewDecoder(strings.NewReader(a.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("%v in %.500s", err, a.stdout)
	}
	if r.Differences == nil {
		t.Errorf("no list of differences in %.500s", a.stdout)
	}
	return r
}

func TestCommandOnWhatIsRight(t *testing.T) {
	t.Parallel()
	s := newEtcd(t, healthy(t))
	before := s.revisions(t)
	if got := runAudit(t, s.flag()).expect(t, 0).stdout; got != "Objects and claims agree.\n" {
		t.Errorf("printed %q", got)
	}
	if got := runAudit(t, s.flag(), "-o", "json").expect(t, 0).report(t); len(got.Repaired)+len(got.Differences) != 0 {
		t.Errorf("printed %v", got)
	}
	runAudit(t, s.flag(), "--repair").expect(t, 0)
	if !maps.Equal(before, s.revisions(t)) {
		t.Error("the command has written")
	}
}

func TestCommandOnWhatIsWrong(t *testing.T) {
	t.Parallel()
	w, all, left := corruptAll(t)
	s := newEtcd(t, w)
	before := s.revisions(t)

	table := runAudit(t, s.flag()).expect(t, 1)
	lines := strings.Split(strings.TrimSpace(table.stdout), "\n")
	if got := strings.Join(strings.Fields(lines[0]), " "); got != "KIND NAMESPACE NAME PARENT PREFIX MESSAGE" {
		t.Errorf("header %q", got)
	}
	if len(lines) != len(all)+1 {
		t.Errorf("%d lines, not one of each of %d", len(lines)-1, len(all))
	}
	for _, f := range all {
		want := strings.Join(strings.Fields(fmt.Sprint(f.kind, " ", f.namespace, " ", f.name, " ", f.parent, " ", f.prefix)), " ") + " "
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(strings.Join(strings.Fields(line), " "), want)
		}
		if !found {
			t.Errorf("no line %q", want)
		}
	}
	if want := fmt.Sprintf("%d differences", len(all)); !strings.Contains(table.stderr, want) {
		t.Errorf("standard error has no %q: %.500s", want, table.stderr)
	}

	r := runAudit(t, s.flag(), "--output=json").expect(t, 1).report(t)
	expect(t, r.Differences, all...)
	if len(r.Repaired) != 0 {
		t.Errorf("repaired without --repair: %v", r.Repaired)
	}
	if !maps.Equal(before, s.revisions(t)) {
		t.Error("the command has written without --repair")
	}

	r = runAudit(t, s.flag(), "-o", "json", "--repair").expect(t, 1).report(t)
	expect(t, r.Differences, left...)
	if len(r.Repaired) != len(all)-len(left) {
		t.Errorf("%d repaired, not %d", len(r.Repaired), len(all)-len(left))
	}
	before = s.revisions(t)
	r = runAudit(t, s.flag(), "-o", "json", "--repair").expect(t, 1).report(t)
	expect(t, r.Differences, left...)
	expect(t, r.Repaired)
	if !maps.Equal(before, s.revisions(t)) {
		t.Error("the second repair has written")
	}
}

func TestCommandRepairsEverything(t *testing.T) {
	t.Parallel()
	w := healthy(t)
	for _, c := range corruptions {
		if c.repaired {
			c.corrupt(w)
		}
	}
	s := newEtcd(t, w)
	runAudit(t, s.flag()).expect(t, 1)
	got := runAudit(t, s.flag(), "--repair").expect(t, 0).stdout
	if !strings.HasPrefix(got, "Repaired:\nKIND") || !strings.HasSuffix(got, "\nObjects and claims agree.\n") {
		t.Errorf("printed %.300s", got)
	}
	if got := runAudit(t, s.flag(), "--repair").expect(t, 0).stdout; got != "Objects and claims agree.\n" {
		t.Errorf("printed %.300s", got)
	}
}

func TestCommandWithMistakes(t *testing.T) {
	t.Parallel()
	s := newEtcd(t, world{})
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no etcd", nil, "--etcd-servers"},
		{"unknown output", []string{s.flag(), "-o", "yaml"}, "unknown output"},
		{"unknown flag", []string{s.flag(), "--mend"}, "--mend"},
		{"an argument", []string{s.flag(), "everything"}, "everything"},
		{"no such encryption", []string{s.flag(), "--encryption-provider-config=/does/not/exist"}, "/does/not/exist"},
		{"no such key", []string{s.flag(), "--etcd-cafile=/does/not/exist"}, "/does/not/exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := runAudit(t, test.args...).expect(t, 1)
			if !strings.Contains(got.stderr, test.want) {
				t.Errorf("no %q in %.1000s", test.want, got.stderr)
			}
			if got.stdout != "" || strings.Contains(got.stderr, "panic") {
				t.Errorf("printed %.500s\n%.500s", got.stdout, got.stderr)
			}
		})
	}
}

func TestCommandWithoutEtcd(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"http://127.0.0.1:1", "unix://" + filepath.Join(t.TempDir(), "none.sock")} {
		t.Run(endpoint[:4], func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			got := runAudit(t, "--etcd-servers="+endpoint).expect(t, 1)
			if !strings.Contains(got.stderr, "no connection to etcd at ["+endpoint+"]") && !strings.Contains(got.stderr, "cannot reach etcd at "+endpoint) {
				t.Errorf("printed %.1000s", got.stderr)
			}
			if took := time.Since(began); took > 40*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestCommandWithEncryption audits a store with encrypted objects. Claims are never encrypted.
func TestCommandWithEncryption(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "encryption.yaml")
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))
	err := os.WriteFile(config, []byte(`
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ["prefixes.ipam.ironcore.dev", "prefixallocations.ipam.ironcore.dev"]
  providers:
  - secretbox: {keys: [{name: one, secret: `+key+`}]}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	instance := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"), harness.Customize(func(o *apiserver.Options) {
		o.Recommended.Etcd.EncryptionProviderConfigFilepath = config
	}))
	prefixes := instance.Client.Prefixes(here)
	create(t, prefixes, harness.Root("root", "2001:db8::/32"))
	for i := range 20 {
		create(t, prefixes, harness.Child(fmt.Sprintf("child-%d", i), "root", harness.Length(64)))
	}
	var root, child string
	for _, p := range waitAllocated(t, prefixes) {
		switch p.Name {
		case "root":
			root = string(p.UID)
		case "child-7":
			child = p.Spec.Prefix
		}
	}

	s := connect(t, instance.EtcdEndpoints)
	for key, value := range s.world(t) {
		if !strings.HasPrefix(key, claimPrefix) && strings.Contains(value, "child") {
			t.Errorf("not encrypted: %s: %.100s", key, value)
		}
	}
	flag := "--encryption-provider-config=" + config
	runAudit(t, s.flag(), flag).expect(t, 0)
	if got := runAudit(t, s.flag()).expect(t, 1); got.stdout != "" || !strings.Contains(got.stderr, "encrypt") && !strings.Contains(got.stderr, "transform") {
		t.Errorf("without the key: %.500s\n%.500s", got.stdout, got.stderr)
	}

	s.delete(t, claimPrefix+root+"/"+strings.Split(claimKey("x", child), "/x/")[1])
	r := runAudit(t, s.flag(), flag, "-o=json").expect(t, 1).report(t)
	if len(r.Differences) != 1 || r.Differences[0].Kind != audit.AllocationWithoutClaim || r.Differences[0].Prefix != child {
		t.Errorf("found %v", findingsOf(r.Differences))
	}
	r = runAudit(t, s.flag(), flag, "-o=json", "--repair").expect(t, 0).report(t)
	if len(r.Repaired) != 1 {
		t.Errorf("repaired %v", findingsOf(r.Repaired))
	}
	runAudit(t, s.flag(), flag).expect(t, 0)
}
