// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package watchbuffer

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func event(n int) watch.Event {
	return watch.Event{Type: watch.Added, Object: &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: strconv.Itoa(n), ResourceVersion: strconv.Itoa(n),
	}}}
}

// begin returns a watch that buffers another one.
func begin(t *testing.T, from watch.Interface) watch.Interface {
	t.Helper()
	w, err := New(t.Context(), nil, func(context.Context, *metainternalversion.ListOptions) (watch.Interface, error) {
		return from, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// expect fails the test unless the next events are those, in that order.
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

// expectEnd fails the test unless the watch has ended.
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

// send sends an event. The test fails if the watch does not accept it at once.
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

// TestSlowClient has a client that pauses. The source watch is not blocked.
func TestSlowClient(t *testing.T) {
	from := watch.NewFake()
	w := begin(t, from)
	defer w.Stop()
	for n := range 2 * group {
		send(t, from, n)
	}
	expect(t, w, 0, group)
	for n := 2 * group; n < 3*group; n++ {
		send(t, from, n)
	}
	expect(t, w, group, 3*group)
}

// TestFull sends more events than fit into the buffer. The source watch must then wait.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := watch.NewFake()
		w := begin(t, from)
		defer w.Stop()
		// One group is waiting, and one has been delivered.
		const room = 2 * group
		for n := range room {
			send(t, from, n)
			time.Sleep(gap)
		}
		sent := make(chan struct{})
		go func() {
			from.Action(event(room).Type, event(room).Object)
			close(sent)
		}()
		synctest.Wait()
		select {
		case <-sent:
			t.Errorf("%d events wait, want %d", room+1, room)
		default:
		}
		expect(t, w, 0, room+1)
		<-sent
	})
}

// TestGroups sends events at various intervals, and checks when they are delivered.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := watch.NewFake()
		w := begin(t, from)
		defer w.Stop()
		start := time.Now()
		sendAfter := func(n int, after time.Duration) {
			time.Sleep(after)
			send(t, from, n)
		}
		expectAt := func(from, to int, at time.Duration) {
			t.Helper()
			expect(t, w, from, to)
			if got := time.Since(start); got != at {
				t.Errorf("%d comes after %v instead of %v", to-1, got, at)
			}
		}
		// The first event is delivered at once, and those soon after it together.
		sendAfter(0, 0)
		expectAt(0, 1, 0)
		sendAfter(1, time.Millisecond)
		sendAfter(2, time.Millisecond)
		sendAfter(3, gap-3*time.Millisecond)
		expectAt(1, 4, gap)
		sendAfter(4, 0)
		sendAfter(5, 2*time.Millisecond)
		expectAt(4, 6, 2*gap)
		// An event after a long enough pause is delivered at once.
		sendAfter(6, gap)
		expectAt(6, 7, 3*gap)
		sendAfter(7, time.Minute)
		expectAt(7, 8, 3*gap+time.Minute)
		// Events in the buffer are delivered before the end.
		sendAfter(8, 0)
		from.Stop()
		expectAt(8, 9, 4*gap+time.Minute)
		expectEnd(t, w)
	})
}

// TestEnd ends the source watch. The buffered events are delivered, and then this watch ends.
func TestEnd(t *testing.T) {
	from := watch.NewFake()
	w := begin(t, from)
	for n := range 50 {
		send(t, from, n)
	}
	from.Stop()
	expect(t, w, 0, 50)
	expectEnd(t, w)
}

// TestStop stops the watch twice while events are in the buffer.
func TestStop(t *testing.T) {
	from := watch.NewFake()
	w := begin(t, from)
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

// TestResume ends one source watch after another, each after some events.
func TestResume(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		name    string
		options metainternalversion.ListOptions
		// watches contains the numbers of the events of each source watch. A negative number is the bookmark at the
		// end of the initial events.
		watches [][]int
		// want contains the resource versions with which each watch must start.
		want []string
	}{
		{"after the last event", metainternalversion.ListOptions{ResourceVersion: "5"}, [][]int{{6, 7}, {8}, {9}}, []string{"5", "7", "8"}},
		{"where it began", metainternalversion.ListOptions{ResourceVersion: "5"}, [][]int{{}, {6}}, []string{"5", "5"}},
		{"not from what there was at the beginning", metainternalversion.ListOptions{ResourceVersion: "0"}, [][]int{{6, 7}}, []string{"0"}},
		{"not from anywhere", metainternalversion.ListOptions{}, [][]int{{6, 7}}, []string{""}},
		{"not among the initial events", metainternalversion.ListOptions{ResourceVersion: "5", SendInitialEvents: &yes}, [][]int{{3, 2}}, []string{"5"}},
		{"after the initial events", metainternalversion.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan},
			[][]int{{3, 2, -6, 7}, {8}}, []string{"", "7"}},
		{"without initial events", metainternalversion.ListOptions{ResourceVersion: "5", SendInitialEvents: &no}, [][]int{{6}, {7}}, []string{"5", "6"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			w, err := New(t.Context(), &tt.options, func(_ context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
				if len(got) == len(tt.watches) {
					return nil, errors.New("too old")
				}
				if len(got) > 0 && (options.SendInitialEvents != nil && *options.SendInitialEvents || options.ResourceVersionMatch != "") {
					t.Errorf("it is begun again with the options of the beginning: %v", options)
				}
				numbers := tt.watches[len(got)]
				got = append(got, options.ResourceVersion)
				from := watch.NewFakeWithChanSize(len(numbers), false)
				for _, n := range numbers {
					if n < 0 {
						bookmark := event(-n).Object.(*metav1.PartialObjectMetadata)
						bookmark.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
						from.Action(watch.Bookmark, bookmark)
						continue
					}
					from.Add(event(n).Object)
				}
				from.Stop()
				return from, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, numbers := range tt.watches {
				for _, n := range numbers {
					n = max(n, -n)
					expect(t, w, n, n+1)
				}
			}
			expectEnd(t, w)
			if !slices.Equal(got, tt.want) {
				t.Errorf("begun with %q, want %q", got, tt.want)
			}
		})
	}
}

// TestFruitless repeatedly ends the source watch without an event.
func TestFruitless(t *testing.T) {
	begun := 0
	w, err := New(t.Context(), &metainternalversion.ListOptions{ResourceVersion: "5"}, func(context.Context, *metainternalversion.ListOptions) (watch.Interface, error) {
		begun++
		from := watch.NewFake()
		from.Stop()
		return from, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	expectEnd(t, w)
	if want := 1 + maxFruitless; begun != want {
		t.Errorf("begun %d times, want %d", begun, want)
	}
}

// TestErrorEvent sends an error event, which means that the client must start again.
func TestErrorEvent(t *testing.T) {
	begun := 0
	w, err := New(t.Context(), &metainternalversion.ListOptions{ResourceVersion: "5"}, func(context.Context, *metainternalversion.ListOptions) (watch.Interface, error) {
		begun++
		from := watch.NewFakeWithChanSize(1, false)
		from.Error(&metav1.Status{Reason: metav1.StatusReasonExpired})
		from.Stop()
		return from, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-w.ResultChan(); got.Type != watch.Error {
		t.Errorf("got %v", got)
	}
	expectEnd(t, w)
	if begun != 1 {
		t.Errorf("begun %d times", begun)
	}
}

// TestCannotBegin has a source watch that cannot be started.
func TestCannotBegin(t *testing.T) {
	want := errors.New("no")
	if _, err := New(t.Context(), nil, func(context.Context, *metainternalversion.ListOptions) (watch.Interface, error) { return nil, want }); err != want {
		t.Errorf("got %v", err)
	}
}
