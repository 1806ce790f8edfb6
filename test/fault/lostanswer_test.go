// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestLostAnswerOfBindMakesNoSecondAllocation loses the response of binds that have committed. The client does not
// know that, and binds again. It must not get a second prefix.
func TestLostAnswerOfBindMakesNoSecondAllocation(t *testing.T) {
	t.Parallel()
	n := times(50, 1000)
	c := newCluster(t, 1, true)
	s := c.servers[0]
	s.startManager()
	s.create(harness.Root("v4", "10.0.0.0/16"), harness.Root("v6", "2001:db8::/32"), harness.Root("named", "10.1.0.0/16"))
	s.settled()

	// The first committed bind of each allocation, and the first completion of each child, loses its response.
	var mu sync.Mutex
	lost := map[string]bool{}
	c.proxy.intercept(func(txn *pb.TxnRequest, commit func() (*pb.TxnResponse, error)) (*pb.TxnResponse, error) {
		response, err := commit()
		object := bound(txn)
		if err != nil || !response.Succeeded || object == "" {
			return response, err
		}
		mu.Lock()
		defer mu.Unlock()
		if lost[object] {
			return response, nil
		}
		lost[object] = true
		return nil, errLost
	})
	for i := range n {
		name := fmt.Sprintf("child-%04d", i)
		switch i % 4 {
		case 0:
			s.create(harness.Child(name, "named", harness.Exactly(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i / 256), byte(i)}), 32).String())))
		case 1:
			s.create(harness.Child(name, "v6", harness.Length(64)))
		default:
			s.create(harness.Child(name, "v4", harness.Length(28)))
		}
	}
	all := s.settled()

	mu.Lock()
	var allocations, children int
	for object := range lost {
		if strings.Contains(object, "/prefixallocations/") {
			allocations++
		} else {
			children++
		}
	}
	mu.Unlock()
	t.Logf("%d answers of binds of allocations were lost, and %d of children", allocations, children)
	if allocations != n || children != n {
		t.Errorf("%d and %d answers were lost, not %d each", allocations, children, n)
	}
	if err := all.check(); err != nil {
		t.Error(err)
	}
	if len(all.allocations) != n {
		t.Errorf("There are %d allocations for %d children", len(all.allocations), n)
	}
	if claims := c.count(claimsPrefix); claims != n {
		t.Errorf("There are %d claims for %d children", claims, n)
	}
	c.audited()
}

// bound returns the key of the object that a transaction makes Allocated, or an empty string. Only these
// transactions involve a claim: the one for an allocation puts it, and the one for a child compares it.
func bound(txn *pb.TxnRequest) string {
	isClaim := func(key string) bool { return strings.HasPrefix(key, claimsPrefix) }
	isPut := func(op *pb.RequestOp) bool { return op.GetRequestPut() != nil }
	keys := written(txn)
	object := slices.IndexFunc(keys, func(key string) bool { return !isClaim(key) })
	if object < 0 || !slices.ContainsFunc(txn.Success, isPut) {
		return ""
	}
	compared := slices.ContainsFunc(txn.Compare, func(c *pb.Compare) bool { return isClaim(string(c.Key)) })
	if !compared && !slices.ContainsFunc(keys, isClaim) {
		return ""
	}
	return keys[object]
}
