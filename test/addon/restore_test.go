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
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/watch"
)

// wrapper stands for a program in the recipes of the documentation. Addresses and paths in its arguments become those of the
// installation, in which processes run instead of pods. kubectl is the real one, but for what a kubelet does.
const wrapper = `#!/usr/bin/env bash
set -o errexit -o nounset -o pipefail
args=()
for arg in "$@"; do
    args+=("$(sed -f "${WRAPPERS}/addresses.sed" <<<"${arg}")")
done
program=$(basename "$0")
if [[ "${program}" != kubectl ]]; then
    exec "${TOOLS}/${program}" "${args[@]}"
fi
case " $* " in
*" port-forward "* | *" rollout status "* | *" --for=condition=Ready "*) ;;
*" exec deployment/ipam-apiserver -- /ipam-apiserver audit "*)
    exec "${PROGRAMS}/ipam-apiserver" "${args[@]:6}"
    ;;
*" exec "*" -- "*)
    command=("$@")
    while [[ "${command[0]}" != -- ]]; do
        [[ "${command[0]}" != ipam-restore-* ]] || volume=${VOLUMES}/ipam-etcd-${command[0]#ipam-restore-}/data
        command=("${command[@]:1}")
    done
    command=("${command[@]:1}")
    exec "${command[@]//\/var\/lib\/etcd/${volume}}"
    ;;
*) exec "${KUBECTL}" "$@" ;;
esac
`

// page has the commands of a section of the documentation.
type page struct {
	*product.Installation
	// wrappers is a directory with programs that stand for those of the recipes, and dir the working directory.
	wrappers, dir string
	environment   []string
	// connect are commands that set variables for the others.
	connect string
	// blocks are the blocks of commands, in their order.
	blocks []string
}

// newPage reads a section of a file. The block with the text connect, in any section, comes before each other one.
func newPage(i *product.Installation, programs, file, section, connect string) *page {
	i.Helper()
	tools := i.TempDir()
	build := exec.Command("go", "build", "-o", tools+"/", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3")
	if out, err := build.CombinedOutput(); err != nil {
		i.Fatalf("%v: %s", err, out)
	}
	r := &page{Installation: i, wrappers: i.TempDir(), dir: i.TempDir()}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(r.wrappers, name), []byte(content), 0o700); err != nil {
			i.Fatal(err)
		}
	}
	for _, name := range []string{"kubectl", "etcdctl", "etcdutl"} {
		write(name, wrapper)
	}
	addresses := fmt.Sprintf("s|/etc/ipam/etcd/|%s/|\n", filepath.Join(i.Dir, "volumes", "ipam-etcd-client-tls"))
	for n, member := range i.Etcd {
		for port, flag := range map[int]string{2379: "--advertise-client-urls=", 2380: "--initial-advertise-peer-urls="} {
			for _, arg := range member.Cmd.Args {
				if url, ok := strings.CutPrefix(arg, flag); ok {
					addresses += fmt.Sprintf("s|https://ipam-etcd-%d.ipam-etcd.ipam-system.svc:%d|%s|g\n", n, port, url)
				}
			}
		}
	}
	write("addresses.sed", addresses)
	r.environment = append(os.Environ(), "WRAPPERS="+r.wrappers, "TOOLS="+tools, "PROGRAMS="+programs, "VOLUMES="+i.Dir,
		"KUBECTL="+kube.Program("kubectl"), "KUBECONFIG="+i.AdminKubeconfig, "PATH="+r.wrappers+":"+os.Getenv("PATH"))

	content, err := os.ReadFile(filepath.Join(kube.Root(), file))
	if err != nil {
		i.Fatal(err)
	}
	first, text, found := strings.Cut("\n"+string(content), "\n## "+section+"\n")
	if !found {
		i.Fatalf("%s has no section %s", file, section)
	}
	text, last, _ := strings.Cut(text, "\n## ")
	for _, commands := range commandsIn(first + text + last) {
		if strings.Contains(commands, connect) {
			r.connect = commands
		}
	}
	r.blocks = slices.DeleteFunc(commandsIn(text), func(commands string) bool { return commands == r.connect })
	return r
}

// commandsIn returns the blocks of commands in a text.
func commandsIn(text string) (blocks []string) {
	for _, match := range block.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, strings.ReplaceAll("\n"+match[2], "\n"+match[1], "\n"))
	}
	return blocks
}

// block matches a block of commands, which may be indented.
var block = regexp.MustCompile("(?ms)^( *)```sh\n(.*?)^ *```$")

// run runs the next block, which must have a text. etcdctl talks to a member.
func (r *page) run(member int, text string) string {
	r.Helper()
	if len(r.blocks) == 0 || !strings.Contains(r.blocks[0], text) {
		r.Fatalf("No %q in the next block: %q", text, r.blocks)
	}
	connect := strings.ReplaceAll(r.connect, "https://localhost:2379", fmt.Sprintf("$(sed -f %q <<<https://ipam-etcd-%d.ipam-etcd.ipam-system.svc:2379)", filepath.Join(r.wrappers, "addresses.sed"), member))
	cmd := exec.CommandContext(r.Context(), "bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c", connect+r.blocks[0])
	cmd.Dir, cmd.Env = r.dir, r.environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("%s: %v\n%s", r.blocks[0], err, out)
	}
	r.blocks = r.blocks[1:]
	return string(out)
}

// TestRestore takes a snapshot of etcd while children are created, kills everything after further writes, and restores the
// snapshot, with the commands of the documentation.
func TestRestore(t *testing.T) {
	programs := t.TempDir()
	buildPrograms(t, kube.Root(), programs)
	i := product.Install(t, product.Options{Programs: programs, Members: 3, Servers: 1, Managers: 1})
	docs := newPage(i, programs, "docs/operating/backup.md", "A snapshot of etcd", "port-forward")
	_, _, config := i.NewUser(team, "admin")
	client := versioned.NewForConfigOrDie(config)
	ns := harness.In(t, client.IpamV1alpha1(), team)
	ns.Create(harness.Root("pool", "10.0.0.0/16"))
	ns.CreatePolicy(harness.Policy("rules", []v1alpha1.PrefixReservation{{CIDR: "10.0.0.0/24"}}))

	// A client that watches all the time.
	factory := externalversions.NewSharedInformerFactoryWithOptions(client, 0, externalversions.WithNamespace(team))
	cache := factory.Ipam().V1alpha1().Prefixes().Lister()
	stop := make(chan struct{})
	factory.Start(stop)
	t.Cleanup(factory.Shutdown)
	t.Cleanup(func() { close(stop) })
	factory.WaitForCacheSync(stop)

	created := func(count int) {
		t.Helper()
		i.Eventually("children are created", func() error {
			list := ns.List()
			n := 0
			for _, p := range list {
				if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
					n++
				}
			}
			return harness.Unless(n >= count, "there are %d", n)
		})
	}
	l := startLoad(t, "before", ns.Prefixes)
	created(50)
	before := allocated(ns.List())
	docs.run(0, "etcdctl snapshot save")
	created(len(before) + 50)
	l.check(t)

	docs.run(0, "kind: CronJob")
	job, err := i.Client.BatchV1().CronJobs(product.Namespace).Get(t.Context(), "ipam-backup", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := i.Client.AppsV1().StatefulSets(product.Namespace).Get(t.Context(), "ipam-etcd", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if is, want := job.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Image, set.Spec.Template.Spec.Containers[0].Image; is != want {
		t.Errorf("the image of the job is %s, and that of etcd %s", is, want)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "backup-"}, Spec: job.Spec.JobTemplate.Spec.Template.Spec}
	if _, err := i.Client.CoreV1().Pods(product.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Error(err)
	}

	// What the snapshot does not have: children are deleted, and others get their space.
	for name := range before {
		if name != "pool" {
			ns.Delete(name)
		}
	}
	i.Eventually("the children are gone", func() error {
		for _, p := range ns.List() {
			if _, there := before[p.Name]; there && p.Name != "pool" {
				return fmt.Errorf("%s is there", p.Name)
			}
		}
		return nil
	})
	for name := range before {
		if name != "pool" {
			ns.Create(harness.Child("after-"+name, "pool", harness.Length(28)))
		}
	}
	ns.AllAllocated()
	last, err := ns.Prefixes.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	docs.run(0, "--replicas=0")
	i.Managers[0].Kill()
	i.Servers[0].Kill()
	for _, member := range i.Etcd {
		member.Kill()
	}
	docs.run(0, "etcdutl snapshot restore")
	docs.run(0, "ipam-restore-$n")
	for n := range i.Etcd {
		i.Etcd[n] = i.StartMember(n)
	}
	i.StartServer()
	docs.run(0, "/ipam-apiserver audit")

	// Before anything is written: no client may go on from what was lost.
	i.Eventually("the server serves through kube-apiserver", func() error {
		_, err := ns.Prefixes.List(t.Context(), metav1.ListOptions{})
		return err
	})
	restored := map[string]v1alpha1.Prefix{}
	for _, p := range ns.List() {
		restored[p.Name] = p
		if strings.HasPrefix(p.Name, "after-") {
			t.Errorf("%s is newer than the snapshot", p.Name)
		}
	}
	if err := gone(t.Context(), ns.Prefixes, last.ResourceVersion); err != nil {
		t.Errorf("a watch from before the restore: %v", err)
	}

	docs.run(0, "scale deployment ipam-controller-manager")
	i.StartManager()
	ns.AllAllocated()
	now := allocated(ns.List())
	for name, p := range before {
		if now[name] != p {
			t.Errorf("%s was %s, and is %s", name, p, now[name])
		}
	}
	for name, p := range allocated(slices.Collect(maps.Values(restored))) {
		if now[name] != p {
			t.Errorf("%s was restored as %s, and is %s", name, p, now[name])
		}
	}
	for n := range 20 {
		ns.Create(harness.Child(fmt.Sprintf("new-%d", n), "pool", harness.Length(28)))
	}
	ns.AllAllocated()
	i.Eventually("nothing overlaps", func() error { return harness.CheckAllocations(ns.List(), ns.ListAllocations()) })
	i.Eventually("the client that watches all the time knows what is there", func() error {
		cached, err := cache.List(labels.Everything())
		if err != nil {
			return err
		}
		var items []v1alpha1.Prefix
		for _, p := range cached {
			items = append(items, *p)
		}
		if knows, is := allocated(items), allocated(ns.List()); !maps.Equal(knows, is) {
			return fmt.Errorf("it knows %d children, and there are %d", len(knows), len(is))
		}
		return nil
	})
	i.Audited()
	t.Logf("%d children were allocated before the snapshot, and %d are restored", len(before)-1, len(restored)-1)
}

// TestLostMember loses the volume of a member of etcd while children are created, and replaces the member with the commands of
// the documentation. Then it can replace another one.
func TestLostMember(t *testing.T) {
	programs := t.TempDir()
	buildPrograms(t, kube.Root(), programs)
	i := product.Install(t, product.Options{Programs: programs, Members: 3, Servers: 1, Managers: 1})
	docs := newPage(i, programs, "docs/operating/backup.md", "A lost member of etcd", "port-forward")
	_, _, config := i.NewUser(team, "admin")
	ns := harness.In(t, versioned.NewForConfigOrDie(config).IpamV1alpha1(), team)
	ns.Create(harness.Root("pool", "10.0.0.0/16"))
	l := startLoad(t, "child", ns.Prefixes)
	more := func() {
		t.Helper()
		before := len(allocated(ns.List()))
		i.Eventually("more children are allocated", func() error {
			list, err := ns.Prefixes.List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			n := len(allocated(list.Items))
			return harness.Unless(n >= before+20, "there are %d, and %d more", before, n-before)
		})
	}
	more()

	// The member that the page is about.
	const lost = 1
	i.Etcd[lost].Kill()
	if err := os.RemoveAll(filepath.Join(i.Dir, "ipam-etcd-1", "data", "data")); err != nil {
		t.Fatal(err)
	}
	more()
	sets := i.Client.AppsV1().StatefulSets(product.Namespace)
	before, err := sets.Get(t.Context(), "ipam-etcd", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	docs.run(0, "--initial-cluster-state=existing")
	set, err := sets.Get(t.Context(), "ipam-etcd", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	added := set.Spec.Template.Spec.Containers[0].Args[len(before.Spec.Template.Spec.Containers[0].Args):]
	docs.run(0, "etcdctl member add")
	docs.run(0, "delete pod")
	i.Etcd[lost] = process.Start(t, i.Dir, kube.Program("etcd"), append(i.Etcd[lost].Cmd.Args[1:], added...)...)
	etcd := i.EtcdClient()
	i.Eventually("all members are started", func() error {
		if i.Etcd[lost].HasEnded() {
			t.Fatalf("The new member ended:\n%s", i.Etcd[lost].LastOfLog(4000))
		}
		members, err := etcd.MemberList(t.Context())
		if err != nil {
			return err
		}
		for _, m := range members.Members {
			if m.Name == "" {
				return fmt.Errorf("%v is not", m.PeerURLs)
			}
		}
		return harness.Unless(len(members.Members) == 3, "there are %d", len(members.Members))
	})
	docs.run(0, "rollout undo")
	i.Eventually("the StatefulSet is as before", func() error {
		set, err := sets.Get(t.Context(), "ipam-etcd", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return harness.Unless(equality.Semantic.DeepEqual(set.Spec, before.Spec), "%s", diff.Diff(before.Spec, set.Spec))
	})
	more()

	// The new member starts again, with its data and without the flag. Then it is one of the two that are left.
	i.Etcd[lost].Kill()
	i.Etcd[lost] = i.StartMember(lost)
	more()
	i.Etcd[0].Kill()
	more()
	l.check(t)
	i.Audited()
}

// allocated returns what Prefixes have that are Allocated, by name.
func allocated(prefixes []v1alpha1.Prefix) map[string]string {
	found := map[string]string{}
	for _, p := range prefixes {
		if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			found[p.Name] = fmt.Sprintf("%s %s", p.Spec.Prefix, p.UID)
		}
	}
	return found
}

// gone returns an error unless a watch from a resource version is told to list again.
func gone(ctx context.Context, prefixes ipamclient.PrefixInterface, version string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	w, err := prefixes.Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err == nil {
		defer w.Stop()
		event, open := <-w.ResultChan()
		if !open {
			return fmt.Errorf("nothing comes")
		}
		if event.Type != watch.Error {
			return fmt.Errorf("it goes on with %s %v", event.Type, event.Object)
		}
		err = apierrors.FromObject(event.Object)
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		return fmt.Errorf("the error is not 410: %w", err)
	}
	return nil
}
