// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

const (
	// writesGoOn is for how long after a write lists take turns.
	writesGoOn = 10 * time.Second
	// longestWait is how long a list waits for its turn. Then it begins without one.
	longestWait = 500 * time.Millisecond
	// longestTurn is how long a turn lasts. The list goes on without it.
	longestTurn = 500 * time.Millisecond
	// blockedWrite is how long a write to the client of a list may block. Then the client is slow, and the turn ends.
	blockedWrite = 10 * time.Millisecond
)

// turns are the turns that lists take while there are writes. Users who list in a loop would otherwise keep all processors
// busy, with the lists themselves and with the collection of their garbage, and each write would wait for them.
//
// Half of the processors, but at least one, compute lists at the same time. After a turn there is a rest that is as long as the
// turn. Waiting, turn and rest are short, so that a list of many objects or a slow client does not hold up other lists.
type turns struct {
	free chan struct{}
	// lastWrite is when the last write began, in nanoseconds since 1970.
	lastWrite atomic.Int64
}

func newTurns(processors int) *turns {
	t := &turns{free: make(chan struct{}, max(1, processors/2))}
	for range cap(t.free) {
		t.free <- struct{}{}
	}
	return t
}

// takeTurns makes lists take turns.
func takeTurns(config *genericapiserver.Config) {
	t := newTurns(runtime.GOMAXPROCS(0))
	build := config.BuildHandlerChainFunc
	config.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return build(t.handler(handler), c)
	}
}

// handler returns a handler whose lists take turns.
func (t *turns) handler(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, ok := request.RequestInfoFrom(r.Context())
		switch {
		case !ok || !info.IsResourceRequest:
		case info.Verb == "list":
			if turn := t.take(r.Context()); turn != nil {
				defer turn.end()
				w = responsewriter.WrapForHTTP1Or2(&turnWriter{w, turn})
			}
		case info.Verb != "get" && info.Verb != "watch":
			t.lastWrite.Store(time.Now().UnixNano())
		}
		handler.ServeHTTP(w, r)
	})
}

// take waits for a turn. It returns nil if none is needed, or if there is none for too long.
func (t *turns) take(ctx context.Context) *turn {
	if time.Since(time.Unix(0, t.lastWrite.Load())) > writesGoOn {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, longestWait)
	defer cancel()
	select {
	case <-t.free:
	case <-ctx.Done():
		return nil
	}
	turn := &turn{turns: t, began: time.Now()}
	turn.limit = time.AfterFunc(longestTurn, turn.end)
	return turn
}

// turn is a turn of a list.
type turn struct {
	turns *turns
	began time.Time
	// limit ends a turn that is too long.
	limit *time.Timer
	ended atomic.Bool
}

// end ends a turn, unless it has ended. The next one begins after a rest.
func (t *turn) end() {
	if t.ended.Swap(true) {
		return
	}
	t.limit.Stop()
	time.AfterFunc(time.Since(t.began), func() { t.turns.free <- struct{}{} })
}

// turnWriter is the response writer of a list. It ends the turn if the client is slow.
type turnWriter struct {
	http.ResponseWriter
	turn *turn
}

var _ responsewriter.UserProvidedDecorator = &turnWriter{}

// Write implements http.ResponseWriter.
func (w *turnWriter) Write(data []byte) (int, error) {
	defer time.AfterFunc(blockedWrite, w.turn.end).Stop()
	return w.ResponseWriter.Write(data)
}

// Flush implements http.Flusher.
func (w *turnWriter) Flush() {
	defer time.AfterFunc(blockedWrite, w.turn.end).Stop()
	w.ResponseWriter.(http.Flusher).Flush()
}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (w *turnWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
