// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// lastRelease returns a directory with the tree of the last release before this commit. Until there is a release, it is that of
// 30 commits ago, or of the first commit of a shallow clone.
func lastRelease(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `commit=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null || git rev-parse --verify --quiet HEAD~30 || git rev-list --max-parents=0 HEAD | tail -1)
git archive "$commit" | tar -x -C "$0" && echo "$commit"`, dir)
	cmd.Dir = kube.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("The earlier version is %s", out)
	return dir
}

// versions is an installation in which programs of two versions run beside each other on one etcd.
type versions struct {
	*product.Installation
	// programs is a link to the directory of the programs that are started next.
	programs string
	user     *rest.Config
	// servers are the API servers that run, by version.
	servers map[string]*product.Server
	// children are the names of the children that were created, by the version of the API server, without those that were
	// deleted.
	mu       sync.Mutex
	children map[string][]string
	stages   int
}

// use makes a directory that of the programs that are started next.
func (v *versions) use(dir string) {
	v.Helper()
	if err := os.Remove(v.programs); err != nil && !os.IsNotExist(err) {
		v.Fatal(err)
	}
	if err := os.Symlink(dir, v.programs); err != nil {
		v.Fatal(err)
	}
}

// client returns a client of an API server, that does not go through kube-apiserver.
func (v *versions) client(version string) ipamclient.IpamV1alpha1Interface {
	v.Helper()
	config := rest.CopyConfig(v.user)
	config.Host = fmt.Sprintf("https://127.0.0.1:%d", v.servers[version].Port)
	config.CAData, config.CAFile, config.Insecure = nil, "", true
	client, err := versioned.NewForConfig(config)
	if err != nil {
		v.Fatal(err)
	}
	return client.IpamV1alpha1()
}

const (
	team = "team"
	// stageTime is how long there is load in each stage.
	stageTime = 4 * time.Second
)

// load has a client of each API server create children, and delete some that another version has created. Then it looks
// whether all of them see the same, and whether all that was acknowledged is there.
func (v *versions) load(what string) {
	v.Helper()
	v.stages++
	ctx, stop := context.WithTimeout(v.Context(), stageTime)
	defer stop()
	var wg sync.WaitGroup
	for version := range v.servers {
		prefixes := v.client(version).Prefixes(team)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				child := harness.Child(fmt.Sprintf("s%d-%s-%d", v.stages, version, n), "pool", harness.Length(28))
				// A new child is created once, so the answer to an earlier attempt was lost if it exists.
				if err := retried(func() error {
					_, err := prefixes.Create(v.Context(), child, metav1.CreateOptions{})
					if n > 0 && apierrors.IsAlreadyExists(err) {
						return nil
					}
					return err
				}); err != nil {
					v.Errorf("%s: %s: %v", what, child.Name, err)
					return
				}
				v.mu.Lock()
				v.children[version] = append(v.children[version], child.Name)
				victim := ""
				for other, names := range v.children {
					if n%4 == 3 && other != version && len(names) > 0 {
						victim, v.children[other] = names[0], names[1:]
					}
				}
				v.mu.Unlock()
				if victim != "" {
					if err := retried(func() error { return prefixes.Delete(v.Context(), victim, metav1.DeleteOptions{}) }); err != nil {
						v.Errorf("%s: deleting %s: %v", what, victim, err)
						return
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wg.Wait()

	want := map[string]bool{"pool": true}
	for _, names := range v.children {
		for _, name := range names {
			want[name] = true
		}
	}
	var first map[string]string
	for _, version := range slices.Sorted(maps.Keys(v.servers)) {
		client := v.client(version)
		v.Eventually(what+": all is allocated that was created", func() error {
			prefixes, err := client.Prefixes(team).List(v.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			allocations, err := client.PrefixAllocations(team).List(v.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			policies, err := client.PrefixPolicies(team).List(v.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			seen := map[string]string{}
			for _, p := range prefixes.Items {
				if !want[p.Name] || p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
					return fmt.Errorf("%s is %s", p.Name, p.Status.Phase)
				}
				// The status of the pool follows.
				if p.Name != "pool" {
					seen["Prefix "+p.Name] = fmt.Sprint(p.UID, p.ResourceVersion, p.Spec.Prefix, p.Spec.ParentRef)
				}
			}
			if len(prefixes.Items) != len(want) {
				return fmt.Errorf("there are %d Prefixes instead of %d", len(prefixes.Items), len(want))
			}
			for _, a := range allocations.Items {
				seen["PrefixAllocation "+a.Name] = fmt.Sprint(a.UID, a.ResourceVersion, a.Spec, a.Status.Phase, a.Status.Prefix)
			}
			for _, p := range policies.Items {
				seen["PrefixPolicy "+p.Name] = fmt.Sprint(p.UID, p.Spec)
			}
			if len(allocations.Items) != len(want)-1 || len(policies.Items) != 1 {
				return fmt.Errorf("there are %d PrefixAllocations and %d PrefixPolicies for %d children", len(allocations.Items), len(policies.Items), len(want)-1)
			}
			if first == nil {
				first = seen
			}
			for name, is := range seen {
				if first[name] != is {
					return fmt.Errorf("%s is different: %s, %s", name, first[name], is)
				}
			}
			return harness.CheckAllocations(prefixes.Items, allocations.Items)
		})
	}
	v.Logf("%s: %d children", what, len(want)-1)
}

// end ends the API server of a version.
func (v *versions) end(version string) {
	v.Helper()
	end(v.Installation, v.servers[version].Process)
	delete(v.servers, version)
}

// manage replaces the controller manager.
func (v *versions) manage(dir string) {
	v.Helper()
	v.use(dir)
	end(v.Installation, v.Managers[len(v.Managers)-1])
	v.StartManager()
}

// TestVersionsTogether runs the API servers and controller managers of an earlier version and of this one in all
// combinations on one etcd, in the order of an upgrade and then in that of a rollback. Clients of each API server create and
// delete meanwhile.
func TestVersionsTogether(t *testing.T) {
	tree, before, now := lastRelease(t), t.TempDir(), t.TempDir()
	buildPrograms(t, tree, before)
	buildPrograms(t, kube.Root(), now)
	v := &versions{programs: filepath.Join(t.TempDir(), "programs"), servers: map[string]*product.Server{}, children: map[string][]string{}}
	v.Installation = &product.Installation{Cluster: &kube.Cluster{TB: t}}
	v.use(before)
	v.Installation = product.Install(t, product.Options{Programs: v.programs, Tree: tree, Members: 1, Servers: 1, Managers: 1})
	v.servers["before"] = v.Servers[0]
	_, _, v.user = v.NewUser(team, "admin")
	prefixes := v.client("before")
	if _, err := prefixes.Prefixes(team).Create(t.Context(), harness.Root("pool", "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := prefixes.PrefixPolicies(team).Create(t.Context(), &v1alpha1.PrefixPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "rules"},
		Spec:       v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}, Reserved: []v1alpha1.PrefixReservation{{CIDR: "10.0.0.0/24", Reason: "gateways"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	v.load("before the upgrade")

	v.Kubectl(v.AdminKubeconfig).Run("apply", "-k", filepath.Join(kube.Root(), "config/rbac"))
	v.use(now)
	v.servers["now"] = v.StartServer()
	v.load("upgrade: both API servers, the old controller manager")
	v.manage(now)
	v.load("upgrade: both API servers, the new controller manager")
	v.end("before")
	v.load("after the upgrade")

	v.use(before)
	v.servers["before"] = v.StartServer()
	v.load("rollback: both API servers, the new controller manager")
	v.manage(before)
	v.load("rollback: both API servers, the old controller manager")
	v.end("now")
	v.load("after the rollback")

	v.Audited()
	audit := exec.CommandContext(t.Context(), filepath.Join(before, "ipam-apiserver"), append([]string{"audit"}, v.EtcdFlags()...)...)
	if out, err := audit.CombinedOutput(); err != nil {
		t.Errorf("the audit of the earlier version: %v\n%s", err, strings.TrimSpace(string(out)))
	}
}
