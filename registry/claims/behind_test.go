// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"fmt"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMemberBehind reads claims from an etcd member with an old revision.
func TestMemberBehind(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	s := newServer(t, etcd, variant{})
	another := newServerAt(t, etcd, variant{}, s.prefix)
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	const prefix, other = "10.0.5.0/24", "10.0.6.0/24"

	child := s.child(t, ctx, "child", "parent", 24)
	before := s.revision(t)
	s.allocate(t, ctx, "a", child, "parent", prefix)
	another.tamper.fallBehind(before)
	if err := another.complete(ctx, "child", "parent", prefix, ""); err != nil {
		t.Errorf("completion, the member does not know the claim: %v", err)
	}

	before = s.revision(t)
	s.allocate(t, ctx, "b", nil, "parent", other)
	s.tamper.fallBehind(before)
	if err := s.deleteAllocation(ctx, "b"); err != nil {
		t.Errorf("release, the member does not know the claim: %v", err)
	}

	s.tamper.fallBehind(0)
	late := s.child(t, ctx, "late", "parent", 24)
	s.allocate(t, ctx, "c", late, "parent", other)
	before = s.revision(t)
	if err := s.deleteAllocation(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	another.tamper.fallBehind(before)
	s.refused(t, func() error { return another.complete(ctx, "late", "parent", other, "") }, metav1.StatusReasonConflict, other)
	s.tamper.fallBehind(0)
	s.check(t)
}

// TestRemembered counts the reads of a claim in etcd before a child is completed: by the server that made the
// claim, and by another one.
func TestRemembered(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	s := newServer(t, etcd, variant{})
	another := newServerAt(t, etcd, variant{}, s.prefix)
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	reads := map[*server]int{}
	for n, by := range []*server{s, another, s, another} {
		name, prefix := fmt.Sprint("child-", n), fmt.Sprintf("10.0.1%d.0/24", n)
		s.allocate(t, ctx, name, s.child(t, ctx, name, "parent", 24), "parent", prefix)
		before := by.tamper.reads()
		if err := by.complete(ctx, name, "parent", prefix, ""); err != nil {
			t.Fatal(err)
		}
		// Another server must first read the parent.
		reads[by] = by.tamper.reads() - before
	}
	if reads[another] != reads[s]+1 {
		t.Errorf("etcd is asked %d times by the server that has made the claim, and %d times by another one", reads[s], reads[another])
	}

	// The cached claim is outdated: it was released, and there is a new one for another child.
	late := s.child(t, ctx, "late", "parent", 24)
	s.allocate(t, ctx, "c", late, "parent", "10.0.3.0/24")
	if err := another.deleteAllocation(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	s.refused(t, func() error { return s.complete(ctx, "late", "parent", "10.0.3.0/24", "") }, metav1.StatusReasonConflict, "10.0.3.0/24")
	another.allocate(t, ctx, "d", nil, "parent", "10.0.3.0/24")
	s.refused(t, func() error { return s.complete(ctx, "late", "parent", "10.0.3.0/24", "") }, metav1.StatusReasonConflict, "10.0.3.0/24")
	// There is a claim for the same child again, but it is not the cached one.
	if err := another.deleteAllocation(ctx, "d"); err != nil {
		t.Fatal(err)
	}
	another.allocate(t, ctx, "e", late, "parent", "10.0.3.0/24")
	if err := s.complete(ctx, "late", "parent", "10.0.3.0/24", ""); err != nil {
		t.Errorf("completion, another claim than the one that is remembered: %v", err)
	}
	s.check(t)
}
