// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// childEnv is the environment variable that selects what the test binary does as a child process.
const childEnv = "IPAM_STANDALONE_TEST_CHILD"

// child is another process of this test binary, which a test kills.
type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
	// stderr can be read after kill.
	stderr bytes.Buffer
}

// startChild runs the named function of TestChild on dir.
func startChild(t *testing.T, name, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "--", dir)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	c := &child{cmd: cmd}
	cmd.Stderr = &c.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(stdout)
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("standard error of %s: %.3000s", name, c.stderr.String())
		}
	})
	return c
}

// kill sends SIGKILL and waits for the end of the process.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// TestChild is not a test. It contains the functions of the child processes.
func TestChild(t *testing.T) {
	name, dir := os.Getenv(childEnv), os.Args[len(os.Args)-1]
	switch name {
	case "":
		t.Skip("only runs in a child process of another test")
	case "hold-data-dir":
		if _, err := OpenDataDir(dir); err != nil {
			t.Fatal(err)
		}
		fmt.Println("open")
		time.Sleep(time.Hour)
	case "start":
		fmt.Println("starting")
		if _, err := StartEtcd(context.Background(), dir, "error"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
	case "start-with-warnings":
		if _, err := StartEtcd(context.Background(), dir, "warn"); err != nil {
			t.Fatal(err)
		}
		fmt.Println("started")
		time.Sleep(time.Hour)
	case "put":
		ctx := context.Background()
		etcd, err := StartEtcd(ctx, dir, "")
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
		etcd, err := StartEtcd(ctx, dir, "")
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

func newClient(t *testing.T, etcd *Etcd) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s has mode %04o, want %04o", path, got, want)
	}
}
