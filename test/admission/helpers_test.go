// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package admission tests the responses of the admission plugins of a real server.
package admission

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// shared is the server with the default options and all controllers. Each test uses its own namespace.
var shared *harness.Server

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		var err error
		shared, err = harness.StartServer(dir, harness.Controllers("*"))
		return func() { shared.Close() }, err
	})
}

// start starts a server with other options for one test.
func start(t *testing.T, customize func(*apiserver.Options)) *harness.Server {
	t.Helper()
	return harness.Start(t, harness.Controllers("*"), harness.Customize(customize))
}

// configured starts a server with an admission configuration.
func configured(t *testing.T, configuration string) *harness.Server {
	t.Helper()
	file := writeFile(t, configuration)
	return start(t, func(o *apiserver.Options) { o.Recommended.Admission.ConfigFile = file })
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "admission.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// client is the namespace of a test, and the warnings that its client has received.
type client struct {
	*harness.Namespace
	warned *warnings
}

// warnings collects the warnings of a server.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func newClient(t testing.TB, server *harness.Server) *client {
	t.Helper()
	warned := &warnings{}
	config := rest.CopyConfig(server.AdminConfig)
	config.WarningHandler = warned
	clientset, err := versioned.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &client{harness.In(t, clientset.IpamV1alpha1(), harness.NewNamespace()), warned}
}

// warnedOf checks that these are all warnings since its last call.
func (c *client) warnedOf(want ...string) {
	c.Helper()
	c.warned.mu.Lock()
	defer c.warned.mu.Unlock()
	if !slices.Equal(c.warned.texts, want) {
		c.Errorf("warned of %q, not of %q", c.warned.texts, want)
	}
	c.warned.texts = nil
}

// allocated waits until a Prefix is Allocated, its parent counts it, and the watch cache has both.
func (c *client) allocated(name string) *v1alpha1.Prefix {
	c.Helper()
	cached := metav1.GetOptions{ResourceVersion: "0"}
	var prefix *v1alpha1.Prefix
	c.Eventually(name+" is Allocated and counted", func() (err error) {
		prefix, err = c.Prefixes.Get(c.Context(), name, cached)
		if apierrors.IsNotFound(err) {
			return err
		}
		if err != nil {
			c.Fatal(err)
		}
		if prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			return fmt.Errorf("it is %+v", prefix.Status)
		}
		if ref := prefix.Spec.ParentRef; ref != nil {
			parent, err := c.Prefixes.Get(c.Context(), ref.Name, cached)
			if err != nil {
				return err
			}
			if !slices.Contains(parent.Status.Used, prefix.Spec.Prefix) {
				return fmt.Errorf("the parent has used %q", parent.Status.Used)
			}
		}
		return nil
	})
	return prefix
}

// allocationOf returns the only PrefixAllocation.
func (c *client) allocationOf() *v1alpha1.PrefixAllocation {
	c.Helper()
	allocations := c.ListAllocations()
	if len(allocations) != 1 {
		c.Fatalf("there are %d allocations", len(allocations))
	}
	return &allocations[0]
}
