// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/fake"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/holding"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
)

func ref(name string) *v1alpha1.LocalObjectReference {
	return &v1alpha1.LocalObjectReference{Name: name}
}

func selector(value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"net": value}}
}

func child(spec v1alpha1.PrefixSpec) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "child", UID: "uid-of-child"},
		Spec:       spec,
		Status:     v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhasePending},
	}
}

func refused(reason string) v1alpha1.PrefixAllocationStatus {
	return v1alpha1.PrefixAllocationStatus{
		Phase:      v1alpha1.PrefixAllocationPhasePending,
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: reason}},
	}
}

func TestMatches(t *testing.T) {
	pending := v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending}
	failed := v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseFailed}
	allocated := func(prefix string) v1alpha1.PrefixAllocationStatus {
		return v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: prefix}
	}
	byName := v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")}
	bySelector := v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, ParentSelector: selector("a")}
	byBoth := v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root"), ParentSelector: selector("a")}
	exactly := v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", ParentRef: ref("root")}
	exactlyWithLength := v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", PrefixLength: 24, ParentRef: ref("root")}

	for _, tt := range []struct {
		name   string
		child  v1alpha1.PrefixSpec
		spec   v1alpha1.PrefixAllocationSpec
		status v1alpha1.PrefixAllocationStatus
		want   bool
	}{
		{"by name", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, pending, true},
		{"by name, failed", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, failed, true},
		{"by name, family known later", byName, v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, PrefixRef: ref("root")}, pending, true},
		{"by name, refused", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, refused(v1alpha1.ReasonParentExhausted), true},
		{"other name", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("other")}, pending, false},
		{"no name", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("a")}, pending, false},
		{"other length", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 25, PrefixRef: ref("root")}, pending, false},
		{"prefix instead of length", byName, v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/24", PrefixRef: ref("root")}, pending, false},
		{"selector on top", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root"), PrefixSelector: selector("a")}, pending, false},
		{"by both", byBoth, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root"), PrefixSelector: selector("a")}, pending, true},
		{"by both, without the name", byBoth, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("a")}, pending, false},

		{"by selector", bySelector, v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, PrefixSelector: selector("a")}, pending, true},
		{"by selector, scheduled half", bySelector, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("a"), PrefixRef: ref("root")}, pending, true},
		{"by selector, scheduled where it cannot be", bySelector,
			v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("a"), PrefixRef: ref("root")}, refused(v1alpha1.ReasonParentExhausted), false},
		{"by selector, refused", bySelector, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("a")}, refused(v1alpha1.ReasonNoMatchingParent), true},
		{"other selector", bySelector, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("b")}, pending, false},
		{"no selector", bySelector, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, pending, false},
		{"other family", bySelector, v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv6, PrefixLength: 24, PrefixSelector: selector("a")}, pending, false},

		{"exactly", exactly, v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/24", PrefixRef: ref("root")}, pending, true},
		{"exactly, with length", exactlyWithLength, v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/24", PrefixRef: ref("root")}, pending, true},
		{"another prefix", exactly, v1alpha1.PrefixAllocationSpec{Prefix: "10.0.1.0/24", PrefixRef: ref("root")}, pending, false},
		{"length instead of prefix", exactly, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, pending, false},

		// An Allocated allocation matches by the prefix that it holds.
		{"allocated", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated by selector", bySelector, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("a"), PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated to who asked otherwise", bySelector, v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/24", PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated exactly", exactly, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated another one", exactly, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.1.0/24"), false},
		{"allocated another length", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 25, PrefixRef: ref("root")}, allocated("10.0.0.0/25"), false},
		{"allocated elsewhere", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("other")}, allocated("10.0.0.0/24"), false},
		{"allocated from another namespace", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root"), PrefixNamespace: "other"}, allocated("10.0.0.0/24"), false},
		{"of another namespace", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root"), PrefixNamespace: "other"}, pending, false},
		{"allocated nonsense", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.0.0"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prefix := child(tt.child)
			allocation := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: prefix.Namespace}, Spec: tt.spec, Status: tt.status}
			if got := matches(prefix, allocation); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestNewAllocationMatches shows that the allocation that is created for a child matches the child.
func TestNewAllocationMatches(t *testing.T) {
	for _, spec := range []v1alpha1.PrefixSpec{
		{PrefixLength: 24, ParentRef: ref("root")},
		{IPFamily: v1alpha1.IPv4, PrefixLength: 24, ParentRef: ref("root"), ParentSelector: selector("a")},
		{IPFamily: v1alpha1.IPv6, PrefixLength: 64, ParentSelector: selector("a")},
		{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", ParentRef: ref("root")},
		{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", PrefixLength: 24, ParentSelector: &metav1.LabelSelector{}},
	} {
		p := child(spec)
		a := newAllocation(p, 0)
		if !matches(p, a) {
			t.Errorf("%+v does not match %+v", a.Spec, spec)
		}
		if (a.Spec.Prefix == "") == (a.Spec.PrefixLength == 0) {
			t.Errorf("not exactly one of prefix and length: %+v", a.Spec)
		}
		if a.Spec.IPFamily != spec.IPFamily || !equality.Semantic.DeepEqual(a.Spec.PrefixSelector, spec.ParentSelector) {
			t.Errorf("%+v does not copy %+v", a.Spec, spec)
		}
		if owner := requester.Of(a); !requester.IsOf(a, p) || owner.BlockOwnerDeletion != nil {
			t.Errorf("owners: %+v", a.OwnerReferences)
		}
		if a.Labels[v1alpha1.RequesterUIDLabel] != string(p.UID) {
			t.Errorf("labels: %v", a.Labels)
		}
		// It shares no memory with the child, which belongs to a cache.
		if spec.ParentRef != nil && a.Spec.PrefixRef == spec.ParentRef || spec.ParentSelector != nil && a.Spec.PrefixSelector == spec.ParentSelector {
			t.Error("shares its reference or selector with the child")
		}
	}
}

func TestSortOut(t *testing.T) {
	p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
	now := time.Unix(1_000_000, 0)
	type entry struct {
		name   string
		phase  v1alpha1.PrefixAllocationPhase
		age    int
		length int32
		change func(*v1alpha1.PrefixAllocation)
	}
	const (
		pending   = v1alpha1.PrefixAllocationPhasePending
		allocated = v1alpha1.PrefixAllocationPhaseAllocated
		failed    = v1alpha1.PrefixAllocationPhaseFailed
	)
	deleting := func(a *v1alpha1.PrefixAllocation) { a.DeletionTimestamp = new(metav1.Now()) }
	elsewhere := func(prefix string) func(*v1alpha1.PrefixAllocation) {
		return func(a *v1alpha1.PrefixAllocation) { a.Status.Prefix = prefix }
	}
	for _, tt := range []struct {
		name    string
		entries []entry
		// stands is the prefix of the child if the child is Allocated.
		stands              string
		active              string
		outdated, leftovers []string
	}{
		{name: "none"},
		{name: "one", entries: []entry{{"a", pending, 0, 24, nil}}, active: "a"},
		{name: "one that does not match", entries: []entry{{"a", pending, 0, 25, nil}}, outdated: []string{"a"}},
		{name: "one that failed", entries: []entry{{"a", failed, 0, 24, nil}}, active: "a"},
		{name: "allocated before pending before failed", entries: []entry{{"a", failed, 9, 24, nil}, {"b", pending, 8, 24, nil}, {"c", allocated, 7, 24, nil}},
			active: "c", outdated: []string{"b", "a"}},
		{name: "the oldest", entries: []entry{{"a", pending, 1, 24, nil}, {"b", pending, 3, 24, nil}, {"c", pending, 2, 24, nil}}, active: "b", outdated: []string{"c", "a"}},
		{name: "the first by name", entries: []entry{{"b", pending, 1, 24, nil}, {"a", pending, 1, 24, nil}}, active: "a", outdated: []string{"b"}},
		{name: "what the child could get stays, what it could not is left over", entries: []entry{{"a", allocated, 1, 25, nil}, {"b", allocated, 3, 24, nil}, {"c", allocated, 2, 24, nil}},
			active: "b", leftovers: []string{"a"}},
		{name: "what holds space and does not match is no answer", entries: []entry{{"a", allocated, 2, 25, nil}, {"b", pending, 1, 24, nil}}, active: "b", leftovers: []string{"a"}},
		{name: "what is being deleted is neither", entries: []entry{{"a", allocated, 2, 24, deleting}, {"b", pending, 1, 25, deleting}}},
		{name: "allocated", stands: "10.0.0.0/24", entries: []entry{{"a", allocated, 2, 24, nil}}, active: "a"},
		{name: "allocated, what is pending is outdated", stands: "10.0.0.0/24", entries: []entry{{"a", allocated, 2, 24, nil}, {"b", pending, 3, 24, nil}}, active: "a", outdated: []string{"b"}},
		{name: "allocated, it stands on one only", stands: "10.0.0.0/24",
			entries: []entry{{"a", allocated, 1, 24, nil}, {"b", allocated, 3, 24, elsewhere("10.0.1.0/24")}, {"c", allocated, 4, 25, nil}},
			active:  "a", leftovers: []string{"c", "b"}},
		{name: "allocated, the same of another parent", stands: "10.0.0.0/24",
			entries: []entry{{"a", allocated, 1, 24, nil}, {"b", allocated, 3, 24, func(a *v1alpha1.PrefixAllocation) { a.Spec.PrefixRef = ref("other") }}},
			active:  "a", leftovers: []string{"b"}},
		{name: "allocated, what it stands on is not known", stands: "10.0.9.0/24", entries: []entry{{"a", allocated, 2, 24, nil}, {"b", pending, 3, 24, nil}}, outdated: []string{"b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.DeepCopy()
			if tt.stands != "" {
				p.Spec.Prefix, p.Status.Phase = tt.stands, v1alpha1.PrefixPhaseAllocated
			}
			var objs []*v1alpha1.PrefixAllocation
			for _, e := range tt.entries {
				a := &v1alpha1.PrefixAllocation{
					ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: e.name, CreationTimestamp: metav1.NewTime(now.Add(-time.Duration(e.age) * time.Second))},
					Spec:       v1alpha1.PrefixAllocationSpec{PrefixLength: e.length, PrefixRef: ref("root")},
					Status:     v1alpha1.PrefixAllocationStatus{Phase: e.phase},
				}
				if e.phase == allocated {
					a.Status.Prefix = fmt.Sprintf("10.0.0.0/%d", e.length)
				}
				if e.change != nil {
					e.change(a)
				}
				objs = append(objs, a)
			}
			names := func(allocations []*v1alpha1.PrefixAllocation) (names []string) {
				for _, a := range allocations {
					names = append(names, a.Name)
				}
				return names
			}
			// The order of the allocations does not matter.
			for range 5 {
				got := classify(p, slices.Clone(objs))
				active := ""
				if got.active != nil {
					active = got.active.Name
				}
				if active != tt.active || !slices.Equal(names(got.outdated), tt.outdated) || !slices.Equal(names(got.leftovers), tt.leftovers) {
					t.Errorf("got %q, outdated %v, left over %v; want %q, %v, %v", active, names(got.outdated), names(got.leftovers), tt.active, tt.outdated, tt.leftovers)
				}
				if len(objs) > 0 {
					objs = append(objs[1:], objs[0])
				}
			}
		})
	}
}

func newTestController(t *testing.T) (*Controller, externalversions.SharedInformerFactory) {
	t.Helper()
	client := fake.NewClientset()
	factory := externalversions.NewSharedInformerFactory(client, 0)
	informers := factory.Ipam().V1alpha1()
	c, err := New(client, informers.Prefixes(), informers.PrefixAllocations(), informers.PrefixPolicies(), events.NewFakeRecorder(10_000), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, q := range []queue.Queue{c.children, c.usage, c.orphans, c.rules, c.cooling} {
			q.ShutDown()
		}
	})
	return c, factory
}

func TestMayFitNow(t *testing.T) {
	for _, tt := range []struct {
		name   string
		parent string // the prefix of the Prefix root, "-" for none
		child  v1alpha1.PrefixSpec
		want   bool
	}{
		{"no name, so there may be others", "-", v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, ParentSelector: selector("a")}, true},
		{"no such parent", "-", v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")}, false},
		{"parent without prefix", "", v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")}, false},
		{"still too small", "10.0.0.0/24", v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")}, false},
		{"of the other family", "2001:db8::/64", v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, ParentRef: ref("root")}, false},
		{"wide enough", "10.0.0.0/23", v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")}, true},
		{"exact, elsewhere", "10.0.0.0/8", v1alpha1.PrefixSpec{Prefix: "11.0.0.0/24", ParentRef: ref("root")}, false},
		{"exact, inside", "10.0.0.0/8", v1alpha1.PrefixSpec{Prefix: "10.1.0.0/24", ParentRef: ref("root")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, factory := newTestController(t)
			if tt.parent != "-" {
				root := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "root", UID: "r"}, Spec: v1alpha1.PrefixSpec{Prefix: tt.parent}}
				if err := factory.Ipam().V1alpha1().Prefixes().Informer().GetIndexer().Add(root); err != nil {
					t.Fatal(err)
				}
			}
			p := child(tt.child)
			if got := c.shouldRetryFailed(p, newAllocation(p, 0)); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestOutdatedAsSeen changes an outdated allocation before it is deleted. It may match now, so no second allocation
// may be created.
func TestOutdatedAsSeen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer error
		want   []string
	}{
		{"outdated", nil, []string{"delete", "create"}},
		{"changed", apierrors.NewConflict(v1alpha1.Resource("prefixallocations"), "a", errors.New("changed")), []string{"delete"}},
		{"gone", apierrors.NewNotFound(v1alpha1.Resource("prefixallocations"), "a"), []string{"delete", "create"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, factory := newTestController(t)
			p := child(v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", ParentRef: ref("root")})
			a := newAllocation(p, 0)
			a.Name, a.UID, a.ResourceVersion, a.Spec.Prefix = "a", "uid-of-a", "7", "10.1.0.0/24"
			a.Status.Phase = v1alpha1.PrefixAllocationPhasePending
			if err := factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer().Add(a); err != nil {
				t.Fatal(err)
			}
			c.allocationSeen(nil, a)
			client := c.client.(*fake.Clientset)
			client.PrependReactor("delete", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
				only := action.(clienttesting.DeleteAction).GetDeleteOptions().Preconditions
				if only == nil || only.UID == nil || *only.UID != a.UID || only.ResourceVersion == nil || *only.ResourceVersion != "7" {
					t.Errorf("deleted whatever it is now: %v", only)
				}
				return true, nil, tt.answer
			})
			client.PrependReactor("create", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
				return true, action.(clienttesting.CreateAction).GetObject(), nil
			})
			if err := c.syncChild(t.Context(), p); err != nil {
				t.Error(err)
			}
			var got []string
			for _, action := range client.Actions() {
				if action.GetResource().Resource == "prefixallocations" && action.GetVerb() != "list" && action.GetVerb() != "watch" {
					got = append(got, action.GetVerb())
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("did %v, want %v", got, tt.want)
			}
		})
	}
}

// TestGivesUpLessAndLess runs another scheduler that fails every allocation of a child.
func TestGivesUpLessAndLess(t *testing.T) {
	for name, fail := range map[string]func(*v1alpha1.PrefixAllocation){
		"failed": func(a *v1alpha1.PrefixAllocation) { a.Status.Phase = v1alpha1.PrefixAllocationPhaseFailed },
		"scheduled where it cannot be": func(a *v1alpha1.PrefixAllocation) {
			a.Spec.PrefixRef, a.Status = ref("root"), refused(v1alpha1.ReasonParentExhausted)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, factory := newTestController(t)
				began := time.Now()
				p := child(v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, ParentSelector: selector("a")})
				if err := factory.Ipam().V1alpha1().Prefixes().Informer().GetIndexer().Add(p); err != nil {
					t.Fatal(err)
				}
				allocations := factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer()
				client := c.client.(*fake.Clientset)
				client.PrependReactor("delete", "prefixallocations", func(clienttesting.Action) (bool, runtime.Object, error) {
					a := allocations.List()[0].(*v1alpha1.PrefixAllocation)
					if err := allocations.Delete(a); err != nil {
						t.Error(err)
					}
					c.allocationGone(a)
					return true, nil, nil
				})
				var made []time.Duration
				client.PrependReactor("create", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
					if len(made) == 50 {
						return true, nil, errors.New("that is enough")
					}
					made = append(made, time.Since(began))
					a := action.(clienttesting.CreateAction).GetObject().(*v1alpha1.PrefixAllocation).DeepCopy()
					a.UID, a.ResourceVersion = types.UID(strconv.Itoa(len(made))), strconv.Itoa(len(made))
					fail(a)
					if err := allocations.Add(a); err != nil {
						t.Error(err)
					}
					c.allocationSeen(nil, a)
					return true, a, nil
				})
				client.PrependReactor("update", "prefixes", func(action clienttesting.Action) (bool, runtime.Object, error) {
					return true, action.(clienttesting.UpdateAction).GetObject(), nil
				})
				go func() {
					for queue.Next(t.Context(), c.children, c.syncPrefix) {
					}
				}()
				c.prefixSeen(nil, p)
				time.Sleep(10*time.Minute + time.Millisecond)
				synctest.Wait()
				want := []time.Duration{0, 0, 1, 3, 7, 15, 31, 63, 127, 247, 367, 487}
				for i := range want {
					want[i] *= time.Second
				}
				if !slices.Equal(made, want) {
					t.Errorf("made after %v, want %v", made, want)
				}
				// A new Prefix of that name must not wait because of this one.
				c.prefixGone(p)
				if kept := c.retries.replaced.Get(observe.NameOf(p).String()); kept != 0 {
					t.Errorf("%v is remembered", kept)
				}
			})
		})
	}
}

// TestAllocatedNeedsOneAllocation has an Allocated child with another, Pending allocation. That one is deleted, and
// its condition is not copied to the child.
func TestAllocatedNeedsOneAllocation(t *testing.T) {
	c, factory := newTestController(t)
	p := child(v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", ParentRef: ref("root")})
	p.Status.Phase = v1alpha1.PrefixPhaseAllocated
	a := newAllocation(p, 0)
	a.Spec.Prefix, a.Status = "10.1.0.0/24", refused(v1alpha1.ReasonParentExhausted)
	if err := factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer().Add(a); err != nil {
		t.Fatal(err)
	}
	c.allocationSeen(nil, a)
	if err := c.syncChild(t.Context(), p); err != nil {
		t.Error(err)
	}
	actions := c.client.(*fake.Clientset).Actions()
	if len(actions) != 1 || !actions[0].Matches("delete", "prefixallocations") {
		t.Errorf("did %v", actions)
	}
}

// turns returns a lock that the test holds except while it waits. So the test and its server run alternately. It
// can only be used in a synctest bubble.
func turns() (mu *sync.Mutex, wait func(time.Duration)) {
	mu = &sync.Mutex{}
	mu.Lock()
	return mu, func(d time.Duration) {
		mu.Unlock()
		time.Sleep(d)
		synctest.Wait()
		mu.Lock()
	}
}

// TestRefused has a server that refuses the allocations of a child. The condition says so, and the request is
// retried soon, but not more often in total for many children.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, factory := newTestController(t)
		client := c.client.(*fake.Clientset)
		indexer := factory.Ipam().V1alpha1().Prefixes().Informer().GetIndexer()
		refuse, asked, made := true, 0, map[string]bool{}
		mu, wait := turns()
		client.PrependReactor("create", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			a := action.(clienttesting.CreateAction).GetObject().(*v1alpha1.PrefixAllocation)
			asked++
			if refuse {
				return true, nil, apierrors.NewForbidden(v1alpha1.Resource("prefixallocations"), a.Name, errors.New("exceeded quota: few"))
			}
			made[a.OwnerReferences[0].Name] = true
			return true, a, nil
		})
		reasons := map[string]string{}
		client.PrependReactor("update", "prefixes", func(action clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			p := action.(clienttesting.UpdateAction).GetObject().(*v1alpha1.Prefix)
			reasons[p.Name] = p.Status.Conditions[0].Reason
			if !strings.Contains(p.Status.Conditions[0].Message, "exceeded quota: few") {
				t.Errorf("%s: %s", p.Name, p.Status.Conditions[0].Message)
			}
			return true, p, indexer.Update(p)
		})
		go func() {
			for queue.Next(t.Context(), c.children, c.syncPrefix) {
			}
		}()
		const children = 1000
		for i := range children {
			p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
			p.Name, p.UID = fmt.Sprint("child-", i), types.UID(fmt.Sprint(i))
			if err := indexer.Add(p); err != nil {
				t.Fatal(err)
			}
			c.prefixSeen(nil, p)
		}
		wait(time.Second)
		for i := range children {
			if got := reasons[fmt.Sprint("child-", i)]; got != v1alpha1.ReasonRefused {
				t.Errorf("child %d: reason %q", i, got)
			}
		}
		before := asked
		wait(time.Minute)
		if again := asked - before; again < 60 || again > 2*60*refusedPerSecond {
			t.Errorf("asked %d times in a minute", again)
		}
		refuse = false
		wait(2 * maxRefusedDelay)
		if len(made) != children {
			t.Errorf("%d of %d have an allocation, %v after the server refuses no more", len(made), children, 2*maxRefusedDelay)
		}
		for i := range children {
			if delay := c.retries.refused.Get("default/" + fmt.Sprint("child-", i)); delay != 0 {
				t.Errorf("%v is remembered of child %d", delay, i)
			}
		}
		if n := c.retries.limits.Len(); n != 0 {
			t.Errorf("%d namespaces are remembered", n)
		}
		mu.Unlock()
	})
}

// TestBindingRefused has a server that refuses to complete a child. The condition says so, and the binding is
// retried.
func TestBindingRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, factory := newTestController(t)
		client := c.client.(*fake.Clientset)
		informers := factory.Ipam().V1alpha1()
		root := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "root", UID: "r"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"}}
		p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
		a := newAllocation(p, 0)
		a.UID, a.Status = "a", v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"}
		prefixes := informers.Prefixes().Informer().GetIndexer()
		for _, err := range []error{prefixes.Add(root), prefixes.Add(p), informers.PrefixAllocations().Informer().GetIndexer().Add(a)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		refuse, bound, said := true, 0, ""
		mu, wait := turns()
		client.PrependReactor("create", "prefixes", func(clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			if refuse {
				return true, nil, apierrors.NewForbidden(v1alpha1.Resource("prefixes"), "child", errors.New("a policy says no"))
			}
			bound++
			return true, p, nil
		})
		client.PrependReactor("update", "prefixes", func(action clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			updated := action.(clienttesting.UpdateAction).GetObject().(*v1alpha1.Prefix)
			said = updated.Status.Conditions[0].Reason + ": " + updated.Status.Conditions[0].Message
			return true, updated, prefixes.Update(updated)
		})
		go func() {
			for queue.Next(t.Context(), c.children, c.syncPrefix) {
			}
		}()
		c.allocationSeen(nil, a)
		c.prefixSeen(nil, p)
		wait(time.Minute)
		if !strings.HasPrefix(said, "Refused: The API server refused the binding to 10.0.0.0/24 from root") || !strings.Contains(said, "a policy says no") {
			t.Errorf("says %q", said)
		}
		refuse = false
		wait(maxRefusedDelay + time.Second)
		if bound == 0 {
			t.Errorf("not bound %v after the server refuses no more", maxRefusedDelay)
		}
		mu.Unlock()
	})
}

// TestNotAllocatedFor has a server that responds that an allocation holds its space for another Prefix, whatever it
// refers to. The child gets another allocation.
func TestNotAllocatedFor(t *testing.T) {
	c, factory := newTestController(t)
	client := c.client.(*fake.Clientset)
	informers := factory.Ipam().V1alpha1()
	root := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "root", UID: "r"}, Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"}}
	p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
	a := newAllocation(p, 0)
	a.UID, a.Status = "a", v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"}
	for _, err := range []error{informers.Prefixes().Informer().GetIndexer().Add(root), informers.PrefixAllocations().Informer().GetIndexer().Add(a)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.allocationSeen(nil, a)
	client.PrependReactor("create", "prefixes", func(clienttesting.Action) (bool, runtime.Object, error) {
		refusal := apierrors.NewConflict(v1alpha1.Resource("prefixes"), "child", errors.New("none of its PrefixAllocations holds 10.0.0.0/24"))
		refusal.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: v1alpha1.CauseTypeNotAllocatedFor}}
		return true, nil, refusal
	})
	var made []string
	client.PrependReactor("get", "prefixallocations", func(clienttesting.Action) (bool, runtime.Object, error) { return true, a, nil })
	client.PrependReactor("create", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
		other := action.(clienttesting.CreateAction).GetObject().(*v1alpha1.PrefixAllocation)
		if other.Name == a.Name {
			return true, nil, apierrors.NewAlreadyExists(v1alpha1.Resource("prefixallocations"), a.Name)
		}
		made = append(made, other.Name)
		return true, other, nil
	})
	if err := c.syncChild(t.Context(), p); err == nil {
		t.Error("completed")
	}
	if err := c.syncChild(t.Context(), p); err != nil {
		t.Error(err)
	}
	if !slices.Equal(made, []string{requester.Name(p, 1)}) {
		t.Errorf("made %v", made)
	}
	c.allocationGone(a)
	if _, kept := c.claimedByOthers.Load(a.UID); kept {
		t.Error("kept though the allocation is gone")
	}
}

func TestHeld(t *testing.T) {
	a := &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"},
		Spec:       v1alpha1.PrefixAllocationSpec{PrefixRef: ref("root")},
		Status:     v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"},
	}
	if parent, prefix, ok := holding.Of(a); !ok || parent != (types.NamespacedName{Namespace: "default", Name: "root"}) || prefix.String() != "10.0.0.0/24" {
		t.Errorf("got %v, %v, %v", parent, prefix, ok)
	}
	for name, change := range map[string]func(*v1alpha1.PrefixAllocation){
		"pending":   func(a *v1alpha1.PrefixAllocation) { a.Status.Phase = v1alpha1.PrefixAllocationPhasePending },
		"failed":    func(a *v1alpha1.PrefixAllocation) { a.Status.Phase = v1alpha1.PrefixAllocationPhaseFailed },
		"no parent": func(a *v1alpha1.PrefixAllocation) { a.Spec.PrefixRef = nil },
		"no prefix": func(a *v1alpha1.PrefixAllocation) { a.Status.Prefix = "" },
	} {
		b := a.DeepCopy()
		change(b)
		if _, _, ok := holding.Of(b); ok {
			t.Errorf("%s: held", name)
		}
	}
}

// TestWhyFailed uses allocations that another scheduler failed without a condition.
func TestWhyFailed(t *testing.T) {
	parent := func(prefix string, phase v1alpha1.PrefixPhase) *v1alpha1.Prefix {
		return &v1alpha1.Prefix{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "root"},
			Spec:       v1alpha1.PrefixSpec{Prefix: prefix}, Status: v1alpha1.PrefixStatus{Phase: phase},
		}
	}
	deleted := parent("10.0.0.0/16", v1alpha1.PrefixPhaseAllocated)
	deleted.DeletionTimestamp = new(metav1.Now())
	byName := v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, PrefixRef: ref("root")}
	for _, tt := range []struct {
		name            string
		parent          *v1alpha1.Prefix
		spec            v1alpha1.PrefixAllocationSpec
		reason, message string
	}{
		{"no parent", nil, byName, v1alpha1.ReasonParentNotFound, "PrefixAllocation a has failed: Prefix root does not exist"},
		{"parent too small", parent("10.0.0.0/24", v1alpha1.PrefixPhaseAllocated), byName,
			v1alpha1.ReasonNoSuitableParent, "root (10.0.0.0/24) is too small"},
		{"parent of another family", parent("2001:db8::/32", v1alpha1.PrefixPhaseAllocated), byName,
			v1alpha1.ReasonNoSuitableParent, "root (2001:db8::/32) is IPv6, not IPv4"},
		{"parent being deleted", deleted, byName, v1alpha1.ReasonParentNotReady, "PrefixAllocation a has failed: root is being deleted"},
		{"parent pending", parent("", v1alpha1.PrefixPhasePending), byName,
			v1alpha1.ReasonParentNotReady, "PrefixAllocation a has failed: root is not allocated yet"},
		{"nothing against the parent", parent("10.0.0.0/16", v1alpha1.PrefixPhaseAllocated), byName,
			v1alpha1.ReasonNoSuitableParent, "PrefixAllocation a has failed and has no condition that says why"},
		{"by selector", nil, v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 24, PrefixSelector: selector("a")},
			v1alpha1.ReasonNoSuitableParent, "PrefixAllocation a has failed and has no condition that says why"},
		{"nonsense", nil, v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0", PrefixRef: ref("root")},
			v1alpha1.ReasonInvalidRequest, "PrefixAllocation a has failed: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, factory := newTestController(t)
			if tt.parent != nil {
				if err := factory.Ipam().V1alpha1().Prefixes().Informer().GetIndexer().Add(tt.parent); err != nil {
					t.Fatal(err)
				}
			}
			reason, message := c.whyFailed(&v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, Spec: tt.spec})
			if reason != tt.reason || !strings.HasPrefix(message, tt.message) {
				t.Errorf("got %s: %s", reason, message)
			}
		})
	}
}

// TestDeletionNamesHolders has allocations come, change and go while their parent is being deleted. Its condition names
// the first of those that hold something of it, in order.
func TestDeletionNamesHolders(t *testing.T) {
	c, factory := newTestController(t)
	parent := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "root", Finalizers: []string{v1alpha1.PrefixFinalizer}, DeletionTimestamp: new(metav1.Now()),
	}}
	const letGo = "let go"
	said := ""
	c.client.(*fake.Clientset).PrependReactor("update", "prefixes", func(action clienttesting.Action) (bool, runtime.Object, error) {
		updated := action.(clienttesting.UpdateAction).GetObject().(*v1alpha1.Prefix)
		if said = letGo; len(updated.Finalizers) > 0 {
			said = updated.Status.Conditions[0].Message
		}
		return true, updated, nil
	})
	allocations := factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer()
	random := rand.New(rand.NewPCG(1, 2))
	holders := map[string]struct{}{}
	for step := range 2000 {
		name := fmt.Sprint("a", random.IntN(8))
		a := &v1alpha1.PrefixAllocation{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       v1alpha1.PrefixAllocationSpec{PrefixRef: ref("root")},
			Status:     v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"},
		}
		change := allocations.Update
		delete(holders, name)
		switch random.IntN(6) {
		case 0, 1:
			change = allocations.Delete
		case 2:
			a.Status.Phase = v1alpha1.PrefixAllocationPhasePending
		case 3:
			a.Spec.PrefixRef.Name = "other"
		default:
			holders[name] = struct{}{}
		}
		if err := change(a); err != nil {
			t.Fatal(err)
		}
		if err := c.syncDeletion(t.Context(), parent); err != nil {
			t.Fatal(err)
		}
		names := slices.Sorted(maps.Keys(holders))
		want := "Still in use by PrefixAllocation " + strings.Join(names[:min(len(names), 5)], ", PrefixAllocation ")
		switch {
		case len(names) == 0:
			want = letGo
		case len(names) > 5:
			want += " and more"
		}
		if said != want {
			t.Fatalf("step %d: said %q, want %q", step, said, want)
		}
	}
}

// TestOrphan has an allocation whose Prefix is not in the cache. It is deleted if the server does not have that Prefix
// either.
func TestOrphan(t *testing.T) {
	p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
	another := p.DeepCopy()
	another.UID = "another"
	ours := func(*v1alpha1.PrefixAllocation) {}
	lost := func(a *v1alpha1.PrefixAllocation) { a.OwnerReferences = nil }
	for _, tt := range []struct {
		name           string
		change         func(*v1alpha1.PrefixAllocation)
		cached, stored *v1alpha1.Prefix
		answer         error
		deleted        bool
	}{
		{name: "gone", change: ours, deleted: true},
		{name: "another of that name", change: ours, cached: another, stored: another, deleted: true},
		{name: "not in the cache yet", change: ours, stored: p},
		{name: "in the cache", change: ours, cached: p},
		{name: "the server does not tell", change: ours, answer: apierrors.NewInternalError(errors.New("no leader"))},
		{name: "without reference, holds something", change: lost},
		{name: "without reference, holds nothing", change: func(a *v1alpha1.PrefixAllocation) {
			lost(a)
			a.Status = v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending}
		}, deleted: true},
		{name: "of a user", change: func(a *v1alpha1.PrefixAllocation) {
			lost(a)
			a.Name, a.Labels, a.Status = "mine", nil, v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending}
		}},
		{name: "is being deleted", change: func(a *v1alpha1.PrefixAllocation) { a.DeletionTimestamp = new(metav1.Now()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, factory := newTestController(t)
			a := newAllocation(p, 0)
			a.UID, a.Status = "a", v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"}
			tt.change(a)
			informers := factory.Ipam().V1alpha1()
			if err := informers.PrefixAllocations().Informer().GetIndexer().Add(a); err != nil {
				t.Fatal(err)
			}
			if tt.cached != nil {
				if err := informers.Prefixes().Informer().GetIndexer().Add(tt.cached); err != nil {
					t.Fatal(err)
				}
			}
			client := c.client.(*fake.Clientset)
			client.PrependReactor("get", "prefixes", func(clienttesting.Action) (bool, runtime.Object, error) {
				switch {
				case tt.answer != nil:
					return true, nil, tt.answer
				case tt.stored == nil:
					return true, nil, apierrors.NewNotFound(v1alpha1.Resource("prefixes"), p.Name)
				}
				return true, tt.stored, nil
			})
			deleted := false
			client.PrependReactor("delete", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
				deleted = true
				if only := action.(clienttesting.DeleteAction).GetDeleteOptions().Preconditions; only == nil || only.UID == nil || *only.UID != a.UID {
					t.Errorf("deleted whatever it is now: %v", only)
				}
				return true, nil, nil
			})
			if err := c.syncOrphan(t.Context(), observe.NameOf(a)); (err != nil) != (tt.answer != nil) {
				t.Error(err)
			}
			if deleted != tt.deleted {
				t.Errorf("deleted: %v", deleted)
			}
		})
	}
}

// TestAllocatedNoMore has an allocation that is Pending again, as after a restore of etcd, and one that is Allocated
// from another parent.
func TestAllocatedNoMore(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.PrefixAllocation){
		"pending": func(a *v1alpha1.PrefixAllocation) {
			a.Status = v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending}
		},
		"of another parent": func(a *v1alpha1.PrefixAllocation) { a.Spec.PrefixRef = ref("other") },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newTestController(t)
			before := &v1alpha1.PrefixAllocation{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "a"},
				Spec:       v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")},
				Status:     v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"},
			}
			c.allocationSeen(nil, before)
			if n := c.tracker.count(root); n != 1 {
				t.Fatalf("%d hold something of the parent", n)
			}
			after := before.DeepCopy()
			change(after)
			c.allocationSeen(before, after)
			if n := c.tracker.count(root); n != 0 {
				t.Errorf("%d hold something of the parent that it was allocated from", n)
			}
			if c.children.Len() == 0 {
				t.Fatal("nothing is looked at")
			}
			if name, _ := c.children.Get(); name != root {
				t.Errorf("%s is looked at, not the parent, which may wait to be deleted", name)
			}
			c.allocationGone(after)
			if n := len(c.tracker.byParent); n != 0 {
				t.Errorf("%d ledgers are kept", n)
			}
		})
	}
}
