// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package admission tests what a client gets from the admission plugins of a real server.
package admission

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// patience is how long a test waits for what has to happen, also on a busy machine.
const patience = 2 * time.Minute

// shared is the server with the defaults, and all controllers. Tests keep apart by namespace.
var shared *standalone.Instance

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "admission-test-")
		if err == nil {
			defer func() { _ = os.RemoveAll(dir) }()
			shared, err = standalone.Start(context.Background(), optionsOf(dir, nil))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "start the server:", err)
			return 1
		}
		defer shared.Close()
		return m.Run()
	}())
}

func optionsOf(dir string, customize func(*apiserver.Options)) *standalone.Options {
	options := standalone.NewOptions()
	options.DataDir, options.Port, options.Customize = dir, 0, customize
	return options
}

// startWith starts a server with other options, for one test.
func startWith(t *testing.T, customize func(*apiserver.Options)) *standalone.Instance {
	t.Helper()
	instance, err := standalone.Start(t.Context(), optionsOf(t.TempDir(), customize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(instance.Close)
	return instance
}

// configured starts a server with an admission configuration.
func configured(t *testing.T, configuration string) *standalone.Instance {
	t.Helper()
	file := writeFile(t, configuration)
	return startWith(t, func(o *apiserver.Options) { o.Recommended.Admission.ConfigFile = file })
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "admission.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// client is a client with a namespace of its own, and what it was warned of.
type client struct {
	testing.TB
	prefixes    ipamclient.PrefixInterface
	allocations ipamclient.PrefixAllocationInterface
	warned      *warnings
}

// warnings collects what a server warns of.
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

var namespaces atomic.Int64

func newClient(t testing.TB, instance *standalone.Instance) *client {
	t.Helper()
	warned := &warnings{}
	config := rest.CopyConfig(instance.Config)
	config.WarningHandler = warned
	clientset, err := versioned.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ns := fmt.Sprintf("namespace-%d", namespaces.Add(1))
	return &client{t, clientset.IpamV1alpha1().Prefixes(ns), clientset.IpamV1alpha1().PrefixAllocations(ns), warned}
}

// warnedOf checks that these are all warnings since it was called last.
func (c *client) warnedOf(want ...string) {
	c.Helper()
	c.warned.mu.Lock()
	defer c.warned.mu.Unlock()
	if !slices.Equal(c.warned.texts, want) {
		c.Errorf("warned of %q, not of %q", c.warned.texts, want)
	}
	c.warned.texts = nil
}

// eventually waits until the check has no complaint.
func (c *client) eventually(check func() error) {
	c.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			c.Fatalf("not after %v: %v", patience, err)
		}
	}
}

func root(name, prefix string) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixSpec{Prefix: prefix}}
}

func child(name, parent, prefix string, length int32) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixSpec{
		Prefix: prefix, PrefixLength: length, ParentRef: &v1alpha1.LocalObjectReference{Name: parent}}}
}

func allocation(name, parent, prefix string) *v1alpha1.PrefixAllocation {
	return &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixAllocationSpec{
		Prefix: prefix, PrefixRef: &v1alpha1.LocalObjectReference{Name: parent}}}
}

// create creates a Prefix.
func (c *client) create(prefix *v1alpha1.Prefix) {
	c.Helper()
	if _, err := c.prefixes.Create(c.Context(), prefix, metav1.CreateOptions{}); err != nil {
		c.Fatal(err)
	}
}

// allocated waits until a Prefix is allocated, its parent counts it, and the watch cache has both.
func (c *client) allocated(name string) *v1alpha1.Prefix {
	c.Helper()
	cached := metav1.GetOptions{ResourceVersion: "0"}
	var prefix *v1alpha1.Prefix
	c.eventually(func() (err error) {
		prefix, err = c.prefixes.Get(c.Context(), name, cached)
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
			parent, err := c.prefixes.Get(c.Context(), ref.Name, cached)
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

// allocationOf returns the one PrefixAllocation that there is.
func (c *client) allocationOf() *v1alpha1.PrefixAllocation {
	c.Helper()
	list, err := c.allocations.List(c.Context(), metav1.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	if len(list.Items) != 1 {
		c.Fatalf("there are %d allocations", len(list.Items))
	}
	return &list.Items[0]
}
