// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/fake"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	listers "github.com/ironcore-dev/ipam-apiserver/generated/listers/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/queue"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
)

// desk is a scheduler with informers that the test fills, and a server whose responses the test sets.
type desk struct {
	*Scheduler
	t      *testing.T
	stored cache.Indexer
	client *fake.Clientset
	// answer is the response of the server to a bind, unless answers is set.
	answer  error
	answers func(place string) error
	// bound contains the requested binds as "prefix from parent".
	bound []string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, client: fake.NewClientset()}
	d.client.PrependReactor("create", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "binding" {
			return false, nil, nil
		}
		binding := action.(clienttesting.CreateAction).GetObject().(*v1alpha1.PrefixAllocationBinding)
		d.bound = append(d.bound, binding.Prefix+" from "+binding.PrefixRef.Name)
		if d.answers != nil {
			return true, &v1alpha1.PrefixAllocation{}, d.answers(d.bound[len(d.bound)-1])
		}
		return true, &v1alpha1.PrefixAllocation{}, d.answer
	})
	informers := externalversions.NewSharedInformerFactory(d.client, 0).Ipam().V1alpha1()
	s, err := New(d.client, informers.Prefixes(), informers.PrefixAllocations(), informers.PrefixPolicies(), nil, events.NewFakeRecorder(100), Pack, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.queue.ShutDown)
	d.Scheduler, d.stored = s, informers.PrefixAllocations().Informer().GetIndexer()
	return d
}

// allocation returns a Pending request for a length from root.
func allocation(name string, length int32) *v1alpha1.PrefixAllocation {
	return &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-of-" + name)},
		Spec:       v1alpha1.PrefixAllocationSpec{PrefixLength: length, PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}},
		Status:     v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhasePending},
	}
}

func allocated(a *v1alpha1.PrefixAllocation, prefix string) *v1alpha1.PrefixAllocation {
	a = a.DeepCopy()
	a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, prefix
	return a
}

// stores adds an allocation to the store of the informer. Its event may be handled later.
func (d *desk) stores(a *v1alpha1.PrefixAllocation) {
	d.t.Helper()
	if err := d.stored.Add(a); err != nil {
		d.t.Fatal(err)
	}
	if err := d.client.Tracker().Add(a); err != nil {
		d.t.Fatal(err)
	}
}

// nextPlace returns the place that the next candidate for a length would get.
func (d *desk) nextPlace(length string) string {
	d.t.Helper()
	c := want(d.t, "next", length, "root")
	place, why := d.index.assume(c)
	if why != nil {
		return why.reason
	}
	d.index.forgetAssumed(c.name)
	return place.prefix.String()
}

func (d *desk) schedules(name string, wantError bool) {
	d.t.Helper()
	if err := d.schedule(d.t.Context(), key(name)); (err != nil) != wantError {
		d.t.Fatalf("schedule %s: %v", name, err)
	}
}

func TestSchedule(t *testing.T) {
	resource := v1alpha1.Resource("prefixallocations")
	refused := apierrors.NewConflict(resource, "a", errors.New("no"))
	unknown := errors.New("connection reset by peer")
	given := func(t *testing.T) *desk {
		d := newDesk(t)
		d.index.setPrefix(prefix("root", "10.0.0.0/24"))
		d.stores(allocation("a", 25))
		return d
	}

	t.Run("bound", func(t *testing.T) {
		d := given(t)
		d.schedules("a", false)
		if len(d.bound) != 1 || d.bound[0] != "10.0.0.0/25 from root" {
			t.Errorf("bound: %v", d.bound)
		}
		// No other request gets the place, even before the informer confirms it.
		if got := d.nextPlace("/25"); got != "10.0.0.128/25" {
			t.Errorf("next: %s", got)
		}
	})

	t.Run("conflict, or gone", func(t *testing.T) {
		for _, answer := range []error{refused, apierrors.NewNotFound(resource, "a")} {
			d := given(t)
			d.answer = answer
			d.schedules("a", true)
			if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
				t.Errorf("%v: next: %s", answer, got)
			}
		}
	})

	// The informers may be stale, so conflicts are normal, unless they do not end.
	t.Run("conflict again and again", func(t *testing.T) {
		d := given(t)
		d.answer = refused
		for range 2 * quietConflicts {
			d.queue.Add(key("a"))
			queue.Next(t.Context(), d.queue, d.schedule)
		}
		d.isReported("a", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonRefused)
		if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
			t.Errorf("next: %s", got)
		}
		d.answer = nil
		d.schedules("a", false)
		if got := d.bound[len(d.bound)-1]; got != "10.0.0.0/25 from root" {
			t.Errorf("bound: %v", d.bound)
		}
	})

	invalid := apierrors.NewInvalid(schema.GroupVersion(v1alpha1.GroupVersion).WithKind("PrefixAllocation").GroupKind(), "a",
		field.ErrorList{field.Invalid(field.NewPath("status", "prefix"), "x", strings.Repeat("for a reason ", 1000))})
	forbidden := apierrors.NewForbidden(resource, "a", errors.New("exceeded quota: few"))
	for _, tt := range []struct {
		name   string
		answer error
		words  string
		// bound contains the places that are tried first.
		bound []string
	}{
		// An error about one place does not imply an error for the next one.
		{"invalid", invalid, "for a reason", []string{"10.0.0.0/25 from root", "10.0.0.128/25 from root"}},
		{"bad request", apierrors.NewBadRequest("no such thing"), "no such thing", []string{"10.0.0.0/25 from root", "10.0.0.128/25 from root"}},
		// A requester without permission for one place has none for the next one.
		{"forbidden", forbidden, "exceeded quota: few", []string{"10.0.0.0/25 from root"}},
	} {
		t.Run("refused: "+tt.name, func(t *testing.T) {
			d := given(t)
			d.answer = tt.answer
			d.schedules("a", true)
			if !slices.Equal(d.bound, tt.bound) {
				t.Errorf("bound: %v", d.bound)
			}
			message := d.isReported("a", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonRefused)
			if !strings.Contains(message, tt.words) || len(message) > maxMessage || !strings.HasPrefix(message, "root (10.0.0.0/24) has room, but the API server refused: ") {
				t.Errorf("says %s", message)
			}
			// It keeps no place from other requests.
			if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
				t.Errorf("next: %s", got)
			}
			// It is retried later, and reported only once.
			d.client.ClearActions()
			d.bound = nil
			d.schedules("a", true)
			if !slices.Equal(d.bound, tt.bound) {
				t.Errorf("bound the second time: %v", d.bound)
			}
			for _, action := range d.client.Actions() {
				if action.GetSubresource() == "status" {
					reported, err := d.client.IpamV1alpha1().PrefixAllocations(ns).Get(t.Context(), "a", metav1.GetOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if err := d.stored.Update(reported); err != nil {
						t.Fatal(err)
					}
				}
			}
			// The server accepts the request now.
			d.answer = nil
			d.schedules("a", false)
			if got := d.bound[len(d.bound)-1]; got != "10.0.0.0/25 from root" {
				t.Errorf("bound: %v", d.bound)
			}
		})
	}

	t.Run("refused by one parent, allocated from another", func(t *testing.T) {
		for _, answer := range []error{invalid, forbidden} {
			d := newDesk(t)
			d.index.setPrefix(prefix("a", "10.0.0.0/24", labelled("net", "a")))
			d.index.setPrefix(prefix("b", "11.0.0.0/24", labelled("net", "a")))
			a := allocation("a", 25)
			a.Spec.PrefixRef, a.Spec.PrefixSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"net": "a"}}
			d.stores(a)
			d.answers = func(place string) error {
				if strings.HasSuffix(place, "from a") {
					return answer
				}
				return nil
			}
			d.schedules("a", false)
			if got := d.bound; len(got) != 2 || got[1] != "11.0.0.0/25 from b" {
				t.Errorf("%v: bound: %v", answer, got)
			}
		}
	})

	// The server refuses all of very many places except the last one. No place is tried twice before all were
	// tried.
	t.Run("refused all but one", func(t *testing.T) {
		d := newDesk(t)
		d.index.setPrefix(prefix("root", "10.0.0.0/26"))
		d.stores(allocation("a", 32))
		d.answers = func(place string) error {
			if place != "10.0.0.60/32 from root" {
				return invalid
			}
			return nil
		}
		for range 64 {
			if d.schedule(t.Context(), key("a")) == nil {
				break
			}
		}
		if len(d.bound) != 61 || d.bound[60] != "10.0.0.60/32 from root" {
			t.Errorf("%d were tried: %v", len(d.bound), d.bound)
		}
	})

	t.Run("refused places do not go to nobody", func(t *testing.T) {
		d := given(t)
		d.stores(allocation("b", 24+1))
		d.index.hold(key("c"), "uid-of-c", key("root"), netip.MustParsePrefix("10.0.0.128/25"))
		d.answer = invalid
		d.schedules("a", true)
		d.answer = nil
		d.schedules("b", false)
		if got := d.bound[len(d.bound)-1]; got != "10.0.0.0/25 from root" {
			t.Errorf("bound: %v", d.bound)
		}
	})

	t.Run("unknown", func(t *testing.T) {
		for _, answer := range []error{unknown, apierrors.NewTimeoutError("no", 1), apierrors.NewInternalError(unknown), apierrors.NewTooManyRequests("no", 1)} {
			d := given(t)
			d.answer = answer
			d.schedules("a", true)
			if got := d.nextPlace("/25"); got != "10.0.0.128/25" {
				t.Errorf("%v: next: %s", answer, got)
			}
			d.answer = nil
			d.schedules("a", false)
			if len(d.bound) != 2 || d.bound[1] != d.bound[0] {
				t.Errorf("%v: bound: %v", answer, d.bound)
			}
		}
	})

	t.Run("refused because of a holder that is not known yet", func(t *testing.T) {
		d := given(t)
		inUse := apierrors.NewConflict(resource, "a", errors.New("in use"))
		inUse.ErrStatus.Details.Causes = []metav1.StatusCause{
			{Type: v1alpha1.CauseTypeHolderPrefix, Message: "10.0.0.0/26"},
			{Type: v1alpha1.CauseTypeHolderName, Message: "unseen"},
			{Type: v1alpha1.CauseTypeHolderUID, Message: "uid-of-unseen"},
		}
		d.answer = inUse
		d.schedules("a", false)
		if d.queue.Len() != 1 {
			t.Errorf("not to be tried at once, elsewhere")
		}
		d.answer = nil
		d.schedules("a", false)
		if len(d.bound) != 2 || d.bound[1] != "10.0.0.128/25 from root" {
			t.Errorf("bound: %v", d.bound)
		}
	})

	t.Run("gone meanwhile", func(t *testing.T) {
		d := given(t)
		d.answer = unknown
		d.schedules("a", true)
		if err := d.stored.Delete(allocation("a", 25)); err != nil {
			t.Fatal(err)
		}
		d.schedules("a", false)
		if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
			t.Errorf("next: %s", got)
		}
	})

	t.Run("being deleted meanwhile", func(t *testing.T) {
		d := given(t)
		d.answer = unknown
		d.schedules("a", true)
		a := allocation("a", 25)
		a.DeletionTimestamp = new(metav1.Now())
		if err := d.stored.Update(a); err != nil {
			t.Fatal(err)
		}
		// The server does not allow anybody to bind it any more.
		d.schedules("a", false)
		if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
			t.Errorf("next: %s", got)
		}
	})

	// The store of an informer is ahead of its event handlers. An allocation that was allocated and is now being
	// deleted still holds its space.
	t.Run("allocated and being deleted meanwhile", func(t *testing.T) {
		d := given(t)
		d.answer = unknown
		d.schedules("a", true)
		a := allocated(allocation("a", 25), "10.0.0.0/25")
		a.DeletionTimestamp = new(metav1.Now())
		if err := d.stored.Update(a); err != nil {
			t.Fatal(err)
		}
		d.schedules("a", false)
		if got := d.nextPlace("/25"); got != "10.0.0.128/25" {
			t.Errorf("next: %s", got)
		}
	})

	t.Run("failed by somebody else meanwhile", func(t *testing.T) {
		d := given(t)
		d.answer = unknown
		d.schedules("a", true)
		a := allocation("a", 25)
		a.Status.Phase = v1alpha1.PrefixAllocationPhaseFailed
		if err := d.stored.Update(a); err != nil {
			t.Fatal(err)
		}
		d.observe(a)
		d.schedules("a", false)
		if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
			t.Errorf("next: %s", got)
		}
	})

	t.Run("no room", func(t *testing.T) {
		d := given(t)
		d.index.hold(key("b"), "uid-of-b", key("root"), netip.MustParsePrefix("10.0.0.0/26"))
		d.index.hold(key("c"), "uid-of-c", key("root"), netip.MustParsePrefix("10.0.0.128/26"))
		d.schedules("a", false)
		d.isReported("a", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonParentExhausted)
		// Space becomes free.
		d.index.forget(key("b"), "uid-of-b", ns)
		if d.queue.Len() != 1 {
			t.Errorf("not woken")
		}
	})

	t.Run("never", func(t *testing.T) {
		d := given(t)
		d.stores(allocation("large", 24))
		d.schedules("large", false)
		d.isReported("large", v1alpha1.PrefixAllocationPhaseFailed, v1alpha1.ReasonNoSuitableParent)
	})

	t.Run("invalid", func(t *testing.T) {
		d := given(t)
		d.stores(allocation("empty", 0))
		d.schedules("empty", false)
		d.isReported("empty", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonInvalidRequest)
	})

	t.Run("said once", func(t *testing.T) {
		d := newDesk(t)
		a := allocation("a", 25)
		d.stores(a)
		d.schedules("a", false)
		d.isReported("a", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonParentNotFound)
		reported, err := d.client.IpamV1alpha1().PrefixAllocations(ns).Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.stored.Update(reported); err != nil {
			t.Fatal(err)
		}
		d.client.ClearActions()
		d.schedules("a", false)
		if actions := d.client.Actions(); len(actions) != 0 {
			t.Errorf("said again: %v", actions)
		}
	})
}

func (d *desk) isReported(name string, phase v1alpha1.PrefixAllocationPhase, reason string) (message string) {
	d.t.Helper()
	a, err := d.client.IpamV1alpha1().PrefixAllocations(ns).Get(d.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	condition := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated)
	if a.Status.Phase != phase || condition == nil || condition.Reason != reason || condition.Status != metav1.ConditionFalse {
		d.t.Errorf("%s: %+v", name, a.Status)
		return ""
	}
	return condition.Message
}

// TestMessages checks the message of a waiting request that has more parents than the message names.
func TestMessages(t *testing.T) {
	d := newDesk(t)
	long := strings.Repeat("n", 240)
	a := allocation("a", 25)
	a.Spec.PrefixRef, a.Spec.PrefixSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"net": "a"}}
	a.Spec.IPFamily = v1alpha1.IPv4
	d.stores(a)
	refresh := func() {
		reported, err := d.client.IpamV1alpha1().PrefixAllocations(ns).Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.stored.Update(reported); err != nil {
			t.Fatal(err)
		}
		d.client.ClearActions()
	}
	for i := range 9 {
		d.index.setPrefix(prefix(fmt.Sprintf("small-%d-%s", i, long), "10.0.0.0/25", labelled("net", "a")))
	}
	d.schedules("a", false)
	message := d.isReported("a", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonNoSuitableParent)
	if len(message) > maxMessage || strings.Count(message, "small-") == 0 || strings.Count(message, "small-") > maxNamed || !strings.HasSuffix(message, "; and others") {
		t.Errorf("%d bytes: %s", len(message), message)
	}
	refresh()

	// The message names the parent that is full, and no parent that can never hold the request.
	d.index.hold(key("b"), "uid-of-b", key("z-full"), netip.MustParsePrefix("10.0.0.0/26"))
	d.index.hold(key("c"), "uid-of-c", key("z-full"), netip.MustParsePrefix("10.0.0.128/26"))
	d.index.setPrefix(prefix("z-full", "10.0.0.0/24", labelled("net", "a")))
	d.schedules("a", false)
	message = d.isReported("a", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonParentExhausted)
	if want := "z-full (10.0.0.0/24) has no room for a /25: 128 addresses are free, the largest free block is a /26"; message != want {
		t.Errorf("got  %s\nwant %s", message, want)
	}
	refresh()

	// The message does not change when other parents are created or deleted.
	d.index.setPrefix(prefix("a-small", "10.0.0.0/25", labelled("net", "a")))
	d.index.deletePrefix(key("small-0-"+long), types.UID("uid-of-small-0-"+long))
	d.index.hold(key("e"), "uid-of-e", key("z-full"), netip.MustParsePrefix("10.0.0.64/30"))
	if d.queue.Len() != 0 {
		t.Errorf("is looked at again at once")
	}
	d.index.lock(ns).pending[types.NamespacedName{Namespace: ns, Name: "a"}].stale = false
	d.index.unlock(d.index.namespaces[ns])
	d.schedules("a", false)
	if actions := d.client.Actions(); len(actions) != 0 {
		t.Errorf("written: %v", actions)
	}
}

// TestHolders checks that messages name the holder of a prefix in use. The holder comes from the index. Only that
// one allocation is read from the informer.
func TestHolders(t *testing.T) {
	d := newDesk(t)
	d.allocations = getOnly{d.allocations, nil}
	d.index.setPrefix(prefix("root", "10.0.0.0/24"))
	held := func(name, prefix string, owner *metav1.OwnerReference) {
		t.Helper()
		a := allocated(allocation(name, 28), prefix)
		if owner != nil {
			a.OwnerReferences = []metav1.OwnerReference{*owner}
		}
		d.stores(a)
		d.observe(a)
	}
	held("bare", "10.0.0.0/28", nil)
	held("made", "10.0.0.16/28", &metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: "child", UID: "x", Controller: new(true)})
	d.stores(allocation("reserved", 28))
	d.schedules("reserved", false)
	// These holders are known from refusals. One is not in the informer, the other has another uid there.
	d.index.hold(key("unseen"), "uid-of-unseen", key("root"), netip.MustParsePrefix("10.0.0.64/28"))
	d.index.hold(key("bare"), "older", key("root"), netip.MustParsePrefix("10.0.0.80/28"))

	for i, tt := range []struct{ asks, says string }{
		{"10.0.0.0/28", "has 10.0.0.0/28 in use by PrefixAllocation bare"},
		{"10.0.0.17/32", "has 10.0.0.16/28 in use by Prefix child, which overlaps 10.0.0.17/32"},
		{"10.0.0.32/28", "has 10.0.0.32/28 in use by PrefixAllocation reserved"},
		{"10.0.0.64/28", "has 10.0.0.64/28 in use"},
		{"10.0.0.80/28", "has 10.0.0.80/28 in use"},
	} {
		a := allocation(fmt.Sprintf("asks-%d", i), 0)
		a.Spec.Prefix = tt.asks
		d.stores(a)
		d.schedules(a.Name, false)
		if got := d.isReported(a.Name, v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonPrefixInUse); got != "root (10.0.0.0/24) "+tt.says {
			t.Errorf("%s: %s", tt.asks, got)
		}
	}
}

// TestTakeBack has a child that could be bound while other space is kept for it. It is bound only if it does not take that
// back.
func TestTakeBack(t *testing.T) {
	coolDown := with(rules("rules", ""), func(spec *v1alpha1.PrefixPolicySpec) { spec.CoolDown = &metav1.Duration{Duration: time.Hour} })
	notSelected := with(rules("closed", "none"), isClosed)
	for name, tt := range map[string]struct {
		change  func(kept *v1alpha1.PrefixAllocation)
		policy  *v1alpha1.PrefixPolicy
		selects bool
		// takes is set if the child takes the space back, and has if it has already done so.
		takes, has bool
	}{
		"cools down":           {takes: true},
		"cools down, selected": {takes: true, selects: true},
		"cools down no more":   {takes: true, policy: notSelected},
		"is not deleted yet":   {takes: true, change: func(kept *v1alpha1.PrefixAllocation) { kept.Status.CoolingUntil = nil }},
		"is released":          {policy: notSelected, change: func(kept *v1alpha1.PrefixAllocation) { kept.Status.CoolingUntil = nil }},
		"another length":       {change: func(kept *v1alpha1.PrefixAllocation) { kept.Status.Prefix = "10.0.0.64/27" }},
		"another name":         {change: func(kept *v1alpha1.PrefixAllocation) { kept.OwnerReferences[0].Name = "other" }},
		"its own cools down":   {change: func(kept *v1alpha1.PrefixAllocation) { kept.OwnerReferences[0].UID = "uid-of-child" }},
		"taken back already": {has: true, change: func(kept *v1alpha1.PrefixAllocation) {
			kept.OwnerReferences[0].UID, kept.Status.CoolingUntil = "uid-of-child", nil
		}},
		"its own of another parent": {change: func(kept *v1alpha1.PrefixAllocation) {
			kept.OwnerReferences[0].UID, kept.Status.CoolingUntil, kept.Spec.PrefixRef.Name = "uid-of-child", nil, "other"
		}},
		"another parent":    {change: func(kept *v1alpha1.PrefixAllocation) { kept.Spec.PrefixRef.Name = "other" }},
		"no parent":         {change: func(kept *v1alpha1.PrefixAllocation) { kept.Spec.PrefixRef.Name = "none" }},
		"another namespace": {change: func(kept *v1alpha1.PrefixAllocation) { kept.Spec.PrefixNamespace = "other" }},
		"is being deleted":  {change: func(kept *v1alpha1.PrefixAllocation) { kept.DeletionTimestamp = new(metav1.Now()) }},
		"that parent is closed": {policy: with(with(rules("closed", ""), isClosed), func(spec *v1alpha1.PrefixPolicySpec) { spec.PrefixSelector.MatchLabels = map[string]string{"net": "b"} }), selects: true,
			change: func(kept *v1alpha1.PrefixAllocation) { kept.Spec.PrefixRef.Name = "other" }},
	} {
		t.Run(name, func(t *testing.T) {
			for _, answer := range []error{nil, apierrors.NewInvalid(schema.GroupKind{}, "kept", nil), apierrors.NewNotFound(v1alpha1.Resource("prefixallocations"), "kept"), errors.New("connection reset by peer")} {
				d := newDesk(t)
				d.index.setPrefix(prefix("root", "10.0.0.0/24", labelled("net", "a")))
				d.index.setPrefix(prefix("other", "10.1.0.0/24", labelled("net", "b")))
				policy := coolDown
				if tt.policy != nil {
					policy = tt.policy
				}
				d.index.setPolicy(policy)
				child := prefix("child", "", below("root"))
				child.Status.Phase = v1alpha1.PrefixPhasePending
				d.index.setPrefix(child)
				ofChild := func(a *v1alpha1.PrefixAllocation, uid types.UID) *v1alpha1.PrefixAllocation {
					a.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: "child", UID: uid, Controller: new(true)}}
					return a
				}
				kept := ofChild(allocated(allocation("kept", 26), "10.0.0.64/26"), "uid-of-earlier")
				kept.Status.CoolingUntil = new(metav1.NewTime(time.Now().Add(time.Hour)))
				if tt.change != nil {
					tt.change(kept)
				}
				asks := ofChild(allocation("asks", 26), child.UID)
				if tt.selects {
					asks.Spec.PrefixRef, asks.Spec.PrefixSelector = nil, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "net", Operator: metav1.LabelSelectorOpExists}}}
				}
				for _, a := range []*v1alpha1.PrefixAllocation{kept, asks} {
					d.stores(a)
					d.observe(a)
				}
				var taken []types.UID
				d.client.PrependReactor("update", "prefixallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
					if action.GetSubresource() != "" {
						return false, nil, nil
					}
					a := action.(clienttesting.UpdateAction).GetObject().(*v1alpha1.PrefixAllocation)
					if a.Name != "kept" || a.Labels[v1alpha1.RequesterUIDLabel] != string(child.UID) {
						t.Errorf("written: %+v", a.ObjectMeta)
					}
					taken = append(taken, a.OwnerReferences[0].UID)
					return true, a, answer
				})
				again := tt.has || tt.takes && answer != nil && !apierrors.IsNotFound(answer)
				d.schedules("asks", again)
				wantTaken, wantBound := 0, 1
				if tt.takes {
					wantTaken = 1
				}
				if tt.has || tt.takes && (answer == nil || again) {
					wantBound = 0
				}
				if tries := map[bool]int{true: heldTries, false: quietConflicts}[tt.has]; again && (tt.has || apierrors.IsInvalid(answer)) {
					// It is refused again and again, or the child does not use what it has.
					if len(d.bound) > 0 {
						t.Errorf("bound %q at once", d.bound)
					}
					for range tries {
						d.queue.AddRateLimited(types.NamespacedName{Namespace: asks.Namespace, Name: asks.Name})
					}
					d.schedules("asks", false)
					wantTaken, wantBound = 2*wantTaken, 1
				}
				if len(taken) != wantTaken || len(taken) > 0 && taken[0] != child.UID || len(d.bound) != wantBound {
					t.Errorf("answer %v: taken back for %q, bound %q", answer, taken, d.bound)
				}
				if wantBound == 0 && answer == nil {
					// Nothing is reserved for it.
					if got := d.nextPlace("/26"); got != "10.0.0.0/26" {
						t.Errorf("next: %s", got)
					}
				}
			}
		})
	}
}

// onceOnly is a lister that has an allocation at the first request for it only.
type onceOnly struct {
	listers.PrefixAllocationLister
	listers.PrefixAllocationNamespaceLister
	allocation *v1alpha1.PrefixAllocation
	asked      int
}

func (l *onceOnly) PrefixAllocations(string) listers.PrefixAllocationNamespaceLister { return l }

func (l *onceOnly) List(labels.Selector) ([]*v1alpha1.PrefixAllocation, error) {
	return nil, errors.New("unexpected")
}

func (l *onceOnly) Get(name string) (*v1alpha1.PrefixAllocation, error) {
	if l.asked++; l.asked > 1 {
		return nil, apierrors.NewNotFound(v1alpha1.Resource("prefixallocations"), name)
	}
	return l.allocation, nil
}

// TestDeletedMeanwhile deletes an allocation while it is scheduled, and cannot be. Its deletion was handled before.
func TestDeletedMeanwhile(t *testing.T) {
	d := newDesk(t)
	a := allocation("a", 25)
	lister := &onceOnly{allocation: a}
	d.allocations = lister
	d.schedules("a", false)
	if lister.asked != 2 {
		t.Errorf("asked %d times", lister.asked)
	}
	if waiting := d.index.waitingIn(ns); len(waiting) > 0 || len(d.client.Actions()) > 0 {
		t.Errorf("waiting: %q, written: %v", waiting, d.client.Actions())
	}
}

// getOnly is a lister that does not list.
type getOnly struct {
	listers.PrefixAllocationLister
	listers.PrefixAllocationNamespaceLister
}

func (l getOnly) List(labels.Selector) ([]*v1alpha1.PrefixAllocation, error) {
	return nil, errors.New("listed")
}

func (l getOnly) Get(name string) (*v1alpha1.PrefixAllocation, error) {
	return l.PrefixAllocationNamespaceLister.Get(name)
}

func (l getOnly) PrefixAllocations(namespace string) listers.PrefixAllocationNamespaceLister {
	return getOnly{nil, l.PrefixAllocationLister.PrefixAllocations(namespace)}
}

// TestRefreshesAreLimited adds and removes a label of a Prefix that can hold none of very many waiting requests. No
// request is woken, and few messages are refreshed.
func TestRefreshesAreLimited(t *testing.T) {
	f := newFixture(Pack)
	var soon int
	f.refresh = func(_ types.NamespacedName, after time.Duration) {
		if after < time.Second {
			soon++
		}
	}
	const many = 5000
	for i := range many {
		f.assume(want(t, fmt.Sprintf("c%d", i), "IPv4/28", "net=a"))
	}
	for range 100 {
		f.set(prefix("leaf", "10.0.0.0/32", labelled("net", "a")))
		f.set(prefix("leaf", "10.0.0.0/32"))
	}
	if len(f.woken) > 0 || soon > refreshBurst+refreshRate {
		t.Errorf("%d woken, %d messages made anew in a second", len(f.woken), soon)
	}
	// A Prefix that can hold three of them wakes three.
	f.set(prefix("pool", "10.0.0.0/26", labelled("net", "a")))
	f.holds("x", "pool", "10.0.0.0/28")
	if len(f.woken) != 4 {
		t.Errorf("woken: %v", f.woken)
	}
}

// TestSelectionsAreBounded uses very many Prefixes, and selectors that match all of them.
func TestSelectionsAreBounded(t *testing.T) {
	f := newFixture(Pack)
	const many = 3000
	for i := range many {
		p := prefix(fmt.Sprintf("p%d", i), "10.0.0.0/24")
		p.Labels = map[string]string{}
		for l := range maxSelections {
			p.Labels[fmt.Sprintf("l%d", l)] = "x"
		}
		f.set(p)
	}
	for l := range maxSelections {
		f.assume(want(t, fmt.Sprintf("c%d", l), "IPv4/32", fmt.Sprintf("l%d=x", l)))
	}
	sum := 0
	for _, s := range f.namespaces[ns].selections {
		sum += len(s.parents)
	}
	if sum > max(minRemembered, remembered*many) {
		t.Errorf("%d parents of selectors are kept, of %d", sum, many)
	}
}
