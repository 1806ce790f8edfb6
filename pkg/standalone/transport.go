// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"

	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	"k8s.io/klog/v2"
)

// Transport carries requests to a handler in the same process, without a connection in between. The
// handler sees them as requests of HTTP/2, and does with them all that it does with others.
type Transport struct{ Handler http.Handler }

// RoundTrip implements http.RoundTripper. For a watch, which is a stream, it returns when the handler has begun to
// answer, or has ended. Everything else is handled before it returns, without a goroutine of its own, whose stack
// would have to grow each time, and a context that ends after the answer was made does not take it away.
func (t Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(request.Context())
	received := request.Clone(ctx)
	received.Proto, received.ProtoMajor, received.ProtoMinor = "HTTP/2.0", 2, 0
	received.RequestURI, received.RemoteAddr = request.URL.RequestURI(), "127.0.0.1:0"
	if received.Host == "" {
		received.Host = request.URL.Host
	}
	if received.Body == nil {
		received.Body = http.NoBody
	}

	w := &response{header: http.Header{}, began: make(chan struct{})}
	var body io.ReadCloser
	if request.URL.Query().Has("watch") {
		reader, pipe := io.Pipe()
		context.AfterFunc(ctx, func() { _ = pipe.CloseWithError(context.Cause(ctx)) })
		w.body, body = pipe, &responseBody{reader, cancel}
		go t.serve(w, received)
		select {
		case <-w.began:
		case <-ctx.Done():
			w.end(context.Cause(ctx))
		}
	} else {
		whole := &wholeBody{}
		w.body, body = whole, whole
		t.serve(w, received)
		if cause := context.Cause(ctx); cause != nil && errors.Is(whole.err, cause) {
			w.err = cause
		}
		cancel()
	}
	if w.err != nil {
		cancel()
		return nil, w.err
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.code, http.StatusText(w.code)), StatusCode: w.code,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: w.sent, ContentLength: -1,
		Body: body, Request: request,
	}, nil
}

// serve has the handler answer a request, and ends the answer.
func (t Transport) serve(w *response, received *http.Request) {
	ctx := received.Context()
	defer func() {
		err := io.EOF
		// That something was done is told all the same; that it was not may be because of that.
		_, whole := w.body.(*wholeBody)
		if done := whole && w.code != 0 && w.code < http.StatusBadRequest; ctx.Err() != nil && !done {
			err = context.Cause(ctx)
		}
		if reason := recover(); reason != nil {
			if reason != http.ErrAbortHandler {
				klog.FromContext(ctx).Error(nil, "A handler panicked", "panic", reason, "uri", received.RequestURI, "stack", string(debug.Stack()))
			}
			// A handler that is ended that way wants its client to see that it was cut off.
			err = io.ErrUnexpectedEOF
		}
		_ = received.Body.Close()
		w.end(err)
	}()
	t.Handler.ServeHTTP(w, received)
}

// wholeBody is the body of an answer that is read when all of it has been written.
type wholeBody struct {
	bytes.Buffer
	// err is how it ends.
	err error
}

// CloseWithError ends it.
func (b *wholeBody) CloseWithError(err error) error {
	b.err = err
	return nil
}

// Read implements io.Reader.
func (b *wholeBody) Read(data []byte) (int, error) {
	n, err := b.Buffer.Read(data)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

// Close implements io.Closer.
func (b *wholeBody) Close() error { return nil }

// responseBody ends the request when it is closed.
type responseBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *responseBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// response is what a handler writes to. Only what it has sent belongs to the client.
type response struct {
	header http.Header
	body   interface {
		io.Writer
		CloseWithError(err error) error
	}

	once  sync.Once
	began chan struct{}
	code  int
	sent  http.Header
	// err is set if the handler was cut off before it had sent anything.
	err error
}

// A writer of HTTP/2 is told by this.
var _ responsewriter.CloseNotifierFlusher = &response{}

// Header implements http.ResponseWriter.
func (r *response) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *response) WriteHeader(code int) {
	r.once.Do(func() {
		r.code, r.sent = code, r.header.Clone()
		close(r.began)
	})
}

// Write implements http.ResponseWriter. What nobody reads any more is dropped: that the client has gone is
// told by the context.
func (r *response) Write(data []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if n, err := r.body.Write(data); !errors.Is(err, io.ErrClosedPipe) {
		return n, err
	}
	return len(data), nil
}

// Flush implements http.Flusher.
func (r *response) Flush() { r.WriteHeader(http.StatusOK) }

// CloseNotify is there for handlers that look whether it is; the end of the request is in its context.
func (r *response) CloseNotify() <-chan bool { return make(chan bool) }

// end ends the response.
func (r *response) end(err error) {
	r.once.Do(func() {
		r.code, r.sent = http.StatusOK, r.header.Clone()
		if !errors.Is(err, io.EOF) {
			r.err = err
		}
		close(r.began)
	})
	_ = r.body.CloseWithError(err)
}
