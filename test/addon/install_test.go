// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	"helm.sh/helm/v4/pkg/action"
	helmkube "helm.sh/helm/v4/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
)

// releaseName is the name of the release.
const releaseName = "ipam"

// onLoopback is a post-renderer of Helm. It makes the Service and the APIService lead to a port of loopback.
type onLoopback struct{ port int }

// Run implements postrenderer.PostRenderer.
func (r onLoopback) Run(rendered *bytes.Buffer) (*bytes.Buffer, error) {
	out := &bytes.Buffer{}
	for _, document := range strings.Split(rendered.String(), "\n---\n") {
		switch {
		case strings.Contains(document, "kind: Service\n") && strings.Contains(document, "name: ipam-apiserver\n"):
			document = fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: ipam-apiserver, namespace: %s}\nspec: %s", product.Namespace, product.Loopback)
		case strings.Contains(document, "kind: APIService\n"):
			document = strings.Replace(document, "port: 443", fmt.Sprintf("port: %d", r.port), 1)
		}
		fmt.Fprintf(out, "---\n%s\n", document)
	}
	return out, nil
}

// helm is Helm for a cluster, as its administrator. Releases are in Secrets.
type helm struct {
	*kube.Cluster
	config *action.Configuration
	port   int

	mu sync.Mutex
	// deleted are the paths of the objects that Helm has deleted, in that order.
	deleted []string
}

// roundTripper is a function that sends a request.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func newHelm(c *kube.Cluster, port int) *helm {
	h := &helm{Cluster: c, port: port, config: action.NewConfiguration()}
	namespace := product.Namespace
	flags := genericclioptions.NewConfigFlags(true).WithDiscoveryBurst(1000)
	flags.KubeConfig, flags.Namespace = &c.AdminKubeconfig, &namespace
	cache := c.Dir + "/helm-cache"
	flags.CacheDir = &cache
	flags.WrapConfigFn = func(config *rest.Config) *rest.Config {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(request *http.Request) (*http.Response, error) {
				if request.Method == http.MethodDelete {
					h.mu.Lock()
					h.deleted = append(h.deleted, request.URL.Path)
					h.mu.Unlock()
				}
				return next.RoundTrip(request)
			})
		})
		return config
	}
	if err := h.config.Init(flags, namespace, "secret"); err != nil {
		c.Fatal(err)
	}
	return h
}

// install installs the chart of a tree. No node runs its pods, so it does not wait.
func (h *helm) install(tree string) {
	h.Helper()
	h.installWith(tree, map[string]any{"etcd": map[string]any{"replicas": 1}})
}

// installWith installs the chart of a tree with values.
func (h *helm) installWith(tree string, values map[string]any) {
	h.Helper()
	install := action.NewInstall(h.config)
	install.ReleaseName, install.Namespace, install.CreateNamespace = releaseName, product.Namespace, true
	install.WaitStrategy, install.PostRenderer = helmkube.HookOnlyStrategy, onLoopback{h.port}
	if _, err := install.RunWithContext(h.Context(), loadChart(h, tree), values); err != nil {
		h.Fatal(err)
	}
}

// upgrade upgrades the release to the chart of this tree, with values that change the pods of every component.
func (h *helm) upgrade() {
	h.Helper()
	upgrade := action.NewUpgrade(h.config)
	upgrade.Namespace, upgrade.ReuseValues = product.Namespace, true
	upgrade.WaitStrategy, upgrade.PostRenderer = helmkube.HookOnlyStrategy, onLoopback{h.port}
	values := map[string]any{
		"image":             map[string]any{"tag": "v0.0.1"},
		"apiserver":         map[string]any{"extraArgs": []any{"--v=1"}},
		"controllerManager": map[string]any{"extraArgs": []any{"--v=1"}},
	}
	if _, err := upgrade.RunWithContext(h.Context(), releaseName, loadChart(h, kube.Root()), values); err != nil {
		h.Fatal(err)
	}
}

// rollback returns to the first revision.
func (h *helm) rollback() {
	h.Helper()
	rollback := action.NewRollback(h.config)
	rollback.Version, rollback.WaitStrategy = 1, helmkube.HookOnlyStrategy
	if err := rollback.Run(releaseName); err != nil {
		h.Fatal(err)
	}
}

// uninstall removes the release, and returns when all of it is gone.
func (h *helm) uninstall() {
	h.Helper()
	uninstall := action.NewUninstall(h.config)
	uninstall.WaitStrategy, uninstall.Timeout = helmkube.StatusWatcherStrategy, harness.Patience
	if _, err := uninstall.Run(releaseName); err != nil {
		h.Fatal(err)
	}
}

// previous returns a directory with the tree of the previous commit. A shallow clone does not have it; then it is the tree
// of this commit.
func previous(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `git archive "$(git rev-parse --verify --quiet HEAD^ || echo HEAD)" | tar -x -C "$0"`, dir)
	cmd.Dir = kube.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// buildPrograms builds the programs of a tree into a directory.
func buildPrograms(t testing.TB, tree, dir string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/ipam-apiserver", "./cmd/ipam-controller-manager")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// load creates children, one after the other, until it is stopped.
type load struct {
	prefixes ipamclient.PrefixInterface
	stop     context.CancelFunc
	done     chan error
	// created are the names of those whose creation was acknowledged.
	created []string
}

// retried does something again while the error may be one of a server that is going or coming, as clients do.
func retried(f func() error) error {
	var last error
	err := wait.ExponentialBackoff(wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 30, Cap: 2 * time.Second}, func() (bool, error) {
		if last = f(); last == nil {
			return true, nil
		}
		var netErr interface{ Timeout() bool }
		again := apierrors.IsServiceUnavailable(last) || apierrors.IsTooManyRequests(last) || apierrors.IsServerTimeout(last) ||
			apierrors.IsInternalError(last) || apierrors.IsTimeout(last) || errors.Is(last, io.EOF) || errors.As(last, &netErr)
		if !again {
			return false, last
		}
		return false, nil
	})
	if wait.Interrupted(err) {
		return last
	}
	return err
}

func startLoad(t testing.TB, name string, prefixes ipamclient.PrefixInterface) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{prefixes: prefixes, stop: stop, done: make(chan error, 1)}
	t.Cleanup(stop)
	go func() {
		l.done <- func() error {
			for n := 0; ctx.Err() == nil; n++ {
				child := harness.Child(fmt.Sprintf("%s-%d", name, n), "pool", harness.Length(28))
				if err := retried(func() error {
					_, err := prefixes.Create(context.WithoutCancel(ctx), child, metav1.CreateOptions{})
					if n > 0 && apierrors.IsAlreadyExists(err) {
						// The answer to an earlier attempt was lost.
						return nil
					}
					return err
				}); err != nil {
					return fmt.Errorf("%s: %w", child.Name, err)
				}
				l.created = append(l.created, child.Name)
				time.Sleep(20 * time.Millisecond)
			}
			return nil
		}()
	}()
	return l
}

// check stops the load. No request may have failed, and everything that was created is there and gets allocated.
func (l *load) check(t testing.TB) {
	t.Helper()
	l.stop()
	if err := <-l.done; err != nil {
		t.Errorf("a client with ordinary retries failed: %v", err)
	}
	l.allocated(t)
}

// allocated waits until everything that was created is Allocated.
func (l *load) allocated(t testing.TB) {
	t.Helper()
	t.Logf("%d children were created", len(l.created))
	harness.Eventually(t, "all that was created is allocated", func() error {
		list, err := l.prefixes.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		allocated := map[string]bool{}
		for _, prefix := range list.Items {
			allocated[prefix.Name] = prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated
		}
		for _, name := range l.created {
			if !allocated[name] {
				return fmt.Errorf("%s is not", name)
			}
		}
		return nil
	})
}

// replaceServers replaces the programs one by one, as Deployments do: the new ones are ready before the old ones end.
func replaceServers(i *product.Installation) {
	i.Helper()
	old := append([]*product.Server{}, i.Servers...)
	i.Servers = nil
	for _, server := range old {
		i.StartServer()
		end(i, server.Process)
	}
	managers := append([]*process.Process{}, i.Managers...)
	i.Managers = nil
	for _, manager := range managers {
		i.StartManager()
		end(i, manager)
	}
}

// end ends a program in an orderly way.
func end(i *product.Installation, p *process.Process) {
	i.Helper()
	p.Signal(syscall.SIGTERM)
	i.Eventually("the program has ended", func() error { return harness.Unless(p.HasEnded(), "it runs") })
}

// namespaceGoes creates and deletes a namespace, and returns when it is gone.
func namespaceGoes(i *product.Installation, name string) {
	i.Helper()
	namespaces := i.Client.CoreV1().Namespaces()
	if _, err := namespaces.Create(i.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		i.Fatal(err)
	}
	if err := namespaces.Delete(i.Context(), name, metav1.DeleteOptions{}); err != nil {
		i.Fatal(err)
	}
	namespaceGone(i, name)
}

func namespaceGone(i *product.Installation, name string) {
	i.Helper()
	i.Eventually("namespace "+name+" is gone", func() error {
		ns, err := i.Client.CoreV1().Namespaces().Get(i.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%v, %v", ns.Status.Conditions, err)
	})
}

// TestHelmInCluster installs the previous commit with Helm in a real control plane, upgrades to this one and back under
// load. It uninstalls it under load, and installs it again: nothing that was acknowledged is lost. Then it uninstalls it and
// installs it again, and has somebody delete the namespace instead.
func TestHelmInCluster(t *testing.T) {
	before, programs := previous(t), t.TempDir()
	buildPrograms(t, before, programs)
	var h *helm
	i := product.Install(t, product.Options{Programs: programs, Members: 1, Servers: 2, Managers: 1, Apply: func(c *kube.Cluster, port int) {
		h = newHelm(c, port)
		h.install(before)
	}})
	_, _, user := i.NewUser("team", "edit")
	prefixes := versioned.NewForConfigOrDie(user).IpamV1alpha1().Prefixes("team")
	if _, err := prefixes.Create(t.Context(), harness.Root("pool", "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	l := startLoad(t, "child", prefixes)
	h.upgrade()
	image := func() string {
		deployment, err := i.Client.AppsV1().Deployments(product.Namespace).Get(t.Context(), "ipam-apiserver", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, tag, _ := strings.Cut(deployment.Spec.Template.Spec.Containers[0].Image, ":")
		return tag
	}
	if tag := image(); tag != "v0.0.1" {
		t.Errorf("after the upgrade the tag is %s", tag)
	}
	buildPrograms(t, kube.Root(), programs)
	replaceServers(i)
	h.rollback()
	if tag := image(); tag == "v0.0.1" {
		t.Error("after the rollback it is still that of the upgrade")
	}
	buildPrograms(t, before, programs)
	replaceServers(i)
	l.check(t)
	i.Audited()

	// It is uninstalled under load, and installed again: what was acknowledged is there.
	l = startLoad(t, "late", prefixes)
	time.Sleep(time.Second)
	uninstall := func() {
		t.Helper()
		h.deleted = nil
		h.uninstall()
		if len(h.deleted) == 0 || path.Base(h.deleted[0]) != product.APIService {
			t.Errorf("deleted first: %q", h.deleted)
		}
		for _, server := range i.Servers {
			end(i, server.Process)
		}
		for _, manager := range append(i.Managers, i.Certificates) {
			manager.Kill()
		}
		i.Servers, i.Managers = nil, nil
	}
	uninstall()
	l.stop()
	if err := <-l.done; err != nil {
		t.Logf("the end of the load: %v", err)
	}
	if len(l.created) == 0 {
		t.Fatal("nothing was created before the end")
	}
	h.install(before)
	i.StartCertificates()
	i.StartServer()
	i.StartManager()
	i.Eventually("the API is there again", func() error {
		_, err := prefixes.Get(t.Context(), "pool", metav1.GetOptions{})
		return err
	})
	l.allocated(t)
	i.Audited()

	// The namespace of the team has Prefixes. Neither it nor another one waits for the API.
	uninstall()
	namespaceGoes(i, "after-uninstall")
	if err := i.Client.CoreV1().Namespaces().Delete(t.Context(), "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	namespaceGone(i, "team")

	// Somebody deletes the namespace instead.
	h.install(kube.Root())
	stuck := func() error {
		ns, err := i.Client.CoreV1().Namespaces().Get(t.Context(), product.Namespace, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range ns.Status.Conditions {
			if condition.Type == corev1.NamespaceDeletionDiscoveryFailure && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%v", ns.Status.Conditions)
	}
	if err := i.Client.CoreV1().Namespaces().Delete(t.Context(), product.Namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Eventually("the namespace waits for the API", stuck)
	// What docs/operating/installation.md says.
	i.Kubectl(i.AdminKubeconfig).Run("delete", "apiservice", product.APIService)
	namespaceGone(i, product.Namespace)
	namespaceGoes(i, "after-all")
}
