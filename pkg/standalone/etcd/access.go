// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/datadir"
)

// Access returns the endpoints of the etcd with its data in dataDir. If ipam-standalone runs there, it returns
// the endpoints of the running etcd. Otherwise it starts etcd, which runs until the caller calls done. It does not
// create a data directory.
func Access(ctx context.Context, dataDir string, options ...Option) (endpoints []string, done func(), err error) {
	dir, err := filepath.Abs(filepath.Join(dataDir, "etcd"))
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "member")); err != nil {
		return nil, nil, fmt.Errorf("%q is not a data directory of ipam-standalone: %w", dataDir, err)
	}
	lock, err := datadir.Open(dataDir)
	if inUse := (*datadir.InUseError)(nil); errors.As(err, &inUse) {
		endpoint, err := runningEndpoint(dir)
		if err != nil {
			return nil, nil, fmt.Errorf("%w, which is starting or stopping: try again", inUse)
		}
		return []string{endpoint}, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	// Log errors only. Warnings while etcd replays its log are of no use to a command.
	etcd, err := Start(ctx, dataDir, "error", options...)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return etcd.Endpoints(), func() {
		etcd.Close()
		_ = lock.Close()
	}, nil
}

// runningEndpoint returns the endpoint of a running etcd with its data in dir.
func runningEndpoint(dir string) (string, error) {
	sockets := dir
	if elsewhere, err := os.Readlink(filepath.Join(dir, socketLink)); err == nil {
		sockets = elsewhere
	}
	socket := filepath.Join(sockets, etcdClientSocket)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	return "unix://" + socket, conn.Close()
}
