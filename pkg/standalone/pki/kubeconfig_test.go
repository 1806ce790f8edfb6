// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/standalonetest"
	"k8s.io/client-go/tools/clientcmd"
)

func TestWriteKubeconfig(t *testing.T) {
	const server = "https://127.0.0.1:6443"
	pki := ensure(t, t.TempDir(), time.Now())
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := WriteKubeconfig(path, server, pki); err != nil {
		t.Fatal(err)
	}
	standalonetest.WantMode(t, path, 0o600)

	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, nil)
	config, err := loaded.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != server ||
		string(config.CAData) != string(pki.CACertPEM) ||
		string(config.CertData) != string(pki.AdminCertPEM) ||
		string(config.KeyData) != string(pki.AdminKeyPEM) {
		t.Errorf("loaded config for %q does not have what was written", config.Host)
	}
	raw, err := loaded.RawConfig()
	if err != nil {
		t.Fatal(err)
	}
	if raw.CurrentContext != "ipam" || raw.Clusters["ipam"] == nil || raw.AuthInfos["ipam"] == nil || raw.Contexts["ipam"] == nil {
		t.Errorf("loaded names are wrong: current context %q", raw.CurrentContext)
	}
	if namespace, _, err := loaded.Namespace(); err != nil || namespace != "default" {
		t.Errorf("namespace is %q, %v", namespace, err)
	}
}

func TestWriteKubeconfigAgain(t *testing.T) {
	const server = "https://127.0.0.1:6443"
	pki := ensure(t, t.TempDir(), time.Now())
	for _, c := range []struct {
		name      string
		change    func(path string) error
		server    string
		rewritten bool
	}{
		{"nothing changed", func(string) error { return nil }, server, false},
		{"another server", func(string) error { return nil }, "https://127.0.0.1:6444", true},
		{"mode widened", func(path string) error { return os.Chmod(path, 0o644) }, server, true},
		{"truncated", func(path string) error { return os.Truncate(path, 10) }, server, true},
		{"removed", os.Remove, server, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			if err := WriteKubeconfig(path, server, pki); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			if err := WriteKubeconfig(path, c.server, pki); err != nil {
				t.Fatal(err)
			}
			after, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if c.rewritten == (os.SameFile(before, after) && before.ModTime().Equal(after.ModTime())) {
				t.Errorf("rewritten is not %v", c.rewritten)
			}
			standalonetest.WantMode(t, path, 0o600)
			if _, err := clientcmd.LoadFromFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	if err := WriteKubeconfig(filepath.Join(t.TempDir(), "none", "kubeconfig"), server, pki); err == nil {
		t.Error("no error for a directory that is missing")
	}
}
