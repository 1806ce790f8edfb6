// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestLinearizability runs many clients of several API servers, and two active controller managers. Their view of
// each parent must be linearizable: it is the same as if the parent were one set of prefixes that only one client
// changes at a time. The clients are of three namespaces, and the parents are shared with them, except when the owner has
// withdrawn the consent.
func TestLinearizability(t *testing.T) {
	for seed := range times(2, 20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			testLinearizability(t, uint64(seed), times(1000, 10_000))
		})
	}
}

// pools are the parents of the test. They are small, so that clients compete.
var pools = []pool{
	{"v4-a", "10.0.0.0/26", v1alpha1.IPv4, 28, 31, false, "10.0.0.48/28"},
	{"v4-b", "10.0.1.0/26", v1alpha1.IPv4, 27, 30, false, ""},
	{"v4-c", "10.0.2.0/27", v1alpha1.IPv4, 29, 32, true, ""},
	{"v6-a", "2001:db8::/58", v1alpha1.IPv6, 60, 64, true, "2001:db8:0:8::/61"},
	{"v6-b", "2001:db8:1::/120", v1alpha1.IPv6, 122, 126, false, ""},
	{"v6-c", "2001:db8:2::/48", v1alpha1.IPv6, 49, 52, false, ""},
}

type pool struct {
	name, prefix string
	family       v1alpha1.IPFamily
	// longest is the length of the smallest children, and shortest that of the largest ones.
	shortest, longest int
	// cools is set if the space of children cools down.
	cools bool
	// reserved is a range that only exact requests get. It may be empty.
	reserved string
}

// poolOf returns the pool with a name.
func poolOf(name string) pool {
	return pools[slices.IndexFunc(pools, func(p pool) bool { return p.name == name })]
}

// tenants are the namespaces of the clients. The pools are in the first one.
var tenants = []string{namespace, "tenant-1", "tenant-2"}

// coolDown is for how long the space of children cools down.
const coolDown = time.Second

func testLinearizability(t *testing.T, seed uint64, operations int) {
	c := newCluster(t, 3, false)
	epoch := time.Now()
	w := &workload{cluster: c, epoch: epoch, calls: map[types.UID]*calls{}}
	for _, pool := range pools {
		p := harness.Root(pool.name, pool.prefix)
		p.Labels = map[string]string{"family": string(pool.family), "cools": fmt.Sprint(pool.cools)}
		c.servers[0].create(p)
	}
	cools, shared := harness.Policy("cools", nil, "cools", "true"), harness.Policy("shared", nil)
	cools.Spec.CoolDown = &metav1.Duration{Duration: coolDown}
	shared.Spec.SharedWith = &v1alpha1.PrefixSharing{All: true}
	reserved := harness.Policy("reserved", nil)
	for _, pool := range pools {
		if pool.reserved != "" {
			reserved.Spec.Reserved = append(reserved.Spec.Reserved, v1alpha1.PrefixReservation{CIDR: pool.reserved})
		}
	}
	policies := c.servers[0].client.IpamV1alpha1().PrefixPolicies(namespace)
	for _, policy := range []*v1alpha1.PrefixPolicy{cools, shared, reserved} {
		if _, err := policies.Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.servers[0].startManager()
	c.servers[1].startManager()
	c.servers[2].settled()
	harness.Eventually(t, "the controllers know the policies", func() error {
		list, err := policies.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, policy := range list.Items {
			if policy.Status.ObservedGeneration != policy.Generation {
				return fmt.Errorf("not %s", policy.Name)
			}
		}
		return nil
	})
	for _, s := range c.servers {
		o := s.observe(epoch)
		o.cools = func(l *life) bool {
			return slices.ContainsFunc(pools, func(p pool) bool { return p.name == l.parent && p.cools })
		}
		w.observers = append(w.observers, o)
	}

	const clients = 16
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range clients {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			client := &client{workload: w, id: i, server: c.servers[i%3], observer: w.observers[i%3], namespace: tenants[i/3%3], random: random}
			for w.operations.Load() < int64(operations) && !t.Failed() {
				client.step()
			}
		})
	}
	withdrawn := 0
	for random := rand.New(rand.NewPCG(seed, clients)); w.operations.Load() < int64(operations) && !t.Failed() || withdrawn%2 != 0; {
		consent := `{"spec":{"sharedWith":null}}`
		if withdrawn++; withdrawn%2 == 0 {
			consent = `{"spec":{"sharedWith":{"all":true}}}`
		}
		if _, err := policies.Patch(t.Context(), shared.Name, types.MergePatchType, []byte(consent), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
		// Mostly it is shared.
		time.Sleep(time.Duration(20+random.IntN(100)) * time.Millisecond * time.Duration(1+4*(1-withdrawn%2)))
	}
	wg.Wait()
	t.Logf("the consent was withdrawn or given %d times, and %d children of other namespaces were allocated", withdrawn, w.foreign.Load())
	if w.foreign.Load() == 0 {
		t.Error("No child of another namespace was allocated")
	}
	took := time.Since(begun)

	// All remaining objects are Allocated. The others were given up.
	all := c.servers[0].settled()
	if err := all.check(); err != nil {
		t.Error(err)
	}
	c.audited()
	for _, o := range w.observers {
		if !o.wait(harness.Patience, func() bool { return o.agrees(all) }) {
			t.Error("What was observed is not what there is")
		}
		observed(t, o)
	}
	history := w.merge()
	count := map[string]int{}
	for _, op := range history {
		count[op.Input.(input).action]++
	}
	t.Logf("%d operations in %v, of which in the history: %v, %d children given up, %d got back what they had",
		w.operations.Load(), took.Round(time.Millisecond), count, w.givenUp.Load(), w.gotBack.Load())
	if w.gotBack.Load() == 0 {
		t.Error("No child got back what it had")
	}

	begun = time.Now()
	result, info := porcupine.CheckOperationsVerbose(setModel, history, harness.Patience)
	t.Logf("checked in %v", time.Since(begun).Round(time.Millisecond))
	if result != porcupine.Ok {
		t.Errorf("The history is not linearizable: %s", result)
		if file, err := os.CreateTemp("", "linearizability-*.html"); err == nil {
			defer file.Close()
			t.Logf("It can be looked at in %s: %v", file.Name(), porcupine.Visualize(setModel, info, file))
		}
	}
}

// input is the operation of a client: allocate or release a prefix of a parent, a refused bind, or a read of all
// allocations.
type input struct {
	action, parent string
	prefix         netip.Prefix
}

const (
	allocate = "allocate"
	release  = "release"
	refused  = "be refused"
	read     = "read"
)

// setModel is the model of a parent: a set of prefixes that do not overlap.
var setModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byParent := map[string][]porcupine.Operation{}
		for _, op := range history {
			parent := op.Input.(input).parent
			byParent[parent] = append(byParent[parent], op)
		}
		var parts [][]porcupine.Operation
		for _, pool := range pools {
			parts = append(parts, byParent[pool.name])
		}
		return parts
	},
	Init: func() any { return []netip.Prefix(nil) },
	// The state is sorted and immutable.
	Step: func(state, in, out any) (bool, any) {
		held, op := state.([]netip.Prefix), in.(input)
		at, found := slices.BinarySearchFunc(held, op.prefix, netip.Prefix.Compare)
		switch op.action {
		case allocate:
			if slices.ContainsFunc(held, op.prefix.Overlaps) {
				return false, held
			}
			return true, slices.Insert(slices.Clone(held), at, op.prefix)
		case release:
			if !found {
				return false, held
			}
			return true, slices.Delete(slices.Clone(held), at, at+1)
		case refused:
			// The error names the holder. Of a holder of another namespace it tells only what of it was asked for.
			holder := out.(heldBy)
			return holder.prefix.Overlaps(op.prefix) && (slices.Contains(held, holder.prefix) || holder.foreign && slices.ContainsFunc(held, holder.prefix.Overlaps)), held
		default:
			return slices.Equal(held, out.([]netip.Prefix)), held
		}
	},
	Equal: func(a, b any) bool { return slices.Equal(a.([]netip.Prefix), b.([]netip.Prefix)) },
	DescribeOperation: func(in, out any) string {
		op, ok := in.(input)
		if !ok {
			return ""
		}
		if out == nil {
			return fmt.Sprintf("%s %s", op.action, op.prefix)
		}
		return fmt.Sprintf("%s %s: %v", op.action, op.prefix, out)
	},
}

// workload is the work of the clients.
type workload struct {
	*cluster
	epoch               time.Time
	observers           []*observer
	operations, givenUp atomic.Int64
	// gotBack counts the children that got back what an earlier one of their name had, and foreign those that have a parent
	// of another namespace.
	gotBack, foreign atomic.Int64
	names            atomic.Int64

	mu sync.Mutex
	// calls is indexed by the uid of the child, or of the allocation if it has no child.
	calls map[types.UID]*calls
	// others contains the operations that are neither an allocation nor a release.
	others []porcupine.Operation
}

// calls contains the times at which a client requested an allocation and its release, and the client.
type calls struct {
	client               int
	allocated, releasing time.Duration
}

// client is one of the concurrent clients.
type client struct {
	*workload
	id        int
	server    *server
	observer  *observer
	namespace string
	random    *rand.Rand
	holds     []held
}

func (c *client) prefixes() ipamclient.PrefixInterface {
	return c.server.client.IpamV1alpha1().Prefixes(c.namespace)
}

func (c *client) allocations() ipamclient.PrefixAllocationInterface {
	return c.server.client.IpamV1alpha1().PrefixAllocations(c.namespace)
}

// home returns the namespace of the pools as it is written in objects of the client.
func (c *client) home() string {
	if c.namespace == namespace {
		return ""
	}
	return namespace
}

// held is an object that a client holds: a child, or an allocation without a child.
type held struct {
	uid   types.UID
	name  string
	child bool
	// chosen is set if the scheduler chooses the prefix.
	chosen bool
}

func (c *client) now() time.Duration { return time.Since(c.epoch) }

// step does one random operation.
func (c *client) step() {
	switch n := c.random.IntN(100); {
	case n < 4:
		c.read()
	case len(c.holds) > 0 && (n < 44 || len(c.holds) >= 5):
		i := c.random.IntN(len(c.holds))
		h := c.holds[i]
		c.holds = slices.Delete(c.holds, i, i+1)
		if c.random.IntN(3) > 0 && c.cools(h) {
			c.comeBack(h)
			return
		}
		c.release(h)
	case n < 80:
		c.createChild()
	default:
		c.createAllocation()
	}
}

// comeBack deletes a child whose space cools down, and creates it again at once. It must get what it had, if that is in time.
func (c *client) comeBack(h held) {
	had, err := c.prefixes().Get(c.Context(), h.name, metav1.GetOptions{})
	if err != nil {
		c.Errorf("Reading %s: %v", h.name, err)
		return
	}
	c.operations.Add(1)
	began := c.now()
	c.mu.Lock()
	c.calls[h.uid].releasing = began
	c.mu.Unlock()
	if err := c.prefixes().Delete(c.Context(), h.name, metav1.DeleteOptions{}); err != nil {
		c.Errorf("Deleting %s: %v", h.name, err)
		return
	}
	if !c.observer.wait(harness.Patience, func() bool { l := c.observer.lives[h.uid]; return l != nil && l.gone != 0 }) {
		c.Errorf("%s is not gone in time", h.name)
		return
	}
	p := harness.Child(h.name, had.Spec.ParentRef.Name, harness.Length(had.Spec.PrefixLength))
	if c.random.IntN(2) == 0 || had.Spec.PrefixLength == 0 {
		p = harness.Child(h.name, had.Spec.ParentRef.Name, harness.Exactly(had.Spec.Prefix))
	}
	p.Spec.ParentNamespace = c.home()
	created, err := c.prefixes().Create(c.Context(), p, metav1.CreateOptions{})
	if err != nil {
		c.Errorf("Creating a child again: %v", err)
		return
	}
	h.uid = created.UID
	c.mu.Lock()
	c.calls[h.uid] = &calls{client: c.id, allocated: began}
	c.mu.Unlock()
	// If that was not in time, somebody else may have it.
	parent, taken := had.Spec.ParentRef.Name, false
	if !c.observer.wait(harness.Patience, func() bool {
		if l := c.observer.lives[h.uid]; l != nil && l.allocated != 0 {
			return true
		}
		taken = c.observer.isHeldByAnother(parent, netip.MustParsePrefix(had.Spec.Prefix), had.UID, h.uid)
		return taken
	}) {
		c.Errorf("%s is not allocated again in time, and nobody else has %s of %s", h.name, had.Spec.Prefix, parent)
		return
	}
	if taken {
		if c.now()-began < coolDown {
			c.Errorf("%s had %s of %s, and somebody else has it after %v", h.name, had.Spec.Prefix, parent, c.now()-began)
		}
		c.givenUp.Add(1)
		c.release(h)
		return
	}
	c.observer.mu.Lock()
	got := *c.observer.lives[h.uid]
	c.observer.mu.Unlock()
	switch {
	case got.prefix == had.Spec.Prefix:
		c.gotBack.Add(1)
	case got.allocated-began < coolDown:
		c.Errorf("%s had %s, and got %s after %v", h.name, had.Spec.Prefix, got.prefix, got.allocated-began)
	}
	c.holds = append(c.holds, h)
}

// cools reports whether a held object is a child whose space cools down.
func (c *client) cools(h held) bool {
	c.observer.mu.Lock()
	defer c.observer.mu.Unlock()
	l := c.observer.lives[h.uid]
	return h.child && l != nil && poolOf(l.parent).cools
}

// createChild creates a child for the controllers to allocate, by length or exactly, from a selected or a named
// parent.
func (c *client) createChild() {
	pool := pools[c.random.IntN(len(pools))]
	name := fmt.Sprintf("child-%d", c.names.Add(1))
	prefix := c.anyOf(pool.prefix, pool.shortest, pool.longest)
	var p *v1alpha1.Prefix
	switch c.random.IntN(4) {
	case 0:
		p = harness.Child(name, pool.name, harness.Exactly(prefix.String()))
	case 1:
		p = harness.Child(name, "", harness.Length(int32(prefix.Bits())))
		p.Spec.IPFamily, p.Spec.ParentRef = pool.family, nil
		p.Spec.ParentSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"family": string(pool.family)}}
	default:
		p = harness.Child(name, pool.name, harness.Length(int32(prefix.Bits())))
	}
	p.Spec.ParentNamespace = c.home()
	called := c.now()
	created, err := c.prefixes().Create(c.Context(), p, metav1.CreateOptions{})
	if err != nil {
		c.Errorf("Creating a child: %v", err)
		return
	}
	c.await(called, held{created.UID, name, true, created.Spec.Prefix == ""})
}

// createAllocation creates an allocation and binds it to a prefix that may be in use. The scheduler may bind it at
// the same time.
func (c *client) createAllocation() {
	pool := pools[c.random.IntN(len(pools))]
	name := fmt.Sprintf("allocation-%d", c.names.Add(1))
	prefix := c.anyOf(pool.prefix, pool.shortest, pool.longest)
	called := c.now()
	created, err := c.allocations().Create(c.Context(), &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.PrefixAllocationSpec{
			PrefixLength:    int32(prefix.Bits()),
			PrefixRef:       &v1alpha1.LocalObjectReference{Name: pool.name},
			PrefixNamespace: c.home(),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		c.Errorf("Creating an allocation: %v", err)
		return
	}
	asked := c.now()
	_, err = c.allocations().Bind(c.Context(), name, &v1alpha1.PrefixAllocationBinding{
		Metadata:  v1alpha1.BindingMeta{Namespace: c.namespace, Name: name},
		Prefix:    prefix.String(),
		PrefixRef: v1alpha1.BindingReference{Name: pool.name, Namespace: c.home()},
	}, metav1.CreateOptions{})
	if holder, ok := holderIn(err); ok {
		c.add(porcupine.Operation{
			ClientId: c.id,
			Input:    input{refused, pool.name, prefix},
			Call:     int64(asked),
			Output:   holder,
			Return:   int64(c.now()),
		})
	} else if withdrawn := apierrors.IsForbidden(err) && c.home() != ""; err != nil && !apierrors.IsConflict(err) && !withdrawn {
		c.Errorf("Binding: %v", err)
	}
	c.await(called, held{created.UID, name, false, false})
}

// heldBy is what a refusal tells about the holder of a prefix.
type heldBy struct {
	prefix netip.Prefix
	// foreign is set if the holder has no name, because it is in another namespace.
	foreign bool
}

// holderIn returns the holder in an error.
func holderIn(err error) (heldBy, bool) {
	holder := heldBy{foreign: true}
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return holder, false
	}
	for _, cause := range status.Status().Details.Causes {
		switch cause.Type {
		case v1alpha1.CauseTypeHolderPrefix:
			if holder.prefix, err = netip.ParsePrefix(cause.Message); err != nil {
				return holder, false
			}
		case v1alpha1.CauseTypeHolderName:
			holder.foreign = false
		}
	}
	return holder, holder.prefix.IsValid()
}

// await waits until an object is Allocated. It gives up if that takes long, because there may be no space.
func (c *client) await(called time.Duration, h held) {
	c.operations.Add(1)
	c.mu.Lock()
	c.calls[h.uid] = &calls{client: c.id, allocated: called}
	c.mu.Unlock()
	if c.observer.waitAllocated(h.uid, time.Duration(500+c.random.IntN(1500))*time.Millisecond) {
		c.holds = append(c.holds, h)
		if c.home() != "" {
			c.foreign.Add(1)
		}
		c.observer.mu.Lock()
		got := *c.observer.lives[h.uid]
		c.observer.mu.Unlock()
		if reserved := poolOf(got.parent).reserved; h.chosen && reserved != "" && netip.MustParsePrefix(got.prefix).Overlaps(netip.MustParsePrefix(reserved)) {
			c.Errorf("%s got %s, which is reserved", h.name, got.prefix)
		}
		return
	}
	c.givenUp.Add(1)
	c.release(h)
}

// release deletes an object, and waits until it is gone.
func (c *client) release(h held) {
	c.operations.Add(1)
	c.mu.Lock()
	c.calls[h.uid].releasing = c.now()
	c.mu.Unlock()
	var err error
	if h.child {
		err = c.prefixes().Delete(c.Context(), h.name, metav1.DeleteOptions{})
	} else {
		err = c.allocations().Delete(c.Context(), h.name, metav1.DeleteOptions{})
	}
	if err != nil {
		c.Errorf("Deleting %s: %v", h.name, err)
	} else if !c.observer.waitGone(h.uid) {
		// That includes its space, if that cools down.
		c.Errorf("%s is not gone in time", h.name)
	}
}

// read reads all allocations.
func (c *client) read() {
	c.operations.Add(1)
	called := c.now()
	list, err := c.server.client.IpamV1alpha1().PrefixAllocations(metav1.NamespaceAll).List(c.Context(), metav1.ListOptions{})
	if err != nil {
		c.Errorf("Listing: %v", err)
		return
	}
	returned := c.now()
	byParent := map[string][]netip.Prefix{}
	for _, a := range list.Items {
		if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
			byParent[a.Spec.PrefixRef.Name] = append(byParent[a.Spec.PrefixRef.Name], netip.MustParsePrefix(a.Status.Prefix))
		}
	}
	for _, pool := range pools {
		held := byParent[pool.name]
		slices.SortFunc(held, netip.Prefix.Compare)
		c.add(porcupine.Operation{
			ClientId: c.id,
			Input:    input{action: read, parent: pool.name},
			Call:     int64(called),
			Output:   held,
			Return:   int64(returned),
		})
	}
}

func (w *workload) add(op porcupine.Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.others = append(w.others, op)
}

// anyOf returns a random prefix inside whole, with a length in the given range.
func (c *client) anyOf(whole string, shortest, longest int) netip.Prefix {
	prefix := netip.MustParsePrefix(whole)
	bits := shortest + c.random.IntN(longest-shortest+1)
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < bits; bit++ {
		if c.random.IntN(2) == 0 {
			bytes[bit/8] |= 1 << (7 - bit%8)
		}
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(addr, bits)
}

// agrees reports whether the observer has the same state as all.
func (o *observer) agrees(all everything) bool {
	there := map[types.UID]bool{}
	for _, p := range all.prefixes {
		there[p.UID] = true
	}
	for _, a := range all.allocations {
		there[a.UID] = true
	}
	for uid := range there {
		if l := o.lives[uid]; l == nil || l.allocated == 0 {
			return false
		}
	}
	for uid, l := range o.lives {
		if l.gone == 0 && !there[uid] {
			return false
		}
	}
	return true
}

// merge builds the history. An allocation lasts from the request of the client until any client first sees it. A
// release lasts from its request until it is first seen to be complete. If the space cools down, its release begins after
// that. What a child takes back was not released in between. The two managers may allocate twice for a child. Then what it
// does not use is released by itself.
func (w *workload) merge() []porcupine.Operation {
	seen := w.observers[0].snapshot()
	for _, o := range w.observers[1:] {
		for uid, l := range o.snapshot() {
			first, ok := seen[uid]
			if !ok {
				seen[uid] = l
				continue
			}
			first.allocated, first.gone = earlier(first.allocated, l.allocated), earlier(first.gone, l.gone)
			first.parent, first.prefix = cmp.Or(first.parent, l.parent), cmp.Or(first.prefix, l.prefix)
			if l.coolingUntil.After(first.coolingUntil) {
				first.coolingUntil = l.coolingUntil
			}
			seen[uid] = first
		}
	}
	whole := map[string]netip.Prefix{}
	for _, pool := range pools {
		whole[pool.name] = netip.MustParsePrefix(pool.prefix)
	}
	history := slices.Clone(w.others)
	for uid, l := range seen {
		if l.kind != v1alpha1.PrefixAllocationKind || l.allocated == 0 {
			continue
		}
		prefix := netip.MustParsePrefix(l.prefix)
		if !strictlyInside(prefix, whole[l.parent]) {
			w.Errorf("%s got %s, which is not inside of %s", l.name, prefix, l.parent)
		}
		called, ended := w.calls[cmp.Or(l.owner, uid)], w.calls[cmp.Or(l.lastOwner, uid)]
		if called == nil {
			w.Errorf("%s was allocated to nobody", l.name)
			continue
		}
		history = append(history, porcupine.Operation{
			ClientId: called.client,
			Input:    input{allocate, l.parent, prefix},
			Call:     int64(called.allocated),
			Return:   int64(l.allocated),
		})
		child := seen[l.lastOwner]
		unused := child.allocated != 0 && (child.parent != l.parent || child.prefix != l.prefix)
		switch {
		case l.gone != 0 && (ended == nil || ended.releasing == 0 && !unused):
			w.Errorf("%s is gone, and nobody wanted that", l.name)
		case l.gone != 0:
			// Space that cools down cannot be released earlier.
			releasing := ended.releasing
			if unused {
				releasing = ended.allocated
			}
			if !l.coolingUntil.IsZero() {
				releasing = max(releasing, l.coolingUntil.Sub(w.epoch))
			}
			history = append(history, porcupine.Operation{
				ClientId: ended.client,
				Input:    input{release, l.parent, prefix},
				Call:     int64(releasing),
				Return:   int64(l.gone),
			})
		}
	}
	return history
}

// earlier returns the earlier of two times. 0 means never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}
