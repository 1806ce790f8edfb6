// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"reflect"
	"testing"
)

// TestRoom shows that one list may read more ahead than many, and what all lists hold at most.
func TestRoom(t *testing.T) {
	l := &cachedLists{readAhead: 10}
	held := 0
	// The ninth list takes the place of the first one.
	for n, want := range []int64{80, 40, 20, 10, 10, 10, 10, 10, 10, 20} {
		got := l.room()
		if got != want {
			t.Errorf("with %d lists there is room for %d, not %d", n, got, want)
		}
		l.put(remainder{items: reflect.ValueOf(make([]int, got))})
		held = 0
		for _, r := range l.ahead {
			held += r.items.Len()
		}
		if most := int(l.readAhead) * (shareAhead + maxAhead); held > most {
			t.Errorf("%d objects are read ahead, more than %d", held, most)
		}
	}
	if held > 10*shareAhead {
		t.Errorf("%d objects are read ahead", held)
	}
}
