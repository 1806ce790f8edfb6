// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"slices"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

func prefix(uid, version string) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: types.UID(uid), ResourceVersion: version}}
}

func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event func(h cache.ResourceEventHandler)
		want  []string
	}{
		{"new", func(h cache.ResourceEventHandler) { h.OnAdd(prefix("a", "1"), false) }, []string{"seen none then a1"}},
		{"new in the first list", func(h cache.ResourceEventHandler) { h.OnAdd(prefix("a", "1"), true) }, []string{"seen none then a1"}},
		{"changed", func(h cache.ResourceEventHandler) { h.OnUpdate(prefix("a", "1"), prefix("a", "2")) }, []string{"seen a1 then a2"}},
		{"gone", func(h cache.ResourceEventHandler) { h.OnDelete(prefix("a", "1")) }, []string{"gone a1"}},
		{"gone unseen", func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/p", Obj: prefix("a", "1")})
		}, []string{"gone a1"}},
		{"gone, and nobody knows what", func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/p"})
		}, nil},
		{"recreated unseen", func(h cache.ResourceEventHandler) { h.OnUpdate(prefix("a", "1"), prefix("b", "3")) },
			[]string{"gone a1", "seen none then b3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			id := func(p *v1alpha1.Prefix) string {
				if p == nil {
					return "none"
				}
				return string(p.UID) + p.ResourceVersion
			}
			tt.event(Handler(func(before, now *v1alpha1.Prefix) {
				got = append(got, "seen "+id(before)+" then "+id(now))
			}, func(p *v1alpha1.Prefix) {
				got = append(got, "gone "+id(p))
			}))
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNameOf(t *testing.T) {
	if got := NameOf(prefix("a", "1")); got != (types.NamespacedName{Namespace: "default", Name: "p"}) {
		t.Errorf("got %v", got)
	}
}
