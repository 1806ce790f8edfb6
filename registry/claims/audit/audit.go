// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// DifferenceKind is the kind of a Difference.
type DifferenceKind string

const (
	// Overlap means that two allocations of one parent overlap.
	Overlap DifferenceKind = "Overlap"
	// OutsideParent means that an allocation is not strictly inside its parent.
	OutsideParent DifferenceKind = "OutsideParent"
	// ParentMissing means that the parent of an allocation does not exist.
	ParentMissing DifferenceKind = "ParentMissing"
	// AllocationWithoutClaim means that an allocation has no claim.
	AllocationWithoutClaim DifferenceKind = "AllocationWithoutClaim"
	// ClaimWithoutAllocation means that no allocation holds the prefix of a claim: the holder in the claim does not
	// exist, or holds something else.
	ClaimWithoutAllocation DifferenceKind = "ClaimWithoutAllocation"
	// ChildDiffers means that a child is allocated with a prefix for which it has no claim.
	ChildDiffers DifferenceKind = "ChildDiffers"
	// Leftover means that an allocation holds space for a child that does not need it. The child does not exist, or
	// is allocated with something else. Space that cools down is none.
	Leftover DifferenceKind = "Leftover"
	// Undecodable means that an object or a claim in etcd cannot be decoded.
	Undecodable DifferenceKind = "Undecodable"
)

// DifferenceKinds lists all kinds of differences.
var DifferenceKinds = []DifferenceKind{
	Overlap, OutsideParent, ParentMissing, AllocationWithoutClaim, ClaimWithoutAllocation, ChildDiffers, Leftover, Undecodable,
}

// Difference is an inconsistency between objects and claims.
type Difference struct {
	Kind DifferenceKind `json:"kind"`
	// Namespace and Name are those of the Prefix in a ChildDiffers, of the object in an Undecodable, and else of the
	// PrefixAllocation.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Parent is the name of the parent, or its uid if only that is known.
	Parent string `json:"parent"`
	// Prefix is the prefix that is held, in CIDR notation.
	Prefix string `json:"prefix"`
	// Message describes the difference in words.
	Message string `json:"message"`
	// Key is the key in etcd. It is set for ClaimWithoutAllocation and Undecodable only.
	Key string `json:"key,omitempty"`

	uid types.UID
}

// Auditor compares the objects and claims in etcd, and can repair what differs.
type Auditor struct {
	*claims.Etcd
	// orphaned holds the allocations whose parent did not exist when objects and claims were last compared.
	orphaned orphans
}

// New returns an Auditor.
func New(etcd *claims.Etcd) *Auditor { return &Auditor{Etcd: etcd} }

// Audit returns every difference between objects and claims. It changes nothing. A Leftover is reported only if it
// exists for as long as grace.
//
// It reads first the allocations, then the claims, then the Prefixes. It reads them page by page in the order of
// their keys, and looks up what the objects of a page depend on. These reads are at different revisions of etcd, so
// concurrent writes can produce false positives. Therefore a difference counts only if it is still there when
// everything that it depends on is read in one transaction. Memory is bounded by the size of a page and the number
// of differences.
//
//	page of       looks up                             finds
//	allocations   parent, claim, child of the claim    ParentMissing, OutsideParent, AllocationWithoutClaim, Leftover
//	claims        allocations that hold them, parent   ClaimWithoutAllocation, Overlap
//	Prefixes      parent, claim                        ChildDiffers
//
// Each kind of page can also find Undecodable. Claims are sorted by address, so allocations that overlap follow one
// another.
func (a *Auditor) Audit(ctx context.Context, rate Rate, grace time.Duration) ([]Difference, error) {
	return (&pass{Auditor: a, Rate: rate, grace: grace}).run(ctx)
}

// LeftoverGrace is how long a Leftover should exist before it is reported. The controllers delete an allocation
// shortly after its child, so for a short time it is normal.
const LeftoverGrace = 5 * time.Second

// Rate is the rate of a pass and its retry policy.
type Rate struct {
	// Read is the number of keys to read from etcd at a time. Page is the number of them to check at a time.
	Read, Page int
	// PauseFactor is how long the pass sleeps after a page, as a multiple of the time that the page took.
	PauseFactor int
	// Retry is the backoff between attempts of the same page. When its steps are used up, the pass fails.
	Retry wait.Backoff
}

// etcd reads up to 1,000 keys of a stream in advance. They are lost when the stream ends early, so Read is much larger.
var (
	// FullSpeed is the rate of a pass that somebody waits for.
	FullSpeed = Rate{Read: 10_000, Page: 2_500}
	// Slowly is the rate of a pass that causes little load: it works 1/40 of the time. It keeps retrying for half a
	// minute when etcd is not available.
	Slowly = Rate{
		Read: 10_000, Page: 2_500, PauseFactor: 39,
		Retry: wait.Backoff{Duration: time.Second, Factor: 2, Steps: 5},
	}
)

// pass compares all objects and claims once.
type pass struct {
	*Auditor
	Rate
	// grace is how long a Leftover must exist before it is reported. If it is negative, the pass does not look for
	// Leftovers.
	grace time.Duration
	// fix, if set, tries to repair a difference. v is the view in which the difference was found.
	fix func(ctx context.Context, v *view, d Difference) (outcome, error)
	// repaired, if set, is called for each difference that was repaired. Calls can be concurrent.
	repaired func(Difference)
	// claimsToo makes the check of an allocation also report its claim if that cannot be decoded. fix needs the
	// allocation to replace such a claim.
	claimsToo bool

	mu sync.Mutex
	findings
	// unclaimedOf has the allocations without a claim by the uid of the child that they refer to.
	unclaimedOf map[types.UID][]*allocationInfo
}

// findings is what a pass has found so far. A failed page is checked again with the findings from before it.
type findings struct {
	differences []Difference
	// unclaimed are the allocations without a claim, and orphans those whose parent does not exist. They are kept
	// because allocations that are checked later can overlap them.
	unclaimed, orphans []unclaimed
	// leftovers are the allocations that may be a Leftover. They are checked again at the end of the pass.
	leftovers []types.NamespacedName
	// chain finds overlaps among claims and unclaimed allocations, which are checked in the order of their keys.
	chain chain
}

// unclaimed is an allocation without a claim, with the key that its claim would have.
type unclaimed struct {
	key string
	*allocationInfo
}

// run does the whole pass and returns the differences that were not repaired.
func (p *pass) run(ctx context.Context) ([]Difference, error) {
	if err := p.eachPage(ctx, p.Allocations.All(), p.checkAllocations); err != nil {
		return nil, err
	}
	slices.SortFunc(p.unclaimed, compareUnclaimed)
	slices.SortFunc(p.orphans, compareUnclaimed)
	if err := p.eachPage(ctx, p.Keys.All(), p.checkClaims); err != nil {
		return nil, err
	}
	if err := p.once(ctx, p.checkUnclaimed); err != nil {
		return nil, err
	}
	if err := p.eachPage(ctx, p.Prefixes.All(), p.checkPrefixes); err != nil {
		return nil, err
	}
	if err := p.once(ctx, p.checkLeftovers); err != nil {
		return nil, err
	}
	p.orphaned.replace(p.orphans)
	slices.SortFunc(p.differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Parent, b.Parent),
			cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Name, b.Name), cmp.Compare(a.uid, b.uid), cmp.Compare(a.Key, b.Key))
	})
	return p.differences, nil
}

// eachPage checks a range of keys page by page.
func (p *pass) eachPage(ctx context.Context, keys claims.Range, check func(context.Context, []*mvccpb.KeyValue) error) error {
	var unchecked []*mvccpb.KeyValue
	return p.do(ctx, func() (done bool, err error) {
		if len(unchecked) == 0 {
			if unchecked, keys, err = p.Next(ctx, keys, p.Read); err != nil || len(unchecked) == 0 {
				return true, err
			}
		}
		page := unchecked[:min(p.Page, len(unchecked))]
		if err := p.withRollback(func() error { return check(ctx, page) }); err != nil {
			return false, err
		}
		unchecked = unchecked[len(page):]
		return false, nil
	})
}

// once runs a check that is not about a page. It is retried like a page.
func (p *pass) once(ctx context.Context, check func(context.Context) error) error {
	return p.do(ctx, func() (bool, error) {
		return true, p.withRollback(func() error { return check(ctx) })
	})
}

// withRollback discards the findings of a check that fails, because the check is repeated.
func (p *pass) withRollback(check func() error) error {
	before := p.findings
	err := check()
	if err != nil {
		p.findings = before
	}
	return err
}

// do calls piece until it is done, and sleeps in between. It retries a piece that fails.
func (r Rate) do(ctx context.Context, piece func() (done bool, err error)) error {
	retry := r.Retry
	for {
		began := time.Now()
		done, err := piece()
		pause := time.Duration(r.PauseFactor) * time.Since(began)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			retry = r.Retry
		case ctx.Err() != nil || retry.Steps == 0:
			return err
		default:
			pause += retry.Step()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// judge returns the differences of one object or claim. It may ask the view for keys that have not been read, and
// must then be called again.
type judge func(ctx context.Context, v *view) []Difference

// checkAllocations checks a page of allocations.
func (p *pass) checkAllocations(ctx context.Context, kvs []*mvccpb.KeyValue) error {
	return p.checkEach(ctx, kvs, func(key string) judge {
		return func(ctx context.Context, v *view) []Difference { return p.judgeAllocation(ctx, v, key) }
	})
}

// checkPrefixes checks a page of Prefixes.
func (p *pass) checkPrefixes(ctx context.Context, kvs []*mvccpb.KeyValue) error {
	return p.checkEach(ctx, kvs, func(key string) judge {
		return func(ctx context.Context, v *view) []Difference { return p.judgeChild(ctx, v, key) }
	})
}

// checkEach checks each key of a page with a judge of its own.
func (p *pass) checkEach(ctx context.Context, kvs []*mvccpb.KeyValue, judgeOf func(key string) judge) error {
	v := newView(p.Etcd, kvs)
	var suspects []judge
	if err := v.complete(ctx, func() {
		suspects = nil
		for _, kv := range kvs {
			if judge := judgeOf(string(kv.Key)); len(judge(ctx, v)) > 0 {
				suspects = append(suspects, judge)
			}
		}
	}); err != nil {
		return err
	}
	if err := v.checkKeys(len(kvs)); err != nil {
		return err
	}
	return p.settleAll(ctx, v, suspects)
}

// checkClaims checks a page of claims. All holders of a claim must hold its prefix, and no two holders may overlap.
func (p *pass) checkClaims(ctx context.Context, kvs []*mvccpb.KeyValue) error {
	v := newView(p.Etcd, kvs)
	var suspects []judge
	var held [][]*allocationInfo
	if err := v.complete(ctx, func() {
		suspects, held = nil, nil
		for _, kv := range kvs {
			key := string(kv.Key)
			holders := []claims.Holder{{}}
			if entry, _ := v.claim(key); entry != nil && len(entry.Holders) > 0 {
				holders = entry.Holders
			}
			var holding []*allocationInfo
			for _, h := range holders {
				judge := func(ctx context.Context, v *view) []Difference { return judgeHolder(ctx, v, key, h) }
				if len(judge(ctx, v)) > 0 {
					suspects = append(suspects, judge)
				} else if a, state := v.allocation(ctx, p.Allocations.Key(h.Namespace, h.Name)); state == present {
					if _, state := v.prefix(ctx, p.Prefixes.Key(a.parentNamespace, a.parent)); state == present {
						holding = append(holding, a)
					}
				}
			}
			held = append(held, holding)
		}
	}); err != nil {
		return err
	}
	for i, kv := range kvs {
		key := string(kv.Key)
		if err := p.overlapsBefore(ctx, key); err != nil {
			return err
		}
		for len(p.unclaimed) > 0 && p.unclaimed[0].key == key {
			held[i], p.unclaimed = append(held[i], p.unclaimed[0].allocationInfo), p.unclaimed[1:]
		}
		slices.SortFunc(held[i], compareAge)
		for _, a := range held[i] {
			if err := p.checkOverlap(ctx, a); err != nil {
				return err
			}
		}
	}
	return p.settleAll(ctx, v, suspects)
}

// overlapsBefore checks for overlap those unclaimed allocations whose claims would sort before a key.
func (p *pass) overlapsBefore(ctx context.Context, key string) error {
	for len(p.unclaimed) > 0 && p.unclaimed[0].key < key {
		a := p.unclaimed[0].allocationInfo
		p.unclaimed = p.unclaimed[1:]
		if err := p.checkOverlap(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// checkUnclaimed checks for overlap the unclaimed allocations that sort after all claims, and the orphans.
func (p *pass) checkUnclaimed(ctx context.Context) error {
	if err := p.overlapsBefore(ctx, p.Keys.All().End); err != nil {
		return err
	}
	for _, a := range p.orphans {
		if err := p.checkOverlap(ctx, a.allocationInfo); err != nil {
			return err
		}
	}
	return nil
}

// compareUnclaimed sorts by key, and by age if the keys are the same.
func compareUnclaimed(a, b unclaimed) int {
	return cmp.Or(cmp.Compare(a.key, b.key), compareAge(a.allocationInfo, b.allocationInfo))
}

// compareAge sorts the older allocation first. If both hold the same prefix, the older one takes precedence.
func compareAge(a, b *allocationInfo) int {
	return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.UID, b.UID))
}

// chain finds overlaps among allocations that are sorted by parent, address, length and age.
type chain struct{ last *allocationInfo }

// overlapping returns an earlier allocation that overlaps next, or nil if there is none.
func (c *chain) overlapping(next *allocationInfo) *allocationInfo {
	// Two prefixes are disjoint or one contains the other. So it is enough to compare with the last allocation that
	// is not inside an earlier one.
	if c.last != nil && c.last.overlaps(next) {
		return c.last
	}
	c.last = next
	return nil
}

// checkOverlap checks whether next overlaps an allocation before it. Allocations must come in the order of their
// claims.
func (p *pass) checkOverlap(ctx context.Context, next *allocationInfo) error {
	other := p.chain.overlapping(next)
	if other == nil {
		return nil
	}
	return p.settle(ctx, nil, func(ctx context.Context, v *view) []Difference { return judgeOverlap(ctx, v, other, next) })
}

// checkLeftovers waits up to grace for possible Leftovers to be deleted, and reports those that are not.
func (p *pass) checkLeftovers(ctx context.Context) error {
	if p.grace < 0 {
		return nil
	}
	for began := time.Now(); len(p.leftovers) > 0; {
		var still []Difference
		var left []types.NamespacedName
		for _, name := range p.leftovers {
			_, found, err := judgeAtOneRevision(ctx, p.Etcd, nil, func(ctx context.Context, v *view) []Difference {
				return p.judgeAllocation(ctx, v, p.Allocations.Key(name.Namespace, name.Name))
			})
			if err != nil {
				return err
			}
			if i := slices.IndexFunc(found, func(d Difference) bool { return d.Kind == Leftover }); i >= 0 {
				still, left = append(still, found[i]), append(left, name)
			}
		}
		if p.leftovers = left; time.Since(began) >= p.grace {
			p.differences = append(p.differences, still...)
			return nil
		}
		select {
		case <-time.After(p.grace / 20):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// fixers is the number of differences that are settled at the same time.
const fixers = 16

// settleAll settles the suspects of a page. v is used to find out which keys each of them asks for.
func (p *pass) settleAll(ctx context.Context, v *view, suspects []judge) error {
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(fixers)
	for _, judge := range suspects {
		asked := v.asked(func() { judge(ctx, v) })
		group.Go(func() error { return p.settle(working, asked, judge) })
	}
	return group.Wait()
}

// settle reads everything that a judge asks for at one revision, repairs the differences that remain if the pass has
// a fix, and reports the others. asked are the keys to read first.
func (p *pass) settle(ctx context.Context, asked []string, judge judge) error {
	for n := 1; ; n++ {
		v, found, err := judgeAtOneRevision(ctx, p.Etcd, asked, judge)
		if err != nil {
			return err
		}
		again := false
		var left []Difference
		for _, d := range found {
			outcome := leave
			if p.fix != nil {
				if outcome, err = p.fix(ctx, v, d); err != nil {
					return err
				}
			}
			switch outcome {
			case fixed:
				if p.repaired != nil {
					p.repaired(d)
				}
				// The repair may have changed the other differences.
				again = again || len(found) > 1 || d.Kind == Undecodable
			case stale:
				again = true
			case leave:
				left = append(left, d)
			}
		}
		if again && n < maxTries {
			continue
		}
		p.record(ctx, v, left)
		return nil
	}
}

// record adds differences to the findings.
func (p *pass) record(ctx context.Context, v *view, found []Difference) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range found {
		key := p.Allocations.Key(d.Namespace, d.Name)
		switch d.Kind {
		case Leftover:
			p.leftovers = append(p.leftovers, types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
			continue
		case AllocationWithoutClaim, ParentMissing:
			a, _ := v.allocation(ctx, key)
			if parent, state := v.prefix(ctx, p.Prefixes.Key(a.parentNamespace, a.parent)); state == present {
				p.unclaimed = append(p.unclaimed, unclaimed{p.Keys.Claim(parent.uid, a.prefix), a})
			} else {
				// The uid of the parent is not known. Its namespace and name take the place of the uid in the key.
				p.orphans = append(p.orphans, unclaimed{p.Keys.Claim(types.UID(a.parentNamespace+"/"+a.parent), a.prefix), a})
			}
			if a.Child != nil {
				if p.unclaimedOf == nil {
					p.unclaimedOf = map[types.UID][]*allocationInfo{}
				}
				p.unclaimedOf[a.Child.UID] = append(p.unclaimedOf[a.Child.UID], a)
			}
		}
		p.differences = append(p.differences, d)
	}
}

// judgeAllocation returns the differences of the allocation at a key.
func (p *pass) judgeAllocation(ctx context.Context, v *view, key string) []Difference {
	a, state := v.allocation(ctx, key)
	switch {
	case state == undecodable:
		return []Difference{v.undecodable(key)}
	case state != present || !a.allocated:
		return nil
	}
	parent, state := v.prefix(ctx, p.Prefixes.Key(a.parentNamespace, a.parent))
	switch state {
	case absent:
		return []Difference{a.difference(ParentMissing, "Prefix %s does not exist", a.parentName())}
	case unread, undecodable:
		return nil
	}
	var wrong []Difference
	if !parent.contains(a.prefix) {
		wrong = append(wrong, a.difference(OutsideParent, "%s is not strictly inside %s of Prefix %s", a.prefix, parent.written, a.parentName()))
	}
	claimKey := p.Keys.Claim(parent.uid, a.prefix)
	entry, state := v.claim(claimKey)
	switch state {
	case unread:
		return nil
	case undecodable:
		// The check of claims reports it, too.
		if p.claimsToo {
			d := v.undecodable(claimKey)
			d.Namespace, d.Name, d.uid = a.Namespace, a.Name, a.UID
			wrong = append(wrong, d)
		}
		return wrong
	}
	h := entry.holder(a)
	if h == nil {
		return append(wrong, a.difference(AllocationWithoutClaim, "there is no claim to %s of Prefix %s", a.prefix, a.parentName()))
	}
	if h.Child == nil || p.grace < 0 {
		return wrong
	}
	child, state := v.prefix(ctx, p.Prefixes.Key(h.Namespace, h.Child.Name))
	switch {
	case state == unread || state == undecodable:
	case a.cooling:
		// It is kept for a child of that name.
	case state == absent || child.uid != h.Child.UID:
		wrong = append(wrong, a.difference(Leftover, "%s of Prefix %s is held for Prefix %s with uid %s, which does not exist",
			a.prefix, a.parentName(), h.Child.Name, h.Child.UID))
	case child.allocated && (child.prefix != a.prefix || child.parent != a.parent || child.parentNamespace != a.parentNamespace):
		wrong = append(wrong, a.difference(Leftover, "%s of Prefix %s is held for Prefix %s, which is allocated as %s of Prefix %s",
			a.prefix, a.parentName(), h.Child.Name, child.written, child.parent))
	}
	return wrong
}

// judgeHolder returns the differences of a claim and one of its holders. If the claim has no holder, h has no uid.
// An allocation that cannot be decoded counts as holding the claim.
func judgeHolder(ctx context.Context, v *view, key string, h claims.Holder) []Difference {
	entry, state := v.claim(key)
	switch {
	case state == undecodable:
		return []Difference{v.undecodable(key)}
	case state != present || h.UID != "" && entry.Find(h.UID) == nil:
		return nil
	case len(entry.Holders) > 0:
		a, state := v.allocation(ctx, v.Allocations.Key(h.Namespace, h.Name))
		if state == unread || state == undecodable {
			return nil
		}
		if state == present && a.allocated && a.UID == h.UID && a.prefix == entry.prefix {
			// If its parent does not exist, the allocation still holds the space that it had from it.
			if parent, state := v.prefix(ctx, v.Prefixes.Key(a.parentNamespace, a.parent)); state != present || parent.uid == entry.parent {
				return nil
			}
		}
	}
	return []Difference{{
		Kind: ClaimWithoutAllocation, Namespace: h.Namespace, Name: h.Name, Parent: string(entry.parent), Prefix: entry.prefix.String(),
		Message: fmt.Sprintf("no PrefixAllocation with uid %q holds %s of the Prefix with uid %s", h.UID, entry.prefix, entry.parent),
		Key:     key, uid: h.UID,
	}}
}

// judgeOverlap returns a difference if both allocations still exist and hold the same as before. They overlap.
func judgeOverlap(ctx context.Context, v *view, a, b *allocationInfo) []Difference {
	for _, read := range []*allocationInfo{a, b} {
		now, state := v.allocation(ctx, v.Allocations.Key(read.Namespace, read.Name))
		if state != present || !now.allocated || now.UID != read.UID || now.parent != read.parent || now.parentNamespace != read.parentNamespace || now.prefix != read.prefix {
			return nil
		}
	}
	return []Difference{b.difference(Overlap, "%s overlaps %s, which PrefixAllocation %s holds", b.prefix, a.prefix, a.Name)}
}

// judgeChild returns the differences of the Prefix at a key. An allocated child must have a claim that was made for
// it.
func (p *pass) judgeChild(ctx context.Context, v *view, key string) []Difference {
	child, state := v.prefix(ctx, key)
	switch {
	case state == undecodable:
		return []Difference{v.undecodable(key)}
	case state != present || !child.allocated || child.root:
		return nil
	}
	differs := []Difference{{
		Kind: ChildDiffers, Namespace: child.namespace, Name: child.name, Parent: child.parent, Prefix: child.written,
		Message: fmt.Sprintf("no claim to %q of Prefix %q was made for it", child.written, child.parent), uid: child.uid,
	}}
	if !child.prefix.IsValid() || child.parent == "" {
		return differs
	}
	parent, state := v.prefix(ctx, p.Prefixes.Key(child.parentNamespace, child.parent))
	switch state {
	case unread, undecodable:
		return nil
	case present:
		entry, state := v.claim(p.Keys.Claim(parent.uid, child.prefix))
		if state == unread || state == undecodable || entry.madeFor(child) {
			return nil
		}
	}
	if p.standsOnUnclaimed(child) {
		return nil
	}
	return differs
}

// standsOnUnclaimed reports whether a child uses the space of an allocation without a claim, which has been reported
// as AllocationWithoutClaim or ParentMissing.
func (p *pass) standsOnUnclaimed(child *prefixInfo) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.unclaimedOf[child.uid], func(a *allocationInfo) bool {
		return a.Namespace == child.namespace && a.parent == child.parent && a.parentNamespace == child.parentNamespace && a.prefix == child.prefix
	})
}

// difference returns a difference of an allocation.
func (a *allocationInfo) difference(kind DifferenceKind, format string, args ...any) Difference {
	return Difference{
		Kind: kind, Namespace: a.Namespace, Name: a.Name, Parent: a.parentName(), Prefix: a.prefix.String(),
		Message: fmt.Sprintf(format, args...), uid: a.UID,
	}
}

// parentName returns the name of the parent, with its namespace if that is another one.
func (a *allocationInfo) parentName() string {
	if a.parentNamespace == a.Namespace {
		return a.parent
	}
	return a.parentNamespace + "/" + a.parent
}

// overlaps reports whether two allocations have the same parent and overlap.
func (a *allocationInfo) overlaps(b *allocationInfo) bool {
	return a.parentNamespace == b.parentNamespace && a.parent == b.parent && a.prefix.Overlaps(b.prefix)
}

// contains reports whether a prefix is strictly inside the Prefix.
func (p *prefixInfo) contains(prefix netip.Prefix) bool {
	return p.prefix.IsValid() && cidr.StrictlyInside(prefix, p.prefix)
}
