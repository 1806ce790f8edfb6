// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-base/metrics/testutil"
)

func TestLimitEvents(t *testing.T) {
	const burst, many = 20, 100
	recorded := events.NewFakeRecorder(2 * many)
	// After the burst, almost no events are allowed.
	limited := LimitEvents(recorded, 1e-6, burst)
	before := map[string]float64{}
	kinds := []string{corev1.EventTypeNormal, corev1.EventTypeWarning}
	counted := func(kind string) float64 {
		value, err := testutil.GetCounterMetricValue(droppedEvents.WithLabelValues(kind))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	// Normal events do not reduce the limit of other events.
	for _, kind := range kinds {
		before[kind] = counted(kind)
		// One namespace does not use up the limit of other namespaces.
		for i := range many {
			namespace := "busy"
			if i >= many/2 {
				namespace = fmt.Sprint("other-", i%8)
			}
			limited.Eventf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}}, nil, kind, "Reason", "Action", "of %s of %s", kind, namespace)
		}
	}
	close(recorded.Events)
	got, busy := map[string]int{}, 0
	for event := range recorded.Events {
		kind, _, _ := strings.Cut(event, " ")
		got[kind]++
		if strings.HasSuffix(event, "of busy") {
			busy++
		}
	}
	for _, kind := range kinds {
		if got[kind] != burst {
			t.Errorf("%d %s events were recorded instead of %d", got[kind], kind, burst)
		}
		if dropped := counted(kind) - before[kind]; dropped != many-burst {
			t.Errorf("%v %s events are said to be dropped instead of %d", dropped, kind, many-burst)
		}
	}
	if want := 2 * burst / namespaceShare; busy != want {
		t.Errorf("%d events of the busy namespace were recorded instead of %d", busy, want)
	}
}

// TestLongEvents records events with notes that the API server would reject as too long.
func TestLongEvents(t *testing.T) {
	recorded := events.NewFakeRecorder(1)
	limited := LimitEvents(recorded, 1, 1)
	limited.Eventf(&corev1.Pod{}, nil, corev1.EventTypeWarning, "Reason", "Action", "%s %d%%", strings.Repeat("parent ", 300), 50)
	note := strings.TrimPrefix(<-recorded.Events, "Warning Reason ")
	if len(note) > 1024 || !strings.HasPrefix(note, "parent parent") || !strings.HasSuffix(note, "...") {
		t.Errorf("%d bytes: %s", len(note), note)
	}
}
