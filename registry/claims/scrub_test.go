// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/install"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
)

// uncached stands in for a watch cache, and reads etcd.
type uncached struct {
	storage.Interface
	claims *Claims
	of     *objects
}

func (u uncached) Get(ctx context.Context, key string, _ storage.GetOptions, into runtime.Object) error {
	parts := strings.Split(strings.TrimPrefix(key, u.of.resourcePrefix+"/"), "/")
	_, err := u.claims.get(ctx, *u.of, parts[0], parts[1], into)
	return err
}

// scrubGround is a store that snapshots can be put into.
type scrubGround struct {
	*Claims
	codec runtime.Codec
}

func newScrubGround(t *testing.T) *scrubGround {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	g := &scrubGround{
		newClaims(runEtcd(t).KV, "/registry/test"),
		serializer.NewCodecFactory(scheme).LegacyCodec(schema.GroupVersion(v1alpha1.GroupVersion)),
	}
	for resource, of := range map[string]*objects{"prefixes": &g.prefixes, "prefixallocations": &g.allocations} {
		*of = objects{
			cached: uncached{claims: g.Claims, of: of}, resourcePrefix: "/ipam.ironcore.dev/" + resource, etcdPrefix: "/registry/test",
			transformer: identity.NewEncryptCheckTransformer(), decoder: etcd3.NewDefaultDecoder(g.codec, storage.APIObjectVersioner{}),
		}
	}
	return g
}

// put replaces everything there is.
func (g *scrubGround) put(t *testing.T, s *snapshot) {
	t.Helper()
	if _, err := g.kv.Delete(t.Context(), "/registry/test/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	var puts []clientv3.Op
	put := func(key string, value []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		puts = append(puts, clientv3.OpPut(key, string(value)))
	}
	for i := range s.prefixes {
		p := s.prefixes[i].DeepCopy()
		value, err := runtime.Encode(g.codec, p)
		put(g.prefixes.etcdKey(p.Namespace, p.Name), value, err)
	}
	for i := range s.allocations {
		a := s.allocations[i].DeepCopy()
		value, err := runtime.Encode(g.codec, a)
		put(g.allocations.etcdKey(a.Namespace, a.Name), value, err)
	}
	for _, c := range s.claims {
		value, err := c.encode()
		put(c.key, []byte(value), err)
	}
	if _, err := g.kv.Txn(t.Context()).Then(puts...).Commit(); err != nil {
		t.Fatal(err)
	}
}

// family is a store with a parent and an allocated child.
func family(keys keyspace) *snapshot {
	root := ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "root", UID: "uid-root"},
		Spec:       ipam.PrefixSpec{Prefix: "10.0.0.0/8"},
		Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated},
	}
	child := *root.DeepCopy()
	child.Name, child.UID = "child", "uid-child"
	child.Spec = ipam.PrefixSpec{Prefix: "10.1.0.0/16", ParentRef: &ipam.LocalObjectReference{Name: root.Name}}
	a := ipam.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "child", UID: "uid-allocation", OwnerReferences: []metav1.OwnerReference{
			{Kind: ipam.PrefixKind, Name: child.Name, UID: child.UID, Controller: new(true)},
		}},
		Spec:   ipam.PrefixAllocationSpec{PrefixRef: &ipam.LocalObjectReference{Name: root.Name}},
		Status: ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: child.Spec.Prefix},
	}
	prefix := netip.MustParsePrefix(child.Spec.Prefix)
	c := claimEntry{claim: claim{[]holder{holderOf(&a)}}, key: keys.claim(root.UID, prefix), parent: root.UID, prefix: prefix}
	return &snapshot{[]ipam.Prefix{root, child}, []ipam.PrefixAllocation{a}, []claimEntry{c}}
}

// broken are stores that are like one but for one thing.
func broken(s *snapshot, keys keyspace) map[string]*snapshot {
	if len(s.claims) == 0 {
		return nil
	}
	// One that a child may stand on has most to lose.
	n := max(0, slices.IndexFunc(s.claims, func(c claimEntry) bool { return c.Holders[0].Owner != nil }))
	c, rest := s.claims[n], slices.Delete(slices.Clone(s.claims), n, n+1)
	at := slices.IndexFunc(s.allocations, func(a ipam.PrefixAllocation) bool { return a.UID == c.Holders[0].UID })
	held := s.allocations[at]
	twin := *held.DeepCopy()
	twin.Name, twin.UID = "twin", "twin"
	shared := c
	shared.Holders = append(slices.Clone(c.Holders), holderOf(&twin))
	ownerless := slices.Clone(s.allocations)
	ownerless[at].OwnerReferences = nil
	claimed := func(parent types.UID, prefix netip.Prefix) []claimEntry {
		return append(slices.Clone(s.claims), claimEntry{claim: c.claim, key: keys.claim(parent, prefix), parent: parent, prefix: prefix})
	}
	return map[string]*snapshot{
		"claim gone":                  {s.prefixes, s.allocations, rest},
		"allocation gone":             {s.prefixes, slices.Delete(slices.Clone(s.allocations), at, at+1), s.claims},
		"twin":                        {s.prefixes, append(slices.Clone(s.allocations), twin), s.claims},
		"twin with claim":             {s.prefixes, append(slices.Clone(s.allocations), twin), append(rest, shared)},
		"owner gone":                  {s.prefixes, ownerless, s.claims},
		"claim to something besides":  {s.prefixes, s.allocations, claimed(c.parent, netip.MustParsePrefix("192.0.2.0/24"))},
		"claim to the same elsewhere": {s.prefixes, s.allocations, claimed("uid-elsewhere", c.prefix)},
	}
}

// TestScrubAgainstModel has scrubs of stores with every set of kinds of differences, and of those that are like one without any
// but for one thing.
func TestScrubAgainstModel(t *testing.T) {
	const enough = 12
	g := newScrubGround(t)
	check := func(s *snapshot, found []Difference) {
		g.put(t, s)
		for _, pageSize := range []int{1, 2, 1000} {
			if clean, err := g.isClean(t.Context(), pace{read: 1000, page: pageSize}); err != nil || clean != (len(found) == 0) {
				t.Fatalf("clean by pages of %d: %t (%v), although there is %v", pageSize, clean, err, found)
			}
		}
		scrubbed, err := g.scrub(t.Context(), pace{read: 1000, page: 1000})
		audited, auditErr := g.Audit(t.Context())
		if err := errors.Join(err, auditErr); err != nil || !reflect.DeepEqual(scrubbed, audited) {
			t.Fatalf("a scrub tells %v (%v), an audit %v", scrubbed, err, audited)
		}
	}
	classes, wrongs := map[string]int{}, map[string]int{}
	checkBroken := func(s *snapshot) {
		for what, s := range broken(s, g.keyspace) {
			if found := s.survey(t, g.keyspace).differences(); len(found) > 0 && wrongs[what] < enough {
				wrongs[what]++
				check(s, found)
			}
		}
	}
	checkBroken(family(g.keyspace))
	for seed := range uint64(5000) {
		s := randomSnapshot(rand.New(rand.NewPCG(seed, 3)), g.keyspace)
		found := s.survey(t, g.keyspace).differences()
		var kinds []DifferenceKind
		for _, d := range found {
			kinds = append(kinds, d.Kind)
		}
		class := fmt.Sprint(slices.Compact(kinds))
		if classes[class]++; classes[class] <= enough {
			check(s, found)
		}
		if len(found) == 0 {
			checkBroken(s)
		}
	}
	if classes["[]"] < enough || len(classes) < 20 {
		t.Errorf("got %v", classes)
	}
	if len(wrongs) != 7 {
		t.Errorf("got %v", wrongs)
	}
}

// TestScrubTellsWhatItCannotRead has what is no object and what is no claim.
func TestScrubTellsWhatItCannotRead(t *testing.T) {
	g := newScrubGround(t)
	for _, key := range []string{g.prefixes.etcdKey("ns", "a"), g.allocations.etcdKey("ns", "a"), g.keyspace.prefix + "a", g.keyspace.claim("a", netip.MustParsePrefix("10.0.0.0/32"))} {
		g.put(t, &snapshot{claims: []claimEntry{{key: key}}})
		if _, err := g.kv.Put(t.Context(), key, "nonsense"); err != nil {
			t.Fatal(err)
		}
		if _, err := g.scrub(t.Context(), pace{read: 1, page: 1}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// TestAtLeisure has ten pieces of a second each, then some that fail.
func TestAtLeisure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := pace{leisure: 9, patience: wait.Backoff{Duration: time.Minute, Factor: 2, Steps: 3}}
		began, pieces, failing := time.Now(), 0, map[int]bool{}
		away := errors.New("away")
		piece := func() (bool, error) {
			time.Sleep(time.Second)
			if pieces++; failing[pieces] {
				return false, away
			}
			return pieces == 10, nil
		}
		run := func(ctx context.Context, wantPieces int, want error, wantTime time.Duration) {
			t.Helper()
			began, pieces = time.Now(), 0
			if err := pace.atLeisure(ctx, piece); !errors.Is(err, want) || pieces != wantPieces || time.Since(began) != wantTime {
				t.Errorf("%d pieces in %s: %v", pieces, time.Since(began), err)
			}
		}
		run(t.Context(), 10, nil, (10+9*9)*time.Second)
		// What fails is tried again, three times in a row.
		failing = map[int]bool{2: true, 3: true, 4: true, 6: true}
		run(t.Context(), 10, nil, (10+9*9)*time.Second+(1+2+4+1)*time.Minute)
		failing = map[int]bool{2: true, 3: true, 4: true, 5: true}
		run(t.Context(), 5, away, (5+4*9)*time.Second+(1+2+4)*time.Minute)
		// It ends at once if it has to.
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		run(ctx, 1, context.DeadlineExceeded, 1500*time.Millisecond)
		run(ctx, 1, context.DeadlineExceeded, time.Second)
	})
}
