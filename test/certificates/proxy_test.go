// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificates

import (
	"crypto/tls"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
)

// tlsProxy terminates TLS in front of an etcd. It records its clients, and can be restarted.
type tlsProxy struct {
	endpoint string

	mu          sync.Mutex
	certificate tls.Certificate
	conns       map[net.Conn]bool
	// clients contains the serial numbers of the client certificates since the last restart.
	clients map[string]bool
	// refused is the number of failed handshakes since the last restart.
	refused int
}

// startTLSProxy starts a proxy with a serving certificate. It accepts clients with a certificate of the CA.
func startTLSProxy(t testing.TB, etcdEndpoint string, serving, clientCA *pki.Pair) *tlsProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tlsProxy{endpoint: "https://" + listener.Addr().String(), conns: map[net.Conn]bool{}}
	p.restart(serving)
	config := &tls.Config{
		NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  pool(clientCA),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			certificate := p.certificate
			return &certificate, nil
		},
		SessionTicketsDisabled: true,
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { p.pass(tls.Server(conn, config), strings.TrimPrefix(etcdEndpoint, "unix://")) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.restart(serving)
		passing.Wait()
	})
	return p
}

// restart closes all connections. New connections get another certificate.
func (p *tlsProxy) restart(serving *pki.Pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.certificate, p.clients, p.refused = tlsPair(serving), map[string]bool{}, 0
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// seen returns the serial numbers of the client certificates, and the number of failed handshakes, since the last
// restart.
func (p *tlsProxy) seen() (clients map[string]bool, refused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.clients), p.refused
}

// pass forwards the data of a connection.
func (p *tlsProxy) pass(conn *tls.Conn, socket string) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	err := conn.Handshake()
	_ = conn.SetDeadline(time.Time{})
	p.mu.Lock()
	if err != nil {
		p.refused++
		p.mu.Unlock()
		return
	}
	p.clients[conn.ConnectionState().PeerCertificates[0].SerialNumber.String()] = true
	p.conns[conn] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
	}()

	etcd, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(etcd, conn)
		_ = etcd.Close()
	})
	_, _ = io.Copy(conn, etcd)
	_ = conn.Close()
	copying.Wait()
}
