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
	// holders are the allocations that hold something now.
	holders sets.Set[types.UID]
	// changes holds the allocations that changed since the last report. The prefix of those that hold nothing any more is
	// not valid.
	changes map[types.UID]netip.Prefix
	// ledger is the state of the last report. Only reports use it, so that events do not wait for them: with hundreds of
	// thousands of allocations a report can take a second, if it is the first one or if reserved space changes.
	ledger allocator.Ledger[types.UID]
}

func newLedgers() *ledgers { return &ledgers{byParent: map[types.NamespacedName]*account{}} }

// hold records that an allocation holds a prefix of a parent, instead of any other one of this parent.
func (l *ledgers) hold(parent types.NamespacedName, uid types.UID, prefix netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	acc := l.byParent[parent]
	if acc == nil {
		acc = &account{holders: sets.Set[types.UID]{}}
		l.byParent[parent] = acc
	}
	acc.holders.Insert(uid)
	acc.change(uid, prefix)
}

// release records that an allocation holds nothing of a parent any more, if it did. It returns the number of allocations
// that are left.
func (l *ledgers) release(parent types.NamespacedName, uid types.UID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	acc := l.byParent[parent]
	if acc == nil {
		return 0
	}
	acc.holders.Delete(uid)
	acc.change(uid, netip.Prefix{})
	if acc.holders.Len() == 0 {
		delete(l.byParent, parent)
	}
	return acc.holders.Len()
}

func (a *account) change(uid types.UID, prefix netip.Prefix) {
	if a.changes == nil {
		a.changes = map[types.UID]netip.Prefix{}
	}
	a.changes[uid] = prefix
}

// count returns the number of allocations from the parent.
func (l *ledgers) count(parent types.NamespacedName) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if acc := l.byParent[parent]; acc != nil {
		return acc.holders.Len()
	}
	return 0
}

// ledger returns the ledger of a parent with all changes. It is empty if nothing is allocated from the parent.
func (l *ledgers) ledger(parent types.NamespacedName) *allocator.Ledger[types.UID] {
	l.mu.Lock()
	acc := l.byParent[parent]
	if acc == nil {
		acc = &account{}
	}
	changes := acc.changes
	acc.changes = nil
	l.mu.Unlock()
	for uid, prefix := range changes {
		if prefix.IsValid() {
			acc.ledger.Hold(uid, prefix)
		} else {
			acc.ledger.Release(uid)
		}
	}
	return &acc.ledger
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
	ledger := l.ledger(parent)
	if pool := ledger.Pool(); pool == nil || pool.Prefix() != prefix {
		if err := ledger.SetPrefix(prefix); err != nil {
			return report{}, err
		}
	}
	ledger.Reserve(reserved)
	pool := ledger.Pool()
	if pool.ReservedExcess() > maxReservedExcess {
		// The next report reserves it again. That takes time in proportion to what is reserved.
		defer ledger.Reserve(nil)
	}

	var r report
	var cidrs []netip.Prefix
	if pool.Len() <= maxUsed {
		cidrs = slices.Collect(pool.All())
	} else {
		cidrs, r.usage.Truncated = pool.Summary(maxUsed)
	}
	for _, block := range cidrs {
		r.used = append(r.used, block.String())
	}

	total, used := pool.TotalAddresses(), pool.UsedAddresses()
	r.usage.Total, r.usage.Used = total.String(), used.String()
	r.usage.Free = pool.FreeAddresses().String()
	if n := pool.ReservedAddresses(); n.Sign() > 0 {
		r.usage.Reserved = n.String()
	}
	percent := new(big.Int).Mul(used, big.NewInt(100))
	r.usage.Percent = int32(percent.Quo(percent, total).Int64())
	r.usage.Allocations = int64(ledger.Len())
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
