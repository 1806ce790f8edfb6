// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.etcd.io/etcd/server/v3/embed"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

const (
	// etcdStartTimeout bounds the start, which reads the index of all keys and replays the log since the
	// last snapshot.
	etcdStartTimeout = 5 * time.Minute
	// etcdCloseGrace is how long Close waits for clients that are still connected.
	etcdCloseGrace = 2 * time.Second

	etcdName         = "ipam-standalone"
	etcdClientSocket = "client.sock"
	etcdHTTPSocket   = "http.sock"
	etcdBootstrap    = "bootstrapping"
	// socketLink links to the sockets where they are not beside the data.
	socketLink = "sockets"
	// DefaultEtcdQuota is how large the database may get, in bytes, unless QuotaBytes is given.
	DefaultEtcdQuota int64 = 8 << 30
	// maxSocketPath is the longest path of a unix socket that every system takes:
	// sun_path has 104 bytes on macOS and 108 on Linux, the last one being zero.
	maxSocketPath = 103
)

// Etcd is a running etcd of a single member that serves only this user, through
// a unix socket, and opens no port.
type Etcd struct {
	server   *embed.Etcd
	endpoint string
	// grpcServer passes the server of the client socket on, once etcd made it.
	grpcServer    chan *grpc.Server
	removeSockets func()

	errc    chan error
	closing chan struct{}
	watched chan struct{}
	close   sync.Once
}

// EtcdOption changes what StartEtcd starts.
type EtcdOption func(*embed.Config)

// QuotaBytes makes etcd refuse writes when its database is larger, until space is reclaimed and the alarm is disarmed.
func QuotaBytes(quota int64) EtcdOption {
	return func(cfg *embed.Config) { cfg.QuotaBackendBytes = quota }
}

// StartEtcd starts etcd on the data in dataDir/etcd, which it creates if
// missing, and returns when it serves. It fails if that takes more than 60
// seconds or ctx is done before; later, ctx has no effect. What was acknowledged
// to a client is on disk and survives kill -9. Only one process at a time may
// use a dataDir, see OpenDataDir.
//
// Messages of at least logLevel (debug, info, warn or error; "" is warn) go to
// standard error.
//
// The sockets are in dataDir/etcd, or, if their path would be too long or not
// usable in a URL, in a new directory under the temporary one. Either has mode
// 0700. Beside the one for clients there is http.sock, with /health and /metrics.
func StartEtcd(ctx context.Context, dataDir, logLevel string, options ...EtcdOption) (*Etcd, error) {
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
	if err := ensurePrivateDir(dir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if err := prepareBootstrap(dir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	sockets, removeSockets, err := makeSocketDir(dir)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}

	e := &Etcd{
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
		// embed's Close waits for its client servers, and these wait for the member
		// to be ready or stopped.
		e.server.Server.Stop()
		e.server.Close()
		removeSockets()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	go e.watch()
	return e, nil
}

// Endpoints returns what to hand to an etcd client as its endpoints. They need
// no TLS.
func (e *Etcd) Endpoints() []string { return []string{e.endpoint} }

// Err returns a channel that gets at most one error, when etcd stopped by itself
// and will serve no longer, and that is closed then or by Close.
func (e *Etcd) Err() <-chan error { return e.errc }

// Close stops etcd and returns when all its data is on disk and its sockets are
// gone. Clients should be closed before: those that are not hold it up for two
// seconds, and then have their requests cut off. More than one call is fine.
func (e *Etcd) Close() {
	e.close.Do(func() {
		close(e.closing)
		<-e.watched
		// embed would wait more than five seconds for an open watch.
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

func (e *Etcd) config(dir, sockets string, logger *zap.Logger) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = etcdName
	cfg.Dir = dir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)

	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(sockets, etcdClientSocket)}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	// With a listener of its own for HTTP the other speaks gRPC only, and etcd
	// does not warn about having both on one.
	cfg.ListenClientHttpUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(sockets, etcdHTTPSocket)}}
	cfg.ListenMetricsUrls = nil
	// There is no peer to listen for; the address is only a name that the member
	// list has to have, and is kept in the data, so it must not hold a path.
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: etcdName}}
	cfg.InitialCluster = cfg.InitialClusterFromName(etcdName)

	// A single member elects itself after one election timeout, so a short one
	// makes for a quick start. Five ticks are the fewest that etcd takes.
	cfg.TickMs = 50
	cfg.ElectionMs = 250

	// The API server compacts; a second compactor would take history from under it.
	cfg.AutoCompactionRetention = "0"
	cfg.QuotaBackendBytes = DefaultEtcdQuota
	cfg.MaxTxnOps = embed.DefaultMaxTxnOps
	// What Kubernetes sets for the watch cache, which relies on these to learn of
	// the current revision.
	cfg.WatchProgressNotifyInterval = 5 * time.Second
	cfg.UnsafeNoFsync = false

	// No user of etcd's own ever logs in, and the default warns about its tokens.
	cfg.AuthToken = ""

	cfg.ServiceRegister = func(s *grpc.Server) { e.grpcServer <- s }
	return cfg
}

func (e *Etcd) waitReady(ctx context.Context) error {
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

// watch reports the end of etcd if it comes before Close.
func (e *Etcd) watch() {
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
		err = errors.New("it stopped by itself")
	}
	e.errc <- fmt.Errorf("etcd: %w", err)
}

// prepareBootstrap marks dir as not holding data yet, if it does not, and clears
// it if an earlier first start was cut off. etcd cannot recover from that: for
// some milliseconds its log exists without the entry that makes it a member of
// its own cluster, and with such a log it never elects a leader.
//
// The mark, and not its absence, is what permits the removal, so that data which
// comes from elsewhere is never taken for a failed start.
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
	return writeFileAtomic(mark, nil, 0o600)
}

// finishBootstrap removes the mark, durably and before any client knows of the
// etcd: what it acknowledges from then on must never be cleared.
func finishBootstrap(dir string) error {
	if err := os.Remove(filepath.Join(dir, etcdBootstrap)); err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	return syncDir(dir)
}

// makeSocketDir returns the directory for the sockets of an etcd with its data
// in dir, and a function that removes what it made there. What a killed process
// left behind is removed first.
func makeSocketDir(dir string) (sockets string, remove func(), err error) {
	// The link is how the next start finds a directory made elsewhere.
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
	return "", nil, fmt.Errorf("make a directory for the sockets: %w", err)
}

func removeSocketsIn(dir string) {
	for _, name := range []string{etcdClientSocket, etcdHTTPSocket} {
		_ = os.Remove(filepath.Join(dir, name))
	}
}

// socketsFit tells whether the sockets can be in dir. Apart from the length, the
// path goes through several layers that disagree on what is escaped in a URL, so
// it has to be one that needs no escaping.
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

// quietCore drops messages that etcd logs as warnings or errors although all is well.
type quietCore struct{ zapcore.Core }

var misleading = map[string]bool{
	// A listener was closed. Every Close makes it do so; an error that comes without a Close is
	// passed on by Etcd.Err.
	"setting up serving from embedded etcd failed.": true,
	// The store of a first start has no term yet, from which etcd tells the version of its schema.
	// It looks again a few seconds later.
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

// raftLogger is the name of the logger of etcd's Raft. It warns of elections that are late and the like, of which a single
// member has nothing to fear; a machine that is busy when it starts is enough.
const raftLogger = "etcd.raft"

// publishFailed is what etcd warns of when its first request after a start is refused, which it repeats until it is not.
const publishFailed = "failed to publish local member to cluster through raft"

func (c quietCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	switch {
	case misleading[entry.Message], entry.LoggerName == raftLogger && entry.Level == zapcore.WarnLevel:
		return checked
	case entry.Message == publishFailed && c.Enabled(entry.Level):
		// Whether it is misleading depends on the error, which Write gets.
		return checked.AddCore(entry, c)
	}
	return c.Core.Check(entry, checked)
}

// Write implements zapcore.Core.
func (c quietCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	for _, field := range fields {
		// etcd refuses requests when it has applied 5,000 entries fewer than are committed. Until it has applied one
		// after a start it counts none as applied, and so refuses its own request, a hundred times and more.
		if err, ok := field.Interface.(error); ok && entry.Message == publishFailed && errors.Is(err, etcderrors.ErrTooManyRequests) {
			return nil
		}
	}
	return c.Core.Write(entry, fields)
}

func (c quietCore) With(fields []zapcore.Field) zapcore.Core {
	return quietCore{c.Core.With(fields)}
}
