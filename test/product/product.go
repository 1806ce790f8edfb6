// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package product installs the product in a cluster for tests: behind the aggregation layer of a real
// kube-apiserver, with the manifests in config/. The programs run as processes, and authenticate as their service
// accounts with the roles in the manifests.
package product

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	// Loopback is the spec of the Service of the API servers in tests. There are no nodes and no Service network: the
	// programs are processes on loopback addresses.
	Loopback = `{"type": "ExternalName", "externalName": "localhost"}`
	// Namespace is the namespace of the product.
	Namespace = "ipam-system"
	// APIService is the name of the APIService of the product.
	APIService = "v1alpha1.ipam.ironcore.dev"
)

// Options are the options of an installation.
type Options struct {
	// Programs is the directory of the programs.
	Programs string
	// Root is the root directory in which the programs of the product run, or empty. Programs is a path in it. The files of the
	// cluster must be in it, too, and be found there by the paths that they have outside.
	Root string
	// Tree is the root directory of the checkout whose config/ is installed. If empty, it is this checkout.
	Tree string
	// Members, Servers and Managers are the numbers of etcd members, API servers and controller managers.
	Members, Servers, Managers int
	// Apply applies the manifests, with port as that of the APIService and the Service turned into Loopback. If it is nil,
	// kubectl applies config/default.
	Apply func(c *kube.Cluster, port int)
	// ServerFlags are flags of the API servers and EtcdFlags flags of etcd, in addition to those of the manifests or instead
	// of them.
	ServerFlags, EtcdFlags map[string]string
	// Durable makes etcd wait for fsync, as for users. Otherwise it does not, because the data of tests does not
	// have to survive a crash of the machine.
	Durable bool
}

// Installation is the product in a cluster.
type Installation struct {
	*kube.Cluster
	options Options
	// life is the test that limits the lifetime of the programs.
	life testing.TB
	// Etcd contains the etcd members, and endpoints their URLs.
	Etcd      []*process.Process
	endpoints []string
	// StartMember restarts an etcd member.
	StartMember func(n int) *process.Process
	// volumes is the directory for the contents of volumes.
	volumes string
	// Service replaces the Service of the API servers.
	Service *Balancer
	// Servers contains the API servers, and Managers the controller managers.
	Servers  []*Server
	Managers []*process.Process
	// Certificates is the certificate controller.
	Certificates *process.Process
	// IPAM is a client with the rights of an administrator.
	IPAM versioned.Interface
	// Metrics is where etcd and the controllers serve metrics. API servers serve them at their port.
	Metrics []Target
}

// Target is where a program serves metrics.
type Target struct{ Job, URL string }

// Server is an API server of the product.
type Server struct {
	*process.Process
	// Port is its loopback port.
	Port int
}

// Install creates a cluster, installs the product in it, and returns when the product is available.
func Install(t testing.TB, options Options) *Installation {
	t.Helper()
	c := kube.Start(t)
	i := &Installation{
		Cluster: c, options: options, life: t, volumes: filepath.Join(c.Dir, "volumes"), Service: newBalancer(t), IPAM: versioned.NewForConfigOrDie(c.Admin),
	}

	admin := c.Kubectl(c.AdminKubeconfig)
	_, port, _ := strings.Cut(i.Service.Address, ":")
	if options.Apply != nil {
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		options.Apply(c, number)
	} else {
		admin.Run("apply", "-k", filepath.Join(options.Tree, "config/default"))
		admin.Run("-n", Namespace, "patch", "service", "ipam-apiserver", "--type=merge", "-p",
			`{"spec":{"type":"ExternalName","externalName":"localhost","selector":null,"clusterIP":null,"clusterIPs":null}}`)
		admin.Run("patch", "apiservice", APIService, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"service":{"port":%s}}}`, port))
	}

	// It issues the certificates that the other programs wait for. In earlier versions the controller manager does
	// this.
	if _, err := c.Client.AppsV1().Deployments(Namespace).Get(c.Context(), certificates, metav1.GetOptions{}); err == nil {
		i.StartCertificates()
	} else if !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	for range options.Managers {
		i.StartManager()
	}
	for _, secret := range []string{"ipam-etcd-tls", "ipam-etcd-client-tls", "ipam-apiserver-tls"} {
		i.Eventually("there is the Secret "+secret, func() error {
			_, err := c.Client.CoreV1().Secrets(Namespace).Get(c.Context(), secret, metav1.GetOptions{})
			return err
		})
	}
	i.startEtcd(options.Members)
	for range options.Servers {
		i.StartServer()
	}
	i.Eventually("the APIService is available", func() error {
		out, errOut, err := admin.Try("", "get", "apiservice", APIService, "-o", `jsonpath={.status.conditions[?(@.type=="Available")]}`)
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

// mount writes the volumes of a pod to files, as a kubelet does. It returns the local path for each path in the
// pod.
func (i *Installation) mount(name string, pod *corev1.PodSpec) map[string]string {
	i.Helper()
	paths := map[string]string{}
	for _, mount := range pod.Containers[0].VolumeMounts {
		volume := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
		if volume < 0 {
			// This is a PersistentVolumeClaim of a StatefulSet.
			paths[mount.MountPath] = filepath.Join(i.Dir, name, mount.Name)
			continue
		}
		switch v := pod.Volumes[volume]; {
		case v.Secret != nil:
			i.Refresh(v.Secret.SecretName)
			paths[mount.MountPath] = filepath.Join(i.volumes, v.Secret.SecretName)
		case v.ConfigMap != nil:
			config, err := i.Client.CoreV1().ConfigMaps(Namespace).Get(i.Context(), v.ConfigMap.Name, metav1.GetOptions{})
			if err != nil {
				i.Fatal(err)
			}
			data := map[string][]byte{}
			for key, value := range config.Data {
				data[key] = []byte(value)
			}
			paths[mount.MountPath] = i.write(config.Name, data)
		case v.Projected != nil && len(v.Projected.Sources) == 1 && v.Projected.Sources[0].ServiceAccountToken != nil:
			token := v.Projected.Sources[0].ServiceAccountToken
			paths[mount.MountPath] = i.write(name+"-"+v.Name, map[string][]byte{
				token.Path: []byte(i.Token(Namespace, pod.ServiceAccountName, token.Audience)),
			})
		default:
			i.Fatalf("a volume of a kind that is not known here: %s", v.Name)
		}
	}
	return paths
}

// Refresh writes a Secret to its files again, as a kubelet does when the Secret changes.
func (i *Installation) Refresh(name string) {
	i.Helper()
	secret, err := i.Client.CoreV1().Secrets(Namespace).Get(i.Context(), name, metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	i.write(name, secret.Data)
}

// write writes the files of a volume, and returns its directory.
func (i *Installation) write(name string, files map[string][]byte) string {
	i.Helper()
	dir := filepath.Join(i.volumes, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		i.Fatal(err)
	}
	for key, data := range files {
		file := filepath.Join(dir, key)
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			i.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			i.Fatal(err)
		}
	}
	return dir
}

// run starts the program of a Deployment as a process. See start.
func (i *Installation) run(deployment string, instead map[string]string) *process.Process {
	i.Helper()
	d, err := i.Client.AppsV1().Deployments(Namespace).Get(i.Context(), deployment, metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	pod := &d.Spec.Template.Spec
	return i.start(deployment, pod, filepath.Join(i.options.Programs, filepath.Base(pod.Containers[0].Command[0])), instead)
}

// start starts a pod as a process with the environment and the arguments of the pod. Arguments in instead replace
// those of the pod.
func (i *Installation) start(name string, pod *corev1.PodSpec, program string, instead map[string]string) *process.Process {
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
	root := i.options.Root
	if program == kube.Program("etcd") {
		// Its image is another one.
		root = ""
	}
	return process.StartIn(i.life, root, i.environment(name, &pod.Containers[0]), i.Dir, program, args...)
}

// environment returns the environment of a container in a pod with the given name.
func (i *Installation) environment(name string, container *corev1.Container) []string {
	i.Helper()
	var variables []string
	for _, variable := range container.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			switch {
			case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
				value = name
			case from.ResourceFieldRef != nil && from.ResourceFieldRef.Resource == "limits.memory":
				// Earlier versions set GOMEMLIMIT to the memory limit.
				value = strconv.FormatInt(container.Resources.Limits.Memory().Value(), 10)
			default:
				i.Fatalf("%s has %s from what is not known here: %v", name, variable.Name, from)
			}
		}
		variables = append(variables, variable.Name+"="+value)
	}
	return variables
}

// startEtcd starts the etcd members, and returns when the cluster is complete.
func (i *Installation) startEtcd(members int) {
	i.Helper()
	set, err := i.Client.AppsV1().StatefulSets(Namespace).Get(i.Context(), "ipam-etcd", metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	var https, peers, metrics, all []string
	for n := range members {
		url := func(scheme string) string {
			return fmt.Sprintf("%s://127.0.0.1:%d", scheme, process.ReservePort(i.life))
		}
		i.endpoints, https = append(i.endpoints, url("https")), append(https, url("https"))
		peers, metrics = append(peers, url("https")), append(metrics, url("http"))
		all = append(all, fmt.Sprintf("%s-%d=%s", set.Name, n, peers[n]))
	}
	i.StartMember = func(n int) *process.Process {
		instead := map[string]string{
			"--listen-client-urls": i.endpoints[n], "--advertise-client-urls": i.endpoints[n],
			"--listen-client-http-urls": https[n],
			"--listen-peer-urls":        peers[n], "--initial-advertise-peer-urls": peers[n],
			"--initial-cluster":     strings.Join(all, ","),
			"--listen-metrics-urls": metrics[n],
			"--log-level":           "error",
		}
		maps.Copy(instead, i.options.EtcdFlags)
		if !i.options.Durable {
			instead["--unsafe-no-fsync"] = "true"
		}
		return i.start(fmt.Sprintf("%s-%d", set.Name, n), &set.Spec.Template.Spec, kube.Program("etcd"), instead)
	}
	for n := range peers {
		i.Etcd = append(i.Etcd, i.StartMember(n))
	}
	for n, url := range metrics {
		i.Metrics = append(i.Metrics, Target{set.Name, url + "/metrics"})
		i.Eventually("etcd is ready", func() error {
			if i.Etcd[n].HasEnded() {
				i.Fatalf("A member of etcd ended:\n%s", i.Etcd[n].LastOfLog(4000))
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

// StartServer starts an API server, and returns when the Service has found it ready.
func (i *Installation) StartServer() *Server {
	i.Helper()
	kubeconfig, _ := i.ServiceAccount(Namespace, "ipam-apiserver")
	s := &Server{Port: process.ReservePort(i.life)}
	flags := map[string]string{
		"--bind-address": "127.0.0.1", "--secure-port": strconv.Itoa(s.Port),
		"--etcd-servers": strings.Join(i.endpoints, ","),
		"--kubeconfig":   kubeconfig, "--authentication-kubeconfig": kubeconfig, "--authorization-kubeconfig": kubeconfig,
		"--shutdown-delay-duration": "2s",
	}
	maps.Copy(flags, i.options.ServerFlags)
	s.Process = i.run("ipam-apiserver", flags)
	i.Servers = append(i.Servers, s)
	i.Service.add(s.Port)
	i.Eventually("the API server is ready", func() error {
		if s.HasEnded() {
			i.Fatalf("The API server ended:\n%s", s.LastOfLog(4000))
		}
		if !i.Service.isReady(s.Port) {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	return s
}

// certificates is the name of the certificate controller.
const certificates = "ipam-certificate-controller"

// StartCertificates starts the certificate controller.
func (i *Installation) StartCertificates() {
	i.Helper()
	i.Certificates = i.startController(certificates, nil)
}

// StartManager starts a controller manager.
func (i *Installation) StartManager() *process.Process {
	i.Helper()
	p := i.startController("ipam-controller-manager", map[string]string{"--apiservice-address": i.Service.Address})
	i.Managers = append(i.Managers, p)
	return p
}

// startController starts the controllers of a Deployment. They authenticate as the service account with the same
// name.
func (i *Installation) startController(deployment string, instead map[string]string) *process.Process {
	i.Helper()
	kubeconfig, _ := i.ServiceAccount(Namespace, deployment)
	address := fmt.Sprintf("127.0.0.1:%d", process.ReservePort(i.life))
	i.Metrics = append(i.Metrics, Target{deployment, "http://" + address + "/metrics"})
	all := map[string]string{"--kubeconfig": kubeconfig, "--bind-address": address}
	maps.Copy(all, instead)
	return i.run(deployment, all)
}

// EtcdFlags returns the flags of a program that connects to the etcd of the product.
func (i *Installation) EtcdFlags() []string {
	secret := filepath.Join(i.volumes, "ipam-etcd-client-tls")
	return []string{
		"--etcd-servers=" + strings.Join(i.endpoints, ","), "--etcd-cafile=" + filepath.Join(secret, "ca.crt"),
		"--etcd-certfile=" + filepath.Join(secret, "tls.crt"), "--etcd-keyfile=" + filepath.Join(secret, "tls.key"),
	}
}

// EtcdClient returns a client of the etcd of the product.
func (i *Installation) EtcdClient() *clientv3.Client {
	i.Helper()
	secret := filepath.Join(i.volumes, "ipam-etcd-client-tls")
	info := transport.TLSInfo{CertFile: filepath.Join(secret, "tls.crt"), KeyFile: filepath.Join(secret, "tls.key"), TrustedCAFile: filepath.Join(secret, "ca.crt")}
	config, err := info.ClientConfig()
	if err != nil {
		i.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: i.endpoints, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		i.Fatal(err)
	}
	i.Cleanup(func() { _ = client.Close() })
	return client
}

// Audited fails the test if an audit finds differences between objects and claims.
func (i *Installation) Audited() {
	i.Helper()
	options := apiserver.NewOptions().Recommended.Etcd
	transport := &options.StorageConfig.Transport
	transport.ServerList = i.endpoints
	secret := filepath.Join(i.volumes, "ipam-etcd-client-tls")
	transport.CertFile, transport.KeyFile, transport.TrustedCAFile = filepath.Join(secret, "tls.crt"), filepath.Join(secret, "tls.key"), filepath.Join(secret, "ca.crt")
	store, err := apiserver.OpenStore(options)
	if err != nil {
		i.Fatal(err)
	}
	defer store.Close()
	differences, err := store.Audit(context.Background(), audit.FullSpeed, audit.LeftoverGrace)
	if err != nil {
		i.Fatal(err)
	}
	for _, d := range differences {
		i.Errorf("Audit: %s %s/%s: %s", d.Kind, d.Namespace, d.Name, d.Message)
	}
}

// NewUser creates a namespace, if it does not exist, and a user with a cluster role in it. It returns when the user
// has these permissions.
func (i *Installation) NewUser(namespace, role string) (name, kubeconfig string, config *rest.Config) {
	i.Helper()
	ctx := i.Context()
	_, err := i.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		i.Fatal(err)
	}
	name = namespace + "-" + role
	_, err = i.Client.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		i.Fatal(err)
	}
	kubeconfig, config = i.User(name)
	client := versioned.NewForConfigOrDie(config).IpamV1alpha1()
	i.Eventually("the role is in force", func() error {
		// A controller aggregates the roles, so the permissions may take effect later.
		_, err := client.Prefixes(namespace).List(ctx, metav1.ListOptions{Limit: 1})
		return err
	})
	return name, kubeconfig, config
}
