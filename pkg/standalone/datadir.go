// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

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

// DataDir is a data directory that this process holds the lock of.
type DataDir struct {
	path string
	lock *fileutil.LockedFile
}

// InUseError says that another process holds the lock of a data directory.
type InUseError struct {
	// Path is the absolute path of the data directory.
	Path string
	// PID is the process that holds it, or 0 if that is not known.
	PID int
}

// Error names the directory and, where known, the process that holds it.
func (e *InUseError) Error() string {
	msg := fmt.Sprintf("data directory %q is in use by another ipam-standalone", e.Path)
	if e.PID > 0 {
		msg += fmt.Sprintf(" (pid %d)", e.PID)
	}
	return msg
}

// lockFile is the file that every data directory has.
const lockFile = "lock"

// OpenDataDir opens the data directory at path and locks it until Close or the
// end of the process, however that comes about. If it is missing, it is created
// with mode 0700. A relative path is taken from the current directory.
//
// A directory that is there is left as it is. It is refused if other users can
// write to it, or if it is neither empty nor a data directory. The error is an
// *InUseError if another process, or another call in this one, has the directory
// open.
func OpenDataDir(path string) (*DataDir, error) {
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
	if err := checkDataDir(abs); err != nil {
		return nil, fmt.Errorf("data directory %q: %w", abs, err)
	}
	// The lock belongs to the open file, so the kernel drops it with the process
	// and no stale lock has to be recognized; the file itself always stays, as
	// removing it would let two processes lock two files of the same name.
	name := filepath.Join(abs, lockFile)
	lock, err := fileutil.TryLockFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, &InUseError{Path: abs, PID: readPID(name)}
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory %q: %w", abs, err)
	}
	d := &DataDir{path: abs, lock: lock}
	if err := d.writePID(); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory %q: %w", abs, err), lock.Close())
	}
	return d, nil
}

// checkDataDir refuses a directory that other users can write to, and one that
// has files, but not those of a data directory: its path may be a mistake.
// Others may be able to read a data directory, since what is secret in it has a
// mode of its own.
func checkDataDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("other users can write to it (mode %04o): take another one, or take that away by chmod go-w", mode)
	}
	if _, err := os.Stat(filepath.Join(path, lockFile)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// A file system that is mounted there may have this one.
		if entry.Name() != "lost+found" {
			return fmt.Errorf("it has files, such as %s, and is no data directory of ipam-standalone: take another one", entry.Name())
		}
	}
	return nil
}

// Path returns the absolute path of the data directory.
func (d *DataDir) Path() string { return d.path }

// PKIDir returns the directory for the certificates and keys, see EnsurePKI.
func (d *DataDir) PKIDir() string { return filepath.Join(d.path, "pki") }

// KubeconfigPath returns the path for the administrator's kubeconfig, see
// WriteKubeconfig.
func (d *DataDir) KubeconfigPath() string { return filepath.Join(d.path, "kubeconfig") }

// Close releases the lock. It must be called once, after everything that works
// in the directory has stopped.
func (d *DataDir) Close() error {
	// An empty file keeps the next opener from naming a process that is gone.
	return errors.Join(d.lock.Truncate(0), d.lock.Close())
}

func (d *DataDir) writePID() error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// readPID returns the process written in a lock file, or 0: the holder may not
// have got to writing it yet, and the pid only makes a message more helpful.
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
