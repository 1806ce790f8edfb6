// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
)

// Ledger tells who holds what of a prefix that may not be known yet, and that may be given a new
// prefix: it takes in facts in any order, also facts that contradict each other. It is not safe for
// concurrent use.
type Ledger[Holder comparable] struct {
	// pool is nil until the prefix is known.
	pool *Pool
	// held is nil as long as nobody holds anything, of which there are very many.
	held map[Holder]netip.Prefix
	// misfits are held, but not taken from the pool: they lie outside, or in what another holds. There
	// are none, unless somebody went behind the API's back; it is nil then.
	misfits map[Holder]struct{}
	// holders tells who holds what is taken from the pool. It is nil until somebody asks: of most ledgers nobody does.
	holders map[netip.Prefix]Holder
}

// NewLedger returns a ledger in which nobody holds anything.
func NewLedger[Holder comparable]() *Ledger[Holder] {
	return &Ledger[Holder]{}
}

// Pool returns what is free of the prefix, or nil while the prefix is not known. Only the ledger
// changes it.
func (l *Ledger[Holder]) Pool() *Pool { return l.pool }

// Len returns the number of holders.
func (l *Ledger[Holder]) Len() int { return len(l.held) }

// Get returns what a holder holds.
func (l *Ledger[Holder]) Get(holder Holder) (netip.Prefix, bool) {
	prefix, ok := l.held[holder]
	return prefix, ok
}

// Holder returns who holds exactly a prefix that is taken from the pool.
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

// SetPrefix tells the prefix, of which everything is held that the holders hold. The error is that
// of New; the prefix is then not known.
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
		// A map does not shrink.
		l.misfits = nil
	}
	return nil
}

// UnsetPrefix forgets the prefix, but not what the holders hold.
func (l *Ledger[Holder]) UnsetPrefix() {
	l.pool, l.misfits, l.holders = nil, nil, nil
}

func (l *Ledger[Holder]) addMisfit(holder Holder) {
	if l.misfits == nil {
		l.misfits = map[Holder]struct{}{}
	}
	l.misfits[holder] = struct{}{}
}

// Hold tells that the holder holds the prefix, whose host bits are ignored, and nothing else. It
// reports whether this was news.
func (l *Ledger[Holder]) Hold(holder Holder, prefix netip.Prefix) bool {
	prefix = prefix.Masked()
	if held, ok := l.held[holder]; ok {
		if held == prefix {
			// What the holder's name is a part of may be older than what this one is a part of, and be there for it only.
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

// take takes a prefix from the pool for a holder. What others hold inside it makes room: all that is held stays
// taken that way. It reports false if the prefix is a misfit.
func (l *Ledger[Holder]) take(holder Holder, prefix netip.Prefix) bool {
	err := l.pool.Take(prefix)
	if inUse := (*InUseError)(nil); errors.As(err, &inUse) && inUse.Holder.Bits() > prefix.Bits() {
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

// fit takes from the pool what are misfits no longer.
func (l *Ledger[Holder]) fit() {
	for _, holder := range slices.Collect(maps.Keys(l.misfits)) {
		if l.take(holder, l.held[holder]) {
			delete(l.misfits, holder)
		}
	}
}

// Release tells that the holder holds nothing any more. It reports whether this was news.
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
		// It was taken by this holder, so this cannot be; a fresh pool is right in any case.
		_ = l.SetPrefix(l.pool.Prefix())
		return true
	}
	l.fit()
	return true
}
