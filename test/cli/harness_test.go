// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package cli tests the commands of kubectl-ipam on a server with its controllers.
package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
)

// live is the server, with all controllers.
var live *harness.Server

func TestMain(m *testing.M) {
	harness.RunInParallel(8)
	harness.Main(m, func(dir string) (func(), error) {
		var err error
		live, err = harness.StartServer(dir, harness.Controllers("*"))
		return func() { live.Close() }, err
	})
}

// user is somebody who runs the plugin in a namespace.
type user struct {
	*harness.Namespace
	// stdin is what the user types.
	stdin string
	// terminal is set if the streams are terminals.
	terminal bool
	// colors is set if the terminal has colors.
	colors bool
	// forbids reports whether the user may not make a request.
	forbids func(*http.Request) bool
	// breaks returns the code and the message of the error with which the server answers each request.
	breaks func(*http.Request) (code int, message string)
	// warning is what the server warns of with each answer.
	warning string
	// evil is what the user sees in place of the text marker, wherever the server has that. A real server refuses most of it.
	evil string
	// namespaces are those that the cluster has. The server alone has no API for them.
	namespaces []string
	// server is the server of the user.
	server *harness.Server
}

// newUser returns an administrator in a namespace of his own.
func newUser(t *testing.T) *user {
	return &user{Namespace: harness.In(t, live.Client, harness.NewNamespace()), server: live}
}

// outcome is what a run of the plugin leaves behind.
type outcome struct {
	out, err string
	code     cli.ExitCode
}

// later is added to the time of the plugin, so that ages are the same in each run.
const later = 10*24*time.Hour + 12*time.Hour

// run runs the plugin.
func (u *user) run(args ...string) outcome {
	u.Helper()
	var out, errOut bytes.Buffer
	code := u.options(&out, &errOut).Run(u.Context(), u.args(args...))
	return outcome{out.String(), errOut.String(), code}
}

// args returns the command line with the flags for the server of the user.
func (u *user) args(args ...string) []string {
	return append([]string{"--kubeconfig", u.server.Kubeconfig, "--cache-dir", u.TempDir(), "-n", u.NS}, args...)
}

// options returns the options for a run of the plugin.
func (u *user) options(out, errOut io.Writer) cli.Options {
	return cli.Options{
		IOStreams:   genericiooptions.IOStreams{In: strings.NewReader(u.stdin), Out: out, ErrOut: errOut},
		Now:         func() time.Time { return time.Now().Add(later) },
		IsTerminal:  func(any) bool { return u.terminal },
		AllowsColor: func(io.Writer) bool { return u.colors },
		WrapConfig: func(config *rest.Config) *rest.Config {
			if u.forbids != nil || u.breaks != nil || u.warning != "" || u.evil != "" {
				config = rest.CopyConfig(config)
				config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &gate{u, next} })
			}
			return config
		},
	}
}

// must runs the plugin, which has to succeed, and returns what it prints.
func (u *user) must(args ...string) string {
	u.Helper()
	got := u.run(args...)
	if got.code != cli.ExitDone {
		u.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), got.code, got.err)
	}
	return got.out
}

// fails runs the plugin, which has to end with an exit code and say something.
func (u *user) fails(code cli.ExitCode, says string, args ...string) outcome {
	u.Helper()
	got := u.run(args...)
	if got.code != code || !strings.Contains(got.err, says) {
		u.Errorf("%s: exit code %d and %q, not %d and %q", strings.Join(args, " "), got.code, got.err, code, says)
	}
	return got
}

// gate answers requests in the place of kube-apiserver: those that are forbidden, and those for namespaces.
type gate struct {
	*user
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(code int, obj any) (*http.Response, error) {
		body, err := json.Marshal(obj)
		return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, err
	}
	switch {
	case g.namespaces != nil && r.URL.Path == "/api/v1/namespaces":
		list := corev1.NamespaceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NamespaceList"}}
		for _, name := range g.namespaces {
			list.Items = append(list.Items, corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		return answer(http.StatusOK, list)
	case g.forbids != nil && g.forbids(r):
		return answer(http.StatusForbidden, metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden,
			Code: http.StatusForbidden, Message: r.URL.Path + " is forbidden: User \"somebody\" cannot do that",
		})
	}
	if g.breaks != nil {
		code, message := g.breaks(r)
		reasons := map[int]metav1.StatusReason{http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusUnauthorized: metav1.StatusReasonUnauthorized,
			http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusConflict: metav1.StatusReasonConflict, http.StatusUnprocessableEntity: metav1.StatusReasonInvalid,
			http.StatusInternalServerError: metav1.StatusReasonInternalError, http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable}
		return answer(code, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: reasons[code], Code: int32(code), Message: message})
	}
	if g.evil != "" {
		return g.disguised(r)
	}
	response, err := g.next.RoundTrip(r)
	if err == nil && g.warning != "" {
		response.Header.Set("Warning", `299 - "`+g.warning+`"`)
	}
	return response, err
}

// marker is the text of the server in whose place the user sees user.evil.
const marker = "marker"

// disguised sends a request with the marker in the place of what is evil, and returns the answer the other way round. Events
// are answered in the place of kube-apiserver.
func (g *gate) disguised(r *http.Request) (*http.Response, error) {
	quoted, err := json.Marshal(g.evil)
	if err != nil {
		return nil, err
	}
	quoted = bytes.Trim(quoted, `"`)
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	r.URL.Path, r.URL.RawPath = strings.ReplaceAll(r.URL.Path, g.evil, marker), ""
	r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, url.QueryEscape(g.evil), marker)
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.ReplaceAll(body, quoted, []byte(marker))
		r.Body, r.ContentLength, r.GetBody = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	var response *http.Response
	if strings.HasSuffix(r.URL.Path, "/events") && strings.HasPrefix(r.URL.Path, "/api/v1/") {
		body := `{"kind":"EventList","apiVersion":"v1","items":[{"type":"marker","reason":"marker","message":"marker"}]}`
		response = &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
	} else if response, err = g.next.RoundTrip(r); err != nil {
		return nil, err
	}
	response.ContentLength = -1
	response.Header.Del("Content-Length")
	original := response.Body
	in, out := io.Pipe()
	response.Body = in
	go func() {
		defer original.Close()
		// The documents of a watch are lines.
		for lines := bufio.NewReader(original); ; {
			line, err := lines.ReadBytes('\n')
			_, failed := out.Write(bytes.ReplaceAll(line, []byte(marker), quoted))
			if err = cmp.Or(failed, err); err != nil {
				_ = out.CloseWithError(err)
				return
			}
		}
	}()
	return response, nil
}

// unstable are the parts of the output that differ from run to run, and what stands for them.
var unstable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`(resourceVersion"?: )"\d+"`), `$1"<version>"`},
	{regexp.MustCompile(`\bnamespace-\d+\b`), "<namespace>"},
}

func normal(s string) string {
	for _, u := range unstable {
		s = u.pattern.ReplaceAllString(s, u.by)
	}
	return s
}
