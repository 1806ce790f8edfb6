// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

const (
	// maxSelections is how many selectors a namespace remembers. More are fine, but each time one comes that
	// is not remembered, its Prefixes are searched anew.
	maxSelections = 64
	// minRemembered and remembered limit how many Prefixes all of them select: so many, or so many times the
	// number of Prefixes that there are.
	minRemembered, remembered = 1024, 4
)

// selection is what a selector means: the outermost Prefixes that it matches. What is below one of them, by
// spec.parentRef, is none of them.
type selection struct {
	selector labels.Selector
	// parents are sorted by name.
	parents []*parent
	// used tells which selection was used last.
	used uint64
}

func byName(p *parent, name string) int { return strings.Compare(p.name, name) }

// selection returns what a selector means now. The key is the selector as a string.
func (ns *namespace) selection(key string, selector labels.Selector) *selection {
	s := ns.selections[key]
	if s == nil {
		s = &selection{selector: selector}
		s.change(func(add, _ func(*parent)) { ns.top.outermostBelow(selector, add) })
		ns.selections[key] = s
	}
	ns.uses++
	s.used = ns.uses
	ns.limitSelections()
	return s
}

// limitSelections forgets the selections that were not used for longest, down to one, until the rest is
// within the limits.
func (ns *namespace) limitSelections() {
	sum := 0
	for _, s := range ns.selections {
		sum += len(s.parents)
	}
	for limit := max(minRemembered, remembered*len(ns.parents)); len(ns.selections) > maxSelections || len(ns.selections) > 1 && sum > limit; {
		var oldest string
		for key, s := range ns.selections {
			if oldest == "" || s.used < ns.selections[oldest].used {
				oldest = key
			}
		}
		sum -= len(ns.selections[oldest].parents)
		delete(ns.selections, oldest)
	}
}

// change adds and removes parents. Many at a time are sorted once.
func (s *selection) change(f func(add, remove func(*parent))) {
	var added, removed []*parent
	f(func(p *parent) { added = append(added, p) }, func(p *parent) { removed = append(removed, p) })
	const few = 8
	if len(added)+len(removed) <= few {
		for _, p := range removed {
			if i, found := slices.BinarySearchFunc(s.parents, p.name, byName); found {
				s.parents = slices.Delete(s.parents, i, i+1)
			}
		}
		for _, p := range added {
			if i, found := slices.BinarySearchFunc(s.parents, p.name, byName); !found {
				s.parents = slices.Insert(s.parents, i, p)
			}
		}
		return
	}
	gone := make(map[*parent]bool, len(removed))
	for _, p := range removed {
		gone[p] = true
	}
	s.parents = append(slices.DeleteFunc(s.parents, func(p *parent) bool { return gone[p] }), added...)
	slices.SortFunc(s.parents, func(a, b *parent) int { return strings.Compare(a.name, b.name) })
	s.parents = slices.Compact(s.parents)
}

// shift is what a change of a Prefix means to a selector.
type shift struct {
	// was and is tell whether the Prefix was, and is, one of the outermost that match.
	was, is bool
	// below tells whether what is below the Prefix came to be, or is no longer, among the outermost.
	below bool
	// came tells which of both.
	came bool
}

// shiftOf compares a parent with what it was before: what the API said of it, and below which parent.
func shiftOf(selector labels.Selector, p *parent, before *prefixState, beforeUp *parent) shift {
	was, is := before.matches(selector), p.matches(selector)
	if !was && !is && p.child == nil {
		return shift{}
	}
	coveredBefore, covered := coveredBy(p, beforeUp, selector), p.isCovered(selector)
	hid, hides := was || coveredBefore, is || covered
	return shift{
		was: was && !coveredBefore, is: is && !covered,
		below: hid != hides && p.child != nil, came: hid && !hides,
	}
}

// changed brings the selections up to date after a change of a Prefix.
func (ns *namespace) changed(p *parent, before *prefixState, beforeUp *parent) {
	for _, s := range ns.selections {
		shift := shiftOf(s.selector, p, before, beforeUp)
		if shift.was == shift.is && !shift.below {
			continue
		}
		s.change(func(add, remove func(*parent)) {
			switch {
			case shift.is && !shift.was:
				add(p)
			case shift.was && !shift.is:
				remove(p)
			}
			switch {
			case shift.below && shift.came:
				p.outermostBelow(s.selector, add)
			case shift.below:
				p.outermostBelow(s.selector, remove)
			}
		})
	}
}
