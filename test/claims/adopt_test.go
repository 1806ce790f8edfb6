// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/pki"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// expectClaims fails the test unless each allocation of a world has its claim, and each claim its allocations.
func expectClaims(t testing.TB, w world) {
	t.Helper()
	want := map[string][]holder{}
	for _, a := range w.allocations() {
		if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
			key := claimKey(w.prefix(a.Namespace, a.Spec.PrefixRef.Name).UID, a.Status.Prefix)
			want[key] = append(want[key], holderOf(a))
		}
	}
	text := func(holders []holder) string {
		var all []string
		for _, h := range holders {
			all = append(all, string(must(json.Marshal(h))))
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	for key, holders := range want {
		switch value, ok := w[key]; {
		case !ok:
			t.Errorf("no claim %s of %s", key, text(holders))
		case text(decoded[claim](value).Holders) != text(holders):
			t.Errorf("claim %s is of %s, not of %s", key, value, text(holders))
		}
	}
	for key, value := range w {
		if _, ok := want[key]; !ok && strings.HasPrefix(key, claimPrefix) {
			t.Errorf("claim %s of %s, who do not hold it", key, value)
		}
	}
}

// foreign returns the world as another server of this API group stores it, which knows neither claims nor our
// additions to the API.
func (w world) foreign() world {
	rest := w.withoutClaims()
	for key, value := range rest {
		object := *decoded[map[string]any](asJSON(value))
		metadata := object["metadata"].(map[string]any)
		delete(metadata, "generation")
		delete(metadata, "managedFields")
		status := object["status"].(map[string]any)
		for _, field := range []string{"conditions", "observedGeneration", "usage"} {
			delete(status, field)
		}
		rest[key] = string(must(json.Marshal(object)))
	}
	return rest
}

// foreignObjects are objects as another server stores them. That server stopped in the middle of its work: objects
// are new, with and without a phase; seen by the scheduler; allocated but not completed; being deleted.
var foreignObjects = []string{
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-root","namespace":"here","uid":"f-1","creationTimestamp":"2024-05-01T10:00:00Z","finalizers":["ipam.ironcore.dev/prefix"]},"spec":{"ipFamily":"IPv4","prefix":"192.168.0.0/16"},"status":{"phase":"Allocated","lastPhaseTransitionTime":"2024-05-01T10:00:00Z","used":["192.168.0.0/24","192.168.1.0/24"]}}`,
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-new-root","namespace":"here","uid":"f-2","creationTimestamp":"2024-05-01T10:00:00Z"},"spec":{"ipFamily":"IPv6","prefix":"fd00::/48"},"status":{}}`,
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-child","generateName":"f-","namespace":"here","uid":"f-3","creationTimestamp":"2024-05-01T10:00:00Z","labels":{"subnet-type":"public"},"finalizers":["ipam.ironcore.dev/prefix"]},"spec":{"ipFamily":"IPv4","prefix":"192.168.0.0/24","prefixLength":24,"parentRef":{"name":"f-root"}},"status":{"phase":"Allocated","lastPhaseTransitionTime":"2024-05-01T10:00:00Z"}}`,
	`{"kind":"PrefixAllocation","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-child-x7k2p","generateName":"f-child-","namespace":"here","uid":"f-4","creationTimestamp":"2024-05-01T10:00:00Z","labels":{"ipam.ironcore.dev/requester-uid":"f-3"},"ownerReferences":[{"apiVersion":"ipam.ironcore.dev/v1alpha1","kind":"Prefix","name":"f-child","uid":"f-3","controller":true,"blockOwnerDeletion":true}]},"spec":{"ipFamily":"IPv4","prefixLength":24,"prefixRef":{"name":"f-root"}},"status":{"phase":"Allocated","lastPhaseTransitionTime":"2024-05-01T10:00:00Z","prefix":"192.168.0.0/24"}}`,
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-incomplete","namespace":"here","uid":"f-5","creationTimestamp":"2024-05-01T10:00:00Z","finalizers":["ipam.ironcore.dev/prefix"]},"spec":{"ipFamily":"IPv4","prefixLength":24,"parentRef":{"name":"f-root"}},"status":{"phase":"Pending","lastPhaseTransitionTime":"2024-05-01T10:00:00Z"}}`,
	`{"kind":"PrefixAllocation","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-incomplete-8dxql","generateName":"f-incomplete-","namespace":"here","uid":"f-6","creationTimestamp":"2024-05-01T10:00:00Z","labels":{"ipam.ironcore.dev/requester-uid":"f-5"},"ownerReferences":[{"apiVersion":"ipam.ironcore.dev/v1alpha1","kind":"Prefix","name":"f-incomplete","uid":"f-5","controller":true,"blockOwnerDeletion":true}]},"spec":{"ipFamily":"IPv4","prefixLength":24,"prefixRef":{"name":"f-root"}},"status":{"phase":"Allocated","lastPhaseTransitionTime":"2024-05-01T10:00:00Z","prefix":"192.168.1.0/24"}}`,
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-new","namespace":"here","uid":"f-7","creationTimestamp":"2024-05-01T10:00:00Z"},"spec":{"ipFamily":"IPv4","prefixLength":24,"parentRef":{"name":"f-root"}},"status":{}}`,
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-half","namespace":"here","uid":"f-8","creationTimestamp":"2024-05-01T10:00:00Z","finalizers":["ipam.ironcore.dev/prefix"]},"spec":{"ipFamily":"IPv4","prefixLength":25,"parentSelector":{"matchLabels":{"subnet-type":"public"}}},"status":{"phase":"Pending"}}`,
	`{"kind":"PrefixAllocation","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-half-2zvbn","generateName":"f-half-","namespace":"here","uid":"f-9","creationTimestamp":"2024-05-01T10:00:00Z","labels":{"ipam.ironcore.dev/requester-uid":"f-8"},"ownerReferences":[{"apiVersion":"ipam.ironcore.dev/v1alpha1","kind":"Prefix","name":"f-half","uid":"f-8","controller":true,"blockOwnerDeletion":true}]},"spec":{"ipFamily":"IPv4","prefixLength":25,"prefixSelector":{"matchLabels":{"subnet-type":"public"}}},"status":{}}`,
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-scheduled","namespace":"here","uid":"f-10","creationTimestamp":"2024-05-01T10:00:00Z","finalizers":["ipam.ironcore.dev/prefix"]},"spec":{"ipFamily":"IPv6","prefix":"fd00:0:0:7::/64","prefixLength":64,"parentRef":{"name":"f-new-root"}},"status":{"phase":"Pending"}}`,
	`{"kind":"PrefixAllocation","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-scheduled-hhqtc","generateName":"f-scheduled-","namespace":"here","uid":"f-11","creationTimestamp":"2024-05-01T10:00:00Z","labels":{"ipam.ironcore.dev/requester-uid":"f-10"},"ownerReferences":[{"apiVersion":"ipam.ironcore.dev/v1alpha1","kind":"Prefix","name":"f-scheduled","uid":"f-10","controller":true,"blockOwnerDeletion":true}]},"spec":{"ipFamily":"IPv6","prefix":"fd00:0:0:7::/64","prefixRef":{"name":"f-new-root"}},"status":{"phase":"Pending","lastPhaseTransitionTime":"2024-05-01T10:00:00Z"}}`,
	`{"kind":"Prefix","apiVersion":"ipam.ironcore.dev/v1alpha1","metadata":{"name":"f-deleted","namespace":"here","uid":"f-12","creationTimestamp":"2024-05-01T10:00:00Z","deletionTimestamp":"2024-05-01T11:00:00Z","deletionGracePeriodSeconds":0,"finalizers":["ipam.ironcore.dev/prefix"]},"spec":{"ipFamily":"IPv4","prefix":"192.168.0.0/16"},"status":{"phase":"Allocated","lastPhaseTransitionTime":"2024-05-01T10:00:00Z"}}`,
}

// overlapping returns the pairs of names of allocations of one parent that overlap.
func overlapping(allocations []*v1alpha1.PrefixAllocation) (pairs []string) {
	for i, a := range allocations {
		for _, b := range allocations[:i] {
			if a.Status.Prefix != "" && b.Status.Prefix != "" && a.Namespace == b.Namespace && *a.Spec.PrefixRef == *b.Spec.PrefixRef &&
				netip.MustParsePrefix(a.Status.Prefix).Overlaps(netip.MustParsePrefix(b.Status.Prefix)) {
				pairs = append(pairs, a.Name+" "+b.Name)
			}
		}
	}
	return pairs
}

func TestAdoptAtStart(t *testing.T) {
	t.Parallel()
	w := healthy(t).foreign()
	for _, object := range foreignObjects {
		meta := decoded[metav1.PartialObjectMetadata](object)
		key := prefixKey(meta.Namespace, meta.Name)
		if meta.Kind == "PrefixAllocation" {
			key = allocationKey(meta.Namespace, meta.Name)
		}
		w[key] = object
	}
	dir := t.TempDir()
	s, stop := startEtcd(t, dir)
	s.put(t, w)
	stop()

	// A server without controllers changes only the claims.
	instance := harness.Start(t, harness.DataDir(dir))
	s = connect(t, instance.EtcdEndpoints)
	after := s.world(t)
	expectClaims(t, after)
	if !maps.Equal(after.withoutClaims(), w) {
		t.Error("the adoption has changed an object")
	}
	expect(t, auditOf(t, s.open(t)))
	instance.Close()

	// The controllers complete the unfinished work.
	instance = harness.Start(t, harness.DataDir(dir), harness.Controllers("*"))
	client := instance.Client
	harness.In(t, client, here).Gone("f-deleted")
	waitAllocated(t, client.Prefixes(here))

	// New allocations do not overlap the existing ones.
	var requests []*v1alpha1.Prefix
	for i := range 20 {
		for _, parent := range []string{"v4", "middle4", "f-root", "f-child"} {
			requests = append(requests, harness.Child(fmt.Sprintf("new-%s-%d", parent, i), parent, harness.Length(30)))
		}
		for _, parent := range []string{"v6", "middle6", "f-new-root"} {
			requests = append(requests, harness.Child(fmt.Sprintf("new-%s-%d", parent, i), parent, harness.Length(64)))
		}
	}
	create(t, client.Prefixes(here), requests...)
	waitAllocated(t, client.Prefixes(here))
	s = connect(t, instance.EtcdEndpoints)
	expect(t, auditOf(t, s.open(t)))
	last := s.world(t)
	expectClaims(t, last)
	if pairs := overlapping(last.allocations()); len(pairs) > 0 {
		t.Errorf("overlaps: %.10q", pairs)
	}
	for _, was := range w.allocations() {
		is := last[allocationKey(was.Namespace, was.Name)]
		if was.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
			continue
		}
		if is == "" || decoded[v1alpha1.PrefixAllocation](is).Status.Prefix != was.Status.Prefix {
			t.Errorf("%s had %s: %s", was.Name, was.Status.Prefix, is)
		}
	}
}

// overlapped returns a world in which allocations overlap in every way, and the findings that are reported.
func overlapped() (w world, told []finding) {
	w = world{}
	root := w.addRoot(here, "root", "10.9.0.0/24")
	w.addChild(root, "equal-1", "10.9.0.0/28")
	w.addChild(root, "equal-2", "10.9.0.0/28")
	w.addChild(root, "outer", "10.9.0.32/27")
	w.addChild(root, "inner", "10.9.0.48/28")
	w.addChild(root, "begin-inner", "10.9.0.64/28")
	w.addChild(root, "begin-outer", "10.9.0.64/27")
	six := w.addRoot(here, "six", "2001:db8::/48")
	w.addChild(six, "six-inner", "2001:db8:0:12::/64")
	w.addChild(six, "six-outer", "2001:db8:0:10::/60")
	w.addChild(six, "six-in-outer", "2001:db8:0:10::/64")
	// This prefix has more ancestors than an etcd transaction can have compares.
	w.addChild(w.addRoot(here, "half", "8000::/1"), "deepest", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")
	return w.withoutClaims(), []finding{
		{audit.Overlap, here, "equal-2-allocation", "root", "10.9.0.0/28"},
		{audit.Overlap, here, "inner-allocation", "root", "10.9.0.48/28"},
		{audit.Overlap, here, "begin-inner-allocation", "root", "10.9.0.64/28"},
		{audit.Overlap, here, "six-inner-allocation", "six", "2001:db8:0:12::/64"},
		{audit.Overlap, here, "six-in-outer-allocation", "six", "2001:db8:0:10::/64"},
	}
}

func holdersOf(w world, parent, prefix string) (names []string) {
	value, ok := w[claimKey(w.prefix(here, parent).UID, prefix)]
	if !ok {
		return nil
	}
	for _, h := range decoded[claim](value).Holders {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	return names
}

// startOverlapped starts an instance with all controllers on the store of overlapped.
func startOverlapped(t *testing.T) (instance *harness.Server, w world, told []finding) {
	t.Helper()
	w, told = overlapped()
	dir := t.TempDir()
	s, stop := startEtcd(t, dir)
	s.put(t, w)
	stop()
	return harness.Start(t, harness.DataDir(dir), harness.Controllers("*")), w, told
}

func TestAdoptOverlaps(t *testing.T) {
	t.Parallel()
	instance, w, told := startOverlapped(t)
	s := connect(t, instance.EtcdEndpoints)
	opened := s.open(t)
	expectClaims(t, s.world(t))
	expect(t, auditOf(t, opened), told...)

	// Exactly two more prefixes fit.
	prefixes := instance.Client.Prefixes(here)
	create(t, prefixes, harness.Child("new-1", "root", harness.Length(26)), harness.Child("new-2", "root", harness.Length(26)))
	waitAllocated(t, prefixes)
	create(t, prefixes, harness.Child("last", "root", harness.Length(26)))
	for _, prefix := range []string{"10.9.0.0/28", "10.9.0.0/29", "10.9.0.40/29", "10.9.0.32/28", "10.9.0.64/30", "10.9.0.80/28", "10.9.0.0/25"} {
		create(t, prefixes, harness.Child("wants-"+strings.NewReplacer(".", "-", "/", "-").Replace(prefix), "root", harness.Exactly(prefix)))
	}
	waits := func(name string) {
		t.Helper()
		time.Sleep(300 * time.Millisecond)
		p, err := prefixes.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Status.Phase != v1alpha1.PrefixPhasePending {
			t.Errorf("%s got %s", name, p.Spec.Prefix)
		}
	}
	waits("last")
	now := s.world(t)
	expectClaims(t, now)
	expect(t, auditOf(t, opened), told...)
	if got := len(overlapping(now.allocations())); got != len(told) {
		t.Errorf("%d overlaps, not %d: %q", got, len(told), overlapping(now.allocations()))
	}
	for _, a := range now.allocations() {
		if key := allocationKey(here, a.Name); w[key] != "" && w[key] != now[key] {
			t.Errorf("the allocation was changed: %s, was %s", now[key], w[key])
		}
		if strings.HasPrefix(a.Name, "wants-") && a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
			t.Errorf("%s got %s", a.Name, a.Status.Prefix)
		}
	}

	// When one of two holders is removed, the claim of the other one remains.
	isOf := func(prefix string, names ...string) {
		t.Helper()
		var got []string
		harness.Eventually(t, "the claim to "+prefix, func() error {
			got = holdersOf(s.world(t), "root", prefix)
			return harness.Unless(slices.Equal(got, names), "it is of %q, not of %q", got, names)
		})
	}
	remove(t, prefixes, "equal-1")
	isOf("10.9.0.0/28", "equal-2-allocation")
	remove(t, prefixes, "outer")
	isOf("10.9.0.32/27")
	isOf("10.9.0.48/28", "inner-allocation")
	// The free half of the outer prefix is allocated at once. The half that contains the inner one is not.
	harness.Eventually(t, "10.9.0.32/28 is given out", func() error {
		return harness.Unless(len(holdersOf(s.world(t), "root", "10.9.0.32/28"))+len(holdersOf(s.world(t), "root", "10.9.0.40/29")) > 0, "nobody got it")
	})
	expect(t, auditOf(t, opened), slices.DeleteFunc(slices.Clone(told), func(f finding) bool {
		return f.name == "equal-2-allocation" || f.name == "inner-allocation"
	})...)
	isOf("10.9.0.0/28", "equal-2-allocation")

	// When the other holder is removed too, a waiting request gets the space.
	remove(t, prefixes, "equal-2")
	harness.Eventually(t, "10.9.0.0/28 is given out", func() error {
		return harness.Unless(len(holdersOf(s.world(t), "root", "10.9.0.0/28"))+len(holdersOf(s.world(t), "root", "10.9.0.0/29")) > 0, "nobody got it")
	})
	expect(t, slices.DeleteFunc(auditOf(t, opened), func(d audit.Difference) bool { return d.Parent == "six" }),
		finding{audit.Overlap, here, "begin-inner-allocation", "root", "10.9.0.64/28"})
}

// TestAdoptedOverlapsHoldUpNobody fills the free space beside overlapping allocations.
func TestAdoptedOverlapsHoldUpNobody(t *testing.T) {
	t.Parallel()
	instance, _, told := startOverlapped(t)
	prefixes := instance.Client.Prefixes(here)
	var requests []*v1alpha1.Prefix
	for i := range 11 {
		requests = append(requests, harness.Child(fmt.Sprintf("new-%d", i), "root", harness.Length(28)))
	}
	create(t, prefixes, requests...)
	waitAllocated(t, prefixes)
	s := connect(t, instance.EtcdEndpoints)
	expect(t, auditOf(t, s.open(t)), told...)
	expectClaims(t, s.world(t))
}

// remove deletes a Prefix and waits until it is gone.
func remove(t testing.TB, prefixes ipamclient.PrefixInterface, name string) {
	t.Helper()
	if err := prefixes.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, name+" gone", func() error {
		_, err := prefixes.Get(t.Context(), name, metav1.GetOptions{})
		return harness.Unless(apierrors.IsNotFound(err), "it is still there")
	})
}

// TestAdoptAtTheSameTime adopts a store from four clients concurrently, as servers do that start at the same time.
func TestAdoptAtTheSameTime(t *testing.T) {
	t.Parallel()
	w, told := overlapped()
	// Many allocations hold the same prefix, so that the adopters conflict.
	crowd := w.addRoot(here, "crowd", "10.0.0.0/8")
	for i := range 60 {
		child, _ := w.addChild(crowd, fmt.Sprintf("crowd-%02d", i), nth("10.0.0.0/8", 24, i/20))
		if i%20 > 0 {
			told = append(told, finding{audit.Overlap, here, child.Name + "-allocation", "crowd", child.Spec.Prefix})
		}
	}
	maps.Copy(w, healthy(t))
	s := newEtcd(t, w.withoutClaims())
	for range 3 {
		s.delete(t, claimPrefix, clientv3.WithPrefix())
		var group sync.WaitGroup
		for range 4 {
			opened := s.open(t)
			group.Go(func() {
				if _, err := opened.Adopt(t.Context(), nil); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		expectClaims(t, s.world(t))
		expect(t, auditOf(t, s.open(t)), told...)
	}
	before := s.revisions(t)
	differences, err := s.open(t).Adopt(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, differences, told...)
	if !maps.Equal(before, s.revisions(t)) {
		t.Error("the second adoption has written")
	}
}

// TestAdoptWhileChanging repeatedly adopts a store while a server changes it and the test removes claims. An
// allocation that is deleted meanwhile never keeps a claim.
func TestAdoptWhileChanging(t *testing.T) {
	t.Parallel()
	w := world{}
	root := w.addRoot(here, "root", "10.0.0.0/8")
	for i := range 100 {
		w.addAllocation(root, fmt.Sprintf("stays-%d", i), nth("10.128.0.0/9", 24, i), nil)
	}
	dir := t.TempDir()
	s, stop := startEtcd(t, dir)
	s.put(t, w)
	stop()
	instance := harness.Start(t, harness.DataDir(dir))
	allocations := instance.Client.PrefixAllocations(here)
	s = connect(t, instance.EtcdEndpoints)
	opened := s.open(t)

	end := time.Now().Add(3 * time.Second)
	var group sync.WaitGroup
	var cycles atomic.Int64
	for worker := range 8 {
		group.Go(func() {
			name, prefix := fmt.Sprintf("goes-%d", worker), nth("10.0.0.0/9", 24, worker)
			for time.Now().Before(end) {
				_, err := allocations.Create(t.Context(), &v1alpha1.PrefixAllocation{
					ObjectMeta: metav1.ObjectMeta{Name: name},
					Spec:       v1alpha1.PrefixAllocationSpec{Prefix: prefix, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
				}, metav1.CreateOptions{})
				if err == nil {
					_, err = allocations.Bind(t.Context(), name, &v1alpha1.PrefixAllocationBinding{
						Metadata:  v1alpha1.BindingMeta{Name: name},
						Prefix:    prefix,
						PrefixRef: v1alpha1.BindingReference{Name: "root", UID: root.UID},
					}, metav1.CreateOptions{})
				}
				if err == nil {
					err = allocations.Delete(t.Context(), name, metav1.DeleteOptions{})
				}
				if err != nil {
					t.Error(err)
					return
				}
				cycles.Add(1)
			}
		})
	}
	group.Go(func() {
		for time.Now().Before(end) {
			s.delete(t, claimPrefix, clientv3.WithPrefix())
			time.Sleep(20 * time.Millisecond)
		}
	})
	adoptions := 0
	for ; time.Now().Before(end); adoptions++ {
		differences, err := opened.Adopt(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range differences {
			if d.Kind != audit.AllocationWithoutClaim {
				t.Errorf("found what is not: %+v", d)
			}
		}
	}
	group.Wait()
	differences, err := opened.Adopt(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, differences)
	expectClaims(t, s.world(t))
	if adoptions < 3 || cycles.Load() < 30 {
		t.Errorf("%d adoptions while %d allocations came and went", adoptions, cycles.Load())
	}
}

// TestAdoptHostBits has an allocation with host bits, which other servers of this API group accept and ignore.
func TestAdoptHostBits(t *testing.T) {
	t.Parallel()
	w := world{}
	root := w.addRoot(here, "root", "10.0.0.0/16")
	w.addAllocation(root, "allocation", "10.0.7.1/24", nil)
	w.addAllocation(root, "other", "2001:db8::1/64", nil)
	dir := t.TempDir()
	s, stop := startEtcd(t, dir)
	s.put(t, w.withoutClaims())
	stop()
	instance := harness.Start(t, harness.DataDir(dir))
	s = connect(t, instance.EtcdEndpoints)
	expect(t, auditOf(t, s.open(t)), finding{audit.OutsideParent, here, "other", "root", "2001:db8::/64"})
	expectClaims(t, s.world(t))

	allocations := instance.Client.PrefixAllocations(here)
	_, err := allocations.Create(t.Context(), &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Name: "new"},
		Spec:       v1alpha1.PrefixAllocationSpec{Prefix: "10.0.7.128/25", PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bind := func() error {
		_, err := allocations.Bind(t.Context(), "new", &v1alpha1.PrefixAllocationBinding{
			Metadata: v1alpha1.BindingMeta{Name: "new"}, Prefix: "10.0.7.128/25", PrefixRef: v1alpha1.BindingReference{Name: "root"},
		}, metav1.CreateOptions{})
		return err
	}
	if err := bind(); !apierrors.IsConflict(err) {
		t.Errorf("binding to what is taken: %v", err)
	}
	for _, name := range []string{"allocation", "other"} {
		if err := allocations.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := bind(); err != nil {
		t.Errorf("binding to what is free: %v", err)
	}
	expect(t, auditOf(t, s.open(t)))
	expectClaims(t, s.world(t))
}

// many returns a world of 2,000 allocations without claims. Some of them overlap.
func many() (w world, told []finding) {
	w, told = overlapped()
	root := w.addRoot(here, "many", "10.0.0.0/8")
	for i := range 2000 - len(w.allocations()) {
		w.addChild(root, fmt.Sprintf("many-%04d", i), nth("10.0.0.0/8", 24, i))
	}
	return w.withoutClaims(), told
}

// whenClaimed calls a function when at least count claims exist.
func (s *store) whenClaimed(ctx context.Context, count int, call func()) {
	seen := 0
	for response := range s.client.Watch(ctx, claimPrefix, clientv3.WithPrefix()) {
		if seen += len(response.Events); seen >= count {
			call()
			return
		}
	}
}

func TestAdoptInterrupted(t *testing.T) {
	t.Parallel()
	w, told := many()
	s := newEtcd(t, w)
	opened := s.open(t)
	for _, count := range []int{1, 7, 100, 500} {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { s.whenClaimed(ctx, count, cancel) })
		before := s.countClaims(t)
		_, err := opened.Adopt(ctx, nil)
		cancel()
		group.Wait()
		if after := s.countClaims(t); err == nil || after <= before || after >= 1999 {
			t.Fatalf("interrupted after %d: from %d claims to %d, %v", count, before, after, err)
		}
		// All claims that exist are correct. Only missing claims are reported.
		expect(t, slices.DeleteFunc(auditOf(t, s.open(t)), func(d audit.Difference) bool {
			return d.Kind == audit.AllocationWithoutClaim
		}), told...)
	}
	differences, err := opened.Adopt(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, differences, told...)
	expectClaims(t, s.world(t))
}

// server is a process of ipam-apiserver.
type server struct {
	*exec.Cmd
	url    string
	stderr *bytes.Buffer
}

func startServer(t testing.TB, s *store, certificates *pki.Certificates) *server {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	p := &server{url: "https://" + listener.Addr().String(), stderr: &bytes.Buffer{}}
	p.Cmd = exec.Command(path, "--without-cluster", s.flag(), "--bind-address="+host, "--secure-port="+port,
		"--client-ca-file="+certificates.CACertFile, "--tls-cert-file="+certificates.ServingCertFile, "--tls-private-key-file="+certificates.ServingKeyFile)
	p.Stderr = p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill kills the process.
func (p *server) kill() {
	if p.ProcessState == nil {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
}

// ready reports whether the server is ready.
func (p *server) ready(t testing.TB, dir string, certificates *pki.Certificates) bool {
	t.Helper()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := pki.WriteKubeconfig(kubeconfig, p.url, certificates); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(p.url + "/readyz")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// TestAdoptKilled kills servers during the adoption, each at another moment, and then lets two servers complete it.
func TestAdoptKilled(t *testing.T) {
	t.Parallel()
	w, told := many()
	s := newEtcd(t, w)
	dir := t.TempDir()
	certificates, err := pki.Ensure(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 4 {
		before := s.countClaims(t)
		p := startServer(t, s, certificates)
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		s.whenClaimed(ctx, 1+random.IntN(250), p.kill)
		cancel()
		p.kill()
		after := s.countClaims(t)
		if after <= before || after >= 1999 {
			t.Errorf("round %d: from %d claims to %d: %.2000s", round, before, after, p.stderr)
		}
		// A partial adoption is never wrong.
		expect(t, slices.DeleteFunc(auditOf(t, s.open(t)), func(d audit.Difference) bool {
			return d.Kind == audit.AllocationWithoutClaim
		}), told...)
	}
	if t.Failed() {
		return
	}
	servers := []*server{startServer(t, s, certificates), startServer(t, s, certificates)}
	harness.Eventually(t, "one server is ready", func() error {
		return harness.Unless(servers[0].ready(t, dir, certificates) || servers[1].ready(t, dir, certificates), "%.2000s", servers[0].stderr)
	})
	// The first server that is ready has completed the adoption.
	expectClaims(t, s.world(t))
	harness.Eventually(t, "both servers are ready", func() error {
		return harness.Unless(servers[0].ready(t, dir, certificates) && servers[1].ready(t, dir, certificates), "%.2000s", servers[1].stderr)
	})
	expect(t, auditOf(t, s.open(t)), told...)
	expectClaims(t, s.world(t))
	if !maps.Equal(s.world(t).withoutClaims(), w) {
		t.Error("the adoption has changed an object")
	}
}
