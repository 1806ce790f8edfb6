// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/utils/clock"
)

// fixedPlanner returns the same plan for all objects, because those of the upstream tests are not ours.
type fixedPlanner struct {
	// guarded makes every write a transaction of the transactor.
	guarded bool
	// stale makes the first plan of each write stale.
	stale bool

	plans atomic.Int64
}

func (p *fixedPlanner) plan(live bool) (claims.Plan, error) {
	p.plans.Add(1)
	if !p.guarded {
		return claims.Plan{}, nil
	}
	made := claims.Plan{Guards: []claims.Guard{claims.IsEmpty(claims.NewKeyspace("").Of("nobody"))}}
	if p.stale && !live {
		made.Guards = append(made.Guards, claims.IsUnchanged("/nothing", 1))
	}
	return made, nil
}

func (p *fixedPlanner) PlanUpdate(_ context.Context, live bool, _, _ runtime.Object) (claims.Plan, error) {
	return p.plan(live)
}

func (p *fixedPlanner) PlanDelete(_ context.Context, live bool, _ runtime.Object) (claims.Plan, error) {
	return p.plan(live)
}

const upstreamPrefix = "test!"

// upstream is the store that the upstream tests need.
type upstream struct {
	*Store
	etcd        *kubernetes.Client
	codec       runtime.Codec
	transformer *switchTransformer
}

// switchTransformer is a transformer that can be replaced.
type switchTransformer struct {
	original *storagetesting.PrefixTransformer
	current  atomic.Pointer[value.Transformer]
}

func newSwitchTransformer() *switchTransformer {
	s := &switchTransformer{original: storagetesting.NewPrefixTransformer([]byte(upstreamPrefix), false)}
	s.use(s.original)
	return s
}

func (s *switchTransformer) use(t value.Transformer) func() {
	s.current.Store(&t)
	return func() { s.use(s.original) }
}

func (s *switchTransformer) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	return (*s.current.Load()).TransformFromStorage(ctx, data, dataCtx)
}

func (s *switchTransformer) TransformToStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, error) {
	return (*s.current.Load()).TransformToStorage(ctx, data, dataCtx)
}

// UpdatePrefixTransformer implements storagetesting.InterfaceWithPrefixTransformer.
func (u *upstream) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	transformer := *u.transformer.original
	return u.transformer.use(modify(&transformer))
}

// UpdateTransformer implements storagetesting.InterfaceWithTransformerOverride.
func (u *upstream) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	return u.transformer.use(modify(u.transformer.original))
}

// newUpstream returns an empty store.
func newUpstream(t *testing.T, etcd *kubernetes.Client, planner planner) *upstream {
	t.Helper()
	// Delete all keys: the tests write outside of any prefix, and one key stores the compacted revision.
	if _, err := etcd.KV.Delete(t.Context(), "\x00", clientv3.WithFromKey()); err != nil {
		t.Fatal(err)
	}
	recorder := etcd.KV.(*storagetesting.KVRecorder)
	recorder.GetReadsAndReset()
	recorder.GetStreamReadsAndReset()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	u := &upstream{
		etcd:        etcd,
		codec:       apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion),
		transformer: newSwitchTransformer(),
	}
	client := &kubernetes.Client{Client: etcd.Client, Kubernetes: claims.NewTransactor(etcd)}
	// Now and then the compactor reads, too. That does not count.
	unrecorded := clientv3.NewCtxClient(t.Context())
	unrecorded.KV, unrecorded.Watcher = recorder.KV, etcd.Watcher
	compactor := etcd3.NewCompactor(unrecorded, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = 1
	versioner := storage.APIObjectVersioner{}
	raw, err := etcd3.New(client, compactor, u.codec,
		func() runtime.Object { return &example.Pod{} }, func() runtime.Object { return &example.PodList{} },
		"", "/pods/", schema.GroupResource{Resource: "pods"}, u.transformer, leases, etcd3.NewDefaultDecoder(u.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(raw.Close)
	u.Store = &Store{Interface: raw, planner: planner}
	return u
}

// checkStored checks the value in etcd.
func (u *upstream) checkStored(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	response, err := u.etcd.KV.Get(ctx, key)
	if err != nil || len(response.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, response, err)
	}
	decoded, err := runtime.Decode(u.codec, response.Kvs[0].Value[len(upstreamPrefix):])
	if err != nil {
		t.Fatal(err)
	}
	if pod := decoded.(*example.Pod); pod.ResourceVersion != "" {
		t.Errorf("stored with resourceVersion %q", pod.ResourceVersion)
	}
}

// checkCalls checks the number of requests to etcd for a list.
func (u *upstream) checkCalls(t *testing.T, pageSize, processed uint64) {
	t.Helper()
	if reads := u.transformer.original.GetReadsAndReset(); reads != processed {
		t.Errorf("%d objects were read, want %d", reads, processed)
	}
	// The size of pages doubles, up to this limit.
	const maxLimit = 10000
	calls := uint64(1)
	if limit := pageSize; limit != 0 {
		for sum := uint64(1); sum < processed; calls++ {
			limit = min(limit*2, maxLimit)
			sum += limit
		}
	}
	recorder := u.etcd.KV.(*storagetesting.KVRecorder)
	if reads := recorder.GetReadsAndReset() + recorder.GetStreamReadsAndReset(); reads != calls {
		t.Errorf("etcd was read %d times, want %d", reads, calls)
	}
}

func (u *upstream) increaseRevision(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	response, err := u.etcd.KV.Put(ctx, "increaseRV", "ok")
	if err != nil {
		t.Fatal(err)
	}
	return response.Header.Revision
}

func (u *upstream) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	revision, err := u.Versioner().ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	// The first attempt only learns of the previous one.
	version, _, _, err := etcd3.Compact(ctx, u.etcd.Client, 0, int64(revision))
	if err != nil {
		_, _, _, err = etcd3.Compact(ctx, u.etcd.Client, version, int64(revision))
	}
	if err != nil {
		t.Fatal(err)
	}
	if !utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) {
		return
	}
	for deadline := time.Now().Add(30 * time.Second); u.CompactRevision() != int64(revision); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("compacted to %d, want %d", u.CompactRevision(), revision)
		}
	}
}

func (u *upstream) keys(ctx context.Context) ([]string, error) {
	response, err := u.etcd.KV.Get(ctx, "/pods/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, kv := range response.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys, nil
}

// kind describes an upstream test.
type kind int

const (
	// reads tests read.
	reads kind = iota
	// early tests read, and must run before others have written.
	early
	// writes tests write.
	writes
	// expires tests write, and wait until something expires.
	expires
	// counts tests write, and count attempts.
	counts
	// slow tests read, and wait for seconds.
	slow
)

// upstreamTests contains the tests of the etcd store, except those of AllowUnsafeMalformedObjectDeletion, which a
// Store rejects.
var upstreamTests = []struct {
	name string
	kind
	run func(ctx context.Context, t *testing.T, u *upstream)
}{
	{"Create", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestCreate(ctx, t, u, u.checkStored)
	}},
	{"CreateWithTTL", expires, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestCreateWithTTL(ctx, t, u)
	}},
	{"CreateWithKeyExist", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestCreateWithKeyExist(ctx, t, u)
	}},
	{"Get", reads, func(ctx context.Context, t *testing.T, u *upstream) { storagetesting.RunTestGet(ctx, t, u) }},
	{"UnconditionalDelete", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestUnconditionalDelete(ctx, t, u)
	}},
	{"ConditionalDelete", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestConditionalDelete(ctx, t, u)
	}},
	{"DeleteWithSuggestion", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestDeleteWithSuggestion(ctx, t, u)
	}},
	{"DeleteWithSuggestionAndConflict", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestDeleteWithSuggestionAndConflict(ctx, t, u)
	}},
	{"DeleteWithSuggestionOfDeletedObject", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestDeleteWithSuggestionOfDeletedObject(ctx, t, u)
	}},
	{"ValidateDeletionWithSuggestion", counts, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestValidateDeletionWithSuggestion(ctx, t, u)
	}},
	{"ValidateDeletionWithOnlySuggestionValid", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestValidateDeletionWithOnlySuggestionValid(ctx, t, u)
	}},
	{"DeleteWithConflict", counts, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestDeleteWithConflict(ctx, t, u)
	}},
	{"PreconditionalDeleteWithSuggestion", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestPreconditionalDeleteWithSuggestion(ctx, t, u)
	}},
	{"PreconditionalDeleteWithOnlySuggestionPass", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass(ctx, t, u)
	}},
	{"GuaranteedUpdate", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGuaranteedUpdate(ctx, t, u, u.checkStored)
	}},
	{"GuaranteedUpdateWithTTL", expires, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGuaranteedUpdateWithTTL(ctx, t, u)
	}},
	{"GuaranteedUpdateChecksStoredData", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGuaranteedUpdateChecksStoredData(ctx, t, u)
	}},
	{"GuaranteedUpdateWithConflict", counts, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGuaranteedUpdateWithConflict(ctx, t, u)
	}},
	{"GuaranteedUpdateWithSuggestionAndConflict", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict(ctx, t, u)
	}},
	{"TransformationFailure", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestTransformationFailure(ctx, t, u)
	}},
	{"KeySchema", writes, func(ctx context.Context, t *testing.T, u *upstream) { storagetesting.RunTestKeySchema(ctx, t, u) }},
	{"Stats", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestStats(ctx, t, u, u.codec, u.transformer, false)
	}},
	{"StatsWithSizes", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		if err := u.EnableResourceSizeEstimation(u.keys); err != nil {
			t.Fatal(err)
		}
		storagetesting.RunTestStats(ctx, t, u, u.codec, u.transformer, true)
	}},
	{"List", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestList(ctx, t, u, u.compact, false, u.etcd.Kubernetes.(*storagetesting.KubernetesRecorder))
	}},
	{"ListPaging", reads, func(ctx context.Context, t *testing.T, u *upstream) { storagetesting.RunTestListPaging(ctx, t, u) }},
	{"GetListNonRecursive", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGetListNonRecursive(ctx, t, u.increaseRevision, u)
	}},
	{"GetListRecursivePrefix", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGetListRecursivePrefix(ctx, t, u)
	}},
	{"GetListWithoutErrorAggregation", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestGetListWithoutErrorAggregation(ctx, t, u, errors.New("bits flipped"))
	}},
	{"ConsistentList", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestConsistentList(ctx, t, u, u.increaseRevision, false, true, false)
	}},
	{"CompactRevision", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestCompactRevision(ctx, t, u, u.increaseRevision, u.compact)
	}},
	{"ListContinuation", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestListContinuation(ctx, t, u, u.checkCalls)
	}},
	{"ListPaginationRareObject", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestListPaginationRareObject(ctx, t, u, u.checkCalls)
	}},
	{"ListContinuationWithFilter", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestListContinuationWithFilter(ctx, t, u, u.checkCalls)
	}},
	{"NamespaceScopedList", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestNamespaceScopedList(ctx, t, u)
	}},
	{"ListInconsistentContinuation", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestListInconsistentContinuation(ctx, t, u, u.compact)
	}},
	{"ListResourceVersionMatch", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestListResourceVersionMatch(ctx, t, u)
	}},
	{"Watch", reads, func(ctx context.Context, t *testing.T, u *upstream) { storagetesting.RunTestWatch(ctx, t, u) }},
	{"ClusterScopedWatch", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestClusterScopedWatch(ctx, t, u)
	}},
	{"NamespaceScopedWatch", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestNamespaceScopedWatch(ctx, t, u)
	}},
	{"DeleteTriggerWatch", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestDeleteTriggerWatch(ctx, t, u)
	}},
	{"WatchFromZero", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestWatchFromZero(ctx, t, u, u.compact)
	}},
	{"WatchFromNonZero", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestWatchFromNonZero(ctx, t, u)
	}},
	{"DelayedWatchDelivery", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestDelayedWatchDelivery(ctx, t, u)
	}},
	{"WatchError", reads, func(ctx context.Context, t *testing.T, u *upstream) { storagetesting.RunTestWatchError(ctx, t, u) }},
	{"WatchContextCancel", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestWatchContextCancel(ctx, t, u)
	}},
	{"WatcherTimeout", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestWatcherTimeout(ctx, t, u)
	}},
	{"WatchDeleteEventObjectHaveLatestRV", writes, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV(ctx, t, u)
	}},
	{"WatchInitializationSignal", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestWatchInitializationSignal(ctx, t, u)
	}},
	{"ProgressNotify", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunOptionalTestProgressNotify(ctx, t, u, u.increaseRevision)
	}},
	{"WatchDispatchBookmarkEvents", slow, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, u, false)
	}},
	{"SendInitialEventsBackwardCompatibility", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunSendInitialEventsBackwardCompatibility(ctx, t, u)
	}},
	{"WatchSemantics", early, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunWatchSemantics(ctx, t, u)
	}},
	{"WatchSemanticInitialEventsExtended", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunWatchSemanticInitialEventsExtended(ctx, t, u)
	}},
	{"WatchListMatchSingle", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunWatchListMatchSingle(ctx, t, u)
	}},
	{"WatchErrorIsBlockingFurtherEvents", reads, func(ctx context.Context, t *testing.T, u *upstream) {
		storagetesting.RunWatchErrorIsBlockingFurtherEvents(ctx, t, u)
	}},
}

// TestUpstream runs the tests of k8s.io/apiserver for its etcd store on a Store. All tests run with every write as
// a transaction of the transactor. The tests that write also run without any plan, and with a stale first plan.
func TestUpstream(t *testing.T) {
	start := func(t *testing.T) *kubernetes.Client {
		return claimstest.RunEtcd(t, func(config *embed.Config) { config.WatchProgressNotifyInterval = time.Second })
	}
	etcd := start(t)
	long := os.Getenv("IPAM_TEST_LONG") != ""
	for _, tt := range []struct {
		name    string
		planner *fixedPlanner
		kinds   []kind
	}{
		{"guarded", &fixedPlanner{guarded: true}, []kind{reads, early, writes, expires, counts}},
		{"nothing planned", &fixedPlanner{}, []kind{writes, counts}},
		{"stale at first", &fixedPlanner{guarded: true, stale: true}, []kind{writes}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, test := range upstreamTests {
				all := long && !tt.planner.stale
				if !all && !slices.Contains(tt.kinds, test.kind) {
					continue
				}
				t.Run(test.name, func(t *testing.T) {
					// The tests have parallel parts, which end after this function.
					ctx, cancel := context.WithCancel(context.Background())
					t.Cleanup(cancel)
					etcd := etcd
					if test.kind == early {
						etcd = start(t)
					}
					test.run(ctx, t, newUpstream(t, etcd, tt.planner))
				})
			}
			if tt.planner.plans.Load() == 0 {
				t.Errorf("nothing was planned")
			}
		})
	}
}
