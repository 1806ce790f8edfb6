// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"math/big"
	"net/netip"
	"regexp"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	"k8s.io/apimachinery/pkg/types"
)

// misfitKind is the reason why a request cannot be allocated from a parent.
type misfitKind int

// The kinds are ordered by hope, that is, how likely the request can be allocated from the parent later. The least
// likely kind comes first.
const (
	// unsuitable: the request does not fit into the parent, even if all of it is free.
	unsuitable misfitKind = iota
	// wrongLength: the policies of the parent do not allow the length.
	wrongLength
	// closed: a policy of the parent allows nothing new.
	closed
	// deleting: the parent is being deleted.
	deleting
	// notReady: the parent is not allocated yet.
	notReady
	// inUse: the requested prefix overlaps a prefix in use.
	inUse
	// exhausted: no free block is large enough.
	exhausted
	// reserved: only reserved space has a free block that is large enough.
	reserved
	// refused: there is space, but the server refused the binding.
	refused
	kinds
)

// reason returns the condition reason for a kind.
func (k misfitKind) reason() string {
	return [kinds]string{
		v1alpha1.ReasonNoSuitableParent, v1alpha1.ReasonLengthNotAllowed, v1alpha1.ReasonParentClosed,
		v1alpha1.ReasonParentNotReady, v1alpha1.ReasonParentNotReady, v1alpha1.ReasonPrefixInUse,
		v1alpha1.ReasonParentExhausted, v1alpha1.ReasonReserved, v1alpha1.ReasonRefused,
	}[k]
}

// hope returns the rank of a kind: HopeOf of its reason. Kinds with the same reason have the same rank.
func (k misfitKind) hope() int { return v1alpha1.HopeOf(k.reason()) }

// misfit describes why a request cannot be allocated from one parent. It copies what the message needs, because the
// message is built after the lock is released.
type misfit struct {
	parent *parent
	kind   misfitKind
	name   string
	prefix netip.Prefix
	// used is the prefix in use that overlaps the requested one. holderName and holderUID identify the allocation that
	// holds it. holdsIt is the part of the message that names the holder.
	used       netip.Prefix
	holdsIt    string
	holderName string
	holderUID  types.UID
	// free is nil if the message must not tell how much is free. private is set if it must not tell what is in use.
	free    *big.Int
	largest int
	private bool
	words   string
}

// verdict describes why an allocation cannot be scheduled.
type verdict struct {
	reason string
	// final is set if the allocation can never be scheduled.
	final bool
	// rewrite is set if the message must be written even if only its counts changed.
	rewrite bool
	// early is set if the informer may only be behind. The verdict is then not reported yet.
	early bool
	// words is the message if there are no misfits.
	words   string
	request cidr.Request
	misfits []misfit
	// more is set if there are more misfits than the message names.
	more bool
}

// misfitOf returns why a request cannot be allocated from a parent now. For inUse it also returns the prefix in use.
func (p *parent) misfitOf(w *pending) (misfitKind, netip.Prefix) {
	r := w.request
	switch {
	case w.isFor(p):
		return unsuitable, netip.Prefix{}
	case p.deleting:
		// Do not check the size: a new Prefix with the same name may be larger.
		return deleting, netip.Prefix{}
	case p.prefix.IsValid() && (!r.Fits(p.prefix) || r.Prefix.IsValid() && w.isTooFar(p.prefix)):
		return unsuitable, netip.Prefix{}
	case !p.prefix.IsValid() && r.Bits <= p.asks:
		return unsuitable, netip.Prefix{}
	case !p.rules.Lengths().Allow(r.Bits):
		return wrongLength, netip.Prefix{}
	case p.rules.Closed():
		return closed, netip.Prefix{}
	case !p.ready:
		return notReady, netip.Prefix{}
	}
	if r.Prefix.IsValid() {
		if used, ok := p.pool().Overlapping(r.Prefix); ok {
			return inUse, used
		}
	} else if !fits(p, r.Bits) {
		if p.pool().FitsReserved(r.Bits) {
			return reserved, netip.Prefix{}
		}
		return exhausted, netip.Prefix{}
	}
	return refused, netip.Prefix{}
}

// maxNamed is the maximum number of parents that a message names.
const maxNamed = 5

// conclude combines the misfits of all parents into one verdict. Its reason is that of the most hopeful kind. The message
// names the parents in the same order, most hopeful first. It names unsuitable parents only if there are no others.
func (ns *namespace) conclude(w *pending, parents []*parent) *verdict {
	v := &verdict{request: w.request}
	var first [kinds][]misfit
	var count [kinds]int
	for _, p := range parents {
		kind, used := p.misfitOf(w)
		if count[kind]++; len(first[kind]) < maxNamed {
			first[kind] = append(first[kind], misfit{parent: p, kind: kind, used: used})
		}
	}
	total := 0
	for kind := kinds - 1; kind >= 0; kind-- {
		if kind == unsuitable && total > 0 {
			break
		}
		if count[kind] > 0 && v.reason == "" {
			v.reason = kind.reason()
		}
		total += count[kind]
		room := maxNamed - len(v.misfits)
		v.misfits = append(v.misfits, first[kind][:min(room, len(first[kind]))]...)
	}
	v.more = total > len(v.misfits)
	for i := range v.misfits {
		r := &v.misfits[i]
		p := r.parent
		r.name, r.prefix, r.private = w.tenant.nameOf(ns, p), p.prefix, w.tenant.foreign
		switch r.kind {
		case unsuitable:
			if w.isFor(p) {
				r.words = "cannot be allocated from itself"
			}
		case wrongLength:
			r.words = p.rules.Lengths().String()
		case inUse:
			if uid, ok := p.ledger.Holder(r.used); ok {
				r.holderName, r.holderUID = ns.holders[uid].name, uid
			}
		case exhausted, reserved:
			if r.private {
				break
			}
			r.free = p.pool().FreeAddresses()
			if largest, ok := p.pool().LargestFree(); ok {
				r.largest = largest
			}
		case refused:
			for _, binding := range w.refusedBindings {
				if binding.parent == p.uid {
					r.words = binding.words
				}
			}
		}
	}
	// A request that names its parent cannot use another one, and the prefix of a parent is immutable.
	v.final = w.ref != "" && v.reason == v1alpha1.ReasonNoSuitableParent && (w.isFor(parents[0]) ||
		parents[0].prefix.IsValid() && !w.request.Fits(parents[0].prefix))
	return v
}

// String returns the part of the message about this parent. of is the request.
func (r *misfit) String(of cidr.Request) string {
	name := r.name
	if r.prefix.IsValid() {
		name = fmt.Sprintf("%s (%s)", name, r.prefix)
	}
	why := r.words
	switch r.kind {
	case unsuitable:
		if why != "" {
			break
		}
		if !r.prefix.IsValid() {
			why = fmt.Sprintf("is too small to hold %s", of)
		} else if why = of.Misfit(r.prefix); why == "" {
			why = fmt.Sprintf("is too large: %s is too far below it to be checked in one transaction; create a Prefix in between", of)
		}
	case wrongLength:
		why = fmt.Sprintf("is no parent for %s: its PrefixPolicy allows %s", of, r.words)
	case closed:
		why = "is closed: its PrefixPolicy allows nothing new"
	case deleting:
		why = "is being deleted"
	case notReady:
		why = "is not allocated yet"
	case inUse:
		switch {
		case r.private && r.holdsIt == "":
			why = fmt.Sprintf("has %s in use, or a part of it", of)
		case r.used == of.Prefix:
			why = fmt.Sprintf("has %s in use%s", r.used, r.holdsIt)
		default:
			why = fmt.Sprintf("has %s in use%s, which overlaps %s", r.used, r.holdsIt, of)
		}
	case exhausted:
		why = fmt.Sprintf("has no room for %s%s", of, freeWords(r.free, r.largest))
	case reserved:
		why = fmt.Sprintf("has no room for %s outside of reserved space%s", of, freeWords(r.free, r.largest))
	case refused:
		why = "has room, but the API server refused: " + r.words
	}
	return name + " " + why
}

// freeWords describes the free space of a parent: the number of free addresses, and the length of the largest free block.
// It returns "" if free is nil.
func freeWords(free *big.Int, largest int) string {
	switch {
	case free == nil:
		return ""
	case free.Sign() == 0:
		return ": no address is free"
	case free.IsInt64() && free.Int64() == 1:
		return ": 1 address is free"
	}
	return fmt.Sprintf(": %s addresses are free, the largest free block is a /%d", free, largest)
}

// counts matches the results of freeWords in a message.
var counts = regexp.MustCompile(`: (no address is free|1 address is free|[0-9]+ addresses are free, the largest free block is a /[0-9]+)`)

// withoutCounts returns a message without the counts, which change with each allocation.
func withoutCounts(message string) string { return counts.ReplaceAllLiteralString(message, "") }

// maxMessage is the maximum length of a message, in bytes. maxWords is the maximum length of a quoted text in it,
// such as a selector or an error of the API server, in bytes.
const (
	maxMessage = 1024
	maxWords   = 512
)

// message returns the message of the condition. It has at most maxMessage bytes.
func (v *verdict) message() string {
	if len(v.misfits) == 0 {
		return text.Cut(v.words, maxMessage)
	}
	const others = "; and others"
	var message strings.Builder
	more := v.more
	for i := range v.misfits {
		part := text.Cut(v.misfits[i].String(v.request), maxMessage-len(others))
		if i > 0 {
			part = "; " + part
		}
		if message.Len()+len(part)+len(others) > maxMessage {
			more = true
			break
		}
		message.WriteString(part)
	}
	if more {
		message.WriteString(others)
	}
	return message.String()
}

// isTooFar reports whether the requested prefix is too far below a parent to be allocated from it. The binding is one etcd
// transaction, which must check that nobody holds a prefix around the requested one. The API server refuses bindings that
// need more compares than etcd allows. See docs/design/claims.md.
func (c *candidate) isTooFar(parent netip.Prefix) bool {
	return !cidr.Checkable(parent, c.request.Prefix, c.requester != nil, c.isForeign())
}
