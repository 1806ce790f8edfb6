// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bufio"
	"crypto/tls"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// TestStalledWatches has clients with HTTP/1.1 and HTTP/2 that stop reading a watch, while there are more events
// than the buffers of the connection hold. The server closes these watches. A client that is only slow gets every
// event.
func TestStalledWatches(t *testing.T) {
	t.Parallel()
	const (
		timeout = 2 * time.Second
		objects = 600
		stalled = 5
	)
	s := start(t, harness.Customize(func(o *apiserver.Options) { o.WatchWriteTimeout = timeout }))
	namespace := harness.NewNamespace()
	for name, client := range map[string]*http.Client{"HTTP/1.1": clientOf(t, s, false), "HTTP/2": clientOf(t, s, true)} {
		t.Run(name, func(t *testing.T) {
			namespace := namespace + strings.ToLower(name[5:6])
			list, err := s.Client.Prefixes(namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			query := "?watch=true&resourceVersion=" + list.ResourceVersion
			begin := func() *http.Response {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+harness.Path(namespace, harness.PrefixKind)+query, nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = response.Body.Close() })
				if response.StatusCode != http.StatusOK || response.Proto[:6] != name[:6] {
					t.Fatalf("got %d by %s", response.StatusCode, response.Proto)
				}
				return response
			}
			var unread []*http.Response
			for range stalled {
				unread = append(unread, begin())
			}
			slow := begin()
			var group sync.WaitGroup
			group.Go(func() {
				reader := bufio.NewReader(slow.Body)
				for seen := range objects {
					time.Sleep(5 * time.Millisecond)
					if err := readEvent(reader); err != nil {
						t.Errorf("the slow client saw %d events: %v", seen, err)
						return
					}
				}
			})
			large := strings.Repeat("x", 32<<10)
			numbers := make(chan int)
			for range 4 {
				group.Go(func() {
					for n := range numbers {
						s.Create(t, namespace, harness.PrefixKind, fmt.Sprintf(
							"{metadata: {name: p-%d, annotations: {large: %s}}, spec: {ipFamily: IPv4, prefixLength: 24, parentRef: {name: nobody}}}", n, large))
					}
				})
			}
			for n := range objects {
				numbers <- n
			}
			close(numbers)
			group.Wait()

			time.Sleep(2 * timeout)
			// The rest is the data that was in the buffers when the watch was closed.
			for _, response := range unread {
				events := 0
				ended := make(chan error, 1)
				go func() {
					reader := bufio.NewReader(response.Body)
					for {
						if err := readEvent(reader); err != nil {
							ended <- err
							return
						}
						events++
					}
				}()
				select {
				case err := <-ended:
					if events >= objects {
						t.Errorf("all %d events came: %v", events, err)
					}
				case <-time.After(30 * time.Second):
					t.Fatalf("a watch goes on after %d events", events)
				}
			}
		})
	}
}

// TestStalledWebSocket has a client that stops reading a watch over a WebSocket. The server closes that one, too.
func TestStalledWebSocket(t *testing.T) {
	t.Parallel()
	const (
		timeout = 2 * time.Second
		objects = 100
	)
	s := start(t, harness.Customize(func(o *apiserver.Options) { o.WatchWriteTimeout = timeout }))
	namespace := harness.NewNamespace()
	list, err := s.Client.Prefixes(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig, err := rest.TLSConfigFor(s.AdminConfig)
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig.NextProtos = []string{"http/1.1"}
	host := strings.TrimPrefix(s.URL, "https://")
	connection, err := tls.Dial("tcp", host, tlsConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+harness.Path(namespace, harness.PrefixKind)+"?watch=true&resourceVersion="+list.ResourceVersion, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Origin": s.URL,
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		request.Header.Set(name, value)
	}
	if err := request.Write(connection); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %s", response.Status)
	}

	large := strings.Repeat("x", 200<<10)
	for n := range objects {
		s.Create(t, namespace, harness.PrefixKind, fmt.Sprintf(
			"{metadata: {name: p-%d, annotations: {large: %s}}, spec: {ipFamily: IPv4, prefixLength: 24, parentRef: {name: nobody}}}", n, large))
		if n == 0 {
			// Events arrive.
			if _, err := reader.Discard(len(large)); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(2 * timeout)
	if err := connection.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	switch n, err := io.Copy(io.Discard, reader); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Errorf("the watch goes on after %d bytes", n)
	case n >= (objects-1)*int64(len(large)):
		t.Errorf("everything came: %d bytes", n)
	}
}

// clientOf returns a client with HTTP/1.1 or, if second is set, HTTP/2.
func clientOf(t *testing.T, s server, second bool) *http.Client {
	t.Helper()
	tlsConfig, err := rest.TLSConfigFor(s.AdminConfig)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig:   tlsConfig,
		ForceAttemptHTTP2: second,
	}
	if !second {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// readEvent reads one event of a watch, which ends with a newline.
func readEvent(r *bufio.Reader) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	var event metav1.WatchEvent
	if err := stdjson.Unmarshal(line, &event); err != nil {
		return err
	}
	if event.Type != "ADDED" {
		return fmt.Errorf("got an event of type %s", event.Type)
	}
	return nil
}
