// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPause(t *testing.T) {
	for _, tt := range []struct {
		name             string
		took, ends, want time.Duration
	}{
		{"as long as it took", 3 * time.Millisecond, time.Minute, 3 * time.Millisecond},
		{"a request that timed out", 30 * time.Second, time.Minute, maxCoolingPause},
		{"the controller ends", 30 * time.Second, time.Millisecond, time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.ends)
				defer cancel()
				began := time.Now()
				pause(ctx, tt.took)
				if took := time.Since(began); took != tt.want {
					t.Errorf("It rests for %v instead of %v", took, tt.want)
				}
			})
		})
	}
}
