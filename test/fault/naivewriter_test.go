// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestNaiveWriterIsRefused has a client that allocates with patches of spec.prefixRef and of the status, based on
// an outdated view of the parents. It does not harm the allocations of the controllers.
func TestNaiveWriterIsRefused(t *testing.T) {
	t.Parallel()
	n := times(150, 3000)
	c := newCluster(t, 1, false)
	s := c.servers[0]
	s.startManager()
	o := s.observe(time.Now())
	labelled := harness.Root("shared", "10.0.0.0/16")
	labelled.Labels = map[string]string{"shared": "yes"}
	s.create(labelled)
	// In the view of the writer, nothing is allocated.
	const taken = 16
	for i := range taken {
		s.create(harness.Child(fmt.Sprintf("taken-%d", i), "shared", harness.Length(28)))
	}
	before := s.settled()

	w := &naiveWriter{server: s, random: newRand(1), written: map[string]string{}}
	each(n, 8, func(i int) {
		if t.Failed() {
			return
		}
		selector := &metav1.LabelSelector{MatchLabels: labelled.Labels}
		switch i % 3 {
		case 0:
			// An allocation of its own. The scheduler finds no parent for it. As soon as the writer has set one,
			// the scheduler and the writer compete.
			name := fmt.Sprintf("own-%d", i)
			nothing := &metav1.LabelSelector{MatchLabels: map[string]string{"shared": "no"}}
			w.create(name, v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, PrefixLength: 28, PrefixSelector: nothing})
			w.allocate(name, w.choose())
		case 1:
			// A prefix that is certainly in use. The scheduler knows that, and the writer does not.
			name := fmt.Sprintf("used-%d", i)
			prefix := before.prefixes[1+i%taken].Spec.Prefix
			w.create(name, v1alpha1.PrefixAllocationSpec{IPFamily: v1alpha1.IPv4, Prefix: prefix, PrefixSelector: selector})
			err := w.allocate(name, prefix)
			if holder, ok := holderIn(err); !ok || holder.prefix.String() != prefix {
				t.Errorf("Allocating %s, which is in use, is not refused with who holds it: %v", prefix, err)
			}
			if err := s.allocations().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		default:
			// An allocation that the controllers create for a child.
			p := harness.Child(fmt.Sprintf("child-%d", i), "", harness.Length(28))
			p.Spec.IPFamily, p.Spec.ParentRef, p.Spec.ParentSelector = v1alpha1.IPv4, nil, selector
			created, err := s.prefixes().Create(t.Context(), p, metav1.CreateOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			var name string
			if o.wait(harness.Patience, func() bool {
				for _, uid := range o.byOwner[created.UID] {
					name = o.lives[uid].name
				}
				return name != ""
			}) {
				w.allocate(name, w.choose())
			}
		}
	})

	all := s.settled()
	t.Logf("The naive writer allocated %d, and was refused %d times because of who held it, and %d times else", len(w.written), w.inUse.Load(), w.refused.Load())
	if int(w.inUse.Load()) < n/3 {
		t.Errorf("The naive writer was only refused %d times", w.inUse.Load())
	}
	for _, a := range all.allocations {
		if a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated {
			t.Errorf("%s is %s", a.Name, a.Status.Phase)
		}
		if prefix, ok := w.written[a.Name]; ok && a.Status.Prefix != prefix {
			t.Errorf("%s was written to have %s, and has %s", a.Name, prefix, a.Status.Prefix)
		}
	}
	if len(all.prefixes) != 1+taken+n/3 || len(all.allocations) != taken+2*n/3 {
		t.Errorf("There are %d prefixes and %d allocations", len(all.prefixes), len(all.allocations))
	}
	if err := all.check(); err != nil {
		t.Error(err)
	}
	c.audited()
	observed(t, o)
}

// naiveWriter allocates without checking what is free.
type naiveWriter struct {
	server *server

	mu     sync.Mutex
	random *rand.Rand
	// written contains the allocations that the server has acknowledged, by name.
	written        map[string]string
	inUse, refused atomic.Int64
}

func (w *naiveWriter) create(name string, spec v1alpha1.PrefixAllocationSpec) {
	_, err := w.server.allocations().Create(w.server.cluster.Context(), &v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec,
	}, metav1.CreateOptions{})
	if err != nil {
		w.server.cluster.Error(err)
	}
}

// choose returns a prefix at the beginning of the parent, which is free in the view of the writer.
func (w *naiveWriter) choose() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.random.IntN(times(256, 2048))
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n / 16), byte(n % 16 * 16)}), 28).String()
}

// allocate writes the reference and then the status. It returns the error of the latter.
func (w *naiveWriter) allocate(name, prefix string) error {
	c := w.server.cluster
	refused := func(err error) error {
		if _, ok := holderIn(err); ok {
			w.inUse.Add(1)
		} else if w.refused.Add(1); !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) {
			c.Errorf("Allocating %s to %s: %v", prefix, name, err)
		}
		return err
	}
	ref := `{"spec":{"prefixRef":{"name":"shared"}}}`
	if _, err := w.server.allocations().Patch(c.Context(), name, types.MergePatchType, []byte(ref), metav1.PatchOptions{}); err != nil {
		return refused(err)
	}
	status := fmt.Sprintf(`{"status":{"phase":"Allocated","prefix":%q}}`, prefix)
	result, err := w.server.allocations().Patch(c.Context(), name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	if err != nil {
		return refused(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written[name] = result.Status.Prefix
	return nil
}

// each calls a function for 0 to n-1, parallel at a time.
func each(n, parallel int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}
