// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
)

// Repair mends the differences that can be mended in one way only: it makes the claims that are
// missing, unless somebody else has claimed what they overlap, and removes those of nobody. It
// returns what is left for a human.
func (c *Claims) Repair(ctx context.Context) (mended, left []Difference, err error) {
	s, err := c.survey(ctx)
	if err != nil {
		return nil, nil, err
	}
	before := s.differences()
	gone := map[string][]types.UID{}
	for _, d := range before {
		if d.Kind == ClaimWithoutAllocation {
			gone[d.claimKey] = append(gone[d.claimKey], d.uid)
		}
	}
	for key, holders := range gone {
		if err := c.removeHolders(ctx, s.strays[key], holders); err != nil {
			return nil, nil, err
		}
	}
	if err := c.claimAll(ctx, s.missing(), false); err != nil {
		return nil, nil, err
	}

	left, err = c.Audit(ctx)
	if err != nil {
		return nil, nil, err
	}
	still := map[string]bool{}
	for _, d := range left {
		still[d.id()] = true
	}
	for _, d := range before {
		if !still[d.id()] {
			mended = append(mended, d)
		}
	}
	return mended, left, nil
}

func (d Difference) id() string {
	return fmt.Sprintf("%s/%s/%s/%s", d.Kind, d.uid, d.Parent, d.Prefix)
}

// removeHolders takes holders that do not exist from a claim, unless something changed.
func (c *Claims) removeHolders(ctx context.Context, entry claimEntry, gone []types.UID) error {
	write := clientv3.OpDelete(entry.key)
	rest := entry.claim
	for _, uid := range gone {
		rest = rest.without(uid)
	}
	if len(rest.Holders) > 0 {
		encoded, err := rest.encode()
		if err != nil {
			return err
		}
		write = clientv3.OpPut(entry.key, encoded)
	}
	// A claim comes with its allocation and goes with it, so the claim alone tells of a change.
	_, err := c.kv.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(entry.key), "=", entry.modRevision)).Then(write).Commit()
	return err
}

// Adopt makes a claim for every allocation that has none, which is how a server without claims has
// left the store. Overlapping allocations all get their claims, so that nothing new is allocated
// over any of them; which of them is right is for a human to say. It returns the differences that
// are left.
//
// Every claim is made in a transaction of its own, and making one that is there does nothing, so
// that several servers can do this at a time, and any of them die in the midst of it.
func (c *Claims) Adopt(ctx context.Context) ([]Difference, error) {
	// Mostly there is nothing to do, which is seen at a glance. If that fails, a survey does not, or tells why.
	if s, err := c.glance(ctx); err == nil && len(s.differences()) == 0 {
		return nil, nil
	}
	s, err := c.survey(ctx)
	if err != nil {
		return nil, err
	}
	missing := s.missing()
	if len(missing) == 0 {
		return s.differences(), nil
	}
	if err := c.claimAll(ctx, missing, true); err != nil {
		return nil, err
	}
	return c.Audit(ctx)
}

// adoptWorkers is how many claims are made at a time.
const adoptWorkers = 16

// claimAll makes the claims of allocations that have none. What overlaps the claim of somebody else gets one
// only by force.
func (c *Claims) claimAll(ctx context.Context, missing []*part, force bool) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(adoptWorkers)
	for _, a := range missing {
		group.Go(func() error { return c.claim(ctx, a, force) })
	}
	return group.Wait()
}

// claim makes the claim of an allocation as it was read. If that has changed meanwhile, whoever
// changed it has taken care of the claim.
func (c *Claims) claim(ctx context.Context, a *part, force bool) error {
	name, prefix := a.parent, a.prefix
	p, err := c.parent(ctx, a.Namespace, name, true)
	if err != nil || p == nil {
		return err
	}
	encoded, err := claim{Holders: []holder{a.holder}}.encode()
	if err != nil {
		return err
	}
	key := c.keyspace.claim(p.uid, prefix)
	same := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(c.allocations.etcdKey(a.Namespace, a.Name)), "=", a.revision),
		clientv3.Compare(clientv3.CreateRevision(c.prefixes.etcdKey(a.Namespace, name)), "=", p.createRevision),
	}
	free := []clientv3.Cmp{isEmpty(c.keyspace.inside(p.uid, prefix)).compare}
	for _, r := range c.keyspace.around(p.uid, p.prefix, prefix) {
		free = append(free, isEmpty(r).compare)
	}
	inside := p.prefix.IsValid() && prefix.Bits() > p.prefix.Bits() && p.prefix.Contains(prefix.Addr())
	if inside && len(same)+len(free) <= maxTxnOps {
		response, err := c.kv.Txn(ctx).If(append(same, free...)...).Then(clientv3.OpPut(key, encoded)).Commit()
		if err != nil || response.Succeeded {
			return err
		}
	}
	for force {
		// Somebody has claimed what overlaps it. If it is the same prefix, they share the key.
		kv, value, err := c.readClaim(ctx, key, true)
		if err != nil || value.find(a.UID) != nil {
			return err
		}
		modRevision := int64(0)
		if kv != nil {
			modRevision = kv.ModRevision
		}
		shared, err := claim{Holders: append(value.Holders, a.holder)}.encode()
		if err != nil {
			return err
		}
		response, err := c.kv.Txn(ctx).
			If(append(same, clientv3.Compare(clientv3.ModRevision(key), "=", modRevision))...).
			Then(clientv3.OpPut(key, shared)).
			Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).
			Commit()
		if err != nil || response.Succeeded {
			return err
		}
		if kv := first(response.Responses[0].GetResponseRange()); (kv == nil) == (modRevision == 0) && (kv == nil || kv.ModRevision == modRevision) {
			// It is the allocation or the parent that has changed.
			return nil
		}
	}
	return nil
}
