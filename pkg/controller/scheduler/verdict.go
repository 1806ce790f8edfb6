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
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/text"
	"k8s.io/apimachinery/pkg/types"
)

// refusalKind is why a parent cannot hold a request.
type refusalKind int

// The kinds of refusals, those that leave least hope first.
const (
	// unsuitable: the parent could never hold the request.
	unsuitable refusalKind = iota
	// deleting and notReady: the parent is not allocated, or will not be any more.
	deleting
	notReady
	// inUse: what is asked for overlaps what is in use.
	inUse
	// exhausted: there is no room.
	exhausted
	// refused: there is room, but the server refused what it was asked to write.
	refused
	kinds
)

func (k refusalKind) reason() string {
	return [kinds]string{
		v1alpha1.ReasonNoSuitableParent, v1alpha1.ReasonParentNotReady, v1alpha1.ReasonParentNotReady, v1alpha1.ReasonPrefixInUse,
		v1alpha1.ReasonParentExhausted, v1alpha1.ReasonRefused,
	}[k]
}

// hope orders kinds and reasons: a refusal that leaves more of it makes a message that is worth writing.
func (k refusalKind) hope() int { return hopeOf(k.reason()) }

// hopeOf returns 0 for the reasons that there is no parent.
func hopeOf(reason string) int {
	for i, of := range []string{v1alpha1.ReasonNoSuitableParent, v1alpha1.ReasonParentNotReady, v1alpha1.ReasonPrefixInUse,
		v1alpha1.ReasonParentExhausted, v1alpha1.ReasonRefused} {
		if of == reason {
			return i + 1
		}
	}
	return 0
}

// refusal tells why one parent cannot hold a request. It has what is to be said when the lock is
// released.
type refusal struct {
	parent *parent
	kind   refusalKind
	name   string
	prefix netip.Prefix
	// holder is the prefix in use, and holdsIt says who holds it. holderName and holderUID are those of the
	// allocation.
	holder     netip.Prefix
	holdsIt    string
	holderName string
	holderUID  types.UID
	free       *big.Int
	largest    int
	words      string
}

// verdict tells why an allocation cannot be scheduled.
type verdict struct {
	reason string
	// final is set if it never can.
	final bool
	// fresh is set if the message is to be written also where it differs in counts only.
	fresh bool
	// early is set if the reason may be that the informer has not told all yet.
	early bool
	// words is the message, unless there are refusals.
	words    string
	request  request.Request
	refusals []refusal
	// more is set if there are other refusals of the same kind.
	more bool
}

// refuses returns why a parent cannot hold a request now, and if it is in use, by what.
func (x *index) refuses(p *parent, w *pending) (refusalKind, netip.Prefix) {
	r := w.request
	switch {
	case w.isFor(p):
		return unsuitable, netip.Prefix{}
	case p.deleting:
		// One that replaces it may be larger.
		return deleting, netip.Prefix{}
	case p.prefix.IsValid() && (!r.Fits(p.prefix) || r.Prefix.IsValid() && w.isTooFar(p.prefix)):
		return unsuitable, netip.Prefix{}
	case !p.prefix.IsValid() && r.Bits <= p.asks:
		return unsuitable, netip.Prefix{}
	case !p.ready:
		return notReady, netip.Prefix{}
	}
	if r.Prefix.IsValid() {
		if holder, ok := p.pool().Overlapping(r.Prefix); ok {
			return inUse, holder
		}
	} else if !fits(p, r.Bits) {
		return exhausted, netip.Prefix{}
	}
	return refused, netip.Prefix{}
}

// maxNamed is how many parents a message names.
const maxNamed = 5

// conclude makes one verdict of what the parents say: the reason of those that leave most hope. The message
// names those that leave most hope first. Those that could never hold the request are named only
// where there are no others.
func (x *index) conclude(ns *namespace, w *pending, parents []*parent) *verdict {
	v := &verdict{request: w.request}
	var first [kinds][]refusal
	var count [kinds]int
	for _, p := range parents {
		kind, holder := x.refuses(p, w)
		if count[kind]++; len(first[kind]) < maxNamed {
			first[kind] = append(first[kind], refusal{parent: p, kind: kind, holder: holder})
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
		room := maxNamed - len(v.refusals)
		v.refusals = append(v.refusals, first[kind][:min(room, len(first[kind]))]...)
	}
	v.more = total > len(v.refusals)
	for i := range v.refusals {
		r := &v.refusals[i]
		p := r.parent
		r.name, r.prefix = p.name, p.prefix
		switch r.kind {
		case unsuitable:
			if w.isFor(p) {
				r.words = "cannot be allocated from itself"
			}
		case inUse:
			if uid, ok := p.ledger.Holder(r.holder); ok {
				r.holderName, r.holderUID = ns.holders[uid].name, uid
			}
		case exhausted:
			r.free = p.pool().FreeAddresses()
			if largest, ok := p.pool().LargestFree(); ok {
				r.largest = largest
			}
		case refused:
			for _, place := range w.refusals {
				if place.parent == p.uid {
					r.words = place.words
				}
			}
		}
	}
	// A parent that was named is the only one there ever will be, and its prefix does not change.
	v.final = w.ref != "" && v.reason == v1alpha1.ReasonNoSuitableParent && (w.isFor(parents[0]) ||
		parents[0].prefix.IsValid() && !w.request.Fits(parents[0].prefix))
	return v
}

func (r *refusal) String(of request.Request) string {
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
		var fits bool
		switch {
		case !r.prefix.IsValid():
			why = fmt.Sprintf("is too small to hold %s", of)
		default:
			if why, fits = of.FitsIn(r.prefix); fits {
				why = fmt.Sprintf("is too large: %s is too far below it to be checked in one transaction; allocate a Prefix in between", of)
			}
		}
	case deleting:
		why = "is being deleted"
	case notReady:
		why = "is not allocated itself yet"
	case inUse:
		switch {
		case r.holder == of.Prefix:
			why = fmt.Sprintf("has %s in use%s", r.holder, r.holdsIt)
		default:
			why = fmt.Sprintf("has %s in use%s, which overlaps %s", r.holder, r.holdsIt, of)
		}
	case exhausted:
		why = fmt.Sprintf("has no room for %s: %s", of, freeWords(r.free, r.largest))
	case refused:
		why = "has room, but the API server refused: " + r.words
	}
	return name + " " + why
}

// freeWords tells how much is free, and in which pieces.
func freeWords(free *big.Int, largest int) string {
	switch {
	case free.Sign() == 0:
		return "no address is free"
	case free.IsInt64() && free.Int64() == 1:
		return "1 address is free"
	}
	return fmt.Sprintf("%s addresses free, the largest free block is a /%d", free, largest)
}

// counts matches what freeWords returns.
var counts = regexp.MustCompile(`: (no address is free|1 address is free|[0-9]+ addresses free, the largest free block is a /[0-9]+)`)

// withoutCounts returns a message without what changes with each allocation.
func withoutCounts(message string) string { return counts.ReplaceAllLiteralString(message, "") }

// maxMessage is the length of a message at most, in bytes, and maxWords that of words of others in it.
const (
	maxMessage = 1024
	maxWords   = 512
)

// message returns the message.
func (v *verdict) message() string {
	if len(v.refusals) == 0 {
		return text.Cut(v.words, maxMessage)
	}
	const others = "; and others"
	var message strings.Builder
	more := v.more
	for i := range v.refusals {
		part := text.Cut(v.refusals[i].String(v.request), maxMessage-len(others))
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

// isTooFar reports whether the prefix that is asked for is too far below a parent to be allocated from it. For each
// length in between the transaction would have to compare that nobody holds what is around the prefix; lengths
// that begin at the same address are one compare. docs/design/claims.md tells more. etcd takes 128 compares in a
// transaction, of which three are for other things, and one for the child if there is one. The API server
// refuses what has more.
func (c *candidate) isTooFar(parent netip.Prefix) bool {
	most, prefix := 128-3, c.request.Prefix
	if c.requester != nil {
		most--
	}
	if prefix.Bits()-parent.Bits() <= most {
		return false
	}
	ones := 0
	bytes := prefix.Addr().AsSlice()
	for bit := parent.Bits() + 1; bit < prefix.Bits(); bit++ {
		if bytes[bit/8]&(0x80>>(bit%8)) != 0 {
			ones++
		}
	}
	return ones > most
}
