// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	"github.com/prometheus/procfs"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
)

const (
	// statedChildren is the number of children for which docs/operating/capacity.md says that the memory limits of config/ are
	// enough.
	statedChildren = 150_000
	// fewChildren is the number of children of the short test. Its limits are so low that it notices what costs more memory.
	fewChildren = 10_000
	fewLimit    = "256Mi"
	// childrenOfRoot is the number of children of each root, a /22.
	childrenOfRoot = 1000
)

// TestCapacity restarts the API server and the controller manager with very many children, and compares the memory that
// they have had with the limits of their containers. With IPAM_TEST_LONG=1 there are as many children as the documentation
// promises, and the limits are those of the manifests. IPAM_TEST_CHILDREN is another number of children, and IPAM_TEST_MEMORY
// another limit: go test prints what is in the table of the documentation.
func TestCapacity(t *testing.T) {
	children, limit := fewChildren, fewLimit
	if os.Getenv("IPAM_TEST_LONG") != "" {
		children, limit = statedChildren, ""
	}
	if text := os.Getenv("IPAM_TEST_CHILDREN"); text != "" {
		var err error
		if children, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		limit = os.Getenv("IPAM_TEST_MEMORY")
	}
	i := install(t, 1, 1, 1)
	u := i.newUser("team-many", "edit")
	roots := (children + childrenOfRoot - 1) / childrenOfRoot
	parents := make([]*v1alpha1.Prefix, roots)
	for n := range parents {
		var err error
		if parents[n], err = u.client.Prefixes(u.namespace).Create(t.Context(), root(fmt.Sprintf("root-%d", n), rootRange(n).String()), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), child("first", "root-0", 32), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	u.waitAllocated(roots + 1)
	i.Managers[0].Kill()
	i.Servers[0].Kill()
	u.multiply(parents, children)
	if limit != "" {
		i.limit(limit)
	}

	server, took := i.restart(func() *process.Process { return i.StartServer().Process })
	began := time.Now()
	manager := i.StartManager()
	eventually := func(what string, check func() error) {
		t.Helper()
		// With very many children, one Patience is not enough.
		for n := 0; ; n++ {
			_, err := harness.Wait(check)
			if err == nil {
				return
			}
			if n == children/100_000 {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	eventually("one more child", func() error {
		_, err := u.client.Prefixes(u.namespace).Create(t.Context(), child("one-more", "root-1", 32), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		p, err := u.client.Prefixes(u.namespace).Get(t.Context(), "one-more", metav1.GetOptions{})
		if err != nil || p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
			return fmt.Errorf("it is not Allocated: %v", err)
		}
		return nil
	})
	managed := time.Since(began)
	eventually("a parent counts its children", func() error {
		p, err := u.client.Prefixes(u.namespace).Get(t.Context(), fmt.Sprintf("root-%d", roots-1), metav1.GetOptions{})
		if err != nil || p.Status.Usage == nil || p.Status.Usage.Allocations == 0 {
			return fmt.Errorf("it does not: %v", err)
		}
		return nil
	})
	status, err := i.EtcdClient().Status(t.Context(), i.EtcdClient().Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	serverPeak, managerPeak, etcdPeak := peak(t, server), peak(t, manager), peak(t, i.Etcd[0])
	direct := rest.AnonymousClientConfig(i.Admin)
	direct.TLSClientConfig = rest.TLSClientConfig{Insecure: true, CertData: i.Admin.CertData, KeyData: i.Admin.KeyData, CertFile: i.Admin.CertFile, KeyFile: i.Admin.KeyFile}
	serverLive := live(t, direct, fmt.Sprintf("https://127.0.0.1:%d/metrics", i.Servers[len(i.Servers)-1].Port))
	managerLive := live(t, &rest.Config{}, i.Metrics[len(i.Metrics)-1].URL)
	t.Logf("| children | limit | API server in use, at most | ready after | controller manager in use, at most | allocates after | etcd at most | database |")
	t.Logf("| %d | %s | %d, %d MiB | %.0f s | %d, %d MiB | %.0f s | %d MiB | %d MiB |", children, i.memoryLimit("ipam-apiserver"), serverLive>>20, serverPeak>>20, took.Seconds(),
		managerLive>>20, managerPeak>>20, managed.Seconds(), etcdPeak>>20, status.DbSize>>20)
	for name, peak := range map[string]uint64{"ipam-apiserver": serverPeak, "ipam-controller-manager": managerPeak} {
		if limit := i.memoryLimit(name); peak >= uint64(limit.Value()) {
			t.Errorf("%s had %d MiB, and its limit is %s", name, peak>>20, limit)
		}
	}
	for name, p := range map[string]*process.Process{"ipam-apiserver": server, "ipam-controller-manager": manager} {
		if p.HasEnded() {
			t.Errorf("%s has ended:\n%s", name, p.LastOfLog(2000))
		}
	}
	i.Audited()
}

// rootRange returns the range of a root.
func rootRange(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 6), byte(n << 2), 0}), 22)
}

// restart starts a process, and returns it with the time until it was ready.
func (i *installation) restart(start func() *process.Process) (*process.Process, time.Duration) {
	began := time.Now()
	return start(), time.Since(began)
}

// peak returns the largest resident memory that a process has had, in bytes. A container is killed when that, without what
// can be read from files again, would be more than its limit.
func peak(t testing.TB, p *process.Process) uint64 {
	t.Helper()
	proc, err := procfs.NewProc(p.Cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	status, err := proc.NewStatus()
	if err != nil {
		t.Fatal(err)
	}
	return status.VmHWM
}

// live returns the memory that a program had in use after its last garbage collection, in bytes.
func live(t testing.TB, config *rest.Config, url string) uint64 {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^go_gc_heap_live_bytes (\S+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no go_gc_heap_live_bytes: %s", url, response.Status)
	}
	value, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(value)
}

// memoryLimit returns the memory limit in a Deployment.
func (i *installation) memoryLimit(deployment string) *resource.Quantity {
	i.Helper()
	d, err := i.Client.AppsV1().Deployments(product.Namespace).Get(i.Context(), deployment, metav1.GetOptions{})
	if err != nil {
		i.Fatal(err)
	}
	return d.Spec.Template.Spec.Containers[0].Resources.Limits.Memory()
}

// limit sets the memory limits of the programs, and GOMEMLIMIT to nine tenths of it.
func (i *installation) limit(memory string) {
	i.Helper()
	quantity := resource.MustParse(memory)
	for _, name := range []string{"ipam-apiserver", "ipam-controller-manager"} {
		i.Kubectl(i.AdminKubeconfig).Run("-n", product.Namespace, "set", "resources", "deployment", name, "--limits=memory="+memory, "--requests=memory="+memory)
		i.Kubectl(i.AdminKubeconfig).Run("-n", product.Namespace, "set", "env", "deployment/"+name, fmt.Sprintf("GOMEMLIMIT=%dKiB", quantity.Value()*9/10/1024))
	}
}

// multiply writes copies of the child "first", of its allocation and of its claim to etcd, until there are so many children.
// Through the API that would take hours.
func (u *user) multiply(parents []*v1alpha1.Prefix, children int) {
	u.Helper()
	client := u.EtcdClient()
	serializer := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	const objects = apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/"
	keys := claims.NewKeyspace(apiserver.DefaultEtcdPrefix)
	get := func(key string) []byte {
		u.Helper()
		response, err := client.Get(u.Context(), key, clientv3.WithPrefix())
		if err != nil || len(response.Kvs) != 1 {
			u.Fatalf("%s: %d keys, %v", key, len(response.Kvs), err)
		}
		return response.Kvs[0].Value
	}
	var first v1alpha1.Prefix
	var its v1alpha1.PrefixAllocation
	if _, _, err := serializer.Decode(get(objects+"prefixes/"+u.namespace+"/first"), nil, &first); err != nil {
		u.Fatal(err)
	}
	if _, _, err := serializer.Decode(get(objects+"prefixallocations/"+u.namespace+"/first"), nil, &its); err != nil {
		u.Fatal(err)
	}
	claim := string(get(keys.Of(parents[0].UID).Start))
	encode := func(o runtime.Object, kind string) string {
		u.Helper()
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersion(v1alpha1.GroupVersion).WithKind(kind))
		var out bytes.Buffer
		if err := serializer.Encode(o, &out); err != nil {
			u.Fatal(err)
		}
		return out.String()
	}
	var puts []clientv3.Op
	flush := func() {
		u.Helper()
		if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
			u.Fatal(err)
		}
		puts = puts[:0]
	}
	// The first address of the first root is taken, and the last one of each is for what the test creates.
	for n := 1; n < children; n++ {
		parent, address := parents[n/childrenOfRoot], rootRange(n/childrenOfRoot).Addr().As4()
		offset := n % childrenOfRoot
		address[2], address[3] = address[2]+byte(offset>>8), byte(offset)
		prefix := netip.PrefixFrom(netip.AddrFrom4(address), 32)
		child, allocation := first.DeepCopy(), its.DeepCopy()
		child.Name, child.UID = fmt.Sprintf("child-%d", n), uuid.NewUUID()
		child.Spec.Prefix, child.Spec.ParentRef.Name = prefix.String(), parent.Name
		allocation.Name, allocation.UID = strings.Replace(its.Name, "first", child.Name, 1), uuid.NewUUID()
		allocation.Labels[v1alpha1.RequesterUIDLabel] = string(child.UID)
		allocation.OwnerReferences[0].Name, allocation.OwnerReferences[0].UID = child.Name, child.UID
		allocation.Spec.PrefixRef.Name, allocation.Status.Prefix = parent.Name, prefix.String()
		puts = append(puts,
			clientv3.OpPut(objects+"prefixes/"+u.namespace+"/"+child.Name, encode(child, v1alpha1.PrefixKind)),
			clientv3.OpPut(objects+"prefixallocations/"+u.namespace+"/"+allocation.Name, encode(allocation, v1alpha1.PrefixAllocationKind)),
			clientv3.OpPut(keys.Claim(parent.UID, prefix), strings.NewReplacer(
				`"`+its.Name+`"`, `"`+allocation.Name+`"`, string(its.UID), string(allocation.UID),
				`"first"`, `"`+child.Name+`"`, string(first.UID), string(child.UID)).Replace(claim)))
		if len(puts) > 100 {
			flush()
		}
	}
	flush()
}
