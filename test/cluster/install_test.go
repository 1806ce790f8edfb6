// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package cluster tests the product as it is installed in a cluster: behind the aggregation layer of a
// real kube-apiserver, with the manifests of config/, and the programs as processes that log in as
// their service accounts, with the roles that they are given there.
package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

const (
	module     = "github.com/ironcore-dev/ipam-apiserver"
	system     = "ipam-system"
	apiService = "v1alpha1.ipam.ironcore.dev"
)

// programs is the directory with the programs under test.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "cluster")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programs = dir
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
			module+"/cmd/ipam-apiserver", module+"/cmd/ipam-controller-manager")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n%s", build, err, out)
			return 1
		}
		return m.Run()
	}())
}

// installation is the product in a cluster.
type installation struct {
	*kube.Cluster
	// life is the test that the programs live as long as.
	life testing.TB
	// etcd are the members of its etcd, and endpoints their URLs.
	etcd      []*process.Process
	endpoints []string
	// startMember starts a member again.
	startMember func(n int) *process.Process
	// secrets is where the content of Secrets is, as in volumes.
	secrets string
	// service is what stands in for the Service of the API server.
	service  *balancer
	servers  []*server
	managers []*process.Process
	// client is that of the administrator.
	client versioned.Interface
}

// server is an API server of ours.
type server struct {
	*process.Process
	port int
}

// install installs the product with so many members of etcd, API servers and controller managers.
func install(t testing.TB, members, servers, managers int) *installation {
	t.Helper()
	c := kube.Start(t)
	i := &installation{Cluster: c, life: t, secrets: filepath.Join(c.Dir, "secrets"), service: newBalancer(t), client: versioned.NewForConfigOrDie(c.Admin)}

	admin := c.Kubectl(c.AdminKubeconfig)
	admin.Run("apply", "-k", "config/default")
	// There are neither nodes nor a network of Services: the programs are processes on loopback.
	_, port, _ := strings.Cut(i.service.address, ":")
	admin.Run("-n", system, "patch", "service", "ipam-apiserver", "--type=merge", "-p",
		`{"spec":{"type":"ExternalName","externalName":"localhost","selector":null,"clusterIP":null,"clusterIPs":null}}`)
	admin.Run("patch", "apiservice", apiService, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"service":{"port":%s}}}`, port))

	// The controller managers make the certificates that the others wait for.
	for range managers {
		i.startManager()
	}
	for _, secret := range []string{"ipam-etcd-tls", "ipam-etcd-client-tls", "ipam-apiserver-tls"} {
		i.Eventually("there is the Secret "+secret, func() error {
			_, err := c.Client.CoreV1().Secrets(system).Get(c.Context(), secret, metav1.GetOptions{})
			return err
		})
	}
	i.startEtcd(members)
	for range servers {
		i.startServer()
	}
	i.Eventually("the APIService is available", func() error {
		out, errOut, err := admin.Try("", "get", "apiservice", apiService, "-o", `jsonpath={.status.conditions[?(@.type=="Available")]}`)
		if err != nil {
			return fmt.Errorf("%w: %s", err, errOut)
		}
		var condition metav1.Condition
		if err := json.Unmarshal([]byte(out), &condition); err != nil || condition.Status != metav1.ConditionTrue {
			return fmt.Errorf("it is not: %s", out)
		}
		return nil
	})
	return i
}

// mount writes the Secrets of the volumes of a pod to files, as a kubelet does and does again when they
// change, and returns where the paths in the pod are here.
func (i *installation) mount(name string, pod *corev1.PodSpec) map[string]string {
	i.Helper()
	paths := map[string]string{}
	for _, mount := range pod.Containers[0].VolumeMounts {
		volume := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
		if volume < 0 {
			// It is a claim of a StatefulSet.
			paths[mount.MountPath] = filepath.Join(i.Dir, name, mount.Name)
			continue
		}
		if pod.Volumes[volume].Secret == nil {
			i.Fatalf("no volume of a Secret: %s", mount.Name)
		}
		secret := pod.Volumes[volume].Secret.SecretName
		paths[mount.MountPath] = filepath.Join(i.secrets, secret)
		i.refresh(secret)
	}
	return paths
}

// refresh writes a Secret to files.
func (i *installation) refresh(name string) {
	i.Helper()
	secret, err := i.Client.CoreV1().Secrets(system).Get(i.Context(), name, metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	dir := filepath.Join(i.secrets, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		i.Fatal(err)
	}
	for key, data := range secret.Data {
		file := filepath.Join(dir, key)
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			i.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			i.Fatal(err)
		}
	}
}

// run starts the program of a Deployment as a process, as start does.
func (i *installation) run(deployment string, instead map[string]string) *process.Process {
	i.Helper()
	d, err := i.Client.AppsV1().Deployments(system).Get(i.Context(), deployment, metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	pod := &d.Spec.Template.Spec
	return i.start(deployment, pod, filepath.Join(programs, filepath.Base(pod.Containers[0].Command[0])), instead)
}

// start starts a pod of that name as a process: with the arguments that it has there, but for those that
// are given here.
func (i *installation) start(name string, pod *corev1.PodSpec, program string, instead map[string]string) *process.Process {
	i.Helper()
	paths := i.mount(name, pod)
	var args []string
	for _, arg := range pod.Containers[0].Args {
		flag, value, _ := strings.Cut(arg, "=")
		if _, replaced := instead[flag]; replaced {
			continue
		}
		for there, here := range paths {
			if rest, ok := strings.CutPrefix(value, there+"/"); ok {
				arg = flag + "=" + filepath.Join(here, rest)
			}
		}
		args = append(args, strings.ReplaceAll(arg, "$(POD_NAME)", name))
	}
	for flag, value := range instead {
		args = append(args, flag+"="+value)
	}
	return process.Start(i.life, i.Dir, program, args...)
}

// startEtcd starts the members of etcd, and returns when they have found each other.
func (i *installation) startEtcd(members int) {
	i.Helper()
	set, err := i.Client.AppsV1().StatefulSets(system).Get(i.Context(), "ipam-etcd", metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	var peers, metrics, all []string
	for n := range members {
		url := func(scheme string) string {
			return fmt.Sprintf("%s://127.0.0.1:%d", scheme, process.ReservePort(i.life))
		}
		i.endpoints, peers, metrics = append(i.endpoints, url("https")), append(peers, url("https")), append(metrics, url("http"))
		all = append(all, fmt.Sprintf("%s-%d=%s", set.Name, n, peers[n]))
	}
	i.startMember = func(n int) *process.Process {
		return i.start(fmt.Sprintf("%s-%d", set.Name, n), &set.Spec.Template.Spec, kube.Program("etcd"), map[string]string{
			"--listen-client-urls": i.endpoints[n], "--advertise-client-urls": i.endpoints[n],
			"--listen-peer-urls": peers[n], "--initial-advertise-peer-urls": peers[n],
			"--initial-cluster":     strings.Join(all, ","),
			"--listen-metrics-urls": metrics[n],
			"--log-level":           "error",
			// Nothing has to outlive the machine.
			"--unsafe-no-fsync": "true",
		})
	}
	for n := range peers {
		i.etcd = append(i.etcd, i.startMember(n))
	}
	for n, url := range metrics {
		i.Eventually("etcd is ready", func() error {
			if i.etcd[n].HasEnded() {
				i.Fatalf("A member of etcd ended:\n%s", i.etcd[n].LastOfLog(4000))
			}
			response, err := http.Get(url + set.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet.Path)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("it says %s", response.Status)
			}
			return nil
		})
	}
}

// startServer starts an API server, and returns when the Service knows that it is ready.
func (i *installation) startServer() *server {
	i.Helper()
	kubeconfig, _ := i.ServiceAccount(system, "ipam-apiserver")
	s := &server{port: process.ReservePort(i.life)}
	s.Process = i.run("ipam-apiserver", map[string]string{
		"--bind-address": "127.0.0.1", "--secure-port": strconv.Itoa(s.port),
		"--etcd-servers": strings.Join(i.endpoints, ","),
		"--kubeconfig":   kubeconfig, "--authentication-kubeconfig": kubeconfig, "--authorization-kubeconfig": kubeconfig,
		"--shutdown-delay-duration": "2s",
	})
	i.servers = append(i.servers, s)
	i.service.add(s.port)
	i.Eventually("the API server is ready", func() error {
		if s.HasEnded() {
			i.Fatalf("The API server ended:\n%s", s.LastOfLog(4000))
		}
		if !i.service.isReady(s.port) {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	return s
}

// startManager starts a controller manager.
func (i *installation) startManager() *process.Process {
	i.Helper()
	kubeconfig, _ := i.ServiceAccount(system, "ipam-controller-manager")
	p := i.run("ipam-controller-manager", map[string]string{"--kubeconfig": kubeconfig, "--bind-address": "0"})
	i.managers = append(i.managers, p)
	return p
}

// audited fails if objects and claims do not agree.
func (i *installation) audited() {
	i.Helper()
	options := apiserver.NewOptions().Recommended.Etcd
	transport := &options.StorageConfig.Transport
	transport.ServerList = i.endpoints
	secret := filepath.Join(i.secrets, "ipam-etcd-client-tls")
	transport.CertFile, transport.KeyFile, transport.TrustedCAFile = filepath.Join(secret, "tls.crt"), filepath.Join(secret, "tls.key"), filepath.Join(secret, "ca.crt")
	store, err := apiserver.OpenStore(options)
	if err != nil {
		i.Fatal(err)
	}
	defer store.Close()
	differences, err := store.Audit(context.Background())
	if err != nil {
		i.Fatal(err)
	}
	for _, d := range differences {
		i.Errorf("Audit: %s %s/%s: %s", d.Kind, d.Namespace, d.Name, d.Message)
	}
}

// user is somebody who is bound to a role in one namespace.
type user struct {
	*installation
	name, namespace string
	kube.Kubectl
	config *rest.Config
	client ipamclient.IpamV1alpha1Interface
}

// newUser makes a namespace, and a user who is bound to a cluster role there.
func (i *installation) newUser(namespace, role string) *user {
	i.Helper()
	ctx := i.Context()
	_, err := i.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		i.Fatal(err)
	}
	name := namespace + "-" + role
	_, err = i.Client.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		i.Fatal(err)
	}
	kubeconfig, config := i.User(name)
	u := &user{i, name, namespace, i.Kubectl(kubeconfig), config, versioned.NewForConfigOrDie(config).IpamV1alpha1()}
	i.Eventually("the role is in force", func() error {
		// The roles are aggregated by a controller.
		_, err := u.client.Prefixes(namespace).List(ctx, metav1.ListOptions{Limit: 1})
		return err
	})
	return u
}

// in types a kubectl command for the namespace of the user.
func (u *user) in(args ...string) string {
	u.Helper()
	return u.Run(append([]string{"-n", u.namespace}, args...)...)
}

// waitAllocated waits until so many Prefixes of the namespace are Allocated, and returns all.
func (u *user) waitAllocated(count int) []v1alpha1.Prefix {
	u.Helper()
	var items []v1alpha1.Prefix
	u.Eventually(fmt.Sprintf("%d prefixes are allocated", count), func() error {
		list, err := u.client.Prefixes(u.namespace).List(u.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		items = list.Items
		n := 0
		for _, p := range items {
			if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				n++
			}
		}
		if n != count {
			return fmt.Errorf("%d of %d", n, len(items))
		}
		return nil
	})
	return items
}

// retried does something again as long as the server asks for that, as a client with ordinary
// retries does.
func retried(ctx context.Context, f func() error) error {
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 30, Cap: 2 * time.Second}
	var last error
	err := wait.ExponentialBackoffWithContext(ctx, backoff, func(context.Context) (bool, error) {
		last = f()
		switch {
		case last == nil:
			return true, nil
		case apierrors.IsInvalid(last), apierrors.IsForbidden(last), apierrors.IsBadRequest(last):
			return false, last
		}
		return false, nil
	})
	if wait.Interrupted(err) {
		return last
	}
	return err
}

func root(name, prefix string) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PrefixSpec{Prefix: prefix}}
}

func child(name, parent string, bits int32) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PrefixSpec{PrefixLength: bits, ParentRef: &v1alpha1.LocalObjectReference{Name: parent}},
	}
}
