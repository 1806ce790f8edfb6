// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
)

// children returns the children in the claim to a prefix.
func (s *server) children(t *testing.T, ctx context.Context, parent *ipam.Prefix, prefix string) []storedChild {
	t.Helper()
	var claim storedClaim
	if err := json.Unmarshal([]byte(s.value(t, ctx, s.claimKey(parent.UID, netip.MustParsePrefix(prefix)))), &claim); err != nil {
		t.Fatal(err)
	}
	var children []storedChild
	for _, h := range claim.Holders {
		if h.Child != nil {
			children = append(children, *h.Child)
		}
	}
	return children
}

// controllerRef returns a controller reference to a Prefix.
func controllerRef(to *ipam.Prefix) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "ipam.ironcore.dev/v1alpha1", Kind: "Prefix", Name: to.Name, UID: to.UID, Controller: new(true)}
}

// TestChild binds allocations with all kinds of controller references, to children in all states. The bind is
// rejected, or the claim has no child, unless the child exists by name and uid and requests the prefix.
func TestChild(t *testing.T) {
	const forChild, forNobody, refused = "for the child", "for nobody", "refused"
	etcd := claimstest.RunEtcd(t)
	for _, tt := range []struct {
		name   string
		ref    func(*metav1.OwnerReference)
		child  ipam.PrefixSpec
		before func(t *testing.T, s *server, ctx context.Context)
		want   string
	}{
		{name: "the child", want: forChild},
		{name: "another version of the group", ref: func(r *metav1.OwnerReference) { r.APIVersion = "ipam.ironcore.dev/v7" }, want: forChild},
		{name: "another group", ref: func(r *metav1.OwnerReference) { r.APIVersion = "x/v1" }, want: forNobody},
		{name: "the core group", ref: func(r *metav1.OwnerReference) { r.APIVersion = "v1" }, want: forNobody},
		{name: "another kind", ref: func(r *metav1.OwnerReference) { r.Kind = "PrefixAllocation" }, want: forNobody},
		{name: "not the controller", ref: func(r *metav1.OwnerReference) { r.Controller = nil }, want: forNobody},
		{name: "another name with the uid of the child", ref: func(r *metav1.OwnerReference) { r.Name = "decoy" }, want: refused},
		{name: "the name of another Prefix with the uid of the child", ref: func(r *metav1.OwnerReference) { r.Name = "parent" }, want: refused},
		{name: "another uid", ref: func(r *metav1.OwnerReference) { r.UID = "gone" }, want: refused},
		{name: "a child that asks for another length", child: ipam.PrefixSpec{PrefixLength: 25}, want: refused},
		{name: "a child that asks for another prefix", child: ipam.PrefixSpec{Prefix: "10.0.6.0/24"}, want: refused},
		{name: "a child that asks for the prefix", child: ipam.PrefixSpec{Prefix: "10.0.5.0/24"}, want: forChild},
		{name: "a child that asks another parent", child: ipam.PrefixSpec{PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: "other"}}, want: refused},
		{name: "a child that selects its parent", child: ipam.PrefixSpec{PrefixLength: 24, ParentSelector: anyParent}, want: forChild},
		{name: "a root", child: ipam.PrefixSpec{Prefix: "10.0.5.0/24", ParentSelector: nil, ParentRef: nil}, before: nil, want: refused},
		{name: "a child that is being deleted", before: func(t *testing.T, s *server, ctx context.Context) {
			ok(t, s.deletePrefix(ctx, "child"))
		}, want: refused},
		{name: "a child that is gone", before: func(t *testing.T, s *server, ctx context.Context) {
			ok(t, s.end(ctx, "child"))
		}, want: refused},
		{name: "a child that was created anew", before: func(t *testing.T, s *server, ctx context.Context) {
			ok(t, s.end(ctx, "child"))
			s.child(t, ctx, "child", "parent", 24)
		}, want: refused},
		{name: "a child that is Allocated", before: func(t *testing.T, s *server, ctx context.Context) {
			s.allocate(t, ctx, "first", s.getPrefix(t, ctx, "child"), "parent", "10.0.9.0/24")
			ok(t, s.complete(ctx, "child", "parent", "10.0.9.0/24", ""))
		}, want: refused},
	} {
		for _, v := range fewVariants {
			t.Run(tt.name+", "+v.String(), func(t *testing.T) {
				s := newServer(t, etcd, v)
				ctx, _ := newNamespace(t)
				parent := s.root(t, ctx, "parent", "10.0.0.0/16")
				s.root(t, ctx, "other", "10.1.0.0/16")
				spec := tt.child
				if spec.Prefix == "" && spec.PrefixLength == 0 {
					spec.PrefixLength = 24
				}
				if spec.ParentRef == nil && spec.ParentSelector == nil && tt.name != "a root" {
					spec.ParentRef = &ipam.LocalObjectReference{Name: "parent"}
				}
				spec.IPFamily = ipam.IPv4
				child := must[*ipam.Prefix](t)(s.createPrefix(ctx, "child", spec))
				ref := controllerRef(child)
				if tt.ref != nil {
					tt.ref(&ref)
				}
				s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
				must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) { a.OwnerReferences = []metav1.OwnerReference{ref} }))
				if tt.before != nil {
					tt.before(t, s, ctx)
				}

				bind := func() error { return s.bind(ctx, "a", "parent", "10.0.5.0/24", "") }
				if tt.want == refused {
					s.refused(t, bind, metav1.StatusReasonConflict, "it was created for Prefix "+ref.Name)
					s.check(t)
					return
				}
				ok(t, bind())
				children := s.children(t, ctx, parent, "10.0.5.0/24")
				switch {
				case tt.want == forNobody && len(children) > 0:
					t.Errorf("claimed for %v", children)
				case tt.want == forChild && (len(children) != 1 || children[0] != storedChild{"child", child.UID}):
					t.Errorf("claimed for %v, not for the child", children)
				}
				complete := func() error { return s.complete(ctx, "child", "parent", "10.0.5.0/24", "") }
				if tt.want == forNobody {
					s.refused(t, complete, metav1.StatusReasonConflict, "none of its PrefixAllocations holds")
				} else {
					ok(t, complete())
					s.refused(t, func() error { return s.deleteAllocation(ctx, "a") }, metav1.StatusReasonConflict, "child")
				}
				s.check(t)
			})
		}
	}
}

// TestChildStays changes the controller reference of an Allocated allocation in every way. The claim
// permanently records the child, so the reference must agree with it.
func TestChildStays(t *testing.T) {
	const kept, silently, refused = "the change is made", "the reference stays silently", "refused"
	etcd := claimstest.RunEtcd(t)
	states := map[string]func(t *testing.T, s *server, ctx context.Context){
		"Pending": func(*testing.T, *server, context.Context) {},
		"Allocated": func(t *testing.T, s *server, ctx context.Context) {
			ok(t, s.complete(ctx, "child", "parent", "10.0.5.0/24", ""))
		},
		"being deleted": func(t *testing.T, s *server, ctx context.Context) {
			ok(t, s.complete(ctx, "child", "parent", "10.0.5.0/24", ""))
			ok(t, s.deletePrefix(ctx, "child"))
		},
		"gone": func(t *testing.T, s *server, ctx context.Context) {
			ok(t, s.complete(ctx, "child", "parent", "10.0.5.0/24", ""))
			ok(t, s.end(ctx, "child"))
		},
		"created anew": func(t *testing.T, s *server, ctx context.Context) {
			ok(t, s.end(ctx, "child"))
			s.child(t, ctx, "child", "parent", 24)
		},
	}
	lives := map[string]bool{"Pending": true, "Allocated": true}
	changes := []struct {
		name   string
		change func(refs []metav1.OwnerReference, other metav1.OwnerReference) []metav1.OwnerReference
		// live and dead are the expected results for the allocation of a child, while the child exists and
		// afterwards. nobody is the expected result for an allocation without a child.
		live, dead string
	}{
		{"removed", func([]metav1.OwnerReference, metav1.OwnerReference) []metav1.OwnerReference { return nil }, refused, silently},
		{"no controller any more", func(refs []metav1.OwnerReference, _ metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].Controller = nil
			return refs
		}, refused, silently},
		{"of another group", func(refs []metav1.OwnerReference, _ metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].APIVersion = "x/v1"
			return refs
		}, refused, refused},
		{"of another kind", func(refs []metav1.OwnerReference, _ metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].Kind = "Network"
			return refs
		}, refused, refused},
		{"to another Prefix", func(_ []metav1.OwnerReference, other metav1.OwnerReference) []metav1.OwnerReference {
			return []metav1.OwnerReference{other}
		}, refused, refused},
		{"with another uid", func(refs []metav1.OwnerReference, _ metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].UID = "another"
			return refs
		}, refused, refused},
		{"another version of the group", func(refs []metav1.OwnerReference, _ metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].APIVersion = "ipam.ironcore.dev/v7"
			return refs
		}, kept, kept},
		{"blocks", func(refs []metav1.OwnerReference, _ metav1.OwnerReference) []metav1.OwnerReference {
			refs[0].BlockOwnerDeletion = new(true)
			return refs
		}, kept, kept},
		{"one more owner", func(refs []metav1.OwnerReference, other metav1.OwnerReference) []metav1.OwnerReference {
			other.Controller = nil
			return append(refs, other)
		}, kept, kept},
	}
	for state, reach := range states {
		for _, tt := range changes {
			t.Run(state+", "+tt.name, func(t *testing.T) {
				s := newServer(t, etcd, variant{cached: true})
				ctx, _ := newNamespace(t)
				s.root(t, ctx, "parent", "10.0.0.0/16")
				other := controllerRef(s.child(t, ctx, "other", "parent", 24))
				s.allocate(t, ctx, "a", s.child(t, ctx, "child", "parent", 24), "parent", "10.0.5.0/24")
				reach(t, s, ctx)
				before := s.getAllocation(t, ctx, "a")
				change := func() error {
					_, err := s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) {
						a.Labels = map[string]string{"new": "label"}
						a.OwnerReferences = tt.change(a.OwnerReferences, other)
					})
					return err
				}
				want := tt.dead
				if lives[state] {
					want = tt.live
				}
				if want == refused {
					s.refused(t, change, metav1.StatusReasonInvalid, "metadata.ownerReferences", "10.0.5.0/24 is allocated to it for Prefix child")
					s.check(t)
					return
				}
				ok(t, change())
				after := s.getAllocation(t, ctx, "a")
				if after.Labels["new"] != "label" {
					t.Error("the rest of the change is lost")
				}
				if was, is := metav1.GetControllerOf(before), metav1.GetControllerOf(after); is == nil || was.UID != is.UID || was.Name != is.Name {
					t.Errorf("the controller is %v", is)
				}
				if want == silently && len(after.OwnerReferences) > 2 {
					t.Errorf("references are %v", after.OwnerReferences)
				}
				s.check(t)
				if !lives[state] && state != "being deleted" {
					ok(t, s.deleteAllocation(ctx, "a"))
					s.check(t)
				}
			})
		}
	}
}

// TestNoChild adds a controller reference to an allocation without a child, which is rejected. Otherwise
// the child could appear to hold the prefix, and the claim would not record that.
func TestNoChild(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{cached: true})
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	child := s.child(t, ctx, "child", "parent", 24)
	s.allocate(t, ctx, "a", nil, "parent", "10.0.5.0/24")
	adopt := func(dryRun ...string) func() error {
		return func() error {
			_, _, err := s.allocations.Main.Update(ctx, "a", updateOf(func(a *ipam.PrefixAllocation) {
				a.OwnerReferences = []metav1.OwnerReference{controllerRef(child)}
			}), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{DryRun: dryRun})
			return err
		}
	}
	for _, write := range []func() error{adopt(), adopt(metav1.DryRunAll)} {
		s.refused(t, write, metav1.StatusReasonInvalid, "metadata.ownerReferences", "10.0.5.0/24", "Prefix child")
	}
	must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) {
		ref := controllerRef(child)
		ref.APIVersion, ref.Kind = "apps/v1", "Deployment"
		a.OwnerReferences = []metav1.OwnerReference{ref}
	}))
	s.refused(t, func() error { return s.complete(ctx, "child", "parent", "10.0.5.0/24", "") }, metav1.StatusReasonConflict, "none of its PrefixAllocations holds")
	ok(t, s.deleteAllocation(ctx, "a"))
	s.check(t)
}

// TestTakeOver shows how one range was once given to two live children. An allocation that was bound for the uid of
// a child under another name completed the child, and its claim was released although the child used it.
func TestTakeOver(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{cached: true})
	ctx, _ := newNamespace(t)
	parent := s.root(t, ctx, "parent", "10.0.0.0/16")
	victim := must[*ipam.Prefix](t)(s.createPrefix(ctx, "victim", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 24,
		ParentSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"matches": "nothing"}}}))
	s.requestLength(t, ctx, "a", nil, "10.0.5.0/24")
	refer := func(change func(*metav1.OwnerReference)) error {
		_, err := s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) {
			ref := controllerRef(victim)
			change(&ref)
			a.OwnerReferences = []metav1.OwnerReference{ref}
		})
		return err
	}
	ok(t, refer(func(r *metav1.OwnerReference) { r.APIVersion, r.Name = "x/v1", "decoy" }))
	ok(t, s.bind(ctx, "a", "parent", "10.0.5.0/24", ""))
	// Each step may fail.
	_ = refer(func(*metav1.OwnerReference) {})
	_ = s.complete(ctx, "victim", "parent", "10.0.5.0/24", "")
	_, _ = s.updateAllocation(ctx, "a", func(a *ipam.PrefixAllocation) { a.OwnerReferences = nil })
	_ = s.deleteAllocation(ctx, "a")
	thief := must[*ipam.Prefix](t)(s.createPrefix(ctx, "thief", ipam.PrefixSpec{IPFamily: ipam.IPv4, Prefix: "10.0.5.0/24", ParentRef: &ipam.LocalObjectReference{Name: "parent"}}))
	s.requestLength(t, ctx, "b", thief, "10.0.5.0/24")
	_ = s.bind(ctx, "b", "parent", "10.0.5.0/24", "")
	_ = s.complete(ctx, "thief", "parent", "10.0.5.0/24", "")
	if v, t2 := s.getPrefix(t, ctx, "victim"), s.getPrefix(t, ctx, "thief"); v.Status.Phase == ipam.PrefixPhaseAllocated && t2.Status.Phase == ipam.PrefixPhaseAllocated {
		t.Errorf("%s and %s of %s are held by two", v.Spec.Prefix, t2.Spec.Prefix, parent.Name)
	}
	s.check(t)
}

// TestReleaseGoesByTheClaim deletes one of two allocations of a child that hold the same range of two parents. The
// child uses only one of them.
func TestReleaseGoesByTheClaim(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{cached: true})
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "one", "10.0.0.0/16")
	s.root(t, ctx, "two", "10.0.0.0/16")
	child := must[*ipam.Prefix](t)(s.createPrefix(ctx, "child", ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 24, ParentSelector: anyParent}))
	s.allocate(t, ctx, "a", child, "one", "10.0.5.0/24")
	s.allocate(t, ctx, "b", child, "two", "10.0.5.0/24")
	ok(t, s.complete(ctx, "child", "one", "10.0.5.0/24", ""))
	s.refused(t, func() error { return s.deleteAllocation(ctx, "a") }, metav1.StatusReasonConflict, "Prefix child")
	ok(t, s.deleteAllocation(ctx, "b"))
	s.check(t)
}

// TestDryRunTellsWhatWouldBeRefused makes dry runs of deletions and updates that the transaction would reject.
func TestDryRunTellsWhatWouldBeRefused(t *testing.T) {
	s := newServer(t, claimstest.RunEtcd(t), variant{cached: true})
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	s.liveChild(t, ctx, "child", "parent", "10.0.5.0/24")
	all := []string{metav1.DryRunAll}
	name := "child"
	s.refused(t, func() error {
		_, _, err := s.allocations.Main.Delete(ctx, name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{DryRun: all})
		return err
	}, metav1.StatusReasonConflict, "10.0.5.0/24", "Prefix child")
	s.refused(t, func() error {
		_, err := s.allocations.Main.DeleteCollection(ctx, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{DryRun: all}, nil)
		return err
	}, metav1.StatusReasonConflict, "10.0.5.0/24")
	s.requestLength(t, ctx, "b", nil, "10.0.5.0/25")
	s.refused(t, func() error {
		_, _, err := s.allocations.Status.Update(ctx, "b", updateOf(func(a *ipam.PrefixAllocation) {
			a.Status.Phase, a.Status.Prefix = ipam.PrefixAllocationPhaseAllocated, "10.0.5.0/25"
		}), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{DryRun: all})
		return err
	}, metav1.StatusReasonInvalid)
	must[*ipam.PrefixAllocation](t)(s.updateAllocation(ctx, "b", func(a *ipam.PrefixAllocation) { a.Spec.PrefixRef = &ipam.LocalObjectReference{Name: "parent"} }))
	s.refused(t, func() error {
		_, _, err := s.allocations.Status.Update(ctx, "b", updateOf(func(a *ipam.PrefixAllocation) {
			a.Status.Phase, a.Status.Prefix = ipam.PrefixAllocationPhaseAllocated, "10.0.5.0/25"
		}), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{DryRun: all})
		return err
	}, metav1.StatusReasonConflict, "10.0.5.0/24")
	s.check(t)
}
