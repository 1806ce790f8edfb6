// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// parent is a Prefix that prefixes can be allocated from. Any Prefix can.
type parent struct {
	name string
	// prefixState is what the API says. It is zero while there is no such Prefix.
	prefixState
	// ledger has what is allocated from it, and what is reserved.
	ledger allocator.Ledger[types.UID]
	// named is how many allocations wait whose message names this parent, and current how many of those messages
	// are not stale.
	named, current int
	// up is the parent that spec.parentRef names, or the top of the namespace. Those that have the same
	// parent are a list, which begins at the child of that.
	up, child, next, previous *parent
}

// prefixState is what matters here of a Prefix in the API.
type prefixState struct {
	// uid is empty while there is no such Prefix.
	uid    types.UID
	labels labels.Set
	prefix netip.Prefix
	// asks is the length that the Prefix asks for itself, as long as its prefix is not known.
	asks            int
	ready, deleting bool
}

// maxAncestors is how many ancestors a Prefix can have: each is shorter by a bit at least. References of
// Prefixes that are not allocated may form longer chains, or circles.
const maxAncestors = 128

// usable reports whether anything can be allocated from the parent at all.
func (p *parent) usable() bool { return p.uid != "" && p.ready && !p.deleting }

// matches reports whether the parent exists and a selector matches it.
func (s *prefixState) matches(selector labels.Selector) bool {
	return s.uid != "" && selector.Matches(s.labels)
}

// isCovered reports whether a selector matches an ancestor of the parent, so that the parent is not one of
// the outermost Prefixes that it matches. A parent that has no end of ancestors is not either.
func (p *parent) isCovered(selector labels.Selector) bool { return coveredBy(p, p.up, selector) }

// coveredBy is isCovered with another ancestor to begin at.
func coveredBy(p, ancestor *parent, selector labels.Selector) bool {
	for range maxAncestors {
		if ancestor == nil {
			return false
		}
		if ancestor == p || ancestor.matches(selector) {
			return true
		}
		ancestor = ancestor.up
	}
	return true
}

// isBelow reports whether another parent is an ancestor.
func (p *parent) isBelow(other *parent) bool {
	ancestor := p.up
	for range maxAncestors {
		if ancestor == nil || ancestor == other {
			return ancestor == other
		}
		ancestor = ancestor.up
	}
	return false
}

// outermostBelow calls a function for the outermost Prefixes below the top of a namespace that a selector matches. It
// looks at no Prefix that is below one of those, and at none of a circle of references, which is not below the top.
func (p *parent) outermostBelow(selector labels.Selector, f func(*parent)) {
	type level struct {
		at    *parent
		depth int
	}
	for stack := []level{{p.child, 1}}; len(stack) > 0; {
		last := len(stack) - 1
		at, depth := stack[last].at, stack[last].depth
		if at == nil {
			stack = stack[:last]
			continue
		}
		stack[last].at = at.next
		switch {
		case at.matches(selector):
			f(at)
		case at.child != nil && depth < maxAncestors:
			stack = append(stack, level{at.child, depth + 1})
		}
	}
}

// children appends the names of those directly below the parent.
func (p *parent) children(names []string) []string {
	for child := p.child; child != nil; child = child.next {
		names = append(names, child.name)
	}
	return names
}

// moveBelow makes the parent a child of another one.
func (p *parent) moveBelow(up *parent) {
	if p.up == up {
		return
	}
	p.leave()
	p.up, p.next = up, up.child
	if up.child != nil {
		up.child.previous = p
	}
	up.child = p
}

// leave takes the parent out of the list that it is in.
func (p *parent) leave() {
	if p.up == nil {
		return
	}
	if p.previous != nil {
		p.previous.next = p.next
	} else {
		p.up.child = p.next
	}
	if p.next != nil {
		p.next.previous = p.previous
	}
	p.up, p.next, p.previous = nil, nil, nil
}

// pool returns the free space of a parent whose prefix is known. Most Prefixes never are a parent,
// so it is made when it is first asked for.
func (p *parent) pool() *allocator.Pool {
	if p.ledger.Pool() == nil {
		if err := p.ledger.SetPrefix(p.prefix); err != nil {
			// The API server lets no such prefix pass. Nothing can be allocated from it.
			return &allocator.Pool{}
		}
	}
	return p.ledger.Pool()
}
