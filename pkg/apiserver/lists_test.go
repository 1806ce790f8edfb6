// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// TestTurns shows how many lists are computed at the same time, and how long a list takes.
func TestTurns(t *testing.T) {
	const work = 20 * time.Millisecond
	for _, tt := range []struct {
		name string
		// verbs are those of requests that begin one after the other, a millisecond apart.
		verbs []string
		// write is how long the client of a list lets it wait.
		write time.Duration
		// work is how long a list computes.
		work time.Duration
		// processors is the number of processors.
		processors int
		// most is the number of lists that compute at the same time, and last is when the last request ends.
		most int32
		last time.Duration
	}{
		{"there are no writes", []string{"list", "list", "list"}, 0, work, 2, 3, work + 2*time.Millisecond},
		{"lists take turns, and rest after each", []string{"create", "list", "list", "list"}, 0, work, 2, 1, 5*work + time.Millisecond},
		{"half of the processors", []string{"update", "list", "list", "list"}, 0, work, 4, 2, 3*work + time.Millisecond},
		{"one processor", []string{"delete", "list", "list"}, 0, work, 1, 1, 3*work + time.Millisecond},
		{"reads and watches take no turns", []string{"patch", "get", "watch", "get"}, 0, work, 2, 3, work + 3*time.Millisecond},
		{"long lists do not hold up others", []string{"create", "list", "list"}, 0, time.Minute, 2, 2, 2*longestTurn + time.Minute + time.Millisecond},
		{"nothing waits for ever", slices.Concat([]string{"create"}, slices.Repeat([]string{"list"}, 8)), 0, time.Minute, 2, 8, longestWait + time.Minute + 8*time.Millisecond},
		{"nor does a slow client", []string{"create", "list", "list"}, time.Minute, work, 2, 1, time.Minute + 3*work + 2*blockedWrite + time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at, most atomic.Int32
				handler := newTurns(tt.processors).handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if info, _ := request.RequestInfoFrom(r.Context()); info.Verb == "create" || info.Verb == "update" || info.Verb == "delete" || info.Verb == "patch" {
						return
					}
					if now := at.Add(1); now > most.Load() {
						most.Store(now)
					}
					time.Sleep(tt.work)
					at.Add(-1)
					_, _ = w.Write([]byte("{}"))
				}))
				began, last := time.Now(), time.Duration(0)
				var mu sync.Mutex
				var requests sync.WaitGroup
				for _, verb := range tt.verbs {
					requests.Go(func() {
						serve(t.Context(), handler, &slowWriter{httptest.NewRecorder(), tt.write}, verb)
						mu.Lock()
						defer mu.Unlock()
						last = max(last, time.Since(began))
					})
					time.Sleep(time.Millisecond)
				}
				requests.Wait()
				if most.Load() != tt.most || last != tt.last {
					t.Errorf("%d at the same time, not %d, and the last one ended after %v, not %v", most.Load(), tt.most, last, tt.last)
				}
			})
		})
	}
}

// TestTurnsOfUsers shows that a user who sends many lists holds up others by one of them only.
func TestTurnsOfUsers(t *testing.T) {
	const work = 20 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2)
		turns.lastWrite.Store(time.Now().UnixNano())
		handler := turns.handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(work) }))
		as := func(name string) context.Context {
			return request.WithUser(t.Context(), &user.DefaultInfo{Name: name})
		}
		var many sync.WaitGroup
		for range 50 {
			many.Go(func() { serve(as("many"), handler, httptest.NewRecorder(), "list") })
		}
		time.Sleep(time.Millisecond)
		began := time.Now()
		serve(as("one"), handler, httptest.NewRecorder(), "list")
		// The list that is computed, its rest, the one that waits, its rest, and its own.
		if took := time.Since(began); took > 5*work {
			t.Errorf("a list took %v behind those of another user", took)
		}
		many.Wait()
		if len(turns.users) != 0 {
			t.Errorf("%d users are still remembered", len(turns.users))
		}
		time.Sleep(time.Second)
	})
}

// TestTurnsEnd shows that lists take no turns when writes have ended, and that one whose client is gone waits for none.
func TestTurnsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2)
		turns.lastWrite.Store(time.Now().UnixNano())
		turn := turns.take(t.Context())
		if turn == nil {
			t.Fatal("there is no turn for a list after a write")
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if turns.take(gone) != nil || time.Since(began) > 0 {
			t.Errorf("a list whose client is gone waited for %v", time.Since(began))
		}
		turn.end()
		turn.done()
		time.Sleep(time.Second)
		if len(turns.free) != 1 {
			t.Errorf("%d turns are free, not 1", len(turns.free))
		}
		time.Sleep(writesGoOn)
		if turns.take(t.Context()) != nil {
			t.Error("a list takes a turn though there are no writes")
		}
	})
}

// slowWriter is a response writer whose writes block.
type slowWriter struct {
	*httptest.ResponseRecorder
	blocks time.Duration
}

func (w *slowWriter) Write(data []byte) (int, error) {
	time.Sleep(w.blocks)
	return w.ResponseRecorder.Write(data)
}

func serve(ctx context.Context, handler http.Handler, w http.ResponseWriter, verb string) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	info := &request.RequestInfo{IsResourceRequest: true, Verb: verb}
	handler.ServeHTTP(w, r.WithContext(request.WithRequestInfo(ctx, info)))
}
