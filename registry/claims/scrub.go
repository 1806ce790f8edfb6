// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/storage"
)

// scrub looks for differences some thousand keys at a time, so that it takes no more memory than these, and is not at one revision.
// An allocation, its claim and its parent are written so that at no revision one of them lacks another: a claim comes and goes
// with its allocation, and goes after the child that stands on it, and a parent goes after the claims. So what was
// there before something that it needs was found missing, and is there afterwards, is wrong. What is missing at the first look,
// which may be one at a cache, is looked at again in etcd, and then whether what needs it is still there.
type scrub struct {
	*Claims
	pace
	// previous is the claim before the one that is checked.
	previous claimEntry
}

// pace is how a scrub goes on.
type pace struct {
	// read is at least how many keys are read in one go, as long as there are so many, and page how many are checked in one go.
	read, page int
	// leisure is how many times as long as it works it rests.
	leisure time.Duration
	// patience is how often in a row a page may fail, and how long it waits then.
	patience wait.Backoff
}

// defaultPace goes on after etcd was away for half a minute. What etcd reads for a stream beyond the keys that are taken, a
// thousand or two, it reads in vain.
var defaultPace = pace{
	read: 10_000, page: 2_500, leisure: 39,
	patience: wait.Backoff{Duration: time.Second, Factor: 2, Steps: 5},
}

// Scrub tells every difference between objects and claims, as Audit does, at leisure: while nothing is wrong, it takes little
// memory, and a fortieth of the time. Only when it comes upon something it audits. It changes nothing. An error
// is one of etcd, or of what cannot be decoded.
func (c *Claims) Scrub(ctx context.Context) ([]Difference, error) { return c.scrub(ctx, defaultPace) }

func (c *Claims) scrub(ctx context.Context, pace pace) ([]Difference, error) {
	clean, err := c.isClean(ctx, pace)
	if clean || err != nil {
		return nil, err
	}
	differences, err := c.Audit(ctx)
	if err != nil {
		return nil, fmt.Errorf("something is wrong, but not known what: %w", err)
	}
	return differences, nil
}

// isClean tells whether there is no difference.
func (c *Claims) isClean(ctx context.Context, pace pace) (clean bool, err error) {
	s := &scrub{Claims: c, pace: pace}
	for _, of := range []struct {
		keys  keyRange
		check func(context.Context, []*mvccpb.KeyValue) (clean bool, err error)
	}{
		{c.allocations.all(), s.checkAllocations},
		{c.keyspace.all(), s.checkClaims},
		{c.prefixes.all(), s.checkPrefixes},
	} {
		var unchecked []*mvccpb.KeyValue
		clean = true
		if err := s.atLeisure(ctx, func() (done bool, err error) {
			if len(unchecked) == 0 {
				if unchecked, err = s.next(ctx, of.keys); err != nil || len(unchecked) == 0 {
					return true, err
				}
				of.keys.start = after(unchecked)
			}
			page := unchecked[:min(s.page, len(unchecked))]
			if clean, err = of.check(ctx, page); err != nil || !clean {
				return true, err
			}
			unchecked = unchecked[len(page):]
			return false, nil
		}); err != nil || !clean {
			return false, err
		}
	}
	return true, nil
}

// atLeisure works piece by piece until that is done, and rests in between. A piece that fails is worked on once more.
func (p pace) atLeisure(ctx context.Context, piece func() (done bool, err error)) error {
	patience := p.patience
	for {
		began := time.Now()
		done, err := piece()
		rest := p.leisure * time.Since(began)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			patience = p.patience
		case ctx.Err() != nil || patience.Steps == 0:
			return err
		default:
			rest += patience.Step()
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next reads the first keys of a range, as they are now.
func (s *scrub) next(ctx context.Context, r keyRange) (kvs []*mvccpb.KeyValue, err error) {
	for some, err := range s.scan(ctx, r, 0) {
		if err != nil {
			return nil, err
		}
		if kvs = append(kvs, some...); len(kvs) >= s.read {
			break
		}
	}
	return kvs, nil
}

// checkAllocations checks that the parents and claims of allocations are what they should be.
func (s *scrub) checkAllocations(ctx context.Context, kvs []*mvccpb.KeyValue) (clean bool, err error) {
	var suspects []*part
	for _, kv := range kvs {
		a := &ipam.PrefixAllocation{}
		if err := s.allocations.decode(ctx, kv, a); err != nil {
			return false, err
		}
		if p, ok, err := partOf(a); err != nil {
			return false, err
		} else if ok {
			suspects = append(suspects, &p)
		}
	}
	for _, fresh := range []bool{false, true} {
		if suspects, err = s.unclaimed(ctx, suspects, fresh); err != nil {
			return false, err
		}
	}
	for _, a := range suspects {
		now := &ipam.PrefixAllocation{}
		if err := s.look(ctx, s.allocations, true, a.Namespace, a.Name, now); err != nil || now.UID == a.UID {
			return false, err
		}
	}
	return true, nil
}

// unclaimed returns the allocations that have no parent that they are inside of, or no claim.
func (s *scrub) unclaimed(ctx context.Context, allocations []*part, fresh bool) (unclaimed []*part, err error) {
	keyOf := map[*part]string{}
	for _, a := range allocations {
		parent := &ipam.Prefix{}
		if err := s.look(ctx, s.prefixes, fresh, a.Namespace, a.parent, parent); err != nil {
			return nil, err
		}
		if strictlyInside(a.prefix, parent.Spec.Prefix) {
			keyOf[a] = s.keyspace.claim(parent.UID, a.prefix)
		}
	}
	held, err := s.claimsAt(ctx, slices.Collect(maps.Values(keyOf)))
	if err != nil {
		return nil, err
	}
	for _, a := range allocations {
		if h := held[keyOf[a]].find(a.UID); h == nil || h.Namespace != a.Namespace || h.Name != a.Name {
			unclaimed = append(unclaimed, a)
		}
	}
	return unclaimed, nil
}

// checkClaims checks that each claim has one holder, which holds it, and that none overlaps another.
func (s *scrub) checkClaims(ctx context.Context, kvs []*mvccpb.KeyValue) (clean bool, err error) {
	var suspects []claimEntry
	previous := s.previous
	for _, kv := range kvs {
		entry, err := s.claimEntry(kv)
		if err != nil {
			return false, err
		}
		// What overlaps another claim before it overlaps one of those in between, too.
		if entry.parent == previous.parent && entry.prefix.Overlaps(previous.prefix) {
			if still, err := s.isStill(ctx, previous); err != nil || still {
				return false, err
			}
		}
		previous = entry
		if held, err := s.isHeld(ctx, entry, false); err != nil {
			return false, err
		} else if !held {
			suspects = append(suspects, entry)
		}
	}
	for _, entry := range suspects {
		if held, err := s.isHeld(ctx, entry, true); err != nil {
			return false, err
		} else if held {
			continue
		}
		if still, err := s.isStill(ctx, entry); err != nil || still {
			return false, err
		}
	}
	s.previous = previous
	return true, nil
}

// isStill tells whether a claim has not changed since it was read.
func (s *scrub) isStill(ctx context.Context, entry claimEntry) (bool, error) {
	kv, _, err := s.readClaim(ctx, entry.key, true)
	return kv != nil && kv.ModRevision == entry.modRevision, err
}

// isHeld tells whether there is one allocation that holds a claim.
func (s *scrub) isHeld(ctx context.Context, entry claimEntry, fresh bool) (bool, error) {
	if len(entry.Holders) != 1 {
		return false, nil
	}
	a, err := s.allocationOf(ctx, entry.Holders[0], fresh)
	if err != nil || a == nil || a.prefix != entry.prefix {
		return false, err
	}
	parent := &ipam.Prefix{}
	err = s.look(ctx, s.prefixes, fresh, a.Namespace, a.parent, parent)
	return parent.UID == entry.parent, err
}

// allocationOf returns what the holder of a claim is, or nil if it holds nothing.
func (s *scrub) allocationOf(ctx context.Context, h holder, fresh bool) (*part, error) {
	a := &ipam.PrefixAllocation{}
	if err := s.look(ctx, s.allocations, fresh, h.Namespace, h.Name, a); err != nil || a.UID != h.UID {
		return nil, err
	}
	p, ok, err := partOf(a)
	if err != nil || !ok {
		return nil, err
	}
	return &p, nil
}

// checkPrefixes checks that allocations of allocated children hold what these say they have.
func (s *scrub) checkPrefixes(ctx context.Context, kvs []*mvccpb.KeyValue) (clean bool, err error) {
	var suspects []*whole
	for _, kv := range kvs {
		p := &ipam.Prefix{}
		if err := s.prefixes.decode(ctx, kv, p); err != nil {
			return false, err
		}
		if w := wholeOf(p); w.allocated {
			suspects = append(suspects, &w)
		}
	}
	for _, fresh := range []bool{false, true} {
		if suspects, err = s.uncarried(ctx, suspects, fresh); err != nil {
			return false, err
		}
	}
	for _, child := range suspects {
		now := &ipam.Prefix{}
		if err := s.look(ctx, s.prefixes, true, child.namespace, child.name, now); err != nil || now.UID == child.uid {
			return false, err
		}
	}
	return true, nil
}

// uncarried returns the children that stand on no allocation.
func (s *scrub) uncarried(ctx context.Context, children []*whole, fresh bool) (uncarried []*whole, err error) {
	keyOf := map[*whole]string{}
	for _, child := range children {
		prefix, err := cidr.ParseStored(child.prefix)
		if err != nil || child.parent == "" {
			continue
		}
		parent := &ipam.Prefix{}
		if err := s.look(ctx, s.prefixes, fresh, child.namespace, child.parent, parent); err != nil {
			return nil, err
		}
		if parent.UID != "" {
			keyOf[child] = s.keyspace.claim(parent.UID, prefix)
		}
	}
	held, err := s.claimsAt(ctx, slices.Collect(maps.Values(keyOf)))
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		carried := false
		for _, h := range held[keyOf[child]].Holders {
			a, err := s.allocationOf(ctx, h, fresh)
			if err != nil {
				return nil, err
			}
			carried = carried || a != nil && a.carries(child)
		}
		if !carried {
			uncarried = append(uncarried, child)
		}
	}
	return uncarried, nil
}

// look reads an object, which may be from a cache unless it has to be fresh. One that does not exist has no uid.
func (c *Claims) look(ctx context.Context, o objects, fresh bool, namespace, name string, into runtime.Object) error {
	if fresh {
		_, err := c.get(ctx, o, namespace, name, into)
		return err
	}
	return o.cached.Get(ctx, o.storageKey(namespace, name), storage.GetOptions{ResourceVersion: "0", IgnoreNotFound: true}, into)
}

// claimsAt returns the claims that there are at keys, by key.
func (c *Claims) claimsAt(ctx context.Context, keys []string) (map[string]claim, error) {
	claims := make(map[string]claim, len(keys))
	for some := range slices.Chunk(keys, maxTxnOps) {
		var gets []clientv3.Op
		for _, key := range some {
			gets = append(gets, clientv3.OpGet(key))
		}
		response, err := c.kv.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return nil, err
		}
		for _, answer := range answersOf(response) {
			if kv := first(answer); kv != nil {
				if claims[string(kv.Key)], err = decodeClaim(kv.Value); err != nil {
					return nil, fmt.Errorf("%s: %w", kv.Key, err)
				}
			}
		}
	}
	return claims, nil
}
