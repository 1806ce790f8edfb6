// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package claimstest runs an etcd for the tests of the claims.
package claimstest

import (
	"io"
	"sync"
	"testing"

	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/grpclog"
	"k8s.io/apiserver/pkg/storage/etcd3/testserver"
	"k8s.io/klog/v2"
)

// Silence discards the logs. It has to be called before any test runs.
func Silence() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	// It reports every connection to an etcd that a test has ended.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// starting keeps others from the ports that an etcd is about to use.
var starting sync.Mutex

// RunEtcd returns a client of an etcd that lives as long as the test.
func RunEtcd(t testing.TB, configure ...func(*embed.Config)) *kubernetes.Client {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	config := testserver.NewTestConfig(t)
	for _, c := range configure {
		c(config)
	}
	client := testserver.RunEtcd(t, config)
	t.Cleanup(func() { _ = client.Close() })
	return client
}
