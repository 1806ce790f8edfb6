// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/standalonetest"
)

func TestOpenDataDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "parent", "data")
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	standalonetest.WantMode(t, path, 0o700)
	standalonetest.WantMode(t, filepath.Join(path, "lock"), 0o600)
	for _, c := range []struct{ name, got, want string }{
		{"Path", d.Path(), path},
		{"PKIDir", d.PKIDir(), filepath.Join(path, "pki")},
		{"KubeconfigPath", d.KubeconfigPath(), filepath.Join(path, "kubeconfig")},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.name, c.got, c.want)
		}
	}

	_, err = Open(path)
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() || inUse.Path != path {
		t.Errorf("the second open in one process gave %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(path); err != nil {
		t.Fatalf("open after close: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOpenDataDirThatIsThere tests existing directories of all modes. None is changed, and those that other users
// can write to are refused.
func TestOpenDataDirThatIsThere(t *testing.T) {
	for mode := os.FileMode(0o700); mode <= 0o777; mode++ {
		path := t.TempDir()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path)
		refused := mode&0o022 != 0
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), fmt.Sprintf("other users can write to it (mode %04o)", mode)) {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if err == nil {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		standalonetest.WantMode(t, path, mode)
		if entries, err := os.ReadDir(path); err != nil || refused && len(entries) > 0 {
			t.Errorf("mode %04o: it has %v, %v", mode, entries, err)
		}
	}
}

// TestOpenDataDirOfSomethingElse shows that a directory is accepted only if it is empty or a data directory.
func TestOpenDataDirOfSomethingElse(t *testing.T) {
	for _, test := range []struct {
		files   []string
		refused bool
	}{
		{nil, false},
		{[]string{"lost+found"}, false},
		{[]string{"hosts"}, true},
		{[]string{".profile"}, true},
		{[]string{"lost+found", "pki"}, true},
		{[]string{"lock"}, false},
		{[]string{"etcd", "kubeconfig", "lock", "notes", "pki"}, false},
	} {
		path := t.TempDir()
		for _, file := range test.files {
			if err := os.WriteFile(filepath.Join(path, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := Open(path)
		if (err != nil) != test.refused || err != nil && !strings.Contains(err.Error(), "not a data directory of ipam-standalone") {
			t.Errorf("%q: %v", test.files, err)
		}
		if err == nil {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if entries, err := os.ReadDir(path); err != nil || len(entries) != len(test.files) {
			t.Errorf("%q: it has %v, %v", test.files, entries, err)
		}
	}
}

func TestOpenDataDirRelative(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	d, err := Open("data")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if want := filepath.Join(dir, "data"); d.Path() != want {
		t.Errorf("path is %q, want %q", d.Path(), want)
	}
}

func TestOpenDataDirRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shared := filepath.Join(dir, "shared")
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"empty path": "", "a file": file, "below a file": filepath.Join(file, "x"), "like /tmp": shared,
	} {
		if _, err := Open(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	standalonetest.WantMode(t, shared, 0o777)
}

func TestMain(m *testing.M) {
	standalonetest.Main(m, func(_, dir string) error {
		if _, err := Open(dir); err != nil {
			return err
		}
		fmt.Println("open")
		time.Sleep(time.Hour)
		return nil
	})
}

func TestDataDirInUseByAnotherProcess(t *testing.T) {
	path := t.TempDir()
	holder := standalonetest.StartChild(t, "hold-data-dir", path)
	if !holder.Out.Scan() || holder.Out.Text() != "open" {
		t.Fatalf("the child said %q", holder.Out.Text())
	}

	_, err := Open(path)
	want := fmt.Sprintf("data directory %q is in use by another ipam-standalone (pid %d)", path, holder.PID())
	if err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}

	holder.Kill()
	d, err := Open(path)
	if err != nil {
		t.Fatalf("open after the holder was killed: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestInUseErrorWithoutPID(t *testing.T) {
	const want = `data directory "/x" is in use by another ipam-standalone`
	if got := (&InUseError{Path: "/x"}).Error(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	dir := t.TempDir()
	for _, content := range []string{"", "\n", "x\n"} {
		name := filepath.Join(dir, "lock")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid := readPID(name); pid != 0 {
			t.Errorf("%q gave pid %d", content, pid)
		}
	}
	if pid := readPID(filepath.Join(dir, "none")); pid != 0 {
		t.Errorf("no file gave pid %d", pid)
	}
}

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "file"), filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("victim"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A temporary file that a crash left behind does not block the write. If it is a symbolic link, the write does
	// not follow it.
	if err := os.Symlink(victim, path+".tmp"); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"first", "second", ""} {
		if err := WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != data {
			t.Errorf("got %q, %v, want %q", got, err, data)
		}
	}
	standalonetest.WantMode(t, path, 0o600)
	if got, err := os.ReadFile(victim); err != nil || string(got) != "victim" {
		t.Errorf("the victim has %q, %v", got, err)
	}

	full := filepath.Join(dir, "dir", "entry")
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Dir(full), nil, 0o600); err == nil {
		t.Error("a directory was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("left over: %v", entries)
	}
}
