// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
)

// TestControllersEndAtOnce stops controllers that have work under way, and work that is to be tried
// again later.
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
	for i := range 50 {
		e.allocated(fmt.Sprintf("child-%d", i))
	}
	e.AtRest()
}

// closeTimeout bounds how long it takes to close an instance. The server gives up only after a minute, and treats a
// connection without a request as one in use for five seconds.
const closeTimeout = 5 * time.Second

// TestCloseAtOnce closes many instances as soon as they have started, while their controllers make their first
// connections. None waits for a connection of its own clients.
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
