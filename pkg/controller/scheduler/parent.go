// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/policy"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// parent is a Prefix as a parent of allocations. Every Prefix can be one.
type parent struct {
	name string
	// prefixState is the state in the API. It is zero while the Prefix does not exist.
	prefixState
	// ledger has the prefixes that are allocated from the parent, assumed for an allocation, or reserved by a policy.
	ledger allocator.Ledger[types.UID]
	// excess limits the memory of the pools of the namespace.
	excess *excess
	// policies are those of the namespace.
	policies *policy.Policies
	// messages is the number of waiting allocations whose messages name this parent. currentMessages is the number of those
	// that are not stale.
	messages, currentMessages int
	// up is the parent that spec.parentRef names, or the top of the namespace. child is the first child. next and
	// previous link the children of the same parent.
	up, child, next, previous *parent
}

// prefixState holds the fields of a Prefix that the scheduler uses.
type prefixState struct {
	// uid is empty while the Prefix does not exist.
	uid    types.UID
	labels labels.Set
	prefix netip.Prefix
	// asks is the prefix length that the Prefix itself requests, in bits. It is 0 if spec.prefix is set.
	asks            int
	ready, deleting bool
	// rules are those of the policies that select the Prefix. It is nil if there are none.
	rules *policy.Rules
}

// maxAncestors is the maximum number of ancestors of an allocated Prefix: each is at least one bit shorter, and IPv6 has
// 128 bits. Prefixes that are not allocated may form longer chains or cycles.
const maxAncestors = 128

// usable reports whether the parent exists, is ready and is not being deleted.
func (p *parent) usable() bool { return p.uid != "" && p.ready && !p.deleting }

// matches reports whether the Prefix exists and the selector matches its labels.
func (s *prefixState) matches(selector labels.Selector) bool {
	return s.uid != "" && selector.Matches(s.labels)
}

// isCovered reports whether the scope matches an ancestor of the parent. If so, the parent is not one of the outermost
// matching Prefixes. It also reports true if there are more than maxAncestors ancestors or the references form a cycle.
func (p *parent) isCovered(scope scope) bool { return coveredBy(p, p.up, scope) }

// coveredBy is like isCovered, but starts at the given ancestor.
func coveredBy(p, ancestor *parent, scope scope) bool {
	for range maxAncestors {
		if ancestor == nil {
			return false
		}
		if ancestor == p || scope.matches(&ancestor.prefixState) {
			return true
		}
		ancestor = ancestor.up
	}
	return true
}

// isBelow reports whether other is an ancestor of the parent.
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

// outermostBelow calls f for the outermost Prefixes that the scope matches. The receiver must be the top of a
// namespace. It does not visit Prefixes below a match, nor those in a cycle of references, which the top does not reach.
func (p *parent) outermostBelow(scope scope, f func(*parent)) {
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
		case scope.matches(&at.prefixState):
			f(at)
		case at.child != nil && depth < maxAncestors:
			stack = append(stack, level{at.child, depth + 1})
		}
	}
}

// children appends the names of the direct children to names.
func (p *parent) children(names []string) []string {
	for child := p.child; child != nil; child = child.next {
		names = append(names, child.name)
	}
	return names
}

// moveBelow makes the parent a child of up.
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

// leave removes the parent from the children of its own parent.
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

// pool returns the free space of a parent whose prefix is known. The pool is created at the first use, because most
// Prefixes never have children.
func (p *parent) pool() *allocator.Pool {
	if p.ledger.Pool() == nil {
		if err := p.ledger.SetPrefix(p.prefix); err != nil {
			// The API server rejects such prefixes. Nothing can be allocated from an empty pool.
			return &allocator.Pool{}
		}
		p.applyReserved()
	}
	return p.ledger.Pool()
}

// applyReserved tells the pool, if there is one, which space policies reserve.
func (p *parent) applyReserved() {
	if p.ledger.Pool() == nil {
		return
	}
	p.ledger.Reserve(p.policies.Reserved(p.rules))
	p.excess.set(p, p.ledger.Pool().ReservedExcess())
}
