// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package watchbuffer

import (
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func event(n int) watch.Event {
	return watch.Event{Type: watch.Added, Object: &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: strconv.Itoa(n)}}}
}

// expect fails unless the next events are those, in this order.
func expect(t *testing.T, w watch.Interface, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		select {
		case got, open := <-w.ResultChan():
			if !open || got.Object.(*metav1.PartialObjectMetadata).Name != strconv.Itoa(n) {
				t.Fatalf("got %v (open: %t), want %d", got, open, n)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d does not come", n)
		}
	}
}

// expectEnd fails unless the watch has ended.
func expectEnd(t *testing.T, w watch.Interface) {
	t.Helper()
	select {
	case got, open := <-w.ResultChan():
		if open {
			t.Fatalf("got %v, want the end", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the watch does not end")
	}
}

// send fails unless the event is taken at once.
func send(t *testing.T, from *watch.FakeWatcher, n int) {
	t.Helper()
	sent := make(chan struct{})
	go func() {
		from.Action(event(n).Type, event(n).Object)
		close(sent)
	}()
	select {
	case <-sent:
	case <-time.After(10 * time.Second):
		t.Fatalf("%d is not taken", n)
	}
}

// TestSlowClient has a client that takes nothing for a while, which the other watch does not feel.
func TestSlowClient(t *testing.T) {
	from := watch.NewFake()
	w := New(from, 1000)
	defer w.Stop()
	for n := range 1000 {
		send(t, from, n)
	}
	expect(t, w, 0, 500)
	for n := 1000; n < 1500; n++ {
		send(t, from, n)
	}
	expect(t, w, 500, 1500)
}

// TestFull has more events than may wait: the other watch has to wait then.
func TestFull(t *testing.T) {
	from := watch.NewFake()
	w := New(from, 10)
	defer w.Stop()
	// One more is about to be delivered.
	for n := range 11 {
		send(t, from, n)
	}
	sent := make(chan struct{})
	go func() {
		from.Action(event(11).Type, event(11).Object)
		close(sent)
	}()
	select {
	case <-sent:
		t.Error("12 events wait, want 11")
	case <-time.After(50 * time.Millisecond):
	}
	expect(t, w, 0, 12)
	<-sent
}

// TestEnd has the other watch end: what waits is delivered, and then this one ends.
func TestEnd(t *testing.T) {
	from := watch.NewFake()
	w := New(from, 100)
	for n := range 50 {
		send(t, from, n)
	}
	from.Stop()
	expect(t, w, 0, 50)
	expectEnd(t, w)
}

// TestStop ends the watch while events wait, more than once.
func TestStop(t *testing.T) {
	from := watch.NewFake()
	w := New(from, 100)
	for n := range 50 {
		send(t, from, n)
	}
	w.Stop()
	w.Stop()
	deadline := time.After(10 * time.Second)
	for open := true; open; {
		select {
		case _, open = <-w.ResultChan():
		case <-deadline:
			t.Fatal("the watch does not end")
		}
	}
	if !from.IsStopped() {
		t.Error("the other watch is not stopped")
	}
}
