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

// defaultWatchWriteTimeout is the default of Options.WatchWriteTimeout.
const defaultWatchWriteTimeout = 30 * time.Second

// endStalledWatches ends a watch when a write to its client blocks for longer than timeout. Otherwise the handler of a
// watch whose client stops reading would block as long as the connection lasts, and would buffer the following events.
func endStalledWatches(config *genericapiserver.Config, timeout time.Duration) {
	build := config.BuildHandlerChainFunc
	config.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return build(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if info, ok := request.RequestInfoFrom(r.Context()); ok && info.IsResourceRequest && info.Verb == "watch" {
				if upgradable, ok := w.(upgradableWriter); ok && wsstream.IsWebSocketRequest(r) {
					w = &timeoutUpgrade{upgradable, timeout}
				} else {
					w = responsewriter.WrapForHTTP1Or2(&timeoutWriter{w, timeout})
				}
			}
			handler.ServeHTTP(w, r)
		}), c)
	}
}

// timeoutWriter is a response writer whose writes fail when they block for longer than timeout.
type timeoutWriter struct {
	http.ResponseWriter
	timeout time.Duration
}

var _ responsewriter.UserProvidedDecorator = &timeoutWriter{}

// Write implements http.ResponseWriter.
func (w *timeoutWriter) Write(data []byte) (int, error) {
	defer w.limit().Stop()
	return w.ResponseWriter.Write(data)
}

// Flush implements http.Flusher.
func (w *timeoutWriter) Flush() {
	defer w.limit().Stop()
	w.ResponseWriter.(http.Flusher).Flush()
}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (w *timeoutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// limit starts the timer of a write. The caller stops it after the write.
func (w *timeoutWriter) limit() *time.Timer {
	connection := http.NewResponseController(responsewriter.GetOriginal(w.ResponseWriter))
	return time.AfterFunc(w.timeout, func() {
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

// timeoutUpgrade is the response writer of a WebSocket request. The handler hijacks its connection and no longer uses
// the response writer. So the timeout applies to writes to the connection.
type timeoutUpgrade struct {
	upgradableWriter
	timeout time.Duration
}

// Hijack implements http.Hijacker.
func (w *timeoutUpgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	connection, buffered, err := w.upgradableWriter.Hijack()
	if err != nil {
		return nil, nil, err
	}
	connection = &timeoutConn{connection, w.timeout}
	return connection, bufio.NewReadWriter(buffered.Reader, bufio.NewWriter(connection)), nil
}

// timeoutConn is a connection whose writes fail when they block for longer than timeout.
type timeoutConn struct {
	net.Conn
	timeout time.Duration
}

// Write implements net.Conn.
func (c *timeoutConn) Write(data []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(data)
}
