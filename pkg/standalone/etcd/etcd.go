// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package etcd runs the embedded etcd of ipam-standalone, which only the current user can reach, and maintains its
// database.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/datadir"
	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.etcd.io/etcd/server/v3/embed"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

const (
	// etcdStartTimeout limits the start of etcd, which reads the index of all keys and replays the log since the
	// last snapshot.
	etcdStartTimeout = 5 * time.Minute
	// etcdCloseGrace is how long Close waits for clients that are still connected.
	etcdCloseGrace = 2 * time.Second

	etcdName         = "ipam-standalone"
	etcdClientSocket = "client.sock"
	etcdHTTPSocket   = "http.sock"
	etcdBootstrap    = "bootstrapping"
	// socketLink is the name of a symbolic link in the data directory. It points to the socket directory if that
	// is elsewhere.
	socketLink = "sockets"
	// DefaultQuota is the default maximum size of the database, in bytes. QuotaBytes overrides it.
	DefaultQuota int64 = 8 << 30
	// maxSocketPath is the maximum length of a Unix socket path that works on all systems. sun_path has 104 bytes
	// on macOS and 108 on Linux, including the terminating zero.
	maxSocketPath = 103
)

// Server is a running single-member etcd. It listens on Unix sockets that only the current user can access, and
// opens no TCP port.
type Server struct {
	server   *embed.Etcd
	endpoint string
	// grpcServer receives the gRPC server of the client socket after etcd has created it.
	grpcServer    chan *grpc.Server
	removeSockets func()

	errc    chan error
	closing chan struct{}
	watched chan struct{}
	close   sync.Once
}

// Option changes the configuration that Start uses.
type Option func(*embed.Config)

// QuotaBytes sets the maximum size of the database, in bytes. When the database is larger, etcd refuses writes
// until space is reclaimed and the NOSPACE alarm is disarmed.
func QuotaBytes(quota int64) Option {
	return func(cfg *embed.Config) { cfg.QuotaBackendBytes = quota }
}

// Start starts etcd with its data in dataDir/etcd and returns when etcd is ready. It creates the directory if
// it is missing. It returns an error if etcd is not ready within five minutes, or if ctx ends before that. After
// the start, ctx has no effect. Acknowledged writes are on disk and survive kill -9. Only one process may use a
// dataDir at a time, see datadir.Open.
//
// etcd logs to standard error. logLevel is the minimum level: debug, info, warn or error. The empty string means
// warn.
//
// The sockets are in dataDir/etcd. If that path is too long for a socket or needs escaping in a URL, they are in a
// new temporary directory. Both directories have mode 0700. In addition to the client socket there is http.sock,
// which serves /health and /metrics.
func Start(ctx context.Context, dataDir, logLevel string, options ...Option) (*Server, error) {
	if logLevel == "" {
		logLevel = "warn"
	}
	logger, err := newEtcdLogger(logLevel)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	dir, err := filepath.Abs(filepath.Join(dataDir, "etcd"))
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if err := datadir.EnsurePrivate(dir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if err := prepareBootstrap(dir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	sockets, removeSockets, err := makeSocketDir(dir)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}

	e := &Server{
		endpoint:      "unix://" + filepath.Join(sockets, etcdClientSocket),
		grpcServer:    make(chan *grpc.Server, 1),
		removeSockets: removeSockets,
		errc:          make(chan error, 1),
		closing:       make(chan struct{}),
		watched:       make(chan struct{}),
	}
	config := e.config(dir, sockets, logger)
	for _, option := range options {
		option(config)
	}
	if e.server, err = embed.StartEtcd(config); err != nil {
		removeSockets()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if err = e.waitReady(ctx); err == nil {
		err = finishBootstrap(dir)
	}
	if err != nil {
		// Close waits for the client servers of etcd, and these wait until the member is ready or stopped. So stop
		// the member first.
		e.server.Server.Stop()
		e.server.Close()
		removeSockets()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	go e.watch()
	return e, nil
}

// Endpoints returns the endpoints for an etcd client. They do not use TLS.
func (e *Server) Endpoints() []string { return []string{e.endpoint} }

// Err returns a channel that receives at most one error: the reason why etcd stopped without Close. The channel is
// closed after that, or by Close.
func (e *Server) Err() <-chan error { return e.errc }

// Close stops etcd. It returns when all data is on disk and the sockets are removed. Close clients first: Close
// waits two seconds for open clients and then cancels their requests. It may be called more than once.
func (e *Server) Close() {
	e.close.Do(func() {
		close(e.closing)
		<-e.watched
		// Without this, etcd waits more than five seconds for an open watch.
		force := time.AfterFunc(etcdCloseGrace, func() {
			select {
			case s := <-e.grpcServer:
				s.Stop()
			default:
			}
		})
		defer force.Stop()
		e.server.Close()
		e.removeSockets()
	})
}

func (e *Server) config(dir, sockets string, logger *zap.Logger) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = etcdName
	cfg.Dir = dir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)

	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(sockets, etcdClientSocket)}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	// With a separate HTTP listener the client socket serves gRPC only. Otherwise etcd warns that one socket
	// serves both.
	cfg.ListenClientHttpUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(sockets, etcdHTTPSocket)}}
	cfg.ListenMetricsUrls = nil
	// A single member has no peers to listen for. The member list still requires a peer address. etcd stores it in
	// the data, so it must not contain a path, which can change.
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: etcdName}}
	cfg.InitialCluster = cfg.InitialClusterFromName(etcdName)

	// A single member becomes leader after one election timeout, so a short timeout makes the start fast. etcd
	// requires at least five ticks.
	cfg.TickMs = 50
	cfg.ElectionMs = 250

	// The API server compacts the history. A second compactor could remove revisions that the API server still
	// needs.
	cfg.AutoCompactionRetention = "0"
	cfg.QuotaBackendBytes = DefaultQuota
	cfg.MaxTxnOps = embed.DefaultMaxTxnOps
	// Kubernetes uses the same interval. The watch cache relies on these notifications to learn the current
	// revision.
	cfg.WatchProgressNotifyInterval = 5 * time.Second
	cfg.UnsafeNoFsync = false

	// etcd authentication is not used. The default token type logs a warning.
	cfg.AuthToken = ""

	cfg.ServiceRegister = func(s *grpc.Server) { e.grpcServer <- s }
	return cfg
}

func (e *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, etcdStartTimeout)
	defer cancel()
	select {
	case <-e.server.Server.ReadyNotify():
		return nil
	case <-e.server.Server.StopNotify():
		return errors.New("it stopped before it was ready")
	case err := <-e.server.Err():
		return fmt.Errorf("it stopped before it was ready: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("it is not ready: %w", ctx.Err())
	}
}

// watch reports that etcd stopped without Close.
func (e *Server) watch() {
	defer close(e.watched)
	defer close(e.errc)
	var err error
	select {
	case <-e.closing:
		return
	case <-e.server.Server.StopNotify():
	case err = <-e.server.Err():
	}
	if err == nil {
		err = errors.New("it stopped unexpectedly")
	}
	e.errc <- fmt.Errorf("etcd: %w", err)
}

// prepareBootstrap creates a marker file in dir if dir holds no data yet. If the marker is left from an
// interrupted first start, prepareBootstrap deletes the data of that start. etcd cannot recover from such an
// interruption: for some milliseconds its log lacks the entry that adds the member to its own cluster, and with
// such a log etcd never elects a leader.
//
// Data is deleted only if the marker exists. Data from another source, such as a restored backup, has no marker
// and is kept.
func prepareBootstrap(dir string) error {
	mark, member := filepath.Join(dir, etcdBootstrap), filepath.Join(dir, "member")
	if _, err := os.Lstat(mark); err == nil {
		if err := os.RemoveAll(member); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(member); !os.IsNotExist(err) {
		return err
	}
	return datadir.WriteFile(mark, nil, 0o600)
}

// finishBootstrap removes the marker and syncs the directory. This happens before any client can connect, so
// acknowledged writes are never deleted by prepareBootstrap.
func finishBootstrap(dir string) error {
	if err := os.Remove(filepath.Join(dir, etcdBootstrap)); err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	return datadir.Sync(dir)
}

// makeSocketDir returns the socket directory for an etcd with its data in dir, and a function that removes what
// makeSocketDir created. It first removes the sockets that a killed process left behind.
func makeSocketDir(dir string) (sockets string, remove func(), err error) {
	// The next start uses the link to find a directory outside dir.
	link := filepath.Join(dir, socketLink)
	remove = func() {
		if elsewhere, err := os.Readlink(link); err == nil {
			removeSocketsIn(elsewhere)
			_ = os.Remove(elsewhere)
			_ = os.Remove(link)
		}
	}
	remove()
	removeSocketsIn(dir)
	if socketsFit(dir) {
		return dir, remove, nil
	}
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		if sockets, err = os.MkdirTemp(parent, "ipam-etcd-"); err != nil {
			continue
		}
		if !socketsFit(sockets) {
			_ = os.Remove(sockets)
			err = fmt.Errorf("the path %q is too long for a socket", sockets)
			continue
		}
		if err = os.Symlink(sockets, link); err != nil {
			_ = os.Remove(sockets)
			return "", nil, err
		}
		return sockets, remove, nil
	}
	return "", nil, fmt.Errorf("create a directory for the sockets: %w", err)
}

func removeSocketsIn(dir string) {
	for _, name := range []string{etcdClientSocket, etcdHTTPSocket} {
		_ = os.Remove(filepath.Join(dir, name))
	}
}

// socketsFit reports whether dir can hold the sockets. The path must be short enough. It must also need no URL
// escaping, because etcd and its libraries escape paths differently.
func socketsFit(dir string) bool {
	path := filepath.Join(dir, etcdClientSocket)
	u := url.URL{Scheme: "unix", Path: path}
	return filepath.IsAbs(path) && len(path) <= maxSocketPath && u.String() == "unix://"+path
}

func newEtcdLogger(level string) (*zap.Logger, error) {
	cfg := logutil.DefaultZapLoggerConfig
	var err error
	if cfg.Level, err = zap.ParseAtomicLevel(level); err != nil {
		return nil, err
	}
	cfg.Encoding = logutil.ConsoleLogFormat
	cfg.OutputPaths = []string{"stderr"}
	cfg.ErrorOutputPaths = cfg.OutputPaths
	logger, err := cfg.Build(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return quietCore{core} }))
	if err != nil {
		return nil, err
	}
	return logger.Named("etcd"), nil
}

// quietCore is a log core that drops warnings and errors of etcd that do not indicate a problem.
type quietCore struct{ zapcore.Core }

var misleading = map[string]bool{
	// A listener was closed. Every Close causes this. If a listener fails without Close, Etcd.Err returns the
	// error.
	"setting up serving from embedded etcd failed.": true,
	// On the first start the storage has no Raft term yet, which etcd needs to detect the schema version. etcd
	// retries a few seconds later.
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

// raftLogger is the name of the logger of Raft. Its warnings, for example about late elections, are harmless for a
// single member. A busy machine is enough to cause them.
const raftLogger = "etcd.raft"

// publishFailed is the warning that etcd logs when its first request after a start is refused. etcd retries until
// the request succeeds.
const publishFailed = "failed to publish local member to cluster through raft"

func (c quietCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	switch {
	case misleading[entry.Message], entry.LoggerName == raftLogger && entry.Level == zapcore.WarnLevel:
		return checked
	case entry.Message == publishFailed && c.Enabled(entry.Level):
		// Only Write gets the error, which decides whether the message is dropped.
		return checked.AddCore(entry, c)
	}
	return c.Core.Check(entry, checked)
}

// Write implements zapcore.Core.
func (c quietCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	for _, field := range fields {
		// etcd refuses requests when more than 5,000 committed entries are not applied yet. After a start etcd
		// treats all entries as not applied until it has applied one. So it can refuse its own request more than a
		// hundred times.
		if err, ok := field.Interface.(error); ok && entry.Message == publishFailed && errors.Is(err, etcderrors.ErrTooManyRequests) {
			return nil
		}
	}
	return c.Core.Write(entry, fields)
}

func (c quietCore) With(fields []zapcore.Field) zapcore.Core {
	return quietCore{c.Core.With(fields)}
}
