// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package product

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Balancer does the work of a Service: it distributes connections among the servers that are ready.
type Balancer struct {
	// Address is the address that it listens on, host:port.
	Address string

	mu    sync.Mutex
	ready map[int]bool
	ports []int
	next  int
}

func newBalancer(t testing.TB) *Balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &Balancer{Address: listener.Addr().String(), ready: map[int]bool{}}
	ended := make(chan struct{})
	t.Cleanup(func() {
		close(ended)
		_ = listener.Close()
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	go func() {
		// A readiness probe like that of a kubelet.
		probe := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
		}}
		for {
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
			}
			b.mu.Lock()
			ports := append([]int(nil), b.ports...)
			b.mu.Unlock()
			for _, port := range ports {
				response, err := probe.Get(fmt.Sprintf("https://127.0.0.1:%d/readyz", port))
				if err == nil {
					_ = response.Body.Close()
				}
				b.mu.Lock()
				b.ready[port] = err == nil && response.StatusCode == http.StatusOK
				b.mu.Unlock()
			}
		}
	}()
	return b
}

// add adds a server on a loopback port.
func (b *Balancer) add(port int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ports = append(b.ports, port)
}

func (b *Balancer) isReady(port int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ready[port]
}

// dial connects to a server that is ready.
func (b *Balancer) dial() (net.Conn, error) {
	b.mu.Lock()
	var ports []int
	for n := range b.ports {
		if port := b.ports[(b.next+n)%len(b.ports)]; b.ready[port] {
			ports = append(ports, port)
		}
	}
	b.next++
	b.mu.Unlock()
	for _, port := range ports {
		if conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second); err == nil {
			return conn, nil
		}
	}
	return nil, fmt.Errorf("no server is ready")
}

func (b *Balancer) serve(client net.Conn) {
	defer client.Close()
	server, err := b.dial()
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pass(server, client)
	go pass(client, server)
	<-done
}
