// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package claims tests the audit and the adoption of claims on a real etcd. The tests write differences directly to
// etcd, without an API server.
package claims

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/etcd"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// batch is the number of keys in one write. The limit of etcd is 128.
const batch = 100

var (
	// scratch is a directory for all tests.
	scratch string
	// binary builds the program ipam-apiserver when it is first needed, and returns its path.
	binary = sync.OnceValues(func() (string, error) {
		return filepath.Join(scratch, "ipam-apiserver"), harness.Build(scratch, "ipam-apiserver")
	})
)

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		scratch = dir
		return func() {}, nil
	})
}

// store is an etcd, with direct access to its keys.
type store struct {
	endpoints []string
	client    *clientv3.Client
}

// startEtcd starts an etcd with its data in dataDir. stop ends it before the end of the test.
func startEtcd(t testing.TB, dataDir string) (s *store, stop func()) {
	t.Helper()
	// The lock file marks the directory as a data directory, so that an instance can use it.
	if err := os.WriteFile(filepath.Join(dataDir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	database, err := etcd.Start(t.Context(), dataDir, "error")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	s = connect(t, database.Endpoints())
	return s, func() {
		_ = s.client.Close()
		database.Close()
	}
}

// newEtcd starts an etcd with the content of a world.
func newEtcd(t testing.TB, w world) *store {
	t.Helper()
	s, _ := startEtcd(t, t.TempDir())
	s.put(t, w)
	return s
}

func connect(t testing.TB, endpoints []string) *store {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return &store{endpoints, client}
}

// open opens the store in the same way as the command.
func (s *store) open(t testing.TB) *apiserver.Store {
	t.Helper()
	etcd := apiserver.NewOptions().Recommended.Etcd
	etcd.StorageConfig.Transport.ServerList = s.endpoints
	opened, err := apiserver.OpenStore(etcd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	return opened
}

// put writes all keys of a world.
func (s *store) put(t testing.TB, w world) {
	t.Helper()
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(w)), batch) {
		var ops []clientv3.Op
		for _, key := range keys {
			ops = append(ops, clientv3.OpPut(key, w[key]))
		}
		if _, err := s.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// replace replaces the content of the store with a world. It writes only the differences.
func (s *store) replace(t testing.TB, w world) {
	t.Helper()
	changed := maps.Clone(w)
	for key, value := range s.world(t) {
		if want, ok := w[key]; ok && want == value {
			delete(changed, key)
		} else if !ok {
			s.delete(t, key)
		}
	}
	s.put(t, changed)
}

func (s *store) delete(t testing.TB, key string, options ...clientv3.OpOption) {
	t.Helper()
	if _, err := s.client.Delete(t.Context(), key, options...); err != nil {
		t.Fatal(err)
	}
}

// world returns all keys of the API servers.
func (s *store) world(t testing.TB) world {
	t.Helper()
	response, err := s.client.Get(t.Context(), etcdPrefix+"/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	w := world{}
	for _, kv := range response.Kvs {
		w[string(kv.Key)] = string(kv.Value)
	}
	return w
}

// revisions returns the revision of the last change of each key, and the current revision of etcd.
func (s *store) revisions(t testing.TB) map[string]int64 {
	t.Helper()
	response, err := s.client.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	revisions := map[string]int64{"": response.Header.Revision}
	for _, kv := range response.Kvs {
		revisions[string(kv.Key)] = kv.ModRevision
	}
	return revisions
}

// countClaims returns the number of claims.
func (s *store) countClaims(t testing.TB) int {
	t.Helper()
	response, err := s.client.Get(t.Context(), claimPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return int(response.Count)
}

const (
	etcdPrefix       = "/registry/ipam.ironcore.dev"
	prefixPrefix     = etcdPrefix + "/ipam.ironcore.dev/prefixes/"
	allocationPrefix = etcdPrefix + "/ipam.ironcore.dev/prefixallocations/"
	claimPrefix      = etcdPrefix + "/claims/"
	rootsPrefix      = etcdPrefix + "/roots/"
)

func prefixKey(namespace, name string) string     { return prefixPrefix + namespace + "/" + name }
func allocationKey(namespace, name string) string { return allocationPrefix + namespace + "/" + name }

// claimKey returns the key of a claim. It does not use the code under test.
func claimKey(parent types.UID, prefix string) string {
	p := netip.MustParsePrefix(prefix).Masked()
	return fmt.Sprintf("%s%s/%x/%03d", claimPrefix, parent, p.Addr().AsSlice(), p.Bits())
}

// world is the content of etcd, by key.
type world map[string]string

// claim is the value of a claim.
type claim struct {
	Holders []holder `json:"holders"`
}

type holder struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	Owner     *owner    `json:"owner,omitempty"`
}

type owner struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

func holderOf(a *v1alpha1.PrefixAllocation) holder {
	h := holder{Namespace: a.Namespace, Name: a.Name, UID: a.UID}
	if ref := metav1.GetControllerOf(a); ref != nil {
		h.Owner = &owner{ref.Name, ref.UID}
	}
	return h
}

// must panics if there is an error. It is for data that the tests create themselves.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// decoded decodes an object or a claim. Objects are stored as protobuf, or as JSON by other servers and by these
// tests.
func decoded[T any](value string) *T {
	into := new(T)
	var err error
	if object, ok := any(into).(runtime.Object); ok {
		_, _, err = scheme.Codecs.UniversalDeserializer().Decode([]byte(value), nil, object)
	} else {
		err = json.Unmarshal([]byte(value), into)
	}
	if err != nil {
		panic(fmt.Sprintf("%v in %.300s", err, value))
	}
	return into
}

// asJSON returns an object as other servers store it.
func asJSON(value string) string {
	object, kind, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(value), nil, nil)
	if err != nil {
		panic(err)
	}
	object.GetObjectKind().SetGroupVersionKind(*kind)
	return string(must(json.Marshal(object)))
}

func (w world) setPrefix(p *v1alpha1.Prefix) {
	p.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Prefix"}
	w[prefixKey(p.Namespace, p.Name)] = string(must(json.Marshal(p)))
}

func (w world) setAllocation(a *v1alpha1.PrefixAllocation) {
	a.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PrefixAllocation"}
	w[allocationKey(a.Namespace, a.Name)] = string(must(json.Marshal(a)))
}

func (w world) prefix(namespace, name string) *v1alpha1.Prefix {
	return decoded[v1alpha1.Prefix](w[prefixKey(namespace, name)])
}

func (w world) prefixes() (all []*v1alpha1.Prefix) {
	for _, key := range slices.Sorted(maps.Keys(w)) {
		if strings.HasPrefix(key, prefixPrefix) {
			all = append(all, decoded[v1alpha1.Prefix](w[key]))
		}
	}
	return all
}

func (w world) allocations() (all []*v1alpha1.PrefixAllocation) {
	for _, key := range slices.Sorted(maps.Keys(w)) {
		if strings.HasPrefix(key, allocationPrefix) {
			all = append(all, decoded[v1alpha1.PrefixAllocation](w[key]))
		}
	}
	return all
}

// allocationOf returns the allocation of a child.
func (w world) allocationOf(child *v1alpha1.Prefix) *v1alpha1.PrefixAllocation {
	for _, a := range w.allocations() {
		if metav1.IsControlledBy(a, child) {
			return a
		}
	}
	panic("no allocation of " + child.Name)
}

// children returns the children of a Prefix, by prefix.
func (w world) children(namespace, parent string) (all []*v1alpha1.Prefix) {
	for _, p := range w.prefixes() {
		if p.Namespace == namespace && p.Spec.ParentRef != nil && p.Spec.ParentRef.Name == parent {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *v1alpha1.Prefix) int {
		return netip.MustParsePrefix(a.Spec.Prefix).Addr().Compare(netip.MustParsePrefix(b.Spec.Prefix).Addr())
	})
	return all
}

// withoutClaims returns the world with its objects only, as a server without claims stores it.
func (w world) withoutClaims() world {
	rest := maps.Clone(w)
	maps.DeleteFunc(rest, func(key, _ string) bool {
		return strings.HasPrefix(key, claimPrefix) || strings.HasPrefix(key, rootsPrefix)
	})
	return rest
}

// addHolder adds a holder to a claim, or creates the claim.
func (w world) addHolder(parent types.UID, prefix string, h holder) {
	key, c := claimKey(parent, prefix), claim{}
	if value, ok := w[key]; ok {
		c = *decoded[claim](value)
	}
	c.Holders = append(c.Holders, h)
	w[key] = string(must(json.Marshal(c)))
}

var (
	uids  atomic.Int64
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// metaOf returns the metadata of an object. Each call returns a later creation time.
func metaOf(namespace, name string) metav1.ObjectMeta {
	n := uids.Add(1)
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, Generation: 1,
		UID:               types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012x", n)),
		CreationTimestamp: metav1.NewTime(epoch.Add(time.Duration(n) * time.Second)),
	}
}

func familyOf(prefix string) v1alpha1.IPFamily {
	if netip.MustParsePrefix(prefix).Addr().Is4() {
		return v1alpha1.IPv4
	}
	return v1alpha1.IPv6
}

// addRoot adds a root.
func (w world) addRoot(namespace, name, prefix string) *v1alpha1.Prefix {
	p := &v1alpha1.Prefix{
		ObjectMeta: metaOf(namespace, name),
		Spec:       v1alpha1.PrefixSpec{IPFamily: familyOf(prefix), Prefix: prefix},
		Status:     v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated},
	}
	p.Finalizers = []string{v1alpha1.PrefixFinalizer}
	w.setPrefix(p)
	return p
}

// addAllocation adds an allocation that holds a prefix. It also adds the claim, unless the parent has no uid.
func (w world) addAllocation(parent *v1alpha1.Prefix, name, prefix string, child *v1alpha1.Prefix) *v1alpha1.PrefixAllocation {
	a := &v1alpha1.PrefixAllocation{
		ObjectMeta: metaOf(parent.Namespace, name),
		Spec: v1alpha1.PrefixAllocationSpec{
			IPFamily: familyOf(prefix), Prefix: prefix, PrefixRef: &v1alpha1.LocalObjectReference{Name: parent.Name},
		},
		Status: v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: prefix},
	}
	if child != nil {
		a.Labels = map[string]string{v1alpha1.RequesterUIDLabel: string(child.UID)}
		a.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(child, schema.GroupVersion(v1alpha1.GroupVersion).WithKind("Prefix"))}
	}
	w.setAllocation(a)
	if parent.UID != "" {
		w.addHolder(parent.UID, prefix, holderOf(a))
	}
	return a
}

// addChild adds a child that holds a prefix, with its allocation and its claim.
func (w world) addChild(parent *v1alpha1.Prefix, name, prefix string) (*v1alpha1.Prefix, *v1alpha1.PrefixAllocation) {
	p := &v1alpha1.Prefix{
		ObjectMeta: metaOf(parent.Namespace, name),
		Spec: v1alpha1.PrefixSpec{
			IPFamily: familyOf(prefix), Prefix: prefix, ParentRef: &v1alpha1.LocalObjectReference{Name: parent.Name},
		},
		Status: v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated},
	}
	p.Finalizers = []string{v1alpha1.PrefixFinalizer}
	w.setPrefix(p)
	return p, w.addAllocation(parent, name+"-allocation", prefix, p)
}

// nth returns the nth prefix with the length bits inside prefix.
func nth(prefix string, bits, n int) string {
	addr := netip.MustParsePrefix(prefix).Addr().AsSlice()
	for bit := bits - 1; n > 0; bit, n = bit-1, n/2 {
		if n%2 == 1 {
			addr[bit/8] |= 1 << (7 - bit%8)
		}
	}
	first, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(first, bits).String()
}

// create creates Prefixes, several at a time.
func create(t testing.TB, client ipamclient.PrefixInterface, requests ...*v1alpha1.Prefix) {
	t.Helper()
	harness.Each(len(requests), 16, func(i int) {
		if _, err := client.Create(t.Context(), requests[i], metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// waitAllocated waits until every Prefix of the namespace is Allocated, and returns them.
func waitAllocated(t testing.TB, client ipamclient.PrefixInterface) (prefixes []v1alpha1.Prefix) {
	t.Helper()
	harness.Eventually(t, "all Allocated", func() error {
		list, err := client.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var pending []string
		for _, p := range list.Items {
			if p.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				pending = append(pending, p.Name)
			}
		}
		prefixes = list.Items
		return harness.Unless(len(pending) == 0, "not Allocated: %.20q", pending)
	})
	return prefixes
}

// finding is an expected difference.
type finding struct {
	kind                            audit.DifferenceKind
	namespace, name, parent, prefix string
}

func findingsOf(differences []audit.Difference) []finding {
	found := make([]finding, 0, len(differences))
	for _, d := range differences {
		found = append(found, finding{d.Kind, d.Namespace, d.Name, d.Parent, d.Prefix})
	}
	return found
}

// expect fails the test unless the differences are exactly the expected ones, in any order.
func expect(t testing.TB, differences []audit.Difference, want ...finding) {
	t.Helper()
	left := slices.Clone(want)
	for i, f := range findingsOf(differences) {
		if n := slices.Index(left, f); n >= 0 {
			left = slices.Delete(left, n, n+1)
		} else {
			t.Errorf("found what is not: %+v: %s", f, differences[i].Message)
		}
		if differences[i].Message == "" {
			t.Errorf("no message in %+v", f)
		}
	}
	for _, f := range left {
		t.Errorf("not found: %+v", f)
	}
}

// auditOf returns the differences that an audit reports.
func auditOf(t testing.TB, s *apiserver.Store) []audit.Difference {
	t.Helper()
	differences, err := s.Audit(t.Context(), audit.FullSpeed, audit.LeftoverGrace)
	if err != nil {
		t.Fatal(err)
	}
	return differences
}
