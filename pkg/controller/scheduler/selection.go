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
		ns.top.outermostBelow(selector, func(p *parent) { s.parents = append(s.parents, p) })
		slices.SortFunc(s.parents, func(a, b *parent) int { return strings.Compare(a.name, b.name) })
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
	for key, s := range ns.selections {
		shift := shiftOf(s.selector, p, before, beforeUp)
		switch i, found := slices.BinarySearchFunc(s.parents, p.name, byName); {
		case shift.below:
			// That may be very many Prefixes. They are searched when the selection is needed.
			delete(ns.selections, key)
		case shift.is && !found:
			s.parents = slices.Insert(s.parents, i, p)
		case !shift.is && found:
			s.parents = slices.Delete(s.parents, i, i+1)
		}
	}
}
