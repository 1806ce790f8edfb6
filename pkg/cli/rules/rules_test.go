// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOf(t *testing.T) {
	for want, spec := range map[string]v1alpha1.PrefixPolicySpec{
		"": {},
		"reserved 10.0.0.0/24 (routers); reserved 10.0.1.1-10.0.1.9; reserved edges": {Reserved: []v1alpha1.PrefixReservation{
			{CIDR: "10.0.0.0/24", Reason: "routers"}, {From: "10.0.1.1", To: "10.0.1.9"}, {Edges: true}}},
		"only prefixes from /24 to /28; default length /26; closed; strategy Spread": {Closed: true, Strategy: v1alpha1.PrefixStrategySpread,
			ChildLengths: &v1alpha1.PrefixChildLengths{Min: 24, Max: 28, Default: 26}},
		"closed; shared with team-a, team-b": {Closed: true, SharedWith: &v1alpha1.PrefixSharing{Namespaces: []string{"team-a", "team-b"}}},
		"shared with all namespaces":         {SharedWith: &v1alpha1.PrefixSharing{All: true}},
		"shared with namespaces tier=web": {SharedWith: &v1alpha1.PrefixSharing{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "web"}}}},
		"default length /26":                    {ChildLengths: &v1alpha1.PrefixChildLengths{Default: 26}},
		"only prefixes of length /24 or longer": {ChildLengths: &v1alpha1.PrefixChildLengths{Min: 24}},
	} {
		var got []string
		for _, r := range Of(&spec) {
			got = append(got, fmt.Sprint(r))
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%q instead of %q", strings.Join(got, "; "), want)
		}
	}
}
