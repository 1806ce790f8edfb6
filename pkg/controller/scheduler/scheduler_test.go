// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/fake"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
)

// desk is a scheduler whose informers are fed by hand, and whose binds are answered by hand.
type desk struct {
	*Scheduler
	t      *testing.T
	stored cache.Indexer
	client *fake.Clientset
	// answer is what the server says to a bind.
	answer error
	// bound are the binds that were asked for, "prefix from parent".
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
		return true, &v1alpha1.PrefixAllocation{}, d.answer
	})
	informers := externalversions.NewSharedInformerFactory(d.client, 0).Ipam().V1alpha1()
	s, err := New(d.client, informers.Prefixes(), informers.PrefixAllocations(), events.NewFakeRecorder(100), Pack, 1)
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

// stores has the informer store an allocation. What handles its events may be late.
func (d *desk) stores(a *v1alpha1.PrefixAllocation) {
	d.t.Helper()
	if err := d.stored.Add(a); err != nil {
		d.t.Fatal(err)
	}
	if err := d.client.Tracker().Add(a); err != nil {
		d.t.Fatal(err)
	}
}

// next returns what the next candidate for a length would get.
func (d *desk) nextPlace(length string) string {
	d.t.Helper()
	c := want(d.t, "next", length, "root")
	place, why := d.index.reserve(c)
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
		d.index.setPrefix(nil, prefix("root", "10.0.0.0/24"))
		d.stores(allocation("a", 25))
		return d
	}

	t.Run("bound", func(t *testing.T) {
		d := given(t)
		d.schedules("a", false)
		if len(d.bound) != 1 || d.bound[0] != "10.0.0.0/25 from root" {
			t.Errorf("bound: %v", d.bound)
		}
		// Others do not get it, even before the informer confirms it.
		if got := d.nextPlace("/25"); got != "10.0.0.128/25" {
			t.Errorf("next: %s", got)
		}
	})

	t.Run("refused", func(t *testing.T) {
		for _, answer := range []error{refused, apierrors.NewNotFound(resource, "a"), apierrors.NewBadRequest("no"),
			apierrors.NewForbidden(resource, "a", errors.New("no")), apierrors.NewInvalid(schema.GroupVersion(v1alpha1.GroupVersion).WithKind("PrefixAllocation").GroupKind(), "a", nil)} {
			d := given(t)
			d.answer = answer
			d.schedules("a", true)
			if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
				t.Errorf("%v: next: %s", answer, got)
			}
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
		// The server lets nobody bind it any more.
		d.schedules("a", false)
		if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
			t.Errorf("next: %s", got)
		}
	})

	// The store of an informer is ahead of what handles its events. That something is allocated, and
	// is being deleted on top, frees nothing.
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
		d.observe(nil, a)
		d.schedules("a", false)
		if got := d.nextPlace("/25"); got != "10.0.0.0/25" {
			t.Errorf("next: %s", got)
		}
	})

	t.Run("no room", func(t *testing.T) {
		d := given(t)
		d.index.hold(key("b"), "uid-of-b", "root", netip.MustParsePrefix("10.0.0.0/26"))
		d.index.hold(key("c"), "uid-of-c", "root", netip.MustParsePrefix("10.0.0.128/26"))
		d.schedules("a", false)
		d.isReported("a", v1alpha1.PrefixAllocationPhasePending, v1alpha1.ReasonParentExhausted)
		// Space appears.
		d.index.forget(key("b"), "uid-of-b")
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

func (d *desk) isReported(name string, phase v1alpha1.PrefixAllocationPhase, reason string) {
	d.t.Helper()
	a, err := d.client.IpamV1alpha1().PrefixAllocations(ns).Get(d.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	condition := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAllocated)
	if a.Status.Phase != phase || condition == nil || condition.Reason != reason || condition.Status != metav1.ConditionFalse {
		d.t.Errorf("%s: %+v", name, a.Status)
	}
}
