// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// TestControllersEndAtOnce stops controllers that have running work and delayed retries.
func TestControllersEndAtOnce(t *testing.T) {
	t.Parallel()
	instance := harness.Start(t)
	e := inInstance(t, instance)
	e.create("root", harness.Exactly("10.0.0.0/16"))
	for i := range 50 {
		e.create(fmt.Sprintf("child-%d", i), harness.Length(28), harness.From("root"))
	}
	for range 5 {
		stop := run(t, instance, "Pack", "*")
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		stop()
		if took := time.Since(began); took > harness.Patience/2 {
			t.Errorf("ended only after %v", took)
		}
	}
	run(t, instance, "Pack", "*")
	e.childrenAllocated(50)
	e.AtRest()
}

// closeTimeout is the maximum time to close an instance. The server itself waits up to a minute, and regards a
// connection without a request as active for five seconds.
const closeTimeout = 5 * time.Second

// TestCloseAtOnce closes many instances right after their start, while their controllers open their first
// connections. No instance waits for the connections of its own clients.
func TestCloseAtOnce(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for n := range 6 {
				instance := harness.Start(t, harness.Controllers("*"))
				time.Sleep(time.Duration(n) * 2 * time.Millisecond)
				began := time.Now()
				instance.Close()
				if took := time.Since(began); took > closeTimeout {
					t.Errorf("closed only after %v", took)
				}
			}
		})
	}
}
