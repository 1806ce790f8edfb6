// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/base64"
	"io/fs"
	"net"
	"net/http"
	"path"
	"strings"
	"time"
)

// The page, as the browser runs it.
//
//go:embed web/*.html web/*.css web/*.js web/*.svg
var web embed.FS

// contentTypes are those of the files in web. The table of the operating system may have other ones.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// securityPolicy lets the page load only what this server serves, and lets no string become a script or markup.
const securityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// newToken returns a random token of 256 bits.
func newToken() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// guard passes on the requests that may reach the API and the page:
//   - the first part of the path is the token, which other users and pages do not know,
//   - the Host is the address of the server, so that no other name can be made to mean it (DNS rebinding),
//   - no other page sent it, as far as the browser tells,
//   - it reads.
//
// The token is part of the path, not a cookie, since cookies are shared by all ports of a host.
type guard struct {
	token string
	hosts map[string]bool
	next  http.Handler
}

// newGuard returns a guard of a server that listens on an address of the loopback interface.
func newGuard(token string, address net.Addr, next http.Handler) *guard {
	_, port, _ := net.SplitHostPort(address.String())
	return &guard{token: token, next: next,
		hosts: map[string]bool{net.JoinHostPort("127.0.0.1", port): true, net.JoinHostPort("localhost", port): true}}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", securityPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	if !g.hosts[r.Host] {
		http.Error(w, "This server answers only to the address that kubectl ipam ui printed.", http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "This server is read-only.", http.StatusMethodNotAllowed)
		return
	}
	token, rest, slash := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if subtle.ConstantTimeCompare([]byte(token), []byte(g.token)) != 1 {
		http.Error(w, "Open the URL that kubectl ipam ui printed. It has a token in it.", http.StatusForbidden)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		http.Error(w, "Another page may not read this.", http.StatusForbidden)
		return
	}
	// A browser may go to the page from anywhere, but only the page may load the rest.
	if site := r.Header.Get("Sec-Fetch-Site"); rest != "" && site != "" && site != "same-origin" && site != "none" {
		http.Error(w, "Another page may not read this.", http.StatusForbidden)
		return
	}
	if !slash {
		http.Redirect(w, r, "/"+g.token+"/", http.StatusFound)
		return
	}
	http.StripPrefix("/"+g.token, g.next).ServeHTTP(w, r)
}

// serveFile serves a file of the page.
func serveFile(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	content, err := fs.ReadFile(web, path.Join("web", path.Base(name)))
	if err != nil || strings.Contains(name, "/") {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
	_, _ = w.Write(content)
}

// newServer returns a server of a handler.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 1 << 20}
}
