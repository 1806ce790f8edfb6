// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/util/rand"
)

// goroutines returns how many goroutines have a function of each package on their stack.
func goroutines(packages ...string) map[string]int {
	buffer := make([]byte, 1<<20)
	for n := runtime.Stack(buffer, true); ; n = runtime.Stack(buffer, true) {
		if n < len(buffer) {
			buffer = buffer[:n]
			break
		}
		buffer = make([]byte, 2*len(buffer))
	}
	count := map[string]int{}
	for stack := range strings.SplitSeq(string(buffer), "\n\n") {
		for _, name := range packages {
			if strings.Contains(stack, name) {
				count[name]++
			}
		}
	}
	return count
}

// TestCloseLeavesNothing closes instances that have work under way: no goroutine of theirs is left.
func TestCloseLeavesNothing(t *testing.T) {
	// Those of the shared instance are there before and after, and are idle: no other test runs.
	packages := []string{
		"ipam-apiserver/pkg/controller/",
		"ipam-apiserver/pkg/standalone",
		"k8s.io/client-go/tools/cache",
		"k8s.io/client-go/util/workqueue",
		"k8s.io/apiserver/pkg/storage/etcd3",
		"k8s.io/apiserver/pkg/storage/cacher",
		"go.etcd.io/etcd/server",
	}
	// The shared instance is ready before its controllers are.
	e := inInstance(t, shared)
	e.root("root", "10.0.0.0/16")
	e.create("child", harness.Length(28), harness.From("root"))
	e.allocated("child")
	before := goroutines(packages...)
	e.Eventually("the shared instance is at rest", func() error {
		last := before
		time.Sleep(quiet)
		if before = goroutines(packages...); !maps.Equal(before, last) {
			return fmt.Errorf("goroutines: %v, were %v", before, last)
		}
		return nil
	})
	if before[packages[0]] == 0 {
		t.Fatal("the shared instance has no controllers: this test does not see what it is about")
	}
	during := map[string]int{}
	for range 2 {
		instance := harness.Start(t, harness.Controllers("*"))
		e := inNamespace(t, instance, "leak-"+rand.String(5))
		e.create("root", harness.Exactly("10.0.0.0/16"))
		for i := range 50 {
			e.create(fmt.Sprintf("child-%d", i), harness.Length(28), harness.From("root"))
		}
		during = goroutines(packages...)
		instance.Close()
		instance.Close()
	}
	for _, name := range packages {
		if during[name] <= before[name] {
			t.Errorf("%s: %d goroutines while the instance runs, %d before: this test does not see what it is about", name, during[name], before[name])
		}
	}
	e.Eventually("as many goroutines as before", func() error {
		after := goroutines(packages...)
		for _, name := range packages {
			if after[name] > before[name] {
				return fmt.Errorf("%s: %d, were %d", name, after[name], before[name])
			}
		}
		return nil
	})
}

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
