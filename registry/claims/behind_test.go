// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMemberBehind reads claims from a member of etcd that is behind.
func TestMemberBehind(t *testing.T) {
	s := newServer(t, claims.RunEtcd(t), variant{})
	ctx, _ := newNamespace(t)
	s.root(t, ctx, "parent", "10.0.0.0/16")
	const prefix, other = "10.0.5.0/24", "10.0.6.0/24"

	child := s.child(t, ctx, "child", "parent", 24)
	before := s.revision(t)
	s.allocate(t, ctx, "a", child, "parent", prefix)
	s.tamper.fallBehind(before)
	if err := s.complete(ctx, "child", "parent", prefix, ""); err != nil {
		t.Errorf("completion, the member does not know the claim: %v", err)
	}

	s.tamper.fallBehind(0)
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
	s.tamper.fallBehind(before)
	s.refused(t, func() error { return s.complete(ctx, "late", "parent", other, "") }, metav1.StatusReasonConflict, other)
	s.tamper.fallBehind(0)
	s.check(t)
}
