// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/standalonetest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestMain(m *testing.M) { standalonetest.Main(m, child) }

// child has the functions of the child processes.
func child(name, dir string) error {
	switch name {
	case "start":
		fmt.Println("starting")
		if _, err := Start(context.Background(), dir, "error"); err != nil {
			return err
		}
		time.Sleep(time.Hour)
	case "start-with-warnings":
		if _, err := Start(context.Background(), dir, "warn"); err != nil {
			return err
		}
		fmt.Println("started")
		time.Sleep(time.Hour)
	case "put":
		ctx := context.Background()
		etcd, err := Start(ctx, dir, "")
		if err != nil {
			return err
		}
		client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), DialTimeout: 10 * time.Second})
		if err != nil {
			return err
		}
		for i := 0; ; i++ {
			if _, err := client.Put(ctx, childKey(i), fmt.Sprint(i)); err != nil {
				return err
			}
			fmt.Println(i)
		}
	case "put-parallel":
		ctx := context.Background()
		etcd, err := Start(ctx, dir, "")
		if err != nil {
			return err
		}
		client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), DialTimeout: 10 * time.Second})
		if err != nil {
			return err
		}
		var writers sync.WaitGroup
		for w := range parallelWriters {
			writers.Go(func() {
				for i := range parallelPuts / parallelWriters {
					if _, err := client.Put(ctx, childKey(w*parallelPuts+i), "x"); err != nil {
						fmt.Fprintln(os.Stderr, err)
						return
					}
				}
			})
		}
		writers.Wait()
		fmt.Println("done")
		time.Sleep(time.Hour)
	default:
		return fmt.Errorf("no helper %q", name)
	}
	return nil
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
