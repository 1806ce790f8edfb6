// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
)

// Ledger records which holder holds which prefix inside a parent prefix. The parent prefix may be unknown at first and
// may change. Facts can be recorded in any order and may contradict each other. A Ledger is not safe for concurrent
// use.
type Ledger[Holder comparable] struct {
	// pool is nil until the prefix is known.
	pool *Pool
	// held maps each holder to its prefix. It is nil while there are no holders, to save memory: most ledgers have
	// none.
	held map[Holder]netip.Prefix
	// misfits are the holders whose prefixes are not taken from the pool, because they lie outside of it or overlap a
	// prefix of another holder. It is nil if there are none. Misfits only occur if somebody bypasses the API server.
	misfits map[Holder]struct{}
	// holders maps the prefixes that are taken from the pool to their holders. Holder builds it on first use, because
	// most ledgers never need it.
	holders map[netip.Prefix]Holder
}

// NewLedger returns an empty ledger, whose prefix is not known.
func NewLedger[Holder comparable]() *Ledger[Holder] {
	return &Ledger[Holder]{}
}

// Pool returns the free space of the prefix, or nil while the prefix is not known. The caller must not modify it.
func (l *Ledger[Holder]) Pool() *Pool { return l.pool }

// Len returns the number of holders.
func (l *Ledger[Holder]) Len() int { return len(l.held) }

// Get returns the prefix that a holder holds. It returns false if the holder holds none.
func (l *Ledger[Holder]) Get(holder Holder) (netip.Prefix, bool) {
	prefix, ok := l.held[holder]
	return prefix, ok
}

// Holder returns the holder of exactly this prefix. It returns false if the prefix is not taken from the pool.
func (l *Ledger[Holder]) Holder(prefix netip.Prefix) (Holder, bool) {
	if l.holders == nil && l.pool != nil {
		l.holders = make(map[netip.Prefix]Holder, len(l.held))
		for holder, held := range l.held {
			if _, misfit := l.misfits[holder]; !misfit {
				l.holders[held] = holder
			}
		}
	}
	holder, ok := l.holders[prefix]
	return holder, ok
}

// SetPrefix sets the parent prefix and takes from its pool the prefixes that are held. If prefix is not valid, it
// returns the error of New, and the parent prefix is not known.
func (l *Ledger[Holder]) SetPrefix(prefix netip.Prefix) error {
	pool, err := New(prefix)
	l.pool, l.misfits, l.holders = pool, nil, nil
	if err != nil {
		return err
	}
	for holder := range l.held {
		l.addMisfit(holder)
	}
	if l.fit(); len(l.misfits) == 0 {
		// Free the memory, since a map does not shrink.
		l.misfits = nil
	}
	return nil
}

// Reserve sets the reserved space of the pool. It does nothing while the parent prefix is not known. A new pool has no
// reserved space.
func (l *Ledger[Holder]) Reserve(reserved *Reserved) {
	if l.pool != nil {
		l.pool.Reserve(reserved)
	}
}

// UnsetPrefix makes the parent prefix unknown. The holders keep their prefixes.
func (l *Ledger[Holder]) UnsetPrefix() {
	l.pool, l.misfits, l.holders = nil, nil, nil
}

func (l *Ledger[Holder]) addMisfit(holder Holder) {
	if l.misfits == nil {
		l.misfits = map[Holder]struct{}{}
	}
	l.misfits[holder] = struct{}{}
}

// Hold records that a holder holds a prefix, instead of any prefix that it held before. Host bits of the prefix are
// ignored. It reports whether this changed the ledger.
func (l *Ledger[Holder]) Hold(holder Holder, prefix netip.Prefix) bool {
	prefix = prefix.Masked()
	if held, ok := l.held[holder]; ok {
		if held == prefix {
			// Replace the stored holder by the equal new one. Its strings may be substrings of an older version of an
			// object, and would keep the memory of that version alive.
			l.held[holder] = prefix
			if of, ok := l.holders[prefix]; ok && of == holder {
				l.holders[prefix] = holder
			}
			return false
		}
		l.Release(holder)
	}
	if l.held == nil {
		l.held = map[Holder]netip.Prefix{}
	}
	l.held[holder] = prefix
	if l.pool != nil && !l.take(holder, prefix) {
		l.addMisfit(holder)
	}
	return true
}

// take takes a prefix from the pool for a holder. If smaller prefixes inside it are taken, they become misfits and the
// larger prefix takes their place. So all held addresses stay in use. take reports false if the prefix is a misfit.
func (l *Ledger[Holder]) take(holder Holder, prefix netip.Prefix) bool {
	err := l.pool.Take(prefix)
	if inUse := (*InUseError)(nil); errors.As(err, &inUse) && inUse.Prefix.Bits() > prefix.Bits() {
		for other, held := range l.held {
			if _, misfit := l.misfits[other]; !misfit && held.Bits() > prefix.Bits() && prefix.Contains(held.Addr()) && l.pool.Release(held) == nil {
				l.addMisfit(other)
				delete(l.holders, held)
			}
		}
		err = l.pool.Take(prefix)
	}
	if err == nil && l.holders != nil {
		l.holders[prefix] = holder
	}
	return err == nil
}

// fit takes from the pool the prefixes of the misfits that no longer conflict.
func (l *Ledger[Holder]) fit() {
	for _, holder := range slices.Collect(maps.Keys(l.misfits)) {
		if l.take(holder, l.held[holder]) {
			delete(l.misfits, holder)
		}
	}
}

// Release records that a holder no longer holds a prefix. It reports whether this changed the ledger.
func (l *Ledger[Holder]) Release(holder Holder) bool {
	prefix, ok := l.held[holder]
	if !ok {
		return false
	}
	delete(l.held, holder)
	if _, misfit := l.misfits[holder]; misfit {
		delete(l.misfits, holder)
		return true
	}
	if l.pool == nil {
		return true
	}
	delete(l.holders, prefix)
	if err := l.pool.Release(prefix); err != nil {
		// The holder took this prefix, so Release cannot fail. Should it fail nevertheless, rebuild the pool.
		reserved := l.pool.Reserved()
		_ = l.SetPrefix(l.pool.Prefix())
		l.Reserve(reserved)
		return true
	}
	l.fit()
	return true
}
