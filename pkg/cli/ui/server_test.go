// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newTestGuard returns a guard of a server on port 8001, with the token "secret", in front of the API and the page.
func newTestGuard(t *testing.T) http.Handler {
	t.Helper()
	a := &api{model: newModel()}
	return newGuard("secret", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8001}, a.handler())
}

func TestGuard(t *testing.T) {
	g := newTestGuard(t)
	for _, tc := range []struct {
		name, method, host, path string
		header                   map[string]string
		want                     int
	}{
		{name: "the page", path: "/secret/", want: 200},
		{name: "a file", path: "/secret/main.js", want: 200},
		{name: "the API", path: "/secret/api/tree", want: 200},
		{name: "localhost, as through a forwarded port", host: "localhost:8001", path: "/secret/api/tree", want: 200},
		{name: "the page itself asks", path: "/secret/api/tree", header: map[string]string{"Origin": "http://127.0.0.1:8001", "Sec-Fetch-Site": "same-origin"}, want: 200},
		{name: "the browser goes to the page from a link or a file", path: "/secret/", header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, want: 200},
		{name: "without the last slash", path: "/secret", want: 302},

		{name: "another user without the token", path: "/", want: 403},
		{name: "another user asks for a file", path: "/main.js", want: 403},
		{name: "another user asks the API", path: "/api/tree", want: 403},
		{name: "a wrong token", path: "/secreT/api/tree", want: 403},
		{name: "a part of the token", path: "/secre/api/tree", want: 403},
		{name: "an empty token", path: "//api/tree", want: 403},

		{name: "another name (DNS rebinding)", host: "attacker.example:8001", path: "/secret/api/tree", want: 421},
		{name: "another name without a port", host: "attacker.example", path: "/secret/", want: 421},
		{name: "another port", host: "127.0.0.1:8002", path: "/secret/api/tree", want: 421},
		{name: "another address", host: "[::1]:8001", path: "/secret/api/tree", want: 421},
		{name: "a name that begins alike", host: "127.0.0.1:8001.attacker.example", path: "/secret/api/tree", want: 421},

		{name: "another page asks", path: "/secret/api/tree", header: map[string]string{"Origin": "http://attacker.example"}, want: 403},
		{name: "a page on another port asks", path: "/secret/api/tree", header: map[string]string{"Origin": "http://127.0.0.1:9000"}, want: 403},
		{name: "a page without an origin asks", path: "/secret/api/tree", header: map[string]string{"Origin": "null"}, want: 403},
		{name: "another page loads a script", path: "/secret/main.js", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: 403},
		{name: "a page on another port loads the API", path: "/secret/api/tree", header: map[string]string{"Sec-Fetch-Site": "same-site"}, want: 403},

		{name: "a write", method: http.MethodPost, path: "/secret/api/tree", want: 405},
		{name: "a preflight request", method: http.MethodOptions, path: "/secret/api/tree", header: map[string]string{"Origin": "http://attacker.example", "Access-Control-Request-Method": "GET"}, want: 405},
		{name: "a file that is none", path: "/secret/nothing.js", want: 404},
		{name: "a file above the page", path: "/secret/..%2fserver.go", want: 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.method == "" {
				tc.method = http.MethodGet
			}
			if tc.host == "" {
				tc.host = "127.0.0.1:8001"
			}
			r := httptest.NewRequest(tc.method, "http://127.0.0.1:8001"+tc.path, nil)
			r.Host = tc.host
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			g.ServeHTTP(w, r)
			if w.Code != tc.want {
				t.Errorf("%d, want %d: %s", w.Code, tc.want, w.Body)
			}
			if w.Code >= 400 && w.Code != 404 && strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the answer has the token in it: %s", w.Body)
			}
			for k := range w.Header() {
				if strings.HasPrefix(k, "Access-Control-") {
					t.Errorf("the answer lets other pages read it: %s", k)
				}
			}
			for k, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
				"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
				"Cache-Control": "no-store",
			} {
				if !strings.Contains(w.Header().Get(k), want) {
					t.Errorf("%s is %q, without %q", k, w.Header().Get(k), want)
				}
			}
			if policy := w.Header().Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") {
				t.Errorf("the policy is %q", policy)
			}
		})
	}
}

// TestTokens expects that nobody can guess a token.
func TestTokens(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		token := newToken()
		if len(token) != 43 || seen[token] {
			t.Fatalf("the token %q has less than 256 bits, or is not new", token)
		}
		seen[token] = true
	}
}

// TestBrowserArguments expects that no other user of the machine sees the token in the arguments of the browser, nor in
// the file that leads it to the page.
func TestBrowserArguments(t *testing.T) {
	const page = `http://127.0.0.1:8001/secret/#/default/a%22b`
	var opened string
	o := &options{openBrowser: func(file string) error {
		opened = file
		return nil
	}}
	remove, err := o.show(page)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(opened, "secret") {
		t.Errorf("the browser is started with the argument %q", opened)
	}
	for path, want := range map[string]os.FileMode{opened: 0o600, filepath.Dir(opened): os.ModeDir | 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has the mode %v, want %v", path, info.Mode(), want)
		}
	}
	content, err := os.ReadFile(opened)
	if err != nil || !strings.Contains(string(content), `content="0; url=`+page+`"`) {
		t.Errorf("the file does not lead to the page: %s, %v", content, err)
	}
	if remove(); !missing(opened) {
		t.Error("the file is still there")
	}
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return os.IsNotExist(err)
}

func TestFragment(t *testing.T) {
	for _, tc := range []struct{ place, want, err string }{
		{"", "", ""},
		{"#/default/root/10.0.0.0/16", "#/default/root/10.0.0.0/16", ""},
		{"http://127.0.0.1:1234/token/#/default/root", "#/default/root", ""},
		{"#/default/root?q=a%20b", "#/default/root?q=a%20b", ""},
		{"#/?namespace=edge", "#/?namespace=edge", ""},
		{"root", "", `"root" names no place`},
		{"#javascript:alert(1)", "", "names no place"},
		{"x\x1b[31m", "", `"x\x1b[31m" names`},
	} {
		got, err := fragmentOf(tc.place)
		if tc.err == "" && (err != nil || got != tc.want) || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: %q, %v; want %q, %q", tc.place, got, err, tc.want, tc.err)
		}
	}
}

// TestLimits shows that connections that do nothing are closed.
func TestLimits(t *testing.T) {
	if s := newServer(nil); s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("%+v", s)
	}
}

// FuzzFragment shows that the place on the command line is refused, or is one that the page can be opened at, and that means
// itself.
func FuzzFragment(f *testing.F) {
	for _, seed := range []string{"", "#/default/root/10.0.0.0/16", "http://127.0.0.1:1/token/#/a/b", "#/?q=a%20b", "#javascript:alert(1)", "#//evil.example/", "#/%zz", "#/%2523", "#/\"><script>", "#/\x1b\n", "x#y#/z", "#/ü/\u202e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, place string) {
		fragment, err := fragmentOf(place)
		if place == "" || err != nil {
			if fragment != "" || (err == nil) != (place == "") {
				t.Fatalf("%q: %q, %v", place, fragment, err)
			}
			return
		}
		page, err := url.Parse("http://127.0.0.1:1/token/" + fragment)
		if err != nil || page.Host != "127.0.0.1:1" || page.Path != "/token/" || !strings.HasPrefix(page.Fragment, "/") || strings.ContainsFunc(fragment, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>`, r) }) {
			t.Fatalf("%q is %q, which is %+v, %v", place, fragment, page, err)
		}
	})
}

// FuzzFilter shows that what a user types into the fields of the page is refused in words that can be shown, or selects nodes.
func FuzzFilter(f *testing.F) {
	for _, seed := range [][4]string{{"", "", "", ""}, {"10.0.0.1", "default", "used", "a=b"}, {"10.0.0.0/33", "", "waiting", "a in (b"}, {"::ffff:10.0.0.1", "x", "full", "!a"}, {"ROOT", "", "deleting", "a notin (b,c)"},
		{"fe80::1%eth0", "", "", "==\x1b"}, {"\u202e", "\x00", "", ""}} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	m := newModel()
	m.putPrefix(newPrefix("default", "root", "10.0.0.0/8", ""))
	m.putPrefix(newPrefix("default", "waits", "/9", "root"))
	f.Fuzz(func(t *testing.T, text, namespace, state, selector string) {
		q := url.Values{"q": {text}, "namespace": {namespace}, "state": {state}, "labels": {selector}, "count": {"9"}, "bits": {"3"}}.Encode()
		_, err := newFilter(text, namespace, state, selector)
		for _, path := range []string{"tree", "map", "waiting"} {
			w := httptest.NewRecorder()
			(&api{model: m}).handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/"+path+"?"+q, nil))
			if !json.Valid(w.Body.Bytes()) || (w.Code == http.StatusOK) != (err == nil) || strings.ContainsAny(w.Body.String(), "\x1b\u202e\u009b") {
				t.Fatalf("%s: %d %s, %v", path, w.Code, w.Body, err)
			}
		}
	})
}
