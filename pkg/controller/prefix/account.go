// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"math/big"
	"net/netip"
	"slices"
	"sync"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"k8s.io/apimachinery/pkg/types"
)

// maxUsed is the maximum number of entries in status.used.
const maxUsed = 1000

// accounts tracks what is allocated from each parent, according to the informer. It is safe for concurrent use.
// Each parent has its own lock, so parents do not block each other.
type accounts struct {
	// mu protects byParent. It is never held while waiting for the lock of an account.
	mu       sync.Mutex
	byParent map[types.NamespacedName]*account
	// whileOpening is called while a ledger is built. Tests replace it.
	whileOpening func()
}

type account struct {
	mu sync.Mutex
	// dropped is set when the account is empty and removed from byParent.
	dropped bool
	ledger  *allocator.Ledger[types.UID]
	// opening is not nil while a ledger for another prefix is built. It collects the allocations that change
	// meanwhile.
	opening map[types.UID]struct{}
	// names holds the names of the allocations by UID.
	names map[types.UID]string
	// first holds the first firstLimit names in sorted order, or nil if they are not known.
	first      []string
	firstLimit int
}

func newAccounts() *accounts {
	return &accounts{byParent: map[types.NamespacedName]*account{}, whileOpening: func() {}}
}

// lock returns the locked account of a parent. It creates the account if there is none. The caller must call
// unlock.
func (a *accounts) lock(parent types.NamespacedName) *account {
	for {
		a.mu.Lock()
		acc := a.byParent[parent]
		if acc == nil {
			acc = &account{ledger: allocator.NewLedger[types.UID](), names: map[types.UID]string{}}
			a.byParent[parent] = acc
		}
		a.mu.Unlock()
		acc.mu.Lock()
		if !acc.dropped {
			return acc
		}
		acc.mu.Unlock()
	}
}

// lockIfAny is like lock, but returns nil if nothing is allocated from the parent.
func (a *accounts) lockIfAny(parent types.NamespacedName) *account {
	a.mu.Lock()
	_, ok := a.byParent[parent]
	a.mu.Unlock()
	if !ok {
		return nil
	}
	return a.lock(parent)
}

// unlock unlocks an account and removes it if it is empty.
func (a *accounts) unlock(parent types.NamespacedName, acc *account) {
	if acc.ledger.Len() == 0 {
		acc.dropped = true
		a.mu.Lock()
		delete(a.byParent, parent)
		a.mu.Unlock()
	}
	acc.mu.Unlock()
}

// hold records that an allocation holds a prefix of a parent. It reports whether this is a change.
func (a *accounts) hold(parent types.NamespacedName, uid types.UID, name string, prefix netip.Prefix) bool {
	acc := a.lock(parent)
	defer a.unlock(parent, acc)
	if acc.names[uid] = name; acc.first != nil {
		acc.addFirst(name)
	}
	acc.changes(uid)
	return acc.ledger.Hold(uid, prefix)
}

// release records that an allocation holds no space of a parent any more. It reports whether this is a change.
func (a *accounts) release(parent types.NamespacedName, uid types.UID) bool {
	acc := a.lockIfAny(parent)
	if acc == nil {
		return false
	}
	defer a.unlock(parent, acc)
	if slices.Contains(acc.first, acc.names[uid]) {
		acc.first = nil
	}
	delete(acc.names, uid)
	acc.changes(uid)
	return acc.ledger.Release(uid)
}

// count returns the number of allocations from the parent.
func (a *accounts) count(parent types.NamespacedName) int {
	acc := a.lockIfAny(parent)
	if acc == nil {
		return 0
	}
	defer a.unlock(parent, acc)
	return acc.ledger.Len()
}

// holders returns the names of at most limit allocations from the parent, the first ones in sorted order.
func (a *accounts) holders(parent types.NamespacedName, limit int) []string {
	acc := a.lockIfAny(parent)
	if acc == nil {
		return nil
	}
	defer a.unlock(parent, acc)
	if acc.first == nil || acc.firstLimit != limit {
		// There can be very many names, so the result is cached until it changes.
		acc.first, acc.firstLimit = []string{}, limit
		for _, name := range acc.names {
			acc.addFirst(name)
		}
	}
	return slices.Clone(acc.first)
}

// addFirst adds a name to first if it sorts among the first firstLimit names.
func (acc *account) addFirst(name string) {
	if i, found := slices.BinarySearch(acc.first, name); !found && i < acc.firstLimit {
		acc.first = slices.Insert(acc.first[:min(len(acc.first), acc.firstLimit-1)], i, name)
	}
}

// changes records that an allocation changed, in case a ledger is being built.
func (acc *account) changes(uid types.UID) {
	if acc.opening != nil {
		acc.opening[uid] = struct{}{}
	}
}

// lockOpen is like lock, and makes sure that the ledger is one for the given prefix and reserved space. With hundreds of thousands of
// allocations it takes a second to build a ledger. This is done without the lock, so that informers do not wait.
func (a *accounts) lockOpen(parent types.NamespacedName, prefix netip.Prefix, reserved *allocator.Reserved) (*account, error) {
	type holding struct {
		uid    types.UID
		prefix netip.Prefix
	}
	for {
		acc := a.lock(parent)
		if pool := acc.ledger.Pool(); pool != nil && pool.Prefix() == prefix {
			if pool.Reserved() == nil && pool.Len() <= maxReservedExcess {
				// See report.
				pool.Reserve(reserved)
			}
			if pool.Reserved() == reserved {
				return acc, nil
			}
		}
		ledger := allocator.NewLedger[types.UID]()
		if err := ledger.SetPrefix(prefix); err != nil {
			a.unlock(parent, acc)
			return nil, err
		}
		ledger.Reserve(reserved)
		held := make([]holding, 0, len(acc.names))
		for uid := range acc.names {
			if of, ok := acc.ledger.Get(uid); ok {
				held = append(held, holding{uid, of})
			}
		}
		changed := map[types.UID]struct{}{}
		acc.opening = changed
		acc.mu.Unlock()

		for _, of := range held {
			ledger.Hold(of.uid, of.prefix)
		}
		a.whileOpening()

		acc.mu.Lock()
		acc.opening = nil
		if acc.dropped {
			// The account was removed meanwhile, and another one has replaced it.
			acc.mu.Unlock()
			continue
		}
		for uid := range changed {
			if of, ok := acc.ledger.Get(uid); ok {
				ledger.Hold(uid, of)
			} else {
				ledger.Release(uid)
			}
		}
		acc.ledger = ledger
		return acc, nil
	}
}

// maxReservedExcess is how many reserved prefixes an account may keep beyond the number of its allocations. Otherwise a
// policy for many parents could take much memory.
const maxReservedExcess = 64

// report is the usage of a parent for its status.
type report struct {
	used  []string
	usage v1alpha1.PrefixUsage
}

// report returns what is allocated from the parent now. It returns an error if the prefix of the parent is not
// valid. Only one report of a parent may run at a time.
func (a *accounts) report(parent types.NamespacedName, prefix netip.Prefix, reserved *allocator.Reserved) (report, error) {
	acc, err := a.lockOpen(parent, prefix, reserved)
	if err != nil {
		return report{}, err
	}
	defer a.unlock(parent, acc)
	pool := acc.ledger.Pool()

	var r report
	var cidrs []netip.Prefix
	if pool.Len() <= maxUsed {
		cidrs = slices.Collect(pool.All())
	} else {
		cidrs, r.usage.Truncated = pool.Summary(maxUsed)
	}
	for _, cidr := range cidrs {
		r.used = append(r.used, cidr.String())
	}

	total, used := pool.TotalAddresses(), pool.UsedAddresses()
	r.usage.Total, r.usage.Used = total.String(), used.String()
	r.usage.Free = pool.FreeAddresses().String()
	if n := pool.ReservedAddresses(); n.Sign() > 0 {
		r.usage.Reserved = n.String()
	}
	if pool.ReservedExcess() > maxReservedExcess {
		// lockOpen reserves it again. That takes time in proportion to what is reserved.
		defer acc.ledger.Reserve(nil)
	}
	percent := new(big.Int).Mul(used, big.NewInt(100))
	r.usage.Percent = int32(percent.Quo(percent, total).Int64())
	r.usage.Allocations = int64(acc.ledger.Len())
	if bits, ok := pool.LargestFree(); ok {
		r.usage.LargestFree = "/" + big.NewInt(int64(bits)).String()
	}
	return r, nil
}
