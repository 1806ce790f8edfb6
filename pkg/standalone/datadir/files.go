// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"os"
	"path/filepath"
)

// EnsurePrivate creates the directory path, in a data directory, and missing parents with mode 0700. If path
// exists, only its owner can access it afterwards.
func EnsurePrivate(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return os.Chmod(path, 0o700)
}

// WriteFile replaces the contents of path. After a crash at any time the file has either the old or the new
// contents. Calls for the same path must not run concurrently.
func WriteFile(path string, data []byte, mode os.FileMode) (err error) {
	// The name is fixed, so a crash leaves at most one temporary file. Removing the file and then using O_EXCL
	// ensures that no symbolic link is followed.
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return Sync(filepath.Dir(path))
}

// Sync syncs a directory, which makes created and renamed entries durable. fsync of a file does not do this.
func Sync(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close()
		return err
	}
	return d.Close()
}
