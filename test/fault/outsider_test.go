// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// outside is the namespace of the outsiders.
const outside = "outside"

// TestOutsiders has users with the role admin in another namespace than that of the parents. They write every field and any
// metadata of all three kinds there: parents and owners of the other namespace, right and forged, policies for the Prefixes
// of others, names of others, finalizers; they force deletions and recreate what they deleted. They even bind, which only
// the controller manager may. One arena is shared with them,
// but its owner takes that back from time to time, and the space of its children cools down. API servers and controller
// managers are killed meanwhile.
//
// They gain nothing: the children of the other namespace get what there is, and keep it; space that cools down is not given
// away before its time; nothing that outsiders can read names a child of the other namespace. In the end nothing overlaps,
// nothing is left over, and all waiting requests are served.
func TestOutsiders(t *testing.T) {
	for seed := range times(1, 20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			testOutsiders(t, uint64(seed), int64(times(2000, 10_000)))
		})
	}
}

func testOutsiders(t *testing.T, seed uint64, operations int64) {
	b := newBattle(t, operations, arena{"arena-shared", "10.0.0.0/23", 28, false}, arena{"arena-private", "2001:db8::/48", 64, true})
	policies := b.servers[0].client.IpamV1alpha1().PrefixPolicies(namespace)
	cools, shared := harness.Policy("cools", nil), harness.Policy("shared", nil, "arena", "arena-shared")
	cools.Spec.CoolDown = &metav1.Duration{Duration: 2 * time.Second}
	for _, policy := range []*v1alpha1.PrefixPolicy{cools, shared} {
		if _, err := policies.Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	managers := []*manager{b.startManagerOn(0), b.startManagerOn(1)}
	b.servers[2].settled()
	var observers []*observer
	for _, s := range b.servers {
		o := s.observe(time.Now())
		o.cools = func(l *life) bool { return l.namespace == namespace }
		observers = append(observers, o)
	}

	over := make(chan struct{})
	var users, others sync.WaitGroup
	for i := range 6 {
		users.Go(func() { newHonest(b, i, rand.New(rand.NewPCG(seed, uint64(i)))).run() })
	}
	outsiders := make([]*outsider, 6)
	for i := range outsiders {
		outsiders[i] = &outsider{battle: b, id: i, server: b.servers[i%3], random: rand.New(rand.NewPCG(seed, uint64(100+i)))}
		users.Go(outsiders[i].run)
	}
	kills, changes := 0, 0
	others.Go(func() { kills = b.killUntil(over, rand.New(rand.NewPCG(seed, 1000)), managers) })
	others.Go(func() { changes = b.shareUntil(over, rand.New(rand.NewPCG(seed, 1001))) })
	users.Wait()
	close(over)
	others.Wait()
	got := 0
	for _, o := range outsiders {
		got += o.got
	}
	t.Logf("%d operations of outsiders, of which %d went through, %d times they saw that they had something of a parent, %d of %d children of others were given up, %d kills, %d changes of the consent",
		b.done.Load(), b.succeeded.Load(), got, b.givenUp.Load(), b.children.Load(), kills, changes)
	if got == 0 || changes < 2 {
		t.Error("The outsiders never had anything of a parent")
	}
	b.getsNothing()
	b.cleanUpOutside()
	b.judge(observers)
}

// getsNothing checks that nobody outside gets anything more after the consent was withdrawn.
func (b *battle) getsNothing() {
	b.Helper()
	s := b.servers[0]
	held := func() sets.Set[types.UID] {
		all, err := s.list()
		if err != nil {
			b.Fatal(err)
		}
		held := sets.Set[types.UID]{}
		for _, a := range all.allocations {
			if a.Namespace == outside && a.Spec.PrefixNamespace == namespace && a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
				held.Insert(a.UID)
			}
		}
		return held
	}
	before := held()
	late := harness.Child("outsider-late", b.arenas[0].name, harness.Length(b.arenas[0].bits+1))
	late.Spec.ParentNamespace = namespace
	prefixes := s.client.IpamV1alpha1().Prefixes(outside)
	if _, err := prefixes.Create(b.Context(), late, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	harness.Eventually(b, "a late child is told that the parent is not shared", func() error {
		got, err := prefixes.Get(b.Context(), late.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		told := meta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionAllocated)
		return harness.Unless(told != nil && told.Reason == v1alpha1.ReasonNotShared, "%+v", told)
	})
	request := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: "outsider-binds"}, Spec: v1alpha1.PrefixAllocationSpec{
		PrefixLength: 32, PrefixRef: late.Spec.ParentRef, PrefixNamespace: namespace}}
	allocations := s.client.IpamV1alpha1().PrefixAllocations(outside)
	if _, err := allocations.Create(b.Context(), request, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	if _, err := allocations.Bind(b.Context(), request.Name, binding(request.Name, b.arenas[0].name, "10.0.1.255/32"), metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "is not shared with namespace outside") {
		b.Errorf("Binding without consent: %v", err)
	}
	if more := held().Difference(before); len(more) > 0 {
		b.Errorf("%d were allocated after the consent was withdrawn", len(more))
	}
}

// shareUntil gives and withdraws the consent until the end. In the end it is withdrawn. It returns how often it changed.
func (b *battle) shareUntil(over <-chan struct{}, random *rand.Rand) (changes int) {
	for done := false; !done; changes++ {
		consent := map[string]any{"namespaces": []string{outside}}
		select {
		case <-over:
			consent, done = nil, true
		case <-time.After(time.Duration(100+random.IntN(700)) * time.Millisecond):
			if changes%3 == 2 {
				consent = nil
			}
		}
		data, err := json.Marshal(map[string]any{"spec": map[string]any{"sharedWith": consent}})
		if err != nil {
			b.Error(err)
		}
		harness.Eventually(b, "the consent is changed", func() error {
			s := b.servers[random.IntN(len(b.servers))]
			_, err := s.client.IpamV1alpha1().PrefixPolicies(namespace).Patch(b.Context(), "shared", types.MergePatchType, data, metav1.PatchOptions{})
			return err
		})
	}
	return changes
}

// secret matches the names of the children of others that outsiders never write. So nothing that they read may contain one,
// although they use the other half of these names for owners, parents, and objects of their own.
var secret = regexp.MustCompile(`honest-[0-9]+-[0-9]*[13579]\b`)

// outsider is a user with the role admin in the namespace outside. It knows the names and uids of the other one.
type outsider struct {
	*battle
	id, n, got int
	server     *server
	random     *rand.Rand
	// known has the Prefixes of all namespaces whose names are not secret, ranges the prefixes of all, and own what there is
	// outside.
	known    []v1alpha1.Prefix
	ranges   []string
	own      everything
	policies []v1alpha1.PrefixPolicy
}

func (o *outsider) client() ipamclient.IpamV1alpha1Interface { return o.server.client.IpamV1alpha1() }

func (o *outsider) run() {
	for i := 0; !o.over(); i++ {
		if i%15 == 0 {
			o.look()
		}
		if len(o.ranges) > 0 {
			switch err := o.step(); {
			case err == nil:
				o.succeeded.Add(1)
			case !errors.As(err, new(apierrors.APIStatus)):
				// The server was killed.
				o.server = pick(o.random, o.servers)
				time.Sleep(10 * time.Millisecond)
				continue
			case secret.MatchString(err.Error()):
				o.Errorf("an error names a child of another namespace: %v", err)
			}
		}
		o.done.Add(1)
	}
}

// look lists everything, and reads what the objects outside say.
func (o *outsider) look() {
	all, err := o.server.list()
	if err != nil {
		o.server = pick(o.random, o.servers)
		return
	}
	policies, err := o.client().PrefixPolicies(outside).List(o.Context(), metav1.ListOptions{})
	if err != nil {
		return
	}
	o.known, o.ranges, o.own, o.policies = nil, nil, everything{}, policies.Items
	var outsiders []any
	for _, p := range all.prefixes {
		if p.Spec.Prefix != "" && p.Spec.ParentRef != nil {
			o.ranges = append(o.ranges, p.Spec.Prefix)
		}
		if !secret.MatchString(p.Name) {
			o.known = append(o.known, p)
		}
		if p.Namespace == outside {
			o.own.prefixes = append(o.own.prefixes, p)
			outsiders = append(outsiders, p)
		}
	}
	for _, a := range all.allocations {
		if a.Namespace == outside {
			o.own.allocations = append(o.own.allocations, a)
			outsiders = append(outsiders, a)
			if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated && a.Spec.PrefixNamespace == namespace {
				o.got++
			}
		}
	}
	for _, p := range o.policies {
		outsiders = append(outsiders, p)
	}
	for _, of := range outsiders {
		data, err := json.Marshal(of)
		if err != nil {
			o.Error(err)
		}
		if found := secret.Find(data); found != nil {
			o.Errorf("%s names %s", data, found)
		}
	}
}

// step makes one random change outside. It may be refused.
func (o *outsider) step() error {
	o.n++
	ctx, prefixes, allocations, policies := o.Context(), o.client().Prefixes(outside), o.client().PrefixAllocations(outside), o.client().PrefixPolicies(outside)
	delete := metav1.DeleteOptions{PropagationPolicy: new(pick(o.random, []metav1.DeletionPropagation{
		metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan, metav1.DeletePropagationForeground}))}
	if o.random.IntN(3) == 0 {
		delete.GracePeriodSeconds = new(int64(0))
	}
	mine := v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "none"}}
	if len(o.own.prefixes) > 0 {
		mine = pick(o.random, o.own.prefixes)
	}
	allocation := v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: "none"}}
	if len(o.own.allocations) > 0 {
		allocation = pick(o.random, o.own.allocations)
	}
	switch o.random.IntN(14) {
	case 12:
		// What the object asks for, or anything.
		parent, prefix := pick(o.random, o.arenas).name, pick(o.random, o.ranges)
		if ref := allocation.Spec.PrefixRef; ref != nil && allocation.Spec.Prefix != "" && o.random.IntN(3) > 0 {
			parent, prefix = ref.Name, allocation.Spec.Prefix
		}
		_, err := allocations.Bind(ctx, allocation.Name, binding(allocation.Name, parent, prefix), metav1.CreateOptions{})
		return err
	case 13:
		parent, prefix := pick(o.random, o.arenas).name, pick(o.random, o.ranges)
		if ref := mine.Spec.ParentRef; ref != nil {
			parent = ref.Name
		}
		_, err := prefixes.Bind(ctx, mine.Name, &v1alpha1.PrefixBinding{Metadata: v1alpha1.BindingMeta{Namespace: outside, Name: mine.Name}, Prefix: prefix,
			ParentRef: v1alpha1.BindingReference{Namespace: namespace, Name: parent}}, metav1.CreateOptions{})
		return err
	case 0, 1, 2:
		_, err := prefixes.Create(ctx, &v1alpha1.Prefix{ObjectMeta: o.metadata(), Spec: o.spec()}, metav1.CreateOptions{})
		return err
	case 3, 4:
		_, err := allocations.Create(ctx, &v1alpha1.PrefixAllocation{ObjectMeta: o.metadata(), Spec: o.request()}, metav1.CreateOptions{})
		return err
	case 5:
		_, err := prefixes.Patch(ctx, mine.Name, types.MergePatchType, o.patch(o.spec()), metav1.PatchOptions{})
		return err
	case 6, 7:
		_, err := allocations.Patch(ctx, allocation.Name, types.MergePatchType, o.patch(o.request()), metav1.PatchOptions{})
		return err
	case 8:
		err := prefixes.Delete(ctx, mine.Name, delete)
		if o.random.IntN(2) == 0 {
			again := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: mine.Name, Labels: mine.Labels}, Spec: mine.Spec}
			_, err = prefixes.Create(ctx, again, metav1.CreateOptions{})
		}
		return err
	case 9:
		err := allocations.Delete(ctx, allocation.Name, delete)
		if o.random.IntN(2) == 0 {
			again := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Name: allocation.Name, Labels: allocation.Labels, OwnerReferences: allocation.OwnerReferences}, Spec: allocation.Spec}
			_, err = allocations.Create(ctx, again, metav1.CreateOptions{})
		}
		return err
	case 10:
		policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("outsider-%d", o.random.IntN(4))}, Spec: o.rules()}
		_, err := policies.Create(ctx, policy, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			_, err = policies.Patch(ctx, policy.Name, types.MergePatchType, o.patch(policy.Spec), metav1.PatchOptions{})
		}
		return err
	default:
		if len(o.policies) == 0 {
			return nil
		}
		return policies.Delete(ctx, pick(o.random, o.policies).Name, delete)
	}
}

// binding returns the binding of an allocation outside to a prefix of the other namespace.
func binding(name, parent, prefix string) *v1alpha1.PrefixAllocationBinding {
	return &v1alpha1.PrefixAllocationBinding{
		Metadata: v1alpha1.BindingMeta{Namespace: outside, Name: name}, Prefix: prefix,
		PrefixRef: v1alpha1.BindingReference{Namespace: namespace, Name: parent},
	}
}

// patch returns a patch of the spec, or of a part of the metadata.
func (o *outsider) patch(spec any) []byte {
	var change any = map[string]any{"spec": spec}
	if o.random.IntN(3) > 0 {
		m := o.metadata()
		what, value := "labels", any(m.Labels)
		switch o.random.IntN(4) {
		case 0:
			what, value = "ownerReferences", m.OwnerReferences
		case 1:
			what, value = "finalizers", pick(o.random, [][]string{nil, {"example.com/keep"}, {"orphan"}, {v1alpha1.PrefixFinalizer}})
		case 2:
			what, value = "annotations", map[string]any{"x": fmt.Sprint(o.n)}
		}
		change = map[string]any{"metadata": map[string]any{what: value}}
	}
	data, err := json.Marshal(change)
	if err != nil {
		o.Error(err)
	}
	return data
}

// metadata returns the metadata of a new object. It may have the name of a Prefix of the other namespace, and refer to one.
func (o *outsider) metadata() metav1.ObjectMeta {
	p := pick(o.random, o.known)
	m := metav1.ObjectMeta{Name: fmt.Sprintf("outsider-%d-%d", o.id, o.n%20)}
	switch o.random.IntN(6) {
	case 0:
		m.Name = p.Name
	case 1:
		m.Labels = map[string]string{"arena": pick(o.random, o.arenas).name}
	case 2:
		m.Labels = map[string]string{v1alpha1.RequesterUIDLabel: string(p.UID)}
	}
	if o.random.IntN(2) == 0 {
		ref := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PrefixKind, Name: p.Name, UID: p.UID, Controller: new(true)}
		switch o.random.IntN(6) {
		case 0:
			ref.UID = pick(o.random, o.known).UID
		case 1:
			ref.Name = pick(o.random, o.known).Name
		case 2:
			ref.APIVersion = "x/v1"
		}
		m.OwnerReferences = []metav1.OwnerReference{ref}
	}
	return m
}

// spec returns the spec of a Prefix that asks for space of an arena, or of a child of the other namespace.
func (o *outsider) spec() v1alpha1.PrefixSpec {
	from, p := pick(o.random, o.arenas), pick(o.random, o.known)
	spec := v1alpha1.PrefixSpec{ParentNamespace: namespace, PrefixLength: from.bits, ParentRef: &v1alpha1.LocalObjectReference{Name: from.name}}
	switch o.random.IntN(8) {
	case 0:
		spec.ParentRef = &v1alpha1.LocalObjectReference{Name: p.Name}
		spec.PrefixLength++
	case 1, 2:
		spec.ParentRef, spec.ParentSelector = nil, &metav1.LabelSelector{}
		spec.IPFamily = pick(o.random, []v1alpha1.IPFamily{v1alpha1.IPv4, v1alpha1.IPv6})
	case 3:
		// A root with the range of somebody else.
		spec.ParentRef, spec.ParentNamespace = nil, ""
		spec.Prefix = pick(o.random, o.ranges)
	case 4:
		spec.ParentNamespace = pick(o.random, []string{"", outside, "nowhere"})
	}
	if o.random.IntN(3) == 0 {
		spec.Prefix, spec.PrefixLength = pick(o.random, o.ranges), 0
	}
	return spec
}

// request returns the spec of a PrefixAllocation that asks for the same as a Prefix would.
func (o *outsider) request() v1alpha1.PrefixAllocationSpec {
	of := o.spec()
	return v1alpha1.PrefixAllocationSpec{IPFamily: of.IPFamily, Prefix: of.Prefix, PrefixLength: of.PrefixLength,
		PrefixRef: of.ParentRef, PrefixSelector: of.ParentSelector, PrefixNamespace: of.ParentNamespace}
}

// rules returns the spec of a PrefixPolicy that would be bad for the parents of the other namespace.
func (o *outsider) rules() v1alpha1.PrefixPolicySpec {
	spec := v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}}
	switch o.random.IntN(6) {
	case 0:
		spec.Closed = true
	case 1:
		spec.Reserved = []v1alpha1.PrefixReservation{{CIDR: o.arenas[0].prefix}, {CIDR: o.arenas[1].prefix}}
	case 2:
		spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: 1, Max: 2}
	case 3:
		spec.SharedWith = &v1alpha1.PrefixSharing{All: true}
	case 4:
		spec.Strategy = v1alpha1.PrefixStrategyRandom
	default:
		spec.CoolDown = &metav1.Duration{Duration: pick(o.random, []time.Duration{0, time.Millisecond, time.Hour})}
	}
	return spec
}

// cleanUpOutside deletes everything outside.
func (b *battle) cleanUpOutside() {
	b.Helper()
	s, now := b.servers[0], metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	client := s.client.IpamV1alpha1()
	none := []byte(`{"metadata":{"finalizers":null}}`)
	harness.Eventually(b, "what the outsiders made is gone", func() error {
		if err := client.PrefixPolicies(outside).DeleteCollection(b.Context(), now, metav1.ListOptions{}); err != nil {
			return err
		}
		all, err := s.list()
		if err != nil {
			return err
		}
		left := 0
		for _, p := range all.prefixes {
			if p.Namespace != outside {
				continue
			}
			left++
			_ = client.Prefixes(outside).Delete(b.Context(), p.Name, now)
			if len(p.Finalizers) > 1 || len(p.Finalizers) == 1 && p.Finalizers[0] != v1alpha1.PrefixFinalizer {
				_, _ = client.Prefixes(outside).Patch(b.Context(), p.Name, types.MergePatchType, none, metav1.PatchOptions{})
			}
		}
		for _, a := range all.allocations {
			if a.Namespace == outside {
				left++
				_, _ = client.PrefixAllocations(outside).Patch(b.Context(), a.Name, types.MergePatchType, none, metav1.PatchOptions{})
				_ = client.PrefixAllocations(outside).Delete(b.Context(), a.Name, now)
			}
			if a.Status.CoolingUntil != nil {
				left++
			}
		}
		if left > 0 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
}
