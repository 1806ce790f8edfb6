// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime"
)

// outcome is what became of an attempt to repair something.
type outcome int

const (
	// leave means that it cannot be repaired without a human.
	leave outcome = iota
	// fixed means that it was repaired.
	fixed
	// stale means that what was wrong has changed meanwhile.
	stale
)

// Repair does an Audit and repairs the differences for which there is only one way to do it. It returns them,
// and what is left for a human.
//
//	AllocationWithoutClaim   makes the claim, unless it would overlap another one
//	ClaimWithoutAllocation   removes the holder, unless a child stands on what is claimed for it, or the
//	                         allocation is in lost+found
//	ChildDiffers             makes the claim to what the child has the child's, if it is nobody's
//	Undecodable              moves it to lost+found
//
// Each repair is one transaction, which compares all that it is based on.
func (c *Claims) Repair(ctx context.Context) (repaired, left []Difference, err error) {
	return c.repair(ctx, fullSpeed, leftoverGrace)
}

func (c *Claims) repair(ctx context.Context, pace pace, grace time.Duration) (repaired, left []Difference, err error) {
	p := &pass{Claims: c, pace: pace, grace: grace, claimsToo: true}
	p.repaired = func(d Difference) {
		p.mu.Lock()
		defer p.mu.Unlock()
		repaired = append(repaired, d)
	}
	p.fix = func(ctx context.Context, v *view, d Difference) (outcome, error) {
		switch d.Kind {
		case AllocationWithoutClaim:
			return p.makeClaim(ctx, v, d, false)
		case ClaimWithoutAllocation:
			return p.free(ctx, d)
		case ChildDiffers:
			return p.giveToChild(ctx, v, d)
		case Undecodable:
			return p.moveAside(ctx, v, d)
		}
		return leave, nil
	}
	left, err = p.run(ctx)
	if err == nil && len(repaired) > 0 {
		// A repair can be what makes something else wrong, or right.
		left, err = c.audit(ctx, pace, grace)
	}
	return repaired, left, err
}

// Adopt makes the store fit to be served after another server, which knows no claims, has written to it: every
// allocation gets a claim, claims of allocations that are gone are removed, and a child that stands on an allocation which
// has lost its reference to the child gets the claim. Allocations that overlap
// all get their claims, so that nothing new is allocated over any of them; a human has to decide which of them is
// right. It calls freed for each claim that it removes, and returns the differences that are left.
//
// Each change is one transaction, and a change that has been made already is none, so several servers can do this
// at the same time, and any of them can die meanwhile.
func (c *Claims) Adopt(ctx context.Context, freed func(Difference)) ([]Difference, error) {
	p := &pass{Claims: c, pace: fullSpeed, grace: -1}
	p.repaired = func(d Difference) {
		if d.Kind == ClaimWithoutAllocation && freed != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			freed(d)
		}
	}
	p.fix = func(ctx context.Context, v *view, d Difference) (outcome, error) {
		switch d.Kind {
		case AllocationWithoutClaim:
			return p.makeClaim(ctx, v, d, true)
		case ClaimWithoutAllocation:
			return p.free(ctx, d)
		case ChildDiffers:
			return p.giveToChild(ctx, v, d)
		}
		return leave, nil
	}
	return p.run(ctx)
}

// makeClaim makes the claim of an allocation. If what it overlaps is held by nobody, that is removed first. What
// overlaps a claim of somebody else gets one only by force.
func (p *pass) makeClaim(ctx context.Context, v *view, d Difference, force bool) (outcome, error) {
	a, _ := v.allocation(ctx, p.allocations.etcdKey(d.Namespace, d.Name))
	parent, _ := v.prefix(ctx, p.prefixes.etcdKey(a.Namespace, a.parent))
	key := p.keyspace.claim(parent.uid, a.prefix)
	h, same, err := p.asHolder(ctx, v, a, parent)
	if err != nil {
		return leave, err
	}
	ranges := append(p.keyspace.around(parent.uid, parent.prefix, a.prefix), p.keyspace.inside(parent.uid, a.prefix))
	if parent.contains(a.prefix) && len(same)+len(ranges) <= maxTxnOps {
		compares := slices.Clone(same)
		for _, r := range ranges {
			compares = append(compares, isEmpty(r).compare)
		}
		encoded, err := claim{Holders: []holder{h}}.encode()
		if err != nil {
			return leave, err
		}
		for freed := true; freed; {
			response, err := p.kv.Txn(ctx).If(compares...).Then(clientv3.OpPut(key, encoded)).Commit()
			if err != nil || response.Succeeded {
				return fixed, err
			}
			if freed, err = p.freeIn(ctx, ranges); err != nil {
				return leave, err
			}
		}
	}
	for {
		// Something is in the way. If it is a claim to the same prefix, they share the key.
		kv, value, err := p.readClaim(ctx, key)
		switch {
		case err != nil:
			return leave, err
		case value.find(a.UID) != nil:
			return stale, nil
		case !force && (kv == nil || len(value.Holders) > 0):
			response, err := p.kv.Txn(ctx).If(same...).Commit()
			if err == nil && !response.Succeeded {
				return stale, nil
			}
			return leave, err
		}
		modRevision := int64(0)
		if kv != nil {
			modRevision = kv.ModRevision
		}
		encoded, err := claim{Holders: append(value.Holders, h)}.encode()
		if err != nil {
			return leave, err
		}
		response, err := p.kv.Txn(ctx).
			If(append(slices.Clone(same), isUnchanged(key, modRevision).compare)...).
			Then(clientv3.OpPut(key, encoded)).
			Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).
			Commit()
		if err != nil || response.Succeeded {
			return fixed, err
		}
		now := int64(0)
		if kv := first(answersOf(response)[0]); kv != nil {
			now = kv.ModRevision
		}
		if now == modRevision {
			// It is the allocation or the parent that has changed.
			return stale, nil
		}
	}
}

// asHolder returns an allocation as the holder of its claim, and compares that it is the same and its parent, too.
// It holds the claim for the child that it refers to only if that exists: whoever wrote the store before
// did not check it.
func (p *pass) asHolder(ctx context.Context, v *view, a *allocationInfo, parent *prefixInfo) (holder, []clientv3.Cmp, error) {
	same := []clientv3.Cmp{
		isUnchanged(p.allocations.etcdKey(a.Namespace, a.Name), a.modRevision).compare,
		isSame(p.prefixes.etcdKey(a.Namespace, a.parent), parent.createRevision).compare,
	}
	h := a.holder
	if h.Owner == nil {
		return h, same, nil
	}
	key := p.prefixes.etcdKey(h.Namespace, h.Owner.Name)
	if err := v.complete(ctx, func() { v.prefix(ctx, key) }); err != nil {
		return h, nil, err
	}
	child, found := v.prefix(ctx, key)
	switch {
	case found == present && child.uid == h.Owner.UID && !child.root:
		same = append(same, isSame(key, child.createRevision).compare)
	case found == undecodable:
		// It may be the one.
	default:
		h.Owner = nil
	}
	return h, same, nil
}

// freeIn removes the first claim of some ranges if nobody holds it. It tells whether it has removed any.
func (p *pass) freeIn(ctx context.Context, ranges []keyRange) (freed bool, err error) {
	for _, r := range ranges {
		kv, err := p.firstOf(ctx, r)
		if err != nil {
			return freed, err
		}
		if kv != nil {
			removed, err := p.freeAll(ctx, kv)
			if err != nil {
				return freed, err
			}
			freed = freed || removed
		}
	}
	return freed, nil
}

// freeAll takes the holders of a claim that do not hold it from it, and tells whether that removed the claim.
func (p *pass) freeAll(ctx context.Context, kv *mvccpb.KeyValue) (removed bool, err error) {
	key := string(kv.Key)
	entry, found := p.newView([]*mvccpb.KeyValue{kv}).claim(key)
	if found != present {
		return false, nil
	}
	holders := entry.Holders
	if len(holders) == 0 {
		holders = []holder{{}}
	}
	for _, h := range holders {
		_, wrong, err := p.atOnce(ctx, nil, func(ctx context.Context, v *view) []Difference { return judgeHolder(ctx, v, key, h) })
		if err != nil {
			return false, err
		}
		if len(wrong) == 0 {
			return false, nil
		}
		switch done, err := p.free(ctx, wrong[0]); {
		case err != nil || done == leave:
			return false, err
		case done == fixed && p.repaired != nil:
			p.repaired(wrong[0])
		}
	}
	return true, nil
}

// free takes a holder from a claim that it does not hold, if nobody can need it: the child that it was claimed for does not
// stand on it, and neither the allocation nor the child is in lost+found, nor what the claim was.
func (p *pass) free(ctx context.Context, d Difference) (outcome, error) {
	h := holder{Namespace: d.Namespace, Name: d.Name, UID: d.uid}
	var wrong []Difference
	v, needless, err := p.atOnce(ctx, nil, func(ctx context.Context, v *view) []Difference {
		wrong = judgeHolder(ctx, v, d.Key, h)
		entry, found := v.claim(d.Key)
		if found != present {
			return nil
		}
		lost := []string{p.lost(d.Key), p.lost(p.allocations.etcdKey(h.Namespace, h.Name))}
		if full := entry.find(h.UID); full != nil && full.Owner != nil {
			key := p.prefixes.etcdKey(h.Namespace, full.Owner.Name)
			lost = append(lost, p.lost(key))
			if mayStandOn(ctx, v, key, *full.Owner, entry) {
				return nil
			}
		}
		for _, key := range lost {
			if _, found := v.ask(key); found == present {
				return nil
			}
		}
		return wrong
	})
	switch {
	case err != nil:
		return leave, err
	case len(wrong) == 0:
		// Somebody else has freed it.
		return stale, nil
	case len(needless) == 0:
		return leave, nil
	}
	entry, _ := v.claim(d.Key)
	write := clientv3.OpDelete(d.Key)
	if rest := entry.without(d.uid); len(rest.Holders) > 0 {
		encoded, err := rest.encode()
		if err != nil {
			return leave, err
		}
		write = clientv3.OpPut(d.Key, encoded)
	}
	return p.commit(ctx, v, write)
}

// mayStandOn tells whether a child may stand on a claim that was made for it.
func mayStandOn(ctx context.Context, v *view, key string, of owner, entry *claimEntry) bool {
	child, found := v.prefix(ctx, key)
	if found != present {
		return found == undecodable
	}
	if child.uid != of.UID || !child.allocated || child.prefix != entry.prefix {
		return false
	}
	parent, found := v.prefix(ctx, v.prefixes.etcdKey(child.namespace, child.parent))
	return found != present || parent.uid == entry.parent
}

// giveToChild makes the claim to what a child has the child's if it is nobody's: a server that knows no claims let somebody
// remove the reference to the child from the allocation. Without this the allocation could be deleted under the child.
func (p *pass) giveToChild(ctx context.Context, v *view, d Difference) (outcome, error) {
	child, _ := v.prefix(ctx, p.prefixes.etcdKey(d.Namespace, d.Name))
	parent, found := v.prefix(ctx, p.prefixes.etcdKey(child.namespace, child.parent))
	if found != present || !child.prefix.IsValid() {
		return leave, nil
	}
	key := p.keyspace.claim(parent.uid, child.prefix)
	entry, found := v.claim(key)
	if found != present || len(entry.Holders) != 1 || entry.Holders[0].Namespace != child.namespace || entry.Holders[0].Owner != nil {
		return leave, nil
	}
	h := entry.Holders[0]
	h.Owner = &owner{child.name, child.uid}
	encoded, err := claim{Holders: []holder{h}}.encode()
	if err != nil {
		return leave, err
	}
	return p.commit(ctx, v, clientv3.OpPut(key, encoded))
}

// moveAside moves what cannot be decoded to lost+found, where nothing reads it. A claim stays, without holders or
// with the allocation that has it, so that its space is not free.
func (p *pass) moveAside(ctx context.Context, v *view, d Difference) (outcome, error) {
	if !corrupt(v.errs[d.Key]) {
		return leave, nil
	}
	to := p.lost(d.Key)
	if err := v.complete(ctx, func() { v.ask(to) }); err != nil {
		return leave, err
	}
	if _, found := v.ask(to); found != absent {
		return leave, nil
	}
	write := clientv3.OpDelete(d.Key)
	if parent, prefix, err := p.keyspace.parse(d.Key); err == nil {
		var c claim
		if d.uid != "" {
			a, _ := v.allocation(ctx, p.allocations.etcdKey(d.Namespace, d.Name))
			of, found := v.prefix(ctx, p.prefixes.etcdKey(a.Namespace, a.parent))
			if found != present || of.uid != parent || a.prefix != prefix {
				return stale, nil
			}
			h, _, err := p.asHolder(ctx, v, a, of)
			if err != nil {
				return leave, err
			}
			c.Holders = []holder{h}
		}
		encoded, err := c.encode()
		if err != nil {
			return leave, err
		}
		write = clientv3.OpPut(d.Key, encoded)
	}
	value, _ := v.ask(d.Key)
	return p.commit(ctx, v, clientv3.OpPut(to, string(value.Value)), write)
}

// corrupt tells whether an error means that nobody can read what is stored. Who has the key can read what is encrypted, and
// a newer server what is stored in another version.
func corrupt(err error) bool {
	if errors.Is(err, errEncrypted) {
		return false
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if runtime.IsNotRegisteredError(err) {
			return false
		}
	}
	return true
}

// lost returns where a key is moved that cannot be decoded.
func (c *Claims) lost(key string) string {
	return c.prefixes.etcdPrefix + "/lost+found" + strings.TrimPrefix(key, c.prefixes.etcdPrefix)
}

// commit writes if nothing in the view has changed.
func (p *pass) commit(ctx context.Context, v *view, writes ...clientv3.Op) (outcome, error) {
	response, err := p.kv.Txn(ctx).If(v.unchanged()...).Then(writes...).Commit()
	switch {
	case err != nil:
		return leave, err
	case !response.Succeeded:
		return stale, nil
	}
	return fixed, nil
}
