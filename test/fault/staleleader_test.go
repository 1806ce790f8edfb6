// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamscheme "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// TestStaleLeaderIsRefused suspends the leading controller manager until its lease has expired. Another one takes
// over and fills the parent. When the first one resumes, all its writes are refused: those that it sent before and
// that arrive late, and new ones.
func TestStaleLeaderIsRefused(t *testing.T) {
	for round := range times(1, 10) {
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) { testStaleLeader(t, newRand(uint64(round))) })
	}
}

// workers is the maximum number of concurrent binds of a manager.
const workers = 32

func testStaleLeader(t *testing.T, random *rand.Rand) {
	t.Parallel()
	// room is the number of /28 in the parent. More children than that request one. The parent does not match older at
	// first.
	const room, n, older = 128, 256, 112
	c := newCluster(t, 1, false)
	s := c.servers[0]
	o := s.observe(time.Now())
	leases := &leaseHandler{leases: map[string]*coordinationv1.Lease{}}
	fronts := []*front{s.newFront(leases), s.newFront(leases)}

	first := fronts[0].startManager()
	s.create(harness.Root("parent", "10.0.0.0/21"))
	s.settled()

	// The binds of the first manager are in flight when it is suspended. The second manager begins with the older
	// children, which match the parent only then, and has nothing left for most of those that the first one binds.
	for i := range older {
		s.create(harness.NewPrefix(fmt.Sprintf("a-%d", i), harness.Selecting("open", "yes"), harness.Length(28)))
	}
	harness.Eventually(c, "allocations of the older children", func() error {
		all, err := s.list()
		if err == nil && len(all.allocations) < older {
			err = fmt.Errorf("only %d", len(all.allocations))
		}
		return err
	})
	fronts[0].hold()
	for range n - older {
		s.create(harness.Child(fmt.Sprintf("child-%016x", random.Uint64()), "parent", harness.Length(28)))
	}
	harness.Eventually(c, "binds under way", func() error {
		if held := fronts[0].held(); held < workers {
			return fmt.Errorf("only %d", held)
		}
		return nil
	})
	first.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	if _, err := s.prefixes().Patch(c.Context(), "parent", types.MergePatchType, []byte(`{"metadata":{"labels":{"open":"yes"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}

	second := fronts[1].startManager()
	var all everything
	harness.Eventually(c, "the parent is full", func() (err error) {
		if all, err = s.list(); err != nil {
			return err
		}
		if allocated := all.allocated(); allocated < 1+room {
			return fmt.Errorf("%d are Allocated", allocated)
		}
		return nil
	})
	t.Logf("The second manager has filled the parent %v after the first was stopped", time.Since(stopped).Round(time.Millisecond))
	if first.HasEnded() {
		t.Fatal("The first manager has ended")
	}
	prefixOf := map[string]string{}
	for _, a := range all.allocations {
		prefixOf[a.Name] = a.Status.Prefix
	}

	// Some arrive before it resumes, and some after.
	late := fronts[0].release(workers / 2)
	first.Signal(syscall.SIGCONT)
	late = append(late, fronts[0].release(workers)...)
	select {
	case <-first.Ended:
	case <-time.After(harness.Patience):
		t.Fatal("The first manager still works")
	}
	if !strings.Contains(first.LastOfLog(10_000), "leadership lost") || first.Cmd.ProcessState.Success() {
		t.Errorf("The first manager ended with %v, and not because another one leads", first.Cmd.ProcessState)
	}
	if second.HasEnded() {
		t.Error("The second manager has ended, too")
	}

	harness.Eventually(c, "all binds answered", fronts[0].answered)
	refused, inUse := 0, 0
	for _, b := range append(late, fronts[0].later()...) {
		switch {
		case b.code == http.StatusConflict:
			refused++
			if prefixOf[b.allocation] == "" {
				// The bind was refused only because of another holder.
				inUse++
			}
		case b.code != http.StatusCreated || prefixOf[b.allocation] != b.prefix:
			t.Errorf("The bind of %s, which has %s, to %s is answered with %d", b.allocation, prefixOf[b.allocation], b.prefix, b.code)
		}
	}
	t.Logf("%d binds of the first manager were late and %d it sent when it woke up; %d were refused, %d of them because the prefix is in use", len(late), len(fronts[0].later()), refused, inUse)
	if refused < workers/2 || inUse == 0 {
		t.Errorf("Only %d binds were refused, %d because the prefix is in use", refused, inUse)
	}
	after, err := s.list()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range after.allocations {
		if prefixOf[a.Name] != a.Status.Prefix {
			t.Errorf("%s had %s, and now has %s", a.Name, prefixOf[a.Name], a.Status.Prefix)
		}
	}
	if err := after.check(); err != nil {
		t.Error(err)
	}
	if len(after.prefixes) != 1+n || len(after.allocations) != n || after.allocated() != 1+room {
		t.Errorf("There are %d prefixes and %d allocations, %d are Allocated", len(after.prefixes), len(after.allocations), after.allocated())
	}
	c.audited()
	observed(t, o)
}

// allocated returns the number of Prefixes that are Allocated.
func (e everything) allocated() int {
	n := 0
	for _, p := range e.prefixes {
		if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			n++
		}
	}
	return n
}

// front is a proxy between a manager and the API server. It also has an API for Leases, and can delay binds of
// allocations.
type front struct {
	server     *server
	kubeconfig string
	toServer   http.Handler
	leases     http.Handler

	mu      sync.Mutex
	holding bool
	waiting []chan struct{}
	// sent is the number of binds since then.
	sent int
	// done contains the binds that were forwarded after some were delayed.
	done []passedBind
	// taken is the number of those that release has returned.
	taken int
}

// passedBind is a bind and the response of the server.
type passedBind struct {
	allocation, prefix string
	code               int
}

// newFront starts a front of the server.
func (s *server) newFront(leases http.Handler) *front {
	t := s.cluster
	t.Helper()
	transport, err := rest.TransportFor(rest.CopyConfig(s.config))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(s.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{server: s, leases: leases, toServer: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}}
	certificate, err := tls.X509KeyPair(t.pki.ServingCertPEM, t.pki.ServingKeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(f)
	web.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(func() {
		f.release(-1)
		web.CloseClientConnections()
		web.Close()
	})
	f.kubeconfig = t.writeKubeconfig(web.URL)
	return f
}

// startManager starts a controller manager that uses the front. It must be the leader to work.
func (f *front) startManager() *process.Process {
	return process.Start(f.server.cluster, f.server.cluster.dir, filepath.Join(programs, "ipam-controller-manager"),
		"--kubeconfig", f.kubeconfig, "--bind-address", "0", "--workers", strconv.Itoa(workers),
		"--leader-elect-lease-duration", "3s", "--leader-elect-renew-deadline", "2s", "--leader-elect-retry-period", "250ms")
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case strings.HasPrefix(r.URL.Path, "/apis/coordination.k8s.io/"):
		f.leases.ServeHTTP(w, r)
	case r.Method == http.MethodPost && len(path) == 8 && path[5] == "prefixallocations" && path[7] == "binding":
		f.serveBind(w, r, path[6])
	default:
		f.toServer.ServeHTTP(w, r)
	}
}

func (f *front) serveBind(w http.ResponseWriter, r *http.Request, allocation string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	binding := &v1alpha1.PrefixAllocationBinding{}
	if _, _, err := ipamscheme.Codecs.UniversalDeserializer().Decode(body, nil, binding); err != nil {
		f.server.cluster.Error(err)
	}
	f.mu.Lock()
	counts := f.holding
	f.sent++
	if counts && f.waiting != nil {
		wait := make(chan struct{})
		f.waiting = append(f.waiting, wait)
		f.mu.Unlock()
		<-wait
	} else {
		f.mu.Unlock()
	}
	// A request in flight arrives even if the client is gone.
	r = r.WithContext(context.WithoutCancel(r.Context()))
	r.Body = io.NopCloser(bytes.NewReader(body))
	recorder := &codeRecorder{ResponseWriter: w, code: http.StatusOK}
	f.toServer.ServeHTTP(recorder, r)
	if counts {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.done = append(f.done, passedBind{allocation, binding.Prefix, recorder.code})
	}
}

type codeRecorder struct {
	http.ResponseWriter
	code int
}

func (r *codeRecorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

// hold delays all binds from now on.
func (f *front) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holding, f.waiting, f.sent = true, []chan struct{}{}, 0
}

// held returns the number of delayed binds.
func (f *front) held() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting)
}

// release forwards n delayed binds, and returns them with their responses. If no more are delayed, hold ends.
func (f *front) release(n int) []passedBind {
	f.mu.Lock()
	all := n < 0 || n >= len(f.waiting)
	if all {
		n = len(f.waiting)
	}
	for _, wait := range f.waiting[:n] {
		close(wait)
	}
	f.waiting = f.waiting[n:]
	if all {
		f.waiting = nil
	}
	until := f.taken + n
	f.mu.Unlock()
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		if len(f.done) >= until {
			defer f.mu.Unlock()
			released := slices.Clone(f.done[f.taken:until])
			f.taken = until
			return released
		}
		f.mu.Unlock()
	}
	return nil
}

// answered returns an error while binds since hold have no response.
func (f *front) answered() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.done) < f.sent {
		return fmt.Errorf("%d of %d", len(f.done), f.sent)
	}
	return nil
}

// later returns the binds since hold that were not delayed or not released.
func (f *front) later() []passedBind {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.done[f.taken:])
}

// leaseHandler serves Leases, as far as leader election needs them.
type leaseHandler struct {
	mu       sync.Mutex
	leases   map[string]*coordinationv1.Lease
	versions int
}

// ServeHTTP implements http.Handler.
func (h *leaseHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The client may have been suspended in the middle of the body.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	lease, err := h.serve(r, body)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			status = apierrors.NewInternalError(err)
		}
		answer := status.Status()
		answer.Kind, answer.APIVersion = "Status", "v1"
		w.WriteHeader(int(answer.Code))
		_ = json.NewEncoder(w).Encode(answer)
		return
	}
	_ = json.NewEncoder(w).Encode(lease)
}

// serve handles a request. As in an API server, an update of an old version is a conflict.
func (h *leaseHandler) serve(r *http.Request, body []byte) (*coordinationv1.Lease, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	resource := coordinationv1.Resource("leases")
	name := strings.TrimPrefix(r.URL.Path, "/apis/coordination.k8s.io/v1/")
	sent := &coordinationv1.Lease{}
	if r.Method != http.MethodGet {
		if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, sent); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if r.Method == http.MethodPost {
		name += "/" + sent.Name
	}
	there := h.leases[name]
	switch {
	case r.Method == http.MethodPost && there != nil:
		return nil, apierrors.NewAlreadyExists(resource, sent.Name)
	case r.Method != http.MethodPost && there == nil:
		return nil, apierrors.NewNotFound(resource, name)
	case r.Method == http.MethodGet:
		return there, nil
	case r.Method == http.MethodPut && sent.ResourceVersion != there.ResourceVersion:
		return nil, apierrors.NewConflict(resource, sent.Name, errors.New("there is a newer one"))
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		return nil, apierrors.NewMethodNotSupported(resource, r.Method)
	}
	h.versions++
	sent.ResourceVersion = strconv.Itoa(h.versions)
	sent.TypeMeta = metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}
	h.leases[name] = sent
	return sent, nil
}
