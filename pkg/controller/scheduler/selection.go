// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

const (
	// maxSelections is the maximum number of selections in the cache of a namespace. A selector that is not in the cache
	// costs a search through the Prefixes of the namespace.
	maxSelections = 64
	// minRemembered and remembered limit the total number of Prefixes in all selections of a namespace. The limit is
	// minRemembered, or remembered times the number of its Prefixes if that is more.
	minRemembered, remembered = 1024, 4
)

// scope is what a request selects: the Prefixes that a selector matches, of those that the namespace of the request sees.
type scope struct {
	labels.Selector
	viewer
}

func (s *scope) matches(p *prefixState) bool { return p.matches(s.Selector) && s.sees(p) }

// selection is the cached result of a selector: the outermost Prefixes that it matches. It excludes their descendants by
// spec.parentRef, even if the selector matches these too.
type selection struct {
	scope
	// parents are sorted by name.
	parents []*parent
	// used is the value of namespace.lastUse at the last use.
	used uint64
}

func byName(p *parent, name string) int { return strings.Compare(p.name, name) }

// selection returns the current selection of a scope. key is its selector as a string.
func (ns *namespace) selection(key string, scope scope) *selection {
	if scope.foreign {
		// A label has no such byte.
		key += "\x00" + scope.namespace
	}
	s := ns.selections[key]
	if s == nil {
		s = &selection{scope: scope}
		if scope.foreign {
			for p := range ns.shared {
				if scope.matches(&p.prefixState) && !p.isCovered(scope) {
					s.parents = append(s.parents, p)
				}
			}
		} else {
			ns.top.outermostBelow(scope, func(p *parent) { s.parents = append(s.parents, p) })
		}
		slices.SortFunc(s.parents, func(a, b *parent) int { return strings.Compare(a.name, b.name) })
		ns.selections[key] = s
	}
	ns.lastUse++
	s.used = ns.lastUse
	ns.limitSelections()
	return s
}

// limitSelections evicts the least recently used selections until the rest is within the limits. It always keeps one.
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

// shift is the effect of a change of a Prefix on a selection.
type shift struct {
	// was and is report whether the Prefix was, and now is, one of the outermost matches.
	was, is bool
	// below is set if the change may add descendants of the Prefix to the selection, or remove them from it.
	below bool
	// came is set if descendants may be added. It is meaningful only with below.
	came bool
}

// shiftOf compares a parent with its previous state and its previous parent.
func shiftOf(scope scope, p *parent, before *prefixState, beforeUp *parent) shift {
	was, is := scope.matches(before), scope.matches(&p.prefixState)
	if !was && !is && (p.child == nil || beforeUp == p.up) {
		return shift{}
	}
	coveredBefore, covered := coveredBy(p, beforeUp, scope), p.isCovered(scope)
	hid, hides := was || coveredBefore, is || covered
	return shift{
		was: was && !coveredBefore, is: is && !covered,
		below: hid != hides && p.child != nil, came: hid && !hides,
	}
}

// changed updates the cached selections after a change of a Prefix.
func (ns *namespace) changed(p *parent, before *prefixState, beforeUp *parent) {
	for key, s := range ns.selections {
		shift := shiftOf(s.scope, p, before, beforeUp)
		switch i, found := slices.BinarySearchFunc(s.parents, p.name, byName); {
		case shift.below:
			// There may be very many descendants, so search them only when the selection is used again.
			delete(ns.selections, key)
		case shift.is && !found:
			s.parents = slices.Insert(s.parents, i, p)
		case !shift.is && found:
			s.parents = slices.Delete(s.parents, i, i+1)
		}
	}
}
