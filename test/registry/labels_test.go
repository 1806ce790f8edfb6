// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"reflect"
	"testing"
)

// TestLabelsOfOneAreNotThoseOfOthers has one of several Prefixes with the same labels, which share them in memory, get others, in
// each way there is to write. Those of the rest stay, in a list and one by one.
func TestLabelsOfOneAreNotThoseOfOthers(t *testing.T) {
	namespace := newNamespace()
	want := map[string]map[string]any{}
	look := func(t *testing.T) {
		t.Helper()
		for _, item := range shared.items(t, path(namespace, prefixKind)+"?resourceVersion=0&resourceVersionMatch=NotOlderThan") {
			if got := at(&item, "metadata.labels"); !reflect.DeepEqual(got, want[item.GetName()]) {
				t.Errorf("%s has %v instead of %v in a list", item.GetName(), got, want[item.GetName()])
			}
		}
		for name, want := range want {
			if got := at(shared.get(t, namespace, prefixKind, name), "metadata.labels"); !reflect.DeepEqual(got, want) {
				t.Errorf("%s has %v instead of %v", name, got, want)
			}
		}
	}
	for i := range 1 + len(patchTypes) {
		name := fmt.Sprint("p-", i)
		shared.create(t, namespace, prefixKind, fmt.Sprintf("{metadata: {name: %s, labels: {of: all, and: more}}, spec: {ipFamily: IPv4, prefix: 10.%d.0.0/16}}", name, i))
		want[name] = map[string]any{"of": "all", "and": "more"}
	}
	look(t)
	for i, way := range patchTypes {
		name := fmt.Sprint("p-", i)
		changes := "{metadata: {labels: {own: label}}}"
		if way == jsonPatch {
			changes = `[{"op": "add", "path": "/metadata/labels/own", "value": "label"}]`
		}
		shared.write(t, shared.get(t, namespace, prefixKind, name), way, changes).must(t)
		want[name]["own"] = "label"
		look(t)
	}
}
