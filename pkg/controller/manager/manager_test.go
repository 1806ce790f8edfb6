// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/fake"
	"k8s.io/client-go/rest"
)

func TestValidate(t *testing.T) {
	good := Config{Controllers: []string{"*"}, Strategy: "Pack", Workers: 1}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"all", func(*Config) {}, ""},
		{"none", func(c *Config) { c.Controllers = nil }, ""},
		{"by name", func(c *Config) { c.Controllers = Names() }, ""},
		{"spread", func(c *Config) { c.Strategy = "Spread" }, ""},
		{"unknown controller", func(c *Config) { c.Controllers = []string{"prefix", "network"} }, `unknown controller "network"`},
		// The certificate controller has its own command.
		{"certificate", func(c *Config) { c.Controllers = []string{"*", "certificate"} }, `unknown controller "certificate"`},
		{"unknown strategy", func(c *Config) { c.Strategy = "Random" }, `unknown strategy "Random"`},
		{"no workers", func(c *Config) { c.Workers = 0 }, "number of workers must be positive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			err := c.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil {
				if run := c.Run(t.Context()); run == nil || run.Error() != err.Error() {
					t.Errorf("runs all the same: %v", run)
				}
			}
		})
	}
	if want := []string{"prefix", "scheduler", "prefixpolicy"}; !slices.Equal(Names(), want) {
		t.Errorf("names are %v, want %v", Names(), want)
	}
}

// mustEnd fails the test unless Run ends without an error. The channel returns the error of Run.
func mustEnd(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("does not end")
	}
}

// TestRunEndsWithTheContext shows that Run runs until the context ends, with and without controllers. Without
// controllers it once ended at once, and so did the program.
func TestRunEndsWithTheContext(t *testing.T) {
	for _, controllers := range [][]string{nil, {"prefix"}, {"scheduler"}, {"*"}} {
		t.Run(strings.Join(controllers, ","), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				ended <- Config{Client: fake.NewClientset(), Controllers: controllers, Strategy: "Pack", Workers: 2}.Run(ctx)
			}()
			select {
			case err := <-ended:
				t.Fatalf("ended by itself: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			cancel()
			mustEnd(t, ended)
		})
	}
}

// TestRunEndsWhileTheServerIsBusy uses a server that responds with Retry-After, as a server that is shutting down
// does.
func TestRunEndsWhileTheServerIsBusy(t *testing.T) {
	asked := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
		asked <- struct{}{}
	}))
	defer server.Close()
	client, err := versioned.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Config{Client: client, Strategy: "Pack", Workers: 1}.Run(ctx) }()
	<-asked
	cancel()
	mustEnd(t, ended)
}
