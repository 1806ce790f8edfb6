// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The queries of what is answered at once, and of what is a stream.
const (
	plain = "c=d"
	watch = "watch=true"
)

func ask(t *testing.T, ctx context.Context, method, query string, handler http.HandlerFunc, body io.Reader) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, "https://127.0.0.1:7443/a/b?"+query, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer token")
	return Transport{handler}.RoundTrip(request)
}

// TestTransport has everything arrive, in both directions.
func TestTransport(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, query := range []string{plain, watch} {
			t.Run(method+" "+query, func(t *testing.T) { everythingArrives(t, method, query) })
		}
	}
}

func everythingArrives(t *testing.T, method, query string) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	response, err := ask(t, t.Context(), method, query, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		w.Header().Set("X-Sent", "yes")
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "yes")
		fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", r.Host, " ", r.Header.Get("Authorization"), " ", r.ProtoMajor, " ", string(data), err)
	}, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(response.Body)
	if want := method + " /a/b?" + query + " 127.0.0.1:7443 Bearer token 2 body<nil>"; string(data) != want || err != nil {
		t.Errorf("got %q, %v, want %q", data, err, want)
	}
	if response.StatusCode != http.StatusTeapot || response.Header.Get("X-Sent") != "yes" || response.Header.Get("X-Late") != "" {
		t.Errorf("got %v", response)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
}

// TestTransportOfNothing has a handler answer nothing at all.
func TestTransportOfNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	response, err := ask(t, t.Context(), http.MethodPost, plain, func(http.ResponseWriter, *http.Request) {}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if data, err := io.ReadAll(response.Body); len(data) > 0 || err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("got %d, %q, %v", response.StatusCode, data, err)
	}
}

// TestTransportStreams has a handler answer bit by bit, until the client has enough: each bit is there at
// once, and the handler learns of the end.
func TestTransportStreams(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	next, ended := make(chan string), make(chan error, 1)
	response, err := ask(t, t.Context(), http.MethodGet, watch, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for {
			select {
			case part := <-next:
				fmt.Fprint(w, part)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				// It is of no use, and does no harm.
				_, err := fmt.Fprint(w, "too late")
				ended <- err
				return
			}
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"one", "two", "three"} {
		next <- part
		data := make([]byte, len(part))
		if _, err := io.ReadFull(response.Body, data); err != nil || string(data) != part {
			t.Errorf("got %q, %v, want %q", data, err, part)
		}
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the handler does not learn of the end")
	}
}

// TestTransportCutOff has handlers that are cut off: before they have answered, and in the midst of it.
func TestTransportCutOff(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, query := range []string{plain, watch} {
		if _, err := ask(t, t.Context(), http.MethodGet, query, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
		response, err := ask(t, t.Context(), http.MethodGet, query, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "half of")
			panic(http.ErrAbortHandler)
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(response.Body); string(data) != "half of" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %q, %v", data, err)
		}
		_ = response.Body.Close()
	}
}

// TestTransportCanceled has the client give up, before and after the handler has begun to answer.
func TestTransportCanceled(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, begin := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		response, err := ask(t, ctx, http.MethodGet, watch, func(w http.ResponseWriter, r *http.Request) {
			if begin {
				w.WriteHeader(http.StatusOK)
			} else {
				cancel()
			}
			<-r.Context().Done()
		}, nil)
		if !begin {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.ReadAll(response.Body); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		_ = response.Body.Close()
	}
	for _, code := range []int{0, http.StatusOK, http.StatusInternalServerError} {
		ctx, cancel := context.WithCancel(t.Context())
		response, err := ask(t, ctx, http.MethodGet, plain, func(w http.ResponseWriter, _ *http.Request) {
			if code != 0 {
				w.WriteHeader(code)
				fmt.Fprint(w, "answer")
			}
			cancel()
		}, nil)
		if code != http.StatusOK {
			// That it failed may be because the client gave up, which is what the client is told.
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%d: got %v", code, err)
			}
			continue
		}
		// What is done has been done: the client is told.
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(response.Body); string(data) != "answer" || err != nil {
			t.Errorf("got %q, %v", data, err)
		}
	}
}
