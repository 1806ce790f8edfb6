// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"context"
	"encoding/json"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// maxUsed is the maximum number of entries in status.used.
const maxUsed = 1000

// usageTracker records what is allocated from each parent, according to the informer. It is safe for concurrent use, but
// compute may run only once at a time for each parent.
type usageTracker struct {
	mu sync.Mutex
	// byParent has an entry for each parent from which something is allocated.
	byParent map[types.NamespacedName]*parentUsage
}

// parentUsage is what is allocated from one parent.
type parentUsage struct {
	// active are the allocations that are in use, and cooling those whose space cools down.
	active, cooling sets.Set[types.UID]
	// changes holds the allocations that changed since the last compute. The prefix of those that hold nothing any more is
	// not valid.
	changes map[types.UID]change
	// ledger is the state of the last compute. used is the part that does not cool down. It is nil if none does.
	// Only compute uses them, so that events do not wait for them: with hundreds of thousands of allocations it can take a
	// second, the first time or if reserved space changes.
	ledger allocator.Ledger[types.UID]
	used   *allocator.Ledger[types.UID]
}

// change is what an allocation holds, and whether that cools down.
type change struct {
	prefix  netip.Prefix
	cooling bool
}

func newUsageTracker() *usageTracker {
	return &usageTracker{byParent: map[types.NamespacedName]*parentUsage{}}
}

// hold records that an allocation holds a prefix of a parent, instead of any other one of this parent. cooling is whether
// that cools down.
func (t *usageTracker) hold(parent types.NamespacedName, uid types.UID, prefix netip.Prefix, cooling bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.byParent[parent]
	if p == nil {
		p = &parentUsage{active: sets.Set[types.UID]{}, cooling: sets.Set[types.UID]{}}
		t.byParent[parent] = p
	}
	p.active.Delete(uid)
	p.cooling.Delete(uid)
	if cooling {
		p.cooling.Insert(uid)
	} else {
		p.active.Insert(uid)
	}
	p.change(uid, change{prefix, cooling})
}

// release records that an allocation holds nothing of a parent any more, if it did. It returns the number of allocations
// that are left, with those that cool down.
func (t *usageTracker) release(parent types.NamespacedName, uid types.UID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.byParent[parent]
	if p == nil {
		return 0
	}
	p.active.Delete(uid)
	p.cooling.Delete(uid)
	p.change(uid, change{})
	left := p.active.Len() + p.cooling.Len()
	if left == 0 {
		delete(t.byParent, parent)
	}
	return left
}

func (p *parentUsage) change(uid types.UID, to change) {
	if p.changes == nil {
		p.changes = map[types.UID]change{}
	}
	p.changes[uid] = to
}

// count returns the number of allocations from the parent, without those whose space cools down.
func (t *usageTracker) count(parent types.NamespacedName) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.byParent[parent]; p != nil {
		return p.active.Len()
	}
	return 0
}

// cools reports whether any space of the parent cools down.
func (t *usageTracker) cools(parent types.NamespacedName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.byParent[parent]
	return p != nil && p.cooling.Len() > 0
}

// catchUp brings the ledgers of a parent up to date, and returns that of all its allocations and that of those that do not
// cool down. They are the same if nothing cools down, and empty if nothing is allocated from the parent.
func (t *usageTracker) catchUp(parent types.NamespacedName) (all, used *allocator.Ledger[types.UID]) {
	t.mu.Lock()
	p := t.byParent[parent]
	if p == nil {
		p = &parentUsage{}
	}
	changes := p.changes
	p.changes = nil
	cools := p.cooling.Len() > 0
	var active []types.UID
	if cools && p.used == nil {
		active = p.active.UnsortedList()
	}
	t.mu.Unlock()
	for uid, to := range changes {
		if to.prefix.IsValid() {
			p.ledger.Hold(uid, to.prefix)
		} else {
			p.ledger.Release(uid)
		}
	}
	switch {
	case !cools:
		p.used = nil
		return &p.ledger, &p.ledger
	case p.used == nil:
		p.used = allocator.NewLedger[types.UID]()
		for _, uid := range active {
			if prefix, ok := p.ledger.Get(uid); ok {
				p.used.Hold(uid, prefix)
			}
		}
	default:
		for uid, to := range changes {
			if to.prefix.IsValid() && !to.cooling {
				p.used.Hold(uid, to.prefix)
			} else {
				p.used.Release(uid)
			}
		}
	}
	return &p.ledger, p.used
}

// maxReservedExcess is how many reserved prefixes a ledger may keep beyond the number of its allocations. Otherwise a
// policy for many parents could take much memory.
const maxReservedExcess = 64

// parentStatus is what the status of a parent says about what is allocated from it.
type parentStatus struct {
	used  []string
	usage v1alpha1.PrefixUsage
}

// compute returns what is allocated from the parent now. It returns an error if the prefix of the parent is not valid.
func (t *usageTracker) compute(parent types.NamespacedName, prefix netip.Prefix, reserved *allocator.Reserved) (parentStatus, error) {
	ledger, used := t.catchUp(parent)
	for _, each := range []*allocator.Ledger[types.UID]{ledger, used} {
		if pool := each.Pool(); pool == nil || pool.Prefix() != prefix {
			if err := each.SetPrefix(prefix); err != nil {
				return parentStatus{}, err
			}
		}
	}
	ledger.Reserve(reserved)
	pool, usedPool := ledger.Pool(), used.Pool()
	if pool.ReservedExcess() > maxReservedExcess {
		// The next compute reserves it again. That takes time in proportion to what is reserved.
		defer ledger.Reserve(nil)
	}

	var r parentStatus
	var cidrs []netip.Prefix
	if usedPool.Len() <= maxUsed {
		cidrs = slices.Collect(usedPool.All())
	} else {
		cidrs, r.usage.Truncated = usedPool.Summary(maxUsed)
	}
	for _, block := range cidrs {
		r.used = append(r.used, block.String())
	}

	total, inUse := pool.TotalAddresses(), usedPool.UsedAddresses()
	r.usage.Total, r.usage.Used = total.String(), inUse.String()
	if n := new(big.Int).Sub(pool.UsedAddresses(), inUse); n.Sign() > 0 {
		r.usage.Cooling = n.String()
	}
	r.usage.Free = pool.FreeAddresses().String()
	if n := pool.ReservedAddresses(); n.Sign() > 0 {
		r.usage.Reserved = n.String()
	}
	percent := new(big.Int).Mul(inUse, big.NewInt(100))
	r.usage.Percent = int32(percent.Quo(percent, total).Int64())
	r.usage.Allocations = int64(used.Len())
	if bits, ok := pool.LargestFree(); ok {
		r.usage.LargestFree = "/" + big.NewInt(int64(bits)).String()
	}
	return r, nil
}

// syncUsage writes the allocations from a parent to the status of the parent. It patches only its own fields, so
// frequent changes of the metadata by others do not cause conflicts.
func (c *Controller) syncUsage(ctx context.Context, name types.NamespacedName) error {
	parent, err := c.prefixes.Prefixes(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if parent.Status.Phase != v1alpha1.PrefixPhaseAllocated {
		return nil
	}
	prefix, err := cidr.ParseStored(parent.Spec.Prefix)
	if err != nil {
		return err
	}
	r, err := c.tracker.compute(name, prefix, c.policies.Reserved(parent))
	if err != nil {
		return err
	}
	if slices.Equal(parent.Status.Used, r.used) && reflect.DeepEqual(parent.Status.Usage, &r.usage) {
		return nil
	}
	patch, err := json.Marshal([]any{
		map[string]any{"op": "test", "path": "/metadata/uid", "value": parent.UID},
		map[string]any{"op": "add", "path": "/status/used", "value": r.used},
		map[string]any{"op": "add", "path": "/status/usage", "value": &r.usage},
	})
	if err != nil {
		return err
	}
	_, err = c.client.IpamV1alpha1().Prefixes(name.Namespace).Patch(ctx, name.Name, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
