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

// maxUsed is the greatest number of entries of status.used.
const maxUsed = 1000

// accounts tell what is allocated from each Prefix, according to the informer. They are safe for concurrent
// use.
type accounts struct {
	mu       sync.Mutex
	byParent map[types.NamespacedName]*account
}

type account struct {
	ledger *allocator.Ledger[types.UID]
	// names is who holds: the names of the allocations.
	names map[types.UID]string
	// first are the first firstLimit names in order, or nil if that is not known.
	first      []string
	firstLimit int
}

func newAccounts() *accounts {
	return &accounts{byParent: map[types.NamespacedName]*account{}}
}

func (a *accounts) get(parent types.NamespacedName) *account {
	acc := a.byParent[parent]
	if acc == nil {
		acc = &account{
			ledger: allocator.NewLedger[types.UID](),
			names:  map[types.UID]string{},
		}
		a.byParent[parent] = acc
	}
	return acc
}

func (a *accounts) tidy(parent types.NamespacedName) {
	if acc := a.byParent[parent]; acc != nil && acc.ledger.Len() == 0 {
		delete(a.byParent, parent)
	}
}

// hold takes in that an allocation holds a prefix of a parent. It reports whether this was news.
func (a *accounts) hold(parent types.NamespacedName, uid types.UID, name string, prefix netip.Prefix) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.get(parent)
	if acc.names[uid] = name; acc.first != nil {
		acc.addFirst(name)
	}
	return acc.ledger.Hold(uid, prefix)
}

// release takes in that an allocation is gone. It reports whether this was news.
func (a *accounts) release(parent types.NamespacedName, uid types.UID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.tidy(parent)
	acc := a.get(parent)
	if slices.Contains(acc.first, acc.names[uid]) {
		acc.first = nil
	}
	delete(acc.names, uid)
	return acc.ledger.Release(uid)
}

// count returns how many allocations hold a part of the parent.
func (a *accounts) count(parent types.NamespacedName) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.byParent[parent]
	if acc == nil {
		return 0
	}
	return acc.ledger.Len()
}

// holders returns the names of some of the allocations that hold a part of the parent: the first ones.
func (a *accounts) holders(parent types.NamespacedName, limit int) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.byParent[parent]
	if acc == nil {
		return nil
	}
	if acc.first == nil || acc.firstLimit != limit {
		// There may be very many, so what was found is kept until it changes.
		acc.first, acc.firstLimit = []string{}, limit
		for _, name := range acc.names {
			acc.addFirst(name)
		}
	}
	return slices.Clone(acc.first)
}

// addFirst adds a name to the first ones, if it is one of them.
func (acc *account) addFirst(name string) {
	if i, found := slices.BinarySearch(acc.first, name); !found && i < acc.firstLimit {
		acc.first = slices.Insert(acc.first[:min(len(acc.first), acc.firstLimit-1)], i, name)
	}
}

// report is what the status of a parent has to say.
type report struct {
	used  []string
	usage v1alpha1.PrefixUsage
}

// report tells what is held of the parent now. The error is that of the parent's prefix.
func (a *accounts) report(parent types.NamespacedName, prefix netip.Prefix) (report, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.tidy(parent)
	acc := a.get(parent)
	if acc.ledger.Pool() == nil || acc.ledger.Pool().Prefix() != prefix {
		if err := acc.ledger.SetPrefix(prefix); err != nil {
			return report{}, err
		}
	}
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
	percent := new(big.Int).Mul(used, big.NewInt(100))
	r.usage.Percent = int32(percent.Quo(percent, total).Int64())
	r.usage.Allocations = int64(acc.ledger.Len())
	if bits, ok := pool.LargestFree(); ok {
		r.usage.LargestFree = "/" + big.NewInt(int64(bits)).String()
	}
	return r, nil
}
