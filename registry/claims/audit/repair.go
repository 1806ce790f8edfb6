// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime"
)

// outcome is the result of trying to repair a difference.
type outcome int

const (
	// leave means that it was not repaired, because that needs a human.
	leave outcome = iota
	// fixed means that it was repaired.
	fixed
	// stale means that the state in etcd has changed, so it has to be judged again.
	stale
)

// Repair does an Audit and repairs the differences that can be repaired in only one way. It returns the repaired
// differences and those that are left.
//
//	AllocationWithoutClaim   makes the claim, unless it would overlap another one
//	ClaimWithoutAllocation   removes the holder, unless a child may use the space that was claimed for it, or
//	                         what the claim refers to is in lost+found
//	ChildDiffers             puts the child into the claim to its prefix, if there is none in it
//	Undecodable              moves it to lost+found, unless it is encrypted or of an unknown version
//
// Each repair is one transaction, which compares everything that it is based on.
func (a *Auditor) Repair(ctx context.Context) (repaired, left []Difference, err error) {
	return a.repair(ctx, FullSpeed, LeftoverGrace)
}

func (a *Auditor) repair(ctx context.Context, rate Rate, grace time.Duration) (repaired, left []Difference, err error) {
	p := &pass{Auditor: a, Rate: rate, grace: grace, claimsToo: true}
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
		// A repair can cause other differences, or resolve them.
		left, err = a.Audit(ctx, rate, grace)
	}
	return repaired, left, err
}

// Adopt prepares a store to which a server without claims may have written:
//
//   - Each allocation gets a claim. Allocations that overlap all get one, so that nothing new is allocated over any
//     of them. An operator has to decide which of them stays.
//   - Claims of allocations that are gone are removed. Adopt calls freed for each of them, if freed is not nil.
//   - A child is put into the claim to its prefix, if its allocation has lost the reference to it.
//
// Adopt returns the differences that are left. Each change is one transaction, and a change that has been made
// already is not made again. So several servers can adopt the store at the same time, and any of them can crash.
func (a *Auditor) Adopt(ctx context.Context, freed func(Difference)) ([]Difference, error) {
	p := &pass{Auditor: a, Rate: FullSpeed, grace: -1}
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

// makeClaim makes the claim of an allocation. It removes overlapping claims that nobody holds. If another
// overlapping claim remains, makeClaim makes the claim only if force is set.
func (p *pass) makeClaim(ctx context.Context, v *view, d Difference, force bool) (outcome, error) {
	a, _ := v.allocation(ctx, p.Allocations.Key(d.Namespace, d.Name))
	parent, _ := v.prefix(ctx, p.Prefixes.Key(a.parentNamespace, a.parent))
	key := p.Keys.Claim(parent.uid, a.prefix)
	h, same, err := p.asHolder(ctx, v, a, parent)
	if err != nil {
		return leave, err
	}
	ranges := append(p.Keys.Around(parent.uid, parent.prefix, a.prefix), p.Keys.Inside(parent.uid, a.prefix))
	if parent.contains(a.prefix) && len(same)+len(ranges) <= claims.MaxTxnOps {
		if made, err := p.makeFreeClaim(ctx, key, h, same, ranges); err != nil || made {
			return fixed, err
		}
	}
	// A claim overlaps, or one transaction cannot check it.
	return p.addHolder(ctx, key, h, same, force)
}

// makeFreeClaim makes a claim if no claim in the ranges overlaps it and the compares in same hold. It removes overlapping
// claims that nobody holds, and tries again. It reports whether it made the claim.
func (p *pass) makeFreeClaim(ctx context.Context, key string, h claims.Holder, same []clientv3.Cmp, ranges []claims.Range) (made bool, err error) {
	compares := slices.Clone(same)
	for _, r := range ranges {
		compares = append(compares, claims.IsEmpty(r).Compare)
	}
	encoded, err := claims.Claim{Holders: []claims.Holder{h}}.Encode()
	if err != nil {
		return false, err
	}
	for {
		response, err := p.KV.Txn(ctx).If(compares...).Then(clientv3.OpPut(key, encoded)).Commit()
		if err != nil || response.Succeeded {
			return err == nil, err
		}
		if freed, err := p.freeIn(ctx, ranges); err != nil || !freed {
			return false, err
		}
	}
}

// addHolder adds a holder to the claim at a key, which others may hold, too, and which may overlap other claims. Without
// force it does so only if there is a claim that nobody holds. The compares in same must hold.
func (p *pass) addHolder(ctx context.Context, key string, h claims.Holder, same []clientv3.Cmp, force bool) (outcome, error) {
	for {
		kv, value, err := p.ReadClaim(ctx, key)
		switch {
		case err != nil:
			return leave, err
		case value.Find(h.UID) != nil:
			return stale, nil
		case !force && (kv == nil || len(value.Holders) > 0):
			response, err := p.KV.Txn(ctx).If(same...).Commit()
			if err == nil && !response.Succeeded {
				return stale, nil
			}
			return leave, err
		}
		modRevision := int64(0)
		if kv != nil {
			modRevision = kv.ModRevision
		}
		encoded, err := claims.Claim{Holders: append(value.Holders, h)}.Encode()
		if err != nil {
			return leave, err
		}
		response, err := p.KV.Txn(ctx).
			If(append(slices.Clone(same), claims.IsUnchanged(key, modRevision).Compare)...).
			Then(clientv3.OpPut(key, encoded)).
			Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).
			Commit()
		if err != nil || response.Succeeded {
			return fixed, err
		}
		now := int64(0)
		if kvs := response.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			now = kvs[0].ModRevision
		}
		if now == modRevision {
			// The claim is unchanged, so an object in same has changed.
			return stale, nil
		}
	}
}

// asHolder returns an allocation as the holder of its claim, and compares which require that the allocation, its
// parent and its child are the same. It drops a child that does not exist or is a root: the server that wrote the
// allocation did not check it.
func (p *pass) asHolder(ctx context.Context, v *view, a *allocationInfo, parent *prefixInfo) (claims.Holder, []clientv3.Cmp, error) {
	same := []clientv3.Cmp{
		claims.IsUnchanged(p.Allocations.Key(a.Namespace, a.Name), a.modRevision).Compare,
		claims.IsSame(p.Prefixes.Key(a.parentNamespace, a.parent), parent.createRevision).Compare,
	}
	h := a.Holder
	if h.Child == nil {
		return h, same, nil
	}
	key := p.Prefixes.Key(h.Namespace, h.Child.Name)
	if err := v.complete(ctx, func() { v.prefix(ctx, key) }); err != nil {
		return h, nil, err
	}
	child, state := v.prefix(ctx, key)
	switch {
	case state == present && child.uid == h.Child.UID && !child.root:
		same = append(same, claims.IsSame(key, child.createRevision).Compare)
	case state == undecodable:
		// The child may be this object, so keep it.
	default:
		h.Child = nil
	}
	return h, same, nil
}

// freeIn removes the first claim of each range if nobody holds it. It reports whether it removed any.
func (p *pass) freeIn(ctx context.Context, ranges []claims.Range) (freed bool, err error) {
	for _, r := range ranges {
		kv, err := p.FirstOf(ctx, r)
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

// freeAll removes each holder of a claim that does not hold its prefix. It reports whether that removed the claim.
func (p *pass) freeAll(ctx context.Context, kv *mvccpb.KeyValue) (removed bool, err error) {
	key := string(kv.Key)
	entry, state := newView(p.Etcd, []*mvccpb.KeyValue{kv}).claim(key)
	if state != present {
		return false, nil
	}
	holders := entry.Holders
	if len(holders) == 0 {
		holders = []claims.Holder{{}}
	}
	for _, h := range holders {
		_, wrong, err := judgeAtOneRevision(ctx, p.Etcd, nil, func(ctx context.Context, v *view) []Difference { return judgeHolder(ctx, v, key, h) })
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

// free removes a holder that does not hold its claim, unless the space may still be needed: the child that it was
// claimed for may use it, or the allocation, the child or an earlier value of the claim is in lost+found.
func (p *pass) free(ctx context.Context, d Difference) (outcome, error) {
	h := claims.Holder{Namespace: d.Namespace, Name: d.Name, UID: d.uid}
	var wrong []Difference
	v, needless, err := judgeAtOneRevision(ctx, p.Etcd, nil, func(ctx context.Context, v *view) []Difference {
		wrong = judgeHolder(ctx, v, d.Key, h)
		entry, state := v.claim(d.Key)
		if state != present {
			return nil
		}
		lost := []string{p.Lost(d.Key), p.Lost(p.Allocations.Key(h.Namespace, h.Name))}
		if full := entry.Find(h.UID); full != nil && full.Child != nil {
			key := p.Prefixes.Key(h.Namespace, full.Child.Name)
			lost = append(lost, p.Lost(key))
			if mayStandOn(ctx, v, key, *full.Child, entry) {
				return nil
			}
		}
		for _, key := range lost {
			if _, state := v.ask(key); state == present {
				return nil
			}
		}
		return wrong
	})
	switch {
	case err != nil:
		return leave, err
	case len(wrong) == 0:
		// Another server has removed it.
		return stale, nil
	case len(needless) == 0:
		return leave, nil
	}
	entry, _ := v.claim(d.Key)
	write := clientv3.OpDelete(d.Key)
	if rest := entry.Without(d.uid); len(rest.Holders) > 0 {
		encoded, err := rest.Encode()
		if err != nil {
			return leave, err
		}
		write = clientv3.OpPut(d.Key, encoded)
	}
	return p.commit(ctx, v, write)
}

// mayStandOn reports whether a child may use the space of a claim that was made for it. It may if it cannot be
// decoded.
func mayStandOn(ctx context.Context, v *view, key string, of claims.ChildRef, entry *claimEntry) bool {
	child, state := v.prefix(ctx, key)
	if state != present {
		return state == undecodable
	}
	if child.uid != of.UID || !child.allocated || child.prefix != entry.prefix {
		return false
	}
	parent, state := v.prefix(ctx, v.Prefixes.Key(child.parentNamespace, child.parent))
	return state != present || parent.uid == entry.parent
}

// giveToChild puts a child into the claim to its prefix if there is none in it. Such a claim results
// from a server without claims, which let somebody remove the reference to the child from the allocation. Without a
// child, the allocation could be deleted while the child uses its space.
func (p *pass) giveToChild(ctx context.Context, v *view, d Difference) (outcome, error) {
	child, _ := v.prefix(ctx, p.Prefixes.Key(d.Namespace, d.Name))
	parent, state := v.prefix(ctx, p.Prefixes.Key(child.parentNamespace, child.parent))
	if state != present || !child.prefix.IsValid() {
		return leave, nil
	}
	key := p.Keys.Claim(parent.uid, child.prefix)
	entry, state := v.claim(key)
	if state != present || len(entry.Holders) != 1 || entry.Holders[0].Namespace != child.namespace || entry.Holders[0].Child != nil {
		return leave, nil
	}
	h := entry.Holders[0]
	h.Child = &claims.ChildRef{Name: child.name, UID: child.uid}
	encoded, err := claims.Claim{Holders: []claims.Holder{h}}.Encode()
	if err != nil {
		return leave, err
	}
	return p.commit(ctx, v, clientv3.OpPut(key, encoded))
}

// moveAside moves a value that cannot be decoded to a key in lost+found, so that it is not read any more. A claim
// gets a new value in its place, with its allocation as the holder or without a holder, so that its space is not
// free.
func (p *pass) moveAside(ctx context.Context, v *view, d Difference) (outcome, error) {
	if !corrupt(v.errs[d.Key]) {
		return leave, nil
	}
	to := p.Lost(d.Key)
	if err := v.complete(ctx, func() { v.ask(to) }); err != nil {
		return leave, err
	}
	if _, state := v.ask(to); state != absent {
		return leave, nil
	}
	write := clientv3.OpDelete(d.Key)
	if parent, prefix, err := p.Keys.Parse(d.Key); err == nil {
		var c claims.Claim
		if d.uid != "" {
			a, _ := v.allocation(ctx, p.Allocations.Key(d.Namespace, d.Name))
			of, state := v.prefix(ctx, p.Prefixes.Key(a.parentNamespace, a.parent))
			if state != present || of.uid != parent || a.prefix != prefix {
				return stale, nil
			}
			h, _, err := p.asHolder(ctx, v, a, of)
			if err != nil {
				return leave, err
			}
			c.Holders = []claims.Holder{h}
		}
		encoded, err := c.Encode()
		if err != nil {
			return leave, err
		}
		write = clientv3.OpPut(d.Key, encoded)
	}
	value, _ := v.ask(d.Key)
	return p.commit(ctx, v, clientv3.OpPut(to, string(value.Value)), write)
}

// corrupt reports whether an error means that nobody can decode the stored data. Encrypted data can be decrypted
// with the right key, and a newer server can decode an unknown version.
func corrupt(err error) bool {
	if errors.Is(err, claims.ErrEncrypted) {
		return false
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if runtime.IsNotRegisteredError(err) {
			return false
		}
	}
	return true
}

// commit performs writes if nothing in the view has changed, and returns stale otherwise.
func (p *pass) commit(ctx context.Context, v *view, writes ...clientv3.Op) (outcome, error) {
	response, err := p.KV.Txn(ctx).If(v.unchanged()...).Then(writes...).Commit()
	switch {
	case err != nil:
		return leave, err
	case !response.Succeeded:
		return stale, nil
	}
	return fixed, nil
}
