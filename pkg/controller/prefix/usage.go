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

// ledgers records what is allocated from each parent, according to the informer. It is safe for concurrent use, but only
// one report of a parent may run at a time.
type ledgers struct {
	mu sync.Mutex
	// byParent has an entry for each parent from which something is allocated.
	byParent map[types.NamespacedName]*account
}

// account is what is allocated from one parent.
type account struct {
	// holders are the allocations that hold something now, and cooling those whose space cools down.
	holders, cooling sets.Set[types.UID]
	// changes holds the allocations that changed since the last report. The prefix of those that hold nothing any more is
	// not valid.
	changes map[types.UID]change
	// ledger is the state of the last report. used is the part that does not cool down. It is nil if none does.
	// Only reports use them, so that events do not wait for them: with hundreds of thousands of allocations a report can
	// take a second, if it is the first one or if reserved space changes.
	ledger allocator.Ledger[types.UID]
	used   *allocator.Ledger[types.UID]
}

// change is what an allocation holds, and whether that cools down.
type change struct {
	prefix  netip.Prefix
	cooling bool
}

func newLedgers() *ledgers { return &ledgers{byParent: map[types.NamespacedName]*account{}} }

// hold records that an allocation holds a prefix of a parent, instead of any other one of this parent. cooling is whether
// that cools down.
func (l *ledgers) hold(parent types.NamespacedName, uid types.UID, prefix netip.Prefix, cooling bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	acc := l.byParent[parent]
	if acc == nil {
		acc = &account{holders: sets.Set[types.UID]{}, cooling: sets.Set[types.UID]{}}
		l.byParent[parent] = acc
	}
	acc.holders.Delete(uid)
	acc.cooling.Delete(uid)
	if cooling {
		acc.cooling.Insert(uid)
	} else {
		acc.holders.Insert(uid)
	}
	acc.change(uid, change{prefix, cooling})
}

// release records that an allocation holds nothing of a parent any more, if it did. It returns the number of allocations
// that are left, with those that cool down.
func (l *ledgers) release(parent types.NamespacedName, uid types.UID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	acc := l.byParent[parent]
	if acc == nil {
		return 0
	}
	acc.holders.Delete(uid)
	acc.cooling.Delete(uid)
	acc.change(uid, change{})
	left := acc.holders.Len() + acc.cooling.Len()
	if left == 0 {
		delete(l.byParent, parent)
	}
	return left
}

func (a *account) change(uid types.UID, to change) {
	if a.changes == nil {
		a.changes = map[types.UID]change{}
	}
	a.changes[uid] = to
}

// count returns the number of allocations from the parent, without those whose space cools down.
func (l *ledgers) count(parent types.NamespacedName) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if acc := l.byParent[parent]; acc != nil {
		return acc.holders.Len()
	}
	return 0
}

// cools reports whether any space of the parent cools down.
func (l *ledgers) cools(parent types.NamespacedName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	acc := l.byParent[parent]
	return acc != nil && acc.cooling.Len() > 0
}

// catchUp brings the ledgers of a parent up to date, and returns that of all its allocations and that of those that do not
// cool down. They are the same if nothing cools down, and empty if nothing is allocated from the parent.
func (l *ledgers) catchUp(parent types.NamespacedName) (all, used *allocator.Ledger[types.UID]) {
	l.mu.Lock()
	acc := l.byParent[parent]
	if acc == nil {
		acc = &account{}
	}
	changes := acc.changes
	acc.changes = nil
	cools := acc.cooling.Len() > 0
	var holders []types.UID
	if cools && acc.used == nil {
		holders = acc.holders.UnsortedList()
	}
	l.mu.Unlock()
	for uid, to := range changes {
		if to.prefix.IsValid() {
			acc.ledger.Hold(uid, to.prefix)
		} else {
			acc.ledger.Release(uid)
		}
	}
	switch {
	case !cools:
		acc.used = nil
		return &acc.ledger, &acc.ledger
	case acc.used == nil:
		acc.used = allocator.NewLedger[types.UID]()
		for _, uid := range holders {
			if prefix, ok := acc.ledger.Get(uid); ok {
				acc.used.Hold(uid, prefix)
			}
		}
	default:
		for uid, to := range changes {
			if to.prefix.IsValid() && !to.cooling {
				acc.used.Hold(uid, to.prefix)
			} else {
				acc.used.Release(uid)
			}
		}
	}
	return &acc.ledger, acc.used
}

// maxReservedExcess is how many reserved prefixes a ledger may keep beyond the number of its allocations. Otherwise a
// policy for many parents could take much memory.
const maxReservedExcess = 64

// report is the usage of a parent for its status.
type report struct {
	used  []string
	usage v1alpha1.PrefixUsage
}

// report returns what is allocated from the parent now. It returns an error if the prefix of the parent is not valid.
func (l *ledgers) report(parent types.NamespacedName, prefix netip.Prefix, reserved *allocator.Reserved) (report, error) {
	ledger, used := l.catchUp(parent)
	for _, of := range []*allocator.Ledger[types.UID]{ledger, used} {
		if pool := of.Pool(); pool == nil || pool.Prefix() != prefix {
			if err := of.SetPrefix(prefix); err != nil {
				return report{}, err
			}
		}
	}
	ledger.Reserve(reserved)
	pool, usedPool := ledger.Pool(), used.Pool()
	if pool.ReservedExcess() > maxReservedExcess {
		// The next report reserves it again. That takes time in proportion to what is reserved.
		defer ledger.Reserve(nil)
	}

	var r report
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
	r, err := c.ledgers.report(name, prefix, c.policies.Reserved(parent))
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
