// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// newKrew builds the programs of the module hack/krew, and returns a function that runs them.
func newKrew(t *testing.T) func(program string, env []string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-C", "../krew", "-o", dir, "sigs.k8s.io/krew/cmd/krew", "sigs.k8s.io/krew/cmd/validate-krew-manifest").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return func(program string, env []string, args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(dir, program), args...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// TestKrew shows that krew accepts the manifest, and installs the archive of each platform from it. The program in the
// archives is a text, as krew does not run it.
func TestKrew(t *testing.T) {
	krew, dir := newKrew(t), t.TempDir()
	path := filepath.Join(dir, "ipam.yaml")
	sums := map[platform]string{}
	for _, p := range platforms {
		data, err := pack(p, []file{{p.program(), 0o755, []byte("program of " + p.os + p.arch)}, {"LICENSE", 0o644, []byte("license")}}, time.Unix(1e9, 0))
		if err != nil {
			t.Fatal(err)
		}
		sums[p] = fmt.Sprintf("%x", sha256.Sum256(data))
		if err := os.WriteFile(filepath.Join(dir, p.archive("v1.2.3")), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := manifest("v1.2.3", "https://example.org", sums)
	write(good)
	if out, err := krew("validate-krew-manifest", nil, "-manifest", path, "-skip-install"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, p := range platforms {
		root := filepath.Join(dir, p.os+p.arch)
		env := []string{"KREW_ROOT=" + root, "KREW_OS=" + p.os, "KREW_ARCH=" + p.arch, "KREW_NO_UPGRADE_CHECK=1"}
		if out, err := krew("krew", env, "install", "--manifest", path, "--archive", filepath.Join(dir, p.archive("v1.2.3"))); err != nil {
			t.Errorf("%s/%s: %v: %s", p.os, p.arch, err, out)
			continue
		}
		installed, err := os.ReadFile(filepath.Join(root, "store", "ipam", "v1.2.3", p.program()))
		if err != nil || string(installed) != "program of "+p.os+p.arch {
			t.Errorf("%s/%s: %q, %v", p.os, p.arch, installed, err)
		}
		if _, err := os.Stat(filepath.Join(root, "store", "ipam", "v1.2.3", "LICENSE")); err != nil {
			t.Error(err)
		}
	}
	// krew finds mistakes.
	for _, tt := range []struct{ old, new string }{{"v1.2.3", "latest"}, {"name: ipam", "name: other"}, {"os: darwin", "os: plan9"}, {sums[platforms[0]], "x"}} {
		write(strings.ReplaceAll(good, tt.old, tt.new))
		if out, err := krew("validate-krew-manifest", nil, "-manifest", path, "-skip-install"); err == nil {
			t.Errorf("%s instead of %s: %s", tt.new, tt.old, out)
		}
	}
}

// TestPack shows that the same files make the same bytes, whenever that is, and that the time is that of the commit.
func TestPack(t *testing.T) {
	at := time.Unix(1e9, 0).UTC()
	for _, p := range platforms {
		var packed [][]byte
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("east", 3600)} {
			data, err := pack(p, []file{{"a", 0o755, []byte("a")}, {"b", 0o644, bytes.Repeat([]byte("b"), 1<<16)}}, at.In(zone).UTC())
			if err != nil {
				t.Fatal(err)
			}
			packed = append(packed, data)
		}
		if !bytes.Equal(packed[0], packed[1]) {
			t.Errorf("%s/%s: the archives differ", p.os, p.arch)
		}
	}
}

// TestVersions shows which versions are released.
func TestVersions(t *testing.T) {
	for version, want := range map[string]bool{"v1.2.3": true, "v0.0.1-rc.1": true, "1.2.3": false, "v1.2": false, "v01.2.3": false, "v1.2.3 ": false, "": false, "v1.2.3/../x": false} {
		if got := semantic.MatchString(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
	if err := run("latest", t.TempDir(), ""); err == nil {
		t.Error("latest is released")
	}
}

// TestBuild shows that a program for this platform says which version it is, and has nothing of this machine in it.
func TestBuild(t *testing.T) {
	t.Chdir("../..")
	program, err := build(platform{runtime.GOOS, runtime.GOARCH}, "v1.2.3-test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubectl-ipam")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "v1.2.3-test") {
		t.Errorf("%s %v", out, err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(program, []byte(here)) {
		t.Errorf("%s is in the program", here)
	}
}
