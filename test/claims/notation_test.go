// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// The state of a child in a store of another server.
const (
	unasked   = "no allocation"
	waiting   = "allocation waits"
	granted   = "allocation is Allocated, child is not"
	failed    = "allocation failed without a condition"
	completed = "child is Allocated"
)

var states = []string{unasked, waiting, granted, failed, completed}

// family is a parent and its child in a store that another server of the group has written. It accepts many
// notations, and may have stopped at any time.
type family struct {
	name string
	// parent and child are the notations of their prefixes. The child requests its prefix exactly, or by its
	// length.
	parent, child string
	exact         bool
	// byRef and bySelector determine how the child refers to its parent.
	byRef, bySelector bool
	state             string
	// phase is the phase of the objects that are neither Allocated nor Failed.
	phase string
	// orphan is true if the parent does not exist.
	orphan bool
}

// servable reports whether the child must be Allocated at the end.
func (f family) servable() bool {
	parent, child := must(cidr.ParseStored(f.parent)), must(cidr.ParseStored(f.child))
	switch {
	case f.state == granted || f.state == completed:
		return true
	case f.orphan:
		return false
	case f.exact:
		return cidr.StrictlyInside(child, parent)
	}
	// A request for a length of IPv4-mapped IPv6 is a request for IPv6. An IPv4 range contains no such prefix.
	written := netip.MustParsePrefix(f.child)
	return cidr.FamilyOf(written) == cidr.FamilyOf(parent) && written.Bits() > parent.Bits()
}

// addTo adds the objects to a world, in the JSON form of the other server.
func (f family) addTo(w world) {
	written := netip.MustParsePrefix(f.child)
	ipFamily := v1alpha1.IPFamily(cidr.FamilyOf(written))
	parent := &v1alpha1.Prefix{
		ObjectMeta: metaOf(here, f.name),
		Spec:       v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPFamily(cidr.FamilyOf(netip.MustParsePrefix(f.parent))), Prefix: f.parent},
		Status:     v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated},
	}
	parent.Labels = map[string]string{"family": f.name}
	parent.Finalizers = []string{v1alpha1.PrefixFinalizer}

	child := &v1alpha1.Prefix{
		ObjectMeta: metaOf(here, f.name+"-child"),
		Spec:       v1alpha1.PrefixSpec{IPFamily: ipFamily},
		Status:     v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhase(f.phase)},
	}
	child.Finalizers = []string{v1alpha1.PrefixFinalizer}
	if f.byRef {
		child.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: f.name}
	}
	if f.bySelector {
		child.Spec.ParentSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"family": f.name}}
	}
	allocation := &v1alpha1.PrefixAllocation{
		ObjectMeta: metaOf(here, f.name+"-child-x7k2p"),
		Spec: v1alpha1.PrefixAllocationSpec{
			IPFamily: ipFamily, PrefixRef: child.Spec.ParentRef.DeepCopy(), PrefixSelector: child.Spec.ParentSelector.DeepCopy(),
		},
		Status: v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhase(f.phase)},
	}
	if f.exact {
		child.Spec.Prefix, allocation.Spec.Prefix = f.child, f.child
	} else {
		child.Spec.PrefixLength, allocation.Spec.PrefixLength = int32(written.Bits()), int32(written.Bits())
	}
	allocation.Labels = map[string]string{v1alpha1.RequesterUIDLabel: string(child.UID)}
	allocation.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(child, schema.GroupVersion(v1alpha1.GroupVersion).WithKind("Prefix"))}
	switch f.state {
	case failed:
		allocation.Status.Phase = v1alpha1.PrefixAllocationPhaseFailed
	case granted, completed:
		allocation.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: f.name}
		allocation.Status = v1alpha1.PrefixAllocationStatus{Phase: v1alpha1.PrefixAllocationPhaseAllocated, Prefix: f.child}
		parent.Status.Used = []string{f.child}
	}
	if f.state == completed {
		child.Spec.Prefix, child.Spec.ParentRef = f.child, &v1alpha1.LocalObjectReference{Name: f.name}
		child.Status.Phase = v1alpha1.PrefixPhaseAllocated
	}
	if !f.orphan {
		w.setPrefix(parent)
	}
	w.setPrefix(child)
	if f.state != unasked {
		w.setAllocation(allocation)
	}
}

// randomNotation returns a notation of a prefix that the other server accepts: with host bits, or as IPv4-mapped
// IPv6.
func randomNotation(r *rand.Rand, prefix netip.Prefix) string {
	if prefix.Addr().Is4() && r.IntN(2) == 0 {
		prefix = cidr.Map(prefix)
	}
	addr := prefix.Addr().AsSlice()
	if r.IntN(2) == 0 {
		for bit := prefix.Bits(); bit < len(addr)*8; bit++ {
			addr[bit/8] |= byte(r.IntN(2)) << (7 - bit%8)
		}
	}
	withHostBits, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(withHostBits, prefix.Bits()).String()
}

// randomFamily returns a random family.
func randomFamily(r *rand.Rand, n int) family {
	parent := netip.MustParsePrefix([]string{"10.128.0.0/9", "2001:db8::/32"}[r.IntN(2)])
	parent = netip.MustParsePrefix(nth(parent.String(), parent.Bits()+1+r.IntN(10), r.IntN(2)))
	inside := parent
	if r.IntN(10) == 0 {
		inside = netip.MustParsePrefix([]string{"172.16.0.0/12", "fd00::/16"}[r.IntN(2)])
	}
	bits := min(inside.Bits()+1+r.IntN(12), inside.Addr().BitLen())
	child := netip.MustParsePrefix(nth(inside.String(), bits, r.IntN(3)))
	f := family{
		name:   fmt.Sprintf("f%d", n),
		parent: randomNotation(r, parent),
		child:  randomNotation(r, child),
		exact:  r.IntN(2) == 0,
		state:  states[r.IntN(len(states))],
		phase:  []string{"", "Pending", "Pending", "Unknown"}[r.IntN(4)],
	}
	f.byRef = r.IntN(2) == 0
	f.bySelector = !f.byRef || r.IntN(3) == 0
	if written := netip.MustParsePrefix(f.parent); !f.exact && inside == parent && written.Addr().BitLen() != netip.MustParsePrefix(f.child).Addr().BitLen() {
		// A length belongs to the family of the notation of the parent.
		f.child = cidr.Map(child).String()
		if written.Addr().Is4() {
			f.child = child.String()
		}
	}
	if f.state == granted || f.state == completed {
		if !cidr.StrictlyInside(must(cidr.ParseStored(f.child)), parent) {
			f.state = waiting
		}
	} else {
		f.orphan = r.IntN(15) == 0
	}
	return f
}

// namedFamilies are families that once remained stuck.
var namedFamilies = []family{
	{name: "host-bits-unasked", parent: "10.6.0.0/16", child: "10.6.0.5/24", exact: true, byRef: true, state: unasked, phase: "Pending"},
	{name: "host-bits-waiting", parent: "10.7.0.0/16", child: "10.7.0.5/24", exact: true, byRef: true, state: waiting, phase: "Pending"},
	{name: "host-bits-granted", parent: "10.8.0.0/16", child: "10.8.0.5/24", exact: true, byRef: true, state: granted, phase: "Pending"},
	{name: "host-bits-granted-length", parent: "10.8.0.0/16", child: "10.8.0.5/24", bySelector: true, state: granted, phase: "Pending"},
	{name: "failed-too-small", parent: "10.8.0.0/24", child: "10.8.0.0/16", byRef: true, state: failed, phase: "Pending"},
	{name: "failed-orphan", parent: "10.8.0.0/24", child: "10.8.0.0/28", byRef: true, state: failed, phase: "Pending", orphan: true},
	{name: "failed-for-no-reason", parent: "10.8.0.0/24", child: "10.8.0.0/28", byRef: true, state: failed, phase: "Pending"},
	{name: "mapped-unasked", parent: "::ffff:10.9.0.0/112", child: "::ffff:10.9.4.0/120", exact: true, byRef: true, state: unasked, phase: "Pending"},
	{name: "mapped-length", parent: "::ffff:10.9.0.0/112", child: "::ffff:10.9.4.0/120", byRef: true, state: unasked, phase: "Pending"},
	{name: "mapped-length-waiting", parent: "::ffff:10.9.0.0/112", child: "::ffff:10.9.4.0/120", bySelector: true, state: waiting, phase: ""},
	{name: "mapped-granted", parent: "::ffff:10.9.0.0/112", child: "::ffff:10.9.4.0/120", exact: true, byRef: true, state: granted, phase: "Pending"},
	{name: "mapped-granted-length", parent: "::ffff:10.9.0.0/112", child: "::ffff:10.9.4.0/120", byRef: true, state: granted, phase: "Pending"},
	{name: "mapped-child-of-ipv4", parent: "10.9.0.0/16", child: "::ffff:10.9.4.0/120", exact: true, byRef: true, state: waiting, phase: "Pending"},
	{name: "all-that-is-mapped", parent: "::ffff:0.0.0.0/96", child: "::ffff:10.9.4.9/120", exact: true, byRef: true, state: unasked, phase: ""},
	{name: "around-what-is-mapped", parent: "::ffff:10.0.0.1/64", child: "::ffff:10.9.4.9/120", exact: true, byRef: true, state: unasked, phase: ""},
	{name: "unknown-phase", parent: "10.10.0.0/16", child: "10.10.0.0/24", byRef: true, state: waiting, phase: "Unknown"},
}

// longestBackoff is the maximum delay of the controllers before they retry a write, in a test of this size.
const longestBackoff = 10 * time.Second

// maxWrites is the maximum number of writes of one object: it is created, and it is bound or gets a condition. Each
// of these may conflict once.
const maxWrites = 4

// TestForeignNotations takes over a store with every notation in every field, in all states. In the end each child
// is Allocated or has a reason, the server has refused no write of the controllers, and there are no more writes.
func TestForeignNotations(t *testing.T) {
	t.Parallel()
	w := world{}
	families := namedFamilies
	r := rand.New(rand.NewPCG(21, 16))
	for n := range 1000 {
		families = append(families, randomFamily(r, n))
	}
	for _, f := range families {
		f.addTo(w)
	}
	stored := w
	w = w.foreign()
	dir := t.TempDir()
	s, stop := startEtcd(t, dir)
	s.put(t, w)
	stop()
	log := newAuditLog(t)
	instance := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"), harness.Customize(log.enable))
	client := instance.Client
	prefixes := client.Prefixes(here)

	// An informer is cheaper than repeated lists.
	factory := externalversions.NewSharedInformerFactoryWithOptions(versioned.NewForConfigOrDie(instance.Config), 0, externalversions.WithNamespace(here))
	prefixInformer, allocationInformer := factory.Ipam().V1alpha1().Prefixes(), factory.Ipam().V1alpha1().PrefixAllocations()
	seen, seenAllocations := prefixInformer.Lister().Prefixes(here), allocationInformer.Lister().PrefixAllocations(here)
	ctx, stopInformers := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer stopInformers()
	factory.StartWithContext(ctx)
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("%s were not listed", kind)
		}
	}
	says := func(conditions []metav1.Condition) bool {
		c := meta.FindStatusCondition(conditions, v1alpha1.ConditionAllocated)
		return c != nil && c.Status == metav1.ConditionFalse && c.Message != "" && c.Reason != ""
	}
	// wrong describes the families that are not in their expected state.
	wrong := func() (all []string) {
		for _, f := range families {
			child, err := seen.Get(f.name + "-child")
			if err != nil {
				t.Fatal(err)
			}
			allocated := child.Status.Phase == v1alpha1.PrefixPhaseAllocated
			switch {
			case allocated && !f.servable():
				all = append(all, fmt.Sprintf("%+v is Allocated", f))
			case !allocated && f.servable():
				all = append(all, fmt.Sprintf("%+v is not Allocated: %+v", f, child.Status))
			case !allocated && !says(child.Status.Conditions):
				all = append(all, fmt.Sprintf("%+v says nothing: %+v", f, child.Status))
			case allocated && f.exact && !cidr.Equal(child.Spec.Prefix, f.child):
				all = append(all, fmt.Sprintf("%+v got %s", f, child.Spec.Prefix))
			case f.state == granted && !cidr.Equal(child.Spec.Prefix, f.child):
				all = append(all, fmt.Sprintf("%+v got %s", f, child.Spec.Prefix))
			}
			if f.orphan {
				continue
			}
			root, err := seen.Get(f.name)
			if err != nil {
				t.Fatal(err)
			}
			if root.Status.Phase != v1alpha1.PrefixPhaseAllocated {
				all = append(all, fmt.Sprintf("the root of %+v is %s", f, root.Status.Phase))
			}
			if allocated && (len(root.Status.Used) != 1 || !cidr.Equal(root.Status.Used[0], child.Spec.Prefix) ||
				root.Status.Usage == nil || root.Status.Usage.Allocations != 1) {
				all = append(all, fmt.Sprintf("the root of %+v does not count it: %+v", f, root.Status))
			}
		}
		allocations, err := seenAllocations.List(labels.Everything())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range allocations {
			if a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated && !says(a.Status.Conditions) && a.Status.Phase != v1alpha1.PrefixAllocationPhaseFailed {
				all = append(all, fmt.Sprintf("PrefixAllocation %s says nothing: %+v", a.Name, a.Status))
			}
		}
		return all
	}
	harness.Eventually(t, "all are settled", func() error {
		all := wrong()
		return harness.Unless(len(all) == 0, "%d are wrong:\n%s", len(all), strings.Join(all[:min(len(all), 15)], "\n"))
	})

	// Nothing is retried, whether it succeeds or not. The pause is longer than any delay before a retry.
	settled := len(log.writes(t))
	harness.Eventually(t, "the writes end", func() error {
		all := log.writes(t)
		return harness.Unless(time.Since(all[len(all)-1].StageTimestamp.Time) > longestBackoff+time.Second, "the last ones: %v", all[max(0, len(all)-10):])
	})
	total, late := map[string]int{}, map[string]int{}
	for i, write := range log.writes(t) {
		object := write.ObjectRef.Resource + " " + write.ObjectRef.Name
		// A conflict or a missing object only means that a cache was stale.
		if code := write.ResponseStatus.Code; code >= 400 && code != http.StatusConflict && code != http.StatusNotFound {
			t.Errorf("%s of %s %s was refused: %d", write.Verb, object, write.ObjectRef.Subresource, code)
		}
		if total[object]++; i >= settled {
			late[object]++
		}
	}
	t.Logf("%d writes, %d of them after all was settled", len(log.writes(t)), len(log.writes(t))-settled)
	for object, count := range total {
		if count > maxWrites || late[object] > 1 {
			t.Errorf("%s was written %d times, %d of them after it was settled", object, count, late[object])
		}
	}
	expect(t, auditOf(t, connect(t, instance.EtcdEndpoints).open(t)))

	// Stored notations remain, and the objects can be updated.
	for _, f := range families {
		is, err := seen.Get(f.name + "-child")
		if err != nil {
			t.Fatal(err)
		}
		if was := stored.prefix(here, f.name+"-child"); was.Spec.Prefix != "" && was.Spec.Prefix != is.Spec.Prefix {
			t.Errorf("%+v has %s now", f, is.Spec.Prefix)
		}
	}
	all, err := seen.List(labels.Everything())
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(all))
	for _, p := range all {
		names = append(names, p.Name)
	}
	each(t, names, func(ctx context.Context, name string) error {
		p, err := prefixes.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"seen":"yes"}}}`), metav1.PatchOptions{})
		if err != nil {
			return err
		}
		_, err = prefixes.UpdateStatus(ctx, p, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			return nil
		}
		return err
	})
	// They can be deleted, parents first.
	each(t, names, func(ctx context.Context, name string) error {
		return prefixes.Delete(ctx, name, metav1.DeleteOptions{})
	})
	left := 0
	harness.Eventually(t, "nothing is left", func() error {
		left = len(prefixInformer.Informer().GetStore().ListKeys()) + len(allocationInformer.Informer().GetStore().ListKeys())
		return harness.Unless(left == 0, "%d Prefixes or PrefixAllocations are left", left)
	})
	if claims := connect(t, instance.EtcdEndpoints).countClaims(t); claims != 0 {
		t.Errorf("%d claims are left", claims)
	}
}

// each calls do for many objects, several at a time.
func each(t *testing.T, names []string, do func(ctx context.Context, name string) error) {
	t.Helper()
	harness.Each(len(names), 16, func(i int) {
		if err := do(t.Context(), names[i]); err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
	})
}

// auditLog is the audit log of all writes to a server.
type auditLog struct {
	path, policy string
}

func newAuditLog(t *testing.T) auditLog {
	t.Helper()
	log := auditLog{filepath.Join(t.TempDir(), "audit.log"), filepath.Join(t.TempDir(), "policy.yaml")}
	policy := `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
		{"level": "Metadata", "resources": [{"group": "ipam.ironcore.dev"}], "verbs": ["create", "update", "patch", "delete"]},
		{"level": "None"}]}`
	if err := os.WriteFile(log.policy, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	return log
}

// enable configures a server to write the log.
func (l auditLog) enable(options *apiserver.Options) {
	options.Recommended.Audit.PolicyFile, options.Recommended.Audit.LogOptions.Path = l.policy, l.path
}

// writes returns the events in the log.
func (l auditLog) writes(t *testing.T) []auditv1.Event {
	t.Helper()
	text, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	var all []auditv1.Event
	for line := range bytes.Lines(text) {
		var event auditv1.Event
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatal(err)
		}
		all = append(all, event)
	}
	if len(all) == 0 {
		t.Fatal("nothing was written at all, or the audit log does not work")
	}
	return all
}
