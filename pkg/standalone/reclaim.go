// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Reclaimed is what Reclaim did, in bytes.
type Reclaimed struct {
	// Before and After are the size of the database, Quota is how large it may get.
	Before, After, Quota int64
}

// Reclaim drops the history of an etcd with one member, gives the space back to the file system, and lets it write
// again if it had refused to because its database was full.
func Reclaim(ctx context.Context, endpoints []string) (Reclaimed, error) {
	var result Reclaimed
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return result, err
	}
	defer func() { _ = client.Close() }()
	before, err := client.Status(ctx, endpoints[0])
	if err != nil {
		return result, fmt.Errorf("read the state of etcd: %w", err)
	}
	if _, err := client.Compact(ctx, before.Header.Revision, clientv3.WithCompactPhysical()); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return result, fmt.Errorf("drop the history of etcd: %w", err)
	}
	if _, err := client.Defragment(ctx, endpoints[0]); err != nil {
		return result, fmt.Errorf("defragment etcd: %w", err)
	}
	// This is after the space is free: etcd would raise the alarm again otherwise.
	alarm := &clientv3.AlarmMember{MemberID: before.Header.MemberId, Alarm: etcdserverpb.AlarmType_NOSPACE}
	if _, err := client.AlarmDisarm(ctx, alarm); err != nil {
		return result, fmt.Errorf("disarm the alarm of etcd: %w", err)
	}
	after, err := client.Status(ctx, endpoints[0])
	if err != nil {
		return result, fmt.Errorf("read the state of etcd: %w", err)
	}
	return Reclaimed{Before: before.DbSize, After: after.DbSize, Quota: after.DbSizeQuota}, nil
}
