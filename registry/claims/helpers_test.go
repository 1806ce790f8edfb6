// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/install"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/store"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefix"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixallocation"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixpolicy"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/apiserver/pkg/storage/value/encrypt/secretbox"
)

var (
	scheme = newScheme()
	codec  = serializer.NewCodecFactory(scheme).LegacyCodec(schema.GroupVersion(v1alpha1.GroupVersion))
)

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return scheme
}

// variant is a configuration of a server.
type variant struct{ cached, encrypted bool }

func (v variant) String() string {
	name := "no watch cache"
	if v.cached {
		name = "watch cache"
	}
	if v.encrypted {
		name += ", encrypted"
	}
	return name
}

var (
	variants = []variant{{}, {cached: true}, {encrypted: true}, {cached: true, encrypted: true}}
	// fewVariants covers all options with few variants, for tests with many cases.
	fewVariants = []variant{{}, {cached: true, encrypted: true}}
)

// server is the storage of an API server with an etcd.
type server struct {
	etcd        *kubernetes.Client
	prefix      string
	transformer value.Transformer

	planner     *claims.Planner
	auditor     *audit.Auditor
	prefixes    *resource.Storage
	allocations *resource.Storage
	policies    *resource.Storage
	tamper      *tamper
	// disjoint is set if the server rejects overlapping roots.
	disjoint bool
}

var etcdPrefixes atomic.Int64

// newServer returns a server with its own store.
func newServer(t testing.TB, etcd *kubernetes.Client, v variant, configure ...func(*store.Config)) *server {
	t.Helper()
	return newServerAt(t, etcd, v, fmt.Sprintf("/registry/test-%d", etcdPrefixes.Add(1)), configure...)
}

// newServerAt returns a server with a store that it may share with others.
func newServerAt(t testing.TB, etcd *kubernetes.Client, v variant, etcdPrefix string, configure ...func(*store.Config)) *server {
	t.Helper()
	s := &server{etcd: etcd, prefix: etcdPrefix, transformer: identity.NewEncryptCheckTransformer(), tamper: &tamper{}}
	if v.encrypted {
		s.transformer = value.NewPrefixTransformers(errors.New("not encrypted"), value.PrefixTransformer{
			Prefix:      []byte("k8s:enc:secretbox:v1:key:"),
			Transformer: secretbox.NewSecretboxTransformer([32]byte([]byte("the key of a test has 32 bytes.."))),
		})
	}
	config := storagebackend.NewDefaultConfig(etcdPrefix, codec)
	config.Transport.ServerList = etcd.Endpoints()
	config.Transformer = s.transformer
	config.CompactionInterval = 0
	storeConfig := store.Config{
		WatchCache:  v.cached,
		AdaptClient: func(client *clientv3.Client) { client.KV = &tamperKV{client.KV, s.tamper} },
	}
	for _, c := range configure {
		c(&storeConfig)
	}
	getter, err := store.New(restOptions{config}, storeConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(getter.Close)
	s.planner, s.auditor = getter.Planner, audit.New(getter.Etcd)
	getter.BeforeUpdate = s.auditor.ClaimOrphans

	policies, rules, err := prefixpolicy.NewStorage(scheme, getter, s.planner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(policies.Main.Destroy)
	s.policies = policies
	var parents resource.Parents
	if s.prefixes, parents, err = prefix.NewStorage(scheme, getter, s.planner, rules); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.prefixes.Main.Destroy)
	if s.allocations, err = prefixallocation.NewStorage(scheme, getter, s.planner, parents); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.allocations.Main.Destroy)
	s.planner.SetSources(claims.Sources{
		Prefixes: s.prefixes.Stored(), Attributes: prefix.GetAttrs, Policies: policies.Stored(), CoolDown: parents.CoolDown,
	})
	// A server is ready when its watch caches are ready.
	for _, store := range []storage.Interface{s.rawPrefixes(), s.rawAllocations(), policies.Stored()} {
		for err := store.ReadinessCheck(); err != nil; err = store.ReadinessCheck() {
			if t.Context().Err() != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return s
}

// auditByPages is an audit that reads and checks so many keys at a time, and tries again so often what fails. It does not
// wait for leftovers to go.
func (s *server) auditByPages(ctx context.Context, read, page, retries int) ([]audit.Difference, error) {
	return s.auditor.Audit(ctx, audit.Rate{Read: read, Page: page, Retry: wait.Backoff{Steps: retries}}, 0)
}

// restOptions provides the same options as the generic API server.
type restOptions struct{ config *storagebackend.Config }

func (o restOptions) GetRESTOptions(resource schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	return generic.RESTOptions{
		StorageConfig:           o.config.ForResource(resource),
		Decorator:               generic.UndecoratedStorage,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 1,
		ResourcePrefix:          resource.Group + "/" + resource.Resource,
	}, nil
}

// tamper modifies requests to etcd, and records them.
type tamper struct {
	mu sync.Mutex
	// behind is the revision of the etcd member that responds to serializable reads, if it is set.
	behind int64
	// without selects compares to remove from transactions.
	without func(txn, clientv3.Cmp) bool
	// reading is called before each read in a context with the key tampered, if it is set. The read fails with its
	// error.
	reading func() error
	// chunks is the number of chunks after which streams end, if it is not 0. The last chunk is lost.
	chunks int
	// before contains functions to call before the next transaction that writes an object, by key.
	before map[string]func()
	// txns is the number of transactions, and gets that of other reads, including streams.
	txns, gets int
	// ranges contains the first keys of reads of more than one key. counted contains those for which etcd counts
	// all following keys: all except streams without a limit.
	ranges, counted []string
}

// txn is the content of a transaction.
type txn struct {
	compares             []clientv3.Cmp
	successes, otherwise []clientv3.Op
}

// key returns the key of the object that the transaction writes.
func (t txn) key() string {
	if len(t.successes) == 0 || t.successes[0].IsGet() {
		return ""
	}
	return string(t.successes[0].KeyBytes())
}

// beforeWriteOf calls happens just before the next transaction that writes or removes an object, when its plan is
// complete.
func (t *tamper) beforeWriteOf(key string, happens func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before == nil {
		t.before = map[string]func(){}
	}
	t.before[key] = happens
}

// waiting returns the objects that have not been written yet.
func (t *tamper) waiting() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var keys []string
	for key := range t.before {
		keys = append(keys, key)
	}
	return keys
}

func (t *tamper) take(without func(txn, clientv3.Cmp) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.without = without
}

func (t *tamper) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.txns
}

func (t *tamper) reads() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gets
}

// note records a read if it reads a range.
func (t *tamper) note(op clientv3.Op, stream bool) {
	if len(op.RangeBytes()) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ranges = append(t.ranges, string(op.KeyBytes()))
	if !stream || op.Limit() > 0 || op.IsCountOnly() {
		t.counted = append(t.counted, string(op.KeyBytes()))
	}
}

// takeRanges returns the records since its last call.
func (t *tamper) takeRanges() (ranges, counted []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ranges, counted = t.ranges, t.counted
	t.ranges, t.counted = nil, nil
	return ranges, counted
}

type tamperKV struct {
	clientv3.KV
	tamper *tamper
}

func (k *tamperKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	k.tamper.mu.Lock()
	behind := k.tamper.behind
	k.tamper.gets++
	k.tamper.mu.Unlock()
	k.tamper.note(clientv3.OpGet(key, opts...), false)
	if err := k.tamper.read(ctx); err != nil {
		return nil, err
	}
	if behind > 0 && clientv3.OpGet(key, opts...).IsSerializable() {
		opts = append(opts, clientv3.WithRev(behind))
	}
	return k.KV.Get(ctx, key, opts...)
}

// GetStream returns a stream with one chunk per key. The last chunk has the same header as that of etcd.
func (k *tamperKV) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	k.tamper.mu.Lock()
	most := k.tamper.chunks
	k.tamper.gets++
	k.tamper.mu.Unlock()
	k.tamper.note(clientv3.OpGet(key, opts...), true)
	if err := k.tamper.read(ctx); err != nil {
		return nil, err
	}
	stream, err := k.KV.GetStream(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	chunks := make(chan clientv3.RangeStreamResponse)
	go func() {
		defer close(chunks)
		n := 0
		for all := range stream {
			var single []clientv3.RangeStreamResponse
			if all.Err() == nil {
				for len(all.Kvs) > 1 {
					single = append(single, clientv3.RangeStreamResponse{RangeResponse: &etcdserverpb.RangeResponse{Kvs: all.Kvs[:1]}})
					all.Kvs = all.Kvs[1:]
				}
			}
			for _, chunk := range append(single, all) {
				if n++; most > 0 && n >= most {
					continue
				}
				select {
				case chunks <- chunk:
				case <-ctx.Done():
				}
			}
		}
	}()
	return chunks, nil
}

func (k *tamperKV) Txn(ctx context.Context) clientv3.Txn {
	return &tamperTxn{ctx: ctx, kv: k.KV, tamper: k.tamper}
}

// beforeReads calls happens before each read, which fails with its error. nil disables that.
func (t *tamper) beforeReads(happens func() error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading = happens
}

// endStreamsAfter makes streams end early. 0 disables that.
func (t *tamper) endStreamsAfter(chunks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chunks = chunks
}

// tampered is the context key that marks the reads of a test. Other reads may come from a watch cache at any time.
type tampered struct{}

func (t *tamper) read(ctx context.Context) error {
	t.mu.Lock()
	happens := t.reading
	t.mu.Unlock()
	if happens == nil || ctx.Value(tampered{}) == nil {
		return nil
	}
	return happens()
}

// fallBehind makes an etcd member respond that is at an old revision. 0 disables that.
func (t *tamper) fallBehind(revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.behind = revision
}

type tamperTxn struct {
	txn
	ctx    context.Context
	kv     clientv3.KV
	tamper *tamper
}

func (t *tamperTxn) If(compares ...clientv3.Cmp) clientv3.Txn {
	t.compares = compares
	return t
}

func (t *tamperTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.successes = ops
	return t
}

func (t *tamperTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.otherwise = ops
	return t
}

func (t *tamperTxn) Commit() (*clientv3.TxnResponse, error) {
	for _, op := range append(slices.Clone(t.successes), t.otherwise...) {
		if op.IsGet() {
			t.tamper.note(op, false)
		}
	}
	t.tamper.mu.Lock()
	t.tamper.txns++
	happens := t.tamper.before[t.key()]
	delete(t.tamper.before, t.key())
	compares := t.compares
	if t.tamper.without != nil {
		compares = slices.DeleteFunc(slices.Clone(compares), func(c clientv3.Cmp) bool { return t.tamper.without(t.txn, c) })
	}
	t.tamper.mu.Unlock()
	if happens != nil {
		happens()
	}
	if len(t.compares) == 0 {
		if err := t.tamper.read(t.ctx); err != nil {
			return nil, err
		}
	}
	return t.kv.Txn(t.ctx).If(compares...).Then(t.successes...).Else(t.otherwise...).Commit()
}

// The keys are repeated here, so that the tests do not depend on the code under test.

func (s *server) prefixKey(namespace, name string) string {
	return s.prefix + "/ipam.ironcore.dev/prefixes/" + namespace + "/" + name
}

func (s *server) allocationKey(namespace, name string) string {
	return s.prefix + "/ipam.ironcore.dev/prefixallocations/" + namespace + "/" + name
}

func (s *server) claimKey(parent types.UID, prefix netip.Prefix) string {
	return fmt.Sprintf("%s/claims/%s/%s/%03d", s.prefix, parent, hex.EncodeToString(prefix.Addr().AsSlice()), prefix.Bits())
}

// revisions returns all keys with the revisions of their last changes.
func (s *server) revisions(t testing.TB) map[string]int64 {
	t.Helper()
	response, err := s.etcd.KV.Get(t.Context(), s.prefix+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	revisions := map[string]int64{}
	for _, kv := range response.Kvs {
		revisions[string(kv.Key)] = kv.ModRevision
	}
	return revisions
}

// revision returns the revision of etcd, which every write increases.
func (s *server) revision(t testing.TB) int64 {
	t.Helper()
	response, err := s.etcd.KV.Get(t.Context(), "/nothing")
	if err != nil {
		t.Fatal(err)
	}
	return response.Header.Revision
}

// clear removes all keys.
func (s *server) clear(t testing.TB) {
	t.Helper()
	if _, err := s.etcd.KV.Delete(t.Context(), s.prefix+"/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
}

// storedClaim is the value of a claim.
type storedClaim struct {
	Holders []storedHolder `json:"holders"`
}

type storedHolder struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	UID       types.UID    `json:"uid"`
	Child     *storedChild `json:"owner,omitempty"`
}

type storedChild struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

// violations reads all keys at one revision and returns the violated invariants. It is deliberately naive.
func (s *server) violations(t testing.TB) []string {
	t.Helper()
	response, err := s.etcd.KV.Get(t.Context(), s.prefix+"/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	report := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	prefixes := map[string]*ipam.Prefix{}
	var allocations []*ipam.PrefixAllocation
	stored := map[string]storedClaim{}
	rooted, hasKey := map[string]bool{}, map[string]bool{}
	var roots []*ipam.Prefix
	for _, kv := range response.Kvs {
		key := string(kv.Key)
		if strings.HasPrefix(key, s.prefix+"/claims/") {
			var c storedClaim
			if err := json.Unmarshal(kv.Value, &c); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			stored[key] = c
			continue
		}
		if namespace, ok := strings.CutPrefix(key, s.prefix+"/roots/"); ok {
			hasKey[namespace] = true
			continue
		}
		data, _, err := s.transformer.TransformFromStorage(t.Context(), kv.Value, value.DefaultContext(kv.Key))
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		obj, err := runtime.Decode(codec, data)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		switch obj := obj.(type) {
		case *ipam.Prefix:
			if key != s.prefixKey(obj.Namespace, obj.Name) {
				report("%s is the key of Prefix %s/%s", key, obj.Namespace, obj.Name)
			}
			prefixes[obj.Namespace+"/"+obj.Name] = obj
			if obj.Spec.IsRoot() {
				rooted[obj.Namespace] = true
				roots = append(roots, obj)
			}
		case *ipam.PrefixAllocation:
			if key != s.allocationKey(obj.Namespace, obj.Name) {
				report("%s is the key of PrefixAllocation %s/%s", key, obj.Namespace, obj.Name)
			}
			if obj.Status.Phase == ipam.PrefixAllocationPhaseAllocated {
				allocations = append(allocations, obj)
			}
		}
	}

	// The audit does not check roots.
	var foundOfRoots []string
	if !maps.Equal(rooted, hasKey) {
		foundOfRoots = append(foundOfRoots, fmt.Sprintf("namespaces with roots are %v, those with a key %v", rooted, hasKey))
	}
	for i, a := range roots {
		for _, b := range roots[:i] {
			if s.disjoint && a.Namespace == b.Namespace && netip.MustParsePrefix(a.Spec.Prefix).Overlaps(netip.MustParsePrefix(b.Spec.Prefix)) {
				foundOfRoots = append(foundOfRoots, fmt.Sprintf("root %s/%s overlaps root %s", a.Namespace, a.Name, b.Name))
			}
		}
	}
	claimed := map[string]types.UID{}
	for i, a := range allocations {
		prefix := netip.MustParsePrefix(a.Status.Prefix)
		parent := prefixes[a.NamespaceOfParent()+"/"+a.Spec.PrefixRef.Name]
		if parent == nil {
			report("parent missing: %s of %s/%s", a.Status.Prefix, a.Namespace, a.Name)
			continue
		}
		whole := netip.MustParsePrefix(parent.Spec.Prefix)
		if parent.Status.Phase != ipam.PrefixPhaseAllocated || !whole.Overlaps(prefix) || whole.Bits() >= prefix.Bits() {
			report("outside: %s of %s/%s is not in %s", prefix, a.Namespace, a.Name, whole)
		}
		for _, b := range allocations[:i] {
			if b.NamespaceOfParent() == a.NamespaceOfParent() && b.Spec.PrefixRef.Name == a.Spec.PrefixRef.Name && netip.MustParsePrefix(b.Status.Prefix).Overlaps(prefix) {
				report("overlap: %s of %s and %s of %s", prefix, a.Name, b.Status.Prefix, b.Name)
			}
		}
		key := s.claimKey(parent.UID, prefix)
		claimed[key] = a.UID
		if c, ok := stored[key]; !ok {
			report("missing claim: %s of %s/%s", prefix, a.Namespace, a.Name)
		} else if !slices.ContainsFunc(c.Holders, func(h storedHolder) bool {
			return h.UID == a.UID && h.Name == a.Name && h.Namespace == a.Namespace
		}) {
			report("missing holder: %s/%s is not in %s", a.Namespace, a.Name, key)
		}
	}
	for key, c := range stored {
		if len(c.Holders) != 1 {
			report("%d holders: %s", len(c.Holders), key)
		}
		for _, h := range c.Holders {
			if claimed[key] != h.UID {
				report("orphan claim: %s of %s/%s", key, h.Namespace, h.Name)
			}
		}
	}
	for _, child := range prefixes {
		if child.Status.Phase != ipam.PrefixPhaseAllocated || child.Spec.IsRoot() {
			continue
		}
		parent := prefixes[child.NamespaceOfParent()+"/"+child.Spec.ParentRef.Name]
		if parent == nil || !slices.ContainsFunc(stored[s.claimKey(parent.UID, netip.MustParsePrefix(child.Spec.Prefix))].Holders, func(h storedHolder) bool {
			return h.Namespace == child.Namespace && h.Child != nil && *h.Child == storedChild{child.Name, child.UID}
		}) {
			report("child without allocation: %s/%s stands on %s", child.Namespace, child.Name, child.Spec.Prefix)
		}
	}
	slices.Sort(found)

	// The audit must find the same. Without controllers, allocations are left over.
	differences, err := s.auditByPages(t.Context(), 1000, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	differences = slices.DeleteFunc(differences, func(d audit.Difference) bool { return d.Kind == audit.Leftover })
	if (len(found) > 0) != (len(differences) > 0) {
		t.Errorf("the auditor finds %+v, the test %v", differences, found)
	}
	return append(found, foundOfRoots...)
}

// check fails the test if an invariant is violated.
func (s *server) check(t testing.TB) {
	t.Helper()
	for _, v := range s.violations(t) {
		t.Error(v)
	}
}

// refused checks that a write is rejected and changes nothing.
func (s *server) refused(t testing.TB, write func() error, reason metav1.StatusReason, words ...string) *apierrors.StatusError {
	t.Helper()
	before := s.revision(t)
	err := write()
	if after := s.revision(t); after != before {
		t.Errorf("something was written: etcd went from revision %d to %d", before, after)
	}
	var status *apierrors.StatusError
	switch {
	case err == nil:
		t.Fatalf("it was not refused, want %s", reason)
	case !errors.As(err, &status):
		t.Fatalf("not the answer of an API: %v", err)
	case status.ErrStatus.Reason != reason:
		t.Errorf("got %d %s: %v, want %s", status.ErrStatus.Code, status.ErrStatus.Reason, err, reason)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not tell %q", err, word)
		}
	}
	return status
}

var namespaces atomic.Int64

// newNamespace returns a context with a new namespace, and the name of the namespace.
func newNamespace(t testing.TB) (context.Context, string) {
	name := fmt.Sprintf("ns-%d", namespaces.Add(1))
	return genericapirequest.WithNamespace(t.Context(), name), name
}

func withNamespace(ctx context.Context, name string) context.Context {
	return genericapirequest.WithNamespace(ctx, name)
}

func namespaceOf(ctx context.Context) string { return genericapirequest.NamespaceValue(ctx) }

// must returns a function that fails the test if there is an error, and otherwise returns the value.
func must[T any](t testing.TB) func(T, error) T {
	return func(obj T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
}

// createPrefix creates a Pending Prefix.
func (s *server) createPrefix(ctx context.Context, name string, spec ipam.PrefixSpec) (*ipam.Prefix, error) {
	obj, err := s.prefixes.Main.Create(ctx, &ipam.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return obj.(*ipam.Prefix), nil
}

// root creates an Allocated root.
func (s *server) root(t testing.TB, ctx context.Context, name, prefix string) *ipam.Prefix {
	t.Helper()
	must[*ipam.Prefix](t)(s.createPrefix(ctx, name, ipam.PrefixSpec{IPFamily: familyOf(prefix), Prefix: prefix}))
	return must[*ipam.Prefix](t)(s.updatePrefixStatus(ctx, name, func(p *ipam.Prefix) { p.Status.Phase = ipam.PrefixPhaseAllocated }))
}

// child creates a Pending child.
func (s *server) child(t testing.TB, ctx context.Context, name, parent string, length int32) *ipam.Prefix {
	t.Helper()
	return must[*ipam.Prefix](t)(s.createPrefix(ctx, name, ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: length, ParentRef: &ipam.LocalObjectReference{Name: parent}}))
}

func familyOf(prefix string) ipam.IPFamily {
	if strings.Contains(prefix, ":") {
		return ipam.IPv6
	}
	return ipam.IPv4
}

// updateOf returns an update that modifies an object.
func updateOf[T runtime.Object](change func(T)) rest.UpdatedObjectInfo {
	return rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		obj := old.DeepCopyObject().(T)
		change(obj)
		return obj, nil
	})
}

type updater interface {
	Update(ctx context.Context, name string, objInfo rest.UpdatedObjectInfo, createValidation rest.ValidateObjectFunc, updateValidation rest.ValidateObjectUpdateFunc, forceAllowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error)
}

func update[T runtime.Object](ctx context.Context, to updater, name string, change func(T)) (T, error) {
	obj, _, err := to.Update(ctx, name, updateOf(change), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	if err != nil {
		var none T
		return none, err
	}
	return obj.(T), nil
}

func (s *server) updatePrefix(ctx context.Context, name string, change func(*ipam.Prefix)) (*ipam.Prefix, error) {
	return update(ctx, s.prefixes.Main, name, change)
}

func (s *server) updatePrefixStatus(ctx context.Context, name string, change func(*ipam.Prefix)) (*ipam.Prefix, error) {
	return update(ctx, s.prefixes.Status, name, change)
}

func (s *server) updateAllocation(ctx context.Context, name string, change func(*ipam.PrefixAllocation)) (*ipam.PrefixAllocation, error) {
	return update(ctx, s.allocations.Main, name, change)
}

func (s *server) updateAllocationStatus(ctx context.Context, name string, change func(*ipam.PrefixAllocation)) (*ipam.PrefixAllocation, error) {
	return update(ctx, s.allocations.Status, name, change)
}

// request creates a Pending allocation. child is the child that it is for, or nil.
func (s *server) request(t testing.TB, ctx context.Context, name string, child *ipam.Prefix, spec ipam.PrefixAllocationSpec) *ipam.PrefixAllocation {
	t.Helper()
	allocation := &ipam.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	if child != nil {
		allocation.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(child, schema.GroupVersion(v1alpha1.GroupVersion).WithKind(ipam.PrefixKind))}
	}
	obj, err := s.allocations.Main.Create(ctx, allocation, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return obj.(*ipam.PrefixAllocation)
}

var anyParent = &metav1.LabelSelector{}

// requestLength creates an allocation that requests the length of a prefix, by selector.
func (s *server) requestLength(t testing.TB, ctx context.Context, name string, child *ipam.Prefix, prefix string) *ipam.PrefixAllocation {
	t.Helper()
	return s.request(t, ctx, name, child, ipam.PrefixAllocationSpec{
		IPFamily: familyOf(prefix), PrefixLength: int32(netip.MustParsePrefix(prefix).Bits()), PrefixSelector: anyParent,
	})
}

// bind binds an allocation with the subresource.
func (s *server) bind(ctx context.Context, name, parent, prefix string, uid types.UID) error {
	_, err := s.allocations.Binding.Create(ctx, name, &ipam.PrefixAllocationBinding{
		Prefix: prefix, PrefixRef: ipam.BindingReference{Name: parent, UID: uid},
	}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	return err
}

// allocate creates an Allocated allocation.
func (s *server) allocate(t testing.TB, ctx context.Context, name string, child *ipam.Prefix, parent, prefix string) *ipam.PrefixAllocation {
	t.Helper()
	s.requestLength(t, ctx, name, child, prefix)
	if err := s.bind(ctx, name, parent, prefix, ""); err != nil {
		t.Fatal(err)
	}
	return s.getAllocation(t, ctx, name)
}

// complete binds a child with the subresource.
func (s *server) complete(ctx context.Context, name, parent, prefix string, uid types.UID) error {
	_, err := s.prefixes.Binding.Create(ctx, name, &ipam.PrefixBinding{
		Prefix: prefix, ParentRef: ipam.BindingReference{Name: parent, UID: uid},
	}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	return err
}

// liveChild creates an Allocated child.
func (s *server) liveChild(t testing.TB, ctx context.Context, name, parent, prefix string) *ipam.Prefix {
	t.Helper()
	child := s.child(t, ctx, name, parent, int32(netip.MustParsePrefix(prefix).Bits()))
	s.allocate(t, ctx, name, child, parent, prefix)
	if err := s.complete(ctx, name, parent, prefix, ""); err != nil {
		t.Fatal(err)
	}
	return child
}

func (s *server) getPrefix(t testing.TB, ctx context.Context, name string) *ipam.Prefix {
	t.Helper()
	return must[runtime.Object](t)(s.prefixes.Main.Get(ctx, name, &metav1.GetOptions{})).(*ipam.Prefix)
}

func (s *server) getAllocation(t testing.TB, ctx context.Context, name string) *ipam.PrefixAllocation {
	t.Helper()
	return must[runtime.Object](t)(s.allocations.Main.Get(ctx, name, &metav1.GetOptions{})).(*ipam.PrefixAllocation)
}

func (s *server) deleteAllocation(ctx context.Context, name string) error {
	_, _, err := s.allocations.Main.Delete(ctx, name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	return err
}

func (s *server) deletePrefix(ctx context.Context, name string) error {
	_, _, err := s.prefixes.Main.Delete(ctx, name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	return err
}

// unprotect removes the finalizers of a Prefix that is not being deleted. The API does not allow that, but another
// server may have stored such a Prefix.
func (s *server) unprotect(t testing.TB, ctx context.Context, name string) {
	t.Helper()
	key := s.rawKey(t, ctx, s.prefixes.Main.Store, name)
	if err := s.rawPrefixes().GuaranteedUpdate(ctx, key, &ipam.Prefix{}, false, nil, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		obj.(*ipam.Prefix).Finalizers = nil
		return obj, nil
	}), nil); err != nil {
		t.Fatal(err)
	}
}

// letGo removes the finalizers of a Prefix that is being deleted.
func (s *server) letGo(ctx context.Context, name string) error {
	_, err := s.updatePrefix(ctx, name, func(p *ipam.Prefix) { p.Finalizers = nil })
	return err
}

// end deletes a Prefix and removes its finalizers.
func (s *server) end(ctx context.Context, name string) error {
	if err := s.deletePrefix(ctx, name); err != nil {
		return err
	}
	return s.letGo(ctx, name)
}

// rawPrefixes and rawAllocations return the storage below the registry.

func (s *server) rawPrefixes() storage.Interface { return s.prefixes.Stored() }

func (s *server) rawAllocations() storage.Interface {
	return s.allocations.Stored()
}

func (s *server) rawKey(t testing.TB, ctx context.Context, store *genericregistry.Store, name string) string {
	t.Helper()
	return must[string](t)(store.KeyFunc(ctx, name))
}
