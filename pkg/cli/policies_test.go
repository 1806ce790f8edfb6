// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestStrategyOfSameAge has policies that were created in the same second: as for the controllers, the first one by name
// counts, in whatever order a server lists them.
func TestStrategyOfSameAge(t *testing.T) {
	created := metav1.NewTime(time.Unix(1_000_000, 0))
	newPolicy := func(name string, created metav1.Time, strategy v1alpha1.PrefixStrategy) *v1alpha1.PrefixPolicy {
		return &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: created},
			Spec: v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}, Strategy: strategy}}
	}
	first := newPolicy("a", created, v1alpha1.PrefixStrategyRandom)
	second := newPolicy("b", created, v1alpha1.PrefixStrategySpread)
	older := newPolicy("c", metav1.NewTime(created.Add(-time.Second)), v1alpha1.PrefixStrategyPack)
	for _, tt := range []struct {
		name  string
		added []*v1alpha1.PrefixPolicy
		want  v1alpha1.PrefixStrategy
	}{
		{"by name", []*v1alpha1.PrefixPolicy{first, second}, v1alpha1.PrefixStrategyRandom},
		{"in another order", []*v1alpha1.PrefixPolicy{second, first}, v1alpha1.PrefixStrategyRandom},
		{"an older one", []*v1alpha1.PrefixPolicy{second, first, older}, v1alpha1.PrefixStrategyPack},
		{"none", nil, v1alpha1.PrefixStrategyPack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var policies policySet
			for _, p := range tt.added {
				policies.add(p)
			}
			if got := policies.strategyFor(map[string]string{"a": "1"}); got != tt.want {
				t.Errorf("the strategy is %s, not %s", got, tt.want)
			}
		})
	}
}
