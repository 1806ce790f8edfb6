// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificates

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/cmd/ipam-controller-manager/app"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

var errOld = errors.New("still the old one")

// TestServingCertificate replaces the certificate of the server, and then also its CA. New connections get the new
// certificate, no request fails meanwhile, and one connection stays open all the time.
func TestServingCertificate(t *testing.T) {
	t.Parallel()
	ca, newer := newCA(t), newCA(t)
	admin := issue(t, ca)
	serving := issue(t, ca)
	volume := newVolume(t, files(serving))
	clients := newVolume(t, bundle(ca))
	s := startServer(t, "--tls-cert-file", volume.path("tls.crt"), "--tls-private-key-file", volume.path("tls.key"),
		"--client-ca-file", clients.path("ca.crt"), "--etcd-servers", startEtcd(t))
	trusts := pool(ca, newer)
	harness.Eventually(t, "server ready", func() error {
		_, err := s.get(admin, trusts)
		return err
	})
	stays := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{tlsPair(admin)}, RootCAs: trusts}}
	defer stays.CloseIdleConnections()
	if _, err := s.getBy(&http.Client{Transport: stays}); err != nil {
		t.Fatal(err)
	}
	defer s.keepAsking(t, admin, trusts)()

	for _, signer := range []*pki.Pair{ca, newer} {
		next := issue(t, signer)
		volume.replace(files(next))
		began := time.Now()
		harness.Eventually(t, "new certificate", func() error {
			got, err := s.get(admin, trusts)
			if err == nil && !got.Equal(next.Cert) {
				err = errOld
			}
			return err
		})
		t.Logf("took %s", time.Since(began))
		if got, err := s.getBy(&http.Client{Transport: stays}); err != nil || !got.Equal(serving.Cert) {
			t.Errorf("the connection that was there did not stay: %v", err)
		}
	}
	// A certificate and a key that do not match are not loaded.
	volume.replace(map[string][]byte{"tls.crt": serving.CertPEM, "tls.key": admin.KeyPEM})
	time.Sleep(500 * time.Millisecond)
	if got, err := s.get(admin, trusts); err != nil || got.Equal(serving.Cert) {
		t.Errorf("a certificate was taken up without its key: %v", err)
	}
}

// TestClientCA replaces the CA of clients by way of a bundle with both CAs. Clients whose CA is in the bundle are
// always accepted, and no others.
func TestClientCA(t *testing.T) {
	t.Parallel()
	ca, newer := newCA(t), newCA(t)
	before, after := issue(t, ca), issue(t, newer)
	serving := newVolume(t, files(issue(t, ca)))
	clients := newVolume(t, bundle(ca))
	s := startServer(t, "--tls-cert-file", serving.path("tls.crt"), "--tls-private-key-file", serving.path("tls.key"),
		"--client-ca-file", clients.path("ca.crt"), "--etcd-servers", startEtcd(t))
	trusts := pool(ca)
	allowed := func(client *pki.Pair) func() error {
		return func() error {
			_, err := s.get(client, trusts)
			return err
		}
	}
	refused := func(client *pki.Pair) func() error {
		return func() error {
			if _, err := s.get(client, trusts); err == nil {
				return errors.New("is let in")
			}
			return nil
		}
	}
	harness.Eventually(t, "server ready", allowed(before))
	if err := refused(after)(); err != nil {
		t.Errorf("before the change: %v", err)
	}
	stop := s.keepAsking(t, before, trusts)
	clients.replace(bundle(ca, newer))
	harness.Eventually(t, "new authority trusted", allowed(after))
	stop()
	stop = s.keepAsking(t, after, trusts)
	clients.replace(bundle(newer))
	harness.Eventually(t, "old authority no longer trusted", refused(before))
	stop()
}

// etcdFlags returns the flags of a server that connects to etcd with the files of a volume.
func etcdFlags(t *testing.T, ca *pki.Pair, endpoint string, volume *volume) []string {
	serving := newVolume(t, files(issue(t, ca)))
	clients := newVolume(t, bundle(ca))
	return []string{
		"--tls-cert-file", serving.path("tls.crt"), "--tls-private-key-file", serving.path("tls.key"),
		"--client-ca-file", clients.path("ca.crt"),
		"--etcd-servers", endpoint, "--etcd-cafile", volume.path("ca.crt"),
		"--etcd-certfile", volume.path("tls.crt"), "--etcd-keyfile", volume.path("tls.key"),
	}
}

// writes returns a function that fails unless the server can write, for which it needs etcd.
func writes(t *testing.T, s *server, ca *pki.Pair) func() error {
	admin := issue(t, ca)
	client, err := versioned.NewForConfig(&rest.Config{Host: s.url, TLSClientConfig: rest.TLSClientConfig{
		CertData: admin.CertPEM, KeyData: admin.KeyPEM, CAData: ca.CertPEM,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := client.IpamV1alpha1().Prefixes("default").Create(ctx, &v1alpha1.Prefix{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "root-"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"},
		}, metav1.CreateOptions{})
		return err
	}
}

// TestEtcdCertificates replaces the client certificate for etcd, and the certificate of etcd. The next connection
// uses the new ones.
func TestEtcdCertificates(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	before, after := issue(t, ca), issue(t, ca)
	with := func(client *pki.Pair) map[string][]byte {
		f := files(client)
		f["ca.crt"] = ca.CertPEM
		return f
	}
	volume := newVolume(t, with(before))
	etcd := startTLSProxy(t, startEtcd(t), issue(t, ca), ca)
	s := startServer(t, etcdFlags(t, ca, etcd.endpoint, volume)...)
	write := writes(t, s, ca)
	harness.Eventually(t, "server ready", write)
	if seen, _ := etcd.seen(); !seen[before.Cert.SerialNumber.String()] {
		t.Fatal("etcd saw another certificate")
	}

	volume.replace(with(after))
	etcd.restart(issue(t, ca))
	harness.Eventually(t, "a write on a new connection", write)
	if seen, _ := etcd.seen(); !seen[after.Cert.SerialNumber.String()] || seen[before.Cert.SerialNumber.String()] {
		t.Error("the old certificate is still in use")
	}
}

// TestEtcdCA replaces the CA of the certificate of etcd. Only a server that starts later loads the new CA file, as
// docs/operating/certificates.md says.
func TestEtcdCA(t *testing.T) {
	t.Parallel()
	ca, newer := newCA(t), newCA(t)
	client := issue(t, ca)
	with := func(cas ...*pki.Pair) map[string][]byte {
		f := files(client)
		f["ca.crt"] = bundle(cas...)["ca.crt"]
		return f
	}
	volume := newVolume(t, with(ca))
	etcd := startTLSProxy(t, startEtcd(t), issue(t, ca), ca)
	flags := etcdFlags(t, ca, etcd.endpoint, volume)
	first := startServer(t, flags...)
	harness.Eventually(t, "server ready", writes(t, first, ca))

	volume.replace(with(ca, newer))
	second := startServer(t, flags...)
	harness.Eventually(t, "second server ready", writes(t, second, ca))
	etcd.restart(issue(t, newer))
	harness.Eventually(t, "the server that started later writes", writes(t, second, ca))
	harness.Eventually(t, "a refused connection", func() error {
		if _, refused := etcd.seen(); refused == 0 {
			return errors.New("none was refused")
		}
		return nil
	})
	if err := writes(t, first, ca)(); err == nil {
		t.Error("the file is read again now; docs/operating/certificates.md can say so")
	}
	first.stop()
	harness.Eventually(t, "third server ready", writes(t, startServer(t, flags...), ca))
}

// TestControllerManager replaces the client certificate of a controller manager with one of a new CA.
func TestControllerManager(t *testing.T) {
	t.Parallel()
	ca, newer := newCA(t), newCA(t)
	admin := issue(t, ca)
	serving := newVolume(t, files(issue(t, ca)))
	clients := newVolume(t, bundle(ca, newer))
	s := startServer(t, "--tls-cert-file", serving.path("tls.crt"), "--tls-private-key-file", serving.path("tls.key"),
		"--client-ca-file", clients.path("ca.crt"), "--etcd-servers", startEtcd(t))
	harness.Eventually(t, "server ready", writes(t, s, ca))

	volume := newVolume(t, files(admin))
	config := clientcmdapi.NewConfig()
	config.Clusters["ipam"] = &clientcmdapi.Cluster{Server: s.url, CertificateAuthorityData: ca.CertPEM}
	config.AuthInfos["ipam"] = &clientcmdapi.AuthInfo{ClientCertificate: volume.path("tls.crt"), ClientKey: volume.path("tls.key")}
	config.Contexts["ipam"] = &clientcmdapi.Context{Cluster: "ipam", AuthInfo: "ipam"}
	config.CurrentContext = "ipam"
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	command := app.NewCommand(ctx)
	command.SetArgs([]string{"--kubeconfig", kubeconfig, "--leader-elect=false", "--bind-address=0"})
	ended := make(chan error, 1)
	go func() { ended <- command.Execute() }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("The controller manager ended: %v", err)
		}
	}()

	// The controller manager works if a new root becomes Allocated.
	after := issue(t, newer)
	client, err := versioned.NewForConfig(&rest.Config{Host: s.url, TLSClientConfig: rest.TLSClientConfig{
		CertData: after.CertPEM, KeyData: after.KeyPEM, CAData: ca.CertPEM,
	}})
	if err != nil {
		t.Fatal(err)
	}
	works := func(name string) {
		prefixes := client.IpamV1alpha1().Prefixes("default")
		root := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"}}
		harness.Eventually(t, name+" created", func() error {
			_, err := prefixes.Create(t.Context(), root, metav1.CreateOptions{})
			return err
		})
		child := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name + "-child"},
			Spec: v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: &v1alpha1.LocalObjectReference{Name: name}}}
		if _, err := prefixes.Create(t.Context(), child, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "child of "+name, func() error {
			got, err := prefixes.Get(t.Context(), child.Name, metav1.GetOptions{})
			if err == nil && got.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				err = errors.New("is not Allocated")
			}
			return err
		})
	}
	works("before")
	volume.replace(files(issue(t, newer)))
	// Wait ten times the refresh interval of the client.
	time.Sleep(time.Second)
	clients.replace(bundle(newer))
	harness.Eventually(t, "old authority no longer trusted", func() error {
		if _, err := s.get(admin, pool(ca)); err == nil {
			return errors.New("is let in")
		}
		return nil
	})
	works("after")
}
