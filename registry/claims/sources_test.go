// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
)

// TestSources expects that a planner without its sources says so, as does one that gets only some of them.
func TestSources(t *testing.T) {
	planner := claims.NewPlanner(&claims.Etcd{}, false, nil)
	for want, mistake := range map[string]func(){
		"SetSources must be called before": func() { _, _ = planner.PlanUpdate(t.Context(), true, nil, &ipam.Prefix{}) },
		"SetSources needs all":             func() { planner.SetSources(claims.Sources{}) },
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panics with %s", got)
				}
			}()
			mistake()
		})
	}
}
