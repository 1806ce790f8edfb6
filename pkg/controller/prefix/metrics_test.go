// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"fmt"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestArrivals has children that were created when the clock showed 0, or longer ago.
func TestArrivals(t *testing.T) {
	epoch := time.Unix(1000, 0)
	now := epoch
	created := func(uid string, at time.Time) *v1alpha1.Prefix {
		return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), CreationTimestamp: metav1.NewTime(at.Truncate(time.Second))}}
	}
	for _, tt := range []struct {
		name string
		// age is how old the child is when it is seen, and after how long it takes then.
		age, after, want time.Duration
	}{
		{"at once", 0, 0, 0},
		{"milliseconds", 300 * time.Millisecond, 12 * time.Millisecond, 12 * time.Millisecond},
		{"seconds", 300 * time.Millisecond, 9500 * time.Millisecond, 9500 * time.Millisecond},
		// The timestamp is used, so the time before it was seen counts, too.
		{"minutes", 300 * time.Millisecond, 5 * time.Minute, 5*time.Minute + 300*time.Millisecond},
		{"seen at a restart", time.Hour, 10 * time.Millisecond, time.Hour + 10*time.Millisecond},
		{"clock of the server is ahead", -5 * time.Second, 10 * time.Millisecond, 10 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newArrivals()
			a.now = func() time.Time { return now }
			child := created("child", epoch)
			now = epoch.Add(tt.age)
			a.saw(child)
			now = now.Add(tt.after)
			if got := a.took(child); got != tt.want {
				t.Errorf("took %v, want %v", got, tt.want)
			}
		})
	}

	// Nobody has to ask about a child, so those that are old must be forgotten.
	a := newArrivals()
	a.now = func() time.Time { return now }
	for i := range 100 * 60 {
		now = epoch.Add(time.Duration(i) * time.Second / 100)
		a.saw(created(fmt.Sprint(i), now))
		if n, most := len(a.recent)+len(a.older), 2*100*int(arrivalTTL/time.Second)+2; n > most {
			t.Fatalf("%d children are remembered, more than %d", n, most)
		}
	}
}
