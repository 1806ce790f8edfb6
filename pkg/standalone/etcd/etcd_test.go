// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/standalonetest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/connectivity"
)

func startEtcd(t *testing.T, dir string) *Server {
	t.Helper()
	etcd, err := Start(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	return etcd
}

// wantKey also shows that the client can connect.
func wantKey(t *testing.T, client *clientv3.Client, key, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := client.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != want {
		t.Fatalf("%s is %v, want %q", key, got.Kvs, want)
	}
}

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := client.Put(ctx, key, value); err != nil {
		t.Fatal(err)
	}
}

func TestEtcdKeepsData(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		etcd := startEtcd(t, dir)
		client := newClient(t, etcd)
		if i > 0 {
			wantKey(t, client, "/key", fmt.Sprint(i-1))
		}
		put(t, client, "/key", fmt.Sprint(i))
		wantKey(t, client, "/key", fmt.Sprint(i))
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		etcd.Close()
		etcd.Close() // the second one has nothing to do
		if err, open := <-etcd.Err(); open {
			t.Errorf("closing gave the error %v", err)
		}
		for _, name := range []string{etcdClientSocket, etcdHTTPSocket} {
			if _, err := os.Lstat(filepath.Join(dir, "etcd", name)); !os.IsNotExist(err) {
				t.Errorf("%s is there after Close: %v", name, err)
			}
		}
	}
	standalonetest.WantMode(t, filepath.Join(dir, "etcd"), 0o700)
}

// TestEtcdServesAPIServer creates a client and waits for it in the same way as the storage backend of
// k8s.io/apiserver.
func TestEtcdServesAPIServer(t *testing.T) {
	etcd := startEtcd(t, t.TempDir())
	client, err := kubernetes.New(clientv3.Config{
		DialTimeout:          20 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Endpoints:            etcd.Endpoints(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn := client.ActiveConnection()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.Idle {
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the connection is %s", state)
		}
	}

	res, err := client.OptimisticPut(ctx, "/registry/x", []byte("1"), 0, kubernetes.PutOptions{})
	if err != nil || !res.Succeeded {
		t.Fatalf("put: %+v, %v", res, err)
	}
	// The metrics of the API server call Status for each endpoint by name.
	if _, err := client.Status(ctx, etcd.Endpoints()[0]); err != nil {
		t.Error(err)
	}
	wantKey(t, client.Client, "/registry/x", "1")
}

func TestEtcdHTTPSocket(t *testing.T) {
	dir := t.TempDir()
	startEtcd(t, dir)
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "etcd", etcdHTTPSocket))
		},
	}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]string{"/health": `"health":"true"`, "/metrics": "etcd_server_has_leader 1"} {
		res, err := client.Get("http://etcd" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s has no %s (%v)", path, want, err)
		}
	}
}

// TestEtcdSurvivesKill kills an etcd that acknowledges puts at full speed, and then reads every acknowledged key.
func TestEtcdSurvivesKill(t *testing.T) {
	const puts = 300
	dir := t.TempDir()
	writer := standalonetest.StartChild(t, "put", dir)
	for i := range puts {
		if !writer.Out.Scan() || writer.Out.Text() != fmt.Sprint(i) {
			t.Fatalf("put %d: the child said %q", i, writer.Out.Text())
		}
	}
	// The child continues until it is dead. All keys that it has acknowledged by then count.
	writer.Signal(t, os.Kill)
	acknowledged := puts
	for writer.Out.Scan() && writer.Out.Text() == fmt.Sprint(acknowledged) {
		acknowledged++
	}
	writer.Kill()
	if _, err := os.Lstat(filepath.Join(dir, "etcd", etcdClientSocket)); err != nil {
		t.Errorf("no stale socket, so this does not test its removal: %v", err)
	}

	client := newClient(t, startEtcd(t, dir))
	for i := range acknowledged {
		wantKey(t, client, childKey(i), fmt.Sprint(i))
	}
	t.Logf("all %d acknowledged keys are there", acknowledged)
}

// TestEtcdStartsQuietlyAfterManyWrites kills an etcd after thousands of writes. The next start replays them without
// a warning.
func TestEtcdStartsQuietlyAfterManyWrites(t *testing.T) {
	dir := t.TempDir()
	writer := standalonetest.StartChild(t, "put-parallel", dir)
	if !writer.Out.Scan() || writer.Out.Text() != "done" {
		t.Fatalf("the writer says %q", writer.Out.Text())
	}
	writer.Kill()

	again := standalonetest.StartChild(t, "start-with-warnings", dir)
	if !again.Out.Scan() || again.Out.Text() != "started" {
		t.Fatalf("the start says %q", again.Out.Text())
	}
	again.Kill()
	if warnings := again.Stderr.String(); strings.Contains(warnings, "failed to publish") {
		t.Errorf("%d warnings: %.1000s", strings.Count(warnings, "\n"), warnings)
	}
}

// TestEtcdTellsWhyItIsNotReady shows that all log messages of a start are reported, except misleading ones.
func TestEtcdTellsWhyItIsNotReady(t *testing.T) {
	for _, tt := range []struct {
		message string
		err     error
		want    int
	}{
		{publishFailed, etcderrors.ErrTooManyRequests, 0},
		{publishFailed, etcderrors.ErrTimeout, 1},
		{publishFailed, nil, 1},
		{"something else", etcderrors.ErrTooManyRequests, 1},
	} {
		core, logs := observer.New(zapcore.WarnLevel)
		logger := zap.New(quietCore{core}).With(zap.String("a", "b"))
		logger.Warn(tt.message, zap.Error(tt.err))
		logger.Info(tt.message, zap.Error(tt.err))
		if got := logs.Len(); got != tt.want {
			t.Errorf("%s, %v: %d messages, want %d", tt.message, tt.err, got, tt.want)
		}
	}
}

// TestEtcdSurvivesKillOfFirstStart kills an etcd during the bootstrap of its cluster, at moments spread over the
// duration of the bootstrap.
func TestEtcdSurvivesKillOfFirstStart(t *testing.T) {
	for delay := time.Duration(0); delay <= 120*time.Millisecond; delay += 10 * time.Millisecond {
		dir := t.TempDir()
		starter := standalonetest.StartChild(t, "start", dir)
		if !starter.Out.Scan() || starter.Out.Text() != "starting" {
			t.Fatalf("the child said %q", starter.Out.Text())
		}
		time.Sleep(delay)
		starter.Kill()

		etcd, err := Start(t.Context(), dir, "error")
		if err != nil {
			t.Fatalf("killed after %s: %v", delay, err)
		}
		client := newClient(t, etcd)
		put(t, client, "/key", "1")
		_ = client.Close()
		etcd.Close()
	}
}

// TestEtcdBootstrapMark shows that the remains of an interrupted first start are removed, and nothing else.
func TestEtcdBootstrapMark(t *testing.T) {
	dir := t.TempDir()
	etcdDir := filepath.Join(dir, "etcd")
	mark, member := filepath.Join(etcdDir, etcdBootstrap), filepath.Join(etcdDir, "member")
	rest := filepath.Join(member, "wal", "rest")
	if err := os.MkdirAll(filepath.Dir(rest), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{mark, rest} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startEtcd(t, dir).Close()
	for _, path := range []string{mark, rest} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s is there after the start: %v", path, err)
		}
	}

	if err := prepareBootstrap(etcdDir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(mark); !os.IsNotExist(err) {
		t.Errorf("data is marked as none: %v", err)
	}
	if _, err := os.Lstat(member); err != nil {
		t.Errorf("data was removed: %v", err)
	}
}

// TestEtcdOpensNoPort checks the internet sockets of this process. It first makes sure that it would find one.
func TestEtcdOpensNoPort(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if len(inetSockets(t)) == 0 {
		t.Fatal("does not see a TCP listener")
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	before := inetSockets(t)

	etcd := startEtcd(t, t.TempDir())
	client := newClient(t, etcd)
	put(t, client, "/key", "1")
	for socket := range inetSockets(t) {
		if !before[socket] {
			t.Errorf("etcd opened %s", socket)
		}
	}
}

// inetSockets returns the open TCP and UDP sockets of this process, in any state. The files under net list the
// sockets of all processes, so they are matched with the open files of this one.
func inetSockets(t *testing.T) map[string]bool {
	t.Helper()
	own := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	found := map[string]bool{}
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		table, err := os.ReadFile("/proc/self/net/" + name)
		if os.IsNotExist(err) {
			continue // no IPv6
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) > 9 && own[fields[9]] {
				found[name+" "+fields[1]+" "+fields[9]] = true
			}
		}
	}
	return found
}

// TestEtcdSocketElsewhere uses data directories that cannot contain a socket.
func TestEtcdSocketElsewhere(t *testing.T) {
	for _, c := range []struct{ name, dir, tmp string }{
		{"too long", strings.Repeat("long/", 40), "t"},
		{"temporary directory too long as well", strings.Repeat("long/", 40), strings.Repeat("t", 100)},
		{"with a space", "with a space", "t"},
		{"with a percent sign", "%41", "t"},
		{"with a question mark", "a?b#c", "t"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The path of t.TempDir is too long itself.
			base, err := os.MkdirTemp("", "x")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(base) })
			dir, tmp := filepath.Join(base, c.dir), filepath.Join(base, c.tmp)
			if err := os.Mkdir(tmp, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("TMPDIR", tmp)

			// The second start follows a kill, the third one a Close.
			writer := standalonetest.StartChild(t, "put", dir)
			if !writer.Out.Scan() || writer.Out.Text() != "0" {
				t.Fatalf("the child said %q", writer.Out.Text())
			}
			writer.Kill()
			stale, err := os.Readlink(filepath.Join(dir, "etcd", "sockets"))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				etcd := startEtcd(t, dir)
				sockets := filepath.Dir(strings.TrimPrefix(etcd.Endpoints()[0], "unix://"))
				standalonetest.WantMode(t, sockets, 0o700)
				if _, err := os.Lstat(stale); sockets != stale && !os.IsNotExist(err) {
					t.Errorf("the sockets of the killed process are there: %v", err)
				}
				client := newClient(t, etcd)
				wantKey(t, client, childKey(0), "0")
				_ = client.Close()
				etcd.Close()
				if _, err := os.Lstat(sockets); !os.IsNotExist(err) {
					t.Errorf("%s is there after Close: %v", sockets, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, "etcd", "sockets")); !os.IsNotExist(err) {
				t.Errorf("the link is there after Close: %v", err)
			}
		})
	}
}

// TestEtcdCloseWithOpenWatch closes etcd before its client.
func TestEtcdCloseWithOpenWatch(t *testing.T) {
	etcd := startEtcd(t, t.TempDir())
	client := newClient(t, etcd)
	watch := client.Watch(t.Context(), "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if res := <-watch; !res.Created {
		t.Fatalf("the watch began with %+v", res)
	}
	start := time.Now()
	etcd.Close()
	if took := time.Since(start); took > etcdCloseGrace+2*time.Second {
		t.Errorf("Close took %s", took)
	}
}

func TestEtcdReportsItsEnd(t *testing.T) {
	etcd := startEtcd(t, t.TempDir())
	etcd.server.Server.Stop()
	select {
	case err := <-etcd.Err():
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was reported")
	}
	if _, open := <-etcd.Err(); open {
		t.Error("there was a second error")
	}
	etcd.Close()
}

func TestStartEtcdErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), file, ""); err == nil {
		t.Error("no error for a file as the data directory")
	}
	if _, err := Start(t.Context(), t.TempDir(), "loud"); err == nil {
		t.Error("no error for an unknown log level")
	}

}

// TestStartEtcdCanceled also starts etcd again on the remains of the canceled start. How far that start got is
// random, so the test repeats it.
func TestStartEtcdCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 {
		dir := t.TempDir()
		etcd, err := Start(ctx, dir, "error")
		if err == nil {
			etcd.Close() // it was ready before it looked at the context
		} else if !errors.Is(err, context.Canceled) {
			t.Fatalf("the error is %v", err)
		}
		etcd, err = Start(t.Context(), dir, "error")
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(t, etcd)
		put(t, client, "/key", "1")
		_ = client.Close()
		etcd.Close()
	}
}

// TestEtcdLeavesNoGoroutine checks that no goroutine of this package remains, and that the total number does not
// grow with each start.
func TestEtcdLeavesNoGoroutine(t *testing.T) {
	stacks := func() string {
		buf := make([]byte, 1<<22)
		return string(buf[:runtime.Stack(buf, true)])
	}
	run := func() {
		etcd := startEtcd(t, t.TempDir())
		client := newClient(t, etcd)
		put(t, client, "/key", "1")
		_ = client.Close()
		etcd.Close()
	}
	run() // what etcd starts once per process, it starts here
	before := runtime.NumGoroutine()
	run()
	run()
	var after int
	for range 100 {
		if after = runtime.NumGoroutine(); after <= before {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if after > before {
		t.Errorf("%d goroutines became %d:\n%s", before, after, stacks())
	}
	for stack := range bytes.SplitSeq([]byte(stacks()), []byte("\n\n")) {
		if bytes.Contains(stack, []byte("standalone.(*Server)")) || bytes.Contains(stack, []byte("standalone.Start")) {
			t.Errorf("left over:\n%s", stack)
		}
	}
}
