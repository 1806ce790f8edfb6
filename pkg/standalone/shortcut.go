// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Shortcut has a client of this etcd read, write and watch within the process, without a connection,
// which costs more than what etcd does. Only ranges that come in a stream still use the connection.
func (e *Etcd) Shortcut(client *clientv3.Client) {
	within := v3client.New(e.server.Server)
	client.KV, client.Watcher = shortcutKV{KV: within.KV, connected: client.KV}, within.Watcher
}

// shortcutKV is a KV within the process, with what that lacks.
type shortcutKV struct {
	clientv3.KV
	connected clientv3.KV
}

// GetStream implements clientv3.KV.
func (kv shortcutKV) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return kv.connected.GetStream(ctx, key, opts...)
}
