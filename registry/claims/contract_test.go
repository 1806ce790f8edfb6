// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/types"
)

// TestRangeCompareContract verifies the behaviour of etcd on which the package depends: how it compares a range.
func TestRangeCompareContract(t *testing.T) {
	kv := claimstest.RunEtcd(t).KV
	const parent = types.UID("11111111-1111-1111-1111-111111111111")
	const other = types.UID("11111111-1111-1111-1111-111111111112")

	for n, tt := range []struct {
		name string
		// held contains the existing claims. wanted is the requested prefix, inside whole.
		held          []string
		whole, wanted string
		inside        bool
		around        bool
	}{
		{name: "nothing", whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: true, around: true},
		{name: "equal", held: []string{"10.1.0.0/16"}, whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: false, around: true},
		{name: "inside", held: []string{"10.1.7.0/24"}, whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: false, around: true},
		{name: "first address", held: []string{"10.1.0.0/32"}, whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: false, around: true},
		{name: "last address", held: []string{"10.1.255.255/32"}, whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: false, around: true},
		{name: "neighbours", held: []string{"10.0.255.255/32", "10.2.0.0/32", "10.0.0.0/16", "10.2.0.0/15"}, whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: true, around: true},
		{name: "one address, equal", held: []string{"10.1.0.1/32"}, whole: "10.0.0.0/8", wanted: "10.1.0.1/32", inside: false, around: true},
		{name: "one address, neighbours", held: []string{"10.1.0.0/32", "10.1.0.2/32"}, whole: "10.0.0.0/8", wanted: "10.1.0.1/32", inside: true, around: true},
		{name: "ancestor at the same address", held: []string{"10.2.0.0/15"}, whole: "10.0.0.0/8", wanted: "10.2.0.0/16", inside: false, around: true},
		{name: "ancestor at another address", held: []string{"10.0.0.0/15"}, whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: true, around: false},
		{name: "largest ancestor", held: []string{"10.0.0.0/9"}, whole: "10.0.0.0/8", wanted: "10.127.255.255/32", inside: true, around: false},
		{name: "smallest ancestor", held: []string{"10.127.255.254/31"}, whole: "10.0.0.0/8", wanted: "10.127.255.255/32", inside: true, around: false},
		{name: "no ancestor, at the address of one", held: []string{"10.0.0.0/16", "10.0.0.0/32"}, whole: "10.0.0.0/8", wanted: "10.1.0.0/16", inside: true, around: true},
		{name: "v6, nothing", whole: "2001:db8::/32", wanted: "2001:db8:1::/48", inside: true, around: true},
		{name: "v6, equal", held: []string{"2001:db8:1::/48"}, whole: "2001:db8::/32", wanted: "2001:db8:1::/48", inside: false, around: true},
		{name: "v6, last address", held: []string{"2001:db8:1:ffff:ffff:ffff:ffff:ffff/128"}, whole: "2001:db8::/32", wanted: "2001:db8:1::/48", inside: false, around: true},
		{name: "v6, neighbours", held: []string{"2001:db8:0:ffff:ffff:ffff:ffff:ffff/128", "2001:db8:2::/48"}, whole: "2001:db8::/32", wanted: "2001:db8:1::/48", inside: true, around: true},
		{name: "v6, ancestor at another address", held: []string{"2001:db8::/47"}, whole: "2001:db8::/32", wanted: "2001:db8:1::/48", inside: true, around: false},
		{name: "v6, last of all", held: []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"}, whole: "::/0", wanted: "ffff::/16", inside: false, around: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys := NewKeyspace(fmt.Sprintf("/contract-%d", n))
			whole, wanted := netip.MustParsePrefix(tt.whole), netip.MustParsePrefix(tt.wanted)
			put := func(of types.UID, prefix string) {
				t.Helper()
				if _, err := kv.Put(t.Context(), keys.Claim(of, netip.MustParsePrefix(prefix)), "x"); err != nil {
					t.Fatal(err)
				}
			}
			for _, held := range tt.held {
				put(parent, held)
			}
			// Claims to another parent have no effect.
			put(other, tt.wanted)

			holds := func(guards ...Guard) bool {
				t.Helper()
				var compares []clientv3.Cmp
				for _, g := range guards {
					compares = append(compares, g.Compare)
				}
				response, err := kv.Txn(t.Context()).If(compares...).Commit()
				if err != nil {
					t.Fatal(err)
				}
				return response.Succeeded
			}
			if got := holds(IsEmpty(keys.Inside(parent, wanted))); got != tt.inside {
				t.Errorf("inside %s is empty: got %t, want %t", wanted, got, tt.inside)
			}
			var around []Guard
			for _, r := range keys.Around(parent, whole, wanted) {
				around = append(around, IsEmpty(r))
			}
			if got := holds(around...); got != tt.around {
				t.Errorf("around %s is empty: got %t, want %t", wanted, got, tt.around)
			}
			if got, want := holds(IsEmpty(keys.Of(parent))), len(tt.held) == 0; got != want {
				t.Errorf("the parent has no claims: got %t, want %t", got, want)
			}
			if holds(IsEmpty(keys.Of(other))) {
				t.Errorf("the other parent has no claims")
			}
		})
	}
}

// TestCompareContract verifies how etcd compares single keys.
func TestCompareContract(t *testing.T) {
	kv := claimstest.RunEtcd(t).KV
	const missing, present = "/missing", "/present"
	created, err := kv.Put(t.Context(), present, "1")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := kv.Put(t.Context(), present, "2")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		guard Guard
		want  bool
	}{
		{"a missing key was never changed", IsUnchanged(missing, 0), true},
		{"a missing key was not changed at 1", IsUnchanged(missing, 1), false},
		{"a missing key was never created", IsSame(missing, 0), true},
		{"a missing key was not created at 1", IsSame(missing, 1), false},
		{"a key was changed", IsUnchanged(present, 0), false},
		{"a key was changed since it was created", IsUnchanged(present, created.Header.Revision), false},
		{"a key is unchanged", IsUnchanged(present, changed.Header.Revision), true},
		{"a key is the same though it was changed", IsSame(present, created.Header.Revision), true},
		{"a key was not created when it was changed", IsSame(present, changed.Header.Revision), false},
		{"a missing range is empty", IsEmpty(Range{"/a", "/b"}), true},
		{"a range begins at its start", IsEmpty(Range{present, present + "\x00"}), false},
		{"a range ends before its end", IsEmpty(Range{"/a", present}), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response, err := kv.Txn(t.Context()).If(tt.guard.Compare).Commit()
			if err != nil {
				t.Fatal(err)
			}
			if response.Succeeded != tt.want {
				t.Errorf("got %t, want %t", response.Succeeded, tt.want)
			}
		})
	}

	t.Run("a key that was deleted and made anew is another one", func(t *testing.T) {
		if _, err := kv.Delete(t.Context(), present); err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), present, "2"); err != nil {
			t.Fatal(err)
		}
		for _, g := range []Guard{IsSame(present, created.Header.Revision), IsUnchanged(present, changed.Header.Revision)} {
			if response, err := kv.Txn(t.Context()).If(g.Compare).Commit(); err != nil || response.Succeeded {
				t.Errorf("got %v, %v", response, err)
			}
		}
	})
}

// TestTxnContract verifies the limits of an etcd transaction, and its response.
func TestTxnContract(t *testing.T) {
	kv := claimstest.RunEtcd(t).KV
	guards := func(n int) []Guard {
		var guards []Guard
		for i := range n {
			guards = append(guards, IsEmpty(Range{fmt.Sprintf("/range/%03d/", i), fmt.Sprintf("/range/%03d0", i)}))
		}
		return guards
	}
	parts := func(guards []Guard) (compares []clientv3.Cmp, questions []clientv3.Op) {
		for _, g := range guards {
			compares, questions = append(compares, g.Compare), append(questions, g.question())
		}
		return compares, questions
	}

	for _, tt := range []struct {
		ops  int
		want error
	}{{MaxTxnOps, nil}, {MaxTxnOps + 1, rpctypes.ErrTooManyOps}} {
		compares, questions := parts(guards(tt.ops))
		for branch, txn := range map[string]clientv3.Txn{
			"compares":  kv.Txn(t.Context()).If(compares...),
			"successes": kv.Txn(t.Context()).Then(questions...),
			"failures":  kv.Txn(t.Context()).Else(questions...),
		} {
			t.Run(fmt.Sprintf("%d %s", tt.ops, branch), func(t *testing.T) {
				if _, err := txn.Commit(); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		}
	}

	t.Run("each branch counts on its own", func(t *testing.T) {
		compares, questions := parts(guards(MaxTxnOps))
		response, err := kv.Txn(t.Context()).If(compares...).Then(clientv3.OpPut("/a", ""), clientv3.OpPut("/b", "")).Else(questions...).Commit()
		if err != nil || !response.Succeeded {
			t.Errorf("got %v, %v", response, err)
		}
	})

	t.Run("answers come in the order of the questions", func(t *testing.T) {
		for _, i := range []int{7, 3, 90} {
			if _, err := kv.Put(t.Context(), fmt.Sprintf("/range/%03d/key", i), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		_, questions := parts(guards(100))
		response, err := kv.Txn(t.Context()).Then(questions...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		if len(response.Responses) != len(questions) {
			t.Fatalf("%d answers to %d questions", len(response.Responses), len(questions))
		}
		for i, r := range response.Responses {
			got, want := "", ""
			if kv := first(r.GetResponseRange()); kv != nil {
				got = string(kv.Value)
			}
			if i == 3 || i == 7 || i == 90 {
				want = fmt.Sprint(i)
			}
			if got != want {
				t.Errorf("answer %d is %q, want %q", i, got, want)
			}
		}
	})

	t.Run("nothing is written unless all compares hold", func(t *testing.T) {
		compares, _ := parts(guards(100))
		for i := range compares {
			response, err := kv.Txn(t.Context()).If(compares[:i+1]...).Then(clientv3.OpPut("/never", ""), clientv3.OpPut("/never/either", "")).Commit()
			if err != nil {
				t.Fatal(err)
			}
			// The range with 3 is the first one that is not empty.
			if want := i < 3; response.Succeeded != want {
				t.Fatalf("%d compares: got %t, want %t", i+1, response.Succeeded, want)
			}
			if i == 2 {
				if _, err := kv.Delete(t.Context(), "/never", clientv3.WithPrefix()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if response, err := kv.Get(t.Context(), "/never", clientv3.WithPrefix()); err != nil || response.Count != 0 {
			t.Errorf("got %v, %v", response, err)
		}
	})
}
