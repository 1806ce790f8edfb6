// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package leak shows that a closed instance leaves nothing behind in its process. The package has its own process,
// in which nothing else runs.
package leak

import (
	"fmt"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"go.uber.org/goleak"
)

// TestCloseLeavesNothing closes instances while they are working. None of their goroutines remains.
func TestCloseLeavesNothing(t *testing.T) {
	// The first instance starts goroutines that a process has only once.
	work(t)
	before := goleak.IgnoreCurrent()
	for range 2 {
		work(t)
	}
	harness.Eventually(t, "the goroutines of the instances end", func() error { return goleak.Find(before) })
}

// work starts an instance, and closes it twice while it is working.
func work(t *testing.T) {
	t.Helper()
	instance := harness.Start(t, harness.Controllers("*"))
	defer instance.Close()
	defer instance.Close()
	namespace := harness.In(t, instance.Client, "default")
	namespace.Create(harness.Root("root", "10.0.0.0/16"))
	for i := range 50 {
		namespace.Create(harness.Child(fmt.Sprintf("child-%d", i), "root", harness.Length(28)))
	}
	if goleak.Find() == nil {
		t.Fatal("an instance that runs is not found: this test sees nothing")
	}
}
