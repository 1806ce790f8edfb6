// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package leak shows that an instance that is closed leaves nothing in its process. It has a process of its own, in which
// nothing else runs.
package leak

import (
	"fmt"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"go.uber.org/goleak"
)

// TestCloseLeavesNothing closes instances that have work under way: no goroutine of theirs is left.
func TestCloseLeavesNothing(t *testing.T) {
	// The first instance starts what a process has once.
	work(t)
	before := goleak.IgnoreCurrent()
	for range 2 {
		work(t)
	}
	harness.Eventually(t, "the goroutines of the instances end", func() error { return goleak.Find(before) })
}

// work starts an instance, and closes it twice in the middle of its work.
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
