// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"runtime"
	"sync"
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
	longestWait = 5 * time.Second
	// longestTurn is how long a turn lasts. The list goes on without it.
	longestTurn = 500 * time.Millisecond
	// blockedWrite is how long a write to the client of a list may block. Then the client is slow, and the turn ends.
	blockedWrite = 10 * time.Millisecond
)

// turns are the turns that lists take while there are writes. Users who list in a loop would otherwise keep all processors
// busy, with the lists themselves and with the collection of their garbage, and each write would wait for them.
//
// Half of the processors, but at least one, compute lists at the same time. After a turn there is a rest that is as long as the
// turn. A turn is short, so that a list of many objects or a slow client does not hold up others. One list of each user
// waits for the next turn, and the other lists of that user wait for that one: who sends many lists holds up only their own.
type turns struct {
	free chan struct{}
	// lastWrite is when the last write began, in nanoseconds since 1970.
	lastWrite atomic.Int64

	mu sync.Mutex
	// users are those whose lists wait, by name.
	users map[string]*waitingUser
}

// waitingUser is a user whose lists wait.
type waitingUser struct {
	// first contains a value while a list of the user waits for the next turn.
	first chan struct{}
	// lists is the number of lists that wait. At 0 the user is dropped from the map.
	lists int
}

func newTurns(processors int) *turns {
	t := &turns{free: make(chan struct{}, max(1, processors/2)), users: map[string]*waitingUser{}}
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
				defer turn.done()
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
	if !t.wait(ctx) {
		return nil
	}
	turn := &turn{turns: t, began: time.Now()}
	turn.limit = time.AfterFunc(longestTurn, turn.end)
	return turn
}

// wait waits for a turn behind other lists of the user. It returns false if the context ends first.
func (t *turns) wait(ctx context.Context) bool {
	name := ""
	if user, ok := request.UserFrom(ctx); ok {
		name = user.GetName()
	}
	user := t.enter(name)
	defer t.leave(name, user)
	select {
	case user.first <- struct{}{}:
		defer func() { <-user.first }()
	case <-ctx.Done():
		return false
	}
	select {
	case <-t.free:
		return true
	case <-ctx.Done():
		return false
	}
}

// enter counts a list of a user that waits.
func (t *turns) enter(name string) *waitingUser {
	t.mu.Lock()
	defer t.mu.Unlock()
	user := t.users[name]
	if user == nil {
		user = &waitingUser{first: make(chan struct{}, 1)}
		t.users[name] = user
	}
	user.lists++
	return user
}

// leave undoes enter.
func (t *turns) leave(name string, user *waitingUser) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if user.lists--; user.lists == 0 {
		delete(t.users, name)
	}
}

// turn is a turn of a list.
type turn struct {
	turns *turns
	began time.Time
	// limit ends a turn that is too long.
	limit *time.Timer
	ended atomic.Bool
}

// done ends the turn of a list that is done.
func (t *turn) done() {
	t.limit.Stop()
	t.end()
}

// end ends a turn, unless it has ended. The next one begins after a rest.
func (t *turn) end() {
	if !t.ended.Swap(true) {
		time.AfterFunc(time.Since(t.began), func() { t.turns.free <- struct{}{} })
	}
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
