// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package datadir opens and locks the data directory of ipam-standalone, and writes files in it so that they survive a
// crash.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// Dir is a data directory that this process has locked.
type Dir struct {
	path string
	lock *fileutil.LockedFile
}

// InUseError is the error if another process has locked a data directory.
type InUseError struct {
	// Path is the absolute path of the data directory.
	Path string
	// PID is the ID of the process that holds the lock, or 0 if it is unknown.
	PID int
}

// Error returns a message with the path of the directory and, if known, the process that holds the lock.
func (e *InUseError) Error() string {
	msg := fmt.Sprintf("data directory %q is in use by another ipam-standalone", e.Path)
	if e.PID > 0 {
		msg += fmt.Sprintf(" (pid %d)", e.PID)
	}
	return msg
}

// lockFile is the name of the lock file. Every data directory has one.
const lockFile = "lock"

// Open opens the data directory at path and locks it until Close or the end of the process, even if the
// process is killed. It creates a missing directory with mode 0700. A relative path is relative to the current
// directory.
//
// Open does not change an existing directory. It returns an error if other users can write to it, or if it
// is not empty and not a data directory. It returns an *InUseError if the directory is already open, in this
// process or in another one.
func Open(path string) (*Dir, error) {
	if path == "" {
		return nil, errors.New("the path of the data directory is empty")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %q: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %q: %w", abs, err)
	}
	if err := check(abs); err != nil {
		return nil, fmt.Errorf("data directory %q: %w", abs, err)
	}
	// The kernel releases the lock when the process ends, so there are no stale locks. The lock file is never
	// removed. Otherwise two processes could lock two different files of the same name.
	name := filepath.Join(abs, lockFile)
	lock, err := fileutil.TryLockFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, &InUseError{Path: abs, PID: readPID(name)}
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory %q: %w", abs, err)
	}
	d := &Dir{path: abs, lock: lock}
	if err := d.writePID(); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory %q: %w", abs, err), lock.Close())
	}
	return d, nil
}

// check returns an error if other users can write to the directory, or if it contains files but is not a
// data directory, because the path may be a mistake. Other users may be able to read it: secret files have their
// own mode.
func check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("other users can write to it (mode %04o): use another directory, or run chmod go-w on it", mode)
	}
	if _, err := os.Stat(filepath.Join(path, lockFile)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// The root directory of a mounted file system may contain lost+found.
		if entry.Name() != "lost+found" {
			return fmt.Errorf("it is not a data directory of ipam-standalone but has files, such as %s: use another directory", entry.Name())
		}
	}
	return nil
}

// Path returns the absolute path of the data directory.
func (d *Dir) Path() string { return d.path }

// PKIDir returns the directory of the certificates and keys, see pki.Ensure.
func (d *Dir) PKIDir() string { return filepath.Join(d.path, "pki") }

// KubeconfigPath returns the path of the administrator's kubeconfig, see WriteKubeconfig.
func (d *Dir) KubeconfigPath() string { return filepath.Join(d.path, "kubeconfig") }

// Close releases the lock. Call it once, after everything that uses the directory has stopped.
func (d *Dir) Close() error {
	// Empty the file, so that a later InUseError does not name a process that has ended.
	return errors.Join(d.lock.Truncate(0), d.lock.Close())
}

func (d *Dir) writePID() error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// readPID returns the process ID in a lock file, or 0 if it cannot be read. The holder may not have written it
// yet. The ID is used in messages only.
func readPID(name string) int {
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}
