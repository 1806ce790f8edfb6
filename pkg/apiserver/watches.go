// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// defaultWatchPatience is the default of Options.WatchPatience.
const defaultWatchPatience = 30 * time.Second

// endStalledWatches ends a watch when a write to its client blocks for longer than patience. Otherwise the handler of a
// watch whose client stops reading would block as long as the connection lasts, and would buffer the following events.
func endStalledWatches(config *genericapiserver.Config, patience time.Duration) {
	build := config.BuildHandlerChainFunc
	config.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return build(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if info, ok := request.RequestInfoFrom(r.Context()); ok && info.IsResourceRequest && info.Verb == "watch" {
				if upgradable, ok := w.(upgradableWriter); ok && wsstream.IsWebSocketRequest(r) {
					w = &impatientUpgrade{upgradable, patience}
				} else {
					w = responsewriter.WrapForHTTP1Or2(&impatientWriter{w, patience})
				}
			}
			handler.ServeHTTP(w, r)
		}), c)
	}
}

// impatientWriter is a response writer whose writes fail when they block for longer than patience.
type impatientWriter struct {
	http.ResponseWriter
	patience time.Duration
}

var _ responsewriter.UserProvidedDecorator = &impatientWriter{}

// Write implements http.ResponseWriter.
func (w *impatientWriter) Write(data []byte) (int, error) {
	defer w.limit().Stop()
	return w.ResponseWriter.Write(data)
}

// Flush implements http.Flusher.
func (w *impatientWriter) Flush() {
	defer w.limit().Stop()
	w.ResponseWriter.(http.Flusher).Flush()
}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (w *impatientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// limit starts the timer of a write. The caller stops it after the write.
func (w *impatientWriter) limit() *time.Timer {
	connection := http.NewResponseController(responsewriter.GetOriginal(w.ResponseWriter))
	return time.AfterFunc(w.patience, func() {
		// A deadline in the past aborts the write that is in progress.
		_ = connection.SetWriteDeadline(time.Unix(1, 0))
	})
}

// upgradableWriter is the interface of an HTTP/1.1 response writer.
type upgradableWriter interface {
	http.ResponseWriter
	responsewriter.CloseNotifierFlusher
	http.Hijacker
}

// impatientUpgrade is the response writer of a WebSocket request. The handler hijacks its connection and no longer uses
// the response writer. So patience applies to writes to the connection.
type impatientUpgrade struct {
	upgradableWriter
	patience time.Duration
}

// Hijack implements http.Hijacker.
func (w *impatientUpgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	connection, buffered, err := w.upgradableWriter.Hijack()
	if err != nil {
		return nil, nil, err
	}
	connection = &impatientConn{connection, w.patience}
	return connection, bufio.NewReadWriter(buffered.Reader, bufio.NewWriter(connection)), nil
}

// impatientConn is a connection whose writes fail when they block for longer than patience.
type impatientConn struct {
	net.Conn
	patience time.Duration
}

// Write implements net.Conn.
func (c *impatientConn) Write(data []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(data)
}
