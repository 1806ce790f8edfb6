// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/fake"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
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

		// What is allocated is gone by what it holds.
		{"allocated", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated by selector", bySelector, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector("a"), PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated to who asked otherwise", bySelector, v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0/24", PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated exactly", exactly, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.0.0/24"), true},
		{"allocated another one", exactly, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.1.0/24"), false},
		{"allocated another length", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 25, PrefixRef: ref("root")}, allocated("10.0.0.0/25"), false},
		{"allocated elsewhere", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("other")}, allocated("10.0.0.0/24"), false},
		{"allocated nonsense", byName, v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref("root")}, allocated("10.0.0.0"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := matches(child(tt.child), &v1alpha1.PrefixAllocation{Spec: tt.spec, Status: tt.status}); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestNewAllocationMatches has the allocation that is made for a child match it.
func TestNewAllocationMatches(t *testing.T) {
	for _, spec := range []v1alpha1.PrefixSpec{
		{PrefixLength: 24, ParentRef: ref("root")},
		{IPFamily: v1alpha1.IPv4, PrefixLength: 24, ParentRef: ref("root"), ParentSelector: selector("a")},
		{IPFamily: v1alpha1.IPv6, PrefixLength: 64, ParentSelector: selector("a")},
		{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", ParentRef: ref("root")},
		{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", PrefixLength: 24, ParentSelector: &metav1.LabelSelector{}},
	} {
		p := child(spec)
		a := newAllocation(p)
		if !matches(p, a) {
			t.Errorf("%+v does not match %+v", a.Spec, spec)
		}
		if (a.Spec.Prefix == "") == (a.Spec.PrefixLength == 0) {
			t.Errorf("not exactly one of prefix and length: %+v", a.Spec)
		}
		if a.Spec.IPFamily != spec.IPFamily || !equality.Semantic.DeepEqual(a.Spec.PrefixSelector, spec.ParentSelector) {
			t.Errorf("%+v does not copy %+v", a.Spec, spec)
		}
		if owner := ownerOf(a); owner == nil || owner.UID != p.UID || owner.BlockOwnerDeletion != nil {
			t.Errorf("owners: %+v", a.OwnerReferences)
		}
		if a.Labels[v1alpha1.RequesterUIDLabel] != string(p.UID) {
			t.Errorf("labels: %v", a.Labels)
		}
		// It shares nothing with the child, which is in a cache.
		if spec.ParentRef != nil && a.Spec.PrefixRef == spec.ParentRef || spec.ParentSelector != nil && a.Spec.PrefixSelector == spec.ParentSelector {
			t.Error("shares its reference or selector with the child")
		}
	}
}

func TestOwnerOf(t *testing.T) {
	owner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: "child", UID: "u", Controller: new(true)}
	with := func(change func(*metav1.OwnerReference)) *v1alpha1.PrefixAllocation {
		o := owner
		change(&o)
		return &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{o}}}
	}
	for name, tt := range map[string]struct {
		allocation *v1alpha1.PrefixAllocation
		want       bool
	}{
		"a Prefix":              {with(func(*metav1.OwnerReference) {}), true},
		"nobody":                {&v1alpha1.PrefixAllocation{}, false},
		"not the controller":    {with(func(o *metav1.OwnerReference) { o.Controller = nil }), false},
		"another kind":          {with(func(o *metav1.OwnerReference) { o.Kind = "Network" }), false},
		"another group":         {with(func(o *metav1.OwnerReference) { o.APIVersion = "example.com/v1" }), false},
		"another group version": {with(func(o *metav1.OwnerReference) { o.APIVersion = "ipam.ironcore.dev/v2" }), false},
	} {
		if got := ownerOf(tt.allocation) != nil; got != tt.want {
			t.Errorf("%s: %v", name, got)
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
	for _, tt := range []struct {
		name     string
		entries  []entry
		active   string
		outdated []string
	}{
		{"none", nil, "", nil},
		{"one", []entry{{"a", pending, 0, 24, nil}}, "a", nil},
		{"one that does not match", []entry{{"a", pending, 0, 25, nil}}, "", []string{"a"}},
		{"one that failed", []entry{{"a", failed, 0, 24, nil}}, "a", nil},
		{"allocated before pending before failed", []entry{{"a", failed, 9, 24, nil}, {"b", pending, 8, 24, nil}, {"c", allocated, 7, 24, nil}}, "c", []string{"b", "a"}},
		{"the oldest", []entry{{"a", pending, 1, 24, nil}, {"b", pending, 3, 24, nil}, {"c", pending, 2, 24, nil}}, "b", []string{"c", "a"}},
		{"the first by name", []entry{{"b", pending, 1, 24, nil}, {"a", pending, 1, 24, nil}}, "a", []string{"b"}},
		{"what holds space stays, matching or not", []entry{{"a", allocated, 1, 25, nil}, {"b", allocated, 3, 24, nil}, {"c", allocated, 2, 24, nil}}, "b", nil},
		{"what holds space and does not match is no answer", []entry{{"a", allocated, 2, 25, nil}, {"b", pending, 1, 24, nil}}, "b", nil},
		{"what is being deleted is neither", []entry{{"a", allocated, 2, 24, deleting}, {"b", pending, 1, 25, deleting}}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
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
			// The order in which they come is any.
			for range 5 {
				active, outdated := sortOut(p, slices.Clone(objs))
				name := ""
				if active != nil {
					name = active.Name
				}
				var names []string
				for _, a := range outdated {
					names = append(names, a.Name)
				}
				if name != tt.active || !slices.Equal(names, tt.outdated) {
					t.Errorf("got %q, %v; want %q, %v", name, names, tt.active, tt.outdated)
				}
				if len(objs) > 0 {
					objs = append(objs[1:], objs[0])
				}
			}
		})
	}
}

func TestAllocationName(t *testing.T) {
	named := func(name string) *v1alpha1.Prefix {
		p := child(v1alpha1.PrefixSpec{PrefixLength: 24, ParentRef: ref("root")})
		p.Name = name
		return p
	}
	const suffix = 11 // a dash and ten digits
	long := strings.Repeat("a", 253)
	for _, tt := range []struct{ name, prefix string }{
		{"child", "child"},
		{"a.b-c", "a.b-c"},
		{strings.Repeat("a", 253-suffix), strings.Repeat("a", 253-suffix)},
		{strings.Repeat("a", 253-suffix+1), strings.Repeat("a", 253-suffix)},
		{long, strings.Repeat("a", 253-suffix)},
		// What is cut off may leave what no name, and no part of one, ends with.
		{strings.Repeat("a", 253-suffix-1) + "." + "bbb", strings.Repeat("a", 253-suffix-1)},
		{strings.Repeat("a", 253-suffix-3) + "-.-" + "bbb", strings.Repeat("a", 253-suffix-3)},
		{strings.Repeat("a", 253-suffix-2) + "--" + "bbb", strings.Repeat("a", 253-suffix-2)},
	} {
		got := allocationName(named(tt.name))
		if errs := validation.IsDNS1123Subdomain(got); len(errs) > 0 {
			t.Errorf("%s: %s: %v", tt.name, got, errs)
		}
		if got[:len(got)-suffix] != tt.prefix || len(got) != len(tt.prefix)+suffix {
			t.Errorf("%s: got %s", tt.name, got)
		}
	}

	// The same request has the same name, whatever else changes; another has another.
	base := named("child")
	want := allocationName(base)
	for name, change := range map[string]func(*v1alpha1.Prefix){
		"labels":           func(p *v1alpha1.Prefix) { p.Labels = map[string]string{"a": "b"} },
		"resource version": func(p *v1alpha1.Prefix) { p.ResourceVersion = "7" },
		"status":           func(p *v1alpha1.Prefix) { p.Status.ObservedGeneration = 1 },
		"family":           func(p *v1alpha1.Prefix) { p.Spec.IPFamily = v1alpha1.IPv4 },
		"deletion":         func(p *v1alpha1.Prefix) { p.DeletionTimestamp = new(metav1.Now()) },
	} {
		p := base.DeepCopy()
		change(p)
		if got := allocationName(p); got != want {
			t.Errorf("%s: %s, was %s", name, got, want)
		}
	}
	seen := map[string]string{want: "as it was"}
	for name, change := range map[string]func(*v1alpha1.Prefix){
		"uid":         func(p *v1alpha1.Prefix) { p.UID = "other" },
		"prefix":      func(p *v1alpha1.Prefix) { p.Spec.Prefix = "10.0.0.0/24" },
		"length":      func(p *v1alpha1.Prefix) { p.Spec.PrefixLength = 25 },
		"parent":      func(p *v1alpha1.Prefix) { p.Spec.ParentRef = ref("other") },
		"no parent":   func(p *v1alpha1.Prefix) { p.Spec.ParentRef = nil },
		"run-on name": func(p *v1alpha1.Prefix) { p.Spec.PrefixLength, p.Spec.ParentRef = 2, ref("4root") },
	} {
		p := base.DeepCopy()
		change(p)
		got := allocationName(p)
		if other, taken := seen[got]; taken {
			t.Errorf("%s and %s: both %s", name, other, got)
		}
		seen[got] = name
	}
}

func newTestController(t *testing.T) (*Controller, externalversions.SharedInformerFactory) {
	t.Helper()
	client := fake.NewClientset()
	factory := externalversions.NewSharedInformerFactory(client, 0)
	informers := factory.Ipam().V1alpha1()
	c, err := New(client, informers.Prefixes(), informers.PrefixAllocations(), events.NewFakeRecorder(100), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, q := range []queue.Queue{c.children, c.parents, c.orphans} {
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
			if got := c.mayFitNow(p, newAllocation(p)); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestOutdatedAsSeen has an allocation that does not match change before it is deleted: it may match now, and a second
// one must not be made.
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
			a := newAllocation(p)
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

// TestGivesUpLessAndLess has another scheduler that lets every allocation of a child fail.
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
					for c.next(t.Context(), c.children, c.syncPrefix) {
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
				// Another one of that name is not to wait for what this one did.
				c.prefixGone(p)
				if kept := c.givenUp.Get(observe.NameOf(p).String()); kept != 0 {
					t.Errorf("%v is remembered", kept)
				}
			})
		})
	}
}

// TestAllocatedIsNotExplained has a child that is allocated, and an allocation that is to go but was not deleted yet.
func TestAllocatedIsNotExplained(t *testing.T) {
	c, factory := newTestController(t)
	p := child(v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24", ParentRef: ref("root")})
	p.Status.Phase = v1alpha1.PrefixPhaseAllocated
	a := newAllocation(p)
	a.Spec.Prefix, a.Status = "10.1.0.0/24", refused(v1alpha1.ReasonParentExhausted)
	if err := factory.Ipam().V1alpha1().PrefixAllocations().Informer().GetIndexer().Add(a); err != nil {
		t.Fatal(err)
	}
	c.allocationSeen(nil, a)
	if !c.mayGiveUp(p) {
		t.Fatal("may not give up the first one")
	}
	if err := c.syncChild(t.Context(), p); err != nil {
		t.Error(err)
	}
	for _, action := range c.client.(*fake.Clientset).Actions() {
		t.Error(action)
	}
}

// TestUsageOnItsOwnWrites has the informer lag behind: what is written is based on what was written last, not on the informer's
// copy, which would be a conflict; until the informer is ahead, because somebody else has written.
func TestUsageOnItsOwnWrites(t *testing.T) {
	c, factory := newTestController(t)
	root := &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "root", UID: "r", ResourceVersion: "1"},
		Spec:       v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"},
		Status:     v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated},
	}
	name := observe.NameOf(root)
	indexer := factory.Ipam().V1alpha1().Prefixes().Informer().GetIndexer()
	if err := indexer.Add(root); err != nil {
		t.Fatal(err)
	}
	stored := root
	c.client.(*fake.Clientset).PrependReactor("update", "prefixes", func(action clienttesting.Action) (bool, runtime.Object, error) {
		updated := action.(clienttesting.UpdateAction).GetObject().(*v1alpha1.Prefix).DeepCopy()
		if updated.ResourceVersion != stored.ResourceVersion {
			return true, nil, apierrors.NewConflict(v1alpha1.Resource("prefixes"), updated.Name, errors.New("changed"))
		}
		version, err := strconv.Atoi(stored.ResourceVersion)
		if err != nil {
			return true, nil, err
		}
		updated.ResourceVersion = strconv.Itoa(version + 1)
		stored = updated
		return true, updated, nil
	})
	allocated := 0
	allocate := func() {
		uid := types.UID(strconv.Itoa(allocated))
		c.accounts.hold(name, uid, string(uid), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(allocated)}), 32))
		allocated++
	}
	see := func() {
		if err := indexer.Update(stored); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func() {}
	for i, step := range []struct {
		name string
		do   func()
		want string // the resource version
	}{
		{"first child", allocate, "2"},
		{"nothing new", nothing, "2"},
		{"child after nothing new", allocate, "3"},
		{"informer catches up", see, "3"},
		{"nothing new, informer ahead", nothing, "3"},
		{"child, informer ahead", allocate, "4"},
		{"somebody else writes", func() { stored = stored.DeepCopy(); stored.ResourceVersion = "8"; see(); allocate() }, "9"},
		{"child after somebody else", allocate, "10"},
	} {
		step.do()
		if err := c.syncUsage(t.Context(), name); err != nil {
			t.Errorf("%d, %s: %v", i, step.name, err)
		}
		if stored.ResourceVersion != step.want || int(stored.Status.Usage.Allocations) != allocated {
			t.Errorf("%d, %s: version %s with %d allocations, want %s with %d", i, step.name,
				stored.ResourceVersion, stored.Status.Usage.Allocations, step.want, allocated)
		}
	}
	// What is written and seen is not kept.
	see()
	if err := c.syncUsage(t.Context(), name); err != nil {
		t.Error(err)
	}
	if _, kept := c.written.Load(root.UID); kept {
		t.Error("kept though the informer has it")
	}
}

func TestHeld(t *testing.T) {
	a := &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"},
		Spec:       v1alpha1.PrefixAllocationSpec{PrefixRef: ref("root")},
		Status:     v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"},
	}
	if parent, prefix, ok := held(a); !ok || parent != (types.NamespacedName{Namespace: "default", Name: "root"}) || prefix.String() != "10.0.0.0/24" {
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
		if _, _, ok := held(b); ok {
			t.Errorf("%s: held", name)
		}
	}
}

func TestNewer(t *testing.T) {
	version := func(s string) *v1alpha1.Prefix {
		return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{ResourceVersion: s}}
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{{"2", "1", true}, {"10", "9", true}, {"1", "1", false}, {"9", "10", false}, {"", "1", false}, {"x", "1", false}} {
		if got := newer(version(tt.a), version(tt.b)); got != tt.want {
			t.Errorf("%q newer than %q: %v", tt.a, tt.b, got)
		}
	}
}
