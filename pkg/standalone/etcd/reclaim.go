// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Reclaimed is the result of Reclaim. All sizes are in bytes.
type Reclaimed struct {
	// Before and After are the sizes of the database before and after Reclaim. Quota is its maximum size.
	Before, After, Quota int64
}

// Reclaim compacts and defragments a single-member etcd, and disarms the NOSPACE alarm. After that, an etcd that
// refused writes because its database was full accepts them again.
func Reclaim(ctx context.Context, endpoints []string) (Reclaimed, error) {
	var result Reclaimed
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return result, err
	}
	defer func() { _ = client.Close() }()
	before, err := client.Status(ctx, endpoints[0])
	if err != nil {
		return result, fmt.Errorf("read the status of etcd: %w", err)
	}
	if _, err := client.Compact(ctx, before.Header.Revision, clientv3.WithCompactPhysical()); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return result, fmt.Errorf("compact etcd: %w", err)
	}
	if _, err := client.Defragment(ctx, endpoints[0]); err != nil {
		return result, fmt.Errorf("defragment etcd: %w", err)
	}
	// Disarm the alarm after the space is free. Otherwise etcd raises it again.
	alarm := &clientv3.AlarmMember{MemberID: before.Header.MemberId, Alarm: etcdserverpb.AlarmType_NOSPACE}
	if _, err := client.AlarmDisarm(ctx, alarm); err != nil {
		return result, fmt.Errorf("disarm the alarm of etcd: %w", err)
	}
	after, err := client.Status(ctx, endpoints[0])
	if err != nil {
		return result, fmt.Errorf("read the status of etcd: %w", err)
	}
	return Reclaimed{Before: before.DbSize, After: after.DbSize, Quota: after.DbSizeQuota}, nil
}
