// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"io"
	"os"
	"sync"
	"testing"

	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/grpclog"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3/testserver"
	"k8s.io/klog/v2"
)

// What the tests need that put claims together with the storages of the kinds, which import this
// package.

// MaxTxnOps is maxTxnOps.
const MaxTxnOps = maxTxnOps

// RunEtcd is runEtcd.
var RunEtcd = runEtcd

// WrapCache puts something before the watch cache in which Prefixes are looked up.
func (c *Claims) WrapCache(wrap func(storage.Interface) storage.Interface) {
	c.prefixes.cached = wrap(c.prefixes.cached)
}

// PageSize is how many keys are read at a time where there are no streams.
const PageSize = pageSize

// AuditByPages is an Audit that reads and checks so many keys at a time, and tries again so often what fails. It does not wait for
// leftovers to go.
func (c *Claims) AuditByPages(ctx context.Context, read, page, patience int) ([]Difference, error) {
	return c.audit(ctx, pace{read: read, page: page, patience: wait.Backoff{Steps: patience}}, 0)
}

// ReadAhead changes how many objects are read for a page, until the test ends. No test that lists may run at the same time.
func ReadAhead(t testing.TB, objects int64) {
	before := readAhead
	readAhead = objects
	t.Cleanup(func() { readAhead = before })
}

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	// It reports every connection to an etcd that a test has ended.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	os.Exit(m.Run())
}

// starting keeps others from the ports that an etcd is about to use.
var starting sync.Mutex

// runEtcd returns a client of an etcd that lives as long as the test.
func runEtcd(t testing.TB, configure ...func(*embed.Config)) *kubernetes.Client {
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
