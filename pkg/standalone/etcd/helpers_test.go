// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/standalonetest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestChild is not a test. It contains the functions of the child processes.
func TestChild(t *testing.T) {
	name, dir := standalonetest.Name(), standalonetest.Dir()
	switch name {
	case "":
		t.Skip("only runs in a child process of another test")
	case "start":
		fmt.Println("starting")
		if _, err := Start(context.Background(), dir, "error"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
	case "start-with-warnings":
		if _, err := Start(context.Background(), dir, "warn"); err != nil {
			t.Fatal(err)
		}
		fmt.Println("started")
		time.Sleep(time.Hour)
	case "put":
		ctx := context.Background()
		etcd, err := Start(ctx, dir, "")
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(t, etcd)
		for i := 0; ; i++ {
			if _, err := client.Put(ctx, childKey(i), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			fmt.Println(i)
		}
	case "put-parallel":
		ctx := context.Background()
		etcd, err := Start(ctx, dir, "")
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(t, etcd)
		var writers sync.WaitGroup
		for w := range parallelWriters {
			writers.Go(func() {
				for i := range parallelPuts / parallelWriters {
					if _, err := client.Put(ctx, childKey(w*parallelPuts+i), "x"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		writers.Wait()
		fmt.Println("done")
		time.Sleep(time.Hour)
	default:
		t.Fatalf("no helper %q", name)
	}
}

// parallelPuts is larger than the backlog of entries at which etcd refuses requests.
const parallelPuts, parallelWriters = 6000, 100

func childKey(i int) string { return fmt.Sprintf("/child/%08d", i) }

func newClient(t *testing.T, etcd *Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
