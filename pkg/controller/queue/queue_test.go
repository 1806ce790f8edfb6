// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// TestRetriesDoNotWaitForEachOther has very many names fail once.
func TestRetriesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New("")
		defer q.ShutDown()
		const names = 5000
		for i := range names {
			q.AddRateLimited(types.NamespacedName{Namespace: "default", Name: strconv.Itoa(i)})
		}
		time.Sleep(minDelay)
		synctest.Wait()
		if got := q.Len(); got != names {
			t.Errorf("%d of %d are tried again after %v", got, names, minDelay)
		}
	})
}

// TestBackoff has one name fail time and again.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New("")
		defer q.ShutDown()
		name := types.NamespacedName{Namespace: "default", Name: "a"}
		for n := range 20 {
			delay := min(minDelay<<n, maxDelay)
			q.AddRateLimited(name)
			time.Sleep(delay - time.Nanosecond)
			synctest.Wait()
			if q.Len() != 0 {
				t.Fatalf("tried again before %v", delay)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if q.Len() != 1 {
				t.Fatalf("not tried again after %v", delay)
			}
			got, _ := q.Get()
			q.Done(got)
		}
	})
}
