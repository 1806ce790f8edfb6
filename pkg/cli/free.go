// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/spf13/cobra"
)

func (s *session) newFreeCommand() *cobra.Command {
	length, count := 0, 5
	cmd := &cobra.Command{
		Use:   "free NAME",
		Short: "Show the next prefixes that would be given from a Prefix",
		Long: "Show the next prefixes of a length that would be given from a Prefix, as it is now, and what is free after each of " +
			"them. Without --length, show the free blocks, by address. Reserved space is not free.",
		Example: "  kubectl ipam free root\n  kubectl ipam free root --length 24 --count 3",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			if count < 1 {
				return exitf(ExitUsage, "--count must be positive")
			}
			return s.free(cmd.Context(), args[0], length, count)
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	cmd.Flags().IntVar(&length, "length", 0, "Prefix length, in bits.")
	cmd.Flags().IntVarP(&count, "count", "c", count, "How many to show.")
	s.addOutputFlag(cmd)
	return cmd
}

// freeItem is a free prefix in JSON and YAML.
type freeItem struct {
	Prefix    string `json:"prefix"`
	Addresses string `json:"addresses"`
	// FreeAfter and LargestAfter are what is free when this prefix and those before it are given.
	FreeAfter    string `json:"freeAfter,omitempty"`
	LargestAfter string `json:"largestAfter,omitempty"`
}

// free shows free prefixes.
func (s *session) free(ctx context.Context, name string, length, count int) error {
	_, p, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	prefix, ok := heldBy(p)
	if !ok {
		return exitf(ExitConflict, "%s is not allocated yet", name)
	}
	pool, policies, err := s.poolOf(ctx, p, prefix)
	if err != nil {
		return err
	}
	if reason, why := policies.forbids(p.Labels, length); reason == v1alpha1.ReasonLengthNotAllowed {
		return exitf(ExitInvalid, "%s %s", name, why)
	} else if reason != "" {
		s.note("%s %s: nothing would be given from it now.", name, why)
	}
	r := result{kind: "FreePrefixes", fields: map[string]any{"namespace": p.Namespace, "name": p.Name, "prefix": prefix.String(), "free": pool.FreeAddresses().String()}}
	if length == 0 {
		return s.printFreeBlocks(r, pool, count)
	}
	if why := (cidr.Request{Bits: length}).Misfit(prefix); why != "" {
		return exitf(ExitUsage, "--length: %s (%s) %s", name, prefix, why)
	}
	r.columns = []column{{name: "PREFIX"}, {name: "ADDRESSES", wide: true}, {name: "FREE AFTER"}, {name: "LARGEST AFTER"}}
	find := pool.Find
	switch policies.strategyFor(p.Labels) {
	case v1alpha1.PrefixStrategySpread:
		find = pool.FindSpread
	case v1alpha1.PrefixStrategyRandom:
		s.note("A PrefixPolicy has them chosen at random: these are only some of those that are free.")
	}
	for range count {
		next, ok := find(length)
		if !ok {
			break
		}
		if err := pool.Take(next); err != nil {
			return err
		}
		item := freeItem{Prefix: next.String(), Addresses: sizeOf(next).String(), FreeAfter: pool.FreeAddresses().String(), LargestAfter: largestOf(pool)}
		r.rows = append(r.rows, row{cells: []string{item.Prefix, item.Addresses, item.FreeAfter, orNone(item.LargestAfter)}, item: item})
	}
	if len(r.rows) == 0 {
		return exitf(ExitNoRoom, "%s (%s) has no room for a /%d: %s addresses are free, the largest free block is %s", name, prefix, length,
			pool.FreeAddresses(), orNone(largestOf(pool)))
	}
	return s.print(r)
}

// poolOf returns the free space of a Prefix, and the policies of its namespace.
func (s *session) poolOf(ctx context.Context, p *v1alpha1.Prefix, prefix netip.Prefix) (*allocator.Pool, *policySet, error) {
	pool, err := allocator.New(prefix)
	if err != nil {
		return nil, nil, err
	}
	policies, err := s.policiesIn(ctx, p.Namespace)
	if err != nil {
		return nil, nil, err
	}
	pool.Reserve(policies.reservedFor(p.Labels))
	own := int64(0)
	err = s.clients.eachAllocationIn(ctx, p.Namespace, allocatedFrom(p.Name), func(a *v1alpha1.PrefixAllocation) error {
		held, err := cidr.ParseStored(a.Status.Prefix)
		if err != nil || !isAllocatedFrom(a, p) {
			return nil
		}
		if a.Status.CoolingUntil == nil {
			own++
		}
		// What lies outside, or overlaps another one, is reported by the command check.
		_ = pool.Take(held)
		return nil
	})
	if usage := p.Status.Usage; err == nil && usage != nil && usage.Allocations > own {
		// The others are in namespaces that the caller may not be allowed to read. The status has what they hold.
		for _, used := range p.Status.Used {
			if prefix, err := cidr.ParseStored(used); err == nil {
				takeRest(pool, prefix)
			}
		}
	}
	return pool, policies, err
}

// takeRest takes the parts of a prefix that are not in use.
func takeRest(pool *allocator.Pool, prefix netip.Prefix) {
	switch used, ok := pool.Overlapping(prefix); {
	case !ok:
		_ = pool.Take(prefix)
	case used.Bits() > prefix.Bits():
		low, high := cidr.Halves(prefix)
		takeRest(pool, low)
		takeRest(pool, high)
	}
}

// largestOf returns the length of the largest free block of a pool, such as /26, or "" if there is none.
func largestOf(pool *allocator.Pool) string {
	if bits, ok := pool.LargestFree(); ok {
		return fmt.Sprintf("/%d", bits)
	}
	return ""
}

// printFreeBlocks prints the first free blocks of a pool.
func (s *session) printFreeBlocks(r result, pool *allocator.Pool, count int) error {
	r.columns = []column{{name: "PREFIX"}, {name: "ADDRESSES"}}
	held := slices.Concat(slices.Collect(pool.All()), pool.Reserved().In(pool.Prefix()))
	slices.SortFunc(held, comparePrefixes)
	more := false
	for block := range freeBlocks(pool.Prefix(), held) {
		if more = len(r.rows) == count; more {
			break
		}
		item := freeItem{Prefix: block.String(), Addresses: sizeOf(block).String()}
		r.rows = append(r.rows, row{cells: []string{item.Prefix, item.Addresses}, item: item})
	}
	if len(r.rows) == 0 {
		return exitf(ExitNoRoom, "no address of %s is free", pool.Prefix())
	}
	if err := s.print(r); err != nil {
		return err
	}
	if more {
		s.note("There are more free blocks: use --count to see them.")
	}
	return nil
}
