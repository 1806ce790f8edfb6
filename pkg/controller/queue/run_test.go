// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestRun processes names of which some fail at first, until the context ends.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New("")
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		busy, most, processed := 0, 0, map[types.NamespacedName]int{}
		const names, workers, failures = 100, 4, 3
		for i := range names {
			q.Add(nameOf("default", i))
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Run(ctx, q, workers, func(_ context.Context, name types.NamespacedName) error {
				mu.Lock()
				busy++
				most = max(most, busy)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				busy--
				if processed[name]++; name.Name < "5" && processed[name] <= failures {
					return errors.New("not yet")
				}
				return nil
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		for i := range names {
			name := nameOf("default", i)
			want := 1
			if name.Name < "5" {
				want += failures
			}
			if processed[name] != want || q.NumRequeues(name) != 0 {
				t.Errorf("%s was processed %d times instead of %d, %d failures are remembered", name, processed[name], want, q.NumRequeues(name))
			}
		}
		if most != workers {
			t.Errorf("up to %d names were processed at a time, not %d", most, workers)
		}
		cancel()
		<-ended
		if !q.ShuttingDown() {
			t.Error("the queue is not shut down")
		}
	})
}

func TestIsRefusal(t *testing.T) {
	for code, want := range map[int]bool{
		http.StatusBadRequest: true, http.StatusForbidden: true, http.StatusMethodNotAllowed: true,
		http.StatusRequestEntityTooLarge: true, http.StatusUnprocessableEntity: true,
		http.StatusUnauthorized: false, http.StatusNotFound: false, http.StatusRequestTimeout: false, http.StatusConflict: false,
		http.StatusTooManyRequests: false, http.StatusInternalServerError: false, http.StatusServiceUnavailable: false,
	} {
		err := fmt.Errorf("binding: %w", &apierrors.StatusError{ErrStatus: metav1.Status{Code: int32(code)}})
		if got := IsRefusal(err); got != want {
			t.Errorf("%s: %v", http.StatusText(code), got)
		}
	}
	if IsRefusal(nil) || IsRefusal(errors.New("connection refused")) {
		t.Error("what the server did not answer is a refusal")
	}
}

// BenchmarkSpan starts and ends a span in a process without a tracer provider.
func BenchmarkSpan(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, span := Span(b.Context(), "Schedule", types.NamespacedName{Namespace: "team", Name: "child"})
		span.End()
	}
}
