// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package kube starts a Kubernetes control plane for tests: etcd, kube-apiserver with the aggregation layer and
// RBAC, and kube-controller-manager, as processes on loopback addresses. There are no nodes, so no pods run.
package kube

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"
)

// Cluster is a running control plane.
type Cluster struct {
	testing.TB
	// Dir is the directory of its files.
	Dir string
	// Host is the URL of kube-apiserver.
	Host string
	// CA signs the certificates of users and servers. FrontProxyCA signs those that kube-apiserver presents to
	// aggregated API servers.
	CA, FrontProxyCA *CA
	// FrontProxy is the certificate that kube-apiserver presents to aggregated API servers.
	FrontProxy Pair
	// Admin is a client configuration of the group system:masters, and AdminKubeconfig its file.
	Admin           *rest.Config
	AdminKubeconfig string
	// Client is a client with the rights of an administrator.
	Client kubernetes.Interface
	// APIServer is the process of kube-apiserver.
	APIServer *process.Process
}

// script builds the programs of the control plane. Its path is relative to the root directory of the repository.
const script = "hack/controlplane.sh"

// Root returns the root directory of the repository, in which the working directory must be.
func Root() string {
	working, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for dir := working; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, script)); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			panic(working + " is not in the repository")
		}
	}
}

// build builds the programs of the control plane, unless they exist.
var build = sync.OnceValue(func() error { return buildPrograms() })

func buildPrograms(programs ...string) error {
	cmd := exec.Command(filepath.Join(Root(), script), programs...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// Program returns the path of a program of the control plane.
func Program(name string) string { return filepath.Join(Root(), "bin", "controlplane", name) }

// Start starts a control plane. It stops at the end of the test.
func Start(t testing.TB) *Cluster {
	t.Helper()
	if err := build(); err != nil {
		t.Fatalf("building the control plane: %v", err)
	}
	c := &Cluster{TB: t, Dir: t.TempDir()}
	c.CA, c.FrontProxyCA = NewCA(t, c.Dir, "kubernetes-ca"), NewCA(t, c.Dir, "front-proxy-ca")
	c.FrontProxy = c.FrontProxyCA.Client("front-proxy-client")
	serviceAccountKey := filepath.Join(c.Dir, "service-account.key")
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, serviceAccountKey, key)

	etcd := c.startEtcd()
	port := process.ReservePort(t)
	c.Host = fmt.Sprintf("https://127.0.0.1:%d", port)
	serving := c.CA.Serving("kube-apiserver", "kubernetes.default.svc")
	c.APIServer = process.Start(t, c.Dir, Program("kube-apiserver"),
		"--etcd-servers", etcd,
		"--bind-address", "127.0.0.1",
		"--advertise-address", "127.0.0.1",
		"--secure-port", strconv.Itoa(port),
		"--tls-cert-file", serving.CertFile,
		"--tls-private-key-file", serving.KeyFile,
		"--client-ca-file", c.CA.CertFile,
		"--requestheader-client-ca-file", c.FrontProxyCA.CertFile,
		"--requestheader-allowed-names", "front-proxy-client",
		"--requestheader-extra-headers-prefix", "X-Remote-Extra-",
		"--requestheader-group-headers", "X-Remote-Group",
		"--requestheader-username-headers", "X-Remote-User",
		"--proxy-client-cert-file", c.FrontProxy.CertFile,
		"--proxy-client-key-file", c.FrontProxy.KeyFile,
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", serviceAccountKey,
		"--service-account-signing-key-file", serviceAccountKey,
		"--service-cluster-ip-range", "10.96.0.0/16",
		"--authorization-mode", "Node,RBAC",
		// The reconciler would write a loopback address to Endpoints, which is not allowed.
		"--endpoint-reconciler-type", "none",
	)
	c.AdminKubeconfig, c.Admin = c.User("admin", "system:masters")
	c.Client = kubernetes.NewForConfigOrDie(c.Admin)
	c.Eventually("kube-apiserver is ready", func() error { return ready(c.Client) })

	controllers, _ := c.User("system:kube-controller-manager")
	process.Start(t, c.Dir, Program("kube-controller-manager"),
		"--kubeconfig", controllers, "--authentication-kubeconfig", controllers, "--authorization-kubeconfig", controllers,
		"--bind-address", "127.0.0.1",
		"--secure-port", "0",
		"--use-service-account-credentials",
		"--service-account-private-key-file", serviceAccountKey,
		"--root-ca-file", c.CA.CertFile,
		"--leader-elect=false",
		"--concurrent-gc-syncs", "4",
	)
	c.Eventually("there are service accounts", func() error {
		_, err := c.Client.CoreV1().ServiceAccounts("default").Get(c.Context(), "default", metav1.GetOptions{})
		return err
	})
	return c
}

func ready(client kubernetes.Interface) error {
	code := 0
	err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(context.Background()).StatusCode(&code).Error()
	if err == nil && code != http.StatusOK {
		return fmt.Errorf("readyz says %d", code)
	}
	return err
}

// startEtcd starts the etcd of the control plane, and returns its endpoint.
func (c *Cluster) startEtcd() string {
	c.Helper()
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", process.ReservePort(c))
	peer := fmt.Sprintf("http://127.0.0.1:%d", process.ReservePort(c))
	process.Start(c, c.Dir, Program("etcd"),
		"--name", "kubernetes",
		"--data-dir", filepath.Join(c.Dir, "etcd"),
		"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "kubernetes="+peer,
		"--log-level", "error",
		// The data does not have to survive a crash of the machine.
		"--unsafe-no-fsync",
	)
	return endpoint
}

// User returns a kubeconfig and a client configuration of a user with a client certificate.
func (c *Cluster) User(name string, groups ...string) (kubeconfig string, config *rest.Config) {
	c.Helper()
	pair := c.CA.Client(name, groups...)
	return c.kubeconfig(name, clientcmdapi.AuthInfo{ClientCertificateData: pair.CertPEM, ClientKeyData: pair.KeyPEM})
}

// ServiceAccount returns a kubeconfig and a client configuration of a service account with a token, as in a pod.
func (c *Cluster) ServiceAccount(namespace, name string) (kubeconfig string, config *rest.Config) {
	c.Helper()
	file := filepath.Join(c.Dir, namespace+"-"+name+".token")
	writeFile(c, file, []byte(c.Token(namespace, name)))
	return c.kubeconfig(namespace+"-"+name, clientcmdapi.AuthInfo{TokenFile: file})
}

// Token returns a token of a service account for the given audiences, or for kube-apiserver if there are none.
func (c *Cluster) Token(namespace, name string, audiences ...string) string {
	c.Helper()
	token, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(c.Context(), name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return token.Status.Token
}

// Anonymous returns a client configuration without credentials.
func (c *Cluster) Anonymous() *rest.Config {
	c.Helper()
	_, config := c.kubeconfig("anonymous", clientcmdapi.AuthInfo{})
	return config
}

func (c *Cluster) kubeconfig(name string, user clientcmdapi.AuthInfo) (string, *rest.Config) {
	c.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["kubernetes"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CA.CertPEM}
	config.AuthInfos[name] = &user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: "kubernetes", AuthInfo: name}
	config.CurrentContext = name
	file := filepath.Join(c.Dir, name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		c.Fatal(err)
	}
	restConfig, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		c.Fatal(err)
	}
	restConfig.QPS = -1
	return file, restConfig
}

// Eventually waits until the check returns nil. See harness.Eventually.
func (c *Cluster) Eventually(what string, check func() error) {
	c.Helper()
	harness.Eventually(c, what, check)
}
